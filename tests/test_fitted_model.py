"""Overflow is survived, silent truncation is noticed, honest servers are left alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from any_agent.context import ContextManager, FittedModel
from any_agent.errors import ContextOverflowError
from any_agent.testing import ScriptedModel
from any_agent.types import (
    AssistantMessage,
    ContextFitted,
    ContextTruncated,
    Delta,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextBlock,
    TextDelta,
    Usage,
    UserMessage,
)

from test_context import Chars  # isort: skip


class Counter(Chars):
    """Exact counts; remembers what it was taught."""

    def __init__(self) -> None:
        self.learned: list[int] = []

    def lower(self, messages: Any, tools: Any = ()) -> int:
        return self.upper(messages, tools) // 2

    def learn(self, messages: Any, tools: Any, reported_prompt_tokens: int) -> None:
        self.learned.append(reported_prompt_tokens)


def talk(turns: int, size: int = 60) -> list[Any]:
    out: list[Any] = [SystemMessage("be kind")]
    for n in range(turns):
        out += [UserMessage(f"q{n} " + "u" * size), AssistantMessage((TextBlock(f"a{n} " + "v" * size),))]
    return [*out, UserMessage("the last question")]


def size_of(request: ModelRequest) -> int:
    return Counter().upper(request.messages)


def end(request: ModelRequest, tokens: int | None = None) -> list[Any]:
    return ["fine", StreamEnd("m", "stop", Usage(tokens or size_of(request), 1))]


def fitted(script: list[Any], window: int = 0, **more: Any) -> tuple[FittedModel, ScriptedModel, Counter]:
    inner, counter = ScriptedModel(script), Counter()
    model = FittedModel(inner, lambda: (ContextManager("m", "sliding", window, 100, counter=counter), counter), **more)
    return model, inner, counter


async def ask(model: FittedModel, messages: list[Any]) -> list[Delta]:
    return [d async for d in model.stream(ModelRequest(messages))]


def text(deltas: list[Delta]) -> str:
    return "".join(d.text for d in deltas if isinstance(d, TextDelta))


async def test_short_prompts_cost_nothing() -> None:
    async def asked() -> int:
        raise AssertionError("no server is asked about a short prompt")

    model, inner, counter = fitted([end, end], ask_window=asked)
    assert text(await ask(model, talk(2))) == "fine"
    assert counter.learned == [] and len(inner.requests) == 1


async def test_a_long_prompt_is_fitted_to_the_window_the_server_tells() -> None:
    async def asked() -> int:
        return 1500

    model, inner, counter = fitted([end], ask_window=asked)
    deltas = await ask(model, talk(30))
    assert isinstance(deltas[0], ContextFitted) and deltas[0].window_tokens == 1500 and deltas[0].dropped_messages > 0
    assert size_of(inner.requests[0]) <= 1400 and counter.learned == [size_of(inner.requests[0])]


async def test_an_overflow_is_survived_once() -> None:
    def serve(request: ModelRequest) -> Any:
        size = size_of(request)
        return ContextOverflowError("too long", size, 1000) if size > 1000 else end(request)

    model, inner, counter = fitted([serve, serve], window=4096, is_eager=True)
    deltas = await ask(model, talk(15))
    assert text(deltas) == "fine" and len(inner.requests) == 2
    assert model.manager.max_tokens == 1000 and counter.learned[0] == size_of(inner.requests[0])
    assert any(isinstance(d, ContextFitted) for d in deltas)


@pytest.mark.parametrize("told", [None, 4096])
async def test_an_overflow_without_useful_numbers_makes_the_prompt_smaller(told: int | None) -> None:
    def serve(request: ModelRequest) -> Any:
        return ContextOverflowError("too long", None, told) if size_of(request) > 1700 else end(request)

    model, inner, _ = fitted([serve, serve], window=4096, is_eager=True)
    assert text(await ask(model, talk(15))) == "fine"
    assert [size_of(r) > 1700 for r in inner.requests] == [True, False]


async def test_a_second_overflow_is_told() -> None:
    model, inner, _ = fitted(
        [ContextOverflowError("no", 5000, 4000), ContextOverflowError("no", 5000, 4000)], window=4096, is_eager=True
    )
    with pytest.raises(ContextOverflowError):
        await ask(model, talk(15))
    assert len(inner.requests) == 2


def cut_at(tokens: int) -> Any:
    """A server that silently uses at most so many tokens of the prompt."""
    return lambda request: end(request, min(size_of(request), tokens))


async def test_silent_truncation_is_noticed_and_repeated() -> None:
    model, inner, _ = fitted([cut_at(400), cut_at(400)], window=4096, is_eager=True)
    deltas = await ask(model, talk(15))
    (cut,) = [d for d in deltas if isinstance(d, ContextTruncated)]
    assert cut.reported_tokens == 400 and cut.expected_tokens > 400
    after = deltas[deltas.index(cut) :]
    assert text(after) == "fine" and isinstance(after[-1], StreamEnd)
    assert sum(isinstance(d, StreamEnd) for d in deltas) == 1
    assert size_of(inner.requests[1]) <= 400 and len(inner.requests) == 2


async def test_silent_truncation_may_raise_or_be_ignored() -> None:
    model, _, _ = fitted([cut_at(400)], window=4096, is_eager=True, on_truncation="raise")
    with pytest.raises(ContextOverflowError, match="silently cut the prompt: it counted 400 tokens"):
        await ask(model, talk(15))
    model, inner, _ = fitted([cut_at(400)], window=4096, is_eager=True, on_truncation="ignore")
    assert text(await ask(model, talk(15))) == "fine" and len(inner.requests) == 1


async def test_nothing_fires_on_honest_servers() -> None:
    """Tokenizers of ratio 0.5 to 2 around our count; lower() of the real counter has its own tests."""
    random.seed(1)
    model, inner, counter = fitted(
        [lambda r: end(r, round(size_of(r) * random.uniform(0.5, 2)))] * 300, window=100_000, is_eager=True
    )
    messages = talk(3)
    for _ in range(300):
        deltas = await ask(model, messages)
        assert not any(isinstance(d, (ContextTruncated, ContextFitted)) for d in deltas)
    assert len(counter.learned) == 300 and len(inner.requests) == 300


async def test_without_a_window_everything_is_sent_and_the_server_asked_once() -> None:
    asks = 0

    async def asked() -> None:
        nonlocal asks
        asks += 1

    model, inner, _ = fitted([end, end], ask_window=asked)
    await ask(model, talk(50))
    await ask(model, talk(50))
    assert asks == 1 and [len(r.messages) for r in inner.requests] == [102, 102]
