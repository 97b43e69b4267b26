"""Runs, chapters and issues in one SQLite file, so that a run that stopped goes on where it was."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path

from ..errors import MemoryStoreError
from .issues import Issue, Rejected
from .records import ChapterRecord, RunRecord

FILE_NAME = "copy_edit_tracking.db"
_VERSION = 1
_WAIT_S = 10.0

_SCHEMA = """
CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, model TEXT NOT NULL, model_note TEXT NOT NULL,
    fingerprint TEXT NOT NULL, status TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT NOT NULL DEFAULT '');
CREATE TABLE chapters (
    run_id INTEGER NOT NULL REFERENCES runs, chapter_id TEXT NOT NULL, position INTEGER NOT NULL,
    line_count INTEGER NOT NULL, content_hash TEXT NOT NULL, status TEXT NOT NULL, repeats INTEGER NOT NULL,
    notes TEXT NOT NULL, model TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cost_usd REAL, duration_s REAL NOT NULL, error TEXT NOT NULL, PRIMARY KEY (run_id, chapter_id));
CREATE TABLE issues (
    run_id INTEGER NOT NULL, chapter_id TEXT NOT NULL, position INTEGER NOT NULL, line_number INTEGER NOT NULL,
    "column" INTEGER NOT NULL, current_text TEXT NOT NULL, category TEXT NOT NULL, severity TEXT NOT NULL,
    issue_text TEXT NOT NULL, suggestion TEXT NOT NULL, context TEXT NOT NULL, said_line INTEGER,
    PRIMARY KEY (run_id, chapter_id, position), FOREIGN KEY (run_id, chapter_id) REFERENCES chapters ON DELETE CASCADE);
CREATE TABLE rejected (
    run_id INTEGER NOT NULL, chapter_id TEXT NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL,
    raw TEXT NOT NULL, PRIMARY KEY (run_id, chapter_id, position),
    FOREIGN KEY (run_id, chapter_id) REFERENCES chapters ON DELETE CASCADE);
"""
_ISSUE = [field.name for field in fields(Issue)]
_CHAPTER = [field.name for field in fields(ChapterRecord) if field.name not in ("issues", "rejected", "notes")]


class CopyEditDatabase:
    """The tracking file; it is made at the first write. Every call opens it anew, so any thread may call.

    Raises:
        MemoryStoreError: (every method) the file cannot be used.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def begin_run(
        self, title: str, model: str, model_note: str, fingerprint: str, chapter_ids: Sequence[str], *, resume: bool
    ) -> int:
        """The run to work on: the last one, if it asked the same, is unfinished and has no other chapters; or a new.

        Args:
            fingerprint: stands for everything that shapes the answers; runs with different ones are never mixed.
        """
        with self._open() as db:
            run_id = self._unfinished(db, fingerprint, chapter_ids) if resume else None
            if run_id is None:
                added = db.execute(
                    "INSERT INTO runs (title, model, model_note, fingerprint, status, started_at) "
                    "VALUES (?, ?, ?, ?, 'running', ?)",
                    [title, model, model_note, fingerprint, _now()],
                )
                run_id = int(added.lastrowid or 0)
            db.execute("UPDATE runs SET status = 'running' WHERE run_id = ?", [run_id])
            for position, chapter_id in enumerate(chapter_ids, 1):
                waiting = _values(ChapterRecord(chapter_id, status="waiting"))
                _insert(db, "chapters", {**waiting, "run_id": run_id, "position": position}, "OR IGNORE")
                db.execute(
                    "UPDATE chapters SET position = ? WHERE run_id = ? AND chapter_id = ?",
                    [position, run_id, chapter_id],
                )
            return run_id

    def finish_run(self, run_id: int, *, is_whole: bool) -> None:
        with self._open() as db:
            db.execute(
                "UPDATE runs SET status = ?, finished_at = ? WHERE run_id = ?",
                ["finished" if is_whole else "incomplete", _now(), run_id],
            )

    def save_chapter(self, run_id: int, position: int, record: ChapterRecord) -> None:
        """Put a chapter in place of what the run knew of it, in one transaction."""
        values = {**_values(record), "run_id": run_id, "position": position}
        with self._open() as db:
            db.execute("DELETE FROM chapters WHERE run_id = ? AND chapter_id = ?", [run_id, record.chapter_id])
            _insert(db, "chapters", values)
            key: dict[str, object] = {"run_id": run_id, "chapter_id": record.chapter_id}
            for place, issue in enumerate(record.issues):
                _insert(db, "issues", {**key, "position": place, **{name: getattr(issue, name) for name in _ISSUE}})
            for place, one in enumerate(record.rejected):
                _insert(db, "rejected", {**key, "position": place, "reason": one.reason, "raw": one.raw})

    def load_run(self, run_id: int | None = None) -> RunRecord:
        """A run with all its chapters; None: the last one."""
        with self._open() as db:
            query = "SELECT * FROM runs WHERE ? IS NULL OR run_id = ? ORDER BY run_id DESC LIMIT 1"
            run = db.execute(query, [run_id, run_id]).fetchone()
            if run is None:
                raise MemoryStoreError(f"{self.path} knows no run {run_id or ''}".strip())
            rows = db.execute("SELECT * FROM chapters WHERE run_id = ? ORDER BY position", [run["run_id"]]).fetchall()
            chapters = tuple(_chapter(db, row) for row in rows)
        names = ("run_id", "title", "model", "model_note", "status", "started_at", "finished_at")
        return RunRecord(**{name: run[name] for name in names}, chapters=chapters)

    def _unfinished(self, db: sqlite3.Connection, fingerprint: str, chapter_ids: Sequence[str]) -> int | None:
        last = db.execute("SELECT * FROM runs ORDER BY run_id DESC LIMIT 1").fetchone()
        if last is None or last["fingerprint"] != fingerprint or last["status"] == "finished":
            return None
        rows = db.execute("SELECT chapter_id FROM chapters WHERE run_id = ?", [last["run_id"]])
        return int(last["run_id"]) if {row["chapter_id"] for row in rows} <= set(chapter_ids) else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection with the schema in place; what is done with it is one transaction."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                try:
                    self._check_version(db)
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise MemoryStoreError(f"{self.path} cannot be used: {error}") from error

    def _check_version(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise MemoryStoreError(f"{self.path} is of version {version}, this program writes version {_VERSION}")


def _values(record: ChapterRecord) -> dict[str, object]:
    return {**{name: getattr(record, name) for name in _CHAPTER}, "notes": json.dumps(record.notes, ensure_ascii=False)}


def _insert(db: sqlite3.Connection, table: str, values: dict[str, object], conflict: str = "") -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT {conflict} INTO {table} ({names}) VALUES ({marks})", list(values.values()))


def _chapter(db: sqlite3.Connection, row: sqlite3.Row) -> ChapterRecord:
    key = [row["run_id"], row["chapter_id"]]
    where = "WHERE run_id = ? AND chapter_id = ? ORDER BY position"
    issues = db.execute(f"SELECT * FROM issues {where}", key).fetchall()
    rejected = db.execute(f"SELECT reason, raw FROM rejected {where}", key).fetchall()
    return ChapterRecord(
        **{name: row[name] for name in _CHAPTER},
        notes=tuple(json.loads(row["notes"])),
        issues=tuple(Issue(**{name: one[name] for name in _ISSUE}) for one in issues),
        rejected=tuple(Rejected(one["reason"], one["raw"]) for one in rejected),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
