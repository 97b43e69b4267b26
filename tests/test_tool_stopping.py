"""What becomes of tools, their results and their child processes when a run is stopped or their time is up."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, AgentSession, Tool, tool
from any_agent.errors import InterruptedRunError
from any_agent.testing import ScriptedModel
from any_agent.tools.outbox import Outbox
from any_agent.tools.running import run_tool

NO_RESULT = "(no result: the call was interrupted)"
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only /proc tells whose children they are")


async def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async def poll() -> None:
        while not holds():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), timeout_s)


async def interrupted(session: AgentSession, begun: Callable[[], bool]) -> dict[str, Any]:
    """Interrupt a query when its tools have begun; what the history says of each call."""
    asking = asyncio.ensure_future(session.query("go"))
    await until(begun)
    await session.interrupt()
    with pytest.raises(InterruptedRunError):
        await asking
    return {one["tool_call_id"]: one["content"] for one in session.history if one["role"] == "tool"}


def calls(*names: str) -> list[Any]:
    return [[{"name": name, "input": {}, "id": name} for name in names], "done"]


# ------------------------------------------------------------------ results


async def test_a_tool_that_ends_when_it_is_told_to_stop_has_run() -> None:
    begun = asyncio.Event()
    seen: list[str] = []

    @tool
    async def pay() -> str:
        """Pay."""
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "paid 5"
        return "never"

    @tool
    async def fails() -> str:
        """Fail."""
        await asyncio.sleep(60)
        return "never"

    hooks = {"PostToolUse": [lambda event: seen.append(event.tool_result)]}
    async with Agent(ScriptedModel(calls("pay", "fails")), tools=[pay, fails], hooks=hooks) as agent:
        told = await interrupted(agent.create_session(), begun.is_set)
    assert told == {"pay": "paid 5", "fails": NO_RESULT}
    assert seen == ["paid 5"]


async def test_results_that_nobody_took_any_more_are_kept() -> None:
    @tool
    async def first() -> str:
        """First."""
        return "one"

    @tool
    async def second() -> str:
        """Second."""
        return "two"

    async with Agent(ScriptedModel(calls("first", "second")), tools=[first, second]) as agent:
        session = agent.create_session()
        async for event in session.stream("go"):
            if type(event).__name__ == "ToolCompleted":  # the other one has ended, too, and waits behind it
                await session.interrupt()
        told = {one["tool_call_id"]: one["content"] for one in session.history if one["role"] == "tool"}
    assert told == {"first": "one", "second": "two"}


async def test_a_hook_that_hangs_after_a_stopped_tool_holds_nothing_up() -> None:
    box: Outbox[str] = Outbox(cancel_again_s=0.05)
    stops: list[int] = []

    async def stubborn() -> None:
        box.put("begun")
        while len(stops) < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stops.append(1)
        box.put("ended")

    events = box.until_done([asyncio.ensure_future(stubborn())])
    assert await anext(events) == "begun"
    await events.aclose()  # type: ignore[attr-defined]
    assert stops == [1, 1] and list(box.left) == ["ended"]


# ------------------------------------------------------------------ child processes


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def written(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def starters(path: Path, seen: list[Any]) -> list[Any]:
    """Tools that begin processes in ways of their own; each process writes its id. asyncio's are put into `seen`."""
    command = f"echo $$ >> {path}; exec sleep 600"

    async def by_asyncio() -> None:
        child = await asyncio.create_subprocess_exec("sh", "-c", f"(echo $$ >> {path}; sleep 600); true")
        seen.append(child)
        await asyncio.wait_for(child.wait(), 600)

    async def by_shell() -> None:
        child = await asyncio.create_subprocess_shell(command)
        seen.append(child)
        await child.communicate()

    def by_run() -> None:
        subprocess.run(["sh", "-c", command], check=False)

    def by_system() -> None:
        os.system(command)

    return [by_asyncio, by_shell, by_run, by_system]


@on_linux
async def test_processes_that_stopped_tools_began_end(tmp_path: Path) -> None:
    path, seen = tmp_path / "pids", list[Any]()
    tools = [tool(one) for one in starters(path, seen)]
    async with Agent(ScriptedModel(calls(*[one.name for one in tools])), tools=tools) as agent:
        told = await interrupted(agent.create_session(), lambda: len(written(path)) == len(tools))
    assert set(told.values()) == {NO_RESULT}
    await until(lambda: not any(map(is_alive, written(path))))
    await until(lambda: all(child.returncode is not None for child in seen))  # before their loop is closed


@on_linux
async def test_processes_of_tools_whose_time_is_up_end(tmp_path: Path) -> None:
    path, seen = tmp_path / "pids", list[Any]()
    tools = [Tool("slow", handler=slow, timeout=1.5) for slow in starters(path, seen)]
    results = await asyncio.gather(*[run_tool(slow, {}) for slow in tools])
    assert {result.content for result in results} == {"Error: slow took longer than 1.5 s"}
    await until(lambda: len(written(path)) == len(tools))
    await until(lambda: not any(map(is_alive, written(path))))
    await until(lambda: all(child.returncode is not None for child in seen))


@on_linux
async def test_a_process_that_was_there_before_stays() -> None:
    engine = await asyncio.create_subprocess_exec("sleep", "600")
    begun = asyncio.Event()

    @tool
    async def ask_engine() -> None:
        """Ask."""
        child = engine
        begun.set()
        await child.wait()

    try:
        await asyncio.sleep(0.05)  # the clock of processes ticks a hundred times a second
        async with Agent(ScriptedModel(calls("ask_engine")), tools=[ask_engine]) as agent:
            await interrupted(agent.create_session(), begun.is_set)
        assert engine.returncode is None and is_alive(engine.pid)
    finally:
        engine.kill()
        await engine.wait()
