"""A long conversation on a real llama.cpp server with a small window: no overflow ever reaches the user."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.llama import LlamaServer

from any_agent import Agent, AgentOptions, Model, tool
from any_agent.config import Route
from any_agent.models.openai_wire import DirectModel
from any_agent.models.wire import to_wire
from any_agent.types import ContextFitted, Delta, ModelRequest, ResultMessage, StreamEnd, Usage


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
    assert prompt in [m["content"] for m in asked if m["role"] == "user"]
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


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["sliding", "truncate", "adaptive", "summarize"])
async def test_three_hundred_turns_with_tools(llama_tools: LlamaServer, strategy: str) -> None:
    agent, fits = await talk(llama_tools, 300, 2048, max_tokens=64, tools=[get_weather], context_strategy=strategy)
    assert fits > 10
    assert agent.recorder.usage[-1] is not None
