"""`any-agent copy-edit` and `any-agent demo`: the copy editor of `any_agent.copy_editor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Common

_OUT = typer.Option("--out", "-o", help="Folder of the reports.", metavar="FOLDER")
_OFFLINE = typer.Option("--offline", help="Use the rule-based proofreader; no language model.")
_JOBS = typer.Option("--jobs", "-j", min=1, help="Chapters read at the same time.")
_RESUME = typer.Option("--resume/--fresh", help="Go on where the last run stopped, or begin anew.")


def copy_edit(
    common: Common,
    paths: Annotated[list[Path], typer.Argument(help="Chapters, or folders with Chapter*.md.")],
    out: Annotated[Path | None, _OUT] = None,
    offline: Annotated[bool, _OFFLINE] = False,
    jobs: Annotated[int, _JOBS] = 1,
    resume: Annotated[bool, _RESUME] = True,
) -> None:
    """Proofread a manuscript: a report for each chapter and one of the whole."""
    from ..copy_editor.command import run_copy_edit

    code = run_copy_edit(
        paths=paths,
        out=out,
        offline=offline,
        jobs=jobs,
        resume=resume,
        quiet=common.quiet,
        json=common.json,
        fallback_models=common.fallback_models,
        **common.address(),
    )
    if code:
        raise typer.Exit(code)


def demo(
    common: Common,
    out: Annotated[Path | None, _OUT] = None,
    offline: Annotated[bool, _OFFLINE] = False,
) -> None:
    """Proofread a short manuscript with planted errors; needs no model, no key and no server."""
    from ..copy_editor.command import run_demo

    code = run_demo(
        out=out,
        offline=offline,
        quiet=common.quiet,
        json=common.json,
        fallback_models=common.fallback_models,
        **common.address(),
    )
    if code:
        raise typer.Exit(code)
