"""Proofreading rules on the standard library alone: narrow patterns that rarely flag sound prose."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from .spans import Category, Flag, Severity
from .words import Confusable, confusables, misspellings, word_set

_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_REPEAT = re.compile(r"\b([A-Za-z]+)\s+\1\b(?!['’-])", re.IGNORECASE)
_ARTICLE = re.compile(r"(?<![\w'’-])(an?) +([A-Za-z][\w'’-]*)", re.IGNORECASE)
_LIKE_YOU = re.compile(
    r"one(?:s|ness|-|$)|once|eu|ewe|ouija|ubiq|uk|ur(?:[aio]|e(?!d))|us(?:e|u|ab|ag)|ut(?:e|i|o)|uni[cfloqstv]|unan|u(?:-|$)",
    re.IGNORECASE,
)
_SILENT_H = re.compile(r"hour(?!i)|honest|honou?r|heir", re.IGNORECASE)
_LIKE_AN = re.compile(r"hour|honest|honou?r|heir|h[aeiou]\w*[aeiou]\w*|[aefhilmnorsx](?:[A-Z\d]|$|['’-])|[A-Z]{2}")
_PUNCTUATION = re.compile(r"(?<=\w)(,,+|;;+|, +[,;]|(?<!\.)\.\.(?!\.)|[,;][.;](?!\.)|[?!]\.(?!\.)|\.;,)")
_SPACE_BEFORE = re.compile(r"\b([A-Za-z]+)( +[,;?!])(?=\s|$)")
_SENTENCE = re.compile(r"(?<=[a-z]{2}[.])[\"”'’]? +(?P<word>[a-z]+(?:['’][a-z]+)?)")
_PARAGRAPH = re.compile(r"(?:\A|(?<=[.!?\"”]\n\n))[ ]{0,3}[\"“]?(?P<word>[a-z]+(?:['’][a-z]+)?)(?=[ ,])")
_LONE_I = re.compile(r"(?<![\w.'’(-])i(?=['’](?:m|ve|ll|d)\b|[ ,;])(?!\.)")
_DID_PAST = re.compile(
    r"\b(?P<did>(?:did|does|do|could|would|should|might|must)(?: not| never|n['’]t)) (?P<word>[a-z]{2,}ed)\b"
)
_QUOTED = re.compile(r"[\"“][^\"“”\n]*[\"”\n]|(?<![\w'’])['‘][^\n]{0,2000}?['’](?!\w)")


def builtin_flags(prose: str) -> Iterator[Flag]:
    """Flags of every built-in rule; `prose` is text as `spans.prose` gives it."""
    yield from _misspellings(prose)
    yield from _repeated_words(prose)
    yield from _articles(prose)
    yield from _punctuation(prose)
    yield from _capitals(prose)
    # A person of a story may say "we was"; the writer may not.
    narration = _QUOTED.sub(lambda quote: "\x00" * len(quote.group()), prose)
    for pattern in confusables():
        yield from _confused_words(narration if pattern.narration_only else prose, pattern)
    yield from _past_after_did(narration)


def _flag(
    match: re.Match[str],
    group: int | str,
    replacement: str,
    issue: str,
    rule: str,
    category: Category = "mechanical",
    severity: Severity = "medium",
) -> Flag:
    return Flag(match.start(group), match.end(group), category, severity, issue, replacement, f"builtin:{rule}")


def _confused_words(prose: str, pattern: Confusable) -> Iterator[Flag]:
    for match in pattern.regex.finditer(prose):
        word = match.group("x")
        new = match.expand(pattern.replacement)
        if word[:1].isupper():
            new = new[:1].upper() + new[1:]
        issue = f"“{word}” where “{new}” seems meant: {pattern.why}."
        yield _flag(match, "x", new, issue, pattern.rule, "grammar", "high")


def _past_after_did(narration: str) -> Iterator[Flag]:
    for match in _DID_PAST.finditer(narration):
        word = match.group("word")
        if word not in word_set("not_past"):
            issue = f"After “{match.group('did')}” the verb has no past ending."
            yield _flag(match, "word", _base_form(word), issue, "past-after-did", "grammar", "high")


def _base_form(past: str) -> str:
    """The base of a regular past form: gained, gain; moved, move; stopped, stop; cried, cry."""
    stem = past[:-2]
    if stem.endswith("i"):
        return stem[:-1] + "y"
    if re.search(r"([bdgkmnprt])\1$", stem):
        return stem[:-1]
    if re.search(r"(?:[cguvz]|[aeiou]s|[^aeiouwlr]l|^[^aeiou]*[aeiou][bdkmnprt])$", stem):
        return stem + "e"
    return stem


def _repeated_words(prose: str) -> Iterator[Flag]:
    for match in _REPEAT.finditer(prose):
        word = match.group(1)
        if word.lower() not in word_set("often_doubled") and "\n" not in match.group():
            yield _flag(match, 0, word, f"The word “{word}” stands twice.", "repeated-word")


def _articles(prose: str) -> Iterator[Flag]:
    for match in _ARTICLE.finditer(prose):
        article, word = match.groups()
        if article != article.lower() and article not in ("A", "An"):
            continue
        vowel = word[0] in "aeiouAEIOU"
        is_vowel_sound = _SILENT_H.match(word) or (vowel and not _LIKE_YOU.match(word) and not word.isupper())
        if article.lower() == "a" and is_vowel_sound and len(word) > 1:
            wanted = article + "n"
        elif article.lower() == "an" and (_LIKE_YOU.match(word) or (not vowel and not _LIKE_AN.match(word))):
            wanted = article[:1]
        else:
            continue
        issue = f"“{wanted}” goes before the sound of “{word}”."
        new = f"{wanted}{match.group()[len(article) :]}"
        yield _flag(match, 0, new, issue, "article", "grammar")


def _punctuation(prose: str) -> Iterator[Flag]:
    for match in _PUNCTUATION.finditer(prose):
        mark = match.group(1)
        yield _flag(match, 1, mark[0], f"Doubled punctuation: “{mark}”.", "doubled-punctuation")
    for match in _SPACE_BEFORE.finditer(prose):
        yield _flag(match, 2, match.group(2).strip(), "A space before the punctuation mark.", "space-before-mark")


def _capitals(prose: str) -> Iterator[Flag]:
    for match in _SENTENCE.finditer(prose):
        before = _WORD.findall(prose, max(0, match.start() - 30), match.start())
        # The closing quotation mark may be followed by "he said".
        quoted = match.group()[0] in "\"”'’"
        if before and before[-1].lower() not in word_set("abbreviations") and not quoted:
            yield _capital(match)
    for match in _PARAGRAPH.finditer(prose):
        yield _capital(match)
    for match in _LONE_I.finditer(prose):
        yield _flag(match, 0, "I", "The pronoun “I” is a capital.", "lone-i")


def _capital(match: re.Match[str]) -> Flag:
    word = match.group("word")
    return _flag(match, "word", word[0].upper() + word[1:], "A sentence starts with a capital.", "sentence-capital")


def _misspellings(prose: str) -> Iterator[Flag]:
    known = misspellings()
    for match in _WORD.finditer(prose):
        word = match.group().replace("’", "'")
        right = known.get(word) or (known.get(word.lower()) if word[1:].islower() else None)
        # An entry that only adds the capital ("british") says nothing about the capitalised word.
        is_clipped = len(word) < 4 and prose[max(0, match.start() - 1) : match.start()] in ("'", "’", "‘")
        if right is None or right == word or is_clipped:
            continue
        if word[0].isupper():
            right = right[0].upper() + right[1:]
        yield _flag(match, 0, right, f"“{word}” is a common misspelling of “{right}”.", "misspelling", severity="high")


def word_counts(prose: str) -> Counter[str]:
    """How often each word stands in the text, in lower case and without a possessive ending."""
    return Counter(re.sub(r"['’]s$", "", word.lower()) for word in _WORD.findall(prose))
