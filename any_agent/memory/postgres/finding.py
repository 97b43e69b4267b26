"""Search on PostgreSQL: which texts fit, best first, and what they say; indexed documents and vectors of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import time
from typing import Any

from .. import vectors
from ..documents import Document
from ..entries import clean
from ..finding import Filters
from ..live import LIVE
from ..seam import Hit
from ..words import snippet
from .link import Transaction
from .words import queries, query_all, vector

_HALF_LIFE_S = 30 * 86_400.0
_NEW_IS_WORTH = 0.15  # of the score, for what was said just now
_READ_MORE = 4  # candidates per hit, for ordering by age as well
_COUNTED = 2_000  # texts that hold a word are counted up to here, to tell rare words from frequent ones


def _conditions(filters: Filters) -> tuple[str, list[Any]]:
    where, values = filters.conditions()
    return where.replace("?", "%s"), values


async def ranked(tx: Transaction, query: str, limit: int, filters: Filters) -> list[tuple[int, float]]:
    """(id of the text, score), best first: what holds all words, then what holds some."""
    every, each = query_all(query), queries(query)
    if not every:
        return []
    found = await _scored(tx, every, "ts_rank(t.words, %s::tsquery, 1)", [every], limit, filters, 1.0)
    if len(found) < limit and [every] != each:
        known = {text_id for text_id, _ in found}
        # Frequent words tell little: PostgreSQL's own rank does not know how frequent a word is.
        parts = "SELECT count(*) FROM (SELECT 1 FROM texts WHERE words @@ %s::tsquery LIMIT %s) c"
        counts = [await tx.send(parts, (one, _COUNTED)) for one in each]
        worth = [math.log(1 + _COUNTED / (0.5 + (await count.fetchone())[0])) for count in counts]
        rank = " + ".join(["%s::float8 * ts_rank(t.words, %s::tsquery, 1)"] * len(each))
        values = [part for pair in zip(worth, each, strict=True) for part in pair]
        more = await _scored(tx, " | ".join(each), rank, values, limit + len(known), filters, 0.0)
        found += [one for one in more if one[0] not in known]
    return found[:limit]


async def _scored(
    tx: Transaction, match: str, rank: str, values: list[Any], limit: int, filters: Filters, bonus: float
) -> list[tuple[int, float]]:
    where, more = _conditions(filters)
    rows = await tx.all(
        f"SELECT t.id, {rank} AS rank, t.created_at FROM texts t WHERE t.words @@ %s::tsquery{where} "
        "ORDER BY rank DESC, t.id DESC LIMIT %s",
        (*values, match, *more, max(limit * _READ_MORE, 20)),
    )
    now, found = time(), []
    for text_id, value, created_at in rows:
        age = max(0.0, now - created_at) / _HALF_LIFE_S
        value *= 1 + _NEW_IS_WORTH * 0.5**age
        found.append((text_id, value / (1 + value) + bonus))
    found.sort(key=lambda one: (-one[1], -one[0]))
    return found[:limit]


async def without_echoes(tx: Transaction, scored: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Leave out interactions of sessions that have messages: they say the same once more."""
    rows = await tx.all(
        "SELECT t.id FROM texts t WHERE t.id = ANY(%s) AND t.source = 'interaction' "
        "AND EXISTS (SELECT 1 FROM messages m WHERE m.session_id = t.session_id)",
        ([text_id for text_id, _ in scored],),
    )
    echoes = {row[0] for row in rows}
    return [one for one in scored if one[0] not in echoes]


async def hits(tx: Transaction, scored: Sequence[tuple[int, float]], query: str) -> list[Hit]:
    """What the texts say, in the order given."""
    if not scored:
        return []
    rows = await tx.all(
        "SELECT t.id, t.source, t.text, t.created_at, t.session_id, t.seq, t.role, d.path, t.heading, t.start_line, "
        "t.end_line FROM texts t LEFT JOIN documents d ON d.id = t.document_id WHERE t.id = ANY(%s)",
        ([text_id for text_id, _ in scored],),
    )
    by_id = {row[0]: row[1:] for row in rows}
    return [
        Hit(source, text, snippet(text, query), score, *rest)
        for text_id, score in scored
        for source, text, *rest in [by_id[text_id]]
    ]


# ------------------------------------------------------------------ interactions


