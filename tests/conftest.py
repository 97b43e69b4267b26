"""Real llama.cpp servers on a tiny model: each starts at its first use and lives for the whole test run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from support.llama import LlamaServer, start_llama
from support.tiny_model import write_tiny_model

# The same examples in every run, however slow the machine; a search for new ones is `HYPOTHESIS_PROFILE=default`.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # the tests run in the background, and children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_RERUNS = 12
LLAMA_FIXTURES = {"llama", "llama_tools", "llama_key", "llama_small", "llama_endless"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if " at 0x" in item.nodeid:  # processes that share the tests must call them the same
            raise pytest.UsageError(f"{item.nodeid} has another name in each run: give its parameters ids")
        if LLAMA_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)
        if "clock" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=2))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A machine that stutters makes a few tests run again; more than that is a race in the code."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reruns = len(reporter.stats.get("rerun", ())) if reporter else 0
    if reruns > MOST_RERUNS and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(
            f"{reruns} tests had to run again, more than {MOST_RERUNS}: look for a race (-rR names them)"
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def own_any_agent_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the package keeps for its user stays in the test that made it; the folder is made when it is written to."""
    monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path_factory.getbasetemp() / "any-agent-home" / uuid4().hex))


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Callable[[float], float]:
    """Seconds for tests in which something must be in time: a machine that stood still for a moment lets one fail, so
    it is run again with all of them five times, then twenty-five times as long. What is wrong fails at any pace."""
    pace = 5 ** (getattr(request.node, "execution_count", 1) - 1)
    return lambda seconds: seconds * pace


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a tiny model into a fresh folder; takes the arguments of `write_tiny_model`."""
    return lambda **traits: write_tiny_model(tmp_path_factory.mktemp("llama") / "tiny.gguf", **traits)


@pytest.fixture(scope="session")
def llama(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Answers everything with about 50 letters of text; 2 slots of 2048 tokens."""
    with start_llama(write_model()) as server:
        yield server


@pytest.fixture(scope="session")
def llama_tools(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Answers a user with one tool call if the request has tools; a tool's result, like anything else, with text."""
    with start_llama(write_model(calls_tools=True)) as server:
        yield server


@pytest.fixture(scope="session")
def llama_key(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Like `llama`, but it wants the key `server.api_key`."""
    with start_llama(write_model(), api_key="tiny-key") as server:
        yield server


@pytest.fixture(scope="session")
def llama_small(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Like `llama`, but with a window of 512 tokens per slot."""
    with start_llama(write_model(), slot_ctx=512) as server:
        yield server


@pytest.fixture(scope="session")
def llama_endless(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Talks until the client leaves (or 8192 tokens are full, many seconds later)."""
    with start_llama(write_model(ends=False, ctx=8192), slot_ctx=8192) as server:
        yield server
