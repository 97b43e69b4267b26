"""What a model is asked and streams (deltas), and what leaves the loop (the closed Event union)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .messages import (
    AssistantMessage,
    Attempt,
    Json,
    Message,
    Timings,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    Usage,
)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What the model is told of a tool. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: dict[str, Json]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model. `params` are OpenAI sampling names, already checked; None values are left out.

    `extra_body` goes onto the wire as it is; `timeout_s` is the longest silence of the server (None: for ever).
    """

    messages: Sequence[Message]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Json = None
    params: Mapping[str, Json] = field(default_factory=dict)
    extra_body: Mapping[str, Json] = field(default_factory=dict)
    timeout_s: float | None = 300.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """New reasoning text."""

    thinking: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of a tool call, as the wire gave it. `arguments` is a piece of JSON text or a whole object."""

    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: Json = None


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A try failed and another follows (a retry, or the next model)."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class ContextFitted:
    """History was fitted to the window before the call. Tokens are upper bounds."""

    dropped_messages: int
    shortened_results: int
    tokens_before: int
    tokens_after: int
    window_tokens: int


@dataclass(frozen=True, slots=True)
class ContextTruncated:
    """The server silently cut the prompt; text of this turn so far is void, the turn is repeated with less history."""

    reported_tokens: int
    expected_tokens: int
    window_tokens: int


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


Delta: TypeAlias = (
    TextDelta | ThinkingDelta | ToolCallDelta | AttemptFailed | ContextFitted | ContextTruncated | StreamEnd
)


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is about to run."""

    call: ToolUseBlock


@dataclass(frozen=True, slots=True)
class ToolCompleted:
    """A tool call was answered (result, error or refusal). `data` is what the tool returned, unshortened."""

    name: str
    result: ToolResultBlock
    duration_s: float = 0.0
    data: Json = None


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
    | ContextFitted
    | ContextTruncated
    | ToolStarted
    | ToolCompleted
    | AssistantMessage
    | ToolMessage
    | ResultMessage
)
