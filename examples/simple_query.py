"""Ask one question; see the answer and what it took.

LM Studio (a model is loaded):  python examples/simple_query.py
Ollama:                         ANY_AGENT_MODEL=ollama/qwen3 python examples/simple_query.py "Why is the sky blue?"
llama.cpp, vLLM, any other:     ANY_AGENT_BASE_URL=http://127.0.0.1:8080/v1 ANY_AGENT_MODEL=my-model python …
"""

import asyncio
import sys

from any_agent import Agent
from any_agent.config import get_model


async def main() -> None:
    question = " ".join(sys.argv[1:]) or "What is machine learning in one sentence?"
    async with Agent(get_model("lm_studio/qwen3-8b")) as agent:
        response = await agent.query(question)

    print(response)  # the response is a str …
    tokens = response.usage.total_tokens if response.usage else "an unknown number of"
    print(f"-- {response.model}: {tokens} tokens, {response.timings.total_s:.1f} s")  # … that knows more


if __name__ == "__main__":
    asyncio.run(main())
