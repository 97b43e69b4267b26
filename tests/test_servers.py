"""What servers tell of themselves: replayed LM Studio, Ollama, vLLM and llama.cpp router, and servers that are none."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.replay_servers import (
    LM_GEMMA,
    LM_OLD_ROWS,
    LlamaRouter,
    json_reply,
    lm_studio,
    lm_studio_036,
    lm_studio_empty,
    ollama,
    paths,
    text_reply,
    unexpected_endpoint,
    vllm,
)

from any_agent.errors import AuthenticationError, ConfigurationError, ModelNotFoundError, ServerUnreachableError
from any_agent.models.servers import (
    Address,
    ServedModel,
    Server,
    ServerCache,
    Window,
    addresses_here,
    best_model,
    count_prompt,
    discover,
    find_model,
    nearest_model,
    open_client,
    probe,
    resolve_auto,
    served_window,
    shapes,
    tokenize,
)
from any_agent.testing import LoopbackServer, WireReply, WireRequest
from any_agent.testing.loopback import ANY_PATH

GEMMA = "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M"
HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as one:
        yield one


@contextmanager
def closed_port() -> Iterator[str]:
    """A base URL where nobody listens: the port stays ours, so nobody else gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@contextmanager
def silent_port() -> Iterator[str]:
    """A base URL where connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


def model(name: str, window: int | None = None, **more: Any) -> ServedModel:
    values: dict[str, Any] = {"is_loaded": True, "has_tools": None, "has_vision": None, "kind": "llm", "source": ""}
    return ServedModel(name, window, None, **{**values, **more})


def serving(*models: ServedModel, kind: Any = "ollama", port: int = 1) -> Server:
    return Server(kind, f"http://127.0.0.1:{port}/v1", None, models)


# --- one server: kind, models, windows, abilities


async def test_lm_studio_tells_loaded_windows_and_abilities(server: LoopbackServer) -> None:
    lm_studio(server)
    found = await probe(server.root_url)
    assert found is not None
    assert (found.kind, found.base_url, found.version, found.state) == ("lm_studio", server.base_url, None, "ready")
    loaded = "/api/v1/models loaded_instances[].config.context_length"
    assert found.models == (
        ServedModel("google/gemma-3-270m", 4096, 32768, True, False, False, "llm", loaded, (), True),
        ServedModel("qwen/qwen3-8b", None, 131072, False, True, True, "llm", "/api/v1/models"),
        ServedModel(
            "text-embedding-nomic-embed-text-v1.5", None, 2048, False, None, None, "embedding", "/api/v1/models"
        ),
    )
    assert paths(server) == ["GET /api/v1/models"]


async def test_each_instance_of_lm_studio_has_its_own_window(server: LoopbackServer) -> None:
    instances = [
        {"id": "google/gemma-3-270m", "config": {"context_length": 8192}},
        {"id": "google/gemma-3-270m:2", "config": {"context_length": 2048}},
    ]
    server.reply("/api/v1/models", {"models": [{**LM_GEMMA, "loaded_instances": instances}]})
    found = await probe(server.base_url)
    assert found is not None
    assert [(m.id, m.window_tokens, m.aliases) for m in found.models] == [
        ("google/gemma-3-270m", 8192, ()),
        ("google/gemma-3-270m:2", 2048, ("google/gemma-3-270m",)),
    ]
    # the key can reach either instance: the smaller window is the one to count on
    assert await served_window(server.base_url, "google/gemma-3-270m") == Window(
        2048, "/api/v1/models loaded_instances[].config.context_length", True
    )


async def test_lm_studio_before_0_4(server: LoopbackServer) -> None:
    lm_studio_036(server)
    found = await probe(server.base_url)
    assert found is not None
    assert found.kind == "lm_studio"
    assert found.models == (
        ServedModel("qwen2-vl-7b-instruct", None, 32768, False, None, True, "llm", "/api/v0/models"),
        ServedModel(
            "meta-llama-3.1-8b-instruct", 8192, 131072, True, True, False, "llm",
            "/api/v0/models loaded_context_length", (), True,
        ),
        ServedModel(
            "text-embedding-nomic-embed-text-v1.5", None, 2048, False, None, None, "embedding", "/api/v0/models"
        ),
    )  # fmt: skip
    assert paths(server) == ["GET /api/v1/models", "GET /api/v0/models"]
    assert await served_window(server.base_url, "qwen2-vl-7b-instruct") is None, "the trained maximum is no window"


async def test_lm_studio_without_models_is_still_lm_studio(server: LoopbackServer) -> None:
    lm_studio_empty(server)
    assert await probe(server.base_url) == Server("lm_studio", server.base_url, None, ())


async def test_a_server_that_says_200_to_everything_is_judged_by_its_json(server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "some-model", "object": "model"}]})
    server.reply(ANY_PATH, unexpected_endpoint)  # LM Studio before 0.3.6
    found = await probe(server.base_url)
    assert found == Server(
        "openai_compatible",
        server.base_url,
        None,
        (ServedModel("some-model", None, None, True, None, None, None, "/v1/models"),),
    )
    assert paths(server) == [
        "GET /api/v1/models",
        "GET /api/v0/models",
        "GET /api/ps",
        "GET /props",
        "GET /v1/models",
    ]


async def test_ollama_tells_windows_of_loaded_models_and_abilities_of_all(server: LoopbackServer) -> None:
    ollama(server)
    found = await probe(server.root_url)
    assert found is not None
    assert (found.kind, found.base_url, found.version) == ("ollama", server.base_url, "0.40.12")
    fingerprint = hashlib.sha256(b"{{ .Prompt }}").hexdigest()[:12]
    assert found.models == tuple(replace(model, template_id=fingerprint) for model in (
        ServedModel("llama3.1:8b", 8192, 131072, True, True, False, "llm", "/api/ps context_length", (), True),
        ServedModel("qwen3:latest", 16384, 40960, False, True, True, "llm", "/api/show num_ctx", ("qwen3",)),
        ServedModel(
            "nomic-embed-text:latest", 2048, 2048, False, False, False, "embedding", "/api/show num_ctx",
            ("nomic-embed-text",),
        ),
        ServedModel(
            "gpt-oss:120b-cloud", None, 131072, False, True, False, "llm", "/api/tags", is_remote=True,
        ),
    ))  # fmt: skip
    assert paths(server)[:5] == [
        "GET /api/v1/models",
        "GET /api/v0/models",
        "GET /api/ps",
        "GET /api/version",
        "GET /api/tags",
    ]
    assert sorted(paths(server)[5:]) == ["POST /api/show"] * 4


async def test_ollama_window_of_one_model_asks_only_for_that_model(server: LoopbackServer) -> None:
    ollama(server, loaded={"qwen3:latest": 32768})
    assert await served_window(server.base_url, "qwen3") == Window(32768, "/api/ps context_length", True)
    assert [r.json for r in server.requests if r.path == "/api/show"] == [{"model": "qwen3:latest"}]


async def test_ollama_window_that_is_only_configured_is_not_certain(server: LoopbackServer) -> None:
    ollama(server, loaded={"qwen3:latest": None})  # a version whose /api/ps does not tell it
    assert await served_window(server.base_url, "qwen3:latest") == Window(16384, "/api/show num_ctx", False)
    assert await served_window(server.base_url, "llama3.1:8b") is None, "nothing tells; the trained maximum would lie"
    assert await served_window(server.base_url, "no-such-model") is None


async def test_ollama_with_nothing_loaded_needs_its_version_to_be_believed(server: LoopbackServer) -> None:
    ollama(server, loaded={})
    found = await probe(server.base_url)
    assert found is not None
    assert found.kind == "ollama" and not any(m.is_loaded for m in found.models)


async def test_of_many_ollama_models_the_loaded_ones_are_asked_about_first(server: LoopbackServer) -> None:
    names = [f"model-{n:02}" for n in range(50)]
    server.reply("/api/tags", {"models": [{"name": name} for name in names]})
    server.reply("/api/show", replace(json_reply({"capabilities": ["completion", "tools"]}), repeat=50))
    ollama(server, loaded={"model-49": 8192})
    found = await probe(server.base_url)
    assert found is not None
    assert [m.id for m in found.models] == ["model-49", *names[:49]]
    assert [m.has_tools for m in found.models] == [True] * 32 + [None] * 18


async def test_vllm_serves_loras_with_the_window_of_their_parent(server: LoopbackServer) -> None:
    vllm(server)
    found = await probe(server.base_url)
    assert found == Server(
        "vllm",
        server.base_url,
        "0.32.0",
        (
            ServedModel("tiny", 2048, None, True, None, None, None, "/v1/models max_model_len", (), True),
            ServedModel("poet", 2048, None, True, None, None, None, "/v1/models max_model_len", (), True),
        ),
    )


async def test_router_is_asked_for_running_models_and_loads_none(server: LoopbackServer) -> None:
    router = LlamaRouter(server)
    found = await probe(server.base_url)
    assert found is not None
    assert (found.kind, found.build, found.takes_any_name) == ("llamacpp", "b11434-0abc123", False)
    template = {"template_id": hashlib.sha256(b"{{ messages }}").hexdigest()[:12]}
    assert found.models == (
        ServedModel(GEMMA, 8192, None, True, True, True, "llm", "/props n_ctx", ("gemma",), True, **template),
        ServedModel("nap-1b", 4096, None, False, True, False, "llm", "/props n_ctx", (), True, **template),
        ServedModel("big-70b", None, None, False, None, False, None, "/v1/models"),
    )
    assert paths(server).count("GET /props") == 1 + 2
    for name, tokens in ((GEMMA, 8192), ("gemma", 8192), ("big-70b", None), ("nobody", None)):
        window = await served_window(server.base_url, name)
        assert (window.tokens if window else None) == tokens, name
    assert await tokenize(server.base_url, "abc", model="big-70b") is None
    assert await tokenize(server.base_url, "abc", model="gemma") == 3
    assert router.loads == []
    assert all("autoload=false" in r.query for r in server.requests if r.query)


async def test_a_router_row_that_tells_its_window_needs_no_props(server: LoopbackServer) -> None:
    row = {"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx": 1024, "n_ctx_train": 4096}}
    server.reply("/v1/models", {"object": "list", "data": [row]})  # only /v1 is let through, say by a proxy
    found = await probe(server.base_url)
    assert found is not None
    assert found.kind == "llamacpp"
    assert found.models[0] == ServedModel("m", 1024, 4096, True, None, None, None, "/v1/models meta.n_ctx", (), True)


@pytest.mark.parametrize(
    ("row", "window", "is_certain"),
    [
        ({"max_model_len": 4096, "context_length": 9}, 4096, True),
        ({"loaded_context_length": 5000, "max_context_length": 99999}, 5000, True),
        ({"context_length": 131072}, 131072, False),
        ({"context_window": 8192}, 8192, False),
        ({"max_context_length": 32768}, None, False),
        ({"context_length": 0}, None, False),
        ({"context_length": True}, None, False),
        ({"context_length": "4096"}, None, False),
        ({"context_length": 4096.0}, 4096, False),
    ],
)
async def test_other_servers(server: LoopbackServer, row: dict[str, Any], window: int | None, is_certain: bool) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "m", **row}]})
    told = await served_window(server.base_url, "m")
    assert (told.tokens if told else None) == window
    assert (told.is_certain if told else False) == is_certain


async def test_koboldcpp_tells_its_window_elsewhere(server: LoopbackServer) -> None:
    name = "koboldcpp/Qwen3-8B-Q4_K_M"
    row = {"id": name, "object": "model", "created": 1, "owned_by": "koboldcpp", "permission": []}
    server.reply("/v1/models", {"object": "list", "data": [row]})
    assert await served_window(server.base_url, name) is None
    server.reply("/api/extra/true_max_context_length", {"value": 8192})
    told = await served_window(server.base_url, name)
    assert told == Window(8192, "/api/extra/true_max_context_length value", is_certain=True)


async def test_a_bare_list_and_an_empty_one(server: LoopbackServer) -> None:
    server.reply(
        "/v1/models", json_reply([{"id": "m", "context_length": 10}]), json_reply([]), {"object": "list", "data": []}
    )
    bare, empty, none_loaded = [await probe(server.base_url) for _ in range(3)]
    assert bare is not None and bare.models[0].window_tokens == 10
    assert empty is None
    assert none_loaded == Server("openai_compatible", server.base_url)


async def test_a_cloud_is_asked_for_nothing_but_its_models(server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "llama-3.3-70b", "context_window": 131072}]})
    window = await served_window(server.base_url, "llama-3.3-70b", provider="groq", api_key="k")
    assert window == Window(131072, "/v1/models context_window", False)
    assert paths(server) == ["GET /v1/models"]


# --- no model server


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "reply",
    [
        text_reply("<html><body>Welcome to nginx!</body></html>"),
        text_reply("<html>no such page</html>", 404),
        text_reply(""),  # mlx_lm.server without its cache folder
        text_reply("{broken", content_type="application/json"),
        json_reply({"status": "ok"}),
        json_reply({}),
        json_reply([]),
        json_reply(None),
        json_reply("models"),
        json_reply({"models": []}),
        json_reply({"data": []}),
        json_reply({"models": [{"name": "x"}], "data": [{"name": "x"}]}),
        json_reply({"object": "list", "data": [{"id": 1}]}),
        json_reply({"default_generation_settings": {}}),
        json_reply({"error": "boom"}, 500),
        json_reply({"object": "list", "data": [{"id": "m"}]}, 500),
        text_reply("Unauthorized", 401),
        text_reply("Service Unavailable", 503),
        json_reply({"error": "out of order"}, 503),
        WireReply((DEEP,), headers={"Content-Type": "application/json"}),
        WireReply((b"\xff\xfe\x00",), headers={"Content-Type": "application/json"}),
    ],
    ids=lambda reply: reply.chunks[0][:24].decode("latin-1") + f" {reply.status}",
)
async def test_what_is_no_model_server(server: LoopbackServer, reply: WireReply) -> None:
    server.reply(ANY_PATH, reply)
    assert await probe(server.base_url) is None
    assert await served_window(server.base_url, "m") is None
    assert await tokenize(server.base_url, "text") is None
    assert await count_prompt(server.base_url, "m", HI) is None


@pytest.mark.parametrize(
    "reply",
    [
        WireReply(close_abruptly="reset"),
        WireReply((b"SSH-2.0-OpenSSH_9.6\r\n",), framing="raw"),
        WireReply((b'{"models": [',), headers={"Content-Length": "900"}, framing="close"),
    ],
    ids=["reset", "another protocol", "cut"],
)
async def test_a_broken_answer_ends_the_probe(server: LoopbackServer, reply: WireReply) -> None:
    server.reply(ANY_PATH, reply)
    assert await probe(server.base_url) is None
    assert len({r.path for r in server.requests}) == 1, "nothing more is asked of a server that cannot speak"


async def test_nobody_there() -> None:
    with closed_port() as url:
        assert await probe(url) is None
        assert await served_window(url, "m") is None
        assert await tokenize(url, "text") is None


async def test_a_silent_server_costs_one_time_out(clock: Callable[[float], float]) -> None:
    with silent_port() as url, closed_port():
        started = time.monotonic()
        assert await probe(url, timeout_s=clock(0.2)) is None
        assert await count_prompt(url, "m", HI, timeout_s=clock(0.2)) is None
        assert time.monotonic() - started < clock(1)


async def test_a_dripping_server_costs_one_time_out(clock: Callable[[float], float], server: LoopbackServer) -> None:
    server.reply(ANY_PATH, WireReply([b" "] * 400, pause_s=clock(0.02)))
    started = time.monotonic()
    assert await probe(server.base_url, timeout_s=clock(0.2)) is None
    assert time.monotonic() - started < clock(1)


async def test_what_was_learnt_before_the_silence_is_kept(
    clock: Callable[[float], float], server: LoopbackServer
) -> None:
    server.reply("/api/tags", WireReply(stall=True))
    ollama(server)
    found = await probe(server.base_url, timeout_s=clock(0.2))
    assert found is not None
    assert [(m.id, m.window_tokens, m.is_loaded) for m in found.models] == [("llama3.1:8b", 8192, True)]


async def test_an_endless_answer_is_not_read_to_its_end(server: LoopbackServer) -> None:
    body = json_reply({"models": [LM_GEMMA]}).chunks[0]
    server.reply("/api/v1/models", WireReply([body, *[b" " * 1_000_000] * 12]))
    assert await probe(server.base_url, timeout_s=10) is None


async def test_redirects_are_not_followed_and_carry_no_key(server: LoopbackServer) -> None:
    with LoopbackServer() as elsewhere:
        lm_studio(elsewhere)
        server.reply(ANY_PATH, WireReply(status=307, headers={"Location": f"{elsewhere.root_url}/api/v1/models"}))
        assert await probe(server.base_url, api_key="secret-key") is None
        assert await count_prompt(server.base_url, "m", HI, api_key="secret-key") is None
        assert elsewhere.requests == []


async def test_a_wrong_address_is_told() -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        await probe("ftp://127.0.0.1/v1")


# --- locked and loading


LOCKED = json_reply({"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}, 401)
LOADING = json_reply({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, 503)


async def test_a_locked_server_is_a_server(server: LoopbackServer) -> None:
    server.reply(ANY_PATH, LOCKED)
    assert await probe(server.base_url) == Server("openai_compatible", server.base_url, state="locked")
    assert paths(server)[-1] == "GET /v1/models" and len(paths(server)) == 3, "a wrong key is not tried on every path"
    assert await served_window(server.base_url, "m") is None


async def test_a_key_opens_it_and_goes_as_bearer(server: LoopbackServer) -> None:
    def guarded(body: Any) -> Callable[[WireRequest], Any]:
        return lambda request: body if request.headers.get("authorization") == "Bearer right" else LOCKED

    server.reply("/api/v1/models", guarded({"models": [LM_GEMMA]}))
    server.reply(ANY_PATH, LOCKED)
    states = [await probe(server.base_url, api_key=key) for key in (None, "wrong", "right")]
    assert [found and (found.kind, found.state) for found in states] == [
        ("openai_compatible", "locked"),
        ("openai_compatible", "locked"),
        ("lm_studio", "ready"),
    ]


async def test_vllm_keeps_only_v1_locked(server: LoopbackServer) -> None:
    server.reply("/v1/models", json_reply({"error": "Unauthorized"}, 401))
    server.reply(ANY_PATH, json_reply({"detail": "Not Found"}, 404))
    found = await probe(server.base_url)
    assert found is not None and found.state == "locked"


async def test_a_guarded_web_application_is_no_model_server(server: LoopbackServer) -> None:
    server.reply("/v1/models", json_reply({"message": "Not Found"}, 404))
    server.reply(ANY_PATH, json_reply({"message": "Forbidden"}, 403))
    assert await probe(server.base_url) is None


async def test_a_loading_server_says_so(server: LoopbackServer) -> None:
    server.reply(ANY_PATH, LOADING)
    assert await probe(server.base_url) == Server("openai_compatible", server.base_url, state="loading")


async def test_a_loading_llama_lists_its_model_without_a_window(server: LoopbackServer) -> None:
    rows = {"object": "list", "data": [{"id": "tiny", "owned_by": "llamacpp", "meta": None}]}
    server.reply("/v1/models", rows)
    server.reply(ANY_PATH, LOADING)
    found = await probe(server.base_url)
    assert found is not None
    assert (found.kind, found.state, found.models[0].window_tokens) == ("llamacpp", "loading", None)


# --- the served window, again


async def test_the_named_provider_is_looked_for_first_but_the_truth_wins(server: LoopbackServer) -> None:
    ollama(server)
    window = Window(8192, "/api/ps context_length", True)
    assert await served_window(server.base_url, "llama3.1:8b", provider="ollama_chat") == window
    assert paths(server)[0] == "GET /api/ps"
    assert "GET /api/v1/models" not in paths(server)
    for wrong in ("vllm", "llama.cpp", "lm-studio", "unheard-of"):
        assert await served_window(server.base_url, "llama3.1:8b", provider=wrong) == window


async def test_vllm_by_name_takes_two_requests(server: LoopbackServer) -> None:
    vllm(server)
    window = await served_window(server.base_url, "poet", provider="hosted_vllm")
    assert window == Window(2048, "/v1/models max_model_len", True)
    assert paths(server) == ["GET /v1/models", "GET /version"]


async def test_certain_windows_are_remembered_until_forgotten(server: LoopbackServer) -> None:
    def props(tokens: int) -> dict[str, Any]:
        return {"default_generation_settings": {"n_ctx": tokens}, "total_slots": 1, "model_alias": "tiny"}

    server.reply("/props", WireReply((json_reply(props(4096)).chunks[0],)), props(512))
    cache = ServerCache()
    first = await served_window(server.base_url, "tiny", cache=cache)
    asked = len(server.requests)
    again = await served_window(server.root_url, "tiny", cache=cache)
    assert first == again == Window(4096, "/props n_ctx", True)
    assert len(server.requests) == asked
    cache.forget("http://127.0.0.1:1/v1")
    assert await served_window(server.base_url, "tiny", cache=cache) == first
    cache.forget(server.root_url)  # another model was loaded
    assert await served_window(server.base_url, "tiny", cache=cache) == Window(512, "/props n_ctx", True)
    cache.forget()
    assert cache == ServerCache()


async def test_uncertain_windows_are_asked_for_again(server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "m", "context_length": 4096}]})
    cache = ServerCache()
    for _ in range(2):
        assert await served_window(server.base_url, "m", provider="groq", cache=cache)
    assert len(server.requests) == 2
    assert cache.windows == {}


async def test_a_llama_with_one_model_answers_whatever_name_is_asked_for(server: LoopbackServer) -> None:
    server.reply("/props", {"default_generation_settings": {"n_ctx": 777}, "total_slots": 1, "model_alias": "tiny"})
    window = await served_window(server.base_url, "gpt-4o")
    assert window == Window(777, "/props n_ctx", True)


async def test_connections_can_be_kept(server: LoopbackServer) -> None:
    vllm(server)
    async with open_client() as client:
        for _ in range(5):
            assert await tokenize(server.base_url, "abc", model="tiny", client=client) == 3
        assert await probe(server.base_url, client=client)
        assert not client.closed
    assert server.connections_opened == 1


# --- counting


async def test_vllm_counts_texts_and_prompts(server: LoopbackServer) -> None:
    vllm(server)
    cache = ServerCache()
    assert await tokenize(server.base_url, "hello", cache=cache) == 5
    messages = [{"role": "system", "content": "be kind"}, *HI]
    assert await count_prompt(server.base_url, "tiny", messages, cache=cache) == (3 + 7) + (3 + 2)
    assert await count_prompt(server.base_url, "tiny", messages, [TOOL], cache=cache) == 15 + 7
    seen = len(server.requests)
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "model": "ignored"}
    assert await count_prompt(server.base_url, "tiny", HI, [TOOL], params=extra, cache=cache) == 12
    assert len(server.requests) == seen + 1, "the way is known by now"
    assert server.requests[-1].json == {
        "model": "tiny",
        "messages": HI,
        "tools": [TOOL],
        "chat_template_kwargs": {"enable_thinking": False},
    }


async def test_a_refused_count_is_no_verdict_on_the_server(server: LoopbackServer) -> None:
    vllm(server)
    cache = ServerCache()
    assert await count_prompt(server.base_url, "no-such-model", HI, cache=cache) is None
    assert await count_prompt(server.base_url, "tiny", HI, cache=cache) == 5


@pytest.mark.parametrize("kind", [lm_studio, ollama], ids=["lm_studio", "ollama"])
async def test_servers_that_cannot_count_are_asked_once(
    server: LoopbackServer, kind: Callable[[LoopbackServer], None]
) -> None:
    kind(server)
    cache = ServerCache()
    for _ in range(3):
        assert await tokenize(server.base_url, "hello", cache=cache) is None
        assert await count_prompt(server.base_url, "m", HI, cache=cache) is None
    assert len(server.requests) == 2 + 3
    cache.forget(server.base_url)
    assert await tokenize(server.base_url, "hello", cache=cache) is None
    assert len(server.requests) == 5 + 2


async def test_silence_is_no_verdict_either(server: LoopbackServer) -> None:
    counted = "/v1/chat/completions/input_tokens"
    server.reply(counted, WireReply(stall=True), {"input_tokens": 9, "object": "response.input_tokens"})
    cache = ServerCache()
    assert await count_prompt(server.base_url, "m", HI, cache=cache, timeout_s=0.1) is None
    assert await count_prompt(server.base_url, "m", HI, cache=cache) == 9


async def test_a_server_that_was_replaced_is_learnt_anew(server: LoopbackServer) -> None:
    server.reply("/v1/chat/completions/input_tokens", {"input_tokens": 9}, text_reply("gone", 404))
    vllm(server)
    cache = ServerCache()
    assert [await count_prompt(server.base_url, "tiny", HI, cache=cache) for _ in range(2)] == [9, 5]


async def test_images_are_not_counted_by_their_marker(server: LoopbackServer) -> None:
    server.reply("/apply-template", {"prompt": "<|user|>look <__media__><|assistant|>"})
    server.reply("/tokenize", {"tokens": [1, 2, 3]})
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content: list[Any] = [{"type": "text", "text": "look"}, image]
    cache = ServerCache()
    assert await count_prompt(server.base_url, "m", [{"role": "user", "content": content}], cache=cache) is None
    assert await count_prompt(server.base_url, "m", [{"role": "user", "content": content[:1]}], cache=cache) == 3
    asked = server.requests[-1].json
    assert asked["add_special"] is True and asked["parse_special"] is True


# --- all servers


async def test_discover_finds_each_in_the_order_asked() -> None:
    with LoopbackServer() as one, LoopbackServer() as two, LoopbackServer() as three, closed_port() as nobody:
        lm_studio(one)
        ollama(two)
        three.reply(ANY_PATH, text_reply("<html>"))
        found = await discover([two.root_url, nobody, three.base_url, one.base_url], timeout_s=2)
    assert [(s.kind, s.base_url) for s in found] == [("ollama", two.base_url), ("lm_studio", one.base_url)]


async def test_discover_is_bounded_by_its_time_whoever_stays_silent(
    clock: Callable[[float], float], server: LoopbackServer
) -> None:
    await discover([])  # imports aiohttp
    server.reply(ANY_PATH, WireReply((b"{}",), delay_s=clock(0.3)))  # every question takes part of the time
    with silent_port() as one, silent_port() as two, closed_port() as nobody, LoopbackServer() as quick:
        lm_studio(quick)
        started = time.monotonic()
        found = await discover([one, two, nobody, server.base_url, quick.base_url], timeout_s=clock(0.8))
        took_s = time.monotonic() - started
    assert [s.kind for s in found] == ["lm_studio"]
    assert took_s <= clock(1.4)


async def test_discover_sends_no_key_but_where_it_was_named() -> None:
    with LoopbackServer() as plain, LoopbackServer() as named:
        lm_studio(plain)
        ollama(named)
        await discover([plain.base_url, Address(named.base_url, "mine", "secret-key")], timeout_s=2)
        assert not any("authorization" in r.headers for r in plain.requests)
        assert {r.headers.get("authorization") for r in named.requests} == {"Bearer secret-key"}


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    """A proxy that the environment names for everything."""
    with LoopbackServer() as one:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, one.root_url)
        yield one


@pytest.mark.skipif(sys.platform == "win32", reason="0.0.0.0 is no address to connect to")
async def test_discover_goes_past_every_proxy(server: LoopbackServer, proxy: LoopbackServer) -> None:
    lm_studio(server)
    anywhere = server.base_url.replace("127.0.0.1", "0.0.0.0")
    assert [s.kind for s in await discover([server.base_url, anywhere], timeout_s=2)] == ["lm_studio"] * 2
    assert await probe(server.base_url) is not None
    assert proxy.requests == []


async def test_a_remote_server_is_reached_as_its_prompts_are(proxy: LoopbackServer) -> None:
    proxy.reply("http://gpu.example.com/api/v1/models", {"models": [LM_GEMMA]})
    found = await probe("http://gpu.example.com", api_key="k")
    assert found is not None
    assert (found.kind, found.base_url) == ("lm_studio", "http://gpu.example.com/v1")


DEFAULTS = [
    ("http://127.0.0.1:1234/v1", "LM Studio", None),
    ("http://127.0.0.1:11434/v1", "Ollama", None),
    ("http://127.0.0.1:8080/v1", "llama.cpp", None),
    ("http://127.0.0.1:8000/v1", "vLLM", None),
]


def places(environ: dict[str, str], folder: Path) -> list[tuple[str, str, str | None]]:
    environ = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), **environ}
    return [(one.base_url, one.name, one.api_key) for one in addresses_here(environ, cwd=folder)]


@pytest.mark.parametrize(
    ("environ", "changes"),
    [
        ({}, {}),
        # keys without an address go nowhere
        ({"LM_STUDIO_API_KEY": "k", "OPENAI_API_KEY": "sk-1", "ANY_AGENT_API_KEY": "k", "OLLAMA_API_KEY": "k"}, {}),
        ({"LM_STUDIO_API_BASE": "http://127.0.0.1:4321/v1"}, {4: ("http://127.0.0.1:4321/v1", "LM Studio", None)}),
        (
            {"HOSTED_VLLM_API_BASE": "http://gpu.lan:8000/v1", "HOSTED_VLLM_API_KEY": "v"},
            {4: ("http://gpu.lan:8000/v1", "vLLM", "v")},
        ),
        ({"OLLAMA_HOST": "0.0.0.0"}, {}),  # the default port of this machine, said in another way
        ({"OLLAMA_HOST": "box:9999"}, {4: ("http://box:9999/v1", "Ollama", None)}),
        (
            {"ANY_AGENT_BASE_URL": "http://localhost:8080/v1", "ANY_AGENT_API_KEY": "k"},
            {2: ("http://localhost:8080/v1", "llama.cpp", "k")},
        ),
        (
            {"OPENAI_BASE_URL": "http://localhost:5001/v1", "OPENAI_API_KEY": "sk-1"},
            {4: ("http://localhost:5001/v1", "", "sk-1")},
        ),
        ({"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_KEY": "sk-1"}, {}),  # a cloud does not run here
        ({"ANY_AGENT_BASE_URL": "https://models.example.com/v1", "ANY_AGENT_API_KEY": "k"}, {}),
    ],
)
def test_addresses(environ: dict[str, str], changes: dict[int, Any], tmp_path: Path) -> None:
    wanted = {**dict(enumerate(DEFAULTS)), **changes}
    assert places(environ, tmp_path) == list(wanted.values())


def test_addresses_of_the_config_file(tmp_path: Path) -> None:
    (tmp_path / ".agent").mkdir()
    (tmp_path / ".agent/config.yml").write_text("agent:\n  base_url: http://127.0.0.1:7777\n  api_key: file-key\n")
    found = places({"ANY_AGENT_API_KEY": "env-key"}, tmp_path)
    assert found[4:] == [("http://127.0.0.1:7777/v1", "", "file-key")]


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(Address("http://127.0.0.1:1/v1", "x", "secret"))


# --- Agent("auto")


async def test_auto_takes_the_best_loaded_model() -> None:
    with LoopbackServer() as one, LoopbackServer() as two:
        lm_studio(one)  # loaded: gemma without tools
        ollama(two)  # loaded: llama3.1 with tools
        server, chosen = await resolve_auto([one.base_url, two.base_url], timeout_s=2)
    assert (server.kind, server.base_url, chosen.id, chosen.window_tokens) == (
        "ollama",
        two.base_url,
        "llama3.1:8b",
        8192,
    )


@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "http://{}/v1/", "{}", "{}/v1"])
async def test_auto_and_discovery_take_an_address_in_any_spelling(server: LoopbackServer, form: str) -> None:
    vllm(server)
    address = Address(form.format(server.root_url.removeprefix("http://")), api_key="its-key")
    found, _ = await resolve_auto([address], timeout_s=2)
    assert (found.kind, found.base_url) == ("vllm", server.base_url)
    assert [one.base_url for one in await discover([address], timeout_s=2)] == [server.base_url]
    assert {request.headers.get("authorization") for request in server.requests} == {"Bearer its-key"}


async def test_auto_with_nothing_there_says_what_was_tried_and_what_to_do() -> None:
    with closed_port() as one, closed_port() as two:
        with pytest.raises(ServerUnreachableError) as caught:
            await resolve_auto([Address(one, "LM Studio"), Address(two, "Ollama")])
        ports = [url.rsplit(":", 1)[1].removesuffix("/v1") for url in (one, two)]
    first, tried, *rest = str(caught.value).splitlines()
    assert first == "No model server answered."
    start = f"  tried: LM Studio http://127.0.0.1:{ports[0]}  Ollama :{ports[1]}   (all refused, 0."
    assert tried.startswith(start) and tried.endswith(" s)")
    assert rest == [
        "  fix:   start one (e.g. `ollama serve && ollama pull qwen3`), or set OPENAI_BASE_URL / pass --base-url,",
        "         or try now without any model:  any-agent demo",
        "  more:  any-agent doctor   ·   --debug for the traceback",
    ]


async def test_auto_tells_refused_from_silent_and_from_something_else(
    clock: Callable[[float], float], server: LoopbackServer
) -> None:
    server.reply(ANY_PATH, text_reply("<html>"))
    with closed_port() as one, silent_port() as two, pytest.raises(ServerUnreachableError) as caught:
        await resolve_auto([Address(one, "A"), Address(two, "B"), server.base_url], timeout_s=clock(0.2))
    tried = str(caught.value).splitlines()[1]
    assert [word in tried for word in ("(refused)", "(silent)", "(no model server)")] == [True] * 3


async def test_auto_with_nobody_asked() -> None:
    with pytest.raises(ServerUnreachableError, match=r"tried: nothing   \(0\.0 s\)"):
        await resolve_auto([])


async def test_auto_never_takes_a_cloud_model_or_an_embedder(server: LoopbackServer) -> None:
    server.reply(
        "/api/tags",
        {
            "models": [
                {"name": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com:443"},
                {"name": "nomic-embed-text:latest"},
            ]
        },
    )
    ollama(server, loaded={})
    with pytest.raises(ModelNotFoundError, match=r"no model to talk to: Ollama http.*\n.*ollama pull") as caught:
        await resolve_auto([server.base_url], timeout_s=2)
    assert caught.value.base_url == server.base_url


async def test_auto_with_only_locked_servers_asks_for_a_key(server: LoopbackServer) -> None:
    server.reply(ANY_PATH, LOCKED)
    with pytest.raises(AuthenticationError, match="wants a key: llama.cpp http"):
        await resolve_auto([Address(server.base_url, "llama.cpp")], timeout_s=2)


def test_best_model_is_the_same_in_any_order_within_a_server() -> None:
    ranked = [
        model("b", 4096, has_tools=True),
        model("c", 4096, has_tools=True),
        model("a", 2048, has_tools=True),
        model("d", 99999, has_tools=None),
        model("e", 99999, has_tools=False),
        model("f", None, has_tools=False),
        model("g", 99999, has_tools=True, is_loaded=False),
        model("h", None, has_tools=None, is_loaded=False, kind=None),
    ]
    for start in range(len(ranked)):
        for models in (ranked[start:], ranked[start:][::-1]):
            best = best_model([serving(*models)])
            assert best is not None and best[1] is ranked[start]
    assert best_model([]) is None
    assert best_model([serving(model("x", kind="embedding"), model("y", is_remote=True))]) is None
    first, second = serving(model("z", 8, has_tools=True), port=1), serving(model("a", 8, has_tools=True), port=2)
    assert best_model([first, second]) == (first, first.models[0])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("qwen3:8b", "qwen3:8b"),
        ("qwen3", "qwen3:8b"),
        ("qwem3:8b", "qwen3:8b"),
        ("Qwen-3", "qwen3:8b"),
        ("lama3.1", "llama3.1:latest"),
        ("llama-3.1", "llama3.1:latest"),
        ("gemma-3-270", "google/gemma-3-270m"),
        ("goggle/gemma3-270m", "google/gemma-3-270m"),
        ("gpt-4o", None),
        ("", None),
    ],
)
def test_the_nearest_live_model(name: str, nearest: str | None) -> None:
    servers = [
        serving(model("qwen3:8b"), model("llama3.1:latest", aliases=("llama3.1",))),
        serving(model("google/gemma-3-270m"), kind="lm_studio"),
    ]
    assert nearest_model(name, servers) == nearest
    assert nearest_model(name, []) is None


def test_of_equally_near_models_the_loaded_one() -> None:
    names = [model("tiny-a", is_loaded=False), model("tiny-c"), model("tiny-b")]
    assert nearest_model("tiny-x", [serving(*names)]) == "tiny-b"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("qwen/qwen3-8b", "qwen/qwen3-8b"),
        ("Qwen/Qwen3-8B", "qwen/qwen3-8b"),
        ("qwen3-8b", "qwen/qwen3-8b"),
        ("short", "long-name"),
        ("qwen3", None),
    ],
)
def test_the_model_a_name_means(name: str, found: str | None) -> None:
    server = serving(model("qwen/qwen3-8b"), model("long-name", aliases=("short",)))
    meant = find_model(server, name)
    assert (meant.id if meant else None) == found


# --- any JSON at all

JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    float("nan"),
    10**30,
    "",
    "x",
    "4096",
    [],
    [None],
    [[]],
    {},
    {"a": {}},
]
PROPS = {
    "default_generation_settings": {"n_ctx": 512},
    "total_slots": 1,
    "model_alias": "m",
    "modalities": {"vision": False},
    "chat_template_caps": {"supports_tool_calls": True},
    "is_sleeping": False,
}
LLAMA_ROW = {
    "id": "m",
    "aliases": ["n"],
    "owned_by": "llamacpp",
    "parent": "m",
    "max_model_len": 64,
    "meta": {"n_ctx": 512, "n_ctx_train": 4096},
    "status": {"value": "loaded"},
    "architecture": {"input_modalities": ["text"]},
}
TAGS_ROW = {"name": "m:latest", "expires_at": "2026", "context_length": 5, "capabilities": ["tools"], "remote_host": ""}
SHOWN = {
    "parameters": "num_ctx 99",
    "model_info": {"general.architecture": "llama", "llama.context_length": 64},
    "capabilities": ["completion"],
}


def spoilt(value: Any, rng: random.Random) -> Any:
    """The same JSON with junk here and there."""
    if rng.random() < 0.15:
        return rng.choice(JUNK)
    if isinstance(value, dict):
        return {k: spoilt(v, rng) for k, v in value.items() if rng.random() > 0.1}
    return [spoilt(one, rng) for one in value] if isinstance(value, list) else value


def test_no_json_breaks_a_reader() -> None:
    rng = random.Random(7)
    found: list[ServedModel] = []
    for _ in range(1500):
        found += shapes.lm_studio_models(spoilt({"models": [LM_GEMMA]}, rng)) or ()
        found += shapes.lm_studio_old_models(spoilt({"data": LM_OLD_ROWS[:2]}, rng)) or ()
        running = shapes.ollama_running(spoilt({"models": [TAGS_ROW]}, rng)) or {}
        rows = shapes.ollama_rows(spoilt({"models": [TAGS_ROW]}, rng))
        found += [shapes.ollama_model(row, running, spoilt(SHOWN, rng)) for row in rows]
        rows = shapes.openai_rows(spoilt({"object": "list", "data": [LLAMA_ROW, LLAMA_ROW]}, rng)) or []
        assert shapes.openai_kind(rows) in ("llamacpp", "vllm", "openai_compatible")
        found += shapes.openai_models(rows)
        found += [shapes.llamacpp_model(row, spoilt(PROPS, rng)) for row in rows]
    sources = {one.source.split()[0] for one in found}
    assert sources == {"/api/v1/models", "/api/v0/models", "/api/ps", "/api/show", "/api/tags", "/v1/models", "/props"}
    for one in found:
        assert isinstance(one.id, str)
        numbers = (one.window_tokens, one.trained_tokens)
        assert all(tokens is None or (type(tokens) is int and tokens > 0) for tokens in numbers)
        assert all(flag in (None, True, False) for flag in (one.has_tools, one.has_vision))
        assert one.window_tokens is not None or not one.is_window_certain
    assert best_model([serving(*found)]) is not None
    assert nearest_model("m", [serving(*found)]) is not None


def test_probing_works_in_one_loop_after_another(server: LoopbackServer) -> None:
    lm_studio(server)
    cache = ServerCache()
    for _ in range(2):
        assert asyncio.run(probe(server.base_url)) is not None
        assert asyncio.run(served_window(server.base_url, "google/gemma-3-270m", cache=cache)) is not None
