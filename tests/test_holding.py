"""One run holds a session: for as long as it goes on, however silent, and not a moment longer, however it is left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import InterruptedRunError, LimitError, SessionBusyError, SessionClosedError
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import AssistantMessage, ResultMessage, TextDelta


async def until(is_true: Any, limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


async def first_text(stream: Any) -> None:
    while not isinstance(await stream.__anext__(), TextDelta):
        pass


@pytest.mark.parametrize("way", ["interrupt", "break"])
async def test_a_run_that_ends_late_does_not_give_away_the_next_ones_session(tmp_path: Path, way: str) -> None:
    path = tmp_path / "m.db"
    async with (
        Agent(EchoModel(), memory_db_path=str(path)) as agent,
        Agent(EchoModel(), memory_db_path=str(path)) as other,
    ):
        session = agent.create_session("k")
        left = session.stream("a long text")
        await first_text(left)
        if way == "interrupt":
            await session.interrupt()
        else:
            leaving = asyncio.ensure_future(left.aclose())  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        running = session.stream("another long text")
        await first_text(running)
        if way == "interrupt":
            assert [type(event) async for event in left] == [ResultMessage]
        else:
            await leaving
        with pytest.raises(SessionBusyError):
            await other.query("steal", session_id="k")
        events = [event async for event in running]
        assert isinstance(events[-1], ResultMessage) and events[-1].subtype == "success"
        assert await other.query("free", session_id="k") == "free"
        kept = (await other.resume("k")).messages
        assert kept[:4] == session.messages and len(kept) == 6


async def test_cancelled_at_any_step_it_is_free_for_others(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with (
        Agent(EchoModel(), memory_db_path=str(path)) as agent,
        Agent(EchoModel(), memory_db_path=str(path)) as other,
    ):
        await agent.query("open", session_id="a")
        await other.query("open", session_id="b")
        for steps in range(1, 40):
            task = asyncio.create_task(agent.query("hello", session_id=f"k{steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert await other.query("free", session_id=f"k{steps}") == "free"


async def test_the_commit_of_the_result_gives_the_session_back(tmp_path: Path) -> None:
    calls: list[str] = []

    class Counting(MemoryStore):
        async def append(self, session_id: str, entries: Any, **named: Any) -> int:
            calls.append("append")
            return await super().append(session_id, entries, **named)

        async def release(self, session_id: str, fence: int) -> None:
            calls.append("release")
            await super().release(session_id, fence)

    async with Counting(tmp_path / "m.db") as store, Agent(EchoModel(), store=store) as agent:
        session = agent.create_session("k")
        assert await session.query("x") == "x"
        assert calls == ["append"] * 2  # the prompt; the answer, which nobody was told of yet, with the result
        async for event in session.stream("y"):
            if isinstance(event, AssistantMessage):
                assert len(await store.load("k", kinds=("message",))) == 4
            if isinstance(event, ResultMessage):
                assert calls == ["append"] * 5
                assert await store.holder("k") is None
                session.title = "named afterwards"
        assert await store.holder("k") is None and len(await store.load("k", kinds=("message",))) == 4
        async with Agent(EchoModel(), store=store) as other:
            assert (await other.resume("k")).title == "named afterwards"
            with pytest.raises(LimitError):
                await other.query("z", session_id="k", max_budget_tokens=1)
        assert calls[-1] == "release" and await store.holder("k") is None  # there might have been more to write


async def test_an_interrupt_that_comes_after_the_result_changes_nothing(tmp_path: Path) -> None:
    class Slow(MemoryStore):
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def append(self, session_id: str, entries: Any, **named: Any) -> int:
            if any(entry["kind"] == "interaction" for entry in entries):
                self.reached.set()
                await self.go_on.wait()
            return await super().append(session_id, entries, **named)

    async with Slow(tmp_path / "m.db") as store, Agent(EchoModel(), store=store) as agent:
        session = agent.create_session()

        async def results() -> list[str]:
            return [event.subtype async for event in session.stream("x") if isinstance(event, ResultMessage)]

        task = asyncio.create_task(results())
        await store.reached.wait()
        stopping = asyncio.create_task(session.interrupt())
        await asyncio.sleep(0)
        store.go_on.set()
        await stopping
        assert await task == ["success"] and session.turn_count == 1
        assert await session.query("y") == "y"


async def test_interrupt_from_a_thread() -> None:
    @tool
    async def hang() -> None:
        """Never ends."""
        started.set()
        await asyncio.Event().wait()

    started = asyncio.Event()
    async with Agent(ScriptedModel([{"name": "hang", "id": "1"}, "fine"]), tools=[hang]) as agent:
        session = agent.create_session()
        task = asyncio.create_task(session.query("x"))
        await started.wait()
        thread = threading.Thread(target=lambda: asyncio.run(session.interrupt()))
        thread.start()
        with pytest.raises(InterruptedRunError):
            await asyncio.wait_for(task, 10)  # in silence: nothing else wakes the loop
        await asyncio.to_thread(thread.join)
        assert await session.query("y") == "fine"


async def test_closing_the_agent_waits_for_the_run_it_interrupts(tmp_path: Path) -> None:
    def writers() -> int:
        return sum("connection_worker" in thread.name for thread in threading.enumerate())

    before = writers()
    model = ScriptedModel(["abcd" * 100] * 3, delay_s=0.005)
    agent = Agent(model, memory_db_path=str(tmp_path / "m.db"))
    session = agent.create_session("k")
    task = asyncio.create_task(session.query("x"))
    await until(lambda: model.requests)
    await agent.aclose()
    await asyncio.wait({task})
    with pytest.raises(InterruptedRunError):
        task.result()
    with pytest.raises(SessionClosedError):
        await session.query("y")
    assert writers() == before  # nothing has opened the store again


class Short(MemoryStore):
    lease_s = 0.2


async def test_who_is_alive_keeps_the_session_however_silent(tmp_path: Path) -> None:
    @tool
    async def ponder() -> str:
        """Takes its time."""
        await thought.wait()
        return "so"

    thought, path = asyncio.Event(), tmp_path / "m.db"
    model = ScriptedModel([{"name": "ponder", "id": "1"}, "fine"])
    async with Short(path) as store, Agent(model, tools=[ponder], store=store) as agent, MemoryStore(path) as other:
        task = asyncio.create_task(agent.query("x", session_id="k"))
        while (held := await other.holder("k")) is None:
            await asyncio.sleep(0.002)
        until_s = held.expires_at
        for _ in range(2000):  # three leases later
            held = await other.holder("k")
            if held is not None and held.expires_at > until_s + 3 * Short.lease_s:
                break
            await asyncio.sleep(0.005)
        assert held is not None and held.expires_at > until_s + 3 * Short.lease_s
        with pytest.raises(SessionBusyError):
            await other.lease("k", "somebody else")
        thought.set()
        assert await task == "fine"
        assert await other.lease("k", "somebody else")


LEFT = """
import asyncio, gc
from any_agent import Agent, tool
from any_agent.testing import ScriptedModel

