"""Tools with `@tool`: a schema from types, errors that the model hears of, and a limit on the rounds.

LM Studio:  python examples/calculator_tools.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/calculator_tools.py
"""

import asyncio
import math

from any_agent import AgentOptions, Client, TextBlock, ToolUseBlock, tool
from any_agent.config import get_model


@tool("calculate", "Calculate a op b", {"a": float, "b": float, "op": {"type": "string", "enum": ["+", "-", "*", "/"]}})
async def calculate(args):
    a, b = args["a"], args["b"]
    # 1/0 raises; the model reads "Error: ZeroDivisionError: …" and can do better.
    return {"result": {"+": a.__add__, "-": a.__sub__, "*": a.__mul__, "/": a.__truediv__}[args["op"]](b)}


@tool  # name, description and schema come from the function
def square_root(x: float) -> float:
    """The square root of a number that is not negative."""
    return math.sqrt(x)


async def main() -> None:
    options = AgentOptions(
        system_prompt="Use the tools for every calculation.",
        model=get_model("lm_studio/qwen3-8b"),
        tools=[calculate, square_root],
        auto_execute_tools=True,
        max_tool_iterations=10,
    )
    async with Client(options) as client:
        await client.query("What is 25 + 17, and the square root of that?")
        async for block in client.receive_messages():
            if isinstance(block, ToolUseBlock):
                print(f"[{block.name} {block.input}]")
            elif isinstance(block, TextBlock):
                print(block.text, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
