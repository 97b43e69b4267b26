"""Runs that are cut off: cancelled more than once, interrupted, by a server that goes away; clients that are closed."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, AgentOptions, Client, ResultMessage, TextDelta, ToolCompleted, ToolUseBlock, tool
from any_agent.errors import ServerUnreachableError
from any_agent.models.fallback import RetryPolicy
from any_agent.testing import EchoModel, LoopbackServer, ScriptedModel, WireReply, chat_chunks, sse

CALLS = [ToolUseBlock("c1", "slow", {}), ToolUseBlock("c2", "quick", {})]


@tool
async def slow() -> str:
    """Takes a while, and to tidy up too."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)
    return "slow"


@tool
def quick() -> str:
    """At once."""
    return "quick"


async def cancelled_in_every_step(task: asyncio.Task[Any]) -> None:
    """As anyio does when a client has left: once is not enough."""
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_task_that_is_cancelled_in_every_step_frees_its_session(kept: bool, tmp_path: Path) -> None:
    where: dict[str, Any] = {"memory_db_path": str(tmp_path / "m.db")} if kept else {"enable_memory": False}
    async with Agent(ScriptedModel([CALLS, "fine"]), tools=[slow, quick], **where) as agent:
        session, begun = agent.create_session("s"), asyncio.Event()

        async def serve() -> None:
            async with aclosing(session.stream("go")) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, ToolCompleted):
                        begun.set()
                        await asyncio.sleep(60)  # a slow socket

        task = asyncio.create_task(serve())
        await begun.wait()
        await cancelled_in_every_step(task)
        assert not session.is_busy
        assert [one["role"] for one in session.history] == ["user", "assistant", "tool", "tool"]
        assert await session.query("still there?") == "fine"
        if kept:
            assert await agent.memory.holder("s") is None


async def test_an_interrupt_that_is_cancelled_frees_the_session() -> None:
    async with Agent(ScriptedModel([CALLS, "fine"]), tools=[slow, quick], enable_memory=False) as agent:
        session = agent.create_session()
        events = session.stream("go")
        async for event in events:
            if isinstance(event, ToolCompleted):
                break
        task = asyncio.create_task(session.interrupt())
        await asyncio.sleep(0)
        await cancelled_in_every_step(task)
        assert not session.is_busy
        assert await session.query("still there?") == "fine"
        with suppress(RuntimeError):
            await events.aclose()  # type: ignore[attr-defined]


async def test_the_result_of_an_interrupted_run_tells_what_it_took() -> None:
    model = ScriptedModel([ToolUseBlock("c1", "quick", {}), ToolUseBlock("c2", "quick", {"x": 1}), "a long answer"])
    session = Agent(model, tools=[quick], enable_memory=False).create_session()
    results = []
    async for event in session.stream("go"):
        if isinstance(event, TextDelta):
            await session.interrupt()
        if isinstance(event, ResultMessage):
            results.append(event)
    (result,) = results
    spent = await session.usage()
    assert (result.subtype, result.num_turns, len(result.attempts)) == ("interrupted", 2, 2)
    assert result.usage is not None and result.usage.input_tokens == spent.input_tokens > 0
    assert result.timings.total_s >= result.timings.model_s >= 0


async def test_a_client_that_is_closed_leaves_no_store_open(tmp_path: Path) -> None:
    def open_files() -> int:
        return sum(str(tmp_path) in os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd"))

    options = AgentOptions(model="m", base_url="http://127.0.0.1:9/v1", memory_db_path=str(tmp_path / "m.db"))
    async with Client(options, max_retries=0) as client:
        await client.query("x")
        with pytest.raises(ServerUnreachableError):
            [block async for block in client.receive_messages()]
        assert open_files() > 0
    assert open_files() == 0
    async with Agent(EchoModel(), memory_db_path=str(tmp_path / "m.db")) as agent:
        async with Client(agent=agent) as client:
            await client.query("x")
            assert [block async for block in client.receive_messages()]
        assert open_files() > 0, "an agent of the user's keeps its store"


def test_how_often_a_server_is_tried_that_cannot_be_reached() -> None:
    gone = ServerUnreachableError("gone")
    assert RetryPolicy(3, 0.0).wait_s(gone, 0, 0.0) is not None
    assert RetryPolicy(3, 0.0).wait_s(gone, 1, 0.0) is None, "nobody is there: say so soon"
    assert RetryPolicy(3, 0.0).wait_s(gone, 2, 0.0, was_there=True) is not None
    assert RetryPolicy(5, 0.0, waits_for_servers=True).wait_s(gone, 4, 0.0) is not None
    assert RetryPolicy(5, 0.0, waits_for_servers=True).wait_s(gone, 5, 0.0) is None
    plain = ServerUnreachableError("speaks no TLS")
    plain.retry_limit = 0
    assert RetryPolicy(5, 0.0, waits_for_servers=True).wait_s(plain, 0, 0.0) is None


async def test_a_server_that_dies_and_comes_back_is_waited_for() -> None:
    """It breaks off in mid-answer, is away for two tries, and answers then."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    answer = sse(chat_chunks(["Hel", "lo"]))
    first = LoopbackServer(port=port)
    first.__enter__()
    first.reply("/v1/chat/completions", WireReply(answer[:2], close_abruptly="reset", headers=dict(EVENTS)))
    second = LoopbackServer(port=port)
    tries = 0

    def watch(event: Any) -> None:
        nonlocal tries
        if type(event).__name__ == "AttemptFailed":
            tries += 1
            if tries == 1:
                first.__exit__(None, None, None)
            if tries == 3:
                second.__enter__()
                second.reply("/v1/chat/completions", sse(chat_chunks(["lo"])))

    try:
        url = f"http://127.0.0.1:{port}/v1"
        async with Agent("m", base_url=url, retry_delay=0.01, observers=[watch], enable_memory=False) as agent:
            assert await agent.query("x") == "Hello"
    finally:
        if tries >= 3:
            second.__exit__(None, None, None)
    assert tries == 3


EVENTS = {"Content-Type": "text/event-stream"}
