"""Conversation: what a session is between two prompts: its messages, its name, tool results that a caller hands in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from time import time
from typing import Any, Protocol, cast
from uuid import uuid4

from .asking import AsksBlocking, TextChunks, text_chunks
from .caller_tools import CallerTools
from .context import ContextUsage, FittedModel, context_usage
from .durability.journal import Journal
from .errors import SessionBusyError, SessionClosedError
from .given import history_of, label, session_id_of, shown, together
from .history import History
from .hooks import (
    HOOK_NOTIFICATION,
    HOOK_SESSION_END,
    HOOK_SESSION_START,
    HookContext,
    Hooks,
    NotificationEvent,
    SessionEndEvent,
    SessionStartEvent,
    decide,
    stop_gate,
)
from .kept_session import KeptSession
from .live import Live
from .loop import Run
from .memory import UsageRow
from .models.wire import to_wire
from .output import StreamsOutput
from .permissions import Decision, Permissions
from .tools.read_result import read_result_tool
from .types import (
    AgentResponse,
    ContextSummarized,
    Message,
    ResultMessage,
    SystemMessage,
    ToolUseBlock,
    text_of,
)


class SessionHost(Protocol):
    """What a session needs of its agent."""

    async def open_run(self, session: Any, overrides: Mapping[str, Any]) -> Run: ...

    async def check_response(self, response: AgentResponse) -> str | None: ...

    @property
    def max_corrections(self) -> int: ...

    @property
    def observers(self) -> Sequence[Any]: ...

    @property
    def hooks(self) -> Hooks: ...

    def forget(self, session: Any) -> None: ...

    def parse_output(self, text: str, output: Any) -> Any: ...

    @property
    def schema_refusals(self) -> set[str]: ...

    @property
    def options(self) -> Any: ...

    def create_session(self, session_id: str | None = None, **options: Any) -> Any: ...

    async def store_of(self, session: Any) -> Any: ...


class Conversation(KeptSession, CallerTools, StreamsOutput, AsksBlocking):
    """The messages of a session and everything about them that needs no model; `AgentSession` adds the talking."""

    title: str = label()
    summary: str = label()
    tags: list[str] = label(is_list=True)

    def __init__(self, host: SessionHost, session_id: str | None = None, history: Sequence[Message] = ()) -> None:
        self.session_id = uuid4().hex if session_id is None else session_id_of(session_id)
        self.own_options: Mapping[str, Any] = {}  # for all prompts of this session
        self.turn_count = 0
        self.created_at = time()
        self.title = self.summary = ""
        self.tags = []
        self.result: ResultMessage | None = None
        self.fitted: dict[Any, FittedModel] = {}  # by model: what it has learned and dropped in this conversation
        self._host = host
        self._history = History(history)
        self._pending: list[Message] = []  # sent, not answered yet
        self._used_ids: set[str] = set()  # of calls that are in the history no more; the store knows more of them
        self._hooks: Hooks = {}
        self._is_closed = False
        self._live: Live | None = None  # the prompt that is being answered
        self._journal: Journal | None = None
        self._spent = UsageRow()  # in calls that no store knows of
        self._made_summary = ""  # the one that an earlier run made of the oldest messages
        self._is_replaced = False  # another history was put in place before the store was asked for its own
        self._unkept = 0  # the first so many messages are not to be kept
        self._was_started = False  # SessionStart hooks have been told, if there are any
        self._waits = False  # the last run ended in calls that wait for an approval
        self.is_conversation = False  # made to be gone on with: kept in the store unless memory is off

    async def _hook_start(self, run: Run) -> None:
        """Tell the SessionStart hooks, before the first prompt."""
        was_started, self._was_started = self._was_started, True
        if was_started or not run.dispatch.hooks.get(HOOK_SESSION_START):
            return
        event = SessionStartEvent("resume" if self.is_resumed else "startup", self.session_id)
        await decide(run.dispatch.hooks, HOOK_SESSION_START, event, self._place(run))

    async def _hook_end(self) -> None:
        """Tell the SessionEnd hooks, once for each start."""
        was_started, self._was_started = self._was_started, False
        if was_started and self._hooks.get(HOOK_SESSION_END):
            await decide(self._hooks, HOOK_SESSION_END, SessionEndEvent("close", self.session_id), self._place(None))

    @property
    def _standing_hooks(self) -> Hooks:
        """Those of the next prompt, as far as they are known."""
        hooks: Hooks = self.own_options.get("hooks", self._host.hooks)
        return hooks

    def _watching(self, overrides: Mapping[str, Any]) -> list[Any]:
        """The agent's observers, and those that were given to this session or with this prompt."""
        more = overrides.get("observers", self.own_options.get("observers"))
        return [*self._host.observers, *(more if isinstance(more, (list, tuple)) else ())]

    def _place(self, run: Run | None) -> HookContext:
        return run.dispatch.where(self.session_id) if run else HookContext(self.session_id)

    def _stop_gate(self, run: Run) -> Any:
        gate = stop_gate(run.dispatch.hooks, self._place(run))
        if gate is None:
            return None
        return lambda result, messages, is_continued: gate(result, to_wire(messages), is_continued)

    # -------------------------------------------------------------- as text, as data

    def stream_query(self, prompt: Any = "", **overrides: Any) -> TextChunks:
        """Text chunks of the answer while they arrive; raises what `query` raises."""
        name, owner = "stream_chunk_size", cast("Any", self)
        least = overrides.get(name, self.own_options.get(name, self._host.options.stream_chunk_size))
        return TextChunks(text_chunks(owner.stream(prompt, **overrides), least))

    def stream_output(self, prompt: Any, output_type: Any = None, **overrides: Any) -> AsyncIterator[Any]:
        """The answer as it grows; see `Agent.stream_output`."""
        words = overrides if output_type is None else {**overrides, "output_type": output_type}
        return super().stream_output(prompt, **together(self.own_options, words))

    # -------------------------------------------------------------- history

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation as OpenAI dicts (a copy)."""
        return deepcopy(to_wire(self._history.messages))

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation as our own messages."""
        return tuple(self._history.messages)

    def replace_history(self, messages: Sequence[Message | Mapping[str, Any]]) -> None:
        """Put another history in place.

        Raises:
            SessionBusyError: a prompt is being answered.
            InvalidInputError: an item is no message.
        """
        self._check_idle()
        new = History(history_of(messages))
        self._forget_labels(self._history.messages, new.messages)
        self._used_ids |= self._history.call_ids
        self._history, self.fitted, self._unkept = new, {}, 0
        self._is_replaced = self._journal is None
        if self._journal is not None:
            self._journal.forget_after(0, "replaced")

    def clear(self) -> None:
        """Forget the conversation; the session stays open."""
        self.replace_history([])
        self._pending = []

    async def _prepared(self, run: Run, live: Live) -> Run:
        """The run with what this conversation brings to it."""
        run = await _with_output(run, self._host)
        dispatch = replace(run.dispatch, finished=live.finished)
        if run.store is not None and run.waits_for_approvals and self._journal is not None:
            permissions = dispatch.permissions or Permissions()
            dispatch = replace(dispatch, permissions=replace(permissions, asker=self._asker(run, self._journal)))
        if run.recalls_results and run.tools:
            reader = read_result_tool(lambda: self._history.messages)
            dispatch, run = dispatch.with_tools([reader]), replace(run, tools=(*run.tools, reader.spec))
        known, guard, may_stop = self._history.known_results, self._guard(run), self._stop_gate(run)
        used = self._used_ids | (self._journal.used_ids if self._journal is not None else set())
        run = replace(run, dispatch=dispatch, known=known, inbox=live.inbox, used_ids=used)
        return replace(run, guard=guard, may_stop=may_stop)

    def _asker(self, run: Run, journal: Journal) -> Any:
        async def ask(call: ToolUseBlock, decision: Decision, context: Any) -> Decision:
            answer = await journal.ask(call, decision, context)
            if answer.kind == "ask" and run.dispatch.hooks.get(HOOK_NOTIFICATION):
                event = NotificationEvent(answer.reason, "permission_prompt")
                await decide(run.dispatch.hooks, HOOK_NOTIFICATION, event, self._place(run))
            return answer

        return ask

    @property
    def context_summary(self) -> ContextSummarized | None:
        """What stands for the oldest messages, as an earlier run has kept it."""
        kept = self._journal.checkpoint if self._journal is not None else None
        return ContextSummarized(**kept) if kept else None

    async def context_usage(self) -> ContextUsage:
        """What the next prompt would take of the model's window, by part: system, tools, history, reserve."""
        run = await self._host.open_run(self, {})
        said = self._history.messages
        return await context_usage(run.model, [run.system, *said] if run.system else said, run.tools)

    @property
    def is_busy(self) -> bool:
        return self._live is not None

    def _seal(self, live: Live) -> None:
        """What an interrupted run leaves in the history; see AgentSession."""

    def _check_open(self) -> None:
        if self._is_closed:
            raise SessionClosedError(
                f"session {shown(self.session_id)} is closed; create_session() a new one", session_id=self.session_id
            )

    def _check_idle(self) -> None:
        if self._live is not None and self._live.loop.is_closed():  # its event loop was left in the middle
            self._seal(self._live)
        if self._live is not None:
            raise SessionBusyError(
                f"session {shown(self.session_id)} is answering another prompt: await it or interrupt() it",
                session_id=self.session_id,
            )


