"""The finding half of MemoryStore: search by words and by meaning, interactions, indexed documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import MemoryStoreError
from . import documents, finding, vectors
from .common import interaction_of
from .database import Database
from .documents import Document
from .finding import Filters
from .indexing import catch_up, is_behind
from .seam import Hit
from .sql_store import SqlStore
from .words import readable


class SearchingStore(SqlStore[Database]):
    """Needs a database, and, to search by meaning, what makes vectors of texts."""

    _embedding_model: str
    _ranking: vectors.Ranking

    async def search(
        self,
        query: str,
        limit: int = 5,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        role: str | None = None,
        sources: Sequence[str] | None = None,
        since: float | None = None,
    ) -> list[Hit]:
        """What was said, or stands in indexed documents, best first. Any text is a query; none raises.

        With `embed`, by words and by meaning; else by words alone.

        Args:
            sources: only these: message, interaction, document; None: all, but no interaction of a session whose
                messages say the same.
            since: seconds since 1970.
        """
        filters = Filters(session_id, tag, role, sources, since)
        if limit < 1:
            return []
        await self._catch_up()
        wanted = await self._query_vector(query)
        model, ranking, most = self._embedding_model, self._ranking, 4 * limit

        def find(db: sqlite3.Connection) -> list[Hit]:
            found = finding.ranked(db, query, most, filters)
            if wanted is not None:
                near = ranking.nearest(db, model, wanted, most, filters)
                found = finding.fused([[one for one, _ in some] for some in (found, near)], most)
            if sources is None:
                found = finding.without_echoes(db, found)
            return finding.hits(db, found[:limit], query)

        return await self._db.read(find)

    async def _catch_up(self) -> None:
        """Make what was just said searchable. Where that cannot be written, search goes on with what is known.

        Raises:
            MemoryStoreError: another program holds the file: to wait and ask again finds more.
        """
        try:
            while await self._db.read(is_behind) and await self._db.write(catch_up):
                pass
        except MemoryStoreError as error:
            if error.reason == "locked":
                raise

    async def embed_missing(self, limit: int = 10_000) -> int:
        """Make vectors of texts that have none, the newest first; returns how many. 0 without `embed`."""
        if self._embed is not None:
            await self._catch_up()
        return await super().embed_missing(limit)

    async def _without_vector(self, limit: int) -> Sequence[tuple[int, str]]:
        model, size_bytes = self._embedding_model, self._vector_bytes
        found = await self._db.read(lambda db: vectors.missing(db, model, limit, size_bytes))
        return [(text_id, readable(text)) for text_id, text in found]

    async def _put_vectors(self, rows: Sequence[tuple[int, bytes]]) -> None:
        await self._db.write(partial(vectors.put, model=self._embedding_model, rows=rows))

    async def _interactions(self, hits: Sequence[Hit] | None, limit: int) -> list[dict[str, Any]]:
        def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
            if hits is None:
                scores = dict.fromkeys(finding.newest_interactions(db, limit), 0.0)
            else:
                scores = {(hit.session_id, hit.seq or 0): hit.score for hit in hits}
            rows = finding.interactions(db, list(scores))
            return [interaction_of(*key, rows[key], score) for key, score in scores.items() if key in rows]

        return await self._db.read(find)

    async def _digests(self, root: str) -> dict[str, str]:
        return await self._db.read(lambda db: documents.digests(db, root))

    async def _put_document(self, document: Document) -> None:
        await self._db.write(lambda db: documents.put(db, document))

    async def _remove_documents(self, paths: Sequence[str]) -> int:
        return await self._db.write(lambda db: documents.remove(db, paths))
