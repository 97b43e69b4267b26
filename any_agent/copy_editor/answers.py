"""The issues in what a model answered: JSON wherever it stands, or else what can be read from plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .issues import CATEGORIES, SEVERITIES

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")
_JSON_START = re.compile(r"[\[{]\s*(?:[\"{\[]|\Z)")
_STARTS_TRIED = 400
_LONGEST_ENTRY = 600

_ENTRY = re.compile(r"\bline(?:[ _]?(?:number|no\.?))?[\s*_`\"':#=]{0,6}(\d{1,6})\b", re.IGNORECASE)
_QUOTE = r"(?:\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|`([^`\n]{1,200})`)"
_ARROW = re.compile(
    r"(?:→|[-=]+>|should (?:be|read)|suggest(?:ion|ed)?\b|correct(?:ed|ion)?(?: to| is)?\b"
    rf"|(?:change|replace)\w* (?:it )?(?:to|with|by))[\s*:_`]*?{_QUOTE}",
    re.IGNORECASE,
)
_QUOTED = re.compile(_QUOTE)


def find_issue_list(text: str) -> list[Any] | None:
    """The list of issues in an answer: alone, fenced or embedded, an array, an object that holds it, or JSON lines.

    Returns:
        None when there is no whole list: no JSON, broken JSON, or JSON that was cut off.
    """
    text = _THINKING.sub("", text).strip()
    values, is_broken = _decoded(text)
    if is_broken:
        mended, is_still_broken = _decoded(_TRAILING_COMMA.sub(r"\1", text))
        if not is_still_broken:
            values, is_broken = mended, False
    if is_broken:
        return None
    lists = [found for value in values if (found := _as_list(value)) is not None]
    said = [issue for found in lists for issue in found]
    if said:
        return said
    single = [value for value in values if isinstance(value, Mapping) and "line_number" in value]
    return single or ([] if lists else None)


def _as_list(value: Any) -> list[Any] | None:
    """The value as a list of issues; None: it is none."""
    if isinstance(value, list):
        is_list = not value or any(isinstance(one, Mapping) and "line_number" in one for one in value)
        return value if is_list else None
    if isinstance(value, Mapping) and "line_number" not in value:
        inside = [found for one in value.values() if isinstance(one, list) and (found := _as_list(one)) is not None]
        return [issue for found in inside for issue in found] if inside else None
    return None


def _decoded(text: str) -> tuple[list[Any], bool]:
    """Every JSON array and object that stands in the text, outermost ones, and whether one of them is broken."""
    decoder = json.JSONDecoder(strict=False)
    values, is_broken, place, tries = list[Any](), False, 0, 0
    for match in re.finditer(r"[\[{]", text):
        if match.start() < place:
            continue
        tries += 1
        if tries > _STARTS_TRIED:
            return values, True
        try:
            value, place = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            is_broken = is_broken or _JSON_START.match(text, match.start()) is not None
        else:
            values.append(value)
    return values, is_broken


def read_text_issues(text: str) -> list[dict[str, Any]]:
    """Issues from an answer that is no JSON list: whole objects of broken JSON, or lines like `Line 3: "teh" → "the"`.

    They are only read here, not checked.
    """
    text = _THINKING.sub("", text)
    values, _ = _decoded(text)
    objects = [one for value in values for one in (value if isinstance(value, list) else [value])]
    said = [dict(one) for one in objects if isinstance(one, Mapping) and "line_number" in one]
    return said or list(_sentences(text))


def _sentences(text: str) -> Iterator[dict[str, Any]]:
    entries = list(_ENTRY.finditer(text))
    for place, entry in enumerate(entries):
        end = entries[place + 1].start() if place + 1 < len(entries) else len(text)
        body = text[entry.end() : min(end, entry.end() + _LONGEST_ENTRY)]
        quoted, arrow = _QUOTED.search(body), _ARROW.search(body)
        low = body.lower()
        told = " ".join(re.sub(r"[*_#|`]+", " ", body).split()).strip(" :.-–—(,")
        yield {
            "line_number": int(entry[1]),
            "category": next((word for word in CATEGORIES if word in low), "mechanical"),
            "severity": next((word for word in SEVERITIES if re.search(rf"\b{word}\b", low)), "medium"),
            "current_text": _said(quoted),
            "issue_text": told[:200] or "(no reason given)",
            "suggestion": _said(arrow) if arrow and quoted and arrow.end() != quoted.end() else "",
        }


def _said(match: re.Match[str] | None) -> str:
    return next((group for group in match.groups() if group is not None), "") if match else ""
