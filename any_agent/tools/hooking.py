"""The hooks around one tool call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import HookAbortedError
from ..hooks import (
    HOOK_POST_TOOL_USE,
    HOOK_POST_TOOL_USE_FAILURE,
    HOOK_PRE_TOOL_USE,
    HookContext,
    HookDecision,
    Hooks,
    PostToolUseEvent,
    PostToolUseFailureEvent,
    PreToolUseEvent,
    decide,
)
from ..models.wire import to_wire
from ..types import Message, ToolUseBlock
from .running import Outcome, render


async def before_tool(
    hooks: Hooks, call: ToolUseBlock, history: Sequence[Message], context: HookContext
) -> HookDecision | None:
    """What the PreToolUse hooks decide; None: nothing."""
    if not hooks.get(HOOK_PRE_TOOL_USE):
        return None
    event = PreToolUseEvent(call.name, dict(call.input), call.id, to_wire(history))
    return await decide(hooks, HOOK_PRE_TOOL_USE, event, context)


async def after_tool(
    hooks: Hooks, call: ToolUseBlock, outcome: Outcome, history: Sequence[Message], context: HookContext
) -> Outcome:
    """Tell the hooks how it went; they may add to what the model reads, or replace it.

    Raises:
        HookAbortedError: a hook ends the run.
    """
    decisions: list[HookDecision | None] = []
    if outcome.is_error and hooks.get(HOOK_POST_TOOL_USE_FAILURE):
        failed = PostToolUseFailureEvent(call.name, call.input, outcome.content, call.id, to_wire(history))
        decisions.append(await decide(hooks, HOOK_POST_TOOL_USE_FAILURE, failed, context))
    if hooks.get(HOOK_POST_TOOL_USE):
        shown = outcome.content if outcome.data is None else outcome.data
        event = PostToolUseEvent(call.name, call.input, shown, call.id, to_wire(history))
        decisions.append(await decide(hooks, HOOK_POST_TOOL_USE, event, context))
    for decision in decisions:
        outcome = with_context(outcome, decision)
        if getattr(decision, "ends_run", False):
            raise ended_by(decision)
    return outcome


def with_context(outcome: Outcome, decision: HookDecision | None) -> Outcome:
    """What a hook adds to the result, or puts in its place."""
    shown: Any = getattr(decision, "updated_output", None)
    added: Any = getattr(decision, "added_context", None)
    if shown is not None:
        outcome = replace(outcome, content=render(shown))
    return replace(outcome, content=f"{outcome.content}\n\n{added}") if added else outcome


def ended_by(decision: Any) -> HookAbortedError:
    reason = getattr(decision, "reason", None) or "no reason given"
    return HookAbortedError(f"Run ended: {reason}", reason=reason)
