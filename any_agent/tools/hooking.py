"""The hooks around one tool call."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
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
from ..types import AssistantMessage, Message, ToolMessage, ToolResultBlock, ToolUseBlock
from .running import Outcome, render


async def before_tool(
    hooks: Hooks, call: ToolUseBlock, history: Sequence[Message], context: HookContext
) -> HookDecision | None:
    """What the PreToolUse hooks decide; None: nothing."""
    if not hooks.get(HOOK_PRE_TOOL_USE):
        return None
    event = PreToolUseEvent(call.name, deepcopy(call.input), call.id, as_it_stands(history))
    return await decide(hooks, HOOK_PRE_TOOL_USE, event, context)


async def after_tool(
    hooks: Hooks, call: ToolUseBlock, outcome: Outcome, history: Sequence[Message], context: HookContext
) -> Outcome:
    """Tell the hooks how it went; they may add to what the model reads, or replace it.

    Raises:
        HookAbortedError: a hook ends the run.
    """
    decisions: list[HookDecision | None] = []
    result = ToolResultBlock(call.id, outcome.content, outcome.is_error)
    if outcome.is_error and hooks.get(HOOK_POST_TOOL_USE_FAILURE):
        told = deepcopy(call.input), outcome.content, call.id, as_it_stands(history, result)
        failed = PostToolUseFailureEvent(call.name, *told)
        decisions.append(await decide(hooks, HOOK_POST_TOOL_USE_FAILURE, failed, context))
    if hooks.get(HOOK_POST_TOOL_USE):
        shown = outcome.content if outcome.data is None else outcome.data
        event = PostToolUseEvent(call.name, deepcopy(call.input), shown, call.id, as_it_stands(history, result))
        decisions.append(await decide(hooks, HOOK_POST_TOOL_USE, event, context))
    for decision in decisions:
        outcome = with_context(outcome, decision)
        if getattr(decision, "ends_run", False):
            raise ended_by(decision)
    return outcome


def as_it_stands(history: Sequence[Message], *results: ToolResultBlock) -> list[dict[str, Any]]:
    """OpenAI dicts of a history that ends in open calls, with the results there are. A copy."""
    last = history[-1] if history else None
    if not isinstance(last, AssistantMessage) or not last.tool_calls:
        return deepcopy(to_wire(history))
    wire = to_wire([*history, ToolMessage(results)])  # a server would be told that the others have no result
    place = len(wire) - len(last.tool_calls)
    known = {result.tool_use_id for result in results}
    return deepcopy([*wire[:place], *[one for one in wire[place:] if one["tool_call_id"] in known]])


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
