"""MemoryStore: sessions, messages, ledger and search in one SQLite file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ..errors import ConfigurationError, InvalidInputError
from . import journal, leases, ledger, upkeep, vectors
from .common import rows_of
from .database import IN_MEMORY, Database, default_path
from .entries import checked_id
from .leases import Process
from .searching import SearchingStore
from .words import match_all


class MemoryStore(SearchingStore):
    """Keeps what must not be lost, in one SQLite file. Making one does no I/O; it opens at its first use.

    One store may serve any number of tasks, and several event loops. Close it, or use `async with`; a program that
    forgets to is not kept from ending.

    Args:
        db_path: the file; None: `$ANY_AGENT_HOME/memory.db`, else `~/.any_agent/memory.db`; ":memory:" keeps nothing.
        durability: "power": what was acknowledged survives a power cut (one sync per group of commits); "process": it
            survives the death of the process, at a tenth of the time.
        embed: a function, may be async, from texts to vectors; then `search` finds by meaning too.
        embedding_model: the name of its model; vectors of different models are kept apart.
        busy_timeout_s: how long to wait while another program writes.
    """

    _journal: ClassVar[Any] = journal
    _leases: ClassVar[Any] = leases
    _ledger: ClassVar[Any] = ledger
    _upkeep: ClassVar[Any] = upkeep

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        durability: Literal["power", "process"] = "power",
        embed: vectors.Embed | None = None,
        embedding_model: str = "default",
        busy_timeout_s: float = 30.0,
    ) -> None:
        if durability not in ("power", "process"):
            raise ConfigurationError(
                f"durability={durability!r} must be power or process",
                field="durability",
                value=durability,
                allowed="power, process",
            )
        self.path = _place(db_path)
        self._embed, self._embedding_model = embed, embedding_model
        self._ranking = vectors.Ranking()
        self._settings = (self.path, durability, busy_timeout_s)
        self._begin()

    def _connections(self) -> Database:
        return Database(*self._settings)

    async def _matching(self, search: str) -> str | None:
        await self._catch_up()
        return match_all(search)

    async def open(self) -> None:
        """Make it ready: the file, its tables, its migrations. Other calls do it themselves.

        Raises:
            MemoryStoreError: the file cannot be used; says why and what to do.
        """
        await self._db.open()

    async def aclose(self) -> None:
        """Finish what is being written and close the file. Safe to call twice; the next use opens it again."""
        if not self._is_closed:
            database, self._is_closed = self._db, True
            self._taken_out()
            await asyncio.to_thread(database.shut)

    # -------------------------------------------------------------- the journal

    async def append(
        self,
        session_id: str,
        entries: Sequence[Mapping[str, Any]],
        *,
        fence: int | None = None,
        is_last: bool = False,
    ) -> int:
        """Keep all entries or none; returns the seq of the last one, on disk when this returns.

        Tasks that append at the same time share one commit; each succeeds or fails alone.

        Raises:
            SessionFencedError: `fence` is not the session's current one.
            InvalidInputError: something is no entry.
            MemoryStoreError: the file could not be written. Nothing was written in any of these cases.
        """
        rows = rows_of(session_id, entries)
        return await self._db.write(lambda db: journal.append(db, session_id, rows, fence, is_last))

    async def delete(self, session_id: str, *, keep_ledger: bool = False) -> int:
        """Delete a session and its subagents' sessions, from the bytes of the file too; returns how many.

        Backup files that a migration made, and copies of yours, are not touched.

        Args:
            keep_ledger: leave the figures of their model calls, without a session.

        Raises:
            MemoryStoreError: "locked": they are deleted, but another program still reads the old pages of the file, so
                the bytes are left: `vacuum()` when it has finished.
        """
        deleted = await self._db.write(lambda db: upkeep.delete(db, [session_id], keep_ledger))
        if deleted:
            await self.vacuum()
        return deleted

    async def delete_tag(self, tag: str, *, keep_ledger: bool = False) -> int:
        """Delete all sessions that have the tag, as `delete` does; returns how many."""
        deleted = await self._db.write(lambda db: upkeep.delete(db, upkeep.tagged(db, tag), keep_ledger))
        if deleted:
            await self.vacuum()
        return deleted

    # -------------------------------------------------------------- one writer per session

    async def lease(self, session_id: str, owner: str, ttl_s: float = 30.0) -> int:
        """Become the session's only writer for `ttl_s` seconds; returns the fence for `append`.

        A lease that ran out, or whose process on this machine is dead, is taken over. The owner gets a new fence. Each
        fence is one above the session's last: who gets its own plus one knows that nobody held it in between.

        Raises:
            SessionBusyError: somebody else holds it; `holder` says who.
        """
        checked_id("session_id", session_id)
        checked_id("owner", owner)
        database = self._db
        process = self._process = self._process or Process.own()
        return await database.write(lambda db: leases.lease(db, session_id, owner, ttl_s, process), is_synced=False)

    # -------------------------------------------------------------- keeping house

    async def cleanup(self, older_than: Any = None, keep_last: int | None = None) -> int:
        deleted = await super().cleanup(older_than, keep_last)
        if deleted:
            await self._db.write(upkeep.forget_index_words)
        return deleted

    async def vacuum(self) -> None:
        """Write the file anew, as small as it can be; nothing that was deleted is left in it."""
        await self._db.alone(upkeep.vacuum)

    async def integrity_check(self) -> list[str]:
        """What is wrong with the file; [] when nothing is. Reads all of it."""
        return await self._db.alone(upkeep.integrity_check)

    async def back_up(self, path: str | os.PathLike[str]) -> None:
        """Copy the whole store to a new file, while it is used.

        Raises:
            InvalidInputError: there is a file already.
        """
        target, database = _place(path), self._db
        if await asyncio.to_thread(os.path.exists, target):
            raise InvalidInputError(f"{target} is there already", field="path", value=target)
        await database.alone(lambda db: database.back_up(db, target))


def _place(db_path: str | os.PathLike[str] | None) -> str:
    path = os.fspath(default_path() if db_path is None else db_path)
    if not path or "\0" in path:
        raise ConfigurationError(
            f"{path!r} is no path of a file", field="db_path", value=path, allowed="a path, :memory:"
        )
    return path if path == IN_MEMORY else os.path.abspath(os.path.expanduser(path))
