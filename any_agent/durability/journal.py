"""Journal: what a session must not lose is committed here, at the points that the durability contract names.

The user's turn before the first model call; an answer, its calls and its usage before any tool runs; that a `once` tool
starts before it does; each result with its state. A session that is opened again is well formed, whatever was killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from ..errors import MemoryStoreError, SessionFencedError, ToolNotFoundError
from ..history import History
from ..memory import message_entry, message_of
from ..permissions import Decision
from ..tools import ToolRegistry
from ..types import (
    AssistantMessage,
    ContextSummarized,
    Event,
    Message,
    PermissionDecided,
    ResultMessage,
    ToolCompleted,
    ToolResultBlock,
    ToolStarted,
    ToolUseBlock,
    UserMessage,
    text_of,
)
from .hold import Hold, take, unbroken
from .labels import empty_labels, title_of
from .ledger_rows import Entry

UNKNOWN = (
    "Outcome unknown: the program was stopped while {name} ran. It may or may not have taken effect, so it was not "
    "run again. Find out which before you repeat it."
)
_log = logging.getLogger("any_agent")


class Journal:
    """Writes one session to a store, and reads it back.

    Attributes: results (of calls that a killed run left open, by call id), is_resumed (the store knew the session),
    meta (what the store last told of the session), hold (of the run that may write; None: nobody may).
    """

    def __init__(self, store: Any, session_id: str, *, keeps_interactions: bool = True) -> None:
        self.store = store
        self.session_id = session_id
        self.keeps_interactions = keeps_interactions
        self.tells_answers = True  # somebody is told of an answer before the run's result is there
        self.results: dict[str, ToolResultBlock] = {}
        self.used_ids: set[str] = set()  # of all calls there were, also of those that were rewound
        self.is_resumed = False
        self.meta: Entry = {}
        self.checkpoint: Entry | None = None
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.turn_count = 0  # of the session, as it is to be written with the next result
        self.hold: Hold | None = None
        self._last_fence: int | None = None
        self._seqs: list[int] = []  # of the history's messages, in their order; 0: one that is not to be kept
        self._held: list[Entry] = []  # goes with the next commit
        self._lock = asyncio.Lock()
        self._run_id = ""
        self._prompt = ""
        self._unsettled: dict[str, Entry] = {}  # `once` calls that had started and have no result

    @property
    def is_written(self) -> bool:
        """The store has messages of the history."""
        return any(self._seqs)

    @property
    def is_rewound(self) -> bool:
        """Another history was put in place, and the store does not know it yet."""
        return any(entry["kind"] == "rewind" for entry in self._held)

    def has_news(self, messages: Sequence[Message]) -> bool:
        """Something waits for the next commit."""
        return bool(self._held) or len(messages) > len(self._seqs)

    # -------------------------------------------------------------- one run

    async def begin(self, history: History) -> History:
        """Take the session for one run; gives the history as the store has it when somebody else has written.

        Raises:
            SessionBusyError: another process is answering a prompt of this session.
        """
        self.hold = hold = await take(self.store, self.session_id, self._owner)
        self._run_id, self._prompt = uuid4().hex, ""
        try:
            is_mine = self._last_fence is not None and hold.fence == self._last_fence + 1
            history = history if is_mine else await self._newest(history)
        except BaseException:
            await self.end(hold)
            raise
        self._last_fence = hold.fence
        return history

    async def _newest(self, history: History) -> History:
        """The history as the store has it, unless another one was put in place or nobody else has written."""
        known = self._seqs
        loaded = await self.read()
        if self.is_rewound:
            gone = () if loaded is None else loaded.messages
            self._held += empty_labels(self.meta, self.checkpoint, gone, history.messages)
            self._seqs, self.results, self._unsettled, self.checkpoint = known, {}, {}, None
            return history
        if loaded is None:
            is_lost = self.hold is None or self.hold.fence <= (self._last_fence or 0)  # else somebody has deleted it
            self._seqs = [] if any(known) and is_lost else known  # a store that was lost is given everything anew
            return history
        if [seq for seq in known if seq] == self._seqs and not self.results and not self._unsettled:
            self._seqs = known
            return history
        loaded.keep_results(list(history.known_results.values()))
        return loaded

    async def end(self, hold: Hold, *, is_slow: bool = False) -> None:
        """Give the session free for others; when the store `is_slow`, nobody waits for it."""
        if self.hold is hold:
            self.hold = None
        await hold.give_up(is_slow=is_slow)

    def skip(self, count: int) -> None:
        """The first `count` messages are written already, or are not to be kept."""
        self._seqs += [0] * (count - len(self._seqs))

    async def commit(
        self, messages: Sequence[Message], extra: Sequence[Entry] = (), hold: Hold | None = None, is_last: bool = False
    ) -> None:
        """Write what is new, all or nothing; a cancelled caller does not cancel it. `is_last`: then give back.

        Raises:
            SessionFencedError: the run has lost the session, or has given it up.
        """
        holder = hold or self.hold
        if holder is None:
            text = f"the run of session {self.session_id!r} is over: nothing was written"
            raise SessionFencedError(text, session_id=self.session_id)
        await unbroken(self._commit(messages, extra, holder, is_last))

    async def _commit(self, messages: Sequence[Message], extra: Sequence[Entry], hold: Hold, is_last: bool) -> None:
        async with self._lock:
            held, new = self._held[:], messages[len(self._seqs) :]
            entries = [*held, *map(message_entry, new), *extra]
            if not entries:
                return
            for entry in entries:
                if entry["kind"] != "session":  # its row tells of no run
                    entry.setdefault("run_id", self._run_id)
            die_if_asked()
            try:
                last = await self.store.append(self.session_id, entries, fence=hold.fence, is_last=is_last)
            except MemoryStoreError:
                self._held += extra  # told with the next commit, should there be one
                raise
            die_if_asked()
            first = last - len(entries) + 1 + len(held)
            self._seqs += range(first, first + len(new))
            del self._held[: len(held)]
            if is_last:
                hold.was_given_up()

    async def said(self, prompt: str, messages: Sequence[Message], model: str, labels: Entry) -> None:
        """The user's turn is in the history: commit it before the model is asked.

        Args:
            labels: title, summary and tags, where they were changed.
        """
        self._prompt = prompt
        if not labels.get("title", self.meta.get("title")):
            labels = {**labels, "title": title_of(prompt)}
        await self.commit(messages, [{"kind": "session", "model": model, **labels}])
        self.meta |= labels

    async def note(
        self, event: Event, messages: Sequence[Message], registry: ToolRegistry, calls: Sequence[Entry]
    ) -> None:
        """Commit what an event means, or hold it for the next commit where losing it loses nothing.

        Args:
            calls: ledger rows of the model calls that the event tells of.
        """
        if isinstance(event, AssistantMessage) and (self.tells_answers or event.tool_calls):
            await self.commit(messages, calls)
        elif isinstance(event, ToolStarted):
            if _effect(registry, event.call.name) == "once":
                await self.commit(messages, [self._tool_row(event.call, "started", registry)])
        elif isinstance(event, ToolCompleted):
            await self.commit(messages, [self._result_row(event, registry, messages)])
        elif isinstance(event, UserMessage):
            await self.commit(messages)
        elif isinstance(event, ContextSummarized):
            await self.commit(messages, [self._summary_row(event), *calls])
        elif isinstance(event, PermissionDecided):
            self._held.append(_audit_row(event))
        elif isinstance(event, ResultMessage):
            is_last = event.error is None and not _open_calls(messages)  # else there is more to write
            await self.commit(messages, [*calls, *self._result_rows(event, messages)], is_last=is_last)
            self.meta["turn_count"] = self.turn_count
        else:
            self._held += calls

    def _result_rows(self, result: ResultMessage, messages: Sequence[Message]) -> list[Entry]:
        status = "idle" if result.error is None else type(result.error).__name__
        rows: list[Entry] = [{"kind": "session", "status": status, "metadata": {"turn_count": self.turn_count}}]
        if self.keeps_interactions and result.error is None and self._prompt:
            told = {"model": next((m.model for m in reversed(messages) if isinstance(m, AssistantMessage)), "")}
            said = {"prompt": self._prompt, "response": result.result or "", "metadata": told}
            rows.append({"kind": "interaction", **said})
        return rows

    async def leave(
        self, messages: Sequence[Message], hold: Hold, rows: Sequence[Entry], turn_count: int, labels: Entry
    ) -> None:
        """Write what the run of this hold has left."""
        if turn_count != self.meta.get("turn_count", 0):
            labels = {**labels, "metadata": {"turn_count": turn_count}}
        rows = [*rows, *([{"kind": "session", **labels}] if labels else [])]
        if rows or self.has_news(messages):
            await self.commit(messages, rows, hold)
        self.meta |= {**labels, "turn_count": turn_count}

    # -------------------------------------------------------------- rows

    def _tool_row(self, call: ToolUseBlock, state: str, registry: ToolRegistry) -> Entry:
        return {
            "kind": "tool",
            "call_id": call.id,
            "state": state,
            "name": call.name,
            "arguments": call.input,
            "effect": _effect(registry, call.name),
            "idempotency_key": f"{self.session_id}:{call.id}",
        }

    def _result_row(self, done: ToolCompleted, registry: ToolRegistry, messages: Sequence[Message]) -> Entry:
        calls = _open_calls(messages)
        call = calls.get(done.result.tool_use_id)
        block = call if isinstance(call, ToolUseBlock) else ToolUseBlock(done.result.tool_use_id, done.name, {})
        state = "failed" if done.result.is_error else "finished"
        result = {"content": done.result.content, "is_error": bool(done.result.is_error)}
        return {**self._tool_row(block, state, registry), "result": result, "duration_s": done.duration_s}

    def _summary_row(self, event: ContextSummarized) -> Entry:
        told = {"summary": event.summary, "covered_messages": event.covered_messages}
        return {"kind": "checkpoint", "summary": told, "covers_seq": max(self._seqs, default=0)}

    # -------------------------------------------------------------- approvals

    async def ask(self, call: ToolUseBlock, decision: Decision, context: Any) -> Decision:
        """The answer somebody gave to this call, in this process or another; else a pending row, and it waits."""
        approval_id = f"{self.session_id}:{call.id}"
        known = await self.store.approval(approval_id)
        if known is not None and known["state"] != "pending":
            told = known.get("answer") or {}
            who = f"approval by {known.get('answered_by') or 'somebody'}"
            if known["state"] == "allowed":
                return Decision("allow", "", who, told.get("updated_input"))
            return Decision("deny", told.get("reason") or "it was refused", who)
        named = {"call_id": call.id, "arguments": call.input}
        rows: list[Entry] = [{"kind": "tool", "name": call.name, "state": "denied", **named}]  # it has not begun
        if known is None:
            asked = {"approval_id": approval_id, "tool_name": call.name, "reason": decision.reason, "state": "pending"}
            rows.append({"kind": "approval", **asked, **named})
        await self.commit((), rows)
        return Decision("ask", f"{decision.reason}: waits for the approval {approval_id}", decision.rule)

    # -------------------------------------------------------------- another history

    def forget_after(self, count: int, state: str = "rewound") -> None:
        """From the next commit on, only the first `count` messages hold."""
        if count <= len(self._seqs):
            self._held.append({"kind": "rewind", "after_seq": self.seq_after(count), "state": state})
            del self._seqs[count:]
        self.results, self.checkpoint = {}, None

    def seq_after(self, count: int) -> int:
        """The store's number of the last of the first `count` messages."""
        return max(self._seqs[:count], default=0)

    # -------------------------------------------------------------- read back

    async def read(self) -> History | None:
        """The history as the store has it; None: it does not know the session."""
        rows = await self.store.load(self.session_id, kinds=("message", "tool", "checkpoint"))
        self.meta = {**(await self.store.session(self.session_id) or {})}
        self.meta["turn_count"] = (self.meta.get("metadata") or {}).get("turn_count", 0)
        self.used_ids |= {row["call_id"] for row in rows if row["kind"] == "tool"}
        said = [row for row in rows if row["kind"] == "message"]
        if not said:
            return None
        self.is_resumed = True
        self._seqs = [row["seq"] for row in said]
        history = History([message_of(row) for row in said])
        self.checkpoint = next((row["summary"] for row in reversed(rows) if row["kind"] == "checkpoint"), None)
        open_calls, last = history.open_calls(), self._seqs[-1]
        self.results, self._unsettled = {}, {}
        for row in rows:
            if row["kind"] == "tool" and row["seq"] > last and row["call_id"] in open_calls:
                self._take_tool(row)
        return history

    def _take_tool(self, row: Entry) -> None:
        call_id, result = row["call_id"], row.get("result") or {}
        if row["state"] == "denied" and not result:  # it waits for an approval
            self._unsettled.pop(call_id, None)
        elif row["state"] in ("finished", "failed", "denied"):
            self.results[call_id] = ToolResultBlock(call_id, result.get("content"), result.get("is_error", False))
        elif row.get("effect") == "once":
            self._unsettled[call_id] = row

    async def settle(self, registry: ToolRegistry, history: History) -> dict[str, ToolResultBlock]:
        """Results of the calls that a killed run left open; a `once` call that had started is never run again.

        Its caller may have said what came of it, or its tool's `verify` may tell; else its outcome is unknown and the
        model is told so.
        """
        told, rows, found = history.known_results, list[Entry](), dict[str, ToolResultBlock]()
        for call_id, row in self._unsettled.items():
            outcome: Any = told.get(call_id) or await _verified(registry, row)
            if outcome == "not run":
                continue
            state = "unknown" if outcome is None else "finished"
            if not isinstance(outcome, ToolResultBlock):
                content = UNKNOWN.format(name=row.get("name")) if outcome is None else outcome
                outcome = ToolResultBlock(call_id, content, outcome is None)
            found[call_id] = outcome
            result = {"content": outcome.content, "is_error": bool(outcome.is_error)}
            named: Mapping[str, Any] = {key: row.get(key) for key in ("call_id", "name", "arguments", "effect")}
            rows.append({"kind": "tool", **named, "state": state, "result": result})
        if rows:
            await self.commit(history.messages, rows)
        self._unsettled = {}  # not before: what is forgotten here would be run again
        self.results |= found
        return self.results


