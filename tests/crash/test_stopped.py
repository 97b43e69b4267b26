"""SIGSTOP: who was stopped for longer than its lease has lost the session, and writes nothing when it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from any_agent import Agent
from any_agent.errors import SessionBusyError
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel
from any_agent.types import text_of

from .judge import ROOT
from .sleeper import LEASE_S


async def taken_over(path: str, sleeper: subprocess.Popen[str]) -> list[int]:
    """Seqs of the messages there were when the sleeper was woken."""
    async with Agent(EchoModel(), memory_db_path=path) as agent, MemoryStore(path) as store:
        first = await store.holder("k")
        while (
            (held := await store.holder("k")) is None or first is None or held.expires_at < first.expires_at + LEASE_S
        ):
            first = first or held
            await asyncio.sleep(0.01)  # it lives, and prolongs its lease
        sleeper.send_signal(signal.SIGSTOP)
        for _ in range(2000):
            try:
                assert await agent.query("mine now", session_id="k") == "mine now"
                break
            except SessionBusyError:
                await asyncio.sleep(0.02)
        seqs = [row["seq"] for row in await store.load("k", kinds=("message",))]
        sleeper.send_signal(signal.SIGCONT)
        return seqs


def test_who_was_stopped_for_too_long_writes_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "m.db")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    sleeper = subprocess.Popen(
        [sys.executable, "-m", "crash.sleeper", path],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with sleeper:
        try:
            assert sleeper.stdout is not None and sleeper.stdout.readline() == "speaking\n"
            before = asyncio.run(asyncio.wait_for(taken_over(path, sleeper), 60))
            said, _ = sleeper.communicate("go on\n", timeout=60)
        finally:
            sleeper.kill()
    # No tool ran on the answer: it could not be committed.
    assert said.replace("speaking\n", "") == "ended SessionFencedError\nafter it\n"

    async def kept() -> tuple[list[int], list[str]]:
        async with MemoryStore(path) as store, Agent(EchoModel(), store=store) as agent:
            seqs = [row["seq"] for row in await store.load("k", kinds=("message",))]
            return seqs, [text_of(m) for m in (await agent.resume("k")).messages if m.role == "user"]

    after, prompts = asyncio.run(kept())
    assert after[: len(before)] == before and prompts == ["first", "second", "mine now", "third"]
