"""The words of permissions: modes, what a decision says, what the one who is asked is told and may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

from ..hooks import HookDecision
from ..types import PermissionDecided

Word: TypeAlias = Literal["allow", "deny", "ask"]


class PermissionMode(str, Enum):
    """What holds where no rule speaks. `PermissionMode("acceptEdits")` and "accept_edits" are understood, too."""

    DEFAULT = "default"
    ACCEPT_EDITS = "accept-edits"
    PLAN = "plan"
    BYPASS = "bypass"
    DONT_ASK = "dont-ask"

    @classmethod
    def _missing_(cls, value: object) -> PermissionMode | None:
        plain = str(value).replace("_", "").replace("-", "").lower().removesuffix("permissions")
        return next((mode for mode in cls if mode.value.replace("-", "") == plain), None)


class ToolPermission(str, Enum):
    """What a `pre_tool_hook` returns."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call may run, and who says so.

    `kind`: allow, deny, or ask (an approval is still waited for, so it may not run now). `rule`: the rule's text,
    "mode plan", "hook", "can_use_tool", …. `updated_input` replaces the arguments; `interrupt`: the run shall end.
    """

    kind: Word
    reason: str = ""
    rule: str | None = None
    updated_input: dict[str, Any] | None = None
    interrupt: bool = False

    @property
    def allowed(self) -> bool:
        return self.kind == "allow"

    def event(self, call: Any) -> PermissionDecided:
        """The row of the audit log."""
        return PermissionDecided(call.id, call.name, self.kind, self.reason, self.rule)


@dataclass(frozen=True, slots=True)
class PermissionContext:
    """Where a call stands. `tool`: the Tool; `hook`: what a PreToolUse hook has decided (None: nothing)."""

    tool: Any = None
    session_id: str = ""
    hook: HookDecision | None = None
    agent_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolPermissionContext:
    """What `can_use_tool(tool_name, input, context)` is told besides. `decision_reason`: why it is asked."""

    tool_use_id: str | None = None
    session_id: str = ""
    agent_id: str | None = None
    decision_reason: str | None = None
    description: str | None = None
    display_name: str | None = None
    title: str | None = None
    blocked_path: str | None = None
    suggestions: Sequence[Any] = field(default_factory=list)
    signal: Any = None


@dataclass(frozen=True, slots=True)
class PermissionResultAllow:
    """Yes, with other arguments if `updated_input` is given. `updated_permissions` is not kept: it is asked again."""

    behavior: Literal["allow"] = "allow"
    updated_input: dict[str, Any] | None = None
    updated_permissions: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class PermissionResultDeny:
    """No; the model reads `message`. `interrupt` ends the run."""

    behavior: Literal["deny"] = "deny"
    message: str = ""
    interrupt: bool = False


PermissionResult: TypeAlias = PermissionResultAllow | PermissionResultDeny
