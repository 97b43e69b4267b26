"""Connections to a PostgreSQL server, a few for each event loop. The one door to psycopg.

Work is a coroutine function of a transaction. It is done on one connection in two round trips or more: statements that
need no answer wait for the next one that does, or for the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ...errors import AnyAgentError, InvalidInputError, MemoryStoreError, MissingExtraError
from ..trouble import store_error

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

T = TypeVar("T")
OLDEST_SERVER = 130_000
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_MOST_TRIES = 5
_IDLE_S = 300.0  # then a connection that nobody needs is closed
# What the server says when its connections end, and when two transactions were in each other's way.
_GONE = {"57P01", "57P02", "57P03", "57P05"}
_IN_THE_WAY = {"40001", "40P01"}
# (start of SQLSTATE, reason, what to do)
_TABLE = (
    ("55P03", "locked", "somebody else holds it for long: wait and try again"),
    ("53100", "disk_full", "the server's disk is full: free some space and try again; what was saved before is safe"),
    ("53300", "unavailable", "the server has no connection left: lower max_connections, or raise the server's"),
    ("53", "unavailable", "the server is out of means: try again later"),
    ("25006", "read_only", "the server takes no writes now (a standby, or default_transaction_read_only)"),
    ("42501", "read_only", "the role lacks a right: GRANT it CREATE on the database, or ALL on the schema's tables"),
    ("42P01", "io", "its tables are gone: they are made anew at the next call"),
    ("3F000", "io", "its tables are gone: they are made anew at the next call"),
    ("XX", "corrupt", "the server finds its data damaged: restore a backup"),
    ("58", "io", "the server cannot read or write its files"),
)  # fmt: skip
# Values that PostgreSQL does not take: NUL, what is too long for an index, what was there already.
_BAD_VALUE = ("22", "23", "54")


@dataclass(frozen=True, slots=True)
class Witness:
    """An append to a session: its mark in the session's row, and the session's last number by it."""

    session_id: str
    mark: str
    seq: int


class Transaction:
    """An open transaction. Values stand for `%s` in the statements.

    Attributes: witness (what tells later whether it was committed, where the work leaves something).
    """

    __slots__ = ("_db", "_pipeline", "witness")

    def __init__(self, db: Connection, pipeline: Any) -> None:
        self._db, self._pipeline = db, pipeline
        self.witness: Witness | None = None

    async def send(self, statement: str, values: Any = None) -> Any:
        """Send a statement without waiting for it; the answer has `fetchone` and `fetchall`."""
        return await self._db.execute(statement, values)  # type: ignore[call-overload,unused-ignore]

    async def one(self, statement: str, values: Any = None) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = await (await self.send(statement, values)).fetchone()
        return row

    async def all(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await (await self.send(statement, values)).fetchall()
        return rows

    async def count(self, statement: str, values: Any = None) -> int:
        """How many rows a statement changed."""
        answer = await self.send(statement, values)
        await self._pipeline.sync()
        return max(0, int(answer.rowcount))


Work = Callable[[Transaction], Awaitable[T]]


class Pool:
    """The connections of one event loop."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = asyncio.Semaphore(size)
        self.idle: list[tuple[Connection, float]] = []
        self.is_closed = False

    def next_idle(self) -> Connection | None:
        while self.idle:
            db, _ = self.idle.pop()
            if not db.closed:
                return db
        return None

    def give_back(self, db: Connection, is_sound: bool) -> None:
        now = monotonic()
        while self.idle and now - self.idle[0][1] > _IDLE_S:
            _finish(self.idle.pop(0)[0])
        if is_sound and not self.is_closed and not db.closed:
            self.idle.append((db, now))
        else:
            _finish(db)
        self.free.release()

    def drop_idle(self) -> None:
        """Close what is not in use. No event loop is needed for it."""
        while self.idle:
            _finish(self.idle.pop()[0])


def _finish(db: Connection) -> None:
    """Close a connection without an event loop; it is held until then, or it would complain of being left open."""
    db.pgconn.finish()


