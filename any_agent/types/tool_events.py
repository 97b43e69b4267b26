"""What leaves the loop while tools run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .messages import Attempt, Json, ToolResultBlock, ToolUseBlock, Usage


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is about to run."""

    call: ToolUseBlock


@dataclass(frozen=True, slots=True)
class CallReasked:
    """Arguments that could not be read were asked for once more, held to the tool's schema; the call's message follows.

    `error`: what was wrong with them. `is_read`: the second ones are used; False: the call stays an error. The other
    fields are of this model call alone: nothing of it is in the usage of a message.
    """

    tool_use_id: str
    tool_name: str
    error: str
    is_read: bool
    model: str = ""
    usage: Usage | None = None
    cost_usd: float | None = None
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class PermissionDecided:
    """Somebody decided whether a call may run: a rule, the mode, or the one who was asked.

    `decision` is allow, deny, or ask: an approval is still waited for, so it has not run. `rule` is what decided it.
    """

    tool_use_id: str
    tool_name: str
    decision: str
    reason: str = ""
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """A running tool tells how far it is. `fraction` 0–1; None: it does not know."""

    tool_use_id: str
    tool_name: str
    message: str = ""
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class ToolCompleted:
    """A tool call was answered (result, error or refusal). `data` is what the tool returned, unshortened.

    `ends_run`: the result is the run's answer; `new_tools`: Tool objects that may be called from the next turn on.
    """

    name: str
    result: ToolResultBlock
    duration_s: float = 0.0
    data: Json = None
    ends_run: bool = False
    new_tools: tuple[Json, ...] = ()


ToolEvent: TypeAlias = ToolStarted | PermissionDecided | ToolProgress | ToolCompleted
