"""A Model that answers an exact repetition of a request from the store. Opt-in: `response_cache_ttl_s`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

from ..errors import MemoryStoreError
from ..protocols import Model
from ..types import Delta, ModelRequest, StreamEnd
from .on_tape import Json, delta_json, delta_of
from .wire import to_wire, tools_to_wire

# A hint of another call's trouble is no part of the answer.
_PASSING = ("AttemptFailed", "ModelLoading")


class CachedModel:
    """Wraps one model. Only answers that ended properly are kept; one from the store costs nothing and says so.

    Args:
        store: has `cached(key)` and `cache(key, value, ttl_s)`; None of its failures ends a run.
        ttl_s: seconds an answer is good for.
    """

    def __init__(self, model: Model, store: Any, ttl_s: float) -> None:
        self.inner = model
        self._store = store
        self._ttl_s = ttl_s

    @property
    def name(self) -> str:
        return self.inner.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        key = self._key(request)
        kept = await self._kept(key)
        if kept is not None:
            for one in kept:
                delta: Delta = delta_of(one)
                if isinstance(delta, StreamEnd):  # no usage: no token was spent
                    delta = replace(delta, usage=None, cost_usd=0.0, is_cached=True)
                yield delta
            return
        said: list[Json] = []
        is_whole = False
        async with aclosing(self.inner.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                is_whole = isinstance(delta, StreamEnd)
                said.append(delta_json(delta))
                if is_whole:
                    await self._keep(key, said)
                yield delta

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _key(self, request: ModelRequest) -> str:
        """The same only for the same model, address, messages, tools and parameters."""
        asked = [
            [self.name, getattr(self.inner, "provider", None), getattr(self.inner, "base_url", None)],
            to_wire(request.messages, getattr(self.inner, "provider", None)),
            tools_to_wire(request.tools),
            [request.tool_choice, dict(request.params), dict(request.extra_body)],
        ]
        return sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).hexdigest()

    async def _kept(self, key: str) -> list[Json] | None:
        try:
            return cast("list[Json] | None", await self._store.cached(key))
        except MemoryStoreError:
            return None

    async def _keep(self, key: str, said: list[Json]) -> None:
        if said[-1].get("finish_reason") == "length":
            return  # cut off: asking again may give more
        try:
            await self._store.cache(key, [one for one in said if one["is"] not in _PASSING], self._ttl_s)
        except MemoryStoreError:
            return
