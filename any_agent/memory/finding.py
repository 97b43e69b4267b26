"""Full-text search on SQLite: which texts fit, best first, and what they say."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from .seam import Hit
from .words import match_all, match_any, readable, snippet

_HALF_LIFE_S = 30 * 86_400.0
_NEW_IS_WORTH = 0.15  # of the score, for what was said just now
_READ_MORE = 4  # candidates per hit, for ordering by age as well


@dataclass(frozen=True, slots=True)
class Filters:
    """Which texts may be found at all."""

    session_id: str | None = None
    tag: str | None = None
    role: str | None = None
    sources: Sequence[str] | None = None
    since: float | None = None

    def conditions(self) -> tuple[str, list[Any]]:
        """SQL on `texts t`, beginning with AND, and its values. "" when everything may be found."""
        where, values = "", list[Any]()
        for value, condition in (
            (self.session_id, "t.session_id = ?"),
            (self.tag, "t.session_id IN (SELECT session_id FROM session_tags WHERE tag = ?)"),
            (self.role, "t.role = ?"),
            (self.since, "t.created_at >= ?"),
        ):
            if value is not None:
                where += f" AND {condition}"
                values.append(value)
        if self.sources is not None:
            where += f" AND t.source IN ({', '.join('?' * len(self.sources))})"
            values += self.sources
        return where, values


def ranked(db: sqlite3.Connection, query: str, limit: int, filters: Filters) -> list[tuple[int, float]]:
    """(id of the text, score), best first: what holds all words, then what holds some."""
    every, some = match_all(query), match_any(query)
    if not every:
        return []
    found = _scored(db, every, limit, filters, 1.0)
    if len(found) < limit and some != every:
        known = {text_id for text_id, _ in found}
        found += [one for one in _scored(db, some, limit + len(known), filters, 0.0) if one[0] not in known]
    return found[:limit]


def _scored(db: sqlite3.Connection, match: str, limit: int, filters: Filters, bonus: float) -> list[tuple[int, float]]:
    where, values = filters.conditions()
    most = max(limit * _READ_MORE, 20)
    if where:
        inner = (
            "SELECT f.rowid AS id, f.rank AS rank FROM texts_fts f JOIN texts t ON t.id = f.rowid "
            f"WHERE texts_fts MATCH ?{where} ORDER BY f.rank LIMIT ?"
        )
    else:
        inner = "SELECT rowid AS id, rank FROM texts_fts WHERE texts_fts MATCH ? ORDER BY rank LIMIT ?"
    query = f"SELECT r.id, r.rank, t.created_at FROM ({inner}) r JOIN texts t ON t.id = r.id"
    now, found = time(), []
    for text_id, rank, created_at in db.execute(query, (match, *values, most)):
        age = max(0.0, now - created_at) / _HALF_LIFE_S
        value = -rank * (1 + _NEW_IS_WORTH * 0.5**age)
        found.append((text_id, value / (1 + value) + bonus))
    found.sort(key=lambda one: (-one[1], -one[0]))
    return found[:limit]


def without_echoes(db: sqlite3.Connection, scored: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Leave out interactions of sessions that have messages: they say the same once more."""
    marks = ", ".join("?" * len(scored))
    rows = db.execute(
        f"SELECT t.id FROM texts t WHERE t.id IN ({marks}) AND t.source = 'interaction' "
        "AND EXISTS (SELECT 1 FROM messages m WHERE m.session_id = t.session_id)",
        [text_id for text_id, _ in scored],
    )
    echoes = {row[0] for row in rows}
    return [one for one in scored if one[0] not in echoes] if echoes else list(scored)


_COLUMNS = """t.id, t.source, t.text, t.created_at, t.session_id, t.seq, t.role,
    d.path, t.heading, t.start_line, t.end_line
    FROM texts t LEFT JOIN documents d ON d.id = t.document_id"""


def hits(db: sqlite3.Connection, scored: Sequence[tuple[int, float]], query: str) -> list[Hit]:
    """What the texts say, in the order given."""
    marks = ", ".join("?" * len(scored))
    rows = db.execute(f"SELECT {_COLUMNS} WHERE t.id IN ({marks})", [text_id for text_id, _ in scored])
    by_id = {row[0]: row for row in rows}
    found = []
    for text_id, score in scored:
        if text_id not in by_id:
            continue
        _, source, stored, created_at, session_id, seq, role, path, heading, start, end = by_id[text_id]
        text = readable(stored)
        cut = snippet(text, query)
        found.append(Hit(source, text, cut, score, created_at, session_id, seq, role, path, heading, start, end))
    return found


def fused(rankings: Sequence[Sequence[int]], limit: int) -> list[tuple[int, float]]:
    """Several rankings as one, by reciprocal rank: (id, score), best first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, text_id in enumerate(ranking):
            scores[text_id] = scores.get(text_id, 0.0) + 1 / (60 + place)
    return sorted(scores.items(), key=lambda one: (-one[1], -one[0]))[:limit]


# ------------------------------------------------------------------ interactions


def interactions(db: sqlite3.Connection, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """(prompt, response, metadata as JSON text, created_at) by (session_id, seq)."""
    found = {}
    for key in keys:
        row = db.execute(
            "SELECT prompt, response, metadata, created_at FROM interactions WHERE session_id = ? AND seq = ?", key
        ).fetchone()
        if row:
            found[key] = row
    return found


def newest_interactions(db: sqlite3.Connection, limit: int) -> list[tuple[str, int]]:
    query = "SELECT session_id, seq FROM interactions ORDER BY created_at DESC, id DESC LIMIT ?"
    return [(row[0], row[1]) for row in db.execute(query, (limit,))]
