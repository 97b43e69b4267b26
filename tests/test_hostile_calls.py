"""Tool calls as strange servers tell them, through an agent: what is clear runs once, and nothing else runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, AssistantMessage, ToolCompleted, ToolResult, ToolUseBlock, ToolUseError, tool
from any_agent.testing import LoopbackServer, WireCall, WireRequest, chat_chunks, chat_completion, error, sse
from any_agent.tools import ToolContext

PATH = "/v1/chat/completions"
PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
DOORS = ["direct", "litellm"]
ran: list[tuple[Any, ...]] = []


@tool
def get_weather(city: str, context: ToolContext, days: int = 1) -> str:
    """Weather of a city."""
    ran.append((city, days, context.idempotency_key))
    return f"sunny in {city}"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    ran.clear()
    with LoopbackServer() as server:
        yield server


@pytest.mark.parametrize(("why", "cure"), [("stop", "ask again"), ("length", "raise max_tokens")])
async def test_reasoning_without_an_answer_is_told(
    server: LoopbackServer, caplog: pytest.LogCaptureFixture, why: str, cure: str
) -> None:
    server.reply(PATH, sse(chat_chunks(reasoning=["hm"], finish_reason=why)), sse(chat_chunks(["Yes."])))
    async with agent_for(server) as agent:
        with caplog.at_level("WARNING", logger="any_agent"):
            response = await agent.query("Is it?")
            assert await agent.query("Is it?") == "Yes."
    assert (response, response.thinking) == ("", "hm")
    assert [r.message for r in caplog.records] == [f"tiny only thought and gave no answer ({why}): {cure}"]


def agent_for(server: LoopbackServer, door: str = "direct", **more: Any) -> Agent:
    given: dict[str, Any] = {"tools": [get_weather], "max_retries": 0, **more}
    name = "m" if door == "direct" else "openai/m"
    return Agent(name, base_url=server.base_url, api_key="none", door=door, **given)


def called(*arguments: str, name: str = "get_weather", text: str = "") -> list[bytes]:
    calls = [WireCall(name, one, f"call_{n}", n) for n, one in enumerate(arguments)]
    return sse(chat_chunks([text] if text else [], tool_calls=calls))


def first(reply: Any, *, then: str = "Done.") -> Any:
    """A server that says `reply` until there is a result."""

    def script(request: WireRequest) -> Any:
        is_answered = request.json["messages"][-1]["role"] == "tool"
        return sse(chat_chunks([then])) if is_answered else reply

    return script


async def told(agent: Agent) -> list[Any]:
    async with agent:
        return [event async for event in agent.stream("?")]


def calls_of(events: list[Any]) -> list[ToolUseBlock | ToolUseError]:
    return [call for event in events if isinstance(event, AssistantMessage) for call in event.tool_calls]


# ------------------------------------------------------------------ ids


def history_is_paired(messages: list[Mapping[str, Any]]) -> list[str]:
    """The ids of all calls; each is unique and answered right behind."""
    ids: list[str] = []
    for place, message in enumerate(messages):
        made = [call["id"] for call in message.get("tool_calls") or ()]
        ids += made
        answers = [one["tool_call_id"] for one in messages[place + 1 : place + 1 + len(made)]]
        assert answers == made
    assert len(set(ids)) == len(ids)
    return ids


@pytest.mark.parametrize("door", DOORS)
async def test_a_server_that_counts_each_answer_from_0(door: str, server: LoopbackServer) -> None:
    cities = iter("ABCDEFGH")

    def script(request: WireRequest) -> Any:
        messages = request.json["messages"]
        if len(messages) - max(n for n, m in enumerate(messages) if m["role"] == "user") > 4:
            return sse(chat_chunks(["Done."]))
        return called(json.dumps({"city": next(cities)}), json.dumps({"city": next(cities)}))

    server.reply(PATH, script)
    async with agent_for(server, door) as agent:
        session = agent.create_session("s")
        for _ in range(2):
            await session.query("?")
        said = [message for message in session.messages if isinstance(message, AssistantMessage)]
        own = [call.id for message in said for call in message.tool_calls]
    keys = [key for _, _, key in ran]
    assert len(ran) == 8 and keys == [f"s:{call_id}" for call_id in own] and len(set(keys)) == 8
    assert own[:2] == ["call_0", "call_1"]  # as the server said, where that can be
    assert history_is_paired(server.requests[-1].json["messages"]) == own


async def test_ids_of_a_forgotten_history_are_not_used_again(server: LoopbackServer) -> None:
    server.reply(PATH, first(called(PARIS)))
    async with agent_for(server, enable_memory=False) as agent:
        session = agent.create_session("s")
        await session.query("?")
        session.clear()
        await session.query("?")
        await session.rewind(0)
        await session.query("?")
    assert len({key for _, _, key in ran}) == 3


async def test_not_even_by_another_process(server: LoopbackServer, tmp_path: Path) -> None:
    """A rewound call has run, or was approved, under its id: a new one must not pass for it."""
    server.reply(PATH, first(called(PARIS)))
    for _ in range(2):
        async with agent_for(server, memory_db_path=str(tmp_path / "memory.db")) as agent:
            session = await agent.resume("s") if ran else agent.create_session("s")
            await session.query("?")
            await session.rewind(0)
    assert len({key for _, _, key in ran}) == 2


async def test_an_approval_holds_for_its_own_call_only(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(PATH, first(called(PARIS)))
    async with agent_for(
        server, memory_db_path=str(tmp_path / "memory.db"), ask_tools=["get_weather"], approvals="wait"
    ) as agent:
        session = agent.create_session("s")
        events = [event async for event in session.stream("?")]
        assert events[-1].subtype != "success"
        (row,) = await session.approvals()
        await session.answer_approval(row["approval_id"], True)
        await session.receive()
        assert len(ran) == 1
        events = [event async for event in session.stream("Once more.")]
        assert events[-1].subtype != "success" and len(ran) == 1, "the second call asks anew"


# ------------------------------------------------------------------ names, arguments, old shapes


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "name",
    [
        *("functions.get_weather", "get_weather ", "functions.get_weather:0", "tools.get_weather"),
        "get_weather<|channel|>commentary",
    ],
)
async def test_a_name_in_its_wrapping_is_clear(name: str, door: str, server: LoopbackServer) -> None:
    server.reply(PATH, first(called('{"city": "Paris", "days": "2"}', name=name)))
    events = await told(agent_for(server, door))
    assert [(city, days) for city, days, _ in ran] == [("Paris", 2)] and calls_of(events)[0].name == "get_weather"
    assert server.requests[-1].json["messages"][1]["tool_calls"][0]["function"]["name"] == "get_weather"


@pytest.mark.parametrize("name", ["Get_Weather", "weather", "get-weather", "delete_all", "other.get_weather", ""])
async def test_another_name_is_told_the_nearest(name: str, server: LoopbackServer) -> None:
    server.reply(PATH, first(called(PARIS, name=name)))
    events = await told(agent_for(server))
    (done,) = [event for event in events if isinstance(event, ToolCompleted)]
    assert ran == [] and done.result.is_error and "get_weather" in done.result.as_text()


@pytest.mark.parametrize("door", DOORS)
async def test_whole_calls_with_one_id_are_not_put_together(door: str, server: LoopbackServer) -> None:
    """Neither their texts nor their objects: what both say together, nobody said."""
    calls = [
        {"id": "x", "type": "function", "function": {"name": "get_weather", "arguments": said}}
        for said in ({"city": "Paris"}, {"city": "Rome", "days": 2}, PARIS)
    ]
    answer = {"choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    server.reply(PATH, first(answer))
    await told(agent_for(server, door))
    assert [(city, days) for city, days, _ in ran] == [("Paris", 1), ("Rome", 2), ("Paris", 1)]
    history_is_paired(server.requests[-1].json["messages"])


async def test_a_refusal_reads_well(server: LoopbackServer) -> None:
    server.reply(PATH, first(called('{"city": "Paris", "city": "Rome"}')))
    await told(agent_for(server))
    said = server.requests[-1].json["messages"][-1]["content"]
    assert said.startswith("Error: the arguments of get_weather cannot be read: 'city' is said twice") and ran == []


async def test_a_call_that_nobody_wanted_does_not_run(server: LoopbackServer) -> None:
    """Servers that do not obey `tool_choice`."""
    server.reply(PATH, first(called(PARIS)))
    async with agent_for(server, tool_choice="none") as agent:
        assert (await agent.query("?")).text == "Done."
    assert ran == [] and "may not be called" in server.requests[-1].json["messages"][-1]["content"]


async def test_text_that_repeats_a_told_call_without_arguments_is_the_same_call(server: LoopbackServer) -> None:
    def now() -> str:
        return "12:00"

    text = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    server.reply(PATH, first(called("{}", name="now", text=text)))
    events = await told(agent_for(server, tools=[now]))
    assert len(calls_of(events)) == 1


@pytest.mark.parametrize("door", DOORS)
async def test_arguments_in_a_code_fence_are_clear(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, first(called(f"```json\n{PARIS}\n```")))
    await told(agent_for(server, door))
    assert [city for city, *_ in ran] == ["Paris"]


@pytest.mark.parametrize("door", DOORS)
async def test_the_old_function_call(door: str, server: LoopbackServer) -> None:
    chunks = chat_chunks([""])
    chunks[1]["choices"][0]["delta"] = {"function_call": {"name": "get_weather", "arguments": PARIS}}
    server.reply(PATH, first(sse(chunks)))
    await told(agent_for(server, door))
    assert [city for city, *_ in ran] == ["Paris"]


async def test_types_of_a_tool_that_was_handed_out(server: LoopbackServer) -> None:
    """Its schema, too, tells how its arguments are read."""

    @tool
    def more() -> ToolResult:
        """Gives a tool."""
        return ToolResult(True, "Here.", tools=(get_weather,))

    replies = [called("{}", name="more"), called('{"city": "Paris", "days": "2"}'), sse(chat_chunks(["Done."]))]
    server.reply(PATH, *replies)
    await told(agent_for(server, tools=[more]))
    assert [(city, days) for city, days, _ in ran] == [("Paris", 2)]


ODD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a number": ({"function": {"name": "get_weather", "arguments": 5}}, []),
    "a list": ({"function": {"name": "get_weather", "arguments": ["Paris"]}}, []),
    "true": ({"function": {"name": "get_weather", "arguments": True}}, []),
    "null": ({"function": {"name": "get_weather", "arguments": None}}, []),
    "an object": ({"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}, ["Paris"]),
    "encoded twice": ({"function": {"name": "get_weather", "arguments": json.dumps(PARIS)}}, ["Paris"]),
    "a number for an id": ({"id": 7, "function": {"name": "get_weather", "arguments": PARIS}}, ["Paris"]),
    "no function": ({"id": "call_0", "function": None}, []),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("shape", ODD)
async def test_arguments_of_any_shape_are_read_or_told(shape: str, door: str, server: LoopbackServer) -> None:
    call, cities = ODD[shape]
    chunks = chat_chunks([""], finish_reason="tool_calls")
    chunks[1]["choices"][0]["delta"] = {"tool_calls": [{"index": 0, "id": "call_0", "type": "function", **call}]}
    server.reply(PATH, first(sse(chunks)))
    events = await told(agent_for(server, door))
    assert events[-1].subtype == "success", events[-1].error
    assert [city for city, *_ in ran] == cities and len(calls_of(events)) == 1
    (done,) = [event for event in events if isinstance(event, ToolCompleted)]
    assert bool(done.result.is_error) is (not cities)


# ------------------------------------------------------------------ told, and said in the text as well


def in_text(arguments: str) -> str:
    return f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize("door", DOORS)
async def test_what_the_text_says_beside_told_calls_is_not_lost(door: str, server: LoopbackServer) -> None:
    server.reply(PATH, first(called(PARIS, text=f"{in_text(PARIS)}\n{in_text(ROME)}")))
    events = await told(agent_for(server, door))
    first_call, second = calls_of(events)
    assert isinstance(first_call, ToolUseBlock) and [city for city, *_ in ran] == ["Paris"]
    assert isinstance(second, ToolUseError) and json.loads(second.raw_data or "") == {"city": "Rome"}
    answers = [one["content"] for one in server.requests[-1].json["messages"] if one["role"] == "tool"]
    assert answers[0] == "sunny in Paris" and "call it again" in answers[1]


@pytest.mark.parametrize("text", [in_text(PARIS), in_text('{"city": "Rom'), "<tool_call>\n"])
async def test_repetitions_and_rests_beside_told_calls_are_no_calls(text: str, server: LoopbackServer) -> None:
    server.reply(PATH, first(called(PARIS, text=text)))
    events = await told(agent_for(server))
    assert len(calls_of(events)) == 1 and [city for city, *_ in ran] == ["Paris"]


# ------------------------------------------------------------------ servers that refuse tools


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, "tools param requires --jinja flag"),
        (400, "tool_choice param requires --jinja flag"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        (400, "Tools are not supported in this model"),
        (400, "This model doesn't support tool calling"),
    ],
)
async def test_a_refusal_of_tools_leads_to_tools_in_the_prompt(
    status: int, text: str, door: str, server: LoopbackServer
) -> None:
    def script(request: WireRequest) -> Any:
        if "tools" in request.json:
            return error(status, text)
        is_answered = "<tool_response>" in request.json["messages"][-1]["content"]
        return sse(chat_chunks(["Done."] if is_answered else [in_text(PARIS)]))

    server.reply(PATH, script)
    async with agent_for(server, door) as agent:
        for _ in range(2):
            assert await agent.query("?") == "Done."
    assert [city for city, *_ in ran] == ["Paris", "Paris"]
    assert ["tools" in request.json for request in server.requests] == [True, *[False] * 4], "it is remembered"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("text", ["Only user and assistant roles are supported!", "Unexpected message role."])
async def test_a_template_that_knows_no_results(text: str, door: str, server: LoopbackServer) -> None:
    def script(request: WireRequest) -> Any:
        roles = [one["role"] for one in request.json["messages"]]
        if "tool" in roles:
            return error(500, f"Jinja Exception: {text}")
        return called(PARIS) if roles[-1] == "user" and len(roles) == 1 else sse(chat_chunks(["Done."]))

    server.reply(PATH, script)
    async with agent_for(server, door) as agent:
        assert await agent.query("?") == "Done."
    assert [city for city, *_ in ran] == ["Paris"]
    assert [one["role"] for one in server.requests[-1].json["messages"]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("text", [in_text(PARIS), f"<think>{in_text(ROME)}</think>{in_text(PARIS)}"])
async def test_a_server_that_does_not_stream(text: str, door: str, server: LoopbackServer) -> None:
    server.reply(PATH, first(chat_completion(text)))
    async with agent_for(server, door) as agent:
        assert await agent.query("?") == "Done."
    assert [city for city, *_ in ran] == ["Paris"]
