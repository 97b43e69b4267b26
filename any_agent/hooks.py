"""Events that may change or refuse. Hooks run in order; the first decision wins; an exception aborts the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

HOOK_PRE_TOOL_USE = "pre_tool_use"
HOOK_POST_TOOL_USE = "post_tool_use"
HOOK_USER_PROMPT_SUBMIT = "user_prompt_submit"
HOOK_NAMES = (HOOK_PRE_TOOL_USE, HOOK_POST_TOOL_USE, HOOK_USER_PROMPT_SUBMIT)


@dataclass(frozen=True, slots=True)
class PreToolUseEvent:
    """A tool is about to run (or to be handed to the caller). `history` holds OpenAI dicts."""

    tool_name: str
    tool_input: dict[str, Any]
    tool_use_id: str
    history: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PostToolUseEvent:
    """A tool's result is about to enter the history. The decision is ignored: the tool has run."""

    tool_name: str
    tool_input: dict[str, Any]
    tool_result: Any
    tool_use_id: str
    history: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class UserPromptSubmitEvent:
    """A prompt is about to enter the history."""

    prompt: str
    history: list[dict[str, Any]]


HookEvent: TypeAlias = PreToolUseEvent | PostToolUseEvent | UserPromptSubmitEvent


@dataclass(frozen=True, slots=True)
class HookDecision:
    """`continue_=False` refuses; `modified_input` / `modified_prompt` replace; `reason` is told on."""

    continue_: bool = True
    modified_input: dict[str, Any] | None = None
    modified_prompt: str | None = None
    reason: str | None = None


HookHandler: TypeAlias = Callable[[Any], Awaitable[HookDecision | None] | HookDecision | None]
Hooks: TypeAlias = Mapping[str, Sequence[HookHandler]]


async def decide(hooks: Hooks, name: str, event: HookEvent) -> HookDecision | None:
    """The first decision of the hooks of `name`, in order; later hooks are not asked."""
    for hook in hooks.get(name, ()):
        decision = hook(event)
        if isinstance(decision, Awaitable):
            decision = await decision
        if decision is not None:
            return decision
    return None
