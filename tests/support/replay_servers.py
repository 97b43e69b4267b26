"""Servers we cannot run in the tests, replayed on loopback with the JSON that they send: bodies as in their own
documentation and source (LM Studio REST v0 and v1, Ollama api/types.go, vLLM ModelCard, llama.cpp server-models.cpp).

Each function teaches one LoopbackServer to be such a server; ask `server.requests` what it was sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from any_agent.testing import LoopbackServer, WireReply, WireRequest
from any_agent.testing.loopback import ANY_PATH
from any_agent.testing.wire_bytes import JSON_BODY

Body = dict[str, Any]


def json_reply(body: Any, status: int = 200) -> WireReply:
    return WireReply((json.dumps(body).encode(),), status, JSON_BODY)


def text_reply(text: str, status: int = 200, content_type: str = "text/html") -> WireReply:
    return WireReply((text.encode(),), status, {"Content-Type": content_type})


def paths(server: LoopbackServer) -> list[str]:
    """What was asked, as `GET /props`."""
    return [f"{request.method} {request.path}" for request in server.requests]


# ------------------------------------------------------------------ LM Studio


def lm_studio(server: LoopbackServer) -> None:
    """LM Studio 0.4: both REST APIs, and 200 for every path it does not know."""
    server.reply("/api/v1/models", {"models": [LM_GEMMA, LM_QWEN, LM_EMBED]})
    _lm_studio_shared(server)


def lm_studio_with(server: LoopbackServer, key: str, window: int | None) -> None:
    """LM Studio 0.4 with one model for tools, loaded with `window`; None: it is loaded when it is first asked."""
    loaded = {} if window is None else {key: window}
    can = {"vision": False, "trained_for_tool_use": True}
    server.reply("/api/v1/models", {"models": [_lm_model(key, "llm", 131072, loaded, can)]})
    server.reply("/v1/models", {"object": "list", "data": [{"id": key, "object": "model"}]})
    server.reply(ANY_PATH, unexpected_endpoint)


def lm_studio_036(server: LoopbackServer) -> None:
    """LM Studio 0.3.6 to 0.3.x: without /api/v1."""
    _lm_studio_shared(server)


def lm_studio_empty(server: LoopbackServer) -> None:
    """LM Studio 0.4 with no model downloaded."""
    server.reply("/api/v1/models", {"models": []})
    server.reply("/api/v0/models", {"object": "list", "data": []})
    server.reply("/v1/models", {"object": "list", "data": []})
    server.reply(ANY_PATH, unexpected_endpoint)


def _lm_studio_shared(server: LoopbackServer) -> None:
    server.reply("/api/v0/models", {"object": "list", "data": LM_OLD_ROWS})
    rows = [{"id": row["id"], "object": "model", "owned_by": "organization_owner"} for row in LM_OLD_ROWS]
    server.reply("/v1/models", {"object": "list", "data": rows})
    server.reply(ANY_PATH, unexpected_endpoint)


def unexpected_endpoint(request: WireRequest) -> Body:
    return {"error": f"Unexpected endpoint or method. ({request.method} {request.path})"}


def _lm_model(key: str, kind: str, most: int, loaded: Mapping[str, int], capabilities: Body | None) -> Body:
    row: Body = {
        "type": kind,
        "publisher": key.partition("/")[0],
        "key": key,
        "display_name": key.title(),
        "architecture": "qwen3",
        "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
        "size_bytes": 241410208,
        "params_string": "8B",
        "loaded_instances": [
            {
                "id": instance_id,
                "config": {
                    "context_length": tokens,
                    "eval_batch_size": 512,
                    "flash_attention": True,
                    "num_experts": 0,
                    "offload_kv_cache_to_gpu": True,
                },
            }
            for instance_id, tokens in loaded.items()
        ],
        "max_context_length": most,
        "format": "gguf",
    }
    return row if capabilities is None else {**row, "capabilities": capabilities, "description": None}


LM_GEMMA = _lm_model(
    "google/gemma-3-270m", "llm", 32768, {"google/gemma-3-270m": 4096}, {"vision": False, "trained_for_tool_use": False}
)
LM_QWEN = _lm_model("qwen/qwen3-8b", "llm", 131072, {}, {"vision": True, "trained_for_tool_use": True})
LM_EMBED = _lm_model("text-embedding-nomic-embed-text-v1.5", "embedding", 2048, {}, None)


def _lm_old_row(model_id: str, kind: str, most: int, loaded: int | None = None, **more: Any) -> Body:
    row = {
        "id": model_id,
        "object": "model",
        "type": kind,
        "publisher": "lmstudio-community",
        "arch": "llama",
        "compatibility_type": "gguf",
        "quantization": "Q4_K_M",
        "state": "not-loaded" if loaded is None else "loaded",
        "max_context_length": most,
    }
    return {**row, **({} if loaded is None else {"loaded_context_length": loaded}), **more}


LM_OLD_ROWS = [
    _lm_old_row("qwen2-vl-7b-instruct", "vlm", 32768),
    _lm_old_row("meta-llama-3.1-8b-instruct", "llm", 131072, 8192, capabilities=["tool_use"]),
    _lm_old_row("text-embedding-nomic-embed-text-v1.5", "embeddings", 2048),
]


# ------------------------------------------------------------------ Ollama


def ollama(server: LoopbackServer, loaded: Mapping[str, int | None] | None = None) -> None:
    """Ollama: llama3.1:8b, qwen3:latest with `num_ctx 16384`, an embedding model, a model that runs in the cloud.

    Args:
        loaded: window of each loaded model; None leaves the field out, as versions before it did.
    """
    running = []
    for name, tokens in ({"llama3.1:8b": 8192} if loaded is None else loaded).items():
        row = {
            **_ollama_row(name),
            "expires_at": "2026-11-20T14:38:31.83753-07:00",
            "size_vram": 5137025024,
        }
        running.append(row if tokens is None else {**row, "context_length": tokens})
    server.reply("/api/ps", {"models": running})
    server.reply("/api/version", {"version": "0.40.12"})
    names = ["llama3.1:8b", "qwen3:latest", "nomic-embed-text:latest"]
    cloud = {
        **_ollama_row("gpt-oss:120b-cloud"),
        "remote_model": "gpt-oss:120b",
        "remote_host": "https://ollama.com:443",
    }
    server.reply("/api/tags", {"models": [*map(_ollama_row, names), cloud]})
    server.reply("/api/show", _ollama_show)
    rows = [{"id": name, "object": "model", "created": 1732000000, "owned_by": "library"} for name in names]
    server.reply("/v1/models", {"object": "list", "data": rows})
    server.reply(ANY_PATH, text_reply("404 page not found", 404, "text/plain"))


def _ollama_row(name: str) -> Body:
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-11-04T14:56:49.277302595-07:00",
        "size": 5137025024,
        "digest": "2ae6f6dd7a3dd734790bbbf58b8909a606e0e7e97e94b7604e0aa7ae4490e6d8",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "7.2B",
            "quantization_level": "Q4_0",
        },
    }


OLLAMA_SHOWN: dict[str, tuple[str, int, str, list[str]]] = {
    "llama3.1:8b": ("llama", 131072, 'stop    "<|eot_id|>"', ["completion", "tools"]),
    "qwen3:latest": (
        "qwen3", 40960, 'num_ctx                        16384\nstop    "<|im_end|>"',
        ["completion", "tools", "thinking", "vision"],
    ),
    "harbour:8b": ("llama", 131072, 'stop    "<|eot_id|>"', ["completion", "tools"]),
    "nomic-embed-text:latest": ("nomic-bert", 2048, "num_ctx    8192", ["embedding"]),
    "gpt-oss:120b-cloud": ("gptoss", 131072, "", ["completion", "tools", "thinking"]),
}  # fmt: skip


def _ollama_show(request: WireRequest) -> WireReply:
    name = request.json["model"]
    if name not in OLLAMA_SHOWN:
        return json_reply({"error": f"model '{name}' not found"}, 404)
    arch, trained, parameters, capabilities = OLLAMA_SHOWN[name]
    return json_reply(
        {
            "modelfile": '# Modelfile generated by "ollama show"\nPARAMETER num_ctx 99\n',
            "parameters": parameters,
            "template": "{{ .Prompt }}",
            "details": _ollama_row(name)["details"],
            "model_info": {
                "general.architecture": arch,
                "general.parameter_count": 8030261248,
                f"{arch}.block_count": 32,
                f"{arch}.context_length": trained,
                f"{arch}.vocab_size": 128256,
                "tokenizer.ggml.tokens": None,
            },
            "capabilities": capabilities,
            "modified_at": "2026-11-04T14:56:49.277302595-07:00",
        }
    )


# ------------------------------------------------------------------ vLLM


def vllm(server: LoopbackServer) -> None:
    """vLLM 0.32 with one model and one LoRA of it; /tokenize counts one token a character, plus 3 a message and 7 a tool."""
    server.reply(
        "/v1/models", {"object": "list", "data": [_vllm_row("tiny", None, 2048), _vllm_row("poet", "tiny", None)]}
    )
    server.reply("/version", {"version": "0.32.0"})
    server.reply("/tokenize", _vllm_tokenize)
    server.reply(ANY_PATH, json_reply({"detail": "Not Found"}, 404))


def _vllm_row(model_id: str, parent: str | None, window: int | None) -> Body:
    return {
        "id": model_id,
        "object": "model",
        "created": 1795230886,
        "owned_by": "vllm",
        "root": "./hf_random",
        "parent": parent,
        "max_model_len": window,
        "permission": [
            {"id": "modelperm-1", "object": "model_permission", "allow_sampling": True, "is_blocking": False}
        ],
    }


def _vllm_tokenize(request: WireRequest) -> WireReply:
    body = request.json
    model = body.get("model", "tiny")
    if model not in ("tiny", "poet"):
        said = f"The model `{model}` does not exist. Valid aliases: tiny."
        return json_reply({"error": {"message": said, "type": "NotFoundError", "param": "model", "code": 404}}, 404)
    if isinstance(body.get("prompt"), str):
        count = len(body["prompt"]) + (1 if body.get("add_special_tokens", True) else 0)
    elif isinstance(body.get("messages"), list):
        count = sum(3 + len(m["content"] or "") for m in body["messages"]) + 7 * len(body.get("tools") or ())
        count += 1 if body.get("add_special_tokens", False) else 0
    else:
        error = {"message": "1 validation error: prompt: Field required", "type": "BadRequestError", "code": 400}
        return json_reply({"error": error}, 400)
    return json_reply({"count": count, "max_model_len": 2048, "tokens": [1] * count, "token_strs": None})


# ------------------------------------------------------------------ llama.cpp as a router


ROUTER_STATES = {"ggml-org/gemma-3-4b-it-GGUF:Q4_K_M": "loaded", "nap-1b": "sleeping", "big-70b": "unloaded"}
ROUTER_WINDOWS = {"ggml-org/gemma-3-4b-it-GGUF:Q4_K_M": 8192, "nap-1b": 4096, "big-70b": 1024}


class LlamaRouter:
    """`llama-server --models-dir`: one model loaded with 8192, one sleeping with 4096, one not loaded.

    Attributes: loads (models that a request made it load; a probe must not).
    """

    def __init__(self, server: LoopbackServer) -> None:
        self.loads: list[str] = []
        models = {"data": [self._row(name) for name in ROUTER_STATES], "object": "list"}
        server.reply("/v1/models", models)
        server.reply("/models", models)
        server.reply("/props", self._props)
        server.reply("/tokenize", lambda request: self._for_model(request, {"tokens": [1, 2, 3]}))
        missing = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
        server.reply(ANY_PATH, json_reply(missing, 404))

    def _row(self, name: str) -> Body:
        return {
            "id": name,
            "aliases": ["gemma"] if "gemma" in name else [],
            "tags": [],
            "object": "model",
            "owned_by": "llamacpp",
            "created": 1795230886,
            "status": {"value": ROUTER_STATES[name], "args": ["llama-server", "-ctx", "4096"]},
            "architecture": {
                "input_modalities": ["text", "image"] if "gemma" in name else ["text"],
                "output_modalities": ["text"],
            },
            "source": "local",
            "can_remove": False,
        }

    def _props(self, request: WireRequest) -> WireReply:
        name = parse_qs(request.query).get("model", [""])[0]
        if name:
            settings = {"params": {"seed": 4294967295}, "n_ctx": ROUTER_WINDOWS.get(self._real(name), 0)}
            props = {
                "default_generation_settings": settings,
                "total_slots": 1,
                "model_alias": name,
                "model_path": f"/models/{name}.gguf",
                "modalities": {"vision": "gemma" in name, "audio": False},
                "chat_template": "{{ messages }}",
                "chat_template_caps": {"supports_tools": True, "supports_tool_calls": True},
                "build_info": "b11434-0abc123",
                "is_sleeping": name == "nap-1b",
            }
            return self._for_model(request, props, name)
        return json_reply(
            {
                "role": "router",
                "max_instances": 4,
                "models_autoload": True,
                "model_alias": "llama-server",
                "model_path": "none",
                "default_generation_settings": {"params": None, "n_ctx": 0},
                "ui_settings": {},
                "build_info": "b11434-0abc123",
                "cors_proxy_enabled": False,
            }
        )

    def _real(self, name: str) -> str:
        return "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M" if name == "gemma" else name

    def _for_model(self, request: WireRequest, body: Body, name: str | None = None) -> WireReply:
        name = self._real(request.json.get("model", "") if name is None else name)
        if name not in ROUTER_STATES:
            return _llama_error(f"model '{name}' not found" if name else "model name is missing from the request")
        if ROUTER_STATES[name] == "unloaded":
            if parse_qs(request.query).get("autoload") == ["false"]:
                return _llama_error("model is not loaded")
            self.loads.append(name)
        return json_reply(body)


def _llama_error(message: str) -> WireReply:
    return json_reply({"error": {"code": 400, "message": message, "type": "invalid_request_error"}}, 400)
