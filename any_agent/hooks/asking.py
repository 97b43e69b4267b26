"""Which hooks are asked, in which order, and for how long."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ..errors import ConfigurationError
from .answers import changed_event, claude_input, combined, read_answer
from .events import (
    CLAUDE_NAMES,
    GATES,
    HOOK_POST_TOOL_USE,
    HOOK_STOP,
    HOOK_SUBAGENT_STOP,
    HookAnswer,
    HookContext,
    HookDecision,
    HookEvent,
    HookHandler,
    Hooks,
    StopEvent,
)

_MATCHED = ("tool_name", "agent_type", "trigger", "notification_type", "source", "reason")  # fields a matcher looks at
_log = logging.getLogger("any_agent")


@dataclass(frozen=True, slots=True)
class HookMatcher:
    """Hooks for some tools only.

    Args:
        matcher: tool names, `|` between them, with `*` and `?`, or a regular expression that fits the whole name.
            None, "" and "*": every tool. For other events it is held against their kind (agent_type, trigger, …).
        hooks: functions `(event)`, or Claude-style `(input_data, tool_use_id, context)`.
        timeout: seconds one async hook may take; None: no limit. Too late before a tool or a prompt: it is refused.
    """

    matcher: str | None = None
    hooks: Sequence[HookHandler] = field(default_factory=list)
    timeout: float | None = None

    def __post_init__(self) -> None:
        allowed = "a name, a|b, write_*, or a regular expression"
        try:
            re.compile("" if self.is_plain else self.matcher or "")
        except re.error as error:
            text = f"matcher {self.matcher!r} is no regular expression: {error}"
            raise ConfigurationError(text, field="matcher", value=self.matcher, allowed=allowed) from None
        if not all(callable(hook) for hook in self.hooks):
            raise ConfigurationError("hooks must be functions", field="hooks", value=self.hooks, allowed="functions")
        if self.timeout is not None and self.timeout <= 0:
            raise ConfigurationError("timeout must be positive", field="timeout", value=self.timeout, allowed="> 0 s")

    @property
    def is_plain(self) -> bool:
        """Names with wildcards, no regular expression."""
        return not set(self.matcher or "") & set(".^$+()[]{}\\")

    def matches(self, subject: str | None) -> bool:
        """Whether the hooks are for this tool (or this kind of event; None: it has no kinds, so they are)."""
        wanted = self.matcher
        if subject is None or wanted is None or wanted in ("", "*"):
            return True
        if any(fnmatchcase(subject, one.strip()) for one in wanted.split("|")):
            return True
        return not self.is_plain and re.fullmatch(wanted, subject) is not None


def normalised(hooks: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Hooks by the names of the house, each checked; "PreToolUse" and "pre_tool_use" are the same event.

    Raises:
        ConfigurationError: no event has that name, or something is no hook.
    """
    known = {spelt: name for name, claude in CLAUDE_NAMES.items() for spelt in (name, claude)}
    found: dict[str, list[Any]] = {}
    for given, entries in (hooks or {}).items():
        name = known.get(str(getattr(given, "value", given)))
        if name is None:
            allowed = ", ".join(known)
            text = f"no hook event is called {given!r}; allowed: {allowed}"
            raise ConfigurationError(text, field="hooks", value=given, allowed=allowed)
        several = isinstance(entries, Sequence) and not isinstance(entries, (str, bytes))
        found.setdefault(name, []).extend([_entry(one) for one in (entries if several else [entries])])
    return found


def _entry(one: Any) -> Any:
    if isinstance(one, HookMatcher):
        return one
    if isinstance(one, Mapping) and one.keys() <= {"matcher", "hooks", "timeout"}:
        return HookMatcher(one.get("matcher"), list(one.get("hooks", ())), one.get("timeout"))
    if hasattr(one, "matcher") and hasattr(one, "hooks"):  # of another package, by the same fields
        return HookMatcher(one.matcher, list(one.hooks), getattr(one, "timeout", None))
    if callable(one):
        return one
    allowed = "functions, HookMatcher"
    raise ConfigurationError(f"{one!r} is no hook", field="hooks", value=one, allowed=allowed)


