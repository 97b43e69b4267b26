"""One issue of a chapter, and the check of what a model says against the chapter's lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from .spans import Category, Severity

CATEGORIES: tuple[str, ...] = get_args(Category)
SEVERITIES: tuple[str, ...] = get_args(Severity)
REQUIRED = ("line_number", "category", "severity", "current_text", "issue_text")

ISSUE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "issues",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "issues": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "line_number": {"type": "integer"},
                            "category": {"enum": list(CATEGORIES)},
                            "severity": {"enum": list(SEVERITIES)},
                            "current_text": {"type": "string"},
                            "issue_text": {"type": "string"},
                            "suggestion": {"type": "string"},
                        },
                        "required": [*REQUIRED, "suggestion"],
                        "additionalProperties": False,
                    },
                }
            },
            "required": ["issues"],
            "additionalProperties": False,
        },
    },
}
"""A `response_format` for servers that can hold a model to a schema; it is sent only when it is asked for."""

# A model often writes plain quotes and spaces where the text has typographic ones: one sign for one sign.
_PLAIN = str.maketrans("‘’‚‛“”„‟«»‐‑‒–\u00a0\u2009\u202f\t", '\'\'\'\'""""""----    ')
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST_RAW = 500
_NEAR_CHARS = 90


@dataclass(frozen=True, slots=True)
class Issue:
    """One error on one line: `line[column - 1 :]` starts with `current_text`, which `suggestion` replaces.

    Attributes: context (the line with its neighbours), said_line (the wrong number the model gave; None: it was right).
    """

    line_number: int
    column: int
    current_text: str
    category: Category
    severity: Severity
    issue_text: str
    suggestion: str = ""
    context: str = ""
    said_line: int | None = None

    @property
    def line_text(self) -> str:
        """The whole line it stands on."""
        lines = self.context.split("\n")
        return lines[min(self.line_number - 1, 1, len(lines) - 1)]

    @property
    def corrected_line(self) -> str:
        line, start = self.line_text, self.column - 1
        return line[:start] + self.suggestion + line[start + len(self.current_text) :]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What a model said and the check refused; `raw` is its JSON text, shortened."""

    reason: str
    raw: str

    @classmethod
    def of(cls, reason: str, said: Any) -> Rejected:
        text = clean(json.dumps(said, ensure_ascii=False, default=str))
        return cls(reason, text if len(text) <= _LONGEST_RAW else text[: _LONGEST_RAW - 1] + "…")


def clean(text: str) -> str:
    """Without what no file, database or page can hold: lone surrogates and control characters."""
    return _CONTROL.sub("", text.encode("utf-8", "replace").decode("utf-8"))


def check_issue(said: Any, lines: Sequence[str]) -> Issue | str:
    """The issue, or why it is none. A wrong line number is mended only if the text stands on exactly one other line."""
    if not isinstance(said, Mapping):
        return "it is no JSON object"
    missing = [name for name in REQUIRED if said.get(name) in (None, "")]
    if missing:
        return f"it has no {', '.join(missing)}"
    number = _whole_number(said["line_number"])
    if number is None:
        return f"line_number {said['line_number']!r} is no whole number"
    category, severity = (str(said[name]).strip().lower() for name in ("category", "severity"))
    if category not in CATEGORIES:
        return f"category {category!r} is not one of {', '.join(CATEGORIES)}"
    if severity not in SEVERITIES:
        return f"severity {severity!r} is not one of {', '.join(SEVERITIES)}"
    quoted, suggestion = str(said["current_text"]).strip("\r\n"), clean(str(said.get("suggestion") or "")).strip("\r\n")
    place = _place(quoted, number, lines)
    if isinstance(place, str):
        return place
    line_number, start = place
    line = lines[line_number - 1]
    current = line[start : start + len(quoted)]
    if suggestion == current:
        return "its suggestion changes nothing"
    return Issue(
        line_number=line_number,
        column=start + 1,
        current_text=current,
        category=cast(Category, category),
        severity=cast(Severity, severity),
        issue_text=clean(str(said["issue_text"])).strip(),
        suggestion=suggestion,
        context="\n".join(lines[max(line_number - 2, 0) : line_number + 1]),
        said_line=None if line_number == number else number,
    )


def _whole_number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value.strip()[:9])
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _place(quoted: str, number: int, lines: Sequence[str]) -> tuple[int, int] | str:
    """The line (from 1) and the column (from 0) where the quoted text stands, or why there is none."""
    if not quoted.strip():
        return "it quotes no text"
    if 1 <= number <= len(lines):
        start = _find(quoted, lines[number - 1], whole_words=True)
        start = start if start is not None else _find(quoted, lines[number - 1], whole_words=False)
        if start is not None:
            return number, start
        wrong = f"its text is not on line {number}"
    else:
        wrong = f"there is no line {number} (the chapter has {len(lines)})"
    found = [(n, at) for n, line in enumerate(lines, 1) if (at := _find(quoted, line, whole_words=True)) is not None]
    if len(found) == 1:
        return found[0]
    return f"{wrong}, and {'on no other' if not found else f'on {len(found)} others'}"


def _find(quoted: str, line: str, *, whole_words: bool) -> int | None:
    text, wanted = line.translate(_PLAIN), quoted.translate(_PLAIN)
    if not whole_words:
        start = text.find(wanted)
        return start if start >= 0 else None
    before = r"(?<!\w)" if wanted[0].isalnum() else ""
    after = r"(?!\w)" if wanted[-1].isalnum() else ""
    match = re.search(before + re.escape(wanted) + after, text)
    return match.start() if match else None


def as_said(issue: Issue) -> dict[str, Any]:
    """An issue as a model would have said it."""
    return {name: getattr(issue, name) for name in (*REQUIRED, "suggestion")}


def without_repeats(parts: Iterable[Sequence[Issue]]) -> tuple[list[Issue], int]:
    """The issues of overlapping parts in text order, and how many were said twice.

    Twice is: the same change said again, or the same text quoted again by another part.
    """
    kept, repeats = list[Issue](), 0
    changes, quotes = set[tuple[int, str]](), set[tuple[int, int, str]]()
    for part in parts:
        quotes_before = frozenset(quotes)
        for issue in part:
            change = (issue.line_number, issue.corrected_line)
            quote = (issue.line_number, issue.column, issue.current_text)
            if quote in quotes_before or (change in changes and issue.suggestion):
                repeats += 1
                continue
            if issue.suggestion:
                changes.add(change)
            elif issue in kept:
                repeats += 1
                continue
            quotes.add(quote)
            kept.append(issue)
    return sorted(kept, key=lambda issue: (issue.line_number, issue.column)), repeats


def around(issue: Issue) -> tuple[str, str, str]:
    """The line before the quoted text, that text, and the line after it; the ends of a long line are cut off."""
    line, start = issue.line_text, issue.column - 1
    end = start + len(issue.current_text)
    before, after = line[:start], line[end:]
    before = before if len(before) <= _NEAR_CHARS else "…" + before[-_NEAR_CHARS:]
    after = after if len(after) <= _NEAR_CHARS else after[:_NEAR_CHARS] + "…"
    return clean(before), clean(line[start:end]), clean(after)
