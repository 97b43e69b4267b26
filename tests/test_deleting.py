"""Deleting a person's data: no byte of it is left in the database file, its WAL or its index."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import MemoryStoreError
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel, ScriptedModel

SECRET = "xylophone"  # each text below holds it


def call(text: str) -> list[dict[str, Any]]:
    return [{"name": "look_up", "input": {"what": text}, "id": f"call_{SECRET}"}]


@tool(effect="once")
def look_up(what: str) -> str:
    """Look something up."""
    return f"found {what}"


def bytes_with(folder: Path, word: str) -> list[str]:
    """Files below a folder that hold a word, in UTF-8, whatever its case."""
    held = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in held if word.encode() in path.read_bytes().lower())


async def talk(agent: Agent, session_id: str) -> None:
    session = agent.create_session(session_id)
    session.title, session.tags = f"About a {SECRET}", [f"person {SECRET}"]
    await session.query(f"Where is my {SECRET}?")
    await session.query(f"And my other {SECRET}?")
    await session.rewind(4)
    await session.close()


async def everything_else(store: MemoryStore, session_id: str) -> None:
    """Entries of all kinds, in the session and in one of its subagent."""
    words: dict[str, Any] = {"extra_field": SECRET}
    await store.append(
        session_id,
        [
            {"kind": "session", "summary": SECRET, "metadata": {"a": SECRET}, **words},
            {"kind": "approval", "approval_id": SECRET, "reason": SECRET, "arguments": {"a": SECRET}, **words},
            {"kind": "audit", "decision": SECRET, "reason": SECRET, **words},
            {"kind": "checkpoint", "summary": {"text": SECRET}, "covers_seq": 1},
            {"kind": "event", "name": SECRET, "body": SECRET},
            {"kind": "model_call", "model": "m", "outcome": "error", "error_type": SECRET, **words},
            {"kind": "tool", "call_id": SECRET, "state": "failed", "name": SECRET, "result": SECRET},
            {"kind": "message", "role": "user", "content": "x", "text": SECRET},
        ],
    )
    await store.answer_approval(SECRET, "denied", {"why": SECRET}, answered_by=SECRET)
    child = [
        {"kind": "session", "parent_session_id": session_id},
        {"kind": "interaction", "prompt": SECRET, "response": ""},
    ]
    await store.append(f"child {SECRET}", child)
    await store.lease(session_id, SECRET)


async def test_no_byte_of_a_deleted_person_is_left(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    answers = [call(SECRET), f"Your {SECRET} is there.", f"No second {SECRET}."] * 2

    async def embed(texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 1.0] for text in texts]

    store = MemoryStore(path, embed=embed)
    agent = Agent(ScriptedModel(answers), tools=[look_up], store=store, response_cache_ttl_s=3600)
    await talk(agent, "a")
    await talk(agent, "b")  # its answers come from the cache
    for session_id in "a", "b":
        assert [hit.session_id for hit in await store.search(SECRET, 1, session_id=session_id)] == [session_id]
    await store.append(
        "other", [{"kind": "message", "role": "user", "content": f"filler {n} " * 40} for n in range(50)]
    )
    await everything_else(store, "a")
    await store.search(SECRET)
    assert (await store.stats())["responses"] == 3 and "m.db" in str(bytes_with(tmp_path, SECRET))

    assert await store.delete("a") == 2
    assert await store.search(SECRET, session_id="b") and (await store.stats())["responses"] == 0
    assert await store.delete_tag(f"person {SECRET}") == 1
    assert bytes_with(tmp_path, SECRET) == []
    assert len(await store.load("other")) == 50 and await store.search("filler") and await store.integrity_check() == []
    await agent.aclose()
    await store.close()
    assert bytes_with(tmp_path, SECRET) == []


async def test_a_reader_that_keeps_the_bytes_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path, busy_timeout_s=0.2) as store:
        await store.append("s", [{"kind": "message", "role": "user", "content": SECRET}])
        reader = sqlite3.connect(path)
        try:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            with pytest.raises(MemoryStoreError, match="locked by a reader.*vacuum again") as caught:
                await store.delete("s")
            assert caught.value.reason == "locked" and await store.session("s") is None
        finally:
            reader.close()
        await store.vacuum()
        assert bytes_with(tmp_path, SECRET) == []


async def test_expired_answers_leave_the_cache(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.cache("a", SECRET, ttl_s=-1)
        await store.cache("b", "fresh", ttl_s=60)
        assert await store.cached("a") is None and (await store.stats())["responses"] == 2
    async with MemoryStore(tmp_path / "m.db") as store:
        await store._db.write(lambda db: db.execute("UPDATE meta SET value = 0 WHERE name = 'responses swept'"))
        await store.cache("c", "fresh", ttl_s=60)  # ten minutes later
        assert (await store.stats())["responses"] == 2
        await store.cleanup(keep_last=0)
        await store.vacuum()
    assert bytes_with(tmp_path, SECRET) == []


async def test_a_session_that_goes_on_after_it_was_deleted_does_not_write_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with Agent(EchoModel(), memory_db_path=str(path)) as agent:
        others = agent.create_session("others")
        for _ in range(3):
            await others.query("x")  # its fence is above that of the next one
        session = agent.create_session("s")
        await session.query(f"my {SECRET}")
        assert await agent.memory.delete("others") == await agent.memory.delete("s") == 1
        await session.query("and now?")
        await session.close()
        assert [entry["content"] for entry in await agent.memory.load("s", kinds=("message",))] == ["and now?"] * 2
        await agent.memory.vacuum()
        assert bytes_with(tmp_path, SECRET) == []
