"""Counts function calls, Python and C alike: the same number on every run and machine, unlike any clock."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any


class CallCount:
    """Counts every call of this thread inside a `with` block.

    Args:
        by_name: Also count by function, in `names`.
    """

    def __init__(self, *, by_name: bool = False) -> None:
        self.total = 0
        self.names: Counter[str] = Counter()
        self._count = self._count_by_name if by_name else self._count_all

    def _count_all(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" or event == "c_call":
            self.total += 1

    def _count_by_name(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "call":
            self.names[f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"] += 1
        elif event == "c_call":
            self.names[f"{function.__qualname__} in {frame.f_globals.get('__name__')}.{frame.f_code.co_name}"] += 1
        self._count_all(frame, event, None)

    def __enter__(self) -> CallCount:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        self.total -= 2  # this method and its setprofile


async def calls_of(ask: Callable[[], Awaitable[Any]], *, warm_up: int = 3, rounds: int = 7) -> int:
    """The median number of calls of one `await ask()`, once everything is warm."""
    counts = []
    for turn in range(warm_up + rounds):
        with CallCount() as count:
            await ask()
        if turn >= warm_up:
            counts.append(count.total)
    return sorted(counts)[len(counts) // 2]
