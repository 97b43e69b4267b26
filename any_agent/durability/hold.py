"""Hold: a session is taken in its store for one run, and stays taken while the run goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from ..errors import MemoryStoreError, SessionFencedError

LEASE_S = 120.0  # a holder that died on this machine is noticed at once; on another one after so long
PATIENCE_S = 0.5  # with a store that has to be told something on the way out
_PASSING = ("io", "read_only")
_running: set[asyncio.Future[Any]] = set()  # a task that nobody holds may be collected while it runs


class Hold:
    """The right of one run to write. Its fence is void as soon as somebody else has taken the session.

    A sign of life is given four times per lease, however silent the model or a tool is: who is alive keeps the session.
    """

    __slots__ = ("_lease_s", "_store", "_timer", "fence", "is_given_up", "session_id")

    def __init__(self, store: Any, session_id: str, fence: int, lease_s: float) -> None:
        self._store = store
        self.session_id = session_id
        self.fence = fence
        self._lease_s = lease_s
        self.is_given_up = False
        self._timer: asyncio.TimerHandle | None = None
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._lease_s / 4, self._live_on)

    def _live_on(self) -> None:
        in_background(self._renew())
        self._wait()

    async def _renew(self) -> None:
        try:
            await self._store.renew(self.session_id, self.fence, self._lease_s)
        except SessionFencedError:  # the next commit tells
            self._stop()
        except MemoryStoreError:  # it may pass
            pass

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def was_given_up(self) -> None:
        """The last commit has let others have the session."""
        self.is_given_up = True
        self._stop()

    async def give_up(self, *, is_slow: bool = False) -> None:
        """Let others have the session; when the store `is_slow`, nobody waits for that."""
        if self.is_given_up:
            return
        self.was_given_up()
        work = in_background(_released(self._store, self.session_id, self.fence))
        if not is_slow:
            await _until_done(work)


async def take(store: Any, session_id: str, owner: str, lease_s: float | None = None) -> Hold:
    """Take the session; a caller that is cancelled meanwhile takes nothing.

    Raises:
        SessionBusyError: somebody else is answering a prompt of it.
        MemoryStoreError: the store failed.
    """
    wanted_s = lease_s or float(getattr(store, "lease_s", LEASE_S))
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asked = in_background(_tell(_leased(store, session_id, owner, wanted_s), told))
    try:
        fence = await told
    except asyncio.CancelledError:
        await asyncio.wait({in_background(_given_back(asked, store, session_id))}, timeout=PATIENCE_S)
        raise
    return Hold(store, session_id, fence, wanted_s)


async def _leased(store: Any, session_id: str, owner: str, lease_s: float) -> int:
    try:
        fence: int = await store.lease(session_id, owner, lease_s)
    except MemoryStoreError as error:
        if error.reason not in _PASSING or getattr(store, "path", None) == ":memory:":
            raise
        await store.aclose()  # the file was taken away, or could not be written when it was opened: open it anew
        fence = await store.lease(session_id, owner, lease_s)
    return fence


async def _until_done(work: asyncio.Future[Any]) -> None:
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work}, timeout=PATIENCE_S)
        raise


async def _given_back(asked: asyncio.Future[int | None], store: Any, session_id: str) -> None:
    with contextlib.suppress(Exception):
        if (fence := await asked) is not None:
            await _released(store, session_id, fence)


async def _released(store: Any, session_id: str, fence: int) -> None:
    with contextlib.suppress(MemoryStoreError):  # the lease ends by itself
        await store.release(session_id, fence)


def in_background(work: Any) -> asyncio.Future[Any]:
    """Do the work to its end, also when the one who waits for it is cancelled."""
    task: asyncio.Future[Any] = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def unbroken(work: Coroutine[Any, Any, Any]) -> Any:
    """Wait for the work, which goes on when the caller is cancelled: `asyncio.shield`, one turn of the loop earlier."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(_tell(work, told))
    try:
        return await told
    except asyncio.CancelledError:
        in_background(task)  # until now this frame has held it
        raise


async def _tell(work: Coroutine[Any, Any, Any], told: asyncio.Future[Any]) -> Any:
    try:
        result = await work
    except BaseException as error:
        if not told.done():
            told.set_exception(error)
        return None
    if not told.done():
        told.set_result(result)
    return result
