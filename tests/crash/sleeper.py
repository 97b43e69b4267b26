"""A program that is stopped in mid-answer: `python -m crash.sleeper STORE`. Its lease ends while it sleeps.

The answer goes on when a line comes in.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from any_agent import Agent, tool
from any_agent.memory import MemoryStore
from any_agent.testing import ScriptedModel
from any_agent.types import Delta, ModelRequest, TextDelta, ToolCallDelta

LEASE_S = 0.5


class Short(MemoryStore):
    lease_s = LEASE_S


def say(word: str) -> None:
    print(word, flush=True)


@tool(effect="once")
async def pay() -> str:
    """Pay."""
    say("paid")
    return "paid"


class Halting(ScriptedModel):
    """Halts in its second answer, which ends in a call."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        is_second = len(self.requests) == 1
        async for delta in super().stream(request):
            yield delta
            if is_second and isinstance(delta, TextDelta):
                is_second = False
                await asyncio.to_thread(sys.stdin.readline)
                yield ToolCallDelta(None, "c1", "pay", {})


async def main(path: str) -> None:
    model = Halting(["one", "I pay", "after it"])
    async with Short(path) as store, Agent(model, tools=[pay], store=store, log_level="ERROR") as agent:
        session = agent.create_session("k")
        await session.query("first")
        async for event in session.stream("second"):
            if isinstance(event, TextDelta):
                say("speaking")
        say(f"ended {type(session.result.error).__name__}" if session.result else "ended")
        say(await session.query("third"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
