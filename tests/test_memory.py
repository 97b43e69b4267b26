"""MemoryStore on a file: opening, rights, loops and threads, cancelling, messages, export."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, get_args

import pytest

import any_agent
from any_agent.errors import ConfigurationError, InvalidInputError, MemoryStoreError
from any_agent.memory import MemoryStore, default_path, message_entry, message_of, schema
from any_agent.memory.database import Database, statements
from any_agent.memory.entries import KINDS, SESSION
from any_agent.types import (
    AssistantMessage,
    ImageBlock,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    Usage,
    UserMessage,
)
from any_agent.types.messages import Block

USER = {"kind": "message", "role": "user", "content": "hello"}


def test_the_default_place(tmp_path: Path) -> None:
    assert default_path({"ANY_AGENT_HOME": str(tmp_path)}) == tmp_path / "memory.db"
    assert default_path({}) == Path.home() / ".any_agent" / "memory.db"
    assert MemoryStore("~/x.db").path == str(Path.home() / "x.db")
    assert MemoryStore("x.db").path == str(Path.cwd() / "x.db")
    assert any_agent.MemoryStore is MemoryStore


def test_making_one_does_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    MemoryStore(tmp_path / "a" / "memory.db")
    assert list(tmp_path.iterdir()) == [] and threading.active_count() == threads
    with pytest.raises(ConfigurationError, match="durability"):
        MemoryStore(durability="none")  # type: ignore[arg-type]


async def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        async with MemoryStore(tmp_path / "home" / "memory.db") as store:
            await store.append("s", [USER])
            assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()}
            assert modes == dict.fromkeys(["memory.db", "memory.db-wal", "memory.db-shm", "memory.db-lock"], 0o600)
    finally:
        os.umask(umask)
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["memory.db", "memory.db-lock"]


async def test_how_the_file_is_opened(tmp_path: Path) -> None:
    for durability, synchronous in (("power", 2), ("process", 1)):
        async with MemoryStore(tmp_path / f"{durability}.db", durability=durability) as store:  # type: ignore[arg-type]
            found = await store._db.alone(
                lambda db: [
                    db.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint")
                ]
            )
        assert found == ["wal", synchronous, 1, 30_000, 1_000]


async def test_the_tables_have_what_the_kinds_need(tmp_path: Path) -> None:
    async with MemoryStore(":memory:") as store:
        for kind in (*KINDS.values(), SESSION):
            rows = await store._db.read(lambda db, kind=kind: db.execute(f"PRAGMA table_info({kind.table})").fetchall())
            assert set(kind.names) <= {row[1] for row in rows}, kind.name
            types = {row[1]: row[2] for row in rows}
            for column in kind.columns:
                wanted = {"int": "INTEGER", "bool": "INTEGER", "real": "REAL"}.get(column.type, "TEXT")
                assert types[column.name] == wanted, (kind.name, column.name)


async def test_views_for_people(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.append("s", [{"kind": "model_call", "model": "m", "input_tokens": 5, "cost_usd": 0.5}])
        await store.append("s", [{"kind": "tool", "call_id": "c", "state": "unknown", "name": "pay"}])
    db = sqlite3.connect(tmp_path / "m.db")
    try:
        assert db.execute("SELECT calls, input_tokens, cost_usd FROM ledger_by_day").fetchall() == [(1, 5, 0.5)]
        assert db.execute("SELECT model, calls FROM ledger_by_model").fetchall() == [("m", 1)]
        assert db.execute("SELECT name, calls, unknown_calls FROM tools_by_name").fetchall() == [("pay", 1, 1)]
        assert db.execute("SELECT input_tokens FROM ledger").fetchall() == [(5,)]
    finally:
        db.close()


# ------------------------------------------------------------------ tasks, loops, threads


def test_several_loops_one_after_another(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path / "m.db")
    assert [asyncio.run(store.append("s", [USER])) for _ in range(3)] == [1, 2, 3]
    asyncio.run(store.close())


def test_several_loops_at_once(tmp_path: Path) -> None:
    store, seqs = MemoryStore(tmp_path / "m.db"), []

    def work() -> None:
        async def many() -> None:
            seqs.extend(await asyncio.gather(*[store.append("s", [USER]) for _ in range(50)]))

        asyncio.run(many())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == list(range(1, 201))
    asyncio.run(store.close())


async def test_a_cancelled_append_harms_nobody(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.open()
        held, free = threading.Event(), threading.Event()
        blocker = asyncio.create_task(store._db.alone(lambda db: (held.set(), free.wait(5))))
        await asyncio.to_thread(held.wait, 5)
        cancelled = asyncio.create_task(store.append("s", [USER]))
        kept = asyncio.create_task(store.append("s", [{**USER, "content": "kept"}]))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled  # at once, while the database is busy
        free.set()
        await blocker
        assert await kept == 1  # the cancelled one had not begun: it was left out
        assert [one["content"] for one in await store.load("s")] == ["kept"]


def test_a_loop_that_closes_meanwhile(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path / "m.db")
    held, free = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(store._db.alone(lambda db: (held.set(), free.wait(5))))
    loop.run_until_complete(asyncio.sleep(0))
    assert held.wait(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    free.set()
    assert asyncio.run(store.append("s", [USER])) == 1  # its thread lives
    asyncio.run(store.close())


async def test_waiting_appends_share_one_commit(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.open()
        commits = []
        await store._db.alone(lambda db: db.set_trace_callback(lambda said: commits.append(said)))
        await asyncio.gather(*[store.append(f"s{place}", [USER]) for place in range(100)])
        assert commits.count("COMMIT") <= 3


def test_a_forgotten_store_is_closed(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path / "m.db")
    asyncio.run(store.append("s", [USER]))
    asyncio.run(store.load("s"))
    threads = [t for t in threading.enumerate() if "connection_worker" in t.name]
    del store
    gc.collect()  # waits for nobody
    for thread in threads:
        thread.join(10)
    assert [t.name for t in threading.enumerate() if "connection_worker" in t.name] == []
    assert len(threads) == 2 and not (tmp_path / "m.db-wal").exists()


async def test_a_store_that_is_collected_in_the_writer_of_another_does_not_stop_it(tmp_path: Path) -> None:
    """Its end needs the lock file, which that writer holds: to wait for it there would be to wait for oneself."""
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.append("s", [USER])
        # Would be given up after this time, and its thread be over when the collector had waited for it.
        ring: dict[str, Any] = {"store": MemoryStore(tmp_path / "m.db", busy_timeout_s=5)}
        ring["self"] = ring
        await ring["store"].append("s", [USER])
        await ring["store"].load("s")
        database = ring["store"]._db
        ending = [database.reader._thread, database.writer._thread]
        gone = weakref.ref(ring["store"])
        del ring, database

        def work(_: sqlite3.Connection) -> tuple[bool, bool]:
            gc.collect()
            return gone() is None, ending[1].is_alive()

        assert await store._db.write(work) == (True, True)  # it is over only when we have given the lock back
        for thread in ending:
            thread.join(10)
        assert not any(thread.is_alive() for thread in ending)
        assert await store.append("s", [USER]) == 3


def test_what_was_collected_last_still_ends_with_the_program(tmp_path: Path) -> None:
    """The threads are daemons; without waiting for them the WAL would stay behind."""
    code = (
        "import asyncio, gc, sys\n"
        "from any_agent.memory import MemoryStore\n"
        "kept = MemoryStore(sys.argv[1] + '/kept.db')\n"
        "lost = MemoryStore(sys.argv[1] + '/lost.db')\n"
        "for store in kept, lost:\n"
        "    asyncio.run(store.append('s', [{'kind': 'message', 'role': 'user', 'content': 'x'}] * 500))\n"
        "    asyncio.run(store.load('s'))\n"
        "store = None\n"
        "del lost\n"
        "gc.collect()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir() if "lock" not in path.name) == ["kept.db", "lost.db"]


async def test_a_store_that_is_collected_in_its_own_thread_is_closed(tmp_path: Path) -> None:
    ring: dict[str, Any] = {"store": MemoryStore(tmp_path / "m.db")}
    ring["self"] = ring
    await ring["store"].append("s", [USER])
    database = ring["store"]._db
    del ring
    await database.writer.run(lambda _: gc.collect())
    while [t.name for t in threading.enumerate() if "connection_worker" in t.name]:
        await asyncio.sleep(0.001)
    assert not (tmp_path / "m.db-wal").exists()


async def test_reading_does_not_wait_for_writing(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.append("s", [USER])
        held, free = threading.Event(), threading.Event()
        blocker = asyncio.create_task(store._db.write(lambda db: (held.set(), free.wait(5))))
        await asyncio.to_thread(held.wait, 5)
        assert len(await store.load("s")) == 1
        free.set()
        await blocker


async def test_the_wal_stays_short(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db", durability="process") as store:
        for _ in range(12):
            await store.append("s", [{**USER, "content": "x" * 1_000_000}])
            assert (tmp_path / "m.db-wal").stat().st_size < 8_000_000
        assert (tmp_path / "m.db").stat().st_size > 8_000_000


# ------------------------------------------------------------------ what is deleted is gone


async def test_deleted_words_leave_the_file(tmp_path: Path) -> None:
    secret = "xylophone-secret"
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.append("keep", [{**USER, "content": f"word {n} stays" * 20} for n in range(50)])
        await store.append("s", [{**USER, "content": f"my {secret} {n}", "note": secret} for n in range(50)])
        await store.save_interaction("s", secret, secret, {"a": secret})
        await store.append("s", [{"kind": "session", "title": secret, "tags": [secret]}])
        files = [path for path in tmp_path.iterdir() if path.name != "m.db-lock"]
        assert any(b"xylophone" in path.read_bytes() for path in files)
        await store.delete("s")
        assert not any(b"xylophone" in path.read_bytes() for path in files if path.exists())
        assert len(await store.load("keep")) == 50 and await store.search("stays")


# ------------------------------------------------------------------ versions


async def test_a_migration_keeps_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path) as store:
        await store.append("s", [USER])
    known, step = schema.VERSION, "CREATE TABLE more (x);\nINSERT INTO more VALUES (1);\n"
    future = Database(str(path), "power", 5.0, (*schema.MIGRATIONS, step))
    assert await future.read(lambda db: db.execute("SELECT x FROM more").fetchall()) == [(1,)]
    assert await future.read(lambda db: db.execute("SELECT count(*) FROM messages").fetchall()) == [(1,)]
    future.shut()
    backup = tmp_path / f"m.db.v{known}-backup"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    data = path.read_bytes()
    with pytest.raises(MemoryStoreError, match=rf"tables of version {known + 1}.*upgrade any_agent") as caught:
        await MemoryStore(path).open()
    assert caught.value.reason == "newer_schema" and caught.value.path == str(path)
    assert path.read_bytes() == data
    async with MemoryStore(backup) as store:
        assert len(await store.load("s")) == 1


async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path) as store:
        await store.append("s", [USER])
    step = "CREATE TABLE more (x);\nINSERT INTO no_such_table VALUES (1);\n"
    future = Database(str(path), "power", 5.0, (*schema.MIGRATIONS, step))
    with pytest.raises(MemoryStoreError, match="no such table: no_such_table"):
        await future.open()
    future.shut()
    async with MemoryStore(path) as store:
        assert len(await store.load("s")) == 1


def test_statements_are_told_apart() -> None:
    script = "CREATE TABLE a (x);\n-- note;\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n SELECT 1;\nEND;\n"
    assert [one.split("(")[0].split()[-1] for one in statements(script)] == ["a", "END;"]


async def test_a_copy_while_it_is_used(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.append("s", [USER])
        await store.back_up(tmp_path / "copy.db")
        await store.append("s", [USER])
        with pytest.raises(InvalidInputError, match="is there already"):
            await store.back_up(tmp_path / "copy.db")
    async with MemoryStore(tmp_path / "copy.db") as copy:
        assert len(await copy.load("s")) == 1


# ------------------------------------------------------------------ messages and export

MESSAGES = [
    SystemMessage("be brief", pinned=True),
    UserMessage("hello"),
    UserMessage((TextBlock("see"), ImageBlock("https://x/y.png", "low"))),
    AssistantMessage(
        (
            ThinkingBlock("hm", "sig"),
            TextBlock("I call"),
            ToolUseBlock("c1", "add", {"a": [1, {"b": None}]}),
            ToolUseError("broken", '{"a"', "c2", "add"),
        ),
        model="m",
        usage=Usage(1, 2, 3, 4, True),
        finish_reason="tool_calls",
        cost_usd=0.25,
        provider="p",
        provider_fields={"sig": ["x"]},
    ),
    ToolMessage((ToolResultBlock("c1", {"sum": 3}), ToolResultBlock("c2", None, True))),
    AssistantMessage("half", is_interrupted=True, is_partial=True),
    AssistantMessage(""),
]


async def test_messages_come_back_as_they_were() -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("s", [message_entry(message, run_id="r", turn=2) for message in MESSAGES])
        entries = await store.load("s", kinds=("message",))
        assert [message_of(entry) for entry in entries] == MESSAGES
        assert entries[0]["pinned"] is True and entries[1]["content"] == "hello" and entries[0]["run_id"] == "r"
        assert [hit.seq for hit in await store.search("call")] == [4]  # what was said, not what tools were told
        assert await store.search("sum") == [] and await store.search("hm") == []
    used = {type(block) for message in MESSAGES for block in message.content}
    assert used == set(get_args(Block))
    with pytest.raises(InvalidInputError, match="is no message"):
        message_of({"kind": "message", "role": "robot", "content": "x"})
    with pytest.raises(InvalidInputError, match="no block"):
        message_of({"kind": "message", "role": "user", "content": [{"type": "smell"}]})


async def test_export() -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("s", [{"kind": "session", "title": "A <b> title", "tags": ["t"], "model": "m"}])
        await store.append("s", [message_entry(message) for message in MESSAGES])
        await store.append("s", [{**USER, "content": "<script>alert(1)</script> ``` fence"}])
        await store.append("s", [{"kind": "checkpoint", "summary": "so far", "covers_seq": 2}])
        await store.save_interaction("s", "hello", "twice")
        markdown = await store.export("s")
        assert markdown.startswith("# A <b> title\n\nSession s · begun ") and "model m · tags t" in markdown
        assert "## User · " in markdown and "*calls add*\n\n```\n{" in markdown and "so far" in markdown
        assert "twice" not in markdown  # the messages say it already
        page = await store.export("s", "html")
        assert page.startswith("<!doctype html>") and "A &lt;b&gt; title" in page
        assert "<script>" not in page and "&lt;script&gt;alert(1)" in page
        lines = [json.loads(line) for line in (await store.export("s", "jsonl")).splitlines()]
        assert lines[0]["kind"] == "session" and [line["seq"] for line in lines[1:]] == list(range(2, 12))
        await store.save_interaction("only", "question", "answer")
        assert "## User" in await store.export("only") and "answer" in await store.export("only")
        with pytest.raises(InvalidInputError, match="no session"):
            await store.export("nobody")
        with pytest.raises(InvalidInputError, match="markdown, html, jsonl"):
            await store.export("s", "pdf")  # type: ignore[arg-type]


async def test_a_fence_in_a_fence() -> None:
    async with MemoryStore(":memory:") as store:
        call = AssistantMessage((ToolUseBlock("c", "run", {"code": "```x```"}),))
        await store.append("s", [message_entry(call)])
        assert "````\n{" in await store.export("s")


async def test_the_thread_answers_in_time(tmp_path: Path) -> None:
    """One append waits for its own commit, not for a clock."""
    async with MemoryStore(tmp_path / "m.db", durability="process") as store:
        await store.open()
        began = time.perf_counter()
        for _ in range(50):
            await store.append("s", [USER])
        assert time.perf_counter() - began < 5


def test_a_database_may_be_shut_twice(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "m.db"), "power", 1.0)
    database.shut()
    asyncio.run(database.open())
    database.shut()
    database.shut()
