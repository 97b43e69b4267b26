"""Conversation: what a session is between two prompts: its messages, its name, tool results that a caller hands in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from time import time
from typing import Any, Protocol, cast
from uuid import uuid4

from .budget import exceeded
from .caller_tools import CallerTools
from .context import ContextUsage, FittedModel, context_usage
from .errors import (
    InvalidInputError,
    LimitError,
    MemoryStoreError,
    SessionBusyError,
    SessionClosedError,
    SessionError,
)
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
from .journal import Journal, prompt_text
from .live import Live
from .loop import Run
from .memory import UsageRow
from .models.wire import from_wire, to_wire
from .output import StreamsOutput
from .permissions import Decision, Permissions
from .tools.read_result import read_result_tool
from .types import (
    AgentResponse,
    AssistantMessage,
    ContextSummarized,
    Message,
    ResultMessage,
    ToolMessage,
    ToolUseBlock,
    Usage,
)
from .wiring import with_output

_log = logging.getLogger("any_agent")


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

    def create_session(self, session_id: str | None = None) -> Any: ...


class Conversation(CallerTools, StreamsOutput):
    """The messages of a session and everything about them that needs no model; `AgentSession` adds the talking."""

    def __init__(self, host: SessionHost, session_id: str | None = None, history: Sequence[Message] = ()) -> None:
        self.session_id = session_id or uuid4().hex
        self.turn_count = 0
        self.created_at = time()
        self.title = ""
        self.tags: list[str] = []
        self.result: ResultMessage | None = None
        self.fitted: dict[Any, FittedModel] = {}  # by model: what it has learned and dropped in this conversation
        self._host = host
        self._history = History(history)
        self._pending: list[Message] = []  # sent, not answered yet
        self._hooks: Hooks = {}
        self._is_closed = False
        self._live: Live | None = None  # the prompt that is being answered
        self._journal: Journal | None = None
        self._spent = UsageRow()  # of this object; a store knows more
        self._was_started = False  # SessionStart hooks have been told
        self._waits = False  # the last run ended in calls that wait for an approval
        self.is_conversation = False  # made to be gone on with: kept in the store unless memory is off

    async def _hook_start(self, run: Run) -> None:
        """Tell the SessionStart hooks, before the first prompt."""
        if self._was_started or not run.dispatch.hooks.get(HOOK_SESSION_START):
            return
        self._was_started = True
        event = SessionStartEvent("resume" if self.is_resumed else "startup", self.session_id)
        await decide(run.dispatch.hooks, HOOK_SESSION_START, event, self._place(run))

    async def _hook_end(self) -> None:
        if self._hooks.get(HOOK_SESSION_END):
            await decide(self._hooks, HOOK_SESSION_END, SessionEndEvent("close", self.session_id), self._place(None))

    def _place(self, run: Run | None) -> HookContext:
        return HookContext(self.session_id, (run.dispatch.cwd if run else None) or "")

    def _stop_gate(self, run: Run) -> Any:
        gate = stop_gate(run.dispatch.hooks, self._place(run))
        if gate is None:
            return None
        return lambda result, messages, is_continued: gate(result, to_wire(messages), is_continued)

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
        self._history, self.fitted = History(from_wire(messages)), {}
        if self._journal is not None:
            self._journal.forget_after(0, "replaced")

    def clear(self) -> None:
        """Forget the conversation; the session stays open."""
        self.replace_history([])
        self._pending = []

    # -------------------------------------------------------------- keeping

    async def _take_up(self, run: Run) -> None:
        """Take the session in its store for one run, with what others may have written meanwhile."""
        if run.store is None:
            return
        journal = self._journal
        if journal is None:
            journal = self._journal = Journal(run.store, self.session_id)
        journal.keeps_interactions = run.logs_interactions
        self._history = await journal.begin(self._history)
        if journal.is_resumed and not self.title:
            self._recall(journal)
        for result in (await journal.settle(run.dispatch.registry, self._history.messages)).values():
            if result.tool_use_id in self._history.open_calls():
                self._history.put_result(result)

    async def _prepared(self, run: Run, live: Live) -> Run:
        """The run with what this conversation brings to it."""
        run = await with_output(run, self._host)
        dispatch = run.dispatch
        if run.store is not None and run.waits_for_approvals and self._journal is not None:
            permissions = dispatch.permissions or Permissions()
            dispatch = replace(dispatch, permissions=replace(permissions, asker=self._asker(run, self._journal)))
        if run.recalls_results and run.tools:
            reader = read_result_tool(lambda: self._history.messages)
            dispatch, run = dispatch.with_tools([reader]), replace(run, tools=(*run.tools, reader.spec))
        known, guard, may_stop = self._history.known_results, self._guard(run), self._stop_gate(run)
        return replace(run, dispatch=dispatch, known=known, inbox=live.inbox, guard=guard, may_stop=may_stop)

    def _asker(self, run: Run, journal: Journal) -> Any:
        async def ask(call: ToolUseBlock, decision: Decision, context: Any) -> Decision:
            answer = await journal.ask(call, decision, context)
            if answer.kind == "ask" and run.dispatch.hooks.get(HOOK_NOTIFICATION):
                await decide(run.dispatch.hooks, HOOK_NOTIFICATION, NotificationEvent(answer.reason), self._place(run))
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

    async def approvals(self) -> list[dict[str, Any]]:
        """Tool calls of this session that wait for somebody's approval."""
        return [] if self._journal is None else await self._journal.store.pending_approvals(self.session_id)

    async def answer_approval(
        self,
        approval_id: str,
        allow: bool,
        *,
        reason: str = "",
        updated_input: Mapping[str, Any] | None = None,
        answered_by: str = "",
    ) -> None:
        """Allow or deny a call that waits; `receive()` then goes on with it.

        Raises:
            InvalidInputError: there is no such approval, or it was answered otherwise.
        """
        if self._journal is None:
            raise InvalidInputError(f"no approval {approval_id!r} waits", field="approval_id", value=approval_id)
        told = {"reason": reason, **({"updated_input": dict(updated_input)} if updated_input is not None else {})}
        state = "allowed" if allow else "denied"
        await self._journal.store.answer_approval(approval_id, state, told, answered_by=answered_by)

    def _recall(self, journal: Journal) -> None:
        meta = journal.meta
        self.title, self.tags = meta.get("title") or "", list(meta.get("tags") or [])
        self.turn_count = journal.meta.get("turn_count", 0)
        self.created_at = meta.get("created_at") or self.created_at

    async def _commit_prompt(self, run: Run) -> None:
        if self._journal is not None and run.store is not None:
            await self._journal.said(prompt_text(self._history.messages), self._history.messages, run.model.name)
            self.title = self.title or self._journal.meta.get("title") or ""

    async def _release(self) -> None:
        """Write what an interrupt left, then let others have the session."""
        if self._journal is None or not self._journal.is_held:
            return
        try:
            await self._journal.commit(self._history.messages)
        except (MemoryStoreError, SessionError) as error:  # the run's result has told of it, or tells of worse
            _log.warning("session %s: the end of the run is not kept: %s", self.session_id, error)
        finally:
            await self._journal.end()

    async def _flush(self) -> None:
        """Write what was changed between two prompts."""
        if self._journal is not None and self._journal.has_news and not self._journal.is_held:
            self._history = await self._journal.begin(self._history)
            await self._release()

    async def load(self, store: Any) -> bool:
        """Read the conversation from a store; False: it does not know the session."""
        self._check_idle()
        self._journal = Journal(store, self.session_id)
        history = await self._journal.read()
        if history is not None:
            self._history = history
        self._recall(self._journal)
        return history is not None or bool(self._journal.meta.get("session_id"))

    async def rewind(self, keep: int) -> None:
        """Go back to the first `keep` messages of `messages`; what came later does not hold any more.

        Raises:
            InvalidInputError: there are fewer messages, or the cut falls between a tool call and its result.
            SessionBusyError: a prompt is being answered.
        """
        self._check_idle()
        self._check_cut(keep)
        self._history, self.fitted = History(self._history.messages[:keep]), {}
        if self._journal is not None:
            self._journal.forget_after(keep)
            await self._flush()

    async def fork(self, up_to: int | None = None, session_id: str | None = None) -> Any:
        """A new session with the first `up_to` messages of this one (None: all); both go on apart.

        Raises:
            InvalidInputError: there are fewer messages, or the cut falls between a tool call and its result.
        """
        messages = self._history.messages
        keep = len(messages) if up_to is None else up_to
        self._check_cut(keep)
        child = self._host.create_session(session_id)
        child.title, child.tags = self.title, list(self.tags)
        child._history = History(messages[:keep])
        if self._journal is not None and not self._journal.has_news:
            store, last = self._journal.store, self._journal.seq_after(keep)
            await store.fork(self.session_id, child.session_id, up_to=last)
            await child.load(store)
        return child

    def _check_cut(self, keep: int) -> None:
        messages = self._history.messages
        if not 0 <= keep <= len(messages):
            raise InvalidInputError(f"there are {len(messages)} messages, not {keep}", field="keep", value=keep)
        if keep < len(messages) and isinstance(messages[keep], ToolMessage):
            text = f"message {keep} holds the results of tool calls before it; use {keep - 1} or {keep + 1}"
            raise InvalidInputError(text, field="keep", value=keep)

    # -------------------------------------------------------------- what it cost

    async def usage(self) -> UsageRow:
        """Model calls, tokens and USD of this session, with retries, fallbacks, summaries and subagents.

        From the store where the session is kept, so other processes' calls count too; else those of this object.
        """
        journal = self._journal
        return self._spent if journal is None else cast("UsageRow", await journal.store.spent(self.session_id))

    def _pay(self, message: AssistantMessage) -> None:
        usage, known = message.usage or Usage(), self._spent
        self._spent = replace(
            known,
            calls=known.calls + 1,
            input_tokens=known.input_tokens + usage.input_tokens,
            output_tokens=known.output_tokens + usage.output_tokens,
            cached_tokens=known.cached_tokens + usage.cached_tokens,
            reasoning_tokens=known.reasoning_tokens + usage.reasoning_tokens,
            cost_usd=known.cost_usd + (message.cost_usd or 0.0),
            unpriced_calls=known.unpriced_calls + (message.cost_usd is None),
            duration_s=known.duration_s + (message.attempt.duration_s if message.attempt else 0.0),
        )

    def _guard(self, run: Run) -> Callable[[], Awaitable[LimitError | None]] | None:
        """What is asked before each model call: is there budget left?"""
        if not run.budget:
            return None

        async def within_budget() -> LimitError | None:
            return exceeded(run.budget, await self.usage())

        return within_budget

    @property
    def is_resumed(self) -> bool:
        """The session was read from a store."""
        return self._journal is not None and self._journal.is_resumed

    @property
    def is_unfinished(self) -> bool:
        """The last run was killed: `receive()` or `query("")` goes on where it stopped."""
        return self.is_resumed and self._history.is_unfinished

    @property
    def is_busy(self) -> bool:
        return self._live is not None

    def _check_open(self) -> None:
        if self._is_closed:
            raise SessionClosedError(
                f"session {self.session_id} is closed; create_session() a new one", session_id=self.session_id
            )

    def _check_idle(self) -> None:
        if self._live is not None:
            raise SessionBusyError(
                f"session {self.session_id} is answering another prompt: await it or interrupt() it",
                session_id=self.session_id,
            )
