"""The command line over kept sessions: stats, sessions, approvals, run --session, run --profile-run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from any_agent import Agent, tool
from any_agent.cli.app import app
from any_agent.cli.common import Common
from any_agent.cli.kept import cost, since
from any_agent.cli.problems import lines_of
from any_agent.cli.run_profile import RunProfile
from any_agent.config.providers import PROVIDERS
from any_agent.errors import ApprovalPendingError, ServerError
from any_agent.memory import MemoryStore
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import LoopbackServer, ScriptedModel, WireReply, chat_chunks, error, sse, token_usage
from any_agent.types import (
    AssistantMessage,
    Attempt,
    AttemptFailed,
    ResultMessage,
    Timings,
    ToolMessage,
    ToolStarted,
    ToolUseBlock,
)

CHAT = "/v1/chat/completions"
PROVIDER_VARIABLES = {name for p in PROVIDERS.values() for name in (*p.base_env, *p.key_env)}
CALL = {"name": "pay", "input": {"amount": 3}, "id": "c1"}
Call = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    (place / "project" / ".agent").mkdir(parents=True)
    return place


@pytest.fixture
def db(home: Path) -> str:
    return str(home / ".any_agent" / "memory.db")


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command in an empty project of a user who has nothing but what the test kept."""
    strange = [n for n in os.environ if n in PROVIDER_VARIABLES or n.startswith(("ANY_AGENT_", "OPEN_AGENT_"))]
    gone: dict[str, str | None] = dict.fromkeys([*strange, "XDG_CONFIG_HOME", "FORCE_COLOR"])
    machine = {**gone, "HOME": str(home), "USERPROFILE": str(home), "COLUMNS": "200"}
    monkeypatch.chdir(home / "project")

    def run(*arguments: str, text: str | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), input=text, env=machine)

    return run


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@tool
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def talk(
    db: str, session_id: str = "talk", replies: Any = ("one",), prompt: str = "What is there?", **fields: Any
) -> None:
    """A session is kept."""

    async def go() -> None:
        async with Agent(ScriptedModel(list(replies)), memory_db_path=db, tools=[pay], **fields) as agent:
            session = agent.create_session(session_id)
            try:
                await session.query(prompt)
            except ApprovalPendingError:
                assert fields

    asyncio.run(go())


def wait_for_approval(db: str) -> str:
    talk(db, "shop", [[CALL]], "buy it", ask_tools=["pay"], approvals="wait")
    return "shop:c1"


# ------------------------------------------------------------------ nothing is there


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["sessions"],
        ["sessions", "show", "x"],
        ["sessions", "search", "x"],
        ["approvals"],
        ["approvals", "allow", "x"],
    ],
)
def test_where_nothing_is_kept_a_line_says_so(call: Call, home: Path, db: str, arguments: list[str]) -> None:
    told = call(*arguments)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"✗ nothing is kept yet: there is no {db}\n")
    assert "any-agent run --session" in told.stderr and "Traceback" not in told.stderr
    assert not (home / ".any_agent").exists(), "looking makes no store"
    told = call(*arguments, "--json")
    assert told.exit_code == 1 and json.loads(told.stdout)["error"]["type"] == "MemoryStoreError"


def test_a_file_that_is_no_store_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello " * 200)
    told = call("stats", "--db", str(tmp_path / "notes.txt"))
    assert told.exit_code == 1 and "notes.txt" in told.stderr and "Traceback" not in told.stderr


def test_a_full_disk_under_the_output_is_no_bug_of_ours() -> None:
    assert lines_of(OSError(28, "No space left on device"), Common())[-1].startswith("  more:  the system refused it")
    assert "may be a bug" in lines_of(KeyError("x"), Common())[-1]


def test_groups_list_by_default_and_know_their_commands(call: Call, db: str) -> None:
    talk(db)
    assert call("sessions").stdout == call("sessions", "list").stdout
    assert call("sessions", "--limit", "1").exit_code == 0
    assert call("approvals").stdout == "nothing waits for an approval\n"
    told = call("sessions", "sow")
    assert told.exit_code == 2 and "No such command" in told.stderr
    assert "export" in call("sessions", "--help").stdout and "deny" in call("approvals", "-h").stdout


