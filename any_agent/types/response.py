"""The answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .messages import (
    AssistantMessage,
    Attempt,
    Block,
    Json,
    Message,
    ThinkingBlock,
    Timings,
    ToolUseBlock,
    Usage,
)
from .stream import ResultMessage

# ------------------------------------------------------------------ the answer


class AgentResponse(str):
    """The answer: a `str` that also tells how it came about.

    `tool_calls` holds all calls of the run, in order; `usage` and `cost_usd` are None when unknown (never a guessed 0);
    `data` is the structured output.
    """

    blocks: tuple[Block, ...] = ()
    tool_calls: tuple[ToolUseBlock, ...] = ()
    usage: Usage | None = None
    cost_usd: float | None = None
    model: str = ""
    finish_reason: str | None = None
    timings: Timings = Timings()
    data: Json = None
    attempts: tuple[Attempt, ...] = ()
    session_id: str = ""
    num_turns: int = 0

    def __new__(cls, content: str = "", **fields: Json) -> AgentResponse:
        unknown = [name for name in fields if name not in cls.__annotations__]
        if unknown:
            raise TypeError(f"AgentResponse has no field {unknown[0]!r}")
        answer = super().__new__(cls, content)
        answer.__dict__.update(fields)
        return answer

    @classmethod
    def of(cls, result: ResultMessage, new_messages: Sequence[Message]) -> AgentResponse:
        """The answer of a successful run, from its result and the messages it added."""
        said = [m for m in new_messages if isinstance(m, AssistantMessage)]
        last = said[-1] if said else AssistantMessage("")
        return cls(
            result.result or "",
            blocks=last.content,
            tool_calls=tuple([b for m in said for b in m.content if isinstance(b, ToolUseBlock)]),
            usage=result.usage,
            cost_usd=result.total_cost_usd,
            model=last.model,
            finish_reason=result.stop_reason,
            timings=result.timings,
            data=result.structured_output,
            attempts=result.attempts,
            session_id=result.session_id,
            num_turns=result.num_turns,
        )

    @property
    def content(self) -> str:
        """The text as a plain `str`."""
        return str.__str__(self)

    text = content

    @property
    def thinking(self) -> str:
        """All reasoning of the answer, joined; '' when the model showed none."""
        return "".join([b.thinking for b in self.blocks if isinstance(b, ThinkingBlock)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_response, (type(self), self.content, dict(self.__dict__))

    def _repr_markdown_(self) -> str:
        return self.content


def _rebuild_response(cls: type[AgentResponse], content: str, fields: dict[str, Json]) -> AgentResponse:
    answer = str.__new__(cls, content)
    answer.__dict__.update(fields)
    return answer
