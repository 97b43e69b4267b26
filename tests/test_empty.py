"""An answer without a word, cut at a token limit: the figures tell which limit it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from any_agent import Agent
from any_agent.errors import EmptyResponseError
from any_agent.models.empty import answer_limit
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.protocols import Model
from any_agent.testing import LoopbackServer, chat_chunks, sse
from any_agent.testing.wire_bytes import token_usage
from any_agent.types import ModelRequest, UserMessage

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

CHAT = "/v1/chat/completions"
DOORS: dict[str, Callable[[str], Model]] = {
    "direct": lambda url: DirectModel("m", url),
    "litellm": lambda url: LiteLLMModel("m", provider="vllm", base_url=url),
    "litellm-sdk": lambda url: LiteLLMModel("m", provider="lm_studio", base_url=url),
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


def empty(prompt_tokens: int = 0, completion_tokens: int = 0, finish_reason: str = "length") -> list[bytes]:
    told: dict[str, Any] = {"usage": token_usage(prompt_tokens, completion_tokens)} if prompt_tokens else {}
    return sse(chat_chunks([], finish_reason=finish_reason, **told))


async def refused(door: Model, **params: Any) -> EmptyResponseError:
    try:
        with pytest.raises(EmptyResponseError) as caught:
            async with aclosing(door.stream(ModelRequest([UserMessage("hi")], params=params))) as stream:  # type: ignore[type-var]
                async for _ in stream:
                    pass
    finally:
        await door.aclose()
    return caught.value


@pytest.mark.parametrize("name", DOORS)
async def test_a_limit_that_was_used_up_is_named_and_not_asked_into_again(name: str, server: LoopbackServer) -> None:
    server.reply(CHAT, empty(9, 1))
    error = await refused(DOORS[name](server.base_url), max_tokens=1)
    assert "max_tokens=1 was used up before a word came\n  fix: raise max_tokens" in str(error)
    assert "prompt" not in str(error) and error.retry_limit == 0
    server.reply(CHAT, empty(9, 16))
    error = await refused(DOORS[name](server.base_url))
    assert "ended it at 16 tokens, its own limit" in str(error) and "fix: pass a larger max_tokens" in str(error)
    assert error.retry_limit == 0


@pytest.mark.parametrize("name", DOORS)
async def test_what_is_not_used_up_can_only_be_the_window(name: str, server: LoopbackServer) -> None:
    for usage, params in (((2047, 1), {"max_tokens": 64}), ((2047, 1), {})):
        server.reply(CHAT, empty(*usage))
        error = await refused(DOORS[name](server.base_url), **params)
        assert "the prompt may be too long for the model" in str(error) and "larger window" in str(error)
        assert error.retry_limit == 1
    server.reply(CHAT, empty())  # no figures: it may be either
    error = await refused(DOORS[name](server.base_url), max_tokens=5)
    assert "max_tokens=5 may be too small, or the prompt leaves no room" in str(error) and error.retry_limit == 1
    server.reply(CHAT, empty())
    error = await refused(DOORS[name](server.base_url))
    assert "the server's own limit may be too small" in str(error) and "fix: pass a larger max_tokens, or" in str(error)
    server.reply(CHAT, empty(9, 1, "stop"))
    error = await refused(DOORS[name](server.base_url), max_tokens=1)
    assert "finish_reason stop" in str(error) and "used up" not in str(error) and error.retry_limit == 1


async def test_an_agent_asks_once_and_says_the_option(server: LoopbackServer) -> None:
    server.reply(CHAT, empty(9, 1))
    async with Agent("m", base_url=server.base_url, max_tokens=1, output_type=int, enable_memory=False) as agent:
        with pytest.raises(EmptyResponseError, match="max_tokens=1 was used up"):
            await agent.query("How many?")
    assert sum(request.path == CHAT for request in server.requests) == 1


def test_the_smallest_limit_counts_wherever_it_stands() -> None:
    def limit(extra_body: Any = None, **params: Any) -> tuple[str, int | None]:
        return answer_limit(ModelRequest((), params=params, extra_body=extra_body or {}))

    assert limit(max_tokens=5, max_completion_tokens=3) == ("max_completion_tokens", 3)
    assert limit({"n_predict": 2}, max_tokens=5) == ("n_predict", 2)
    assert limit({"n_predict": -1}, max_tokens=None) == ("max_tokens", None)
    assert answer_limit(None) == ("max_tokens", None)


async def test_a_limit_that_was_used_up_is_no_sign_of_a_small_window(server: LoopbackServer) -> None:
    server.reply(CHAT, empty(2000, 1))
    async with Agent("m", base_url=server.base_url, max_tokens=1, context_window_size=16_000) as agent:
        with pytest.raises(EmptyResponseError, match="max_tokens=1 was used up"):
            await agent.query("word " * 2000)
    assert [r.path for r in server.requests].count(CHAT) == 1
