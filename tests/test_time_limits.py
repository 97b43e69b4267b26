"""Limits that know local servers: connecting, the first token, gaps, and a model that is still being loaded."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from any_agent import Agent, AgentOptions, ModelLoading, ResultMessage
from any_agent.cli.run_output import Notes, plain
from any_agent.errors import (
    AllModelsFailedError,
    ModelLoadingError,
    ProviderError,
    ProviderTimeoutError,
    ServerError,
    ServerUnreachableError,
)
from any_agent.models import failures
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.streaming import Fold
from any_agent.models.time_limits import LOADING_PAUSES_S, LoadingWait
from any_agent.protocols import Model
from any_agent.testing.loopback import LoopbackServer, WireRequest
from any_agent.testing.wire_bytes import EVENT_STREAM, WireReply, chat_chunks, error, sse
from any_agent.types import AttemptFailed, Delta, ModelRequest, StreamEnd, TextDelta, ToolSpec, UserMessage, text_of

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

PATH = "/v1/chat/completions"
HURRIED = (0.01, 0.02)  # pauses of a door that has no time
DOORS: dict[str, Callable[..., Model]] = {
    "direct": lambda url, pauses_s=HURRIED: DirectModel("tiny", url, loading_pauses_s=pauses_s),
    "litellm": lambda url, pauses_s=HURRIED: LiteLLMModel(
        "tiny", provider="vllm", base_url=url, loading_pauses_s=pauses_s
    ),
    "litellm-sdk": lambda url, pauses_s=HURRIED: LiteLLMModel(
        "tiny", provider="lm_studio", base_url=url, loading_pauses_s=pauses_s
    ),
}
Clock = Callable[[float], float]
LOADING = error(503, "Loading model", type="unavailable_error")  # llama.cpp's words
HELLO = sse(chat_chunks(["Hel", "lo"]))
ROLE, HEL, LO, *_ = [*HELLO]
COMMENT = b": still here\n\n"


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture
def deaf() -> Iterator[str]:
    """An https address that takes connections and never says a word: no TLS comes about."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"


def ask(**limits: Any) -> ModelRequest:
    return ModelRequest([UserMessage("hi")], **{"timeout_s": 5.0, **limits})


async def deltas_of(model: Model, request: ModelRequest | None = None) -> AsyncIterator[Delta]:
    try:
        async with aclosing(model.stream(request or ask())) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                yield delta
    finally:
        await model.aclose()


async def answer(model: Model, request: ModelRequest | None = None) -> tuple[str, list[Delta]]:
    fold, deltas = Fold(), []
    async for delta in deltas_of(model, request):
        fold.add(delta)
        deltas.append(delta)
    return text_of(fold.message()), deltas


async def failure(model: Model, request: ModelRequest) -> tuple[ProviderError, float]:
    """The error and the seconds it took."""
    started = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        await asyncio.wait_for(answer(model, request), 40)
    return caught.value, time.monotonic() - started


def slow(pause_s: float, *chunks: bytes, **more: Any) -> WireReply:
    return WireReply(chunks, headers=EVENT_STREAM, pause_s=pause_s, **more)


def times(count: int, reply: WireReply) -> WireReply:
    return replace(reply, repeat=count)


# ------------------------------------------------------------------ the options


@pytest.mark.parametrize(
    ("given", "gap_s", "first_s", "connect_s"),
    [
        ({}, 300, 600, 10),
        ({"timeout": 5}, 5, 5, 5),
        ({"timeout": 300}, 300, 300, 10),  # the default's figure, but said
        ({"timeout": 60}, 60, 60, 10),
        ({"timeout": 900}, 900, 900, 10),
        ({"timeout": None}, None, inf, 10),
        ({"timeout": None, "gap_timeout_s": 2}, 2, inf, 10),
        ({"gap_timeout_s": 2}, 2, 600, 10),
        ({"first_token_timeout_s": 30}, 300, 30, 10),
        ({"timeout": 5, "first_token_timeout_s": 120}, 5, 120, 5),
        ({"timeout": 5, "connect_timeout_s": 20}, 5, 5, 20),
    ],
    ids=str,
)
def test_timeout_is_the_default_of_all_limits(
    given: dict[str, Any], gap_s: float | None, first_s: float, connect_s: float
) -> None:
    limits = {"timeout_s": gap_s, "first_token_timeout_s": first_s, "connect_timeout_s": connect_s}
    assert AgentOptions(**given).time_limits() == limits


