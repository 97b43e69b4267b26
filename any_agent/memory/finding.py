"""Full-text search on SQLite: which texts fit, best first, and what they say."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import time
from typing import Any

from .live import LIVE
from .seam import Hit
from .words import match_all, match_beginning, quoted, readable, snippet, telling_terms

_HALF_LIFE_S = 30 * 86_400.0
_NEW_IS_WORTH = 0.15  # of the score, for what was said just now
_READ_MORE = 4  # candidates per hit, for ordering by age as well
_MOST_RANKED = 2_500  # texts; to rank the 50,000 that hold a frequent word takes 20 times as long


@dataclass(frozen=True, slots=True)
class Filters:
    """Which texts may be found at all."""

    session_id: str | None = None
    tag: str | None = None
    role: str | None = None
    sources: Sequence[str] | None = None
    since: float | None = None

    def fitting(self, match: str) -> tuple[str, list[Any]]:
        """SQL from FROM on: the index `texts_fts f`, what matches and may be found; and its values."""
        where, values = self.conditions()
        if not where:
            return "FROM texts_fts f WHERE texts_fts MATCH ?", [match]
        if self.session_id is None and self.tag is None and tuple(self.sources or ()) != ("document",):
            return f"FROM texts_fts f JOIN texts t ON t.id = f.rowid WHERE texts_fts MATCH ?{where}", [match, *values]
        # Few texts: their ids are read once. The `+` keeps FTS5 from asking for each of them anew.
        few = "t.document_id IS NOT NULL" if self.sources == ("document",) else "1"
        chosen = f"+f.rowid IN (SELECT t.id FROM texts t WHERE {few}{where})"
        return f"FROM texts_fts f WHERE texts_fts MATCH ? AND {chosen}", [match, *values]

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
    found: list[tuple[int, float]] = []
    for match, bonus in _matches(db, query):
        known = {text_id for text_id, _ in found}
        more = _scored(db, match, limit + len(known), filters, bonus)
        found += [one for one in more if one[0] not in known]
        if len(found) >= limit:
            break
    return found[:limit]


def _matches(db: sqlite3.Connection, query: str) -> Iterator[tuple[str, float]]:
    """FTS5 queries, each asking for less than the one before, and what each is worth."""
    words = [quoted(term) for term in telling_terms(query)]
    if not words:
        return
    whole, unfinished = match_all(query, is_finished=True), match_all(query)
    yield whole, 2.0
    if unfinished != whole:
        yield unfinished, 1.0
    if len(words) > 1:
        counted = "SELECT count(*) FROM (SELECT 1 FROM texts_fts WHERE texts_fts MATCH ? LIMIT ?)"
        held = {word: db.execute(counted, (word, _MOST_RANKED + 1)).fetchone()[0] for word in words}
        by_rarity = sorted(filter(held.get, words), key=lambda word: held[word])
        sums = list(accumulate(held[word] for word in by_rarity))
        rare = [word for word, texts in zip(by_rarity, sums, strict=True) if texts <= _MOST_RANKED]
        any_word = " OR ".join(by_rarity)
        if 0 < len(rare) < len(by_rarity):  # frequent words order texts with a rare one, and find none
            yield f"({' OR '.join(rare)}) AND ({any_word})", 0.0
        if by_rarity:
            yield any_word, 0.0
    elif beginning := match_beginning(query):
        yield beginning, 0.0


def _scored(db: sqlite3.Connection, match: str, limit: int, filters: Filters, bonus: float) -> list[tuple[int, float]]:
    """The best of one FTS5 query. Where very many texts fit, the newest are ranked: bm25 would read them all."""
    source, values = filters.fitting(match)
    cut = db.execute(f"SELECT f.rowid {source} ORDER BY f.rowid DESC LIMIT 1 OFFSET ?", (*values, _MOST_RANKED))
    if oldest := cut.fetchone():
        source, values = f"{source} AND f.rowid > ?", [*values, oldest[0]]
    # Not `f.rank`: to order by it, FTS5 would rank all texts that match, before any of them is left out.
    inner = f"SELECT f.rowid AS id, bm25(texts_fts) AS rank {source} ORDER BY 2, 1 DESC LIMIT ?"
    query = f"SELECT r.id, r.rank, t.created_at FROM ({inner}) r JOIN texts t ON t.id = r.id"
    now, found = time(), []
    for text_id, rank, created_at in db.execute(query, (*values, max(limit * _READ_MORE, 20))):
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
            "SELECT prompt, response, metadata, created_at FROM interactions "
            f"WHERE session_id = ? AND seq = ? AND {LIVE['interaction']}",
            key,
        ).fetchone()
        if row:
            found[key] = row
    return found


def newest_interactions(db: sqlite3.Connection, limit: int) -> list[tuple[str, int]]:
    live = LIVE["interaction"]
    query = f"SELECT session_id, seq FROM interactions WHERE {live} ORDER BY created_at DESC, id DESC LIMIT ?"
    return [(row[0], row[1]) for row in db.execute(query, (limit,))]
