"""What a subagent is while it runs: a session below a session, with a run of its own and never wider rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from .errors import ApprovalPendingError, ConfigurationError, ToolExecutionError
from .hooks import (
    HOOK_SESSION_END,
    HOOK_SESSION_START,
    HOOK_STOP,
    HOOK_SUBAGENT_START,
    HOOK_SUBAGENT_STOP,
    HOOK_USER_PROMPT_SUBMIT,
    HookContext,
    HookDecision,
    Hooks,
    StopEvent,
    SubagentStartEvent,
    SubagentStopEvent,
    decide,
)
from .live import Live
from .loop import Run
from .options import AgentOptions
from .permissions import Asker, Permissions
from .session import AgentSession
from .tools import ToolContext
from .tools.refusals import Waiting
from .tools.subagents import TASK, Subagent, subagent_tool
from .types import AgentResponse, AssistantMessage, ResultMessage, ToolStarted, text_of

MOST_LEVELS = 3  # of subagents that ask subagents
# Of a subagent's own conversation the hooks are told by SubagentStart and SubagentStop.
_NOT_TOLD = (HOOK_USER_PROMPT_SUBMIT, HOOK_STOP, HOOK_SESSION_START, HOOK_SESSION_END)
# What the agent's caller wants of the answer holds for the agent alone.
_OWN_ANSWER: Mapping[str, Any] = {
    "output_type": None,
    "output_format": None,
    "output_validator": None,
    "response_format": None,
    "tool_choice": "auto",
    "stop": None,
}


def with_subagents(
    run: Run, agent: Any, session: AgentSession, options: AgentOptions, overrides: Mapping[str, Any]
) -> Run:
    """The run with the tool that asks the subagents of these options.

    Raises:
        ConfigurationError: a subagent names a tool that the agent has not.
    """
    if not options.enable_tools:
        return run
    if not options.auto_execute_tools:
        text = "subagents are asked while the agent runs its tools: set auto_execute_tools=True"
        raise ConfigurationError(text, field="subagents", value=options.team, allowed="auto_execute_tools=True")
    choice = run.tool_choice if run.tools else options.wire_tool_choice()
    given = options.model_fields_set
    told = {"parallel_tool_calls": options.parallel_tool_calls} if "parallel_tool_calls" in given else {}
    run = replace(run, tool_choice=choice, params={**run.params, **told})
    return Team(agent, session, run, options.team, dict(overrides)).joined()


@dataclass(frozen=True, slots=True)
class Team:
    """The subagents that one run may ask. `run` is the asking one, `overrides` are what it was opened with."""

    agent: Any
    session: AgentSession
    run: Run
    members: Sequence[Subagent]
    overrides: Mapping[str, Any]
    level: int = 1

    def joined(self) -> Run:
        """The run, with the tool."""
        registry = self.run.dispatch.registry
        for one in self.members:
            one.own_tools(registry)
        made = subagent_tool(self.members, self.ask, registry)
        return replace(self.run, dispatch=self.run.dispatch.with_tools([made]), tools=(*self.run.tools, made.spec))

    async def ask(self, one: Subagent, prompt: str, context: ToolContext) -> str:
        """The answer of a subagent.

        Raises:
            ToolExecutionError: it was refused, or it failed.
        """
        # The same for a call that was killed and is made again: the subagent goes on where it stopped.
        task = Task(self, one, uuid5(NAMESPACE_OID, context.idempotency_key).hex)
        child, store, result = Subsession(task, self.session), self.run.store, ResultMessage("error")
        if store is not None:
            await child.load(store)
        if not child.stands_open:
            if (answer := child.answer) is not None:  # it had finished, and nobody was told
                return answer
            prompt = await task.begun(prompt)
            if store is not None:
                await child.place(store, one.name, context.tool_use_id, prompt)
        async with aclosing(child.stream("" if child.stands_open else prompt)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, ToolStarted):
                    context.progress(f"{one.name}: {event.call.name}")
                elif isinstance(event, ResultMessage):
                    result = event
        if isinstance(result.error, ApprovalPendingError):  # so does the call of the task
            raise Waiting(*(result.error.approval_ids or ()))
        await task.ended(result)
        if result.error is not None:
            said = f"\nIt had said: {result.result}" if result.result else ""
            raise ToolExecutionError(f"the subagent {one.name} failed: {result.error}{said}") from result.error
        return result.result or ""


class Task:
    """One task of one subagent: the host of its session."""

    max_corrections = 0

    def __init__(self, team: Team, one: Subagent, session_id: str) -> None:
        self.team = team
        self.one = one
        self.session_id = session_id
        self.schema_refusals: set[str] = set()
        self._was_told = False  # SubagentStop hooks, of this end

    # -------------------------------------------------------------- hooks

    @property
    def _above(self) -> Hooks:
        return self.team.run.dispatch.hooks

    @property
    def _where(self) -> HookContext:
        dispatch = self.team.run.dispatch
        mode = dispatch.permissions.mode.value if dispatch.permissions else "default"
        return HookContext(self.team.session.session_id, dispatch.cwd or "", mode)

    @property
    def hooks(self) -> Hooks:
        """Those of its own conversation."""
        kept = {name: entries for name, entries in self._above.items() if name not in _NOT_TOLD}
        return {**kept, HOOK_STOP: [self._stopping]} if HOOK_SUBAGENT_STOP in kept else kept

    async def begun(self, prompt: str) -> str:
        """The task as the SubagentStart hooks leave it.

        Raises:
            ToolExecutionError: a hook refused it, or there is none.
        """
        event = SubagentStartEvent(self.session_id, self.one.name, prompt, self.team.session.session_id)
        told = await decide(self._above, HOOK_SUBAGENT_START, event, self._where)
        if told is not None and not told.continue_:
            raise ToolExecutionError(f"Not run: {told.reason or 'a hook refused it'}")
        if told is not None and told.modified_prompt is not None:
            prompt = told.modified_prompt
        if not prompt.strip():
            raise ToolExecutionError("Not run: the prompt is empty")
        return prompt

    async def _stopping(self, event: StopEvent) -> HookDecision | None:
        told = await self._tell(event.result, is_continued=event.is_continued)
        self._was_told = told is None or told.continue_
        return told

    async def ended(self, result: ResultMessage) -> None:
        """Tell of an end that nobody was asked about: an error, a limit."""
        if not self._was_told:
            await self._tell(result.result, error=None if result.error is None else str(result.error))

    async def _tell(
        self, result: str | None, *, is_continued: bool = False, error: str | None = None
    ) -> HookDecision | None:
        session_id = self.team.session.session_id
        event = SubagentStopEvent(self.session_id, self.one.name, result, is_continued, session_id, error)
        return await decide(self._above, HOOK_SUBAGENT_STOP, event, self._where)

    # -------------------------------------------------------------- the host of its session

    async def open_run(self, session: Any, overrides: Mapping[str, Any]) -> Run:
        """A run of the agent, opened with what the subagent has of its own, and narrowed."""
        team, one = self.team, self.one
        own: dict[str, Any] = {**_OWN_ANSWER, "system_prompt": one.prompt, "log_interactions": False}
        own |= {"tools": one.own_tools(team.run.dispatch.registry), "subagents": (), "agents": ()}
        if one.max_turns is not None:
            own["max_turns"] = one.max_turns
        if one.model is not None:
            own |= dict(one.model) if isinstance(one.model, Mapping) else {"model": one.model}
        given = {**team.overrides, **own}
        run: Run = await team.agent.open_run(session, given)
        dispatch = replace(run.dispatch, hooks=self.hooks, permissions=self.rights(), agent_id=self.session_id)
        run = replace(run, dispatch=dispatch)
        if one.tools is None or TASK not in one.tools or team.level >= MOST_LEVELS:
            return run
        return Team(team.agent, session, run, team.members, given, team.level + 1).joined()

    def rights(self) -> Permissions | None:
        """The agent's, and its own: who is refused by either is refused."""
        one, above = self.one, self.team.run.dispatch.permissions
        if not (one.permission_mode or one.allowed_tools or one.disallowed_tools):
            return above
        above = above or Permissions(cwd=self.team.run.dispatch.cwd)
        if not (one.permission_mode or one.allowed_tools):
            return replace(above, deny=(*above.deny, *one.disallowed_tools))
        allow = one.allowed_tools or above.allow
        return above.narrowed(mode=one.permission_mode or above.mode, allow=allow, deny=one.disallowed_tools)

    @property
    def observers(self) -> Sequence[Any]:
        return self.team.agent.observers  # type: ignore[no-any-return]

    async def check_response(self, response: AgentResponse) -> str | None:
        return None

    def parse_output(self, text: str, output: Any) -> Any:
        return text

    @property
    def options(self) -> Any:
        return self.team.agent.options

    def create_session(self, session_id: str | None = None, **options: Any) -> Any:
        return self.team.agent.create_session(session_id, **options)

    async def store_of(self, session: Any) -> Any:
        return self.team.run.store

    def forget(self, session: Any) -> None:
        return None


