"""What the LiteLLM door does in an interpreter of its own: run as a script, writes a report as JSON to the path given.

The parent has set a proxy that leads nowhere, keys of clouds, and a `.env` in the working folder that nobody may read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from contextlib import aclosing
from typing import Any

TOUCHED: list[str] = []  # every name that was looked up and every address that was connected to


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        TOUCHED.append(str(arguments[0]))
    elif event == "socket.connect":
        TOUCHED.append(str(arguments[1][0] if isinstance(arguments[1], tuple) else arguments[1]))


sys.addaudithook(_hook)
started_with = dict(os.environ)

import any_agent  # noqa: E402, F401

report: dict[str, Any] = {"imported": sorted({"litellm", "openai", "aiohttp", "tiktoken"} & sys.modules.keys())}

from any_agent.errors import AuthenticationError, ProviderError  # noqa: E402
from any_agent.models.litellm_wrapper import LiteLLMModel, _load  # noqa: E402
from any_agent.testing.loopback import LoopbackServer  # noqa: E402
from any_agent.testing.wire_bytes import WireReply, chat_chunks, error, sse, token_usage  # noqa: E402
from any_agent.types import ModelRequest, TextDelta, ToolSpec, UserMessage  # noqa: E402

report["imported_with_door"] = sorted({"litellm", "openai", "aiohttp", "tiktoken"} & sys.modules.keys())
sys.modules["mcp"] = None  # type: ignore[assignment]
logging.basicConfig(level=logging.INFO, filename=f"{sys.argv[1]}.log")

PROMPT = "the secret prompt"
ASK = ModelRequest([UserMessage(PROMPT)], timeout_s=20.0)
WIRE = sse(chat_chunks(["Hel", "lo"], usage=token_usage(7, 3)))
OLLAMA = [
    {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False},
    {
        "model": "m",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "eval_count": 2,
    },
]


async def text(model: LiteLLMModel, request: ModelRequest = ASK) -> str:
    async with aclosing(model.stream(request)) as deltas:  # type: ignore[type-var]
        return "".join([delta.text async for delta in deltas if isinstance(delta, TextDelta)])


def settings(litellm: Any) -> dict[str, Any]:
    """Everything of LiteLLM's module that is plain, and its lists."""
    kept = {
        k: v for k, v in vars(litellm).items() if isinstance(v, (str, int, float, bool, type(None), list, set, dict))
    }
    return {k: repr(v) for k, v in kept.items() if not k.startswith("__") and k not in ("model_cost", "_globals")}


async def longest_step(work: Any) -> float:
    """Seconds that the loop was blocked at most while `work` ran."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            longest = max(longest, time.perf_counter() - began - 0.002)

    watcher = asyncio.create_task(watch())
    await work
    watcher.cancel()
    return longest


async def first_run(server: LoopbackServer) -> None:
    models = {
        "hosted_vllm": LiteLLMModel("tiny", provider="vllm", base_url=server.base_url),
        "lm_studio": LiteLLMModel("lm_studio/llama-3-8b", base_url=server.base_url),
        "openai": LiteLLMModel("gpt-4o", provider="openai", base_url=server.base_url),
        "ollama": LiteLLMModel("ollama/m", base_url=server.root_url),
    }
    report["step_while_loading_s"] = await longest_step(text(models["hosted_vllm"]))
    await text(models["openai"])  # the openai client imports its other half at its first call
    litellm = sys.modules["litellm"]
    began = settings(litellm)
    known = {name: dict(entry) for name, entry in litellm.model_cost.items()}
    began_s = time.perf_counter()
    async with aclosing(models["lm_studio"].stream(ASK)) as deltas:  # type: ignore[type-var]
        await anext(deltas)
        report["first_token_s"] = time.perf_counter() - began_s
    report["texts"] = {name: await text(model) for name, model in models.items()}
    tools = (ToolSpec("f", "does", {"type": "object", "properties": {}}),)
    report["with_tools"] = await text(models["hosted_vllm"], ModelRequest([UserMessage(PROMPT)], tools=tools))
    report["with_tools_sdk"] = await text(models["lm_studio"], ModelRequest([UserMessage(PROMPT)], tools=tools))
    steps_s: dict[str, list[float]] = {name: [] for name in models}
    for name, model in models.items():  # Python 3.10 knows no comprehension for it
        steps_s[name] += [await longest_step(text(model)) for _ in range(4)]
    # a busy machine holds up one call, a mistake each of them
    report["steps_s"] = {name: min(steps) for name, steps in steps_s.items()}
    server.reply("/bad/v1/chat/completions", error(500, "oops"))
    for name in ("vllm", "lm_studio"):
        try:
            await text(LiteLLMModel("tiny", provider=name, base_url=f"{server.root_url}/bad/v1"))
        except ProviderError as failure:
            report[f"failed_{name}"] = type(failure).__name__
    report["changed"] = sorted(k for k, v in settings(litellm).items() if began.get(k) != v)
    now = litellm.model_cost
    report["prices_changed"] = sorted(k for k, v in known.items() if now.get(k) != v)
    report["models_added"] = sorted(now.keys() - known.keys())
    report["flags"] = [litellm.suppress_debug_info, litellm.disable_hf_tokenizer_download]


class Counter:
    """Counts calls of Python and C functions in this thread."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.calls += 1


