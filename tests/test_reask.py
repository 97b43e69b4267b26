"""The constrained re-ask, through an agent: unreadable arguments are asked for once more, and nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from any_agent import (
    Agent,
    AssistantMessage,
    CallReasked,
    ResultMessage,
    TextDelta,
    ToolCompleted,
    ToolUseBlock,
    ToolUseError,
    tool,
)
from any_agent.testing import LoopbackServer, WireCall, WireReply, WireRequest, chat_chunks, error, sse, token_usage

PATH = "/v1/chat/completions"
BROKEN = '{"city": "Par'
GOOD = '{"city": "Paris"}'
DOORS = ["direct", "litellm"]
ran: list[str] = []


@tool
def get_weather(city: str, days: int = 1) -> str:
    """Weather of a city."""
    ran.append(f"{city} {days}")
    return f"sunny in {city}"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    ran.clear()
    with LoopbackServer() as server:
        yield server


def stream(text: str = "", **more: Any) -> list[bytes]:
    return sse(chat_chunks([text] if text else [], usage=token_usage(10, 5), **more))


def calls(*arguments: str, **more: Any) -> list[bytes]:
    made = [WireCall("get_weather", one, f"call_{n}", n) for n, one in enumerate(arguments)]
    return stream(tool_calls=made, **more)


def answers(first: Any, second: Any = GOOD) -> Callable[[WireRequest], Any]:
    """A server that says `first`, `second` when it is held to a schema, and at last a text."""

    def reply(request: WireRequest) -> Any:
        body = request.json
        if "response_format" in body:
            return stream(second) if isinstance(second, str) else second
        return stream("It is sunny.") if any(one["role"] == "tool" for one in body["messages"]) else first

    return reply


def agent_for(server: LoopbackServer, door: str = "direct", **more: Any) -> Agent:
    name = "m" if door == "direct" else "openai/m"
    given: dict[str, Any] = {"reask_tool_calls": True, "max_retries": 0, **more}
    return Agent(name, base_url=server.base_url, api_key="none", door=door, tools=[get_weather], **given)


async def told(agent: Agent) -> list[Any]:
    async with agent:
        return [event async for event in agent.stream("?")]


def asked(server: LoopbackServer) -> list[str]:
    bodies = [one.json for one in server.requests if one.path == PATH]
    return ["reask" if "response_format" in body else "turn" for body in bodies]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "first",
    [
        calls(BROKEN),
        calls("[1]"),
        stream('<tool_call>\n{"name": "get_weather", "arguments": {"city" "Par"}}\n</tool_call>'),
    ],
    ids=["native", "no object", "in the text"],
)
async def test_unreadable_arguments_are_asked_for_once(door: str, first: Any, server: LoopbackServer) -> None:
    server.reply(PATH, answers(first))
    events = await told(agent_for(server, door))
    assert asked(server) == ["turn", "reask", "turn"] and ran == ["Paris 1"]
    body = next(one.json for one in server.requests if b"response_format" in one.body)
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["city"] and "tools" not in body
    (news,) = [event for event in events if isinstance(event, CallReasked)]
    assert news.is_read and news.tool_name == "get_weather" and news.error and news.usage is not None
    said = [event for event in events if isinstance(event, AssistantMessage)]
    (call,) = said[0].tool_calls
    assert events.index(news) < events.index(said[0])
    assert isinstance(call, ToolUseBlock) and call.id == news.tool_use_id and call.input == {"city": "Paris"}
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["It is sunny."]
    assert events[-1].usage.total_tokens == 45 and len(events[-1].attempts) == 3 and events[-1].num_turns == 2


@pytest.mark.parametrize("wanted", [None, False])
async def test_it_is_not_asked_where_nothing_is_known(wanted: bool | None, server: LoopbackServer) -> None:
    server.reply(PATH, answers(calls(BROKEN)))
    events = await told(agent_for(server, reask_tool_calls=wanted))
    assert asked(server) == ["turn", "turn"] and ran == []
    (done,) = [event for event in events if isinstance(event, ToolCompleted)]
    assert done.result.is_error and "Nothing was run" in done.result.as_text()


@pytest.mark.parametrize(
    "second",
    [
        "I cannot.",
        "[1]",
        '{"city": 7}',
        "{}",
        '{"city": "Par',
        error(400, "response_format is not supported"),
        error(500, "oh"),
    ],
    ids=["text", "list", "another type", "nothing", "broken", "refused", "failed"],
)
async def test_what_is_no_better_goes_back_to_the_model(second: Any, server: LoopbackServer) -> None:
    server.reply(PATH, answers(calls(BROKEN), second))
    events = await told(agent_for(server))
    assert asked(server) == ["turn", "reask", "turn"] and ran == []
    (news,) = [event for event in events if isinstance(event, CallReasked)]
    assert not news.is_read
    said = next(event for event in events if isinstance(event, AssistantMessage))
    assert isinstance(said.tool_calls[0], ToolUseError) and said.tool_calls[0].raw_data == BROKEN
    assert events[-1].subtype == "success" and events[-1].result == "It is sunny."


async def test_one_question_for_one_answer(server: LoopbackServer) -> None:
    server.reply(PATH, answers(calls(BROKEN, '{"city": "Rome"}', '{"city')))
    events = await told(agent_for(server))
    assert asked(server) == ["turn", "reask", "turn"] and sorted(ran) == ["Paris 1", "Rome 1"]
    said = next(event for event in events if isinstance(event, AssistantMessage))
    assert [type(call) for call in said.tool_calls] == [ToolUseBlock, ToolUseBlock, ToolUseError]


@pytest.mark.parametrize(
    "first",
    [
        calls(BROKEN, finish_reason="length"),
        stream(tool_calls=[WireCall("no_such_tool", BROKEN)]),
        stream(tool_calls=[WireCall("", BROKEN)]),
        stream(
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\nThis is an example.'
        ),
        stream('\n<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call> is how'),
    ],
    ids=["cut", "unknown", "nameless", "shown", "in a line"],
)
async def test_what_is_not_asked_again(first: Any, server: LoopbackServer) -> None:
    server.reply(PATH, answers(first))
    await told(agent_for(server))
    assert asked(server) == ["turn", "turn"] and ran == []


async def test_a_server_that_does_not_bind_is_not_asked_that_way_again(server: LoopbackServer) -> None:
    server.reply(PATH, answers(calls(BROKEN), "I cannot."))
    async with agent_for(server) as agent:
        for _ in range(2):
            await agent.query("?")
    bodies = [one.json for one in server.requests]
    assert asked(server) == ["turn", "reask", "turn", "turn", "turn", "turn"]
    assert bodies[4]["tool_choice"]["function"]["name"] == "get_weather"  # the option wants it: another way


async def test_tools_in_the_prompt_are_asked_for_the_same_way(server: LoopbackServer) -> None:
    broken = '<tool_call>\n{"name": "get_weather", "arguments": {"city" "Par"}}\n</tool_call>'

    def reply(request: WireRequest) -> Any:
        if "response_format" in request.json:
            return stream(GOOD)
        is_answered = "<tool_response>" in json.dumps(request.json["messages"][1:])
        return stream("It is sunny.") if is_answered else stream(broken)

    server.reply(PATH, reply)
    await told(agent_for(server, tool_mode="prompt"))
    assert asked(server) == ["turn", "reask", "turn"] and ran == ["Paris 1"]


async def test_the_model_that_answered_is_asked(server: LoopbackServer) -> None:
    def reply(request: WireRequest) -> Any:
        if request.json["model"] == "m":
            return error(400, "no")
        return answers(calls(BROKEN))(request)

    server.reply(PATH, reply)
    events = await told(agent_for(server, fallback_models=["n"]))
    assert ran == ["Paris 1"]
    assert [one.json["model"] for one in server.requests] == ["m", "n", "n", "m", "n"]
    (news,) = [event for event in events if isinstance(event, CallReasked)]
    assert news.attempt is not None and news.attempt.model == "n"


async def test_the_ledger_knows_it(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(PATH, answers(calls(BROKEN)))
    async with agent_for(server, memory_db_path=str(tmp_path / "memory.db")) as agent:
        session = agent.create_session("s")
        await session.query("?")
        spent = await session.usage()
        rows = {row.key: row.calls for row in await agent.stats("s", group_by="purpose")}
    assert rows == {"turn": 2, "reask": 1} and spent.calls == 3 and spent.input_tokens + spent.output_tokens == 45


async def test_without_a_store_it_is_counted_too(server: LoopbackServer) -> None:
    server.reply(PATH, answers(calls(BROKEN)))
    async with agent_for(server, enable_memory=False) as agent:
        session = agent.create_session()
        await session.query("?")
        spent = await session.usage()
    assert spent.calls == 3 and spent.output_tokens == 15


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_budget_that_is_used_up_forbids_it(is_kept: bool, server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(PATH, answers(calls(BROKEN)))
    where = {"memory_db_path": str(tmp_path / "memory.db")} if is_kept else {"enable_memory": False}
    events = await told(agent_for(server, max_budget_tokens=15, **where))
    assert asked(server) == ["turn"] and ran == [] and events[-1].subtype == "limit"


async def test_it_can_be_interrupted(server: LoopbackServer) -> None:
    begun = WireReply(
        sse(chat_chunks(['{"ci'])[:2], done=False), headers={"Content-Type": "text/event-stream"}, stall=True
    )
    server.reply(PATH, answers(calls(BROKEN), begun))
    async with agent_for(server) as agent:
        session = agent.create_session()
        run = asyncio.ensure_future(_all(session.stream("?")))
        await server.requests_came(2)
        await session.interrupt()
        events = await run
        await server.client_left()
        assert isinstance(events[-1], ResultMessage) and events[-1].subtype == "interrupted" and ran == []
        assert not session.is_busy and not session.messages[1:]


async def _all(events: Any) -> list[Any]:
    return [event async for event in events]


async def test_a_recorded_run_is_played_back_with_it(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(PATH, answers(calls(BROKEN)))
    await told(agent_for(server, record=str(tmp_path / "tape")))
    assert ran == ["Paris 1"] and len(server.requests) == 3
    events = await told(agent_for(server, replay=str(tmp_path / "tape"), reask_tool_calls=None))
    assert ran == ["Paris 1"] * 2 and len(server.requests) == 3 and events[-1].result == "It is sunny."


async def test_a_run_recorded_without_it_is_played_back(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(PATH, answers(calls(BROKEN)))
    await told(agent_for(server, record=str(tmp_path / "tape"), reask_tool_calls=None))
    events = await told(agent_for(server, replay=str(tmp_path / "tape"), reask_tool_calls=None))
    assert ran == [] and events[-1].result == "It is sunny."
