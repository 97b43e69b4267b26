"""The Claude-style spelling: what such a hook is given, and what it may return."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

from ..errors import InvalidInputError
from .events import (
    CLAUDE_NAMES,
    GATES,
    HOOK_PRE_TOOL_USE,
    HOOK_STOP,
    HOOK_SUBAGENT_START,
    HOOK_SUBAGENT_STOP,
    HOOK_USER_PROMPT_SUBMIT,
    HookAnswer,
    HookContext,
    HookDecision,
    HookEvent,
    PermissionWord,
    PostToolUseEvent,
    PreToolUseEvent,
    SubagentStartEvent,
    UserPromptSubmitEvent,
)

_WORDS = {"allow": "allow", "approve": "allow", "deny": "deny", "block": "deny", "ask": "ask", "defer": None}
_TOP_KEYS = {
    "continue", "continue_", "suppressOutput", "stopReason", "decision", "systemMessage", "reason",
    "hookSpecificOutput", "async", "async_", "asyncTimeout",
}  # fmt: skip
_SPECIFIC_KEYS = {
    "hookEventName", "permissionDecision", "permissionDecisionReason", "updatedInput", "additionalContext",
    "updatedToolOutput", "updatedMCPToolOutput",
}  # fmt: skip


def claude_input(name: str, event: HookEvent, context: HookContext | None) -> dict[str, Any]:
    """The event as Claude-style hooks get it. A copy: what a hook does to it changes nothing."""
    renamed = {"tool_result": "tool_response", "is_continued": "stop_hook_active"}
    where = context or HookContext()
    given: dict[str, Any] = {
        "hook_event_name": CLAUDE_NAMES[name],
        **{one.name: getattr(where, one.name) for one in fields(where)},
    }
    for one in fields(event):
        if one.name != "history":
            value = getattr(event, one.name)
            given[renamed.get(one.name, one.name)] = deepcopy(value) if isinstance(value, (dict, list)) else value
    return given


def read_answer(name: str, said: Any, event: HookEvent) -> HookDecision | None:
    """What a hook returned, as a decision: HookDecision, a Claude-style dict, or "allow", "deny", "ask".

    Raises:
        InvalidInputError: before a tool or a prompt, when it cannot be understood: nothing may slip through.
    """
    if said is None or isinstance(said, HookDecision):
        _check_changes(said)
        if isinstance(said, HookAnswer) and said.permission == "deny":
            return replace(said, continue_=False)
        return said
    try:
        if isinstance(said, Mapping):
            decision = _read_claude(name, said, event)
            _check_changes(decision)
            return decision
        word = getattr(said, "value", said)
        if name == HOOK_PRE_TOOL_USE and isinstance(word, str):
            return _permitting(permission_word(word))
        raise InvalidInputError(f"a {name} hook may not return {said!r}", field="hook", value=said)
    except InvalidInputError:
        if name in GATES:
            raise
        return None  # it only watched


def _check_changes(said: HookDecision | None) -> None:
    """What a hook puts in place of arguments or a prompt must be some."""
    for field, kind, what in (("modified_input", dict, "a dict"), ("modified_prompt", str, "a text")):
        value = getattr(said, field, None)
        if value is not None and not isinstance(value, kind):
            text = f"a hook's {field} must be {what}, not {value!r:.80}"
            raise InvalidInputError(text, field=field, value=value)


_STRICTNESS = {None: 0, "allow": 1, "ask": 2, "deny": 3}


def combined(first: HookDecision | None, then: HookDecision) -> HookDecision:
    """Two answers as one: the stricter word with its reason, the later change, the contexts of both."""
    if first is None:
        return then
    ranks = [(_STRICTNESS[one.permission], getattr(one, "ends_run", False)) for one in (first, then)]
    reasons = [one.reason for one, rank in zip((first, then), ranks, strict=True) if rank == max(ranks) and one.reason]
    stricter = first if ranks[0] >= ranks[1] else then
    shared: dict[str, Any] = {
        "continue_": stricter.continue_,
        "modified_input": first.modified_input if then.modified_input is None else then.modified_input,
        "modified_prompt": first.modified_prompt if then.modified_prompt is None else then.modified_prompt,
        "reason": reasons[0] if reasons else None,
    }
    answers = [one for one in (first, then) if isinstance(one, HookAnswer)]
    if not answers:
        return HookDecision(**shared)
    shown = [one.updated_output for one in answers if one.updated_output is not None]
    return HookAnswer(
        **shared,
        permission=stricter.permission,
        ends_run=any(one.ends_run for one in answers),
        added_context="\n\n".join([one.added_context for one in answers if one.added_context]) or None,
        updated_output=shown[-1] if shown else None,
    )


def changed_event(event: HookEvent, decision: HookDecision) -> HookEvent:
    """The event as the next hook sees it: with the arguments, prompt or result that the decision put in place."""
    if isinstance(event, PreToolUseEvent) and decision.modified_input is not None:
        return replace(event, tool_input=deepcopy(decision.modified_input))
    if isinstance(event, (UserPromptSubmitEvent, SubagentStartEvent)) and decision.modified_prompt is not None:
        return replace(event, prompt=decision.modified_prompt)
    shown = getattr(decision, "updated_output", None)
    if isinstance(event, PostToolUseEvent) and shown is not None:
        return replace(event, tool_result=deepcopy(shown))
    return event


def permission_word(said: Any) -> PermissionWord | None:
    """ "allow", "deny", "ask" (also True, False, an enum of these); None: no opinion.

    Raises:
        InvalidInputError: it is none of them.
    """
    word = getattr(said, "value", said)
    if word is None or isinstance(word, bool):
        return None if word is None else "allow" if word else "deny"
    if not isinstance(word, str) or word.lower() not in _WORDS:
        raise InvalidInputError(f"{said!r} is neither allow, deny nor ask", field="permission", value=said)
    return _WORDS[word.lower()]  # type: ignore[return-value]


def _permitting(word: PermissionWord | None, **more: Any) -> HookAnswer:
    return HookAnswer(word != "deny", permission=word, **more)


def _read_claude(name: str, said: Mapping[str, Any], event: HookEvent) -> HookDecision | None:
    specific = said.get("hookSpecificOutput") or {}
    if not isinstance(specific, Mapping):
        raise InvalidInputError("hookSpecificOutput must be a dict", field="hookSpecificOutput", value=specific)
    unknown = sorted([*(said.keys() - _TOP_KEYS), *(specific.keys() - _SPECIFIC_KEYS)])
    meant = specific.get("hookEventName", CLAUDE_NAMES[name])
    if unknown or meant != CLAUDE_NAMES[name]:
        what = f"the key {unknown[0]!r}" if unknown else f"an answer for {meant}"
        raise InvalidInputError(f"a {CLAUDE_NAMES[name]} hook may not return {what}", field="hook", value=said)
    if said.get("async") or said.get("async_"):
        return None  # it only started something
    goes_on = said.get("continue", said.get("continue_"))
    ends_run = goes_on is not None and not goes_on
    words = [permission_word(said.get("decision")), permission_word(specific.get("permissionDecision"))]
    is_refused = ends_run or "deny" in words
    reasons = (specific.get("permissionDecisionReason"), said.get("reason"), said.get("stopReason"))
    reason = next((one for one in reasons if one), None)
    added = specific.get("additionalContext")
    if name == HOOK_PRE_TOOL_USE:
        word: PermissionWord | None = "deny" if is_refused else words[1] or words[0]
        changed = specific.get("updatedInput")
        if word is None and changed is None and added is None:
            return None
        more = {"modified_input": changed, "reason": reason, "ends_run": ends_run, "added_context": added}
        return _permitting(word, **more)
    if name in (HOOK_USER_PROMPT_SUBMIT, HOOK_SUBAGENT_START):
        if is_refused:
            return HookDecision(False, reason=reason)
        return HookDecision(modified_prompt=f"{getattr(event, 'prompt', '')}\n\n{added}") if added else None
    if name in (HOOK_STOP, HOOK_SUBAGENT_STOP):  # "block" refuses the stop, "continue": False insists on it
        if ends_run:
            return HookDecision()
        return HookDecision(False, reason=reason) if is_refused else None
    shown = specific.get("updatedToolOutput", specific.get("updatedMCPToolOutput"))
    told = "\n".join([str(one) for one in (reason if is_refused else None, added) if one]) or None
    if not (ends_run or told or shown is not None):
        return None
    return HookAnswer(reason=reason, ends_run=ends_run, added_context=told, updated_output=shown)
