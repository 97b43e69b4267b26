"""Dicts in, dicts out: what was fitted as own messages goes back as the very items it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..types import Message, ToolMessage, ToolResultBlock, text_of


def sources(given: Sequence[Any], own: Sequence[Message]) -> dict[int, list[Any]]:
    """By id() of each own message, the items it was made of: neighbouring tool dicts make one message.

    Args:
        own: `from_wire(given)`.
    """
    out: dict[int, list[Any]] = {}
    place = -1
    for item in given:
        is_tool = isinstance(item, Mapping) and item.get("role") == "tool"
        if not (is_tool and place >= 0 and isinstance(own[place], ToolMessage)):
            place += 1
        out.setdefault(id(own[place]), []).append(item)
    return out


def restored(
    messages: Sequence[Message], made_of: Mapping[int, list[Any]], original: Callable[[Message], Message]
) -> list[Any]:
    """The items of the messages that are left; dicts of results that were shortened are copies with less text.

    Args:
        made_of: from `sources`.
        original: gives the message that a shortened one stands for.
    """
    out: list[Any] = []
    summary = ""
    for message in messages:
        items = made_of.get(id(message)) or _shortened(message, made_of.get(id(original(message)), []))
        if not items:  # a summary: it stands with what the user says next, as roles alternate
            summary = text_of(message)
        elif summary and items[0]["role"] == "user":
            out.append(_with_text(items[0], summary))
            summary = ""
        else:
            if summary:
                out.append({"role": "user", "content": summary})
                summary = ""
            out.extend(items)
    return [*out, {"role": "user", "content": summary}] if summary else out


def _shortened(message: Message, items: Sequence[Any]) -> list[Any]:
    texts = [block.as_text() for block in message.content if isinstance(block, ToolResultBlock)]
    return [{**item, "content": text} for item, text in zip(items, texts, strict=False)]


def _with_text(item: Mapping[str, Any], text: str) -> dict[str, Any]:
    content = item.get("content")
    if isinstance(content, (list, tuple)):
        return {**item, "content": [{"type": "text", "text": text}, *content]}
    return {**item, "content": f"{text}\n\n{content or ''}"}
