"""The tool that reads what was left out of a shortened tool result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..context.shorten import READ_RESULT, results_of
from ..errors import ToolInputError
from ..types import Message
from .tool import Tool

MOST_CHARS = 4000  # of one call
_SCHEMA = {
    "type": "object",
    "properties": {
        "result_id": {"type": "integer", "minimum": 1, "description": "The number the shortened result names."},
        "start": {"type": "integer", "minimum": 0, "description": "The first character to read; default 0."},
        "length": {"type": "integer", "minimum": 1, "maximum": MOST_CHARS, "description": "Characters; default 1500."},
    },
    "required": ["result_id"],
    "additionalProperties": False,
}
_TOLD = "Read a tool result of this conversation whose middle was left out, by the numbers its text names."


def read_result_tool(messages: Callable[[], Sequence[Message]]) -> Tool:
    """The tool `read_result` for one conversation.

    Args:
        messages: gives its whole history; tool results are counted in it from 1.
    """

    async def read(result_id: int, start: int = 0, length: int = 1500) -> str:
        known = {number: block for number, _, block in results_of(messages())}
        block = known.get(result_id)
        if block is None:
            said = f"1 to {len(known)}" if known else "none yet"
            raise ToolInputError(f"there is no result {result_id}; results: {said}", tool_name=READ_RESULT)
        text = block.as_text()
        end = min(start + min(length, MOST_CHARS), len(text))
        if start >= len(text):
            return f"(result {result_id} has {len(text)} characters; nothing begins at {start})"
        return f"(characters {start} to {end} of {len(text)})\n{text[start:end]}"

    return Tool(READ_RESULT, _TOLD, _SCHEMA, read)
