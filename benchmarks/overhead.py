"""What a query costs: any_agent's two doors against raw aiohttp, the openai SDK and LiteLLM, in one run.

    python benchmarks/overhead.py [--json FILE] [--rounds N]

Calls are exact and gated: the exit status is 1 when a gate is broken. CPU time is reported as ratios within this run;
it is never gated. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import sys
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from gates import broken_gates, gates
from processes import Child, Worker, first_answer, import_weight
from report import report
from ways_to_ask import WAYS

SLOPES = {  # name: (what is counted, over how many more units, from, to)
    "chunk": ("ready100", "ready300", 200),
    "paced chunk": ("paced20", "paced60", 40),
    "message": ("past10", "past1000", 990),
    "message as dict": ("dicts10", "dicts1000", 990),
}
HAS_SESSIONS = ("direct", "litellm_door")  # the others are handed the whole conversation as dicts anyway
TIMED = {"query": 40, "ready100": 5, "ready300": 5, "tool trip": 15, "past1000": 3}
IMPORTS = {
    "any_agent": "import any_agent",
    "any_agent.Agent": "from any_agent import Agent, AgentOptions, Client, tool",
    "asyncio and pydantic": "import asyncio, pydantic\nclass Model(pydantic.BaseModel): x: int = 1",
    "aiohttp": "import aiohttp",
    "openai": "import openai",
    "litellm": "import litellm",
}


def available_ways() -> list[str]:
    has_litellm_door = importlib.util.find_spec("any_agent.models.litellm_wrapper") is not None
    return [way for way in WAYS if way != "litellm_door" or has_litellm_door]


def count(worker: Worker) -> dict[str, float]:
    """Calls per query, tool trip, chunk and message."""

    def calls(what: str, rounds: int = 3) -> int:
        return int(worker.do("calls", what=what, rounds=rounds)["calls"])

    figures: dict[str, float] = {what: calls(what, 7) for what in ("query", "streamed query", "tool trip")}
    for name, (start, to, units) in SLOPES.items():
        if name != "message as dict" or worker.way in HAS_SESSIONS:
            figures[name] = (calls(to) - calls(start)) / units
    return figures


def time_round(worker: Worker) -> dict[str, float]:
    """CPU milliseconds per query, tool trip, chunk and turn after 1000 messages."""
    ms = {what: worker.do("cpu", what=what, times=times)["ms"] for what, times in TIMED.items()}
    chunk = (ms["ready300"] - ms["ready100"]) / 200
    return {"query": ms["query"], "chunk": chunk, "tool trip": ms["tool trip"], "turn at 1000": ms["past1000"]}


def cpu_figures(rounds: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Median ms of each client, and the median over the rounds of its ratio to aiohttp's and openai's."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for way, own in rounds.items():
        figures[way] = {}
        for what in own[0]:
            ms = [one[what] for one in own]
            figures[way][what] = {"ms": statistics.median(ms)}
            for anchor in ("aiohttp", "openai"):
                ratios = [a / b[what] for a, b in zip(ms, rounds[anchor], strict=True) if b[what] > 0]
                figures[way][what][f"x {anchor}"] = statistics.median(ratios) if ratios else float("nan")
    return figures


def measure(rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        server = stack.enter_context(Child("model_server.py"))
        root_url = server.read_line()
        workers = {way: stack.enter_context(Worker(way, root_url)) for way in available_ways()}
        found: dict[str, Any] = {"python": platform.python_version(), "versions": versions()}
        found["wrong_answers"] = {way: worker.do("check")["wrong"] for way, worker in workers.items()}
        found["calls"] = {way: _say(f"calls: {way}", count(worker)) for way, worker in workers.items()}
        timed: dict[str, list[dict[str, float]]] = {way: [] for way in workers}
        for turn in range(rounds):
            for way, worker in workers.items():  # side by side, so that a busy machine slows all alike
                timed[way].append(_say(f"CPU: round {turn + 1}, {way}", time_round(worker)))
        found["cpu"], found["cpu_rounds"] = cpu_figures(timed), timed
        found["exit_noise"] = {way: worker.close() for way, worker in workers.items()}

        direct = stack.enter_context(Worker("direct", root_url))
        opened = server.ask()["connections_opened"]
        found["pool"] = direct.do("many_agents", agents=5, queries=200, at_once=8)
        found["pool"]["connections"] = server.ask()["connections_opened"] - opened
        found["idle"] = _say("idle sessions", direct.do("idle_sessions", count=1000))
        found["exit_noise"]["pool"] = direct.close()
        found["crowd"] = {}
        for way in ("aiohttp", "direct"):
            worker = stack.enter_context(Worker(way, root_url))
            worker.do("check")
            found["crowd"][way] = _say(f"1000 sessions: {way}", worker.do("crowd", sessions=1000, turns=3))
            found["exit_noise"][f"crowd {way}"] = worker.close()
        found["imports"] = {
            name: _say(f"import: {name}", import_weight(statement)) for name, statement in IMPORTS.items()
        }
        url = f"{root_url}/short/v1"
        found["first_answer"] = {
            way: _say(f"first answer: {way}", first_answer(way, url))
            for way in ("aiohttp", "direct", "openai", "litellm")
        }
    found["gates"] = gates(found)
    return found


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("any-agent-harness", "aiohttp", "openai", "litellm")}


def _say(what: str, result: Any) -> Any:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the raw numbers there")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of CPU timing (default: 5)")
    chosen = parser.parse_args()
    found = measure(max(1, chosen.rounds))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return 1 if broken_gates(found["gates"]) else 0


if __name__ == "__main__":
    sys.exit(main())