async def _verified(registry: ToolRegistry, row: Entry) -> Any:
    """What a started call gave, as its tool can find out: its result, "not run", or None (nobody knows)."""
    try:
        verify = getattr(registry.get(str(row.get("name"))), "verify", None)
    except ToolNotFoundError:
        return None
    if verify is None:
        return None
    try:
        outcome = verify(row.get("idempotency_key"), row.get("arguments") or {})
        if hasattr(outcome, "__await__"):
            outcome = await outcome
    except Exception:
        _log.exception("verify of the tool %s failed: the outcome of its call stays unknown", row.get("name"))
        return None
    if outcome is None:
        return None
    if outcome is False:
        return "not run"
    return "(done; it had taken effect before the program was stopped)" if outcome is True else outcome


def _open_calls(messages: Sequence[Message]) -> Mapping[str, Any]:
    return History(messages[-1:]).open_calls()


def _effect(registry: ToolRegistry, name: str) -> str:
    return getattr(registry.get(name), "effect", "once") if name in registry else "pure"


def _audit_row(event: PermissionDecided) -> Entry:
    told = {"decision": event.decision, "reason": event.reason, "rule": event.rule}
    return {"kind": "audit", **told, "who": "rules", "tool_name": event.tool_name, "call_id": event.tool_use_id}


def prompt_text(messages: Sequence[Message]) -> str:
    """What the user said last, as one text."""
    return next((text_of(m) for m in reversed(messages) if isinstance(m, UserMessage)), "")


_commits_left: list[int] = []


def die_if_asked() -> None:
    """For crash tests: `ANY_AGENT_KILL_AT=n` kills the process (SIGKILL) at the n-th side of a commit."""
    if "ANY_AGENT_KILL_AT" not in os.environ:
        return
    if not _commits_left:
        _commits_left.append(int(os.environ["ANY_AGENT_KILL_AT"]))
    _commits_left[0] -= 1
    if _commits_left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
