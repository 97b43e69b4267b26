"""A tap on what LiteLLM reads, because it hides how a stream really ended.

It invents `stop` and the usage when the server sent none, and drops lines that it cannot parse.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any

from ...errors import ContentPolicyError, InvalidResponseError, ProviderError
from .. import failures
from ..failures import Where
from ..openai_answer import Answer
from ..openai_wire import DRAIN_S
from ..sse import SseReader


class Patience:
    """Ends an await after `timeout_s` of silence. One timer serves a whole stream; `heard()` starts it anew."""

    __slots__ = ("_cancels", "_deadline", "_loop", "_task", "_timer", "has_expired", "has_token", "timeout_s")

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.has_expired = False
        self.has_token = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._deadline = 0.0
        self._cancels = 0

    def start(self) -> None:
        """The current task waits from now on."""
        if self.timeout_s is None:
            return
        self._task = task = asyncio.current_task(self._loop)
        if sys.version_info >= (3, 11) and task is not None:
            self._cancels = task.cancelling()
        self._deadline = self._loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check)

    def heard(self) -> None:
        """The server gave a sign of life."""
        if self.timeout_s is not None:
            self._deadline = self._loop.time() + self.timeout_s

    def expect_within(self, timeout_s: float | None) -> None:
        """The first token has come: from now on silence may last so long. Not while a task waits."""
        self.has_token = True
        if timeout_s != self.timeout_s:
            self.close()
            self.timeout_s, self._timer = timeout_s, None

    def hurry(self, time_s: float) -> None:
        """Wait so long at most, from now on."""
        self.close()
        self._task = asyncio.current_task(self._loop)
        self._deadline = self._loop.time() + time_s
        self._timer = self._loop.call_at(self._deadline, self._check)

    def stop(self) -> None:
        """The wait is over."""
        self._task = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
        else:
            self.has_expired = True
            self._task.cancel()

    def is_own(self) -> bool:
        """Whether a CancelledError came from here alone."""
        if not self.has_expired:
            return False
        task = asyncio.current_task()
        if sys.version_info >= (3, 11) and task is not None:
            return task.uncancel() <= self._cancels
        return True


# LiteLLM takes no arguments but a text, an object or null, and no id but a text: it gives up the whole answer.
_ODD_CALL = re.compile(r'"arguments"\s*:\s*[^"{n\s]|"id"\s*:\s*\d|"function"\s*:\s*null')


def _with_plain_calls(data: str) -> str:
    """An event whose tool calls have only texts; what they say is judged where all calls are."""
    event = json.loads(data)
    for choice in event.get("choices") or ():
        for call in (choice.get("delta") or {}).get("tool_calls") or ():
            call["function"] = function = call.get("function") or {}
            if isinstance(call.get("id"), int):
                call["id"] = str(call["id"])
            if not isinstance(function.get("arguments"), (str, dict, type(None))):
                function["arguments"] = json.dumps(function["arguments"])
    return json.dumps(event)


class Tap:
    """Sits between the provider's stream and LiteLLM.

    Attributes: fault (what the wire said was wrong), answer (the judge of an OpenAI wire; None: another protocol),
    body (the whole answer, when it was no event stream), has_end and has_usage (the server itself sent them).
    """

    def __init__(self, where: Where, patience: Patience) -> None:
        self.where = where
        self.patience = patience
        self.fault: ProviderError | None = None
        self.answer: Answer | None = None
        self.body: bytes | None = None
        self.has_end = False
        self.has_usage = False
        self.is_blind = True  # a stream that cannot be watched
        self.has_begun = False  # the server answered with a stream
        self.model = ""
        self.content_type = ""
        self.usage: Any = None  # whole, where one chunk tells all of it
        self._is_end_told = True  # a finish_reason means the end
        self._is_openai_client = False

    @property
    def is_done(self) -> bool:
        """The server said [DONE]; nothing that follows matters."""
        return self.answer is not None and self.answer.is_done

    def attach(self, wrapper: Any) -> None:
        """Put the tap into a CustomStreamWrapper that has not been read yet."""
        items, ask = getattr(wrapper, "completion_stream", None), getattr(wrapper, "make_call", None)
        if items is None and ask is not None:  # Gemini is asked at the first chunk

            async def ask_tapped(*args: Any, **kwargs: Any) -> Any:
                return self._over(await ask(*args, **kwargs))

            wrapper.make_call = ask_tapped
        elif hasattr(items, "__aiter__"):
            wrapper.completion_stream = self._over(items)

    def _over(self, items: Any) -> _Tapped:
        self.is_blind, self.has_begun = False, True
        headers = getattr(getattr(items, "response", None), "headers", None)
        self._is_openai_client = headers is not None
        self.content_type = str((headers or {}).get("content-type", ""))
        lines: Any = getattr(items, "streaming_response", None)
        if hasattr(lines, "__aiter__"):
            wire = _wire_of(items.__class__)
            if wire == "gemini":
                self._is_end_told = False
                items.streaming_response = self._gemini(lines)
            elif wire == "ollama":
                items.streaming_response = self._json_lines(_bytes_of(items, lines))
            elif wire == "openai":
                items.streaming_response = self._events(_bytes_of(items, lines))
            else:
                items.streaming_response = self._lines(lines)
        return _Tapped(items, self)

    def _fail(self, kind: type[ProviderError], message: str) -> None:
        self.fault = self.where.error(kind, message)
        raise self.fault

    async def _lines(self, lines: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for line in lines:
            self.patience.heard()
            yield line

    async def _gemini(self, lines: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """LiteLLM gives each of Gemini's chunks a finish_reason."""
        async for line in lines:
            self.patience.heard()
            if '"finishReason"' in line:
                self.has_end = True
            elif '"blockReason"' in line:
                self._fail(ContentPolicyError, f"the prompt was blocked: {line[:300]}")
            yield line

    async def _events(self, parts: AsyncGenerator[bytes, None]) -> AsyncIterator[str]:
        """An OpenAI event stream, one whole event a line, as LiteLLM wants it."""
        self.answer = answer = Answer(self.where)
        reader = SseReader()
        async with aclosing(parts):
            async for part in parts:
                self.patience.heard()
                for event in reader.feed(part):
                    yield self._judged(answer, event)
                if answer.is_done:
                    self.patience.hurry(DRAIN_S)  # to the end of the body, so that the connection can be used again
                    async for _ in parts:
                        pass
                    return
        for event in reader.end():
            yield self._judged(answer, event)
        self.body = reader.whole_body()

    def _judged(self, answer: Answer, event: tuple[bytes, bytes]) -> str:
        try:
            answer.take(event)
        except ProviderError as error:
            self.fault = error
            raise
        data = event[1].decode("utf-8", "replace")
        if '"tool_calls"' in data and _ODD_CALL.search(data):
            data = _with_plain_calls(data)
        # LiteLLM 1.104 takes "[DONE]" anywhere in a line for the end and drops the text around it.
        return f"data: {data}" if answer.is_done else "data: " + data.replace("[DONE]", "\\u005bDONE]")

    async def _json_lines(self, parts: AsyncGenerator[bytes, None]) -> AsyncIterator[str]:
        """Ollama's lines. Tags are cut in two: LiteLLM looks for whole ones and loses them at chunk borders."""
        rest = b""
        async with aclosing(parts):
            async for part in parts:
                self.patience.heard()
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    for text in self._ollama(line):
                        yield text
        for text in self._ollama(rest):
            yield text

    def _ollama(self, line: bytes) -> list[str]:
        if not line.strip():
            return []
        try:
            said = json.loads(line.decode())
        except ValueError:
            self._fail(InvalidResponseError, f"a line is no JSON: {line[:200]!r}")
        if not isinstance(said, dict):
            self._fail(InvalidResponseError, f"a line is no JSON object: {line[:200]!r}")
        if said.get("error"):
            self.fault = failures.from_answer(self.where, 200, said, in_stream=True)
            raise self.fault
        message = said.get("message")
        if not isinstance(message, dict):
            self._fail(InvalidResponseError, f"a line has no message: {line[:200]!r}")
        pieces = re.split(r"(?<=<)(?=/?think)", message.get("content") or "")
        if len(pieces) == 1:
            return [line.decode()]
        head = {"model": said.get("model") or "", "done": False}
        texts = [json.dumps({**head, "message": {"role": "assistant", "content": piece}}) for piece in pieces[:-1]]
        return [*texts, json.dumps({**said, "message": {**message, "content": pieces[-1]}})]

    def look(self, item: Any) -> None:
        """See one chunk before LiteLLM does."""
        self.patience.heard()
        if item is None:
            return
        if isinstance(item, dict):
            self.has_end = self.has_end or bool(item.get("is_finished") or item.get("finish_reason"))
            self._see_usage(item.get("usage"))
            return
        fields = fields_of(item)
        if "choices" not in fields:
            self.is_blind = True
            return
        self.model = self.model or fields.get("model") or ""
        if fields.get("usage") is not None:
            self._see_usage(fields["usage"])
        for choice in fields["choices"]:
            if choice.finish_reason and self._is_end_told:
                self.has_end = True
            calls = fields_of(choice.delta).get("tool_calls") if choice.delta is not None else None
            for call in calls or ():
                # LiteLLM makes a string of an object as well, with a warning from pydantic
                if call.function is not None and call.function.arguments.__class__ is dict:
                    call.function.arguments = json.dumps(call.function.arguments)

    def _see_usage(self, usage: Any) -> None:
        told = usage if isinstance(usage, dict) else fields_of(usage)
        if told.get("prompt_tokens") or told.get("completion_tokens"):  # zeros mean unknown, and LiteLLM guesses
            self.has_usage = True
            if self._is_openai_client:
                self.usage = usage


