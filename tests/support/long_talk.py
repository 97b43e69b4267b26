"""A long conversation with tools whose prompts and results vary in length, script and kind; the same for the same seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from any_agent import Agent, tool
from any_agent.types import AttemptFailed, ContextFitted, ContextTruncated, Event, ResultMessage, ToolMessage
from support.invariants import Spoken

SYSTEM = "You keep the log of a small harbour. Be brief; say numbers as they are."
_WORDS = [
    "rope",
    "boat",
    "fish",
    "42",
    "count",
    "Käse",
    "über",
    "17:30",
    "{wind}",
    "naïve",
    "船",
    "🐟",
    "crate",
    "north-east",
    "bill/7",
    "thank",
    "you",
]


def words(rng: random.Random, chars: int) -> str:
    """Words of several scripts, about so many characters."""
    out, size = [], 0
    while size < chars:
        out.append(rng.choice(_WORDS))
        size += len(out[-1]) + 1
    return " ".join(out)


def harbour_tools(seed: int, most_chars: int) -> list[Any]:
    """Two tools; their results are mostly short, now and then as long as `most_chars`."""
    rng = random.Random(seed)

    @tool
    def look_up(boat: str = "") -> str:
        """What the log says of a boat."""
        return words(rng, rng.choice((10, 30, 80, 200, most_chars // 2, most_chars)))

    @tool
    def tide(day: str = "", hour: int = 0) -> str:
        """The tide table of a day."""
        return words(rng, rng.choice((20, 60, 120)))

    return [look_up, tide]


def prompts(seed: int, count: int, most_chars: int) -> list[str]:
    rng = random.Random(seed + 1)
    sizes = (5, 20, 40, 80, most_chars // 3, most_chars)
    return [f"Question {n}: {words(rng, rng.choice(sizes))}?" for n in range(count)]


@dataclass
class Talk:
    """What the user saw."""

    prompts: list[str]
    results: list[ResultMessage] = field(default_factory=list)
    fitted: list[tuple[int, ContextFitted]] = field(default_factory=list)
    cut: list[tuple[int, ContextTruncated]] = field(default_factory=list)
    retried: list[tuple[int, AttemptFailed]] = field(default_factory=list)
    tool_results: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def spoken(self) -> Spoken:
        told = {turn for turn, _ in [*self.fitted, *self.cut]}
        return Spoken(self.prompts, self.history, frozenset(told))

    @property
    def unanswered(self) -> list[str]:
        """Turns that did not end in a success with text, and why."""
        return [
            f"turn {number}: {result.subtype} {result.error!r}"
            for number, result in enumerate(self.results)
            if result.subtype != "success" or not result.result
        ]


async def talk(
    agent: Agent, asked: Sequence[str], watch: Callable[[int, Event], object] = lambda turn, event: None
) -> Talk:
    """Say every prompt in one session; errors are kept, not raised."""
    seen = Talk(list(asked))
    started = time.perf_counter()
    async with agent.create_session() as session:
        for turn, prompt in enumerate(asked):
            async for event in session.stream(prompt):
                watch(turn, event)
                if isinstance(event, ResultMessage):
                    seen.results.append(event)
                elif isinstance(event, ContextFitted):
                    seen.fitted.append((turn, event))
                elif isinstance(event, ContextTruncated):
                    seen.cut.append((turn, event))
                elif isinstance(event, AttemptFailed):
                    seen.retried.append((turn, event))
                elif isinstance(event, ToolMessage):
                    seen.tool_results += len(event.content)
        seen.history = session.history
    seen.duration_s = time.perf_counter() - started
    return seen
