"""What every store can do on top of the seam: interactions, relevant context, export, documents."""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from ..errors import InvalidInputError, MemoryStoreError
from . import documents, vectors
from .documents import Document, IndexReport
from .entries import KINDS, Entry, Row, checked_id, encode
from .export import export as as_text
from .seam import Hit

S = TypeVar("S", bound="AnyStore")
_log = logging.getLogger("any_agent")
_EMBEDDED_BY_SEARCH = 256  # texts that a search may embed before it answers


class AnyStore(ABC):
    """The part of a store that needs no SQL. Subclasses are stores (see `seam.Store`)."""

    _embed: vectors.Embed | None = None
    _vector_bytes: int | None = None  # of the embedding model, as soon as it has made one

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    async def append(
        self,
        session_id: str,
        entries: Sequence[Mapping[str, Any]],
        *,
        fence: int | None = None,
        is_last: bool = False,
    ) -> int: ...

    @abstractmethod
    async def load(
        self,
        session_id: str,
        after: int = 0,
        *,
        kinds: Sequence[str] | None = None,
        limit: int | None = None,
        include_rewound: bool = False,
    ) -> list[Entry]: ...

    @abstractmethod
    async def session(self, session_id: str) -> Entry | None: ...

    @abstractmethod
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
    ) -> list[Hit]: ...

    @abstractmethod
    async def _interactions(self, hits: Sequence[Hit] | None, limit: int) -> list[dict[str, Any]]:
        """The interactions that were hit, in that order; None: the newest."""

    @abstractmethod
    async def _digests(self, root: str) -> dict[str, str]:
        """Digest by path of the documents at or below a path."""

    @abstractmethod
    async def _put_document(self, document: Document) -> None: ...

    @abstractmethod
    async def _remove_documents(self, paths: Sequence[str]) -> int: ...

    @abstractmethod
    async def _without_vector(self, limit: int) -> Sequence[tuple[int, str]]:
        """(id, text) of texts without a vector of this model and size, the newest first."""

    @abstractmethod
    async def _put_vectors(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Keep vectors by the texts' ids."""

    # -------------------------------------------------------------- vectors

    async def embed_missing(self, limit: int = 10_000) -> int:
        """Make vectors of texts that have none, the newest first; returns how many. 0 without `embed`."""
        done = 0
        while self._embed is not None and done < limit:
            found = await self._without_vector(min(vectors.BATCH, limit - done))
            if not found:
                break
            blobs = await vectors.embedded(self._embed, [text for _, text in found])
            self._vector_bytes = len(blobs[0])
            await self._put_vectors([(text_id, blob) for (text_id, _), blob in zip(found, blobs, strict=True)])
            done += len(found)
        return done

    async def _query_vector(self, query: str) -> bytes | None:
        """The query's vector; those of new texts are made first. None: search by words alone, as when `embed` fails.

        Raises:
            InvalidInputError: the query is no text.
        """
        if not isinstance(query, str):
            raise InvalidInputError(f"search takes text, not {query!r:.80}", field="query", value=query)
        if self._embed is None or not query.strip():
            return None
        found: bytes | None = None
        with _words_must_do():
            await self.embed_missing(_EMBEDDED_BY_SEARCH)
            (wanted,) = await vectors.embedded(self._embed, [query])
            if self._vector_bytes != len(wanted):  # another model made those that are kept, under the same name
                self._vector_bytes = len(wanted)
                await self.embed_missing(_EMBEDDED_BY_SEARCH)
            found = wanted
        return found

    # -------------------------------------------------------------- life

    async def close(self) -> None:
        """Give everything back. Safe to call twice."""
        await self.aclose()

    async def __aenter__(self: S) -> S:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    # -------------------------------------------------------------- interactions

    async def save_interaction(
        self, session_id: str, prompt: str, response: str, metadata: Mapping[str, Any] | None = None
    ) -> int:
        """Keep a prompt and its answer; returns the entry's seq. `metadata` is any JSON."""
        entry = {"kind": "interaction", "prompt": prompt, "response": response, "metadata": metadata}
        return await self.append(session_id, [entry])

    async def get_relevant_context(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """Past interactions that fit the query, best first; when none does, the newest ones. None that was rewound.

        Each is a dict with session_id, seq, timestamp (seconds since 1970), prompt, response, metadata, score.
        """
        if limit < 1:
            return []
        hits = await self.search(query, limit, sources=("interaction",))
        return await self._interactions(hits or None, limit)

    # -------------------------------------------------------------- export

    async def export(self, session_id: str, format: Literal["markdown", "html", "jsonl"] = "markdown") -> str:
        """A session as text; "jsonl" has every entry, also what was rewound, the others what was said and holds.

        Raises:
            InvalidInputError: there is no such session or format.
        """
        found = await self.session(session_id)
        if found is None:
            raise InvalidInputError(f"there is no session {session_id!r}", field="session_id", value=session_id)
        kinds = None if format == "jsonl" else ("message", "interaction", "checkpoint")
        entries = await self.load(session_id, kinds=kinds, include_rewound=format == "jsonl")
        return as_text(found, entries, format)

    # -------------------------------------------------------------- documents

    async def index(self, path: str | Path) -> IndexReport:
        """Make a file, or the text files below a folder, searchable. Only what changed is read into the index again.

        Hits of `search` name file and lines. Hidden files, links, binaries and files over 5 MB are left out; files that
        are gone leave the index.

        Raises:
            InvalidInputError: there is nothing at the path.
        """
        root = await asyncio.to_thread(_existing, path)
        known = await self._digests(str(root))
        report, seen = IndexReport(), set[str]()
        for file in await asyncio.to_thread(lambda: list(documents.files(root))):
            digest = known.get(str(file))
            document = await asyncio.to_thread(documents.read, file, digest)
            if document is None:
                report = replace(report, skipped=report.skipped + 1)
                continue
            seen.add(str(file))
            if isinstance(document, str):
                report = replace(report, unchanged=report.unchanged + 1)
                continue
            await self._put_document(document)
            report = replace(
                report,
                added=report.added + (digest is None),
                updated=report.updated + (digest is not None),
                chunks=report.chunks + len(document.chunks),
            )
        removed = await self._remove_documents([one for one in known if one not in seen])
        with _words_must_do():
            await self.embed_missing()
        return replace(report, removed=removed)

    async def forget(self, path: str | Path) -> int:
        """Take a file, or all files below a folder, out of the index; returns how many."""
        root = await asyncio.to_thread(_absolute, path)
        return await self._remove_documents(list(await self._digests(str(root))))


@contextmanager
def _words_must_do() -> Iterator[None]:
    """A server of embeddings that is away costs the search by meaning, and a warning; the next search asks it again."""
    try:
        yield
    except (InvalidInputError, MemoryStoreError):
        raise
    except Exception as error:
        _log.warning("search goes by words alone: embed failed: %s: %s", type(error).__name__, error)


def _existing(path: str | Path) -> Path:
    root = _absolute(path)
    if not root.exists():
        raise InvalidInputError(f"there is nothing at {root}", field="path", value=str(path))
    return root


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().resolve()


def rows_of(session_id: str, entries: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Entries, checked and made ready to be written.

    Raises:
        InvalidInputError: one of them is no entry, or the session id is none.
    """
    if session_id:
        checked_id("session_id", session_id)
    if isinstance(entries, (str, bytes, Mapping)):
        raise InvalidInputError("entries must be a list of dicts", field="entries", value=entries)
    return [encode(entry, session_id, place) for place, entry in enumerate(entries)]


def kinds_of(kinds: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds to load; None: all.

    Raises:
        InvalidInputError: one of them is none.
    """
    for kind in kinds or ():
        if kind not in KINDS:
            raise InvalidInputError(
                f"there is no kind {kind!r}; known are {', '.join(KINDS)}", field="kinds", value=kind
            )
    return tuple(KINDS) if kinds is None else tuple(dict.fromkeys(kinds))


def interaction_of(session_id: str, seq: int, row: Sequence[Any], score: float) -> dict[str, Any]:
    """(prompt, response, metadata, created_at) as `get_relevant_context` gives it."""
    prompt, response, metadata, created_at = row
    return {
        "session_id": session_id,
        "seq": seq,
        "timestamp": created_at,
        "prompt": prompt,
        "response": response,
        "metadata": json.loads(metadata) if metadata else {},
        "score": score,
    }
