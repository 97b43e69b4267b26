"""Proper names spelt two ways, and possessives of names that lost their apostrophe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from .spans import Flag

_NAME = re.compile(r"(?<![\w'’-])[A-Z][a-z]{3,}(?![\w-]|['’](?!s\b))")
# Behind one of these a capital says "name", not "start of a sentence".
_MID_SENTENCE = re.compile(r"(?:[a-z,;]|\b(?:Mr|Mrs|Ms|Dr|Miss|Sir|Lady|Lord|Captain|Uncle|Aunt)\.?) $")
_PLURAL_BEFORE = re.compile(
    r"\b(?:the|two|three|four|five|both|all|many|few|of|other|these|those|several|dear|young|old|little) $",
    re.IGNORECASE,
)
# A possessive has a noun or its adjective behind it.
_NOUN_AFTER = re.compile(
    r" (?!(?:always|and|are|as|at|but|by|did|do|for|from|had|have|in|is|never|of|on|or|that|to|was|were|who|will|with|"
    r"would)\b)[a-z]{2}"
)
_TITLES = frozenset({"Master", "Mister", "Missis", "Missus", "Mistress"})
_MIN_COUNT = 3
_COMMONER = 3


def name_flags(prose: str, known_words: frozenset[str]) -> Iterator[Flag]:
    """Flags rare variants of frequent names; `known_words` are right as they stand and need no frequency.

    Args:
        prose: The text as `spans.prose` gives it.
        known_words: Words of the project, in their own case.
    """
    places = list(_NAME.finditer(prose))
    counts = Counter(match.group() for match in places)
    mid = Counter(match.group() for match in places if _stands_behind(_MID_SENTENCE, prose, match.start()))
    lower = set(re.findall(r"(?<![\w'’-])[a-z]{4,}", prose))
    names = {word for word, count in counts.items() if mid[word] and count >= _MIN_COUNT and word.lower() not in lower}
    names |= {word for word in known_words if re.fullmatch(r"[A-Z][a-z]{3,}", word)}
    variants = {
        word: name
        for word in counts
        if word not in names and word not in known_words and word.lower() not in lower
        for name in [_original(word, names, counts, known_words)]
        if name
    }
    for match in places:
        word = match.group()
        name = variants.get(word)
        if name is None:
            continue
        if word != name + "s":
            yield Flag(
                match.start(),
                match.end(),
                "consistency",
                "medium",
                f"“{word}” is spelt “{name}” elsewhere.",
                name,
                "builtin:name-variant",
            )
        elif _NOUN_AFTER.match(prose, match.end()) and not _stands_behind(_PLURAL_BEFORE, prose, match.start()):
            yield Flag(
                match.start(),
                match.end(),
                "mechanical",
                "high",
                f"The possessive of “{name}” has an apostrophe.",
                name + "'s",
                "builtin:name-possessive",
            )


def _stands_behind(pattern: re.Pattern[str], prose: str, start: int) -> bool:
    return pattern.search(prose, max(0, start - 12), start) is not None


def _original(word: str, names: set[str], counts: Counter[str], known_words: frozenset[str]) -> str | None:
    """The name that `word` is a variant of, rarer unless the name is known; the most frequent one of several."""
    close = [
        name
        for name in names
        if name[0] == word[0]
        and (counts[name] >= _COMMONER * counts[word] or name in known_words)
        and _is_variant(word, name)
    ]
    return min(close, key=lambda name: (-counts[name], name), default=None)


def _is_variant(word: str, name: str) -> bool:
    if word == name + "s":
        return True
    # Pete and Peter, German and Germany are no variants.
    if len(name) < 5 or name.startswith(word) or word.startswith(name) or {word, name} <= _TITLES:
        return False
    return edit_distance(word, name) <= (2 if len(name) >= 8 else 1)


def edit_distance(one: str, other: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two words."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (char != wanted))
            if i > 1 and j > 1 and char == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
