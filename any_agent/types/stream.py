"""What a model is asked and streams (deltas), and what leaves the loop (the closed Event union)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .fitting import ContextFitted, ContextSummarized, ContextTruncated
from .messages import (
    AssistantMessage,
    Attempt,
    Json,
    Message,
    Timings,
    ToolMessage,
    Usage,
    UserMessage,
)
from .tool_events import CallReasked, PermissionDecided, ToolCompleted, ToolProgress, ToolStarted


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What the model is told of a tool. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: dict[str, Json]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model. `params` are OpenAI sampling names, already checked; None values are left out.

    `extra_body` goes onto the wire as it is. Seconds: `timeout_s` is the longest silence within an answer (None: for
    ever), `first_token_timeout_s` the longest before its first token (None: `timeout_s`); comments are no silence.
    """

    messages: Sequence[Message]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Json = None
    params: Mapping[str, Json] = field(default_factory=dict)
    extra_body: Mapping[str, Json] = field(default_factory=dict)
    timeout_s: float | None = 300.0
    first_token_timeout_s: float | None = None
    connect_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """New reasoning text. `takes_text`: the text of this turn so far was reasoning too (`</think>` came unopened)."""

    thinking: str
    signature: str | None = None
    takes_text: bool = False


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of a tool call, as the wire gave it. `arguments` is a piece of JSON text or a whole object."""

    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: Json = None
    error: str | None = None  # why the call, found in the text, may not run


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A try failed and another follows (a retry, or the next model). `keeps_text`: what was said so far stays said."""

    attempt: Attempt
    keeps_text: bool = False


@dataclass(frozen=True, slots=True)
class ModelLoading:
    """The server says that it is still loading the model; it is asked again. `waited_s`: since it first said so."""

    model: str
    base_url: str | None
    waited_s: float


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The proper end of a model's stream; its last delta. `usage` None: the server told none."""

    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    provider: str | None = None
    provider_fields: Json = None
    attempts: tuple[Attempt, ...] = ()
    is_cached: bool = False  # from the response cache: nothing was asked


Delta: TypeAlias = (
    TextDelta
    | ThinkingDelta
    | ToolCallDelta
    | AttemptFailed
    | ModelLoading
    | ContextFitted
    | ContextSummarized
    | ContextTruncated
    | StreamEnd
)


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """The last event of every run, exactly once.

    `subtype`: success, error, interrupted or limit. It has no `.content`, so joining `.content` skips it.
    """

    subtype: Literal["success", "error", "interrupted", "limit"]
    result: str | None = None
    session_id: str = ""
    num_turns: int = 0
    usage: Usage | None = None
    total_cost_usd: float | None = None
    stop_reason: str | None = None
    structured_output: Json = None
    timings: Timings = field(default_factory=Timings)
    attempts: tuple[Attempt, ...] = ()
    error: Exception | None = None

    @property
    def is_error(self) -> bool:
        return self.subtype != "success"

    @property
    def errors(self) -> list[str]:
        return [str(self.error)] if self.error else []

    @property
    def duration_ms(self) -> int:
        return round(self.timings.total_s * 1000)

    @property
    def duration_api_ms(self) -> int:
        return round(self.timings.model_s * 1000)


Event: TypeAlias = (
    TextDelta
    | ThinkingDelta
    | AttemptFailed
    | ModelLoading
    | ContextFitted
    | ContextSummarized
    | ContextTruncated
    | CallReasked
    | ToolStarted
    | PermissionDecided
    | ToolProgress
    | ToolCompleted
    | AssistantMessage
    | UserMessage
    | UserMessage
    | ToolMessage
    | ResultMessage
)
