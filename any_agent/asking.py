"""Ways to ask beside `stream`: the text in chunks, and blocking, without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Literal, overload

from .context import cut_error
from .sync import iterated, run_sync
from .types import AgentResponse, ContextTruncated, Event, ResultMessage, TextDelta


class TextChunks:
    """An async iterator of text. `await` gives it, too: a call that returns it works with and without."""

    def __init__(self, chunks: AsyncIterator[str]) -> None:
        self._chunks: Any = chunks

    def __aiter__(self) -> TextChunks:
        return self

    def __anext__(self) -> Any:
        return self._chunks.__anext__()

    def aclose(self) -> Any:
        return self._chunks.aclose()

    def __await__(self) -> Generator[Any, None, TextChunks]:
        yield from ()
        return self


async def text_chunks(events: AsyncIterator[Event], least_chars: int) -> AsyncIterator[str]:
    """The text of a run's events, in pieces of so many characters; raises the run's error."""
    held = ""
    async with aclosing(events):  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, TextDelta):
                held += event.text
                if len(held) >= least_chars:
                    yield held
                    held = ""
            elif isinstance(event, ContextTruncated):
                raise cut_error(event)  # what was said cannot be taken back
            elif isinstance(event, ResultMessage):
                if held:
                    yield held
                if event.error is not None:
                    raise event.error


class AsksBlocking:
    """`query_sync`, of agents and sessions."""

    _whole: ClassVar[Mapping[str, Any]] = {}  # what `query` is told so that the answer comes whole

    @overload
    def query_sync(self, prompt: Any, *, stream: Literal[True], **overrides: Any) -> Iterator[str]: ...
    @overload
    def query_sync(self, prompt: Any, *, stream: Literal[False] | None = None, **overrides: Any) -> AgentResponse: ...
    def query_sync(self, prompt: Any, *, stream: bool | None = None, **overrides: Any) -> AgentResponse | Iterator[str]:
        """`query` for scripts without an event loop; with `stream=True` an iterator of text chunks.

        Raises:
            InvalidInputError: an event loop is running here; use `await agent.query(…)`.
        """
        owner: Any = self
        if stream:
            return iterated(owner.stream_query(prompt, **overrides), name="query")
        answer: AgentResponse = run_sync(owner.query(prompt, **{**self._whole, **overrides}), name="query")
        return answer
