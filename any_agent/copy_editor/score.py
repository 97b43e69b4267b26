"""How well findings meet an answer key: recall, precision, and which ones differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .spans import Category

MANUSCRIPT = Path(__file__).parent / "manuscript"
"""The demo manuscript: `Chapter*.md`, `answer_key.json`, `known_words.txt`."""


class Located(Protocol):
    """A finding of any source: where it stands (line and column count from 1) and what it would change."""

    @property
    def line_number(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def current_text(self) -> str: ...
    @property
    def suggestion(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PlantedError:
    """One entry of an answer key: in `chapter` (a file name) `current_text` should read `correction`."""

    chapter: str
    line_number: int
    column: int
    current_text: str
    correction: str
    category: Category
    kind: str


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """A finding that meets no planted error."""

    chapter: str
    finding: Located


@dataclass(frozen=True, slots=True)
class Score:
    """Recall and precision as fractions of 1; with nothing planted or nothing found they are 1.

    `right_fixes` counts the hits whose suggestion gives exactly the correct text.
    """

    recall: float
    precision: float
    hits: tuple[PlantedError, ...]
    misses: tuple[PlantedError, ...]
    false_alarms: tuple[FalseAlarm, ...]
    right_fixes: int


def load_key(path: Path) -> list[PlantedError]:
    """The entries of an answer key (a JSON list of objects)."""
    return [PlantedError(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def score(findings: Mapping[str, Iterable[Located]], key: Sequence[PlantedError]) -> Score:
    """Compare findings by chapter (file name) with a key: a hit overlaps the planted text on its line."""
    hits: dict[PlantedError, bool] = {}
    alarms: list[FalseAlarm] = []
    total = 0
    for chapter, found in findings.items():
        for finding in found:
            total += 1
            met = [planted for planted in key if planted.chapter == chapter and _overlaps(finding, planted)]
            for planted in met:
                hits[planted] = hits.get(planted, False) or _fixes(finding, planted)
            if not met:
                alarms.append(FalseAlarm(chapter, finding))
    return Score(
        recall=len(hits) / len(key) if key else 1.0,
        precision=1 - len(alarms) / total if total else 1.0,
        hits=tuple(planted for planted in key if planted in hits),
        misses=tuple(planted for planted in key if planted not in hits),
        false_alarms=tuple(alarms),
        right_fixes=sum(hits.values()),
    )


def corrected(text: str, key: Iterable[PlantedError]) -> str:
    """The chapter `text` with every planted error of `key` put right; `key` holds the entries of this chapter.

    Raises:
        ValueError: A planted text does not stand where the key says.
    """
    lines = text.split("\n")
    for planted in sorted(key, key=lambda planted: (planted.line_number, -planted.column)):
        line = lines[planted.line_number - 1] if planted.line_number <= len(lines) else ""
        start, end = planted.column - 1, planted.column - 1 + len(planted.current_text)
        if line[start:end] != planted.current_text:
            raise ValueError(f"{planted.chapter}:{planted.line_number} does not read {planted.current_text!r}")
        lines[planted.line_number - 1] = line[:start] + planted.correction + line[end:]
    return "\n".join(lines)


def _overlaps(finding: Located, planted: PlantedError) -> bool:
    return (
        finding.line_number == planted.line_number
        and finding.column < planted.column + len(planted.current_text)
        and planted.column < finding.column + len(finding.current_text)
    )


def _fixes(finding: Located, planted: PlantedError) -> bool:
    """Whether the suggestion gives what the key gives, one of the two texts lying in the other."""
    outer, inner = (finding.current_text, finding.suggestion), (planted.current_text, planted.correction)
    offset = planted.column - finding.column
    if offset < 0 or len(outer[0]) < len(inner[0]):
        outer, inner, offset = inner, outer, -offset
    return outer[1] == outer[0][: max(offset, 0)] + inner[1] + outer[0][max(offset, 0) + len(inner[0]) :]
