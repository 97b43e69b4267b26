"""From flagged spans of a text to findings on its lines."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Category = Literal["mechanical", "grammar", "consistency", "style"]
Severity = Literal["critical", "high", "medium", "low"]

# Harper needs memory in the square of a word's length (a word of 100,000 letters aborts the process).
_LONGEST_WORD = 64
_WIDEN_WORDS = 4

_BLOCK_START = re.compile(r"\s*(?:#|>|\||[-*+]\s|\d+[.)]\s|```|~~~|(?:[-*_]\s*){3,}$)")
_HIDDEN = re.compile(r"\A---\n.*?\n---\n|<!--(?:(?!<!--).)*?-->|(?P<fence>```|~~~).*?(?:(?P=fence)|\Z)", re.DOTALL)
_CODE = re.compile(rf"`[^`\n]+`|\b(?:https?|ftp)://\S+|[^\s—–-]{{{_LONGEST_WORD + 1},}}")
_WORD_RIGHT = re.compile(r"\W*[\w'’]+")
_WORD_LEFT = re.compile(r"[\w'’]+\W*$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One error in one line of a text.

    `line_number` and `column` count from 1, columns in code points: `line[column - 1 :].startswith(current_text)`.
    `suggestion` replaces `current_text`; it is empty when the engine knows no replacement. `rule` is `source:name`.
    """

    line_number: int
    column: int
    current_text: str
    category: Category
    severity: Severity
    issue_text: str
    suggestion: str
    rule: str


@dataclass(frozen=True, slots=True)
class Flag:
    """One flagged span `text[start:end]`; `replacement` is None when none is known, empty to delete the span."""

    start: int
    end: int
    category: Category
    severity: Severity
    issue_text: str
    replacement: str | None
    rule: str


def prose(text: str) -> str:
    """The text to check, of the same length: soft line breaks are spaces, code and comments are hidden."""
    text = _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    # Digits, not blanks: the words around a piece of code are no neighbours.
    text = _CODE.sub(lambda match: "0" * len(match.group()), text)
    lines = text.split("\n")
    joined = lines[:1]
    for above, line in itertools.pairwise(lines):
        soft = above.strip() and line.strip() and not _BLOCK_START.match(line)
        if soft and not above.lstrip().startswith(("#", "|")) and not above.rstrip("\r").endswith(("  ", "\\")):
            joined.append(" ")
        else:
            joined.append("\n")
        joined.append(line)
    return "".join(joined).replace("\r", " ")


def without_overlaps(flags: Iterable[Flag]) -> list[Flag]:
    """The flags in text order; of two that overlap the one given first stays."""
    starts: list[int] = []
    kept: list[Flag] = []
    for flag in flags:
        place = bisect.bisect_left(starts, flag.start)
        clear_before = place == 0 or kept[place - 1].end <= flag.start
        clear_after = place == len(kept) or flag.end <= kept[place].start
        if flag.start < flag.end and clear_before and clear_after:
            starts.insert(place, flag.start)
            kept.insert(place, flag)
    return kept


def to_findings(text: str, flags: Iterable[Flag]) -> list[Finding]:
    """The findings for flags of `text`: each on one line, wide enough to be found there by its words alone."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    findings = []
    for flag in flags:
        start, end, replacement = _on_one_line(text, flag)
        line_number = bisect.bisect_right(starts, start)
        line_start = starts[line_number - 1]
        line = text[line_start : starts[line_number] - 1 if line_number < len(starts) else len(text)].rstrip("\r")
        first, last, replacement = _widened(line, start - line_start, min(end - line_start, len(line)), replacement)
        findings.append(
            Finding(
                line_number=line_number,
                column=first + 1,
                current_text=line[first:last],
                category=flag.category,
                severity=flag.severity,
                issue_text=flag.issue_text,
                suggestion=replacement or "",
                rule=flag.rule,
            )
        )
    return findings


def _on_one_line(text: str, flag: Flag) -> tuple[int, int, str | None]:
    """Cut a span that crosses a line break to the words that change, or else to its first line."""
    start, end, replacement = flag.start, flag.end, flag.replacement
    while start < end and text[start].isspace():
        if replacement:
            replacement = replacement.removeprefix(" ")
        start += 1
    if "\n" not in text[start:end]:
        return start, end, replacement
    if replacement is not None:
        old, new = re.findall(r"\S+\s*", text[start:end]), re.findall(r"\S+\s*", replacement)
        while old and new and old[0].split() == new[0].split():
            start += len(old.pop(0))
            new.pop(0)
        while old and new and old[-1].split() == new[-1].split():
            end -= len(old.pop())
            new.pop()
        span = text[start:end].rstrip()
        if span and "\n" not in span:
            return start, start + len(span), "".join(new).rstrip()
    return start, text.index("\n", start), None


def _widened(line: str, first: int, last: int, replacement: str | None) -> tuple[int, int, str | None]:
    """Take in neighbouring words until the text is unique on its line and its replacement is not empty."""
    for _ in range(_WIDEN_WORDS):
        current = line[first:last]
        is_mark = not re.search(r"\w", current)
        is_unique = line.find(current, line.find(current) + 1) < 0
        if is_unique and not is_mark and replacement != "":
            break
        right = _WORD_RIGHT.match(line, last)
        left = _WORD_LEFT.search(line, max(0, first - _LONGEST_WORD), first)
        # A bare mark belongs to the word before it.
        if right and not (is_mark and left):
            # A deleted word takes the space behind it along.
            replacement = right.group().lstrip() if replacement == "" else _join(replacement, right.group())
            last = right.end()
        elif left:
            replacement = left.group().rstrip() if replacement == "" else _join(left.group(), replacement)
            first = left.start()
        else:
            break
    return first, last, replacement


def _join(one: str | None, other: str | None) -> str | None:
    return None if one is None or other is None else one + other
