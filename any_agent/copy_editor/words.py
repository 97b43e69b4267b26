"""The word lists and patterns of the built-in rules, read once from the folder `wordlists`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

_WORDLISTS = Path(__file__).parent / "wordlists"
_GROUP = re.compile(r"\{([A-Z_]+)\}")


@dataclass(frozen=True, slots=True)
class Confusable:
    """A wrong word in its context: the group `x` of `regex`; `replacement` is a template for it."""

    rule: str
    why: str
    regex: re.Pattern[str]
    replacement: str
    narration_only: bool


@cache
def word_set(name: str) -> frozenset[str]:
    """All words of `wordlists/<name>.txt`."""
    return frozenset(word for line in _lines(name) for word in line.split())


@lru_cache(maxsize=1)
def misspellings() -> dict[str, str]:
    """Common misspellings and their right spelling."""
    return dict(line.split(" ", 1) for line in _lines("misspellings"))


@lru_cache(maxsize=1)
def confusables() -> tuple[Confusable, ...]:
    """The patterns of `wordlists/confusables.txt`, whose head describes the form."""
    groups: dict[str, str] = {}
    found: list[Confusable] = []
    rule = why = ""
    for line in _lines("confusables"):
        if line.startswith("{") and "} = " in line:
            name, group = line.split(" = ", 1)
            groups[name.strip("{}")] = group
        elif line.startswith("== "):
            rule, why = line.removeprefix("== ").split(": ", 1)
        else:
            source, replacement = line.split(" -> ", 1)
            source = _GROUP.sub(lambda match: groups[match.group(1)], source)
            source = source.replace("[[", "(?P<x>").replace("]]", ")").replace("'", "['’]")
            name, _, scope = rule.partition(" ")
            found.append(Confusable(name, why, re.compile(source, re.IGNORECASE), replacement, bool(scope)))
    return tuple(found)


def _lines(name: str) -> list[str]:
    text = (_WORDLISTS / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
