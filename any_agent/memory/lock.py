"""A lock file beside the database: all our writers, of all processes, take turns.

SQLite before 3.51.3 can damage a WAL when two connections write or checkpoint at the same instant
(sqlite.org/wal.html, "WAL-reset bug"); and waiting here is fairer than SQLite's own retries.
"""

from __future__ import annotations

import os
import sqlite3
import time
from types import TracebackType
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: SQLite's own locks alone
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAP_S = 0.005


class FileLock:
    """`with lock:` for one thread; waits up to `timeout_s`. Without a path, or on Windows, it does nothing.

    The database file itself must not be opened for this: closing it would drop SQLite's own locks of the process.
    """

    def __init__(self, path: str | None, timeout_s: float) -> None:
        self._path = path if fcntl is not None else None
        self._timeout_s = timeout_s
        self._handle = -1

    def __enter__(self) -> FileLock:
        if self._path is None:
            return self
        if self._handle < 0:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        limit, nap_s = time.monotonic() + self._timeout_s, 0.0002
        while not self._is_taken():
            if time.monotonic() >= limit:
                raise sqlite3.OperationalError(f"database is locked for {self._timeout_s:g} s by {self._path}")
            time.sleep(nap_s)
            nap_s = min(nap_s * 1.5, _LONGEST_NAP_S)
        return self

    def _is_taken(self) -> bool:
        locking: Any = fcntl
        try:
            locking.flock(self._handle, locking.LOCK_EX | locking.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: SQLite's own must do
            self.close()
            self._path = None
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._handle >= 0:
            locking: Any = fcntl
            locking.flock(self._handle, locking.LOCK_UN)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
