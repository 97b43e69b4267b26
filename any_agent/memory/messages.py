"""Our messages as journal entries, and back again without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import InvalidInputError
from ..types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    Usage,
    UserMessage,
)

_BLOCKS: dict[str, type[Any]] = {
    "text": TextBlock,
    "thinking": ThinkingBlock,
    "image": ImageBlock,
    "tool_use": ToolUseBlock,
    "tool_use_error": ToolUseError,
    "tool_result": ToolResultBlock,
}
_FIELDS = {name: tuple(f.name for f in fields(kind)) for name, kind in _BLOCKS.items()}
_USAGE = tuple(f.name for f in fields(Usage))
# Fields of an assistant's message, with the value that need not be written.
_SAID = {
    "model": "",
    "finish_reason": None,
    "cost_usd": None,
    "provider": None,
    "provider_fields": None,
    "is_interrupted": False,
    "is_partial": False,
}


def message_entry(message: Message, **more: Any) -> dict[str, Any]:
    """A message as an entry of kind "message". `more`: further fields of the entry (run_id, turn, …)."""
    content: Any = [_written(block) for block in message.content]
    if len(content) == 1 and content[0].keys() == {"type", "text"} and content[0]["text"]:
        content = content[0]["text"]
    entry: dict[str, Any] = {"kind": "message", "role": message.role, "content": content, **more}
    if message.pinned:
        entry["pinned"] = True
    if isinstance(message, AssistantMessage):
        for name, usual in _SAID.items():
            value = getattr(message, name)
            if value != usual:
                entry[name] = value
        if message.usage is not None:
            entry["usage"] = {name: getattr(message.usage, name) for name in _USAGE}
    return entry


def message_of(entry: Mapping[str, Any]) -> Message:
    """The message that an entry of kind "message" holds.

    Raises:
        InvalidInputError: the entry is no message, or of a newer version.
    """
    content, role, pinned = entry.get("content"), entry.get("role"), bool(entry.get("pinned"))
    blocks = (TextBlock(content),) if isinstance(content, str) and content else tuple(map(_read, content or ()))
    match role:
        case "system":
            return SystemMessage(blocks, pinned=pinned)
        case "user":
            return UserMessage(blocks, pinned=pinned)
        case "tool":
            return ToolMessage(blocks, pinned=pinned)
        case "assistant":
            said = {name: entry[name] for name in _SAID if entry.get(name) is not None}
            usage = entry.get("usage")
            if usage is not None:
                said["usage"] = Usage(**{name: usage[name] for name in _USAGE if name in usage})
            return AssistantMessage(blocks, pinned=pinned, **said)
    raise InvalidInputError(f"an entry of role {role!r} is no message", field="role", value=role)


def _written(block: Block) -> dict[str, Any]:
    values = {name: getattr(block, name) for name in _FIELDS[block.type]}
    return {name: value for name, value in values.items() if value is not None}


def _read(block: Any) -> Block:
    kind = _BLOCKS.get(str(block.get("type"))) if isinstance(block, Mapping) else None
    if kind is None:
        raise InvalidInputError(f"no block is {block!r:.80}", field="content", value=block)
    made: Block = kind(**{name: block[name] for name in _FIELDS[block["type"]] if name in block and name != "type"})
    return made
