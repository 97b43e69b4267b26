"""Nothing about the model is in the code: it comes from the environment, and the program says from where.

    export ANY_AGENT_MODEL=qwen3-8b
    export ANY_AGENT_BASE_URL=http://localhost:1234/v1
    python examples/simple_with_env.py

`.agent/config.yml` in the project and a file in your home folder work as well; see docs/configuration.md.
"""

import asyncio
import sys

from any_agent import Agent, ConfigurationError
from any_agent.config import mask_secret, resolve


async def main() -> None:
    for name, setting in resolve().items():
        shown = mask_secret(setting.value) if name == "api_key" else setting.value
        print(f"{name:14} {shown or '-':<32} ({setting.source})")

    async with Agent() as agent:
        print(await agent.query("Say hello in French."))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except ConfigurationError as error:  # nothing was sent
        sys.exit(f"Please set ANY_AGENT_MODEL first: {error}")
