"""Token bounds against what a real llama.cpp server reports: one byte is one token there, five times what we count."""

from __future__ import annotations

import json
import random
import statistics
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.llama import LlamaServer
from support.odd_tokenizers import EVERYTHING, piece, tools

from any_agent.calibration import Calibration
from any_agent.models.wire import to_wire, tools_to_wire
from any_agent.tokens import TokenCounter
from any_agent.types import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    UserMessage,
)


def prompt_tokens(server: LlamaServer, messages: Sequence[Message], specs: Sequence[ToolSpec]) -> int:
    body = {"model": "tiny", "messages": to_wire(messages), "max_tokens": 1}
    if specs:
        body["tools"] = tools_to_wire(specs)
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as response:
        return int(json.loads(response.read())["usage"]["prompt_tokens"])


def small_conversation(rng: random.Random) -> list[Message]:
    """One to three turns of all kinds of text, with a tool call now and then; at most about 1,500 bytes."""

    def text() -> str:
        return piece(rng, EVERYTHING)[: rng.randint(5, 90)]

    messages: list[Message] = [SystemMessage(text())] if rng.random() < 0.5 else []
    for turn in range(rng.randint(0, 2)):
        messages.append(UserMessage(text()))
        if rng.random() < 0.5:
            call = ToolUseBlock(f"call_{turn}", "read_part_0", {"path": text(), "limit": turn})
            messages += [AssistantMessage([call]), ToolMessage([ToolResultBlock(call.id, text())])]
        messages.append(AssistantMessage(text()))
    return [*messages, UserMessage(text())]


@pytest.mark.parametrize("model", ["tiny", "gpt-4o"])  # a name we know nothing of, and one that lies
def test_bounds_hold_on_a_real_server(llama: LlamaServer, model: str, tmp_path: Path) -> None:
    kept = Calibration(tmp_path / "calibration.json")
    rng = random.Random(7)
    errors, low, high = [], [], []
    for number in range(53):
        # A new counter each time, as in 53 sessions: only the calibration goes from one to the next.
        counter = TokenCounter(model, server=llama.base_url, calibration=kept)
        messages, specs = small_conversation(rng), tools(rng.choice((0, 0, 1, 3)))
        bounds, truth = counter.bounds(messages, specs), prompt_tokens(llama, messages, specs)
        if number >= 3:
            errors.append(abs(bounds.estimate / truth - 1))
            low.append(bounds.lower / truth)
            high.append(bounds.upper / truth)
        counter.learn(messages, specs, truth)
    print(
        f"median error {statistics.median(errors):.2%}, bounds {statistics.median(low):.2f} {statistics.median(high):.2f}"
    )
    assert statistics.median(errors) <= 0.05
    assert min(high) >= 1
    assert max(low) <= 1
    assert kept.save()
    fresh = TokenCounter(model, server=llama.base_url, calibration=Calibration(tmp_path / "calibration.json"))
    messages = small_conversation(rng)
    truth = prompt_tokens(llama, messages, ())
    assert abs(fresh.estimate(messages) / truth - 1) <= 0.1
    assert fresh.lower(messages) <= truth <= fresh.upper(messages)


def test_a_growing_conversation_is_bounded_tightly(llama: LlamaServer) -> None:
    counter, rng = TokenCounter("tiny", server=llama.base_url), random.Random(3)
    messages: list[Message] = [SystemMessage("You mend engines.")]
    specs = tools(2)
    ratios = []
    for turn in range(14):
        messages.append(UserMessage(piece(rng, EVERYTHING)[:60]))
        bounds, truth = counter.bounds(messages, specs), prompt_tokens(llama, messages, specs)
        if turn >= 3:
            ratios.append((bounds.lower / truth, bounds.upper / truth))
        counter.learn(messages, specs, truth)
        messages.append(AssistantMessage(f"Turn {turn} is done."))
    print(ratios)
    assert all(low <= 1 <= high for low, high in ratios)
    assert statistics.median(high for _, high in ratios) < 1.15
