"""One row per model call, whatever came of it, and the same sums with and without a store."""

from __future__ import annotations

from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import ProviderError, ServerError
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import LoopbackServer, ScriptedModel, chat_chunks, sse, token_usage
from any_agent.types import TextDelta, ToolMessage

CALL = {"name": "look", "input": {}, "id": "1"}


@tool
async def look() -> str:
    """Look."""
    return "seen"


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("way", ["interrupt", "break"])
async def test_a_call_that_is_cut_off_is_a_row(is_kept: bool, way: str) -> None:
    async with Agent(ScriptedModel([CALL, "abcdefgh"]), tools=[look], enable_memory=is_kept) as agent:
        session = agent.create_session("k")
        stream = session.stream("x")
        async for event in stream:
            if isinstance(event, TextDelta):
                if way == "break":
                    break
                await session.interrupt()
        await stream.aclose()  # type: ignore[attr-defined]
        used = await session.usage()
        assert (used.calls, used.failed_calls, used.unpriced_calls) == (2, 1, 2)
        if is_kept:
            rows = await agent.memory.load("k", kinds=("model_call",))
            assert [row["outcome"] for row in rows] == ["ok", "interrupted"] and rows[1]["duration_s"] > 0


async def test_between_two_calls_nothing_is_cut_off() -> None:
    async with Agent(ScriptedModel([CALL, "never asked"]), tools=[look]) as agent:
        session = agent.create_session()
        async for event in session.stream("x"):
            if isinstance(event, ToolMessage):
                await session.interrupt()
        assert (await session.usage()).calls == 1


async def test_the_sums_are_the_same_without_a_store() -> None:
    sums = []
    for is_kept in (True, False):
        model = ScriptedModel([ServerError("busy"), "hello", ServerError("busy"), ServerError("down")])
        async with Agent(FallbackModel([model], RetryPolicy(1, 0.0)), max_retries=0, enable_memory=is_kept) as agent:
            session = agent.create_session()
            await session.query("x")
            with pytest.raises(ProviderError):
                await session.query("y")
            used = await session.usage()
            sums.append((used.calls, used.failed_calls, used.input_tokens, used.output_tokens, used.unpriced_calls))
    assert sums[0] == sums[1] == (4, 3, 1, 2, 4)


async def test_an_answer_that_a_tool_gave_is_no_call() -> None:
    @tool(ends_run=True)
    async def finish() -> str:
        """Finish."""
        return "final"

    async with Agent(ScriptedModel([{"name": "finish"}]), tools=[finish]) as agent:
        session = agent.create_session()
        assert await session.query("x") == "final" and (await session.usage()).calls == 1


async def test_each_vote_is_a_row() -> None:
    replies: list[Any] = [[CALL]] * 3 + ["done"] * 3
    model = ScriptedModel(replies)
    async with Agent(model, tools=[look], vote=3) as agent:
        session = agent.create_session("k")
        answer = await session.query("x")
        used = await session.usage()
        assert used.calls == len(model.requests) == 6 and answer.usage is not None
        assert (used.input_tokens, used.output_tokens) == (answer.usage.input_tokens, answer.usage.output_tokens)
        rows = {row.key: row.calls for row in await agent.stats("k", group_by="purpose")}
        assert rows == {"turn": 2, "vote": 4}


@pytest.mark.parametrize("door", ["direct", "litellm"])
@pytest.mark.parametrize("told", [0.25, None, "soon", True, -1])
async def test_waiting_in_the_servers_queue_is_in_the_row_where_it_is_told(door: str, told: Any) -> None:
    usage = {**token_usage(3, 2), **({} if told is None else {"queue_time": told})}
    with LoopbackServer() as server:
        server.reply("/v1/chat/completions", sse(chat_chunks(["fine"], usage=usage)))
        async with Agent("openai/m", base_url=server.base_url, api_key="k", door=door) as agent:
            await agent.query("x", session_id="k")
            (row,) = await agent.memory.load("k", kinds=("model_call",))
            assert row.get("queue_s") == (0.25 if told == 0.25 else None) and row["output_tokens"] == 2
