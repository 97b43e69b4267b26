"""`query()` and `Client`: blocks while they arrive, tools by hand or by themselves, interrupts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from any_agent import (
    Agent,
    AgentOptions,
    AssistantMessage,
    Client,
    ResultMessage,
    TextBlock,
    ToolMessage,
    ToolUseBlock,
    ToolUseError,
    query,
    tool,
)
from any_agent.errors import InvalidInputError, MaxTurnsError, ServerError
from any_agent.hooks import HookDecision
from any_agent.testing import LoopbackServer, ScriptedModel, WireCall, chat_chunks, error, sse

CHAT = "/v1/chat/completions"
ASKS = sse(chat_chunks("Let me see. ", tool_calls=[WireCall("add", '{"a": 1, "b": 2}')]))
SAYS = sse(chat_chunks(["It is ", "3"]))


@tool("add", "Add", {"a": int, "b": int})
async def add(args: dict[str, int]) -> dict[str, int]:
    return {"sum": args["a"] + args["b"]}


@pytest.fixture
def server() -> Iterable[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


def options(server: LoopbackServer, **more: Any) -> AgentOptions:
    return AgentOptions(model="m", base_url=server.base_url, tools=[add], max_retries=0, **more)


async def talk(client: Client, prompt: str = "1+2?") -> list[Any]:
    await client.query(prompt)
    return [block async for block in client.receive_messages()]


def text(blocks: Iterable[Any]) -> str:
    return "".join(b.text for b in blocks if isinstance(b, TextBlock))


async def test_tools_run_by_themselves_when_asked(server: LoopbackServer) -> None:
    server.reply(CHAT, ASKS, SAYS)
    async with Client(options(server, auto_execute_tools=True)) as client:
        blocks = await talk(client)
        assert text(blocks) == "Let me see. It is 3" and client.result and client.result.num_turns == 2
        assert [b.name for b in blocks if isinstance(b, ToolUseBlock)] == ["add"]
        assert client.history[2]["content"] == '{"sum": 3}'
        assert client.turn_metadata == {"turn_count": 1, "max_turns": None}


@pytest.mark.parametrize("ways", ["awaited, query('')", "awaited", "not awaited"])
async def test_tools_run_by_hand(server: LoopbackServer, ways: str) -> None:
    server.reply(CHAT, ASKS, SAYS)
    async with Client(options(server)) as client:
        await client.query("1+2?")
        seen = []
        async for block in client.receive_messages():
            seen.append(block)
            if isinstance(block, ToolUseBlock):
                answer = client.add_tool_result(block.id, await add.execute(block.input))
                if ways.startswith("awaited"):
                    await answer
                if ways.endswith("query('')"):
                    await client.query("")
        assert text(seen).endswith("It is 3") and len(server.requests) == 2
        assert [m["role"] for m in client.history] == ["user", "assistant", "tool", "assistant"]


async def test_results_may_come_after_the_loop(server: LoopbackServer) -> None:
    server.reply(CHAT, ASKS, SAYS)
    async with Client(options(server)) as client:
        (call,) = [b for b in await talk(client) if isinstance(b, ToolUseBlock)]
        await client.add_tool_result(call.id, 3)
        await client.query("")
        assert text([b async for b in client.receive_messages()]) == "It is 3"


async def test_hooks_in_both_ways(server: LoopbackServer) -> None:
    told: list[Any] = []

    async def gate(event: Any) -> HookDecision | None:
        return (
            HookDecision(modified_input={"a": 5, "b": 5})
            if event.tool_input["a"] == 1
            else HookDecision(False, reason="no")
        )

    async def audit(event: Any) -> None:
        told.append(event.tool_result)

    hooks = {"pre_tool_use": [gate], "post_tool_use": [audit]}
    refused = sse(chat_chunks(tool_calls=[WireCall("add", '{"a": 9, "b": 9}')]))
    server.reply(CHAT, ASKS, refused, SAYS)
    async with Client(options(server, hooks=hooks)) as client:
        await client.query("go")
        shown = []
        async for block in client.receive_messages():
            shown.append(block)
            if isinstance(block, ToolUseBlock):
                client.add_tool_result(block.id, await add.execute(block.input))
        assert [b.input for b in shown if isinstance(b, ToolUseBlock)] == [{"a": 5, "b": 5}]
        assert told == [{"sum": 10}] and text(shown).endswith("It is 3")
        assert client.history[4]["content"] == "Not run: no"


async def test_broken_calls_are_shown_and_told_to_the_model(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(tool_calls=[WireCall("add", '{"a": 1,')])), SAYS)
    async with Client(options(server)) as client:
        blocks = await talk(client)
        assert isinstance(blocks[0], ToolUseError) and text(blocks) == "It is 3"
        assert "Nothing was run" in client.history[2]["content"]


async def test_limits_are_enforced(server: LoopbackServer) -> None:
    server.reply(CHAT, ASKS)
    async with Client(options(server, auto_execute_tools=True, max_turns=1)) as client:
        with pytest.raises(MaxTurnsError, match="max_turns=1"):
            await talk(client)
    async with Client(options(server, max_turns=2)) as client:
        await client.query("go")
        with pytest.raises(MaxTurnsError, match="max_turns=2"):
            async for block in client.receive_messages():
                if isinstance(block, ToolUseBlock):
                    client.add_tool_result(block.id, 1)
        assert len(server.requests) == 3
    async with Client(options(server, max_tool_iterations=1)) as client:
        await client.query("go")
        with pytest.raises(MaxTurnsError, match="max_tool_iterations=1"):
            async for block in client.receive_messages():
                if isinstance(block, ToolUseBlock):
                    client.add_tool_result(block.id, 1)


async def test_errors_raise(server: LoopbackServer) -> None:
    server.reply(CHAT, error(500, "down"), SAYS)
    async with Client(options(server)) as client:
        with pytest.raises(ServerError, match="down"):
            await talk(client)
        assert text(await talk(client)) == "It is 3"
        with pytest.raises(InvalidInputError, match="query"):
            async for _ in client.receive_messages():
                pass
        with pytest.raises(InvalidInputError):
            client.add_tool_result("x", 1)


async def test_query_function(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(["It is ", "3"], reasoning="hm")), ASKS, error(500, "down"))
    messages = [m async for m in query(prompt="x", options=options(server))]
    parts = [b for m in messages if isinstance(m, AssistantMessage) for b in m.content]
    assert [type(b).__name__ for b in parts] == ["ThinkingBlock", "TextBlock", "TextBlock"]
    assert text(parts) == "It is 3" and isinstance(messages[-1], ResultMessage) and not hasattr(messages[-1], "content")
    called = [m async for m in query("x", options(server))]
    assert [c.name for m in called if isinstance(m, AssistantMessage) for c in m.tool_calls] == ["add"]
    seen = []
    with pytest.raises(ServerError):
        async for message in query("x", options(server)):
            seen.append(message)
    assert isinstance(seen[-1], ResultMessage) and seen[-1].is_error


async def test_query_function_runs_tools_when_asked(server: LoopbackServer) -> None:
    server.reply(CHAT, ASKS, SAYS, ASKS)
    messages = [m async for m in query("x", options(server, auto_execute_tools=True))]
    assert sum(isinstance(m, ToolMessage) for m in messages) == 1 and messages[-1].result == "It is 3"
    limited = [m async for m in query("x", options(server, auto_execute_tools=True, max_turns=1))]
    assert limited[-1].subtype == "limit"


async def test_interrupts(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(["One ", "two ", "three"])))
    async with Client(options(server)) as client:
        await client.query("count")
        async for block in client.receive_messages():
            if "One" in block.text:
                await client.interrupt()
                await client.interrupt()
                break
        assert client.history[-1] == {"role": "assistant", "content": "One "}
        assert text(await talk(client, "again")) == "One two three"


async def test_interrupt_from_another_task() -> None:
    client = Client(agent=Agent(ScriptedModel(["slow and long", "fine"], delay_s=0.03)))
    heard: list[Any] = []

    async def stream() -> list[Any]:
        await client.query("hi")
        async for block in client.receive_messages():
            heard.append(block)
        return heard

    task = asyncio.create_task(stream())
    while not heard:
        await asyncio.sleep(0)
    await client.interrupt()
    assert text(await task) == "slow"
    assert client.result and client.result.subtype == "interrupted"
    assert text(await talk(client)) == "fine"


async def test_history_can_be_assigned_and_more_may_be_asked_meanwhile() -> None:
    async with Client(agent=Agent(ScriptedModel(["one", "two"]))) as client:
        await client.connect("first")
        got = ""
        async for block in client.receive_response():
            got += block.text
            if got == "one":
                await client.query("second")
        assert got == "onetwo" and client.turn_count == 2
        client.message_history = client.history[:2]
        assert len(client.message_history) == 2


async def test_calls_share_their_connections(server: LoopbackServer) -> None:
    server.reply(CHAT, SAYS)
    for _ in range(3):
        assert [m async for m in query("x", options(server))][-1].result == "It is 3"
        async with Client(options(server)) as client:
            assert text(await talk(client)) == "It is 3"
    assert server.connections_opened == 1


async def test_a_refused_prompt_raises_where_it_is_said(server: LoopbackServer) -> None:
    async def gate(event: Any) -> HookDecision:
        return HookDecision(continue_=False, reason="no")

    async with Client(options(server, hooks={"user_prompt_submit": [gate]})) as client:
        with pytest.raises(RuntimeError, match="Query blocked by hook: no"):
            await client.query("x")
