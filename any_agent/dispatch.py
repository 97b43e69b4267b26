"""One tool_use in, one tool_result out: find, validate, hooks, permission, run, cap, report. None stays unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

from .errors import HookAbortedError, LoopDetectedError, ToolError, ToolExecutionError
from .hooks import HookContext, HookDecision, Hooks
from .permissions import PermissionContext, Permissions, permit
from .tools import Tool, ToolContext, ToolRegistry
from .tools.hooking import after_tool, before_tool, ended_by, with_context
from .tools.outbox import Call, Outbox, batches
from .tools.refusals import Waiting, explained, found
from .tools.repeats import loop_detected, repeated
from .tools.running import render, run_tool
from .types import Message, ToolCompleted, ToolEvent, ToolResultBlock, ToolSpec, ToolStarted, ToolUseBlock

__all__ = ["Dispatch", "render"]

Put: TypeAlias = Callable[[ToolEvent], None]


class _Turn(NamedTuple):
    history: Sequence[Message]
    repeats: dict[str, int]
    slots: asyncio.Semaphore
    where: HookContext


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Answers the tool calls of one turn. Limits hold where a tool sets none of its own (None: no limit)."""

    registry: ToolRegistry
    hooks: Hooks = field(default_factory=dict)
    timeout_s: float | None = 300.0
    is_parallel: bool = True
    max_parallel: int = 8
    max_result_tokens: int | None = None
    cwd: str | None = None
    permissions: Permissions | None = None
    finished: list[ToolResultBlock] = field(default_factory=list)  # results that came when nobody listened any more
    agent_id: str | None = None  # of the subagent whose calls they are
    waits_for: dict[str, tuple[str, ...]] = field(default_factory=dict)  # approvals, by "session:call" that waits

    async def answer(
        self, calls: Sequence[Call], history: Sequence[Message], session_id: str = ""
    ) -> AsyncIterator[ToolEvent]:
        """Run the calls, side by side where allowed; each completion comes when it happens."""
        repeats, slots = repeated(calls, history, self.registry), asyncio.Semaphore(self.max_parallel)
        turn = _Turn(history, repeats, slots, self.where(session_id))
        for batch in batches(calls, self.registry, is_parallel=self.is_parallel):
            for call in batch:
                if isinstance(call, ToolUseBlock):
                    yield ToolStarted(call)
            box: Outbox[ToolEvent] = Outbox()
            tasks = [asyncio.ensure_future(self._one(call, turn, box.put)) for call in batch]
            try:
                async with aclosing(box.until_done(tasks)) as events:  # type: ignore[type-var]
                    async for event in events:
                        yield event
            finally:  # the run was stopped: what has run all the same is not lost
                self.finished.extend([one.result for one in box.left if isinstance(one, ToolCompleted)])

    def refuse(self, calls: Sequence[Call], reason: str) -> list[ToolCompleted]:
        """Answer every call with the reason why it did not run."""
        return [ToolCompleted(call.name, ToolResultBlock(call.id, reason, True)) for call in calls]

    def looping(self, calls: Sequence[Call], history: Sequence[Message]) -> LoopDetectedError | None:
        """The error that ends the run: the model was told that it repeats itself, and goes on. None: run them."""
        return loop_detected(calls, history, self.registry)

    def offered(self, history: Sequence[Message]) -> tuple[ToolSpec, ...]:
        """The tools that may be called now."""
        return self.registry.specs(history)

    def with_tools(self, more: Iterable[Tool]) -> Dispatch:
        """The same with tools that a tool has handed out."""
        return replace(self, registry=self.registry.extended(more))

    async def ask_hooks(
        self, call: ToolUseBlock, history: Sequence[Message], session_id: str = "", put: Put | None = None
    ) -> tuple[dict[str, Any], str | None]:
        """The arguments after hooks and permissions, and why the call may not run (None: it may)."""
        tool = self.registry.get(call.name) if call.name in self.registry else None
        turn = _Turn(history, {}, asyncio.Semaphore(1), self.where(session_id))
        here = replace(self, permissions=self.permissions and replace(self.permissions, asker=None))  # nobody waits
        try:
            asked, _ = await here._admitted(tool, call, turn, put or (lambda _: None))
        except ToolError as problem:
            return call.input, str(problem)
        return asked.input, None

    async def _one(self, call: Call, turn: _Turn, put: Put) -> None:
        async with turn.slots:
            started = perf_counter()
            try:
                tool, asked = found(self.registry, call, turn.history, turn.repeats)
                asked, decision = await self._admitted(tool, asked, turn, put)
                context = partial(ToolContext, tool.name, turn.where.session_id, self.cwd, call.id, put)
                limits = self.timeout_s, self.max_result_tokens, self.registry.kept
                outcome = with_context(await run_tool(tool, asked.input, context, *limits), decision)
            except Waiting as wait:  # somebody else will say whether it may run; it stays open
                own = f"{turn.where.session_id}:{call.id}"
                self.waits_for[own] = wait.approval_ids or (own,)
                return
            except (ToolError, HookAbortedError) as problem:  # nothing ran
                put(*self.refuse([call], explained(self.registry, call.name, problem)))
                if isinstance(problem, HookAbortedError):
                    raise
                return
            try:
                outcome = await after_tool(self.hooks, asked, outcome, turn.history, turn.where)
            finally:  # whatever the hooks do: the tool has run
                result = ToolResultBlock(call.id, outcome.content, outcome.is_error)
                duration_s, new_tools = perf_counter() - started, outcome.new_tools
                put(ToolCompleted(call.name, result, duration_s, outcome.data, outcome.ends_run, new_tools))

    async def _admitted(
        self, tool: Tool | None, call: ToolUseBlock, turn: _Turn, put: Put
    ) -> tuple[ToolUseBlock, HookDecision | None]:
        """Ask the hooks, then the permissions; either may change the arguments."""
        asked, told = call, await before_tool(self.hooks, call, turn.history, turn.where)
        if told is not None and told.modified_input is not None:
            asked = replace(call, input=told.modified_input)
        policy = self.permissions or (Permissions(cwd=self.cwd) if tool and tool.needs_permission else None)
        if told is not None or policy is not None:
            decision = await permit(policy, asked, PermissionContext(tool, turn.where.session_id, told, self.agent_id))
            if decision is not None:
                put(decision.event(call))
                if decision.kind == "ask":
                    raise Waiting
                if decision.interrupt and not decision.allowed:
                    raise ended_by(decision)
                if not decision.allowed:
                    raise ToolExecutionError(f"Not run: {decision.reason}")
                if decision.updated_input is not None:
                    asked = replace(call, input=decision.updated_input)
        if asked is not call and tool is not None:
            tool.validate(asked.input)
        return asked, told

    def where(self, session_id: str) -> HookContext:
        """What hooks are told of the place."""
        mode = self.permissions.mode if self.permissions else "default"
        return HookContext(session_id, self.cwd or "", str(getattr(mode, "value", mode)))
