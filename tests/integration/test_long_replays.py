"""Hundreds of turns with tools on servers that meet a long prompt in their own way, watched on the wire.

Ollama cuts without a word, LM Studio answers 200 with an error event or with nothing at all; neither counts as we do.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
from support.invariants import figures, violations
from support.long_talk import SYSTEM, Talk, harbour_tools, prompts, talk
from support.odd_tokenizers import TOKENIZERS
from support.recording_proxy import Chat, RecordingProxy
from support.replay_chats import LmStudioChat, Meeting, OllamaChat
from support.replay_servers import lm_studio_with, ollama

from any_agent import Agent
from any_agent.testing import LoopbackServer

WINDOW, TURNS, MANY_TURNS = 2048, 100, 300
MOST_LATE = 3  # cuts of a server whose window nothing tells that may pass before the first one is noticed


async def converse(
    server: LoopbackServer, model: str, provider: str, strategy: str, most_chars: int, turns: int
) -> tuple[Talk, list[Chat]]:
    with RecordingProxy(server.root_url) as proxy:
        agent = Agent(
            model,
            provider,
            base_url=proxy.base_url,
            system_prompt=SYSTEM,
            tools=harbour_tools(1, most_chars),
            context_strategy=strategy,
            reserve_tokens=256,
            retry_delay=0.001,
        )
        async with agent:
            seen = await talk(agent, prompts(1, turns, 700))
        chats = proxy.chats
    print(f"\n{provider}: {turns} turns in {seen.duration_s:.1f} s, {seen.tool_results} tool results,", end=" ")
    print(
        f"{len(seen.fitted)} fitted, {len(seen.cut)} cut, {len(seen.retried)} retried, {dataclasses.asdict(figures(chats))}"
    )
    return seen, chats


def unnoticed(meetings: list[Meeting], seen: Talk, events: list[int]) -> list[str]:
    """Meetings of a turn beyond its events."""
    turn_of = {prompt: number for number, prompt in enumerate(seen.prompts)}
    told = Counter(events)
    out = []
    for meeting in meetings:
        turn = turn_of[meeting.prompt]
        told[turn] -= 1
        if told[turn] < 0:
            out.append(f"turn {turn}: {meeting.true_tokens} tokens, {meeting.kept_tokens} kept")
    return out


async def with_ollama(
    rule: Any,
    told: int | None,
    tokenizer: str,
    *,
    strategy: str = "sliding",
    most_chars: int = 6000,
    turns: int = MANY_TURNS,
) -> None:
    with LoopbackServer() as server:
        ollama(server, {"harbour:8b": told})
        chat = OllamaChat(server, "harbour:8b", TOKENIZERS[tokenizer], WINDOW, rule)
        seen, chats = await converse(server, "harbour:8b", "ollama", strategy, most_chars, turns)
    late = unnoticed(chat.cuts, seen, [turn for turn, _ in seen.cut])
    print(f"{rule}, told {told}, {tokenizer}: {len(chat.cuts)} cuts by the server, {len(late)} noticed late")
    assert seen.unanswered == []
    assert violations(chats, seen.spoken, WINDOW, has_summaries=strategy == "summarize") == []
    if told == WINDOW:
        assert chat.cuts == seen.cut == []  # who knows the window is never cut
    else:
        assert seen.cut and len(seen.cut) <= 3  # and learned for the rest of the conversation
        assert len(late) <= MOST_LATE, late
        noticed = max(turn for turn, _ in seen.cut)
        assert {cut.prompt for cut in chat.cuts} <= set(seen.prompts[: noticed + 1])


async def with_lm_studio(
    overflow: Any, told: int | None, tokenizer: str, *, strategy: str = "sliding", turns: int = MANY_TURNS
) -> None:
    with LoopbackServer() as server:
        lm_studio_with(server, "harbour-8b", told)
        chat = LmStudioChat(server, "harbour-8b", TOKENIZERS[tokenizer], WINDOW, overflow)
        seen, chats = await converse(server, "harbour-8b", "lm_studio", strategy, 6000, turns)
    print(f"{overflow}, told {told}, {tokenizer}: {len(chat.refused)} refused by the server")
    assert seen.unanswered == [] and seen.cut == []
    assert violations(chats, seen.spoken, WINDOW, has_summaries=strategy == "summarize") == []
    assert unnoticed(chat.refused, seen, [turn for turn, _ in seen.retried]) == []
    if told == WINDOW:
        assert chat.refused == []
    else:
        assert 1 <= len(chat.refused) <= 6  # learned


@pytest.mark.parametrize(
    ("rule", "told", "tokenizer", "most_chars"),
    [
        ("messages", WINDOW, "double", 6000),
        ("messages", None, "half", 300),
        ("half", None, "words_and_a_half", 6000),
        ("half", 8192, "characters", 300),
    ],
)
async def test_ollama_cuts_nothing_for_long(rule: str, told: int | None, tokenizer: str, most_chars: int) -> None:
    await with_ollama(rule, told, tokenizer, most_chars=most_chars, turns=TURNS)


@pytest.mark.parametrize(
    ("overflow", "told", "tokenizer"),
    [("event", None, "double"), ("nothing", None, "characters"), ("stop", 8192, "half"), ("event", WINDOW, "bytes")],
)
async def test_lm_studio_refuses_nothing_for_good(overflow: str, told: int | None, tokenizer: str) -> None:
    await with_lm_studio(overflow, told, tokenizer, turns=TURNS)


ODD = ["half", "double", "characters", "bytes", "words_and_a_half", "single_digits"]
TOLD = pytest.mark.parametrize("told", [WINDOW, None, 8192], ids=["told", "untold", "told wrongly"])


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ODD)
@TOLD
@pytest.mark.parametrize("rule", ["messages", "half"])
@pytest.mark.parametrize("most_chars", [300, 6000])
async def test_ollama_in_every_way(rule: str, told: int | None, tokenizer: str, most_chars: int) -> None:
    await with_ollama(rule, told, tokenizer, most_chars=most_chars)


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ODD)
@TOLD
@pytest.mark.parametrize("overflow", ["event", "nothing", "stop"])
async def test_lm_studio_in_every_way(overflow: str, told: int | None, tokenizer: str) -> None:
    await with_lm_studio(overflow, told, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["truncate", "adaptive", "summarize"])
async def test_the_other_strategies(strategy: str) -> None:
    await with_ollama("messages", None, "double", strategy=strategy)
    await with_lm_studio("event", None, "double", strategy=strategy)
    await with_lm_studio("nothing", None, "half", strategy=strategy)
