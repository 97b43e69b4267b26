"""At most five own frames and five own files lie between the public call and the door."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, AgentResponse, Client
from any_agent.types import Delta, ModelRequest, StreamEnd, TextDelta

PACKAGE = str(Path(__file__).parents[2] / "any_agent") + os.sep


class Witness:
    """A door that notes which frames of ours lie above it."""

    name = "witness"

    def __init__(self) -> None:
        self.frames: list[tuple[str, str]] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        frame = sys._getframe().f_back
        while frame is not None:
            if frame.f_code.co_filename.startswith(PACKAGE):
                self.frames.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_code.co_name))
            frame = frame.f_back
        yield TextDelta("x")
        yield StreamEnd("witness", "stop")

    async def aclose(self) -> None:
        return None


async def by_query(agent: Agent) -> AgentResponse:
    return await agent.query("x")


async def by_text(agent: Agent) -> str:
    return "".join([c async for c in agent.stream_query("x")])


async def by_events(agent: Agent) -> Any:
    return [e async for e in agent.stream("x")][-1].result


async def by_session(agent: Agent) -> AgentResponse:
    session = agent.create_session()
    await session.send("x")
    return await session.receive()


async def by_client(agent: Agent) -> str:
    client = Client(agent=agent)
    await client.query("x")
    return "".join([b.text async for b in client.receive_messages()])


@pytest.mark.parametrize("way", [by_query, by_text, by_events, by_session, by_client])
async def test_few_frames_lie_between(way: Callable[[Agent], Any]) -> None:
    door = Witness()
    assert await way(Agent(door)) == "x"
    between = door.frames[:-1]  # the last is the public call itself
    assert len(between) <= 5, door.frames
    assert len({file for file, _ in between}) <= 5, door.frames
    assert [name for _, name in door.frames[:3]] == ["stream", "stream", "run_turns"]


def test_the_other_distribution_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "any_agent-1.18.0.dist-info").mkdir()
    program = "import any_agent; print(any_agent.other_distribution())"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert "UserWarning" in done.stderr
    assert "pip uninstall any-agent any-agent-harness" in done.stderr
    assert done.stdout.strip() == str(tmp_path / "any_agent-1.18.0.dist-info")
    quiet = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (quiet.stdout.strip(), quiet.stderr) == ("None", "")
