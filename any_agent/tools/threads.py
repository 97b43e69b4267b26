"""Blocking functions beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def uptime_s() -> float:
    """The clock by which Linux dates processes; 0 where there is none."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a blocking function in a thread of its own and give what it gives or raises.

    Not a pool: a function that never ends neither takes another one's place nor holds up the end of the program.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    run = contextvars.copy_context().run

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def work() -> None:
        value: Any = None
        problem: BaseException | None = None
        try:
            value = run(function, *args, **kwargs)
        except StopIteration as error:  # no future can hold it
            problem = RuntimeError(f"StopIteration: {error}")
        except (KeyboardInterrupt, SystemExit) as error:  # no thread of ours ends the program
            problem = RuntimeError(f"{type(error).__name__}: {error}")
        except BaseException as error:
            problem = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, problem)

    # The name is held while it runs: `children` looks for it in this frame.
    thread = threading.Thread(target=work, name=f"any_agent {getattr(function, '__name__', 'tool')}", daemon=True)
    thread.start()
    return await done
