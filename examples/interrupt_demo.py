"""Stop a running answer: after a time, on a condition, from another task. The client stays usable each time.

LM Studio:  python examples/interrupt_demo.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/interrupt_demo.py
PATIENCE_S=5 changes how long it waits (default 2 seconds).
"""

import asyncio
import os

from any_agent import AgentOptions, Client
from any_agent.config import get_model

PATIENCE_S = float(os.environ.get("PATIENCE_S", "2"))


async def show(client: Client) -> None:
    async for block in client.receive_messages():
        print(block.text, end="", flush=True)


async def main() -> None:
    options = AgentOptions(model=get_model("lm_studio/qwen3-8b"))
    async with Client(options) as client:
        print("1. after a time")
        await client.query("Write an essay of 1000 words about rivers.")
        try:
            await asyncio.wait_for(show(client), timeout=PATIENCE_S)
        except asyncio.TimeoutError:
            await client.interrupt()
            print("\n-- that took too long")

        print("2. on a condition")
        await client.query("Write another one, about bridges.")
        async for block in client.receive_messages():
            print(block.text, end="", flush=True)
            if "bridge" in block.text.lower():
                await client.interrupt()
        print("\n-- it said 'bridge'; the result is", client.result.subtype)

        print("3. from another task")
        await client.query("And one about boats.")
        talking = asyncio.create_task(show(client))
        await asyncio.sleep(PATIENCE_S)
        await client.interrupt()  # somebody pressed a button
        await talking
        print("\n-- cancelled; the client still works:")

        await client.query("Now only say 'done'.")
        await show(client)
        print()


if __name__ == "__main__":
    asyncio.run(main())
