"""Sums over model and tool calls, approvals, kept responses and housekeeping: SQL of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..entries import KINDS, Entry, decode
from ..ledger import APPROVAL, NAMES, SELECT, SWEEP_S, TREE, check_group, narrowed, wanting_answer
from ..seam import UsageRow
from ..upkeep import COUNTED
from .leases import NOW, forget
from .link import Transaction
from .schema import MIGRATIONS

_UTC = "CASE WHEN abs(c.created_at) < 2.5e11 THEN to_timestamp(c.created_at) AT TIME ZONE 'UTC' END"
_KEYS = {
    "day": f"to_char({_UTC}, 'YYYY-MM-DD')",
    "hour": f'to_char({_UTC}, \'YYYY-MM-DD"T"HH24:00"Z"\')',
    "model": "c.model",
    "server": "c.server",
    "session": "c.session_id",
    "purpose": "c.purpose",
    "outcome": "c.outcome",
    "run": "c.run_id",
    "tag": "g.tag",
}
_INTS = ", ".join(
    f"coalesce(sum(c.{n}), 0)::bigint" for n in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
)
_SUMS = f"""count(*), count(*) FILTER (WHERE c.outcome <> 'ok'), {_INTS}, sum(c.cost_usd),
    count(*) FILTER (WHERE c.cost_usd IS NULL), coalesce(sum(c.duration_s), 0.0), avg(c.first_token_s),
    avg(c.tokens_per_s)"""
_TOOL_SUMS = """count(*), count(*) FILTER (WHERE c.state IN ('failed', 'unknown')), 0, 0, 0, 0, NULL::float8, 0,
    coalesce(sum(c.duration_s), 0.0), NULL, NULL"""
_TREE = TREE.replace(":session_id", "%(session_id)s::text")


async def usage(
    tx: Transaction,
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
    where, values = narrowed(asked, "%({})s", is_tools=is_tools)
    join = " LEFT JOIN session_tags g ON g.session_id = c.session_id" if group_by == "tag" else ""
    key = f"coalesce({'c.name' if is_tools else _KEYS[group_by]}, '') COLLATE \"C\"" if group_by else "''"
    query = (
        f"{_TREE if session_id is not None else ''}SELECT {key}, {sums} FROM {table} c{join} "
        f"WHERE {where}{' GROUP BY 1 ORDER BY 1' if group_by else ''}"
    )
    return [UsageRow(*row) for row in await tx.all(query, values)]


# ------------------------------------------------------------------ approvals


async def pending_approvals(tx: Transaction, session_id: str | None) -> list[Entry]:
    one, values = ("", ()) if session_id is None else (" AND session_id = %s", (session_id,))
    rows = await tx.all(f"{SELECT} WHERE state = 'pending'{one} ORDER BY created_at, id", values)
    return [decode(APPROVAL, NAMES, row) for row in rows]


async def approval(tx: Transaction, approval_id: str) -> Entry | None:
    row = await tx.one(f"{SELECT} WHERE approval_id = %s", (approval_id,))
    return decode(APPROVAL, NAMES, row) if row else None


async def answer_approval(tx: Transaction, approval_id: str, state: str, answer: str | None, who: str) -> Entry:
    """The first answer holds; the same one again changes nothing. `answer` is JSON text."""
    await tx.send(
        "SELECT 1 FROM sessions WHERE session_id = "
        "(SELECT session_id FROM approvals WHERE approval_id = %s) FOR UPDATE",
        (approval_id,),
    )
    found = wanting_answer(await approval(tx, approval_id), approval_id, state, answer)
    if found["state"] == "pending":
        await tx.send(
            "WITH counted AS (UPDATE sessions SET last_seq = last_seq + 1, "
            f"updated_at = greatest(updated_at, {NOW}) WHERE session_id = %s RETURNING last_seq) "
            f"UPDATE approvals SET state = %s, answer = %s, answered_by = %s, answered_at = {NOW}, "
            "seq = (SELECT last_seq FROM counted) WHERE approval_id = %s",
            (found["session_id"], state, answer, who, approval_id),
        )
        return await approval(tx, approval_id) or found
    return found


# ------------------------------------------------------------------ kept responses


async def cached(tx: Transaction, key: str) -> Any:
    row = await tx.one(f"SELECT value FROM responses WHERE key = %s AND expires_at > {NOW}", (key,))
    return json.loads(row[0]) if row else None


async def cache(tx: Transaction, key: str, value: str, ttl_s: float, session_id: str) -> None:
    is_time = await tx.one(
        f"INSERT INTO meta VALUES ('responses swept', floor({NOW})) ON CONFLICT (name) DO UPDATE "
        "SET value = excluded.value WHERE meta.value < excluded.value - %s RETURNING 1",
        (SWEEP_S,),
    )
    if is_time:
        await tx.send(f"DELETE FROM responses WHERE expires_at <= {NOW}")
    await tx.send(
        f"INSERT INTO responses VALUES (%s, %s, %s, {NOW}, {NOW} + %s) ON CONFLICT (key) DO UPDATE SET "
        "value = excluded.value, session_id = excluded.session_id, created_at = excluded.created_at, "
        "expires_at = excluded.expires_at",
        (key, value, session_id, float(ttl_s)),
    )


# ------------------------------------------------------------------ keeping house


async def delete(tx: Transaction, session_ids: Iterable[str], keep_ledger: bool) -> int:
    """Delete sessions and those of their subagents, in all tables."""
    doomed: set[str] = set()
    for session_id in session_ids:
        rows = await tx.all(f"{_TREE}SELECT session_id FROM tree", {"session_id": session_id})
        doomed.update(row[0] for row in rows)
    doomed.discard("")
    ids = sorted(doomed)
    for session_id in ids:
        await forget(tx, session_id)
    locked = "SELECT session_id FROM sessions WHERE session_id = ANY(%s) OR (%s AND session_id = '')"
    await tx.all(f"{locked} ORDER BY session_id FOR UPDATE", (ids, keep_ledger))
    if keep_ledger:
        await _detach_ledger(tx, ids)
    await tx.send("DELETE FROM model_calls WHERE parent_session_id = ANY(%s)", (ids,))
    await tx.send("DELETE FROM responses WHERE session_id = ANY(%s)", (ids,))
    deleted = await tx.count("DELETE FROM sessions WHERE session_id = ANY(%s)", (ids,))
    if deleted:  # answers that agents cached belong to nobody: who asked for them may be among the deleted
        await tx.send("DELETE FROM responses WHERE session_id = ''")
    return deleted


async def _detach_ledger(tx: Transaction, ids: list[str]) -> None:
    """Leave the figures of the sessions' calls, and nothing that tells whose they were."""
    await tx.send(
        "WITH placed AS (SELECT id, row_number() OVER (ORDER BY id) AS place FROM model_calls "
        "WHERE session_id = ANY(%(ids)s) OR parent_session_id = ANY(%(ids)s)), "
        "own AS (SELECT last_seq FROM sessions WHERE session_id = ''), "
        "moved AS (UPDATE model_calls m SET session_id = '', seq = own.last_seq + placed.place, run_id = NULL, "
        "parent_session_id = NULL, extra = NULL FROM placed, own WHERE m.id = placed.id RETURNING 1) "
        "UPDATE sessions SET last_seq = last_seq + (SELECT count(*) FROM moved) WHERE session_id = ''",
        {"ids": ids},
    )


