"""Reports on disk: Markdown for each chapter, and of the whole run a page, a Markdown summary and numbers for JSON."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import MemoryStoreError
from .html_report import page
from .issues import Issue, around, clean
from .records import ChapterRecord, RunRecord

CHAPTER_FOLDER = "copy-edit"
_MARKED = re.compile(r"([\\`*_\[\]<>|~])")


def report_path(folder: Path, chapter_id: str) -> Path:
    """Where the report of a chapter stands: `copy-edit/chapter-<stem>.md`."""
    path = PurePosixPath(chapter_id)
    stem = path.stem if path.suffix == ".md" else path.name
    return folder / CHAPTER_FOLDER / f"chapter-{'-'.join([*path.parts[:-1], stem])}.md"


def write_chapter_report(record: ChapterRecord, folder: Path, model_note: str = "") -> Path:
    """Write one chapter's report; returns its path. Raises MemoryStoreError where nothing can be written."""
    path = report_path(folder, record.chapter_id)
    return _written(path, chapter_markdown(record, model_note))


def write_index(run: RunRecord, folder: Path) -> Path:
    """Write index.html and index.md; returns the page's path. Raises MemoryStoreError where nothing can be written."""
    links = {c.chapter_id: report_path(Path(), c.chapter_id).as_posix() for c in run.chapters}
    _written(folder / "index.md", index_markdown(run, links))
    return _written(folder / "index.html", page(run, links))


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MemoryStoreError(f"{path} cannot be written: {error.strerror}") from error
    return path


def chapter_markdown(record: ChapterRecord, model_note: str = "") -> str:
    """The report of one chapter."""
    lines = [f"# {_plain(record.chapter_id)}", ""]
    if record.status == "failed":
        return "\n".join([*lines, f"Not read: {_plain(record.error)}", ""])
    lines += [f"{count(len(record.issues), 'issue')} in {count(record.line_count, 'line')}.", ""]
    for issue in record.issues:
        lines += _issue_lines(issue)
    if record.notes:
        lines += ["## Notes", "", *(f"- {_plain(note)}" for note in record.notes), ""]
    if record.repeats:
        lines += [f"Said twice and listed once: {record.repeats}.", ""]
    if record.rejected:
        lines += [
            f"## Refused answers: {len(record.rejected)}",
            "",
            "The model said these, and the check refused them.",
            "",
        ]
        lines += [f"- {_plain(one.reason)}: {_code(one.raw)}" for one in record.rejected]
        lines.append("")
    lines += ["---", _plain(f"Model: {record.model or 'none was asked'}{f' ({model_note})' if model_note else ''}"), ""]
    return "\n".join(lines)


def _issue_lines(issue: Issue) -> list[str]:
    before, marked, after = around(issue)
    moved = f" (the model said line {issue.said_line})" if issue.said_line else ""
    lines = [
        f"## Line {issue.line_number}: {issue.category}, {issue.severity}{moved}",
        "",
        f"> {_plain(before)}**{_plain(marked)}**{_plain(after)}",
        "",
        _plain(issue.issue_text),
    ]
    if issue.suggestion:
        lines += ["", f"Suggestion: **{_plain(issue.suggestion)}**"]
    return [*lines, ""]


def index_markdown(run: RunRecord, links: dict[str, str]) -> str:
    """The summary of a run, with a link to each chapter's report."""
    stats = run.stats()
    lines = [f"# {_plain(run.title)}: copy editing", "", f"{_plain(model_line(run))}.", ""]
    if run.status != "finished":
        lines += [f"**This run is not finished:** {len(stats['failed'])} failed, {len(stats['unread'])} unread.", ""]
    lines += ["| chapter | lines | issues | refused | |", "|---|---|---|---|---|"]
    for record in run.chapters:
        name, status = _plain(record.chapter_id), record.status if record.status != "done" else ""
        linked = f"[{name}](<{links[record.chapter_id]}>)" if record.status == "done" else name
        lines.append(f"| {linked} | {record.line_count} | {len(record.issues)} | {len(record.rejected)} | {status} |")
    lines += [
        "",
        f"{count(len(run.issues), 'issue')}: {_listed(stats['by_severity'])}; {_listed(stats['by_category'])}.",
        "",
    ]
    return "\n".join(lines)


def model_line(run: RunRecord) -> str:
    """Who read the manuscript."""
    return f"Read by {', '.join(run.models)}{f' ({run.model_note})' if run.model_note else ''}"


def as_json(run: RunRecord) -> dict[str, Any]:
    """A run for machines."""
    return {
        "run_id": run.run_id,
        "title": run.title,
        "model": run.model,
        "models": run.models,
        "model_note": run.model_note,
        "status": run.status,
        "total_issues": len(run.issues),
        "stats": run.stats(),
        "chapters": [_chapter_json(record) for record in run.chapters],
    }


def _chapter_json(record: ChapterRecord) -> dict[str, Any]:
    names = ("line_number", "column", "category", "severity", "current_text", "issue_text", "suggestion", "said_line")
    return {
        "chapter_id": record.chapter_id,
        "status": record.status,
        "error": record.error,
        "issues": [{name: getattr(issue, name) for name in names} for issue in record.issues],
        "rejected": [{"reason": one.reason, "raw": one.raw} for one in record.rejected],
        "notes": list(record.notes),
    }


def count(number: int, what: str) -> str:
    """`1 issue`, `2 issues`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none"


def _code(text: str) -> str:
    """Text as Markdown code."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {clean(text)} {fence}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKED.sub(r"\\\1", " ".join(clean(text).split("\n")))