class Link:
    """The way to one database. Making one does no I/O.

    Attributes: doubts (by session id, the append whose commit was not answered).
    """

    def __init__(
        self,
        dsn: str,
        path: str,
        schema: str,
        durability: Literal["power", "process"],
        max_connections: int,
        busy_timeout_s: float,
        prepare: Work[None],
    ) -> None:
        self.path = path
        self.doubts: dict[str, Witness] = {}
        self._dsn, self._max_connections, self._prepare = dsn, max_connections, prepare
        self._is_ready = False
        self._settings = {
            "search_path": '"' + schema.replace('"', '""') + '"',
            "lock_timeout": f"{round(busy_timeout_s * 1000)}ms",
            # A program that hangs in a transaction must not keep others from its sessions.
            "idle_in_transaction_session_timeout": "60s",
            "synchronous_commit": "on" if durability == "power" else "off",
            "timezone": "UTC",
        }
        self._lock = threading.RLock()  # a store that is forgotten is shut wherever Python collects it, in here too
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._pid = os.getpid()

    # ---------------------------------------------------------- work

    async def open(self) -> None:
        if not self._is_ready:
            await self._transact(_WRITE, self._prepare)
            self._is_ready = True

    async def write(self, work: Work[T]) -> T:
        """Do the work in a transaction of its own; it may be done again when the server undid it."""
        await self.open()
        return await self._transact(_WRITE, work)

    async def read(self, work: Work[T]) -> T:
        """Do the work on one snapshot of the data."""
        await self.open()
        return await self._transact(_READ, work)

    async def alone(self, statement: str) -> None:
        """A statement that stands outside of transactions."""
        await self.open()
        pool, db, _ = await self._take()
        try:
            await db.execute(statement)  # type: ignore[call-overload,unused-ignore]
        except BaseException as error:
            pool.give_back(db, False)
            raise self._explained(error) from None
        pool.give_back(db, True)

    async def _transact(self, begin: str, work: Work[T], end: str = "COMMIT") -> T:
        for tries_left in reversed(range(_MOST_TRIES)):
            pool, db, was_idle = await self._take()
            tx, is_committing, is_unknown = None, False, False
            try:
                async with db.pipeline() as pipeline:
                    await db.execute(begin)  # type: ignore[call-overload,unused-ignore]
                    tx = Transaction(db, pipeline)
                    result = await work(tx)
                    is_committing = True
                    await db.execute(end)  # type: ignore[call-overload,unused-ignore]
            except BaseException as error:
                is_lost = await self._clear(pool, db, error)
                code = getattr(error, "sqlstate", None)
                if is_lost and is_committing and tx is not None and tx.witness is not None:
                    outcome = await self._settled(tx.witness, is_cancelled=not isinstance(error, Exception))
                    if outcome == "committed":
                        return result
                    was_idle, is_unknown = outcome == "undone", outcome == "unknown"
                if tries_left and ((is_lost and was_idle and isinstance(error, Exception)) or code in _IN_THE_WAY):
                    continue
                raise self._explained(error, is_lost, is_unknown) from None
            pool.give_back(db, True)
            return result
        raise AssertionError

    async def _clear(self, pool: Pool, db: Connection, error: BaseException) -> bool:
        """Give back the connection of a failed transaction; True: it was lost."""
        is_lost = db.closed or getattr(error, "sqlstate", None) in _GONE or not isinstance(error, Exception)
        if not is_lost:
            try:
                await db.rollback()
            except BaseException as failure:
                pool.give_back(db, False)
                if not isinstance(failure, Exception):
                    raise
                return True
        pool.give_back(db, not is_lost)
        if is_lost and isinstance(error, Exception):
            pool.drop_idle()  # they were lost with it, most likely
        return is_lost

    async def _settled(self, witness: Witness, *, is_cancelled: bool) -> str:
        """What became of an append whose commit was not answered; a doubt is noted."""
        outcome = "unknown"
        if not is_cancelled:
            with contextlib.suppress(MemoryStoreError):
                outcome = await self.outcome(witness)
        if outcome == "unknown":
            self.doubts[witness.session_id] = witness
        return outcome

    async def outcome(self, witness: Witness) -> str:
        """committed, undone, or unknown: somebody else has written since, or is writing.

        The server's `pg_xact_status` cannot tell: after a crash it gives the number of a lost transaction to another.

        Raises:
            MemoryStoreError: the server cannot be asked.
        """
        # Waits for a transaction that is still writing to the session, even one that makes it; writes nothing.
        row = await self._transact(
            _WRITE,
            lambda tx: tx.one(
                "INSERT INTO sessions AS s (session_id, updated_at, created_at) VALUES (%s, 0, 0) "
                "ON CONFLICT (session_id) DO UPDATE SET last_seq = s.last_seq RETURNING last_append, last_seq",
                (witness.session_id,),
            ),
            "ROLLBACK",
        )
        mark, seq = row or (None, 0)
        if mark == witness.mark:
            return "committed"
        return "undone" if seq < witness.seq else "unknown"

    # ---------------------------------------------------------- connections

    async def _take(self) -> tuple[Pool, Connection, bool]:
        """A connection, its pool, and whether it was used before."""
        pool = self._pool()
        await pool.free.acquire()
        try:
            db = pool.next_idle()
            return (pool, db, True) if db is not None else (pool, await self._connected(), False)
        except BaseException:
            pool.free.release()
            raise

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        with self._lock:
            pool = self._pools.get(loop)
            if pool is None:
                for other in [one for one in self._pools if one.is_closed()]:
                    self._pools.pop(other).drop_idle()
                pool = self._pools[loop] = Pool(self._max_connections)
            return pool

    async def _connected(self) -> Connection:
        psycopg = _psycopg()
        try:
            given = psycopg.conninfo.conninfo_to_dict(self._dsn)
            usual = {"connect_timeout": 10, "application_name": "any_agent", "tcp_user_timeout": 30_000}
            wanted = {**usual, **given, "client_encoding": "UTF8"}
            db: Connection = await psycopg.AsyncConnection.connect(**wanted, autocommit=True)
        except Exception as error:
            raise self._explained(error, is_lost=True) from None
        try:
            db.adapters.register_loader("json", psycopg.types.string.TextLoader)  # entries.decode reads it
            if db.info.server_version < OLDEST_SERVER:
                raise store_error(self.path, "foreign_file", "the server is older than PostgreSQL 13: upgrade it")
            if db.info.parameter_status("server_encoding") != "UTF8":
                raise store_error(self.path, "foreign_file", "the database is not in UTF-8: make one that is")
            calls = ", ".join(["set_config(%s, %s, false)"] * len(self._settings))
            await db.execute(f"SELECT {calls}", [part for pair in self._settings.items() for part in pair])
        except BaseException as error:
            _finish(db)
            raise self._explained(error, is_lost=True) from None
        return db

    async def close(self) -> None:
        """Let what is being done in this event loop come to its end, then close all connections."""
        with self._lock:
            own = self._pools.pop(asyncio.get_running_loop(), None)
        if own is not None:
            own.is_closed = True
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_all_of(own), 10)
            own.drop_idle()
        self.shut()

    def shut(self, wait_s: float = 0.0) -> None:
        """Close all connections that are not in use. Safe to call twice, from any thread, and after a fork.

        It never waits, whatever `wait_s` is: to finish a connection is to send one packet without blocking.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.is_closed = True
            pool.drop_idle()

    # ---------------------------------------------------------- trouble

    def _explained(self, error: BaseException, is_lost: bool = False, is_unknown: bool = False) -> BaseException:
        """Errors of psycopg as ours; all others as they are."""
        if isinstance(error, AnyAgentError) or not isinstance(error, Exception):
            return error
        if isinstance(error, UnicodeError):
            return InvalidInputError(f"the store cannot take that value: {error}")
        psycopg = _psycopg()
        if isinstance(error, OSError):
            return store_error(self.path, "unavailable", f"the server cannot be reached: {error}")
        if not isinstance(error, psycopg.Error):
            return error
        said, code = " ".join(_without_secrets(str(error)).split()), error.sqlstate or ""
        for start, reason, advice in _TABLE:
            if code.startswith(start):
                self._is_ready = self._is_ready and code not in ("42P01", "3F000")
                return store_error(self.path, reason, f"{advice} (PostgreSQL: {said})")
        if code.startswith(_BAD_VALUE) or (isinstance(error, psycopg.DataError) and not code):
            return InvalidInputError(f"the store cannot take that value: {said}")
        if is_lost or code.startswith(("08", "57P", "28", "3D")):
            written = "; whether it still wrote the last entries is not known" if is_unknown else ""
            told = f"the server cannot be reached{written}; the next call tries again (PostgreSQL: {said})"
            return store_error(self.path, "unavailable", told)
        return store_error(self.path, "io", f"PostgreSQL: {said}")


async def _all_of(pool: Pool) -> None:
    for _ in range(pool.size):
        await pool.free.acquire()


def _psycopg() -> Any:
    try:
        import psycopg
        import psycopg.types.string
    except ImportError as error:
        raise MissingExtraError(
            f"PostgresStore needs psycopg ({error}): pip install 'any-agent-harness[postgres]'", extra="postgres"
        ) from None
    return psycopg


_SECRETS = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]*)", re.I)
_IN_URL = re.compile(r"(//[^:/@\s]*):[^/\s]*@")


def _without_secrets(text: str) -> str:
    return _IN_URL.sub(r"\1:***@", _SECRETS.sub(r"\1***", text))


def shown(dsn: str, schema: str, environ: Sequence[str] = ("PGSERVICE", "PGHOST", "PGPORT", "PGDATABASE")) -> str:
    """Where a store is, for people to read; without passwords."""
    said = _without_secrets(dsn) or " ".join(f"{n[2:].lower()}={os.environ[n]}" for n in environ if n in os.environ)
    return f"{said or 'PostgreSQL'} (schema {schema})"