async def interactions(tx: Transaction, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """(prompt, response, metadata as JSON text, created_at) by (session_id, seq)."""
    rows = await tx.all(
        "SELECT session_id, seq, prompt, response, metadata, created_at FROM interactions "
        "JOIN unnest(%s::text[], %s::bigint[]) AS wanted (session_id, seq) USING (session_id, seq) "
        f"WHERE {LIVE['interaction']}",
        ([key[0] for key in keys], [key[1] for key in keys]),
    )
    return {(row[0], row[1]): row[2:] for row in rows}


async def newest_interactions(tx: Transaction, limit: int) -> list[tuple[str, int]]:
    rows = await tx.all(
        f"SELECT session_id, seq FROM interactions WHERE {LIVE['interaction']} "
        "ORDER BY created_at DESC, id DESC LIMIT %s",
        (limit,),
    )
    return [(row[0], row[1]) for row in rows]


# ------------------------------------------------------------------ documents


async def digests(tx: Transaction, root: str, separator: str) -> dict[str, str]:
    """Digest by path of the indexed documents at or below a path."""
    below = root.rstrip(separator) + separator
    rows = await tx.all(
        "SELECT path, digest FROM documents WHERE path = %s OR starts_with(path, %s)", (clean(root), clean(below))
    )
    return {row[0]: row[1] for row in rows}


async def put_document(tx: Transaction, document: Document) -> None:
    """Write a document, in place of what was there of it."""
    row = await tx.one(
        "INSERT INTO documents AS d (path, title, digest, size_bytes, indexed_at) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (path) DO UPDATE SET title = excluded.title, digest = excluded.digest, "
        "size_bytes = excluded.size_bytes, indexed_at = excluded.indexed_at RETURNING id, indexed_at",
        (clean(document.path), clean(document.title), document.digest, document.size_bytes, time()),
    )
    assert row is not None
    document_id, now = row
    await tx.send("DELETE FROM texts WHERE document_id = %s", (document_id,))
    for piece in document.chunks:
        await tx.send(
            "INSERT INTO texts (source, session_id, document_id, heading, start_line, end_line, created_at, text, "
            "words) VALUES ('document', '', %s, %s, %s, %s, %s, %s, %s)",
            (document_id, piece.heading, piece.start_line, piece.end_line, now, piece.text, vector(piece.text)),
        )


async def remove_documents(tx: Transaction, paths: Sequence[str]) -> int:
    return await tx.count("DELETE FROM documents WHERE path = ANY(%s)", ([clean(path) for path in paths],))


# ------------------------------------------------------------------ vectors


async def without_vector(tx: Transaction, model: str, limit: int, size_bytes: int | None) -> list[tuple[int, str]]:
    """(id, text) of texts without a vector of this model, and of this size if it is known; the newest first."""
    rows = await tx.all(
        "SELECT t.id, t.text FROM texts t WHERE NOT EXISTS (SELECT 1 FROM vectors v WHERE v.text_id = t.id "
        "AND v.model = %s AND length(v.vector) = coalesce(%s::int, length(v.vector))) ORDER BY t.id DESC LIMIT %s",
        (model, size_bytes, limit),
    )
    return [(row[0], row[1]) for row in rows]


async def put_vectors(tx: Transaction, model: str, rows: Sequence[tuple[int, bytes]]) -> None:
    """Keep vectors; texts that were deleted meanwhile are passed over."""
    for text_id, blob in rows:
        await tx.send(
            "INSERT INTO vectors (text_id, model, vector) SELECT id, %s, %s FROM texts WHERE id = %s FOR KEY SHARE "
            "ON CONFLICT (text_id, model) DO UPDATE SET vector = excluded.vector, id = DEFAULT",
            (model, blob, text_id),
        )


class Nearest:
    """Which stored vectors are nearest: all of them in memory, read anew when one was added or deleted."""

    def __init__(self) -> None:
        self._kept: tuple[Any, list[int], list[bytes]] | None = None
        self._matrix: Any = None

    async def find(
        self, tx: Transaction, model: str, wanted: bytes, limit: int, filters: Filters
    ) -> list[tuple[int, float]]:
        """(id of the text, cosine), nearest first."""
        counted = await tx.one(
            "SELECT count(*), max(id) FROM vectors WHERE model = %s AND length(vector) = %s", (model, len(wanted))
        )
        version = (model, len(wanted), counted)
        if self._kept is None or self._kept[0] != version:
            rows = await tx.all(
                "SELECT text_id, vector FROM vectors WHERE model = %s AND length(vector) = %s ORDER BY text_id",
                (model, len(wanted)),
            )
            self._kept = (version, [row[0] for row in rows], [bytes(row[1]) for row in rows])
            self._matrix = None
        _, ids, blobs = self._kept
        scores = self._scores(blobs, wanted)
        where, values = _conditions(filters)
        if where:
            allowed = {row[0] for row in await tx.all(f"SELECT t.id FROM texts t WHERE true{where}", values)}
            pairs = [(text_id, score) for text_id, score in zip(ids, scores, strict=True) if text_id in allowed]
        else:
            pairs = list(zip(ids, scores, strict=True))
        pairs.sort(key=lambda one: (-one[1], one[0]))
        return pairs[:limit]

    def _scores(self, blobs: list[bytes], wanted: bytes) -> list[float]:
        numpy = vectors._numpy()
        if numpy is None:
            numbers = vectors._floats(wanted)
            return [math.fsum(map(float.__mul__, numbers, vectors._floats(blob))) for blob in blobs]
        if self._matrix is None or len(self._matrix) != len(blobs):
            self._matrix = numpy.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), len(wanted) // 4)
        scores: list[float] = (self._matrix @ numpy.frombuffer(wanted, dtype="<f4")).tolist()
        return scores
