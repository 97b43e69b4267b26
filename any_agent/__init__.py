"""any_agent: the ergonomics of the Claude Agent SDK on any model. Names load when they are first used."""

from __future__ import annotations

import os as _os
import sys as _sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"
DISTRIBUTION = "any-agent-harness"

_ROOMS = {
    "agent": "Agent",
    "client": "Client query",
    "options": "AgentOptions",
    "session": "AgentSession",
    "tools": "Subagent Tool ToolContext ToolParameter ToolRegistry ToolResult tool",
    "memory": "MemoryStore",
    "context": "ContextUsage",
    "hooks": """
        HOOK_NOTIFICATION HOOK_POST_TOOL_USE HOOK_POST_TOOL_USE_FAILURE HOOK_PRE_COMPACT HOOK_PRE_TOOL_USE
        HOOK_SESSION_END HOOK_SESSION_START HOOK_STOP HOOK_SUBAGENT_START HOOK_SUBAGENT_STOP HOOK_USER_PROMPT_SUBMIT
        HookAnswer HookContext HookDecision HookEvent HookHandler HookMatcher NotificationEvent PostToolUseEvent
        PostToolUseFailureEvent PreCompactEvent PreToolUseEvent SessionEndEvent SessionStartEvent StopEvent
        SubagentStartEvent SubagentStopEvent UserPromptSubmitEvent
    """,
    "permissions": """
        PermissionContext PermissionMode PermissionResultAllow PermissionResultDeny Permissions Rule ToolPermission
        ToolPermissionContext
    """,
    "protocols": "Model",
    "types": """
        AgentResponse AssistantMessage Attempt AttemptFailed CallReasked ContextFitted ContextStrategy
        ContextSummarized ContextTruncated Event ImageBlock ModelLoading ModelRequest PermissionDecided ResultMessage
        SystemMessage TextBlock TextDelta ThinkingBlock ThinkingDelta Timings ToolChoice ToolCompleted
        ToolMessage ToolProgress ToolResultBlock ToolStarted ToolUseBlock ToolUseError Usage UserMessage
    """,
    "errors": """
        AllModelsFailedError AnyAgentError ApprovalPendingError AuthenticationError BudgetExceededError
        ConfigurationError ContextOverflowError MemoryStoreError SessionNotFoundError
        EmptyResponseError InterruptedRunError InvalidInputError LimitError LoopDetectedError MaxTurnsError
        ModelNotFoundError
        OutputError ProviderError ProviderTimeoutError RateLimitError ServerUnreachableError SessionBusyError
        SessionError StreamInterruptedError ToolError ToolExecutionError
    """,
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = sorted([*_HOME, "DISTRIBUTION", "__version__"])  # noqa: PLE0605

if TYPE_CHECKING:
    from .agent import Agent as Agent
    from .client import Client as Client
    from .client import query as query
    from .context import ContextUsage as ContextUsage
    from .errors import AllModelsFailedError as AllModelsFailedError
    from .errors import AnyAgentError as AnyAgentError
    from .errors import ApprovalPendingError as ApprovalPendingError
    from .errors import AuthenticationError as AuthenticationError
    from .errors import BudgetExceededError as BudgetExceededError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ContextOverflowError as ContextOverflowError
    from .errors import EmptyResponseError as EmptyResponseError
    from .errors import InterruptedRunError as InterruptedRunError
    from .errors import InvalidInputError as InvalidInputError
    from .errors import LimitError as LimitError
    from .errors import LoopDetectedError as LoopDetectedError
    from .errors import MaxTurnsError as MaxTurnsError
    from .errors import MemoryStoreError as MemoryStoreError
    from .errors import ModelNotFoundError as ModelNotFoundError
    from .errors import OutputError as OutputError
    from .errors import ProviderError as ProviderError
    from .errors import ProviderTimeoutError as ProviderTimeoutError
    from .errors import RateLimitError as RateLimitError
    from .errors import ServerUnreachableError as ServerUnreachableError
    from .errors import SessionBusyError as SessionBusyError
    from .errors import SessionError as SessionError
    from .errors import SessionNotFoundError as SessionNotFoundError
    from .errors import StreamInterruptedError as StreamInterruptedError
    from .errors import ToolError as ToolError
    from .errors import ToolExecutionError as ToolExecutionError
    from .hooks import *  # noqa: F403
    from .memory import MemoryStore as MemoryStore
    from .options import AgentOptions as AgentOptions
    from .permissions import *  # noqa: F403
    from .protocols import Model as Model
    from .session import AgentSession as AgentSession
    from .tools import Subagent as Subagent
    from .tools import Tool as Tool
    from .tools import ToolContext as ToolContext
    from .tools import ToolParameter as ToolParameter
    from .tools import ToolRegistry as ToolRegistry
    from .tools import ToolResult as ToolResult
    from .tools import tool as tool
    from .types import *  # noqa: F403


def __getattr__(name: str) -> object:
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module 'any_agent' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{room}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def other_distribution() -> str | None:
    """The folder of the other distribution that also installs `any_agent` (named `any-agent`); None: not there."""
    for folder in _sys.path:
        try:
            names = _os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.lower().startswith(("any_agent-", "any-agent-")) and name.endswith((".dist-info", ".egg-info")):
                return _os.path.join(folder, name)
    return None


if other_distribution():
    import warnings as _warnings

    _warnings.warn(
        f"the distribution 'any-agent' also installs any_agent, beside ours; one of them is broken. "
        f"Fix: pip uninstall any-agent {DISTRIBUTION}; pip install {DISTRIBUTION}",
        UserWarning,
        stacklevel=2,
    )
