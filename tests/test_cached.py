"""The response cache: exactly the same request is answered from the store, at no cost, and says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import MemoryStoreError, ServerError
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel, LoopbackServer, ScriptedModel, chat_chunks, sse, token_usage
from any_agent.types import AttemptFailed, ResultMessage, StreamEnd, TextDelta

CALL = {"name": "look", "input": {}, "id": "c1"}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@tool
async def look() -> str:
    """Look."""
    return "seen"


async def test_the_same_request_is_answered_from_the_store(tmp_path: Path) -> None:
    path = str(tmp_path / "m.db")
    model = ScriptedModel([[CALL], "It is there."])
    for run in range(2):
        async with Agent(model, tools=[look], response_cache_ttl_s=60, memory_db_path=path) as agent:
            session = agent.create_session(f"s{run}")
            events = [event async for event in session.stream("Is it there?")]
            result = events[-1]
            assert isinstance(result, ResultMessage) and result.result == "It is there."
            assert [event.text for event in events if isinstance(event, TextDelta)] == ["It i", "s th", "ere."]
            assert [attempt.is_cached for attempt in result.attempts] == [bool(run)] * 2
            if run:
                assert (result.usage, result.total_cost_usd) == (None, 0.0)
                rows = await agent.stats("s1", group_by="purpose")
                assert [(row.key, row.calls, row.total_tokens, row.cost_usd) for row in rows] == [("cache", 2, 0, 0.0)]
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    "other", [{"temperature": 0.5}, {"system_prompt": "Be kind."}, {"tools": [look]}, {"extra_body": {"top_k": 3}}]
)
async def test_any_difference_asks_the_model(other: dict[str, Any]) -> None:
    model = EchoModel()
    async with Agent(model, response_cache_ttl_s=60) as agent:
        for fields in ({}, other, other, {}):
            await agent.query("x", **fields)
        assert len(model.requests) == 2
        await agent.query("y")
        assert len(model.requests) == 3


async def test_another_address_is_another_request(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply("/v1/chat/completions", sse(chat_chunks(["one"], usage=token_usage(5, 1))))
    path = str(tmp_path / "m.db")
    with LoopbackServer() as second:
        second.reply("/v1/chat/completions", sse(chat_chunks(["two"])))
        for base_url, said in ((server.base_url, "one"), (second.base_url, "two"), (server.base_url, "one")):
            async with Agent("m", base_url=base_url, response_cache_ttl_s=60, memory_db_path=path) as agent:
                assert await agent.query("x") == said
        assert (len(server.requests), len(second.requests)) == (1, 1)


async def test_answers_expire() -> None:
    model = EchoModel()
    async with Agent(model, response_cache_ttl_s=0.05) as agent:
        await agent.query("x")
        began = time.time()
        while len(model.requests) == 1:
            assert await agent.query("x") == "x"
            assert time.time() - began < 5


async def test_off_by_default() -> None:
    model = EchoModel()
    async with Agent(model) as agent:
        await agent.query("x")
        await agent.query("x")
        assert len(model.requests) == 2
        await agent.query("x", response_cache_ttl_s=60)
        await agent.query("x", response_cache_ttl_s=60)
        assert len(model.requests) == 3


async def test_errors_and_half_answers_are_not_kept() -> None:
    cut = [TextDelta("half"), StreamEnd("scripted", "length")]
    model = ScriptedModel([ServerError("down"), cut, "whole"])
    async with Agent(model, response_cache_ttl_s=60, retry_on_error=False) as agent:
        with pytest.raises(ServerError):
            await agent.query("x")
        assert [await agent.query("x") for _ in range(3)] == ["half", "whole", "whole"]
        session = agent.create_session()
        model._replies.append("interrupted")
        async for event in session.stream("y"):
            if isinstance(event, TextDelta):
                await session.interrupt()
        model._replies.append("asked again")
        assert await agent.query("y") == "asked again"


async def test_a_retry_before_the_answer_is_not_repeated() -> None:
    model = ScriptedModel([ServerError("down"), "up"])
    async with Agent(model, response_cache_ttl_s=60, retry_delay=0) as agent:
        first = [event async for event in agent.stream("x")]
        second = [event async for event in agent.stream("x")]
    assert sum(isinstance(event, AttemptFailed) for event in first) == 1
    assert not any(isinstance(event, AttemptFailed) for event in second) and len(model.requests) == 2


async def test_a_store_that_fails_costs_the_cache_not_the_run(tmp_path: Path) -> None:
    class Broken(MemoryStore):
        async def cached(self, key: str) -> Any:
            raise MemoryStoreError("locked", reason="locked")

        async def cache(self, *given: Any, **named: Any) -> None:
            raise MemoryStoreError("locked", reason="locked")

    async with (
        Broken(str(tmp_path / "m.db")) as store,
        Agent(EchoModel(), store=store, response_cache_ttl_s=60) as agent,
    ):
        assert await agent.query("x") == "x"


async def test_cached_answers_are_on_a_tape_too(tmp_path: Path) -> None:
    path = str(tmp_path / "tape.jsonl")
    async with Agent(EchoModel(), response_cache_ttl_s=60, record=path) as agent:
        assert [await agent.query("x"), await agent.query("x")] == ["x", "x"]
    async with Agent(EchoModel(), response_cache_ttl_s=60, replay=path) as agent:
        responses = [await agent.query("x"), await agent.query("x")]
    assert [response.attempts[0].is_cached for response in responses] == [False, True]
