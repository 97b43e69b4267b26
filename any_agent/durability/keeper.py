"""Where an agent keeps its sessions: one store, opened when it is first needed, closed with the agent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import MemoryStoreError, SessionNotFoundError
from ..options import AgentOptions
from ..protocols import Model
from ..tools import ToolRegistry

_log = logging.getLogger("any_agent")
# A one-off query is kept only where this is given; a store that is named says where, not whether.
ASKED_BY = frozenset({"enable_memory"})
# What somebody named must work; what was only the default may fail with a warning.
NAMED_BY = ASKED_BY | {"memory_db_path", "store"}


class Keeper:
    """The stores of one agent. One that nobody asked for and that cannot be opened costs a warning, not the run."""

    def __init__(self) -> None:
        self._own: dict[Any, Any] = {}  # by the path that was asked for
        self._opened: list[Any] = []
        self._is_given_up = False

    def store_of(self, options: AgentOptions) -> Any:
        """The store of these options; making it touches no file."""
        if options.store is not None:
            return options.store
        asked = options.memory_db_path if "memory_db_path" in options.model_fields_set else None
        if asked not in self._own:
            from ..memory import MemoryStore

            options = options.with_files()
            path = options.memory_db_path if "memory_db_path" in options.model_fields_set else None
            known = self._own.get(path)
            self._own[asked] = self._own[path] = MemoryStore(path) if known is None else known
        return self._own[asked]

    async def for_run(self, options: AgentOptions, *, is_conversation: bool) -> Any:
        """The opened store; None when this run is not kept: memory is off, or a one-off query that did not ask for it.

        Raises:
            MemoryStoreError: it was asked for or named and cannot be opened.
        """
        is_asked = bool(options.model_fields_set & ASKED_BY)
        is_named = bool(options.model_fields_set & NAMED_BY)
        if not options.enable_memory or not (is_asked or is_conversation) or (self._is_given_up and not is_named):
            return None
        store = self.store_of(options)
        if not any(store is one for one in self._opened):
            try:
                await store.open()
            except MemoryStoreError as error:
                if is_named:
                    raise
                self._is_given_up = True
                _log.warning("conversations are not kept: %s (enable_memory=False silences this)", error)
                return None
            self._opened.append(store)
        return store

    def around(self, models: Sequence[Model], options: AgentOptions) -> list[Model]:
        """The models with a tape or the response cache around them, where that was asked for."""
        record, replay, ttl_s = options.record, options.replay, options.response_cache_ttl_s
        if record is None and replay is None and ttl_s is None:
            return list(models)
        from ..models.around import around

        store = None if ttl_s is None else self.store_of(options) if options.enable_memory else self._passing_store()
        return around(models, record=record, replay=replay, cache_ttl_s=ttl_s, store=store)

    def taped(self, options: AgentOptions) -> Model | None:
        """What stands for a model that was recorded without an address: an object of the user's, or a cloud's model."""
        if options.replay is None or options.address or options.model != options.replay.first_model:
            return None
        from ..models.tape import ReplayModel

        return None if options.replay.first_place["base_url"] else ReplayModel(options.replay)

    def recalling(self, tools: ToolRegistry, options: AgentOptions) -> ToolRegistry:
        """The tools, and the one that searches the store where that was asked for."""
        if not options.recall or not options.enable_memory:
            return tools
        from ..tools.recall import RECALL, recall_tool

        how = options.recall if isinstance(options.recall, dict) else {}
        if how.get("name", RECALL) in tools:  # the user's own
            return tools
        return tools.extended([recall_tool(self.store_of(options), **how)])

    def _passing_store(self) -> Any:
        """Where answers are cached while nothing may be written."""
        from ..memory import MemoryStore

        return self._own.setdefault(":memory:", MemoryStore(":memory:"))

    async def close(self) -> None:
        self._opened.clear()
        for store in list(self._own.values()):  # some twice
            await store.close()


async def resumed(known: Any, create: Callable[[], Any], agent: Any) -> Any:
    """The session as the store has it.

    Args:
        known: the open session of this id, if there is one.
        create: makes it otherwise.

    Raises:
        SessionNotFoundError: the store does not know it; names the ids that look like it.
    """
    session = known or create()
    try:
        is_there = session.is_busy or session.messages or await session.load(agent.memory)
    except BaseException:
        if known is None:
            agent.forget(session)
        raise
    if known is None and not is_there:
        agent.forget(session)
        from difflib import get_close_matches

        ids = [row["session_id"] for row in await agent.memory.list_sessions(_MOST_NAMED)]
        near = ", ".join(map(repr, get_close_matches(session.session_id, ids))) or "see list_sessions()"
        text = f"there is no session {session.session_id!r} in {agent.memory}; near: {near}"
        raise SessionNotFoundError(text, session_id=session.session_id)
    return session


_MOST_NAMED = 1_000  # sessions, the newest


async def close_all(parts: Sequence[Any]) -> None:
    """Close each, whatever happens to the others; raises the first error at the end."""
    failed: Exception | None = None
    for part in parts:
        try:
            await part.aclose()
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed
