"""The command line: what it prints where, its exit codes, and what it costs."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.replay_servers import ollama
from typer.testing import CliRunner

from any_agent import DISTRIBUTION, __version__
from any_agent.cli.app import Commands, app
from any_agent.cli.common import Common
from any_agent.cli.config_command import shown
from any_agent.cli.problems import exit_code, lines_of
from any_agent.cli.run_output import TextOutput, plain
from any_agent.cli.terminal import table, tell
from any_agent.config.providers import PROVIDERS
from any_agent.errors import (
    AllModelsFailedError,
    AnyAgentError,
    AuthenticationError,
    ConfigurationError,
    HookAbortedError,
    InterruptedRunError,
    MaxTurnsError,
    MissingExtraError,
    ModelNotFoundError,
    RateLimitError,
    ServerError,
    ServerUnreachableError,
)
from any_agent.testing import LoopbackServer, WireReply, chat_chunks, error, sse, token_usage
from any_agent.types import (
    AssistantMessage,
    Attempt,
    AttemptFailed,
    ImageBlock,
    ResultMessage,
    TextDelta,
    ThinkingDelta,
    Timings,
    ToolChoice,
    ToolCompleted,
    ToolMessage,
    ToolResultBlock,
    ToolStarted,
    ToolUseBlock,
    Usage,
)

CHAT = "/v1/chat/completions"
PROVIDER_VARIABLES = {name for p in PROVIDERS.values() for name in (*p.base_env, *p.key_env)}
Call = Callable[..., Any]


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str | None]:
    """The variables of a machine that nobody has set up; None takes one away."""
    strange = [n for n in os.environ if n in PROVIDER_VARIABLES or n.startswith(("ANY_AGENT_", "OPEN_AGENT_"))]
    home = tmp_path / "home"
    home.mkdir()
    gone: dict[str, str | None] = dict.fromkeys([*strange, "XDG_CONFIG_HOME", "FORCE_COLOR"])
    return {**gone, "HOME": str(home), "USERPROFILE": str(home)}


@pytest.fixture
def call(machine: dict[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command in an empty project; its retries do not wait."""
    project = tmp_path / "home" / "project"
    (project / ".agent").mkdir(parents=True)
    (project / ".agent" / "config.yml").write_text("options: {retry_delay: 0}")
    monkeypatch.chdir(project)

    def run(*arguments: str, text: str | None = None, **environ: str) -> Any:
        return CliRunner().invoke(app, list(arguments), input=text, env={**machine, **environ})

    return run


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(server: LoopbackServer, *texts: str) -> None:
    server.reply(CHAT, sse(chat_chunks(list(texts), usage=token_usage(7, 3), model="tiny")))


