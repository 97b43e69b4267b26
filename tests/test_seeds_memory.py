"""The seeds' code for sessions and memory: `MemoryStore`, conversations that are restored, settings (see test_seeds.py)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.seeds import CHAT, asked, isolate, parameters, paste, roles, says, snippet

from any_agent import Agent, MemoryStore
from any_agent.testing import LoopbackServer


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture(autouse=True)
def own_world(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(server, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["__init__", "save_interaction", "get_relevant_context"])
def test_arguments_of_the_memory_store(name: str) -> None:
    text = snippet("000/memory_store")
    start = text.index(f"    def {name}(")
    promised = parameters(text[start : text.index('"""' if name != "__init__" else "self.db", start)].rstrip())
    ours = list(inspect.signature(getattr(MemoryStore, name)).parameters)
    assert ours[1 : 1 + len(promised)] == promised


def test_the_memory_store_is_used_as_the_sketch_has_it(tmp_path: Path) -> None:
    async def go() -> None:
        store = MemoryStore("agent_memory.db")  # the sketch's default, in the working folder
        await store.save_interaction("s1", "What is my cat called?", "Mia.", {"mood": "good"})
        await store.save_interaction("s1", "And my dog?", "Rex.", {})
        (found,) = await store.get_relevant_context("the name of the cat", limit=1)
        assert (found["session_id"], found["prompt"], found["response"]) == ("s1", "What is my cat called?", "Mia.")
        assert found["metadata"] == {"mood": "good"} and found["timestamp"] > 0
        recent = await store.get_relevant_context("nothing like that", limit=5)  # recency-based
        assert [one["response"] for one in recent] == ["Rex.", "Mia."]
        await store.close()

    asyncio.run(go())


def test_a_session_is_restored_in_another_agent(server: LoopbackServer) -> None:
    """000's session, then 001's "Context restoration" and "Session save/load": nothing is handed over but the id."""
    server.reply(CHAT, says("Hello."), says("You said hello."), says("That we talk."))
    names = paste(server, "000/session", agent=Agent("m", base_url=server.base_url))
    session_id = names["session"].session_id

    async def go() -> None:
        async with Agent("m", base_url=server.base_url) as agent:
            assert [row["session_id"] for row in await agent.list_sessions()] == [session_id]
            session = await agent.resume(session_id)
            await session.send("What was it about?")
            assert await session.receive() == "That we talk."
            assert session.turn_count == 3 and session.title == "Hello, let's have a conversation"
            assert isinstance(agent.memory, MemoryStore)  # 000: self.memory = MemoryStore()
            logged = await agent.memory.get_relevant_context("hello conversation", 1)
            assert logged[0]["response"] == "Hello."  # 001: "Automatic interaction logging"

    asyncio.run(go())
    assert roles(server) == ["user", "assistant", "user", "assistant", "user"]
    assert asked(server)["messages"][0]["content"] == "Hello, let's have a conversation"


def test_the_settings_file_names_the_store(server: LoopbackServer, tmp_path: Path) -> None:
    folder = Path.cwd() / ".agent"
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(snippet("000/config_yml").replace("http://localhost:1234/v1", server.base_url))
    assert Path(Agent().memory.path) == Path.cwd() / "agent_memory.db"


def test_options_of_memory(tmp_path: Path, server: LoopbackServer) -> None:
    """001: enable_memory, memory_db_path, log_interactions."""
    server.reply(CHAT, *[says("Yes.") for _ in range(3)])
    path = tmp_path / "kept.db"

    async def go() -> None:
        async with Agent("m", base_url=server.base_url, enable_memory=False) as agent:
            await agent.create_session("a").query("Hello?")
        async with Agent("m", base_url=server.base_url, memory_db_path=str(path), log_interactions=False) as agent:
            await agent.create_session("b").query("Hello?")
            assert (await agent.memory.stats())["interactions"] == 0
        async with Agent("m", base_url=server.base_url, memory_db_path=str(path)) as agent:
            await agent.create_session("c").query("Hello?")
            stats = await agent.memory.stats()
            assert (stats["sessions"], stats["interactions"]) == (2, 1)

    asyncio.run(go())
    assert not (Path.home() / ".any_agent" / "memory.db").exists()
