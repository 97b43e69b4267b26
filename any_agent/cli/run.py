"""`any-agent run`: one prompt, the answer on standard output."""

from __future__ import annotations

import sys
from contextlib import aclosing
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common

if TYPE_CHECKING:
    from ..types import Event, ResultMessage


class OutputFormat(str, Enum):
    """What standard output gets: the text, one object, or one object per event."""

    TEXT = "text"
    JSON = "json"
    STREAM_JSON = "stream-json"


def run(
    common: Common,
    prompt: Annotated[str | None, typer.Argument(help="What to ask; - reads it from standard input.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="Instructions put before the prompt.")] = None,
    max_turns: Annotated[int | None, typer.Option("--max-turns", min=1, help="Model calls at most.")] = None,
    output_format: Annotated[
        OutputFormat | None, typer.Option("--output-format", help="text; json: one object; stream-json: one per event.")
    ] = None,
) -> None:
    """Ask once; the answer streams to standard output, everything else to standard error."""
    import asyncio

    text = _prompt(prompt)
    chosen = output_format or (OutputFormat.JSON if common.json else OutputFormat.TEXT)
    fields: dict[str, Any] = {"system_prompt": system, "max_turns": max_turns}
    fields["fallback_models"] = common.fallback_models or None
    given = {name: value for name, value in fields.items() if value is not None}
    result = asyncio.run(_ask(common, text, given, chosen))
    code = _ending(result, common)
    if code:
        raise typer.Exit(code)


def _prompt(prompt: str | None) -> str:
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
    if not prompt or not prompt.strip():
        raise typer.BadParameter("nothing was asked: give a prompt, or - and text on standard input")
    return prompt


async def _ask(common: Common, prompt: str, fields: dict[str, Any], output_format: OutputFormat) -> ResultMessage:
    from ..agent import Agent
    from .run_output import output_for

    output = output_for(output_format.value, is_quiet=common.quiet)
    result: ResultMessage | None = None
    address: dict[str, Any] = dict(common.address())
    async with Agent(**address, **fields) as agent, aclosing(agent.stream(prompt)) as events:  # type: ignore[type-var]
        async for event in events:
            result = _result(event) or result
            output.take(event)
    assert result is not None
    return result


def _result(event: Event) -> ResultMessage | None:
    from ..types import ResultMessage

    return event if isinstance(event, ResultMessage) else None


def _ending(result: ResultMessage, common: Common) -> int:
    """The exit code; an error is told on standard error (JSON output holds it already)."""
    from dataclasses import replace

    from .problems import FAILED, INTERRUPTED, LIMIT, report

    if result.error is not None:
        return report(result.error, replace(common, json=False))
    return {"success": 0, "interrupted": INTERRUPTED, "limit": LIMIT}.get(result.subtype, FAILED)
