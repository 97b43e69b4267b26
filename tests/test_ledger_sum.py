"""The ledger's sums are the server's own counters, exactly: 100 sessions at once, with tools, retries, fallbacks and
subagents."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import AnyAgentError
from any_agent.memory import MemoryStore, UsageRow
from any_agent.testing import LoopbackServer, WireCall, WireRequest, chat_chunks, error, sse, token_usage

SESSIONS = 100
PROMPTS = 3


@tool
async def weigh(item: str) -> str:
    """Weigh something."""
    return f"{item}: 3 kg"


class CountingServer:
    """Answers by what it is asked, and counts what it was asked and what it told, by model."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.tokens_in: Counter[str] = Counter()
        self.tokens_out: Counter[str] = Counter()
        self.cached: Counter[str] = Counter()
        self.by_session: Counter[str] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: WireRequest) -> Any:
        asked = request.json
        model, messages = asked["model"], asked["messages"]
        said = [m["content"] for m in messages if m["role"] == "user"][-1]
        session, prompt = said.split()[1], int(said.split()[3])
        number = int(session)
        with self._lock:
            self.calls[model] += 1
            self._seen[model, said] += 1
            tries = self._seen[model, said]
            if model == "first" and number % 4 == 0:
                self.failed[model] += 1
                return error(404, "no such model", type="not_found_error")  # permanent: the next model is tried
            if number % 4 == 1 and tries == 1:
                self.failed[model] += 1
                return error(503, "busy")  # passes: tried again
            if number == 7 and prompt == 2:
                self.failed[model] += 1
                return error(401, "wrong key")  # every model refuses: the run fails
            told_in, told_out, cached = len(request.body), 5 + number % 7, number % 3
            self.tokens_in[model] += told_in
            self.tokens_out[model] += told_out
            self.cached[model] += cached
            self.by_session[session] += told_in + told_out
        usage = token_usage(told_in, told_out, cached)
        if (calls := self.tasks(asked, number, said)) is not None:
            return sse(chat_chunks(tool_calls=calls, usage=usage, model=model))
        if messages[-1]["role"] == "user" and number % 2:
            calls = [WireCall("weigh", f'{{"item": "item {i}"}}', f"call_{i}", i) for i in range(1 + number % 3)]
            return sse(chat_chunks(tool_calls=calls, usage=usage, model=model))
        return sse(chat_chunks(["All ", "done."], usage=usage, model=model))

    def tasks(self, asked: dict[str, Any], number: int, said: str) -> list[WireCall] | None:
        """Tasks for subagents, where they are asked."""
        return None


class TreeServer(CountingServer):
    """Asks subagents in two of three sessions: one, or three at once, one of which asks others in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def tasks(self, asked: dict[str, Any], number: int, said: str) -> list[WireCall] | None:
        may_ask = any(tool["function"]["name"] == "task" for tool in asked.get("tools", ()))
        depth = said.count("part")
        if not may_ask or asked["messages"][-1]["role"] != "user" or number % 3 == 0 or depth > 1:
            return None
        names = ["weigher"] if number % 3 == 1 else ["weigher", "other", "leader"]
        with self._lock:
            self.given += len(names)
        tasks = [{"subagent": name, "prompt": f"{said} part {name}"} for name in names]
        return [WireCall("task", json.dumps(task), f"call_{i}", i) for i, task in enumerate(tasks)]


async def talk(agent: Agent, number: int) -> int:
    """How many of the session's prompts failed."""
    failed = 0
    async with agent.create_session(f"session-{number}") as session:
        for prompt in range(PROMPTS):
            try:
                assert await session.query(f"session {number} prompt {prompt}") == "All done."
            except AnyAgentError:
                failed += 1
    return failed


