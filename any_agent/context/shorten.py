"""Shorter tool results, and the plain cut to the last messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..types import Block, Message, ToolMessage, ToolResultBlock

_SPARED_CHARS = 160  # leaving out fewer would be spent on saying so
READ_RESULT = "read_result"  # the tool that reads what was left out


def results_of(messages: Sequence[Message]) -> Iterator[tuple[int, ToolMessage, ToolResultBlock]]:
    """The tool results of a conversation, each with its number: 1 for the first. Numbers stay while it grows."""
    number = 0
    for message in messages:
        if isinstance(message, ToolMessage):
            for block in message.content:
                if isinstance(block, ToolResultBlock):
                    number += 1
                    yield number, message, block


def first_numbers(messages: Sequence[Message]) -> dict[int, int]:
    """By id() of each tool message, the number of its first result."""
    out: dict[int, int] = {}
    for number, message, _ in results_of(messages):
        out.setdefault(id(message), number)
    return out


def shortened(message: ToolMessage, most_chars: int, first_number: int | None = None) -> ToolMessage | None:
    """The results with their middle left out; None when all are short enough.

    Args:
        first_number: of its first result; given when the model can read what was left out with the tool `read_result`.
    """
    blocks: list[Block] = []
    has_changed = False
    number = first_number
    for block in message.content:
        text = block.as_text() if isinstance(block, ToolResultBlock) else ""
        if isinstance(block, ToolResultBlock) and len(text) > most_chars + _SPARED_CHARS:
            head, tail = most_chars * 2 // 3, most_chars // 3
            told = f"{len(text) - head - tail} of {len(text)} characters left out"
            if number is not None:
                told += f"; {READ_RESULT}(result_id={number}, start={head}) reads them"
            blocks.append(replace(block, content=f"{text[:head]}\n[… {told} …]\n{text[len(text) - tail :]}"))
            has_changed = True
        else:
            blocks.append(block)
        if number is not None and isinstance(block, ToolResultBlock):
            number += 1
    return replace(message, content=tuple(blocks)) if has_changed else None


def truncate_messages(messages: Sequence[Mapping[str, Any]], keep: int = 10, preserve_system: bool = True) -> list[Any]:
    """The last `keep` messages of a wire history (and its system prompt); a call never loses its result.

    A cut that would fall between a call and its results moves to before the call, so a few more may be kept.
    """
    system = [m for m in messages if m.get("role") == "system"] if preserve_system else []
    others = [m for m in messages if m.get("role") != "system"]
    start = max(len(others) - keep, 0)
    while 0 < start < len(others) and others[start].get("role") == "tool":
        start -= 1
    return [*system, *others[start:]] if keep > 0 else [*system]
