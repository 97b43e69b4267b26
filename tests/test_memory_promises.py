"""What memory promises to somebody who only has an Agent, a MemoryStore and the pages: where it writes, what it exports."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent
from any_agent.errors import ConfigurationError, InvalidInputError, MemoryStoreError, SessionBusyError
from any_agent.memory import MemoryStore, leases
from any_agent.memory.leases import Process
from any_agent.testing import EchoModel


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"kind": "message", "role": role, "content": content}


async def test_only_taking_a_session_need_not_wait_for_the_disk(tmp_path: Path) -> None:
    """A lease does not outlive a power cut anyway; what is committed after it waits as ever."""
    seen: list[int] = []

    async def synchronous(store: MemoryStore) -> int:
        value: int = await store._db.alone(lambda db: db.execute("PRAGMA synchronous").fetchone()[0])
        return value

    async with MemoryStore(tmp_path / "m.db") as store:
        process = Process.own()
        await store._db.write(lambda db: seen.append(db.execute("PRAGMA synchronous").fetchone()[0]), is_synced=False)
        assert (seen, await synchronous(store)) == ([1], 2)
        fence = await store.lease("k", "one")
        with pytest.raises(SessionBusyError):
            await store.lease("k", "two")
        assert await synchronous(store) == 2
        both = [
            store._db.write(lambda db: leases.lease(db, "j", "one", 9.0, process), is_synced=False),
            store._db.write(lambda db: seen.append(db.execute("PRAGMA synchronous").fetchone()[0])),
        ]
        await asyncio.gather(*both)
        assert seen == [1, 2]
        await store.append("k", [said("x")], fence=fence, is_last=True)
    async with MemoryStore(tmp_path / "p.db", durability="process") as store:
        await store.lease("k", "one")
        assert await synchronous(store) == 1


async def test_the_row_of_a_session_tells_of_no_run(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store, Agent(EchoModel(), store=store) as agent:
        await agent.create_session("k").query("x")
        found = await store.session("k")
        assert found is not None and "run_id" not in found
        assert {row["run_id"] for row in await store.load("k")} != {None}


# ------------------------------------------------------------------ where it is written


async def test_each_prompt_may_name_its_own_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    async with Agent(EchoModel(), enable_memory=True) as agent:
        await agent.query("one", memory_db_path=str(first))
        await agent.query("two", memory_db_path=str(second))
        await agent.query("three", memory_db_path=str(first))
    for path, titles in ((first, ["three", "one"]), (second, ["two"])):
        async with MemoryStore(path) as store:
            assert [row["title"] for row in await store.list_sessions()] == titles


def test_the_home_may_be_relative_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANY_AGENT_HOME", "~/memories")
    assert MemoryStore().path == str(Path.home() / "memories" / "memory.db")
    monkeypatch.setenv("ANY_AGENT_HOME", "here")
    store = MemoryStore()
    monkeypatch.chdir("/")
    assert store.path == str(tmp_path / "here" / "memory.db")


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="no path"):
        MemoryStore(path)


async def test_what_cannot_be_kept_is_refused_by_name() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    async with MemoryStore(":memory:") as store:
        with pytest.raises(InvalidInputError, match="content .very deep. is no JSON"):
            await store.append("s", [said(deep)])
        assert await store.session("s") is None
        await store.save_interaction("s", "a", "b")
        assert await store.get_relevant_context("a", limit=0) == await store.get_relevant_context("a", limit=-1) == []
    while deep:  # one by one: to free it at once would take a deep stack
        (deep,) = deep


async def test_files_that_are_not_utf_8_are_found_by_their_words(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("Grüße aus München – im Café".encode("cp1252"))
    async with MemoryStore(":memory:") as store:
        await store.index(tmp_path)
        assert [hit.text for hit in await store.search("grüße münchen")] == ["Grüße aus München – im Café"]


async def test_the_cache_of_an_agent_without_memory_is_not_on_disk(tmp_path: Path) -> None:
    path, model = tmp_path / "m.db", EchoModel()
    options: dict[str, Any] = {"enable_memory": False, "response_cache_ttl_s": 60, "memory_db_path": str(path)}
    async with Agent(model, **options) as agent:
        for _ in range(2):
            await agent.query("x")
        assert len(model.requests) == 1
    assert list(tmp_path.iterdir()) == []


async def test_what_is_written_to_a_file_that_was_deleted_is_not_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    store = MemoryStore(path)
    await store.append("s", [said("one")])
    path.unlink()
    for _ in range(2):
        with pytest.raises(MemoryStoreError, match="deleted or replaced while it was open.*close") as caught:
            await store.append("s", [said("two")])
        assert caught.value.reason == "io" and not path.exists()
    await store.close()
    assert await store.append("s", [said("three")]) == 1 and path.exists()
    await store.close()


async def test_a_search_that_cannot_see_all_that_was_said_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path, busy_timeout_s=0.1) as store:
        await store.append("s", [said("a needle")])
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(MemoryStoreError) as caught:
                await store.search("needle")
            assert caught.value.reason == "locked"
        finally:
            other.close()
        assert await store.search("needle")


# ------------------------------------------------------------------ export


async def test_an_export_can_be_written_and_read_whatever_was_said() -> None:
    strange = "half \ud800, a line\u2028 and\x85 another, <script>alert(1)</script>"
    async with MemoryStore(":memory:") as store:
        await store.append("s", [{"kind": "session", "title": "a\n# <b>title"}, said(strange)])
        await store.append(
            "s", [said([{"type": "tool_use", "name": "<i>", "id": "1", "input": {"x": "</pre>"}}], "assistant")]
        )
        for name in ("markdown", "html", "jsonl"):
            assert (await store.export("s", name)).encode()  # type: ignore[arg-type]
        markdown, html = await store.export("s"), await store.export("s", "html")
        assert markdown.splitlines()[0] == "# a # <b>title"
        assert "<script" not in html and "<b>" not in html and "<i>" not in html and html.count("</pre>") == 2
        entries = [json.loads(line) for line in (await store.export("s", "jsonl")).splitlines()]
        assert [one["kind"] for one in entries] == ["session", "message", "message"]
        assert entries[1]["content"] == strange


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("```python\nprint(1)", "```"),
        ("````\n```\n", "````"),
        ("~~~\n```\n", "~~~"),
        ("```\na\n```", None),
        ("```\na\n```\n```", "```"),
        ("use ``` or `x`", None),
        ("``` a ` b", None),
    ],
)
async def test_a_code_block_that_was_cut_off_does_not_swallow_the_rest(text: str, end: str | None) -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("s", [said(text, "assistant"), said("what follows")])
        body = (await store.export("s")).split("## Assistant")[1]
        before, _, _ = body.partition("\n\n## User")
        _, _, told = before.partition("\n\n")
        assert told == (text if end is None else f"{text}\n{end}")


async def test_a_summary_is_told_in_words() -> None:
    async with MemoryStore(":memory:") as store:
        for summary in ("They met.", {"summary": "They parted.", "covered_messages": 4}, {"other": 1}):
            await store.append("s", [{"kind": "checkpoint", "summary": summary, "covers_seq": 0}])
        text = await store.export("s")
        assert [line for line in text.splitlines()[4:] if line and not line.startswith("##")] == [
            "They met.",
            "They parted.",
            '{"other": 1}',
        ]


# ------------------------------------------------------------------ cleanup


@pytest.mark.parametrize("age", [-1, -0.5, timedelta(days=-1), float("nan"), "30d", True])
async def test_an_age_that_is_none_deletes_nothing(age: Any) -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("s", [said("x")])
        with pytest.raises(InvalidInputError, match="older_than"):
            await store.cleanup(older_than=age)
        assert await store.session("s")
