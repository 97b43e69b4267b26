"""The questions of the capability probe: what is asked, and what an answer or a refusal proves. See capabilities.py."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ...errors import (
    AnyAgentError,
    ContentPolicyError,
    ContextOverflowError,
    EmptyResponseError,
    InvalidResponseError,
    ModelLoadingError,
    ProviderTimeoutError,
    RequestRejectedError,
    ServerError,
    ToolsUnsupportedError,
)
from ...protocols import Model
from ...types import (
    AssistantMessage,
    ImageBlock,
    Message,
    ModelLoading,
    ModelRequest,
    TextBlock,
    ThinkingBlock,
    ToolCallDelta,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    UserMessage,
    text_of,
)
from ..openai_wire import DirectModel
from ..recovery.speech import FIRST_INDEX
from ..servers.shapes import ServedModel
from ..streaming import Fold
from .verdicts import MAX_NOTE_CHARS, UNKNOWN, Finding, Verdict

MAX_CALLS = 8
ANSWER_TOKENS, SHORT_TOKENS, THINKING_TOKENS = 128, 16, 1024

_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("get_weather", "Tells the weather in one city.", _CITY)
CLOCK = ToolSpec("get_time", "Tells the time in one city.", _CITY)
# Several, so that a weak model is not likely to hit the named one by chance.
_MANY = (
    WEATHER,
    CLOCK,
    *(ToolSpec(f"get_{what}", f"Tells the {what} in one city.", _CITY) for what in ("news", "traffic", "tides")),
)
# Nobody answers with this by chance: only a grammar, or a model that was shown the schema, gets there.
_KEY, _VALUE = "kq7", "zx81"
SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "probe",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {_KEY: {"type": "string", "enum": [_VALUE]}},
            "required": [_KEY],
            "additionalProperties": False,
        },
    },
}
_LATE_SYSTEM = [
    {"role": "user", "content": "Say hello."},
    {"role": "assistant", "content": "Hello."},
    {"role": "system", "content": f"From now on answer with the word {_VALUE} only."},
    {"role": "user", "content": "Say a word."},
]
_TWO_CITIES = UserMessage("What is the weather in Paris and in Rome? Call get_weather once for each city, at once.")
_ONE_CITY = UserMessage("What is the weather in Paris? Call get_weather.")
_TIME = UserMessage("What time is it in Paris? Call get_time.")
_HELLO = UserMessage("Say hello.")


class _Ended(Exception):
    """No further call makes sense."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What came of one call. `refusal`: why there is no answer; `was_broken`: that tells nothing about the question.

    `text_calls` are the names of calls that the door found in the text.
    """

    message: AssistantMessage | None = None
    text_calls: tuple[str, ...] = ()
    fragments: int = 0
    refusal: str = ""
    was_broken: bool = False

    @property
    def text(self) -> str:
        return text_of(self.message).strip() if self.message else ""

    @property
    def native_calls(self) -> tuple[str, ...]:
        return tuple([call.name for call in self.message.tool_calls]) if self.message else ()

    @property
    def calls(self) -> tuple[str, ...]:
        """The names of the tools called, in whatever way."""
        return self.native_calls + self.text_calls

    @property
    def was_cut(self) -> bool:
        return self.message is not None and self.message.finish_reason == "length"

    @property
    def has_thought(self) -> bool:
        return self.message is not None and any(isinstance(b, ThinkingBlock) for b in self.message.content)

    @property
    def is_of_schema(self) -> bool:
        try:
            return bool(json.loads(self.text) == {_KEY: _VALUE})
        except ValueError:
            return False

    def no(self, why: str) -> Finding:
        """The finding when what was asked for did not come; a cut answer proves nothing."""
        if self.refusal:
            return Finding(None if self.was_broken else False, self.refusal)
        if self.was_cut:
            return Finding(None, "the answer was cut off before it could show")
        said = f": {self.text[:40]!r}" if self.text else ""
        return Finding(False, f"{why}{said}")


class Probe:
    """One probe of one model; the arguments are those of `probe_capabilities`."""

    def __init__(
        self, model: Model, served: ServedModel | None, call_timeout_s: float, time_limit_s: float | None
    ) -> None:
        self.calls = 0
        self._model = model
        self._served = served
        self._call_timeout_s = call_timeout_s
        self._limit_s = time_limit_s
        self._deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._found: dict[str, Finding] = {}
        self._tokens, self._short_tokens = ANSWER_TOKENS, SHORT_TOKENS
        self._has_answered = False
        self._has_thought = False
        self._failures = 0  # server errors in a row: one may be a way to refuse, two are trouble
        self._call: tuple[str, ...] | None = None

    async def run(self) -> Verdict:
        # The most useful first: a limit of time may end it anywhere.
        questions: Sequence[Callable[[], Awaitable[None]]] = (
            self._ask_tools, self._ask_schema, self._ask_schema_beside_tools, self._ask_late_system,
            self._ask_required, self._ask_named, self._ask_image, self._ask_answer_after_call, self._confirm_named,
        )  # fmt: skip
        trouble = ""
        try:
            for question in questions:
                await question()
            if not self._has_answered:
                raise _Ended("no call was answered")
        except _Ended as end:
            trouble = str(end)
            if self._failures > 1 or not self._has_answered:
                self._found.clear()
        if self._has_answered:
            note = "" if self._has_thought else f"none came in {self.calls} calls"
            self._found["reasoning_field"] = Finding(self._has_thought, note)
        return Verdict(**self._found, calls=self.calls, trouble=trouble)

    # -------------------------------------------------------------- one call

    async def _ask(
        self,
        *messages: Message,
        tools: tuple[ToolSpec, ...] = (),
        tool_choice: Any = None,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        **params: Any,
    ) -> _Reply:
        if self.calls >= MAX_CALLS:
            return _Reply(refusal=f"not asked: {MAX_CALLS} calls are the limit", was_broken=True)
        left_s = None if self._deadline is None else self._deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise _Ended(self._cut_off)
        self.calls += 1
        sent = {"temperature": 0, "max_tokens": self._tokens, **params}
        request = ModelRequest(messages, tools, tool_choice, sent, extra_body, self._call_timeout_s)
        try:
            reply = await asyncio.wait_for(self._listen(request), left_s)
        except asyncio.TimeoutError:
            raise _Ended(self._cut_off) from None
        except (ToolsUnsupportedError, RequestRejectedError) as error:
            reply = _Reply(refusal=f"refused: {_said(error)}")
        except (EmptyResponseError, InvalidResponseError, ContextOverflowError, ContentPolicyError) as error:
            reply = _Reply(refusal=_said(error), was_broken=True)
        except ModelLoadingError as error:
            raise _Ended(_said(error)) from None
        except (ServerError, ProviderTimeoutError) as error:
            # Templates that cannot render a request end so; so do servers that break, and they do it twice.
            self._failures += 1
            if self._failures > 1:
                raise _Ended(_said(error)) from None
            is_late = isinstance(error, ProviderTimeoutError)
            return _Reply(refusal=f"the server failed on it: {_said(error)}", was_broken=is_late)
        except AnyAgentError as error:
            raise _Ended(_said(error)) from None
        self._failures = 0
        self._has_answered |= reply.message is not None
        self._has_thought |= reply.has_thought
        return reply

    @property
    def _cut_off(self) -> str:
        return f"cut off after {round(self._limit_s or 0, 1):g} s"

    async def _listen(self, request: ModelRequest) -> _Reply:
        fold, text_calls, fragments = Fold(), list[str](), 0
        async with aclosing(self._model.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                if isinstance(delta, ModelLoading):
                    raise _Ended("the server is loading the model")
                if isinstance(delta, ToolCallDelta):
                    if (delta.index or 0) >= FIRST_INDEX:
                        text_calls.append(delta.name or "")
                        continue
                    fragments += bool(delta.arguments)
                fold.add(delta)
        return _Reply(fold.message(), tuple(text_calls), fragments)

    # -------------------------------------------------------------- questions

    async def _ask_tools(self) -> None:
        asked: dict[str, Any] = {"tools": (WEATHER,), "parallel_tool_calls": True}
        reply = await self._ask(_TWO_CITIES, **asked)
        if reply.has_thought:
            self._tokens = self._short_tokens = THINKING_TOKENS
            if reply.was_cut and not reply.calls:
                reply = await self._ask(_TWO_CITIES, **asked)
        if reply.calls:
            self._see_calls(reply)
            count = len(reply.calls)
            note = f"{count} calls in one answer" if count > 1 else "one call where two were asked for"
            self._found["parallel_calls"] = Finding(count > 1, note)
        elif reply.refusal:
            self._found["native_tools"] = reply.no("")
        elif WEATHER.name in reply.text:
            self._found["native_tools"] = Finding(False, "the call came as text")
            self._found["text_calls"] = Finding(False, f"not to be read: {reply.text[:60]!r}")
        elif self._served is not None and self._served.has_tools is False:
            self._found["native_tools"] = Finding(False, "no call came, and the server says that it takes no tools")
        else:
            self._found["native_tools"] = Finding(None, "no call came where two were asked for")

    def _see_calls(self, reply: _Reply) -> None:
        if not reply.native_calls:
            if not self._value("native_tools"):
                self._found["native_tools"] = Finding(False, "the call came as text")
                self._found["text_calls"] = Finding(True)
            return
        self._found["native_tools"] = Finding(True)
        is_cut_up = reply.fragments > len(reply.native_calls)
        self._found["streamed_arguments"] = Finding(is_cut_up, "" if is_cut_up else "each call came whole")

    @property
    def _takes_tools(self) -> bool | None:
        return self._value("text_calls") or self._value("native_tools")

    def _value(self, name: str) -> bool | None:
        return self._found.get(name, UNKNOWN).value

    async def _ask_schema(self) -> None:
        reply = await self._ask(_HELLO, response_format=SCHEMA)
        self._found["json_schema"] = Finding(True) if reply.is_of_schema else reply.no("ignored")

    async def _ask_schema_beside_tools(self) -> None:
        """First half: does a call still come? The second is `_ask_answer_after_call`."""
        if not (self._takes_tools and self._value("json_schema")):
            missing = "the schema is not enforced alone" if self._takes_tools else "no tool calls"
            self._found["schema_beside_tools"] = Finding(None, f"not asked: {missing}")
            return
        reply = await self._ask(_ONE_CITY, tools=(WEATHER,), response_format=SCHEMA)
        if reply.calls:
            self._call = reply.native_calls or reply.text_calls
            finding = Finding(None, "a call came; the answer after it was not asked for")
        elif reply.is_of_schema:
            finding = Finding(False, "the schema keeps calls from coming")
        else:
            finding = reply.no("") if reply.refusal else Finding(None, "neither a call nor the schema came")
        self._found["schema_beside_tools"] = finding

    async def _ask_answer_after_call(self) -> None:
        if self._call is None:
            return
        calls = [ToolUseBlock(f"call_{n}", name, {"city": "Paris"}) for n, name in enumerate(self._call)]
        results = ToolMessage(tuple(ToolResultBlock(call.id, "Sunny, 21 degrees.") for call in calls))
        history = (_ONE_CITY, AssistantMessage(tuple(calls)), results)
        reply = await self._ask(*history, tools=(WEATHER,), response_format=SCHEMA)
        if reply.is_of_schema:
            finding = Finding(True)
        elif reply.calls:
            finding = Finding(None, "it called again where an answer was due")
        else:
            finding = reply.no("the schema is ignored when tools are given")
        self._found["schema_beside_tools"] = finding

    async def _ask_required(self) -> None:
        if self._takes_tools is False:
            self._found["required_choice"] = self._found["named_choice"] = Finding(None, "not asked: no tool calls")
            return
        reply = await self._ask(_HELLO, tools=(WEATHER,), tool_choice="required")
        if reply.calls:
            self._see_calls(reply)
        note = "" if reply.native_calls else "the call came as text"
        self._found["required_choice"] = Finding(True, note) if reply.calls else reply.no("ignored")

    async def _ask_named(self) -> None:
        if self._takes_tools is not False:
            self._found["named_choice"] = await self._named(CLOCK, _ONE_CITY)

    async def _confirm_named(self) -> None:
        """The other way round, where a call is left for it: a weak model may have taken the first one by chance."""
        if self._value("named_choice") and self.calls < MAX_CALLS:
            self._found["named_choice"] = await self._named(WEATHER, _TIME)

    async def _named(self, tool: ToolSpec, asked: UserMessage) -> Finding:
        choice = {"type": "function", "function": {"name": tool.name}}
        reply = await self._ask(asked, tools=_MANY, tool_choice=choice)
        if not reply.calls:
            return reply.no("ignored")
        is_named = set(reply.calls) == {tool.name}
        return Finding(is_named, "" if is_named else "ignored: another tool was called")

    async def _ask_late_system(self) -> None:
        if not isinstance(self._model, DirectModel):
            self._found["late_system"] = Finding(None, "not asked: LiteLLM writes the messages in its own way")
            return
        # Past the door's own messages: they never have a late system message.
        reply = await self._ask(_HELLO, extra_body={"messages": _LATE_SYSTEM}, max_tokens=self._short_tokens)
        if reply.message is None:
            self._found["late_system"] = reply.no("")
        else:
            note = "" if _VALUE in reply.text.lower() else "accepted; not seen to be heeded"
            self._found["late_system"] = Finding(True, note)

    async def _ask_image(self) -> None:
        if self._served is not None and self._served.has_vision is not None:
            self._found["images"] = Finding(self._served.has_vision, "the server says so")
            return
        asked = UserMessage((TextBlock("Which colour is this picture? One word."), ImageBlock(_red_picture())))
        reply = await self._ask(asked, max_tokens=self._short_tokens)
        if reply.message is None:
            self._found["images"] = reply.no("")
        else:
            is_seen = "red" in reply.text.lower()
            self._found["images"] = Finding(is_seen or None, "" if is_seen else "accepted; not shown to be seen")


def _said(error: AnyAgentError) -> str:
    """What the server said, on one line, without the place in front."""
    line = error.message.strip().partition("\n")[0]
    return line.split(": ", 1)[-1][: MAX_NOTE_CHARS - 30].rstrip(": ")


def _red_picture() -> str:
    """A red square as a data URL; some models want a picture of at least 28 pixels."""
    import base64
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 56
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff\0\0" * side) * side)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
