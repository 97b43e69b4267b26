"""Four ways to keep a conversation within the window. It is done for you (the last one); by hand you say what goes.

LM Studio:  python examples/context_management.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/context_management.py
"""

import asyncio

from any_agent import Agent, AgentOptions, Client, ContextFitted, ContextStrategy, TextBlock
from any_agent.config import get_model
from any_agent.context import estimate_tokens, truncate_messages

OPTIONS = AgentOptions(model=get_model("lm_studio/qwen3-8b"), system_prompt="Answer in one sentence.")


async def ask(client: Client, prompt: str) -> str:
    await client.query(prompt)
    return "".join([block.text async for block in client.receive_messages() if isinstance(block, TextBlock)])


async def stateless() -> None:
    """Tasks that have nothing to do with each other: a fresh client for each."""
    for task in ("Translate 'tree' into French.", "Name a river in Spain."):
        async with Client(OPTIONS) as client:
            print(await ask(client, task))


async def watched(most_tokens: int = 80) -> None:
    """Count, and cut where a topic ends. A tool call is never split from its result."""
    async with Client(OPTIONS) as client:
        for place in ("Rome", "Oslo", "Lima"):
            print(await ask(client, f"Tell me something about {place}. " + "Take your time. " * 5))
            if estimate_tokens(client.history) > most_tokens:
                client.message_history = truncate_messages(client.history, keep=2)
                print(f"-- cut to {len(client.history)} messages")


async def with_notes() -> None:
    """Keep facts outside, and say them again when they are needed. (`recall=True` looks them up by itself.)"""
    async with Client(OPTIONS) as client:
        notes = {"bridges": await ask(client, "How long is the Golden Gate Bridge?")}
        client.message_history = truncate_messages(client.history, keep=0)
        print(await ask(client, f"Known: {notes['bridges']} Is that more than 2 km?"))


async def by_itself() -> None:
    """The oldest exchanges go when the window is full; an event tells it. `summarize` keeps what they said."""
    agent = Agent(options=OPTIONS, context_strategy=ContextStrategy.SLIDING_WINDOW, context_window_size=400)
    async with agent, agent.create_session() as session:
        for number in range(1, 7):
            async for event in session.stream(f"This is message {number}. " + "Remember its number. " * 12):
                if isinstance(event, ContextFitted):
                    print(f"-- message {number}: {event.dropped_messages} older ones are left out")
        print(f"{len(session.history)} messages are kept, whatever was sent; {await session.context_usage()}")


if __name__ == "__main__":
    for pattern in (stateless, watched, with_notes, by_itself):
        print(f"\n{pattern.__name__}: {pattern.__doc__}")
        asyncio.run(pattern())
