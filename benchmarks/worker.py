"""One client in a process of its own, so that no client pays for another's modules and garbage.

    python worker.py WAY ROOT_URL

Reads one JSON task per line and answers each with one JSON line; ends when standard input closes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time
from typing import Any

from call_counting import calls_of
from ways_to_ask import PROMPT, WAYS, DirectDoor, Turn, Way, past

WORDS_BACK = 3  # of PROMPT: a client that loses some is not measured but refused


def turns_of(way: Way) -> dict[str, Turn]:
    """Everything that is counted and timed, by name."""
    return {
        "query": way.query,
        "tool trip": way.tool_trip,
        "streamed query": _stream(way, "short"),
        **{name: _stream(way, name) for name in ("ready100", "ready300", "paced20", "paced60")},
        **{f"past{count}": way.conversation(past(count)) for count in (10, 1000)},
        **{f"dicts{count}": _dicts(way, count) for count in (10, 1000)},
    }


def _stream(way: Way, scenario: str) -> Turn:
    return lambda: way.stream(scenario)


def _dicts(way: Way, count: int) -> Turn:
    """The whole conversation handed in anew, as dicts."""
    asked = [*past(count), {"role": "user", "content": PROMPT}]
    return lambda: way.ask("short", asked)


async def count_calls(turn: Turn, rounds: int) -> dict[str, Any]:
    return {"calls": await calls_of(turn, warm_up=2, rounds=rounds)}


async def time_cpu(turn: Turn, times: int) -> dict[str, Any]:
    started = process_time()
    for _ in range(times):
        await turn()
    return {"ms": (process_time() - started) * 1000 / times}


async def check(way: Way) -> dict[str, Any]:
    """The client really gets what the server says."""
    answers = {
        "query": len((await way.query()).split()) == WORDS_BACK,
        "stream": await way.stream("ready100") == 100,
        "tool trip": (await way.tool_trip()).strip() == "2",
    }
    return {"wrong": [what for what, is_right in answers.items() if not is_right]}


async def crowd(way: Way, sessions: int, turns: int) -> dict[str, Any]:
    """Many conversations at once against a model that takes 200 ms."""
    waits: list[float] = []
    lost: list[str] = []

    async def talk() -> None:
        turn = way.conversation([], "slow")
        for _ in range(turns):
            started = perf_counter()
            try:
                await turn()
            except Exception as error:
                lost.append(f"{type(error).__name__}: {error}")
                return
            waits.append(perf_counter() - started)

    cpu, started = process_time(), perf_counter()
    await asyncio.gather(*[talk() for _ in range(sessions)])
    wall_s = perf_counter() - started
    return {
        "sessions": sessions,
        "lost": len(lost),
        "first_lost": lost[0] if lost else None,
        "queries_per_s": len(waits) / wall_s,
        "p99_s": sorted(waits)[int(len(waits) * 0.99) - 1] if waits else None,
        "cpu_ms": (process_time() - cpu) * 1000 / max(1, len(waits)),
    }


async def many_agents(way: DirectDoor, agents: int, queries: int, at_once: int) -> dict[str, Any]:
    """`queries` over several agents with one base URL and key, `at_once` at a time."""
    crew = []
    for _ in range(agents):
        way._agents.pop("short", None)
        crew.append(way.agent("short"))
    gate = asyncio.Semaphore(at_once)

    async def ask(place: int) -> None:
        async with gate:
            await crew[place % agents].query(PROMPT)

    await asyncio.gather(*[ask(place) for place in range(queries)])
    return {"agents": agents, "queries": queries, "at_once": at_once}


async def idle_sessions(way: Way, count: int) -> dict[str, Any]:
    """Resident memory of a conversation that waits: new, and after three turns."""
    for turn in [way.conversation([]) for _ in range(50)]:
        await turn()
    before = _resident_kb()
    waiting = [way.conversation([]) for _ in range(count)]
    new = _resident_kb()
    for start in range(0, count, 50):
        for _ in range(3):
            await asyncio.gather(*[turn() for turn in waiting[start : start + 50]])
    return {"new_kb": (new - before) / count, "after_3_turns_kb": (_resident_kb() - before) / count}


def _resident_kb() -> float:
    gc.collect()
    with open("/proc/self/statm") as memory:
        return int(memory.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def _is_news(record: logging.LogRecord) -> bool:
    """The server tells no window, and 1,000 messages outgrow what is safe: that this is said is no fault."""
    return "nothing tells the window of this model" not in record.getMessage()


async def main() -> None:
    logging.getLogger("any_agent").addFilter(_is_news)
    out, sys.stdout = sys.stdout, sys.stderr  # LiteLLM prints to standard output
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    way: Any = WAYS[sys.argv[1]](sys.argv[2])
    turns = turns_of(way)
    jobs: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "calls": lambda what, rounds=7: count_calls(turns[what], rounds),
        "cpu": lambda what, times: time_cpu(turns[what], times),
        "check": lambda: check(way),
        "crowd": lambda **size: crowd(way, **size),
        "many_agents": lambda **size: many_agents(way, **size),
        "idle_sessions": lambda count: idle_sessions(way, count),
    }
    for line in sys.stdin:
        task = json.loads(line)
        answer = await jobs[task.pop("job")](**task)
        print(json.dumps(answer), file=out, flush=True)
    await way.aclose()


if __name__ == "__main__":
    asyncio.run(main())