@pytest.mark.parametrize("name", ["connect_timeout_s", "first_token_timeout_s", "gap_timeout_s"])
def test_no_limit_may_be_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        AgentOptions(**{name: 0})


@pytest.mark.parametrize("chunks", [[], [ROLE, HEL]], ids=["before the first token", "in mid-stream"])
async def test_a_timeout_given_alone_cuts_every_silence(
    chunks: list[bytes], clock: Clock, server: LoopbackServer
) -> None:
    server.reply(PATH, WireReply(chunks, headers=EVENT_STREAM, stall=True))
    async with Agent("tiny", base_url=server.base_url, timeout=clock(0.2), max_retries=0) as agent:
        with pytest.raises(ProviderTimeoutError, match=f"{clock(0.2):g} s"):
            await asyncio.wait_for(agent.query("hi"), clock(5))
        first_s, gap_s = clock(0.3), clock(0.4)
        limits = AgentOptions(timeout=clock(12), first_token_timeout_s=first_s, gap_timeout_s=gap_s)
        with pytest.raises(ProviderTimeoutError, match=f"{gap_s:g} s.*gap_" if chunks else f"{first_s:g} s.*first_to"):
            await asyncio.wait_for(agent.query("hi", options=limits), clock(5))


# ------------------------------------------------------------------ silence


@pytest.mark.parametrize(
    "reply",
    [
        lambda s: WireReply(HELLO, headers=EVENT_STREAM, delay_s=s),
        lambda s: slow(s, b"", b"".join(HELLO)),  # the head at once, as vLLM sends it
        lambda s: slow(s, ROLE, b"".join(HELLO[1:])),  # LocalAI sends a role before it begins
    ],
    ids=["nothing", "the head", "the head and a role"],
)
async def test_the_first_token_may_take_longer_than_a_gap(
    door: str, reply: Callable[[float], WireReply], clock: Clock, server: LoopbackServer
) -> None:
    server.reply(PATH, reply(clock(0.3)))
    text, _ = await answer(DOORS[door](server.base_url), ask(timeout_s=clock(0.2), first_token_timeout_s=clock(5)))
    assert text == "Hello"


async def test_after_the_first_token_the_gap_counts(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, slow(clock(0.3), ROLE, HEL, stall=True))
    limits = ask(timeout_s=clock(0.2), first_token_timeout_s=60.0)
    found, took_s = await failure(DOORS[door](server.base_url), limits)
    assert (type(found), found.delivered_chars, found.retryable) == (ProviderTimeoutError, 3, False)
    assert f"stalled: nothing came for {clock(0.2):g} s, 3 characters in (option gap_timeout_s" in str(found)
    assert clock(0.5) <= took_s < clock(3)
    await server.client_left(2.5)


async def test_a_token_that_is_held_back_is_one(door: str, clock: Clock, server: LoopbackServer) -> None:
    """A call that the model writes as text is shown to nobody before it is whole; what has begun may not stall."""
    call = sse(chat_chunks(["<tool_call>{", '"name": "f"']))[:3]
    server.reply(PATH, times(2, slow(0, *call, stall=True)), HELLO)
    tool = ToolSpec("f", "does", {"type": "object", "properties": {}})
    limits = ask(timeout_s=clock(0.2), first_token_timeout_s=60.0, tools=(tool,))
    found, took_s = await failure(DOORS[door](server.base_url), limits)
    assert type(found) is ProviderTimeoutError and "stalled" in str(found)
    assert took_s < clock(3)
    text, deltas = await answer(FallbackModel([DOORS[door](server.base_url)], RetryPolicy(1, 0.0)), limits)
    assert text == "Hello" and isinstance(deltas[0], AttemptFailed), "nobody had seen it: tried again"


