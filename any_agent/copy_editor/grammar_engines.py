"""The two grammar checkers of the extra `proof`: harper-py and quire-grammar."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from .builtin_rules import word_counts
from .names import edit_distance
from .spans import Category, Flag, Severity
from .words import misspellings, word_set

if TYPE_CHECKING:
    from harper import Lint, Linter

# Matters of taste or of layout: no copy error.
_SKIPPED_KINDS = frozenset(
    {"Enhancement", "Formatting", "Punctuation", "Readability", "Redundancy", "Regionalism", "Style", "Usage"}
)
_SKIPPED_QUIRE = frozenset(
    {
        "affect-vs-effect",
        "capitalization-after-period",
        "doubled-word",
        "punctuation",
        "style",
        "tense-drift",
        "your-vs-youre",
    }
)
_AUXILIARIES = frozenset(
    {
        "am",
        "are",
        "do",
        "does",
        "don't",
        "don’t",
        "doesn't",
        "doesn’t",
        "has",
        "have",
        "is",
        "was",
        "were",
        "wasn't",
        "weren't",
    }
)
_DELIBERATE = 3
_COINING_ENDINGS = ("ful", "fuls", "ish", "less", "like", "ness")
_NO_SECOND_PART = frozenset({"ally", "ever", "full", "till", "tion", "sion", "ment", "able", "less", "ness"})
_NEAR = 2

_CATEGORY: dict[str, Category] = {
    "Agreement": "grammar",
    "Grammar": "grammar",
    "WordChoice": "grammar",
    "Miscellaneous": "grammar",
    "agreement": "grammar",
    "confusable": "grammar",
}
_SEVERITY: dict[str, Severity] = {"Capitalization": "medium", "Repetition": "medium", "mechanics": "medium"}

_lock = threading.Lock()


def installed() -> dict[str, str]:
    """Version by name of those of the two checkers that are installed."""
    found = {}
    for name in ("harper-py", "quire-grammar"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def harper_flags(prose: str, known_words: frozenset[str]) -> list[Flag]:
    """Harper's objective findings; a word that one English dialect knows is right.

    Args:
        prose: The text as `spans.prose` gives it.
        known_words: Words of the project, in lower case.
    """
    flags: list[Flag] = []
    spelling: list[Lint] = []
    with _lock:  # a linter takes one thread at a time
        for rule, lints in _linter(british=True).organized_lints(prose).items():
            if rule == "SpellCheck":
                spelling = lints
            elif rule not in word_set("harper_rules_skipped"):
                flags += [_harper_flag(prose, rule, lint) for lint in lints if _is_objective(rule, lint)]
        unknown = _unknown_words(prose, spelling, known_words)
    flags += [_harper_flag(prose, "SpellCheck", lint) for lint in unknown]
    return sorted(flags, key=lambda flag: (flag.start, flag.end, flag.rule))


def quire_flags(prose: str) -> list[Flag]:
    """Quire's findings of the categories mechanics, confusable and agreement."""
    from quire_grammar import check

    flags = []
    for found in check(prose, disable=_SKIPPED_QUIRE):
        if found.rule_id in _SKIPPED_QUIRE:
            continue
        flags.append(
            Flag(
                found.start,
                found.end,
                _CATEGORY.get(found.category, "mechanical"),
                _SEVERITY.get(found.category, "high"),
                found.message,
                found.suggestions[0] if found.suggestions else None,
                f"quire:{found.rule_id}",
            )
        )
    return flags


@lru_cache(maxsize=2)
def _linter(*, british: bool) -> Linter:
    from harper import Dialect, Linter

    linter = Linter(Dialect.BRITISH if british else Dialect.AMERICAN)
    on = linter.get_default_lint_config()
    # The second dialect only says whether it knows a word.
    skipped = word_set("harper_rules_skipped") if british else on.keys() - {"SpellCheck"}
    linter.set_lint_config({rule: is_on and rule not in skipped for rule, is_on in on.items()})
    return linter


def _is_objective(rule: str, lint: Lint) -> bool:
    text = lint.problem_text.lower()
    if lint.lint_kind in _SKIPPED_KINDS:
        return False
    if rule == "RepeatedWords":
        return "." not in text and text.split()[0] not in word_set("often_doubled")
    if rule == "PronounVerbAgreement":
        return text in _AUXILIARIES
    # Without a replacement, these are hints rather than errors.
    return bool(lint.suggestions)


