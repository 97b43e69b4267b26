"""Tools for models without any: told as text in the system prompt, called and answered as text in the history.

`Ways` is what one door has learned of its model. It is an object of the door: nothing is shared between agents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..errors import ProviderError, ToolsUnsupportedError
from ..types import (
    AssistantMessage,
    Block,
    Message,
    ModelRequest,
    SystemMessage,
    TextBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
    text_of,
)

ToolMode = Literal["auto", "native", "prompt"]

_INTRODUCTION = """\
You can call tools. These are their names, descriptions and JSON Schemas:
<tools>
{tools}
</tools>

To call one, answer with this and nothing after it:
<tool_call>
{{"name": "the name of the tool", "arguments": {{"the name of a parameter": "its value"}}}}
</tool_call>
For several calls write several such blocks. The results come back in <tool_response> blocks. Answer without a block
when you need no tool."""
# What servers say when a template or a flag keeps tools away.
_REFUSED = (
    r"--jinja|tools? (param|support|use|call\w*) .{0,40}(requires?|not supported|unsupported|disabled|not enabled)"
    r"|(does|do|did) ?n[o']t support .{0,20}(tool|function)|unsupported.{0,20}\b(tools?|functions?)\b"
    r"|enable-auto-tool-choice|tool-call-parser|only user(,| and) .{0,30}roles|unexpected (message )?role"
    r"|roles? must alternate|unknown role.{0,10}tool|role.{0,20}\btool\b.{0,20}(not|un)"
)


class Ways:
    """How tools reach one model: what was asked for, what was learned.

    Args:
        mode: `auto` tells tools natively and as text where the server refuses that; the others are fixed.
    """

    __slots__ = ("can_call_tools", "enforces_schema", "is_refused", "mode", "worked")

    def __init__(self, mode: ToolMode = "auto") -> None:
        self.mode = mode
        self.is_refused = False  # the server refused native tools once
        self.can_call_tools: bool | None = None  # what a probe of the server found; None: unknown
        self.enforces_schema: bool | None = None  # the same of `json_schema`, and what a re-ask met
        self.worked: dict[str, int] = {}  # calls by rung: native, prompt, or the dialect of a call found in text

    @property
    def is_emulated(self) -> bool:
        if self.mode == "auto":
            return self.is_refused or self.can_call_tools is False
        return self.mode == "prompt"

    @property
    def rung(self) -> str:
        """The way that last worked; '': none yet."""
        return next(reversed(self.worked), "")

    def asked(self, request: ModelRequest) -> ModelRequest:
        """The request as this model takes it."""
        return emulated(request) if self.is_emulated and needs_tools(request) else request

    def after_refusal(self, error: BaseException, request: ModelRequest) -> ModelRequest | None:
        """The request to send instead, once; None: the refusal has another cause, or tools are text already."""
        if self.mode != "auto" or self.is_emulated or not needs_tools(request) or not refuses_tools(error):
            return None
        self.is_refused = True
        return emulated(request)

    def note(self, dialect: str, *, has_native_calls: bool) -> None:
        """Remember how the calls of an answer came."""
        self.keep("native" if has_native_calls else "prompt" if dialect and self.is_emulated else dialect)

    def keep(self, rung: str) -> None:
        """Remember the rung that worked; '': none did."""
        if rung:
            self.worked[rung] = self.worked.pop(rung, 0) + 1


def needs_tools(request: ModelRequest) -> bool:
    """Tools are offered, or the history holds calls."""
    return bool(request.tools) or any(
        isinstance(message, ToolMessage) or (isinstance(message, AssistantMessage) and message.tool_calls)
        for message in request.messages
    )


def refuses_tools(error: BaseException) -> bool:
    """Whether a server's refusal is about tools, or about a history that holds them."""
    if isinstance(error, ToolsUnsupportedError):
        return True
    return (
        isinstance(error, ProviderError)
        and not error.delivered_chars
        and error.status in (400, 404, 422, 500, 501)
        and bool(re.search(_REFUSED, error.message, re.I | re.S))  # not our own advice
    )


