"""models/servers/__init__.py on real llama.cpp servers: what they tell, and token counts that equal `usage.prompt_tokens`."""

from __future__ import annotations

import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.llama import LlamaServer, start_llama
from support.replay_servers import json_reply, paths
from support.tiny_model import TEMPLATE

from any_agent.models.openai_wire import DirectModel
from any_agent.models.servers import (
    Address,
    Server,
    ServerCache,
    Window,
    count_prompt,
    discover,
    open_client,
    probe,
    resolve_auto,
    served_window,
    tokenize,
)
from any_agent.models.wire import to_wire, tools_to_wire
from any_agent.testing import LoopbackServer, WireReply, WireRequest
from any_agent.testing.loopback import ANY_PATH
from any_agent.types import (
    AssistantMessage,
    Message,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    UserMessage,
)

pytestmark = pytest.mark.real

Wire = dict[str, Any]


# --- conversations


def user(content: Any) -> Wire:
    return {"role": "user", "content": content}


def says(content: Any, **more: Any) -> Wire:
    return {"role": "assistant", "content": content, **more}


def system(content: str) -> Wire:
    return {"role": "system", "content": content}


def result(call_id: str, content: str) -> Wire:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def calls(*arguments: str, content: str | None = None) -> Wire:
    made = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "get_weather", "arguments": text}}
        for n, text in enumerate(arguments)
    ]
    return says(content, tool_calls=made)


def tool(name: str, *parameters: str) -> Wire:
    schema = {
        "type": "object",
        "properties": {one: {"type": "string"} for one in parameters},
        "required": list(parameters),
    }
    return {"type": "function", "function": {"name": name, "description": f"It does {name}.", "parameters": schema}}


WEATHER, SEARCH, NOW = tool("get_weather", "city", "unit"), tool("search", "query"), tool("now")
PARTS = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
CONVERSATIONS: dict[str, tuple[list[Wire], list[Wire]]] = {
    "one letter": ([user("a")], []),
    "empty text": ([user("")], []),
    "accents": ([user("Grüße aus Köln, à bientôt")], []),
    "signs of four bytes": ([user("🦙👩‍👩‍👧 ≠ 𝔘")], []),
    "chinese": ([user("你好，世界")], []),
    "right to left": ([user("שלום عالم")], []),
    "spaces and lines": ([user("  a\n\n\tb  \r\n c   ")], []),
    "zero bytes": ([user("a\u0000b\u001f")], []),
    "control tokens in the text": ([user("say <|user|> and <|end|><|endoftext|> loudly")], []),
    "markup in the text": ([user("<think>no</think><tool_call>{}</tool_call>")], []),
    "half a control token": ([user("<|us er|> <|end|")], []),
    "code": ([user('def f(x):\n    return {"a": [x, "\\\\"]}  # {{ not jinja }} {% raw %}')], []),
    "system first": ([system("Be kind."), user("hi")], []),
    "late system": ([user("hi"), says("yes"), system("now in French"), user("again")], []),
    "long": ([system("s" * 300), user("word " * 250)], []),
    "many turns": (
        [turn for n in range(20) for turn in (user(f"question {n}"), says(f"answer {n}"))] + [user("?")],
        [],
    ),
    "two users in a row": ([user("one"), user("two")], []),
    "text parts": ([user(PARTS)], []),
    "reasoning in the history": ([user("hi"), says("yes", reasoning_content="hm, let me see"), user("why?")], []),
    "answer to be continued": ([user("hi"), says("Once upon")], []),
    "no content": ([user("hi"), says(None), user("?")], []),
    "one tool": ([user("weather?")], [WEATHER]),
    "three tools": ([system("Use tools."), user("weather?")], [WEATHER, SEARCH, NOW]),
    "a call and its result": (
        [user("weather?"), calls('{"city": "Paris"}'), result("call_0", "sunny, 21 °C")],
        [WEATHER],
    ),
    "text, parallel calls, two results": (
        [
            user("Paris and Rome?"),
            calls('{"city":"Paris"}', '{"city":"Rome","unit":"°C"}', content="I look."),
            result("call_0", "sunny"),
            result("call_1", "<|end|> rain"),
        ],
        [WEATHER, SEARCH],
    ),
    "after the tools": (
        [user("weather?"), calls("{}"), result("call_0", ""), says("It is sunny."), user("thanks, and tomorrow?")],
        [WEATHER],
    ),
    "a call, the tools gone": (
        [user("weather?"), calls('{"city": "Łódź"}'), result("call_0", "[1, 2]"), user("so?")],
        [],
    ),
    "a long result": ([user("read"), calls('{"city": "x"}'), result("call_0", "line\n" * 200)], [WEATHER]),
}