def agree(
    total: UsageRow, by_model: dict[str, UsageRow], counted: CountingServer, server: LoopbackServer, models: set[str]
) -> None:
    """The ledger's sums are what the server counted."""
    chats = [request for request in server.requests if request.method == "POST"]
    assert total.calls == len(chats) == counted.calls.total()
    assert total.failed_calls == counted.failed.total() > 100
    assert total.input_tokens == counted.tokens_in.total() > 0
    assert total.output_tokens == counted.tokens_out.total()
    assert total.cached_tokens == counted.cached.total()
    assert by_model.keys() == counted.calls.keys() == models
    for model, row in by_model.items():
        assert (row.calls, row.failed_calls) == (counted.calls[model], counted.failed[model]), model
        assert (row.input_tokens, row.output_tokens) == (counted.tokens_in[model], counted.tokens_out[model]), model


async def test_the_ledger_is_the_servers_count(tmp_path: Path) -> None:
    counted = CountingServer()
    with LoopbackServer() as server:
        server.reply("/v1/chat/completions", counted)
        async with (
            MemoryStore(str(tmp_path / "m.db"), durability="process") as store,
            Agent(
                "first",
                base_url=server.base_url,
                fallback_models=["second"],
                tools=[weigh],
                retry_delay=0,
                max_retries=2,
                store=store,
                keep_calibration=False,
                log_level="ERROR",
            ) as agent,
        ):
            failed = await asyncio.gather(*(talk(agent, number) for number in range(SESSIONS)))
            assert sum(failed) == 1
            (total,) = await agent.stats()
            by_model = {row.key: row for row in await agent.stats(group_by="model")}
            by_session = {row.key: row for row in await agent.stats(group_by="session")}
            purposes = {row.key: row.calls for row in await agent.stats(group_by="purpose")}
            (tools,) = await agent.stats(group_by="tool")
    agree(total, by_model, counted, server, {"first", "second"})
    assert {key.removeprefix("session-"): row.total_tokens for key, row in by_session.items()} == counted.by_session
    assert sum(purposes.values()) == total.calls and {"turn", "retry", "fallback"} <= purposes.keys()
    assert (
        tools.calls == sum((1 + n % 3) * PROMPTS for n in range(1, SESSIONS, 2)) - 2
    )  # one prompt of session 7 failed


@pytest.mark.parametrize("trees", [30, pytest.param(100, marks=pytest.mark.slow)])
async def test_the_ledger_is_the_servers_count_with_subagents(trees: int, tmp_path: Path) -> None:
    counted = TreeServer()
    told = {"description": "Weighs.", "prompt": "You weigh."}
    agents = {
        "weigher": told,
        "other": {**told, "model": "third", "tools": []},
        "leader": {**told, "tools": ["weigh", "task"]},
    }
    with LoopbackServer() as server:
        server.reply("/v1/chat/completions", counted)
        async with (
            MemoryStore(str(tmp_path / "m.db"), durability="process") as store,
            Agent(
                "first",
                base_url=server.base_url,
                fallback_models=["second"],
                tools=[weigh],
                agents=agents,
                retry_delay=0,
                max_retries=2,
                max_budget_tokens=10**9,
                store=store,
                keep_calibration=False,
                log_level="ERROR",
            ) as agent,
        ):
            failed = await asyncio.gather(*(talk(agent, number) for number in range(trees)))
            assert sum(failed) == 1
            (total,) = await agent.stats()
            by_model = {row.key: row for row in await agent.stats(group_by="model")}
            by_tool = {row.key: row.calls for row in await agent.stats(group_by="tool")}
            by_tree = [(await agent.stats(f"session-{number}"))[0] for number in range(trees)]
            listed = await agent.list_sessions(limit=2 * trees)
            everyone = len(await agent.stats(group_by="session"))
    agree(total, by_model, counted, server, {"first", "second", "third"})
    assert [row.total_tokens for row in by_tree] == [counted.by_session[str(number)] for number in range(trees)]
    assert sum(row.calls for row in by_tree) == total.calls
    assert by_tool["task"] == counted.given > 200 and by_tool["weigh"] > 0
    assert len(listed) == trees and everyone == trees + counted.given
