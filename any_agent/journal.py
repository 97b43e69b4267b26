"""Journal: what a session must not lose is committed here, at the points that the durability contract names.

The user's turn before the first model call; an answer, its calls and its usage before any tool runs; that a `once` tool
starts before it does; each result with its state. A session that is opened again is well formed, whatever was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from time import monotonic
from typing import Any
from uuid import uuid4

from .errors import MemoryStoreError, ToolNotFoundError
from .history import History
from .memory import message_entry, message_of
from .permissions import Decision
from .tools import ToolRegistry
from .types import (
    AssistantMessage,
    Attempt,
    AttemptFailed,
    ContextSummarized,
    ContextTruncated,
    Event,
    Message,
    PermissionDecided,
    ResultMessage,
    ToolCompleted,
    ToolResultBlock,
    ToolStarted,
    ToolUseBlock,
    Usage,
    UserMessage,
    text_of,
)

LEASE_S = 120.0  # a holder that died on this machine is noticed at once; on another one after so long
RENEW_S = 30.0
UNKNOWN = (
    "Outcome unknown: the program was stopped while {name} ran. It may or may not have taken effect, so it was not "
    "run again. Find out which before you repeat it."
)
Entry = dict[str, Any]


class Journal:
    """Writes one session to a store, and reads it back.

    Attributes: results (of calls that a killed run left open, by call id), is_resumed (the store knew the session).
    """

    def __init__(self, store: Any, session_id: str, *, keeps_interactions: bool = True) -> None:
        self.store = store
        self.session_id = session_id
        self.keeps_interactions = keeps_interactions
        self.results: dict[str, ToolResultBlock] = {}
        self.is_resumed = False
        self.meta: Entry = {}
        self.checkpoint: Entry | None = None
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._fence: int | None = None
        self._last_fence: int | None = None
        self._renewed = 0.0
        self._seqs: list[int] = []  # of the history's messages, in their order
        self._held: list[Entry] = []  # goes with the next commit
        self._lock = asyncio.Lock()
        self._run_id = ""
        self._prompt = ""
        self._tried: list[str] = []  # models, since the last answer
        self._unsettled: dict[str, Entry] = {}  # `once` calls that had started and have no result

    @property
    def is_held(self) -> bool:
        """The session is ours to write."""
        return self._fence is not None

    @property
    def has_news(self) -> bool:
        """Something waits for the next commit."""
        return bool(self._held)

    # -------------------------------------------------------------- one run

    async def begin(self, history: History) -> History:
        """Take the session for one run; gives the history as the store has it when somebody else has written.

        Raises:
            SessionBusyError: another process is answering a prompt of this session.
        """
        self._fence = await self.store.lease(self.session_id, self._owner, LEASE_S)
        self._renewed, self._run_id, self._prompt = monotonic(), uuid4().hex, ""
        is_mine = self._last_fence is not None and self._fence == self._last_fence + 1
        self._last_fence = self._fence
        if is_mine or any(entry["kind"] == "rewind" for entry in self._held):  # another history was put in place
            return history
        loaded = await self.read()
        return history if loaded is None else loaded

    async def end(self) -> None:
        """Give the session free for others."""
        fence, self._fence = self._fence, None
        if fence is not None:
            with suppress(MemoryStoreError):  # the lease ends by itself
                await self.store.release(self.session_id, fence)

    async def commit(self, messages: Sequence[Message], extra: Sequence[Entry] = ()) -> None:
        """Write what is new, all or nothing; a cancelled caller does not cancel it."""
        await asyncio.shield(asyncio.ensure_future(self._commit(messages, extra)))

    async def _commit(self, messages: Sequence[Message], extra: Sequence[Entry]) -> None:
        async with self._lock:
            held, new = list(self._held), list(messages[len(self._seqs) :])
            entries = [*held, *[message_entry(m) for m in new], *extra]
            if not entries:
                return
            for entry in entries:
                entry.setdefault("run_id", self._run_id)
            die_if_asked()
            try:
                last = await self.store.append(self.session_id, entries, fence=self._fence)
            except MemoryStoreError:
                self._held += extra  # told with the next commit, should there be one
                raise
            die_if_asked()
            first = last - len(entries) + 1 + len(held)
            self._seqs += range(first, first + len(new))
            del self._held[: len(held)]
            self._renewed = monotonic()

    async def said(self, prompt: str, messages: Sequence[Message], model: str) -> None:
        """The user's turn is in the history: commit it before the model is asked."""
        self._prompt = prompt
        self._tried = []
        meta: Entry = {"kind": "session", "model": model}
        if not self.meta.get("title"):
            self.meta["title"] = meta["title"] = " ".join(prompt.split())[:60]
        await self.commit(messages, [meta])

    async def note(self, event: Event, messages: Sequence[Message], registry: ToolRegistry) -> None:
        """Commit what an event means, or hold it for the next commit where losing it loses nothing."""
        if isinstance(event, AssistantMessage):
            await self.commit(messages, [self._call_row(event)])
        elif isinstance(event, ToolStarted):
            if _effect(registry, event.call.name) == "once":
                await self.commit(messages, [self._tool_row(event.call, "started", registry)])
        elif isinstance(event, ToolCompleted):
            await self.commit(messages, [self._result_row(event, registry, messages)])
        elif isinstance(event, UserMessage):
            await self.commit(messages)
        elif isinstance(event, ContextSummarized):
            await self.commit(messages, [self._summary_row(event), *self._paid(event, "summary")])
        elif isinstance(event, AttemptFailed):
            self._held.append(self._attempt_row(event.attempt))
        elif isinstance(event, ContextTruncated):
            self._held += self._paid(event, "cut")
        elif isinstance(event, PermissionDecided):
            self._held.append(_audit_row(event))
        elif isinstance(event, ResultMessage):
            await self._result(event, messages)
        elif self._fence is not None and monotonic() - self._renewed > RENEW_S:
            self._renewed = monotonic()
            await self.store.renew(self.session_id, self._fence, LEASE_S)

    async def _result(self, result: ResultMessage, messages: Sequence[Message]) -> None:
        extra = [self._attempt_row(a) for a in getattr(result.error, "attempts", ())[-1:] if a.error_type]
        self.meta["turn_count"] = self.meta.get("turn_count", 0) + 1
        status = "idle" if result.error is None else type(result.error).__name__
        extra.append({"kind": "session", "status": status, "metadata": {"turn_count": self.meta["turn_count"]}})
        if self.keeps_interactions and result.error is None and self._prompt:
            told = {"model": next((m.model for m in reversed(messages) if isinstance(m, AssistantMessage)), "")}
            extra.append(
                {"kind": "interaction", "prompt": self._prompt, "response": result.result or "", "metadata": told}
            )
        await self.commit(messages, extra)

    # -------------------------------------------------------------- rows

    def _call_row(self, message: AssistantMessage) -> Entry:
        attempt: Attempt | None = message.attempt
        is_cached = message.attempt is not None and message.attempt.is_cached
        purpose = "cache" if is_cached else self._purpose(message.model)
        row = self._row(purpose, message.model, message.usage, message.cost_usd)
        self._tried = []
        if attempt is None:
            return row
        seconds, first_s = attempt.duration_s, attempt.first_token_s
        told = message.usage.output_tokens if message.usage else 0
        speaking_s = seconds - (first_s or 0.0)
        return {
            **row,
            "server": attempt.base_url,
            "duration_s": seconds,
            "first_token_s": first_s,
            "tokens_per_s": told / speaking_s if told and speaking_s > 0 else None,
        }

    def _attempt_row(self, attempt: Attempt) -> Entry:
        row = self._row(self._purpose(attempt.model), attempt.model, None, None)
        self._tried.append(attempt.model)
        failed = {"outcome": "error", "error_type": attempt.error_type}
        return {**row, **failed, "server": attempt.base_url, "duration_s": attempt.duration_s}

    def _purpose(self, model: str) -> str:
        if not self._tried:
            return "turn"
        return "retry" if model in self._tried else "fallback"

    def _paid(self, event: ContextSummarized | ContextTruncated, purpose: str) -> list[Entry]:
        usage: Usage | None = getattr(event, "usage", None)
        model = getattr(event, "model", "")
        return [self._row(purpose, model, usage, getattr(event, "cost_usd", None))] if usage else []

    def _row(self, purpose: str, model: str, usage: Usage | None, cost_usd: float | None) -> Entry:
        row: Entry = {"kind": "model_call", "purpose": purpose, "model": model, "cost_usd": cost_usd, "outcome": "ok"}
        if usage is not None:
            row |= {name: value for name, value in asdict(usage).items() if name != "is_estimated"}
            if usage.is_estimated:
                row["is_estimated"] = True
        return row

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
        calls = History(messages).open_calls()
        call = calls.get(done.result.tool_use_id)
        block = call if isinstance(call, ToolUseBlock) else ToolUseBlock(done.result.tool_use_id, done.name, {})
        state = "failed" if done.result.is_error else "finished"
        result = {"content": done.result.content, "is_error": bool(done.result.is_error)}
        return {**self._tool_row(block, state, registry), "result": result, "duration_s": done.duration_s}

    def _summary_row(self, event: ContextSummarized) -> Entry:
        told = {"summary": event.summary, "covered_messages": event.covered_messages}
        return {"kind": "checkpoint", "summary": told, "covers_seq": self._seqs[-1] if self._seqs else 0}

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
        after = 0 if count == 0 else self._seqs[count - 1] if count <= len(self._seqs) else None
        if after is not None:
            self._held = [{"kind": "rewind", "after_seq": after, "state": state}]
            del self._seqs[count:]
        self.results, self.checkpoint = {}, None

    def seq_after(self, count: int) -> int:
        """The store's number of the last of the first `count` messages."""
        return self._seqs[count - 1] if 0 < count <= len(self._seqs) else 0

    # -------------------------------------------------------------- read back

    async def read(self) -> History | None:
        """The history as the store has it; None: it does not know the session."""
        rows = await self.store.load(self.session_id, kinds=("message", "tool", "checkpoint"))
        self.meta = {**(await self.store.session(self.session_id) or {})}
        self.meta["turn_count"] = (self.meta.get("metadata") or {}).get("turn_count", 0)
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

    async def settle(self, registry: ToolRegistry, messages: Sequence[Message]) -> dict[str, ToolResultBlock]:
        """Results of the calls that a killed run left open; a `once` call that had started is never run again.

        Its tool's `verify` may tell what came of it; else its outcome is unknown and the model is told so.
        """
        unsettled, self._unsettled = self._unsettled, {}
        rows: list[Entry] = []
        for call_id, row in unsettled.items():
            outcome = await _verified(registry, row)
            if outcome == "not run":
                continue
            is_known = outcome is not None
            content = outcome if is_known else UNKNOWN.format(name=row.get("name"))
            self.results[call_id] = ToolResultBlock(call_id, content, not is_known)
            result = {"content": content, "is_error": not is_known}
            named: Mapping[str, Any] = {key: row.get(key) for key in ("call_id", "name", "arguments", "effect")}
            rows.append({"kind": "tool", **named, "state": "finished" if is_known else "unknown", "result": result})
        if rows:
            await self.commit(messages, rows)
        return self.results


async def _verified(registry: ToolRegistry, row: Entry) -> Any:
    """What a started call gave, as its tool can find out: its result, "not run", or None (nobody knows)."""
    try:
        verify = getattr(registry.get(str(row.get("name"))), "verify", None)
    except ToolNotFoundError:
        return None
    if verify is None:
        return None
    outcome = verify(row.get("idempotency_key"), row.get("arguments") or {})
    if hasattr(outcome, "__await__"):
        outcome = await outcome
    if outcome is None:
        return None
    if outcome is False:
        return "not run"
    return "(done; it had taken effect before the program was stopped)" if outcome is True else outcome


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
    asked = os.environ.get("ANY_AGENT_KILL_AT")
    if asked is None:
        return
    if not _commits_left:
        _commits_left.append(int(asked))
    _commits_left[0] -= 1
    if _commits_left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
