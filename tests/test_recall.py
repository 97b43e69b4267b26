"""Recall as a tool, and embeddings from servers, over loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent
from any_agent.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidResponseError,
    ModelNotFoundError,
    ProviderError,
    ProviderTimeoutError,
    ServerUnreachableError,
)
from any_agent.memory import MemoryStore
from any_agent.models.embeddings import Embeddings
from any_agent.testing import LoopbackServer, ScriptedModel, WireReply, WireRequest, error
from any_agent.toolkits.recall import recall_tool
from any_agent.types import ToolMessage


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


def told(model: ScriptedModel) -> Any:
    """What the tool gave the model in its last request."""
    last = model.requests[-1].messages[-1]
    assert isinstance(last, ToolMessage)
    text = last.content[0].as_text()
    return json.loads(text) if text.startswith("[") else text


def asks(query: str) -> list[dict[str, Any]]:
    return [{"name": "recall", "input": {"query": query}, "id": "c1"}]


async def test_an_agent_recalls_earlier_sessions_and_cites_them(tmp_path: Path) -> None:
    path = str(tmp_path / "m.db")
    async with Agent(ScriptedModel(["A fine name."]), memory_db_path=path) as agent:
        await agent.create_session("monday").query("My cat is called Mia.")
    model = ScriptedModel([asks("what is my cat called?"), "Mia."])
    async with Agent(model, memory_db_path=path, recall=True) as agent:  # another process could be this one
        assert await agent.create_session("tuesday").query("What is my cat called?") == "Mia."
    assert [tool.name for tool in model.requests[0].tools] == ["recall"]
    # The question itself holds all the words, and is left out: it is what is being answered.
    (found,) = told(model)
    assert found["where"] == "session monday, entry 1" and found["text"] == "My cat is called Mia."
    assert found["who"] == "user" and found["when"]


async def test_an_agent_recalls_documents_and_cites_their_lines(tmp_path: Path) -> None:
    (tmp_path / "garden.md").write_text("# Garden\n\n## Roses\n\nRoses are cut in March.\n")
    (tmp_path / "water.py").write_text("import time\n\n\ndef water(roses: int) -> None:\n    time.sleep(roses)\n")
    (tmp_path / "notes.txt").write_text("Tulips want no cutting.\n")
    model = ScriptedModel(
        [asks("when are roses cut"), "In March.", asks("water roses sleep"), "So.", asks("March"), "No."]
    )
    async with Agent(model, memory_db_path=":memory:", recall={"sources": ["document"], "limit": 2}) as agent:
        report = await agent.memory.index(tmp_path)
        assert (report.added, report.unchanged) == (3, 0)
        await agent.query("When are roses cut?")
        found = told(model)
        assert found[0] == {
            "where": f"{tmp_path}/garden.md:3-5",
            "text": "## Roses\n\nRoses are cut in March.",
            "heading": "Garden › Roses",
        }
        await agent.query("How are they watered?")
        assert told(model)[0]["where"] == f"{tmp_path}/water.py:4-5" and len(told(model)) == 2
        (tmp_path / "garden.md").unlink()
        (tmp_path / "notes.txt").write_text("Tulips and daffodils want no cutting.\n")
        report = await agent.memory.index(tmp_path)
        assert (report.added, report.updated, report.unchanged, report.removed) == (0, 1, 1, 1)
        await agent.query("When are roses cut?")
        assert told(model) == "nothing found; try other words"  # the file is gone, and so are its words


async def test_recall_is_narrowed_by_the_agent_not_by_the_model() -> None:
    store = MemoryStore(":memory:")
    for person in ("anna", "ben"):
        await store.append(person, [{"kind": "session", "tags": [person]}, said(f"the secret of {person} is blue")])
    model = ScriptedModel([asks("the secret is blue"), "Blue."])
    async with Agent(model, store=store, recall={"tag": "anna"}) as agent:
        await agent.query("What is the secret?")
        assert [one["where"] for one in told(model)] == ["session anna, entry 2"]
    await store.close()


async def test_what_left_the_window_of_this_session_is_recalled() -> None:
    store = MemoryStore(":memory:")
    model = ScriptedModel(["Noted.", asks("the code of the door"), "1234."])
    async with Agent(model, store=store, recall=True) as agent:
        session = agent.create_session("s")
        await session.query("The code of the door is 1234.")
        await session.query("What is the code of the door?")
        assert [one["where"] for one in told(model)] == ["session s, entry 1"]
    await store.close()


async def test_recall_is_off_where_memory_is_off_and_yields_to_a_tool_of_that_name(tmp_path: Path) -> None:
    def recall(query: str) -> str:
        """Mine."""
        return "mine"

    path = tmp_path / "m.db"
    model = ScriptedModel(["a", "b", "c", "d", "e"])
    async with Agent(model, memory_db_path=str(path)) as agent:
        await agent.query("x", recall=True, enable_memory=False)
        assert model.requests[-1].tools == () and not path.exists()
        await agent.query("x")
        assert model.requests[-1].tools == ()
        await agent.query("x", recall=True)
        assert [tool.name for tool in model.requests[-1].tools] == ["recall"]
        await agent.query("x", recall={"name": "memory"})
        assert [tool.name for tool in model.requests[-1].tools] == ["memory"]
        await agent.query("x", recall=True, tools=[recall])
        assert [tool.description for tool in model.requests[-1].tools] == ["Mine."]


@pytest.mark.parametrize(
    "wrong", ["yes", {"person": "anna"}, {"limit": 0}, {"sources": ["web"]}, {"sources": "document"}]
)
def test_wrong_words_for_recall_are_told(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="recall"):
        Agent("m", recall=wrong)


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
