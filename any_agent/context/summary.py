"""A summary of dropped messages, made by a model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from ..protocols import Model
from ..types import Message, ModelRequest, StreamEnd, SystemMessage, TextDelta, ToolResultBlock, UserMessage
from .manager import Summarize

ASKED = (
    "Summarize the conversation below for yourself, so that you can go on without reading it again. Keep names, "
    "numbers, decisions, open questions and results of tools. Use at most 150 words; write only the summary."
)
MOST_CHARS = 12_000  # about 3,000 tokens: fits the smallest windows in use


def summarizer(model: Model, *, most_chars: int = MOST_CHARS) -> Summarize:
    """Asks `model`; the newest part of a long transcript is what it reads."""

    async def summarize(messages: Sequence[Message]) -> str:
        told = "\n".join([_line(m) for m in messages])[-most_chars:]
        request = ModelRequest([SystemMessage(ASKED), UserMessage(told)], params={"max_tokens": 400})
        said: list[str] = []
        async with aclosing(model.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                if isinstance(delta, TextDelta):
                    said.append(delta.text)
                elif isinstance(delta, StreamEnd):
                    break
        return "".join(said).strip()

    return summarize


def _line(message: Message) -> str:
    parts = [b.as_text() if isinstance(b, ToolResultBlock) else getattr(b, "text", "") for b in message.content]
    calls = [f"[calls {b.name}]" for b in message.content if b.type == "tool_use"]
    return f"{message.role}: {' '.join([*filter(None, parts), *calls])[:2000]}"
