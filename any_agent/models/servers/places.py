"""Where model servers may be on this machine, and what to say when none of them helps. No I/O."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ...config import normalise_base_url, resolve
from ...config.providers import PROVIDERS, is_near, known_provider, provider_of_url
from ...config.settings import resolve_alone
from ...errors import AuthenticationError, ModelNotFoundError, ProviderError, ServerUnreachableError
from .shapes import Server

LABELS = {"lm_studio": "LM Studio", "ollama": "Ollama", "llamacpp": "llama.cpp", "vllm": "vLLM"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server may be. A key stands here only when the user named the address together with it."""

    base_url: str
    name: str = ""
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was found at an address; `trouble` says why there is no server: refused, silent, no model server."""

    address: Address
    server: Server | None
    trouble: str


def with_v1(base_url: str) -> str:
    """The base URL in one spelling, with /v1 where it has no path. Raises ConfigurationError when it is none."""
    base = normalise_base_url(base_url)
    return base if urlsplit(base).path or is_cloud(None, base) else f"{base}/v1"


def is_cloud(provider: str | None, base_url: str) -> bool:
    """Whether this is a provider's own service, which has nothing but `/models`."""
    known = known_provider(provider or provider_of_url(base_url))
    return known is not None and not known.is_local


def addresses_here(environ: Mapping[str, str] | None = None, cwd: str | Path | None = None) -> list[Address]:
    """The default ports of this machine without a key; and what environment and config name, with the key named there.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Address] = {}

    def add(base_url: str, name: str, api_key: str | None) -> None:
        same = base_url.replace("//localhost", "//127.0.0.1", 1)
        known = found.get(same)
        if known is None or (api_key and not known.api_key):
            found[same] = Address(base_url, known.name if known else name, api_key)

    for name, label in LABELS.items():
        add(str(PROVIDERS[name].base_url).replace("//localhost", "//127.0.0.1"), label, None)
    named = [resolve_alone({"provider": name}, environ=environ) for name in (*LABELS, "openai")]
    for settings in (resolve({}, environ=environ, cwd=cwd), *named):
        base, provider = settings["base_url"], settings["provider"].value
        if base.value is None or base.source == "provider default":
            continue
        if provider in LABELS or is_near(urlsplit(base.value).hostname or ""):
            add(with_v1(base.value), LABELS.get(provider, ""), settings["api_key"].value)
    return list(found.values())


# ------------------------------------------------------------------ when there is nothing to take


def nothing_to_take(sightings: Sequence[Sighting], took_s: float) -> ProviderError:
    """The error that says what was tried, how to go on, and where to read more."""
    servers = [(found.address, found.server) for found in sightings if found.server]
    if not servers:
        return ServerUnreachableError(
            f"No model server answered.\n  tried: {_tried(sightings, took_s)}\n"
            "  fix:   start one (e.g. `ollama serve && ollama pull qwen3`), or set OPENAI_BASE_URL / pass --base-url,\n"
            "         or try now without any model:  any-agent demo\n"
            "  more:  any-agent doctor   ·   --debug for the traceback"
        )
    names = [f"{address.name or LABELS.get(server.kind, '')} {address.base_url}".strip() for address, server in servers]
    places, first = ", ".join(names), servers[0][0].base_url
    if all(server.state == "locked" for _, server in servers):
        return AuthenticationError(
            f"The model server wants a key: {places}\n"
            "  fix:   pass api_key with base_url, or set ANY_AGENT_BASE_URL and ANY_AGENT_API_KEY.\n"
            "  more:  any-agent doctor",
            base_url=first,
        )
    return ModelNotFoundError(
        f"A model server answered, but it has no model to talk to: {places}\n"
        "  fix:   load or download one (e.g. `ollama pull qwen3`); one that is loading now is there soon.\n"
        "  more:  any-agent doctor",
        base_url=first,
    )


def _tried(sightings: Sequence[Sighting], took_s: float) -> str:
    """`LM Studio http://127.0.0.1:1234  Ollama :11434   (all refused, 0.2 s)`."""
    troubles = {found.trouble for found in sightings}
    host, shown = "", []
    for found in sightings:
        parts = urlsplit(found.address.base_url)
        place = f":{parts.port}" if parts.hostname == host and parts.port else f"{parts.scheme}://{parts.netloc}"
        host = parts.hostname or ""
        why = f" ({found.trouble})" if len(troubles) > 1 else ""
        shown.append(f"{found.address.name} {place}{why}".strip())
    alike = f"all {troubles.pop()}, " if len(troubles) == 1 else ""
    return f"{'  '.join(shown) or 'nothing'}   ({alike}{took_s:.1f} s)"
