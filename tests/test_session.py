"""One conversation: memory, one run at a time, interrupts from anywhere, tools run by the caller."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from any_agent import Agent, AgentResponse, HookDecision, UserPromptSubmitEvent, tool
from any_agent.errors import (
    HookAbortedError,
    InterruptedRunError,
    InvalidInputError,
    MaxTurnsError,
    OutputError,
    ServerError,
    SessionBusyError,
    SessionClosedError,
)
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import AssistantMessage, ResultMessage, TextDelta, ToolMessage, ToolUseBlock

CALL = {"name": "look", "input": {}, "id": "c1"}


@tool
async def look() -> str:
    """Look."""
    return "seen"


@tool
async def hang() -> None:
    """Never ends."""
    await asyncio.Event().wait()


async def events_of(session: Any, prompt: str = "", **overrides: Any) -> list[Any]:
    return [event async for event in session.stream(prompt, **overrides)]


async def test_send_and_receive_remember() -> None:
    model = ScriptedModel(["one", "two"])
    session = await Agent(model).create_session()
    await session.send("first")
    assert await session.receive() == "one"
    await session.send("second")
    await session.send("and third")
    assert await session.receive() == "two"
    assert [m["content"] for m in session.history] == ["first", "one", "second", "and third", "two"] or [
        m["content"] for m in session.history
    ] == ["first", "one", "second\n\nand third", "two"]
    assert session.turn_count == 2 and len(model.requests[1].messages) == 4


async def test_receive_without_send_says_so() -> None:
    session = Agent(EchoModel()).create_session()
    with pytest.raises(InvalidInputError, match="send"):
        await session.receive()
    assert not session.is_busy and await session.query("hi") == "hi"


async def test_one_run_at_a_time() -> None:
    session = Agent(EchoModel(delay_s=0.01)).create_session()
    stream = session.stream("a slow answer")
    await stream.__anext__()
    with pytest.raises(SessionBusyError, match="interrupt"):
        await session.query("x")
    with pytest.raises(SessionBusyError):
        session.clear()
    await stream.aclose()
    assert await session.query("next") == "next"


async def test_a_broken_off_loop_leaves_the_session_usable() -> None:
    model = EchoModel()
    session = Agent(model).create_session()
    async for _event in session.stream("a long text to break"):
        break
    assert await session.query("next") == "next"
    partial = session.messages[1]
    assert isinstance(partial, AssistantMessage) and partial.is_interrupted
    assert model.closed_streams == 2


async def test_interrupt_while_waiting_ends_in_one_result() -> None:
    model = ScriptedModel(["abcdefgh", "fine"], delay_s=0.5)
    session = Agent(model).create_session()
    events, half = [], asyncio.Event()

    async def consume() -> None:
        async for event in session.stream("go"):
            events.append(event)
            if isinstance(event, TextDelta):
                half.set()

    task = asyncio.create_task(consume())
    await half.wait()
    await session.interrupt()
    assert not session.is_busy and model.closed_streams == 1
    await task
    assert [type(e) for e in events].count(ResultMessage) == 1
    last = events[-1]
    assert last.subtype == "interrupted" and isinstance(last.error, InterruptedRunError)
    assert last.error.partial_text == "abcd" == last.result
    assert last.timings.total_s > 0
    assert await session.query("again") == "fine"


async def test_interrupt_while_the_consumer_holds_an_event() -> None:
    model = ScriptedModel(["abcdefgh", "fine"])
    session = Agent(model).create_session()
    seen = []
    async for event in session.stream("go"):
        seen.append(event)
        if isinstance(event, TextDelta):
            await session.interrupt()
            await session.interrupt()
            assert not session.is_busy and model.closed_streams == 1
    assert isinstance(seen[-1], ResultMessage) and seen[-1].subtype == "interrupted" and len(seen) == 2
    assert await session.query("again") == "fine"


async def test_a_query_that_is_interrupted_raises() -> None:
    model = EchoModel(delay_s=9)
    session = Agent(model).create_session()
    task = asyncio.create_task(session.query("hello"))
    while not model.requests:
        await asyncio.sleep(0.001)
    await session.interrupt()
    with pytest.raises(InterruptedRunError):
        await task


async def test_a_cancelled_task_stays_cancelled() -> None:
    model = EchoModel(delay_s=0.05)
    session = Agent(model).create_session()
    task = asyncio.create_task(session.query("hello"))
    while not model.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.is_busy and model.closed_streams == 1
    await session.interrupt()
    assert await session.query("x") == "x"


async def test_interrupt_in_the_middle_of_tools_answers_each_call() -> None:
    model = ScriptedModel([[CALL, {"name": "hang", "id": "c2"}], "fine"])
    session = Agent(model, tools=[look, hang]).create_session()
    task = asyncio.create_task(events_of(session, "go"))
    while not (session._live and session._live.finished):
        await asyncio.sleep(0)
    await session.interrupt()
    assert (await task)[-1].subtype == "interrupted"
    results = session.messages[-1]
    assert isinstance(results, ToolMessage)
    assert [(b.tool_use_id, b.as_text(), b.is_error) for b in results.content] == [
        ("c1", "seen", False),
        ("c2", "(no result: the call was interrupted)", True),
    ]
    assert await session.query("so?") == "fine"


async def test_a_tool_may_interrupt_its_own_session() -> None:
    agent = Agent(ScriptedModel([{"name": "stop", "id": "1"}, "fine"]))
    session = agent.create_session()

    @agent.register_tool
    async def stop() -> None:
        """Stop."""
        await session.interrupt()
        await asyncio.sleep(10)

    events = await events_of(session, "go")
    assert events[-1].subtype == "interrupted" and not session.is_busy


async def test_errors_end_a_stream_and_raise_from_a_call() -> None:
    session = Agent(
        ScriptedModel([["par", ServerError("cut")], ServerError("down"), "fine"]), max_retries=0
    ).create_session()
    events = await events_of(session, "one")
    assert events[-1].subtype == "error" and isinstance(events[-1].error, ServerError) and events[-1].errors
    assert isinstance(session.messages[-1], AssistantMessage) and session.messages[-1].is_interrupted
    with pytest.raises(ServerError, match="down"):
        await session.query("two")
    assert await session.query("three") == "fine"


async def test_wrong_overrides_are_told_before_anything_is_sent() -> None:
    model = EchoModel()
    session = Agent(model).create_session()
    events = await events_of(session, "x", temprature=1)
    assert events[-1].subtype == "error" and "temperature" in str(events[-1].error) and model.requests == []
    assert session.messages == ()


async def test_closed_sessions_refuse() -> None:
    async with Agent(EchoModel()).create_session() as session:
        assert await session.query("x") == "x"
    with pytest.raises(SessionClosedError):
        await session.query("y")
    await session.close()


async def test_history_can_be_replaced_and_cleared() -> None:
    session = Agent(EchoModel()).create_session("my-id")
    await session.query("one")
    session.replace_history([{"role": "user", "content": "other"}])
    assert session.history == [{"role": "user", "content": "other"}] and "my-id" in repr(session)
    session.clear()
    assert session.history == []
    with pytest.raises(InvalidInputError, match="role"):
        session.replace_history([{"role": "x"}])


# ------------------------------------------------------------------ limits


async def test_max_turns_runs_no_tool_it_cannot_report() -> None:
    ran: list[int] = []

    @tool
    def count() -> None:
        """Count."""
        ran.append(1)

    session = Agent(ScriptedModel([{"name": "count"}] * 3), tools=[count], max_turns=2).create_session()
    events = await events_of(session, "go")
    assert events[-1].subtype == "limit" and isinstance(events[-1].error, MaxTurnsError) and events[-1].num_turns == 2
    assert len(ran) == 1
    last = session.messages[-1]
    assert isinstance(last, ToolMessage) and "max_turns=2" in last.content[0].as_text()


async def test_max_tool_iterations() -> None:
    session = Agent(ScriptedModel([CALL] * 9), tools=[look], max_tool_iterations=2).create_session()
    with pytest.raises(MaxTurnsError, match="max_tool_iterations=2"):
        await session.query("go")
    assert sum(isinstance(m, ToolMessage) for m in session.messages) == 3


# ------------------------------------------------------------------ hooks and checks


async def test_prompt_hooks() -> None:
    async def gate(event: UserPromptSubmitEvent) -> HookDecision | None:
        if "DELETE" in event.prompt:
            return HookDecision(continue_=False, reason="dangerous")
        return HookDecision(modified_prompt=event.prompt + "!") if event.prompt == "hi" else None

    session = Agent(EchoModel(), hooks={"user_prompt_submit": [gate]}).create_session()
    assert await session.query("hi") == "hi!"
    with pytest.raises(HookAbortedError, match="Query blocked by hook: dangerous"):
        await session.query("DELETE all")
    with pytest.raises(RuntimeError):
        await session.query([{"role": "user", "content": "DELETE by list"}])
    assert len(session.history) == 2
    with pytest.raises(HookAbortedError):
        await session.send("DELETE later")
    assert await session.query("ok") == "ok"


class Strict(Agent):
    async def check_response(self, response: AgentResponse) -> str | None:
        return None if response.isupper() else "Answer in capitals."


async def test_a_refused_answer_is_asked_for_again() -> None:
    model = ScriptedModel(["low", "HIGH"])
    assert await Strict(model).query("x") == "HIGH"
    assert model.requests[1].messages[-1].content[0].text == "Answer in capitals."
    with pytest.raises(OutputError, match="refused 2 times") as caught:
        await Strict(ScriptedModel(["low", "lower"])).query("x")
    assert caught.value.reasons == ["Answer in capitals."] * 2


# ------------------------------------------------------------------ tools the caller runs


async def test_the_caller_answers_calls() -> None:
    model = ScriptedModel([[CALL, {"name": "look", "id": "c2"}], "done"])
    session = Agent(model, tools=[look], auto_execute_tools=False).create_session()
    first = await session.query("go")
    assert [c.id for c in first.tool_calls] == ["c1", "c2"] and not session.can_continue
    with pytest.raises(InvalidInputError, match="c1, c2"):
        await session.receive()
    with pytest.raises(InvalidInputError, match="open: c1, c2"):
        await session.add_tool_result("nope", 1)
    await session.add_tool_result("c2", {"n": 2})
    assert not session.can_continue
    await session.add_tool_result("c1", "one")
    assert session.can_continue
    assert await session.receive() == "done"
    assert [b.as_text() for b in session.messages[2].content] == ["one", '{"n": 2}']


async def test_a_new_prompt_closes_unanswered_calls() -> None:
    session = Agent(ScriptedModel([CALL, "ok"]), tools=[look], auto_execute_tools=False).create_session()
    await session.query("go")
    assert await session.query("never mind") == "ok"
    assert session.messages[2].content[0].is_error


async def test_observers_watch_and_cannot_break_anything(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    class Watcher:
        def on_event(self, event: Any) -> None:
            seen.append(event)
            raise RuntimeError("observer broke")

    assert await Agent(EchoModel(), observers=[Watcher(), seen.append]).query("hi") == "hi"
    assert sum(isinstance(e, ResultMessage) for e in seen) == 2
    assert "observer" in caplog.text


async def test_tool_blocks_keep_their_order() -> None:
    answer = await Agent(ScriptedModel([["Let me look. ", CALL], "done"]), tools=[look]).query("go")
    assert answer == "done" and [type(c) for c in answer.tool_calls] == [ToolUseBlock] and answer.num_turns == 2
