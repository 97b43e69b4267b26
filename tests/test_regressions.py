"""Mistakes that were made once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from any_agent import Agent, AgentOptions, Client, ContextOverflowError, tool
from any_agent.config import Route
from any_agent.protocols import Model
from any_agent.testing import EchoModel, LoopbackServer, ScriptedModel, WireCall, chat_chunks, error, sse, token_usage
from any_agent.types import ResultMessage, ToolCallDelta, ToolCompleted, ToolMessage, ToolUseBlock

CHAT = "/v1/chat/completions"
SAYS = sse(chat_chunks(["Hello ", "world"]))
CUT = sse(chat_chunks(["Hello ", "world"], usage=token_usage(100, 2)))
LONG = "word " * 1000


@pytest.fixture
def server() -> Iterable[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.mark.parametrize("mode", ["ignore", "repeat"])
async def test_a_cut_prompt_never_empties_the_answer(server: LoopbackServer, mode: Any) -> None:
    async with Agent("m", base_url=server.base_url, context_window_size=20_000, on_truncation=mode) as agent:
        session = agent.create_session()
        server.reply(CHAT, SAYS)
        await session.query(LONG)
        server.reply(CHAT, CUT, SAYS)
        assert await session.query("and now?") == "Hello world"
        assert session.history[-1]["content"] == "Hello world"
    assert [r.path for r in server.requests].count(CHAT) == (2 if mode == "ignore" else 3)


async def test_a_prompt_that_alone_is_cut_is_no_answer(server: LoopbackServer) -> None:
    server.reply(CHAT, CUT)
    async with Agent("m", base_url=server.base_url, context_window_size=20_000) as agent:
        with pytest.raises(ContextOverflowError, match="Too big: last user turn"):
            await agent.query(LONG)
    assert [r.path for r in server.requests].count(CHAT) == 1


async def test_a_stream_of_text_never_says_it_twice(server: LoopbackServer) -> None:
    server.reply(CHAT, CUT)
    async with Agent("m", base_url=server.base_url, context_window_size=20_000) as agent:
        said = []
        with pytest.raises(ContextOverflowError, match="silently cut"):
            async for chunk in agent.stream_query(LONG):
                said.append(chunk)
        assert said == ["Hello ", "world"]


@pytest.mark.parametrize("spelling", ["api_base", "base_url"])
async def test_an_override_goes_where_it_says_and_takes_no_key_along(server: LoopbackServer, spelling: str) -> None:
    server.reply(CHAT, SAYS)
    with LoopbackServer() as other:
        other.reply(CHAT, SAYS)
        async with Agent("m", base_url=server.base_url, api_key="KEY-OF-A") as agent:
            await agent.query("for B", **{spelling: other.base_url})
            await agent.query("for B", **{spelling: other.base_url, "api_key": "KEY-OF-B"})
            await agent.query("for A", model="n")
        assert [r.headers.get("authorization") for r in other.requests] == [None, "Bearer KEY-OF-B"]
        assert [r.headers.get("authorization") for r in server.requests] == ["Bearer KEY-OF-A"]


async def test_a_cloud_key_never_follows_to_a_local_model() -> None:
    made: list[Route] = []

    class Watched(Agent):
        def make_model(self, route: Route, options: AgentOptions) -> Model:
            made.append(route)
            return EchoModel()

    await Watched("openai/gpt-4o", api_key="sk-cloud").query("x", model="ollama/llama3")
    assert [(route.provider, route.api_key) for route in made] == [("openai", "sk-cloud"), ("ollama", None)]


async def test_two_keys_for_one_model_are_two_models(server: LoopbackServer) -> None:
    server.reply(CHAT, error(401, "no"), SAYS)
    again = {"model": "m", "base_url": server.base_url, "api_key": "KEYTWO"}
    async with Agent("m", base_url=server.base_url, api_key="KEYONE", fallback_models=[again]) as agent:
        assert await agent.query("x") == "Hello world"
    assert [r.headers["authorization"] for r in server.requests] == ["Bearer KEYONE", "Bearer KEYTWO"]


async def test_an_overflow_after_a_call_never_runs_it_twice(server: LoopbackServer) -> None:
    ran: list[str] = []

    @tool
    def pay(to: str) -> str:
        """Pay."""
        ran.append(to)
        return "paid"

    asks = chat_chunks(tool_calls=[WireCall("pay", '{"to": "bob"}')])
    overflow = {
        "error": {
            "message": "the request exceeds the available context size",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 1500,
            "n_ctx": 1024,
        }
    }
    broken = sse([*asks[:-1], overflow], done=False)
    server.reply(CHAT, broken, sse(asks), SAYS)
    async with Agent("m", base_url=server.base_url, tools=[pay]) as agent:
        session = agent.create_session()
        session.replace_history([{"role": r, "content": "old words " * 30} for r in ("user", "assistant") * 5])
        assert await session.query("go") == "Hello world"
    assert ran == ["bob"]


def test_a_name_repeated_in_each_fragment_is_one_call() -> None:
    from any_agent.models.streaming import Fold

    fold = Fold()
    for arguments in ('{"a":', "1}", ""):
        fold.add(ToolCallDelta(0, None, "f", arguments))
    (call,) = fold.message().tool_calls
    assert isinstance(call, ToolUseBlock)
    assert call.input == {"a": 1}


async def test_a_server_that_tells_no_window_gets_the_whole_prompt(server: LoopbackServer) -> None:
    server.reply(CHAT, SAYS)
    async with Agent("m", base_url=server.base_url) as agent:
        assert await agent.query(LONG * 8) == "Hello world"
    chats = [r for r in server.requests if r.path == CHAT]
    assert len(chats) == 1
    assert len(chats[0].json["messages"][0]["content"]) == len(LONG) * 8


async def test_interrupt_while_the_consumer_goes_on() -> None:
    @tool
    async def quick() -> str:
        """Quick."""
        return "q"

    @tool
    async def slow() -> None:
        """Cleans up slowly."""
        try:
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(0.05)

    model = ScriptedModel([[{"name": "quick", "id": "1"}, {"name": "slow", "id": "2"}], "fine"])
    session = Agent(model, tools=[quick, slow]).create_session()
    events, stop = [], None
    async for event in session.stream("go"):
        events.append(event)
        if isinstance(event, ToolCompleted):
            stop = asyncio.create_task(session.interrupt())
            await asyncio.sleep(0)
    assert stop is not None
    await stop
    assert isinstance(events[-1], ResultMessage)
    assert events[-1].subtype == "interrupted"
    assert await session.query("so?") == "fine"


async def test_interrupt_while_a_prompt_hook_thinks() -> None:
    thinking = asyncio.Event()

    async def thinks(event: Any) -> None:
        if event.prompt == "first":
            thinking.set()
            await asyncio.sleep(9)

    seen: list[Any] = []
    session = Agent(EchoModel(), hooks={"user_prompt_submit": [thinks]}, observers=[seen.append]).create_session()

    async def first() -> Any:
        return [event async for event in session.stream("first")][-1]

    task = asyncio.create_task(first())
    await thinking.wait()
    await session.interrupt()
    assert session.result is not None and session.result.subtype == "interrupted"
    assert await session.query("second") == "second"
    assert (await task).subtype == "interrupted"
    assert [m["content"] for m in session.history] == ["second", "second"]
    assert [e.subtype for e in seen if isinstance(e, ResultMessage)] == ["interrupted", "success"]


async def test_a_finished_call_is_not_forgotten_when_an_earlier_one_is_interrupted() -> None:
    @tool
    async def slow() -> None:
        """Slow."""
        await asyncio.sleep(9)

    paid = asyncio.Event()

    @tool
    async def pay() -> str:
        """Pay."""
        paid.set()
        return "paid"

    session = Agent(
        ScriptedModel([[{"name": "slow", "id": "1"}, {"name": "pay", "id": "2"}]]), tools=[slow, pay]
    ).create_session()
    task = asyncio.create_task(session.query("go"))
    await paid.wait()
    for _ in range(20):  # its result is noted
        await asyncio.sleep(0)
    await session.interrupt()
    with pytest.raises(Exception, match="interrupted"):
        await task
    results = session.messages[-1]
    assert isinstance(results, ToolMessage)
    assert [b.as_text() for b in results.content] == ["(no result: the call was interrupted)", "paid"]


async def test_a_forced_choice_and_limits_hold_for_the_whole_prompt(server: LoopbackServer) -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    server.reply(CHAT, sse(chat_chunks(tool_calls=[WireCall("look")])))
    options = AgentOptions(model="m", base_url=server.base_url, tools=[look], tool_choice="required", max_turns=3)
    async with Client(options) as client:
        await client.query("go")
        calls = 0
        with pytest.raises(Exception, match="max_turns=3"):
            while calls < 10:
                async for block in client.receive_messages():
                    if isinstance(block, ToolUseBlock):
                        calls += 1
                        break
                client.add_tool_result(block.id, "seen")
                await client.query("")
    assert [r.json.get("tool_choice") for r in server.requests] == ["required", None, None]


async def test_what_tools_return_or_change_never_spoils_a_session(server: LoopbackServer) -> None:
    @tool
    def take(items: list[int]) -> str:
        """Take all."""
        while items:
            items.pop()
        return "caf\udce9"

    server.reply(CHAT, sse(chat_chunks(tool_calls=[WireCall("take", '{"items": [1, 2]}')])), SAYS)
    async with Agent("m", base_url=server.base_url, tools=[take]) as agent:
        session = agent.create_session()
        assert await session.query("go") == "Hello world"
        assert session.history[1]["tool_calls"][0]["function"]["arguments"] == '{"items": [1, 2]}'
        session.history[0]["content"] = "changed"
        assert session.history[0]["content"] == "go"
        assert await session.query("again") == "Hello world"


@pytest.mark.skipif(not hasattr(os, "fork") or sys.version_info >= (3, 12), reason="Python warns of fork with threads")
def test_query_sync_works_after_a_fork() -> None:
    assert Agent(EchoModel()).query_sync("x") == "x"
    child = os.fork()
    if child == 0:
        os._exit(0 if Agent(EchoModel()).query_sync("y") == "y" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_clear_forgets_and_close_frees_the_id(server: LoopbackServer) -> None:
    server.reply(CHAT, SAYS)
    agent = Agent("m", base_url=server.base_url)
    session = agent.create_session("u1")
    await session.query("x")
    session.clear()
    assert session.fitted == {}
    await session.close()
    assert await agent.query("y", session_id="u1") == "Hello world"
    await agent.query("z", max_retries=0)
    await agent.aclose()
    from any_agent.models import openai_wire

    assert not openai_wire._POOLS.get(asyncio.get_running_loop())


async def test_tools_that_are_switched_off_do_not_run() -> None:
    ran: list[int] = []

    @tool
    def look() -> None:
        """Look."""
        ran.append(1)

    model = ScriptedModel([{"name": "look"}, "fine"])
    assert await Agent(model, tools=[look], enable_tools=False).query("go") == "fine"
    assert ran == []
