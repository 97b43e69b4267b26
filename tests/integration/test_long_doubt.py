"""What long conversations on silent servers taught, each in a few calls: doubts about the window, and how they end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from support.long_talk import words

from any_agent.context import FittedModel, fitted
from any_agent.context.window import GrowthWatch, window_of_cut
from any_agent.errors import ContextOverflowError, EmptyResponseError
from any_agent.types import (
    AssistantMessage,
    AttemptFailed,
    ContextFitted,
    ContextTruncated,
    Delta,
    Message,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextDelta,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    Usage,
    UserMessage,
)


def chars(request: ModelRequest) -> int:
    """A server whose tokens are characters, four around each message."""
    blocks = [b for m in request.messages for b in m.content]
    said = sum(len(b.as_text()) if isinstance(b, ToolResultBlock) else len(getattr(b, "text", "")) for b in blocks)
    return said + 4 * len(request.messages)


class Served:
    """Answers with `say(true tokens)`: reported tokens, or an error that is raised."""

    name, base_url = "harbour-8b", None

    def __init__(self, say: Callable[[int], int | Exception], provider: str | None = None) -> None:
        self.say, self.provider = say, provider
        self.sizes: list[int] = []

    async def served_window(self) -> int | None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        self.sizes.append(chars(request))
        said = self.say(self.sizes[-1])
        if isinstance(said, Exception):
            raise said
        yield TextDelta("fine")
        yield StreamEnd("harbour-8b", "stop", Usage(said, 1))

    async def aclose(self) -> None: ...


async def ask(model: FittedModel, messages: list[Message]) -> list[Delta]:
    return [delta async for delta in model.stream(ModelRequest(tuple(messages)))]


def talk(turns: int, size: int = 200) -> list[Message]:
    out: list[Message] = [SystemMessage("Be brief.")]
    for number in range(turns):
        out += [UserMessage(f"Question {number}: " + "why so? " * (size // 8)), AssistantMessage("Because. " * 5)]
    return [*out, UserMessage("And now?")]


def count(deltas: list[Delta], kind: Any) -> int:
    return sum(isinstance(delta, kind) for delta in deltas)


def empty_beyond(window: int) -> Callable[[int], int | Exception]:
    return lambda true: true if true <= window else EmptyResponseError("the answer is empty")


async def test_two_empty_answers_to_a_long_prompt_are_an_overflow() -> None:
    inner = Served(empty_beyond(2000))
    model = fitted(inner)
    for turns in range(8):
        await ask(model, talk(turns))
    assert inner.sizes[-1] < 2000
    deltas = await ask(model, talk(30))
    assert count(deltas, TextDelta) == 1 and count(deltas, AttemptFailed) >= 2 and count(deltas, ContextFitted) >= 1
    assert inner.sizes[-1] <= 2000 < inner.sizes[-2]
    assert inner.sizes[8] == inner.sizes[9], "once it may be the model's mood"
    assert count(await ask(model, talk(31)), AttemptFailed) == 0  # learned


async def test_an_empty_answer_to_what_was_answered_before_is_no_overflow() -> None:
    moods = iter([*[False] * 9, True, True, False])
    inner = Served(lambda true: EmptyResponseError("the answer is empty") if next(moods) else true)
    model = fitted(inner)
    for turns in range(9):
        await ask(model, talk(turns + 10))
    messages = talk(8)
    for _ in range(2):
        with pytest.raises(EmptyResponseError):
            await ask(model, messages)
    assert count(await ask(model, talk(18)), ContextFitted) == 0
    assert inner.sizes[-1] == chars(ModelRequest(tuple(talk(18))))


async def test_an_overflow_that_tells_no_numbers_is_met_with_less_and_less() -> None:
    inner = Served(lambda true: true if true <= 2000 else ContextOverflowError("Context size has been exceeded."))
    model = fitted(inner)
    deltas = await ask(model, talk(60))
    assert count(deltas, TextDelta) == 1
    assert 2 <= count(deltas, AttemptFailed) <= 3


def halved(true: int, window: int = 2048) -> int:
    return true if true < window else window // 2 + 2


async def test_a_prompt_cut_to_half_a_window_is_repeated_with_less() -> None:
    inner = Served(halved)
    model = fitted(inner)
    messages = talk(20)
    for end in (2, 4, 6, 8, 10, 12, 14):
        assert count(await ask(model, messages[:end]), ContextTruncated) == 0
    deltas = await ask(model, messages[:20])
    (cut,) = [delta for delta in deltas if isinstance(delta, ContextTruncated)]
    assert cut.reported_tokens == 1026 < cut.expected_tokens and cut.window_tokens <= 2048
    assert inner.sizes[-1] < 2048 < inner.sizes[-2]


async def test_ollamas_figure_is_known_at_the_first_long_prompt() -> None:
    """Nothing was learned yet: half of what we count is a tokenizer like any other, were it not for the figure."""
    for provider, cuts in (("ollama", 1), (None, 0)):
        inner = Served(halved, provider)
        prompt = [SystemMessage("Be brief."), UserMessage(words(random.Random(3), 3300))]
        call = ToolUseBlock("call_1", "look_up", {})
        messages: list[Message] = [*prompt, AssistantMessage((call,)), ToolMessage((ToolResultBlock("call_1", "42"),))]
        found: list[ContextTruncated] = []
        with pytest.raises(ContextOverflowError, match="last user turn") if cuts else nullcontext():
            async for delta in fitted(inner).stream(ModelRequest(messages)):
                found += [delta] if isinstance(delta, ContextTruncated) else []
        assert [(cut.reported_tokens, cut.window_tokens) for cut in found] == [(1026, 2048)] * cuts


@pytest.mark.parametrize(
    ("reported", "window"),
    [(2050, 4096), (2051, 4096), (1026, 2048), (4099, 8192), (16386, 32768), (2052, 0), (130, 256), (2, 0), (1, 0)],
)
def test_window_of_cut(reported: int, window: int) -> None:
    assert window_of_cut(reported) == window


async def test_a_guessed_window_refuses_nothing() -> None:
    """After a cut to few tokens the window is a guess; what does not fit it is sent, and the server decides."""
    inner = Served(lambda true: min(true, 700) if len(inner.sizes) < 12 else true)
    model = fitted(inner)
    for turns in range(4):
        await ask(model, talk(turns))
    for _ in range(3):
        deltas = await ask(model, [SystemMessage("Be brief. " * 100), *talk(2, 1500)[1:]])
        assert count(deltas, TextDelta) >= 1


async def test_creeping_cuts_are_noticed_and_unlearned() -> None:
    """Each call loses no more than was added: no single report is too small, but together they do not grow."""
    inner = Served(lambda true: min(true, 3000 - true % 60))
    model, messages, cuts, late = fitted(inner), talk(1), 0, 0
    for number in range(80):
        messages = [*messages, AssistantMessage("Because. " * 4), UserMessage(f"Question {number}, why so? " * 3)]
        deltas = await ask(model, messages)
        cuts += count(deltas, ContextTruncated)
        late += not count(deltas, ContextTruncated) and inner.sizes[-1] > 3000
    assert cuts >= 1 and late <= 4
    assert inner.sizes[-1] <= 3000


def test_growth() -> None:
    watch, history = GrowthWatch(), talk(3)
    floor: Callable[[Any], int] = lambda messages: 100 * len(messages)  # noqa: E731
    assert watch.least(history, ("m",), floor) == 0
    watch.note(1000)
    longer = [*history, AssistantMessage("Yes."), UserMessage("More")]
    assert watch.least(longer, ("m",), floor) == 1000 + 200 - 8
    watch.note(1300)
    assert watch.least(longer, ("m",), floor) == 1300 - 8
    assert watch.least(longer, ("another model",), floor) == 0
    watch.note(1300)
    assert watch.least(history, ("another model",), floor) == 0  # shorter: trimmed
    watch.note(900)
    assert watch.forget() == 1
    assert watch.least(longer, ("another model",), floor) == 0
