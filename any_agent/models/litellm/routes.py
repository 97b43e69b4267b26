"""How LiteLLM spells a place: its prefix of the model, the base URL each of its routes wants, the key that goes there.

Knows nothing of LiteLLM but its words; importing this file costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ...config.providers import (
    NEEDS_BASE_URL,
    Provider,
    canonical_provider,
    is_near,
    is_own_host,
    known_provider,
    nearest,
    normalise_base_url,
    split_model,
)
from ...errors import ConfigurationError

# LiteLLM falls back to a key of the environment or to a global when it is given none, so it is always given one.
NO_KEY = "not-needed"
# Half the CPU of `openai/`, and no name-based habits of OpenAI's own models.
_COMPATIBLE = "hosted_vllm"
_PREFIXES = {"lm_studio": "lm_studio", "ollama": "ollama_chat", "llamacpp": _COMPATIBLE, "vllm": _COMPATIBLE}
_COMPATIBLE_NAMES = ("openai_compatible", "openai_like", "local", "custom")
_TAILS = {
    "ollama_chat": ("/api/chat", "/api", "/v1"),
    "anthropic": ("/v1/messages", "/v1"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where LiteLLM is sent.

    Attributes: owner (our name of the provider; None: some compatible server), prefix (LiteLLM's name of it; '': it
    reads the model's name), model_id (without prefix), is_local_kind (a route of local servers), is_local (that, or on
    this machine or a private network: no known price).
    """

    owner: str | None
    prefix: str
    model_id: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    is_local_kind: bool = False
    is_local: bool = False

    @property
    def model(self) -> str:
        """The model as LiteLLM wants it."""
        return f"{self.prefix}/{self.model_id}" if self.prefix else self.model_id


def address(
    model: str,
    provider: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    litellm_providers: Collection[str] | None = None,
) -> Address:
    """Read where a model is.

    Args:
        litellm_providers: the prefixes that LiteLLM knows; None: not imported yet, a strange provider is believed.

    Raises:
        ConfigurationError: a local provider without base_url (LiteLLM would send the prompt to api.openai.com), a base
            URL that is none, or a provider that nobody knows.
    """
    if not model.strip("/ "):
        raise ConfigurationError(f"model {model!r} is no name", field="model", value=model)
    owner = canonical_provider(provider) if provider else None
    if owner is None and model.partition("/")[0].lower() in (*NEEDS_BASE_URL, *_COMPATIBLE_NAMES):
        owner, model = model.split("/", 1)[0].lower(), model.split("/", 1)[1]
    if owner in _COMPATIBLE_NAMES:
        owner, prefix, model_id = None, _COMPATIBLE, model
    else:
        owner, model_id = split_model(model, owner, base_url)
        prefix = _prefix(owner, base_url, litellm_providers)
    known = known_provider(owner)
    needs_base = prefix in (*_PREFIXES.values(), *NEEDS_BASE_URL)
    if base_url is None:
        if needs_base:
            example = (known and known.base_url) or "http://localhost:8080/v1"
            raise ConfigurationError(
                f"{owner or prefix} needs a base_url, for example base_url={example!r}; without one nothing is sent",
                field="base_url",
                allowed="the address of the server",
            )
        return Address(owner, prefix, model_id, None, _key(api_key, known, None))
    url = _base_url(base_url, owner, prefix)
    is_local = needs_base or is_near(urlsplit(url).hostname or "")
    return Address(owner, prefix, model_id, url, _key(api_key, known, url), needs_base, is_local)


def _prefix(owner: str | None, base_url: str | None, litellm_providers: Collection[str] | None) -> str:
    if owner is None:
        return _COMPATIBLE if base_url else ""
    if owner in _PREFIXES:
        return _PREFIXES[owner]
    if litellm_providers is None or owner in litellm_providers:
        return owner
    if base_url:
        return _COMPATIBLE
    raise ConfigurationError(
        f"LiteLLM knows no provider {owner!r}{nearest(owner, litellm_providers)}; "
        "give a base_url for a server of your own",
        field="provider",
        value=owner,
    )


def _base_url(base_url: str, owner: str | None, prefix: str) -> str:
    url = normalise_base_url(base_url, owner)
    for tail in _TAILS.get(prefix, ()):
        url = url.removesuffix(tail)
    return url


def _key(api_key: str | None, known: Provider | None, base_url: str | None) -> str | None:
    """The key that is sent there. One of the environment goes only to the provider's own hosts; None: LiteLLM looks."""
    if api_key:
        return api_key
    if base_url is not None and not (known and is_own_host(known, base_url)):
        return NO_KEY
    if known is None:
        return None
    redirect = next((value for name in known.base_env if (value := os.environ.get(name, "").strip())), None)
    if redirect and is_near(urlsplit(redirect).hostname or ""):
        return NO_KEY
    return next((value for name in known.key_env if (value := os.environ.get(name, "").strip())), None)
