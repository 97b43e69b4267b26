"""KeptSession: what a session has of its store: taken up and given back, fork, rewind, approvals, what it cost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from .budget import exceeded, together, with_paid, with_rows
from .durability.journal import Journal, prompt_text
from .durability.labels import title_left
from .durability.ledger_rows import Entry
from .errors import (
    ConfigurationError,
    InvalidInputError,
    LimitError,
    MemoryStoreError,
    SessionError,
    SessionFencedError,
)
from .given import count_of, shown
from .history import History
from .live import Live
from .loop import Run
from .memory import UsageRow
from .sync import has_loop
from .types import AssistantMessage, Message, ToolMessage, ToolResultBlock, ToolUseBlock

_log = logging.getLogger("any_agent")


class KeptSession:
    """The part of a conversation that knows of stores."""

    session_id: str
    own_options: Mapping[str, Any]
    title: str
    summary: str
    tags: list[str]
    turn_count: int
    created_at: float
    fitted: dict[Any, Any]
    _host: Any
    _history: History
    _pending: list[Message]
    _used_ids: set[str]
    _live: Live | None
    _journal: Journal | None
    _spent: UsageRow
    _made_summary: str
    _is_replaced: bool
    _unkept: int
    _is_watched = True  # somebody sees the run's events, not its response alone

    def _check_idle(self) -> None: ...

    # -------------------------------------------------------------- one run

    async def _take_up(self, run: Run, live: Live, *, goes_on: bool = False) -> None:
        """Take the session in its store for one run, with what others may have written meanwhile.

        Args:
            goes_on: nothing new was said, so open calls are run.

        Raises:
            ConfigurationError: the tool of such a call is not here.
        """
        if run.store is None:
            return
        journal = self._journal_in(run.store)
        journal.keeps_interactions = run.logs_interactions
        await self._begin_in(journal)
        live.hold = journal.hold
        if goes_on and run.executes_tools:
            await self._check_tools(run, journal)
        for result in (await journal.settle(run.dispatch.registry, self._history)).values():
            if result.tool_use_id in self._history.open_calls():
                self._history.put_result(result)

    async def _check_tools(self, run: Run, journal: Journal) -> None:
        """A call that somebody was asked about, or that was begun, is not answered by "there is no such tool".

        One that was denied needs no tool: the model hears why.
        """
        answered = {*self._history.known_results, *journal.results}
        for call in self._history.open_calls().values():
            if not isinstance(call, ToolUseBlock) or call.id in answered or call.name in run.dispatch.registry:
                continue
            store = journal.store
            rows = [row["call_id"] for row in await store.load(self.session_id, kinds=("tool",))]
            below = [one.get("tool_use_id") for one in await store.list_sessions(-1, parent_session_id=self.session_id)]
            approval = await store.approval(f"{self.session_id}:{call.id}")
            if approval is not None and approval["state"] == "denied":
                why = (approval.get("answer") or {}).get("reason") or "it was refused"
                self._history.put_result(ToolResultBlock(call.id, f"Not run: {why}", True))
                continue
            if approval is not None or call.id in (*rows, *below):
                what = f"has the approval {approval['state']!r}" if approval else "was begun"
                text = (
                    f"session {shown(self.session_id)} goes on with a call of the tool {call.name!r} that {what}, and "
                    f"this agent has no such tool: give it the tool, answer with add_tool_result({call.id!r}, …), or "
                    "say something new to go on without it"
                )
                raise ConfigurationError(text, field="tools", value=call.name, allowed="the tools of the open calls")

    def _journal_in(self, store: Any) -> Journal:
        if self._journal is None:
            self._journal = Journal(store, self.session_id)
            self._journal.skip(self._unkept)
            if self._is_replaced:
                self._journal.forget_after(0, "replaced")
        return self._journal

    async def _begin_in(self, journal: Journal) -> None:
        mine, turns = self._labels(journal), self.turn_count
        self._history = await journal.begin(self._history)
        self._recall(journal)
        self.turn_count = max(turns, self.turn_count)
        for name, value in mine.items():
            setattr(self, name, value)

    def _labels(self, journal: Journal) -> Entry:
        """Title, summary and tags, where they were changed here."""
        now = {"title": self.title, "summary": self.summary, "tags": list(self.tags)}
        return {name: value for name, value in now.items() if value != (journal.meta.get(name) or type(value)())}

    def _recall(self, journal: Journal) -> None:
        meta = journal.meta
        self.title, self.summary = meta.get("title") or "", meta.get("summary") or ""
        self.tags, self.turn_count = list(meta.get("tags") or []), meta.get("turn_count", 0)
        self.created_at = meta.get("created_at") or self.created_at

    async def _commit_prompt(self, run: Run) -> None:
        journal, said = self._journal, self._history.messages
        if journal is not None and run.store is not None:
            journal.tells_answers = self._is_watched or run.may_stop is not None or run.output is not None
            await journal.said(prompt_text(said), said, run.model.name, self._labels(journal))
            self.title = self.title or journal.meta.get("title") or ""

    async def _release(self, live: Live) -> None:
        """Write what the run has left, then let others have the session; once, whoever comes first."""
        if not live.is_left:
            live.is_left = True
            try:
                await self._give_back(live)
            finally:
                live.left.set()

    async def _give_back(self, live: Live) -> None:
        hold, run, journal = live.hold, live.run, self._journal
        calls = live.rows.cut(run.model) if run is not None else []
        if hold is None or journal is None:
            self._pay(calls)
            if run is not None and run.store is None:  # this prompt was not to be kept
                self._unkept = len(self._history.messages)
                if journal is not None:
                    journal.skip(self._unkept)
            return
        if not has_loop():  # a coroutine that is thrown away; the lease ends by itself
            return
        try:
            if hold.is_given_up:  # its result went with that; is there more since then?
                await self.save()
            elif not live.is_stuck:
                await journal.leave(self._history.messages, hold, calls, self.turn_count, self._labels(journal))
        except (MemoryStoreError, SessionError) as error:  # the run's result has told of it, or tells of worse
            if journal.hold is hold and not (isinstance(error, SessionFencedError) and hold.is_given_up):
                _log.warning("session %s: the end of the run is not kept: %s", shown(self.session_id), error)
        finally:
            await journal.end(hold, is_slow=live.is_stuck)

    # -------------------------------------------------------------- between two runs

    async def save(self) -> None:
        """Write now what was changed between two prompts: title, summary, tags, history. `close()` does it too.

        Raises:
            MemoryStoreError: the store failed; nothing is lost here, and the next prompt tries again.
            SessionBusyError: another process is answering a prompt of this session.
        """
        journal = self._journal
        if journal is None or self._live is not None:
            return
        if journal.has_news(self._history.messages) or (
            self._labels(journal) and (journal.is_resumed or journal.is_written)
        ):
            await self._begin_in(journal)
            hold = journal.hold
            if hold is not None:
                try:
                    await journal.leave(self._history.messages, hold, (), self.turn_count, self._labels(journal))
                finally:
                    await journal.end(hold)

    async def load(self, store: Any) -> bool:
        """Read the conversation from a store; False: it does not know the session."""
        self._check_idle()
        journal = Journal(store, self.session_id)
        history = await journal.read()
        self._journal = journal
        if history is not None:
            self._history = history
        self._recall(journal)
        return history is not None or bool(journal.meta.get("session_id"))

    async def _kept(self) -> Journal | None:
        """The journal, also of a session that has had no prompt here yet; None: it is not kept."""
        if self._journal is None and self._live is None:
            store = await self._host.store_of(self)
            if store is not None and not (self._history.messages or self._is_replaced):
                await self.load(store)
            elif store is not None:
                self._journal_in(store)
        return self._journal

    async def rewind(self, keep: int) -> None:
        """Go back to the first `keep` messages of `messages`; what came later does not hold any more.

        Raises:
            InvalidInputError: there are fewer messages, or the cut falls between a tool call and its result.
            SessionBusyError: a prompt is being answered.
        """
        self._check_idle()
        journal = await self._kept()
        self._check_cut(keep)
        self._forget_labels(self._history.messages[keep:], self._history.messages[:keep])
        self._used_ids |= self._history.call_ids
        self._history, self.fitted = History(self._history.messages[:keep]), {}
        self._unkept = min(self._unkept, keep)
        if journal is not None:
            journal.forget_after(keep)
            await self.save()

    def _forget_labels(self, gone: Sequence[Message], kept: Sequence[Message]) -> None:
        """Drop the title that was made of a message that is gone, and a summary of any; what somebody set stays."""
        self.title = title_left(self.title, gone, kept)
        made = self._journal.checkpoint if self._journal is not None else None
        if gone and self.summary in (self._made_summary, (made or {}).get("summary")):
            self.summary = self._made_summary = ""

    async def fork(self, up_to: int | None = None, session_id: str | None = None) -> Any:
        """A new session with the first `up_to` messages of this one (None: all); both go on apart.

        Raises:
            InvalidInputError: there are fewer messages, or the cut falls between a tool call and its result; or the
                store has a session of this id.
        """
        journal = await self._kept()
        messages = self._history.messages
        keep = len(messages) if up_to is None else up_to
        self._check_cut(keep)
        child = self._host.create_session(session_id, **self.own_options)
        try:
            child.title, child.summary, child.tags = self.title, self.summary, list(self.tags)
            child._history = History(messages[:keep])
            if journal is not None and journal.is_written and not journal.has_news(messages[:keep]):
                await journal.store.fork(self.session_id, child.session_id, up_to=journal.seq_after(keep))
                await child.load(journal.store)
        except BaseException:
            self._host.forget(child)
            raise
        return child

    def _check_cut(self, keep: int) -> None:
        messages = self._history.messages
        if not 0 <= count_of(keep, "keep") <= len(messages):
            raise InvalidInputError(f"there are {len(messages)} messages, not {keep}", field="keep", value=keep)
        if keep < len(messages) and isinstance(messages[keep], ToolMessage):
            text = f"message {keep} holds the results of tool calls before it; use {keep - 1} or {keep + 1}"
            raise InvalidInputError(text, field="keep", value=keep)

    @property
    def is_resumed(self) -> bool:
        """The session was read from a store."""
        return self._journal is not None and self._journal.is_resumed

    @property
    def is_unfinished(self) -> bool:
        """The last run was killed: `receive()` or `query("")` goes on where it stopped."""
        return self.is_resumed and self._history.is_unfinished

    # -------------------------------------------------------------- approvals

    async def approvals(self) -> list[dict[str, Any]]:
        """Tool calls of this session and its subagents that wait for somebody's approval."""
        journal, found = await self._kept(), list[dict[str, Any]]()
        below = [] if journal is None else [self.session_id]
        for session_id in below:  # grows
            store = cast("Journal", journal).store
            found += await store.pending_approvals(session_id)
            below += [one["session_id"] for one in await store.list_sessions(-1, parent_session_id=session_id)]
        return found

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
        journal = await self._kept()
        if journal is None:
            raise InvalidInputError(f"no approval {approval_id!r} waits", field="approval_id", value=approval_id)
        told = {"reason": reason, **({"updated_input": dict(updated_input)} if updated_input is not None else {})}
        state = "allowed" if allow else "denied"
        await journal.store.answer_approval(approval_id, state, told, answered_by=answered_by)

    # -------------------------------------------------------------- what it cost

    async def usage(self) -> UsageRow:
        """Model calls, tokens and USD of this session, with retries, fallbacks, summaries and subagents.

        From the store where the session is kept, so other processes' calls count too; and those of this object that
        were not to be kept.
        """
        journal = await self._kept()
        if journal is None:
            return self._spent
        return together(await journal.store.spent(self.session_id), self._spent)

    def _pay(self, calls: Sequence[Entry]) -> None:
        """Count calls that no store knows of."""
        self._spent = with_rows(self._spent, calls)

    def _guard(self, run: Run) -> Callable[..., Awaitable[LimitError | None]] | None:
        """What is asked before each model call: is there budget left?"""
        if not run.budget:
            return None

        async def within_budget(unpaid: AssistantMessage | None = None) -> LimitError | None:
            spent = await self.usage()
            return exceeded(run.budget, spent if unpaid is None else with_paid(spent, unpaid))

        return within_budget
