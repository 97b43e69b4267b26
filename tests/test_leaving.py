"""Leaving at any moment: the HTTP stream closes, nothing stays pending, nothing is said at exit."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from any_agent import Agent, tool
from any_agent.models import openai_wire
from any_agent.testing import LoopbackServer, WireCall, WireReply, chat_chunks, sse

CHAT = "/v1/chat/completions"
ASKS = sse(chat_chunks(tool_calls=[WireCall("nap", "{}")]))
SAYS = sse(chat_chunks(["a", "b", "c"]))


@pytest.fixture
def server() -> Iterable[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@tool
async def nap() -> str:
    """Sleep a moment."""
    for _ in range(3):
        await asyncio.sleep(0)
    return "rested"


async def test_cancelled_at_any_step(server: LoopbackServer) -> None:
    """The task is cancelled after 1, 2, 3, … steps of the loop, until it gets through a tool round trip."""
    server.reply(CHAT, lambda request: SAYS if request.json["messages"][-1]["role"] == "tool" else ASKS)
    agent = Agent("m", base_url=server.base_url, tools=[nap])
    assert await agent.query("warm up") == "abc"
    before = asyncio.all_tasks()
    steps, finished = 0, False
    while not finished:
        steps += 1
        session = agent.create_session()
        task = asyncio.create_task(session.query("go"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            finished = await task == "abc"
        assert not session.is_busy and asyncio.all_tasks() == before
        for message, following in zip(session.messages, session.messages[1:], strict=False):
            assert not getattr(message, "tool_calls", ()) or following.role == "tool"
        assert steps < 2000
    assert steps > 5
    assert await agent.query("still fine") == "abc"
    await agent.aclose()


@pytest.mark.parametrize("leave", ["break", "cancel", "aclose", "interrupt"])
async def test_the_server_sees_the_client_leave(server: LoopbackServer, leave: str) -> None:
    server.reply(
        CHAT,
        WireReply(sse(chat_chunks(["a"]), done=False)[:2], headers={"Content-Type": "text/event-stream"}, stall=True),
    )
    async with Agent("m", base_url=server.base_url) as agent:
        session = agent.create_session()
        if leave == "cancel":
            asking = asyncio.ensure_future(session.query("x"))
            await server.requests_came()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        else:
            stream = session.stream("x")
            async for _event in stream:
                if leave == "interrupt":
                    await session.interrupt()
                break
            if leave == "aclose":
                await stream.aclose()  # type: ignore[attr-defined]
            elif leave == "break":
                del stream
        assert await server.client_left(2.5) == 1
        assert not session.is_busy


async def test_a_silent_server_is_cut_off(server: LoopbackServer) -> None:
    from any_agent.errors import ProviderTimeoutError

    server.reply(CHAT, WireReply(stall=True))
    async with Agent("m", base_url=server.base_url, timeout=0.2, max_retries=0) as agent:
        with pytest.raises(ProviderTimeoutError, match="silent for 0.2 s"):
            await agent.query("x")
    assert await server.client_left(2.5) == 1


async def test_comments_are_a_sign_of_life(clock: Callable[[float], float], server: LoopbackServer) -> None:
    pieces = [b": ping\n\n"] * 14 + SAYS
    server.reply(CHAT, WireReply(pieces, headers={"Content-Type": "text/event-stream"}, pause_s=clock(0.03)))
    async with Agent("m", base_url=server.base_url, timeout=clock(0.4), max_retries=0) as agent:
        assert await agent.query("x") == "abc"


async def test_connections_are_kept_and_shared(server: LoopbackServer) -> None:
    server.reply(CHAT, SAYS)
    agents = [Agent("m", base_url=server.base_url) for _ in range(5)]
    for agent in agents * 3:
        assert await agent.query("x") == "abc"
    assert server.connections_opened == 1 and len(server.requests) == 15
    for agent in agents[:-1]:
        await agent.aclose()
    assert await agents[-1].query("x") == "abc"
    assert server.connections_opened == 1
    await agents[-1].aclose()
    assert not openai_wire._POOLS.get(asyncio.get_running_loop())


async def test_a_connection_that_the_server_dropped_is_replaced(server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply(SAYS, headers={"Content-Type": "text/event-stream"}, framing="close"), SAYS)
    async with Agent("m", base_url=server.base_url, max_retries=0) as agent:
        assert await agent.query("x") == "abc"
        assert await agent.query("x") == "abc"


@pytest.mark.parametrize("at_once", [1, 4])
async def test_a_server_that_closes_after_each_answer_costs_no_retry(server: LoopbackServer, at_once: int) -> None:
    server.reply(CHAT, WireReply(SAYS, headers={"Content-Type": "text/event-stream"}, close_abruptly="after"))
    async with Agent("m", base_url=server.base_url, max_retries=0) as agent:
        for _ in range(20):
            answers = await asyncio.gather(*[agent.query("x") for _ in range(at_once)])
            assert all(answer == "abc" and len(answer.attempts) == 1 for answer in answers)


async def test_redirects_are_not_followed(server: LoopbackServer) -> None:
    from any_agent.errors import RequestRejectedError

    with LoopbackServer() as elsewhere:
        elsewhere.reply(CHAT, SAYS)
        server.reply(CHAT, WireReply([b""], status=307, headers={"Location": f"{elsewhere.base_url}/chat/completions"}))
        async with Agent("m", base_url=server.base_url, api_key="k", max_retries=0) as agent:
            with pytest.raises(RequestRejectedError, match="redirects to"):
                await agent.query("x")
        assert elsewhere.requests == []


async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reply(CHAT, SAYS)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Agent("m", base_url=server.base_url) as agent:
        assert await agent.query("x") == "abc"


SCRIPTS = {
    "never closed": "asyncio.run(agent.query('x')); asyncio.run(agent.query('x'))",
    "left in the middle": """
async def main():
    async for event in agent.stream('x'):
        break
asyncio.run(main())""",
    "cancelled": """
async def main():
    task = asyncio.create_task(agent.query('x'))
    await asyncio.sleep(0.001)
    task.cancel()
asyncio.run(main())""",
    "sync": "agent.query_sync('x'); agent.query_sync('x')",
    "sync, in threads": """
import threading
threads = [threading.Thread(target=lambda: agent.query_sync('x')) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()""",
    "error at the end": """
async def main():
    await agent.query('x')
    raise SystemExit(0)
asyncio.run(main())""",
    "two loops at once": """
import threading
threads = [threading.Thread(target=lambda: asyncio.run(agent.query('x'))) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_said_at_exit(server: LoopbackServer, name: str) -> None:
    server.reply(CHAT, SAYS)
    head = f"import asyncio\nfrom any_agent import Agent\nagent = Agent('m', base_url={server.base_url!r})\n"
    command = [sys.executable, "-W", "error", "-c", head + SCRIPTS[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
