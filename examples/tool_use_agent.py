"""Run the tools yourself: a loop, a function around it, and the Agent class, which does it for you.

LM Studio:  python examples/tool_use_agent.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/tool_use_agent.py
"""

import asyncio

from any_agent import Agent, AgentOptions, Client, TextBlock, ToolUseBlock, tool
from any_agent.config import get_model

PRICES = {"apple": 0.5, "pear": 0.7}


@tool("get_price", "Price of a fruit in EUR", {"fruit": str})
async def get_price(args):
    return {"fruit": args["fruit"], "eur": PRICES.get(args["fruit"])}


OPTIONS = AgentOptions(model=get_model("lm_studio/qwen3-8b"), tools=[get_price])


async def by_hand() -> None:
    async with Client(OPTIONS) as client:  # a Client leaves tools to you
        await client.query("What does an apple cost?")
        async for block in client.receive_messages():
            if isinstance(block, ToolUseBlock):
                print(f"[the model asks for {block.name} {block.input}]")
                await client.add_tool_result(block.id, await get_price.execute(block.input))
            elif isinstance(block, TextBlock):
                print(block.text, end="")
    print()


async def ask(prompt: str) -> str:
    """The same as a function."""
    said = []
    async with Client(OPTIONS) as client:
        await client.query(prompt)
        async for block in client.receive_messages():
            if isinstance(block, ToolUseBlock):
                client.add_tool_result(block.id, await get_price.execute(block.input))  # awaiting it is optional
            elif isinstance(block, TextBlock):
                said.append(block.text)
    return "".join(said)


async def main() -> None:
    await by_hand()
    print(await ask("What does a pear cost?"))
    async with Agent(options=OPTIONS) as agent:  # an Agent runs them
        print(await agent.query("Which is cheaper, the apple or the pear?"))


if __name__ == "__main__":
    asyncio.run(main())
