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
    "tools": "Tool ToolParameter ToolRegistry ToolResult tool",
    "hooks": """
        HOOK_POST_TOOL_USE HOOK_PRE_TOOL_USE HOOK_USER_PROMPT_SUBMIT HookDecision HookEvent HookHandler
        PostToolUseEvent PreToolUseEvent UserPromptSubmitEvent
    """,
    "protocols": "Model",
    "types": """
        AgentResponse AssistantMessage Attempt AttemptFailed ContextStrategy Event ImageBlock ModelRequest
        ResultMessage SystemMessage TextBlock TextDelta ThinkingBlock ThinkingDelta Timings ToolChoice ToolCompleted
        ToolMessage ToolResultBlock ToolStarted ToolUseBlock ToolUseError Usage UserMessage
    """,
    "errors": """
        AllModelsFailedError AnyAgentError AuthenticationError ConfigurationError ContextOverflowError
        EmptyResponseError InterruptedRunError InvalidInputError LimitError MaxTurnsError ModelNotFoundError
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
    from .errors import *  # noqa: F403
    from .hooks import *  # noqa: F403
    from .options import AgentOptions as AgentOptions
    from .protocols import Model as Model
    from .session import AgentSession as AgentSession
    from .tools import Tool as Tool
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
