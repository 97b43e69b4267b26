"""Blocks and messages, usage, attempts, timings. A message may carry a hidden `wire` cache that only a door fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

Json: TypeAlias = Any  # a value that `json.dumps` takes


class ContextStrategy(str, Enum):
    """How history is fitted to the model's window."""

    SLIDING_WINDOW = "sliding"
    TRUNCATE_OLDEST = "truncate"
    SUMMARIZE = "summarize"
    ADAPTIVE = "adaptive"


class ToolChoice(str, Enum):
    """Whether the model may, must or must not call tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text said by the user or the model."""

    text: str
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """Reasoning of the model; it has no `.text`, so it never leaks into an answer that joins `.text`."""

    thinking: str
    signature: str | None = None
    type: Literal["thinking"] = "thinking"


@dataclass(frozen=True, slots=True)
class ImageBlock:
    """An image by URL: `https://…` or `data:image/png;base64,…`."""

    url: str
    detail: str | None = None
    type: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """One tool call with arguments the model clearly said (a JSON object)."""

    id: str
    name: str
    input: dict[str, Json]
    type: Literal["tool_use"] = "tool_use"


@dataclass(frozen=True, slots=True)
class ToolUseError:
    """A tool call that cannot be run: broken JSON, no name. The model is told and asked again; nothing runs."""

    error: str
    raw_data: str | None = None
    id: str = ""
    name: str = ""
    type: Literal["tool_use_error"] = "tool_use_error"


@dataclass(frozen=True, slots=True)
class ToolResultBlock:
    """What one tool call gave back, as the model reads it."""

    tool_use_id: str
    content: str | dict[str, Json] | list[Json] | None = None
    is_error: bool | None = False
    type: Literal["tool_result"] = "tool_result"

    def as_text(self) -> str:
        """The content as one string; JSON for dicts and lists. (No `.text`: it would leak into a joined answer.)"""
        if isinstance(self.content, str):
            return self.content
        if self.content is None:
            return ""
        import json

        return json.dumps(self.content, ensure_ascii=False, default=str)


Block: TypeAlias = TextBlock | ThinkingBlock | ImageBlock | ToolUseBlock | ToolUseError | ToolResultBlock


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them. `is_estimated` marks numbers that no server reported.

    `queue_s`: seconds the request waited for its turn; None: not told, as by most servers.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    is_estimated: bool = False
    queue_s: float | None = None

    _ALIASES: ClassVar[Mapping[str, str]] = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens

    @property
    def completion_tokens(self) -> int:
        return self.output_tokens

    def __getitem__(self, name: str) -> int:
        """`usage["prompt_tokens"]` reads like the wire does."""
        try:
            return int(getattr(self, self._ALIASES.get(name, name)))
        except AttributeError:
            raise KeyError(name) from None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.is_estimated or other.is_estimated,
            None if self.queue_s is other.queue_s is None else (self.queue_s or 0.0) + (other.queue_s or 0.0),
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one model: how long it took, why the next one followed (`then`); `others`: asked at the same time."""

    model: str
    base_url: str | None
    duration_s: float
    error_type: str | None = None
    error: str | None = None
    status: int | None = None
    delivered_chars: int = 0
    then: str = ""
    first_token_s: float | None = None
    is_cached: bool = False  # answered from the response cache
    usage: Usage | None = None  # of this try alone, where there were others
    cost_usd: float | None = None
    others: tuple[Attempt, ...] = ()

    @property
    def is_ok(self) -> bool:
        return self.error_type is None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of one run. `first_token_s` is None when nothing arrived."""

    total_s: float = 0.0
    model_s: float = 0.0
    tools_s: float = 0.0
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Message:
    """Blocks said by one role; `content` may be given as a string."""

    content: tuple[Block, ...]
    wire: Json = field(default=None, init=False, repr=False, compare=False)
    pinned: bool = field(default=False, kw_only=True)  # never dropped when history is fitted to the window
    importance: float | None = field(default=None, kw_only=True)  # what strategy adaptive goes by; see docs/context.md

    if TYPE_CHECKING:

        def __init__(
            self, content: str | Sequence[Block], *, pinned: bool = False, importance: float | None = None
        ) -> None: ...

    def __post_init__(self) -> None:
        if self.content.__class__ is not tuple:
            given: Any = self.content
            blocks = (TextBlock(given),) if given and isinstance(given, str) else tuple(given)
            object.__setattr__(self, "content", blocks)


class SystemMessage(_Message):
    """Instructions."""

    __slots__ = ()
    role: ClassVar[Literal["system"]] = "system"


class UserMessage(_Message):
    """What the user said."""

    __slots__ = ()
    role: ClassVar[Literal["user"]] = "user"


class ToolMessage(_Message):
    """The results of one turn's tool calls, in the order of the calls."""

    __slots__ = ()
    role: ClassVar[Literal["tool"]] = "tool"


@dataclass(frozen=True, slots=True)
class AssistantMessage(_Message):
    """One whole turn of the model; in `query()` streams also a part of one (`is_partial`)."""

    model: str = ""
    usage: Usage | None = None
    finish_reason: str | None = None
    cost_usd: float | None = None
    provider: str | None = None
    provider_fields: Json = None
    is_interrupted: bool = False
    is_partial: bool = False
    attempt: Attempt | None = field(default=None, repr=False, compare=False)
    role: ClassVar[Literal["assistant"]] = "assistant"

    if TYPE_CHECKING:

        def __init__(self, content: str | Sequence[Block], model: str = "", **more: Any) -> None: ...

    @property
    def tool_calls(self) -> tuple[ToolUseBlock | ToolUseError, ...]:
        return tuple([b for b in self.content if isinstance(b, (ToolUseBlock, ToolUseError))])


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


def text_of(message: Message) -> str:
    """The text blocks of a message, joined."""
    return "".join([block.text for block in message.content if isinstance(block, TextBlock)])
