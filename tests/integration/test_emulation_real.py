"""Tools for a real llama.cpp server that has none: told in the prompt, called in text, answered in text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.llama import LlamaServer
from support.plain_llama import start_plain_llama

from any_agent import Agent, AssistantMessage, ToolCompleted, UserMessage, tool
from any_agent.errors import ProviderError
from any_agent.models.capabilities import known_verdict
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.streaming import Fold
from any_agent.types import ModelRequest, ToolMessage, ToolResultBlock, ToolSpec, ToolUseBlock, text_of

pytestmark = pytest.mark.real

CALL = '"<tool_call>\\n{\\"name\\": \\"get_weather\\", \\"arguments\\": {\\"city\\": \\"" [a-z]{3,8} "\\"}}\\n</tool_call>"'
ONLY_A_CALL = {"grammar": f"root ::= {CALL}"}
CALL_OR_TEXT = {"grammar": f"root ::= {CALL} | [a-z ]{{8,40}}"}
WEATHER = ToolSpec(
    "get_weather",
    "Weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
DOORS: dict[str, Callable[..., Any]] = {
    "direct": lambda url, **more: DirectModel("tiny", url, **more),
    "litellm": lambda url, **more: LiteLLMModel("tiny", provider="llamacpp", base_url=url, **more),
}


@pytest.fixture(scope="module")
def plain(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Its template knows no tools: the server takes them without a word and tells the model nothing of them."""
    with start_plain_llama(write_model(calls_tools=True)) as server:
        yield server


@pytest.fixture(scope="module")
def refusing(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """It refuses every request with tools: "tools param requires --jinja flag"."""
    with start_plain_llama(write_model(calls_tools=True), uses_jinja=False) as server:
        yield server


async def answered(model: Any, request: ModelRequest) -> AssistantMessage:
    fold = Fold(request.tools)
    async for delta in model.stream(request):
        fold.add(delta)
    return fold.message()


@pytest.mark.parametrize("door", DOORS)
async def test_a_tool_round_trip_without_native_tools(door: str, plain: LlamaServer) -> None:
    cities = []

    @tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        cities.append(city)
        return "sunny"

    model = DOORS[door](plain.base_url, tool_mode="prompt")
    async with Agent(model, tools=[get_weather], extra_body=CALL_OR_TEXT, temperature=0) as agent:
        events = [event async for event in agent.stream("Weather?")]
    done = [event for event in events if isinstance(event, ToolCompleted)]
    assert len(done) == len(cities) == 1 and not done[0].result.is_error, events
    assert cities[0].isalpha()
    result = events[-1]
    assert result.subtype == "success" and result.num_turns == 2 and result.result
    assert "tool_call" not in "".join(getattr(event, "text", "") for event in events)
    assert model.ways.rung == "prompt"


@pytest.mark.parametrize("door", DOORS)
async def test_a_verdict_is_enough(door: str, plain: LlamaServer) -> None:
    model = DOORS[door](plain.base_url)
    request = ModelRequest([UserMessage("Weather?")], (WEATHER,), params={"temperature": 0})
    assert (await answered(model, request)).tool_calls == ()  # told natively, the model hears of no tool
    model.ways.can_call_tools = False
    (call,) = (await answered(model, replace(request, extra_body=CALL_OR_TEXT))).tool_calls
    assert isinstance(call, ToolUseBlock) and call.name == "get_weather"
    await model.aclose()


@pytest.mark.parametrize("door", DOORS)
async def test_a_refusal_is_repeated_once_with_the_tools_in_the_prompt(door: str, refusing: LlamaServer) -> None:
    model = DOORS[door](refusing.base_url)
    question = UserMessage("Weather?")
    params = {"temperature": 0, "max_tokens": 90}
    said = await answered(model, ModelRequest([question], (WEATHER,), params=params, extra_body=ONLY_A_CALL))
    (call,) = said.tool_calls
    assert isinstance(call, ToolUseBlock) and call.name == "get_weather" and call.input["city"].isalpha()
    assert model.ways.is_refused and model.ways.rung == "prompt"

    history = [question, said, ToolMessage((ToolResultBlock(call.id, "sunny"),))]
    answer = await answered(model, ModelRequest(history, (WEATHER,), params={**params, "max_tokens": 10}))
    assert answer.tool_calls == () and answer.content
    await model.aclose()


@pytest.mark.parametrize("door", DOORS)
async def test_native_only_does_not_change_the_way(door: str, refusing: LlamaServer) -> None:
    model = DOORS[door](refusing.base_url, tool_mode="native")
    with pytest.raises(ProviderError, match="--jinja"):
        await answered(model, ModelRequest([UserMessage("Weather?")], (WEATHER,)))
    assert not model.ways.is_emulated
    await model.aclose()


async def test_a_template_that_refuses_tool_messages_gets_them_as_text(plain: LlamaServer) -> None:
    call = ToolUseBlock("a", "get_weather", {"city": "Rome"})
    history = [UserMessage("Weather?"), AssistantMessage((call,)), ToolMessage((ToolResultBlock("a", "sunny"),))]
    model = DirectModel("tiny", plain.base_url)
    answer = await answered(model, ModelRequest(history, (), params={"temperature": 0}))
    assert answer.content and model.ways.is_refused
    await model.aclose()


async def test_the_agent_goes_by_what_a_probe_has_found(plain: LlamaServer) -> None:
    """The server takes tools and hides them: only a kept verdict tells that they must stand in the prompt."""

    @tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        return "sunny"

    async def agent_asks() -> DirectModel:
        model = DirectModel("tiny", plain.base_url, provider="llamacpp")
        async with Agent(model, tools=[get_weather], extra_body=CALL_OR_TEXT, max_tool_iterations=1) as agent:
            _ = [event async for event in agent.stream("Weather?")]
        return model

    before = await agent_asks()
    assert before.ways.can_call_tools is None
    verdict = await known_verdict(DirectModel("tiny", plain.base_url, provider="llamacpp"), may_probe=True)
    assert verdict is not None and not verdict.can_call_tools
    after = await agent_asks()
    assert after.ways.can_call_tools is False
    request = after.ways.asked(ModelRequest([UserMessage("Weather?")], (WEATHER,)))
    assert request.tools == () and "get_weather" in text_of(request.messages[0])
