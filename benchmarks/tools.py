"""What tools cost: CPU of ours for a round trip and for each further call, in one run, against the bare model.

    python benchmarks/tools.py [--json FILE] [--rounds N]

The model is scripted and lives in this process, so that everything measured is ours: session, loop, fitting, dispatch.
The baseline asks the same model the same two things and calls the same function, without any_agent around it. The exit
status is 1 when a gate is broken: a round trip is at most two requests and adds less than 0.5 ms of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import process_time
from typing import Any

from call_counting import calls_of
from own_home import own_home

from any_agent import Agent
from any_agent.dispatch import Dispatch
from any_agent.permissions import Permissions
from any_agent.tools import Tool, ToolContext, ToolRegistry
from any_agent.types import (
    AssistantMessage,
    Delta,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ToolCallDelta,
    ToolMessage,
    ToolUseBlock,
    Usage,
    UserMessage,
)

MOST_REQUESTS = 2
MOST_ADDED_MS = 0.5
REPEATS = 100  # of each thing in one measurement
Act = Callable[[], Awaitable[Any]]


class Calls:
    """Calls `add` when the user spoke, says one word when a tool did."""

    name = "bench"

    def __init__(self) -> None:
        self.requests = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        self.requests += 1
        if isinstance(request.messages[-1], ToolMessage):
            yield TextDelta("two")
        else:
            yield ToolCallDelta(0, "call_1", "add", '{"x": 1}')
        yield StreamEnd("bench", "stop", Usage(10, 2))

    async def aclose(self) -> None: ...


async def add(x: int) -> int:
    """Add one."""
    return x + 1


def add_blocking(x: int) -> int:
    """Add one."""
    return x + 1


async def add_with_context(x: int, context: ToolContext) -> int:
    """Add one."""
    return x + 1


def bare(model: Calls) -> Act:
    """The same two questions and the same function, with nothing of ours."""

    async def act() -> None:
        asked = ModelRequest([UserMessage("one")])
        async for _ in model.stream(asked):
            pass
        await add(1)
        async for _ in model.stream(ModelRequest([ToolMessage(())])):
            pass

    return act


def trip(model: Calls, function: Callable[..., Any] = add, **options: Any) -> Act:
    agent = Agent(model, tools=[Tool("add", handler=function)], **options)
    return lambda: agent.query("one")


def batch(calls: int, function: Callable[..., Any] = add, **how: Any) -> Act:
    """Only the dispatch of one turn with so many calls."""
    dispatch = Dispatch(ToolRegistry([Tool("add", handler=function)]), **how)
    made = tuple([ToolUseBlock(str(n), "add", {"x": n}) for n in range(calls)])
    history = [UserMessage("one"), AssistantMessage(made)]

    async def act() -> None:
        async for _ in dispatch.answer(made, history):
            pass

    return act


async def cpu_ms(act: Act) -> float:
    """CPU of one `await act()`, all threads together."""
    started = process_time()
    for _ in range(REPEATS):
        await act()
    return (process_time() - started) / REPEATS * 1000


async def measure(rounds: int) -> dict[str, Any]:
    model = Calls()
    acts: dict[str, Act] = {
        "bare model and function": bare(model),
        "round trip": trip(model),
        "round trip, function in a thread": trip(model, add_blocking),
        "round trip, with a context": trip(model, add_with_context),
        "dispatch of 1 call": batch(1),
        "dispatch of 8 calls": batch(8),
        "dispatch of 1 call with permissions": batch(1, permissions=Permissions(allow=["add"])),
        "dispatch of 1 call with a hook": batch(1, hooks={"pre_tool_use": [lambda event: None]}),
    }
    for act in acts.values():
        await act()
    model.requests = 0
    answer = await acts["round trip"]()
    requests = model.requests
    assert answer == "two", answer
    calls = {name: await calls_of(act) for name, act in acts.items() if "thread" not in name}
    timed: dict[str, list[float]] = {name: [] for name in acts}
    gc.collect()
    for _ in range(rounds):  # side by side, so that a busy machine slows all alike
        for name, act in acts.items():
            timed[name].append(await cpu_ms(act))
    ms = {name: min(figures) for name, figures in timed.items()}  # the least disturbed round
    added_ms = ms["round trip"] - ms["bare model and function"]
    return {"requests": requests, "calls": calls, "ms": ms, "added_ms": added_ms}


def gates(found: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(what, found, most)."""
    return [
        ("requests of a round trip", found["requests"], MOST_REQUESTS),
        ("CPU that a round trip adds, ms", found["added_ms"], MOST_ADDED_MS),
    ]


def report(found: dict[str, Any]) -> str:
    lines = [f"{'':38}{'CPU ms':>8}{'calls':>8}"]
    for name, ms in found["ms"].items():
        lines.append(f"{name:38}{ms:8.3f}{found['calls'].get(name, ''):>8}")
    for what, value, most in gates(found):
        lines.append(f"{'ok    ' if value <= most else 'BROKEN'} {what}: {value:.3g}, at most {most:g}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the raw numbers there")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of CPU timing (default: 7)")
    chosen = parser.parse_args()
    os.environ["ANY_AGENT_HOME"] = own_home()
    found = asyncio.run(measure(max(1, chosen.rounds)))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return int(any(value > most for _, value, most in gates(found)))


if __name__ == "__main__":
    sys.exit(main())
