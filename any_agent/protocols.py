"""Every seam of the house on one page. A new alternative is a new file that fits one of these, not a new flag."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .types import Delta, Event, Message, ModelRequest


@runtime_checkable
class Model(Protocol):
    """A way to a model.

    `stream` yields text, reasoning and tool-call deltas while they arrive and ends in exactly one `StreamEnd`.
    It raises only our ProviderError tree, before or during the stream; closing the generator closes the HTTP stream.
    """

    @property
    def name(self) -> str:
        """The model's name as the user wrote it."""

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta]: ...

    async def aclose(self) -> None:
        """Give back what the model holds for the running event loop. Safe to call twice."""


class ToolSource(Protocol):
    """Where tools come from (files, shell, MCP, …). Opened once per session in the task that closes it."""

    async def open(self, host: Any) -> Sequence[Any]:
        """Return the tools."""

    async def close(self) -> None:
        """Closed even after a crash."""


class Hook(Protocol):
    """May change or refuse; run in order, the first decision wins; an exception aborts the run."""

    async def __call__(self, event: Any) -> Any: ...


class PermissionPolicy(Protocol):
    """Answers Allow, Deny or Ask; never executes."""

    async def decide(self, call: Any, context: Mapping[str, Any]) -> Any: ...


class Observer(Protocol):
    """Watches events; must not raise, must not block. With `for_run(session)` it gives an observer for each run."""

    def on_event(self, event: Event) -> None: ...


class Strategy(Protocol):
    """Fits history to a budget: keeps the system prompt, pinned messages, the last user turn and tool pairs."""

    async def fit(self, messages: Sequence[Message], budget_tokens: int) -> Sequence[Message]: ...


class TokenCounter(Protocol):
    """Counts; never raises; counts over rather than under."""

    def count(self, messages: Sequence[Message]) -> int: ...


class Store(Protocol):
    """Keeps what must not be lost; `append` is atomic."""

    async def append(self, session_id: str, entries: Sequence[Mapping[str, Any]]) -> None: ...

    async def load(self, session_id: str) -> Sequence[Mapping[str, Any]]: ...

    async def search(self, query: str, limit: int = 5) -> Sequence[Mapping[str, Any]]: ...

    async def delete(self, session_id: str) -> None: ...
