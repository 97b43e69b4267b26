"""Fitting history: what is kept, what is never split, and that nothing is lost without need. Property-tested."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from any_agent.context import ContextManager, Fit, Summary, sliding, truncate_messages
from any_agent.errors import ConfigurationError, ContextOverflowError, ToolInputError
from any_agent.models.wire import to_wire
from any_agent.tools.read_result import read_result_tool
from any_agent.types import (
    AssistantMessage,
    ContextStrategy,
    ContextSummarized,
    Message,
    SystemMessage,
    TextBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    Usage,
    UserMessage,
    text_of,
)


class Chars:
    """One token a character, four a message: exact, like a byte-level server."""

    limit = 1000

    def upper(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
        total = sum(len(t.name) + len(t.description) for t in tools)
        for message in messages:
            total += 4
            for block in message.content:
                if isinstance(block, ToolResultBlock):
                    total += len(block.as_text())
                elif isinstance(block, ToolUseBlock):
                    total += len(block.name) + len(str(block.input))
                else:
                    total += len(getattr(block, "text", ""))
        return total


def manager(strategy: Any = "sliding", window: int = 1000, reserve: int = 200, **more: Any) -> ContextManager:
    return ContextManager("m", strategy, window, reserve, counter=Chars(), **more)


def turn(number: int, size: int = 40, tools: int = 0, result: int = 30) -> list[Message]:
    out: list[Message] = [UserMessage(f"q{number} " + "u" * size)]
    for n in range(tools):
        call_id = f"c{number}.{n}"
        out.append(AssistantMessage((ToolUseBlock(call_id, "f", {}),)))
        out.append(ToolMessage((ToolResultBlock(call_id, f"r{number}.{n} " + "t" * result),)))
    out.append(AssistantMessage((TextBlock(f"a{number} " + "v" * size),)))
    return out


def talk(*turns: list[Message], system: str = "be kind") -> list[Message]:
    return [SystemMessage(system), *[m for t in turns for m in t]]


ALL = [*[s.value for s in ContextStrategy], sliding]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    turns = [
        turn(i, draw(st.integers(0, 120)), draw(st.integers(0, 3)), draw(st.integers(0, 400)))
        for i in range(draw(st.integers(1, 14)))
    ]
    messages = talk(*turns, system="s" * draw(st.integers(0, 60)))
    last = draw(st.sampled_from(["answered", "asked", "calls"]))
    if last != "answered":
        messages = messages[:-1]
    if last == "asked":
        messages = [*messages, UserMessage("q-last")] if not isinstance(messages[-1], UserMessage) else messages
    if draw(st.booleans()) and len(turns) > 2:
        place = draw(st.integers(1, len(messages) - 1))
        if isinstance(messages[place], UserMessage):
            messages[place] = UserMessage(messages[place].content, pinned=True)
    for place in draw(st.sets(st.integers(1, len(messages) - 1), max_size=4)):
        messages[place] = replace(messages[place], importance=draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])))
    return messages


def last_user_of(messages: list[Message]) -> Message:
    return [m for m in messages if isinstance(m, UserMessage)][-1]


def is_with_pinned(user: Message, messages: list[Message]) -> bool:
    """Whether the exchange that `user` opens holds a pinned message: it is kept whole."""
    ids = [id(m) for m in messages]
    if id(user) not in ids:  # a summary
        return True
    start = ids.index(id(user)) + 1
    rest = itertools.takewhile(lambda m: not isinstance(m, UserMessage), messages[start:])
    return any(m.pinned for m in rest)


def check(messages: list[Message], fit: Fit, context: ContextManager) -> None:
    out = list(fit.messages)
    size = context.counter.upper(out)
    assert size <= context.max_tokens
    if size > context.available_tokens:  # the reserve is used up only when nothing more can be left out
        before = out[: [id(m) for m in out].index(id(last_user_of(messages)))]
        assert all(m.pinned or is_with_pinned(m, messages) for m in before if isinstance(m, UserMessage))
    assert [text_of(m) for m in out if isinstance(m, SystemMessage)] == [text_of(messages[0])] or not text_of(
        messages[0]
    )
    last_user = [m for m in messages if isinstance(m, UserMessage)][-1]
    assert any(m is last_user for m in out)
    assert all(any(o is m for o in out) for m in messages if m.pinned)
    calls = [b.id for m in out if isinstance(m, AssistantMessage) for b in m.tool_calls]
    results = [b.tool_use_id for m in out if isinstance(m, ToolMessage) for b in m.content]
    assert results == calls[: len(results)]
    assert len(calls) - len(results) <= 1
    order = [id(m) for m in messages]
    places = [order.index(id(m)) for m in out if id(m) in order]
    assert places == sorted(places)
    roles = [w["role"] for w in to_wire(out) if w["role"] != "system"]
    assert roles[0] == "user"
    assert all(a != b or a == "tool" for a, b in zip(roles, roles[1:], strict=False))


@settings(max_examples=150, deadline=None)
@given(conversations(), st.sampled_from(ALL), st.integers(300, 4000), st.one_of(st.none(), st.integers(1, 20)))
async def test_whatever_comes_fits(messages: list[Message], strategy: Any, window: int, most: int | None) -> None:
    context = manager(strategy, window, window // 5, max_history_messages=most)
    copy = list(messages)
    try:
        fit = await context.fit(messages)
    except ContextOverflowError as error:
        assert error.max_tokens == window
        assert error.current_tokens and error.current_tokens > window
        return
    assert messages == copy
    check(messages, fit, context)
    again = await context.fit(messages)
    assert [id(m) for m in again.messages] == [id(m) for m in fit.messages]
    fresh = await manager(strategy, window, window // 5, max_history_messages=most).fit(fit.messages)
    assert list(fresh.messages) == list(fit.messages)


@settings(max_examples=60, deadline=None)
@given(conversations(), st.integers(400, 3000), st.booleans(), st.integers(0, 30))
async def test_summaries_fit_too(messages: list[Message], window: int, can_read: bool, covered: int) -> None:
    async def summarize(told: Sequence[Message]) -> str:
        return f"{len(told)} messages " + "were said " * 80

    context = manager("summarize", window, window // 5, summarize=summarize, can_read_results=can_read)
    if covered:
        context.restore(ContextSummarized("they met", covered))
    copy = list(messages)
    try:
        fit = await context.fit(messages)
    except ContextOverflowError:
        return
    assert messages == copy
    check(messages, fit, context)
    assert (await context.fit(messages)).messages == fit.messages
    context.learn_window(1_000_000)
    assert list((await context.fit(messages)).messages) == messages


async def test_what_fits_is_left_alone() -> None:
    messages = talk(turn(1), turn(2))
    for strategy in ALL:
        fit = await manager(strategy).fit(messages)
        assert list(fit.messages) == messages
        assert not fit.has_changed


async def test_between_trims_the_prompt_only_grows() -> None:
    context, history, previous, trims = manager(window=1000), [SystemMessage("s")], [], 0
    for number in range(100):
        history.append(UserMessage(f"q{number} " + "u" * 20))
        sent = [id(m) for m in (await context.fit(history)).messages]
        trims += sent[: len(previous)] != previous
        previous = sent
        history.append(AssistantMessage((TextBlock("a" * 20),)))
        previous = [*previous]
    assert 3 <= trims <= 25


async def test_tool_results_are_shortened_before_anything_is_dropped() -> None:
    messages = talk(turn(1, tools=1, result=900), turn(2, tools=1, result=50), turn(3))
    fit = await manager(window=1400).fit(messages)
    assert fit.shortened_results == 1
    assert fit.dropped_messages == 0
    short = next(b for m in fit.messages if isinstance(m, ToolMessage) for b in m.content)
    assert "characters left out" in short.as_text()
    assert short.as_text().startswith("r1.0")
    assert len(messages[3].content[0].as_text()) > 900


async def test_sliding_keeps_the_newest_without_gaps_and_adaptive_the_important() -> None:
    messages = talk(turn(1, size=100), turn(2, size=5, tools=2, result=140), turn(3, size=100), turn(4, size=10))
    texts = {}
    for strategy in ("sliding", "adaptive", "truncate"):
        fit = await manager(strategy, window=800, reserve=100).fit(messages)
        texts[strategy] = [text_of(m)[:2] for m in fit.messages if isinstance(m, UserMessage)]
    assert texts["sliding"] == ["q3", "q4"]
    assert "q1" in texts["adaptive"] or "q3" in texts["adaptive"]
    assert texts["truncate"][-1] == "q4"


async def test_summaries_stand_for_what_was_dropped_and_may_fail() -> None:
    told: list[int] = []

    async def summarize(messages: Sequence[Message]) -> str:
        told.append(len(messages))
        return "they talked"

    messages = talk(*[turn(n) for n in range(12)])
    context = manager("summarize", summarize=summarize)
    fit = await context.fit(messages)
    assert text_of(fit.messages[1]) == "(Summary of what was said before: they talked)"
    assert told == [fit.dropped_messages]
    more = [*messages, *turn(13), *turn(14), *turn(15), *turn(16), *turn(17), *turn(18)]
    await context.fit(more)
    assert len(told) == 2
    assert told[1] > 1

    async def fails(messages: Sequence[Message]) -> str:
        raise RuntimeError("no model")

    slid = await manager("summarize", summarize=fails).fit(messages)
    assert slid.dropped_messages > 0
    assert slid.messages[1] in messages


async def test_a_summary_is_told_with_what_it_covers_and_took() -> None:
    async def summarize(messages: Sequence[Message]) -> Summary:
        return Summary("they talked", "small", Usage(50, 5), 0.01)

    messages = talk(*[turn(n) for n in range(12)])
    context = manager("summarize", summarize=summarize)
    told = (await context.fit(messages)).summarized
    assert told is not None
    assert (told.summary, told.model, told.usage, told.cost_usd) == ("they talked", "small", Usage(50, 5), 0.01)
    assert told.covered_messages == told.dropped_messages > 0
    assert (await context.fit(messages)).summarized is None
    assert context.summary == "they talked"

    resumed = manager("summarize")  # a later process, which knows what was told
    resumed.restore(told)
    copies = [replace(m) for m in messages]
    short = talk(turn(1))
    assert list((await resumed.fit(short)).messages) == short  # it fits: nothing needs to stand for anything
    again = await resumed.fit(copies)
    assert [text_of(m) for m in again.messages] == [text_of(m) for m in (await context.fit(messages)).messages]
    assert again.dropped_messages == told.covered_messages


async def test_pinned_exchanges_outlive_a_restored_summary() -> None:
    messages = talk(*[turn(n) for n in range(12)])
    messages[3] = replace(messages[3], pinned=True)
    context = manager("summarize")
    context.restore(ContextSummarized("they met", 100))
    out = (await context.fit(messages)).messages
    assert [text_of(m)[:8] for m in out if isinstance(m, UserMessage)] == ["(Summary", "q1 uuuuu", "q11 uuuu"]


async def test_an_interrupted_summary_drops_nothing() -> None:
    started = asyncio.Event()

    async def summarize(messages: Sequence[Message]) -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    messages = talk(*[turn(n) for n in range(12)])
    context = manager("summarize", summarize=summarize)
    fitting = asyncio.ensure_future(context.fit(messages))
    await started.wait()
    fitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fitting
    assert context.view(messages) == messages


async def test_what_is_important_stays_with_adaptive() -> None:
    for place, importance in ((1, 5.0), (2, 3.0)):
        messages = talk(*[turn(n) for n in range(14)])
        messages[place] = replace(messages[place], importance=importance)
        messages[-4] = replace(messages[-4], importance=0.0)
        fit = await manager("adaptive").fit(messages)
        users = [text_of(m)[:3] for m in fit.messages if isinstance(m, UserMessage)]
        assert "q0 " in users and "q12" not in users and "q13" in users
    assert to_wire([messages[place]]) == [{"role": "assistant", "content": text_of(messages[place])}]


async def test_less_important_results_are_shortened_first() -> None:
    messages = talk(turn(1, tools=1, result=3000), turn(2, tools=1, result=3000), turn(3))
    messages[7] = replace(messages[7], importance=0.2)
    fit = await manager(window=5900).fit(messages)
    assert fit.shortened_results == 1
    assert fit.messages[3] is messages[3] and fit.messages[7] is not messages[7]


async def test_what_was_left_out_can_be_read_again() -> None:
    messages = talk(turn(1, tools=1, result=50), turn(2, tools=1, result=900), turn(3))
    text = messages[7].content[0].as_text()  # the second result
    fit = await manager(window=1450, can_read_results=True).fit(messages)
    said = [b.as_text() for m in fit.messages if isinstance(m, ToolMessage) for b in m.content]
    assert "of 905 characters left out; read_result(result_id=2, start=266) reads them …]" in said[1]
    read = read_result_tool(lambda: messages)
    assert (
        await read.run({"result_id": 2, "start": 266, "length": 10})
        == f"(characters 266 to 276 of 905)\n{text[266:276]}"
    )
    assert (await read.run({"result_id": 2})).endswith(text)
    assert "nothing begins at 2000" in await read.run({"result_id": 2, "start": 2000})
    with pytest.raises(ToolInputError, match="no result 9; results: 1 to 2"):
        await read.run({"result_id": 9})


async def test_a_result_is_always_shortened_from_its_whole_text() -> None:
    messages = talk([UserMessage("q"), *turn(1, tools=1, result=3000)[1:3]])
    context = manager(window=2000)
    await context.fit(messages)
    context.learn_window(500)
    out = (await context.fit(messages)).messages[-1].content[0].as_text()
    assert "of 3005 characters left out" in out
    assert out.count("left out") == 1


async def test_in_a_wider_window_the_history_is_whole_again() -> None:
    context, messages = manager(window=900), talk(*[turn(n) for n in range(15)])
    assert (await context.fit(messages)).dropped_messages
    context.learn_window(1000)  # no reason to throw the server's cache away
    assert (await context.fit(messages)).dropped_messages
    context.learn_window(4000)
    assert list((await context.fit(messages)).messages) == messages


async def test_too_big_says_what_is_too_big() -> None:
    with pytest.raises(ContextOverflowError, match="Too big: last user turn") as caught:
        await manager().fit(talk([UserMessage("x" * 2000)]))
    assert caught.value.max_tokens == 1000
    with pytest.raises(ContextOverflowError, match="Too big: system prompt"):
        await manager().fit(talk(turn(1), system="s" * 2000))
    with pytest.raises(ContextOverflowError, match="Too big: tools"):
        await manager().fit(talk(turn(1)), [ToolSpec("f", "d" * 3000, {})])


async def test_a_window_learned_later_is_used() -> None:
    context, messages = manager(window=4000), talk(*[turn(n) for n in range(15)])
    assert not (await context.fit(messages)).has_changed
    context.learn_window(900)
    assert (await context.fit(messages)).tokens_after <= context.available_tokens


async def test_dicts_in_dicts_out() -> None:
    wire = to_wire(talk(*[turn(n) for n in range(15)]))
    context = manager(window=1000)
    out = await context.manage_context(wire, preserve_last_n=2)
    assert len(out) < len(wire)
    assert out[0] == wire[0]
    assert out[-1] == wire[-1]
    assert sum(m["role"] == "user" for m in out) >= 2
    assert await context.manage_context(out) == out
    assert await context.manage_context(wire[:3]) == wire[:3]


async def test_dicts_that_stay_are_the_very_dicts() -> None:
    wire: list[dict[str, Any]] = [{"role": "system", "content": "be kind", "name": "boss"}]
    for n in range(12):
        part = {"type": "text", "text": f"q{n} " + "u" * 60, "cache_control": {"type": "ephemeral"}}
        calls = [{"id": f"{k}{n}", "type": "function", "function": {"name": k, "arguments": "{}"}} for k in "fg"]
        wire.append({"role": "user", "content": [part], "name": "ada"})
        wire.append({"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "hm"})
        wire += [{"role": "tool", "tool_call_id": f"{k}{n}", "content": "r" * 30, "name": k} for k in "fg"]
        wire.append({"role": "assistant", "content": f"a{n}"})
    wire += [{"role": "user", "content": "one more thing"}, {"role": "user", "content": "and now?"}]
    before = copy.deepcopy(wire)
    for strategy in ALL:
        out = await manager(strategy, window=900).manage_context(wire)
        assert wire == before and 3 < len(out) < len(wire)
        assert all(any(kept is one for one in wire) for kept in out)
        assert out[-1] is wire[-1]
        assert [one["tool_call_id"] for one in out if one["role"] == "tool"] == [
            call["id"] for one in out for call in one.get("tool_calls", ())
        ]
        assert await manager(strategy, window=900).manage_context(out) == out


async def test_dicts_of_shortened_results_keep_their_other_fields() -> None:
    call = {"id": "f", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    wire = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "f", "content": "r" * 3000, "name": "f"},
    ]
    out = await manager(window=1500).manage_context(wire)
    assert out[:2] == wire[:2] and out[2] is not wire[2] and len(wire[2]["content"]) == 3000
    assert {**out[2], "content": ""} == {**wire[2], "content": ""}
    assert "characters left out" in out[2]["content"] and len(out[2]["content"]) < 2500


async def test_a_summary_among_dicts_stands_with_what_the_user_says_next() -> None:
    async def summarize(messages: Sequence[Message]) -> str:
        return "they met"

    wire = to_wire(talk(*[turn(n) for n in range(15)]))
    wire[-2] = {**wire[-2], "name": "ada", "content": [{"type": "text", "text": "why?"}]}
    out = await manager("summarize", summarize=summarize).manage_context(wire)
    assert "they met" in out[1]["content"] and out[1]["content"].endswith("u" * 40)
    assert [one["role"] for one in out[1:]] == ["user", "assistant"] * (len(out) // 2)
    alone = await manager("summarize", 400, 100, summarize=summarize).manage_context(wire)
    assert [part.get("text", "")[:9] for part in alone[1]["content"]] == ["(Summary ", "why?"]
    assert alone[1]["name"] == "ada"


async def test_by_hand_nothing_is_given_back_that_is_thought_too_big() -> None:
    """Where a server is asked next, it decides in doubt; here nobody does."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(ContextOverflowError, match="Too big: last user turn"):
        await ContextManager("qwen3-8b", max_tokens=470).manage_context([{"role": "user", "content": [image]}])
    with pytest.raises(ContextOverflowError, match="Too big: system prompt"):
        wire = [{"role": "system", "content": "words " * 900}, {"role": "user", "content": "why?"}]
        await ContextManager("some-model", max_tokens=800).manage_context(wire)


