"""`any-agent run`: one prompt, the answer on standard output."""

from __future__ import annotations

import sys
from contextlib import aclosing
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common

if TYPE_CHECKING:
    from ..agent import Agent
    from ..context import ContextUsage
    from ..session import AgentSession
    from ..types import Event, ResultMessage
    from .run_output import JsonOutput, TextOutput


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
    context: Annotated[
        bool, typer.Option("--context", help="Tell how full the model's window is, by part, after the answer.")
    ] = False,
    session: Annotated[
        str | None, typer.Option("--session", help="Go on with this kept session, or begin it.", metavar="ID")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --session: go on where its last run stopped; takes no prompt.")
    ] = False,
    record: Annotated[
        str | None, typer.Option("--record", help="Write all model calls to this tape.", metavar="FILE")
    ] = None,
    replay: Annotated[
        str | None, typer.Option("--replay", help="Let this tape answer; nothing is sent.", metavar="FILE")
    ] = None,
    profile_run: Annotated[bool, typer.Option("--profile-run", help="Tell where the time went.")] = False,
) -> None:
    """Ask once; the answer streams to standard output, everything else to standard error."""
    import asyncio

    from .run_output import output_for
    from .run_profile import RunProfile

    if resume and (session is None or prompt is not None):
        raise typer.BadParameter("--resume goes with --session ID and without a prompt")
    text = "" if resume else _prompt(prompt)
    chosen = output_format or (OutputFormat.JSON if common.json else OutputFormat.TEXT)
    fields: dict[str, Any] = {"system_prompt": system, "max_turns": max_turns}
    fields |= {"fallback_models": common.fallback_models or None, "record": record, "replay": replay}
    given = {name: value for name, value in fields.items() if value is not None}
    output = output_for(chosen.value, is_quiet=common.quiet)
    if profile_run:
        output.profile = RunProfile()
    result = asyncio.run(_ask(common, text, given, output, session, tells_context=context))
    code = _ending(result, common)
    if code:
        raise typer.Exit(code)


def _prompt(prompt: str | None) -> str:
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
    if not prompt or not prompt.strip():
        raise typer.BadParameter("nothing was asked: give a prompt, or - and text on standard input")
    return prompt


async def _ask(
    common: Common,
    prompt: str,
    fields: dict[str, Any],
    output: TextOutput | JsonOutput,
    session_id: str | None,
    *,
    tells_context: bool,
) -> ResultMessage:
    from ..agent import Agent
    from ..session import AgentSession

    result: ResultMessage | None = None
    address: dict[str, Any] = dict(common.address())
    async with Agent(**address, **fields, **_keeping(session_id)) as agent:
        session = AgentSession(agent) if session_id is None else await _kept(agent, session_id, prompt, common)
        async with aclosing(session.stream(prompt)) as events:  # type: ignore[type-var]
            async for event in events:
                result = _result(event) or result
                if event is not result:
                    output.take(event)
        assert result is not None
        if tells_context and result.error is None:
            output.context = await _context(agent, session)
        output.take(result)
    return result


def _keeping(session_id: str | None) -> dict[str, Any]:
    """Options of a run that goes on with a kept session: it is kept, where the settings say."""
    from .kept import store_path

    if session_id is None:
        return {}
    path = store_path(None)
    return {"enable_memory": True, **({"memory_db_path": path} if path else {})}


async def _kept(agent: Agent, session_id: str, prompt: str, common: Common) -> AgentSession:
    """The session as it was kept, or a new one.

    Raises:
        InvalidInputError: no prompt is given and no run was stopped.
    """
    from ..errors import InvalidInputError, SessionNotFoundError
    from .terminal import tell

    try:
        session = await agent.resume(session_id)
        said = f"session {session_id}: {len(session.messages)} messages"
    except SessionNotFoundError:
        if not prompt:
            raise
        session, said = agent.create_session(session_id), f"session {session_id}: new"
    if not prompt and not session.is_unfinished:
        raise InvalidInputError(
            f"session {session_id} waits for a prompt: its last run came to its end", field="resume"
        )
    if prompt and session.is_unfinished:
        said += "; its last run was stopped: --resume would go on with it"
    if not common.quiet:
        tell(f"  {said}", style="dim")
    return session


async def _context(agent: Agent, session: AgentSession) -> ContextUsage:
    from ..context import context_usage

    run = await agent.open_run(session, {})
    return await context_usage(run.model, [*([run.system] if run.system else []), *session.messages], run.tools)


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