# ------------------------------------------------------------------ sessions


def test_sessions_are_listed_shown_exported_and_found(call: Call, db: str, tmp_path: Path) -> None:
    talk(db, "fruit-1", ["The pear is green."], "Tell me of the pear.")
    talk(db, "fruit-2", ["The plum is blue."], "Tell me of the plum.")
    lines = call("sessions").stdout.splitlines()
    assert lines[0].split() == ["session", "changed", "messages", "model", "title"]
    assert lines[1].split()[0] == "fruit-2" and lines[1].endswith("Tell me of the plum.")
    rows = json.loads(call("sessions", "--json").stdout)
    assert [(row["session_id"], row["message_count"]) for row in rows] == [("fruit-2", 2), ("fruit-1", 2)]

    told = call("sessions", "show", "fruit-1")
    assert "The pear is green." in told.stdout and "1 model calls · 1 in / " in told.stderr
    assert json.loads(call("sessions", "show", "fruit-1", "--json").stdout)["usage"]["calls"] == 1
    told = call("sessions", "show", "fruit")
    assert told.exit_code == 1 and "2 sessions begin with 'fruit'" in told.stderr
    told = call("sessions", "show", "nobody")
    assert told.exit_code == 1 and "there is no session 'nobody'" in told.stderr

    assert call("sessions", "export", "fruit-1", "--format", "html").stdout.startswith("<!doctype html>")
    entries = [json.loads(line) for line in call("sessions", "export", "fruit-1", "-f", "jsonl").stdout.splitlines()]
    assert [e["role"] for e in entries if e["kind"] == "message"] == ["user", "assistant"]
    assert call("sessions", "export", "fruit-1", "-o", str(tmp_path / "x.md")).stdout == ""
    assert "The pear is green." in (tmp_path / "x.md").read_text()

    told = call("sessions", "search", "plum")
    assert told.exit_code == 0 and told.stdout.startswith("fruit-2  ") and "plum" in told.stdout
    assert {hit["session_id"] for hit in json.loads(call("sessions", "search", "pear", "--json").stdout)} == {"fruit-1"}
    told = call("sessions", "search", "submarine")
    assert (told.exit_code, told.stdout) == (1, "") and "nothing was found" in told.stderr


def test_sessions_are_deleted(call: Call, db: str) -> None:
    talk(db, "a")
    talk(db, "b")
    told = call("sessions", "delete", "a", "nobody")
    assert told.exit_code == 1 and len(json.loads(call("sessions", "--json").stdout)) == 2, "all or nothing"
    assert "deleted 1" in call("sessions", "delete", "a", "--keep-ledger").stderr
    assert json.loads(call("stats", "--json").stdout)["total"]["calls"] == 2
    assert json.loads(call("sessions", "delete", "b", "--yes", "--json").stdout) == {"deleted": 1}
    assert call("sessions").stdout == "no sessions are kept\n"
    assert json.loads(call("stats", "--json").stdout)["total"]["calls"] == 1


def test_the_sessions_of_a_tag_are_deleted(call: Call, db: str) -> None:
    async def tagged() -> None:
        async with MemoryStore(db) as store:
            for session_id, tag in (("a", "anna"), ("b", "anna"), ("c", "ben")):
                await store.append(session_id, [{"kind": "session", "tags": [tag]}])

    asyncio.run(tagged())
    assert call("sessions", "delete").exit_code == call("sessions", "delete", "a", "--tag", "anna").exit_code == 2
    assert json.loads(call("sessions", "delete", "--tag", "anna", "--json").stdout) == {"deleted": 2}
    assert [row["session_id"] for row in json.loads(call("sessions", "--json").stdout)] == ["c"]
    assert json.loads(call("sessions", "delete", "--tag", "nobody", "--json").stdout) == {"deleted": 0}