def emulated(request: ModelRequest) -> ModelRequest:
    """The same request with tools, calls and results as text."""
    messages = [_as_text(message) for message in request.messages]
    told = instructions(request.tools, request.tool_choice)
    if told:
        first = messages[0] if messages else None
        if isinstance(first, SystemMessage):
            messages[0] = SystemMessage(f"{text_of(first)}\n\n{told}", pinned=first.pinned)
        else:
            messages.insert(0, SystemMessage(told))
    params = {name: value for name, value in request.params.items() if name != "parallel_tool_calls"}
    if told and params.get("stop") is None:
        params["stop"] = ["<tool_response>"]  # small models go on and invent the result
    return replace(request, messages=messages, tools=(), tool_choice=None, params=params)


def instructions(tools: Sequence[ToolSpec], tool_choice: Any = None) -> str:
    """The tools as text, and how to call one; '' when none may be called."""
    if not tools or tool_choice == "none":
        return ""
    shown = [
        json.dumps({"name": t.name, "description": t.description, "parameters": t.parameters}, ensure_ascii=False)
        for t in tools
    ]
    told = _INTRODUCTION.format(tools="\n".join(shown))
    if tool_choice == "required":
        return f"{told}\nYou must call a tool now."
    if isinstance(tool_choice, Mapping):
        name = (tool_choice.get("function") or {}).get("name")
        return f"{told}\nYou must call the tool {name} now."
    return told


def _as_text(message: Message) -> Message:
    if isinstance(message, ToolMessage):
        results = [_result(b) for b in message.content if isinstance(b, ToolResultBlock)]
        return UserMessage("\n".join(results), pinned=message.pinned)
    if isinstance(message, AssistantMessage) and message.tool_calls:
        blocks: list[Block] = []
        for block in message.content:
            if isinstance(block, (ToolUseBlock, ToolUseError)):
                before = "\n" if blocks and isinstance(blocks[-1], TextBlock) else ""
                blocks.append(TextBlock(before + _call(block)))
            else:
                blocks.append(block)
        return AssistantMessage(tuple(blocks), pinned=message.pinned)
    return message


def _call(block: ToolUseBlock | ToolUseError) -> str:
    if isinstance(block, ToolUseError):
        return f"<tool_call>\n{block.raw_data or block.name}\n</tool_call>"
    said = json.dumps({"name": block.name, "arguments": block.input}, ensure_ascii=False, default=str)
    return f"<tool_call>\n{said}\n</tool_call>"


def _result(block: ToolResultBlock) -> str:
    return f"<tool_response>\n{block.as_text()}\n</tool_response>"


class FunctionEmulator:
    """Tools for a bare prompt, without an agent: `TOOL: name` and `ARGS: {…}`."""

    def wrap_prompt_with_tools(self, prompt: str, tools: Sequence[Any]) -> str:
        """The prompt with the tools described before it.

        Args:
            tools: ToolSpecs, Tools, or OpenAI function dicts.
        """
        described = "\n".join([self._described(tool) for tool in tools])
        return (
            f"You have access to these tools:\n\n{described}\n\nTo use a tool, respond with:\nTOOL: tool_name\n"
            f"ARGS: {{json arguments}}\n\n{prompt}"
        )

    def parse_tool_call(self, response: str, tools: Sequence[Any] = ()) -> dict[str, Any] | None:
        """`{"name", "arguments"}` of the first call; None: there is none that can be read without loss.

        Args:
            tools: the same as in the prompt; with them every dialect is understood, without them only `TOOL:`.
        """
        from .recovery import Speech
        from .streaming import Fold

        specs = [_spec(tool) for tool in tools]
        if not specs:
            specs = [ToolSpec(name, "", {}) for name in re.findall(r"^\s*TOOL:[ \t]*([\w.:-]+)", response, re.M)]
        speech, fold = Speech(ModelRequest((), tuple(specs))), Fold(specs)
        for delta in [*speech.feed(response), *speech.flush()]:
            fold.add(delta)
        calls = [call for call in fold.message().tool_calls if isinstance(call, ToolUseBlock)]
        return {"name": calls[0].name, "arguments": calls[0].input} if calls else None

    def _described(self, tool: Any) -> str:
        spec = _spec(tool)
        schema = json.dumps(spec.parameters, ensure_ascii=False)
        return f"- {spec.name}: {spec.description}\n  parameters: {schema}"


def _spec(tool: Any) -> ToolSpec:
    if isinstance(tool, ToolSpec):
        return tool
    if isinstance(tool, Mapping):
        inner = tool.get("function", tool)
        return ToolSpec(str(inner["name"]), str(inner.get("description") or ""), dict(inner.get("parameters") or {}))
    return ToolSpec(tool.name, tool.description, tool.parameters)
