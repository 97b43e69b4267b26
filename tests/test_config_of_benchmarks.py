"""The benchmarks keep their hands off the user's files, and their clients end without a word."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from any_agent.testing.loopback import LoopbackServer

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from model_server import SCENARIOS
from processes import Worker


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        for name, script in SCENARIOS.items():
            server.reply(f"/{name}/v1/chat/completions", script)
        yield server


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmarks read /proc")
def test_sessions_of_a_benchmark_are_not_kept_in_the_users_home(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ANY_AGENT_HOME")
    with Worker("direct", server.root_url) as worker:
        assert worker.do("crowd", sessions=2, turns=1)["lost"] == 0
        assert worker.do("cpu", what="past1000", times=1)["ms"] > 0
        noise = worker.close()
    assert list(tmp_path.iterdir()) == []
    assert noise == "", "a prompt that outgrows an untold window is no warning that counts"
