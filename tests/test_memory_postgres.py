"""PostgresStore on a real server: the suite that every store must pass, and what only a shared server brings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.postgres import ABSENT, PostgresServer, server_programs, start_postgres

from any_agent import Agent, tool
from any_agent.errors import (
    ConfigurationError,
    InvalidInputError,
    MemoryStoreError,
    MissingExtraError,
    SessionBusyError,
    SessionFencedError,
)
from any_agent.memory import MemoryStore, PostgresStore
from any_agent.testing import ScriptedModel
from any_agent.testing.store_suite import StoreSuite
from any_agent.types import ToolUseBlock, text_of

PROGRAMS = server_programs()
pytestmark = [pytest.mark.real, pytest.mark.skipif(PROGRAMS is None, reason=ABSENT)]
USER = {"kind": "message", "role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    assert PROGRAMS is not None
    with start_postgres(PROGRAMS) as server:
        yield server


class TestSuite(StoreSuite):
    @pytest.fixture
    async def store(self, postgres: PostgresServer) -> AsyncIterator[PostgresStore]:
        async with PostgresStore(postgres.dsn, schema="suite") as store:
            yield store
            await store.open()
            assert await store.integrity_check() == []

    async def another(self, store: Any) -> Any:
        return PostgresStore(store._settings[0], schema=store.schema)


class TestSuiteWithOneConnection(TestSuite):
    """All tasks wait for one connection; commits are not waited for."""

    @pytest.fixture
    async def store(self, postgres: PostgresServer) -> AsyncIterator[PostgresStore]:
        async with PostgresStore(postgres.dsn, schema='Narrow "1"', max_connections=1, durability="process") as store:
            yield store


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(postgres.dsn, schema=f"t{uuid4().hex}") as store:
        yield store


def reason_of(error: BaseException) -> Any:
    return getattr(error, "reason", None)


async def trouble(call: Any) -> str:
    with pytest.raises(MemoryStoreError) as caught:
        await call
    return str(caught.value.reason)


PRELUDE = """
import asyncio, json, os, sys
from any_agent.errors import SessionBusyError, SessionFencedError
from any_agent.memory import PostgresStore
USER = {"kind": "message", "role": "user", "content": "hello"}
store = PostgresStore(sys.argv[1], schema=sys.argv[2])
def say(*what): os.write(1, (" ".join(map(str, what)) + "\\n").encode())
"""


def start(store: PostgresStore, script: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process on the same data; it never closes its store."""
    code = PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-W", "error", "-c", code, store._settings[0], store.schema, *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def finished(child: subprocess.Popen[str]) -> list[str]:
    """The lines it printed; fails when it failed or said anything on stderr."""
    out, err = child.communicate(timeout=50)
    assert err == "" and child.returncode == 0, err
    return out.splitlines()


# ------------------------------------------------------------------ several processes


async def test_eight_processes_write_at_once(store: PostgresStore) -> None:
    script = """
    async def main():
        one = f"own-{sys.argv[3]}"
        for place in range(25):
            await store.append(one, [USER, {"kind": "model_call", "input_tokens": place}])
            say(await store.append("shared", [{"kind": "event", "name": one, "body": place}]))
    asyncio.run(main())
    """
    children = [start(store, script, str(place)) for place in range(8)]
    seqs = [int(line) for child in children for line in await asyncio.to_thread(finished, child)]
    assert sorted(seqs) == list(range(1, 201))  # nobody got the number of another
    assert [one["seq"] for one in await store.load("shared")] == list(range(1, 201))
    for place in range(8):
        entries = await store.load(f"own-{place}")
        assert [one["seq"] for one in entries] == list(range(1, 51))
    assert (await store.spent()).calls == 200
    assert await store.integrity_check() == []


