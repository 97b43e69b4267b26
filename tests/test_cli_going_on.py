"""The command line goes on with kept sessions without losing a call, and speaks of ids in its own words."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from any_agent import Agent, tool
from any_agent.cli.app import app
from any_agent.config.providers import PROVIDERS
from any_agent.errors import ApprovalPendingError
from any_agent.memory import MemoryStore
from any_agent.testing import LoopbackServer, ScriptedModel, WireReply, chat_chunks, sse, token_usage
from any_agent.types import ToolMessage

CHAT = "/v1/chat/completions"
CALL = {"name": "pay", "input": {"amount": 3}, "id": "c1"}
OTHER = {"name": "pay", "input": {"amount": 4}, "id": "c2"}
Call = Callable[..., Any]
paid: list[int] = []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    (place / "project" / ".agent").mkdir(parents=True)
    return place


@pytest.fixture
def db(home: Path) -> str:
    return str(home / ".any_agent" / "memory.db")


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    gone = {name for one in PROVIDERS.values() for name in (*one.base_env, *one.key_env)} | {
        "XDG_CONFIG_HOME", "FORCE_COLOR"}  # fmt: skip
    kept = {n: v for n, v in os.environ.items() if n not in gone and not n.startswith(("ANY_AGENT_", "OPEN_AGENT_"))}
    return {**kept, "HOME": str(home), "USERPROFILE": str(home), "COLUMNS": "200"}


@pytest.fixture
def call(home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(home / "project")
    where: dict[str, str | None] = {**dict.fromkeys(os.environ.keys() - environ.keys()), **environ}
    return lambda *arguments, text=None: CliRunner().invoke(app, list(arguments), input=text, env=where)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@tool
async def pay(amount: int) -> str:
    """Pay."""
    paid.append(amount)
    return f"paid {amount}"


def waits(db: str, session_id: str, *calls: dict[str, Any]) -> None:
    """A session whose calls wait for approvals."""

    async def go() -> None:
        model = ScriptedModel([list(calls) or [CALL]])
        async with Agent(model, memory_db_path=db, tools=[pay], ask_tools=["pay"], approvals="wait") as agent:
            with pytest.raises(ApprovalPendingError):
                await agent.create_session(session_id).query("buy it")

    asyncio.run(go())


def goes_on(db: str, session_id: str) -> list[str]:
    """Resume it in the program that has the tool; the results that the model is told."""

    async def go() -> list[str]:
        model = ScriptedModel(["bought"])
        async with Agent(model, memory_db_path=db, tools=[pay], ask_tools=["pay"], approvals="wait") as agent:
            assert await (await agent.resume(session_id)).receive() == "bought"
            said = model.requests[0].messages[-1]
            assert isinstance(said, ToolMessage)
            return [str(result.content) for result in said.content]  # type: ignore[union-attr]

    return asyncio.run(go())


def kept(db: str) -> list[Any]:
    """Everything there is of sessions, as the file has it."""
    with sqlite3.connect(db) as read:
        tables = ("entries", "sessions", "approvals")
        names = [n for (n,) in read.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if n in tables]
        rows = [sorted(map(repr, read.execute(f"SELECT * FROM {name}"))) for name in names]
    read.close()
    assert rows
    return rows


def answers(server: LoopbackServer, *texts: str) -> None:
    server.reply(CHAT, *[sse(chat_chunks([text], usage=token_usage(7, 3), model="tiny")) for text in texts])


# ------------------------------------------------------------------ calls of tools that are not here


@pytest.mark.parametrize("is_allowed", [True, False], ids=["allowed", "waiting"])
def test_an_approved_call_is_not_lost_where_its_tool_is_missing(
    call: Call, db: str, server: LoopbackServer, is_allowed: bool
) -> None:
    waits(db, "till")
    if is_allowed:
        told = call("approvals", "allow", "till:c1")
        assert told.exit_code == 0 and 'await agent.resume("till")' in told.stderr
        assert "any-agent run" not in told.stderr, "this program has no tool pay"
    before = kept(db)
    answers(server, "So nothing.")
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "till")
    told = call("run", "--resume", *place)
    assert (told.exit_code, told.stdout, server.requests) == (1, "", [])
    assert "was left as it was" in told.stderr and 'pay({"amount": 3})' in told.stderr
    assert ("allowed by" if is_allowed else "waits for an approval") in told.stderr
    assert 'fix:   in the program that has the tools: session = await agent.resume("till")' in told.stderr
    assert json.loads(call("run", "--resume", "--json", *place).stdout)["error"]["type"] == "ToolNotFoundError"
    assert kept(db) == before
    if not is_allowed:
        call("approvals", "allow", "till:c1")
    paid.clear()
    assert goes_on(db, "till") == ["paid 3"] and paid == [3]


def test_a_killed_call_is_not_lost_where_its_tool_is_missing(
    call: Call, db: str, home: Path, environ: dict[str, str], server: LoopbackServer
) -> None:
    program = f"""
