"""What people see while chapters are read: a bar on a terminal, plain lines otherwise; all of it on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from .issues import clean
from .records import ChapterRecord
from .report import count

if TYPE_CHECKING:
    from .editor import Step

_PLAIN = {"·": "-", "…": "...", "→": "->", "—": "-", "–": "-", "“": '"', "”": '"', "’": "'"}


def tell(text: str, to: TextIO | None = None) -> None:
    """Write a line to standard error (or `to`), without control characters and in signs the stream can show."""
    stream = to or sys.stderr
    shown = clean(text)
    try:
        shown.encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        shown = "".join(_PLAIN.get(sign, sign) for sign in shown).encode("ascii", "replace").decode()
    stream.write(shown + "\n")
    stream.flush()


@contextmanager
def steps_shown(*, is_quiet: bool = False) -> Iterator[Callable[[Step], None]]:
    """Something to hand to `on_step`."""
    if is_quiet:
        yield lambda step: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield tell_step


def tell_step(step: Step) -> None:
    """One line for what is done, and for each part of a long chapter."""
    head = f"[{step.position}/{step.chapters}] {step.chapter_id}"
    if step.record is not None:
        tell(f"{head}: {_outcome(step.record, is_kept=step.kind == 'kept')}")
    elif step.parts > 1:
        tell(f"{head}, part {step.part} of {step.parts}")


def _outcome(record: ChapterRecord, *, is_kept: bool) -> str:
    if record.status == "failed":
        return f"failed: {record.error.splitlines()[0] if record.error else 'no reason given'}"
    refused = f", {count(len(record.rejected), 'refused answer')}" if record.rejected else ""
    when = "unchanged since it was read" if is_kept else f"{record.duration_s:.1f} s"
    notes = "".join(f"\n    {note}" for note in record.notes)
    return f"{count(len(record.issues), 'issue')}{refused}, {when}{notes}"


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Doing(TextColumn):
        """Which chapters are being read; names are no markup."""

        def render(self, task: object) -> Text:
            return Text(str(getattr(task, "description", "")))

    columns = (
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[issues]} issues"),
        TextColumn("{task.fields[tokens]:,} tokens"), TimeElapsedColumn(), TimeRemainingColumn(), Doing(""),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, issues=0, tokens=0)
        issues = tokens = 0
        reading: dict[str, str] = {}

        def show(step: Step) -> None:
            nonlocal issues, tokens
            if step.record is None:
                part = f" {step.part}/{step.parts}" if step.parts > 1 else ""
                reading[step.chapter_id] = f"{clean(step.chapter_id)}{part}"
            else:
                reading.pop(step.chapter_id, None)
                issues += len(step.record.issues)
                tokens += step.record.input_tokens + step.record.output_tokens
                progress.advance(task)
                if step.kind == "failed" or step.record.notes:
                    progress.console.print(f"{step.chapter_id}: {_outcome(step.record, is_kept=False)}", markup=False)
            doing = ", ".join(reading.values())
            progress.update(task, total=step.chapters, description=doing, issues=issues, tokens=tokens)

        yield show
