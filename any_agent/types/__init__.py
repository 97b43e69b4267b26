"""Plain data of the river: blocks, messages, deltas, events, usage, the answer. Imports nothing of ours."""

from .fitting import ContextFitted, ContextSummarized, ContextTruncated
from .messages import (
    AssistantMessage,
    Attempt,
    Block,
    ContextStrategy,
    ImageBlock,
    Json,
    Message,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    Timings,
    ToolChoice,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    Usage,
    UserMessage,
    text_of,
)
from .response import AgentResponse
from .stream import (
    AttemptFailed,
    Delta,
    Event,
    ModelLoading,
    ModelRequest,
    ResultMessage,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolSpec,
)
from .tool_events import CallReasked, PermissionDecided, ToolCompleted, ToolEvent, ToolProgress, ToolStarted

__all__ = [
    "AgentResponse", "AssistantMessage", "Attempt", "AttemptFailed", "Block", "CallReasked", "ContextFitted",
    "ContextStrategy",
    "ContextSummarized", "ContextTruncated", "Delta", "Event", "ImageBlock", "Json", "Message", "ModelLoading",
    "ModelRequest", "PermissionDecided", "ResultMessage", "StreamEnd", "SystemMessage", "TextBlock", "TextDelta",
    "ThinkingBlock", "ThinkingDelta", "Timings", "ToolCallDelta", "ToolChoice", "ToolCompleted", "ToolEvent",
    "ToolMessage", "ToolProgress", "ToolResultBlock", "ToolSpec", "ToolStarted", "ToolUseBlock", "ToolUseError",
    "Usage", "UserMessage", "text_of",
]  # fmt: skip
