"""What a session knows of the prompt that is being answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from .loop import Run
from .types import Event, ToolResultBlock, UserMessage

_log = logging.getLogger("any_agent")


def for_run(observer: Any, session: Any) -> Any:
    """The observer of one run: what `for_run(session)` gives, where an observer has that; else itself."""
    try:
        return observer.for_run(session) if hasattr(observer, "for_run") else observer
    except Exception:  # observers may only watch
        _log.exception("observer %r failed", observer)
        return observer


class Live:
    """What is known of the prompt that is being answered."""

    __slots__ = (
        "closing", "events", "finished", "inbox", "is_interrupted", "is_over", "observers", "partial", "run", "waiting",
    )  # fmt: skip

    def __init__(self, observers: Sequence[Any], session: Any = None) -> None:
        self.observers = [getattr(watch, "on_event", watch) for watch in [for_run(one, session) for one in observers]]
        self.is_interrupted = False
        self.is_over = False  # nothing more comes, whatever the run would do
        self.run: Run | None = None
        self.inbox: list[UserMessage] = []  # said meanwhile, not taken by the run yet
        self.events: AsyncIterator[Event] | None = None
        self.closing: asyncio.Future[None] | None = None
        self.waiting: asyncio.Task[Any] | None = None  # the task that waits for the next event
        self.partial: list[str] = []
        self.finished: list[ToolResultBlock] = []  # results of the turn whose tools are running

    async def close_events(self) -> None:
        """Close the run's stream once, whoever asks: the consumer, interrupt(), or both at the same time."""
        if self.events is None:
            return
        if self.closing is None and not self.is_interrupted:
            await self.events.aclose()  # type: ignore[attr-defined]
            return
        if self.closing is None:
            self.closing = asyncio.ensure_future(self.events.aclose())  # type: ignore[attr-defined]
        await asyncio.shield(self.closing)
