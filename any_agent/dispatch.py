"""One tool_use in, one tool_result out: find, check, ask, run, report. Nothing is left unanswered, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from time import perf_counter
from typing import Any

from .errors import ToolError, ToolExecutionError, ToolInputError, ToolTimeoutError
from .hooks import HOOK_POST_TOOL_USE, HOOK_PRE_TOOL_USE, Hooks, PostToolUseEvent, PreToolUseEvent, decide
from .models.wire import to_wire
from .tools import Tool, ToolRegistry
from .types import Message, ToolCompleted, ToolResultBlock, ToolStarted, ToolUseBlock, ToolUseError


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Answers the tool calls of one turn. `timeout_s` holds where a tool sets none (None: no limit)."""

    registry: ToolRegistry
    hooks: Hooks = field(default_factory=dict)
    timeout_s: float | None = 300.0
    is_parallel: bool = True

    async def answer(
        self, calls: Sequence[ToolUseBlock | ToolUseError], history: Sequence[Message]
    ) -> AsyncIterator[ToolStarted | ToolCompleted]:
        """Run the calls, side by side where allowed; each completion comes when it happens."""
        for batch in self._batches(calls):
            for call in batch:
                if isinstance(call, ToolUseBlock):
                    yield ToolStarted(call)
            if len(batch) == 1:
                yield await self._one(batch[0], history)
                continue
            tasks = [asyncio.ensure_future(self._one(call, history)) for call in batch]
            try:
                pending = set(tasks)
                while pending:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def refuse(self, calls: Sequence[ToolUseBlock | ToolUseError], reason: str) -> list[ToolCompleted]:
        """Answer every call with the reason why it did not run."""
        return [_refused(call, reason) for call in calls]

    def _batches(self, calls: Sequence[ToolUseBlock | ToolUseError]) -> list[list[ToolUseBlock | ToolUseError]]:
        batches: list[list[ToolUseBlock | ToolUseError]] = []
        was_alone = True
        for call in calls:
            alone = not self.is_parallel or (call.name in self.registry and not self.registry.get(call.name).parallel)
            if alone or was_alone:
                batches.append([call])
            else:
                batches[-1].append(call)
            was_alone = alone
        return batches

    async def _one(self, call: ToolUseBlock | ToolUseError, history: Sequence[Message]) -> ToolCompleted:
        if isinstance(call, ToolUseError):
            return _refused(call, self._explain(call.name, call.error))
        started = perf_counter()
        arguments, refusal = call.input, None
        if self.hooks.get(HOOK_PRE_TOOL_USE):
            arguments, refusal = await self.ask_hooks(call, history)
        data: Any = None
        if refusal is not None:
            return _refused(call, refusal)
        try:
            tool = self.registry.get(call.name)
            data = await self._run(tool, arguments)
            content, is_error = render(data), False
        except ToolInputError as error:
            content, is_error = self._explain(call.name, str(error)), True
        except ToolError as error:
            content, is_error = f"Error: {error}", True
        except Exception as error:  # the tool's own: told to the model, which may do better
            content, is_error = f"Error: {type(error).__name__}: {error}", True
        done = ToolCompleted(call.name, ToolResultBlock(call.id, content, is_error), perf_counter() - started, data)
        if self.hooks.get(HOOK_POST_TOOL_USE):
            shown = content if data is None else data
            event = PostToolUseEvent(call.name, arguments, shown, call.id, to_wire(history))
            await decide(self.hooks, HOOK_POST_TOOL_USE, event)
        return done

    async def ask_hooks(self, call: ToolUseBlock, history: Sequence[Message]) -> tuple[dict[str, Any], str | None]:
        """The arguments after the PreToolUse hooks, and why the call may not run (None: it may)."""
        event = PreToolUseEvent(call.name, dict(call.input), call.id, to_wire(history))
        decision = await decide(self.hooks, HOOK_PRE_TOOL_USE, event)
        if decision is None:
            return call.input, None
        if not decision.continue_:
            return call.input, f"Not run: {decision.reason or 'a hook refused it'}"
        return (call.input if decision.modified_input is None else decision.modified_input), None

    async def _run(self, tool: Tool, arguments: dict[str, Any]) -> Any:
        timeout_s = tool.timeout if tool.timeout is not None else self.timeout_s
        started = perf_counter()
        try:
            return await asyncio.wait_for(tool.run(arguments), timeout_s)
        except asyncio.TimeoutError as error:
            if timeout_s is None or str(error) or perf_counter() - started < timeout_s:  # the tool's own, not ours
                raise ToolExecutionError(f"{type(error).__name__}: {error}", tool_name=tool.name) from None
            raise ToolTimeoutError(f"{tool.name} took longer than {timeout_s:g} s", tool_name=tool.name) from None

    def _explain(self, name: str, problem: str) -> str:
        """What was wrong, for the model: nothing ran, and this is what the tool takes."""
        schema = ""
        if name in self.registry:
            schema = (
                f" {name} takes this JSON Schema: {json.dumps(self.registry.get(name).parameters, ensure_ascii=False)}"
            )
        return f"Error: {problem}. Nothing was run.{schema} Call it again with valid arguments."


def _refused(call: ToolUseBlock | ToolUseError, reason: str) -> ToolCompleted:
    return ToolCompleted(call.name, ToolResultBlock(call.id, reason, True))


def render(data: Any) -> str:
    """A tool's result as the model reads it: text as it is, everything else as JSON."""
    if isinstance(data, str):
        return data
    if data is None:
        return "(done; no output)"
    if hasattr(data, "model_dump"):
        data = data.model_dump(mode="json")
    elif is_dataclass(data) and not isinstance(data, type):
        data = asdict(data)
    return json.dumps(data, ensure_ascii=False, default=str)
