"""What fitting history to the window costs, and what it saves the server: CPU a turn, and tokens prefilled anew.

    python benchmarks/context.py [--turns N] [--json FILE]

1. `fit`: a conversation of 1,000 messages goes on; CPU milliseconds that fitting adds to a turn, beside the making of
   the request's body (`body`), which every client has to do.
2. `prefill`: 300 turns with tools on a real llama.cpp server with a window of 4,096 tokens, through a recording proxy.
   `naive` keeps the system prompt and drops the oldest exchange whenever the window is full, as most clients do; it
   counts exactly, by asking the server. `timings.prompt_n` of each answer tells what was not in the server's cache.

Gated; the exit status is 1 when a gate is broken. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from gates import Gate  # noqa: E402
from own_home import own_home  # noqa: E402
from support.invariants import figures, violations  # noqa: E402
from support.llama import LlamaServer, start_llama  # noqa: E402
from support.long_talk import SYSTEM, harbour_tools, prompts, talk, words  # noqa: E402
from support.recording_proxy import Chat, RecordingProxy  # noqa: E402
from support.tiny_model import write_tiny_model  # noqa: E402

from any_agent import Agent, AgentOptions, Model  # noqa: E402
from any_agent.config import Route  # noqa: E402
from any_agent.context import fitted  # noqa: E402
from any_agent.models.openai_wire import DirectModel  # noqa: E402
from any_agent.types import (  # noqa: E402
    AssistantMessage,
    ContextTruncated,
    Delta,
    Message,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    Usage,
    UserMessage,
)

FIT_MS = 1.0  # added to a turn of a conversation of 1,000 messages, at most
REPREFILL_PERCENT = 15.0  # of naive sliding's, at most
STRATEGIES = ("sliding", "truncate", "adaptive", "summarize")
WINDOW, RESERVE, SEED = 4096, 512, 11


# ------------------------------------------------------------------ what fitting costs


class Instant:
    """Answers at once, with an honest count: one token for four bytes of the body. `own_ms`: what that took."""

    name, base_url = "some-model", None

    def __init__(self) -> None:
        self.door = DirectModel("some-model", "http://127.0.0.1:9/v1")
        self.own_ms = 0.0

    async def served_window(self) -> int | None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        started = time.process_time()
        told = len(self.door._body(request)) // 4
        self.own_ms = (time.process_time() - started) * 1000
        yield StreamEnd("some-model", "stop", Usage(told, 1))

    async def aclose(self) -> None: ...


def exchange(number: int, texts: Sequence[str]) -> list[Message]:
    """Four messages: a question, a tool call, its result, the answer."""
    call = ToolUseBlock(f"call_{number}", "look_up", {"boat": texts[0][:20]})
    return [
        UserMessage(f"Question {number}: {texts[1]}"),
        AssistantMessage((call,)),
        ToolMessage((ToolResultBlock(call.id, texts[2]),)),
        AssistantMessage((TextBlock(texts[3]),)),
    ]


async def time_fit(window: int, *, messages: int = 1000, turns: int = 150) -> dict[str, float]:
    """Median CPU ms of the turns after the first: fitting alone, and making the body."""
    rng = random.Random(SEED)
    history: list[Message] = [SystemMessage(SYSTEM)]
    for number in range(messages // 4):
        history += exchange(number, [words(rng, 120) for _ in range(4)])
    tools = (ToolSpec("look_up", "What the log says.", {"type": "object", "properties": {"boat": {"type": "string"}}}),)
    inner = Instant()
    model = fitted(inner, window_tokens=window, reserve_tokens=1000)
    fit_ms, body_ms = [], []
    for number in range(turns + 1):
        asked, *answered = exchange(messages + number, [words(rng, 60) for _ in range(4)])
        history = [*history, asked]
        request = ModelRequest(history, tools)
        started = time.process_time()
        async for delta in model.stream(request):
            assert not isinstance(delta, ContextTruncated)
        fit_ms.append((time.process_time() - started) * 1000 - inner.own_ms)
        body_ms.append(inner.own_ms)
        history = [*history, *answered]
    added, base = statistics.median(fit_ms[1:]), statistics.median(body_ms[1:])
    return {"added_ms": added, "body_ms": base, "x body": added / base, "first_ms": fit_ms[0]}


# ------------------------------------------------------------------ what it saves the server


class NaiveSliding:
    """The system prompt and the newest exchanges that fit; one oldest exchange goes whenever the window is full.

    Counted by the server itself, so it never drops more than it must.
    """

    def __init__(self, door: DirectModel) -> None:
        self.door, self.name, self.base_url = door, door.name, door.base_url
        self._dropped = 0  # exchanges

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        starts = [place for place, message in enumerate(request.messages) if isinstance(message, UserMessage)]
        while True:
            messages = [*request.messages[: starts[0]], *request.messages[starts[self._dropped] :]]
            asked = replace(request, messages=messages)
            if self._dropped == len(starts) - 1 or (await self.door.count_prompt(asked) or 0) <= WINDOW - RESERVE:
                break
            self._dropped += 1
        async for delta in self.door.stream(asked):
            yield delta

    async def aclose(self) -> None:
        await self.door.aclose()


class NaiveAgent(Agent):
    def make_model(self, route: Route, options: AgentOptions) -> Model:
        door = super().make_model(route, options)
        assert isinstance(door, DirectModel)
        return NaiveSliding(door)


async def converse(server: LlamaServer, way: str, turns: int) -> dict[str, Any]:
    """One conversation; what the server had to prefill, and what did not hold."""
    with RecordingProxy(server.root_url) as proxy:
        kind = NaiveAgent if way == "naive" else Agent
        options = {} if way == "naive" else {"context_strategy": way, "reserve_tokens": RESERVE}
        agent = kind(
            "tiny",
            base_url=proxy.base_url,
            system_prompt=SYSTEM,
            temperature=0,
            seed=1,
            max_tokens=64,
            tools=harbour_tools(SEED, 300),
            **options,
        )
        async with agent:
            seen = await talk(agent, prompts(SEED, turns, 120))
        chats = proxy.chats
    broken = violations(chats, seen.spoken, WINDOW, has_summaries=way == "summarize") if way != "naive" else []
    return {
        "seconds": seen.duration_s,
        "unanswered": seen.unanswered,
        "violations": broken,
        "fitted": len(seen.fitted),
        "new_tokens": new_tokens(chats),
        **asdict(figures(chats)),
    }


def new_tokens(chats: Sequence[Chat]) -> int:
    """Tokens that no cache could have spared: what users, tools and the system said, at its first sending.

    One byte is one token, and two mark each message. What the model said is in its cache already.
    """
    raws = dict.fromkeys(raw for chat in chats for raw in chat.raw_messages)
    messages = [json.loads(raw) for raw in raws]
    return sum(len((m["content"] or "").encode()) + 2 for m in messages if m["role"] != "assistant")


async def measure_prefill(turns: int, ways: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ANY_AGENT_HOME"] = folder  # nothing learned before, nothing kept
        path = write_tiny_model(Path(folder) / "tiny.gguf", calls_tools=True, ctx=WINDOW)
        for way in ways:
            with start_llama(path, slot_ctx=WINDOW, slots=1) as server:  # each starts with an empty cache
                found[way] = await converse(server, way, turns)
            print(f"{way}: {found[way]['seconds']:.0f} s", file=sys.stderr, flush=True)
    if "naive" in found:
        base = found["naive"]
        for one in found.values():
            one["prefilled_share"] = one["prefilled_tokens"] / base["prefilled_tokens"]
            one["anew_tokens"] = one["prefilled_tokens"] - one["new_tokens"]
        for one in found.values():
            one["anew_share"] = one["anew_tokens"] / base["anew_tokens"]
    return found


# ------------------------------------------------------------------ report


def gates(found: dict[str, Any]) -> list[Gate]:
    checked = [
        Gate(f"fitting adds to a turn at 1,000 messages ({name}), ms", round(one["added_ms"], 3), FIT_MS)
        for name, one in found["fit"].items()
    ]
    prefill = found["prefill"]
    if "naive" in prefill:
        checked.append(
            Gate(
                "sliding, prefilled / naive, %",
                round(100 * prefill["sliding"]["prefilled_share"], 1),
                REPREFILL_PERCENT,
            )
        )
    for way, one in prefill.items():
        checked.append(Gate(f"{way}: turns not answered", len(one["unanswered"]), 0))
        if way != "naive":
            checked.append(Gate(f"{way}: requests that broke an invariant", len(one["violations"]), 0))
    return checked


def report(found: dict[str, Any]) -> str:
    lines = ["fitting a conversation of 1,000 messages, CPU ms a turn (median; first turn apart)"]
    for name, one in found["fit"].items():
        lines.append(
            f"  {name:24} {one['added_ms']:.3f} added, {one['x body']:.2f} x body ({one['body_ms']:.3f}); "
            f"first {one['first_ms']:.0f}"
        )
    if found["prefill"]:
        lines.append(f"\n{found['turns']} turns with tools, llama.cpp, window {WINDOW}")
        lines.append("  way        calls  trims  prefilled  cached  anew  prefilled/naive  anew/naive  seconds")
    for way, one in found["prefill"].items():
        shares = f"{one.get('prefilled_share', 0):>15.1%}  {one.get('anew_share', 0):>10.1%}"
        lines.append(
            f"  {way:10} {one['calls']:5}  {one['trims']:5}  {one['prefilled_tokens']:9}  {one['cached_tokens']:6}  "
            f"{one.get('anew_tokens', 0):4}  {shares}  {one['seconds']:7.0f}"
        )
        lines += [f"    {what}" for what in [*one["unanswered"], *one["violations"]][:5]]
    lines.append("")
    lines += [
        f"  {gate.what:64} {gate.found:>8} <= {gate.most:<6} {'ok' if gate.holds else 'BROKEN'}"
        for gate in gates(found)
    ]
    return "\n".join(lines)


async def measure(turns: int) -> dict[str, Any]:
    fit = {"all of it fits": await time_fit(10_000_000), "most was dropped": await time_fit(20_000)}
    prefill = await measure_prefill(turns, ("naive", *STRATEGIES)) if turns else {}
    return {"turns": turns, "fit": fit, "prefill": prefill}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the raw numbers there")
    parser.add_argument("--turns", type=int, default=300, help="turns on llama.cpp (default: 300); 0 leaves them out")
    chosen = parser.parse_args()
    os.environ["ANY_AGENT_HOME"] = own_home()
    found = asyncio.run(measure(max(0, chosen.turns)))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return 0 if all(gate.holds for gate in gates(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
