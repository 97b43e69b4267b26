"""What stores on SQLite and PostgreSQL have in common: the life of their connections, and calls that only hand on.

The SQL itself is in modules of each database, with the same functions: journal, leases, ledger, upkeep.
"""

from __future__ import annotations

import atexit
import os
import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..errors import InvalidInputError
from .common import AnyStore, kinds_of
from .entries import Entry, checked_id, dump
from .leases import Process
from .seam import Holder, UsageRow
from .upkeep import before_of
from .words import like_pattern


class Connected(Protocol):
    """The connections of one process. Work is a function of a transaction; of PostgreSQL's, a coroutine function."""

    async def read(self, work: Callable[[Any], Any]) -> Any: ...

    async def write(self, work: Callable[[Any], Any]) -> Any: ...

    def shut(self, wait_s: float = 10.0) -> None: ...


D = TypeVar("D", bound=Connected)


class SqlStore(AnyStore, Generic[D]):
    """The part of a store that is the same on every SQL database."""

    path: str
    _journal: ClassVar[Any]  # modules
    _leases: ClassVar[Any]
    _ledger: ClassVar[Any]
    _upkeep: ClassVar[Any]

    @abstractmethod
    def _connections(self) -> D:
        """New connections; making them does no I/O."""

    @abstractmethod
    async def _matching(self, search: str) -> str | None:
        """The query of this database's index for what has all these words; None: no text has."""

    def _begin(self) -> None:
        self._pid, self._is_closed = os.getpid(), False
        self._process: Process | None = None
        self._connected = self._connections()
        _OPEN.add(self._connected)
        self._end = weakref.finalize(self, _let_go, self._connected)
        self._end.atexit = False  # `_close_all` does that, and waits

    def _taken_out(self) -> D:
        """The connections, which are the caller's to close, or nobody's, from now on."""
        self._end.detach()
        _OPEN.discard(self._connected)
        return self._connected

    @property
    def _db(self) -> D:
        if self._pid != os.getpid():  # a fork: connections, threads and locks stayed with the parent
            _LEFT_TO_PARENT.append(self._taken_out())
            self._begin()
        elif self._is_closed:
            self._begin()
        return self._connected

    # -------------------------------------------------------------- the journal

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
            include_rewound: also messages, interactions and checkpoints that were rewound or replaced.
        """
        journal, chosen = self._journal, kinds_of(kinds)
        found: list[Entry] = await self._db.read(
            lambda db: journal.load(db, session_id, after, chosen, limit, include_rewound)
        )
        return found

    async def session(self, session_id: str) -> Entry | None:
        """What is known of a session: title, summary, tags, model, message_count, last_seq, updated_at, …"""
        found: Entry | None = await self._db.read(lambda db: self._journal.session(db, session_id))
        return found

    async def list_sessions(
        self,
        limit: int = 50,
        offset: int = 0,
        tag: str | None = None,
        search: str | None = None,
        parent_session_id: str | None = None,
    ) -> list[Entry]:
        """Sessions, the last changed first. `search`: words of the title, the summary or what was said."""
        match, like = (await self._matching(search), like_pattern(search)) if search else (None, None)
        journal = self._journal
        found: list[Entry] = await self._db.read(
            lambda db: journal.list_sessions(db, limit, offset, tag, match, like, parent_session_id)
        )
        return found

    async def fork(self, session_id: str, new_session_id: str, up_to: int | None = None) -> int:
        """Copy a session's live messages, title and tags; returns the last seq of the copy.

        Args:
            up_to: the seq of the last message to copy; None: all.

        Raises:
            InvalidInputError: there is no such session, or the new id is taken.
        """
        checked_id("new_session_id", new_session_id)
        last: int = await self._db.write(lambda db: self._journal.fork(db, session_id, new_session_id, up_to))
        return last

    # -------------------------------------------------------------- one writer per session

    async def renew(self, session_id: str, fence: int, ttl_s: float = 30.0) -> None:
        """Prolong the lease from now. A fenced `append` does so as well when half the time is over.

        Raises:
            SessionFencedError: somebody took the session over.
        """
        await self._db.write(lambda db: self._leases.renew(db, session_id, fence, ttl_s))

    async def release(self, session_id: str, fence: int) -> None:
        """Give the session back; quiet when it was lost already."""
        await self._db.write(lambda db: self._leases.release(db, session_id, fence))

    async def holder(self, session_id: str) -> Holder | None:
        """Who may write to the session now."""
        found: Holder | None = await self._db.read(lambda db: self._leases.holder(db, session_id))
        return found

    # -------------------------------------------------------------- approvals and ledger

    async def pending_approvals(self, session_id: str | None = None) -> list[Entry]:
        """Approvals nobody has answered yet, the oldest first."""
        found: list[Entry] = await self._db.read(lambda db: self._ledger.pending_approvals(db, session_id))
        return found

    async def approval(self, approval_id: str) -> Entry | None:
        found: Entry | None = await self._db.read(lambda db: self._ledger.approval(db, approval_id))
        return found

    async def answer_approval(self, approval_id: str, state: str, answer: Any = None, answered_by: str = "") -> Entry:
        """Answer "allowed" or "denied"; the first answer holds, whichever process gave it.

        Raises:
            InvalidInputError: there is no such approval, or it has another answer.
        """
        ledger, said = self._ledger, None if answer is None else dump(answer, field="answer")
        found: Entry = await self._db.write(
            lambda db: ledger.answer_approval(db, approval_id, state, said, answered_by)
        )
        return found

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
        rows: list[UsageRow] = await self._db.read(
            lambda db: self._ledger.usage(db, session_id, since, until, group_by)
        )
        return rows

    async def spent(
        self,
        session_id: str | None = None,
        *,
        run_id: str | None = None,
        tag: str | None = None,
        since: float | None = None,
    ) -> UsageRow:
        """What all processes together have used, for budgets."""
        rows: list[UsageRow] = await self._db.read(
            lambda db: self._ledger.usage(db, session_id, since, None, None, run_id, tag)
        )
        return rows[0]

    async def cached(self, key: str) -> Any:
        """A kept response that has not expired; None: there is none."""
        return await self._db.read(lambda db: self._ledger.cached(db, key))

    async def cache(self, key: str, value: Any, ttl_s: float, session_id: str = "") -> None:
        """Keep a response, any JSON, for `ttl_s` seconds; deleting the session deletes it, without one any session."""
        text = dump(value)
        await self._db.write(lambda db: self._ledger.cache(db, key, text, ttl_s, session_id))

    # -------------------------------------------------------------- keeping house

    async def stats(self) -> dict[str, Any]:
        """How much is kept: rows per table, size_bytes, versions, first_at, last_at; and the sums of the ledger."""
        found = await self._db.read(self._upkeep.stats)
        sums = await self.spent()
        return {**found, "path": self.path, "total_tokens": sums.total_tokens, "cost_usd": sums.cost_usd}

    async def cleanup(self, older_than: Any = None, keep_last: int | None = None) -> int:
        """Delete sessions; returns how many. Sessions in use, or with a pending approval, stay.

        Args:
            older_than: last changed before this: a timedelta, a datetime, or seconds.
            keep_last: never the newest N; alone: all others.
        """
        before = before_of(older_than)
        if keep_last is not None and keep_last < 0:
            raise InvalidInputError(f"keep_last={keep_last} is less than 0", field="keep_last", value=keep_last)
        if before is None and keep_last is None:
            return 0
        deleted: int = await self._db.write(lambda db: self._upkeep.cleanup(db, before, keep_last))
        return deleted

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"


def _let_go(connected: Connected) -> None:
    """Close the connections of a store that was collected, without waiting.

    The collector runs in any thread: also in the writer's of another store, which holds the lock that this one's end
    needs, or in the event loop's.
    """
    _OPEN.discard(connected)
    connected.shut(wait_s=0.0)


@atexit.register
def _close_all() -> None:
    """At the program's end, close what nobody closed; nothing is collected here, so this may wait."""
    for connected in tuple(_OPEN):
        connected.shut()


_OPEN: set[Any] = set()  # connections of the stores there are
_LEFT_TO_PARENT: list[Any] = []  # connections of a process that forked us; closing them here would harm it