def _harper_flag(prose: str, rule: str, lint: Lint) -> Flag:
    start, end = lint.span.start, lint.span.end
    replacement = None
    if lint.suggestions:
        first = lint.suggestions[0]
        replacement = first.replacement_text
        if first.kind.name == "INSERT_AFTER":
            replacement = prose[start:end] + replacement
    message = " ".join(re.sub(r"`([^`]*)`", r"“\1”", lint.message).split())
    if rule == "SpellCheck":
        message = f"“{lint.problem_text}” seems misspelt."
    return Flag(
        start,
        end,
        _CATEGORY.get(lint.lint_kind, "mechanical"),
        _SEVERITY.get(lint.lint_kind, "high"),
        message,
        replacement,
        f"harper:{rule}",
    )


def _unknown_words(prose: str, lints: Iterable[Lint], known_words: frozenset[str]) -> list[Lint]:
    """Of the words that British English lacks: those that are likely misspelt, not names, dialect or coinages."""
    plain = [lint for lint in lints if _is_plain_word(prose, lint, known_words)]
    parts = {lint.problem_text: _parts(lint.problem_text.lower()) for lint in plain}
    words = {lint.problem_text.lower() for lint in plain}
    missing = _missing_in_american(words.union(*(pair for pairs in parts.values() for pair in pairs)))
    counts = word_counts(prose)
    named = {lint.problem_text for lint in plain if not _starts_sentence(prose, lint.span.start)}
    unknown = []
    for lint in plain:
        word = lint.problem_text
        stem = word.lower().replace("’", "'").removesuffix("'s")
        is_name = word[0].isupper() and (word in named or _distance(lint) > _NEAR)
        is_deliberate = counts[stem] >= _DELIBERATE and stem not in misspellings()
        is_coined = _distance(lint) > 1 and any(missing.isdisjoint(pair) for pair in parts[word])
        if word.lower() in missing and not (is_name or is_deliberate or is_coined):
            unknown.append(lint)
    return unknown


def _is_plain_word(prose: str, lint: Lint, known_words: frozenset[str]) -> bool:
    """Whether it is a whole word to judge: no initial, no part of a compound, no clipped "'ere", no italics."""
    word, start, end = lint.problem_text, lint.span.start, lint.span.end
    if not re.fullmatch(r"[A-Za-zÀ-ÿ]{2,}(?:['’](?:s|nt|t)?)?", word):
        return False
    if re.sub(r"['’]s?$", "", word.lower()) in known_words:
        return False
    before, after = prose[max(0, start - 1) : start], prose[end : end + 1]
    is_clipped = (before in ("'", "’", "‘") and len(word) < 5) or after in ("'", "’")
    is_italic = before in ("*", "_") and after == before
    return not (before == "-" or after == "-" or is_clipped or is_italic)


def _parts(word: str) -> list[tuple[str, ...]]:
    """Ways to read an unknown word as sound parts: "mouse" + "hole", "flesh" + -less, un- + "curtained"."""
    pairs: list[tuple[str, ...]] = [
        (word[:cut], word[cut:]) for cut in range(4, len(word) - 3) if word[cut:] not in _NO_SECOND_PART
    ]
    for ending in _COINING_ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 3:
            pairs.append((word.removesuffix(ending),))
    if word.startswith("un") and len(word) > 7:
        pairs.append((word[2:],))
    return pairs


def _starts_sentence(prose: str, start: int) -> bool:
    return not re.search(r"(?:[\w,;:)—-]|\b(?:Mrs?|Dr|St)\.)[\"”'’]? [\"“'‘]?$", prose[max(0, start - 6) : start])


def _distance(lint: Lint) -> int:
    """Edits from the word to the nearest suggestion."""
    word = lint.problem_text.lower()
    return min((edit_distance(word, new.replacement_text.lower()) for new in lint.suggestions), default=len(word))


def _missing_in_american(words: set[str]) -> set[str]:
    lints = _linter(british=False).organized_lints("\n\n".join(sorted(words))).get("SpellCheck", [])
    return {lint.problem_text for lint in lints}
