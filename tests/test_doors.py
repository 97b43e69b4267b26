"""One conformance suite for both doors: strange wire bytes give the right answer or one typed error, whichever door is used.

Never a hang, never a silent empty answer, never a cut answer passed as whole.
"""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from any_agent.errors import (
    AuthenticationError,
    ConfigurationError,
    ContextOverflowError,
    EmptyResponseError,
    InvalidResponseError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
    StreamInterruptedError,
    ToolsUnsupportedError,
)
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.streaming import Fold
from any_agent.protocols import Model
from any_agent.testing.loopback import LoopbackServer
from any_agent.testing.wire_bytes import (
    EVENT_STREAM,
    WireCall,
    WireReply,
    chat_chunks,
    chat_completion,
    error,
    error_body,
    recut,
    sse,
    sse_event,
    token_usage,
)
from any_agent.types import (
    AssistantMessage,
    Delta,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    Usage,
    UserMessage,
    text_of,
)

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

KEY = "sk-test-0123456789"
PATH = "/v1/chat/completions"
USAGE = token_usage(7, 3, 2)
DOORS: dict[str, Callable[[str], Model]] = {
    "direct": lambda url: DirectModel("tiny", url, provider="vllm", api_key=KEY),
    "litellm": lambda url: LiteLLMModel("tiny", provider="vllm", base_url=url, api_key=KEY),
    # LiteLLM's routes over the openai client: no one sees the bytes there, so some errors are told less exactly
    "litellm-sdk": lambda url: LiteLLMModel("tiny", provider="lm_studio", base_url=url, api_key=KEY),
}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Any:
    with LoopbackServer() as server:
        yield server


def ask(**more: Any) -> ModelRequest:
    return ModelRequest([UserMessage("hi")], **{"timeout_s": 5.0, **more})


