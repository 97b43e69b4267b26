"""The real llama.cpp servers of the fixtures do what the other tests count on. Plain aiohttp, no door of ours."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from support.llama import LlamaServer, start_llama
from support.tiny_model import write_tiny_model

pytestmark = pytest.mark.real

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    # After a stream llama.cpp hangs up without a word, whatever its Keep-Alive header says.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def request_for(server: LlamaServer, messages: list[Any], **more: Any) -> dict[str, Any]:
    body = {"model": server.model, "messages": messages, "temperature": 0, "seed": 1, **more}
    return {"url": f"{server.base_url}/chat/completions", "json": body, "headers": server.headers}


async def ask(http: aiohttp.ClientSession, server: LlamaServer, messages: list[Any], **more: Any) -> dict[str, Any]:
    async with http.post(**request_for(server, messages, **more)) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def refusal(http: aiohttp.ClientSession, **request: Any) -> tuple[int, dict[str, Any]]:
    async with http.post(**request) as response:
        return response.status, (await response.json())["error"]


async def stream(http: aiohttp.ClientSession, server: LlamaServer, messages: list[Any], **more: Any) -> list[Any]:
    """The chunks of a streamed answer, without the closing [DONE]."""
    async with http.post(**request_for(server, messages, stream=True, **more)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = [line.decode().strip() async for line in response.content]
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def is_prose(text: str) -> bool:
    return len(text) > 5 and text.isascii() and text.isprintable()


# --- text


async def test_text_is_short_printable_and_ends(http: aiohttp.ClientSession, llama: LlamaServer) -> None:
    texts = set()
    for prompt in ("hi", "Write a poem about the sea.", "2+2", "é\nwhat?", "x" * 1500):
        answer = await ask(http, llama, [{"role": "system", "content": "Be kind."}, user(prompt)])
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert is_prose(choice["message"]["content"])
        assert 10 <= answer["usage"]["completion_tokens"] <= 60
        texts.add(choice["message"]["content"])
    assert len(texts) == 5, "the answer depends on the prompt"


async def test_the_same_question_has_the_same_answer(http: aiohttp.ClientSession, llama: LlamaServer) -> None:
    answers = await asyncio.gather(*(ask(http, llama, [user("again")]) for _ in range(6)))  # on 2 slots
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1


async def test_the_history_matters(http: aiohttp.ClientSession, llama: LlamaServer) -> None:
    history = [user("My name is Ada."), {"role": "assistant", "content": "Hello Ada."}]
    alone = await ask(http, llama, [user("Who am I?")])
    after = await ask(http, llama, [*history, user("Who am I?")])
    assert alone["choices"][0]["message"]["content"] != after["choices"][0]["message"]["content"]
    assert after["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"]


async def test_streamed_text_is_the_same_text(http: aiohttp.ClientSession, llama: LlamaServer) -> None:
    whole = await ask(http, llama, [user("stream")])
    *chunks, last = await stream(http, llama, [user("stream")], stream_options={"include_usage": True})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    assert "".join(delta.get("content") or "" for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], whole["usage"]["completion_tokens"])
    assert all("usage" not in chunk for chunk in await stream(http, llama, [user("stream")]))


async def test_json_of_a_schema(http: aiohttp.ClientSession, llama: LlamaServer) -> None:
    properties = {
        "city": {"type": "string"},
        "n": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    response_format = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    for prompt in ("where?", "and there?"):
        answer = await ask(http, llama, [user(prompt)], response_format=response_format)
        assert answer["choices"][0]["finish_reason"] == "stop"
        place = json.loads(answer["choices"][0]["message"]["content"])
        assert {name: type(value) for name, value in place.items()} == {"city": str, "n": int, "tags": list}
        assert place["city"]


# --- tools


async def test_a_tool_round_trip_ends_in_text(http: aiohttp.ClientSession, llama_tools: LlamaServer) -> None:
    messages: list[Any] = [{"role": "system", "content": "Help."}, user("How is the weather in Paris?")]
    for question in ("And in Rome?", "And in Oslo?"):
        called = (await ask(http, llama_tools, messages, tools=[WEATHER]))["choices"][0]
        assert called["finish_reason"] == "tool_calls"
        (call,) = called["message"]["tool_calls"]
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"])["city"].strip()
        messages += [called["message"], {"role": "tool", "tool_call_id": call["id"], "content": "18 degrees"}]
        told = (await ask(http, llama_tools, messages, tools=[WEATHER]))["choices"][0]
        assert (told["finish_reason"], told["message"].get("tool_calls")) == ("stop", None)
        assert is_prose(told["message"]["content"])
        messages += [told["message"], user(question)]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_tool_round_trips_end_whatever_the_seed(
    http: aiohttp.ClientSession, llama_tools: LlamaServer, temperature: float
) -> None:
    for seed in range(10):
        style: dict[str, Any] = {"tools": [ADD, WEATHER], "temperature": temperature, "seed": seed}
        messages: list[Any] = [user(f"question {seed}")]
        message = (await ask(http, llama_tools, messages, **style))["choices"][0]["message"]
        (call,) = message["tool_calls"]
        wanted = {"add": {"a", "b"}, "get_weather": {"city"}}[call["function"]["name"]]
        assert json.loads(call["function"]["arguments"]).keys() == wanted
        messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": f"result {seed}"}]
        told = (await ask(http, llama_tools, messages, **style))["choices"][0]
        assert (told["finish_reason"], told["message"].get("tool_calls")) == ("stop", None)


async def test_a_streamed_tool_call(http: aiohttp.ClientSession, llama_tools: LlamaServer) -> None:
    chunks = await stream(http, llama_tools, [user("weather?")], tools=[WEATHER])
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    first, *others = [fragment for delta in deltas for fragment in delta.get("tool_calls", [])]
    assert (first["index"], bool(first["id"]), first["function"]["name"]) == (0, True, "get_weather")
    assert len(others) > 3, "the arguments come in pieces"
    arguments = first["function"]["arguments"] + "".join(other["function"]["arguments"] for other in others)
    assert json.loads(arguments).keys() == {"city"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_without_tools_the_tool_model_talks(http: aiohttp.ClientSession, llama_tools: LlamaServer) -> None:
    choice = (await ask(http, llama_tools, [user("weather?")]))["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert is_prose(choice["message"]["content"])
    assert "<tool_call>" not in choice["message"]["content"]


async def test_the_plain_model_calls_no_tool(http: aiohttp.ClientSession, llama: LlamaServer) -> None:
    choice = (await ask(http, llama, [user("weather?")], tools=[WEATHER]))["choices"][0]
    assert (choice["finish_reason"], choice["message"].get("tool_calls")) == ("stop", None)


# --- refusals


async def test_only_the_right_key_is_let_in(http: aiohttp.ClientSession, llama_key: LlamaServer) -> None:
    request = request_for(llama_key, [user("hi")])
    assert (await ask(http, llama_key, [user("hi")]))["choices"]
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        status, error = await refusal(http, **{**request, "headers": headers})
        assert (status, error["type"]) == (401, "authentication_error")
    async with http.get(f"{llama_key.root_url}/health") as response:
        assert response.status == 200
    assert llama_key.slots_busy() == 0


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_prompt_over_the_window_is_a_400(
    http: aiohttp.ClientSession, llama_small: LlamaServer, is_streamed: bool
) -> None:
    request = request_for(llama_small, [user("x" * 600)], stream=is_streamed)
    status, error = await refusal(http, **request)
    assert (status, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", 512)
    assert error["n_prompt_tokens"] > 600
    assert (await ask(http, llama_small, [user("x" * 400)]))["choices"][0]["finish_reason"] == "stop"


async def test_the_window_told_is_the_slots(
    http: aiohttp.ClientSession, llama: LlamaServer, llama_small: LlamaServer
) -> None:
    for server in (llama, llama_small):
        async with http.get(f"{server.base_url}/models") as response:
            (row,) = (await response.json())["data"]
        assert (row["id"], row["meta"]["n_ctx"]) == ("tiny", server.slot_ctx)


# --- clients that leave, servers that end


async def test_a_client_that_leaves_frees_the_slot(http: aiohttp.ClientSession, llama_endless: LlamaServer) -> None:
    made_before = llama_endless.metrics()["tokens_predicted_total"]
    async with http.post(**request_for(llama_endless, [user("talk")], stream=True)) as response:
        for _ in range(40):
            assert await response.content.readline()
        assert llama_endless.slots_busy() == 1
    assert await llama_endless.until_idle(timeout_s=5.0) < 2.0
    made = llama_endless.metrics()["tokens_predicted_total"] - made_before
    assert 10 < made < llama_endless.slot_ctx / 2


async def test_the_endless_model_stops_only_at_the_limit(
    http: aiohttp.ClientSession, llama_endless: LlamaServer
) -> None:
    answer = await ask(http, llama_endless, [user("talk")], max_tokens=400)
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 400)


async def test_a_busy_server_is_not_idle(llama_endless: LlamaServer, http: aiohttp.ClientSession) -> None:
    async with http.post(**request_for(llama_endless, [user("talk")], stream=True)) as response:
        await response.content.readline()
        with pytest.raises(TimeoutError, match="1 slots"):
            await llama_endless.until_idle(timeout_s=0.02)
    await llama_endless.until_idle()


def test_the_child_ends_with_its_standard_input(tmp_path: Path) -> None:
    started_s = time.process_time()
    model = write_tiny_model(tmp_path / "tiny.gguf")
    assert time.process_time() - started_s < 1.0
    with start_llama(model) as server:
        os.kill(server.pid, 0)
    assert server.child.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"failed to open GGUF file .*missing\.gguf"):
        start_llama(tmp_path / "missing.gguf")