async def test_no_first_token(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, WireReply((), stall=True))
    limits = ask(timeout_s=60.0, first_token_timeout_s=clock(0.2))
    found, took_s = await failure(DOORS[door](server.base_url), limits)
    assert (type(found), found.delivered_chars, found.retryable) == (ProviderTimeoutError, 0, True)
    assert f"silent for {clock(0.2):g} s before its first token (option first_token_timeout_s" in str(found)
    assert took_s < clock(3)
    await server.client_left(2.5)


@pytest.mark.parametrize("limits", [{"timeout_s": None}, {"timeout_s": 60.0}, {"timeout_s": inf}], ids=str)
async def test_a_gap_may_take_longer_than_the_first_token(
    door: str, limits: dict[str, Any], clock: Clock, server: LoopbackServer
) -> None:
    server.reply(PATH, slow(clock(0.4), b"".join([ROLE, HEL]), b"".join(HELLO[2:])))
    text, _ = await answer(DOORS[door](server.base_url), ask(first_token_timeout_s=clock(0.3), **limits))
    assert text == "Hello"


async def test_for_ever_before_the_first_token_is_not_for_ever_after_it(
    door: str, clock: Clock, server: LoopbackServer
) -> None:
    server.reply(PATH, slow(clock(0.1), b"", ROLE, HEL, stall=True))
    found, took_s = await failure(DOORS[door](server.base_url), ask(timeout_s=clock(0.2), first_token_timeout_s=inf))
    assert (type(found), found.delivered_chars) == (ProviderTimeoutError, 3)
    assert took_s < clock(4)


# the openai client swallows comments: they are silence on its routes
@pytest.mark.parametrize("door", ["direct", "litellm"])
async def test_comments_are_life_before_the_first_token_and_after_it(
    door: str, clock: Clock, server: LoopbackServer
) -> None:
    wire = [*[COMMENT] * 9, b"".join([ROLE, HEL]), *[COMMENT] * 9, b"".join(HELLO[2:])]
    server.reply(PATH, slow(clock(0.06), *wire))
    limits = ask(timeout_s=clock(0.5), first_token_timeout_s=clock(0.5))
    text, _ = await answer(DOORS[door](server.base_url), limits)
    assert text == "Hello"


async def test_a_slow_reader_is_no_stall(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, HELLO)
    said = []
    limits = ask(timeout_s=clock(0.1), first_token_timeout_s=5.0)
    async for delta in deltas_of(DOORS[door](server.base_url), limits):
        await asyncio.sleep(clock(0.15))
        said.append(delta)
    assert isinstance(said[-1], StreamEnd)


async def test_a_stall_before_any_text_is_tried_again(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, slow(0, ROLE, stall=True), HELLO)
    model = FallbackModel([DOORS[door](server.base_url)], RetryPolicy(1, 0.0))
    text, deltas = await answer(model, ask(timeout_s=clock(0.2)))
    assert text == "Hello"
    (failed,) = [d for d in deltas if isinstance(d, AttemptFailed)]
    assert failed.attempt.error_type == "ProviderTimeoutError" and failed.attempt.then.startswith("retried")


async def test_a_stall_before_any_text_goes_to_the_next_model(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, WireReply((), stall=True))
    with LoopbackServer() as other:
        other.reply(PATH, HELLO)
        model = FallbackModel([DOORS[door](server.base_url), DOORS[door](other.base_url)], RetryPolicy(0))
        text, deltas = await answer(model, ask(timeout_s=clock(0.2)))
    assert text == "Hello"
    assert [d.attempt.then for d in deltas if isinstance(d, AttemptFailed)] == ["next model: tiny"]


