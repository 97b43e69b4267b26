"""Plain data of the river: blocks, messages, deltas, events, usage, the answer. Imports nothing of ours."""

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
    ContextFitted,
    ContextTruncated,
    Delta,
    Event,
    ModelRequest,
    ResultMessage,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCompleted,
    ToolSpec,
    ToolStarted,
)

__all__ = [
    "AgentResponse", "AssistantMessage", "Attempt", "AttemptFailed", "Block", "ContextFitted", "ContextStrategy",
    "ContextTruncated", "Delta", "Event", "ImageBlock", "Json", "Message", "ModelRequest", "ResultMessage",
    "StreamEnd", "SystemMessage", "TextBlock", "TextDelta", "ThinkingBlock", "ThinkingDelta", "Timings",
    "ToolCallDelta", "ToolChoice", "ToolCompleted", "ToolMessage", "ToolResultBlock", "ToolSpec", "ToolStarted",
    "ToolUseBlock", "ToolUseError", "Usage", "UserMessage", "text_of",
]  # fmt: skip
