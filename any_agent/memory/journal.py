"""Entries in, entries out: SQL on the tables of sessions. Every function runs inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from time import time
from typing import Any

from ..errors import InvalidInputError
from .entries import KINDS, SESSION, Entry, Kind, Row, decode, dump, with_defaults
from .indexing import EVERY, catch_up
from .leases import check_fence, release
from .live import LIVE

_INSERT = {
    name: f"INSERT INTO {kind.table} (session_id, seq, {', '.join(kind.names)}) "
    f"VALUES ({', '.join('?' * (len(kind.names) + 2))})"
    for name, kind in KINDS.items()
}
_SELECT = {name: f"SELECT seq, {', '.join(kind.names)} FROM {kind.table}" for name, kind in KINDS.items()}
_SAID = (
    "session_id IN (SELECT t.session_id FROM texts t WHERE t.id IN "
    "(SELECT rowid FROM texts_fts WHERE texts_fts MATCH ? ORDER BY rowid DESC LIMIT ?))"
)
_MOST_LOOKED_THROUGH = 5_000  # texts with a word, the newest, whose sessions are listed
_COLUMNS = {name: ("seq", *kind.names) for name, kind in KINDS.items()}


def append(
    db: sqlite3.Connection, session_id: str, rows: Sequence[Row], fence: int | None, is_last: bool = False
) -> int:
    """Add the rows; returns the seq of the last one. Makes the session when there is none."""
    known = check_fence(db, session_id, fence) if fence is not None else None
    seq = last_seq(db, session_id) if known is None else known
    for row in rows:
        seq += 1
        _ADD.get(row.kind.name, _insert)(db, session_id, seq, row)
    db.execute(
        "UPDATE sessions SET last_seq = ?, updated_at = max(updated_at, ?) WHERE session_id = ?",
        (seq, time(), session_id),
    )
    if is_last and fence is not None:
        release(db, session_id, fence)
    return seq


def last_seq(db: sqlite3.Connection, session_id: str) -> int:
    found = db.execute("SELECT last_seq FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    if found:
        return int(found[0])
    now = time()
    db.execute("INSERT INTO sessions (session_id, updated_at, created_at) VALUES (?, ?, ?)", (session_id, now, now))
    return 0


def _insert(db: sqlite3.Connection, session_id: str, seq: int, row: Row) -> None:
    added = db.execute(_INSERT[row.kind.name], (session_id, seq, *with_defaults(row).values()))
    if row.kind.name == "message" and (added.lastrowid or 0) % EVERY == 0:
        catch_up(db)


def _put_session(db: sqlite3.Connection, session_id: str, seq: int, row: Row) -> None:
    values = {name: value for name, value in row.values.items() if value is not None}
    created_at = values.pop("created_at")
    if seq == 1:
        values["created_at"] = created_at
    _update(db, SESSION, values, "session_id = ?", (session_id,))
    if row.tags is not None:
        db.execute("DELETE FROM session_tags WHERE session_id = ?", (session_id,))
        db.executemany("INSERT INTO session_tags VALUES (?, ?)", [(session_id, tag) for tag in row.tags])


def _put_tool(db: sqlite3.Connection, session_id: str, seq: int, row: Row) -> None:
    """Change the open row of this call, or add one: local servers give the same call id in every turn."""
    found = db.execute(
        "SELECT id, attempts FROM tool_calls WHERE session_id = ? AND call_id = ? AND state IN ('started', 'unknown') "
        "ORDER BY id DESC LIMIT 1",
        (session_id, row.values["call_id"]),
    ).fetchone()
    if found is None:
        return _insert(db, session_id, seq, row)
    values = {**row.values, "seq": seq}
    del values["created_at"]
    if values["state"] == "started":
        values["attempts"] = found[1] + 1
    _update(db, row.kind, values, "id = ?", (found[0],))


def _put_approval(db: sqlite3.Connection, session_id: str, seq: int, row: Row) -> None:
    approval_id = row.values["approval_id"]
    found = db.execute("SELECT id, session_id FROM approvals WHERE approval_id = ?", (approval_id,)).fetchone()
    if found is None:
        return _insert(db, session_id, seq, row)
    if found[1] != session_id:
        raise InvalidInputError(
            f"approval {approval_id!r} belongs to another session", field="approval_id", value=approval_id
        )
    values = {**row.values, "seq": seq}
    del values["created_at"]
    _update(db, row.kind, values, "id = ?", (found[0],))


def _put_rewind(db: sqlite3.Connection, session_id: str, seq: int, row: Row) -> None:
    values = with_defaults(row)
    place = (session_id, values["after_seq"])
    db.execute(
        "UPDATE messages SET state = ? WHERE session_id = ? AND seq > ? AND state = 'live'", (values["state"], *place)
    )
    db.execute("DELETE FROM texts WHERE session_id = ? AND seq > ? AND source = 'message'", place)
    _insert(db, session_id, seq, row)
    db.execute(
        f"DELETE FROM texts WHERE session_id = ? AND source = 'interaction' AND seq IN "
        f"(SELECT seq FROM interactions WHERE session_id = ? AND NOT ({LIVE['interaction']}))",
        (session_id, session_id),
    )


_ADD: dict[str, Callable[[sqlite3.Connection, str, int, Row], None]] = {
    "session": _put_session,
    "tool": _put_tool,
    "approval": _put_approval,
    "rewind": _put_rewind,
}


def _update(db: sqlite3.Connection, kind: Kind, values: dict[str, Any], where: str, key: tuple[Any, ...]) -> None:
    if "extra" in values:
        old = db.execute(f"SELECT extra FROM {kind.table} WHERE {where}", key).fetchone()[0]
        if old:
            values = {**values, "extra": dump({**json.loads(old), **json.loads(values["extra"])})}
    if values:
        changes = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE {kind.table} SET {changes} WHERE {where}", (*values.values(), *key))


# ------------------------------------------------------------------ reading


def load(
    db: sqlite3.Connection,
    session_id: str,
    after: int,
    kinds: Sequence[str],
    limit: int | None,
    include_rewound: bool,
) -> list[Entry]:
    """Entries of the kinds, by seq."""
    entries: list[Entry] = []
    for name in kinds:
        live = f" AND {LIVE[name]}" if name in LIVE and not include_rewound else ""
        query = f"{_SELECT[name]} WHERE session_id = ? AND seq > ?{live} ORDER BY seq LIMIT ?"
        kind, columns = KINDS[name], _COLUMNS[name]
        entries += [
            decode(kind, columns, row) for row in db.execute(query, (session_id, after, -1 if limit is None else limit))
        ]
    if len(kinds) > 1:
        entries.sort(key=lambda entry: int(entry["seq"]))
    return entries if limit is None else entries[:limit]


_SESSION_COLUMNS = ("session_id", "last_seq", "updated_at", *SESSION.names)
_SESSION_SELECT = (
    f"SELECT {', '.join(_SESSION_COLUMNS)}, "
    # Only what was rewound is not live; where nothing was, the index alone can count.
    "CASE WHEN EXISTS (SELECT 1 FROM rewinds r WHERE r.session_id = s.session_id) "
    "THEN (SELECT count(*) FROM messages m WHERE m.session_id = s.session_id AND m.state = 'live') "
    "ELSE (SELECT count(*) FROM messages m WHERE m.session_id = s.session_id) END, "
    "(SELECT json_group_array(tag) FROM session_tags t WHERE t.session_id = s.session_id) FROM sessions s"
)


def _session_of(row: Sequence[Any]) -> Entry:
    entry = decode(SESSION, _SESSION_COLUMNS, row[:-2])
    return {**entry, "message_count": row[-2], "tags": json.loads(row[-1])}


def session(db: sqlite3.Connection, session_id: str) -> Entry | None:
    row = db.execute(f"{_SESSION_SELECT} WHERE session_id = ?", (session_id,)).fetchone() if session_id else None
    return _session_of(row) if row else None


def listed(
    tag: str | None,
    parent_session_id: str | None,
    like: str | None,
    said: tuple[str, Sequence[Any]],
    *,
    mark: str,
    looks_like: str,
) -> tuple[str, list[Any]]:
    """The condition of `list_sessions` and its values. `said`: the one on what was said ("": none), with its values.

    Args:
        mark: stands for a value in the statement.
        looks_like: compares with a pattern.
    """
    where, values = ["session_id <> ''"], list[Any]()
    if tag is not None:
        where.append(f"session_id IN (SELECT session_id FROM session_tags WHERE tag = {mark})")
        values.append(tag)
    if parent_session_id is not None:
        where.append(f"parent_session_id = {mark}")
        values.append(parent_session_id)
    elif tag is None and like is None:  # those of subagents are found by what is looked for, or by their parent
        where.append("parent_session_id IS NULL")
    if like is not None:
        found = [f"{column} {looks_like}" for column in ("title", "summary", "session_id")]
        where.append(f"({' OR '.join([*found, said[0]] if said[0] else found)})")
        values += [like] * 3 + [*said[1]]
    return " AND ".join(where), values


def list_sessions(
    db: sqlite3.Connection,
    limit: int,
    offset: int,
    tag: str | None,
    match: str | None,
    like: str | None,
    parent_session_id: str | None,
) -> list[Entry]:
    """Sessions, the last changed first. `match`: an FTS query on what was said; `like`: a pattern on the title."""
    said = ("", ()) if not match else (_SAID, (match, _MOST_LOOKED_THROUGH))
    where, values = listed(tag, parent_session_id, like, said, mark="?", looks_like="LIKE ? ESCAPE '\\'")
    query = f"{_SESSION_SELECT} WHERE {where} ORDER BY updated_at DESC, session_id LIMIT ? OFFSET ?"
    return [_session_of(row) for row in db.execute(query, (*values, limit, offset))]


def fork(db: sqlite3.Connection, session_id: str, new_session_id: str, up_to: int | None) -> int:
    """Copy the live messages up to a seq, with their seqs; returns the last seq of the copy."""
    source = db.execute("SELECT last_seq FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    if source is None or not session_id:
        raise InvalidInputError(f"there is no session {session_id!r}", field="session_id", value=session_id)
    if db.execute("SELECT 1 FROM sessions WHERE session_id = ?", (new_session_id,)).fetchone():
        raise InvalidInputError(
            f"session {new_session_id!r} is there already", field="new_session_id", value=new_session_id
        )
    last = int(source[0]) if up_to is None else min(up_to, int(source[0]))
    now = time()
    copied = "title, summary, model, status, options_digest, metadata, extra"
    db.execute(
        f"INSERT INTO sessions (session_id, last_seq, updated_at, created_at, forked_from, {copied}) "
        f"SELECT ?, ?, ?, ?, session_id, {copied} FROM sessions WHERE session_id = ?",
        (new_session_id, last, now, now, session_id),
    )
    db.execute(
        "INSERT INTO session_tags SELECT ?, tag FROM session_tags WHERE session_id = ?", (new_session_id, session_id)
    )
    for name, condition in (("message", "seq <= ?"), ("checkpoint", "covers_seq <= ? AND seq <= ?")):
        names = ", ".join(("seq", *KINDS[name].names))
        limits = (last,) * condition.count("?")
        db.execute(
            f"INSERT INTO {KINDS[name].table} (session_id, {names}) "
            f"SELECT ?, {names} FROM {KINDS[name].table} WHERE session_id = ? AND {condition} AND {LIVE[name]}",
            (new_session_id, session_id, *limits),
        )
    return last
