"""Overflow is survived, silent truncation is noticed, honest servers are left alone."""

from __future__ import annotations

import itertools
import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from any_agent.calibration import calibration_path
from any_agent.context import ContextManager, FittedModel, context_usage, keep_learned
from any_agent.context import fitted as fitted_model
from any_agent.context.summary import as_message, summarizer
from any_agent.errors import (
    ContextOverflowError,
    EmptyResponseError,
    ProviderError,
    ServerUnreachableError,
    StreamInterruptedError,
)
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import ScriptedModel
from any_agent.tokens import find_vocabulary
from any_agent.types import (
    AssistantMessage,
    AttemptFailed,
    ContextFitted,
    ContextSummarized,
    ContextTruncated,
    Delta,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextBlock,
    TextDelta,
    ToolSpec,
    Usage,
    UserMessage,
    text_of,
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

    def floor(self, messages: Any) -> int:
        return self.upper(messages) // 3

    def unlearn(self, reports: int) -> None:
        self.learned = self.learned[: len(self.learned) - reports]


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


@pytest.mark.parametrize("most", [600, 5000])
@pytest.mark.parametrize("counts", [True, False], ids=["counted", "at least"])
async def test_an_answer_is_no_longer_than_the_room_beside_the_prompt(most: int, counts: bool) -> None:
    def serve(request: ModelRequest) -> Any:  # as vLLM: prompt and answer together must fit
        size, asked = size_of(request), request.params["max_tokens"]
        if size + asked <= 1000:
            return end(request)
        said = "has" if counts else "contains at least"
        return ContextOverflowError(f"your prompt {said} so many tokens", size if counts else 1001 - asked, 1000)

    model, inner, counter = fitted([serve] * 20, window=1000, is_eager=True)
    refused = 0
    for turns in range(5, 12):
        request = ModelRequest(talk(turns), params={"max_tokens": most, "seed": 1})
        deltas = [delta async for delta in model.stream(request)]
        assert text(deltas) == "fine"
        refused += sum(isinstance(delta, AttemptFailed) for delta in deltas)
    assert refused == 1 and model.manager.max_tokens == 1000, "from then on no answer is asked to be longer"
    assert inner.requests[-1].params["seed"] == 1
    wrongly = [tokens for tokens in counter.learned if tokens not in map(size_of, inner.requests)]
    assert wrongly == [], "what is only a least number is no count"


async def test_an_answer_is_halved_until_it_fits_beside_an_uncounted_prompt() -> None:
    def serve(request: ModelRequest) -> Any:
        asked = request.params["max_tokens"]
        if 3 * size_of(request) + asked <= 1000:
            return end(request)
        return ContextOverflowError("your prompt contains at least so many tokens", 1001 - asked, 1000)

    model, inner, _ = fitted([serve] * 4, window=1000, is_eager=True)
    request = ModelRequest(talk(1), params={"max_tokens": 990})
    assert text([delta async for delta in model.stream(request)]) == "fine"
    asked = [one.params["max_tokens"] for one in inner.requests]
    assert asked[0] == 990 and asked[-1] < asked[1] // 2 + 2


async def test_a_long_answer_does_not_keep_a_guessed_window_wide() -> None:
    def serve(request: ModelRequest) -> Any:
        return end(request) if size_of(request) <= 2000 else EmptyResponseError("nothing")

    counter = Counter()
    context = ContextManager("m", "sliding", 0, 100_000, counter=counter)  # `max_tokens` far beyond any window
    model = FittedModel(ScriptedModel([serve] * 60), lambda: (context, counter), ask_window=told_nothing)
    for turns in range(10, 40):
        assert text(await ask(model, talk(turns))) == "fine"


async def told_nothing() -> None:
    return None


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


async def test_a_refusal_that_stays_says_what_is_too_big() -> None:
    tools = (ToolSpec("look", "word " * 300, {"type": "object", "properties": {}}),)
    refusal = ContextOverflowError("m: longer than the context length of 800 tokens", None, 800, status=400)
    model, _, _ = fitted([refusal] * 4, window=4096, is_eager=True)
    with pytest.raises(ContextOverflowError) as caught:
        async for _ in model.stream(ModelRequest([UserMessage("hi")], tools)):
            pass
    first, second = str(caught.value).splitlines()
    assert first == "m: longer than the context length of 800 tokens" and caught.value.status == 400
    assert second.startswith("  Too big: tools (up to: system prompt 0, tools ")


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
    usage = await context_usage(model, talk(15))
    assert usage.window_tokens == 500 and not usage.is_window_known and "(assumed)" in str(usage)


async def test_silent_truncation_may_raise_or_be_ignored() -> None:
    model, _, _ = fitted([cut_at(400)], window=4096, is_eager=True, on_truncation="raise")
    with pytest.raises(ContextOverflowError, match="silently cut the prompt: it counted 400 tokens"):
        await ask(model, talk(15))
    model, inner, _ = fitted([cut_at(400)], window=4096, is_eager=True, on_truncation="ignore")
    assert text(await ask(model, talk(15))) == "fine" and len(inner.requests) == 1


async def test_a_cut_that_nothing_can_be_left_out_for_is_an_error_and_not_asked_again() -> None:
    model, inner, _ = fitted([cut_at(400), cut_at(400)], is_eager=True)
    deltas = []
    with pytest.raises(ContextOverflowError, match="Too big: last user turn") as caught:
        async for delta in model.stream(ModelRequest([UserMessage("x" * 3000)])):
            deltas.append(delta)
    assert len(inner.requests) == 1 and isinstance(deltas[-1], ContextTruncated)
    assert caught.value.current_tokens and caught.value.max_tokens
    assert caught.value.current_tokens > caught.value.max_tokens


async def test_servers_that_do_not_count_prompts_cut_nothing() -> None:
    model, inner, counter = fitted([lambda r: end(r, 10)] * 3, window=4096, is_eager=True)
    for turns in (5, 15, 15):
        deltas = await ask(model, talk(turns))
        assert text(deltas) == "fine" and not any(isinstance(d, ContextTruncated) for d in deltas)
    assert len(inner.requests) == 3 and counter.learned == []


@pytest.mark.parametrize("most", [1700, 99_999])
async def test_an_empty_answer_is_asked_for_again_and_then_the_prompt_was_too_long(most: int) -> None:
    """Whether or not errors are retried: this is no retry."""
    empties = 0

    def serve(request: ModelRequest) -> Any:
        nonlocal empties
        if size_of(request) > most or not empties:
            empties += 1
            return EmptyResponseError("nothing came")
        return end(request)

    async def untold() -> None:
        return None

    model, inner, _ = fitted([serve] * 3, ask_window=untold)
    chain = FallbackModel([model], RetryPolicy(max_retries=0))
    deltas = [d async for d in chain.stream(ModelRequest(talk(15)))]
    assert text(deltas) == "fine"
    sizes = [size_of(r) for r in inner.requests]
    assert sizes[0] == sizes[1] and len(sizes) == (3 if most == 1700 else 2) and sizes[-1] <= most
    assert [d.attempt.then[:7] for d in deltas if isinstance(d, AttemptFailed)] == ["asked a", "history"][
        : len(sizes) - 1
    ]


class LocalModel(ScriptedModel):
    """A server nearby that does not tell its window."""

    base_url = "http://127.0.0.1:9/v1"

    async def served_window(self) -> None:
        return None


@pytest.mark.parametrize(("name", "most"), [("mlx-community/Llama-3-8B-4bit", 8192), ("unheard-of", 32_768)])
async def test_a_server_that_reads_on_for_ever_is_not_sent_more_than_makes_sense(
    name: str, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    count = find_vocabulary(name).count

    def tokens(request: ModelRequest) -> int:
        return sum(4 + count(text_of(m)) for m in request.messages)

    inner = LocalModel([lambda r: ["fine", StreamEnd(name, "stop", Usage(tokens(r), 1))]] * 300, name=name)
    model = fitted_model(inner)
    history: list[Any] = []
    for turn in range(2 * most // 1000):
        words = f"Words of the long talk number {turn}, said once more. " * 40
        history += [UserMessage(words), AssistantMessage((TextBlock(words),))]
        deltas = await ask(model, [*history, UserMessage("so?")])
        assert text(deltas) == "fine" and not any(isinstance(d, (ContextTruncated, AttemptFailed)) for d in deltas)
    sent = [tokens(request) for request in inner.requests]
    assert 0.8 * most < max(sent) <= 1.1 * most, "nothing is left out before"
    assert any(later < earlier for earlier, later in itertools.pairwise(sent))
    assert caplog.text.count("nothing tells the window") == 1


async def test_what_a_cut_answer_said_is_not_gone_on_with() -> None:
    """The stream breaks after a cut: only what the repeated answer said counts."""

    def serve(request: ModelRequest) -> Any:
        if len(inner.requests) == 1:
            return ["void words", StreamEnd("m", "stop", Usage(400, 1))]
        if len(inner.requests) == 2:
            return ["good ", StreamInterruptedError("the connection broke")]
        return ["end", StreamEnd("m", "stop", Usage(size_of(request), 1))]

    model, inner, _ = fitted([serve] * 3, window=4096, is_eager=True)
    deltas = [d async for d in FallbackModel([model], RetryPolicy(1, 0.0)).stream(ModelRequest(talk(15)))]
    assert text_of(inner.requests[2].messages[-2]) == "good "
    (cut,) = [place for place, d in enumerate(deltas) if isinstance(d, ContextTruncated)]
    assert text(deltas[cut:]) == "good end"


async def test_nothing_fires_on_honest_servers() -> None:
    """Tokenizers of ratio 0.5 to 2 around our count; lower() of the real counter has its own tests."""
    rng = random.Random(1)
    for _ in range(30):
        ratio = rng.uniform(0.5, 2)
        honest = [lambda r, ratio=ratio: end(r, round(size_of(r) * ratio))] * 10
        model, inner, counter = fitted(honest, window=100_000, is_eager=True)
        for turns in range(10):
            deltas = await ask(model, talk(turns))
            assert not any(isinstance(d, (ContextTruncated, ContextFitted)) for d in deltas)
        assert len(counter.learned) == 10 and len(inner.requests) == 10


async def test_without_a_window_everything_is_sent_and_the_server_asked_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked_before: list[int] = []

    async def asked() -> None:
        asked_before.append(len(inner.requests))

    model, inner, _ = fitted([end] * 20, ask_window=asked)
    for _ in range(20):
        await ask(model, talk(50))
    assert [len(r.messages) for r in inner.requests] == [102] * 20
    assert asked_before == [0, 1, 2, 4, 8, 16]
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "any_agent"]  # once, not at each call
    assert "nothing tells the window of this model, and the prompt may have outgrown 1000 tokens" in warning
    assert "context_window_size" in warning


async def test_a_model_that_is_loaded_by_the_first_call_tells_its_window_then() -> None:
    async def asked() -> int | None:
        return 1500 if inner.requests else None

    model, inner, _ = fitted([end, end], ask_window=asked)
    await ask(model, talk(30))
    assert size_of(inner.requests[0]) > 1500
    await ask(model, talk(30))
    assert size_of(inner.requests[1]) <= 1400


async def test_cached_tokens_that_are_told_beside_the_prompt_are_no_cut() -> None:
    def beside(request: ModelRequest) -> list[Any]:
        size = size_of(request)
        return ["fine", StreamEnd("m", "stop", Usage(size // 8, 1, cached_tokens=size - size // 8))]

    def cut(request: ModelRequest) -> list[Any]:
        return ["fine", StreamEnd("m", "stop", Usage(size_of(request) // 8, 1, cached_tokens=20))]

    model, inner, counter = fitted([beside, beside, cut, end], ask_window=Swapped(9000))
    for _ in range(2):
        assert not any(isinstance(d, ContextTruncated) for d in await ask(model, talk(20)))
    assert counter.learned == [] and len(inner.requests[-1].messages) == len(talk(20))
    assert any(isinstance(d, ContextTruncated) for d in await ask(model, talk(20)))


class Swapped:
    """A server whose window changes."""

    def __init__(self, *windows: int) -> None:
        self.windows, self.asks = list(windows), 0

    async def __call__(self) -> int:
        self.asks += 1
        return self.windows[0]


async def test_a_wider_window_is_learned_before_history_is_dropped() -> None:
    server = Swapped(1500)
    model, inner, _ = fitted([end] * 3, ask_window=server, ask_again_s=0.0)
    messages = talk(30)
    await ask(model, messages)
    assert len(inner.requests[0].messages) < len(messages)
    server.windows = [9000]
    messages += [UserMessage("x" * 1000)]
    deltas = await ask(model, messages)
    assert model.manager.max_tokens == 9000 and inner.requests[1].messages == tuple(messages)
    assert not any(isinstance(d, ContextFitted) for d in deltas)


async def test_an_answer_by_another_model_asks_for_the_window_again() -> None:
    server, names = Swapped(9000), ["one", "one", "two", "two"]
    model, inner, _ = fitted(
        [lambda r, n=n: ["fine", StreamEnd(n, "stop", Usage(size_of(r), 1))] for n in names], ask_window=server
    )
    for _ in names[:-1]:
        await ask(model, talk(30))
    assert server.asks == 1
    server.windows = [1500]
    await ask(model, talk(30))
    assert server.asks == 2 and size_of(inner.requests[-1]) <= 1400


async def test_after_a_lost_connection_the_window_is_asked_for_again() -> None:
    server = Swapped(9000)
    model, inner, _ = fitted([end, ServerUnreachableError("gone"), end], ask_window=server)
    await ask(model, talk(30))
    server.windows = [1500]
    with pytest.raises(ServerUnreachableError):
        await ask(model, talk(30))
    await ask(model, talk(30))
    assert server.asks == 2 and size_of(inner.requests[-1]) <= 1400


async def test_a_window_that_the_server_repeats_does_not_undo_what_it_showed() -> None:
    def serve(request: ModelRequest) -> Any:
        size = size_of(request)
        return ContextOverflowError("too long", size, None) if size > 1000 else end(request)

    server = Swapped(4096)
    model, inner, _ = fitted([serve] * 40, ask_window=server, ask_again_s=0.0)
    messages = talk(15)
    for n in range(12):
        assert text(await ask(model, messages)) == "fine"
        messages = [*messages, AssistantMessage((TextBlock("fine"),)), UserMessage(f"and {n} " + "w" * 60)]
    assert len(inner.requests) <= 15


async def test_a_named_window_is_not_asked_for() -> None:
    server = Swapped(9000)
    model, _, _ = fitted([end] * 2, window=1500, is_eager=True, is_window_named=True, ask_window=server)
    await ask(model, talk(30))
    await ask(model, talk(30))
    assert server.asks == 0 and model.manager.max_tokens == 1500


async def test_a_summary_is_told_before_the_call_that_uses_it() -> None:
    summarizing = ScriptedModel(["They greeted."], name="small")
    inner = ScriptedModel([end, end], name="big")
    model = fitted_model(inner, window_tokens=1500, strategy="summarize", summary_model=summarizing)
    deltas = await ask(model, talk(60, size=200))
    told = next(d for d in deltas if isinstance(d, ContextSummarized))
    assert deltas.index(told) < min(n for n, d in enumerate(deltas) if isinstance(d, TextDelta))
    assert (told.summary, told.model) == ("They greeted.", "small") and told.usage is not None
    assert len(summarizing.requests) == 1 and len(inner.requests) == 1
    sent = inner.requests[0].messages
    assert text_of(sent[1]) == "(Summary of what was said before: They greeted.)"
    assert told.covered_messages == len(talk(60)) - (len(sent) - 1)


async def test_a_summary_that_fails_lets_history_slide(caplog: pytest.LogCaptureFixture) -> None:
    inner = ScriptedModel([end])
    model = fitted_model(
        inner, window_tokens=1500, strategy="summarize", summary_model=ScriptedModel([ProviderError("no")])
    )
    deltas = await ask(model, talk(60, size=200))
    assert text(deltas) == "fine" and not any(isinstance(d, ContextSummarized) for d in deltas)
    assert "no summary could be made, history slides: ProviderError: no" in caplog.text


async def test_a_summary_has_the_time_limits_of_the_call_it_is_made_for() -> None:
    summarizing = ScriptedModel(["They greeted."])
    model = fitted_model(ScriptedModel([end]), window_tokens=1500, strategy="summarize", summary_model=summarizing)
    limits: dict[str, Any] = {"timeout_s": 3.0, "first_token_timeout_s": 7.0, "connect_timeout_s": 0.5}
    assert text([d async for d in model.stream(ModelRequest(talk(60, size=200), **limits))]) == "fine"
    one = summarizing.requests[0]
    assert {name: getattr(one, name) for name in limits} == limits


async def test_what_a_summarizer_reads_fits_its_window() -> None:
    context = ContextManager("m", "summarize", 600, 100, counter=Counter())
    one = ScriptedModel(["s1", "s2"])
    summarize = summarizer(lambda: one, context)
    messages = [as_message("EARLIER"), *talk(40)[1:]]
    assert (await summarize(messages)).text == "s1"  # type: ignore[union-attr]
    assert size_of(one.requests[0]) <= 600 - 64
    asked = text_of(one.requests[0].messages[1])
    assert "EARLIER" in asked and "the last question" in asked and "q0 " not in asked


# ------------------------------------------------------------------ how full it is


class Counting(ScriptedModel):
    """A server that counts prompts itself and tells its window."""

    base_url = "http://127.0.0.1:9/v1"

    async def served_window(self) -> int:
        return 2000

    async def count_prompt(self, request: ModelRequest) -> int:
        return size_of(request) + 3


TOOLS = (ToolSpec("look", "Looks something up. " * 4, {"type": "object", "properties": {}}),)


async def test_usage_before_the_first_call() -> None:
    usage = await context_usage(fitted_model(Counting([])), talk(3), TOOLS)
    assert usage.is_exact and usage.is_window_known and usage.window_tokens == 2000
    assert usage.prompt_tokens == usage.upper_tokens == size_of(ModelRequest(talk(3))) + 3
    parts = (usage.system_tokens, usage.tools_tokens, usage.pinned_tokens, usage.history_tokens)
    assert sum(parts) == usage.prompt_tokens
    assert 0 < usage.system_tokens < usage.history_tokens and usage.tools_tokens > 0 == usage.pinned_tokens
    assert usage.reserve_tokens == 500
    assert usage.free_tokens == 2000 - 500 - usage.prompt_tokens
    assert usage.used_share == (usage.prompt_tokens + 500) / 2000
    assert str(usage).startswith(f"{usage.prompt_tokens:,} of 2,000 tokens: system ")


async def test_usage_without_a_window_and_without_a_server_that_counts() -> None:
    inner = ScriptedModel([])
    usage = await context_usage(FallbackModel([inner]), [UserMessage("pin", pinned=True), *talk(3)[1:]])
    assert not usage.is_exact and not usage.is_window_known and usage.window_tokens == 4096
    assert usage.prompt_tokens < usage.upper_tokens and usage.pinned_tokens > 0 == usage.system_tokens
    assert str(usage).startswith(f"about {usage.prompt_tokens:,} of 4,096 tokens (assumed): pinned ")
    assert (await context_usage(inner, [])).prompt_tokens == 0


async def test_usage_after_a_trim() -> None:
    model = fitted_model(Counting([end]), strategy="sliding")
    messages = talk(40)
    before = await context_usage(model, messages)
    assert before.free_tokens == 0 and before.used_share > 1
    await ask(model, messages)
    after = await context_usage(model, messages)
    assert after.dropped_messages > 0 and after.prompt_tokens <= 1500
    assert f"{after.dropped_messages} messages left out" in str(after)


# ------------------------------------------------------------------ what is kept for the next run


class Reporting(ScriptedModel):
    """Reports 2 tokens a character and 10 a message."""

    base_url = "http://127.0.0.1:9/v1"

    async def served_window(self) -> int:
        return 100_000

    async def stream(self, request: ModelRequest) -> Any:
        self.requests.append(request)
        yield StreamEnd("m", "stop", Usage(sum(2 * len(text_of(m)) + 10 for m in request.messages), 1))


async def test_calibration_is_kept_for_the_next_run() -> None:
    file = calibration_path()
    messages = talk(20)
    truth = sum(2 * len(text_of(m)) + 10 for m in messages)
    first: dict[str, Any] = {}
    model = fitted_model(Reporting([]), keep_calibration=True, shared=first)
    assert not file.exists()
    for _ in range(3):
        await ask(model, messages)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert set(kept) == {"version", "fits"} and list(kept["fits"]) == [f"{Reporting.base_url} scripted o200k_base"]
    assert "question" not in file.read_text()  # figures only
    later = fitted_model(Reporting([]), keep_calibration=True, shared={})
    await later.make()
    usage = await context_usage(later, messages)
    assert usage.prompt_tokens == pytest.approx(truth, rel=0.02)
    untaught = await context_usage(fitted_model(Reporting([])), messages)
    assert untaught.prompt_tokens < 0.6 * truth


def test_tests_write_to_no_real_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert calibration_path().is_relative_to(tmp_path_factory.getbasetemp())


async def test_calibration_is_written_seldom() -> None:
    shared: dict[str, Any] = {}
    model = fitted_model(Reporting([]), keep_calibration=True, shared=shared)
    writes = set()
    for n in range(12):
        await ask(model, [*talk(20), UserMessage("more " * (n * 20))])
        writes.add(calibration_path().stat().st_mtime_ns)
    assert len(writes) == 3
    await keep_learned(shared)
    assert calibration_path().stat().st_mtime_ns in writes  # not yet due
    await keep_learned(shared, is_last=True)
    assert calibration_path().stat().st_mtime_ns not in writes and not shared["calibration"].has_news
    await keep_learned({}, is_last=True)


async def test_calibration_is_not_kept_when_it_shall_not_be_or_cannot(tmp_path: Path, monkeypatch: Any) -> None:
    await ask(fitted_model(Reporting([])), talk(20))
    assert not calibration_path().exists()
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path / "a-file"))
    assert isinstance((await ask(fitted_model(Reporting([]), keep_calibration=True), talk(20)))[-1], StreamEnd)
