"""What a query costs, in function calls: exact, so a gate can hold them. The clocks are in benchmarks/overhead.py."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from any_agent import Agent
from any_agent.testing.loopback import LoopbackServer

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import gates  # noqa: E402
from call_counting import CallCount, calls_of  # noqa: E402
from model_server import SCENARIOS  # noqa: E402
from ways_to_ask import DirectDoor, past  # noqa: E402


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        for name, script in SCENARIOS.items():
            server.reply(f"/{name}/v1/chat/completions", script)
        yield server


@pytest.fixture
async def direct(server: LoopbackServer) -> AsyncIterator[DirectDoor]:
    way = DirectDoor(server.root_url)
    yield way
    await way.aclose()


def run_python(code: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    environment = {**os.environ, "PYTHONPATH": path, "LITELLM_LOCAL_MODEL_COST_MAP": "True", **environ}
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=False, env=environment, timeout=50
    )


def test_the_counter_counts_python_and_c_calls() -> None:
    def seven() -> int:
        return len("seven") + 2

    with CallCount() as count:
        for _ in range(10):
            seven()
    assert count.total == 20


async def test_a_query(direct: DirectDoor) -> None:
    assert await direct.query() == "one two three "
    assert await calls_of(direct.query) <= gates.QUERY_CALLS


async def test_a_chunk_of_a_stream(direct: DirectDoor) -> None:
    assert await direct.stream("ready100") == 100
    few = await calls_of(lambda: direct.stream("ready100"), rounds=3)
    many = await calls_of(lambda: direct.stream("ready300"), rounds=3)
    assert (many - few) / 200 <= gates.CHUNK_CALLS


async def test_a_tool_trip(direct: DirectDoor) -> None:
    assert await direct.tool_trip() == "2 "
    assert await calls_of(direct.tool_trip) <= gates.TOOL_TRIP_CALLS


async def test_a_message_of_history(direct: DirectDoor) -> None:
    short = await calls_of(direct.conversation(past(10)), rounds=3)
    long = await calls_of(direct.conversation(past(1000)), rounds=3)
    assert (long - short) / 990 <= gates.MESSAGE_CALLS


async def test_agents_of_one_address_and_key_share_their_connections(server: LoopbackServer) -> None:
    url = f"{server.root_url}/slow/v1"
    ways = [DirectDoor(server.root_url) for _ in range(5)]
    for way in ways:
        await asyncio.gather(*[way.agent("slow").query("one") for _ in range(2)])
    assert server.connections_opened == 2
    await asyncio.gather(*[way.agent("slow").query("one") for way in ways])
    assert server.connections_opened == 5

    async with Agent("m", base_url=url, api_key="another key") as stranger:
        await stranger.query("one")
        assert server.connections_opened == 6, "a connection that carried one key served another"
    for way in ways:
        await way.aclose()
    assert await ways[0].agent("short").query("again") == "again "
    await ways[0].aclose()


async def test_200_sessions_at_once_lose_none(direct: DirectDoor, server: LoopbackServer) -> None:
    turns = [direct.conversation([], "slow") for _ in range(200)]
    for _ in range(2):
        answers = await asyncio.gather(*[turn() for turn in turns])
        assert {str(answer) for answer in answers} == {"one two three "}
    assert server.connections_opened <= 200


IMPORT = """
import os, sys
def resident_mb():
    try:
        with open("/proc/self/statm") as memory:
            return int(memory.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:  # no such file on this system: the memory goes unchecked
        return 0.0
touched = []
sys.addaudithook(lambda event, _: touched.append(event) if event.startswith("socket.") else None)
resident_mb()
before, modules = resident_mb(), set(sys.modules)
{statement}
print(resident_mb() - before, len(sys.modules.keys() - modules))
import threading
assert threading.active_count() == 1, threading.enumerate()
assert not touched, touched
"""
ALL_OF_IT = "from any_agent import Agent, AgentOptions, Client, tool"
ITS_GROUND = "import asyncio, pydantic\nclass Model(pydantic.BaseModel): x: int = 1"


def import_weight(statement: str, compiled: Path) -> tuple[float, int]:
    """(resident MB over bare Python, modules); a first run compiles, which takes memory of its own."""
    for _ in range(2):
        done = run_python(
            IMPORT.format(statement=statement), PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(compiled)
        )
        assert done.returncode == 0, done.stderr
    memory_mb, modules = done.stdout.split()
    return float(memory_mb), int(modules)


def test_import_weighs_little(tmp_path: Path) -> None:
    memory_mb, modules = import_weight("import any_agent", tmp_path)
    assert modules <= gates.IMPORT_MODULES
    assert memory_mb <= gates.IMPORT_MB


def test_all_of_it_weighs_little_more_than_asyncio_and_pydantic(tmp_path: Path) -> None:
    memory_mb, modules = import_weight(ALL_OF_IT, tmp_path)
    ground_mb, _ = import_weight(ITS_GROUND, tmp_path)
    assert modules <= gates.ALL_MODULES
    assert memory_mb - ground_mb <= gates.OWN_MB


FIRST_ANSWER = """
import sys
from any_agent import Agent
assert Agent("m", base_url={url!r}).query_sync("hello") == "hello "
assert "litellm" not in sys.modules and "openai" not in sys.modules and "httpx" not in sys.modules
"""


def test_the_first_answer_comes_without_litellm(server: LoopbackServer) -> None:
    done = run_python(FIRST_ANSWER.format(url=f"{server.root_url}/short/v1"))
    assert (done.returncode, done.stderr) == (0, "")


LEFT_OPEN = """
import asyncio
from any_agent import Agent

agent = Agent("m", base_url={root!r} + "/short/v1")
slow = Agent("m", base_url={root!r} + "/paced60/v1")

async def main():
    asyncio.get_running_loop().slow_callback_duration = 10  # the first step imports aiohttp
    assert await agent.query("hello") == "hello "
    async for chunk in slow.stream_query("hello"):
        break
    session = slow.create_session()
    waiting = asyncio.ensure_future(session.query("hello"))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

asyncio.run(main())
asyncio.run(main())
assert agent.query_sync("again") == "again "
print("done")
"""


def test_nothing_is_unclosed_at_exit(server: LoopbackServer) -> None:
    """Agents that nobody closed, a stream left by break, a cancelled query, three loops one after another."""
    done = run_python(LEFT_OPEN.format(root=server.root_url), "-X", "dev", "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


LITELLM_DOOR = """
import asyncio, json, sys
from call_counting import calls_of
from ways_to_ask import LiteLLMDoor, LiteLLMOwnHttp

async def main():
    plain, door = LiteLLMOwnHttp({root!r}), LiteLLMDoor({root!r})
    alone = await calls_of(lambda: plain.stream("short"), rounds=3)
    assert await door.query() == "one two three "
    print(json.dumps([alone, await calls_of(door.query, rounds=3)]))
    await door.aclose()

asyncio.run(main())
"""


@pytest.mark.slow  # test_litellm_wrapper.py holds the same gate in the child process that it starts anyway
def test_the_litellm_door_adds_little_to_litellm(server: LoopbackServer) -> None:
    done = run_python(LITELLM_DOOR.format(root=server.root_url))
    assert done.returncode == 0, done.stderr
    alone, by_the_door = json.loads(done.stdout)
    assert by_the_door <= alone + gates.LITELLM_EXTRA_CALLS
