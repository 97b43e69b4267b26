"""Entries in, entries out: SQL of PostgreSQL on the tables of sessions, in the caller's transaction.

All that write to a session lock its row first, so the numbers of entries have no gaps.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

from ...errors import InvalidInputError
from ..entries import KINDS, SESSION, Entry, Kind, Row, clean, decode, dump, spoken, with_defaults
from ..journal import listed
from ..live import LIVE
from .leases import FENCE, NOW, check_fence, release
from .link import Transaction, Witness
from .words import vector

_INSERT = {
    name: f"INSERT INTO {kind.table} (session_id, seq, {', '.join(kind.names)}) "
    f"VALUES ({', '.join(['%s'] * (len(kind.names) + 2))})"
    for name, kind in KINDS.items()
}
_SELECT = {name: f"SELECT seq, {', '.join(kind.names)} FROM {kind.table}" for name, kind in KINDS.items()}
_COLUMNS = {name: ("seq", *kind.names) for name, kind in KINDS.items()}
_BOOLS = {name: tuple(c.name for c in kind.columns if c.type == "bool") for name, kind in KINDS.items()}
_COUNT_UP = (
    f"INSERT INTO sessions AS s (session_id, last_seq, last_append, updated_at, created_at) "
    f"VALUES (%s, %s, %s, {NOW}, {NOW}) ON CONFLICT (session_id) DO UPDATE SET last_seq = s.last_seq + %s, "
    "last_append = excluded.last_append, updated_at = greatest(s.updated_at, excluded.updated_at) RETURNING last_seq"
)
_ADD_TEXT = (
    "INSERT INTO texts (source, session_id, seq, role, created_at, text, words) VALUES (%s, %s, %s, %s, %s, %s, %s)"
)


async def append(
    tx: Transaction, session_id: str, rows: Sequence[Row], fence: int | None, is_last: bool = False
) -> int:
    """Add the rows; returns the seq of the last one. Makes the session when there is none."""
    leased = None if fence is None else await tx.send(FENCE, (session_id,))
    mark = uuid4().hex
    counted = await tx.send(_COUNT_UP, (session_id, len(rows), mark, len(rows)))
    if leased is not None and fence is not None:
        await check_fence(tx, session_id, fence, await leased.fetchone())
    last = int((await counted.fetchone())[0])
    tx.witness = Witness(session_id, mark, last)
    for seq, row in enumerate(rows, last - len(rows) + 1):
        await _ADD.get(row.kind.name, _insert)(tx, session_id, seq, row)
    if is_last and fence is not None:
        await release(tx, session_id, fence)
    return last


async def _insert(tx: Transaction, session_id: str, seq: int, row: Row) -> None:
    name, values = row.kind.name, with_defaults(row)
    for column in _BOOLS[name]:
        values[column] = bool(values[column])
    await tx.send(_INSERT[name], (session_id, seq, *values.values()))
    if name == "message" and values["state"] == "live":
        await _add_text(tx, name, session_id, seq, values["role"], values["created_at"], _said(values))
    elif name == "interaction":
        text = f"{values['prompt']}\n{values['response']}"
        await _add_text(tx, name, session_id, seq, None, values["created_at"], text)


def _said(values: dict[str, Any]) -> str:
    given = json.loads(values["extra"]).get("text") if values["extra"] else None
    return given if isinstance(given, str) else spoken(json.loads(values["content"]))


async def _add_text(
    tx: Transaction, source: str, session_id: str, seq: int, role: str | None, at: float, text: str
) -> None:
    if text:
        text = clean(text)
        await tx.send(_ADD_TEXT, (source, session_id, seq, role, at, text, vector(text)))


async def _put_session(tx: Transaction, session_id: str, seq: int, row: Row) -> None:
    values = {name: value for name, value in row.values.items() if value is not None}
    created_at = values.pop("created_at")
    if seq == 1:
        values["created_at"] = created_at
    await _update(tx, SESSION, values, "session_id = %s", session_id)
    if row.tags is not None:
        await tx.send("DELETE FROM session_tags WHERE session_id = %s", (session_id,))
        await tx.send("INSERT INTO session_tags SELECT %s, unnest(%s::text[])", (session_id, list(row.tags)))


async def _put_tool(tx: Transaction, session_id: str, seq: int, row: Row) -> None:
    """Change the open row of this call, or add one: local servers give the same call id in every turn."""
    found = await tx.one(
        "SELECT id, attempts FROM tool_calls WHERE session_id = %s AND call_id = %s "
        "AND state IN ('started', 'unknown') ORDER BY id DESC LIMIT 1",
        (session_id, row.values["call_id"]),
    )
    if found is None:
        return await _insert(tx, session_id, seq, row)
    values = {**row.values, "seq": seq}
    del values["created_at"]
    if values["state"] == "started":
        values["attempts"] = found[1] + 1
    await _update(tx, row.kind, values, "id = %s", found[0])


async def _put_approval(tx: Transaction, session_id: str, seq: int, row: Row) -> None:
    approval_id = row.values["approval_id"]
    found = await tx.one("SELECT id, session_id FROM approvals WHERE approval_id = %s", (approval_id,))
    if found is None:
        return await _insert(tx, session_id, seq, row)
    if found[1] != session_id:
        raise InvalidInputError(
            f"approval {approval_id!r} belongs to another session", field="approval_id", value=approval_id
        )
    values = {**row.values, "seq": seq}
    del values["created_at"]
    await _update(tx, row.kind, values, "id = %s", found[0])


async def _put_rewind(tx: Transaction, session_id: str, seq: int, row: Row) -> None:
    values = with_defaults(row)
    place = (session_id, values["after_seq"])
    await tx.send(
        "UPDATE messages SET state = %s WHERE session_id = %s AND seq > %s AND state = 'live'",
        (values["state"], *place),
    )
    await tx.send("DELETE FROM texts WHERE session_id = %s AND seq > %s AND source = 'message'", place)
    await _insert(tx, session_id, seq, row)
    await tx.send(
        f"DELETE FROM texts WHERE session_id = %s AND source = 'interaction' AND seq IN "
        f"(SELECT seq FROM interactions WHERE session_id = %s AND NOT ({LIVE['interaction']}))",
        (session_id, session_id),
    )


_ADD: dict[str, Callable[[Transaction, str, int, Row], Awaitable[None]]] = {
    "session": _put_session,
    "tool": _put_tool,
    "approval": _put_approval,
    "rewind": _put_rewind,
}


async def _update(tx: Transaction, kind: Kind, values: dict[str, Any], where: str, key: Any) -> None:
    if "extra" in values:
        old = await tx.one(f"SELECT extra FROM {kind.table} WHERE {where}", (key,))
        if old and old[0]:
            values = {**values, "extra": dump({**json.loads(old[0]), **json.loads(values["extra"])})}
    if values:
        changes = ", ".join(f"{name} = %s" for name in values)
        await tx.send(f"UPDATE {kind.table} SET {changes} WHERE {where}", (*values.values(), key))


# ------------------------------------------------------------------ reading


async def load(
    tx: Transaction,
    session_id: str,
    after: int,
    kinds: Sequence[str],
    limit: int | None,
    include_rewound: bool,
) -> list[Entry]:
    """Entries of the kinds, by seq; all kinds in one round trip."""
    answers = []
    for name in kinds:
        live = f" AND {LIVE[name]}" if name in LIVE and not include_rewound else ""
        query = f"{_SELECT[name]} WHERE session_id = %s AND seq > %s{live} ORDER BY seq LIMIT %s"
        answers.append((name, await tx.send(query, (session_id, after, limit))))
    entries: list[Entry] = []
    for name, answer in answers:
        entries += [decode(KINDS[name], _COLUMNS[name], row) for row in await answer.fetchall()]
    if len(kinds) > 1:
        entries.sort(key=lambda entry: int(entry["seq"]))
    return entries if limit is None else entries[:limit]


_SESSION_COLUMNS = ("session_id", "last_seq", "updated_at", *SESSION.names)
_SESSION_SELECT = (
    f"SELECT {', '.join(_SESSION_COLUMNS)}, "
    "(SELECT count(*) FROM messages m WHERE m.session_id = s.session_id AND m.state = 'live'), "
    'ARRAY(SELECT tag FROM session_tags t WHERE t.session_id = s.session_id ORDER BY tag COLLATE "C") FROM sessions s'
)


def _session_of(row: Sequence[Any]) -> Entry:
    entry = decode(SESSION, _SESSION_COLUMNS, row[:-2])
    return {**entry, "message_count": row[-2], "tags": row[-1]}


async def session(tx: Transaction, session_id: str) -> Entry | None:
    row = await tx.one(f"{_SESSION_SELECT} WHERE session_id = %s AND session_id <> ''", (session_id,))
    return _session_of(row) if row else None


async def list_sessions(
    tx: Transaction,
    limit: int,
    offset: int,
    tag: str | None,
    match: str | None,
    like: str | None,
    parent_session_id: str | None,
) -> list[Entry]:
    """Sessions, the last changed first. `match`: a tsquery on what was said; `like`: a pattern on the title."""
    said = (
        ("", ()) if not match else ("session_id IN (SELECT session_id FROM texts WHERE words @@ %s::tsquery)", (match,))
    )
    where, values = listed(tag, parent_session_id, like, said, mark="%s", looks_like="ILIKE %s")
    query = f'{_SESSION_SELECT} WHERE {where} ORDER BY updated_at DESC, session_id COLLATE "C" LIMIT %s OFFSET %s'
    # A limit below 0 is none, as in SQLite.
    return [_session_of(row) for row in await tx.all(query, (*values, limit if limit >= 0 else None, max(0, offset)))]


async def fork(tx: Transaction, session_id: str, new_session_id: str, up_to: int | None) -> int:
    """Copy the live messages up to a seq, with their seqs; returns the last seq of the copy."""
    source = await tx.one(
        "SELECT last_seq FROM sessions WHERE session_id = %s AND session_id <> '' FOR SHARE", (session_id,)
    )
    if source is None:
        raise InvalidInputError(f"there is no session {session_id!r}", field="session_id", value=session_id)
    last = int(source[0]) if up_to is None else min(up_to, int(source[0]))
    copied = "title, summary, model, status, options_digest, metadata, extra"
    made = await tx.one(
        f"INSERT INTO sessions (session_id, last_seq, updated_at, created_at, forked_from, {copied}) "
        f"SELECT %s, %s, {NOW}, {NOW}, session_id, {copied} FROM sessions WHERE session_id = %s "
        "ON CONFLICT DO NOTHING RETURNING 1",
        (new_session_id, last, session_id),
    )
    if made is None:
        raise InvalidInputError(
            f"session {new_session_id!r} is there already", field="new_session_id", value=new_session_id
        )
    both = (new_session_id, session_id)
    await tx.send("INSERT INTO session_tags SELECT %s, tag FROM session_tags WHERE session_id = %s", both)
    for name, condition in (("message", "true"), ("checkpoint", f"covers_seq <= {last}")):
        table, names = KINDS[name].table, ", ".join(("seq", *KINDS[name].names))
        await tx.send(
            f"INSERT INTO {table} (session_id, {names}) SELECT %s, {names} FROM {table} "
            f"WHERE session_id = %s AND seq <= %s AND {condition} AND {LIVE[name]} ORDER BY seq",
            (*both, last),
        )
    spoken_columns = "source, seq, role, created_at, text, words"
    await tx.send(
        f"INSERT INTO texts (session_id, {spoken_columns}) SELECT %s, {spoken_columns} FROM texts "
        "WHERE session_id = %s AND seq <= %s AND source = 'message' ORDER BY seq",
        (*both, last),
    )
    return last
