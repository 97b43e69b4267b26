"""Documents on disk: which are worth reading, what is in them, and their rows."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time

from .chunks import Chunk, chunks
from .entries import clean
from .words import searchable

MOST_BYTES = 5_000_000
_PASSED_OVER = {"node_modules", "__pycache__", "venv", "site-packages", "dist", "build", "target"}


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `index()` did: numbers of files, and of chunks written."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A file as it was read. `path` is absolute."""

    path: str
    title: str
    digest: str
    size_bytes: int
    chunks: tuple[Chunk, ...]


def files(root: Path) -> Iterator[Path]:
    """The file itself, or the files of a folder and those below: no links, nothing hidden, no build results."""
    if root.is_file():
        yield root
        return
    for folder, names, found in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _PASSED_OVER)
        for name in sorted(found):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def read(path: Path, known_digest: str | None) -> Document | str | None:
    """The document; its digest when that is the known one; None for what is no text, too big, or unreadable."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if b"\0" in data[:8192]:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if digest == known_digest:
        return digest
    try:
        text = clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError:  # an old file, most likely of Western Europe
        text = clean(data.decode("cp1252", "replace"))
    pieces = tuple(chunks(text, path.suffix))
    title = next((piece.heading.split(" › ")[0] for piece in pieces if piece.heading), "") or path.name
    return Document(str(path), title, digest, len(data), pieces)


# ------------------------------------------------------------------ rows


def digests(db: sqlite3.Connection, root: str) -> dict[str, str]:
    """Digest by path of the indexed documents at or below a path."""
    below = root.rstrip(os.sep) + os.sep
    rows = db.execute("SELECT path, digest FROM documents")
    return {path: digest for path, digest in rows if path == root or path.startswith(below)}


def put(db: sqlite3.Connection, document: Document) -> None:
    """Write a document, in place of what was there of it."""
    remove(db, [document.path])
    now = time()
    cursor = db.execute(
        "INSERT INTO documents (path, title, digest, size_bytes, indexed_at) VALUES (?, ?, ?, ?, ?)",
        (document.path, document.title, document.digest, document.size_bytes, now),
    )
    db.executemany(
        "INSERT INTO texts (source, session_id, document_id, heading, start_line, end_line, created_at, text) "
        "VALUES ('document', '', ?, ?, ?, ?, ?, ?)",
        [
            (cursor.lastrowid, piece.heading, piece.start_line, piece.end_line, now, searchable(piece.text))
            for piece in document.chunks
        ],
    )


def remove(db: sqlite3.Connection, paths: Sequence[str]) -> int:
    return sum(db.execute("DELETE FROM documents WHERE path = ?", (path,)).rowcount for path in paths)