async def decide(hooks: Hooks, name: str, event: HookEvent, context: HookContext | None = None) -> HookDecision | None:
    """What the hooks of `name` decide, asked in order.

    A HookDecision wins at once, and so does a refusal. Other answers are gathered (`combined`), and the hooks behind
    are asked about the arguments, prompt or result as they stand by then.
    """
    gathered: HookDecision | None = None
    for entry in hooks.get(name, ()):
        matcher = entry if isinstance(entry, HookMatcher) else None
        if matcher is not None and not matcher.matches(_subject(event)):
            continue
        for hook in (entry,) if matcher is None else matcher.hooks:
            said = await _ask(hook, name, event, context, matcher)
            decision = read_answer(name, said, event)
            if decision is None:
                continue
            gathered = combined(gathered, decision)
            if not decision.continue_ or _is_final(name, said):
                return gathered
            event = changed_event(event, decision)
    return gathered


def _is_final(name: str, said: Any) -> bool:
    """Nobody else is asked: a plain HookDecision, as it promises; on Stop any answer, since none only adds."""
    return name in (HOOK_STOP, HOOK_SUBAGENT_STOP) or (
        isinstance(said, HookDecision) and not isinstance(said, HookAnswer)
    )


def _subject(event: HookEvent) -> str | None:
    return next((str(getattr(event, name)) for name in _MATCHED if hasattr(event, name)), None)


async def _ask(
    hook: HookHandler, name: str, event: HookEvent, context: HookContext | None, matcher: HookMatcher | None
) -> Any:
    """What the hook returns; for a gate that is too late, a refusal."""
    if _takes_three(hook, in_matcher=matcher is not None):
        given = claude_input(name, event, context)
        said = hook(given, given.get("tool_use_id"), {"signal": None})
    else:
        said = hook(event)
    if isinstance(said, Awaitable):
        timeout_s = matcher.timeout if matcher else None
        if timeout_s is None:
            said = await said
        else:
            task = asyncio.ensure_future(said)
            if not await _is_in_time(task, timeout_s):
                told = f"the hook {getattr(hook, '__name__', hook)} took longer than {timeout_s:g} s"
                _log.warning("%s", told)
                return HookDecision(False, reason=told) if name in GATES else None
            said = task.result()
    return said


async def _is_in_time(task: asyncio.Future[Any], timeout_s: float) -> bool:
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        return task.done()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1)  # a hook that will not end is left behind
            if task.done() and not task.cancelled():
                task.exception()


def _takes_three(hook: HookHandler, *, in_matcher: bool) -> bool:
    """Whether it is spelt `(input_data, tool_use_id, context)`."""
    try:
        parameters = list(inspect.signature(hook).parameters.values())
    except (TypeError, ValueError):  # a built-in that does not tell
        return False
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return in_matcher
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = sum(one.default is one.empty for one in places)
    return len(places) >= 3 and (in_matcher or needed >= 2)


def hooks_of(options: Any) -> Hooks:
    """The hooks of options, `post_tool_hook(tool_name, result)` first among those after a tool."""
    hooks: Hooks = options.hooks
    told = getattr(options, "post_tool_hook", None)
    if told is None:
        return hooks

    async def tell(event: Any) -> None:
        done = told(event.tool_name, event.tool_result)
        if isinstance(done, Awaitable):
            await done

    return {**hooks, HOOK_POST_TOOL_USE: [tell, *hooks.get(HOOK_POST_TOOL_USE, ())]}


def stop_gate(
    hooks: Hooks, context: HookContext | None = None
) -> Callable[[str | None, list[dict[str, Any]], bool], Awaitable[str | None]] | None:
    """What is asked when the model has finished: `(result, history, is_continued)`; None: there are no Stop hooks.

    It answers what the model shall be told so that it goes on, or None: it may stop.
    """
    if not hooks.get(HOOK_STOP):
        return None

    async def may_stop(result: str | None, history: list[dict[str, Any]], is_continued: bool) -> str | None:
        decision = await decide(hooks, HOOK_STOP, StopEvent(result, history, is_continued), context)
        return None if decision is None or decision.continue_ else decision.reason or "Go on: it is not done."

    return may_stop