async def test_a_stall_after_text_is_gone_on_with(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, slow(0, ROLE, HEL, stall=True), sse(chat_chunks(["lo"])))
    model = FallbackModel([DOORS[door](server.base_url)], RetryPolicy(1, 0.0))
    _, deltas = await answer(model, ask(timeout_s=clock(0.2)))
    assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == "Hello"
    (failed,) = [d for d in deltas if isinstance(d, AttemptFailed)]
    assert (failed.attempt.error_type, failed.attempt.delivered_chars) == ("ProviderTimeoutError", 3)


async def test_or_it_is_told(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, slow(0, ROLE, HEL, stall=True), HELLO)
    model = FallbackModel([DOORS[door](server.base_url)] * 2, RetryPolicy(3, 0.0, resumes=False))
    found, _ = await failure(model, ask(timeout_s=clock(0.2)))
    assert (type(found), found.delivered_chars, len(found.attempts)) == (ProviderTimeoutError, 3, 1)
    assert len(server.requests) == 1


# ------------------------------------------------------------------ connecting


@pytest.mark.parametrize(
    "make",
    [
        lambda url: DirectModel("tiny", url),
        lambda url: LiteLLMModel("tiny", provider="openai", base_url=url),  # LiteLLM's other routes know no such limit
    ],
    ids=["direct", "litellm openai"],
)
async def test_nobody_takes_the_connection(make: Callable[[str], Model], deaf: str) -> None:
    found, took_s = await failure(make(deaf), ask(timeout_s=60.0, connect_timeout_s=0.3))
    assert type(found) is ServerUnreachableError
    assert deaf in str(found) and "option connect_timeout_s" in str(found)
    assert found.retryable
    assert took_s < 10  # LiteLLM's first import included


async def test_connecting_is_cut_for_an_agent_too(deaf: str, clock: Clock) -> None:
    async with Agent("tiny", base_url=deaf, connect_timeout_s=0.2, max_retries=0) as agent:
        with pytest.raises(ServerUnreachableError, match=r"no connection within 0\.2 s"):
            await asyncio.wait_for(agent.query("hi"), clock(5))
        with pytest.raises(ServerUnreachableError, match=r"no connection within 0\.3 s"):
            await asyncio.wait_for(agent.query("hi", timeout=0.3, connect_timeout_s=None), clock(5))


async def test_the_connect_limit_ends_with_the_connection(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, WireReply(HELLO, headers=EVENT_STREAM, delay_s=clock(0.5)))
    text, _ = await answer(DOORS[door](server.base_url), ask(timeout_s=clock(5), connect_timeout_s=clock(0.25)))
    assert text == "Hello"


# ------------------------------------------------------------------ a model that is being loaded


def loads_for(load_s: float, then: Any) -> Callable[[WireRequest], Any]:
    """A server that says it is loading for so long after the first request."""
    began: list[float] = []

    def reply(_: WireRequest) -> Any:
        began.append(time.monotonic())
        return LOADING if began[-1] - began[0] < load_s else then

    return reply


async def test_a_cold_load_of_45_seconds(door: str, clock: Clock, server: LoopbackServer) -> None:
    """All times a hundredth: the load, the pauses, the limits of an agent that was told none."""
    server.reply(PATH, loads_for(clock(0.45), WireReply(HELLO, headers=EVENT_STREAM, delay_s=clock(0.05))))
    limits = {name: clock(limit / 100) for name, limit in AgentOptions().time_limits().items()}
    model = DOORS[door](server.base_url, [clock(pause / 100) for pause in LOADING_PAUSES_S])
    text, deltas = await answer(FallbackModel([model], RetryPolicy(0)), ask(**{**limits, "connect_timeout_s": 5.0}))
    assert text == "Hello"
    assert not any(isinstance(d, AttemptFailed) for d in deltas)
    news = [d for d in deltas if isinstance(d, ModelLoading)]
    assert deltas[: len(news)] == news
    assert [n.waited_s for n in news] == sorted(n.waited_s for n in news)
    assert news[0] == ModelLoading("tiny", server.base_url, 0.0)
    assert len(news) >= 4 and clock(0.1) < news[-1].waited_s < clock(
        2
    )  # its clock begins with the first refusal that it read
    assert len(server.requests) == len(news) + 1
    assert len({r.body for r in server.requests}) == 1


