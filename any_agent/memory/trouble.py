"""What goes wrong with a database file, in words that say what to do next."""

from __future__ import annotations

import sqlite3

from ..errors import InvalidInputError, MemoryStoreError

# (words in SQLite's message, reason, what to do)
_TABLE = (
    ("locked", "locked", "another program holds it: close that program, or wait and try again"),
    ("busy", "locked", "another program holds it: close that program, or wait and try again"),
    ("readonly", "read_only", "it cannot be written: check the rights of the file and its folder"),
    ("disk is full", "disk_full", "the disk is full: free some space and try again; what was saved before is safe"),
    ("not a database", "corrupt", "it is no SQLite file: move it away, or put a backup in its place"),
    ("malformed", "corrupt", "it is damaged: put a backup in its place; `sqlite3 FILE .recover` saves what is left"),
    ("unable to open", "io", "it cannot be opened: check that its folder exists and may be written"),
    ("disk i/o error", "io", "it cannot be read or written: check the disk, its space, and this process's limits"),
)  # fmt: skip


def explained(error: BaseException, path: str) -> BaseException:
    """SQLite's and the system's errors as MemoryStoreError, values it cannot take as InvalidInputError."""
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return InvalidInputError(f"the store cannot take that value: {error}")
    if isinstance(error, PermissionError):
        return store_error(path, "read_only", "it cannot be written: check the rights of the file and its folder")
    if isinstance(error, OSError):
        return store_error(path, "io", f"it cannot be opened: {error.strerror or error}")
    if not isinstance(error, sqlite3.Error):
        return error
    said = str(error)
    for words, reason, advice in _TABLE:
        if words in said.lower():
            return store_error(path, reason, f"{advice} (SQLite: {said})")
    return store_error(path, "io", f"SQLite: {said}")


def store_error(path: str, reason: str, text: str) -> MemoryStoreError:
    return MemoryStoreError(f"the store {path}: {text}", path=path, reason=reason)
