"""Events that may change or refuse. Hooks run in order; an exception aborts the run.

The first HookDecision wins; of Claude-style answers the strictest word does, and what they add or change is joined."""

from .answers import claude_input, permission_word, read_answer
from .asking import HookMatcher, decide, hooks_of, normalised, stop_gate
from .events import (
    CLAUDE_NAMES,
    HOOK_NAMES,
    HOOK_NOTIFICATION,
    HOOK_POST_TOOL_USE,
    HOOK_POST_TOOL_USE_FAILURE,
    HOOK_PRE_COMPACT,
    HOOK_PRE_TOOL_USE,
    HOOK_SESSION_END,
    HOOK_SESSION_START,
    HOOK_STOP,
    HOOK_SUBAGENT_START,
    HOOK_SUBAGENT_STOP,
    HOOK_USER_PROMPT_SUBMIT,
    HookAnswer,
    HookContext,
    HookDecision,
    HookEvent,
    HookHandler,
    Hooks,
    NotificationEvent,
    PermissionWord,
    PostToolUseEvent,
    PostToolUseFailureEvent,
    PreCompactEvent,
    PreToolUseEvent,
    SessionEndEvent,
    SessionStartEvent,
    StopEvent,
    SubagentStartEvent,
    SubagentStopEvent,
    UserPromptSubmitEvent,
)

__all__ = [
    "CLAUDE_NAMES", "HOOK_NAMES", "HOOK_NOTIFICATION", "HOOK_POST_TOOL_USE", "HOOK_POST_TOOL_USE_FAILURE",
    "HOOK_PRE_COMPACT", "HOOK_PRE_TOOL_USE", "HOOK_SESSION_END", "HOOK_SESSION_START", "HOOK_STOP",
    "HOOK_SUBAGENT_START", "HOOK_SUBAGENT_STOP", "HOOK_USER_PROMPT_SUBMIT", "HookAnswer", "HookContext",
    "HookDecision", "HookEvent", "HookHandler", "HookMatcher", "Hooks", "NotificationEvent", "PermissionWord",
    "PostToolUseEvent", "PostToolUseFailureEvent", "PreCompactEvent", "PreToolUseEvent", "SessionEndEvent",
    "SessionStartEvent", "StopEvent", "SubagentStartEvent", "SubagentStopEvent", "UserPromptSubmitEvent",
    "claude_input", "decide", "hooks_of", "normalised", "permission_word", "read_answer", "stop_gate",
]  # fmt: skip
