"""Sessions outlive their process: resume, fork, rewind, two writers, budgets, the ledger."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import (
    BudgetExceededError,
    InvalidInputError,
    MemoryStoreError,
    ServerError,
    SessionBusyError,
    SessionNotFoundError,
)
from any_agent.memory import MemoryStore
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import AssistantMessage, ResultMessage, ToolMessage, ToolStarted, UserMessage, text_of

CALL = {"name": "look", "input": {}, "id": "c1"}


@tool
async def look() -> str:
    """Look."""
    return "seen"


def home() -> Path:
    return Path(os.environ["ANY_AGENT_HOME"])


async def test_a_conversation_is_there_after_a_restart() -> None:
    async with Agent(ScriptedModel([[CALL], "one"]), tools=[look]) as agent:
        session = agent.create_session("talk")
        assert await session.query("What is there?") == "one"
        before = session.messages
    model = ScriptedModel(["two"])
    async with Agent(model) as other:
        session = await other.resume("talk")
        assert session.messages == before and session.title == "What is there?" and session.turn_count == 1
        assert await session.query("And now?") == "two"
        assert [text_of(m) for m in model.requests[0].messages if isinstance(m, UserMessage)] == [
            "What is there?",
            "And now?",
        ]
        (row,) = await other.list_sessions()
        assert (row["session_id"], row["title"], row["message_count"]) == ("talk", "What is there?", 6)


async def test_a_new_session_with_a_known_id_goes_on_with_it() -> None:
    async with Agent(EchoModel()) as agent:
        await agent.query("first", session_id="diary")
    async with Agent(EchoModel()) as agent:
        await agent.query("second", session_id="diary")
        assert [text_of(m) for m in agent.create_session("x").messages] == []
        assert len((await agent.resume("diary")).messages) == 4


async def test_who_is_not_known_is_named() -> None:
    async with Agent(EchoModel()) as agent:
        with pytest.raises(SessionNotFoundError, match="nobody"):
            await agent.resume("nobody")
        assert await agent.create_session("nobody").query("free again") == "free again"


async def test_an_open_session_is_not_replaced() -> None:
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("one")
        with pytest.raises(SessionBusyError, match="close"):
            agent.create_session("one")
        await session.close()
        agent.create_session("one")


async def test_one_off_queries_are_kept_only_when_asked() -> None:
    async with Agent(EchoModel()) as agent:
        await agent.query("not kept")
        assert not home().exists()
        await agent.query("kept", enable_memory=True)
        assert [row["title"] for row in await agent.list_sessions()] == ["kept"]


@pytest.mark.parametrize("named_in", ["options", "file", "memory section"])
async def test_who_names_a_place_has_not_asked_for_one_off_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_in: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".agent").mkdir()
    text = {"file": "options: {memory_db_path: m.db}", "memory section": "memory: {type: sqlite, path: m.db}"}
    (tmp_path / ".agent" / "config.yml").write_text(text.get(named_in, ""))
    fields: dict[str, Any] = {"memory_db_path": "m.db"} if named_in == "options" else {}
    async with Agent(EchoModel(), **fields) as agent:
        await agent.query("secret")
        assert not (tmp_path / "m.db").exists()
        await agent.query("kept", enable_memory=True)
        await agent.create_session("talk").query("kept, too")
        await agent.query("and this", session_id="other")
        assert {row["title"] for row in await agent.list_sessions()} == {"kept", "kept, too", "and this"}
    assert (tmp_path / "m.db").exists() and not home().exists()


async def test_a_named_store_has_not_been_asked_for_one_off_queries_but_must_open(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store, Agent(EchoModel(), store=store) as agent:
        await agent.query("secret")
        assert await agent.list_sessions() == []
    (tmp_path / "file").write_text("")
    async with Agent(EchoModel(), memory_db_path=str(tmp_path / "file" / "m.db")) as agent:
        assert await agent.query("secret") == "secret"
        with pytest.raises(MemoryStoreError):
            await agent.create_session().query("hello")


async def test_without_memory_nothing_is_written() -> None:
    async with Agent(EchoModel(), enable_memory=False) as agent:
        await agent.create_session("x").query("hello")
    assert not home().exists()


async def test_a_home_that_cannot_be_written_costs_a_warning_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path / "file" / "home"))
    async with Agent(EchoModel()) as agent:
        assert await agent.create_session().query("hello") == "hello"
        assert await agent.create_session().query("hello") == "hello"
    assert sum("not kept" in record.getMessage() for record in caplog.records) == 1
    async with Agent(EchoModel(), enable_memory=True) as agent:
        with pytest.raises(MemoryStoreError):
            await agent.create_session().query("hello")


async def test_fork_and_rewind() -> None:
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("root")
        for text in ("a", "b", "c"):
            await session.query(text)
        branch = await session.fork(up_to=2)
        await branch.query("x")
        await session.rewind(4)
        assert [text_of(m) for m in branch.messages] == ["a", "a", "x", "x"]
        branch_id = branch.session_id
    async with Agent(EchoModel()) as agent:
        assert [text_of(m) for m in (await agent.resume("root")).messages] == ["a", "a", "b", "b"]
        assert [text_of(m) for m in (await agent.resume(branch_id)).messages] == ["a", "a", "x", "x"]


async def test_a_cut_never_parts_a_call_from_its_result() -> None:
    async with Agent(ScriptedModel([[CALL], "done"]), tools=[look]) as agent:
        session = agent.create_session()
        await session.query("x")
        with pytest.raises(InvalidInputError, match="use 1 or 3"):
            await session.rewind(2)
        with pytest.raises(InvalidInputError, match="4 messages"):
            await session.fork(9)


async def test_clear_holds_after_a_restart() -> None:
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("s")
        await session.query("secret")
        session.clear()
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("s")
        await session.query("new")
        assert [text_of(m) for m in session.messages] == ["new", "new"]


async def test_two_processes_one_session() -> None:
    """Two agents stand for two processes: each has its own store and connection."""
    async with Agent(EchoModel(delay_s=0.2)) as one, Agent(EchoModel()) as two:
        await two.query("mine", session_id="shared")
        busy = one.create_session("shared")
        task = asyncio.create_task(busy.query("slow"))
        while not busy.is_busy or len(busy.messages) < 3:
            await asyncio.sleep(0.001)
        with pytest.raises(SessionBusyError):
            await two.query("meanwhile", session_id="shared")
        await task
        session = await two.resume("shared")
        await session.query("later")
        assert [text_of(m) for m in session.messages] == ["mine", "mine", "slow", "slow", "later", "later"]


async def test_what_is_queued_is_heard_in_the_running_prompt() -> None:
    @tool
    async def wait() -> str:
        """Wait."""
        await session.queue("hurry up")
        return "waited"

    model = ScriptedModel([[{"name": "wait", "input": {}, "id": "w"}], "coming"])
    async with Agent(model, tools=[wait]) as agent:
        session = agent.create_session()
        assert await session.query("go") == "coming"
        assert [m.role for m in session.messages] == ["user", "assistant", "tool", "user", "assistant"]
        assert text_of(model.requests[1].messages[-1]) == "hurry up"
        assert [m.role for m in (await session.fork()).messages] == ["user", "assistant", "tool", "user", "assistant"]


async def test_what_is_queued_after_the_last_word_is_answered_too() -> None:
    model = ScriptedModel(["first", "second"])
    async with Agent(model) as agent:
        session = agent.create_session()
        async for event in session.stream("a"):
            if isinstance(event, AssistantMessage) and text_of(event) == "first":
                await session.queue("b")
        assert session.result is not None and session.result.result == "second"
        await session.queue("c")
        assert len(session.messages) == 4


async def test_the_ledger_has_each_call_with_its_purpose() -> None:
    first = ScriptedModel([ServerError("down")] * 4, name="first")
    second = ScriptedModel([[CALL], "done"], name="second")
    async with Agent(FallbackModel([first, second], RetryPolicy(1, 0.0)), tools=[look]) as agent:
        session = agent.create_session("s")
        await session.query("x")
        rows = {row.key: row for row in await agent.stats("s", group_by="purpose")}
        assert {key: (row.calls, row.failed_calls) for key, row in rows.items()} == {
            "turn": (2, 2),
            "retry": (2, 2),
            "fallback": (2, 0),
        }
        used = await session.usage()
        assert (used.calls, used.failed_calls) == (6, 4)
        entries = await agent.memory.load("s", kinds=("tool",))
        assert [(e["name"], e["state"], e["effect"]) for e in entries] == [("look", "finished", "once")]


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_budget_ends_the_session_before_the_next_call(is_kept: bool) -> None:
    model = EchoModel()
    async with Agent(model, max_budget_tokens=5, enable_memory=is_kept) as agent:
        session = agent.create_session()
        for _ in range(3):
            if (await session.usage()).input_tokens + (await session.usage()).output_tokens >= 5:
                break
            await session.query("word")
        asked = len(model.requests)
        with pytest.raises(BudgetExceededError, match="max_budget_tokens=5") as caught:
            await session.query("one more")
        assert len(model.requests) == asked and caught.value.limit == "max_budget_tokens"
        assert session.result is not None and session.result.subtype == "limit"


async def test_an_interrupt_is_kept_too() -> None:
    @tool
    async def hang() -> None:
        """Never ends."""
        await asyncio.Event().wait()

    model = ScriptedModel([["I look", {"name": "hang", "input": {}, "id": "h"}]])
    async with Agent(model, tools=[hang]) as agent:
        session = agent.create_session("s")
        async for event in session.stream("x"):
            if isinstance(event, ToolStarted):
                await session.interrupt()
        kept = session.messages
        assert isinstance(kept[-1], ToolMessage) and not session.is_busy
    async with Agent(EchoModel()) as agent:
        session = await agent.resume("s")
        assert session.messages == kept and not session.is_unfinished
        assert await session.query("go on") == "go on"


async def test_a_store_that_fails_ends_the_run_with_its_error(tmp_path: Path) -> None:
    class Full(MemoryStore):
        async def append(self, *args: Any, **named: Any) -> int:
            if any(entry["kind"] == "message" and entry["role"] == "assistant" for entry in args[1]):
                raise MemoryStoreError("the disk is full", reason="disk_full")
            return await super().append(*args, **named)

    runs: list[int] = []

    @tool
    async def act() -> str:
        """Act."""
        runs.append(1)
        return "x"

    store = Full(str(tmp_path / "m.db"))
    async with (
        store,
        Agent(ScriptedModel([[{"name": "act", "input": {}, "id": "a"}]]), tools=[act], store=store) as agent,
    ):
        session = agent.create_session()
        events = [event async for event in session.stream("x")]
        assert [type(e) for e in events].count(ResultMessage) == 1
        assert isinstance(events[-1], ResultMessage) and isinstance(events[-1].error, MemoryStoreError)
        assert runs == []  # nothing runs on an answer that is not committed
