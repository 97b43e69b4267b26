"""`any-agent run`: one prompt, the answer on standard output."""

from __future__ import annotations

from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .terminal import is_output_closed, one_line, speak_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..agent import Agent
    from ..context import ContextUsage
    from ..session import AgentSession
    from ..types import Event, ResultMessage
    from .run_output import Output


class OutputFormat(str, Enum):
    """What standard output gets: the text, one object, or one object per event."""

    TEXT = "text"
    JSON = "json"
    STREAM_JSON = "stream-json"


def run(
    common: Common,
    prompt: Annotated[str | None, typer.Argument(help="What to ask; piped text follows it. -: only that.")] = None,
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
    from .run_output import output_for
    from .run_profile import RunProfile

    _check(prompt, session, is_resumed=resume)
    chosen = output_format or (OutputFormat.JSON if common.json else OutputFormat.TEXT)
    fields: dict[str, Any] = {"system_prompt": system, "max_turns": max_turns}
    fields |= {"fallback_models": common.fallback_models or None, "record": record, "replay": replay}
    given = {name: value for name, value in fields.items() if value is not None}
    if chosen is not OutputFormat.TEXT:
        speak_json()
    output = output_for(chosen.value, is_quiet=common.quiet)
    if profile_run:
        output.profile = RunProfile()
    ask = _Asking(common, given, output, session, tells_context=context)
    code = _ending(ask.done(prompt, is_resumed=resume), common)
    if code:
        raise typer.Exit(code)


def _check(prompt: str | None, session_id: str | None, *, is_resumed: bool) -> None:
    """Refuse what cannot be meant, before anything is read or asked."""
    if session_id is not None and not session_id.strip():
        raise typer.BadParameter("--session wants an id, and this one is empty: it could not be found again")
    if is_resumed and (session_id is None or prompt is not None):
        raise typer.BadParameter("--resume goes with --session ID and without a prompt")
    if is_output_closed():
        from ..errors import InvalidInputError

        text = "standard output is closed: nothing was asked, for the answer would be lost"
        raise InvalidInputError(f"{text}\n  fix:   >/dev/null where it is not wanted", field="stdout")


@dataclass(frozen=True, slots=True)
class _Asking:
    """One prompt, on its way to its result."""

    common: Common
    fields: dict[str, Any]
    output: Output
    session_id: str | None
    tells_context: bool

    def done(self, prompt: str | None, *, is_resumed: bool) -> ResultMessage:
        """The result, which was shown; also of a run that was interrupted, wherever that was."""
        import asyncio

        from .standard_input import prompt_of

        try:
            return asyncio.run(self._result_of("" if is_resumed else prompt_of(prompt, is_quiet=self.common.quiet)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return self.output.interrupted(self.session_id)

    async def _result_of(self, prompt: str) -> ResultMessage:
        from ..agent import Agent
        from ..session import AgentSession

        result: ResultMessage | None = None
        address: dict[str, Any] = dict(self.common.address())
        output, silence = self.output, self.output.silence
        async with Agent(**address, **self.fields, **_keeping(self.session_id)) as agent:
            is_kept = self.session_id is not None
            session = await _kept(agent, self.session_id or "", prompt, self.common) if is_kept else AgentSession(agent)
            silence.begin(lambda: _place(agent))
            with _interrupting(session):
                async with aclosing(session.stream(prompt)) as events:  # type: ignore[type-var]
                    async for event in events:
                        result = _result(event) or result
                        if event is not result:
                            output.take(event)
                silence.end()
                assert result is not None
                output.max_tokens = agent.options.max_tokens
                if self.tells_context and result.error is None:
                    output.context = await _context(agent, session)
            output.take(result)
        return result


@contextmanager
def _interrupting(session: AgentSession) -> Iterator[None]:
    """Ctrl-C ends the session's run, which keeps what was said; a second one, or one where none runs, ends all."""
    import asyncio
    import signal

    loop, whole = asyncio.get_running_loop(), asyncio.current_task()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if session.is_busy and not stopping:
            stopping.append(loop.create_task(session.interrupt()))
        elif whole is not None:
            whole.cancel()

    before, is_heard = signal.getsignal(signal.SIGINT), False
    if before is not signal.SIG_IGN:  # of a job in the background
        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows; another thread: as Python does it
            loop.add_signal_handler(signal.SIGINT, stop)
            is_heard = True
    try:
        yield
    finally:
        if is_heard:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)


def _place(agent: Agent) -> str:
    """Who is asked, in words."""
    from ..errors import AnyAgentError

    with suppress(AnyAgentError):
        route = agent.route
        if route.base_url:
            return f"{route.model} at {route.base_url}"
    return agent.model


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
        SessionBusyError: another process is answering a prompt of it.
        InvalidInputError: no prompt is given and no run was stopped.
        ToolNotFoundError: no prompt is given, and its run goes on with tools that are not here.
    """
    from ..errors import InvalidInputError, SessionNotFoundError
    from .kept import check_free, not_found
    from .open_calls import go_on, open_calls
    from .terminal import tell

    try:
        session = await agent.resume(session_id)
        said = f"session {session_id}: {len(session.messages)} messages"
        await check_free(agent.memory, session_id)
    except SessionNotFoundError:
        if not prompt:
            raise await not_found(agent.memory, session_id) from None
        session, said = agent.create_session(session_id), f"session {session_id}: new"
    if not prompt and not session.is_unfinished:
        raise InvalidInputError(
            f"session {one_line(session_id)} waits for a prompt: its last run came to its end", field="resume"
        )
    left: list[str] = []
    if not prompt:
        await go_on(agent, session)
    elif session.is_unfinished:
        left = [str(one) for one in await open_calls(agent.memory, session_id)]
        lost = f"this prompt leaves open tool calls without a result: {', '.join(left)}"
        said += f"; {lost if left else 'its last run was stopped: --resume would go on with it'}"
    if left or not common.quiet:  # somebody may have allowed them
        tell(f"  {one_line(said)}", style="dim")
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

    from .problems import FAILED, INTERRUPTED, LIMIT, report, report_interrupt

    said = replace(common, json=False)
    if result.subtype == "interrupted":
        report_interrupt(said)
        return INTERRUPTED
    if result.error is not None:
        return report(result.error, said)
    return {"success": 0, "limit": LIMIT}.get(result.subtype, FAILED)
