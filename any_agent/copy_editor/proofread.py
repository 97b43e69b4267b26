"""The offline proofreader: rules, no language model. The same text always gives the same findings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .builtin_rules import builtin_flags
from .grammar_engines import harper_flags, installed, quire_flags
from .names import name_flags
from .spans import Finding, Flag, prose, to_findings, without_overlaps

__all__ = ["Finding", "engine_name", "proofread", "read_known_words"]


def proofread(text: str, *, known_words: Iterable[str] = (), use_extra: bool = True) -> list[Finding]:
    """Errors of spelling, grammar, punctuation and consistency in an English text, in text order.

    Args:
        text: Plain text or Markdown; lines count as `text.split("\\n")` counts them.
        known_words: The project's names and coinages, in their own case; they are right wherever they stand.
        use_extra: False uses the built-in rules alone, also where the extra `proof` is installed.
    """
    words = frozenset(word for entry in known_words for word in entry.split())
    flags = _flags(prose(text), words, installed() if use_extra else {})
    return to_findings(text, without_overlaps(flags))


def read_known_words(path: Path) -> list[str]:
    """The entries of a word list: one a line, lines that start with `#` are comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def engine_name(*, use_extra: bool = True) -> str:
    """What `proofread` runs: the checkers of the extra `proof` with their versions, and the built-in rules."""
    extra = installed() if use_extra else {}
    return " + ".join([*(f"{name} {version}" for name, version in extra.items()), "built-in rules"])


def _flags(text: str, words: frozenset[str], extra: dict[str, str]) -> list[Flag]:
    """All flags, the surest source first."""
    flags = [*name_flags(text, words), *builtin_flags(text)]
    if "quire-grammar" in extra:
        flags += quire_flags(text)
    if "harper-py" in extra:
        flags += harper_flags(text, frozenset(word.lower() for word in words))
    lower = {word.lower() for word in words}
    return [flag for flag in flags if text[flag.start : flag.end].lower() not in lower]