async def test_a_message_that_stands_there_many_times_may_go() -> None:
    asked, answered = UserMessage("u" * 40), AssistantMessage((TextBlock("v" * 40),))
    messages: list[Message] = [SystemMessage("be kind"), *[asked, answered] * 30, asked]
    for strategy in ALL:
        context = manager(strategy, window=900)
        fit = await context.fit(messages)
        assert 3 < len(fit.messages) < 20 and context.counter.upper(fit.messages) <= context.available_tokens
        again = await context.fit([*messages, answered, asked])
        assert list(map(id, again.messages))[: len(fit.messages)] == list(map(id, fit.messages))


@pytest.mark.parametrize("gives", [None, "text", [1, 2], 7])
async def test_a_strategy_that_gives_no_exchanges_is_named(gives: Any) -> None:
    def mine(exchanges: Any, budget_tokens: int) -> Any:
        return gives

    with pytest.raises(ConfigurationError, match="strategy mine gave"):
        await manager(mine).fit(talk(*[turn(n) for n in range(20)]))


@pytest.mark.parametrize("strategy", ALL, ids=lambda one: getattr(one, "__name__", str(one)))
async def test_a_long_last_turn_is_trimmed_in_blocks_too(strategy: Any) -> None:
    context = manager(strategy)
    messages, sent, changes = talk(turn(0), [UserMessage("do it all")]), [], 0
    for n in range(100):
        messages += turn(n, tools=1)[1:3]
        fit = (await context.fit(messages)).messages
        changes += list(map(id, fit[: len(sent)])) != list(map(id, sent))
        assert text_of(fit[1]) == "do it all" or n < 20
        sent = list(fit)
    assert changes <= 25, "between two trims the prompt only grows: a server keeps what it has read"


def test_unknown_strategies_are_named() -> None:
    with pytest.raises(ConfigurationError, match="sliding, truncate, summarize, adaptive"):
        manager("slide")


def test_truncate_messages_never_splits_a_call() -> None:
    wire = to_wire(talk(turn(1, tools=2), turn(2, tools=2)))
    for keep in range(len(wire) + 2):
        out = truncate_messages(wire, keep=keep)
        assert out[0]["role"] == "system"
        body = out[1:]
        assert not body or body[0]["role"] != "tool"
        assert len(body) >= min(keep, len(wire) - 1)
    assert truncate_messages(wire, keep=0, preserve_system=False) == []
