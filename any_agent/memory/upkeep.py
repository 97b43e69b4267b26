"""Keeping house: deleting, cleaning up, checking, figures about the store itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from time import time
from typing import Any

from ..errors import InvalidInputError
from . import leases
from .indexing import after_deleting
from .ledger import TREE
from .schema import VERSION

COUNTED = (
    "sessions", "messages", "interactions", "tool_calls", "model_calls", "audits", "approvals", "checkpoints", "events",
    "documents", "texts", "vectors", "responses",
)  # fmt: skip


def delete(db: sqlite3.Connection, session_ids: Iterable[str], keep_ledger: bool) -> int:
    """Delete sessions and those of their subagents, in all tables."""
    doomed: set[str] = set()
    for session_id in session_ids:
        doomed.update(row[0] for row in db.execute(f"{TREE}SELECT session_id FROM tree", {"session_id": session_id}))
    doomed.discard("")
    deleted = 0
    for session_id in sorted(doomed):
        if keep_ledger:
            _detach_ledger(db, session_id)
        db.execute("DELETE FROM model_calls WHERE parent_session_id = ?", (session_id,))
        leases.forget(db, session_id)
        db.execute("DELETE FROM responses WHERE session_id = ?", (session_id,))
        deleted += db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,)).rowcount
    if deleted:  # answers that agents cached belong to nobody: who asked for them may be among the deleted
        db.execute("DELETE FROM responses WHERE session_id = ''")
    after_deleting(db)
    return deleted


def _detach_ledger(db: sqlite3.Connection, session_id: str) -> None:
    """Leave the figures of the session's calls, and nothing that tells whose they were."""
    rows = db.execute(
        "SELECT id FROM model_calls WHERE session_id = :id OR parent_session_id = :id ORDER BY id", {"id": session_id}
    ).fetchall()
    last = int(db.execute("SELECT last_seq FROM sessions WHERE session_id = ''").fetchone()[0])
    db.executemany(
        "UPDATE model_calls SET session_id = '', seq = ?, run_id = NULL, parent_session_id = NULL, extra = NULL "
        "WHERE id = ?",
        [(last + place, row[0]) for place, row in enumerate(rows, 1)],
    )
    db.execute("UPDATE sessions SET last_seq = ? WHERE session_id = ''", (last + len(rows),))


def tagged(db: sqlite3.Connection, tag: str) -> list[str]:
    return [row[0] for row in db.execute("SELECT session_id FROM session_tags WHERE tag = ?", (tag,))]


def cleanup(db: sqlite3.Connection, before: float | None, keep_last: int | None) -> int:
    """Delete sessions last changed before a time, but not the newest `keep_last`, and none somebody works on."""
    old = [
        row[0]
        for row in db.execute(
            "SELECT session_id FROM sessions WHERE session_id <> '' AND parent_session_id IS NULL AND updated_at < ? "
            "AND session_id NOT IN (SELECT session_id FROM sessions "
            "WHERE session_id <> '' AND parent_session_id IS NULL ORDER BY updated_at DESC, session_id LIMIT ?) "
            "AND session_id NOT IN (SELECT session_id FROM approvals WHERE state = 'pending') "
            "AND session_id NOT IN (SELECT session_id FROM leases WHERE expires_at > ?)",
            (before if before is not None else float("inf"), keep_last or 0, time()),
        )
    ]
    deleted = delete(db, old, keep_ledger=False)
    db.execute("DELETE FROM responses WHERE expires_at <= ?", (time(),))
    if before is not None:
        for table in ("model_calls", "audits", "interactions"):
            db.execute(f"DELETE FROM {table} WHERE session_id = '' AND created_at < ?", (before,))
        db.execute("DELETE FROM texts WHERE session_id = '' AND source <> 'document' AND created_at < ?", (before,))
        after_deleting(db)
    return deleted


def before_of(older_than: Any) -> float | None:
    """The time (seconds since 1970) that a timedelta, a datetime or a number of seconds leads back to.

    Raises:
        InvalidInputError: it is none of these.
    """
    match older_than:
        case None:
            return None
        case datetime():
            return older_than.timestamp()
        case timedelta() if older_than >= timedelta():
            return time() - older_than.total_seconds()
        case bool():
            pass
        case int() | float() if older_than >= 0:  # an age that is not yet would delete all
            return time() - older_than
    raise InvalidInputError(
        f"older_than is a timedelta, a datetime or seconds, at least 0, not {older_than!r:.80}",
        field="older_than",
        value=older_than,
    )


def forget_index_words(db: sqlite3.Connection) -> None:
    """Merge the index, so that words of deleted texts leave it."""
    db.execute("INSERT INTO texts_fts (texts_fts) VALUES ('optimize')")


def vacuum(db: sqlite3.Connection) -> None:
    """Write the file anew: nothing deleted is left in it or in its WAL. Outside a transaction."""
    forget_index_words(db)
    db.execute("VACUUM")
    if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise sqlite3.OperationalError(
            "database is locked by a reader: what was deleted is still in its WAL; vacuum again"
        )


def integrity_check(db: sqlite3.Connection) -> list[str]:
    """What is wrong with the file; [] when nothing is. Outside a transaction."""
    found: list[str] = []
    try:
        found += [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"{row[0]} row {row[1]}: its {row[2]} is missing" for row in db.execute("PRAGMA foreign_key_check")]
        db.execute("INSERT INTO texts_fts (texts_fts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        found.append(str(error))
    return found


def stats(db: sqlite3.Connection) -> dict[str, Any]:
    """How much is kept, and what was used."""
    found: dict[str, Any] = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COUNTED}
    found["sessions"] -= 1  # the row of entries without a session
    pages = db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0]
    found["size_bytes"] = pages * db.execute("PRAGMA page_size").fetchone()[0]
    found["schema_version"] = VERSION
    found["sqlite_version"] = sqlite3.sqlite_version
    found["first_at"], found["last_at"] = db.execute(
        "SELECT min(created_at), max(updated_at) FROM sessions WHERE session_id <> ''"
    ).fetchone()
    return found
