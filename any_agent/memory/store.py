"""MemoryStore: sessions, messages, ledger and search in one SQLite file."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..errors import ConfigurationError, InvalidInputError
from . import journal, leases, ledger, upkeep, vectors
from .common import kinds_of, rows_of
from .database import IN_MEMORY, Database, default_path
from .entries import Entry, checked_id, dump
from .leases import Process
from .seam import Holder, UsageRow
from .searching import SearchingStore
from .words import like_pattern, match_all


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
                f"durability={durability!r} is not allowed: power or process",
                field="durability",
                value=durability,
                allowed="power, process",
            )
        self.path = _place(db_path)
        self._embed, self._embedding_model = embed, embedding_model
        self._ranking = vectors.Ranking()
        self._settings = (self.path, durability, busy_timeout_s)
        self._begin()

    def _begin(self) -> None:
        self._pid, self._is_closed = os.getpid(), False
        self._process: Process | None = None
        self._database = Database(*self._settings)
        self._end = weakref.finalize(self, self._database.shut)  # also runs at the program's exit

    @property
    def _db(self) -> Database:
        if self._pid != os.getpid():  # a fork: threads and locks stayed with the parent
            _LEFT_TO_PARENT.append(self._database)
            self._end.detach()
            self._begin()
        elif self._is_closed:
            self._begin()
        return self._database

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
            self._end.detach()
            await asyncio.to_thread(database.shut)

    # -------------------------------------------------------------- the journal

    async def append(self, session_id: str, entries: Sequence[Mapping[str, Any]], *, fence: int | None = None) -> int:
        """Keep all entries or none; returns the seq of the last one, on disk when this returns.

        Tasks that append at the same time share one commit; each succeeds or fails alone.

        Raises:
            SessionFencedError: `fence` is not the session's current one.
            InvalidInputError: something is no entry.
            MemoryStoreError: the file could not be written. Nothing was written in any of these cases.
        """
        rows = rows_of(session_id, entries)
        return await self._db.write(lambda db: journal.append(db, session_id, rows, fence))

    async def load(
        self,
        session_id: str,
        after: int = 0,
        *,
        kinds: Sequence[str] | None = None,
        limit: int | None = None,
        include_rewound: bool = False,
    ) -> list[Entry]:
        """Entries with a seq above `after`, by seq; [] for a session nobody knows.

        Args:
            kinds: only these kinds; None: all.
            include_rewound: also messages that were rewound or replaced.
        """
        chosen = kinds_of(kinds)
        return await self._db.read(lambda db: journal.load(db, session_id, after, chosen, limit, include_rewound))

    async def session(self, session_id: str) -> Entry | None:
        """What is known of a session: title, summary, tags, model, message_count, last_seq, updated_at, …"""
        return await self._db.read(lambda db: journal.session(db, session_id))

    async def list_sessions(
        self,
        limit: int = 50,
        offset: int = 0,
        tag: str | None = None,
        search: str | None = None,
        parent_session_id: str | None = None,
    ) -> list[Entry]:
        """Sessions, the last changed first. `search`: words of the title, the summary or what was said."""
        if search:
            await self._catch_up()
        match = match_all(search) if search else None
        like = like_pattern(search) if search else None
        return await self._db.read(
            lambda db: journal.list_sessions(db, limit, offset, tag, match, like, parent_session_id)
        )

    async def fork(self, session_id: str, new_session_id: str, up_to: int | None = None) -> int:
        """Copy a session's live messages, title and tags; returns the last seq of the copy.

        Args:
            up_to: the seq of the last message to copy; None: all.

        Raises:
            InvalidInputError: there is no such session, or the new id is taken.
        """
        checked_id("new_session_id", new_session_id)
        return await self._db.write(lambda db: journal.fork(db, session_id, new_session_id, up_to))

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
        return await database.write(lambda db: leases.lease(db, session_id, owner, ttl_s, process))

    async def renew(self, session_id: str, fence: int, ttl_s: float = 30.0) -> None:
        """Prolong the lease from now. A fenced `append` does so as well when half the time is over.

        Raises:
            SessionFencedError: somebody took the session over.
        """
        await self._db.write(lambda db: leases.check_fence(db, session_id, fence, ttl_s))

    async def release(self, session_id: str, fence: int) -> None:
        """Give the session back; quiet when it was lost already."""
        await self._db.write(lambda db: leases.release(db, session_id, fence))

    async def holder(self, session_id: str) -> Holder | None:
        """Who may write to the session now."""
        return await self._db.read(lambda db: leases.holder(db, session_id))

    # -------------------------------------------------------------- approvals and ledger

    async def pending_approvals(self, session_id: str | None = None) -> list[Entry]:
        """Approvals nobody has answered yet, the oldest first."""
        return await self._db.read(lambda db: ledger.pending_approvals(db, session_id))

    async def approval(self, approval_id: str) -> Entry | None:
        return await self._db.read(lambda db: ledger.approval(db, approval_id))

    async def answer_approval(self, approval_id: str, state: str, answer: Any = None, answered_by: str = "") -> Entry:
        """Answer "allowed" or "denied"; the first answer holds, whichever process gave it.

        Raises:
            InvalidInputError: there is no such approval, or it has another answer.
        """
        said = None if answer is None else dump(answer, field="answer")
        return await self._db.write(lambda db: ledger.answer_approval(db, approval_id, state, said, answered_by))

    async def usage(
        self,
        session_id: str | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        group_by: str | None = None,
    ) -> list[UsageRow]:
        """Sums over model calls, or over tool calls for group_by="tool".

        Args:
            session_id: this session and its subagents only.
            since, until: seconds since 1970.
            group_by: day, hour (both UTC), model, server, session, purpose, outcome, run, tag, tool; None: one row.
        """
        return await self._db.read(lambda db: ledger.usage(db, session_id, since, until, group_by))

    async def spent(
        self,
        session_id: str | None = None,
        *,
        run_id: str | None = None,
        tag: str | None = None,
        since: float | None = None,
    ) -> UsageRow:
        """What all processes together have used, for budgets."""
        rows = await self._db.read(lambda db: ledger.usage(db, session_id, since, None, None, run_id, tag))
        return rows[0]

    async def cached(self, key: str) -> Any:
        """A kept response that has not expired; None: there is none."""
        return await self._db.read(lambda db: ledger.cached(db, key))

    async def cache(self, key: str, value: Any, ttl_s: float, session_id: str = "") -> None:
        """Keep a response, any JSON, for `ttl_s` seconds; deleting the session deletes it, without one any session."""
        text = dump(value)
        await self._db.write(lambda db: ledger.cache(db, key, text, ttl_s, session_id))

    # -------------------------------------------------------------- keeping house

    async def stats(self) -> dict[str, Any]:
        """How much is kept: rows per table, size_bytes, versions, first_at, last_at; and the sums of the ledger."""
        found = await self._db.read(upkeep.stats)
        sums = await self.spent()
        return {**found, "path": self.path, "total_tokens": sums.total_tokens, "cost_usd": sums.cost_usd}

    async def cleanup(self, older_than: Any = None, keep_last: int | None = None) -> int:
        """Delete sessions; returns how many. Sessions in use, or with a pending approval, stay.

        Args:
            older_than: last changed before this: a timedelta, a datetime, or seconds.
            keep_last: never the newest N; alone: all others.
        """
        before = upkeep.before_of(older_than)
        if keep_last is not None and keep_last < 0:
            raise InvalidInputError(f"keep_last={keep_last} is less than 0", field="keep_last", value=keep_last)
        if before is None and keep_last is None:
            return 0
        deleted = await self._db.write(lambda db: upkeep.cleanup(db, before, keep_last))
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

    def __repr__(self) -> str:
        return f"MemoryStore({self.path!r})"


_LEFT_TO_PARENT: list[Database] = []  # connections of a process that forked us; closing them here would harm it


def _place(db_path: str | os.PathLike[str] | None) -> str:
    path = os.fspath(default_path() if db_path is None else db_path)
    if not path or "\0" in path:
        raise ConfigurationError(
            f"{path!r} is no path of a file", field="db_path", value=path, allowed="a path, :memory:"
        )
    return path if path == IN_MEMORY else os.path.abspath(os.path.expanduser(path))
