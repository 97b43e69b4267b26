"""Permissions: whether a tool call may run. They may refuse, they never execute."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ..errors import ConfigurationError, InvalidInputError
from ..hooks import HookDecision, permission_word
from ..types import ToolUseBlock
from .modes import Decision, PermissionContext, PermissionMode, ToolPermissionContext, Word
from .places import is_inside
from .rules import Rule, Subject, subjects

CanUseTool: TypeAlias = Callable[[str, dict[str, Any], ToolPermissionContext], Any]
Asker: TypeAlias = Callable[[ToolUseBlock, Decision, PermissionContext], Awaitable[Any]]
NOBODY = "it needs somebody's permission, and nobody is there to ask"


@dataclass(frozen=True, slots=True)
class _Verdict(Decision):
    """A decision before anybody was asked. `was_asked`: somebody was."""

    was_asked: bool = False


@dataclass(frozen=True, slots=True)
class Permissions:
    """Deny rules, hooks, ask rules, allow rules, the mode, and somebody to ask, in this order.

    Args:
        mode: a PermissionMode or its name, Claude's spellings too.
        allow, ask, deny: rule texts, see `Rule`.
        can_use_tool: `(tool_name, input, context)`, sync or async; answers PermissionResultAllow or
            PermissionResultDeny, True or False, "allow", "deny" or "ask" (somebody else shall be asked). When it is
            given, it is asked about every call that no rule or mode allows.
        cwd: folder that relative paths in rules and calls belong to; None: the process's.
        asker: asked last: `(call, decision, context)`, answers like `can_use_tool`, or with a Decision of kind "ask"
            when the answer will come later (it may not run now).
        pre_tool_hook: `(tool_name, input)`, asked about every call; answers allow, deny, ask or None.
        parent: whoever gave these rights; what it refuses is refused. See `narrowed`.

    Raises:
        ConfigurationError: a mode or a rule cannot be read.
    """

    mode: PermissionMode = PermissionMode.DEFAULT
    allow: Sequence[str | Rule] = ()
    ask: Sequence[str | Rule] = ()
    deny: Sequence[str | Rule] = ()
    can_use_tool: CanUseTool | None = None
    cwd: str | None = None
    asker: Asker | None = None
    pre_tool_hook: Callable[[str, dict[str, Any]], Any] | None = None
    parent: Permissions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("allow", "ask", "deny"):
            given: Any = getattr(self, name)
            several = [given] if isinstance(given, (str, Rule)) else given or ()
            object.__setattr__(self, name, tuple([Rule.parse(one) for one in several]))
        try:
            object.__setattr__(self, "mode", PermissionMode(self.mode or "default"))
        except ValueError:
            names = ", ".join(mode.value for mode in PermissionMode)
            text = f"there is no permission mode {self.mode!r}; allowed: {names}"
            raise ConfigurationError(text, field="permission_mode", value=self.mode, allowed=names) from None

    async def decide(self, call: ToolUseBlock, context: PermissionContext | None = None) -> Decision:
        """Whether the call may run. An exception in `can_use_tool`, `pre_tool_hook` or `asker` goes through."""
        return _plain(await self._decide(call, context or PermissionContext()))

    def narrowed(
        self,
        *,
        mode: PermissionMode | str | None = None,
        allow: Iterable[str | Rule] = (),
        ask: Iterable[str | Rule] = (),
        deny: Iterable[str | Rule] = (),
        can_use_tool: CanUseTool | None = None,
        cwd: str | None = None,
        tools: Iterable[str] | None = None,
    ) -> Permissions:
        """Rights for a subagent: what this refuses stays refused, whatever is allowed here.

        `tools`: names it may use at most. Whoever is asked here is asked by it, too.
        """
        kept = None if tools is None else tuple(tools)
        return _Narrowed(
            PermissionMode(mode) if mode else PermissionMode.DEFAULT,
            tuple(allow),
            tuple(ask),
            tuple(deny),
            can_use_tool,
            cwd or self.cwd,
            parent=self,
            tools=kept,
        )

    async def _decide(self, call: ToolUseBlock, context: PermissionContext) -> _Verdict:
        if self.parent is None:
            return await self._own(call, context)
        first = await self.parent._decide(call, context)
        if not first.allowed:
            return first
        changed = first.updated_input
        asked = call if changed is None else replace(call, input=changed)
        own = await self._own(asked, context, is_answered=first.was_asked)
        if not own.allowed:
            return own
        if own.updated_input is None:
            rule = first.rule if own.rule in (None, "mode default") else own.rule
            return replace(own, updated_input=changed, rule=rule, was_asked=own.was_asked or first.was_asked)
        last = await self.parent._decide(replace(call, input=own.updated_input), context)
        if not last.allowed or last.updated_input in (None, own.updated_input):
            return last if not last.allowed else own
        return _Verdict("deny", "two who were asked want other arguments each", own.rule)

    async def _own(self, call: ToolUseBlock, context: PermissionContext, *, is_answered: bool = False) -> _Verdict:
        """What these permissions say; `is_answered`: somebody above has been asked, and has allowed it."""
        cwd = self.cwd or os.getcwd()
        found = subjects(context.tool, call.input)
        verdict = self._refused(call, found, cwd) or await self._hooked(call, context)
        verdict = self._judged(verdict, call.name, context.tool, found, cwd)
        if verdict.kind != "ask":
            return verdict
        if is_answered:
            return _Verdict("allow")
        if self.mode is PermissionMode.DONT_ASK:
            return _Verdict("deny", f"{verdict.reason}, and nobody shall be asked", "mode dont-ask")
        verdict = await self._asked(call, verdict, context)
        if verdict.updated_input is not None:
            changed = replace(call, input=verdict.updated_input)
            refused = self._refused(changed, subjects(context.tool, changed.input), cwd)
            return refused or verdict
        return verdict

    def _refused(self, call: ToolUseBlock, found: Sequence[Subject], cwd: str) -> _Verdict | None:
        rule = _first(self.deny, call.name, found, cwd)
        return None if rule is None else _Verdict("deny", f"the rule deny {rule.text} forbids it", rule.text)

    async def _hooked(self, call: ToolUseBlock, context: PermissionContext) -> _Verdict | None:
        """The strictest word of the hooks."""
        said: list[_Verdict] = []
        if context.hook is not None and context.hook.permission is not None:
            told = context.hook
            ends = bool(getattr(told, "ends_run", False))
            said.append(_verdict(told.permission, told.reason or "a hook says so", "hook", interrupt=ends))
        if self.pre_tool_hook is not None:
            answer = self.pre_tool_hook(call.name, deepcopy(call.input))
            answer = await answer if isinstance(answer, Awaitable) else answer
            is_told = isinstance(answer, HookDecision)
            word = answer.permission if is_told else permission_word(answer)
            reason = (answer.reason if is_told else None) or "pre_tool_hook says so"
            if word is not None:
                said.append(_verdict(word, reason, "pre_tool_hook"))
        return next((one for kind in ("deny", "ask", "allow") for one in said if one.kind == kind), None)

    def _judged(self, verdict: _Verdict | None, name: str, tool: Any, found: Sequence[Subject], cwd: str) -> _Verdict:
        """The verdict so far (of deny rules and hooks) with ask rules, allow rules and the mode."""
        if verdict is not None and verdict.kind == "deny":
            return verdict
        mode, rule = self.mode, f"mode {self.mode.value}"
        if mode is PermissionMode.PLAN and not getattr(tool, "is_read_only", False):
            return _Verdict("deny", "only tools that read may run while a plan is made", rule)
        if verdict is not None:
            return verdict
        if mode is PermissionMode.BYPASS:
            return _Verdict("allow", rule=rule)
        asking = _first(self.ask, name, found, cwd)
        if asking is not None:
            return _Verdict("ask", f"the rule ask {asking.text} wants it", asking.text)
        allowing = _first(self.allow, name, found, cwd, is_strict=True)
        if allowing is not None:
            return _Verdict("allow", rule=allowing.text)
        if mode is PermissionMode.ACCEPT_EDITS and getattr(tool, "edits_files", False):
            paths = [one for one in found if one.kind == "path"]
            if paths and all(one.certainty == "plain" and is_inside(one.text, cwd, cwd) for one in paths):
                return _Verdict("allow", rule=rule)
            return _Verdict("ask", "it edits files outside the working folder", rule)
        return self._by_default(name, tool, rule)

    def _by_default(self, name: str, tool: Any, rule: str) -> _Verdict:
        if getattr(tool, "needs_permission", False):
            return _Verdict("ask", f"the tool {name} wants it", "needs_permission")
        if any(one.names(name) for one in self.allow if isinstance(one, Rule)):
            return _Verdict("ask", f"the rules allow other calls of {name}, not this one", rule)
        if self.mode is PermissionMode.DONT_ASK and self.allow:
            return _Verdict("ask", "no rule allows it", rule)
        if self.can_use_tool is not None:
            return _Verdict("ask", "no rule allows it", rule)
        return _Verdict("allow", rule=rule)

    async def _asked(self, call: ToolUseBlock, verdict: _Verdict, context: PermissionContext) -> _Verdict:
        chain: list[Permissions] = [self]
        while chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        for one in chain:
            if one.can_use_tool is not None:
                told = ToolPermissionContext(call.id, context.session_id, context.agent_id, verdict.reason)
                answer = one.can_use_tool(call.name, deepcopy(call.input), told)
                answer = await answer if isinstance(answer, Awaitable) else answer
                read = _read(answer, "can_use_tool")
                if read.kind != "ask":
                    return read
                verdict = replace(verdict, reason=read.reason)
        asker = next((one.asker for one in chain if one.asker is not None), None)
        if asker is not None:
            return _read(await asker(call, _plain(verdict), context), "asker")
        return _Verdict("deny", f"{verdict.reason}: {NOBODY}", verdict.rule)


@dataclass(frozen=True, slots=True)
class _Narrowed(Permissions):
    """Rights that were narrowed to some tools. None: all of the parent's."""

    tools: tuple[str, ...] | None = None

    def _refused(self, call: ToolUseBlock, found: Sequence[Subject], cwd: str) -> _Verdict | None:
        if self.tools is not None and call.name not in self.tools:
            return _Verdict("deny", f"{call.name} is none of its tools", "tools")
        return Permissions._refused(self, call, found, cwd)


