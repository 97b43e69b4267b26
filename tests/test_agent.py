"""Agent: spellings, overrides, subclassing, the synchronous way in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from support.replay_servers import ollama

from any_agent import Agent, AgentOptions, ContextStrategy, Model, ToolChoice, tool
from any_agent.config import Route
from any_agent.errors import AllModelsFailedError, ConfigurationError, InvalidInputError, ServerError
from any_agent.models.openai_wire import DirectModel
from any_agent.testing import ChaosModel, EchoModel, LoopbackServer, ScriptedModel, chat_chunks, sse, token_usage
from any_agent.types import AttemptFailed, ResultMessage, SystemMessage, TextDelta, Usage


@tool
def look() -> str:
    """Look."""
    return "seen"


@pytest.fixture
def server() -> Iterable[LoopbackServer]:
    with LoopbackServer() as running:
        running.reply("/v1/chat/completions", sse(chat_chunks(["Hel", "lo"], usage=token_usage(7, 2))))
        yield running


@pytest.mark.parametrize(
    "make",
    [
        lambda url: Agent("m", base_url=url),
        lambda url: Agent(model="m", api_base=url),
        lambda url: Agent(options=AgentOptions(model="m", base_url=url)),
        lambda url: Agent(options={"model": "m", "api_base": url}),
        lambda url: Agent("m", options=AgentOptions(base_url=url)),
        lambda url: Agent(provider="lm_studio", model="m", api_base=url),
        lambda url: Agent("lm_studio/m", base_url=url),
    ],
)
async def test_every_spelling_reaches_the_server(make: Any, server: LoopbackServer) -> None:
    async with make(server.base_url) as agent:
        answer = await agent.query("Hi")
        assert (answer, answer.usage, answer.finish_reason) == ("Hello", Usage(7, 2), "stop")
        assert agent.model in ("m", "lm_studio/m") and "m" in repr(agent)
    (request,) = server.requests
    assert request.json["messages"] == [{"role": "user", "content": "Hi"}] and request.json["model"] == "m"
    assert "authorization" not in request.headers and "temperature" not in request.json and "tools" not in request.json


async def test_options_reach_the_wire(server: LoopbackServer) -> None:
    options = AgentOptions(
        model="m", base_url=server.base_url, api_key="k1", system_prompt="Be kind", temperature=0.5, max_tokens=9, top_p=0.9,
        frequency_penalty=0.1, presence_penalty=0.2, seed=3, stop=["x"], tools=[look], tool_choice=ToolChoice.REQUIRED,
        parallel_tool_calls=False, extra_body={"top_k": 4}, organization="org",
    )  # fmt: skip
    async with Agent(options=options) as agent:
        await agent.query("Hi", temperature=0, reasoning_effort="low")
        await agent.query("Hi", {"response_format": {"type": "json_object"}}, tool_choice="look", enable_tools=True)
        await agent.query("Hi", AgentOptions(enable_tools=False))
    first, second, third = (r.json for r in server.requests)
    assert first["messages"][0] == {"role": "system", "content": "Be kind"}
    wanted = {
        "temperature": 0,
        "max_tokens": 9,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 3,
    }
    assert {k: first[k] for k in wanted} == wanted
    assert (first["tool_choice"], first["parallel_tool_calls"], first["top_k"]) == ("required", False, 4)
    assert first["reasoning_effort"] == "low" and first["stop"] == ["x"]
    assert second["response_format"] == {"type": "json_object"} and second["temperature"] == 0.5
    assert second["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert not third.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    assert server.requests[0].headers["authorization"] == "Bearer k1"
    assert server.requests[0].headers["openai-organization"] == "org"


async def test_a_typo_is_told_before_anything_is_sent(server: LoopbackServer) -> None:
    async with Agent("m", base_url=server.base_url) as agent:
        with pytest.raises(ConfigurationError, match="did you mean 'temperature'"):
            await agent.query("Hi", temprature=1)
    assert server.requests == []


async def test_two_agents_never_mix_their_keys(server: LoopbackServer) -> None:
    async def ask(key: str) -> None:
        async with Agent(key, base_url=server.base_url, api_key=key) as agent:
            await asyncio.gather(*[agent.query("Hi") for _ in range(5)])

    await asyncio.gather(ask("k1"), ask("k2"), ask("k3"))
    assert len(server.requests) == 15
    assert all(r.headers["authorization"] == f"Bearer {r.json['model']}" for r in server.requests)


async def test_prompts_of_every_kind() -> None:
    async def prompts() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    agent = Agent(EchoModel())
    assert await agent.query("text") == "text"
    assert await agent.query([{"role": "system", "content": "s"}, {"role": "user", "content": "list"}]) == "list"
    assert await agent.query(prompts()) == "b"
    with pytest.raises(InvalidInputError):
        await agent.query("")
    with pytest.raises(InvalidInputError):
        await agent.query([{"role": "wizard", "content": "x"}])


async def test_streaming_spellings() -> None:
    agent = Agent(EchoModel(chunk_chars=2))
    assert [c async for c in await agent.query("abcdef", stream=True)] == ["ab", "cd", "ef"]
    assert [c async for c in agent.stream_query("abcdef")] == ["ab", "cd", "ef"]
    by_default = Agent(EchoModel(chunk_chars=2), stream_by_default=True, stream_chunk_size=4)
    assert [c async for c in await by_default.query("abcdef")] == ["abcd", "ef"]
    assert await by_default.query("abcdef", stream=False) == "abcdef"
    broken = Agent(ScriptedModel([["ab", ServerError("cut")]]), max_retries=0)
    got = []
    with pytest.raises(ServerError):
        async for chunk in broken.stream_query("x"):
            got.append(chunk)
    assert got == ["ab"]


async def test_events_end_in_one_result() -> None:
    events = [e async for e in Agent(EchoModel()).stream("hi")]
    assert isinstance(events[0], TextDelta) and isinstance(events[-1], ResultMessage)
    assert events[-1].timings.first_token_s is not None and events[-1].duration_ms >= events[-1].duration_api_ms >= 0


async def test_session_ids_go_on() -> None:
    model = ScriptedModel(["1", "2", "3"])
    async with Agent(model) as agent:
        await agent.query("a", session_id="s")
        await agent.query("b", session_id="s")
        await agent.query("c")
    assert [len(r.messages) for r in model.requests] == [1, 3, 1]


class Editor(Agent):
    def build_system_prompt(self) -> str:
        return "You edit."

    def build_tools(self) -> list[Any]:
        return [look]


async def test_subclass_points() -> None:
    model = ScriptedModel(["x", "y"])
    agent = Editor(model)
    await agent.query("hi")
    assert model.requests[0].messages[0] == SystemMessage("You edit.") and model.requests[0].tools[0].name == "look"
    await agent.query("hi", system_prompt="Other", tools=[])
    assert model.requests[1].messages[0] == SystemMessage("Other") and model.requests[1].tools == ()


async def test_make_model_can_be_replaced() -> None:
    class Own(Agent):
        def make_model(self, route: Route, options: AgentOptions) -> Model:
            return EchoModel(name=f"own:{route.model}")

    answer = await Own("m", base_url="http://127.0.0.1:9/v1").query("hi")
    assert answer == "hi" and answer.model == "own:m"


async def test_registering_tools() -> None:
    model = ScriptedModel([{"name": "look"}, "done", "x"])
    agent = Agent(model)
    assert agent.register_tool(look) is look
    assert await agent.query("go") == "done"
    with pytest.raises(ConfigurationError, match="registered already"):
        agent.register_tool(look)
    with pytest.raises(ConfigurationError, match="no built-in tool 'read_file'"):
        await Agent(EchoModel(), tools=["read_file"]).query("x")


async def test_fallback_models_have_their_own_address(server: LoopbackServer) -> None:
    with LoopbackServer() as down:
        down.reply("/v1/chat/completions", {"error": {"message": "bad key"}})
        async with Agent(
            "first",
            base_url=down.base_url,
            api_key="key-one",
            fallback_models=[{"model": "second", "base_url": server.base_url, "api_key": "key-two"}],
            max_retries=0,
        ) as agent:
            answer = await agent.query("Hi")
            assert answer == "Hello" and [(a.model, a.is_ok) for a in answer.attempts] == [
                ("first", False),
                ("second", True),
            ]
            assert answer.attempts[0].then == "next model: second"
            events = [e async for e in agent.stream("Hi")]
            assert sum(isinstance(e, AttemptFailed) for e in events) == 1
        assert {r.headers.get("authorization") for r in down.requests} == {"Bearer key-one"}
        assert {r.headers.get("authorization") for r in server.requests} == {"Bearer key-two"}
        alone = Agent("x", base_url=down.base_url, fallback_models=["y"], max_retries=0)
        with pytest.raises(AllModelsFailedError, match="all 2 models failed"):
            await alone.query("Hi")
        await alone.aclose()


async def test_a_model_object_may_have_fallbacks(server: LoopbackServer) -> None:
    first = ChaosModel(ServerError("down"), every=1)
    async with Agent(
        first, fallback_models=[{"model": "m", "base_url": server.base_url}], retry_on_error=False
    ) as agent:
        assert await agent.query("Hi") == "Hello"


def test_routes_and_providers() -> None:
    assert Agent("gpt-4").provider == "openai"
    assert Agent("claude-3").provider == "anthropic"
    assert Agent("ollama/llama3.1").provider == "ollama"
    assert Agent("ollama/llama3.1").route.door == "direct" and Agent("gpt-4").route.door == "litellm"
    assert isinstance(Agent("ollama/x").make_model(Agent("ollama/x").route, AgentOptions()), DirectModel)
    with pytest.raises(ConfigurationError):
        _ = Agent("mistral-7b-instruct").route
    assert Agent(EchoModel()).provider is None and Agent(EchoModel()).model == "echo"


def test_the_synchronous_way_in() -> None:
    agent = Agent(EchoModel())
    assert agent.query_sync("hi") == "hi" and agent.query_sync("hi", session_id="s") == "hi"
    with pytest.raises(ServerError):
        Agent(ScriptedModel([ServerError("x")])).query_sync("hi", max_retries=0)


async def test_the_synchronous_way_is_refused_inside_a_loop() -> None:
    with pytest.raises(InvalidInputError, match=r"await agent.query"):
        Agent(EchoModel()).query_sync("hi")


async def test_the_log_holds_no_prompt_and_no_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "any_agent")
    model = ScriptedModel([ServerError("down"), {"name": "look"}, "my secret answer"])
    agent = Agent(model, tools=[look], api_key="sk-secret", log_level="DEBUG", retry_delay=0, enable_metrics=True)
    await agent.query("my secret prompt")
    assert "ServerError" in caplog.text and "look" in caplog.text and "2 turns" in caplog.text
    assert "secret" not in caplog.text
    caplog.clear()
    await Agent(ScriptedModel([ServerError("x"), "y"]), enable_logging=False, retry_delay=0).query("z")
    assert caplog.text == ""


async def test_an_agent_can_be_used_again_after_closing(server: LoopbackServer) -> None:
    agent = Agent("m", base_url=server.base_url)
    for _ in range(2):
        assert await agent.query("Hi") == "Hello"
        await agent.aclose()
        await agent.aclose()


async def test_project_files_give_options(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".agent").mkdir()
    text = (
        f"agent:\n  model: from-file\n  api_base: {server.base_url}\noptions:\n  temperature: 0.3\n  max_tokens: 77\n"
    )
    (tmp_path / ".agent/config.yml").write_text(text)
    monkeypatch.chdir(tmp_path)
    async with Agent(max_tokens=5) as agent:
        assert await agent.query("Hi") == "Hello"
    body = server.requests[0].json
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("from-file", 0.3, 5)


def test_options_are_checked_when_made() -> None:
    for wrong, word in [
        ({"temperature": 3}, "less than or equal to 2"), ({"max_tokens": 0}, "greater"), ({"top_p": 1.1}, "1"),
        ({"max_retries": -1}, "0"), ({"log_level": "loud"}, "DEBUG"), ({"door": "back"}, "direct"), ({"timeout": 0}, "0"),
        ({"hooks": {"nope": []}}, "pre_tool_use"), ({"context_strategy": "x"}, "sliding"), ({"colour": 1}, "no option"),
    ]:  # fmt: skip
        with pytest.raises(ConfigurationError, match=word) as caught:
            AgentOptions(**wrong)
        assert caught.value.field == next(iter(wrong))
    with pytest.raises(ConfigurationError) as hidden:
        AgentOptions(api_key=12345)
    assert "12345" not in str(hidden.value)


def test_options_spellings() -> None:
    options = AgentOptions(context_strategy="sliding", tools=None, hooks=None, api_base="http://x", context_window=4096)
    assert options.context_strategy is ContextStrategy.SLIDING_WINDOW and options.tools == [] and options.hooks == {}
    assert options.address == "http://x" and options.window_tokens == 4096
    assert options.replace(temperature=1).temperature == 1 and options.validate() is None
    assert AgentOptions(api_key="sk-secret").api_key == "sk-secret" and "sk-secret" not in repr(
        AgentOptions(api_key="sk-secret")
    )
    undocumented = [name for name, field in AgentOptions.model_fields.items() if not field.description]
    assert undocumented == []


async def test_overrides_reach_the_model_that_is_made() -> None:
    made: list[dict[str, Any]] = []

    class Own(Agent):
        def make_model(self, route: Route, options: AgentOptions) -> Model:
            made.append(options.litellm_kwargs)
            return EchoModel()

    agent = Own("m", base_url="http://127.0.0.1:9/v1", litellm_kwargs={"a": 1})
    await agent.query("x")
    await agent.query("x", litellm_kwargs={"b": 2})
    assert made == [{"a": 1}, {"b": 2}]


async def test_auto_takes_the_best_loaded_model() -> None:
    with LoopbackServer() as server:
        ollama(server)
        server.reply("/v1/chat/completions", sse(chat_chunks(["Hel", "lo"])))
        async with Agent("auto", base_url=server.base_url) as agent:
            assert await agent.query("Hi") == "Hello"
            assert agent.options.base_url == server.base_url
            assert agent.model != "auto"
