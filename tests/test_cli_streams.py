"""The command line as a process: encodings, closed and full streams, what is piped in, Ctrl-C, a terminal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from any_agent.cli.app import app
from any_agent.cli.common import Common
from any_agent.cli.run import _Asking
from any_agent.cli.run_output import output_for
from any_agent.config.providers import PROVIDERS
from any_agent.testing import LoopbackServer, WireReply, chat_chunks, sse, token_usage

CHAT = "/v1/chat/completions"
STRANGE = "héllo 👩‍🚀"
posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors and signals as POSIX has them")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of a user who has set up nothing."""
    gone = {name for one in PROVIDERS.values() for name in (*one.base_env, *one.key_env)} | {
        "XDG_CONFIG_HOME", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONUTF8"}  # fmt: skip
    kept = {n: v for n, v in os.environ.items() if n not in gone and not n.startswith(("ANY_AGENT_", "OPEN_AGENT_"))}
    home = tmp_path / "home"
    (home / ".agent").mkdir(parents=True)
    (home / ".agent" / "config.yml").write_text("options: {retry_delay: 0}")
    return {**kept, "HOME": str(home), "USERPROFILE": str(home), "ANY_AGENT_HOME": str(home / "kept")}


@contextmanager
def started(environ: dict[str, str], *arguments: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = [sys.executable, "-m", "any_agent", *arguments]
    with subprocess.Popen(program, cwd=environ["HOME"], env=environ, **{**pipes, **how}) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(environ: dict[str, str], *arguments: str, text: bytes | None = None, **how: Any) -> tuple[int, bytes, str]:
    """Exit code, standard output and standard error."""
    given = {} if text is None else {"stdin": subprocess.PIPE}
    with started(environ, *arguments, **{**given, **how}) as process:
        out, err = process.communicate(text, timeout=30)
        return process.returncode, out or b"", (err or b"").decode(errors="replace")


def place(server: LoopbackServer) -> tuple[str, ...]:
    return ("-m", "tiny", "--base-url", server.base_url)


def answers(server: LoopbackServer, *texts: str, **more: Any) -> None:
    server.reply(CHAT, sse(chat_chunks(list(texts), usage=token_usage(7, 3), model="tiny", **more)))


def thinks(server: LoopbackServer, thought: str, *texts: str, finish_reason: str = "stop") -> None:
    deltas = [{"reasoning_content": thought}, *({"content": text} for text in texts)]
    chunks = [json.dumps({"model": "tiny", "choices": [{"delta": delta}]}) for delta in deltas]
    end = json.dumps({"model": "tiny", "choices": [{"delta": {}, "finish_reason": finish_reason}]})
    server.reply(CHAT, sse([*chunks, end]))


# ------------------------------------------------------------------ encodings


@pytest.mark.parametrize(
    ("variables", "encoding"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252"),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
        ({"PYTHONIOENCODING": "ascii"}, "ascii"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii"),
        ({"PYTHONIOENCODING": "utf-8"}, "utf-8"),
    ],
    ids=["cp1252", "latin-1", "ascii", "C", "utf-8"],
)
def test_no_answer_is_lost_for_the_encoding(
    server: LoopbackServer, environ: dict[str, str], variables: dict[str, str], encoding: str
) -> None:
    answers(server, STRANGE)
    where = environ | variables
    code, out, err = ended(where, "run", "hi", "-q", *place(server))
    assert (code, err) == (0, "")
    escaped = json.dumps("👩‍🚀")[1:-1]
    accent = "\\u00e9" if encoding == "ascii" else "é"
    told = STRANGE if encoding == "utf-8" else f"h{accent}llo {escaped}"
    assert out.decode(encoding) == f"{told}\n"
    for form in ("json", "stream-json"):
        code, out, _ = ended(where, "run", "hi", "-q", "--output-format", form, *place(server))
        lines = [json.loads(line) for line in out.decode("utf-8").splitlines()]
        assert (code, lines[-1]["result"]) == (0, STRANGE)
        assert encoding == "utf-8" or out.isascii()


def test_other_commands_lose_nothing_either(server: LoopbackServer, environ: dict[str, str]) -> None:
    answers(server, STRANGE)
    where = environ | {"PYTHONIOENCODING": "ascii"}
    name = "diaré"
    ended(environ, "run", "hi", "-q", "--session", name, *place(server))
    code, out, _ = ended(where, "sessions")
    assert (code, "diar\\u00e9" in out.decode()) == (0, True)
    assert ended(where, "sessions", "show", name)[1].decode().count("h\\u00e9llo") == 1
    assert json.loads(ended(where, "sessions", "--json")[1])[0]["session_id"] == name
    assert json.loads(ended(where, "--json", "sessions", "search", "hi")[1])[0]["session_id"] == name
    assert ended(where, "stats", "--by", "session")[0] == 0
    assert ended(where, "sessions", "delete", "--help")[0] == 0, "the help has signs that ASCII lacks"
    server.reply("/v1/models", {"object": "list", "data": [{"id": STRANGE}]})
    for command in (("models",), ("doctor", "--no-probe")):
        code, out, err = ended(where, *command, "--base-url", server.base_url)
        assert (code, "h\\u00e9llo" in out.decode() or "h\\xe9llo" in out.decode()) == (0, True), err
        told = json.loads(ended(where, *command, "--json", "--base-url", server.base_url)[1])
        assert STRANGE in json.dumps(told, ensure_ascii=False)


# ------------------------------------------------------------------ closed and full


def in_shell(environ: dict[str, str], line: str, *arguments: str) -> tuple[int, bytes, str]:
    program = ["sh", "-c", f'"$@" {line}', "sh", sys.executable, "-m", "any_agent", *arguments]
    done = subprocess.run(program, env=environ, cwd=environ["HOME"], capture_output=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


@posix
def test_a_closed_standard_output_is_told_before_anything_is_asked(
    server: LoopbackServer, environ: dict[str, str]
) -> None:
    answers(server, "lost")
    code, _, err = in_shell(environ, ">&- </dev/null", "run", "hi", "--session", "s", *place(server))
    assert code == 1 and err.startswith("✗ standard output is closed: nothing was asked") and ">/dev/null" in err
    assert server.requests == [] and "Traceback" not in err
    assert in_shell(environ, ">&-", "version")[0] == 0
    assert in_shell(environ, "2>&- </dev/null", "run", "hi", *place(server))[:2] == (0, b"lost\n")
    assert in_shell(environ, "<&-", "run", "hi", "-q", "--session", "s", *place(server)) == (0, b"lost\n", "")
    assert in_shell(environ, "<&-", "sessions", "delete", "s")[0] == 0, "nobody is there to be asked"
    code, _, err = in_shell(environ, "<&-", "run", *place(server))
    assert code == 2 and "nothing was asked" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_of_the_stream_that_it_is_under(server: LoopbackServer, environ: dict[str, str]) -> None:
    answers(server, "lost")
    for command in (
        ("run", "hi", "-q", *place(server)),
        ("run", "hi", "-q", "--json", *place(server)),
        ("config", "show"),
        ("--version",),
        ("run", "--help"),
        ("demo", "--offline", "-q"),
    ):
        code, _, err = in_shell(environ, ">/dev/full </dev/null", *command)
        assert (code, err.splitlines()[0]) == (1, "✗ standard output: No space left on device"), command
        assert "Exception ignored" not in err
    assert in_shell(environ, "2>/dev/full </dev/null", "run", "hi", *place(server))[:2] == (0, b"lost\n")


# ------------------------------------------------------------------ what is piped in


def asked(server: LoopbackServer) -> Any:
    return server.requests[-1].json["messages"][-1]["content"]


def test_piped_text_follows_the_prompt(server: LoopbackServer, environ: dict[str, str], tmp_path: Path) -> None:
    answers(server, "ok")
    assert ended(environ, "run", "Summarize:", *place(server), text="Zeile ä\n".encode())[0] == 0
    assert asked(server) == "Summarize:\n\nZeile ä\n"
    file = tmp_path / "file.txt"
    file.write_bytes(b"from a file")
    with file.open("rb") as stream:
        ended(environ, "run", "Summarize:", *place(server), stdin=stream)
    assert asked(server) == "Summarize:\n\nfrom a file"
    for silent in (b"", b" \n"):
        ended(environ, "run", "hi", *place(server), text=silent)
        assert asked(server) == "hi"
    ended(environ, "run", "-", *place(server), text=b"alone")
    assert asked(server) == "alone"
    with started(environ, "run", "Late:", *place(server), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        time.sleep(0.3)
        process.stdin.write(b"first ")
        process.stdin.flush()
        time.sleep(0.1)
        process.communicate(b"last", timeout=30)
    assert asked(server) == "Late:\n\nfirst last"


@posix
def test_a_slow_command_is_waited_for_with_a_line(server: LoopbackServer, environ: dict[str, str]) -> None:
    """Over a socket, as Node's spawn and some shells hand it on."""
    answers(server, "ok")
    ours, theirs = socket.socketpair()
    with theirs, started(environ, "run", "Sum up:", *place(server), stdin=ours) as process:
        ours.close()
        assert process.stderr is not None
        waits = process.stderr.readline().decode()
        theirs.sendall(b"x" * 1234)
        theirs.shutdown(socket.SHUT_WR)
        _, err = process.communicate(timeout=30)
    assert waits == "  waiting for standard input, at most 30 s … (to do without it: </dev/null)\n"
    assert err.decode().startswith("  + 1,234 characters from standard input\n")
    assert (process.returncode, asked(server)) == (0, "Sum up:\n\n" + "x" * 1234)
    assert ended(environ, "run", "Sum up:", "-q", *place(server), text=b"quiet") == (0, b"ok\n", "")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("Windows ä".encode("utf-16"), "Windows ä"),
        ("größer".encode(), "größer"),
    ],
    ids=["bom", "utf-16", "utf-8"],
)
def test_a_byte_order_mark_is_no_part_of_the_prompt(
    server: LoopbackServer, environ: dict[str, str], raw: bytes, text: str
) -> None:
    answers(server, "ok")
    assert ended(environ, "run", *place(server), text=raw)[0] == 0
    assert asked(server) == text


def test_bytes_that_are_no_text_are_refused(server: LoopbackServer, environ: dict[str, str]) -> None:
    answers(server, "ok")
    for arguments in (("run",), ("run", "-"), ("run", "Summarize:")):
        code, out, err = ended(environ, *arguments, *place(server), text=b"one\ntwo gr\xf6sser")
        assert (code, out, server.requests) == (2, b"", [])
        assert "standard input is not UTF-8: byte 10 (0xf6, in line 2) cannot be read" in " ".join(err.split())
        assert "iconv" in err
    where = environ | {"PYTHONIOENCODING": "latin-1"}
    assert ended(where, "run", *place(server), text=b"gr\xf6sser")[0] == 0, "the user says so"
    assert asked(server) == "grösser"


# ------------------------------------------------------------------ Ctrl-C


def until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _hears_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@posix
@pytest.mark.parametrize("form", ["json", "stream-json"])
def test_ctrl_c_ends_json_like_every_other_end(server: LoopbackServer, environ: dict[str, str], form: str) -> None:
    answers(server, "Done.")
    usual = json.loads(ended(environ, "run", "hi", "--output-format", form, *place(server))[1].splitlines()[-1])
    server.reply(CHAT, WireReply(tuple(sse(chat_chunks(["word "] * 5000, model="tiny"))), pause_s=0.02))
    arguments = ("run", "hi", "--session", "s", "--output-format", form, *place(server))
    with started(environ, *arguments, preexec_fn=_hears_interrupts) as process:
        until(lambda: len(server.requests) == 2)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err.decode().splitlines()[-1] == "✗ interrupted"
    lines = [json.loads(line) for line in out.decode().splitlines()]
    result = lines[-1]
    assert [one["type"] for one in lines].count("result") == 1 and (form == "stream-json") == (len(lines) > 1)
    assert result.keys() == usual.keys()
    assert (result["subtype"], result["is_error"], result["exit_code"]) == ("interrupted", True, 130)
    assert result["result"].startswith("word word") and result["error"]["type"] == "InterruptedRunError"
    assert result["session_id"] == "s"
    shown = ended(environ, "sessions", "show", "s")[1].decode()
    assert "word word" in shown, "what was said is kept"


@posix
def test_ctrl_c_before_the_first_word(server: LoopbackServer, environ: dict[str, str]) -> None:
    server.reply(CHAT, WireReply(stall=True))
    with started(environ, "run", "hi", "--json", *place(server), preexec_fn=_hears_interrupts) as process:
        until(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    told = json.loads(out)
    assert (process.returncode, told["type"], told["subtype"], told["result"]) == (130, "result", "interrupted", "")
    with started(
        environ, "run", "-", "--json", *place(server), stdin=subprocess.PIPE, preexec_fn=_hears_interrupts
    ) as process:
        time.sleep(1.0)  # it waits for its prompt
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["subtype"]) == (130, "interrupted"), err


# ------------------------------------------------------------------ on a terminal


def on_terminal(environ: dict[str, str], *arguments: str) -> str:
    """All that a terminal is sent."""
    import pty

    ours, theirs = pty.openpty()
    with started(environ | {"NO_COLOR": "1"}, *arguments, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        told = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux: the other side is gone
                break
            if not part:
                break
            told += part
        process.wait(20)
    os.close(ours)
    assert process.returncode == 0, told
    return told.decode().replace("\r\n", "\n")


@posix
@pytest.mark.parametrize("thought", ["hmm \x1b[31mred", "hmm \x1b[31mred\n"], ids=["open", "ended"])
def test_reasoning_and_answer_stand_on_lines_of_their_own(
    server: LoopbackServer, environ: dict[str, str], thought: str
) -> None:
    thinks(server, thought, "**bold** ", "\x1b[31mred\x07")
    lines = on_terminal(environ, "run", "hi", *place(server)).split("\n")
    assert lines[:2] == ["hmm [31mred", "**bold** [31mred"]
    assert lines[2].startswith("  tiny · 1 turn") and lines[3:] == [""], "no empty line"
    lines = on_terminal(environ, "run", "hi", "--output-format", "stream-json", *place(server)).splitlines()
    assert all(line.startswith(("{", "  tiny")) for line in lines), "nothing stands between the objects"


# ------------------------------------------------------------------ answers that are not whole


@pytest.mark.parametrize(
    ("finish_reason", "text", "settings", "said"),
    [
        ("length", "half an", "", "the answer is not whole: cut off at the server's limit of max_tokens"),
        ("length", "half an", ", max_tokens: 12", "the answer is not whole: cut off at max_tokens (12): set more in"),
        ("length", "", "", "the model only thought and gave no answer: cut off at the server's limit"),
        ("stop", "", "", "the model only thought and gave no answer (stop): ask again"),
        ("stop", "Whole.", "", ""),
    ],
    ids=["cut", "cut-by-us", "thought-cut", "only-thought", "whole"],
)
def test_an_answer_that_is_not_whole_is_told_in_one_line(
    server: LoopbackServer,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    finish_reason: str,
    text: str,
    settings: str,
    said: str,
) -> None:
    Path(environ["HOME"], ".agent", "config.yml").write_text(f"options: {{retry_delay: 0{settings}}}")
    monkeypatch.chdir(environ["HOME"])
    where: dict[str, str | None] = {**dict.fromkeys(os.environ.keys() - environ.keys()), **environ}
    thinks(server, "Hm. ", *([text] if text else []), finish_reason=finish_reason)

    def told(*flags: str) -> Any:
        return CliRunner().invoke(app, ["run", "hi", *flags, *place(server)], env=where)

    for flags in ((), ("-q",), ("--json",)):
        done = told(*flags)
        notes = [line for line in done.stderr.splitlines() if line.startswith("! ")]
        assert done.exit_code == 0 and len(notes) == bool(said) and (not said or said in notes[0]), done.stderr
    assert told("--json", "-q").stderr == "", "stop_reason tells programs"


# ------------------------------------------------------------------ a server that says nothing


async def test_a_silent_server_is_told_of_and_ever_more_rarely(
    clock: Callable[[float], float], server: LoopbackServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    step_s = clock(0.1)
    server.reply(CHAT, WireReply(sse(chat_chunks(["Hi."])), delay_s=5 * step_s))
    for is_quiet in (False, True):
        output = output_for("text", is_quiet=is_quiet)
        assert output.silence.first_s == 10.0
        output.silence.first_s = step_s
        common = Common(model=("tiny",), base_url=server.base_url, quiet=is_quiet)
        asking = _Asking(common, {"enable_memory": False}, output, None, tells_context=False)
        assert (await asking._result_of("hi")).result == "Hi."
        waits = [line for line in capsys.readouterr().err.splitlines() if "waiting" in line]
        assert len(waits) == (0 if is_quiet else 2), "after one step and after three"
        assert all(line.startswith(f"  waiting for tiny at {server.base_url} … ") for line in waits)