def test_the_settings_file_says_where_the_store_is(call: Call, home: Path) -> None:
    other = str(home / "project" / "other.db")
    talk(other, "elsewhere")
    assert call("sessions").exit_code == 1
    (home / "project" / ".agent" / "config.yml").write_text(f"options: {{memory_db_path: '{other}'}}")
    assert "elsewhere" in call("sessions").stdout


# ------------------------------------------------------------------ stats


def test_stats_by_day_model_tool_and_purpose(call: Call, db: str) -> None:
    async def go() -> None:
        first = ScriptedModel([ServerError("down")] * 2, name="first")
        second = ScriptedModel([[CALL], "done"], name="second")
        chain = FallbackModel([first, second], RetryPolicy(0, 0.0))
        async with Agent(chain, memory_db_path=db, tools=[pay]) as agent:
            await agent.create_session("s").query("x")

    asyncio.run(go())
    text = call("stats").stdout
    assert text.startswith("4 model calls (2 failed) · 4 tokens in, 2 out · cost - · ")
    rows = {line.split()[0]: line for line in text.splitlines() if line and not line.startswith(" ")}
    assert {"day", "model", "tool", "purpose", "first", "second", "pay", "turn", "fallback"} <= rows.keys()
    assert rows["second"].endswith("█" * 30) and "█" not in rows["first"], "the bar is of tokens"
    told = json.loads(call("stats", "--json").stdout)
    assert told["total"]["failed_calls"] == 2
    assert {row["key"]: row["calls"] for row in told["groups"]["purpose"]} == {"turn": 2, "fallback": 2}
    assert [(row["key"], row["calls"]) for row in told["groups"]["tool"]] == [("pay", 1)]
    told = json.loads(call("stats", "--by", "session", "--by", "hour", "--json").stdout)
    assert list(told["groups"]) == ["session", "hour"] and told["groups"]["session"][0]["key"] == "s"
    assert json.loads(call("stats", "--session", "s", "--since", "1h", "--json").stdout)["total"]["calls"] == 4
    assert json.loads(call("stats", "--since", "2090-01-01", "--json").stdout)["total"]["calls"] == 0
    assert call("stats", "--since", "2090-01-01").stdout.startswith("0 model calls")
    told = call("stats", "--since", "soon")
    assert told.exit_code == 2 and "7d" in told.stderr
    assert call("stats", "--by", "colour").exit_code == 2
    assert call("stats", "--session", "nobody").exit_code == 1


def test_many_rows_are_cut(call: Call, db: str) -> None:
    for number in range(22):
        talk(db, f"s{number}")
    assert call("stats", "--by", "session").stdout.splitlines()[-1] == "… and 2 more; --json has all"


def test_words_for_times_and_sums() -> None:
    now = time.time()
    assert since("90m", now) == now - 5400 and since("1.5h", now) == now - 5400 and since("2w", now) == now - 14 * 86400
    assert since(None, now) is None
    assert (cost(0, 2, 2), cost(1.5, 1, 2), cost(0, 0, 1), cost(0, 0, 0)) == ("-", "$1.5000+", "$0.0000", "$0.0000")
    for wrong in ("d", "-3d", "tomorrow"):
        with pytest.raises(typer.BadParameter):
            since(wrong, now)


# ------------------------------------------------------------------ approvals


def test_a_call_is_allowed_from_another_process(call: Call, db: str) -> None:
    approval_id = wait_for_approval(db)
    text = call("approvals").stdout
    assert approval_id in text and 'pay({"amount": 3})' in text
    assert json.loads(call("approvals", "--session", "other", "--json").stdout) == []
    told = call("approvals", "allow", approval_id, "--input", '{"amount": 2}')
    assert told.exit_code == 0 and 'await agent.resume("shop")' in told.stderr
    assert call("approvals").stdout == "nothing waits for an approval\n"

    async def go() -> Any:
        model = ScriptedModel(["bought"])
        async with Agent(model, memory_db_path=db, tools=[pay], ask_tools=["pay"], approvals="wait") as agent:
            assert await (await agent.resume("shop")).receive() == "bought"
            return model.requests[0].messages[-1]

    said = asyncio.run(go())
    assert isinstance(said, ToolMessage) and said.content[0].content == "paid 2"  # type: ignore[union-attr]


