"""What to do next, where one kind of failure has several cures: which one works depends on the place."""

from __future__ import annotations

import re

from ..config.providers import is_own_host, known_provider


def for_key(provider: str | None, base_url: str | None, *, was_sent: bool) -> str:
    """How a key reaches this place, and whether one did."""
    known = known_provider(provider)
    told = "the key that was sent is not accepted" if was_sent else "no key was sent"
    if not was_sent and base_url is None and (known is None or not known.key_env):
        return f"sign in as {provider or 'the provider'} wants it, or pass api_key=… (command line: --api-key)."
    is_own = base_url is None or (known is not None and (is_own_host(known, base_url) or base_url == known.base_url))
    if known is not None and known.key_env and is_own:
        return f"{told}; pass api_key=… (command line: --api-key), or set {known.key_env[0]}."
    return (
        f"{told}; pass api_key=… (command line: --api-key), or set ANY_AGENT_API_KEY together with "
        f"ANY_AGENT_BASE_URL={base_url or '…'} (other keys of the environment are not sent there)."
    )


def for_address(base_url: str | None) -> str:
    """The address answers, but not as a model server does."""
    if base_url is None:
        return "update LiteLLM, or report it: the provider's answer could not be read."
    if not re.search(r"/v\d+\w*(/|$)|/openai", base_url):
        return f"check base_url; most servers want it to end in /v1: {base_url}/v1"
    return "check base_url: what answers there is no OpenAI-compatible server, or a proxy stands before it."


_STARTS = {
    ":1234": "start LM Studio's server (Developer tab, or `lms server start`)",
    ":11434": "start Ollama (`ollama serve`)",
    ":8080": "start llama.cpp (`llama-server -m model.gguf`)",
    ":8000": "start vLLM (`vllm serve MODEL`)",
}


def for_start(base_url: str | None) -> str:
    """Nobody answers: what to start there."""
    base_url = base_url or ""
    start = next((hint for port, hint in _STARTS.items() if f"{port}/" in f"{base_url}/"), None)
    if start is None and re.search(r"//(localhost|127\.|\[::1\])", base_url):
        start = "start the model server there"
    return f"{start}, or check base_url." if start else "check base_url."
