"""Chat with a model on Ollama; the conversation remembers. An empty line or Ctrl-D ends it.

ollama pull qwen3 && python examples/ollama_chat.py
ANY_AGENT_MODEL=llama3.1 python examples/ollama_chat.py
"""

import asyncio
import sys

from any_agent import AgentOptions, AnyAgentError, Client, TextBlock, ToolUseBlock
from any_agent.config import get_base_url, get_model


def roll_dice(sides: int = 6) -> int:
    """Roll one die."""
    import random

    return random.randint(1, sides)


async def main() -> None:
    options = AgentOptions(
        system_prompt="You are a helpful assistant. Be brief.",
        model=get_model("qwen3"),
        base_url=get_base_url(provider="ollama"),
        tools=[roll_dice],
        auto_execute_tools=True,
        max_turns=10,
    )
    async with Client(options) as client:
        print("you> ", end="", flush=True)
        while said := (await asyncio.to_thread(sys.stdin.readline)).strip():
            await client.query(said)
            try:
                async for block in client.receive_messages():
                    if isinstance(block, TextBlock):
                        print(block.text, end="", flush=True)
                    elif isinstance(block, ToolUseBlock):
                        print(f"[{block.name} {block.input}]", flush=True)
            except AnyAgentError as error:  # the conversation goes on
                print(f"({type(error).__name__}: {error})", end="")
            print("\nyou> ", end="", flush=True)
        print(f"\n-- {client.turn_count} turns")


if __name__ == "__main__":
    asyncio.run(main())
