"""The smallest agent with a tool.

LM Studio:  python examples/simple_tool.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/simple_tool.py
"""

import asyncio

from any_agent import Agent, tool
from any_agent.config import get_model


@tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"22 °C and sunny in {city}"


async def main() -> None:
    async with Agent(get_model("lm_studio/qwen3-8b"), tools=[get_weather]) as agent:
        print(await agent.query("What is the weather in Paris?"))


if __name__ == "__main__":
    asyncio.run(main())
