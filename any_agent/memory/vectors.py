"""Vectors of texts: float32 blobs beside the texts, ranked by cosine. All stored vectors have length 1."""

from __future__ import annotations

import inspect
import math
import sqlite3
import sys
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from ..errors import InvalidInputError
from .finding import Filters

Vectors: TypeAlias = Sequence[Sequence[float]]
Embed: TypeAlias = Callable[[list[str]], "Awaitable[Vectors] | Vectors"]
BATCH = 64
_MATRIX_ROWS = 50_000  # beyond that a matrix in memory costs more than sqlite-vec's scan


async def embedded(embed: Embed, texts: list[str]) -> list[bytes]:
    """Vectors of the texts as blobs of length-1 float32.

    Raises:
        InvalidInputError: `embed` gave something else than one vector of numbers per text.
    """
    answer = embed(texts)
    vectors = await answer if inspect.isawaitable(answer) else answer
    blobs = [blob(vector) for vector in vectors]
    if len(blobs) != len(texts) or len({len(one) for one in blobs}) > 1:
        raise InvalidInputError(f"embed gave {len(blobs)} vectors for {len(texts)} texts", field="embed")
    return blobs


def blob(vector: Iterable[float]) -> bytes:
    """A vector of length 1, as little-endian float32."""
    numbers = array("f", vector)
    size = math.sqrt(math.fsum(x * x for x in numbers))
    if not size or not math.isfinite(size):
        raise InvalidInputError("embed gave a vector without a direction", field="embed")
    unit = array("f", [x / size for x in numbers])
    if sys.byteorder == "big":
        unit.byteswap()
    return unit.tobytes()


def missing(db: sqlite3.Connection, model: str, limit: int, size_bytes: int | None = None) -> list[tuple[int, str]]:
    """(id, stored text) of texts without a vector of this model, and of this size if it is known; the newest first."""
    return db.execute(
        "SELECT t.id, t.text FROM texts t LEFT JOIN vectors v ON v.text_id = t.id AND v.model = :model "
        "AND (:size IS NULL OR length(v.vector) = :size) WHERE v.text_id IS NULL ORDER BY t.id DESC LIMIT :limit",
        {"model": model, "size": size_bytes, "limit": limit},
    ).fetchall()


def put(db: sqlite3.Connection, model: str, rows: Sequence[tuple[int, bytes]]) -> int:
    """Keep vectors; texts that were deleted meanwhile are passed over."""
    kept = 0
    for text_id, vector in rows:
        if db.execute("SELECT 1 FROM texts WHERE id = ?", (text_id,)).fetchone():
            kept += db.execute("REPLACE INTO vectors VALUES (?, ?, ?)", (text_id, model, vector)).rowcount
    db.execute("REPLACE INTO meta VALUES ('vectors', ?)", (_changes(db) + 1,))
    return kept


def _changes(db: sqlite3.Connection) -> int:
    """How often vectors were put in: a matrix in memory is good until that changes."""
    row = db.execute("SELECT value FROM meta WHERE name = 'vectors'").fetchone()
    return int(row[0]) if row else 0


class Ranking:
    """Which stored vectors are nearest. Uses NumPy, sqlite-vec when it loads, else plain Python."""

    def __init__(self) -> None:
        self._matrix: tuple[Any, Any, Any] | None = None  # (what it was made of, ids, matrix)
        self._has_sqlite_vec: bool | None = None

    def nearest(
        self, db: sqlite3.Connection, model: str, vector: bytes, limit: int, filters: Filters
    ) -> list[tuple[int, float]]:
        """(id of the text, cosine), nearest first."""
        where, values = filters.conditions()
        count = db.execute("SELECT count(*) FROM vectors WHERE model = ?", (model,)).fetchone()[0]
        numpy = _numpy()
        if not count:
            return []
        if (numpy is None or count > _MATRIX_ROWS) and self._loads_sqlite_vec(db):
            return _by_sqlite_vec(db, model, vector, limit, where, values)
        if numpy is None:
            return _by_python(db, model, vector, limit, where, values)
        allowed = None
        if where:
            rows = db.execute(f"SELECT t.id FROM texts t WHERE 1{where}", values)
            allowed = numpy.fromiter((row[0] for row in rows), dtype="int64")
        version = (model, len(vector), count, _changes(db))
        if self._matrix is None or self._matrix[0] != version:
            self._matrix = (version, *_matrix(db, numpy, model, len(vector)))
        _, ids, matrix = self._matrix
        if allowed is not None:
            chosen = numpy.isin(ids, allowed)
            ids, matrix = ids[chosen], matrix[chosen]
        scores = matrix @ numpy.frombuffer(vector, dtype="<f4")
        top = numpy.argsort(-scores, kind="stable")[:limit]
        return [(int(ids[place]), float(scores[place])) for place in top]

    def _loads_sqlite_vec(self, db: sqlite3.Connection) -> bool:
        if self._has_sqlite_vec is None:
            self._has_sqlite_vec = False
            with suppress(ImportError, AttributeError, sqlite3.Error):  # many Pythons are built without extensions
                import sqlite_vec  # type: ignore[import-not-found,unused-ignore]

                db.enable_load_extension(True)
                try:
                    sqlite_vec.load(db)
                finally:
                    db.enable_load_extension(False)
                self._has_sqlite_vec = True
        return self._has_sqlite_vec


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


_NEAR = "FROM vectors v JOIN texts t ON t.id = v.text_id WHERE v.model = ? AND length(v.vector) = ?"


def _matrix(db: sqlite3.Connection, numpy: Any, model: str, size_bytes: int) -> tuple[Any, Any]:
    rows = db.execute(
        "SELECT text_id, vector FROM vectors WHERE model = ? AND length(vector) = ? ORDER BY text_id",
        (model, size_bytes),
    ).fetchall()
    ids = numpy.fromiter((row[0] for row in rows), dtype="int64", count=len(rows))
    return ids, numpy.frombuffer(b"".join([row[1] for row in rows]), dtype="<f4").reshape(len(rows), size_bytes // 4)


def _by_sqlite_vec(
    db: sqlite3.Connection, model: str, vector: bytes, limit: int, where: str, values: list[Any]
) -> list[tuple[int, float]]:
    query = f"SELECT v.text_id, 1 - vec_distance_cosine(v.vector, ?) AS near {_NEAR}{where} ORDER BY near DESC LIMIT ?"
    return db.execute(query, (vector, model, len(vector), *values, limit)).fetchall()


def _by_python(
    db: sqlite3.Connection, model: str, vector: bytes, limit: int, where: str, values: list[Any]
) -> list[tuple[int, float]]:
    wanted = _floats(vector)
    scored = []
    for text_id, stored in db.execute(f"SELECT v.text_id, v.vector {_NEAR}{where}", (model, len(vector), *values)):
        scored.append((text_id, math.fsum(map(float.__mul__, wanted, _floats(stored)))))
    scored.sort(key=lambda one: (-one[1], one[0]))
    return scored[:limit]


def _floats(stored: bytes) -> list[float]:
    numbers = array("f", stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    return list(numbers)
