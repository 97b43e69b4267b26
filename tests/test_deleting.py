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


async def test_what_was_rewound_or_cleared_is_not_told_again(tmp_path: Path) -> None:
    async with Agent(EchoModel(), memory_db_path=str(tmp_path / "m.db")) as agent:
        rewound, cleared = agent.create_session("rewound"), agent.create_session("cleared")
        for session in rewound, cleared:
            await session.query("hello")
            await session.query(f"my {SECRET}")
        assert SECRET in str(await agent.memory.get_relevant_context(SECRET))
        await rewound.rewind(2)
        cleared.clear()
        await cleared.query("fresh start")
        found = await agent.memory.get_relevant_context(SECRET)
        assert sorted(one["prompt"] for one in found) == ["fresh start", "hello"]
        for session in rewound, cleared:
            assert SECRET not in await agent.memory.export(session.session_id)
            assert SECRET in await agent.memory.export(session.session_id, "jsonl")  # the journal, until it is deleted


async def test_a_title_goes_with_its_prompt(tmp_path: Path) -> None:
    async with Agent(EchoModel(), memory_db_path=str(tmp_path / "m.db")) as agent:

        async def title(session_id: str) -> str:
            row = await agent.memory.session(session_id)
            return str(row["title"])

        rewound, cleared, own = (agent.create_session(session_id) for session_id in ("rewound", "cleared", "own"))
        for session in rewound, cleared, own:
            await session.query(f"my {SECRET}")
            await session.query("hello")
            assert await title(session.session_id) == session.title == f"my {SECRET}"
        own.title = f"About a {SECRET}"
        await own.rewind(0)
        assert await title("own") == f"About a {SECRET}"
        await rewound.rewind(2)
        assert await title("rewound") == f"my {SECRET}"  # its prompt is still there
        await rewound.rewind(0)
        assert await title("rewound") == rewound.title == ""
        cleared.clear()
        for session in rewound, cleared:
            await session.query("fresh start")
            assert await title(session.session_id) == session.title == "fresh start"


async def test_a_session_that_is_cleared_unread_loses_its_title_and_summary(tmp_path: Path) -> None:
    path = str(tmp_path / "m.db")
    async with Agent(EchoModel(), memory_db_path=path) as agent:
        for session_id in "mine", "own":
            session = agent.create_session(session_id)
            await session.query(f"my {SECRET}")
            if session_id == "own":
                session.title, session.summary = "Named by me", "Told by me"
            else:
                told = {"summary": SECRET, "covered_messages": 1}
                await agent.memory.append(
                    "mine",
                    [{"kind": "checkpoint", "summary": told, "covers_seq": 1}, {"kind": "session", "summary": SECRET}],
                )
            await session.close()
    async with Agent(EchoModel(), memory_db_path=path) as agent:
        for session_id in "mine", "own":
            session = agent.create_session(session_id)
            session.clear()
            await session.query("fresh start")
        rows = {row["session_id"]: (row["title"], row["summary"]) for row in await agent.list_sessions()}
        assert rows == {"mine": ("fresh start", ""), "own": ("Named by me", "Told by me")}
        again = await agent.resume("mine")
        assert again.context_summary is None and again.title == "fresh start"


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
