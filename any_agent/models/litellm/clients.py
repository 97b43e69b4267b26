"""LiteLLM's connections, loop by loop: it keeps them per loop and leaves them open when the loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from inspect import isawaitable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet


class _LoopUse:
    """Closes the connections of one loop with the last model that used them, or with the loop itself."""

    def __init__(self, litellm: Any) -> None:
        self.users: WeakSet[Any] = WeakSet()
        self._litellm = litellm
        self._guard: AsyncIterator[None] | None = None

    async def start(self) -> None:
        # asyncio.run() closes every started async generator at the end of its loop.
        self._guard = self._close_with_loop()
        await self._guard.__anext__()

    async def _close_with_loop(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await _close_clients(self._litellm)

    async def aclose(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.aclose()  # type: ignore[attr-defined]


_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopUse] = WeakKeyDictionary()


async def use_loop(model: Any, litellm: Any) -> None:
    """The model is about to use LiteLLM's connections of the running loop."""
    loop = asyncio.get_running_loop()
    use = _LOOPS.get(loop)
    if use is None:
        _take_clients(litellm)  # left by a loop that is gone, at the same place in memory
        use = _LOOPS[loop] = _LoopUse(litellm)
        await use.start()
    use.users.add(model)


async def leave_loop(model: Any) -> None:
    """The model is done here; the last one closes the connections. Safe to call twice."""
    loop = asyncio.get_running_loop()
    use = _LOOPS.get(loop)
    if use is not None:
        use.users.discard(model)
        if not use.users:
            del _LOOPS[loop]
            await use.aclose()


def _take_clients(litellm: Any) -> list[Any]:
    """The clients that LiteLLM keeps for the running loop, taken from it: it would hand out closed ones again."""
    cache = litellm.in_memory_llm_clients_cache
    mark = cache.update_cache_key_with_event_loop("")
    keys = [key for key in list(cache.cache_dict) if key.endswith(mark)]
    for key in keys:
        cache.ttl_dict.pop(key, None)
    return [cache.cache_dict.pop(key, None) for key in keys]


async def _close_clients(litellm: Any) -> None:
    """Close what LiteLLM holds for this loop. Its own close_litellm_async_clients() closes the ones of all loops."""
    loop = asyncio.get_running_loop()
    for client in _take_clients(litellm):
        with suppress(Exception):
            closed = client.close()
            if isawaitable(closed):
                await closed
    # These outlive loops, and hold a session of the loop that used them last.
    shared = [vars(litellm).get("module_level_aclient"), *list(litellm.in_memory_llm_clients_cache.cache_dict.values())]
    sessions: list[Any] = [
        getattr(getattr(getattr(c, "client", None), "_transport", None), "client", None) for c in shared
    ]
    sessions.append(getattr(vars(litellm).get("base_llm_aiohttp_handler"), "client_session", None))
    for session in sessions:
        if getattr(session, "_loop", None) is loop:
            await session.close()
