"""The `query()` function on LM Studio: one prompt, messages streamed as in the Claude Agent SDK.

Start LM Studio, load a model, start its server (port 1234), then: python examples/simple_lmstudio.py
Another machine or model: ANY_AGENT_BASE_URL=http://192.168.0.5:1234/v1 ANY_AGENT_MODEL=mistral-7b python …
"""

import asyncio

from any_agent import AgentOptions, query
from any_agent.config import get_base_url, get_model


async def main() -> None:
    options = AgentOptions(
        system_prompt="You are a professional copy editor",
        model=get_model("qwen3-8b"),
        base_url=get_base_url(provider="lmstudio"),
        max_turns=1,
        temperature=0.1,
    )

    async for message in query(prompt="Correct this: 'Their going too the library.'", options=options):
        if hasattr(message, "content"):
            for block in message.content:
                if hasattr(block, "text"):
                    print(block.text, end="", flush=True)
        else:  # the last one is a ResultMessage
            print(f"\n-- {message.subtype}, {message.usage}")


if __name__ == "__main__":
    asyncio.run(main())
