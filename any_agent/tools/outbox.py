"""Which calls run side by side, and their events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

from ..types import ToolUseBlock, ToolUseError
from .registry import ToolRegistry

CANCEL_AGAIN_S = 3.0  # more than a tool may take to tidy up
E = TypeVar("E")
Call = ToolUseBlock | ToolUseError


def batches(calls: Sequence[Call], registry: ToolRegistry, *, is_parallel: bool = True) -> list[list[Call]]:
    """The calls of a turn in order, in groups that may run side by side."""
    found: list[list[Call]] = []
    was_alone = True
    for call in calls:
        alone = not is_parallel or (call.name in registry and not registry.get(call.name).parallel)
        if alone or was_alone:
            found.append([call])
        else:
            found[-1].append(call)
        was_alone = alone
    return found


class Outbox(Generic[E]):
    """Where tasks put their events; `until_done` gives them out in the order they happen.

    Args:
        cancel_again_s: a task that does not end is cancelled again after so many seconds.
    """

    def __init__(self, cancel_again_s: float = CANCEL_AGAIN_S) -> None:
        self._cancel_again_s = cancel_again_s
        self.left = self._events = deque[E]()
        self._changed = asyncio.Event()

    def put(self, event: E) -> None:
        self._events.append(event)
        self._changed.set()

    async def until_done(self, tasks: Sequence[asyncio.Future[None]]) -> AsyncIterator[E]:
        """Every event until all tasks are done; what a task raises ends the others.

        Leaving cancels them and waits for their end; what they still put is in `left`.
        """
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        try:
            is_over = False
            while not is_over:
                await self._changed.wait()
                self._changed.clear()
                is_over = all(task.done() for task in tasks)
                failed = [task for task in tasks if task.done() and (task.cancelled() or task.exception())]
                while self._events:
                    yield self._events.popleft()
                for task in failed:
                    task.result()
        finally:
            while running := [task for task in tasks if not task.done()]:
                for task in running:
                    task.cancel()
                await asyncio.wait(running, timeout=self._cancel_again_s)  # a hook after a tool may wait for long
            for task in tasks:
                if not task.cancelled():
                    task.exception()
