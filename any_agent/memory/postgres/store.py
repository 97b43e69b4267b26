"""PostgresStore: the same store as MemoryStore, on a PostgreSQL server, for many processes and machines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from ...errors import ConfigurationError, SessionFencedError
from .. import upkeep, vectors
from ..common import interaction_of, rows_of
from ..documents import Document
from ..entries import checked_id
from ..finding import Filters, fused
from ..leases import Process
from ..seam import Hit
from ..sql_store import SqlStore
from . import finding, journal, leases, ledger
from .link import Link, Transaction, Work, shown
from .schema import migrate
from .words import query_all


class PostgresStore(SqlStore[Link]):
    """Keeps what must not be lost on a PostgreSQL server (13 or newer). Making one does no I/O.

    One store may serve any number of tasks, and several event loops. Close it, or use `async with`. Needs the extra
    `postgres`.

    Args:
        dsn: `postgresql://user:password@host:5432/database`, or libpq's `host=… dbname=…`; "": the PG* variables.
        schema: where its tables are; it is made when it is not there.
        durability: "power": what was acknowledged survives whatever the server survives (its `fsync` must be on, which
            is the default); "process": faster, and a crash of the server may take the last second.
        max_connections: of one event loop.
        embed: a function, may be async, from texts to vectors; then `search` finds by meaning too.
        embedding_model: the name of its model; vectors of different models are kept apart.
        busy_timeout_s: how long to wait for a lock that another transaction holds.
    """

    _journal: ClassVar[Any] = journal
    _leases: ClassVar[Any] = leases
    _ledger: ClassVar[Any] = ledger
    _upkeep: ClassVar[Any] = ledger

    def __init__(
        self,
        dsn: str = "",
        *,
        schema: str = "any_agent",
        durability: Literal["power", "process"] = "power",
        max_connections: int = 8,
        embed: vectors.Embed | None = None,
        embedding_model: str = "default",
        busy_timeout_s: float = 30.0,
    ) -> None:
        if durability not in ("power", "process"):
            raise _not_allowed("durability", durability, "power, process")
        if max_connections < 1:
            raise _not_allowed("max_connections", max_connections, "1 or more")
        if not 0 < len(schema.encode()) < 64 or "\0" in schema:
            raise _not_allowed("schema", schema, "1 to 63 bytes")
        self.path, self.schema = shown(dsn, schema), schema
        self._embed, self._embedding_model = embed, embedding_model
        self._nearest = finding.Nearest()
        prepare = partial(migrate, path=self.path, schema=schema)
        self._settings = (dsn, self.path, schema, durability, max_connections, busy_timeout_s, prepare)
        self._begin()

    def _connections(self) -> Link:
        return Link(*self._settings)

    async def _matching(self, search: str) -> str | None:
        return query_all(search)

    async def open(self) -> None:
        """Make it ready: the schema, its tables, their migrations. Other calls do it themselves.

        Raises:
            MemoryStoreError: the server cannot be used; says why and what to do.
            MissingExtraError: psycopg is not installed.
        """
        await self._db.open()

    async def aclose(self) -> None:
        """Finish what is being done and close all connections. Safe to call twice; the next use opens it again."""
        if not self._is_closed:
            link, self._is_closed = self._db, True
            self._taken_out()
            await link.close()

    # -------------------------------------------------------------- the journal

    async def append(
        self,
        session_id: str,
        entries: Sequence[Mapping[str, Any]],
        *,
        fence: int | None = None,
        is_last: bool = False,
    ) -> int:
        """Keep all entries or none; returns the seq of the last one, committed when this returns.

        Raises:
            SessionFencedError: `fence` is not the session's current one.
            InvalidInputError: something is no entry.
            MemoryStoreError: the server could not take it. Nothing was written in any of these cases, but for one: a
                connection that breaks in the middle of a commit. The next call with this fence finds out, and raises
                SessionFencedError when the entries were written after all.
        """
        rows, link = rows_of(session_id, entries), self._db
        if session_id in link.doubts and await self._was_written(session_id) and fence is not None:
            raise SessionFencedError(
                f"the connection broke while session {session_id!r} was written to; it was: resume it to go on",
                session_id=session_id,
                holder=None,
            )
        return await link.write(lambda tx: journal.append(tx, session_id, rows, fence, is_last))

    async def _was_written(self, session_id: str) -> bool:
        """What became of the commit whose answer was lost; a doubt stays until the session is leased anew."""
        link = self._db
        if await link.outcome(link.doubts[session_id]) == "undone":
            del link.doubts[session_id]
            return False
        return True

    async def delete(self, session_id: str, *, keep_ledger: bool = False) -> int:
        """Delete a session and its subagents' sessions; returns how many. The server's backups are not touched.

        Args:
            keep_ledger: leave the figures of their model calls, without a session.
        """
        return await self._deleted(lambda tx: ledger.delete(tx, [session_id], keep_ledger))

    async def delete_tag(self, tag: str, *, keep_ledger: bool = False) -> int:
        """Delete all sessions that have the tag, as `delete` does; returns how many."""
        return await self._deleted(lambda tx: ledger.delete_tag(tx, tag, keep_ledger))

    async def _deleted(self, work: Work[int]) -> int:
        deleted = await self._db.write(work)
        if deleted:
            await self.vacuum()
        return deleted

    # -------------------------------------------------------------- one writer per session

    async def lease(self, session_id: str, owner: str, ttl_s: float = 30.0) -> int:
        """Become the session's only writer for `ttl_s` seconds of the server's clock; returns the fence for `append`.

        A lease that ran out, or whose process on this machine is dead, is taken over. The owner gets a new fence. Each
        fence is one above the session's last: who gets its own plus one knows that nobody held it in between. After a
        commit whose answer was lost it is two above, so that the owner reads the session anew.

        Raises:
            SessionBusyError: somebody else holds it; `holder` says who.
        """
        checked_id("session_id", session_id)
        checked_id("owner", owner)
        link = self._db
        process = self._process = self._process or Process.own()
        is_doubtful = session_id in link.doubts and await self._was_written(session_id)
        fence = await link.write(lambda tx: leases.lease(tx, session_id, owner, ttl_s, process, is_doubtful))
        link.doubts.pop(session_id, None)
        return fence

    # -------------------------------------------------------------- finding

    async def search(
        self,
        query: str,
        limit: int = 5,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        role: str | None = None,
        sources: Sequence[str] | None = None,
        since: float | None = None,
    ) -> list[Hit]:
        """What was said, or stands in indexed documents, best first; see `MemoryStore.search`."""
        filters, most = Filters(session_id, tag, role, sources, since), 4 * limit
        if limit < 1:
            return []
        wanted = await self._query_vector(query)

        async def find(tx: Transaction) -> list[Hit]:
            found = await finding.ranked(tx, query, most, filters)
            if wanted is not None:
                near = await self._nearest.find(tx, self._embedding_model, wanted, most, filters)
                found = fused([[one for one, _ in some] for some in (found, near)], most)
            if sources is None:
                found = await finding.without_echoes(tx, found)
            return await finding.hits(tx, found[:limit], query)

        return await self._db.read(find)

    async def _without_vector(self, limit: int) -> Sequence[tuple[int, str]]:
        model, size_bytes = self._embedding_model, self._vector_bytes
        return await self._db.read(lambda tx: finding.without_vector(tx, model, limit, size_bytes))

    async def _put_vectors(self, rows: Sequence[tuple[int, bytes]]) -> None:
        await self._db.write(partial(finding.put_vectors, model=self._embedding_model, rows=rows))

    async def _interactions(self, hits: Sequence[Hit] | None, limit: int) -> list[dict[str, Any]]:
        async def find(tx: Transaction) -> list[dict[str, Any]]:
            if hits is None:
                scores = dict.fromkeys(await finding.newest_interactions(tx, limit), 0.0)
            else:
                scores = {(hit.session_id, hit.seq or 0): hit.score for hit in hits}
            rows = await finding.interactions(tx, list(scores))
            return [interaction_of(*key, rows[key], score) for key, score in scores.items() if key in rows]

        return await self._db.read(find)

    async def _digests(self, root: str) -> dict[str, str]:
        return await self._db.read(lambda tx: finding.digests(tx, root, os.sep))

    async def _put_document(self, document: Document) -> None:
        await self._db.write(lambda tx: finding.put_document(tx, document))

    async def _remove_documents(self, paths: Sequence[str]) -> int:
        return await self._db.write(lambda tx: finding.remove_documents(tx, paths)) if paths else 0

    # -------------------------------------------------------------- keeping house

    async def vacuum(self) -> None:
        """Let the server use the space of what was deleted again, while others go on."""
        tables = [*upkeep.COUNTED, "session_tags", "leases", "rewinds"]
        await self._db.alone(f"VACUUM (SKIP_LOCKED) {', '.join(tables)}")

    async def integrity_check(self) -> list[str]:
        """What is wrong with the entries; [] when nothing is."""
        return await self._db.read(ledger.integrity_check)


def _not_allowed(field: str, value: Any, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{field}={value!r} must be {allowed}", field=field, value=value, allowed=allowed)
