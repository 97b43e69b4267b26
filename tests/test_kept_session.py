"""What a kept session promises between two prompts: names, history put in place, ids, counts, what came of a killed call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import InvalidInputError, MemoryStoreError, ServerError, SessionNotFoundError
from any_agent.memory import MemoryStore, message_entry, message_of
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import AssistantMessage, TextDelta, ToolUseBlock, UserMessage, text_of


def said(session: Any) -> list[str]:
    return [text_of(message) for message in session.messages]


async def test_title_summary_and_tags_are_kept() -> None:
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("k")
        session.title, session.summary = "Mine", "about x"
        session.tags.append("work")
        await session.query("x")
    async with Agent(EchoModel()) as agent:
        session = await agent.resume("k")
        assert (session.title, session.summary, session.tags) == ("Mine", "about x", ["work"])
        session.title, session.tags = "Other", ["a", "b"]
        await session.save()
    async with Agent(EchoModel()) as agent, Agent(EchoModel()) as elsewhere:
        session = await agent.resume("k")
        assert [row["session_id"] for row in await agent.list_sessions(tag="b")] == ["k"]
        there = await elsewhere.resume("k")
        there.tags = ["c"]
        await there.save()
        session.title = "Third"
        await session.query("y")  # what was changed elsewhere holds, and what was changed here
        assert (session.title, session.tags) == ("Third", ["c"])
    async with Agent(EchoModel()) as agent:
        session = await agent.resume("k")
        assert (session.title, session.tags) == ("Third", ["c"])


@pytest.mark.parametrize("history", [[], [UserMessage("x"), AssistantMessage(("y",))]])
async def test_a_history_put_in_place_before_the_first_prompt_holds(history: list[Any]) -> None:
    if history:
        history = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    async with Agent(EchoModel()) as agent:
        await agent.query("secret", session_id="k")
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("k")
        session.replace_history(history)
        await session.query("new")
        assert said(session) == [*["x", "y"][: len(history)], "new", "new"]
        kept = session.messages
    async with Agent(EchoModel()) as agent:
        assert (await agent.resume("k")).messages == kept


async def test_a_session_made_by_a_known_id_knows_what_it_cost_and_can_be_cut() -> None:
    async with Agent(EchoModel()) as agent:
        await agent.query("one", session_id="k")
        await agent.query("two", session_id="k")
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("k")
        assert (await session.usage()).calls == 2
        assert said(await session.fork(up_to=2)) == ["one", "one"]
        await agent.create_session("l").rewind(0)
        session = await agent.resume("k")
        await session.rewind(2)
        assert said(session) == ["one", "one"]


async def test_an_open_session_is_read_when_it_is_resumed() -> None:
    async with Agent(EchoModel()) as agent:
        await agent.query("one", session_id="k")
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("k")
        assert await agent.resume("k") is session and said(session) == ["one", "one"]


async def test_a_resume_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    class Moody(MemoryStore):
        is_locked = True

        async def load(self, *args: Any, **named: Any) -> Any:
            if self.is_locked:
                raise MemoryStoreError("locked", reason="locked")
            return await super().load(*args, **named)

    async with Agent(EchoModel(), memory_db_path=str(tmp_path / "m.db")) as agent:
        await agent.query("one", session_id="k")
    async with Moody(tmp_path / "m.db") as store, Agent(EchoModel(), store=store) as agent:
        with pytest.raises(MemoryStoreError):
            await agent.resume("k")
        with pytest.raises(MemoryStoreError):
            await agent.create_session("k").query("never read, so never written")
        store.is_locked = False
        assert said(await agent.resume("k")) == ["one", "one"]


async def test_ids_that_look_alike_are_named() -> None:
    async with Agent(EchoModel()) as agent:
        await agent.query("x", session_id="till-monday")
        with pytest.raises(SessionNotFoundError, match="near: 'till-monday'"):
            await agent.resume("till-munday")
        with pytest.raises(SessionNotFoundError, match="list_sessions"):
            await agent.resume("zzz")


async def test_a_fork_that_fails_leaves_nothing_open() -> None:
    async with Agent(EchoModel()) as agent:
        session = agent.create_session("a")
        await session.query("x")
        await agent.query("y", session_id="b")
        await agent.create_session("b2").close()
        await (await agent.resume("b")).close()
        with pytest.raises(InvalidInputError, match="'b' is there already"):
            await session.fork(session_id="b")
        assert said(await agent.resume("b")) == ["y", "y"]


async def test_interrupted_prompts_are_counted_everywhere_alike() -> None:
    async with Agent(ScriptedModel(["abcdefgh", "ok"])) as agent:
        session = agent.create_session("k")
        async for event in session.stream("x"):
            if isinstance(event, TextDelta):
                await session.interrupt()
        assert session.turn_count == 1
    async with Agent(EchoModel()) as agent:
        session = await agent.resume("k")
        assert session.turn_count == 1
        await session.query("y")
    async with Agent(EchoModel()) as agent:
        assert (await agent.resume("k")).turn_count == 2


async def test_a_prompt_that_was_not_to_be_kept_is_not_kept_later() -> None:
    async with Agent(EchoModel()) as agent:
        for name in ("k", "l"):
            session = agent.create_session(name)
            if name == "k":
                await session.query("one")
            await session.query("secret", enable_memory=False)
            await session.query("three")
            assert "secret" in said(session)
            await session.rewind(len(session.messages))
        session.replace_history(session.history[-2:])
        await session.query("four")
        assert (await session.usage()).calls == 3
    async with Agent(EchoModel()) as agent:
        assert said(await agent.resume("k")) == ["one", "one", "three", "three"]
        assert said(await agent.resume("l")) == ["three", "three", "four", "four"]


async def test_what_somebody_deletes_is_not_written_again(tmp_path: Path) -> None:
    path = str(tmp_path / "m.db")
    async with Agent(EchoModel(), memory_db_path=path) as agent, MemoryStore(path) as store:
        session = agent.create_session("k")
        await session.query("secret")
        await agent.query("x", session_id="other")
        for _ in range(2):
            await store.delete("k")
            await session.query("new")
        assert said(session) == ["secret", "secret", "new", "new", "new", "new"]
        assert [text_of(message_of(row)) for row in await store.load("k", kinds=("message",))] == ["new", "new"]


async def test_a_prompt_whose_call_failed_may_be_received_again() -> None:
    async with Agent(ScriptedModel([ServerError("down"), "fine"]), max_retries=0) as agent:
        session = agent.create_session("k")
        with pytest.raises(ServerError):
            await session.query("x")
        assert await session.receive() == "fine" and said(session) == ["x", "fine"]


# ------------------------------------------------------------------ calls that a killed run left


async def killed_while_paying(path: Path) -> None:
    """As a process leaves it that is killed while `pay` runs."""
    call = ToolUseBlock("c1", "pay", {})
    started = {"kind": "tool", "call_id": "c1", "state": "started", "name": "pay", "arguments": {}, "effect": "once"}
    async with MemoryStore(path) as store:
        rows = [message_entry(UserMessage("go")), message_entry(AssistantMessage((call,))), started]
        await store.append("s", rows)


class Till:
    """A tool that pays, and what it did."""

    def __init__(self, verify: Any = None) -> None:
        self.paid = 0

        @tool(effect="once", verify=verify)
        async def pay() -> str:
            """Pay."""
            self.paid += 1
            return "paid"

        self.pay = pay


async def test_a_verify_that_fails_leaves_the_outcome_unknown(tmp_path: Path, caplog: Any) -> None:
    def verify(key: str, arguments: Any) -> bool:
        raise ConnectionError("the bank is closed")

    await killed_while_paying(tmp_path / "m.db")
    till = Till(verify)
    async with Agent(ScriptedModel(["ok", "ok"]), tools=[till.pay], memory_db_path=str(tmp_path / "m.db")) as agent:
        session = await agent.resume("s")
        assert await session.receive() == "ok"
        assert "Outcome unknown" in str(session.history) and till.paid == 0
    assert "the bank is closed" in caplog.text


async def test_what_came_of_it_is_not_forgotten_when_it_cannot_be_written(tmp_path: Path) -> None:
    class Full(MemoryStore):
        is_full = True

        async def append(self, *args: Any, **named: Any) -> int:
            if self.is_full:
                raise MemoryStoreError("full", reason="disk_full")
            return await super().append(*args, **named)

    await killed_while_paying(tmp_path / "m.db")
    till = Till()
    async with (
        Full(tmp_path / "m.db") as store,
        Agent(ScriptedModel(["ok"]), tools=[till.pay], store=store) as agent,
    ):
        session = await agent.resume("s")
        with pytest.raises(MemoryStoreError):
            await session.receive()
        store.is_full = False
        assert await session.receive() == "ok"
        assert "Outcome unknown" in str(session.history) and till.paid == 0


@pytest.mark.parametrize("verified", [None, False])
async def test_somebody_may_say_what_came_of_it(tmp_path: Path, verified: bool | None) -> None:
    await killed_while_paying(tmp_path / "m.db")
    till = Till(lambda key, arguments: verified)
    async with Agent(ScriptedModel(["ok"]), tools=[till.pay], memory_db_path=str(tmp_path / "m.db")) as agent:
        session = await agent.resume("s")
        await session.add_tool_result("c1", "the bank says: paid")
        assert await session.receive() == "ok"
        assert session.history[2]["content"] == "the bank says: paid" and till.paid == 0
        (row,) = await agent.memory.load("s", kinds=("tool",))
        assert row["state"] == "finished" and row["result"]["content"] == "the bank says: paid"