class Subsession(AgentSession):
    """The conversation of a subagent. What it spends, its parent spends; the budget is the whole tree's."""

    def __init__(self, task: Task, parent: AgentSession) -> None:
        super().__init__(task, task.session_id)
        self.parent = parent
        self.is_conversation = parent.is_conversation

    async def place(self, store: Any, name: str, tool_use_id: str, prompt: str) -> None:
        """Let the store know it as a session below its parent."""
        self.title = f"{name}: {' '.join(prompt.split())[:60]}"
        named = {"subagent": name, "tool_use_id": tool_use_id, "title": self.title}
        row = {"kind": "session", "parent_session_id": self.parent.session_id, **named}
        await store.append(self.session_id, [row])

    @property
    def answer(self) -> str | None:
        """What it had said at its end, before the program was killed; None: it has to go on."""
        last = self.messages[-1] if self.messages else None
        is_end = isinstance(last, AssistantMessage) and not last.tool_calls and not last.is_interrupted
        return text_of(last) if last is not None and is_end else None

    @property
    def stands_open(self) -> bool:
        """It was killed before its end: it goes on without a new prompt."""
        return self.is_unfinished or self._history.ends_in_results

    async def _prepared(self, run: Run, live: Live) -> Run:
        run = await super()._prepared(run, live)
        rights = run.dispatch.permissions
        if rights is None or rights.asker is None:
            return run
        return replace(run, dispatch=replace(run.dispatch, permissions=asking(rights, rights.asker)))

    def _pay(self, calls: Sequence[Any]) -> None:
        super()._pay(calls)
        self.parent._pay(calls)

    def _guard(self, run: Run) -> Any:
        return self.parent._guard(run)


def asking(rights: Permissions, asker: Asker) -> Permissions:
    """The rights with the same to ask on all levels."""
    above = rights.parent
    return replace(rights, asker=asker, parent=None if above is None else asking(above, asker))
