"""A llama.cpp server that is only being started is waited for: it answers 503 until the model is loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp  # noqa: F401 (imported by the first call it would be too late)
import pytest
from support.llama import cold_llama

from any_agent import Agent, ModelLoading, ResultMessage
from any_agent.models import litellm_wrapper
from any_agent.types import AttemptFailed

pytestmark = [
    pytest.mark.real,
    # of pydantic, about LiteLLM's own classes
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]
CTX = 262_144  # 0.6 s of loading


async def listens(base_url: str) -> None:
    """Wait until the server takes connections, which it does before it loads the model."""
    port = urlsplit(base_url).port
    deadline = time.monotonic() + 20
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            await asyncio.sleep(0)
        else:
            writer.close()
            await writer.wait_closed()
            return


@pytest.mark.parametrize("door", ["direct", "litellm"])
async def test_a_server_that_is_asked_too_early(door: str, write_model: Callable[..., Path]) -> None:
    if door == "litellm":  # imported during the load it would take longer than that
        await asyncio.to_thread(litellm_wrapper._load)
    model = write_model(ctx=CTX)
    for _ in range(3):  # a busy machine may be too late to catch it
        with cold_llama(model, ctx=CTX) as base_url:
            async with Agent("tiny", base_url=base_url, door=door, max_retries=0, max_tokens=8) as agent:
                await listens(base_url)
                events = [event async for event in agent.stream("hi")]
        result = events[-1]
        assert isinstance(result, ResultMessage) and result.subtype == "success" and result.result
        assert not any(isinstance(event, AttemptFailed) for event in events)
        if isinstance(events[0], ModelLoading):
            break
    assert isinstance(events[0], ModelLoading) and events[0].base_url == base_url
