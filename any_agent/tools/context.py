"""What a running tool may know and do: who called it, how far it is, whether it should stop, child processes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..types import ToolProgress
from .threads import in_thread

if TYPE_CHECKING:
    from .processes import ProcessResult

Report = Callable[[ToolProgress], None]


class CancelSignal:
    """Says that a call should stop: like an asyncio.Event, and usable from threads too. Once set it stays set."""

    __slots__ = ("_callbacks", "_is_set", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._callbacks: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        return self._is_set

    __bool__ = is_set

    def set(self) -> None:
        with self._lock:
            self._is_set, callbacks, self._callbacks = True, self._callbacks, []
        for callback in callbacks:
            callback()

    def on_set(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call a function when it is set (at once if it is); what it returns takes the function off again."""
        with self._lock:
            if not self._is_set:
                self._callbacks.append(callback)
                return partial(self._forget, callback)
        callback()
        return partial(self._forget, callback)

    def _forget(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    async def wait(self) -> bool:
        loop = asyncio.get_running_loop()
        found = asyncio.Event()
        forget = self.on_set(lambda: loop.call_soon_threadsafe(found.set))
        try:
            return await found.wait()
        finally:
            forget()

    def wait_blocking(self, timeout_s: float | None = None) -> bool:
        """Wait in a thread; False: `timeout_s` seconds passed and it is not set."""
        found = threading.Event()
        forget = self.on_set(found.set)
        try:
            return found.wait(timeout_s)
        finally:
            forget()


class ToolContext:
    """A tool gets one by asking for it: `def build(target: str, context: ToolContext)`. The model never sees it.

    Attributes:
        session_id: of the conversation; "" when the tool is run by hand.
        cwd: the option `cwd`, or the process's working folder.
        tool_use_id: of this call.
        idempotency_key: the same for every try of this call, also after a crash; no other call has it.
        cancelled: set when the run is interrupted or the time is up.
    """

    __slots__ = ("_loop", "_report", "cancelled", "cwd", "session_id", "tool_name", "tool_use_id")

    def __init__(
        self,
        tool_name: str = "",
        session_id: str = "",
        cwd: str | os.PathLike[str] | None = None,
        tool_use_id: str = "",
        report: Report | None = None,
    ) -> None:
        self.tool_name = tool_name
        self.session_id = session_id
        self.cwd = Path(cwd or os.getcwd()).expanduser()
        self.tool_use_id = tool_use_id
        self.cancelled = CancelSignal()
        self._report = report
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    @property
    def idempotency_key(self) -> str:
        return f"{self.session_id}:{self.tool_use_id}"

    def progress(self, message: str = "", fraction: float | None = None) -> None:
        """Tell how far the work is: an event `ToolProgress` leaves the run. From any thread.

        Args:
            fraction: 0–1; None: unknown.
        """
        if self._report is None or self._loop is None:
            return
        known = None if fraction is None else min(max(float(fraction), 0.0), 1.0)
        event = ToolProgress(self.tool_use_id, self.tool_name, str(message), known)
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if is_here:
            self._report(event)
        else:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._report, event)

    async def run_process(
        self,
        command: Sequence[str] | str,
        *,
        input: str | None = None,
        timeout_s: float | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 1_000_000,
    ) -> ProcessResult:
        """Run a command in a process group of its own and wait for it; a cancelled call kills the whole group.

        Args:
            command: program and arguments; a string is given to the shell.
            input: written to its standard input; None: it has none.
            timeout_s: seconds it may take; then it is killed and `is_timed_out`.
            cwd: where it runs; None: the context's `cwd`.
            env: its whole environment; None: that of this process.
            max_output_bytes: kept of each stream: beginning and end.

        Raises:
            OSError: it cannot be started.
        """
        from .processes import KILL_AFTER_S, ProcessGroup

        group = ProcessGroup(command, input=input, cwd=cwd or self.cwd, env=env, max_output_bytes=max_output_bytes)
        forget = self.cancelled.on_set(group.stop)
        waiting = asyncio.ensure_future(in_thread(group.wait, timeout_s))
        try:
            result: ProcessResult = await asyncio.shield(waiting)
            return result
        except asyncio.CancelledError:
            group.stop()
            await asyncio.wait({waiting}, timeout=KILL_AFTER_S + 0.5)
            raise
        finally:
            forget()

    def run_process_blocking(
        self,
        command: Sequence[str] | str,
        *,
        input: str | None = None,
        timeout_s: float | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 1_000_000,
    ) -> ProcessResult:
        """`run_process` for tools that are plain functions."""
        from .processes import ProcessGroup

        group = ProcessGroup(command, input=input, cwd=cwd or self.cwd, env=env, max_output_bytes=max_output_bytes)
        forget = self.cancelled.on_set(group.stop)
        try:
            return group.wait(timeout_s)
        finally:
            forget()
