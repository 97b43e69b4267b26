"""The last rung before giving up: ask once more, for this one tool, under a constraint the server enforces."""

from __future__ import annotations

from dataclasses import replace

from ...types import (
    AssistantMessage,
    ModelRequest,
    TextBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
    text_of,
)
from .lossless import UnclearError, fitted, parse_arguments


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