def _first(
    rules: Sequence[str | Rule], name: str, found: Sequence[Subject], cwd: str, *, is_strict: bool = False
) -> Rule | None:
    for rule in rules:
        if not isinstance(rule, Rule) or not rule.names(name):
            continue
        if rule.permits(found, cwd) if is_strict else rule.catches(found, cwd):
            return rule
    return None


def _verdict(word: Word | None, reason: str, rule: str, *, interrupt: bool = False) -> _Verdict:
    return _Verdict(word or "ask", "" if word == "allow" else reason, rule, interrupt=interrupt)


def _plain(verdict: Decision) -> Decision:
    return Decision(verdict.kind, verdict.reason, verdict.rule, verdict.updated_input, verdict.interrupt)


def _read(answer: Any, who: str) -> _Verdict:
    """An answer in any of its shapes. What cannot be read is no permission."""
    if isinstance(answer, Decision):
        return _Verdict(
            answer.kind, answer.reason, answer.rule or who, answer.updated_input, answer.interrupt, was_asked=True
        )
    if answer is None:
        return _Verdict("ask", f"{who} did not decide it", who)
    shape: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {}
    word = permission_word(shape.get("behavior") if shape else getattr(answer, "behavior", answer))
    if word is None:
        raise InvalidInputError(f"{who} may not answer {answer!r}", field=who, value=answer)

    def said(name: str, claude: str) -> Any:
        return shape.get(name, shape.get(claude)) if shape else getattr(answer, name, None)

    changed = said("updated_input", "updatedInput") if word == "allow" else None
    if changed is not None and not isinstance(changed, Mapping):
        raise InvalidInputError(f"{who}: updated_input must be a dict", field="updated_input", value=changed)
    silent = {"allow": "", "deny": f"{who} refused it", "ask": f"{who} did not decide it"}
    reason = said("message", "message") or silent[word]
    return _Verdict(
        word, reason, who, None if changed is None else dict(changed), bool(said("interrupt", "interrupt")), True
    )


def permissions_of(options: Any, tools: Iterable[Any] = ()) -> Permissions | None:
    """The permissions of AgentOptions; None when nothing is set and no tool of these wants to be asked for."""
    found = Permissions(
        options.permission_mode,
        options.allowed_tools,
        options.ask_tools,
        options.disallowed_tools,
        options.can_use_tool,
        options.cwd,
        pre_tool_hook=options.pre_tool_hook,
    )
    is_set = found != Permissions(cwd=options.cwd)
    return found if is_set or any(getattr(tool, "needs_permission", False) for tool in tools) else None


async def permit(
    permissions: Permissions | None, call: ToolUseBlock, context: PermissionContext | None = None
) -> Decision | None:
    """What dispatch asks before it runs a call; None: nothing is set, neither hook nor tool wants it: it may run."""
    if permissions is None:
        told = context.hook.permission if context is not None and context.hook is not None else None
        if told is None and not (context is not None and getattr(context.tool, "needs_permission", False)):
            return None
        permissions = Permissions()
    return await permissions.decide(call, context)
