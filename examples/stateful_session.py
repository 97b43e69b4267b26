"""A conversation that remembers: send, receive, and the history it keeps.

LM Studio:  python examples/stateful_session.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/stateful_session.py
"""

import asyncio

from any_agent import Agent
from any_agent.config import get_model


async def main() -> None:
    agent = Agent(get_model("lm_studio/qwen3-8b"), system_prompt="Answer in one short sentence.")

    async with agent, agent.create_session() as session:
        await session.send("My name is Ada and I like trains.")
        print("1:", await session.receive())

        await session.send("What is my name?")
        print("2:", await session.receive())

        # query() is send and receive in one; options given here hold for this prompt only.
        print("3:", await session.query("What do I like?", temperature=0.0))

        print(f"-- {session.turn_count} prompts, {len(session.history)} messages")
        session.clear()
        print(f"-- after clear(): {len(session.history)} messages")


if __name__ == "__main__":
    asyncio.run(main())
