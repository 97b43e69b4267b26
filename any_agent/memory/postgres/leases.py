"""One writer per session on PostgreSQL: leases by the server's clock, with a fence that only grows.

Who appends holds the lease's row until the commit, so a session cannot be taken over between check and commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import SessionBusyError, SessionFencedError
from ..leases import Process
from ..seam import Holder
from .link import Transaction

NOW = "extract(epoch FROM clock_timestamp())::float8"  # the server's clock, seconds since 1970
_SELECT = (
    f"SELECT owner, fence, host, pid, process_start, acquired_at, expires_at, ttl_s, {NOW} FROM leases "
    "WHERE session_id = %s"
)
FENCE = f"{_SELECT} FOR UPDATE"


def _holder(session_id: str, row: Sequence[Any]) -> Holder:
    owner, fence, host, pid, _, acquired_at, expires_at, *_ = row
    return Holder(session_id, owner, fence, host, pid, acquired_at, expires_at)


def _is_held(row: Sequence[Any]) -> bool:
    """Expired leases and those of dead processes hold nothing."""
    _, _, host, pid, start, _, expires_at, _, now = row
    return bool(expires_at > now) and not Process(host, pid, start).is_known_dead


async def holder(tx: Transaction, session_id: str) -> Holder | None:
    row = await tx.one(_SELECT, (session_id,))
    return _holder(session_id, row) if row and _is_held(row) else None


async def lease(
    tx: Transaction, session_id: str, owner: str, ttl_s: float, process: Process, is_doubtful: bool = False
) -> int:
    """A new fence, one above the last.

    Args:
        is_doubtful: leave one number out, so that the owner cannot take its own state for the session's.
    """
    row = None
    while row is None:  # another process may delete the session in between
        await tx.send(
            "INSERT INTO leases VALUES (%s, '', -1, '', 0, '', 0, 0, 0) ON CONFLICT DO NOTHING", (session_id,)
        )
        row = await tx.one(FENCE, (session_id,))
    if _is_held(row) and row[0] != owner:
        held, now = _holder(session_id, row), row[-1]
        raise SessionBusyError(
            f"session {session_id!r} is held by {held}; it is free when that one closes it, or "
            f"{max(0.0, held.expires_at - now):.0f} s after its last sign of life",
            session_id=session_id,
            holder=str(held),
        )
    given = await tx.one(
        "UPDATE leases SET fence = %s + CASE WHEN fence < 0 THEN (SELECT value FROM meta WHERE name = 'fence') "
        "ELSE fence END, owner = %s, host = %s, pid = %s, process_start = %s, ttl_s = %s, "
        f"acquired_at = {NOW}, expires_at = {NOW} + %s WHERE session_id = %s RETURNING fence",
        (2 if is_doubtful else 1, owner, process.host, process.pid, process.start, ttl_s, ttl_s, session_id),
    )
    assert given is not None
    return int(given[0])


async def check_fence(
    tx: Transaction, session_id: str, fence: int, row: Sequence[Any] | None, ttl_s: float | None = None
) -> None:
    """Refuse an old fence; prolong the lease of the right one, when half its time is over or `ttl_s` is given.

    Args:
        row: what FENCE gave.
    """
    if row is None or row[1] != fence or not row[0]:
        held = str(_holder(session_id, row)) if row and row[0] else None
        raise SessionFencedError(
            f"session {session_id!r} was taken over{f'; {held} holds it now' if held else ''}: nothing was written; "
            "resume it to go on",
            session_id=session_id,
            holder=held,
        )
    expires_at, old_ttl_s, now = row[6:]
    if ttl_s is not None or expires_at - now < old_ttl_s / 2:
        new_ttl_s = old_ttl_s if ttl_s is None else ttl_s
        await tx.send(
            f"UPDATE leases SET ttl_s = %s, expires_at = {NOW} + %s WHERE session_id = %s",
            (new_ttl_s, new_ttl_s, session_id),
        )


async def renew(tx: Transaction, session_id: str, fence: int, ttl_s: float) -> None:
    await check_fence(tx, session_id, fence, await tx.one(FENCE, (session_id,)), ttl_s)


async def release(tx: Transaction, session_id: str, fence: int) -> None:
    """Give the session back; its fence is kept. Quiet when it was lost already."""
    await tx.send(
        "UPDATE leases SET owner = '', expires_at = 0 WHERE session_id = %s AND fence = %s", (session_id, fence)
    )


async def forget(tx: Transaction, session_id: str) -> None:
    """Delete what is known of the session's leases; its old fences stay void for ever."""
    await tx.send(
        "WITH gone AS (DELETE FROM leases WHERE session_id = %s RETURNING fence) "
        "UPDATE meta SET value = greatest(value, (SELECT fence FROM gone)) WHERE name = 'fence'",
        (session_id,),
    )
