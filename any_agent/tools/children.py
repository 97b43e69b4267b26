"""Child processes that a stopped tool leaves behind: those it began itself, without `ToolContext.run_process`.

Found in the frames of its coroutines and among the children of its threads; only where /proc tells (Linux).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .processes import KILL_AFTER_S

_PROC = Path("/proc")
Born = tuple[int, int]  # a process: its id, and when it began, ticks since the machine did


def children_of(work: asyncio.Future[Any], since_s: float) -> list[Born]:
    """Processes that a running tool began after `since_s` (of `uptime_s()`), and theirs."""
    if not sys.platform.startswith("linux"):
        return []
    first = int(since_s * os.sysconf("SC_CLK_TCK"))
    begun = {pid: _born(pid) for pid in _begun_by(work)}
    found = {pid: ticks for pid, ticks in begun.items() if ticks is not None and ticks >= first}
    for pid in list(found):
        found.update({one: ticks for one in _below(pid) if (ticks := _born(one)) is not None})
    return list(found.items())


def end(children: list[Born]) -> None:
    """Ask them to end; those that stay are killed after a second."""
    if not _signalled(children, signal.SIGTERM):
        return
    timer = threading.Timer(KILL_AFTER_S, _signalled, [children, signal.SIGKILL])
    timer.daemon = True
    timer.start()


def _signalled(children: list[Born], number: int) -> bool:
    alive = [pid for pid, ticks in children if _born(pid) == ticks]  # its number may be another one's by now
    for pid in alive:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(alive)


def _begun_by(work: Any) -> Iterator[int]:
    step = work.get_coro() if isinstance(work, asyncio.Task) else None
    while step is not None:
        frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        for value in list(frame.f_locals.values()) if frame is not None else ():
            if isinstance(value, (subprocess.Popen, Process)):
                yield value.pid
            elif isinstance(value, threading.Thread) and value.native_id is not None:
                yield from _listed(f"self/task/{value.native_id}")
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)


def _below(pid: int) -> Iterator[int]:
    for task in _PROC.glob(f"{pid}/task/*"):
        for child in _listed(f"{pid}/task/{task.name}"):
            yield child
            yield from _below(child)


def _listed(task: str) -> list[int]:
    try:
        return [int(pid) for pid in (_PROC / task / "children").read_text().split()]
    except OSError:  # it has ended
        return []


def _born(pid: int) -> int | None:
    """When it began; None: it has ended."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
