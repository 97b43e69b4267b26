"""Give the model two plain Python functions as tools; the agent runs them and asks on until the answer is there.

LM Studio:  python examples/with_tools.py        (a model that can call tools, e.g. qwen3-8b)
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/with_tools.py
"""

import asyncio
from datetime import datetime, timezone

from any_agent import Agent
from any_agent.config import get_model

STOCK = {"nails": 1200, "hammers": 7}


def count_stock(item: str) -> int:
    """How many pieces of an item are in stock.

    Args:
        item: plural, in lower case, e.g. hammers
    """
    return STOCK.get(item, 0)


async def current_year() -> int:
    """The year we are in."""
    return datetime.now(timezone.utc).year


async def main() -> None:
    agent = Agent(
        get_model("lm_studio/qwen3-8b"),
        system_prompt="Answer from the tools, in one sentence.",
        tools=[count_stock],
    )
    agent.register_tool(current_year)  # tools can also come later

    async with agent:
        response = await agent.query("How many hammers do we have, and which year is it?")

    for call in response.tool_calls:
        print(f"called {call.name}({call.input})")
    print(response)


if __name__ == "__main__":
    asyncio.run(main())