async def test_two_processes_take_turns_by_lease(store: PostgresStore) -> None:
    script = """
    async def main():
        done = busy = 0
        while done < 15:
            try:
                fence = await store.lease("s", sys.argv[3])
            except SessionBusyError:
                busy += 1
                await asyncio.sleep(0.002)
                continue
            first = await store.append("s", [{"kind": "event", "name": sys.argv[3]}], fence=fence)
            await asyncio.sleep(0.002)  # the other tries meanwhile
            assert await store.append("s", [{"kind": "event", "name": sys.argv[3]}], fence=fence) == first + 1
            await store.release("s", fence)
            await asyncio.sleep(0.001)
            done += 1
        say(busy)
    asyncio.run(main())
    """
    children = [start(store, script, name) for name in ("left", "right")]
    busy = [int((await asyncio.to_thread(finished, child))[0]) for child in children]
    names = [one["name"] for one in await store.load("s")]
    assert len(names) == 60 and names.count("left") == 30
    assert all(names[place] == names[place + 1] for place in range(0, 60, 2))  # each turn is whole
    assert await store.lease("s", "after") == 31, busy


async def test_what_was_acknowledged_survives_a_kill(store: PostgresStore) -> None:
    script = """
    async def main():
        async def one(session_id):
            while True:
                say(session_id, await store.append(session_id, [USER, {"kind": "model_call", "input_tokens": 1}]))
        await asyncio.gather(*[one(f"s{place}") for place in range(5)])
    asyncio.run(main())
    """
    child = start(store, script)
    assert child.stdout
    lines: list[str] = []
    while len(lines) < 60 or len({line.split()[0] for line in lines}) < 5:
        lines.append(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    lines += child.communicate(timeout=10)[0].splitlines()
    told = {}
    for line in lines:
        if len(words := line.split()) == 2:
            told[words[0]] = int(words[1])
    assert len(told) == 5
    for session_id, seq in told.items():
        entries = await store.load(session_id)
        assert [one["seq"] for one in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= seq and len(entries) % 2 == 0


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes")
async def test_the_lease_of_a_dead_process_is_free_at_once(store: PostgresStore) -> None:
    child = start(store, 'say(asyncio.run(store.lease("s", "dead", 600))); sys.stdin.read()')
    assert child.stdout
    fence = int(child.stdout.readline())
    with pytest.raises(SessionBusyError, match="dead"):
        await store.lease("s", "me")
    child.kill()
    child.communicate(timeout=10)
    assert await store.holder("s") is None
    assert await store.lease("s", "me") == fence + 1


async def test_a_frozen_process_keeps_nobody_waiting_and_writes_nothing_late(store: PostgresStore) -> None:
    script = """
    async def main():
        fence = await store.lease("s", "frozen", 0.3)
        say(await store.append("s", [USER], fence=fence))
        sys.stdin.readline()
        try:
            await store.append("s", [USER], fence=fence)
        except SessionFencedError as error:
            say(error)
    asyncio.run(main())
    """
    child = start(store, script)
    assert child.stdout and child.stdin
    assert child.stdout.readline() == "1\n"
    child.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.35)
    fence = await store.lease("s", "me")
    child.send_signal(signal.SIGCONT)
    child.stdin.write("\n")
    (told,) = await asyncio.to_thread(finished, child)
    assert "taken over; me" in told and "nothing was written" in told
    assert await store.append("s", [USER], fence=fence) == 2


# ------------------------------------------------------------------ an agent's conversation


AGENT = """
import logging
from any_agent import Agent
from any_agent.testing import ScriptedModel
from any_agent.types import ToolUseBlock
"""


async def test_a_conversation_is_resumed_by_another_process(store: PostgresStore) -> None:
    def count(number: int) -> int:
        """Count."""
        return number + 1

    model = ScriptedModel([ToolUseBlock("c", "count", {"number": 1}), "two it is"])
    agent = Agent(model, tools=[count], store=store)
    assert await agent.create_session("talk").query("What comes after 1? café 東京") == "two it is"
    await agent.aclose()
    script = """
    async def main():
        agent = Agent(ScriptedModel(["three, of course"]), store=store)
        session = await agent.resume("talk")
        say(json.dumps([m.role for m in session.messages]), session.turn_count, session.is_unfinished)
        say(await session.query("And then?"))
        await session.close()
        await agent.aclose()
    asyncio.run(main())
    """
    told = await asyncio.to_thread(finished, start(store, AGENT + textwrap.dedent(script)))
    assert told == ['["user", "assistant", "tool", "assistant"] 1 False', "three, of course"]
    again = await Agent(ScriptedModel([]), store=store).resume("talk")
    texts = [text_of(message) for message in again.messages]
    assert texts[0] == "What comes after 1? café 東京" and texts[-2:] == ["And then?", "three, of course"]
    assert again.turn_count == 2
    assert {hit.session_id for hit in await store.search("東京")} == {"talk"}
    (tool,) = await store.load("talk", kinds=("tool",))
    assert tool["state"] == "finished" and tool["arguments"] == {"number": 1}
    assert (await store.usage("talk"))[0].calls == 3


async def test_two_processes_resume_one_session(store: PostgresStore) -> None:
    await Agent(ScriptedModel(["hello"]), store=store).create_session("talk").query("Hi.")
    script = """
    async def main():
        async def slow(word: str) -> str:
            "Takes until the other process has tried."
            say("asked")
            await asyncio.to_thread(sys.stdin.readline)
            return word
        agent = Agent(ScriptedModel([ToolUseBlock("c", "slow", {"word": "w"}), "done"]),
                      tools=[slow], store=store)
        session = await agent.resume("talk")
        say(await session.query("Be slow."))
    asyncio.run(main())
    """
    child = start(store, AGENT + textwrap.dedent(script))
    assert child.stdout and child.stdin
    assert await asyncio.to_thread(child.stdout.readline) == "asked\n"
    mine = await Agent(ScriptedModel(["mine"]), store=store).resume("talk")
    with pytest.raises(SessionBusyError, match=str(child.pid)):
        await mine.query("Me too.")
    child.stdin.write("\n")
    assert await asyncio.to_thread(finished, child) == ["done"]
    assert await mine.query("Now me.") == "mine"  # with what the other process wrote meanwhile
    assert [text_of(message) for message in mine.messages][-3:] == ["done", "Now me.", "mine"]


# ------------------------------------------------------------------ a server that goes away


@contextlib.asynccontextmanager
async def without(server: PostgresServer, mode: str = "immediate") -> AsyncIterator[None]:
    await asyncio.to_thread(server.stop, mode)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_restart_of_the_server(postgres: PostgresServer, store: PostgresStore, mode: str) -> None:
    fence = await store.lease("s", "me")
    await asyncio.gather(*[store.append("s", [USER], fence=fence) for _ in range(10)])
    async with without(postgres, mode):
        assert await trouble(store.append("s", [USER], fence=fence)) == "unavailable"
        assert await trouble(store.load("s")) == "unavailable"
        assert await trouble(PostgresStore(postgres.dsn).open()) == "unavailable"
    assert await store.append("s", [USER], fence=fence) == 11
    async with without(postgres, mode):
        pass  # nobody noticed: the connections are dead all the same
    assert sorted(await asyncio.gather(*[store.append("s", [USER], fence=fence) for _ in range(3)])) == [12, 13, 14]
    assert len(await store.load("s")) == 14


async def test_a_crash_of_the_server_in_the_middle_of_writing(postgres: PostgresServer, store: PostgresStore) -> None:
    acknowledged: dict[str, list[int]] = {}
    failures: list[BaseException] = []
    is_over = False

    async def write(session_id: str) -> None:
        told = acknowledged.setdefault(session_id, [])
        while not is_over:
            try:
                told.append(await store.append(session_id, [USER, {"kind": "event", "name": "x"}]))
            except MemoryStoreError as error:
                failures.append(error)
                await asyncio.sleep(0.01)

    writers = [asyncio.create_task(write(f"s{place}")) for place in range(6)]
    for _ in range(3):
        await asyncio.sleep(0.1)
        async with without(postgres):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    is_over = True
    await asyncio.gather(*writers)
    assert failures and {reason_of(error) for error in failures} == {"unavailable"}
    for session_id, told in acknowledged.items():
        entries = await store.load(session_id)
        assert [one["seq"] for one in entries] == list(range(1, len(entries) + 1))
        assert set(told) <= {one["seq"] for one in entries} and len(entries) % 2 == 0
    assert await store.integrity_check() == []


async def test_a_conversation_goes_on_after_the_server_was_away(postgres: PostgresServer, store: PostgresStore) -> None:
    model = ScriptedModel(["one", ToolUseBlock("c", "crash", {}), "three"])

    @tool(effect="once")
    async def crash() -> str:
        """The store's server dies while this runs."""
        await asyncio.to_thread(postgres.stop)
        return "crashed"

    agent = Agent(model, tools=[crash], store=store)
    session = agent.create_session("talk")
    assert await session.query("First.") == "one"
    async with without(postgres):
        assert await trouble(session.query("Nobody hears this.")) == "unavailable"
    assert len(model.requests) == 1  # what could not be kept was not sent
    assert await trouble(session.query("Second.")) == "unavailable"
    await asyncio.to_thread(postgres.start)
    assert await session.query("Third.") == "three"
    again = await Agent(ScriptedModel([]), store=store).resume("talk")
    assert again.messages == session.messages
    assert [text_of(m) for m in again.messages if m.role == "user"] == ["First.", "Second.", "Third."]


class Relay:
    """A way to the server that can break: a context manager.

    Attributes: cut (the next commit's connection breaks "before" it reaches the server, or "after": its answer is
    lost), is_down_after (then nobody gets through until `is_down` is False again).
    """

    def __init__(self, postgres: PostgresServer) -> None:
        self.socket = f"{postgres.folder}/.s.PGSQL.5432"
        self.cut = ""
        self.is_down = self.is_down_after = False
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.dsn = f"host=127.0.0.1 port={self.server.sockets[0].getsockname()[1]} dbname=test user=app"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        if self.is_down:
            writer.close()
            return
        there, here = await asyncio.open_unix_connection(self.socket)
        back = asyncio.create_task(self._answer(there, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                cut = self.cut if b"COMMIT\0" in data else ""
                if cut:
                    back.cancel()
                    await asyncio.wait([back])
                    self.cut, self.is_down = "", self.is_down_after
                if cut != "before":
                    here.write(data)
                    await here.drain()
                if cut == "after":
                    await there.read(1)  # it is done
                if cut:
                    break
        back.cancel()
        await asyncio.wait([back])
        for one in (here, writer):
            one.close()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_lost_answer_to_a_commit_is_found_out(postgres: PostgresServer, cut: str) -> None:
    async with Relay(postgres) as relay, PostgresStore(relay.dsn, schema=f"t{uuid4().hex}") as store:
        fence = await store.lease("s", "me")
        assert await store.append("s", [USER], fence=fence) == 1
        relay.cut = cut
        assert await store.append("s", [USER], fence=fence) == 2  # written once, whatever was lost
        assert relay.cut == ""
        assert await store.append("s", [USER], fence=fence) == 3
        assert len(await store.load("s")) == 3
        relay.cut = cut
        assert await store.append("new", [USER]) == 1  # the row of the session was not there before
        assert relay.cut == "" and len(await store.load("new")) == 1


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_commit_that_nobody_could_answer_for(postgres: PostgresServer, cut: str) -> None:
    async with Relay(postgres) as relay, PostgresStore(relay.dsn, schema=f"t{uuid4().hex}") as store:
        fence = await store.lease("s", "me")
        await store.append("s", [USER], fence=fence)
        relay.cut, relay.is_down_after = cut, True
        with pytest.raises(MemoryStoreError, match="not known") as caught:
            await store.append("s", [USER], fence=fence)
        assert caught.value.reason == "unavailable"
        assert await trouble(store.append("s", [USER], fence=fence)) == "unavailable"
        relay.is_down = False
        if cut == "after":
            with pytest.raises(SessionFencedError, match="resume"):
                await store.append("s", [USER], fence=fence)
            assert await store.lease("s", "me") == fence + 2  # its owner reads the session anew
            assert len(await store.load("s")) == 2
        else:
            assert await store.append("s", [USER], fence=fence) == 2
            assert await store.lease("s", "me") == fence + 1
        await store.append("s", [USER], fence=(await store.lease("s", "me")))


async def test_a_crash_gives_lost_numbers_of_transactions_to_others(
    postgres: PostgresServer, store: PostgresStore
) -> None:
    """What came of a commit is told by its mark, not by the server's number of the transaction."""
    for place in range(3):
        async with without(postgres):
            assert await trouble(store.append("s", [USER])) == "unavailable"
        assert await store.append("s", [USER]) == place + 1


# ------------------------------------------------------------------ connections


def connections(postgres: PostgresServer) -> int:
    return int(postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"))


async def gone(postgres: PostgresServer, wanted: int = 0) -> bool:
    """All connections but those were closed; the server needs a moment to notice."""
    for _ in range(200):
        if await asyncio.to_thread(connections, postgres) <= wanted:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_connections_are_few_and_given_back(postgres: PostgresServer) -> None:
    async with PostgresStore(postgres.dsn, schema=f"t{uuid4().hex}", max_connections=3) as store:
        await asyncio.gather(*[store.append(f"s{place}", [USER]) for place in range(50)])
        assert 1 <= await asyncio.to_thread(connections, postgres) <= 3
    assert await gone(postgres)


async def test_cancelled_calls_leave_no_connection_and_no_half_entries(
    postgres: PostgresServer, store: PostgresStore
) -> None:
    entries = [USER, {"kind": "event", "name": "x"}]
    for place in range(40):
        task = asyncio.create_task(store.append("s", entries))
        await asyncio.sleep(place * 0.0002)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    found = await store.load("s")
    assert [one["seq"] for one in found] == list(range(1, len(found) + 1)) and len(found) % 2 == 0
    assert await asyncio.wait_for(store.append("s", entries), 5) == len(found) + 2
    await store.aclose()
    assert await gone(postgres)


def test_many_event_loops_use_one_store(postgres: PostgresServer) -> None:
    store = PostgresStore(postgres.dsn, schema=f"t{uuid4().hex}")

    async def write(number: int, store: PostgresStore) -> None:
        await asyncio.gather(*[store.append("s", [{**USER, "content": number}]) for _ in range(5)])

    for number in range(3):  # one after another, none closed
        asyncio.run(write(number, store))
        gc.collect()
    assert asyncio.run(gone(postgres, 8))
    threads = [threading.Thread(target=asyncio.run, args=[write(number, store)]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asyncio.run(store.load("s"))) == 35
    del store, threads, thread
    gc.collect()
    assert asyncio.run(gone(postgres))


async def test_a_program_that_forgets_to_close_ends_quietly(postgres: PostgresServer, store: PostgresStore) -> None:
    script = """
    say(asyncio.run(store.append("s", [USER])))
    say(asyncio.run(store.append("s", [USER])))
    """
    assert await asyncio.to_thread(finished, start(store, script)) == ["1", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_process_gets_connections_of_its_own(store: PostgresStore) -> None:
    script = """
    import threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
    async def connection():
        return await store._db.read(lambda tx: tx.one("SELECT pg_backend_pid()"))
    async def in_child():
        await store.append("s", [USER])
        await store.aclose()
    async def main():
        await store.append("s", [USER])
        before = await connection()
        child = os.fork()
        if child == 0:
            thread = threading.Thread(target=asyncio.run, args=[in_child()])
            thread.start()
            thread.join()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        say(await store.append("s", [USER]), await connection() == before)
        await store.aclose()
    asyncio.run(main())
    """
    assert await asyncio.to_thread(finished, start(store, script)) == ["3 True"]


# ------------------------------------------------------------------ the server, its tables, the extra


async def test_making_a_store_does_nothing() -> None:
    store = PostgresStore("host=/nowhere password=secret")
    assert "secret" not in repr(store) + store.path
    assert "secret" not in PostgresStore("postgresql://me:secret@localhost/db").path
    assert await trouble(store.load("s")) == "unavailable"
    await store.aclose()
    for wrong in ({"durability": "none"}, {"max_connections": 0}, {"schema": ""}):
        with pytest.raises(ConfigurationError):
            PostgresStore("", **wrong)


async def test_many_processes_make_the_tables_once(store: PostgresStore) -> None:
    script = 'say(asyncio.run(store.append("s", [USER])))'
    fresh = PostgresStore(store._settings[0], schema=f"t{uuid4().hex}")
    children = [start(fresh, script) for _ in range(6)]
    seqs = [line for child in children for line in await asyncio.to_thread(finished, child)]
    assert sorted(seqs) == ["1", "2", "3", "4", "5", "6"]


async def test_tables_that_are_not_ours_are_left_alone(postgres: PostgresServer, store: PostgresStore) -> None:
    await store.append("s", [USER])
    postgres.sql(f"UPDATE {store.schema}.meta SET value = 99 WHERE name = 'version'")
    assert await trouble(PostgresStore(postgres.dsn, schema=store.schema).open()) == "newer_schema"
    foreign = f"t{uuid4().hex}"
    postgres.sql(f"CREATE SCHEMA {foreign} AUTHORIZATION app; CREATE TABLE {foreign}.sessions (x int)")
    assert await trouble(PostgresStore(postgres.dsn, schema=foreign).open()) == "foreign_file"
    assert postgres.sql(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{foreign}'") == "1"


async def test_tables_that_are_gone_are_made_anew(postgres: PostgresServer, store: PostgresStore) -> None:
    await store.append("s", [USER])
    postgres.sql(f"DROP SCHEMA {store.schema} CASCADE")
    assert await trouble(store.append("s", [USER])) == "io"
    assert await store.append("s", [USER]) == 1


async def test_rights_and_locks_are_told(postgres: PostgresServer, store: PostgresStore) -> None:
    await store.append("s", [USER])
    postgres.sql("CREATE ROLE guest LOGIN")
    guest = PostgresStore(postgres.dsn.replace("user=app", "user=guest"), schema=f"t{uuid4().hex}")
    assert await trouble(guest.open()) == "read_only"
    nobody = PostgresStore(postgres.dsn.replace("user=app", "user=nobody_knows"))
    assert await trouble(nobody.open()) == "unavailable"
    hasty = PostgresStore(postgres.dsn, schema=store.schema, busy_timeout_s=0.05)
    await hasty.open()
    update = f"BEGIN; UPDATE {store.schema}.sessions SET title = 'x'; SELECT pg_sleep(30)"
    holds = asyncio.create_task(asyncio.to_thread(postgres.sql, update))
    sleepers = f"FROM pg_stat_activity WHERE query = $${update}$$ AND wait_event = 'PgSleep'"
    while not await asyncio.to_thread(postgres.sql, f"SELECT pid {sleepers}"):
        assert not holds.done()
    assert await trouble(hasty.append("s", [USER])) == "locked"
    await asyncio.to_thread(postgres.sql, f"SELECT pg_terminate_backend(pid) {sleepers}")
    with pytest.raises(RuntimeError, match="terminating connection"):
        await holds
    assert await hasty.append("s", [USER]) == 2
    for one in (guest, nobody, hasty):
        await one.aclose()


async def test_values_that_postgres_cannot_take(store: PostgresStore) -> None:
    for call in (store.load("a\0b"), store.session("\ud800"), store.search("x", tag="\0")):
        with pytest.raises(InvalidInputError):
            await call
    long = "".join(uuid4().hex for _ in range(300))
    with pytest.raises(InvalidInputError):
        await store.append("s", [{"kind": "approval", "approval_id": long}])
    assert await store.session("s") is None
    ordered = {"z": 1, "a": {"y": 1.0, "b": [10**18, 1e300]}, "NUL": "\0"}
    await store.append("s", [{"kind": "message", "role": "user", "content": ordered}])
    (found,) = await store.load("s")
    assert json.dumps(found["content"]) == json.dumps(ordered)  # order of keys included


def test_without_psycopg_the_error_names_the_pip_line() -> None:
    script = """
    import asyncio, sys
    sys.modules["psycopg"] = None
    from any_agent.errors import MissingExtraError
    from any_agent.memory import PostgresStore
    try:
        asyncio.run(PostgresStore("").open())
    except MissingExtraError as error:
        print(error.extra, error)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("postgres PostgresStore needs psycopg")
    assert "pip install 'any-agent-harness[postgres]'" in told.stdout and issubclass(MissingExtraError, ImportError)


def test_importing_the_store_imports_no_psycopg() -> None:
    script = "import sys, any_agent.memory as m; m.PostgresStore; print('psycopg' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


# ------------------------------------------------------------------ the same hits as in SQLite


TEXTS = (
    "The restaurant's menu is at https://example.com/menu/today.html, in /srv/www/menu.",
    "Send it to ann.lee@example.com by 2026-11-21, version v1.2.3-rc1.",
    "naïve café Ünïcode Straße ÅNGSTRÖM crème brûlée",
    "東京タワーの夜景は綺麗です。京都も好き。",
    "สวัสดีครับ ยินดีที่ได้รู้จัก",
    "한국어 문장도 검색됩니다",
    "fox🦊jumps over the lazy dog's bone",
    "snake_case_name and camelCaseName in foo-bar_baz.py",
    "Привет, мир! Ёлка зелёная, мой Καλημέρα",
    "don't stop, it's 3.14 or 10,000",
)
QUERIES = (
    "menu", "example", "today html", "ann lee", "rc1", "2026", "naive cafe", "UNICODE", "angstrom", "brulee", "東京",
    "夜景", "京都", "都京", "京", "ยินดี", "한국어", "검색", "fox", "jump", "dog", "snake_case_name", "camelcase", "foo bar baz",
    "привет", "зеленая", "зелёная", "мои", "мой", "ΚΑΛΗΜΈΡΑ", "καλημερα", "don't", "3.14", "10,000", "the lazy", "nothing of it", "v1.2", "menu dog",
)  # fmt: skip


async def test_the_same_is_found_as_in_sqlite(store: PostgresStore) -> None:
    async with MemoryStore(":memory:") as other:
        for one in (store, other):
            for place, text in enumerate(TEXTS):
                await one.append(f"s{place}", [{"kind": "message", "role": "user", "content": text}])
        found: dict[str, list[set[str]]] = {query: [] for query in QUERIES}
        snippets: list[list[str]] = []
        for one in (store, other):
            for query in QUERIES:
                found[query].append({hit.session_id for hit in await one.search(query, 20)})
            snippets.append([(await one.search(query, 1) or [None])[0] is not None for query in QUERIES])
        assert {query: both for query, both in found.items() if both[0] != both[1]} == {}
        assert snippets[0] == snippets[1] and sum(map(bool, snippets[0])) > 25


async def test_search_by_meaning(store: PostgresStore) -> None:
    words = ("cat", "kitten", "car")
    directions = {"cat": [1.0, 0.1], "kitten": [0.9, 0.2], "car": [0.0, 1.0]}

    def embed(texts: list[str]) -> list[list[float]]:
        return [next((directions[word] for word in words if word in text), [0.1, 0.1]) for text in texts]

    async with PostgresStore(store._settings[0], schema=store.schema, embed=embed) as near:
        await near.append("s", [{"kind": "message", "role": "user", "content": f"my {word}"} for word in words])
        assert [hit.text for hit in await near.search("kitten", 2)] == ["my kitten", "my cat"]
        assert [hit.seq for hit in await near.search("cat", 2, role="user")] == [1, 2]
        await store.delete("s")
        assert await near.search("cat", 2) == []
        await near.append("t", [{"kind": "message", "role": "user", "content": "a car"}])
        assert [hit.text for hit in await near.search("kitten")] == ["a car"]


async def test_documents_are_indexed(store: PostgresStore, tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.txt"
    page.write_text("# Cats\n\nA cat purrs.\n\n# Dogs\n\nA dog barks at example.com.\n")
    other.write_text("Birds sing.")
    report = await store.index(tmp_path)
    assert (report.added, report.chunks) == (2, 3)
    (hit,) = await store.search("dog example")
    assert (hit.source, hit.heading, hit.citation) == ("document", "Dogs", f"{page}:5-7")
    page.write_text("# Cats\n\nNo dogs here.\n")
    other.unlink()
    report = await store.index(tmp_path)
    assert (report.added, report.updated, report.removed) == (0, 1, 1)
    assert await store.search("barks") == [] and await store.search("birds") == []
    assert (await store.stats())["documents"] == 1
    assert await store.forget(tmp_path) == 1 and await store.search("cats") == []


async def test_a_large_text_is_searchable(store: PostgresStore) -> None:
    many = " ".join(f"word{place}" for place in range(60_000))
    signs = "".join(chr(0x4E00 + place % 20_000) for place in range(150_000))
    for text in (f"first {many} last", f"first {'same ' * 200_000} last", f"first {signs}", "first " + "x" * 2_000_000):
        await store.append("s", [{"kind": "message", "role": "user", "content": text}])
    assert {hit.seq for hit in await store.search("first", 10)} == {1, 2, 3, 4}
    assert [hit.seq for hit in await store.search("word29999")] == [1]
