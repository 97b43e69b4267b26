"""See the answer while it arrives: first as text, then as events that also tell of reasoning, tools and the end.

LM Studio:  python examples/streaming.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/streaming.py
"""

import asyncio

from any_agent import Agent, ResultMessage, TextDelta, ThinkingDelta, ToolCompleted
from any_agent.config import get_model


def word_count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


async def main() -> None:
    async with Agent(get_model("lm_studio/qwen3-8b"), tools=[word_count]) as agent:
        async for chunk in agent.stream_query("Tell me a very short story."):
            print(chunk, end="", flush=True)
        print("\n")

        async for event in agent.stream("How many words has 'the quick brown fox'?"):
            match event:
                case TextDelta(text):
                    print(text, end="", flush=True)
                case ThinkingDelta(thinking):
                    print(f"({thinking})", end="", flush=True)
                case ToolCompleted(name, result):
                    print(f"[{name} -> {result.as_text()}]")
                case ResultMessage() as result:
                    print(f"\n-- {result.subtype}: {result.num_turns} model calls, {result.duration_ms} ms")


if __name__ == "__main__":
    asyncio.run(main())
