"""Both doors on a real llama.cpp server: they tell the same story of the same server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from support.llama import LlamaServer

from any_agent.errors import AuthenticationError, ContextOverflowError
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.streaming import Fold
from any_agent.protocols import Model
from any_agent.types import (
    AssistantMessage,
    Delta,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    UserMessage,
    text_of,
)

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

DOORS: dict[str, Callable[..., Model]] = {
    "direct": lambda url, key=None: DirectModel("tiny", url, provider="llamacpp", api_key=key),
    "litellm": lambda url, key=None: LiteLLMModel("tiny", provider="llamacpp", base_url=url, api_key=key),
    "litellm-sdk": lambda url, key=None: LiteLLMModel("tiny", provider="lm_studio", base_url=url, api_key=key),
}
WEATHER = ToolSpec(
    "get_weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Callable[..., Model]:
    return DOORS[request.param]


def ask(*messages: Any, **params: Any) -> ModelRequest:
    more = {name: params.pop(name) for name in ("tools", "tool_choice") if name in params}
    said = list(messages) or [UserMessage("Hello")]
    return ModelRequest(said, params={"temperature": 0.0, "seed": 1, **params}, timeout_s=30.0, **more)


async def answer(model: Model, request: ModelRequest) -> tuple[AssistantMessage, list[Delta]]:
    fold, deltas = Fold(), []
    try:
        async with aclosing(model.stream(request)) as stream:  # type: ignore[type-var]
            async for delta in stream:
                fold.add(delta)
                deltas.append(delta)
    finally:
        await model.aclose()
    return fold.message(), deltas


async def test_text_in_pieces_with_usage(door: Callable[..., Model], llama: LlamaServer) -> None:
    said, deltas = await answer(door(llama.base_url), ask())
    again, _ = await answer(DOORS["direct"](llama.base_url), ask())
    assert text_of(said) and text_of(said) == text_of(again)
    assert sum(isinstance(d, TextDelta) for d in deltas) > 3
    assert isinstance(deltas[-1], StreamEnd)
    assert (said.finish_reason, said.model, said.cost_usd) == ("stop", "tiny", None)
    assert said.usage is not None and again.usage is not None
    assert not said.usage.is_estimated
    assert (said.usage.input_tokens, said.usage.output_tokens) == (again.usage.input_tokens, again.usage.output_tokens)


async def test_the_limit_of_tokens(door: Callable[..., Model], llama: LlamaServer) -> None:
    said, _ = await answer(door(llama.base_url), ask(max_tokens=3))
    assert said.finish_reason == "length"
    assert said.usage is not None and said.usage.output_tokens == 3


async def test_a_tool_is_called_and_its_result_read(door: Callable[..., Model], llama_tools: LlamaServer) -> None:
    asked = UserMessage("Weather in Paris?")
    model = door(llama_tools.base_url)
    called, _ = await answer(model, ask(asked, tools=(WEATHER,), tool_choice="auto"))
    (call,) = called.tool_calls
    assert isinstance(call, ToolUseBlock)
    assert (call.name, list(call.input)) == ("get_weather", ["city"])
    result = ToolMessage((ToolResultBlock(call.id, "sunny"),))
    said, _ = await answer(model, ask(asked, called, result, tools=(WEATHER,)))
    assert text_of(said) and not said.tool_calls


async def test_json_schema(door: Callable[..., Model], llama: LlamaServer) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    said, _ = await answer(door(llama.base_url), ask(response_format=wanted, max_tokens=200))
    value = json.loads(text_of(said))
    assert sorted(value) == ["n", "ok"]
    assert isinstance(value["ok"], bool)


async def test_the_key_opens(door: Callable[..., Model], llama_key: LlamaServer) -> None:
    said, _ = await answer(door(llama_key.base_url, llama_key.api_key), ask())
    assert text_of(said)


@pytest.mark.parametrize("key", [None, "wrong-key-0123"])
async def test_a_wrong_key_is_told(door: Callable[..., Model], llama_key: LlamaServer, key: str | None) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await answer(door(llama_key.base_url, key), ask())
    assert caught.value.status == 401
    assert "wrong-key" not in str(caught.value)


async def test_a_prompt_too_long(door: Callable[..., Model], llama_small: LlamaServer) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        await answer(door(llama_small.base_url), ask(UserMessage("long " * 300)))
    assert caught.value.max_tokens == llama_small.slot_ctx == 512
    assert caught.value.current_tokens is not None and caught.value.current_tokens > 1500


async def test_the_slot_is_idle_when_the_client_leaves(door: Callable[..., Model], llama_endless: LlamaServer) -> None:
    model = door(llama_endless.base_url)
    stream = model.stream(ask())
    seen = 0
    async for delta in stream:
        seen += isinstance(delta, TextDelta)
        if seen == 3:
            break
    assert await asyncio.to_thread(llama_endless.slots_busy) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert await llama_endless.until_idle(2.0) < 1.0
    await model.aclose()


async def test_the_slot_is_idle_when_the_task_is_cancelled(
    door: Callable[..., Model], llama_endless: LlamaServer
) -> None:
    task = asyncio.create_task(answer(door(llama_endless.base_url), ask()))
    for _ in range(500):
        if await asyncio.to_thread(llama_endless.slots_busy):
            break
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await llama_endless.until_idle(2.0) < 1.0


async def test_many_at_once(door: Callable[..., Model], llama: LlamaServer) -> None:
    said = await asyncio.gather(*[answer(door(llama.base_url), ask(UserMessage(f"Hello {n}"))) for n in range(6)])
    assert all(text_of(message) for message, _ in said)
