"""Models without a server: a script, an echo, and one that misbehaves. For tests of agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ..errors import ProviderError
from ..types import (
    Delta,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolUseBlock,
    Usage,
    UserMessage,
    text_of,
)

Reply: TypeAlias = "str | Exception | ToolUseBlock | Mapping[str, Any] | Sequence[Any] | Callable[[ModelRequest], Any]"


class ScriptedModel:
    """Answers with the next reply of its script; the requests it got are in `requests`.

    A reply is a text, a ToolUseBlock, a Delta, an exception to raise, a list of these, or a function of the request
    that returns one. A script that is used up raises ProviderError.

    Args:
        replies: the script.
        chunk_chars: text is streamed in pieces of so many characters; 0: whole.
        delay_s: seconds before each piece.
    """

    def __init__(
        self, replies: Iterable[Reply] = (), *, name: str = "scripted", chunk_chars: int = 4, delay_s: float = 0.0
    ) -> None:
        self._replies = list(replies)
        self._name = name
        self._chunk_chars = chunk_chars
        self._delay_s = delay_s
        self.requests: list[ModelRequest] = []
        self.closed_streams = 0

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        # The loop goes on with its list: keep what was asked at this moment.
        self.requests.append(replace(request, messages=tuple(request.messages)))
        reply = self._next(request)
        ended = False
        said = 0
        try:
            for part in _flat(reply, request):
                if isinstance(part, Exception):
                    raise part
                for delta in self._deltas(part):
                    if self._delay_s:
                        await asyncio.sleep(self._delay_s)
                    said += 1
                    ended = isinstance(delta, StreamEnd)
                    yield delta
            if not ended:
                yield StreamEnd(self._name, "stop", Usage(len(request.messages), said, is_estimated=True))
        finally:
            self.closed_streams += 1

    async def aclose(self) -> None:
        return None

    def _next(self, request: ModelRequest) -> Any:
        if not self._replies:
            raise ProviderError(
                f"{self._name}: the script is used up after {len(self.requests) - 1} replies", model=self._name
            )
        return self._replies.pop(0)

    def _deltas(self, part: Any) -> Iterable[Delta]:
        if isinstance(part, str):
            size = self._chunk_chars or max(len(part), 1)
            return [TextDelta(part[i : i + size]) for i in range(0, len(part), size)]
        if isinstance(part, ToolUseBlock):
            return [ToolCallDelta(None, part.id, part.name, part.input)]
        if isinstance(part, Mapping):
            return [ToolCallDelta(None, part.get("id"), part["name"], part.get("input", {}))]
        if isinstance(part, (TextDelta, ThinkingDelta, ToolCallDelta, StreamEnd)):
            return [part]
        raise TypeError(f"a scripted reply cannot hold {part!r}")


def _flat(reply: Any, request: ModelRequest) -> list[Any]:
    if callable(reply) and not isinstance(reply, type):
        reply = reply(request)
    return list(reply) if isinstance(reply, (list, tuple)) else [reply]


class EchoModel(ScriptedModel):
    """Says what the user said last."""

    def __init__(self, *, name: str = "echo", chunk_chars: int = 4, delay_s: float = 0.0) -> None:
        super().__init__((), name=name, chunk_chars=chunk_chars, delay_s=delay_s)

    def _next(self, request: ModelRequest) -> Any:
        return next((text_of(m) for m in reversed(request.messages) if isinstance(m, UserMessage)), "") or "(nothing)"


class ChaosModel(ScriptedModel):
    """Echoes, but every `every`-th call fails with `error`, after `after_chars` characters of the answer.

    Deterministic: the same calls fail in every run.
    """

    def __init__(self, error: ProviderError, *, every: int = 2, after_chars: int = 0, name: str = "chaos") -> None:
        super().__init__((), name=name)
        self._error, self._every, self._after_chars = error, every, after_chars

    def _next(self, request: ModelRequest) -> Any:
        text = next((text_of(m) for m in reversed(request.messages) if isinstance(m, UserMessage)), "") or "(nothing)"
        if len(self.requests) % self._every:
            return text
        return [text[: self._after_chars], self._error] if self._after_chars else self._error