def test_a_call_is_denied_with_a_reason(call: Call, db: str) -> None:
    approval_id = wait_for_approval(db)
    told = json.loads(call("approvals", "deny", approval_id, "--reason", "too dear", "--json").stdout)
    assert (told["state"], told["answer"]["reason"]) == ("denied", "too dear")
    assert call("approvals", "deny", approval_id, "--reason", "too dear").exit_code == 0, "the same again is fine"
    told = call("approvals", "allow", approval_id)
    assert told.exit_code == 1 and "was denied" in told.stderr
    assert call("approvals", "allow", "nobody").exit_code == 1
    for wrong in ("{", "[1]"):
        assert call("approvals", "allow", approval_id, "--input", wrong).exit_code == 2


# ------------------------------------------------------------------ run --session


def answers(server: LoopbackServer, *texts: str) -> None:
    server.reply(CHAT, *[sse(chat_chunks([text], usage=token_usage(7, 3), model="tiny")) for text in texts])


def test_run_goes_on_with_a_session(call: Call, server: LoopbackServer) -> None:
    answers(server, "Hello Ada.", "Ada.")
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "diary")
    told = call("run", "I am Ada.", *place)
    assert (told.exit_code, told.stdout) == (0, "Hello Ada.\n") and "session diary: new" in told.stderr
    told = call("run", "Who am I?", *place)
    assert told.stdout == "Ada.\n" and "session diary: 2 messages" in told.stderr
    said = [message["content"] for message in server.requests[1].json["messages"]]
    assert said == ["I am Ada.", "Hello Ada.", "Who am I?"]
    told = call("run", "--resume", *place)
    assert told.exit_code == 1 and "waits for a prompt" in told.stderr and len(server.requests) == 2
    assert call("run", "--resume", "-m", "tiny", "--base-url", server.base_url, "--session", "new").exit_code == 1
    assert json.loads(call("sessions", "--json").stdout)[0]["session_id"] == "diary", "no session was made"
    assert call("run", "hi", "--resume", *place).exit_code == 2
    assert call("run", "--resume", "-m", "tiny").exit_code == 2


def test_run_without_a_session_keeps_nothing(call: Call, server: LoopbackServer, home: Path) -> None:
    answers(server, "Hi.")
    assert call("run", "hi", "-m", "tiny", "--base-url", server.base_url).exit_code == 0
    assert not (home / ".any_agent" / "memory.db").exists()


def test_run_resumes_a_run_that_waited(call: Call, server: LoopbackServer, db: str) -> None:
    approval_id = wait_for_approval(db)
    answers(server, "So it was refused.")
    call("approvals", "deny", approval_id, "--reason", "too dear")
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "shop")
    told = call("run", "--resume", *place)
    assert (told.exit_code, told.stdout) == (0, "So it was refused.\n")
    roles = [message["role"] for message in server.requests[0].json["messages"]]
    assert roles[:3] == ["user", "assistant", "tool"]


def test_a_prompt_to_an_unfinished_session_is_told_of_it(call: Call, server: LoopbackServer, db: str) -> None:
    wait_for_approval(db)
    answers(server, "Something else then.")
    told = call("run", "never mind", "-m", "tiny", "--base-url", server.base_url, "--session", "shop")
    assert told.exit_code == 0 and "this prompt leaves open tool calls without a result" in told.stderr


def test_an_approval_that_is_missing_ends_with_its_own_exit_code(call: Call, db: str) -> None:
    from any_agent.cli.common import Common
    from any_agent.cli.problems import exit_code, lines_of

    waits = ApprovalPendingError("1 tool calls wait", session_id="s", approval_ids=("s:c1",))
    assert exit_code(waits) == 4
    assert any("any-agent approvals allow" in line for line in lines_of(waits, Common()))