async def delete_tag(tx: Transaction, tag: str, keep_ledger: bool) -> int:
    rows = await tx.all("SELECT session_id FROM session_tags WHERE tag = %s", (tag,))
    return await delete(tx, [row[0] for row in rows], keep_ledger)


async def cleanup(tx: Transaction, before: float | None, keep_last: int | None) -> int:
    """Delete sessions last changed before a time, but not the newest `keep_last`, and none somebody works on."""
    old = await tx.all(
        "SELECT session_id FROM sessions s WHERE session_id <> '' AND parent_session_id IS NULL AND updated_at < %s "
        "AND session_id NOT IN (SELECT session_id FROM sessions WHERE session_id <> '' AND parent_session_id IS NULL "
        'ORDER BY updated_at DESC, session_id COLLATE "C" LIMIT %s) '
        "AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.session_id = s.session_id AND a.state = 'pending') "
        f"AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.session_id = s.session_id AND l.expires_at > {NOW})",
        (before if before is not None else float("inf"), keep_last or 0),
    )
    deleted = await delete(tx, [row[0] for row in old], keep_ledger=False)
    await tx.send(f"DELETE FROM responses WHERE expires_at <= {NOW}")
    if before is not None:
        for table in ("model_calls", "audits", "interactions"):
            await tx.send(f"DELETE FROM {table} WHERE session_id = '' AND created_at < %s", (before,))
        await tx.send("DELETE FROM texts WHERE session_id = '' AND source <> 'document' AND created_at < %s", (before,))
    return deleted


async def stats(tx: Transaction) -> dict[str, Any]:
    """How much is kept, and how large it is."""
    counts = await tx.one(f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in COUNTED)}")
    found: dict[str, Any] = dict(zip(COUNTED, counts or (), strict=True))
    found["sessions"] -= 1  # the row of entries without a session
    sizes = await tx.one(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint, current_setting('server_version'), "
        "(SELECT min(created_at) FROM sessions WHERE session_id <> ''), "
        "(SELECT max(updated_at) FROM sessions WHERE session_id <> '') "
        "FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) "
        "AND relkind IN ('r', 'p')"
    )
    names = ("size_bytes", "postgres_version", "first_at", "last_at")
    return {**found, **dict(zip(names, sizes or (), strict=True)), "schema_version": len(MIGRATIONS)}


async def integrity_check(tx: Transaction) -> list[str]:
    """What is wrong with the entries; the server looks after its pages itself."""
    found = []
    for kind in KINDS.values():
        rows = await tx.all(
            f"SELECT e.session_id, max(e.seq), s.last_seq FROM {kind.table} e JOIN sessions s USING (session_id) "
            "GROUP BY e.session_id, s.last_seq HAVING max(e.seq) > s.last_seq OR min(e.seq) < 1"
        )
        found += [f"{kind.table}: session {row[0]!r} has entry {row[1]}, its last is {row[2]}" for row in rows]
    return found
