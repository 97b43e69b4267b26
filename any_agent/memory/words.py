"""Words for full-text search: how texts are stored for it, and how what a user types becomes a safe query.

FTS5 finds words between spaces. Chinese, Japanese and Thai have none, so each of their signs is stored as a word of its
own, between zero-width spaces, and looked for as a phrase. The same goes for signs younger than SQLite's tables of
Unicode, which it would take for letters ("fox🦊" would not be found by "fox").
"""

from __future__ import annotations

import re
import unicodedata

from .entries import clean

_GAP = "\u200b"
# Scripts that write without spaces: Thai to Khmer, kana, Han (also beyond 16 bits), and half-width kana.
_UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)
_SIGN = re.compile(_UNSPACED)
_PIECE = re.compile(f"{_UNSPACED}+|(?:(?!{_UNSPACED}).)+")
_APART = re.compile(f"{_UNSPACED}|[^\\w\\s\\u0000-\\u00bf\\u2000-\\u206f]")
_MOST_TERMS = 12
_MOST_QUERY_CHARS = 2_000
_MOST_PATTERN_CHARS = 500
_SHORT = 2  # letters; half of all texts hold a word that begins with them
# So frequent that a search for any of them reads half the table; looked for only when nothing else was asked.
_FREQUENT = frozenset(
    """a about all also an and any are as at be been but by can could did do does for from had has have he her his how i
    if in into is it its just like me more my no not of on one only or our out she so some than that the their them then
    there these they this to up us was we were what when where which who why will with would you your
    aber als am an auch auf aus bei bin bis da das dass dem den der des die doch du ein eine einem einen einer es für
    hat ich ihr im in ist ja kann mich mir mit nach nicht noch nur oder sein sich sie sind so über um und uns von vor
    war was wie wir zu zum zur""".split()  # noqa: SIM905
)


def searchable(text: str) -> str:
    """The text as the index stores it."""
    return text if text.isascii() else _APART.sub(_set_apart, text)


def _set_apart(found: re.Match[str]) -> str:
    sign = found[0]
    is_mark = unicodedata.category(sign)[0] == "M" and not _SIGN.match(sign)  # belongs to the letter before it
    return sign if is_mark else f"{_GAP}{sign}{_GAP}"


def readable(text: str) -> str:
    """A stored text as it was said."""
    return text.replace(_GAP, "")


def terms(query: str) -> list[str]:
    """The words of what a user typed, each once; signs without spaces stay together."""
    query = query[:_MOST_QUERY_CHARS].lower()
    spaced = "".join([sign if sign.isalnum() or unicodedata.category(sign)[0] == "M" else " " for sign in query])
    found = [piece for word in spaced.split() for piece in _PIECE.findall(word)]
    return [term for term in dict.fromkeys(found) if any(map(str.isalnum, term))]


def telling_terms(query: str) -> list[str]:
    """At most 12 words that tell something; all of them when no word does."""
    found = terms(query)
    telling = [term for term in found if term not in _FREQUENT]
    return sorted(telling or found, key=len, reverse=True)[:_MOST_TERMS]


def match_all(query: str, *, is_finished: bool = False) -> str:
    """An FTS5 query: every word, the last one may be unfinished. "" when there is no word in it."""
    found = telling_terms(query)
    if not found:
        return ""
    last = terms(query)[-1]
    may_go_on = not is_finished and (len(last) > _SHORT or (len(last) == _SHORT and len(found) > 1))
    star = "*" if may_go_on and not _SIGN.match(last) else ""
    return " AND ".join(quoted(term) + (star if term == last else "") for term in found)


def match_beginning(query: str) -> str:
    """An FTS5 query: what begins with the two letters that were typed. "" when it is something else."""
    found = telling_terms(query)
    is_short = len(found) == 1 and len(found[0]) == _SHORT and not _SIGN.match(found[0])
    return f"{quoted(found[0])}*" if is_short else ""


def quoted(term: str) -> str:
    """A word as FTS5 takes it, whatever is in it; unspaced signs as a phrase."""
    return '"' + " ".join(term) + '"' if _SIGN.match(term) else f'"{term}"'


def like_pattern(text: str) -> str:
    """A LIKE pattern (ESCAPE '\\') for texts that hold this one."""
    text = clean(text[:_MOST_PATTERN_CHARS])
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def snippet(text: str, query: str, width: int = 160) -> str:
    """The piece of a text round the first word that was looked for; `…` where something is left out."""
    flat = " ".join(text.split())
    if len(flat) <= width:
        return flat
    low = flat.lower()
    places = [place for term in telling_terms(query) if (place := low.find(term)) >= 0]
    start = max(0, min(places, default=0) - width // 3)
    end = min(len(flat), start + width)
    return ("…" if start else "") + flat[start:end].strip() + ("…" if end < len(flat) else "")
