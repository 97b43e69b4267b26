"""One writer per session: leases with a fence, a number that only grows. A writer with an old fence writes nothing."""

from __future__ import annotations

import os
import socket
import sqlite3
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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


def _row(db: sqlite3.Connection, session_id: str) -> tuple[Holder, Process, float] | None:
    found = db.execute(
        "SELECT owner, fence, host, pid, process_start, acquired_at, expires_at, ttl_s FROM leases "
        "WHERE session_id = ?",
        (session_id,),
    ).fetchone()
    if found is None:
        return None
    owner, fence, host, pid, start, acquired_at, expires_at, ttl_s = found
    holder = Holder(session_id, owner, fence, host, pid, acquired_at, expires_at)
    return holder, Process(host, pid, start), ttl_s


def now(db: sqlite3.Connection) -> float:
    return float(db.execute(f"SELECT {_NOW}").fetchone()[0])


def holder(db: sqlite3.Connection, session_id: str) -> Holder | None:
    """Who holds the session now; expired leases and those of dead processes hold nothing."""
    found = _row(db, session_id)
    if found is None or found[0].expires_at <= now(db) or found[1].is_known_dead:
        return None
    return found[0]


def lease(db: sqlite3.Connection, session_id: str, owner: str, ttl_s: float, process: Process) -> int:
    held = holder(db, session_id)
    if held is not None and held.owner != owner:
        raise SessionBusyError(
            f"session {session_id} is held by {held}; it is free when that one closes it, or "
            f"{max(0.0, held.expires_at - now(db)):.0f} s after its last sign of life",
            session_id=session_id,
            holder=str(held),
        )
    last = db.execute(
        "SELECT fence FROM leases WHERE session_id = ? UNION ALL SELECT value FROM meta WHERE name = 'fence'",
        (session_id,),
    ).fetchone()
    fence = int(last[0]) + 1
    db.execute(
        f"REPLACE INTO leases (session_id, owner, fence, host, pid, process_start, ttl_s, acquired_at, expires_at) "
        f"VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW}, {_NOW} + ?)",
        (session_id, owner, fence, process.host, process.pid, process.start, ttl_s, ttl_s),
    )
    return fence


def check_fence(db: sqlite3.Connection, session_id: str, fence: int, ttl_s: float | None = None) -> None:
    """Refuse an old fence; prolong the lease of the right one, when half its time is over or `ttl_s` is given."""
    found = _row(db, session_id)
    if found is None or found[0].fence != fence or not found[0].owner:
        by = f"; {found[0]} holds it now" if found and found[0].owner else ""
        raise SessionFencedError(
            f"session {session_id} was taken over{by}: nothing was written; resume it to go on",
            session_id=session_id,
            holder=str(found[0]) if found else None,
        )
    held, _, old_ttl_s = found
    if ttl_s is not None or held.expires_at - now(db) < old_ttl_s / 2:
        new_ttl_s = old_ttl_s if ttl_s is None else ttl_s
        db.execute(
            f"UPDATE leases SET ttl_s = ?, expires_at = {_NOW} + ? WHERE session_id = ?",
            (new_ttl_s, new_ttl_s, session_id),
        )


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