async def _with_output(run: Run, host: Any) -> Run:
    """The run with what gets the structured output it wants.

    Args:
        host: reads answers (`parse_output`) and remembers who refused schemas (`schema_refusals`).

    Raises:
        ConfigurationError: what is wanted is no type and no JSON Schema.
    """
    wanted = run.wanted
    if wanted is None:
        return run
    from .output import FINAL_TOOL, Asked, output_of, way_at

    output = output_of(wanted.shape)
    has_tools = bool(run.tools) and run.tool_choice != "none"
    may_call = run.executes_tools and run.tool_choice != "none"
    way, place = await way_at(
        run.model, wanted.mode, host.schema_refusals, runs_tools=may_call, may_probe=wanted.may_probe
    )
    refused = partial(host.schema_refusals.add, place)
    asked = Asked(output, way, host.parse_output, wanted.validator, wanted.retries, refused)
    dispatch, tools, name = run.dispatch, run.tools, None
    if way.mode == "tool":
        name = next(n for n in (FINAL_TOOL, f"give_{FINAL_TOOL}", f"my_{FINAL_TOOL}") if n not in dispatch.registry)
        tool = asked.tool(name)
        dispatch, tools = dispatch.with_tools([tool]), (*tools, tool.spec)
        if (rights := dispatch.permissions) is not None:  # nobody need be asked whether the model may answer
            dispatch = replace(dispatch, permissions=replace(rights, allow=(*rights.allow, name)))
    told = asked.instruction(name, has_tools=has_tools)
    system = SystemMessage(f"{text_of(run.system)}\n\n{told}" if run.system else told, pinned=True)
    return replace(run, output=asked, dispatch=dispatch, tools=tools, system=system)
