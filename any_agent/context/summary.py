"""A summary of dropped messages, made by a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..protocols import Model
from ..types import (
    Message,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextDelta,
    ToolResultBlock,
    ToolSpec,
    Usage,
    UserMessage,
)

ASKED = (
    "Summarize the conversation below for yourself, so that you can go on without reading it again. Keep names, "
    "numbers, decisions, open questions and results of tools. Use at most 150 words; write only the summary."
)
MOST_CHARS = 12_000  # of what is read; about 3,000 tokens
MOST_TOKENS = 400  # of a summary
_MARK = "(Summary of what was said before: "


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary and what it took. Cost in USD; None: not told."""

    text: str
    model: str = ""
    usage: Usage | None = None
    cost_usd: float | None = None


Summarize = Callable[[Sequence[Message]], Awaitable["Summary | str"]]


class Counter(Protocol):
    """What is needed of a TokenCounter: an upper bound."""

    def upper(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int: ...


class Room(Protocol):
    """How much a summarizer may read and write; a ContextManager knows."""

    max_tokens: int

    @property
    def summary_tokens(self) -> int: ...

    @property
    def counter(self) -> Counter: ...


def as_message(text: str) -> UserMessage:
    """A summary as it stands in the history."""
    return UserMessage(f"{_MARK}{text})")


def told_by(message: UserMessage) -> str:
    """The summary that a message of `as_message` tells."""
    return _text(message)[len(_MARK) : -1]


def summarizer(
    model: Callable[[], Model],
    room: Room | None = None,
    *,
    most_chars: int = MOST_CHARS,
    limits: Callable[[], Mapping[str, Any]] = dict,
) -> Summarize:
    """Asks the model that `model` gives. An earlier summary is read whole, of the rest the newest part.

    Args:
        limits: how long the server may be silent, by their names in ModelRequest.
    """

    async def summarize(messages: Sequence[Message]) -> Summary:
        one = model()
        room_tokens = room.summary_tokens if room else MOST_TOKENS
        params = {"max_tokens": max(room_tokens, 64)}
        request = ModelRequest(_asked(messages, most_chars), params=params, **limits())
        if room is not None and room.max_tokens:
            free = room.max_tokens - params["max_tokens"]
            while most_chars_now := _less(request.messages, room.counter.upper(request.messages), free):
                request = replace(request, messages=_asked(messages, most_chars_now))
        said: list[str] = []
        end = StreamEnd()
        async with aclosing(one.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                if isinstance(delta, TextDelta):
                    said.append(delta.text)
                elif isinstance(delta, StreamEnd):
                    end = delta
        return Summary("".join(said).strip(), end.model or one.name, end.usage, end.cost_usd)

    return summarize


def clipped(text: str, most_tokens: int, count: Callable[[Sequence[Message]], int]) -> str:
    """The text cut to so many tokens as a message."""
    while text and (tokens := count([as_message(text)])) > most_tokens:
        text = text[: min(len(text) * most_tokens // tokens, len(text) - 8)] if len(text) > 16 else ""
    return text


def _less(messages: Sequence[Message], tokens: int, free: int) -> int:
    """How many characters of a transcript to read instead; 0: it fits, or nothing helps."""
    chars = sum(len(_text(m)) for m in messages[1:])
    return 0 if tokens <= free or chars <= 200 else max(min(chars * free // tokens, chars * 9 // 10), 200)


def _asked(messages: Sequence[Message], most_chars: int) -> list[Message]:
    lines = [_line(m) for m in messages]
    first = lines.pop(0)[: most_chars // 2] + "\n" if messages and _text(messages[0]).startswith(_MARK) else ""
    rest = "\n".join(lines)
    return [SystemMessage(ASKED), UserMessage(first + rest[max(len(rest) - (most_chars - len(first)), 0) :])]


def _line(message: Message) -> str:
    calls = [f"[calls {b.name}]" for b in message.content if b.type == "tool_use"]
    return f"{message.role}: {' '.join([*filter(None, [_text(message)]), *calls])[:2000]}"


def _text(message: Message) -> str:
    parts = [b.as_text() if isinstance(b, ToolResultBlock) else getattr(b, "text", "") for b in message.content]
    return " ".join(filter(None, parts))
