"""The ceilings that the benchmark and tests/house/test_call_counts.py hold. On counts only: clocks lie on a busy machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

QUERY_CALLS = 1_500
CHUNK_CALLS = 100
PACED_CHUNK_X_AIOHTTP = 1.4
TOOL_TRIP_CALLS = 3_800
MESSAGE_CALLS = 3
LITELLM_EXTRA_CALLS = 700
IMPORT_MODULES = 300
ALL_MODULES = 340  # with Agent, which brings pydantic
IMPORT_MB = 25
OWN_MB = 6  # of Agent and its rooms, over asyncio and pydantic, which are 23 MB themselves; 4.7 on 3.11, 5.7 on 3.13


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure and the most it may be."""

    what: str
    found: float
    most: float

    @property
    def holds(self) -> bool:
        return self.found <= self.most


def gates(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every gate with its figure, as dicts."""
    calls, direct, imports = found["calls"], found["calls"]["direct"], found["imports"]
    own_mb = imports["any_agent.Agent"]["mb"] - imports["asyncio and pydantic"]["mb"]
    checked = [
        Gate("direct door, calls a query", direct["query"], QUERY_CALLS),
        Gate("direct door, calls a chunk", direct["chunk"], CHUNK_CALLS),
        Gate(
            "direct door, calls a paced chunk",
            direct["paced chunk"],
            round(PACED_CHUNK_X_AIOHTTP * calls["aiohttp"]["paced chunk"]),
        ),
        Gate("direct door, calls a tool trip", direct["tool trip"], TOOL_TRIP_CALLS),
        Gate("direct door, calls a history message", direct["message"], MESSAGE_CALLS),
        Gate("1000 sessions at once, lost", found["crowd"]["direct"]["lost"], 0),
        Gate("5 agents, 200 queries, 8 at once: connections", found["pool"]["connections"], found["pool"]["at_once"]),
        Gate("direct door imports litellm", float(found["first_answer"]["direct"]["has_litellm"]), 0),
        Gate("import any_agent, MB", imports["any_agent"]["mb"], IMPORT_MB),
        Gate("import any_agent.Agent, modules", imports["any_agent.Agent"]["modules"], ALL_MODULES),
        Gate("import any_agent.Agent, MB over its ground", own_mb, OWN_MB),
        Gate("import any_agent.Agent, threads", imports["any_agent.Agent"]["threads"], 0),
        Gate("clients with wrong answers", sum(map(bool, found["wrong_answers"].values())), 0),
        Gate("warnings at exit", sum(_own_noise(found)), 0),
    ]
    if "litellm_door" in calls:
        floor = calls["litellm_own_http"]["streamed query"]
        checked.append(Gate("LiteLLM door, calls a query", calls["litellm_door"]["query"], floor + LITELLM_EXTRA_CALLS))
    return [{**asdict(gate), "holds": gate.holds} for gate in checked]


def _own_noise(found: dict[str, Any]) -> list[int]:
    """Lines on standard error of the processes that ran any_agent: unclosed sessions and the like."""
    own = ("direct", "pool", "crowd direct", "litellm_door")
    return [len(found["exit_noise"].get(name, "").splitlines()) for name in own]


def broken_gates(checked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [gate for gate in checked if not gate["holds"]]
