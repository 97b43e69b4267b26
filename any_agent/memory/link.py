"""One SQLite connection in aiosqlite's thread, for any number of tasks and event loops. The one door to aiosqlite.

Work is a function of the sqlite3 connection. A writing link runs all work that waits as one transaction with one
commit; each piece succeeds or fails alone, by a savepoint.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .trouble import explained, store_error

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Job(Generic[T]):
    """A piece of work and the future of the task that waits for it."""

    __slots__ = ("error", "future", "is_alone", "is_synced", "loop", "result", "work")

    def __init__(self, work: Work[T], is_alone: bool = False, is_synced: bool = True) -> None:
        self.work, self.is_alone, self.is_synced = work, is_alone, is_synced
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None


class Link:
    """A connection that opens at its first use.

    Args:
        path: the file, or ":memory:".
        prepare: makes a fresh connection ready; runs in the thread. When it fails, the next use tries again.
        run_jobs: runs jobs in the thread, and puts results and errors into them.
        before: runs in the thread before the file is opened.
    """

    def __init__(
        self,
        path: str,
        before: Callable[[], None],
        prepare: Callable[[sqlite3.Connection], None],
        run_jobs: Callable[[sqlite3.Connection, list[Job[Any]]], None],
    ) -> None:
        self.path = path
        self._before, self._prepare, self._run_jobs = before, prepare, run_jobs
        self._lock = threading.RLock()  # a store that is forgotten is shut wherever Python collects it, in here too
        self._jobs: list[Job[Any]] = []
        self._is_called = False  # the thread was told that there are jobs
        self._raw: sqlite3.Connection | None = None
        self._is_ready = False
        self._connection: aiosqlite.Connection | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    async def run(self, work: Work[T], *, is_alone: bool = False, is_synced: bool = True) -> T:
        """Do the work in the thread. When the caller is cancelled, work that has begun is still finished.

        Args:
            is_alone: not in a transaction with others.
            is_synced: False: its commit need not wait for the disk.

        Raises:
            MemoryStoreError: the database failed.
        """
        job = Job(work, is_alone, is_synced)
        with self._lock:
            self._jobs.append(job)
            is_called, self._is_called = self._is_called, True
            if not is_called:
                try:
                    self._queue().put_nowait((None, self._drain))
                except BaseException:
                    self._jobs.remove(job)
                    self._is_called = False
                    raise
        return await job.future

    def _queue(self) -> Any:
        """aiosqlite's queue of work; makes the connection and its thread when there is none.

        Work is put there without a future: aiosqlite would answer it in the caller's event loop, and its thread dies
        when that loop is closed meanwhile. `_answer` is our own way back.
        """
        if self._connection is None:
            failures: list[BaseException] = []
            # A thread is a daemon when the one that makes it is: nobody who forgets close() may hang at exit.
            maker = threading.Thread(target=self._make, args=(failures,), name="any-agent-store-open", daemon=True)
            maker.start()
            maker.join()
            if failures:
                raise explained(failures[0], self.path)
        return self._connection._tx  # type: ignore[union-attr]

    def _make(self, failures: list[BaseException]) -> None:
        import aiosqlite

        def opened(*args: Any, **options: Any) -> sqlite3.Connection:
            self._thread = threading.current_thread()
            self._before()
            self._raw = sqlite3.Connection(*args, **options)
            return self._raw

        async def make() -> aiosqlite.Connection:
            try:
                return await aiosqlite.connect(self.path, isolation_level=None, cached_statements=256, factory=opened)
            except BaseException:
                while self._thread and self._thread.is_alive():  # it still answers in this loop  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                raise

        try:
            self._connection = asyncio.run(make())
        except BaseException as error:
            failures.append(error)

    # ---------------------------------------------------------- in the thread

    def _drain(self) -> None:
        with self._lock:
            jobs, self._jobs, self._is_called = self._jobs, [], False
        jobs = [job for job in jobs if not job.future.cancelled()]
        try:
            raw = self._raw
            if raw is None:
                raise store_error(self.path, "closed", "it was closed; open() it again")
            if not self._is_ready:
                self._prepare(raw)
                self._is_ready = True
            self._run_jobs(raw, jobs)
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
        finally:
            self._answer(jobs)

    def _answer(self, jobs: list[Job[Any]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
        for job in jobs:
            if job.error is not None:
                job.error = explained(job.error, self.path)
            by_loop.setdefault(job.loop, []).append(job)
        for loop, own in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed; nobody waits
                loop.call_soon_threadsafe(_answer_all, own)

    # ---------------------------------------------------------- the end

    def shut(self, at_end: Callable[[sqlite3.Connection], None] | None = None, wait_s: float = 10.0) -> None:
        """Finish what waits, close the connection, end the thread. Safe to call twice, and after a fork.

        Args:
            wait_s: how long to wait for that; 0: not at all, it ends by itself, at the latest at the program's exit.
        """
        if self._pid != os.getpid():  # the lock may have been held when this process was forked
            return
        with self._lock:
            connection, self._connection, thread = self._connection, None, self._thread
        if connection is None:
            return

        def end() -> None:
            raw, self._raw, self._is_ready = self._raw, None, False
            if raw is not None:
                with contextlib.suppress(Exception):
                    if at_end is not None:
                        at_end(raw)
                with contextlib.suppress(Exception):
                    raw.close()
            connection.stop()  # without an event loop here, nobody is answered
            _ENDING.discard(threading.current_thread())

        if thread is not None:
            _ENDING.add(thread)
        connection._tx.put_nowait((None, end))
        if wait_s:
            _join(thread, wait_s)

    def wait(self, wait_s: float) -> None:
        """Until the thread has ended, or for `wait_s`; in the thread itself not at all."""
        _join(self._thread, wait_s)


def _join(thread: threading.Thread | None, wait_s: float) -> None:
    if thread not in (None, threading.current_thread()):
        thread.join(wait_s)


_ENDING: set[threading.Thread] = set()  # told to end, and not there yet
_LONGEST_EXIT_S = 10.0


@atexit.register
def _let_end() -> None:
    """The threads are daemons: at the program's exit they would be cut off in the middle."""
    limit = monotonic() + _LONGEST_EXIT_S
    for thread in tuple(_ENDING):
        thread.join(max(0.0, limit - monotonic()))


def _answer_all(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        if job.future.done():  # cancelled meanwhile
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
