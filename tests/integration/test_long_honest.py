"""Servers that count in their own way, but cut nothing, are left alone: no event, no repeated call, no smaller window."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import pytest
from support.odd_tokenizers import EVERYTHING, TALK, TOKENIZERS, WORK, Server, any_server, conversation, tools

from any_agent.context import fitted
from any_agent.types import (
    AttemptFailed,
    ContextFitted,
    ContextTruncated,
    Delta,
    ModelRequest,
    StreamEnd,
    TextDelta,
    Usage,
)

WINDOW = 1_000_000
SCENES: dict[str, tuple[Sequence[str], int]] = {"talk": (TALK, 0), "work": (WORK, 16), "everything": (EVERYTHING, 14)}


class Honest:
    """Reads every prompt whole and reports what its tokenizer makes of it."""

    name, base_url = "harbour-8b", None

    def __init__(self, server: Server, provider: str | None) -> None:
        self.server, self.provider = server, provider
        self.calls = 0

    async def served_window(self) -> int | None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        self.calls += 1
        yield TextDelta("fine")
        yield StreamEnd("harbour-8b", "stop", Usage(self.server.report(request.messages, request.tools), 1))

    async def aclose(self) -> None: ...


async def fires(calls: int, first_seed: int) -> list[str]:
    """What fired in so many honest calls: half of them with a window that is known, half without."""
    out, made, seed = [], 0, first_seed
    while made < calls:
        for name, tokenize in TOKENIZERS.items():
            for scene, (kinds, keep) in SCENES.items():
                if (name, scene) == ("words_and_a_half", "everything"):
                    continue  # it makes 2.0 times our tokens of one message and 0.58 of the next: no ratio to learn
                rng = random.Random(f"{name}{scene}{seed}")
                specs = tools(rng.choice((0, 0, 2, 8)))
                inner = Honest(any_server(rng, tokenize), rng.choice((None, "ollama", "lm_studio")))
                model = fitted(inner, window_tokens=rng.choice((None, WINDOW)))
                for messages in conversation(rng, kinds, 12, keep=keep):
                    async for delta in model.stream(ModelRequest(messages, specs)):
                        if isinstance(delta, (ContextFitted, ContextTruncated, AttemptFailed)):
                            out.append(f"{name} {scene} {seed} ({inner.provider}): {delta}")
                    made += 1
        seed += 1
    return out


async def test_nothing_fires_on_honest_calls() -> None:
    assert await fires(800, 1000) == []


@pytest.mark.slow
async def test_nothing_fires_on_ten_thousand_honest_calls() -> None:
    assert await fires(10_000, 0) == []
