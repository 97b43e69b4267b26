"""One writer per session: leases with a fence, a number that only grows. A writer with an old fence writes nothing."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import SessionBusyError, SessionFencedError
from .seam import Holder

_NOW = "(julianday('now') - 2440587.5) * 86400.0"  # the database's clock, seconds since 1970


@dataclass(frozen=True, slots=True)
class Process:
    """A process, so that it can be told from a later one with the same number."""

    host: str
    pid: int
    start: str

    @classmethod
    def own(cls) -> Process:
        return cls(_host(), os.getpid(), _start_of(os.getpid()))

    @property
    def is_known_dead(self) -> bool:
        """True only for a process of this machine that is gone for certain."""
        if self.host != _host() or os.name != "posix":  # elsewhere signal 0 is no question
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return bool(self.start) and self.start != _start_of(self.pid)


@cache
def _host() -> str:
    """This machine since its last start, and its view of process numbers (containers have their own)."""
    parts = [socket.gethostname()]
    for place in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(place) if "/ns/" in place else Path(place).read_text().strip())
        except OSError:
            parts.append("")
    return "/".join(parts)


def _start_of(pid: int) -> str:
    """When the process started, in the system's own ticks; "" where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()[19]
    except (OSError, IndexError):
        return ""


_LEASE = (
    f"SELECT owner, fence, host, pid, process_start, acquired_at, expires_at, ttl_s, {_NOW}, "
    "(SELECT last_seq FROM sessions s WHERE s.session_id = l.session_id) FROM leases l WHERE session_id = ?"
)


def _row(db: sqlite3.Connection, session_id: str) -> Sequence[Any] | None:
    found: Sequence[Any] | None = db.execute(_LEASE, (session_id,)).fetchone()
    return found


def _holder(session_id: str, row: Sequence[Any]) -> Holder | None:
    """Who holds it by this row: nobody when it was given back."""
    owner, fence, host, pid, _, acquired_at, expires_at, *_ = row
    return Holder(session_id, owner, fence, host, pid, acquired_at, expires_at) if owner else None


def _is_held(row: Sequence[Any]) -> bool:
    """Expired leases and those of dead processes hold nothing."""
    return bool(row[6] > row[8]) and not Process(*row[2:5]).is_known_dead


def holder(db: sqlite3.Connection, session_id: str) -> Holder | None:
    """Who holds the session now."""
    row = _row(db, session_id)
    return _holder(session_id, row) if row and _is_held(row) else None


def lease(db: sqlite3.Connection, session_id: str, owner: str, ttl_s: float, process: Process) -> int:
    row = _row(db, session_id)
    if row is not None and row[0] != owner and _is_held(row):
        held, left_s = _holder(session_id, row), row[6] - row[8]
        raise SessionBusyError(
            f"session {session_id!r} is held by {held}; it is free when that one closes it, or "
            f"{left_s:.0f} s after its last sign of life",
            session_id=session_id,
            holder=str(held),
        )
    last = row[1] if row else db.execute("SELECT value FROM meta WHERE name = 'fence'").fetchone()[0]
    fence = int(last) + 1
    db.execute(
        f"REPLACE INTO leases (session_id, owner, fence, host, pid, process_start, ttl_s, acquired_at, expires_at) "
        f"VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW}, {_NOW} + ?)",
        (session_id, owner, fence, process.host, process.pid, process.start, ttl_s, ttl_s),
    )
    return fence


def check_fence(db: sqlite3.Connection, session_id: str, fence: int, ttl_s: float | None = None) -> int | None:
    """Refuse an old fence; prolong the lease of the right one, when half its time is over or `ttl_s` is given.

    Returns: the session's last seq; None: it has no row yet.
    """
    row = _row(db, session_id)
    if row is None or row[1] != fence or not row[0]:
        held = None if row is None else _holder(session_id, row)
        by = f"; {held} holds it now" if held else ""
        raise SessionFencedError(
            f"session {session_id!r} was taken over{by}: nothing was written; resume it to go on",
            session_id=session_id,
            holder=str(held) if held else None,
        )
    expires_at, old_ttl_s, now, last_seq = row[6:]
    if ttl_s is not None or expires_at - now < old_ttl_s / 2:
        new_ttl_s = old_ttl_s if ttl_s is None else ttl_s
        db.execute(
            f"UPDATE leases SET ttl_s = ?, expires_at = {_NOW} + ? WHERE session_id = ?",
            (new_ttl_s, new_ttl_s, session_id),
        )
    return None if last_seq is None else int(last_seq)


def renew(db: sqlite3.Connection, session_id: str, fence: int, ttl_s: float) -> None:
    check_fence(db, session_id, fence, ttl_s)


def release(db: sqlite3.Connection, session_id: str, fence: int) -> bool:
    """Give the session back; False: it was lost already."""
    query = "UPDATE leases SET owner = '', expires_at = 0 WHERE session_id = ? AND fence = ?"  # its fence is kept
    return db.execute(query, (session_id, fence)).rowcount > 0


def forget(db: sqlite3.Connection, session_id: str) -> None:
    """Delete what is known of the session's leases; its old fences stay void for ever."""
    db.execute(
        "UPDATE meta SET value = max(value, coalesce((SELECT fence FROM leases WHERE session_id = ?), 0)) "
        "WHERE name = 'fence'",
        (session_id,),
    )
    db.execute("DELETE FROM leases WHERE session_id = ?", (session_id,))
