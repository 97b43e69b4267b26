"""The seeds' code for context: `estimate_tokens`, `truncate_messages`, `ContextManager` (see test_seeds.py)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.seeds import CHAT, asked, calls, isolate, parameters, paste, says, snippet

from any_agent import AgentOptions, Client
from any_agent.context import ContextManager, truncate_messages
from any_agent.testing import LoopbackServer


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture(autouse=True)
def own_world(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(server, tmp_path, monkeypatch)


def options(server: LoopbackServer) -> AgentOptions:
    return AgentOptions(model="m", base_url=server.base_url, context_window_size=200_000)


@pytest.mark.parametrize(("words", "left"), [(20, 100), (700, 10)])
def test_tokens_are_estimated_and_history_is_cut_by_hand(
    server: LoopbackServer, capsys: pytest.CaptureFixture[str], words: int, left: int
) -> None:
    server.reply(CHAT, says("word " * words))
    names = paste(server, "004/context_estimate", options=options(server), Client=Client)
    tokens = names["tokens"]
    assert tokens == pytest.approx(50 * (words + 1 + 14), rel=0.15)
    assert capsys.readouterr().out == f"Context size: ~{tokens} tokens\n"
    assert len(asked(server)["messages"]) == 99
    assert len(names["client"].history) == left  # 28,000 tokens are too many for the snippet


def test_history_is_cut_after_each_task(server: LoopbackServer) -> None:
    server.reply(CHAT, calls("look"), says("Seen."))
    paste(
        server,
        "004/context_manual",
        options=options(server).replace(tools=[look], auto_execute_tools=True),
        tasks=["one", "two", "three"],
        Client=Client,
        after="assert len(client.history) <= 6",
    )


def look() -> str:
    """Looks."""
    return "nothing"


def test_facts_are_kept_elsewhere(server: LoopbackServer) -> None:
    names = paste(
        server,
        "004/context_external",
        options=options(server),
        Client=Client,
        truncate_messages=truncate_messages,
        extract_facts=lambda response: response,
        response="facts",
    )
    assert names["database"] == {"topic_x": "facts"}
    assert names["client"].history == []


def test_arguments_of_the_context_manager() -> None:
    for name, ours in {
        "001/context_manager_init": ContextManager.__init__,
        "001/manage_context": ContextManager.manage_context,
    }.items():
        have = inspect.signature(ours).parameters
        promised = parameters(snippet(name).partition(" ->")[0])
        assert [p for p in have if p != "self"][: len(promised)] == promised
        assert all(have[p].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in promised)


def test_its_own_tests_of_context(server: LoopbackServer) -> None:
    names: dict[str, Any] = paste(server, "001/test_context")
    tests = {name: value for name, value in names.items() if name.startswith("test_")}
    assert len(tests) == 5
    for test in tests.values():
        found = test()
        if inspect.iscoroutine(found):
            asyncio.run(found)
