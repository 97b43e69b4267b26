"""`any-agent run` tells how full the window is, and what was left out of the prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.seeds import isolate, says
from typer.testing import CliRunner

from any_agent.cli.app import app
from any_agent.cli.run_output import TextOutput, plain
from any_agent.testing import LoopbackServer
from any_agent.types import ContextFitted, ContextSummarized, ContextTruncated, Usage


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        isolate(server, tmp_path, monkeypatch)
        server.reply("/v1/chat/completions", says("Fine."))
        yield server


def run(server: LoopbackServer, *flags: str) -> Any:
    return CliRunner().invoke(app, ["run", "What now?", "--model", "m", "--base-url", server.base_url, *flags])


def test_context_is_told_after_the_answer(server: LoopbackServer) -> None:
    done = run(server, "--context", "--system", "Be brief.")
    assert (done.exit_code, done.stdout) == (0, "Fine.\n")
    line = next(line for line in done.stderr.splitlines() if "context:" in line)
    assert "of 4,096 tokens (assumed): system " in line and "1,000 kept for the answer" in line
    assert "context" not in run(server).stderr


def test_context_is_part_of_the_json(server: LoopbackServer) -> None:
    told = json.loads(run(server, "--context", "--json").stdout)["context"]
    assert (told["model"], told["window_tokens"], told["is_window_known"], told["is_exact"]) == (
        "m",
        4096,
        False,
        False,
    )
    parts = ("system_tokens", "tools_tokens", "pinned_tokens", "history_tokens")
    assert sum(told[part] for part in parts) == told["prompt_tokens"] <= told["upper_tokens"]
    assert "context" not in json.loads(run(server, "--json").stdout)


def test_what_was_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    output = TextOutput()
    output.take(ContextFitted(4, 2, 5000, 3000, 4096))
    output.take(ContextSummarized("they met", 6, 6, "m", Usage(50, 5)))
    output.take(ContextTruncated(2050, 5000, 4096))
    told = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in told] == [
        "context: 4 messages left out, 2 results shortened",
        "context: a summary stands for 6 messages",
        "! the server cut the prompt to 2,050 of at least 5,000 tokens: asked again",
    ]
    assert plain(ContextSummarized("s", 6))["type"] == "context_summarized"
