"""The seams of the house that belong to no room. A new alternative is a new file that fits one of these, no new flag.

Others stand where they are used: stores (`memory.seam`), hooks (`hooks.HookHandler`), strategies and counters
(`context`), rights (`permissions.Permissions`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .types import Delta, Event, ModelRequest


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


class Observer(Protocol):
    """Watches events; must not raise, must not block. With `for_run(session)` it gives an observer for each run."""

    def on_event(self, event: Event) -> None: ...