def python(code: str, environ: dict[str, str | None]) -> str:
    merged = {**os.environ, **environ}
    clean = {name: value for name, value in merged.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert done.stderr == ""
    return done.stdout


# ------------------------------------------------------------------ what it costs

WEIGH = """
import resource, sys
before = set(sys.modules)
sys.argv = ["any-agent", *{arguments!r}]
from any_agent.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = {{"litellm", "aiohttp", "pydantic", "pydantic_settings", "tiktoken", "yaml", "asyncio", "openai", "httpx", "rich",
         "sqlite3", "any_agent.agent", "any_agent.options"}}
print("\\n#", used.ru_utime + used.ru_stime, len(set(sys.modules) - before), sorted(heavy & set(sys.modules)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures with getrusage")
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["config", "--help"], ["--version"]])
def test_help_is_light(machine: dict[str, str | None], arguments: list[str]) -> None:
    code = WEIGH.format(arguments=arguments)
    runs = [python(code, machine).rpartition("#")[2].split(maxsplit=2) for _ in range(2)]
    # typer itself needs pydantic to read a command's parameters
    assert runs[0][2].strip() in (("[]",) if arguments[0].startswith("-") else ("[]", "['pydantic']"))
    assert min(float(cpu) for cpu, _, _ in runs) < 0.4
    assert int(runs[0][1]) < (200 if arguments[0].startswith("-") else 350)


def test_python_m_any_agent_is_the_same_program(machine: dict[str, str | None]) -> None:
    code = (
        "import runpy, sys; sys.argv = ['any_agent', '--version']; runpy.run_module('any_agent', run_name='__main__')"
    )
    assert python(code, machine) == f"any-agent {__version__} ({DISTRIBUTION})\n"


# ------------------------------------------------------------------ help, version, usage


def test_help_names_every_command(call: Call) -> None:
    told = call("--help")
    assert told.exit_code == 0
    for name in ("run", "copy-edit", "demo", "doctor", "config", "version", "--model", "--base-url", "--debug"):
        assert name in told.stdout
    assert call().exit_code == 2, "no command is a usage error that shows the help"
    for command in ("run", "copy-edit", "demo", "doctor"):
        assert "--model" in call(command, "--help").stdout


def test_version(call: Call) -> None:
    line = f"any-agent {__version__} ({DISTRIBUTION})\n"
    assert call("--version").stdout == line
    assert call("version").stdout == line
    assert json.loads(call("version", "--json").stdout) == {"version": __version__, "distribution": DISTRIBUTION}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "--no-such-option"], None),
        (["no-such-command"], None),
        (["run", "hi", "--max-turns", "0"], None),
        (["run", "hi", "--output-format", "xml"], None),
        (["run"], ""),
        (["run", "-"], "  \n"),
        (["run", " "], None),
    ],
)
def test_usage_errors_end_with_2_and_no_traceback(call: Call, arguments: list[str], text: str | None) -> None:
    told = call(*arguments, text=text)
    assert told.exit_code == 2
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    assert "Usage:" in told.stderr


# ------------------------------------------------------------------ run


def test_run_puts_the_answer_and_nothing_else_on_standard_output(call: Call, server: LoopbackServer) -> None:
    answers(server, "Hel", "lo.")
    told = call("run", "say hello", "-m", "tiny", "--base-url", server.base_url, "--system", "Be kind.")
    assert (told.exit_code, told.stdout) == (0, "Hello.\n")
    assert told.stderr.startswith("  tiny · 1 turn · 7 in / 3 out · first token 0.")
    assert [(m["role"], m["content"]) for m in server.requests[0].json["messages"]] == [
        ("system", "Be kind."),
        ("user", "say hello"),
    ]


def test_common_options_stand_before_or_after_the_command(call: Call, server: LoopbackServer) -> None:
    answers(server, "ok")
    told = call("-q", "-m", "first", "--base-url", "http://127.0.0.1:9/v1", "run", "hi", "--base-url", server.base_url)
    assert (told.exit_code, told.stdout, told.stderr) == (0, "ok\n", "")
    assert server.requests[0].json["model"] == "first"


@pytest.mark.parametrize("arguments", [["run"], ["run", "-"]])
def test_run_reads_standard_input(call: Call, server: LoopbackServer, arguments: list[str]) -> None:
    answers(server, "ok")
    told = call(*arguments, "-m", "tiny", "--base-url", server.base_url, text="from a pipe\n")
    assert told.exit_code == 0
    assert server.requests[0].json["messages"][0]["content"] == "from a pipe\n"


def test_run_takes_the_environment_and_the_project_file(call: Call, server: LoopbackServer, tmp_path: Path) -> None:
    answers(server, "ok")
    Path(".agent/config.yml").write_text("agent: {model: of-file}\noptions: {temperature: 0.25, retry_delay: 0}")
    told = call("run", "hi", ANY_AGENT_BASE_URL=server.base_url, ANY_AGENT_API_KEY="secret-key")
    assert told.exit_code == 0
    request = server.requests[0]
    assert (request.json["model"], request.json["temperature"]) == ("of-file", 0.25)
    assert request.headers["authorization"] == "Bearer secret-key"


def test_run_with_a_config_file_by_name(call: Call, server: LoopbackServer, tmp_path: Path) -> None:
    answers(server, "ok")
    other = tmp_path / "other.yml"
    other.write_text(f"agent: {{model: of-other, base_url: '{server.base_url}'}}")
    assert call("run", "hi", "--config", str(other)).exit_code == 0
    assert server.requests[0].json["model"] == "of-other"
    assert "ANY_AGENT_CONFIG_PATH" not in os.environ, "the process's environment is as before"


def test_run_json_is_one_object(call: Call, server: LoopbackServer) -> None:
    answers(server, "Hel", "lo.")
    for arguments in (["--json", "run", "hi"], ["run", "hi", "--output-format", "json"]):
        told = call(*arguments, "-m", "tiny", "--base-url", server.base_url)
        (line,) = told.stdout.splitlines()
        result = json.loads(line)
        assert result["result"] == "Hello."
        assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False)
        assert (result["model"], result["num_turns"], result["exit_code"]) == ("tiny", 1, 0)
        assert result["usage"]["input_tokens"] == 7
        assert result["total_cost_usd"] is None
        assert result["error"] is None
        assert result["attempts"][0]["base_url"] == server.base_url


def test_run_stream_json_is_one_object_per_event(call: Call, server: LoopbackServer) -> None:
    answers(server, "Hel", "lo.")
    told = call("run", "hi", "--output-format", "stream-json", "-q", "-m", "tiny", "--base-url", server.base_url)
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [event["type"] for event in events] == ["text_delta", "text_delta", "assistant", "result"]
    assert [event["text"] for event in events[:2]] == ["Hel", "lo."]
    assert events[2]["content"] == [{"type": "text", "text": "Hello."}]
    assert told.stderr == ""


def test_a_second_model_is_the_fallback(call: Call, server: LoopbackServer) -> None:
    def only_second(request: Any) -> Any:
        if request.json["model"] == "first":
            return error(404, "no such model", type="not_found_error")
        return sse(chat_chunks(["from ", "second"], model="second"))

    server.reply(CHAT, only_second)
    told = call("run", "hi", "-m", "first", "-m", "second", "--base-url", server.base_url)
    assert (told.exit_code, told.stdout) == (0, "from second\n")
    assert told.stderr.startswith("! first")
    assert "next model: second" in told.stderr


def test_nobody_answers(call: Call, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/v1"
    told = call("run", "hi", "-q", "-m", "tiny", "--base-url", url)
    assert (told.exit_code, told.stdout) == (3, "")
    lines = told.stderr.splitlines()
    assert lines[0].startswith("✗ ")
    assert url in lines[0]
    assert 2 <= len(lines) <= 6
    assert "fix:" in told.stderr
    assert "any-agent demo" in told.stderr
    assert "any-agent doctor" in told.stderr
    assert "Traceback" not in told.stderr
    told = call("--json", "run", "hi", "-m", "tiny", "--base-url", url)
    assert told.exit_code == 3
    assert json.loads(told.stdout)["error"]["type"] == "ServerUnreachableError"
    assert json.loads(told.stdout)["exit_code"] == 3


def test_debug_shows_the_traceback(machine: dict[str, str | None], closed_port: int) -> None:
    settings = Path(str(machine["HOME"])) / ".agent" / "config.yml"
    settings.parent.mkdir()
    settings.write_text("options: {retry_delay: 0}")
    arguments = ["run", "hi", "--debug", "-m", "tiny", "--base-url", f"http://127.0.0.1:{closed_port}/v1"]
    environ = {name: value for name, value in {**os.environ, **machine}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-m", "any_agent", *arguments],
        capture_output=True,
        text=True,
        cwd=str(machine["HOME"]),
        env=environ,
        check=False,
    )
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert "ServerUnreachableError" in done.stderr


def test_no_model_names_the_ways_to_give_one(call: Call) -> None:
    told = call("run", "hi")
    assert (told.exit_code, told.stdout) == (2, "")
    for way in ("--model", "ANY_AGENT_MODEL", ".agent/config.yml", "any-agent demo"):
        assert way in told.stderr


def test_no_model_but_a_server_here_is_offered(call: Call, server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "qwen3"}]})
    told = call("run", "hi", LM_STUDIO_API_BASE=server.base_url)
    assert told.exit_code == 2
    assert f"--base-url {server.base_url} --model qwen3" in told.stderr


def test_wrong_key(call: Call, server: LoopbackServer) -> None:
    server.reply(CHAT, error(401, "Invalid API Key", type="authentication_error"))
    told = call("run", "hi", "-m", "tiny", "--base-url", server.base_url, "--api-key", "sk-wrong-key-123456")
    assert told.exit_code == 3
    assert "fix:" in told.stderr
    assert "sk-wrong-key-123456" not in told.stderr


def test_a_broken_settings_file(call: Call) -> None:
    Path(".agent/config.yml").write_text("agent: {mdel: x}")
    for command in (["run", "hi"], ["config", "show"]):
        told = call(*command)
        assert (told.exit_code, told.stdout) == (2, "")
        assert "unknown key 'agent.mdel' (did you mean 'model'?)" in told.stderr
    told = call("config", "show", "--json")
    assert json.loads(told.stdout) == {
        "error": {"type": "ConfigurationError", "message": told.stderr.splitlines()[0][2:], "field": "agent.mdel"},
        "exit_code": 2,
    }


def test_text_of_the_model_cannot_steer_a_terminal_by_error_texts(call: Call, server: LoopbackServer) -> None:
    server.reply(CHAT, error(400, "\x1b[2Jgone\x07"))
    told = call("run", "hi", "-m", "tiny", "--base-url", server.base_url)
    assert told.exit_code == 1
    assert "\x1b" not in told.stderr
    assert "gone" in told.stderr


def test_signs_become_plain_on_an_ascii_terminal(machine: dict[str, str | None]) -> None:
    environ = {n: v for n, v in {**os.environ, **machine, "PYTHONIOENCODING": "ascii"}.items() if v is not None}
    done = subprocess.run(
        [sys.executable, "-m", "any_agent", "run", "hi"],
        capture_output=True,
        text=True,
        cwd=str(machine["HOME"]),
        env=environ,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("x no model is given")
    assert "Traceback" not in done.stderr


def start(machine: dict[str, str | None], *arguments: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in {**os.environ, **machine}.items() if value is not None}
    return subprocess.Popen(
        [sys.executable, "-m", "any_agent", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=str(machine["HOME"]),
        env=environ,
        # a shell that runs the tests in the background has SIGINT ignored, and children inherit that
        preexec_fn=_hears_interrupts if sys.platform != "win32" else None,
    )


def _hears_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupt_ends_with_130_and_leaves_the_server(machine: dict[str, str | None], server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply(tuple(sse(chat_chunks(["word "] * 5000))), pause_s=0.02))
    with start(machine, "run", "hi", "-m", "tiny", "--base-url", server.base_url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == "word "
        process.send_signal(signal.SIGINT)
        server.wait_client_left()
        assert process.wait(10) == 130
        told = process.stderr.read()
    assert told.splitlines()[-1] == "✗ interrupted"
    assert "Traceback" not in told


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ")
def test_a_reader_that_goes_away_is_no_bug(machine: dict[str, str | None], server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply(tuple(sse(chat_chunks(["word "] * 5000))), pause_s=0.001))
    with start(machine, "run", "hi", "-q", "-m", "tiny", "--base-url", server.base_url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(5)
        process.stdout.close()
        server.wait_client_left()
        assert process.wait(10) == 1
        assert process.stderr.read() == ""


# ------------------------------------------------------------------ errors in words


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (ConfigurationError("x"), 2),
        (MissingExtraError("x"), 1),
        (ServerUnreachableError("x"), 3),
        (AuthenticationError("x"), 3),
        (ServerError("x"), 1),
        (HookAbortedError("x"), 4),
        (MaxTurnsError("x", limit="max_turns", value=3), 5),
        (InterruptedRunError("x"), 130),
        (AllModelsFailedError("x", attempts=(Attempt("a", None, 0.1, "ServerUnreachableError"),)), 3),
        (
            AllModelsFailedError(
                "x",
                attempts=(Attempt("a", None, 0.1, "ServerUnreachableError"), Attempt("b", None, 0.1, "ServerError")),
            ),
            1,
        ),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_exit_codes(problem: Exception, code: int) -> None:
    assert exit_code(problem) == code
    assert 2 <= len(lines_of(problem, Common())) <= 6


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (AuthenticationError("x", provider="groq"), "set GROQ_API_KEY, or pass --api-key"),
        (AuthenticationError("x"), "ANY_AGENT_API_KEY together with ANY_AGENT_BASE_URL"),
        (RateLimitError("x", retry_after_s=12.4), "wait 12 s, or add another model"),
        (MaxTurnsError("x", limit="max_turns", value=3), "raise max_turns"),
        (ModelNotFoundError("x"), "pass --model with a name that the server knows"),
        (ModelNotFoundError("x\n  fix: their own"), "fix: their own"),
        (AnyAgentError("a\nb\nc\nd\ne\nf\ng\nh"), "any-agent doctor"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_errors_say_what_to_do(problem: Exception, text: str) -> None:
    lines = lines_of(problem, Common())
    assert text in "\n".join(lines)
    assert len(lines) <= 6
    assert "--debug" in lines[-1]
    assert "--debug" not in "\n".join(lines_of(problem, Common(debug=True)))


# ------------------------------------------------------------------ the copy editor


def test_demo_and_copy_edit_need_no_model(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("any_agent.copy_editor.command")
    assert call("demo", "--offline", "--quiet", "--out", str(tmp_path / "demo")).exit_code == 0
    assert any((tmp_path / "demo").rglob("*"))
    chapter = tmp_path / "Chapter01.md"
    chapter.write_text("# One\n\nThe the cat could of slept.\n")
    told = call("copy-edit", str(chapter), "--offline", "--quiet", "--out", str(tmp_path / "reports"))
    assert told.exit_code == 0
    assert any((tmp_path / "reports").rglob("*"))


# ------------------------------------------------------------------ config


def test_config_show_gives_each_value_its_source(call: Call) -> None:
    Path(".agent/config.yml").write_text("options: {temperature: 0.3, stop: [a]}")
    told = call("config", "show", "--provider", "ollama", ANY_AGENT_MODEL="m", OLLAMA_API_KEY="sk-ollama-secret")
    rows = [line.split(maxsplit=2) for line in told.stdout.splitlines()]
    for row in (
        ["model", "m", "environment ANY_AGENT_MODEL"],
        ["provider", "ollama", "argument"],
        ["base_url", "http://localhost:11434/v1", "provider default"],
        ["api_key", "sk-…***", "environment OLLAMA_API_KEY"],
        ["temperature", "0.3", "project file .agent/config.yml"],
        ["stop", '["a"]', "project file .agent/config.yml"],
    ):
        assert row in rows
    assert told.stdout.endswith("prompts go to http://localhost:11434/v1 for m, by the direct door\n")
    assert "secret" not in told.stdout


def test_config_show_json(call: Call) -> None:
    told = json.loads(call("config", "show", "--json", "-m", "gpt-4", OPENAI_API_KEY="sk-openai-secret").stdout)
    assert told["settings"]["api_key"] == {"value": "sk-…***", "source": "environment OPENAI_API_KEY"}
    assert told["route"] == {"model": "gpt-4", "provider": "openai", "base_url": None, "door": "litellm"}
    told = json.loads(call("config", "show", "--json", "-m", "m").stdout)
    assert told["route"] is None
    assert "does not say who serves it" in told["problem"]


def test_config_show_refuses_an_unknown_option(call: Call) -> None:
    Path(".agent/config.yml").write_text("options: {temperatuur: 1}")
    told = call("config", "show")
    assert told.exit_code == 2
    assert "there is no option 'temperatuur'" in told.stderr and "did you mean 'temperature'?" in told.stderr


def test_config_path(call: Call, tmp_path: Path) -> None:
    project = tmp_path / "home" / "project"
    told = json.loads(call("config", "path", "--json").stdout)
    assert told == [
        {"kind": "project", "path": str(project / ".agent/config.local.yml"), "exists": False},
        {"kind": "project", "path": str(project / ".agent/config.yml"), "exists": True},
        {"kind": "user", "path": told[2]["path"], "exists": False},
    ]
    assert told[2]["path"].startswith(str(tmp_path))
    told = call("config", "path", "--config", "gone.yml").stdout.splitlines()
    assert told[0].split() == ["named", "none", str(project / "gone.yml")]


def test_secrets_are_masked_wherever_they_stand() -> None:
    value = {"model": "m", "api_key": "sk-abcdefghijkl", "inner": [{"Authorization": "Bearer abcdefghij"}]}
    assert shown("litellm_kwargs", value) == {"model": "m", "api_key": "sk-…***", "inner": [{"Authorization": "…***"}]}
    assert shown("max_tokens", 5) == 5


# ------------------------------------------------------------------ doctor and probe


def test_doctor_tells_of_versions_settings_and_servers(call: Call, server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": f"m{n}"} for n in range(7)]})
    told = call("doctor", ANY_AGENT_MODEL="m", ANY_AGENT_BASE_URL=server.base_url, OPENAI_API_KEY="sk-secret-secret")
    assert told.exit_code == 0
    assert f"any_agent  {__version__}" in told.stdout
    assert "no other distribution installs any_agent" in told.stdout
    assert "environment ANY_AGENT_BASE_URL" in told.stdout
    assert "m0, m1, m2, m3, m4 and 2 more" in told.stdout
    assert "secret" not in told.stdout
    assert all("authorization" not in request.headers for request in server.requests), "a probe sends no key"


def test_models_are_listed_with_the_window_really_served(call: Call, server: LoopbackServer) -> None:
    ollama(server)
    told = call("models", "--base-url", server.base_url)
    assert told.exit_code == 0
    assert f"at {server.base_url}" in told.stdout
    listed = json.loads(call("models", "--json", "--base-url", server.base_url).stdout)[0]["models"]
    for model in listed:
        row = next(line for line in told.stdout.splitlines() if line.split()[:1] == [model["id"]])
        assert (f"{model['window_tokens']:,}" if model["window_tokens"] else "?") in row
    assert any(model["window_tokens"] for model in listed)


def test_models_without_a_server(call: Call) -> None:
    told = call("models", "--base-url", "http://127.0.0.1:9/v1")
    assert told.exit_code == 3
    assert "any-agent demo" in told.stderr


def test_doctor_json(call: Call, server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "m"}]})
    told = json.loads(call("doctor", "--json", OLLAMA_API_BASE=server.base_url).stdout)
    assert told["ok"] is True
    assert {check["name"] for check in told["checks"]} == {"python", "any_agent", "packages", "extras", "name"}
    place = next(one for one in told["servers"] if one["base_url"] == server.base_url)
    assert (place["name"], place["server"]["state"], place["server"]["models"][0]["id"]) == ("Ollama", "ready", "m")
    assert len(told["servers"]) >= 4
    assert told["destination"].startswith("prompts go nowhere: no model is given")


@pytest.mark.parametrize("path", [".agent/config.yml", "../.config/any_agent/config.yml"])
def test_doctor_finds_broken_settings(call: Call, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("agent: [")
    told = call("doctor")
    assert told.exit_code == 1
    assert "broken YAML" in told.stdout
    assert "Ollama" in told.stdout
    assert json.loads(call("doctor", "--json").stdout)["ok"] is False


def test_doctor_finds_the_other_distribution(machine: dict[str, str | None], tmp_path: Path) -> None:
    folder = tmp_path / "site"
    (folder / "any_agent-1.18.0.dist-info").mkdir(parents=True)
    environ = {name: value for name, value in {**os.environ, **machine}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "any_agent", "doctor"],
        capture_output=True,
        text=True,
        cwd=str(tmp_path),
        env={**environ, "PYTHONPATH": str(folder)},
        check=False,
    )
    assert done.returncode == 1
    assert "also installs any_agent" in done.stdout
    assert f"pip uninstall any-agent {DISTRIBUTION}; pip install {DISTRIBUTION}" in done.stdout


def test_doctor_tells_a_locked_server_from_none(call: Call, server: LoopbackServer) -> None:
    server.reply("*", error(401, "Invalid API Key", type="authentication_error"))
    told = call("doctor", "-m", "m", "--base-url", server.base_url)
    assert told.exit_code == 1
    assert "wants a key" in told.stdout
    assert "prompts go to" in told.stdout


def test_models_tells_a_locked_server_from_one_without_models(call: Call, server: LoopbackServer) -> None:
    server.reply("*", error(401, "Invalid API Key", type="authentication_error"))
    told = call("models", "--base-url", server.base_url)
    assert told.exit_code == 1 and "no models" not in told.stdout
    assert told.stderr.startswith(f"✗ {server.base_url} wants a key") and "--api-key" in told.stderr
    told = call("models", "--base-url", server.base_url, "--api-key", "wrong-key-123456", "--json")
    assert told.exit_code == 1 and json.loads(told.stdout)[0]["state"] == "locked"
    assert "the key that was sent is not accepted; pass --api-key" in told.stderr and "wrong-key" not in told.stderr
    server.reply("*", {"object": "list", "data": []})
    told = call("models", "--base-url", server.base_url)
    assert told.exit_code == 0 and "(no models)" in told.stdout


def test_models_sends_a_key_where_it_was_named_for_and_its_advice_works(call: Call, server: LoopbackServer) -> None:
    def answer(request: Any) -> Any:
        is_right = request.headers.get("authorization") == "Bearer sk-right"
        return {"object": "list", "data": [{"id": "m"}]} if is_right else error(401, "no key", type="auth")

    def keys() -> set[str | None]:
        return {request.headers.get("authorization") for request in server.requests}

    server.reply("*", answer)
    place = ("models", "--base-url", server.base_url)
    told = call(*place, ANY_AGENT_API_KEY="sk-right", HOSTED_VLLM_API_KEY="sk-right")
    advice = f"set ANY_AGENT_API_KEY together with ANY_AGENT_BASE_URL={server.base_url}"
    assert told.exit_code == 1 and f"no key was sent; pass --api-key, or {advice}" in told.stderr
    assert keys() == {None}, "those were named for no address, or for another one"
    both = {"ANY_AGENT_API_KEY": "sk-right", "ANY_AGENT_BASE_URL": server.base_url}
    assert call(*place, **both).exit_code == 0
    assert call("models", **both).exit_code == 0
    assert call(*place, "--api-key", "sk-right", **{**both, "ANY_AGENT_API_KEY": "sk-wrong"}).exit_code == 0
    told = call(*place, **{**both, "ANY_AGENT_API_KEY": "sk-wrong"})
    assert told.exit_code == 1 and "the key that was sent is not accepted" in told.stderr


def test_models_gives_a_key_to_the_address_of_the_settings_only(call: Call, server: LoopbackServer) -> None:
    with LoopbackServer() as other:
        for one in (server, other):
            one.reply("*", error(401, "no key", type="auth"))
        at = {"ANY_AGENT_BASE_URL": server.base_url, "OLLAMA_API_BASE": other.base_url}
        told = call("models", "--api-key", "sk-mine", **at)
        assert {request.headers.get("authorization") for request in server.requests} == {"Bearer sk-mine"}
        assert {request.headers.get("authorization") for request in other.requests} == {None}
        first = told.stderr.split()[1].rstrip(",")
        assert (
            told.exit_code == 1 and f"pass --base-url {first} with --api-key, or set ANY_AGENT_API_KEY" in told.stderr
        )


# ------------------------------------------------------------------ what is shown beside the answer


def test_tools_tries_and_reasoning_are_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    call_block = ToolUseBlock("1", "read_file", {"path": "a.md", "text": "x" * 99})
    output = TextOutput()
    for event in (
        ThinkingDelta("hm"),
        TextDelta("Let me look."),
        AssistantMessage("Let me look.", model="tiny"),
        ToolStarted(call_block),
        ToolCompleted("read_file", ToolResultBlock("1", "\x1b[2Jabc"), 0.02),
        ToolCompleted("read_file", ToolResultBlock("1", {"a": 1}, is_error=True), 1.5),
        ToolMessage(()),
        TextDelta(""),
        TextDelta("Done.\n"),
        AttemptFailed(Attempt("m", None, 0.5, "ServerError", "busy\nfix: wait", then="retried after 1.0 s")),
        ResultMessage(
            "success",
            num_turns=2,
            usage=Usage(1200, 34, is_estimated=True),
            total_cost_usd=0.00123,
            timings=Timings(total_s=2.04),
        ),
    ):
        output.take(event)
    told = capsys.readouterr()
    assert told.out == "Let me look.\nDone.\n"
    assert told.err.splitlines() == [
        f'* read_file(path="a.md", text="{"x" * 58}…)',
        "  read_file: ok  20 ms  7 characters",
        "  read_file: failed  1,500 ms  8 characters",
        "! busy (0.5 s): retried after 1.0 s",
        "  tiny · 2 turns · about 1,200 in / 34 out · 2.0 s · $0.0012",
    ]


def test_quiet_shows_nothing_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    output = TextOutput(is_quiet=True)
    for event in (ToolStarted(ToolUseBlock("1", "t", {})), TextDelta("x"), ResultMessage("success")):
        output.take(event)
    assert capsys.readouterr() == ("x\n", "")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(stream: io.StringIO, **environ: str) -> str:
        with monkeypatch.context() as context:
            for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
                context.delenv(name, raising=False)
            for name, value in environ.items():
                context.setenv(name, value)
            tell("a\x1bb", style="red", to=stream)
        return stream.getvalue()

    assert told(Screen()) == "\x1b[31mab\x1b[0m\n"
    assert told(Screen(), NO_COLOR="1") == told(Screen(), TERM="dumb") == told(io.StringIO()) == "ab\n"
    assert told(io.StringIO(), FORCE_COLOR="1") == "\x1b[31mab\x1b[0m\n"
    assert told(Screen(), FORCE_COLOR="1", NO_COLOR="1") == "ab\n"


def test_no_color_lasts_for_the_command_alone(call: Call) -> None:
    assert "\x1b[31m" in call("run", "hi", FORCE_COLOR="1").stderr
    assert "\x1b" not in call("run", "hi", "--no-color", FORCE_COLOR="1").stderr
    assert "NO_COLOR" not in os.environ


def test_columns_are_aligned() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == "  a    bb  c\n  aaa  b"
    assert table([]) == ""


def test_what_nobody_expected_is_told_without_a_traceback() -> None:
    small = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @small.command()
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    @small.command()
    def stopped() -> None:
        raise KeyboardInterrupt

    told = CliRunner().invoke(small, ["broken"])
    assert told.exit_code == 1
    assert told.stderr.startswith("✗ ZeroDivisionError: by zero\n")
    assert "Traceback" not in told.stderr
    told = CliRunner().invoke(small, ["stopped"])
    assert (told.exit_code, told.stderr) == (130, "✗ interrupted\n")


# ------------------------------------------------------------------ events as JSON


def test_plain_values() -> None:
    told = plain(
        {"a": (Usage(1, 2), ImageBlock("u")), "b": ToolChoice.AUTO, "c": ServerError("no", status=500), "d": {1}}
    )
    assert told["a"][0]["input_tokens"] == 1
    assert told["a"][1] == {"url": "u", "detail": None, "type": "image"}
    assert told["b"] == "auto"
    assert told["c"] == {"type": "ServerError", "message": "no", "status": 500}
    assert told["d"] == [1]
    assert plain(Path("x")) == "x"