async def test_a_failure_after_the_load_is_the_failure(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, times(2, LOADING), error(400, "bad"))
    found, _ = await failure(DOORS[door](server.base_url), ask())
    assert (type(found).__name__, found.status, len(server.requests)) == ("RequestRejectedError", 400, 3)


async def test_a_load_that_takes_too_long(door: str, clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, LOADING)
    limits = ask(timeout_s=60.0, first_token_timeout_s=clock(0.3))
    found, took_s = await failure(DOORS[door](server.base_url, (clock(0.05),)), limits)
    assert (type(found), found.status) == (ModelLoadingError, 503)
    assert f"still loading the model after {clock(0.3):g} s (option first_token_timeout_s" in str(found)
    assert clock(0.3) <= took_s < clock(3)
    assert 2 <= len(server.requests) <= 8
    assert found.__cause__ is None and (found.__context__ is None or found.__suppress_context__)


async def test_it_is_not_waited_for_again_but_the_next_model_is_tried(
    door: str, clock: Clock, server: LoopbackServer
) -> None:
    server.reply(PATH, LOADING)
    with LoopbackServer() as other:
        other.reply(PATH, HELLO)
        models = [DOORS[door](server.base_url, (clock(0.1),)), DOORS[door](other.base_url)]
        text, deltas = await answer(FallbackModel(models, RetryPolicy(3, 0.0)), ask(timeout_s=clock(0.2)))
    assert text == "Hello"
    assert [d.attempt.error_type for d in deltas if isinstance(d, AttemptFailed)] == ["ModelLoadingError"]


async def test_nor_are_the_attempts_of_an_agent_that_has_no_other_model(clock: Clock, server: LoopbackServer) -> None:
    server.reply(PATH, LOADING)
    async with Hurried("tiny", base_url=server.base_url, timeout=clock(0.2), retry_delay=0) as agent:
        with pytest.raises(ModelLoadingError) as caught:
            await agent.query("hi")
        assert len(caught.value.attempts) == 1
        with pytest.raises(AllModelsFailedError):
            await agent.query("hi", fallback_models=["other"])


async def test_a_longer_retry_after_wins(door: str, server: LoopbackServer) -> None:
    busy = replace(LOADING, headers={**LOADING.headers, "retry-after-ms": "250"})
    server.reply(PATH, busy, HELLO)
    started = time.monotonic()
    text, _ = await answer(DOORS[door](server.base_url))
    assert text == "Hello"
    assert time.monotonic() - started >= 0.25


async def test_but_not_over_the_limit(clock: Clock, server: LoopbackServer) -> None:
    busy = replace(LOADING, headers={**LOADING.headers, "Retry-After": "60"})
    server.reply(PATH, busy)
    found, took_s = await failure(DirectModel("tiny", server.base_url), ask(timeout_s=clock(0.3)))
    assert type(found) is ModelLoadingError and took_s < clock(3)
    assert len(server.requests) == 2, "asked once more when the time was over"


def test_pauses_grow_and_the_last_repeats() -> None:
    assert list(LOADING_PAUSES_S) == sorted(LOADING_PAUSES_S)
    assert (LOADING_PAUSES_S[0], LOADING_PAUSES_S[-1]) == (0.25, 2.0)
    wait = LoadingWait(failures.Where("tiny"), None, (1.0, 2.0))
    refusal = ModelLoadingError("Loading model", status=503)
    pauses = []
    for _ in range(4):
        wait.news(refusal)
        pauses.append(wait.pause_s)
    assert pauses == [1.0, 2.0, 2.0, 2.0]


