"""What is known of one run and of each of its chapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .issues import CATEGORIES, SEVERITIES, Issue, Rejected

Status = Literal["waiting", "done", "failed"]


@dataclass(frozen=True, slots=True)
class ChapterRecord:
    """What came out of one chapter.

    Attributes: repeats (issues said twice, by overlapping parts), notes (what the reader of the report should know),
    model (what answered), cost_usd (None: unknown), error (why it failed; '' otherwise).
    """

    chapter_id: str
    line_count: int = 0
    content_hash: str = ""
    status: Status = "done"
    issues: tuple[Issue, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    repeats: int = 0
    notes: tuple[str, ...] = ()
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    duration_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run over a manuscript. `model_note` says what kind of model it is; times are UTC in ISO 8601."""

    run_id: int
    title: str
    model: str
    model_note: str
    status: Literal["running", "finished", "incomplete"]
    started_at: str
    finished_at: str
    chapters: tuple[ChapterRecord, ...]

    @property
    def issues(self) -> list[Issue]:
        return [issue for chapter in self.chapters for issue in chapter.issues]

    @property
    def models(self) -> list[str]:
        """What answered; the model that was asked where nothing is known."""
        return list(dict.fromkeys(chapter.model for chapter in self.chapters if chapter.model)) or [self.model]

    def stats(self) -> dict[str, Any]:
        """The numbers of the run, ready for JSON."""
        costs = [chapter.cost_usd for chapter in self.chapters if chapter.status == "done"]
        known = [cost for cost in costs if cost is not None]
        return {
            "chapters": len(self.chapters),
            "failed": [chapter.chapter_id for chapter in self.chapters if chapter.status == "failed"],
            "unread": [chapter.chapter_id for chapter in self.chapters if chapter.status == "waiting"],
            "by_category": counted((issue.category for issue in self.issues), CATEGORIES),
            "by_severity": counted((issue.severity for issue in self.issues), SEVERITIES),
            "rejected": sum(len(chapter.rejected) for chapter in self.chapters),
            "repeats": sum(chapter.repeats for chapter in self.chapters),
            "input_tokens": sum(chapter.input_tokens for chapter in self.chapters),
            "output_tokens": sum(chapter.output_tokens for chapter in self.chapters),
            "cost_usd": sum(known) if len(known) == len(costs) else None,
            "duration_s": round(sum(chapter.duration_s for chapter in self.chapters), 3),
        }


def counted(values: Iterable[str], names: Iterable[str]) -> Mapping[str, int]:
    """How often each name occurs, in the order of the names, zeros included."""
    counts = Counter(values)
    return {name: counts[name] for name in names}
