"""Hundreds of turns with tools on a real llama.cpp server with a window of 2,048 tokens, watched on the wire."""

from __future__ import annotations

import dataclasses

import pytest
from support.invariants import figures, violations
from support.llama import LlamaServer
from support.long_talk import SYSTEM, harbour_tools, prompts, talk
from support.recording_proxy import RecordingProxy

from any_agent import Agent

WINDOW = 2048
STRATEGIES = ["sliding", "truncate", "adaptive", "summarize"]


async def converse(server: LlamaServer, strategy: str, turns: int, *, seed: int = 1) -> None:
    with RecordingProxy(server.root_url) as proxy:
        agent = Agent(
            "tiny",
            base_url=proxy.base_url,
            system_prompt=SYSTEM,
            temperature=0,
            seed=seed,
            max_tokens=64,
            tools=harbour_tools(seed, 1400),
            context_strategy=strategy,
            reserve_tokens=256,
        )
        async with agent:
            seen = await talk(agent, prompts(seed, turns, 500))
        chats = proxy.chats
    found = figures(chats)
    print(f"\n{strategy}: {turns} turns in {seen.duration_s:.1f} s, {seen.tool_results} tool results,", end=" ")
    print(f"{len(seen.fitted)} fitted, {len(seen.cut)} cut, {len(seen.retried)} retried, {dataclasses.asdict(found)}")
    assert seen.unanswered == []
    assert violations(chats, seen.spoken, WINDOW, has_summaries=strategy == "summarize") == []
    assert seen.cut == []  # llama.cpp never cuts
    assert seen.tool_results >= turns // 2
    assert len(seen.fitted) >= turns // 12  # history was left out again and again
    assert found.most_prompt_tokens > WINDOW // 2
    assert (found.summaries > 0) == (strategy == "summarize")


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_twenty_five_turns_with_tools(llama_tools: LlamaServer, strategy: str) -> None:
    await converse(llama_tools, strategy, 25)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_three_hundred_turns_with_tools(llama_tools: LlamaServer, strategy: str) -> None:
    await converse(llama_tools, strategy, 300)