async def test_leaving_while_it_loads(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, LOADING)
    task = asyncio.create_task(answer(DOORS[door](server.base_url, (30.0,))))
    await server.requests_came(1)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, "llama runner process has terminated: error loading model: unable to allocate CUDA0 buffer"),
        (503, "Failed to load model: error while loading model"),
        (500, "Loading model"),  # elsewhere than in a 503 the word is used loosely
        (503, "server busy, please try again. maximum pending requests exceeded"),
    ],
)
async def test_not_every_word_of_loading_is_waited_for(
    door: str, status: int, text: str, server: LoopbackServer
) -> None:
    server.reply(PATH, error(status, text))
    found, _ = await failure(DOORS[door](server.base_url), ask())
    assert isinstance(found, ServerError)
    assert (found.status, len(server.requests)) == (status, 1)


@pytest.mark.parametrize(
    "text",
    [
        "Loading model",
        "Model gpt2 is currently loading",
        "The model `qwen3:8b` is being loaded, try again later",
        "model is loading",
        "{'error': {'message': 'Loading model'}}",
    ],
)
def test_words_of_a_model_that_is_being_loaded(text: str) -> None:
    assert type(failures.from_answer(failures.Where("tiny"), 503, text)) is ModelLoadingError


# ------------------------------------------------------------------ what the user sees


class Hurried(Agent):
    """Asks a server that is loading again without much of a pause."""

    def make_model(self, route: Any, options: AgentOptions) -> Model:
        return DirectModel(route.model, route.base_url or "", loading_pauses_s=HURRIED)


async def test_loading_is_no_first_token(server: LoopbackServer) -> None:
    server.reply(PATH, times(3, LOADING), HELLO)
    async with Hurried("tiny", base_url=server.base_url) as agent:
        response = await agent.query("hi")
    assert response.timings.first_token_s >= sum(HURRIED)
    (attempt,) = response.attempts
    assert attempt.first_token_s >= sum(HURRIED)


async def test_the_events_of_a_run(server: LoopbackServer) -> None:
    server.reply(PATH, times(3, LOADING), HELLO)
    async with Hurried("tiny", base_url=server.base_url, max_retries=0) as agent:
        events = [event async for event in agent.stream("hi")]
        assert [type(e) for e in events[:4]] == [ModelLoading] * 3 + [TextDelta]
        result = events[-1]
        assert isinstance(result, ResultMessage) and result.result == "Hello"
        assert [a.error for a in result.attempts] == [None]
        assert await agent.query("hi") == "Hello"


async def test_a_run_may_be_interrupted_while_the_model_loads(server: LoopbackServer) -> None:
    server.reply(PATH, LOADING)
    async with Hurried("tiny", base_url=server.base_url) as agent:
        session = agent.create_session()
        events = []
        async for event in session.stream("hi"):
            events.append(event)
            if isinstance(event, ModelLoading):
                await session.interrupt()
        assert isinstance(events[-1], ResultMessage) and events[-1].subtype == "interrupted"
        asked = len(server.requests)
        await asyncio.sleep(0.1)
        assert len(server.requests) == asked


async def test_a_log_has_one_line_of_it(server: LoopbackServer, caplog: pytest.LogCaptureFixture) -> None:
    server.reply(PATH, times(3, LOADING), HELLO)
    async with Hurried("tiny", base_url=server.base_url) as agent:
        with caplog.at_level("INFO", "any_agent"):
            await agent.query("hi")
    assert [r.message for r in caplog.records] == ["tiny is being loaded, waited 0.0 s"]


def test_the_command_line_says_it_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes(is_quiet=False)
    for waited_s in (0.0, 0.25, 9.0, 10.5, 12.5, 20.4, 20.6):
        notes.take(ModelLoading("qwen3", "http://127.0.0.1:8080/v1", waited_s))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("…")[1] for line in lines] == ["", " (10 s)", " (21 s)"]
    assert lines[0] == "  loading model qwen3 at http://127.0.0.1:8080/v1 …"
    Notes(is_quiet=True).take(ModelLoading("qwen3", None, 0.0))
    assert capsys.readouterr().err == ""
    told = plain(ModelLoading("qwen3", None, 1.5))
    assert told == {"type": "model_loading", "model": "qwen3", "base_url": None, "waited_s": 1.5}
