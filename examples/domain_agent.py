"""An agent of your own is a subclass: say what it is, and check what it answers. It is asked again if that is wrong.

LM Studio:  python examples/domain_agent.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/domain_agent.py
"""

import asyncio

from any_agent import Agent, AgentResponse
from any_agent.config import get_model


class HeadlineAgent(Agent):
    """Writes headlines of at most eight words."""

    def build_system_prompt(self) -> str:
        return "You write newspaper headlines. Answer with the headline alone."

    async def check_response(self, response: AgentResponse) -> str | None:
        return None if len(response.split()) <= 8 else "Too long: use at most eight words."


async def main() -> None:
    async with HeadlineAgent(get_model("lm_studio/qwen3-8b"), temperature=0.3) as agent:
        print(await agent.query("The town library will stay open on Sundays from October on, the council decided."))


if __name__ == "__main__":
    asyncio.run(main())
