"""One SQLite file: a writing connection with group commit, a reading one beside it, and how the file is opened.

Rules, each for a measured reason: BEGIN IMMEDIATE always (a deferred transaction that turns into a writing one fails at
once, whatever the timeout), WAL, one writing connection per process, commits and checkpoints only under the lock file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from . import schema
from .link import Job, Link, T, Work
from .lock import FileLock
from .trouble import store_error

IN_MEMORY = ":memory:"
_CHECKPOINT_PAGES = 1_000
_LONGEST_END_S = 10.0
_MOST_WAL_BYTES = 16_000_000  # left on the disk after a large transaction


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the store lies: `$ANY_AGENT_HOME/memory.db`, else `~/.any_agent/memory.db`."""
    home = environ.get("ANY_AGENT_HOME")
    return (Path(home) if home else Path.home() / ".any_agent") / "memory.db"


class Database:
    """The connections to one file. Making one does no I/O.

    Args:
        path: the file; ":memory:" keeps nothing.
        durability: "power" syncs each commit to the disk, "process" leaves that to the system.
        busy_timeout_s: how long to wait for another program's lock.
        migrations: scripts; place n leads from version n to n + 1 of the tables.
    """

    def __init__(
        self,
        path: str,
        durability: Literal["power", "process"],
        busy_timeout_s: float,
        migrations: Sequence[str] = schema.MIGRATIONS,
    ) -> None:
        self.path = path
        self._migrations = migrations
        self.is_in_memory = path == IN_MEMORY
        self._synchronous = "FULL" if durability == "power" else "NORMAL"
        self._busy_timeout_s = busy_timeout_s
        self._file_lock = FileLock(None if self.is_in_memory else f"{path}-lock", busy_timeout_s)
        self.writer = Link(path, self._make_file, self._prepare_writer, self._write_all)
        self.reader = self.writer if self.is_in_memory else Link(path, self._make_file, self._prepare_reader, _read_all)
        self._is_open = False
        self._file: tuple[int, int] | None = None  # that was opened

    async def open(self) -> None:
        if not self._is_open:
            await self.writer.run(_nothing)
            self._is_open = True

    async def write(self, work: Work[T], *, is_synced: bool = True) -> T:
        """Do the work in a transaction, together with what other tasks wait for; it succeeds or fails alone.

        Args:
            is_synced: False: a power cut may undo it, when nothing synced was written after it.
        """
        return await self.writer.run(work, is_synced=is_synced)

    async def read(self, work: Work[T]) -> T:
        """Do the work on one snapshot of the data."""
        await self.open()
        return await self.reader.run(work)

    async def alone(self, work: Work[T]) -> T:
        """Do the work outside a transaction, while nobody else writes."""
        return await self.writer.run(work, is_alone=True)

    def shut(self, wait_s: float = _LONGEST_END_S) -> None:
        """Close both connections; waits for each for at most `wait_s`. Safe to call twice."""
        if self.reader is not self.writer:
            self.reader.shut(wait_s=wait_s)
        self.writer.shut(self._end, wait_s=wait_s)

    # ---------------------------------------------------------- in the writer's thread

    def _make_file(self) -> None:
        """Make the file before SQLite does, readable by the user only; SQLite gives its companions the same rights."""
        if self.is_in_memory:
            return
        Path(self.path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _prepare_writer(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1000)}")
        self._check_ours(db)  # before a lock file is laid beside what is another program's
        with self._file_lock:
            self._check_ours(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            db.execute("PRAGMA foreign_keys = ON")
            # In the commit, so under the lock file; without cutting the WAL, which would make each sync slower.
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {_MOST_WAL_BYTES}")
            db.execute("PRAGMA secure_delete = FAST")
            db.execute("PRAGMA temp_store = MEMORY")
            self._migrate(db)
            self._file = self._file_there()

    def _prepare_reader(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1000)}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -16000")  # kB

    def _check_ours(self, db: sqlite3.Connection) -> None:
        """Leave files alone that are not ours, or of a newer any_agent."""
        version, application = _number(db, "PRAGMA user_version"), _number(db, "PRAGMA application_id")
        if application == schema.APPLICATION_ID:
            if version > len(self._migrations):
                raise store_error(
                    self.path,
                    "newer_schema",
                    f"a newer any_agent wrote it (tables of version {version}, this one knows "
                    f"{len(self._migrations)}): upgrade any_agent, or name another file",
                )
        elif application or version or _number(db, "SELECT count(*) FROM sqlite_master"):
            raise store_error(self.path, "foreign_file", "it is another program's database: name another file")

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = _number(db, "PRAGMA user_version")
        if version == len(self._migrations):
            return
        if version and not self.is_in_memory:
            self.back_up(db, f"{self.path}.v{version}-backup")
        db.execute("BEGIN IMMEDIATE")
        try:
            for step in self._migrations[_number(db, "PRAGMA user_version") :]:
                for statement in statements(step):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(self._migrations)}")
            db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def back_up(self, db: sqlite3.Connection, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        target = sqlite3.connect(path)
        try:
            db.backup(target)
        finally:
            target.close()

    def _file_there(self) -> tuple[int, int] | None:
        """Which file the path leads to; None: to none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _write_all(self, db: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
        together = [job for job in jobs if not job.is_alone]
        if not self.is_in_memory and self._file_there() != self._file:  # SQLite would write on, where nobody finds it
            told = "it was deleted or replaced while it was open, so nothing is written: close() this store and go on"
            raise store_error(self.path, "io", told)
        with self._file_lock:
            if together and self._synchronous == "FULL" and not any(job.is_synced for job in together):
                with _unsynced(db):
                    _commit_together(db, together)
            elif together:
                _commit_together(db, together)
            for job in jobs:
                if job.is_alone:
                    _do(db, job)

    def _end(self, db: sqlite3.Connection) -> None:
        if self.reader is not self.writer:
            self.reader.wait(_LONGEST_END_S)  # who closes last cuts the WAL, and may only under the lock file
        with self._file_lock:
            if not self.is_in_memory:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("PRAGMA busy_timeout = 0")
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()
        self._file_lock.close()


def _commit_together(db: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
    """One transaction for all; a job that fails is undone alone."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if len(jobs) == 1:
            _do(db, jobs[0])
            if db.in_transaction:
                db.execute("COMMIT" if jobs[0].error is None else "ROLLBACK")
            return
        for job in jobs:
            db.execute("SAVEPOINT job")
            _do(db, job)
            if not db.in_transaction:  # a full disk undoes everything: the others try again without this one
                return _commit_together(db, [other for other in jobs if other.error is None])
            if job.error is not None:
                db.execute("ROLLBACK TO job")
            db.execute("RELEASE job")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _unsynced(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        db.execute("PRAGMA synchronous = FULL")


def _read_all(db: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
    for job in jobs:
        try:
            db.execute("BEGIN")
            _do(db, job)
        except sqlite3.Error as error:
            job.error = error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _do(db: sqlite3.Connection, job: Job[Any]) -> None:
    try:
        job.result = job.work(db)
    except BaseException as error:
        job.error = error


def _nothing(db: sqlite3.Connection) -> None:
    """Work that only opens the file."""


def _number(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would end the transaction."""
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        if line.rstrip().endswith(";") and sqlite3.complete_statement(text := "\n".join(lines)):
            yield text
            lines = []
