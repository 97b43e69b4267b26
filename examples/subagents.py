"""Two subagents: the agent hands tasks on, each to one who has the tools for it, and sums up what comes back.

LM Studio:  python examples/subagents.py        (a model that can call tools, e.g. qwen3-8b)
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/subagents.py
"""

import asyncio

from any_agent import Agent, Subagent, SubagentStartEvent
from any_agent.config import get_model

SHELF = {"boats": "A boat floats.", "bridges": "A bridge stands."}
NOTES: list[str] = []


def read_page(title: str) -> str:
    """Read a page: boats or bridges."""
    return SHELF.get(title, "there is no such page")


def write_note(text: str) -> str:
    """Write a note."""
    NOTES.append(text)
    return "written"


READER = Subagent(
    "reader",
    "Reads pages and tells what they say.",
    "Read the page that is asked for.",
    tools=["read_page"],
    max_turns=3,
)
WRITER = Subagent("writer", "Writes notes.", "Write down what you are told.", tools=["write_note"], max_turns=3)


def began(event: SubagentStartEvent) -> None:
    print(f"[{event.agent_type}: {event.prompt}]")


async def main() -> None:
    async with (
        Agent(
            get_model("lm_studio/qwen3-8b"),
            system_prompt="Hand the work on to your subagents, then sum up in one sentence.",
            tools=[read_page, write_note],
            subagents=[READER, WRITER],
            hooks={"SubagentStart": [began]},
        ) as agent,
        agent.create_session() as session,
    ):
        print(await session.query("What do we know of boats? Make a note of it."))
        spent = await session.usage()
        print(f"-- {spent.calls} model calls, notes: {NOTES}")


if __name__ == "__main__":
    asyncio.run(main())
