"""The whole river on a real llama.cpp server: from the public call to HTTP and back."""

from __future__ import annotations

import asyncio

import pytest
from support.llama import LlamaServer

from any_agent import (
    Agent,
    AgentOptions,
    AssistantMessage,
    Client,
    ContextOverflowError,
    ResultMessage,
    TextBlock,
    ToolCompleted,
    ToolUseBlock,
    query,
    tool,
)


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def options(server: LlamaServer, **more: object) -> AgentOptions:
    return AgentOptions(model="tiny", base_url=server.base_url, api_key=server.api_key, temperature=0, seed=1, **more)


async def test_query_gives_text_usage_and_attempts(llama: LlamaServer) -> None:
    async with Agent(options=options(llama)) as agent:
        answer = await agent.query("Hello")
        again = await agent.query("Hello")
    assert answer and answer == again
    assert answer.usage is not None and answer.usage.output_tokens > 5 and answer.usage.input_tokens > 5
    assert answer.cost_usd is None
    assert answer.finish_reason == "stop"
    assert [(a.is_ok, a.base_url) for a in answer.attempts] == [(True, llama.base_url)]


async def test_stream_is_the_same_text(llama: LlamaServer) -> None:
    async with Agent(options=options(llama)) as agent:
        whole = await agent.query("Hello")
        pieces = [piece async for piece in await agent.query("Hello", stream=True)]
        assert len(pieces) > 3
        assert "".join(pieces) == whole == "".join([piece async for piece in agent.stream_query("Hello")])


async def test_session_remembers(llama: LlamaServer) -> None:
    async with Agent(options=options(llama)) as agent:
        session = await agent.create_session()
        await session.send("Hello")
        first = await session.receive()
        await session.send("And now?")
        second = await session.receive()
        assert [m["role"] for m in session.history] == ["user", "assistant", "user", "assistant"]
        assert second.usage is not None and first.usage is not None
        assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens


async def test_tool_round_trip_ends_in_text(llama_tools: LlamaServer) -> None:
    async with Agent(options=options(llama_tools, tools=[get_weather])) as agent:
        events = [event async for event in agent.stream("Weather in Paris?")]
    done = [e for e in events if isinstance(e, ToolCompleted)]
    result = events[-1]
    assert isinstance(result, ResultMessage) and result.subtype == "success", result
    assert result.num_turns == 2 and result.result
    assert [d.name for d in done] == ["get_weather"] and not done[0].result.is_error
    assert sum(isinstance(e, ResultMessage) for e in events) == 1


async def test_client_runs_tools_by_hand(llama_tools: LlamaServer) -> None:
    seen = []
    async with Client(options(llama_tools, tools=[get_weather])) as client:
        await client.query("Weather?")
        async for block in client.receive_messages():
            seen.append(block)
            if isinstance(block, ToolUseBlock):
                await client.add_tool_result(block.id, await get_weather.execute(block.input))
        assert [m["role"] for m in client.history] == ["user", "assistant", "tool", "assistant"]
    assert isinstance(seen[0], ToolUseBlock)
    assert "".join(b.text for b in seen if isinstance(b, TextBlock))


async def test_query_function_streams_blocks(llama: LlamaServer) -> None:
    messages = [m async for m in query(prompt="Hello", options=options(llama))]
    assert isinstance(messages[-1], ResultMessage)
    parts = [m for m in messages if isinstance(m, AssistantMessage)]
    assert (
        len(parts) > 3
        and "".join(b.text for m in parts for b in m.content if isinstance(b, TextBlock)) == messages[-1].result
    )


async def test_overflow_tells_both_numbers(llama_small: LlamaServer) -> None:
    async with Agent(options=options(llama_small)) as agent:
        with pytest.raises(ContextOverflowError) as caught:
            await agent.query("word " * 600)
    assert caught.value.max_tokens == 512 and caught.value.current_tokens and caught.value.current_tokens > 3000


async def test_interrupt_closes_the_stream_and_keeps_the_text(llama_endless: LlamaServer) -> None:
    async with Agent(options=options(llama_endless)) as agent:
        session = agent.create_session()

        async def talk() -> list[object]:
            return [event async for event in session.stream("Talk")]

        task = asyncio.create_task(talk())
        while not (session._live and session._live.partial):
            await asyncio.sleep(0.005)
        await session.interrupt()
        await session.interrupt()
        assert not session.is_busy
        events = await task
        assert isinstance(events[-1], ResultMessage) and events[-1].subtype == "interrupted"
        last = session.messages[-1]
        assert isinstance(last, AssistantMessage) and last.is_interrupted and last.content
        assert await llama_endless.until_idle() < 2
        answer = await session.query("Short?", max_tokens=5)
        assert answer and answer.finish_reason == "length"


async def test_cancelling_the_caller_frees_the_slot(llama_endless: LlamaServer) -> None:
    async with Agent(options=options(llama_endless)) as agent:
        session = agent.create_session()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(session.query("Talk"), 0.3)
        await session.interrupt()
        assert not session.is_busy
        assert await llama_endless.until_idle() < 2
        assert await session.query("Short?", max_tokens=3)


def test_agents_work_in_one_loop_after_another(llama: LlamaServer) -> None:
    agent = Agent(options=options(llama))
    answers = [asyncio.run(agent.query("Hello")) for _ in range(2)]
    answers.append(agent.query_sync("Hello"))
    answers.append(agent.query_sync("Hello"))
    assert len(set(answers)) == 1 and answers[0]


async def test_many_queries_in_a_row_need_one_attempt_each(llama: LlamaServer) -> None:
    async with Agent(options=options(llama, max_retries=0)) as agent:
        answers = [await agent.query(f"Hello {n}") for n in range(30)]
    assert all(len(answer.attempts) == 1 for answer in answers)
