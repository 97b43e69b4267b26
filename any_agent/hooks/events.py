"""What hooks are told (events) and what they may say (decisions)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

HOOK_PRE_TOOL_USE = "pre_tool_use"
HOOK_POST_TOOL_USE = "post_tool_use"
HOOK_POST_TOOL_USE_FAILURE = "post_tool_use_failure"
HOOK_USER_PROMPT_SUBMIT = "user_prompt_submit"
HOOK_STOP = "stop"
HOOK_SUBAGENT_START = "subagent_start"
HOOK_SUBAGENT_STOP = "subagent_stop"
HOOK_PRE_COMPACT = "pre_compact"
HOOK_NOTIFICATION = "notification"
HOOK_SESSION_START = "session_start"
HOOK_SESSION_END = "session_end"
HOOK_NAMES = (
    HOOK_PRE_TOOL_USE, HOOK_POST_TOOL_USE, HOOK_USER_PROMPT_SUBMIT, HOOK_POST_TOOL_USE_FAILURE, HOOK_STOP,
    HOOK_SUBAGENT_START, HOOK_SUBAGENT_STOP, HOOK_PRE_COMPACT, HOOK_NOTIFICATION, HOOK_SESSION_START, HOOK_SESSION_END,
)  # fmt: skip
CLAUDE_NAMES = {name: name.title().replace("_", "") for name in HOOK_NAMES}  # "pre_tool_use": "PreToolUse"
# What a slow or odd hook must not let through.
GATES = (HOOK_PRE_TOOL_USE, HOOK_USER_PROMPT_SUBMIT, HOOK_SUBAGENT_START)
PermissionWord: TypeAlias = Literal["allow", "deny", "ask"]


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
class PostToolUseFailureEvent:
    """A tool failed; `error` is what the model is told. The decision is ignored."""

    tool_name: str
    tool_input: dict[str, Any]
    error: str
    tool_use_id: str
    history: list[dict[str, Any]]
    is_interrupt: bool = False


@dataclass(frozen=True, slots=True)
class UserPromptSubmitEvent:
    """A prompt is about to enter the history."""

    prompt: str
    history: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StopEvent:
    """The model has finished. Refusing sends it `reason`, and the run goes on (`is_continued`: it did before)."""

    result: str | None
    history: list[dict[str, Any]]
    is_continued: bool = False


@dataclass(frozen=True, slots=True)
class SubagentStartEvent:
    """A subagent is about to begin. Refusing keeps it from running; `modified_prompt` replaces its task.

    `agent_id`: its session; `agent_type`: its name; `session_id`: the session that asks it.
    """

    agent_id: str
    agent_type: str
    prompt: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class SubagentStopEvent:
    """A subagent has finished. Refusing sends `reason` to it and it goes on (`is_continued`: it did before).

    `error`: it failed or reached a limit; then the decision is ignored.
    """

    agent_id: str
    agent_type: str
    result: str | None = None
    is_continued: bool = False
    session_id: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PreCompactEvent:
    """Old messages are about to be summarised. The decision is ignored."""

    trigger: Literal["auto", "manual"]
    history: list[dict[str, Any]]
    custom_instructions: str | None = None


@dataclass(frozen=True, slots=True)
class NotificationEvent:
    """Somebody should look: a permission is waited for, a long run has ended. The decision is ignored."""

    message: str
    notification_type: str = ""
    title: str | None = None


@dataclass(frozen=True, slots=True)
class SessionStartEvent:
    """A conversation begins (`source`: startup, resume, fork or clear). The decision is ignored."""

    source: str
    session_id: str


@dataclass(frozen=True, slots=True)
class SessionEndEvent:
    """A conversation was closed. The decision is ignored."""

    reason: str
    session_id: str


HookEvent: TypeAlias = (
    PreToolUseEvent
    | PostToolUseEvent
    | PostToolUseFailureEvent
    | UserPromptSubmitEvent
    | StopEvent
    | SubagentStartEvent
    | SubagentStopEvent
    | PreCompactEvent
    | NotificationEvent
    | SessionStartEvent
    | SessionEndEvent
)


@dataclass(frozen=True, slots=True)
class HookDecision:
    """`continue_=False` refuses; `modified_input` / `modified_prompt` replace; `reason` is told on."""

    continue_: bool = True
    modified_input: dict[str, Any] | None = None
    modified_prompt: str | None = None
    reason: str | None = None

    @property
    def permission(self) -> PermissionWord | None:
        """What it says about permission; None: nothing, the permissions decide."""
        return None if self.continue_ else "deny"


@dataclass(frozen=True, slots=True)
class HookAnswer(HookDecision):
    """A HookDecision that says more.

    `permission`: allow (nobody is asked, deny rules still hold), deny, ask. `ends_run`: no further turn.
    `added_context`: told to the model together with the tool's result; `updated_output` replaces that result.
    """

    permission: PermissionWord | None = None
    ends_run: bool = False
    added_context: str | None = None
    updated_output: Any = None


@dataclass(frozen=True, slots=True)
class HookContext:
    """Where an event happens; Claude-style hooks find it in their input."""

    session_id: str = ""
    cwd: str = ""
    permission_mode: str = "default"
    transcript_path: str = ""


HookHandler: TypeAlias = Callable[..., Any]
Hooks: TypeAlias = Mapping[str, Sequence[Any]]
