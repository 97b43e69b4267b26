"""The LiteLLM door. The number in a test's name is the line of the checklist it holds; tests/test_doors.py holds more of them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from support.replay_servers import ollama as replay_ollama

from any_agent.errors import (
    AnyAgentError,
    ConfigurationError,
    ContextOverflowError,
    EmptyResponseError,
    InvalidResponseError,
    ModelNotFoundError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
    StreamInterruptedError,
    ToolsUnsupportedError,
)
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.models.litellm.routes import NO_KEY, address
from any_agent.models.litellm.stream import Reading
from any_agent.models.litellm.tap import Patience, Tap
from any_agent.models.litellm_wrapper import LiteLLMModel, _cost_usd, _load
from any_agent.models.streaming import Fold
from any_agent.models.wire import to_wire
from any_agent.testing.loopback import LoopbackServer
from any_agent.testing.wire_bytes import (
    EVENT_STREAM,
    JSON_BODY,
    WireCall,
    WireReply,
    chat_chunks,
    error,
    error_body,
    sse,
    sse_event,
    token_usage,
)
from any_agent.types import (
    AssistantMessage,
    AttemptFailed,
    Delta,
    ImageBlock,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ToolCallDelta,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    Usage,
    UserMessage,
    text_of,
)

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

KEY = "sk-test-0123456789"
TOOL = ToolSpec(
    "f", "does", {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
)
HELLO = sse(chat_chunks(["Hel", "lo"], usage=token_usage(7, 3)))


def ask(*messages: Any, **more: Any) -> ModelRequest:
    return ModelRequest(list(messages) or [UserMessage("hi")], **{"timeout_s": 10.0, **more})


async def deltas_of(model: LiteLLMModel | FallbackModel, request: ModelRequest | None = None) -> list[Delta]:
    try:
        async with aclosing(model.stream(request or ask())) as deltas:  # type: ignore[type-var]
            return [delta async for delta in deltas]
    finally:
        await model.aclose()


async def answer(model: LiteLLMModel, request: ModelRequest | None = None) -> AssistantMessage:
    fold = Fold()
    for delta in await deltas_of(model, request):
        fold.add(delta)
    return fold.message()


async def failure(model: LiteLLMModel, request: ModelRequest | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await answer(model, request)
    return caught.value


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


# ------------------------------------------------------------------ what other protocols look like


def ollama(*messages: dict[str, Any], done: bool = True, counts: bool = True) -> WireReply:
    lines = [{"model": "tiny", "message": {"role": "assistant", **m}, "done": False} for m in messages]
    if done:
        told = {"prompt_eval_count": 7, "eval_count": 3} if counts else {}
        end = {"model": "tiny", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        lines.append({**end, **told})
    return WireReply(
        [json.dumps(line).encode() + b"\n" for line in lines], headers={"Content-Type": "application/x-ndjson"}
    )


def anthropic_events(*pieces: str, stop: bool = True, thinking: str = "", signature: str = "") -> list[bytes]:
    message = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-4-5"}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 11, "output_tokens": 1}}}
    ]
    if thinking:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        events.append({"type": "content_block_start", "index": 0, "content_block": block})
        for piece in (thinking[:2], thinking[2:]):
            delta = {"type": "thinking_delta", "thinking": piece}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        delta = {"type": "signature_delta", "signature": signature}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        events.append({"type": "content_block_stop", "index": 0})
    events.append({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}})
    for piece in pieces:
        events.append({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}})
    if stop:
        events.append({"type": "content_block_stop", "index": 1})
        events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}})
        events.append({"type": "message_stop"})
    return [sse_event(event, event=event["type"]) for event in events]


def gemini_events(*pieces: str, stop: bool = True) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": piece}], "role": "model"}, "index": 0}]} for piece in pieces
    ]
    if stop:
        events[-1]["candidates"][0]["finishReason"] = "STOP"
        events[-1]["usageMetadata"] = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
    return [sse_event(event, newline="\r\n") for event in events]


# The kinds of code in LiteLLM that one provider or another goes through: (provider, model, the good reply, its usage)
ROUTES: dict[str, tuple[str, str, Any, Usage]] = {
    "hosted_vllm": ("vllm", "tiny", HELLO, Usage(7, 3)),
    "lm_studio": ("lm_studio", "tiny", HELLO, Usage(7, 3)),
    "openai": ("openai", "gpt-4o", HELLO, Usage(7, 3)),
    "groq": ("groq", "tiny", HELLO, Usage(7, 3)),
    "mistral": ("mistral", "tiny", HELLO, Usage(7, 3)),
    "openrouter": ("openrouter", "a/tiny", HELLO, Usage(7, 3)),
    "deepseek": ("deepseek", "tiny", HELLO, Usage(7, 3)),
    "ollama_chat": ("ollama", "tiny", ollama({"content": "Hel"}, {"content": "lo"}), Usage(7, 3)),
    "anthropic": ("anthropic", "claude-sonnet-4-5", anthropic_events("Hel", "lo"), Usage(11, 7)),
    "gemini": ("gemini", "gemini-2.5-flash", gemini_events("Hel", "lo"), Usage(7, 3)),
}


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model_at(route: str, server: LoopbackServer, **more: Any) -> LiteLLMModel:
    provider, model, _, _ = ROUTES[route]
    base_url = server.root_url if route in ("anthropic", "gemini", "ollama_chat") else server.base_url
    return LiteLLMModel(model, provider=provider, **{"base_url": base_url, "api_key": KEY, **more})


async def test_every_route_streams(route: str, server: LoopbackServer) -> None:
    _, _, wire, usage = ROUTES[route]
    server.reply("*", wire)
    deltas = await deltas_of(model_at(route, server))
    assert "".join([d.text for d in deltas if isinstance(d, TextDelta)]) == "Hello"
    assert [d.text for d in deltas if isinstance(d, TextDelta)][:1] == ["Hel"], "it streams, in pieces"
    assert isinstance(deltas[-1], StreamEnd)
    assert sum(isinstance(d, StreamEnd) for d in deltas) == 1
    assert (deltas[-1].finish_reason, deltas[-1].usage) == ("stop", usage)
    assert deltas[-1].cost_usd is None, "a server on this machine has no known price"
    assert len(server.requests) == 1


# ------------------------------------------------------------------ a fresh interpreter: lines 1-4, 6, 7, 9, 10, 28, 37, 39, 40


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of tests/support/fresh_litellm.py: one child process for all of these tests."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / ".env").write_text("OPENAI_API_BASE=http://evil.invalid/v1\n")
    root = Path(__file__).parent.parent
    kept = {k: v for k, v in os.environ.items() if "PROXY" not in k.upper() and not k.startswith(("LITELLM", "COV"))}
    environment = {
        **kept,
        "PYTHONPATH": str(root),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "OPENAI_API_KEY": "sk-cloud-0123456789",
        "OLLAMA_API_KEY": "sk-cloud-0123456789",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "true",
    }
    child = subprocess.run(
        [sys.executable, "-W", "error", str(root / "tests/support/fresh_litellm.py"), str(folder / "report.json")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {**report, "stdout": child.stdout, "stderr": child.stderr, "log": (folder / "report.json.log").read_text()}


def test_01_import_is_silent_and_offline(fresh: dict[str, Any]) -> None:
    assert fresh["touched"] == ["127.0.0.1"], "a name was looked up, or another machine connected to"
    assert (fresh["stdout"], fresh["stderr"]) == ("", "")
    assert fresh["environment"]["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert fresh["user_said"] == {"LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "true"}, "the user's own value stays"
    assert "OPENAI_API_BASE" not in fresh["environment"], "a .env file in the working folder was read"


def test_02_litellm_is_imported_at_the_first_question(fresh: dict[str, Any]) -> None:
    assert fresh["imported"] == []
    assert fresh["imported_with_door"] == []
    assert fresh["litellm_loaded_once"]


def test_03_no_tokenizer_is_downloaded(fresh: dict[str, Any]) -> None:
    assert fresh["flags"] == [True, True]
    assert fresh["first_token_s"] < 10  # of lm_studio/llama-3-8b; with the download it is 48 s


def test_04_nothing_global_is_written(fresh: dict[str, Any]) -> None:
    assert fresh["changed"] == []
    assert fresh["prices_changed"] == []
    # local models only, by exactly their names: without it LiteLLM searches its price list 70 times a call
    assert fresh["models_added"] == ["lm_studio/llama-3-8b", "lm_studio/tiny", "ollama_chat/m"]


async def test_05_two_keys_never_mix() -> None:
    with LoopbackServer() as one, LoopbackServer() as two:
        for server in (one, two):
            server.reply("*", WireReply(HELLO, headers=EVENT_STREAM, pause_s=0.01))
        models = [
            LiteLLMModel("tiny", provider=provider, base_url=server.base_url, api_key=f"{KEY}-{name}")
            for provider in ("vllm", "lm_studio", "openai")
            for name, server in (("one", one), ("two", two))
        ]
        texts = await asyncio.gather(*[answer(model) for model in models * 3])
        assert [text_of(text) for text in texts] == ["Hello"] * 18
        assert {r.headers["authorization"] for r in one.requests} == {f"Bearer {KEY}-one"}
        assert {r.headers["authorization"] for r in two.requests} == {f"Bearer {KEY}-two"}
        assert len(one.requests) == len(two.requests) == 9


def test_06_a_key_of_the_environment_never_reaches_a_local_server(fresh: dict[str, Any]) -> None:
    assert fresh["keys_seen"] == ["Bearer k", f"Bearer {NO_KEY}"]


@pytest.mark.parametrize(
    ("model", "provider", "base_url", "key"),
    [
        ("openai/gpt-4o", None, None, "sk-env"),
        ("gpt-4o", "openai", "https://api.openai.com/v1", "sk-env"),
        ("gpt-4o", "openai", "http://api.openai.com/v1", NO_KEY),
        ("gpt-4o", "openai", "https://api.openai.com.evil.example/v1", NO_KEY),
        ("gpt-4o", "openai", "https://gateway.example/v1", NO_KEY),
        ("gpt-4o", "openai", "http://127.0.0.1:1234/v1", NO_KEY),
        ("openai/gpt-4o", None, "http://127.0.0.1:5555/v1", NO_KEY),
        ("lm_studio/x", None, "http://127.0.0.1:1234/v1", NO_KEY),
        ("ollama/x", None, "http://127.0.0.1:11434", NO_KEY),
        ("x", None, "http://127.0.0.1:8080/v1", NO_KEY),
    ],
)
def test_06_where_the_key_of_the_environment_goes(
    model: str, provider: str | None, base_url: str | None, key: str, tmp_path: Path
) -> None:
    code = f"from any_agent.models.litellm.routes import address; print(address({model!r}, {provider!r}, {base_url!r}).api_key)"
    environment = {**os.environ, "OPENAI_API_KEY": "sk-env", "OLLAMA_API_KEY": "sk-env", "LM_STUDIO_API_KEY": "sk-env"}
    environment.pop("OPENAI_BASE_URL", None)
    environment.pop("OPENAI_API_BASE", None)
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == key


def test_06_a_redirect_of_the_environment_to_this_machine_gets_no_key() -> None:
    code = "from any_agent.models.litellm.routes import address; print(address('openai/gpt-4o').api_key)"
    environment = {**os.environ, "OPENAI_API_KEY": "sk-env", "OPENAI_BASE_URL": "http://localhost:1234/v1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == NO_KEY


LOCAL = ["lm_studio", "lmstudio", "hosted_vllm", "vllm", "ollama", "ollama_chat", "llamafile", "llamacpp", "llama.cpp"]
LOCAL += ["custom_openai", "litellm_proxy", "xinference", "openai_like", "openai_compatible"]


@pytest.mark.parametrize("name", LOCAL)
def test_07_local_route_without_base_is_refused(name: str) -> None:
    for model, provider in ((f"{name}/tiny", None), ("tiny", name)):
        with pytest.raises(ConfigurationError, match="base_url") as caught:
            LiteLLMModel(model, provider=provider)
        assert caught.value.field == "base_url"


def test_07_nothing_went_to_openai(fresh: dict[str, Any]) -> None:
    assert not [name for name in fresh["touched"] if "openai" in name]


async def test_07_a_compatible_provider_that_litellm_knows_no_address_of_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        await answer(LiteLLMModel("ai21/tiny"))


@pytest.mark.parametrize(
    ("provider", "base", "path"),
    [
        *[("vllm", tail, "/v1/chat/completions") for tail in ("", "/", "/v1", "/v1/", "/v1/chat/completions")],
        *[("lm_studio", tail, "/v1/chat/completions") for tail in ("", "/v1/", "/v1/chat/completions")],
        *[("ollama", tail, "/api/chat") for tail in ("", "/", "/v1", "/v1/", "/api", "/api/chat")],
        *[("anthropic", tail, "/v1/messages") for tail in ("", "/", "/v1", "/v1/messages")],
        ("vllm", "/deep/v1", "/deep/v1/chat/completions"),
        (None, "/v1", "/v1/chat/completions"),
    ],
)
async def test_08_base_is_normalised(provider: str | None, base: str, path: str, server: LoopbackServer) -> None:
    server.reply("*", error(418, "here"))
    found = await failure(LiteLLMModel("tiny", provider=provider, base_url=server.root_url + base))
    assert found.status == 418
    assert [request.path for request in server.requests] == [path]


@pytest.mark.parametrize(
    ("model", "provider", "base_url", "expected"),
    [
        ("tiny", "ollama", "http://h:1", "ollama_chat/tiny"),
        ("ollama/llama3.1:8b", None, "http://h:1", "ollama_chat/llama3.1:8b"),
        ("tiny", "LM-Studio", "http://h:1", "lm_studio/tiny"),
        ("lmstudio/qwen/qwen3-8b", None, "http://h:1", "lm_studio/qwen/qwen3-8b"),
        ("tiny", "llamacpp", "http://h:1", "hosted_vllm/tiny"),
        ("tiny", "llama.cpp", "http://h:1", "hosted_vllm/tiny"),
        ("vllm/tiny", None, "http://h:1", "hosted_vllm/tiny"),
        ("tiny", "openai_compatible", "http://h:1", "hosted_vllm/tiny"),
        ("qwen/qwen3-8b", None, "http://h:1", "hosted_vllm/qwen/qwen3-8b"),
        ("tiny", None, "https://models.example/v1", "hosted_vllm/tiny"),
        ("gpt-4o", "openai", "http://h:1", "openai/gpt-4o"),
        ("gpt-4o", None, None, "openai/gpt-4o"),
        ("anthropic/claude-x", None, None, "anthropic/claude-x"),
        ("openrouter/anthropic/claude-x", None, None, "openrouter/anthropic/claude-x"),
        ("bedrock/a.b-v1:0", None, None, "bedrock/a.b-v1:0"),
        ("sambanova/tiny", None, None, "sambanova/tiny"),
    ],
)
def test_08_models_are_spelled_as_litellm_wants_them(
    model: str, provider: str | None, base_url: str | None, expected: str
) -> None:
    assert address(model, provider, base_url).model == expected


@pytest.mark.parametrize("model", ["", "/", "  "])
def test_08_no_model_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError):
        LiteLLMModel(model, base_url="http://h:1")


@pytest.mark.parametrize("model", ["foo/bar", "llama3"])
async def test_08_a_model_without_provider_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError, match="provider="):
        await answer(LiteLLMModel(model))


async def test_08_a_provider_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="anthropic"):
        await answer(LiteLLMModel("tiny", provider="anthropicc"))


def test_09_loopback_goes_round_the_proxy(fresh: dict[str, Any]) -> None:
    assert fresh["texts"] == {"hosted_vllm": "Hello", "lm_studio": "Hello", "openai": "Hello", "ollama": "Hi"}
    assert fresh["environment"]["NO_PROXY"] == "localhost,127.0.0.1,::1"


def test_10_tools_work_without_mcp(fresh: dict[str, Any]) -> None:
    assert (fresh["with_tools"], fresh["with_tools_sdk"]) == ("Hello", "Hello")


# ------------------------------------------------------------------ requests


@pytest.mark.parametrize("route", ["openai", "hosted_vllm", "ollama_chat", "anthropic", "gemini"])
async def test_11_exactly_as_many_requests_as_tries(route: str, server: LoopbackServer) -> None:
    assert importlib.util.find_spec("tenacity"), "with it installed LiteLLM would retry, even a 400"
    server.reply("*", error(500, "oops"))
    assert type(await failure(model_at(route, server))) is ServerError
    assert len(server.requests) == 1
    found = FallbackModel([model_at(route, server)], RetryPolicy(max_retries=2, delay_s=0.001))
    with pytest.raises(ServerError) as caught:
        await deltas_of(found)
    assert len(server.requests) == 4
    assert len(caught.value.attempts) == 3


async def test_12_a_typo_is_refused_and_nothing_sent(route: str, server: LoopbackServer) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens"):
        await answer(model_at(route, server), ask(params={"max_token": 5}))
    assert not server.requests


@pytest.mark.parametrize(
    "name", ["api_key", "num_retries", "fallbacks", "input_cost_per_token", "stream", "timeout", "messages"]
)
def test_12_what_the_door_decides_is_no_extra_parameter(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        LiteLLMModel("openai/gpt-4o", extra_params={name: 1})


async def test_12_extra_parameters_reach_litellm(server: LoopbackServer) -> None:
    server.reply("*", ollama({"content": "Hello"}))
    request = ask(params={"presence_penalty": 0.5})
    rejected = await failure(model_at("ollama_chat", server), request)
    assert type(rejected) is RequestRejectedError
    assert "drop_params" in str(rejected)
    assert not server.requests
    assert (
        text_of(await answer(model_at("ollama_chat", server, extra_params={"drop_params": True}), request)) == "Hello"
    )


async def test_13_no_word_that_was_not_asked(route: str, server: LoopbackServer) -> None:
    server.reply("*", ROUTES[route][2])
    await answer(
        model_at(route, server), ask(tool_choice="auto", params={"parallel_tool_calls": True, "temperature": None})
    )
    body = json.dumps(server.requests[0].json)
    for word in ("tool_choice", "parallel_tool", "tools", "temperature", "functionDeclarations"):
        assert word not in body


HISTORY = [
    SystemMessage("Be brief."),
    UserMessage("hi"),
    ToolMessage((ToolResultBlock("orphan", "nobody asked"),)),
    AssistantMessage(
        (
            TextBlock("so:"),
            ToolUseBlock("c1", "f", {"a": 1}),
            ToolUseBlock("c2", "f", {}),
            ToolUseError("not JSON", '{"a": ', "c3", "f"),
            ToolUseError("no name", "", "c4"),
        )
    ),
    ToolMessage((ToolResultBlock("c2", "two"), ToolResultBlock("c1", {"deep": [1]}))),
    UserMessage("and now?"),
]


async def test_14_any_history_can_be_sent(route: str, server: LoopbackServer) -> None:
    server.reply("*", ROUTES[route][2])
    assert text_of(await answer(model_at(route, server), ask(*HISTORY, tools=(TOOL,)))) == "Hello"
    body = server.requests[0].json
    sent = json.dumps(body)
    assert "orphan" not in sent and "nobody asked" not in sent
    assert "invalid_arguments" in sent, "what the model said wrongly is kept, as valid JSON"
    if route in ("hosted_vllm", "lm_studio", "openai", "groq", "deepseek"):
        calls = next(m for m in body["messages"] if m.get("tool_calls"))["tool_calls"]
        assert all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in calls)
        results = [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
        assert results == [c["id"] for c in calls] == ["c1", "c2", "c3", "c4"]


async def test_14_litellm_gets_copies(route: str, server: LoopbackServer) -> None:
    server.reply("*", ROUTES[route][2])
    request = ask(
        *HISTORY, UserMessage((TextBlock("see"), ImageBlock("data:image/png;base64,iVBORw0KGgo="))), tools=(TOOL,)
    )
    to_wire(request.messages)
    before = json.dumps([message.wire for message in request.messages])
    for _ in range(2):
        await answer(model_at(route, server), request)
        assert json.dumps([message.wire for message in request.messages]) == before
    assert server.requests[0].json == server.requests[1].json
    assert TOOL.parameters["additionalProperties"] is False, "LiteLLM strips it for vLLM, from its own copy"


async def test_15_signed_thinking_goes_back_to_its_provider_only(server: LoopbackServer) -> None:
    server.reply("/v1/messages", anthropic_events("yes", thinking="hmm, so", signature="c2ln"))
    server.reply("/v1/chat/completions", HELLO)
    asked = UserMessage("hi")
    said = await answer(model_at("anthropic", server), ask(asked))
    assert said.content == (ThinkingBlock("hmm, so", "c2ln"), TextBlock("yes"))
    (block,) = said.provider_fields["thinking_blocks"]
    assert (block["type"], block["thinking"], block["signature"]) == ("thinking", "hmm, so", "c2ln")
    assert said.provider == "anthropic"
    request = ask(asked, said, UserMessage("more"))
    await answer(model_at("anthropic", server), request)
    back = server.requests[-1].json["messages"][1]["content"]
    assert [(b["thinking"], b["signature"]) for b in back if b["type"] == "thinking"] == [("hmm, so", "c2ln")]
    await answer(model_at("hosted_vllm", server), request)
    assert "c2ln" not in json.dumps(server.requests[-1].json)


async def test_15_ids_of_calls_stay_as_they_are(server: LoopbackServer) -> None:
    server.reply("*", sse(chat_chunks(tool_calls=[WireCall("f", "{}", "call_1__thought__c2ln")])))
    (call,) = (await answer(model_at("hosted_vllm", server), ask(tools=(TOOL,)))).tool_calls
    assert call.id == "call_1__thought__c2ln"


async def test_16_tools_are_sent_to_a_model_litellm_does_not_know(server: LoopbackServer) -> None:
    server.reply("*", ollama({"content": "Hello"}))
    await answer(LiteLLMModel("ollama/strange:1b", base_url=server.root_url, context_window=4096), ask(tools=(TOOL,)))
    assert server.requests[0].json["tools"][0]["function"]["name"] == "f"
    litellm = _load()
    assert litellm.supports_function_calling("ollama_chat/strange:1b")
    assert litellm.model_cost["ollama_chat/strange:1b"]["max_input_tokens"] == 4096


async def test_16_a_local_model_of_a_famous_name_changes_no_price(server: LoopbackServer) -> None:
    litellm = _load()
    before = dict(litellm.model_cost["gpt-4o"])
    server.reply("*", HELLO)
    await answer(LiteLLMModel("gpt-4o", provider="vllm", base_url=server.base_url))
    assert litellm.model_cost["gpt-4o"] == before
    assert before["input_cost_per_token"] > 0


async def test_17_ollama_is_told_the_window(server: LoopbackServer) -> None:
    server.reply("*", ollama({"content": "Hello"}))
    await answer(
        model_at("ollama_chat", server, context_window=8192),
        ask(params={"max_tokens": 9}, extra_body={"keep_alive": 5}),
    )
    body = server.requests[0].json
    assert body["options"]["num_ctx"] == 8192
    assert body["options"]["num_predict"] == 9
    assert body["keep_alive"] == 5
    await answer(model_at("ollama_chat", server))
    assert "num_ctx" not in server.requests[1].json["options"]


async def test_17_extra_body_is_not_nested_for_anthropic(server: LoopbackServer) -> None:
    server.reply("*", anthropic_events("Hello"))
    await answer(
        model_at("anthropic", server), ask(extra_body={"top_k": 3, "model": "another", "api_base": "http://evil"})
    )
    body = server.requests[0].json
    assert (body["top_k"], body["model"]) == (3, "claude-sonnet-4-5")
    assert "extra_body" not in body


# ------------------------------------------------------------------ streaming (the wire itself: tests/test_doors.py)


async def test_18_usage_is_asked_for(server: LoopbackServer) -> None:
    server.reply("*", HELLO)
    for route in ("hosted_vllm", "lm_studio", "openai", "deepseek"):
        await answer(model_at(route, server))
        assert server.requests[-1].json["stream_options"] == {"include_usage": True}


async def test_19_calls_of_ollama_stay_apart(server: LoopbackServer) -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "f", "arguments": {"a": 2}}}]
    wire = ollama({"content": "", "tool_calls": calls[:1]}, {"content": "", "tool_calls": calls[1:]})
    server.reply("*", wire)
    said = await answer(model_at("ollama_chat", server), ask(tools=(TOOL,)))
    assert [c.input for c in said.tool_calls if isinstance(c, ToolUseBlock)] == [{"a": 1}, {"a": 2}]
    assert len({c.id for c in said.tool_calls}) == 2


async def test_19_fragments_are_passed_on_as_they_came(server: LoopbackServer) -> None:
    server.reply(
        "*", sse(chat_chunks(tool_calls=[WireCall("f", ['{"a"', ": 1}"], "c1"), WireCall("g", "{}", "c2", 0)]))
    )
    fragments = [d for d in await deltas_of(model_at("hosted_vllm", server)) if isinstance(d, ToolCallDelta)]
    assert [(f.id, f.name, f.arguments) for f in fragments] == [
        ("c1", "f", '{"a"'),
        (None, None, ": 1}"),
        ("c2", "g", "{}"),
    ]


@pytest.mark.parametrize("route", ["ollama_chat", "anthropic", "gemini", "groq"])
async def test_20_leaving_a_stream_leaves_the_server(route: str, server: LoopbackServer) -> None:
    begun = {
        "ollama_chat": ollama({"content": "Hello"}, done=False).chunks,
        "anthropic": anthropic_events("Hello", stop=False),
        "gemini": gemini_events("Hello", stop=False),
        "groq": sse(chat_chunks(["Hello"])[:-1], done=False),
    }[route]
    server.reply("*", WireReply(begun, headers=EVENT_STREAM, stall=True))
    model = model_at(route, server)
    async with aclosing(model.stream(ask())) as deltas:  # type: ignore[type-var]
        async for delta in deltas:
            assert delta == TextDelta("Hello")
            break
    await server.client_left(2.5)
    await model.aclose()


async def test_21_think_tags_of_ollama_at_any_border(server: LoopbackServer) -> None:
    for pieces in (["<think>hm", "m</think>\n\nyes"], ["<th", "ink>hmm</t", "hink>", "yes"], ["<think>hmm</think>yes"]):
        server.reply("*", ollama(*[{"content": piece} for piece in pieces]))
        said = await answer(model_at("ollama_chat", server))
        assert said.content == (ThinkingBlock("hmm"), TextBlock("yes")), pieces
    server.reply("*", ollama({"content": "", "thinking": "hmm"}, {"content": "about <think> tags"}))
    said = await answer(model_at("ollama_chat", server))
    assert said.content == (ThinkingBlock("hmm"), TextBlock("about <think> tags"))


CUT: dict[str, Any] = {
    "hosted_vllm": sse(chat_chunks(["Hel"])[:-1], done=False),
    "lm_studio": sse(chat_chunks(["Hel"])[:-1], done=False),
    "groq": sse(chat_chunks(["Hel"])[:-1], done=False),
    "mistral": sse(chat_chunks(["Hel"])[:-1], done=False),
    "openrouter": sse(chat_chunks(["Hel"])[:-1], done=False),
    "ollama_chat": ollama({"content": "Hel"}, done=False),
    "anthropic": anthropic_events("Hel", stop=False),
    "gemini": gemini_events("Hel", stop=False),
}
EMPTY: dict[str, Any] = {
    "hosted_vllm": sse(chat_chunks()),
    "lm_studio": sse(chat_chunks()),
    "groq": sse(chat_chunks()),
    "mistral": sse(chat_chunks()),
    "openrouter": sse(chat_chunks()),
    "ollama_chat": ollama(),
    "anthropic": anthropic_events(),
    "gemini": gemini_events(""),
}


@pytest.mark.parametrize("route", CUT)
async def test_22_a_cut_stream_is_no_answer(route: str, server: LoopbackServer) -> None:
    server.reply("*", CUT[route])
    found = await failure(model_at(route, server))
    assert type(found) is StreamInterruptedError
    assert (found.delivered_chars, found.retryable) == (3, False)


@pytest.mark.parametrize("route", EMPTY)
async def test_22_an_empty_stream_is_no_answer(route: str, server: LoopbackServer) -> None:
    server.reply("*", EMPTY[route])
    found = await failure(model_at(route, server))
    assert type(found) is EmptyResponseError
    assert (found.retryable, found.retry_limit) == (True, 1)


async def test_22_a_prompt_that_gemini_blocks(server: LoopbackServer) -> None:
    server.reply("*", [sse_event({"promptFeedback": {"blockReason": "SAFETY"}})])
    found = await failure(model_at("gemini", server))
    assert (type(found).__name__, found.retryable) == ("ContentPolicyError", False)


async def test_23_nothing_is_repeated_after_a_delta(server: LoopbackServer) -> None:
    server.reply("*", CUT["hosted_vllm"])
    model = FallbackModel(
        [model_at("hosted_vllm", server), model_at("lm_studio", server)], RetryPolicy(3, 0.001, resumes=False)
    )
    seen = []
    with pytest.raises(StreamInterruptedError) as caught:
        async with aclosing(model.stream(ask())) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                seen.append(delta)
    await model.aclose()
    assert seen == [TextDelta("Hel")]
    assert (len(server.requests), caught.value.delivered_chars) == (1, 3)


@pytest.mark.parametrize(
    ("route", "wire"),
    [
        ("hosted_vllm", sse(chat_chunks(["Hello"]))),
        ("lm_studio", sse(chat_chunks(["Hello"]))),
        ("mistral", sse(chat_chunks(["Hello"]))),
        ("ollama_chat", ollama({"content": "Hello"}, counts=False)),
    ],
)
async def test_24_usage_that_nobody_counted_is_none(route: str, wire: Any, server: LoopbackServer) -> None:
    server.reply("*", wire)
    said = await answer(model_at(route, server))
    assert (text_of(said), said.usage, said.cost_usd) == ("Hello", None, None)


# ------------------------------------------------------------------ errors


async def test_25_errors_are_ours_and_hold_no_key(route: str, server: LoopbackServer) -> None:
    server.reply("*", error(401, f"the key {KEY} is wrong"))
    found = await failure(model_at(route, server))
    assert type(found).__name__ == "AuthenticationError"
    assert (found.status, found.provider, found.retryable) == (401, ROUTES[route][0], False)
    assert found.__context__ is None and found.__cause__ is None, "LiteLLM's own holds the request with its headers"
    again = pickle.loads(pickle.dumps(found))
    assert (type(again), str(again), again.__dict__) == (type(found), str(found), found.__dict__)
    assert KEY not in f"{found!r}{found}{found.__dict__}"


async def test_26_a_refused_connection_says_what_to_start(route: str) -> None:
    with LoopbackServer() as gone:
        model = model_at(route, gone)
    found = await failure(model)
    assert type(found) is ServerUnreachableError, found
    assert str(gone.root_url) in str(found) and "start the model server" in str(found)
    assert found.status is None and found.retryable


async def test_27_what_litellm_cannot_send_is_no_network_error(server: LoopbackServer) -> None:
    strange = UserMessage((TextBlock("see"), ImageBlock("nonsense://x")))
    for route in ("anthropic", "gemini"):
        found = await failure(model_at(route, server), ask(strange))
        assert not found.retryable, found
        assert type(found) in (RequestRejectedError, InvalidResponseError)
    assert not server.requests


def test_28_a_missing_key_is_told_before_anything_is_sent(fresh: dict[str, Any]) -> None:
    message, is_retryable = fresh["without_key"]
    assert "api_key" in message and not is_retryable
    assert fresh["touched"] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "AuthenticationError"),
        (402, "QuotaExceededError"),
        (403, "PermissionDeniedError"),
        (404, "ModelNotFoundError"),
    ],
)
async def test_28_permanent_errors_are_never_retried(
    route: str, status: int, kind: str, server: LoopbackServer
) -> None:
    server.reply("*", error(status, "model tiny not found" if status == 404 else "no"))
    found = await failure(model_at(route, server))
    assert (type(found).__name__, found.status, found.retryable) == (kind, status, False)


async def test_28_used_up_quota_is_never_retried(route: str, server: LoopbackServer) -> None:
    message = "You exceeded your current quota, please check your plan and billing details."
    server.reply("*", error(429, message, type="insufficient_quota", code="insufficient_quota"))
    found = await failure(model_at(route, server))
    assert (type(found).__name__, found.status, found.retryable) == ("QuotaExceededError", 429, False)


TOO_LONG = "Trying to keep the first 11316 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_29_an_overflow_is_one_on_every_route(route: str, status: int, server: LoopbackServer) -> None:
    server.reply("*", error(status, TOO_LONG))
    found = await failure(model_at(route, server))
    assert isinstance(found, ContextOverflowError)
    assert (found.current_tokens, found.max_tokens, found.status, found.retryable) == (11316, 4096, status, False)


@pytest.mark.parametrize(
    ("route", "wire"),
    [
        ("hosted_vllm", sse([*chat_chunks(["Hel"])[:-1], error_body(TOO_LONG)])),
        ("lm_studio", sse([*chat_chunks(["Hel"])[:-1], error_body(TOO_LONG)])),
        ("groq", sse([*chat_chunks(["Hel"])[:-1], error_body(TOO_LONG)])),
        (
            "ollama_chat",
            WireReply(
                [*ollama({"content": "Hel"}, done=False).chunks, json.dumps({"error": TOO_LONG}).encode() + b"\n"],
                headers=JSON_BODY,
            ),
        ),
        (
            "anthropic",
            [
                *anthropic_events("Hel", stop=False),
                sse_event(
                    {"type": "error", "error": {"type": "invalid_request_error", "message": TOO_LONG}}, event="error"
                ),
            ],
        ),
    ],
)
async def test_29_an_overflow_in_mid_stream(route: str, wire: Any, server: LoopbackServer) -> None:
    server.reply("*", wire)
    found = await failure(model_at(route, server))
    assert isinstance(found, ContextOverflowError), found
    assert (found.current_tokens, found.max_tokens, found.delivered_chars) == (11316, 4096, 3)


async def test_29_a_rate_limit_in_tokens_is_no_overflow(route: str, server: LoopbackServer) -> None:
    message = "Rate limit reached on tokens per minute (TPM): Limit 30000, Used 29000, Requested 5000. Please try again in 8s."
    server.reply("*", error(429, message))
    assert type(await failure(model_at(route, server))) is RateLimitError


@pytest.mark.parametrize(
    ("status", "text", "kind", "hint"),
    [
        (400, "tiny does not support tools", ToolsUnsupportedError, "enable_tools"),
        (404, "model 'tiny' not found, try pulling it first", ModelNotFoundError, "load the model"),
    ],
)
async def test_30_kinds_of_their_own(
    route: str, status: int, text: str, kind: type[ProviderError], hint: str, server: LoopbackServer
) -> None:
    server.reply("*", error(status, text))
    found = await failure(model_at(route, server), ask(tools=(TOOL,)))
    assert type(found) is kind
    assert hint in str(found)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "86400"}, 120.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
async def test_31_retry_after_is_read(
    route: str, headers: dict[str, str], seconds: float | None, server: LoopbackServer
) -> None:
    server.reply("*", error(429, "slow down", headers=headers))
    found = await failure(model_at(route, server))
    assert (type(found), found.retry_after_s, found.retryable) == (RateLimitError, seconds, True)


async def test_32_an_error_in_mid_stream_is_unwrapped(server: LoopbackServer) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.reply("/v1/messages", [*anthropic_events("Hel", stop=False), sse_event(overloaded, event="error")])
    server.reply("/v1/chat/completions", sse([*chat_chunks(["Hel"])[:-1], error_body("boom")]))
    for route in ("anthropic", "lm_studio", "hosted_vllm"):
        found = await failure(model_at(route, server))
        assert type(found) is ServerError, found
        assert "overloaded" in str(found).lower() or "boom" in str(found)
        assert "MidStream" not in str(found)
        assert (found.delivered_chars, found.retryable) == (3, False)


async def test_32_a_stall_is_a_timeout(route: str, clock: Callable[[float], float], server: LoopbackServer) -> None:
    begun = CUT.get(route, CUT["hosted_vllm"])
    chunks = begun.chunks if isinstance(begun, WireReply) else begun
    server.reply("*", WireReply(chunks, headers=EVENT_STREAM, stall=True))
    found = await failure(model_at(route, server), ask(timeout_s=clock(0.3)))
    assert type(found) is ProviderTimeoutError
    assert found.delivered_chars == 3
    await server.client_left(2.5)


async def test_33_bytes_that_are_no_answer(server: LoopbackServer) -> None:
    html = WireReply((b"<html>Sign in</html>",), headers={"Content-Type": "text/html"})
    server.reply("*", html)
    for route in ("hosted_vllm", "lm_studio", "ollama_chat", "groq"):
        found = await failure(model_at(route, server))
        assert type(found) is InvalidResponseError
        assert (found.retryable, found.retry_limit) == (True, 1)
    for route in ("anthropic", "gemini"):  # LiteLLM skips every line that it does not know
        found = await failure(model_at(route, server))
        assert found.retryable and isinstance(found, (InvalidResponseError, StreamInterruptedError))


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"model": "tiny"}\n', b'{"message": {"content": "cut'])
async def test_33_lines_of_ollama_that_are_none(line: bytes, server: LoopbackServer) -> None:
    chunks = [*ollama({"content": "Hel"}, done=False).chunks, line]
    server.reply("*", WireReply(chunks, headers=JSON_BODY))
    found = await failure(model_at("ollama_chat", server))
    assert (type(found), found.delivered_chars) == (InvalidResponseError, 3)


# ------------------------------------------------------------------ running


async def test_34_deadlines_make_no_clients(server: LoopbackServer) -> None:
    litellm = _load()
    server.reply("*", HELLO)
    models = [model_at("hosted_vllm", server), model_at("openai", server)]
    counts = []
    for n in range(30):
        for model in models:
            async with aclosing(model.stream(ask(timeout_s=5.0 + n))) as deltas:  # type: ignore[type-var]
                async for _ in deltas:
                    pass
        counts.append(len(litellm.in_memory_llm_clients_cache.cache_dict))
    for model in models:
        await model.aclose()
    assert counts[0] == counts[-1]
    by_model = {
        name: {r.connection_id for r in server.requests if r.json["model"] == name} for name in ("tiny", "gpt-4o")
    }
    assert len(by_model["tiny"]) == 1
    assert (
        len(by_model["gpt-4o"]) < 30
    )  # the openai client lets go of a connection when [DONE] is not the last it reads


async def test_35_a_cancellation_is_never_swallowed(server: LoopbackServer) -> None:
    server.reply("*", WireReply((), stall=True))
    for route in ("hosted_vllm", "lm_studio", "ollama_chat", "anthropic", "gemini"):
        before = len(server.requests)
        task = asyncio.create_task(answer(model_at(route, server), ask(timeout_s=None)))
        await server.requests_came(before + 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await server.client_left(2.5, count=5)


async def test_35_a_cancellation_wins_over_a_timeout() -> None:
    patience = Patience(0.01)
    patience.start()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(1)
    assert patience.has_expired or sys.version_info < (3, 11)
    if sys.version_info >= (3, 11):  # before that nobody can tell two of them apart
        assert not patience.is_own()
        task.uncancel()
    patience.close()


async def test_36_the_key_of_one_model_never_reaches_the_next() -> None:
    with LoopbackServer() as one, LoopbackServer() as two:
        one.reply("*", error(500, "oops"))
        two.reply("*", HELLO)
        first = model_at("hosted_vllm", one)
        second = model_at("lm_studio", two, api_key=None)
        deltas = await deltas_of(FallbackModel([first, second], RetryPolicy(0)))
        assert [type(d) for d in deltas] == [AttemptFailed, TextDelta, TextDelta, StreamEnd]
        assert {r.headers["authorization"] for r in one.requests} == {f"Bearer {KEY}"}
        assert {r.headers["authorization"] for r in two.requests} == {f"Bearer {NO_KEY}"}


def test_37_loops_one_after_another_leave_nothing(fresh: dict[str, Any]) -> None:
    assert fresh["runs"] == [["Hello", "Hello"]] * 3
    assert fresh["stderr"] == "", "with -W error: no unclosed session, no pending task, although nobody called aclose"
    assert fresh["connections_left"] == 0


async def test_37_closing_lets_go_of_the_connections(server: LoopbackServer) -> None:
    server.reply("*", HELLO)
    for route in ("hosted_vllm", "lm_studio"):
        model = model_at(route, server)
        for _ in range(2):  # LiteLLM itself would hand out its closed client again
            assert text_of(await answer(model)) == "Hello"
        await model.aclose()
    await _until(lambda: server.connections_open == 0)


async def test_37_closing_one_model_leaves_the_others_stream(server: LoopbackServer) -> None:
    server.reply("/v1/chat/completions", WireReply(HELLO, headers=EVENT_STREAM, pause_s=0.05))
    stays, goes = model_at("hosted_vllm", server), model_at("hosted_vllm", server)
    async with aclosing(stays.stream(ask())) as deltas:  # type: ignore[type-var]
        first = await anext(deltas)
        async with aclosing(goes.stream(ask())) as others:  # type: ignore[type-var]
            await anext(others)
        await goes.aclose()
        rest = [delta async for delta in deltas]
    assert first == TextDelta("Hel")
    assert isinstance(rest[-1], StreamEnd)
    await stays.aclose()


def test_38_loops_in_threads_do_not_close_each_others_connections(server: LoopbackServer) -> None:
    server.reply("*", WireReply(HELLO, headers=EVENT_STREAM, pause_s=0.02))
    texts: list[str] = []

    async def many() -> None:
        for _ in range(5):
            texts.append(text_of(await answer(model_at("lm_studio", server))))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Hello"] * 15


def test_39_no_call_blocks_the_loop(fresh: dict[str, Any]) -> None:
    assert max(fresh["steps_s"].values()) < 0.2
    assert "/api/show" not in fresh["paths"], "LiteLLM asks Ollama about a model it does not know, on the loop"


def test_39_the_door_adds_little_to_litellm(fresh: dict[str, Any]) -> None:
    for prefix in ("hosted_vllm", "openai"):
        counts = fresh[f"calls_{prefix}"]
        assert counts["door"] - counts["litellm"] <= 700, counts  # as LITELLM_EXTRA_CALLS of benchmarks/gates.py


def _read(place: Any, usage: Any, has_usage: bool = True) -> float | None:
    reading = Reading.__new__(Reading)
    tap = Tap.__new__(Tap)
    tap.has_usage, tap.is_blind, tap.usage = has_usage, False, usage
    reading.tap, reading._usage = tap, None
    return _cost_usd(_load(), place, reading)


def _usage(tokens_in: int, tokens_out: int, **more: Any) -> Any:
    from litellm.types.utils import Usage as LiteLLMUsage

    return LiteLLMUsage(prompt_tokens=tokens_in, completion_tokens=tokens_out, **more)


def test_40_cost_is_a_price_or_none() -> None:
    usage = _usage(1000, 10)
    known = address("gpt-4o", api_key=KEY)
    assert _read(known, usage) == pytest.approx(0.0026)
    assert _read(address("anthropic/claude-sonnet-4-5", api_key=KEY), usage) == pytest.approx(0.00315)
    assert _read(known, usage, has_usage=False) is None, "tokens that LiteLLM guessed"
    assert _read(known, None) is None
    assert _read(known, _usage(0, 0)) is None
    assert _read(address("openai/nobody-knows", api_key=KEY), usage) is None
    assert _read(address("azure/my-deployment", api_key=KEY), usage) is None
    assert _read(address("gpt-4o", "openai", "http://127.0.0.1:1/v1"), usage) is None, "the same name on this machine"
    for local in ("lm_studio", "ollama", "vllm", "llamacpp"):
        assert _read(address("gpt-4o", local, "http://h:1"), usage) is None


def test_40_cached_tokens_are_cheaper() -> None:
    cached = _usage(1000, 0, prompt_tokens_details={"cached_tokens": 600})
    assert _read(address("gpt-4o", api_key=KEY), cached) == pytest.approx(0.00175)


def test_40_zero_is_said_only_of_what_is_free() -> None:
    litellm = _load()
    free = [name for name in litellm.model_cost if name.startswith("openrouter/") and name.endswith(":free")]
    assert {_read(address(name, api_key=KEY), _usage(1000, 10)) for name in free} <= {0.0}  # 1.109 lists none
    unpriced = next(
        name
        for name, entry in litellm.model_cost.items()
        if name.startswith(("gemini/", "mistral/", "volcengine/", "publicai/"))
        and (entry.get("input_cost_per_token"), entry.get("output_cost_per_token")) == (0, 0)
        and not name.endswith(":free")
    )
    assert _read(address(unpriced, api_key=KEY), _usage(1000, 10)) is None, "0 in the list mostly means: not known"


def test_40_what_the_provider_says_wins() -> None:
    usage = _usage(1000, 10)
    usage.cost = 0.5
    assert _read(address("openrouter/a/b", api_key=KEY), usage) == 0.5


def test_40_logs_hold_no_prompt_and_no_key(fresh: dict[str, Any]) -> None:
    assert "secret prompt" not in fresh["log"]
    assert "sk-cloud" not in fresh["log"]


async def _until(is_true: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def test_a_model_fits_the_protocol_and_makes_no_noise() -> None:
    from any_agent.protocols import Model

    model = LiteLLMModel("ollama/tiny", base_url="http://localhost:11434/v1", api_key=KEY)
    assert isinstance(model, Model)
    assert (model.name, model.base_url) == ("ollama/tiny", "http://localhost:11434")
    assert KEY not in repr(vars(model)["_address"])
    asyncio.run(model.aclose())
    asyncio.run(model.aclose())
    assert issubclass(ConfigurationError, AnyAgentError)


async def test_the_window_is_the_servers_word_or_the_tables(server: LoopbackServer) -> None:
    replay_ollama(server)
    local = LiteLLMModel("llama3.1:8b", provider="ollama", base_url=server.root_url)
    assert await local.served_window() == 8192
    assert await LiteLLMModel("gpt-4o", provider="openai", api_key="k").served_window() == 128_000
    assert await LiteLLMModel("no-such-model", provider="openai", api_key="k").served_window() is None
