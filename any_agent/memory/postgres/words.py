"""Words for PostgreSQL's text search: texts as `tsvector`, what a user types as `tsquery`.

PostgreSQL's own parser takes `example.com/menu` for one word and does not cut scripts without spaces, so texts are cut
here, by the rules of words.py. Chinese, Japanese and Thai become single signs and pairs of neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ..words import _PIECE, _SIGN, telling_terms, terms

_ACCENTS = re.compile("(?<=[a-z])[\u0300-\u036f]+")  # й is another letter than и
_WORD = re.compile("[a-z0-9]+")
_MOST_CHARS = 500  # of a word; PostgreSQL takes 2,046 bytes
_MOST_PLACES = 16  # of one word in one text
# A tsvector holds 1 MB; what comes later in a text is not found by its words.
_MOST_WORDS = 100_000
_MOST_BYTES = 500_000


class _Signs(dict[int, int]):
    """For str.translate: letters, digits and marks stay, all else is space."""

    def __missing__(self, code: int) -> int:
        sign = chr(code)
        kept = code if sign.isalnum() or unicodedata.category(sign)[0] == "M" else 32
        self[code] = kept
        return kept


_SIGNS = _Signs()


def _folded(text: str) -> str:
    """In small letters; Latin ones without accents."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text.lower())))


def _words(text: str) -> Iterator[str]:
    folded = _folded(text)
    if folded.isascii():
        yield from _WORD.findall(folded)
        return
    for word in folded.translate(_SIGNS).split():
        for piece in _PIECE.findall(word):
            if not _SIGN.match(piece):
                yield piece
            else:
                yield from piece
                yield from (piece[place : place + 2] for place in range(len(piece) - 1))


def vector(text: str) -> str:
    """The text as PostgreSQL reads a tsvector."""
    places: dict[str, list[int]] = {}
    size_bytes = 0
    for place, word in enumerate(_words(text), 1):
        known = places.get(word := word[:_MOST_CHARS])
        if known is None:
            size_bytes += len(word) * (1 if word.isascii() else 4) + 8
            if place > _MOST_WORDS or size_bytes > _MOST_BYTES:
                break
            places[word] = [place]
        elif len(known) < _MOST_PLACES:
            known.append(place)
    return " ".join([f"'{word}':{','.join(map(str, at))}" for word, at in places.items()])


def _sign_query(term: str) -> str:
    pairs = [f"'{term[place : place + 2]}'" for place in range(len(term) - 1)]
    return f"({' & '.join(pairs)})" if pairs else f"'{term}'"


def _query_of(term: str, is_unfinished: bool = False) -> str:
    term = _folded(term)
    if _SIGN.match(term):
        return _sign_query(term[:_MOST_CHARS])
    return f"'{term[:_MOST_CHARS]}'" + (":*" if is_unfinished else "")


def query_all(query: str) -> str:
    """A tsquery: every word, the last one may be unfinished. "" when there is no word in it."""
    found = telling_terms(query)
    if not found:
        return ""
    last = terms(query)[-1]
    return " & ".join(_query_of(term, term == last) for term in found)


def queries(query: str) -> list[str]:
    """A tsquery for each of the words."""
    return [_query_of(term) for term in telling_terms(query)]
