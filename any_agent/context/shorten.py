"""Shorter tool results, and the plain cut of seed 004."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..types import Block, ToolMessage, ToolResultBlock


def shortened(message: ToolMessage, most_chars: int) -> ToolMessage | None:
    """The results with their middle left out; None when all are short enough."""
    blocks: list[Block] = []
    has_changed = False
    for block in message.content:
        text = block.as_text() if isinstance(block, ToolResultBlock) else ""
        if isinstance(block, ToolResultBlock) and len(text) > most_chars + 100:
            head, tail = most_chars * 2 // 3, most_chars // 3
            left_out = len(text) - head - tail
            text = f"{text[:head]}\n[… {left_out} of {len(text)} characters left out …]\n{text[len(text) - tail :]}"
            blocks.append(replace(block, content=text))
            has_changed = True
        else:
            blocks.append(block)
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
