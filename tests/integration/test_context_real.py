"""A long conversation on a real llama.cpp server with a small window: no overflow ever reaches the user."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.llama import LlamaServer, start_llama

from any_agent import Agent, AgentOptions, AgentSession, Model, tool
from any_agent.config import Route
from any_agent.context import context_usage
from any_agent.models.openai_wire import DirectModel
from any_agent.models.wire import to_wire
from any_agent.types import (
    ContextFitted,
    ContextSummarized,
    Delta,
    ModelRequest,
    ResultMessage,
    StreamEnd,
    SystemMessage,
    Usage,
    UserMessage,
)


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}, " + "and warm " * 12


class Recorder:
    """The real door, with each request and its reported usage written down."""

    def __init__(self, door: DirectModel) -> None:
        self.door, self.name, self.base_url = door, door.name, door.base_url
        self.asked: list[list[dict[str, Any]]] = []
        self.usage: list[Usage | None] = []

    async def served_window(self) -> int | None:
        return await self.door.served_window()

    async def count_prompt(self, request: ModelRequest) -> int | None:
        return await self.door.count_prompt(request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        self.asked.append(to_wire(request.messages))
        async for delta in self.door.stream(request):
            if isinstance(delta, StreamEnd):
                self.usage.append(delta.usage)
            yield delta

    async def aclose(self) -> None:
        await self.door.aclose()


class Recorded(Agent):
    recorder: Recorder

    def make_model(self, route: Route, options: AgentOptions) -> Model:
        door = super().make_model(route, options)
        assert isinstance(door, DirectModel)
        self.recorder = Recorder(door)
        return self.recorder


def check(asked: list[dict[str, Any]], prompt: str) -> None:
    """The invariants of one request."""
    assert asked[0] == {"role": "system", "content": "Be brief."}
    assert any(m["content"].endswith(prompt) for m in asked if m["role"] == "user")  # a summary may stand before it
    calls = [c["id"] for m in asked for c in m.get("tool_calls") or ()]
    assert [m["tool_call_id"] for m in asked if m["role"] == "tool"] == calls
    roles = [m["role"] for m in asked[1:] if m["role"] != "tool"]
    assert roles[0] == "user"
    assert all(a != b or a == "assistant" for a, b in itertools.pairwise(roles))


async def talk(server: LlamaServer, turns: int, window: int, **options: Any) -> tuple[Recorded, int]:
    fits = 0
    agent = Recorded("tiny", base_url=server.base_url, temperature=0, seed=1, system_prompt="Be brief.", **options)
    async with agent:
        session = agent.create_session()
        for number in range(turns):
            prompt = f"Question {number}: " + "what about it? " * (number % 9)
            events = [event async for event in session.stream(prompt)]
            result = events[-1]
            assert isinstance(result, ResultMessage)
            assert result.subtype == "success", result.error
            assert result.result
            fits += sum(isinstance(e, ContextFitted) for e in events)
            check(agent.recorder.asked[-1], prompt)
    assert max(u.input_tokens for u in agent.recorder.usage if u) <= window
    return agent, fits


async def test_sixty_turns_in_a_window_of_two_thousand(llama: LlamaServer) -> None:
    agent, fits = await talk(llama, 60, 2048, max_tokens=64)
    assert len(agent.recorder.asked) == 60  # no call had to be repeated
    assert 3 <= fits <= 30


async def test_a_small_window_is_learned_from_the_error(llama_small: LlamaServer) -> None:
    agent, _ = await talk(llama_small, 25, 512, max_tokens=32)
    assert len(agent.recorder.asked) <= 25 + 2


async def test_turns_with_tools(llama_tools: LlamaServer) -> None:
    agent, fits = await talk(llama_tools, 25, 2048, max_tokens=64, tools=[get_weather])
    assert len(agent.recorder.asked) == 50
    assert fits > 1


async def say(session: AgentSession, prompt: str) -> ResultMessage:
    events = [event async for event in session.stream(prompt)]
    result = events[-1]
    assert isinstance(result, ResultMessage)
    assert result.subtype == "success", result.error
    return result


@pytest.mark.real
@pytest.mark.parametrize(("before", "after"), [(2048, 1024), (1024, 4096)])
async def test_the_server_comes_back_with_another_window(
    write_model: Callable[..., Path], before: int, after: int
) -> None:
    """llama.cpp is restarted on its port with another `n_ctx`: smaller is survived, wider is used."""
    model = write_model()
    with start_llama(model, slot_ctx=before, slots=1) as server:
        agent = Recorded("tiny", base_url=server.base_url, temperature=0, seed=1, max_tokens=32)
        session = agent.create_session()
        for number in range(16):
            await say(session, f"Question {number}: " + "what about it? " * 6)
        one = next(iter(session.fitted.values()))
        assert one.manager.max_tokens == before
        one.watch.ask_again_s = 0.0  # the turns of this model take milliseconds
        port = int(server.root_url.rsplit(":", 1)[1])
    with start_llama(model, slot_ctx=after, slots=1, port=port) as server:
        for number in range(16, 26):
            await say(session, f"Question {number}: " + "what about it? " * 6)
        one = next(iter(session.fitted.values()))
        assert one.manager.max_tokens == after
        if after > before:  # what had been dropped is sent again
            assert "Question 3:" in str(agent.recorder.asked[-1])
        else:
            assert max(u.input_tokens for u in agent.recorder.usage[-3:] if u) <= after
        await agent.aclose()


async def test_usage_is_the_server_s_own_count(llama: LlamaServer) -> None:
    agent = Recorded("tiny", base_url=llama.base_url, temperature=0, seed=1, system_prompt="Be brief.", max_tokens=16)
    async with agent:
        session = agent.create_session()
        for number in range(2):
            await say(session, f"Question {number}: " + "what about it? " * 50)
        run = await agent.open_run(session, {})
        messages = [SystemMessage("Be brief."), *session.messages, UserMessage("And now?")]
        usage = await context_usage(run.model, messages, run.tools)
        assert (usage.is_exact, usage.is_window_known, usage.window_tokens) == (True, True, 2048)
        await say(session, "And now?")
        told = agent.recorder.usage[-1]
        assert told is not None and usage.prompt_tokens == told.input_tokens
        assert usage.system_tokens + usage.history_tokens == usage.prompt_tokens


async def test_a_summary_fits_a_small_window(llama_small: LlamaServer) -> None:
    agent = Recorded(
        "tiny", base_url=llama_small.base_url, temperature=0, seed=1, max_tokens=32, context_strategy="summarize"
    )
    async with agent:
        session, told = agent.create_session(), []
        for number in range(12):
            async for event in session.stream(f"Question {number}: what about it?"):
                if isinstance(event, ContextSummarized):
                    told.append(event)
                if isinstance(event, ResultMessage):
                    assert event.subtype == "success", event.error
        assert told and told[0].summary and told[0].usage is not None and told[0].usage.output_tokens > 0
        assert told[-1].summary in str(agent.recorder.asked[-1])
        assert max(u.input_tokens for u in agent.recorder.usage if u) <= 512


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", ["sliding", "truncate", "adaptive", "summarize"])
async def test_three_hundred_turns_with_tools(llama_tools: LlamaServer, strategy: str) -> None:
    agent, fits = await talk(llama_tools, 300, 2048, max_tokens=64, tools=[get_weather], context_strategy=strategy)
    assert fits > 10
    assert agent.recorder.usage[-1] is not None
