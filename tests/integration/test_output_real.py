"""Structured output on a real llama.cpp server by both doors: its grammar holds even a model that only babbles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from support.llama import LlamaServer
from support.recording_proxy import RecordingProxy

from any_agent import Agent, ToolCompleted, tool
from any_agent.errors import OutputError
from any_agent.models.capabilities import forget_servers, known_verdict, probe_capabilities
from any_agent.models.capabilities.verdicts import Verdicts, identity
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.servers import probe
from any_agent.types import ResultMessage

pytestmark = [
    pytest.mark.real,
    # LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

DOORS: dict[str, Callable[[str], Any]] = {
    "direct": lambda url: DirectModel("tiny", url),
    "litellm": lambda url: LiteLLMModel("tiny", provider="llamacpp", base_url=url),
}


class Place(BaseModel):
    city: str
    n: int = 0
    kind: Literal["town", "village"] = "town"
    tags: list[str] = Field(default_factory=list, max_length=3)


@dataclass
class Pair:
    first: bool
    second: Literal[1, 2]


@contextmanager
def watched(llama: LlamaServer) -> Iterator[RecordingProxy]:
    with RecordingProxy(llama.root_url) as proxy:
        yield proxy


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "wanted", [Place, Pair, list[Pair], Pair | Place, Literal["yes", "no"], int, bool, dict[str, int]]
)
async def test_every_kind_of_type(door: str, wanted: Any, llama: LlamaServer) -> None:
    async with Agent(DOORS[door](llama.base_url), temperature=0, seed=1, max_tokens=400) as agent:
        answer = await agent.query("Where?", output_type=wanted, output_retries=0)
    assert answer.num_turns == 1 and answer.data is not None
    if isinstance(wanted, type) and not hasattr(wanted, "__args__"):
        assert isinstance(answer.data, wanted)


@pytest.mark.parametrize("door", DOORS)
async def test_a_json_schema(door: str, llama: LlamaServer) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}
    async with Agent(DOORS[door](llama.base_url), temperature=0) as agent:
        answer = await agent.query("How many?", output_format={"type": "json_schema", "schema": schema})
    assert answer.data == {"n": 7}


@pytest.mark.parametrize("door", DOORS)
async def test_the_object_grows_while_it_streams(door: str, llama: LlamaServer) -> None:
    async with Agent(DOORS[door](llama.base_url), temperature=0, seed=1) as agent:
        shown = [one async for one in agent.stream_output("Where?", Place)]
    *parts, whole = shown
    assert isinstance(whole, Place) and len(parts) > 3
    assert parts[-1] == whole.model_dump()
    cities = [part["city"] for part in parts if "city" in part]
    assert all(whole.city.startswith(one) for one in cities) and len(set(cities)) > 2


@pytest.mark.parametrize("door", DOORS)
async def test_tools_first_then_the_schema(door: str, llama_tools: LlamaServer) -> None:
    """llama.cpp's grammar suppresses tools, so it waits: call, babble, then the held answer."""

    @tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        return "sunny"

    with watched(llama_tools) as proxy:
        model = DOORS[door](proxy.base_url)
        async with Agent(model, tools=[get_weather], temperature=0, output_type=Place, output_retries=0) as agent:
            events = [event async for event in agent.stream("Weather?")]
        sent = proxy.chats
    result = events[-1]
    assert isinstance(result, ResultMessage) and isinstance(result.structured_output, Place), result
    assert sum(isinstance(event, ToolCompleted) for event in events) == 1
    assert [("tools" in one, "response_format" in one) for one in (chat.asked for chat in sent)] == [
        (True, False),
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("door", DOORS)
async def test_a_probe_that_was_kept_is_followed(door: str, llama_tools: LlamaServer) -> None:
    server = await probe(llama_tools.base_url)
    assert server is not None
    model = DOORS[door](llama_tools.base_url)
    verdict = await probe_capabilities(model, server.models[0])
    assert verdict.enforces_schema and not verdict.schema_with_tools
    Verdicts.load().put(identity(server, server.models[0], door), verdict)
    forget_servers()
    assert await known_verdict(model, may_probe=False) == verdict
    async with Agent(model, fallback_models=["llamacpp/other"], temperature=0) as agent:
        assert isinstance((await agent.query("Where?", output_type=Place)).data, Place)


@pytest.mark.parametrize("door", DOORS)
async def test_a_final_tool(door: str, llama_tools: LlamaServer) -> None:
    async with Agent(DOORS[door](llama_tools.base_url), temperature=0, output_mode="tool") as agent:
        answer = await agent.query("Where?", output_type=Place)
    assert isinstance(answer.data, Place) and [call.name for call in answer.tool_calls] == ["final_answer"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_prompt_alone_does_not_help_a_model_that_babbles(door: str, llama: LlamaServer) -> None:
    async with Agent(DOORS[door](llama.base_url), temperature=0, output_mode="prompt", output_retries=1) as agent:
        with pytest.raises(OutputError) as failed:
            await agent.query("Where?", output_type=Place)
        assert len(failed.value.reasons) == 2 and failed.value.text


async def test_a_conversation_goes_on_after_a_typed_answer(llama_tools: LlamaServer) -> None:
    async with Agent("tiny", base_url=llama_tools.base_url, temperature=0) as agent, agent.create_session() as session:
        for mode in ("schema", "tool"):
            answer = await session.query("Where?", output_type=Place, output_mode=mode)
            assert isinstance(answer.data, Place)
            assert (await session.query("And then?")).data is None
        assert (await session.query("How many?", output_type=int)).data is not None
