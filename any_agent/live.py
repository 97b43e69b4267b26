"""What a session knows of the prompt that is being answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import operator
from collections.abc import AsyncIterator, Sequence
from functools import reduce
from time import perf_counter
from typing import Any

from .durability.hold import PATIENCE_S, Hold
from .durability.ledger_rows import LedgerRows
from .loop import Run
from .types import AssistantMessage, Event, Message, ResultMessage, Timings, ToolResultBlock, UserMessage

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
        "_failing", "began_s", "closing", "events", "finished", "hold", "inbox", "interrupted", "is_interrupted",
        "is_left", "is_over", "is_stuck", "left", "loop", "observers", "partial", "rows", "run", "submitted", "waiting",
    )  # fmt: skip

    def __init__(self, observers: Sequence[Any], session: Any = None) -> None:
        self.observers = [getattr(watch, "on_event", watch) for watch in [for_run(one, session) for one in observers]]
        self.began_s = perf_counter()
        self.is_interrupted = False
        self.interrupted: ResultMessage | None = None  # what a run that was interrupted ends with
        self.is_over = False  # nothing more comes, whatever the run would do
        self.is_stuck = False  # the store is locked: it is not waited for once more
        self.loop = asyncio.get_running_loop()
        self.is_left = False  # somebody gives the session back
        self.left = asyncio.Event()  # it was given back
        self.run: Run | None = None
        self.hold: Hold | None = None  # of the session in its store
        self.rows = LedgerRows()
        self.inbox: list[UserMessage] = []  # said meanwhile, not taken by the run yet
        self.submitted: tuple[int, list[Message]] | None = None  # where the prompt begins, and what of it had been sent
        self.events: AsyncIterator[Event] | None = None
        self.closing: asyncio.Future[None] | None = None
        self.waiting: asyncio.Task[Any] | None = None  # the task that waits for the next event
        self._failing: list[Any] = []  # observers that have failed, and were told of
        self.partial: list[str] = []
        self.finished: list[ToolResultBlock] = []  # results of the turn whose tools are running

    def told(self, messages: Sequence[Message]) -> dict[str, Any]:
        """What a ResultMessage tells of a run that was cut off, from the answers that had come."""
        place = self.submitted[0] if self.submitted else len(messages)
        calls = [one for one in messages[place:] if isinstance(one, AssistantMessage) and one.attempt is not None]
        usages, prices = [one.usage for one in calls if one.usage], [one.cost_usd for one in calls]
        attempts = tuple(one for call in calls if call.attempt for one in (*call.attempt.others, call.attempt))
        return {
            "num_turns": len(calls),
            "usage": reduce(operator.add, usages) if usages else None,
            "total_cost_usd": sum(one or 0.0 for one in prices) if prices and None not in prices else None,
            "attempts": attempts,
            "timings": Timings(perf_counter() - self.began_s, sum(one.duration_s for one in attempts)),
        }

    def failed(self, observer: Any) -> None:
        """Log what an observer raised: in full, but once for each observer."""
        if not any(observer is one for one in self._failing):
            self._failing.append(observer)
            _log.exception("observer %r failed; what else it raises in this run is not logged", observer)

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

    async def is_given_back(self) -> bool:
        """The session was given back to its store; waits a while for the task that does it."""
        if self.loop is asyncio.get_running_loop():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.left.wait(), PATIENCE_S)
        return self.left.is_set()