# ------------------------------------------------------------------ run --profile-run


def test_a_profile_tells_where_time_went(call: Call, server: LoopbackServer, home: Path) -> None:
    (home / "project" / ".agent" / "config.yml").write_text("options: {retry_delay: 0}")
    slow = sse(chat_chunks(["a", "b", "c"], usage=token_usage(7, 3), model="tiny"))
    server.reply(
        CHAT,
        error(500, "oops"),
        WireReply(slow, headers={"Content-Type": "text/event-stream"}, delay_s=0.1, pause_s=0.02),
    )
    told = call("run", "hi", "--json", "--profile-run", "-q", "-m", "tiny", "--base-url", server.base_url)
    assert told.exit_code == 0, told.stderr
    profile = json.loads(told.stdout)["profile"]
    assert profile["first_token_s"] >= 0.1 and profile["generation_s"] >= 0.04 and profile["failed_s"] > 0
    parts = ("startup_s", "first_token_s", "generation_s", "failed_s", "tools_s", "rest_s")
    assert sum(profile[name] for name in parts) == pytest.approx(profile["total_s"], abs=1e-3)
    assert 0 < profile["cpu_s"] < profile["total_s"] + 0.1
    told = call("run", "hi", "--profile-run", "-m", "tiny", "--base-url", server.base_url)
    assert told.stdout == "abc\n" and "until the first token" in told.stderr and "processor time" in told.stderr
    assert "failed tries" not in told.stderr


def test_tools_that_run_at_the_same_time_count_once() -> None:
    profile, began = RunProfile(), time.monotonic()
    for _ in range(2):
        profile.take(ToolStarted(ToolUseBlock("c", "wait", {})))
    time.sleep(0.02)
    profile.take(ToolMessage(()))
    profile.take(AssistantMessage("x", "m", attempt=Attempt("m", None, 2.0, first_token_s=0.5)))
    failed = Attempt("m", None, 1.0, "ServerError")
    profile.take(AttemptFailed(failed))
    profile.take(ResultMessage("error", timings=Timings(0.01), error=ServerError("x", attempts=(failed,))))
    assert 0.02 <= profile.tools_s < (time.monotonic() - began) * 1.5 and (
        profile.first_token_s,
        profile.generation_s,
    ) == (0.5, 1.5)
    assert profile.failed_s == 2.0 and profile.rest_s == 0.0


def test_a_run_is_recorded_and_replayed(call: Call, server: LoopbackServer, tmp_path: Path) -> None:
    answers(server, "Hello.")
    tape, place = str(tmp_path / "tape.jsonl"), ("-m", "tiny", "--base-url", server.base_url)
    assert call("run", "hi", "--record", tape, *place).stdout == "Hello.\n"
    assert call("run", "hi", "--replay", tape, *place).stdout == "Hello.\n" and len(server.requests) == 1
    told = call("run", "ho", "--replay", tape, *place)
    assert told.exit_code == 1 and "recorded: 'hi'" in told.stderr and "now:      'ho'" in told.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_is_resumed(call: Call, server: LoopbackServer, home: Path) -> None:
    answers(server, "lost", "Hello.")
    place = ("-m", "tiny", "--base-url", server.base_url, "--session", "diary")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "ANY_AGENT_KILL_AT": "3"}  # before the answer's commit
    program = [sys.executable, "-m", "any_agent", "run", "Hi.", *place]
    done = subprocess.run(program, env=environ, capture_output=True, cwd=home / "project", timeout=30)
    assert done.returncode == -signal.SIGKILL
    told = call("run", "--resume", *place)
    assert (told.exit_code, told.stdout) == (0, "Hello.\n")
    assert [m["content"] for m in server.requests[1].json["messages"]] == ["Hi."]
    assert call("run", "--resume", *place).exit_code == 1
