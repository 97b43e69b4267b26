"""Strict: model, address and settings come from the environment alone, and what is missing or wrong ends the program.

    export ANY_AGENT_MODEL=qwen3-8b
    export ANY_AGENT_BASE_URL=http://localhost:1234/v1
    python examples/env_config_complete.py

TEMPERATURE (0.7) and MAX_TOKENS (1000) may be set too. For values with fallbacks see examples/simple_with_env.py.
"""

import asyncio
import os
import sys

from any_agent import Agent, AgentOptions, ConfigurationError
from any_agent.config import get_base_url, get_model

REQUIRED = ("ANY_AGENT_MODEL", "ANY_AGENT_BASE_URL")


def options_from_environment() -> AgentOptions:
    """Raises ConfigurationError, which names all that is missing, or the value that is not allowed."""
    missing = [name for name in REQUIRED if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(f"not set: {', '.join(missing)}", field=missing[0])
    return AgentOptions(
        model=get_model(),
        base_url=get_base_url(),
        api_key=os.environ.get("ANY_AGENT_API_KEY"),  # local servers want none
        temperature=os.environ.get("TEMPERATURE", "0.7"),  # checked: "0.7" is a number, "warm" is refused
        max_tokens=os.environ.get("MAX_TOKENS", "1000"),
    )


async def main() -> None:
    options = options_from_environment()
    print(f"{options.model} at {options.base_url}, temperature {options.temperature}")
    async with Agent(options=options) as agent:
        print(await agent.query("What is strict configuration good for? One sentence."))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except ConfigurationError as error:  # nothing was sent
        sys.exit(f"Configuration: {error}")
