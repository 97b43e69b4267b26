"""Words go into the search index later than messages into their table: in batches, or when somebody searches.

An index entry by entry would double what a commit writes. What was read into it already is told by two marks in `meta`.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from .entries import clean, spoken
from .live import LIVE
from .words import searchable

EVERY = 64  # messages of a batch
_AT_ONCE = 2_000  # rows of one transaction
_NEW = {
    "message": "SELECT id, session_id, seq, created_at, role, content, extra FROM messages "
    f"WHERE id > ? AND {LIVE['message']}",
    "interaction": "SELECT id, session_id, seq, created_at, NULL, prompt, response FROM interactions "
    f"WHERE id > ? AND {LIVE['interaction']}",
}
_TABLES = {"message": "messages", "interaction": "interactions"}


def is_behind(db: sqlite3.Connection) -> bool:
    """Something was said that search does not know yet."""
    return any(_last(db, source) > _mark(db, source) for source in _NEW)


def catch_up(db: sqlite3.Connection) -> bool:
    """Read what is new into the index; True: there is more."""
    is_more = False
    for source, query in _NEW.items():
        mark, last = _mark(db, source), _last(db, source)
        if last <= mark:
            continue
        rows = db.execute(f"{query} ORDER BY id LIMIT ?", (mark, _AT_ONCE)).fetchall()
        db.executemany(
            "INSERT INTO texts (source, session_id, seq, role, created_at, text) VALUES (?, ?, ?, ?, ?, ?)",
            [(source, row[1], row[2], row[4], row[3], text) for row in rows if (text := _text(source, row))],
        )
        is_full = len(rows) == _AT_ONCE
        db.execute("REPLACE INTO meta VALUES (?, ?)", (f"indexed {source}", rows[-1][0] if is_full else last))
        is_more = is_more or is_full
    return is_more


def after_deleting(db: sqlite3.Connection) -> None:
    """Numbers of deleted rows are given to new ones: what comes next is new to the index."""
    for source in _NEW:
        mark = min(_mark(db, source), _last(db, source))
        db.execute("REPLACE INTO meta VALUES (?, ?)", (f"indexed {source}", mark))


def _text(source: str, row: tuple[Any, ...]) -> str:
    if source == "interaction":
        return searchable(f"{row[5]}\n{row[6]}")
    given = json.loads(row[6]).get("text") if row[6] else None
    return searchable(clean(given if isinstance(given, str) else spoken(json.loads(row[5]))))


def _mark(db: sqlite3.Connection, source: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (f"indexed {source}",)).fetchone()
    return int(row[0]) if row else 0


def _last(db: sqlite3.Connection, source: str) -> int:
    return int(db.execute(f"SELECT coalesce(max(id), 0) FROM {_TABLES[source]}").fetchone()[0])
