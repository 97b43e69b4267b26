"""One run's try to get an Output: the loop shows it every request and every last word of the model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import OutputError, ProviderError, ToolExecutionError
from ..models.recovery.lossless import UnclearError, parse_arguments
from ..tools import Tool, ToolResult
from ..types import Json, Message, ModelRequest, text_of
from .shape import Output, dumped, why

FINAL_TOOL = "final_answer"
_ASKED = "answer with one JSON value that fits this JSON Schema and nothing else, no explanation, no code fence:"
_BY_TOOL = "give your answer by calling the tool {name}, not as text."
_AGAIN = "That answer does not fit: {reason}\nAnswer again with the whole JSON value alone, fitting this JSON Schema:\n"
_IS_ABOUT_SCHEMA = re.compile(r"response_?format|json_?schema|structured.?output|grammar|schema", re.I)


@dataclass(frozen=True, slots=True)
class Way:
    """How a run asks for it. `beside_tools`: the schema may stand in a request that has tools."""

    mode: Literal["schema", "tool", "prompt"]
    beside_tools: bool = False
    requires_call: bool = False


class Asked:
    """One run's try to get an Output. `data` is the value; `error` says that there will be none.

    Args:
        read: makes the value of a text (`Agent.parse_output`).
        validator: the user's last word; refuses by ValueError.
        retries: how often the model is asked again.
        refused: called when the server refuses schemas.
    """

    def __init__(
        self,
        output: Output,
        way: Way,
        read: Callable[[str, Output], Any],
        validator: Callable[[Any], Any] | None = None,
        retries: int = 2,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.output, self.way = output, way
        self.data: Any = None
        self.error: OutputError | None = None
        self._read, self._validator, self._retries, self._refused = read, validator, retries, refused
        self._reasons: list[str] = []
        self._waits = False  # tools are offered, so the schema waits for the last turn
        self._is_last_turn = self._is_sent = self._was_refused = False
        self._is_taken = False  # by the final tool

    def instruction(self, tool_name: str | None, *, has_tools: bool) -> str:
        """What the system prompt says of it."""
        told = _BY_TOOL.format(name=tool_name) if tool_name else f"{_ASKED}\n{dumped(self.output.schema)}"
        return f"When you need no tool any more, {told}" if has_tools else told[0].upper() + told[1:]

    def tool(self, name: str) -> Tool:
        """The tool that takes the answer and ends the run."""
        return _FinalTool(self, name)

    def fitted(self, request: ModelRequest) -> ModelRequest:
        """The request of one turn, with what holds the answer to the schema."""
        self._is_sent = False
        if self.way.mode == "tool" and self.way.requires_call and len(request.tools) == 1 and not request.tool_choice:
            return replace(request, tool_choice="required")
        if self.way.mode != "schema" or "response_format" in {**request.params, **request.extra_body}:
            return request
        offers_tools = bool(request.tools) and request.tool_choice != "none"
        self._waits = offers_tools and not self.way.beside_tools
        if self._waits and not self._is_last_turn:
            return request
        self._is_sent = True
        params = {**request.params, "response_format": self.output.response_format}
        if not self._waits:
            return replace(request, params=params)
        params.pop("parallel_tool_calls", None)
        return replace(request, params=params, tools=(), tool_choice=None)

    def goes_without(self, refusal: ProviderError) -> bool:
        """Whether the request may be repeated without the schema, which the server refused."""
        kinds = {type(refusal).__name__, *[str(one.error_type) for one in refusal.attempts]}
        is_refused = "RequestRejectedError" in kinds
        is_refused |= "ServerError" in kinds and _IS_ABOUT_SCHEMA.search(str(refusal)) is not None
        if not self._is_sent or refusal.delivered_chars or not is_refused:
            return False
        self.way, self._was_refused = Way("prompt"), True
        return True

    async def judged(self, message: Message, result: str | None = None, *, may_ask: bool) -> str | None:
        """None when the model's last word is the answer, or nothing helps any more; else what it is told.

        Args:
            result: of a tool that ended the run, in place of the model's word.
        """
        if self._was_refused:
            self._refused()
        if self._is_taken:
            return None
        text = text_of(message) if result is None else result
        has_read, is_cut = False, getattr(message, "finish_reason", None) == "length"
        try:
            value = await self._value(text.strip(), is_cut=is_cut)
            has_read = True
            self._accept(await self._checked(value))
            return None
        except (ValueError, AssertionError) as problem:
            reason = why(problem)
        is_free = self._waits and not self._is_last_turn and not has_read and may_ask
        if not has_read:  # one that was read and then refused may need the tools again
            self._is_last_turn = True
        if not is_free and not self._may_repeat(reason, text, may_ask=may_ask):
            return None
        return f"{_AGAIN.format(reason=reason)}{dumped(self.output.schema)}"

    async def called(self, arguments: Mapping[str, Json], tool_name: str) -> ToolResult:
        """What the final tool answers."""
        text = dumped(arguments)
        try:
            self._accept(await self._checked(self.output.of_json(text)))
        except (ValueError, AssertionError) as problem:
            if self._may_repeat(why(problem), text):
                raise ToolExecutionError(f"{why(problem)}. Call {tool_name} again.", tool_name=tool_name) from None
        self._is_taken = True
        return ToolResult(True, arguments, ends_run=True)

    async def _value(self, text: str, *, is_cut: bool) -> Any:
        if is_cut:
            try:
                parse_arguments(text)
            except UnclearError:
                raise ValueError("it was cut off by the token limit; answer more briefly") from None
        value = self._read(text, self.output)
        return await value if inspect.isawaitable(value) else value

    async def _checked(self, value: Any) -> Any:
        if self._validator is None:
            return value
        better = self._validator(value)
        better = await better if inspect.isawaitable(better) else better
        if isinstance(better, bool) and not isinstance(value, bool):  # it says whether, not what
            if not better:
                raise ValueError("it was checked and refused")
            return value
        return value if better is None else better

    def _accept(self, value: Any) -> None:
        self.data, self.error, self._reasons = value, None, []

    def _may_repeat(self, reason: str, text: str, *, may_ask: bool = True) -> bool:
        self._reasons.append(reason)
        if may_ask and len(self._reasons) <= self._retries:
            return True
        times = f"{len(self._reasons)} answers" if len(self._reasons) > 1 else "the answer"
        limit = "" if may_ask else " (no turn is left to ask again)"
        told = f"{times} did not fit {self.output.name}{limit}; last: {reason}\n  fix: {OutputError.next_step}"
        self.error = OutputError(told, text=text, reasons=tuple(self._reasons))
        return False


class _FinalTool(Tool):
    """Takes the answer. It checks by itself, so that every refusal counts."""

    def __init__(self, asked: Asked, name: str) -> None:
        async def take(args: dict[str, Any]) -> ToolResult:
            return await asked.called(args, name)

        told, schema = "Gives the final answer.", asked.output.schema
        super().__init__(name, told, schema, take, is_read_only=True, may_repeat=True, ends_run=True)

    def validate(self, arguments: Mapping[str, Json]) -> dict[str, Json]:
        return dict(arguments)
