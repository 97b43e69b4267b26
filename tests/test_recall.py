"""Recall as a tool, and embeddings from servers, over loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from any_agent.errors import (
    AuthenticationError,
    InvalidResponseError,
    ModelNotFoundError,
    ProviderError,
    ProviderTimeoutError,
    ServerUnreachableError,
)
from any_agent.memory import MemoryStore
from any_agent.models.embeddings import Embeddings
from any_agent.testing import LoopbackServer, WireReply, WireRequest, error
from any_agent.toolkits.recall import recall_tool


def said(content: str, role: str = "user") -> dict[str, Any]:
    return {"kind": "message", "role": role, "content": content}


async def test_the_model_recalls_what_was_said() -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("s", [said("my cat is called Mia"), said("a fine name", "assistant")])
        await store.append("other", [said("the cat of another person is called Tom")])
        recall = recall_tool(store, session_id="s", limit=2)
        assert recall.effect == "pure" and list(recall.parameters["properties"]) == ["query"]
        (found,) = await recall.run({"query": "what is my cat called?"})
        assert found["text"] == "my cat is called Mia" and found["who"] == "user" and "session s" in found["where"]
        assert await recall.run({"query": "submarine"}) == "nothing found; try other words"
        await store.append("s", [said("long " * 500 + "needle")])
        (found,) = await recall.run({"query": "needle"})
        assert "needle" in found["text"] and len(found["text"]) < 200


# ------------------------------------------------------------------ embeddings


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


def vectors_of(request: WireRequest) -> WireReply:
    texts = request.json["input"]
    data = [
        {"index": n, "object": "embedding", "embedding": [float("dog" in text), 1.0]} for n, text in enumerate(texts)
    ]
    return reply({"object": "list", "model": "e", "data": data[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}})


def reply(body: Any, status: int = 200) -> WireReply:
    return WireReply((json.dumps(body).encode(),), status, {"Content-Type": "application/json"})


async def test_a_server_makes_vectors_for_the_store(server: LoopbackServer) -> None:
    server.reply("/v1/embeddings", vectors_of, vectors_of, vectors_of)
    embed = Embeddings("e", base_url=server.base_url, api_key="k")
    async with MemoryStore(":memory:", embed=embed, embedding_model=embed.model) as store:
        await store.append("s", [said("a dog"), said("a car")])
        assert [hit.seq for hit in await store.search("my dogs", 1)] == [1]
    asked = server.requests[0]
    assert asked.json == {"model": "e", "input": ["a car", "a dog"], "encoding_format": "float"}
    assert asked.headers["authorization"] == "Bearer k"
    assert await embed([]) == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply({"error": {"message": "invalid api key"}}, 401), AuthenticationError),
        (reply({"error": {"message": "model 'e' not found"}}, 404), ModelNotFoundError),
        (reply({"data": []}), InvalidResponseError),
        (reply({"data": [{"index": 0, "embedding": "base64"}]}), InvalidResponseError),
        (reply({"error": {"message": "embeddings are off"}}), ProviderError),
        (WireReply((b"<html>",), headers={"Content-Type": "text/html"}), InvalidResponseError),
        (WireReply(status=302, headers={"Location": "http://127.0.0.1:9/"}), ProviderError),
    ],
)
async def test_failures_are_told_apart(server: LoopbackServer, answer: WireReply, kind: type[Exception]) -> None:
    server.reply("/v1/embeddings", lambda request: answer)
    with pytest.raises(kind) as caught:
        await Embeddings("e", base_url=server.base_url, api_key="sk-secret")(["a"])
    assert "sk-secret" not in str(caught.value) and len(server.requests) == 1


async def test_nobody_answers() -> None:
    with pytest.raises(ServerUnreachableError):
        await Embeddings("e", base_url="http://127.0.0.1:9/v1")(["a"])


async def test_a_server_that_is_silent(server: LoopbackServer) -> None:
    server.reply("/v1/embeddings", WireReply(stall=True))
    with pytest.raises(ProviderTimeoutError, match=r"within 0.1 s"):
        await Embeddings("e", base_url=server.base_url, timeout_s=0.1)(["a"])


async def test_litellm_makes_vectors_too(server: LoopbackServer) -> None:
    server.reply("/v1/embeddings", vectors_of, error(401, "no such key"))
    embed = Embeddings("hosted_vllm/e", base_url=server.base_url, api_key="k", door="litellm")
    assert await embed(["a car", "a dog"]) == [[0.0, 1.0], [1.0, 1.0]]
    assert server.requests[0].json["model"] == "e"
    with pytest.raises(AuthenticationError):
        await embed(["a"])