async def counted(server: LoopbackServer) -> None:
    """Function calls of one streamed query: LiteLLM alone, and through the door."""
    litellm = sys.modules["litellm"]
    for provider, prefix in (("vllm", "hosted_vllm"), ("openai", "openai")):
        door = LiteLLMModel("tiny", provider=provider, base_url=server.base_url, api_key="k")

        async def alone(prefix: str = prefix) -> None:
            stream = await litellm.acompletion(
                model=f"{prefix}/tiny",
                messages=[{"role": "user", "content": PROMPT}],
                stream=True,
                stream_options={"include_usage": True},
                api_base=server.base_url,
                api_key="k",
                num_retries=0,
                max_retries=0,
                timeout=86_400.0,
                _skip_mcp_handler=True,
            )
            async for _ in stream:
                pass

        async def through(door: LiteLLMModel = door) -> None:
            await text(door)

        counts = {"door": 1_000_000, "litellm": 1_000_000}
        for round_ in range(100):
            for name, work in (("door", through), ("litellm", alone)):
                await asyncio.sleep(0.02)  # what the last call left to do
                counter = Counter()
                sys.setprofile(counter)
                await work()
                sys.setprofile(None)
                if round_ > 1:
                    counts[name] = min(counts[name], counter.calls)
            # A busy machine hands the bytes over in more pieces, which takes more calls: then measure on.
            if round_ > 5 and counts["door"] - counts["litellm"] <= 700:
                break
        report[f"calls_{prefix}"] = counts


def main() -> None:
    with LoopbackServer() as server:
        server.reply("/v1/chat/completions", WIRE)
        lines = [json.dumps(line).encode() + b"\n" for line in OLLAMA]
        server.reply("/api/chat", WireReply(lines, headers={"Content-Type": "application/x-ndjson"}))
        asyncio.run(first_run(server))  # nobody calls aclose here
        again = LiteLLMModel("tiny", provider="vllm", base_url=server.base_url)
        sdk = LiteLLMModel("tiny", provider="lm_studio", base_url=server.base_url)
        report["runs"] = [[asyncio.run(text(again)), asyncio.run(text(sdk))] for _ in range(3)]
        asyncio.run(counted(server))
        give_up_s = time.monotonic() + 2
        while server.connections_open and time.monotonic() < give_up_s:  # its own thread sees them close
            time.sleep(0.01)
        report["connections_left"] = server.connections_open
        report["paths"] = sorted({request.path for request in server.requests})
        report["keys_seen"] = sorted({request.headers.get("authorization", "") for request in server.requests})
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        os.environ.pop(name, None)
    try:
        asyncio.run(text(LiteLLMModel("openai/gpt-4o")))
    except AuthenticationError as failure:
        report["without_key"] = [str(failure), failure.retryable]
    report["touched"] = sorted(set(TOUCHED))
    report["environment"] = {k: v for k, v in os.environ.items() if started_with.get(k) != v}
    report["user_said"] = {k: os.environ.get(k) for k in ("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS",)}
    report["litellm_loaded_once"] = _load() is sys.modules["litellm"]
    with open(sys.argv[1], "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
