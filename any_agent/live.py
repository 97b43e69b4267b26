"""What a session knows of the prompt that is being answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from .loop import Run
from .types import Event, ToolResultBlock


class Live:
    """What is known of the prompt that is being answered."""

    __slots__ = ("closing", "events", "finished", "is_interrupted", "observers", "partial", "run", "waiting")

    def __init__(self, observers: Sequence[Any]) -> None:
        self.observers = [getattr(one, "on_event", one) for one in observers]
        self.is_interrupted = False
        self.run: Run | None = None
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
