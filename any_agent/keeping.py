"""Where an agent keeps its sessions: one store, opened when it is first needed, closed with the agent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from .errors import MemoryStoreError
from .options import AgentOptions
from .protocols import Model

_log = logging.getLogger("any_agent")
ASKED_BY = frozenset({"enable_memory", "memory_db_path", "store"})


class Keeper:
    """The store of one agent. One that nobody asked for and that cannot be opened costs a warning, not the run."""

    def __init__(self) -> None:
        self._store: Any = None
        self._is_own = False
        self._is_open = self._is_given_up = False

    def store_of(self, options: AgentOptions) -> Any:
        """The store of these options; making it touches no file."""
        if self._store is None:
            from .memory import MemoryStore

            options = options.with_files()
            self._is_own = options.store is None
            path = options.memory_db_path if "memory_db_path" in options.model_fields_set else None
            self._store = MemoryStore(path) if self._is_own else options.store
        return self._store

    async def for_run(self, options: AgentOptions, *, is_conversation: bool) -> Any:
        """The opened store; None when this run is not kept: memory is off, or a one-off query that did not ask for it.

        Raises:
            MemoryStoreError: it was asked for and cannot be opened.
        """
        is_asked = bool(options.model_fields_set & ASKED_BY)
        if not options.enable_memory or not (is_asked or is_conversation) or (self._is_given_up and not is_asked):
            return None
        store = self.store_of(options)
        if not self._is_open:
            try:
                await store.open()
            except MemoryStoreError as error:
                if is_asked:
                    raise
                self._is_given_up = True
                _log.warning("conversations are not kept: %s (enable_memory=False silences this)", error)
                return None
            self._is_open = True
        return store

    def around(self, models: Sequence[Model], options: AgentOptions) -> list[Model]:
        """The models with a tape or the response cache around them, where that was asked for."""
        record, replay, ttl_s = options.record, options.replay, options.response_cache_ttl_s
        if record is None and replay is None and ttl_s is None:
            return list(models)
        from .models.around import around

        store = None if ttl_s is None else self.store_of(options)
        return around(models, record=record, replay=replay, cache_ttl_s=ttl_s, store=store)

    async def close(self) -> None:
        store, is_own, self._is_open = self._store, self._is_own, False
        if store is not None and is_own:
            await store.close()
