"""The option probe_model: an agent asks a local model what it can do, once, and goes by the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.replay_abilities import Manners, chats, speaks
from support.replay_servers import vllm

from any_agent import Agent
from any_agent.models.capabilities import MAX_CALLS, forget_servers, probing
from any_agent.testing import LoopbackServer, WireRequest

REFUSAL = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A server that refuses tools, and that takes a schema and does not hold it."""
    with LoopbackServer() as one:
        vllm(one)
        speaks(one, Manners("refused", REFUSAL, schema="ignored"))
        yield one


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path))
    yield tmp_path / "capabilities.json"
    forget_servers()


def look(place: str) -> str:
    """Look there."""
    return "nothing"


def agent_for(server: LoopbackServer, **fields: Any) -> Agent:
    return Agent("tiny", "vllm", base_url=server.base_url, tools=[look], **fields)


def own(server: LoopbackServer, prompt: str) -> list[WireRequest]:
    """The agent's own calls among what was asked."""
    return [one for one in chats(server) if one.json["messages"][-1]["content"] == prompt]


async def test_it_asks_once_and_goes_by_what_it_found(server: LoopbackServer, home: Path) -> None:
    async with agent_for(server, probe_model=True) as agent:
        await agent.query("first")
        asked = len(chats(server)) - 1
        assert 0 < asked <= MAX_CALLS and home.exists()
        await agent.query("second")
    async with agent_for(server, probe_model=True) as other:
        await other.query("third")
    assert len(chats(server)) == asked + 3, "one asking, three prompts"
    for prompt in ("first", "second", "third"):
        (sent,) = own(server, prompt)
        assert "tools" not in sent.json and "look" in sent.json["messages"][0]["content"], "tools are told as text"


async def test_without_it_nobody_is_asked(server: LoopbackServer, home: Path) -> None:
    async with agent_for(server) as agent:
        await agent.query("first")
    refused, sent = chats(server)
    assert "tools" in refused.json and "tools" not in sent.json and not home.exists()


async def test_one_prompt_may_ask(server: LoopbackServer) -> None:
    async with agent_for(server) as agent:
        await agent.query("first")
        await agent.query("second", probe_model=True)
    assert ["tools" in one.json for one in own(server, "first")] == [True, False]
    assert ["tools" in one.json for one in own(server, "second")] == [False]
    assert len(chats(server)) > 3


@pytest.mark.parametrize("is_kept", [True, False])
async def test_structured_output_goes_by_it_too(
    server: LoopbackServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    if not is_kept:  # a home that cannot be written: what was found holds for this process
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path / "file" / "home"))
    fields: dict[str, Any] = {"output_type": bool, "output_retries": 0, "enable_tools": False}
    for is_asking in (False, True):
        async with agent_for(server, probe_model=is_asking, **fields) as agent:
            async for _ in agent.stream("Is it?"):
                pass
    plain, probed = own(server, "Is it?")
    assert "response_format" in plain.json and "response_format" not in probed.json


async def test_fallback_models_and_gateways_are_not_asked(server: LoopbackServer, home: Path) -> None:
    with LoopbackServer() as gateway:
        gateway.reply("/v1/models", {"object": "list", "data": [{"id": "m"}]})
        speaks(gateway, Manners())
        there = {"model": "tiny", "provider": "vllm", "base_url": server.base_url}
        async with Agent(
            "m", base_url=gateway.base_url, tools=[look], fallback_models=[there], probe_model=True
        ) as agent:
            await agent.query("first")
        assert len(chats(gateway)) == 1 and chats(server) == [] and not home.exists()


async def test_a_server_that_nobody_identifies_is_not_asked_again_at_each_prompt(home: Path) -> None:
    with LoopbackServer() as server:
        speaks(server, Manners())  # nothing but chat
        async with agent_for(server, probe_model=True) as agent:
            counts = []
            for prompt in ("first", "second", "third", "fourth"):
                before = len(server.requests)
                await agent.query(prompt)
                counts.append(len(server.requests) - before)
                if prompt == "second":
                    forget_servers()
                if prompt == "third":  # a minute passes
                    for known in probing._KNOWN.values():
                        known.nobody_until.update({place: end - 60.0 for place, end in known.nobody_until.items()})
        assert counts[0] > 1 and counts[1] == 1 and min(counts[2:]) > 1, counts
        assert len(chats(server)) == 4 and not home.exists()
