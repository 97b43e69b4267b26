"""The last rung before giving up: ask once more, for this one tool, under a constraint the server enforces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeAlias

from ...errors import ProviderError, RequestRejectedError, TapeMismatchError
from ...protocols import Model
from ...types import (
    AssistantMessage,
    Attempt,
    CallReasked,
    Delta,
    ModelRequest,
    StreamEnd,
    TextBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
    text_of,
)
from ..canonical import fits
from ..streaming import Fold
from .lossless import DOUBT, UnclearError, fitted, parse_arguments

Reasked: TypeAlias = "tuple[AssistantMessage, Sequence[Any]]"
_NEWS = ("TextDelta", "ThinkingDelta", "ToolCallDelta", "StreamEnd")  # what is no news: it is the answer


async def asked_again(
    model: Model,
    request: ModelRequest,
    answer: AssistantMessage,
    *,
    is_wanted: bool | None = None,
    may_pay: Callable[[], Awaitable[Any]] | None = None,
    paid: Callable[[CallReasked], None] = lambda _: None,
) -> Reasked:
    """An answer whose first unreadable call was asked for once more, and what happened meanwhile (CallReasked last).

    The model that gave the answer is asked directly, without retry or fallback. What cannot be read then either, or
    does not fit the tool's schema, leaves the answer as it is. Raises no ProviderError.

    Args:
        model: as a run has it: a chain of models, each fitted to its window.
        request: the one that was answered.
        is_wanted: None: only where the server is known to hold answers to a schema.
        may_pay: gives an error when the budget is used up; None: there is no budget.
        paid: is told what the call took.
    """
    failed = next((one for one in answer.tool_calls if isinstance(one, ToolUseError) and _may_be_asked(one)), None)
    tool = next((one for one in request.tools if failed is not None and one.name == failed.name), None)
    if failed is None or tool is None or answer.finish_reason == "length":  # it would be cut again
        return answer, ()
    asker = _speaker(model, answer)
    ways = next((found for one in _layers(asker) if (found := getattr(one, "ways", None)) is not None), None)
    enforces = getattr(ways, "enforces_schema", None)
    if not (is_wanted or enforces or (is_wanted is None and _is_replayed(asker))):
        return answer, ()
    if may_pay is not None and await may_pay() is not None:
        return answer, ()
    asked = reask_request(request, failed, tool, enforces_schema=enforces is not False)
    fold, news, started, error = Fold(asked.tools), list[Delta](), perf_counter(), None
    try:
        async with aclosing(asker.stream(asked)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                fold.add(delta)
                if type(delta).__name__ not in _NEWS:
                    news.append(delta)
    except TapeMismatchError:  # when it was recorded, nobody asked again
        return answer, ()
    except ProviderError as caught:
        error = caught
    call = failed if error else read_reask(fold.message(), failed, tool)
    is_read = isinstance(call, ToolUseBlock) and _fits(call, tool)
    if ways is not None:
        if is_read:
            ways.keep("reask")
        elif isinstance(error, RequestRejectedError) or (not error and fold.message().finish_reason != "length"):
            ways.enforces_schema = False  # it does not, whatever was believed
    attempt = Attempt(asker.name, getattr(asker, "base_url", None), perf_counter() - started)
    if error:
        attempt = replace(attempt, error_type=type(error).__name__, error=str(error), status=error.status)
    end = fold.end or StreamEnd()
    told = CallReasked(
        failed.id, tool.name, failed.error, is_read, end.model or asker.name, end.usage, end.cost_usd, attempt
    )
    paid(told)
    return (with_call(answer, failed, call) if is_read else answer), (*news, told)


def _may_be_asked(failed: ToolUseError) -> bool:
    """It is clear that a call was meant, and which tool."""
    return bool(failed.name) and DOUBT not in failed.error


def _layers(model: Any) -> Iterator[Any]:
    """The model and what it wraps, down to the door."""
    while model is not None:
        yield model
        model = getattr(model, "__dict__", {}).get("inner")


def _speaker(model: Any, answer: AssistantMessage) -> Model:
    """The model of a chain that gave the answer, fitted to its window."""
    voting = getattr(model, "model", None)
    if hasattr(voting, "stream"):
        model = voting
    chain: Sequence[Model] = getattr(model, "models", None) or (model,)
    said = answer.attempt
    same = (one for one in chain if said and (one.name, getattr(one, "base_url", None)) == (said.model, said.base_url))
    return next(same, chain[0])


def _is_replayed(model: Model) -> bool:
    """The tape knows whether it was asked again."""
    from ..tape import ReplayModel

    return any(isinstance(one, ReplayModel) for one in _layers(model))


def _fits(call: ToolUseBlock, tool: ToolSpec) -> bool:
    return fits(tool.parameters)(call.input)


def reask_request(
    request: ModelRequest, failed: ToolUseError, tool: ToolSpec, *, enforces_schema: bool
) -> ModelRequest:
    """The same question once more, for the arguments of one tool only.

    Args:
        request: the one whose answer held the failed call.
        enforces_schema: the server holds answers to a `json_schema`; False: the tool is forced by `tool_choice`.
    """
    said = failed.raw_data or "(nothing)"
    told = (
        f"Your call of {tool.name} could not be read: {failed.error}. Nothing was run. You said:\n{said}\n\n"
        f"Say the arguments of {tool.name} once more"
    )
    if not enforces_schema:
        choice = {"type": "function", "function": {"name": tool.name}}
        messages = [*request.messages, AssistantMessage("(a tool call)"), UserMessage(f"{told}: call it again.")]
        return replace(request, messages=messages, tools=(tool,), tool_choice=choice)
    shape = {"name": "arguments", "strict": True, "schema": tool.parameters}
    params = {name: value for name, value in request.params.items() if name != "parallel_tool_calls"}
    params["response_format"] = {"type": "json_schema", "json_schema": shape}
    messages = [*request.messages, AssistantMessage("(a tool call)"), UserMessage(f"{told}, as one JSON object only.")]
    return replace(request, messages=messages, tools=(), tool_choice=None, params=params)


def read_reask(answer: AssistantMessage, failed: ToolUseError, tool: ToolSpec) -> ToolUseBlock | ToolUseError:
    """The answer to `reask_request` as the call it is; it keeps the id of the failed one.

    Returns:
        ToolUseError when it cannot be read without loss either, or calls another tool.
    """
    calls = answer.tool_calls
    if len(calls) == 1 and calls[0].name == tool.name:
        call = calls[0]
        if isinstance(call, ToolUseBlock):
            return ToolUseBlock(failed.id or call.id, tool.name, call.input)
        return replace(call, id=failed.id or call.id)
    if calls:
        return replace(failed, error=f"asked for {tool.name} alone, the model called something else")
    if answer.finish_reason == "length":
        return replace(failed, error="the repeated arguments were cut off by the token limit")
    text = text_of(answer).strip()
    try:
        value = parse_arguments(text)
    except UnclearError as error:
        return replace(failed, error=f"the repeated arguments cannot be read: {error}", raw_data=text)
    if isinstance(value, dict) and value.keys() == {"name", "arguments"} and value["name"] == tool.name:
        value = value["arguments"]
    if not isinstance(value, dict):
        return replace(failed, error="the repeated arguments are no JSON object", raw_data=text)
    return ToolUseBlock(failed.id, tool.name, fitted(value, tool.parameters))


def with_call(answer: AssistantMessage, failed: ToolUseError, call: ToolUseBlock | ToolUseError) -> AssistantMessage:
    """The answer with the failed call replaced."""
    blocks = tuple([call if block is failed else block for block in answer.content])
    return replace(answer, content=blocks or (TextBlock(""),))
