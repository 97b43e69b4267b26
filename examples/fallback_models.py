"""When a model fails, the next one answers; the response tells what was tried and why it moved on.

Here the first server is not there at all, so the second one answers:
LM Studio:  python examples/fallback_models.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/fallback_models.py
"""

import asyncio

from any_agent import Agent, AllModelsFailedError
from any_agent.config import get_model, route


async def main() -> None:
    second = route(model=get_model("lm_studio/qwen3-8b"))
    agent = Agent(
        "big-model",
        base_url="http://127.0.0.1:9/v1",  # nobody listens there
        fallback_models=[{"model": second.model, "base_url": second.base_url, "provider": second.provider}],
        max_retries=1,  # tries of the same model after an error that may pass
        retry_delay=0.1,  # seconds
    )
    async with agent:
        try:
            response = await agent.query("Who answers?")
        except AllModelsFailedError as error:
            print(error)
            return

    print(response)
    for attempt in response.attempts:
        outcome = "ok" if attempt.is_ok else f"{attempt.error_type}, {attempt.then}"
        print(f"-- {attempt.model} at {attempt.base_url}: {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
