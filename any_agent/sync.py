"""The synchronous way in: one background event loop for all blocking calls, so connections are kept."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from .errors import InvalidInputError

T = TypeVar("T")
GRACE_S = 5.0
END_S = 2.0  # what the work that still goes on at the program's end may take to end
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_ending: set[asyncio.AbstractEventLoop] = set()  # the program ends


def run_sync(work: Coroutine[Any, Any, T], *, name: str) -> T:
    """Run a coroutine to its end from blocking code.

    Raises:
        InvalidInputError: an event loop is running in this thread (async code, a notebook): `await` it there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise InvalidInputError(
            f"{name}_sync() cannot run where an event loop runs (a notebook, async code): `await agent.{name}(…)`",
            field=f"{name}_sync",
        )
    over = threading.Event()
    loop = _background_loop()
    if loop in _ending and threading.current_thread().daemon:
        work.close()
        raise SystemExit
    future = asyncio.run_coroutine_threadsafe(_told_over(work, over), loop)
    try:
        return future.result()
    except BaseException:  # Ctrl-C in the caller stops the work too, and its session may be used at once
        if future.cancelled() and loop in _ending:
            raise SystemExit from None  # a daemon thread while the program ends: it goes without a traceback
        if future.cancel():
            over.wait(GRACE_S)
        raise


async def _told_over(work: Coroutine[Any, Any, T], over: threading.Event) -> T:
    try:
        return await work
    finally:
        over.set()


def iterated(chunks: AsyncIterator[T], *, name: str) -> Iterator[T]:
    """An async iterator for blocking code; what is left of it is closed.

    Raises:
        InvalidInputError: see `run_sync`, when the first one is asked for.
    """
    end: Any = object()

    async def following() -> Any:
        return await anext(chunks, end)

    try:
        while (one := run_sync(following(), name=name)) is not end:
            yield one
    finally:
        loop = _loop
        if loop is None or loop in _ending or loop.is_closed():  # the program ends, and closes what is open itself
            pass
        elif has_loop():  # Python collects it in the loop's own thread, where nobody may wait
            asyncio.run_coroutine_threadsafe(_closed(chunks), _background_loop())
        else:
            run_sync(_closed(chunks), name=name)


async def _closed(chunks: Any) -> None:
    await chunks.aclose()


def has_loop() -> bool:
    """An event loop is running here; without one nothing may be awaited (a coroutine that is thrown away)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class closing(aclosing):  # type: ignore[type-arg]
    """`aclosing` for coroutines that may be thrown away when their event loop is gone."""

    async def __aexit__(self, *exc: object) -> None:
        if has_loop():
            await super().__aexit__(*exc)


def _forget() -> None:
    """A forked child has the parent's loop object but not its thread."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def uncancel() -> bool:
    """Take back the one cancellation that we asked for; False: somebody else cancelled the task too."""
    task = asyncio.current_task()
    if sys.version_info >= (3, 11) and task is not None:
        return task.uncancel() == 0
    return True


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_serve, args=(loop,), name="any_agent-sync", daemon=True)
            thread.start()
            atexit.register(_stop, loop, thread)
            _loop = loop
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.set_exception_handler(lambda *_: None)  # nobody is there any more who could do better
    loop.run_until_complete(_ended())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _ended() -> None:
    """Cancel what still goes on, so that no generator is closed while it runs; waits a while for it."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=END_S)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    _ending.add(loop)
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=GRACE_S)