@tool
async def hang() -> str:
    "Never ends."
    await asyncio.Event().wait()

model = ScriptedModel([{"name": "hang", "id": "1"}, "fine"])
agent = Agent(model, tools=[hang], enable_memory=%s, log_level="ERROR")
session = agent.create_session()

async def main():
    async with session:
        await session.query("hello")

async def begin():
    global task
    task = asyncio.ensure_future(main())
    while len(session.messages) < 2:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    task._log_destroy_pending = False  # that is asyncio's to say

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(begin())
for one in asyncio.all_tasks(loop):
    one._log_destroy_pending = False
loop.close()
del task, one
gc.collect()

async def again():
    assert await session.query("again") == "fine"
    await agent.aclose()

asyncio.run(again())
"""


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_loop_that_is_closed_in_the_middle_leaves_a_usable_session(is_kept: bool) -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(LEFT % is_kept)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


CTRL_C = """
import asyncio
from any_agent import Agent, tool
from any_agent.testing import ScriptedModel

@tool
async def hang() -> str:
    "Takes its time to end."
    print("running", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(50):
            await asyncio.sleep(0)

agent = Agent(ScriptedModel([{"name": "hang", "id": "1"}, "fine"]), tools=[hang], log_level="ERROR")
try:
    agent.query_sync("x", session_id="k")
except KeyboardInterrupt:
    print(agent.query_sync("y", session_id="k"))
"""


def test_ctrl_c_in_blocking_code_leaves_a_usable_session() -> None:
    with subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None and program.stdout.readline() == "running\n"
            program.send_signal(signal.SIGINT)
            said, _ = program.communicate(timeout=50)
        finally:
            program.kill()
    assert (program.returncode, said) == (0, "fine\n")