async def reported(llama: LlamaServer, messages: list[Wire], tools: list[Wire], **more: Any) -> int:
    """The `usage.prompt_tokens` of a real chat."""
    body = {"model": llama.model, "messages": messages, "max_tokens": 1, **({"tools": tools} if tools else {}), **more}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{llama.base_url}/chat/completions", json=body, headers=llama.headers) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
        return int(answer["usage"]["prompt_tokens"])


@contextmanager
def older_build(llama: LlamaServer) -> Iterator[LoopbackServer]:
    """The same real server as a build that cannot count a prompt in one step: everything else is passed on."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def passed_on(request: WireRequest) -> WireReply:
        url = f"{llama.root_url}{request.path}?{request.query}"
        asked = urllib.request.Request(url, request.body or None, {"Content-Type": "application/json"})
        try:
            with direct.open(asked, timeout=5) as response:
                return WireReply((response.read(),))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return WireReply((refusal.read(),), refusal.code)

    with LoopbackServer() as proxy:
        missing = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
        proxy.reply("/v1/chat/completions/input_tokens", json_reply(missing, 404))
        proxy.reply(ANY_PATH, passed_on)
        yield proxy


# --- what it tells


async def test_probe_tells_all_of_the_real_server(llama: LlamaServer) -> None:
    found = await probe(llama.root_url)
    assert found is not None
    (model,) = found.models
    assert (found.kind, found.base_url, found.takes_any_name) == ("llamacpp", llama.base_url, True)
    assert found.build
    assert (model.id, model.window_tokens, model.trained_tokens) == ("tiny", 2048, 4096)
    assert (model.is_loaded, model.has_tools, model.has_vision, model.kind) == (True, True, False, "llm")


async def test_the_served_window_not_the_trained_one(llama: LlamaServer, llama_small: LlamaServer) -> None:
    for server in (llama, llama_small):
        for provider in (None, "llamacpp", "lm_studio", "vllm"):
            window = await served_window(server.base_url, "any-name", provider=provider)
            assert window == Window(server.slot_ctx, "/props n_ctx", True)
    assert (llama.slot_ctx, llama_small.slot_ctx) == (2048, 512)


@pytest.mark.parametrize("key", [None, "wrong-key"])
async def test_without_the_right_key_it_is_seen_but_tells_nothing(llama_key: LlamaServer, key: str | None) -> None:
    url = llama_key.base_url
    assert await probe(url, api_key=key) == Server("openai_compatible", url, state="locked")
    assert await served_window(url, "tiny", api_key=key) is None
    assert await tokenize(url, "hello", api_key=key) is None
    assert await count_prompt(url, "tiny", [user("hi")], api_key=key) is None


async def test_with_the_key_it_tells_and_counts(llama_key: LlamaServer) -> None:
    url, key = llama_key.base_url, llama_key.api_key
    found = await probe(url, api_key=key)
    assert found is not None and found.kind == "llamacpp" and found.state == "ready"
    assert await served_window(url, "tiny", api_key=key) == Window(2048, "/props n_ctx", True)
    assert await tokenize(url, "hello", api_key=key) == 5
    messages = [user("hi")]
    assert await count_prompt(url, "tiny", messages, api_key=key) == await reported(llama_key, messages, [])
    assert [s.state for s in await discover([url, Address(url, api_key=key)], timeout_s=2)] == ["locked", "ready"]


async def test_auto_takes_the_one_with_the_larger_window(llama: LlamaServer, llama_small: LlamaServer) -> None:
    server, model = await resolve_auto([llama_small.base_url, llama.base_url], timeout_s=2)
    assert (server.base_url, model.id, model.window_tokens) == (llama.base_url, "tiny", 2048)


async def test_a_router_parameter_does_no_harm_to_a_single_model(llama: LlamaServer) -> None:
    assert await tokenize(llama.base_url, "hello", model="other/name: with signs & more") == 5


# --- what it counts


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_the_count_is_what_usage_reports(llama_tools: LlamaServer, name: str) -> None:
    messages, tools = CONVERSATIONS[name]
    counted = await count_prompt(llama_tools.base_url, "tiny", messages, tools)
    assert counted == await reported(llama_tools, messages, tools)


async def test_older_builds_count_by_template(llama_tools: LlamaServer) -> None:
    cache = ServerCache()
    with older_build(llama_tools) as older:
        async with open_client() as client:
            for name, (messages, tools) in CONVERSATIONS.items():
                counted = await count_prompt(older.base_url, "tiny", messages, tools, client=client, cache=cache)
                assert counted == await reported(llama_tools, messages, tools), name
        assert paths(older).count("POST /v1/chat/completions/input_tokens") == 1
        assert paths(older)[-2:] == ["POST /apply-template", "POST /tokenize"]


@pytest.mark.parametrize(
    "more",
    [
        {"tool_choice": "none"},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "search"}}},
        {"parallel_tool_calls": True},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "none"},
        {"temperature": 0, "seed": 1, "stop": ["x"]},
    ],
    ids=str,
)
async def test_other_fields_of_the_request_count_as_well(llama_tools: LlamaServer, more: Wire) -> None:
    messages, tools = [user("weather?")], [WEATHER, SEARCH]
    counted = await count_prompt(llama_tools.base_url, "tiny", messages, tools, params=more)
    assert counted == await reported(llama_tools, messages, tools, **more)


async def test_the_count_of_what_the_direct_door_sends(llama_tools: LlamaServer) -> None:
    spec = ToolSpec("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
    use = ToolUseBlock("call_1", "get_weather", {"city": "Zürich"})
    history: list[Message] = [
        SystemMessage((TextBlock("Be kind."),)),
        UserMessage((TextBlock("Weather?"),)),
        AssistantMessage((use,)),
        ToolMessage((ToolResultBlock("call_1", "sunny"),)),
    ]
    model = DirectModel("tiny", llama_tools.base_url)
    for length in (2, 4):
        request = ModelRequest(messages=history[:length], tools=(spec,), params={"temperature": 0})
        end = [delta async for delta in model.stream(request)][-1]
        assert isinstance(end, StreamEnd) and end.usage is not None
        wire = to_wire(history[:length])
        assert await count_prompt(llama_tools.base_url, "tiny", wire, tools_to_wire([spec])) == end.usage.input_tokens
    await model.aclose()


def with_bos(path: Path, template: str = TEMPLATE) -> Path:
    """The same model file with a vocabulary that wants a BOS, and another template (no longer than its own)."""
    raw, old = path.read_bytes(), TEMPLATE.encode()
    key = b"tokenizer.ggml.add_bos_token" + struct.pack("<I", 7)
    new = template.encode()
    if template != TEMPLATE:
        new += b"{#" + b"-" * (len(old) - len(new) - 4) + b"#}"
    assert raw.count(key + b"\0") == raw.count(old) == 1
    assert len(new) == len(old)
    changed = path.with_name("bos.gguf")
    changed.write_bytes(raw.replace(key + b"\0", key + b"\1").replace(old, new))
    return changed


BOS_TEMPLATE = (
    "{{ bos_token }}{%- for message in messages -%}<|{{ message.role }}|>{{ message.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


@pytest.mark.parametrize("template", [TEMPLATE, BOS_TEMPLATE], ids=["bos by vocabulary", "bos by both"])
async def test_the_bos_is_counted_once(write_model: Callable[..., Path], template: str) -> None:
    messages = [system("Be kind."), user("hi")]
    with start_llama(with_bos(write_model(), template)) as llama, older_build(llama) as older:
        counted = await count_prompt(llama.base_url, "tiny", messages)
        assert counted == await reported(llama, messages, [])
        assert counted == 1 + (1 + 8 + 1) + (1 + 2 + 1) + 1
        assert await count_prompt(older.base_url, "tiny", messages) == counted
        assert await tokenize(llama.base_url, "hi") == 2, "a text inside a message has no BOS"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello", 5),
        ("é", 2),
        ("🦙", 4),
        ("<|user|>hi", 3),
        ("<tool_call>", 1),
        ("a\u0000b", 3),
        ("x" * 5000, 5000),
    ],
)
async def test_texts_are_counted_as_in_a_chat(llama: LlamaServer, text: str, tokens: int) -> None:
    assert await tokenize(llama.base_url, text) == tokens


async def test_what_the_server_refuses_has_no_count(llama: LlamaServer) -> None:
    cache = ServerCache()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert await count_prompt(llama.base_url, "tiny", [user([image])], cache=cache) is None
    assert await count_prompt(llama.base_url, "tiny", [user("\ud800")], cache=cache) is None  # no text at all
    assert await count_prompt(llama.base_url, "tiny", [user("hi")], cache=cache) == 5
