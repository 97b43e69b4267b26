"""Sums over model and tool calls, approvals, and kept responses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from time import time
from typing import Any

from ..errors import InvalidInputError
from .entries import APPROVAL_STATES, KINDS, Entry, decode
from .seam import GROUPS, UsageRow

_KEYS = {
    "day": "date(c.created_at, 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H:00Z', c.created_at, 'unixepoch')",
    "model": "c.model",
    "server": "c.server",
    "session": "c.session_id",
    "purpose": "c.purpose",
    "outcome": "c.outcome",
    "run": "c.run_id",
    "tag": "g.tag",
}
_SUMS = """count(*), coalesce(sum(c.outcome <> 'ok'), 0),
    coalesce(sum(c.input_tokens), 0), coalesce(sum(c.output_tokens), 0),
    coalesce(sum(c.cached_tokens), 0), coalesce(sum(c.reasoning_tokens), 0), sum(c.cost_usd),
    coalesce(sum(c.cost_usd IS NULL), 0), coalesce(sum(c.duration_s), 0.0), avg(c.first_token_s), avg(c.tokens_per_s)"""
_TOOL_SUMS = """count(*), coalesce(sum(c.state IN ('failed', 'unknown')), 0), 0, 0, 0, 0, NULL, 0,
    coalesce(sum(c.duration_s), 0.0), NULL, NULL"""
TREE = """WITH RECURSIVE tree (session_id) AS (
    SELECT :session_id UNION SELECT s.session_id FROM sessions s JOIN tree t ON s.parent_session_id = t.session_id
) """


def check_group(group_by: str | None) -> None:
    """Refuse what sums cannot be grouped by.

    Raises:
        InvalidInputError: it is none of GROUPS.
    """
    if group_by is not None and group_by not in GROUPS:
        raise InvalidInputError(
            f"usage cannot be grouped by {group_by!r}; allowed: {', '.join(GROUPS)}", field="group_by", value=group_by
        )


def narrowed(asked: Mapping[str, Any], mark: str, *, is_tools: bool) -> tuple[str, dict[str, Any]]:
    """The condition on the rows that `usage` sums, and its values. `mark`: how a statement names a value."""
    or_parent = "" if is_tools else " OR c.parent_session_id IN (SELECT session_id FROM tree)"
    conditions = {
        "session_id": f"(c.session_id IN (SELECT session_id FROM tree){or_parent})",
        "since": f"c.created_at >= {mark.format('since')}",
        "until": f"c.created_at < {mark.format('until')}",
        "run_id": f"c.run_id = {mark.format('run_id')}",
        "tag": f"c.session_id IN (SELECT session_id FROM session_tags WHERE tag = {mark.format('tag')})",
    }
    values = {name: value for name, value in asked.items() if value is not None}
    return " AND ".join(["1 = 1", *[conditions[name] for name in values]]), values


def usage(
    db: sqlite3.Connection,
    session_id: str | None = None,
    since: float | None = None,
    until: float | None = None,
    group_by: str | None = None,
    run_id: str | None = None,
    tag: str | None = None,
) -> list[UsageRow]:
    """Sums, by the group's key. Without a group: exactly one row."""
    check_group(group_by)
    is_tools = group_by == "tool"
    table, sums = ("tool_calls", _TOOL_SUMS) if is_tools else ("model_calls", _SUMS)
    asked = {"session_id": session_id, "since": since, "until": until, "run_id": run_id, "tag": tag}
    where, values = narrowed(asked, ":{}", is_tools=is_tools)
    join = " LEFT JOIN session_tags g ON g.session_id = c.session_id" if group_by == "tag" else ""
    key = "c.name" if is_tools else _KEYS.get(group_by or "", "NULL")
    group = " GROUP BY 1 ORDER BY 1" if group_by else ""
    query = f"{TREE if session_id is not None else ''}SELECT {key}, {sums} FROM {table} c{join} WHERE {where}{group}"
    return [UsageRow(str(row[0] or ""), *row[1:]) for row in db.execute(query, values)]


# ------------------------------------------------------------------ approvals

APPROVAL = KINDS["approval"]
NAMES = ("session_id", "seq", *APPROVAL.names)
SELECT = f"SELECT {', '.join(NAMES)} FROM approvals"


def pending_approvals(db: sqlite3.Connection, session_id: str | None) -> list[Entry]:
    one, values = ("", ()) if session_id is None else (" AND session_id = ?", (session_id,))
    rows = db.execute(f"{SELECT} WHERE state = 'pending'{one} ORDER BY created_at, id", values)
    return [decode(APPROVAL, NAMES, row) for row in rows]


def approval(db: sqlite3.Connection, approval_id: str) -> Entry | None:
    row = db.execute(f"{SELECT} WHERE approval_id = ?", (approval_id,)).fetchone()
    return decode(APPROVAL, NAMES, row) if row else None


def wanting_answer(found: Entry | None, approval_id: str, state: str, answer: str | None) -> Entry:
    """The approval, pending or with this very answer.

    Raises:
        InvalidInputError: there is none, the state is no answer, or it has another one.
    """
    if found is None:
        raise InvalidInputError(f"there is no approval {approval_id!r}", field="approval_id", value=approval_id)
    if state not in APPROVAL_STATES[1:]:
        raise InvalidInputError(f"state {state!r} is no answer; allowed: allowed, denied", field="state", value=state)
    is_other = found["state"] != state or found["answer"] != (None if answer is None else json.loads(answer))
    if found["state"] != "pending" and is_other:
        raise InvalidInputError(
            f"approval {approval_id!r} was {found['state']} by {found['answered_by'] or 'somebody'} already",
            field="state",
            value=state,
        )
    return found


def answer_approval(db: sqlite3.Connection, approval_id: str, state: str, answer: str | None, who: str) -> Entry:
    """The first answer holds; the same one again changes nothing. `answer` is JSON text."""
    found = wanting_answer(approval(db, approval_id), approval_id, state, answer)
    if found["state"] == "pending":
        session_id = found["session_id"]
        db.execute(
            "UPDATE sessions SET last_seq = last_seq + 1, updated_at = ? WHERE session_id = ?", (time(), session_id)
        )
        db.execute(
            "UPDATE approvals SET state = ?, answer = ?, answered_by = ?, answered_at = ?, "
            "seq = (SELECT last_seq FROM sessions WHERE session_id = ?) WHERE approval_id = ?",
            (state, answer, who, time(), session_id, approval_id),
        )
        return approval(db, approval_id) or found
    return found


# ------------------------------------------------------------------ kept responses

SWEEP_S = 600.0  # between two times that expired responses are deleted


def cached(db: sqlite3.Connection, key: str) -> Any:
    row = db.execute("SELECT value FROM responses WHERE key = ? AND expires_at > ?", (key, time())).fetchone()
    return json.loads(row[0]) if row else None


def cache(db: sqlite3.Connection, key: str, value: str, ttl_s: float, session_id: str) -> None:
    now = time()
    swept = db.execute("SELECT value FROM meta WHERE name = 'responses swept'").fetchone()
    if swept is None or now - swept[0] > SWEEP_S:
        db.execute("DELETE FROM responses WHERE expires_at <= ?", (now,))
        db.execute("REPLACE INTO meta VALUES ('responses swept', ?)", (now,))
    db.execute("REPLACE INTO responses VALUES (?, ?, ?, ?, ?)", (key, value, session_id, now, now + ttl_s))