def fields_of(thing: Any) -> Mapping[str, Any]:
    """The fields of a pydantic object, also undeclared ones; asking it for one it has not costs many calls."""
    fields: dict[str, Any] = getattr(thing, "__dict__", None) or {}
    try:
        extra = thing.__pydantic_extra__
    except AttributeError:
        return fields
    return {**fields, **extra} if extra else fields


@lru_cache(maxsize=64)
def _wire_of(kind: type) -> str:
    """Which protocol a LiteLLM iterator reads: openai, ollama, gemini, or '' for another."""
    if "vertex_and_google_ai_studio_gemini" in kind.__module__:
        return "gemini"
    names = [base.__name__ for base in kind.__mro__]
    if any("Ollama" in name for name in names):
        return "ollama"
    ends = ("ChatCompletionStreamingHandler", "MistralChatResponseIterator")
    return "openai" if any(name.endswith(ends) for name in names) else ""


class _Tapped:
    """A provider's stream with a tap on it."""

    def __init__(self, items: Any, tap: Tap) -> None:
        self._items = items
        self._iterator: Any = None
        self._tap = tap

    def __aiter__(self) -> _Tapped:
        if self._iterator is None:
            self._iterator = self._items.__aiter__()
        return self

    async def __anext__(self) -> Any:
        item = await self._iterator.__anext__()
        self._tap.look(item)
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._items, name)

    async def aclose(self) -> None:
        close = getattr(self._items, "aclose", None) or getattr(self._items, "close", None)
        if close is not None:
            await close()
        close = getattr(getattr(self._items, "streaming_response", None), "aclose", None)
        if close is not None:
            await close()


async def _bytes_of(items: Any, lines: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    response = getattr(items, "http_response", None)
    if response is not None:  # unread so far: LiteLLM's lines would be cut at U+2028 and the like
        async for part in response.aiter_bytes():
            yield part
    else:
        async for line in lines:
            yield line.encode() + b"\n" if isinstance(line, str) else line + b"\n"