async def deltas_of(model: Model, request: ModelRequest) -> AsyncIterator[Delta]:
    try:
        async with aclosing(model.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                yield delta
    finally:
        await model.aclose()


async def answer(model: Model, request: ModelRequest | None = None) -> tuple[AssistantMessage, list[Delta]]:
    fold, deltas = Fold(), []
    async for delta in deltas_of(model, request or ask()):
        fold.add(delta)
        deltas.append(delta)
    return fold.message(), deltas


def calls_of(message: AssistantMessage) -> list[tuple[str, Any]]:
    return [(c.name, c.input if isinstance(c, ToolUseBlock) else type(c)) for c in message.tool_calls]


def stream(*pieces: str, **more: Any) -> list[dict[str, Any]]:
    return chat_chunks(pieces, **more)


def cut(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the chunk that has the finish_reason."""
    return [c for c in chunks if not any(choice["finish_reason"] for choice in c["choices"])]


def finish_on_content(text: str) -> list[dict[str, Any]]:
    chunks = cut(stream(text))
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    return chunks


def with_usage_on_finish(text: str) -> list[dict[str, Any]]:
    chunks = stream(text)
    chunks[-1]["usage"] = USAGE
    return chunks


# ------------------------------------------------------------------ whole answers


@dataclass(frozen=True)
class Whole:
    """A wire that is an answer."""

    reply: Any
    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str | None = "stop"
    usage: Usage | None = None
    on_sdk: type[ProviderError] | None = None  # what the openai client's routes make of it instead


ONE = WireCall("f", '{"a": 1}', "c1")
TOLD = Usage(7, 3, 2)
WHOLE = {
    "plain": Whole(sse(stream("Hel", "lo", usage=USAGE)), "Hello", usage=TOLD),
    "no usage": Whole(sse(stream("Hello")), "Hello"),
    "usage of zeros": Whole(sse(stream("Hello", usage=token_usage(0, 0))), "Hello"),
    "usage on the finish chunk": Whole(sse(with_usage_on_finish("Hello")), "Hello", usage=TOLD),
    "one byte a piece": Whole(recut(sse(stream("Hé", "llo", usage=USAGE)), 1), "Héllo", usage=TOLD),
    "three bytes a piece, CRLF, comments": Whole(
        recut(sse(stream("Hé", "llo", usage=USAGE), newline="\r\n", comments=["a", "b", "c"]), 3), "Héllo", usage=TOLD
    ),
    "all in one piece": Whole([b"".join(sse(stream("Hel", "lo", usage=USAGE)))], "Hello", usage=TOLD),
    "CR line ends": Whole(sse(stream("Hel", "lo"), newline="\r"), "Hello"),
    "byte order mark": Whole([b"\xef\xbb\xbf", *sse(stream("Hello"))], "Hello"),
    "no space after data:": Whole([e.replace(b"data: ", b"data:") for e in sse(stream("Hel", "lo"))], "Hello"),
    "an event over several data lines": Whole(
        [sse_event(json.dumps(c, indent=1)) for c in stream("Hel", "lo")] + sse([]), "Hello"
    ),
    "named events and ids": Whole(
        [b"id: 1\nevent: message\nretry: 5\n" + e for e in sse(stream("Hel", "lo"))], "Hello"
    ),
    "no [DONE]": Whole(sse(stream("Hello"), done=False), "Hello"),
    # LiteLLM's sdk route does not see [DONE]
    "[DONE] without finish_reason": Whole(
        sse(cut(stream("Hello"))), "Hello", finish=None, on_sdk=StreamInterruptedError
    ),
    "finish_reason on the last content": Whole(sse(finish_on_content("Hello")), "Hello"),
    # the openai client drops an event without the blank line after it
    "no blank line after the last event": Whole(
        [b"".join(sse(stream("Hello"), done=False)).rstrip(b"\n")], "Hello", on_sdk=StreamInterruptedError
    ),
    "length": Whole(sse(stream("Hel", finish_reason="length")), "Hel", finish="length"),
    "says [DONE] itself": Whole(sse(stream("say [DONE] now", " ok")), "say [DONE] now ok"),
    "line separators in the text": Whole(sse(stream("a\u2028b\x85c\u2029d")), "a\u2028b\x85c\u2029d"),
    "emoji over a border": Whole(recut(sse(stream("a🙂b")), 7), "a🙂b"),
    # LiteLLM's sdk route reads a JSON body as a stream without chunks, and the answer is lost
    "JSON instead of a stream": Whole(
        chat_completion("Hello", usage=USAGE), "Hello", usage=TOLD, on_sdk=InvalidResponseError
    ),
    "JSON with a call instead of a stream": Whole(
        chat_completion(None, tool_calls=[ONE]),
        calls=[("f", {"a": 1})],
        finish="tool_calls",
        on_sdk=InvalidResponseError,
    ),
    "empty choices between": Whole(sse([{**stream()[0], "choices": []}, *stream("Hello")]), "Hello"),
    "<think> over borders": Whole(sse(stream("<th", "ink>hm", "m</t", "hink>\n\n", "yes")), "yes", "hmm"),
    "<think> in the middle is text": Whole(sse(stream("a <think>b</think> c")), "a <think>b</think> c"),
    "reasoning_content": Whole(sse(stream("yes", reasoning=["hm", "m"])), "yes", "hmm"),
    "reasoning": Whole(sse(stream("yes", reasoning=["hm", "m"], reasoning_key="reasoning")), "yes", "hmm"),
    "only reasoning": Whole(sse(stream(reasoning=["hmm"])), "", "hmm"),
    "one call": Whole(
        sse(stream(tool_calls=[ONE], usage=USAGE)), calls=[("f", {"a": 1})], finish="tool_calls", usage=TOLD
    ),
    "one call with finish_reason stop": Whole(
        sse(stream(tool_calls=[ONE], finish_reason="stop")), calls=[("f", {"a": 1})]
    ),
    "text and a call": Whole(sse(stream("so:", tool_calls=[ONE])), "so:", calls=[("f", {"a": 1})], finish="tool_calls"),
    "a call in pieces": Whole(
        sse(stream(tool_calls=[WireCall("f", ["{", '"a"', ": 1", "}"], "c1")])),
        calls=[("f", {"a": 1})],
        finish="tool_calls",
    ),
    "parallel calls": Whole(
        sse(stream(tool_calls=[ONE, WireCall("g", ['{"b":', "2}"], "c2", 1)])),
        calls=[("f", {"a": 1}), ("g", {"b": 2})],
        finish="tool_calls",
    ),
    "parallel calls, all of index 0": Whole(
        sse(stream(tool_calls=[ONE, WireCall("g", ['{"b":', "2}"], "c2", 0)])),
        calls=[("f", {"a": 1}), ("g", {"b": 2})],
        finish="tool_calls",
    ),
    "a gap in the indices": Whole(
        sse(stream(tool_calls=[WireCall("f", '{"a": 1}', "c1", 3), WireCall("g", '{"b": 2}', "c2", 7)])),
        calls=[("f", {"a": 1}), ("g", {"b": 2})],
        finish="tool_calls",
    ),
    "no ids": Whole(
        sse(stream(tool_calls=[WireCall("f", '{"a": 1}', None, 0), WireCall("g", ['{"b":', "2}"], None, 1)])),
        calls=[("f", {"a": 1}), ("g", {"b": 2})],
        finish="tool_calls",
    ),
    "no ids, no indices": Whole(
        sse(stream(tool_calls=[WireCall("f", '{"a": 1}', None, None), WireCall("g", '{"b": 2}', None, None)])),
        calls=[("f", {"a": 1}), ("g", {"b": 2})],
        finish="tool_calls",
    ),
    "empty ids": Whole(
        sse(stream(tool_calls=[WireCall("f", '{"a": 1}', "", 0)])), calls=[("f", {"a": 1})], finish="tool_calls"
    ),
    "arguments as an object": Whole(
        sse(stream(tool_calls=[WireCall("f", {"a": {"b": [1]}}, "c1")])),
        calls=[("f", {"a": {"b": [1]}})],
        finish="tool_calls",
    ),
    "empty arguments": Whole(sse(stream(tool_calls=[WireCall("f", "", "c1")])), calls=[("f", {})], finish="tool_calls"),
    "arguments cut by the limit": Whole(
        sse(stream(tool_calls=[WireCall("f", '{"a": ', "c1")], finish_reason="length")),
        calls=[("f", ToolUseError)],
        finish="length",
    ),
    "arguments that are no object": Whole(
        sse(stream(tool_calls=[WireCall("f", "true", "c1")])), calls=[("f", ToolUseError)], finish="tool_calls"
    ),
    "plain text content type": Whole(WireReply(sse(stream("Hello")), headers={"Content-Type": "text/plain"}), "Hello"),
    "body ended by closing": Whole(WireReply(sse(stream("Hello")), headers=EVENT_STREAM, framing="close"), "Hello"),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer(door: str, name: str, server: LoopbackServer) -> None:
    case = WHOLE[name]
    server.reply(PATH, case.reply)
    model = DOORS[door](server.base_url)
    if door == "litellm-sdk" and case.on_sdk is not None:
        with pytest.raises(case.on_sdk) as caught:
            await answer(model)
        assert type(caught.value) is case.on_sdk
        return
    message, deltas = await answer(model)
    thinking = "".join(b.thinking for b in message.content if b.type == "thinking")
    assert (text_of(message), thinking, calls_of(message)) == (case.text, case.thinking, case.calls)
    # which finish_reason LiteLLM's sdk route invents differs by its version; the loop never decides by it
    assert message.finish_reason == case.finish or door == "litellm-sdk"
    assert message.usage == case.usage
    assert message.cost_usd is None  # nobody knows what a local server costs
    assert message.model == "tiny"
    assert [type(d) for d in deltas].count(StreamEnd) == 1
    assert isinstance(deltas[-1], StreamEnd)
    assert len({c.id for c in message.tool_calls if c.id}) == len(message.tool_calls)


# ------------------------------------------------------------------ broken answers


@dataclass(frozen=True)
class Broken:
    """A wire that is none: `kind` is the error, `sdk_kind` where the openai client hides more."""

    reply: Any
    kind: type[ProviderError]
    sdk_kind: type[ProviderError] | None = None
    delivered: int = 0
    retryable: bool | None = None
    shown: str = ""


OVERFLOW = "Input does not fit in context length. The input has 31430 tokens, but the context length only supports 30000 tokens."
STREAM = dict(EVENT_STREAM)
BROKEN = {
    "ends without its end": Broken(sse(cut(stream("Hel", "lo")), done=False), StreamInterruptedError, delivered=5),
    "nothing at all": Broken(WireReply((b"",), headers=STREAM), StreamInterruptedError, retryable=True),
    # the sdk route cannot tell [DONE] from a connection that ended
    "[DONE] only": Broken(sse([]), EmptyResponseError, StreamInterruptedError, retryable=True),
    "a role and stop": Broken(sse(stream()), EmptyResponseError, retryable=True, shown="empty"),
    "empty choices": Broken(sse([{**stream()[0], "choices": []}]), EmptyResponseError, StreamInterruptedError),
    "JSON without choices": Broken({"object": "chat.completion", "choices": []}, InvalidResponseError, retryable=True),
    "JSON of something else": Broken({"status": "ok"}, InvalidResponseError),
    "HTML under 200": Broken(
        WireReply((b"<!doctype html><h1>Login</h1>",), headers={"Content-Type": "text/html"}),
        InvalidResponseError,
        retryable=True,
        shown="HTML",
    ),
    # the openai client drops what is cut off at the end
    "truncated JSON": Broken(
        [*sse(cut(stream("Hello")), done=False), b'data: {"id": "x", "choi'],
        InvalidResponseError,
        StreamInterruptedError,
        delivered=5,
    ),
    "broken JSON in the middle": Broken(
        sse([*cut(stream("Hello")), '{"choices": [{"delta": {"content": "lo', *stream("x")]),
        InvalidResponseError,
        delivered=5,
    ),
    "text that is no JSON": Broken(sse(["Internal Server Error"]), InvalidResponseError),
    "error event": Broken(sse([*cut(stream("Hello")), error_body("boom")]), ServerError, delivered=5, shown="boom"),
    "error event first": Broken(sse([error_body("boom")], done=False), ServerError, retryable=True, shown="boom"),
    "error event of that name": Broken(
        [sse_event({**error_body(OVERFLOW), "message": OVERFLOW}, event="error")], ContextOverflowError, shown="31430"
    ),
    "error event then [DONE]": Broken(
        sse([*cut(stream("Hello")), error_body(OVERFLOW)]), ContextOverflowError, delivered=5
    ),
    # the sdk route reads a JSON body as a stream without chunks
    "error body under 200": Broken(error_body(OVERFLOW), ContextOverflowError, InvalidResponseError),
    "reset in mid-stream": Broken(
        WireReply(sse(cut(stream("Hello")), done=False), headers=STREAM, pause_s=0.01, close_abruptly="reset"),
        StreamInterruptedError,
        delivered=5,
        retryable=False,
    ),
    "cut in mid-stream": Broken(
        WireReply(sse(cut(stream("Hello")), done=False), headers=STREAM, close_abruptly="cut"),
        StreamInterruptedError,
        delivered=5,
    ),
    "closed before the answer": Broken(WireReply((), close_abruptly="cut"), StreamInterruptedError, retryable=True),
    "400": Broken(error(400, "bad"), RequestRejectedError, retryable=False),
    "401": Broken(error(401, f"no such key {KEY}"), AuthenticationError, retryable=False),
    "402": Broken(error(402, "pay"), QuotaExceededError, retryable=False),
    "403": Broken(error(403, "no"), PermissionDeniedError, retryable=False),
    "404 model": Broken(error(404, "The model `tiny` does not exist."), ModelNotFoundError, retryable=False),
    "404 path": Broken(WireReply((b"<h1>Not Found</h1>",), 404), RequestRejectedError, shown="base_url"),
    "413 overflow": Broken(error(413, "Please reduce the length of the messages."), ContextOverflowError),
    "422": Broken(error(422, "unprocessable"), RequestRejectedError),
    "429": Broken(error(429, "slow down", headers={"Retry-After": "7"}), RateLimitError, retryable=True),
    "429 quota": Broken(error(429, "sorry", type="insufficient_quota"), QuotaExceededError, retryable=False),
    "500": Broken(error(500, "oops"), ServerError, retryable=True, shown="oops"),
    "500 overflow": Broken(error(500, OVERFLOW), ContextOverflowError, retryable=False),
    "500 template": Broken(error(500, "Jinja Exception: roles must alternate"), RequestRejectedError, retryable=False),
    "502 HTML": Broken(WireReply((b"<h1>502 Bad Gateway</h1>",), 502), ServerError, shown="Bad Gateway"),
    "504": Broken(error(504, "late"), ProviderTimeoutError, retryable=True),
    "529": Broken(error(529, "Overloaded"), ServerError, retryable=True),
    "error as text": Broken({"error": "nope"}, ServerError, InvalidResponseError),
    "error as text under 400": Broken(
        WireReply((b'{"error": "nope, not this"}',), 400, {"Content-Type": "application/json"}),
        RequestRejectedError,
        shown="nope, not this",
    ),
    "detail under 400": Broken(
        WireReply((b'{"detail": "Server is pinned to other"}',), 400, {"Content-Type": "application/json"}),
        ModelNotFoundError,
        shown="pinned",
    ),
    "no tools": Broken(error(400, "tiny does not support tools"), ToolsUnsupportedError, retryable=False),
    "llama.cpp overflow": Broken(
        error(
            400,
            "request (5003 tokens) exceeds the available context size (2048 tokens), try increasing it",
            type="exceed_context_size_error",
            n_prompt_tokens=5003,
            n_ctx=2048,
        ),
        ContextOverflowError,
        retryable=False,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_one_typed_error(door: str, name: str, server: LoopbackServer) -> None:
    case = BROKEN[name]
    server.reply(PATH, case.reply)
    delivered = []
    with pytest.raises(ProviderError) as caught:
        async for delta in deltas_of(DOORS[door](server.base_url), ask()):
            assert not isinstance(delta, StreamEnd)
            delivered.append(delta)
    failure = caught.value
    kind = (case.sdk_kind if door == "litellm-sdk" else None) or case.kind
    assert type(failure) is kind, failure
    asked = [request for request in server.requests if request.method == "POST"]  # not what is live there
    assert len(asked) <= (2 if name == "closed before the answer" else 1)  # no door retries by itself
    assert failure.delivered_chars == case.delivered == sum(len(d.text) for d in delivered if isinstance(d, TextDelta))
    if case.retryable is not None:
        assert failure.retryable is case.retryable
    assert case.shown.lower() in str(failure).lower()
    assert (failure.model, failure.base_url) == ("tiny", server.base_url)
    if name[:3].isdigit():
        assert failure.status == int(name[:3])
    again = pickle.loads(pickle.dumps(failure))
    assert str(again) == str(failure)
    assert KEY not in f"{failure!r} {failure} {again.__dict__}"
    if name == "429":
        assert failure.retry_after_s == 7.0
    if isinstance(failure, ContextOverflowError) and "31430" in str(failure):
        assert (failure.current_tokens, failure.max_tokens) == (31430, 30000)
    if name == "llama.cpp overflow":
        # the openai client keeps the fields, LiteLLM's own route keeps the text: the numbers are in both
        assert (failure.current_tokens, failure.max_tokens) == (5003, 2048)


# ------------------------------------------------------------------ time, leaving, addresses


@pytest.mark.parametrize("chunks", [[], sse(cut(stream("Hello")), done=False)], ids=["at once", "in mid-stream"])
async def test_silence_is_a_timeout(
    door: str, chunks: list[bytes], clock: Callable[[float], float], server: LoopbackServer
) -> None:
    server.reply(PATH, WireReply(chunks, headers=STREAM, stall=True))
    with pytest.raises(ProviderTimeoutError) as caught:
        await asyncio.wait_for(answer(DOORS[door](server.base_url), ask(timeout_s=clock(0.3))), clock(5))
    assert caught.value.delivered_chars == (5 if chunks else 0)
    assert caught.value.retryable is not bool(chunks)
    assert f"{clock(0.3):g} s" in str(caught.value)
    await server.client_left(1)


async def test_a_slow_stream_is_no_timeout(door: str, clock: Callable[[float], float], server: LoopbackServer) -> None:
    server.reply(PATH, WireReply(sse(stream(*"abcdef")), headers=STREAM, pause_s=clock(0.1)))
    message, _ = await answer(DOORS[door](server.base_url), ask(timeout_s=clock(0.4)))
    assert text_of(message) == "abcdef"


@pytest.mark.parametrize("door", ["direct", "litellm"])  # the openai client swallows comments: silence on its routes
async def test_a_comment_is_a_sign_of_life(door: str, clock: Callable[[float], float], server: LoopbackServer) -> None:
    wire = [b": still here\n\n"] * 8 + sse(stream("late"))
    server.reply(PATH, WireReply(wire, headers=STREAM, pause_s=clock(0.1)))
    message, _ = await answer(DOORS[door](server.base_url), ask(timeout_s=clock(0.4)))
    assert text_of(message) == "late"


async def test_closing_the_stream_leaves_the_server(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, WireReply(sse(cut(stream("Hello")), done=False), headers=STREAM, stall=True))
    model = DOORS[door](server.base_url)
    deltas = model.stream(ask())
    assert await anext(deltas) == TextDelta("Hello")
    await deltas.aclose()  # type: ignore[attr-defined]
    await server.client_left(2.5)
    await model.aclose()


@pytest.mark.parametrize("chunks", [[], sse(cut(stream("Hello")), done=False)], ids=["at once", "in mid-stream"])
async def test_cancelling_leaves_the_server(door: str, chunks: list[bytes], server: LoopbackServer) -> None:
    server.reply(PATH, WireReply(chunks, headers=STREAM, stall=True))
    task = asyncio.create_task(answer(DOORS[door](server.base_url)))
    await server.requests_came(1)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.client_left(2.5)


async def test_the_server_that_forgets_to_close_after_done(
    door: str, clock: Callable[[float], float], server: LoopbackServer
) -> None:
    server.reply(PATH, WireReply(sse(stream("Hello")), headers=STREAM, stall=True))
    message, _ = await asyncio.wait_for(answer(DOORS[door](server.base_url)), clock(3))
    assert text_of(message) == "Hello"


async def test_nobody_there(door: str) -> None:
    with LoopbackServer() as gone:
        url = gone.base_url
    with pytest.raises(ServerUnreachableError) as caught:
        await answer(DOORS[door](url))
    assert url in str(caught.value)
    assert "start the model server" in str(caught.value)
    assert caught.value.retryable


async def test_no_http_there(door: str) -> None:
    with pytest.raises(ServerUnreachableError):
        await answer(DOORS[door]("https://127.0.0.1:9/v1"))


async def test_typed_errors_keep_nothing_of_the_door(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, error(401, "no"))
    with pytest.raises(AuthenticationError) as caught:
        await answer(DOORS[door](server.base_url))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# ------------------------------------------------------------------ what goes out


async def test_what_is_sent(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, sse(stream("Hello")))
    tool = ToolSpec("f", "does", {"type": "object", "properties": {"a": {"type": "integer"}}})
    request = ask(
        tools=(tool,),
        tool_choice="auto",
        params={"temperature": 0.5, "seed": 3, "stop": None, "parallel_tool_calls": False},
        extra_body={"min_p": 0.1},
    )
    await answer(DOORS[door](server.base_url), request)
    sent = server.requests[0]
    body = sent.json
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert body["model"] == "tiny"
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert (body["temperature"], body["seed"], body["min_p"]) == (0.5, 3, 0.1)
    assert "stop" not in body and "max_tokens" not in body
    assert body["tools"][0]["function"]["name"] == "f"
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)


async def test_nothing_is_sent_that_was_not_asked(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, sse(stream("Hello")))
    await answer(DOORS[door](server.base_url), ask(tool_choice="auto", params={"parallel_tool_calls": True}))
    assert set(server.requests[0].json) == {"model", "messages", "stream", "stream_options"}


async def test_a_typo_is_refused_before_sending(door: str, server: LoopbackServer) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens"):
        await answer(DOORS[door](server.base_url), ask(params={"max_token": 1}))
    assert not server.requests


@pytest.mark.parametrize(
    "door", ["direct", "litellm"]
)  # the openai client lets go of a connection as soon as [DONE] comes
async def test_one_connection_for_many_calls(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, sse(stream("Hello")))
    model = DOORS[door](server.base_url)
    for n in range(10):
        async with aclosing(model.stream(ask(timeout_s=5.0 + n))) as deltas:  # type: ignore[type-var]
            async for _ in deltas:
                pass
    await model.aclose()
    assert len(server.requests) == 10
    assert server.connections_opened == 1
