"""An answer whose stream breaks is gone on with: nothing is lost, nothing is said twice, no tool runs twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from any_agent import Agent, tool
from any_agent.errors import (
    AllModelsFailedError,
    AuthenticationError,
    ContextOverflowError,
    ServerError,
    StreamInterruptedError,
)
from any_agent.models.continuation import GO_ON, Continuation
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import LoopbackServer, ScriptedModel, WireCall, WireReply, WireRequest, chat_chunks, sse
from any_agent.types import (
    AttemptFailed,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UserMessage,
    text_of,
)

BROKE = StreamInterruptedError("the connection broke")
STORY = "Once upon a time there was a fox who lived in the wood and never lied. It ate well."
ASK = ModelRequest([UserMessage("tell me")])


def chain(*scripts: list[Any], retries: int = 0) -> tuple[FallbackModel, list[ScriptedModel]]:
    models = [ScriptedModel(script, name=f"m{i}") for i, script in enumerate(scripts)]
    return FallbackModel(models, RetryPolicy(retries, 0.0)), models


async def said(model: FallbackModel) -> tuple[str, list[Any]]:
    deltas = [delta async for delta in model.stream(ASK)]
    return "".join(d.text for d in deltas if isinstance(d, TextDelta)), deltas


@pytest.mark.parametrize("cut", range(0, len(STORY), 3))
@pytest.mark.parametrize("way", ["goes on", "repeats the last words", "begins anew"])
async def test_the_next_model_goes_on(cut: int, way: str) -> None:
    back = STORY.rfind(" ", 0, max(cut - 14, 0)) + 1
    rest = {"goes on": STORY[cut:], "repeats the last words": STORY[back:], "begins anew": STORY}[way]
    model, (_, second) = chain([[STORY[:cut], BROKE]], [rest])
    text, deltas = await said(model)
    assert text == STORY
    failed = next(d for d in deltas if isinstance(d, AttemptFailed))
    assert failed.keeps_text == (cut > 0) and failed.attempt.then == "next model: m1"
    asked = second.requests[0].messages
    assert len(asked) == (3 if STORY[:cut].strip() else 1)
    if cut:
        assert text_of(asked[1]) == STORY[:cut] and text_of(asked[2]) == GO_ON


async def test_the_same_model_goes_on_after_its_restart() -> None:
    model, (only,) = chain([[STORY[:20], BROKE], [STORY[20:40], ServerError("gone again")], STORY[40:]], retries=3)
    text, deltas = await said(model)
    assert text == STORY and len(only.requests) == 3
    assert text_of(only.requests[2].messages[1]) == STORY[:40]
    assert [a.is_ok for a in deltas[-1].attempts] == [False, False, True]


async def test_reasoning_is_not_shown_twice_and_half_a_call_is_void() -> None:
    calls = [ThinkingDelta("hm"), ToolCallDelta(0, "c1", "look", '{"x":'), BROKE]
    model, _ = chain([calls], [[ThinkingDelta("hm"), "fine"]])
    agent = Agent(model)
    answer = await agent.query("x")
    assert answer == "fine" and answer.tool_calls == ()
    assert [b.thinking for b in answer.blocks if b.type == "thinking"] == ["hm"]


@pytest.mark.parametrize("error", [ContextOverflowError("too long"), AuthenticationError("no")])
async def test_a_request_that_is_wrong_is_not_gone_on_with(error: Exception) -> None:
    model, (_, second) = chain([["half", error]], ["other"])
    with pytest.raises(type(error)):
        await said(model)
    assert second.requests == []


async def test_when_nobody_goes_on_the_error_says_so() -> None:
    model, _ = chain([["half", BROKE]], [BROKE])
    with pytest.raises((AllModelsFailedError, StreamInterruptedError)) as caught:
        await said(model)
    assert caught.value.attempts[-1].error_type == "StreamInterruptedError"


async def test_finished_tools_are_not_run_again() -> None:
    runs: list[str] = []

    @tool
    async def pay(to: str) -> str:
        """Pay."""
        runs.append(to)
        return "paid"

    call = {"name": "pay", "input": {"to": "Ann"}, "id": "c1"}
    first = ScriptedModel([[call], ["It is ", BROKE]], name="first")
    second = ScriptedModel(["done."], name="second")
    agent = Agent(FallbackModel([first, second], RetryPolicy(0, 0.0)), tools=[pay])
    assert await agent.query("pay Ann") == "It is done."
    assert runs == ["Ann"] and len(second.requests[0].messages) == 5


@given(st.text(max_size=60), st.text(max_size=60), st.integers(1, 7))
def test_new_text_is_never_lost(before: str, after: str, size: int) -> None:
    """Whatever is left out stands at the end of what was said (or is all of it)."""
    continuation = Continuation(before, shows_thinking=True)
    out = [d for i in range(0, len(after), size) for d in continuation.take(TextDelta(after[i : i + size]))]
    out += continuation.take(StreamEnd())
    assert isinstance(out.pop(), StreamEnd)
    text = "".join(d.text for d in out if isinstance(d, TextDelta))
    assert after.endswith(text)
    left_out = after[: len(after) - len(text)]
    assert before.endswith(left_out)


# ------------------------------------------------------------------ over HTTP, through both doors

WORDS = ["Once ", "upon ", "a ", "time ", "there ", "was ", "a ", "fox. "]


@pytest.mark.parametrize("door", ["direct", "litellm"])
async def test_a_server_that_dies_anywhere_is_gone_on_with(door: str) -> None:
    """After each piece of an answer with text and a call: nothing is said twice, and the tool runs once."""
    paid: list[str] = []

    @tool
    async def pay(to: str) -> str:
        """Pay."""
        paid.append(to)
        return f"paid {to}"

    calls = [WireCall("pay", ['{"to"', ': "An', 'n"}'], "c1", 0)]
    whole = sse(chat_chunks(WORDS, tool_calls=calls))

    def answer(request: WireRequest) -> Any:
        messages = request.json["messages"]
        if messages[-1]["role"] == "tool":
            return sse(chat_chunks(["Done."]))
        said = "".join(m.get("content") or "" for m in messages if m["role"] == "assistant")
        return sse(chat_chunks(["".join(WORDS)[len(said) :]], tool_calls=calls))

    for cut in range(1, len(whole), 1 if door == "direct" else 3):
        with LoopbackServer() as server:
            how = "cut" if cut % 2 else "reset"
            headers = {"Content-Type": "text/event-stream"}
            server.reply("/v1/chat/completions", WireReply(whole[:cut], headers=headers, close_abruptly=how), answer)
            paid.clear()
            async with Agent(
                "openai/tiny", base_url=server.base_url, api_key="k", door=door, tools=[pay], retry_delay=0
            ) as agent:
                session = agent.create_session()
                said = [event async for event in session.stream("go")]
                text = "".join(event.text for event in said if isinstance(event, TextDelta))
                assert text == "".join(WORDS) + "Done." and paid == ["Ann"], cut
                assert (await session.usage()).calls == len(server.requests), cut
