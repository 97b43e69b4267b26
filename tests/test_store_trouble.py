"""Trouble with the store under a running session: told by its error, nothing said is lost, the next prompt goes on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import MemoryStoreError
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import ResultMessage, ToolMessage, text_of


class Trouble:
    """A store in a file, and what happens to it when the model calls the tool `trouble`."""

    def __init__(self, path: Path, kind: str, busy_timeout_s: float = 0.3) -> None:
        self.path, self.kind = str(path), kind
        self.store = MemoryStore(path, busy_timeout_s=busy_timeout_s)
        self._lock: sqlite3.Connection | None = None

        @tool(name="trouble")
        async def trouble() -> str:
            """Something happens to the disk."""
            await self.come()
            return "x" * 50_000

        self.tool = trouble

    async def come(self) -> None:
        if self.kind == "locked":
            self._lock = sqlite3.connect(self.path, isolation_level=None)
            self._lock.execute("BEGIN EXCLUSIVE")
        elif self.kind == "disk_full":
            await self._limit("SELECT page_count + 2 FROM pragma_page_count()")
        else:
            for end in ("", "-wal", "-shm"):
                if os.path.exists(self.path + end):
                    os.unlink(self.path + end)

    async def go(self) -> None:
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()
        elif self.kind == "disk_full":
            await self._limit("SELECT 1000000")

    async def _limit(self, query: str) -> None:
        def put(db: sqlite3.Connection) -> None:
            db.execute(f"PRAGMA max_page_count = {db.execute(query).fetchone()[0]}").fetchone()

        await self.store._db.alone(put)


async def ended(session: Any, prompt: str) -> ResultMessage:
    events = [event async for event in session.stream(prompt)]
    assert [type(event) for event in events].count(ResultMessage) == 1
    return events[-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["locked", "disk_full", "io"])
async def test_a_session_goes_on_when_the_trouble_is_over(tmp_path: Path, kind: str) -> None:
    trouble = Trouble(tmp_path / "m.db", kind)
    model = ScriptedModel(["one", ["I look", {"name": "trouble", "id": "1"}], "two", "three"])
    async with trouble.store as store, Agent(model, tools=[trouble.tool], store=store) as agent:
        session = agent.create_session("k")
        await session.query("first")
        end = await ended(session, "second")
        assert isinstance(end.error, MemoryStoreError) and end.error.reason == kind
        assert isinstance(session.messages[-1], ToolMessage)  # what the tool gave is here, if not in the store
        if kind != "io":
            before = session.messages
            end = await ended(session, "meanwhile")
            assert isinstance(end.error, MemoryStoreError) and end.error.reason == kind
            assert session.messages == before and len(model.requests) == 2  # nobody was asked
        await trouble.go()
        assert await session.query("third") == "two"
        kept = session.messages
        assert [text_of(m) for m in kept if m.role == "user"] == ["first", "second", "third"]
    async with Agent(EchoModel(), memory_db_path=trouble.path) as other:
        assert (await other.resume("k")).messages == kept


async def test_a_locked_store_is_waited_for_once(tmp_path: Path, clock: Callable[[float], float]) -> None:
    trouble = Trouble(tmp_path / "m.db", "locked", clock(0.3))
    async with trouble.store as store, Agent(ScriptedModel([{"name": "trouble"}]), store=store) as agent:
        agent.register_tool(trouble.tool)
        session = agent.create_session()
        started = time.monotonic()
        assert (await ended(session, "x")).error is not None
        assert time.monotonic() - started < clock(0.75)  # not once more for the end of the run and for the lease
        await trouble.go()


@pytest.mark.parametrize("way", ["timeout", "interrupt"])
async def test_a_locked_store_does_not_hold_up_who_leaves(tmp_path: Path, way: str) -> None:
    trouble = Trouble(tmp_path / "m.db", "locked")
    trouble.store = MemoryStore(tmp_path / "m.db", busy_timeout_s=20)
    async with trouble.store as store, Agent(EchoModel(), store=store) as agent:
        session = agent.create_session("k")
        await session.query("first")
        await trouble.come()
        started = time.monotonic()
        task = asyncio.create_task(session.query("second"))
        await asyncio.sleep(0.05)
        if way == "timeout":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.05)
        else:
            await session.interrupt()
            await asyncio.wait({task})
        assert time.monotonic() - started < 10
        await trouble.go()
        assert await session.query("third") == "third"
        assert [text_of(m) for m in session.messages] == ["first", "first", "third", "third"]


async def test_what_no_run_could_keep_is_kept_when_the_session_closes(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path / "m.db", "disk_full")
    async with trouble.store as store, Agent(ScriptedModel([{"name": "trouble"}]), store=store) as agent:
        agent.register_tool(trouble.tool)
        session = agent.create_session("k")
        assert (await ended(session, "x")).error is not None
        await trouble.go()
        await session.close()
        assert (await agent.resume("k")).messages == session.messages and len(session.messages) == 3


async def test_closing_in_trouble_closes_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(tmp_path / "m.db", "locked")
    async with trouble.store as store:
        agent = Agent(EchoModel(), store=store)
        first, second = agent.create_session("a"), agent.create_session("b")
        await first.query("secret")
        await second.query("x")
        first.clear()
        second.title = "not written"
        await trouble.come()
        with pytest.raises(MemoryStoreError):  # what was to be forgotten is still there
            await agent.aclose()
        assert "session b" in caplog.text and first._is_closed and second._is_closed
        await trouble.go()
        agent.create_session("a")


async def test_a_prompt_that_was_not_committed_can_be_said_again(tmp_path: Path) -> None:
    class Moody(MemoryStore):
        fails = False

        async def append(self, *args: Any, **named: Any) -> int:
            if self.fails:
                self.fails = False
                raise MemoryStoreError("full", reason="disk_full")
            return await super().append(*args, **named)

    async with Moody(tmp_path / "m.db") as store, Agent(EchoModel(), store=store) as agent:
        session = agent.create_session("k")
        store.fails = True
        with pytest.raises(MemoryStoreError):
            await session.query("x")
        assert session.messages == () and await session.query("x") == "x"
        await session.send("y")
        store.fails = True
        with pytest.raises(MemoryStoreError):
            await session.receive()
        assert await session.receive() == "y"
        assert [text_of(m) for m in session.messages] == ["x", "x", "y", "y"]
