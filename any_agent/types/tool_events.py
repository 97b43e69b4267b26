"""What leaves the loop while tools run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .messages import Json, ToolResultBlock, ToolUseBlock


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is about to run."""

    call: ToolUseBlock


@dataclass(frozen=True, slots=True)
class PermissionDecided:
    """Somebody decided whether a call may run: a rule, the mode, or the one who was asked.

    `decision` is allow, deny or ask (nobody was there to ask, so it did not run); `rule` is what decided it.
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