import asyncio, os
from any_agent import Agent, tool
from any_agent.testing import ScriptedModel
@tool
async def pay(amount: int) -> str:
    "Pay."
    os._exit(9)
asyncio.run(Agent(ScriptedModel([[{CALL!r}]]), memory_db_path={db!r}, tools=[pay]).create_session("till").query("go"))
"""
    assert subprocess.run([sys.executable, "-c", program], env=environ, check=False).returncode == 9
    before = kept(db)
    answers(server, "So nothing.", "Very well.")
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "till")
    told = call("run", "--resume", *place)
    assert (told.exit_code, server.requests) == (1, []) and 'pay({"amount": 3}) (has started)' in told.stderr
    assert kept(db) == before
    told = call("run", "never mind", "-q", *place)
    assert told.exit_code == 0 and 'leaves open tool calls without a result: pay({"amount": 3})' in told.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_prompt_to_a_killed_run_is_told_of_it(
    call: Call, home: Path, environ: dict[str, str], server: LoopbackServer
) -> None:
    answers(server, "lost", "Hello.")
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "diary")
    program = [sys.executable, "-m", "any_agent", "run", "Hi.", *place]
    dying = {**environ, "ANY_AGENT_KILL_AT": "3"}  # before the answer's commit
    how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "check": False}
    assert subprocess.run(program, env=dying, cwd=home / "project", **how).returncode < 0
    told = call("run", "Ho.", *place)
    assert told.exit_code == 0 and "its last run was stopped: --resume would go on with it" in told.stderr


def test_a_denied_call_needs_no_tool_and_the_model_hears_why(call: Call, db: str, server: LoopbackServer) -> None:
    waits(db, "till", CALL, OTHER)
    told = call("approvals", "deny", "till:c1", "--reason", "too dear")
    assert 'await agent.resume("till")' in told.stderr, "the other one waits"
    told = call("approvals", "deny", "till:c2")
    assert "next:  any-agent run --session till --resume" in told.stderr
    answers(server, "So it was refused.")
    told = call("run", "--resume", "--session", "till", "-m", "tiny", "--base-url", server.base_url)
    assert (told.exit_code, told.stdout) == (0, "So it was refused.\n")
    results = [m["content"] for m in server.requests[0].json["messages"] if m["role"] == "tool"]
    assert results == ["Not run: too dear", "Not run: it was refused"]


def test_a_word_that_comes_too_late_is_told_so(call: Call, db: str, server: LoopbackServer) -> None:
    waits(db, "till")
    answers(server, "Something else then.")
    call("run", "never mind", "--session", "till", "-m", "tiny", "--base-url", server.base_url)
    assert "next:  nothing: session till has gone on without this call" in call("approvals", "allow", "till:c1").stderr


def test_a_subagents_approval_goes_on_with_its_parent(call: Call, db: str) -> None:
    waits(db, "child")

    async def below() -> None:
        async with MemoryStore(db) as store:
            await store.append("child", [{"kind": "session", "parent_session_id": "it's mine"}])

    asyncio.run(below())
    told = call("approvals", "allow", "child:c1")
    assert """await agent.resume("it's mine")""" in told.stderr


# ------------------------------------------------------------------ held by another process


def test_a_session_that_is_being_answered_is_told_as_held(
    call: Call, db: str, environ: dict[str, str], home: Path, server: LoopbackServer
) -> None:
    server.reply(CHAT, WireReply(stall=True))
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "b")
    program = [sys.executable, "-m", "any_agent", "run", "first", *place]
    how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(program, env=environ, cwd=home / "project", **how) as process:
        try:
            deadline = time.monotonic() + 20
            while not server.requests:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for words in (("hi",), ("--resume",)):
                told = call("run", *words, *place)
                assert told.exit_code == 1 and told.stderr.startswith("✗ session b is held by ")
                assert "--resume" not in told.stderr and f"process {process.pid} " in told.stderr
            assert len(server.requests) == 1
        finally:
            process.kill()


# ------------------------------------------------------------------ ids


def test_an_empty_id_is_refused(call: Call, home: Path, server: LoopbackServer) -> None:
    for session_id in ("", " "):
        told = call("run", "hi", "--session", session_id, "-m", "tiny", "--base-url", server.base_url)
        assert told.exit_code == 2 and "--session wants an id" in told.stderr
    assert not (home / ".any_agent").exists() and server.requests == []


def test_control_characters_in_ids_stay_in_their_cell(call: Call, server: LoopbackServer) -> None:
    answers(server, "Hi.")
    place = ("-m", "tiny", "--base-url", server.base_url)
    told = call("run", "hi", "--session", "a\nb\x1b[31m\x85c", *place)
    assert told.exit_code == 0 and "session a\\nb\\x1b[31m\\x85c: new" in told.stderr
    assert call("run", "ho", "--session", "plain", *place).exit_code == 0
    lines = call("sessions").stdout.splitlines()
    assert len(lines) == 3 and any(line.startswith("a\\nb\\x1b[31m\\x85c  ") for line in lines)
    column = lines[0].index("changed")
    assert {line[column - 2 : column] for line in lines} == {"  "}, "columns are aligned"
    lines = call("stats", "--by", "session").stdout.splitlines()
    assert sum("a\\nb\\x1b[31m\\x85c" in line for line in lines) == 1 and len(lines) == 5
    found = call("sessions", "search", "hi").stdout
    assert "a\\nb" in found and "\x1b" not in found
    assert {row["session_id"] for row in json.loads(call("sessions", "--json").stdout)} == {
        "plain",
        "a\nb\x1b[31m\x85c",
    }


def test_an_unknown_id_is_told_with_the_ones_that_look_like_it(call: Call, db: str, server: LoopbackServer) -> None:
    answers(server, "Hi.")
    place = ("-m", "tiny", "--base-url", server.base_url)
    call("run", "hi", "--session", "diary", *place)
    for command in (
        ("run", "--resume", "--session", "dairy", *place),
        ("sessions", "show", "dairy"),
        ("stats", "--session", "dairy"),
        ("sessions", "export", "dairy"),
    ):
        told = call(*command)
        assert told.exit_code == 1
        assert told.stderr.startswith(f"✗ there is no session 'dairy' in {db}; near: 'diary'\n"), told.stderr
        assert "any-agent sessions lists them" in told.stderr and "MemoryStore(" not in told.stderr
    told = call("sessions", "show", "quite another")
    assert "near" not in told.stderr and "list_sessions" not in told.stderr


def test_an_export_that_cannot_be_written_is_told(call: Call, server: LoopbackServer, tmp_path: Path) -> None:
    answers(server, "Hi.")
    call("run", "hi", "--session", "diary", "-m", "tiny", "--base-url", server.base_url)
    out = tmp_path / "nowhere" / "x.md"
    told = call("sessions", "export", "diary", "--out", str(out))
    assert told.exit_code == 1
    assert told.stderr.splitlines()[0] == f"✗ {out} cannot be written: No such file or directory"


# ------------------------------------------------------------------ its own words


def test_several_words_want_quotes(call: Call) -> None:
    told = call("run", "hello", "world", "-m", "tiny")
    assert told.exit_code == 2
    assert 'unexpected extra argument(s) (world). A prompt of several words wants quotes: any-agent run "hello …"' in (
        " ".join(told.stderr.split())
    )
    assert "quotes" not in call("run", "hi", "--no-such").stderr


def test_usage_errors_are_free_of_the_librarys_words(call: Call) -> None:
    for command in (
        ("sessions", "export", "x", "--format", "docx"),
        ("stats", "--by", "docx"),
        ("run", "hi", "--output-format", "docx"),
    ):
        told = call(*command)
        assert told.exit_code == 2
        assert "'docx' is not one of" in told.stderr and "Value error" not in told.stderr


def test_errors_speak_of_commands(call: Call, home: Path) -> None:
    told = call("run", "hi", "--replay", "nope.jsonl")
    assert told.exit_code == 2 and "make one with any-agent run --record FILE" in told.stderr
    told = call("run", "hi")
    assert "Agent(" not in told.stderr and "--model" in told.stderr
    assert "Agent(" not in call("run", "hi", "--json").stdout
