"""What a session brings to fitting its history: reading results again, another model for summaries, how full it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from any_agent import Agent, tool
from any_agent.config import Route
from any_agent.context import Exchange
from any_agent.options import AgentOptions
from any_agent.protocols import Model
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import ContextSummarized, ToolMessage

LONG = "".join(f"line {n}\n" for n in range(600))


@tool
async def fetch() -> str:
    """Fetch."""
    return LONG


async def test_the_model_reads_what_was_left_out() -> None:
    replies: list[Any] = [
        [{"name": "fetch", "input": {}, "id": "f"}],
        [{"name": "read_result", "input": {"result_id": 1, "start": 2000, "length": 40}, "id": "r"}],
        "read",
    ]
    model = ScriptedModel(replies)
    async with Agent(model, tools=[fetch], recall_results=True, context_window=1500) as agent:
        session = agent.create_session()
        assert await session.query("go") == "read"
        assert [t.name for t in model.requests[0].tools] == ["fetch", "read_result"]
        sent = [b.as_text() for m in model.requests[1].messages if isinstance(m, ToolMessage) for b in m.content]  # type: ignore[union-attr]
        assert "read_result(result_id=1" in sent[0] and len(sent[0]) < len(LONG)
        whole, part = [m.content[0].as_text() for m in session.messages if isinstance(m, ToolMessage)]  # type: ignore[union-attr]
        assert whole == LONG and part.endswith(LONG[2000:2040])


async def test_without_the_option_nothing_is_offered() -> None:
    model = ScriptedModel(["hi"])
    async with Agent(model, tools=[fetch]) as agent:
        await agent.query("x")
    assert [t.name for t in model.requests[0].tools] == ["fetch"]


async def test_a_cheaper_model_writes_the_summary_and_it_outlives_the_process() -> None:
    writer = ScriptedModel(["they said words"] * 20, name="cheap")

    class Thrifty(Agent):
        def make_model(self, route: Route, options: AgentOptions) -> Model:
            return writer if route.model == "cheap" else EchoModel(name="main")

    how: dict[str, Any] = {"context_strategy": "summarize", "summary_model": "cheap", "context_window": 600}
    async with Thrifty("main", base_url="http://127.0.0.1:9/v1", **how) as agent:
        session = agent.create_session("s")
        told = []
        for turn in range(12):
            async for event in session.stream(f"{turn} " + "word " * 40):
                if isinstance(event, ContextSummarized):
                    told.append(event)
        assert told and told[-1].summary == "they said words" and writer.requests
        kept = await agent.memory.load("s", kinds=("checkpoint", "model_call"))
        assert sum(row["kind"] == "checkpoint" for row in kept) == len(told)
        assert sum(row.get("purpose") == "summary" for row in kept) == len(told)
    async with Thrifty("main", base_url="http://127.0.0.1:9/v1", **how) as agent:
        again = await agent.resume("s")
        assert again.context_summary is not None and again.context_summary.summary == "they said words"
        assert len(again.messages) == 24
        asked = len(writer.requests)
        await again.query("and now?")
        assert len(writer.requests) <= asked + 1
        usage = await again.context_usage()
        assert usage.window_tokens == 600 and 0 < usage.history_tokens <= 600


async def test_an_agent_takes_a_strategy_of_its_user() -> None:
    budgets = []

    async def last_two(exchanges: Sequence[Exchange], budget_tokens: int) -> Sequence[Exchange]:
        budgets.append(budget_tokens)
        return exchanges[-2:]

    model = EchoModel()
    async with Agent(model, context_strategy=last_two, context_window=1500) as agent:
        session = agent.create_session()
        for turn in range(14):
            await session.query(f"{turn} " + "word " * 60)
    assert budgets and all(0 < tokens < 1500 for tokens in budgets)
    assert min(len(request.messages) for request in model.requests[3:]) == 3
    assert len(session.messages) == 28


async def test_how_full_the_window_is_before_anything_was_said() -> None:
    async with Agent(EchoModel(), system_prompt="Be brief. " * 20, tools=[fetch], context_window=4096) as agent:
        usage = await agent.create_session().context_usage()
        assert usage.window_tokens == 4096 and usage.system_tokens > 20 and usage.tools_tokens > 0
