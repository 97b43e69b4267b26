"""Tools that the caller runs: the model's calls are offered to it, and it hands in the results."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from .dispatch import render
from .history import History
from .hooks import HOOK_POST_TOOL_USE, HookContext, Hooks, PostToolUseEvent, decide
from .live import Live
from .tools.hooking import as_it_stands
from .types import Event, ToolMessage, ToolResultBlock, ToolUseBlock, ToolUseError


class CallerTools:
    """The part of a conversation that callers use who run tools themselves (`auto_execute_tools=False`)."""

    session_id: str
    _history: History
    _hooks: Hooks
    _live: Live | None

    async def _recorded(self, event: Event, live: Live) -> Event:
        raise NotImplementedError

    async def add_tool_result(
        self, tool_use_id: str, content: Any, *, name: str | None = None, is_error: bool = False
    ) -> None:
        """Answer a tool call yourself; the conversation goes on with `query("")`, `receive()` or `stream()`.

        Raises:
            InvalidInputError: no open call has this id.
        """
        self.put_tool_result(tool_use_id, content, is_error=is_error)
        await self.report_tool_result(tool_use_id, content)

    def put_tool_result(self, tool_use_id: str, content: Any, *, is_error: bool = False) -> None:
        """Like `add_tool_result`, without the PostToolUse hooks."""
        self._history.put_result(ToolResultBlock(tool_use_id, render(content), is_error))

    async def report_tool_result(self, tool_use_id: str, content: Any) -> None:
        """Tell the PostToolUse hooks of a result that the caller put in."""
        call = self._history.open_calls().get(tool_use_id)
        if isinstance(call, ToolUseBlock) and self._hooks.get(HOOK_POST_TOOL_USE):
            history = as_it_stands(self._history.messages, *self._history.known_results.values())
            event = PostToolUseEvent(call.name, deepcopy(call.input), content, tool_use_id, history)
            await decide(self._hooks, HOOK_POST_TOOL_USE, event, HookContext(self.session_id))

    async def offer(self, call: ToolUseBlock) -> ToolUseBlock | None:
        """The call as hooks and permissions leave it, for callers that run tools; None: refused and answered."""
        if self._live is None or self._live.run is None:
            return call
        decided: list[Event] = []
        asking = self._live.run.dispatch.ask_hooks(call, self._history.messages, self.session_id, decided.append)
        try:
            arguments, refusal = await asking
        finally:
            for event in decided:  # nobody yields it: the run's stream stands at the model's message
                await self._recorded(event, self._live)
        if refusal is not None:
            self.put_tool_result(call.id, refusal, is_error=True)
            return None
        return call if arguments is call.input else replace(call, input=arguments)

    async def offered(
        self, calls: Sequence[ToolUseBlock | ToolUseError]
    ) -> tuple[tuple[ToolUseBlock | ToolUseError, ...], ToolMessage | None]:
        """The calls that the caller may run, and the results of those that were refused (None: none was)."""
        shown = [await self.offer(call) if isinstance(call, ToolUseBlock) else call for call in calls]
        refused = tuple(self._history.known_results.values())
        return tuple([call for call in shown if call is not None]), ToolMessage(refused) if refused else None

    @property
    def can_continue(self) -> bool:
        """All open tool calls have been answered; `query("")` goes on."""
        return self._history.can_continue
