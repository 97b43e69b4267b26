"""Where one model is reached: its id, provider, address, key and door."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .layers import ADDRESS, NO_KEY, Setting
from .providers import (
    ALIASES,
    NEEDS_BASE_URL,
    PROVIDERS,
    Provider,
    canonical_provider,
    is_near,
    known_provider,
    may_carry_account,
    nearest,
    provider_of_url,
    split_model,
)
from .settings import resolve, resolve_alone

DEFAULT_OPENAI_MODEL = "gpt-4"
_ENTRY_KEYS = (*ADDRESS, "api_base", "door")

_NO_MODEL = (
    "no model is given. Name one by argument (Agent('ollama/llama3.1'), --model), by ANY_AGENT_MODEL, "
    "or in .agent/config.yml (agent: model: …). To try without any model: any-agent demo"
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where one model is reached.

    Attributes: model (the id without our prefix), provider (canonical; None: some OpenAI-compatible server), base_url
    (normalised; None: LiteLLM knows the provider's address), api_key (None: send none), door.
    """

    model: str
    provider: str | None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    door: Literal["direct", "litellm"] = "direct"
    api_version: str | None = None
    organization: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a local kind of server, or lies on this machine or a private network."""
        known = known_provider(self.provider)
        if known and known.is_local:
            return True
        return self.base_url is not None and is_near(urlsplit(self.base_url).hostname or "")

    @property
    def name(self) -> str:
        """`provider/model`, or the model alone."""
        return f"{self.provider}/{self.model}" if self.provider else self.model


def route(
    settings: Mapping[str, Setting] | None = None,
    *,
    door: str | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    **arguments: object,
) -> Route:
    """Settle where a model is reached.

    Args:
        settings: what `resolve()` gave; None resolves `arguments` (model, provider, base_url, api_key, …) here.
        door: `auto` (direct for local servers and given base URLs, LiteLLM for the rest), `litellm` or `direct`; None
            takes the setting `door`.
        environ: instead of the process's environment.
        cwd: where the search for `.agent/config.yml` starts.

    Raises:
        ConfigurationError: no model, a model without provider, an unknown provider, a door that cannot lead there.
    """
    if settings is None:
        settings = resolve(arguments, environ=environ, cwd=cwd)
    elif arguments:
        raise TypeError(f"route() takes settings or arguments, not both: {', '.join(sorted(arguments))}")
    wanted = _checked_door(door or settings.get("door") or "auto")
    base = settings["base_url"]
    provider, model = _who(settings)
    known = PROVIDERS.get(provider or "")
    if provider and known is None and base.value is None:
        _refuse_unknown(settings["provider"], wanted)
    chosen = _door(wanted, known, provider, base)
    if chosen == "litellm":
        _check_redirect(provider, base)
    url: str | None = base.value
    if chosen == "direct" and url is None and known:
        url = known.base_url
    if url is None and chosen == "direct":
        raise ConfigurationError(
            f"door='direct' speaks OpenAI's protocol only, and {provider} has another; give a base_url that speaks it, "
            f"or door='litellm'",
            field="door",
            value=wanted,
        )
    is_redirected = base.is_given or (known is not None and known.is_local)
    return Route(
        model=model,
        provider=provider,
        base_url=url,
        api_key=_sealed(settings["api_key"].value, chosen, url if is_redirected else None),
        door=chosen,
        api_version=settings["api_version"].value,
        organization=settings["organization"].value,
    )


def _sealed(key: str | None, door: str, custom_url: str | None) -> str | None:
    """Without a key LiteLLM takes one from the environment, and would send it to a custom URL as well."""
    if door == "direct":
        return None if key in NO_KEY else key
    return "not-needed" if key is None and custom_url else key


def _who(settings: Mapping[str, Setting]) -> tuple[str | None, str]:
    """(provider, model id) of the settings."""
    given = settings["provider"] if settings["provider"].is_given else None
    base = settings["base_url"]
    model, where = settings["model"].value, settings["model"].found_at
    if model is None:
        if settings["provider"].value == "openai" and not base.is_given:
            return "openai", DEFAULT_OPENAI_MODEL
        raise ConfigurationError(_NO_MODEL, field="model")
    if not model.strip("/ "):
        raise ConfigurationError(f"{where}model {model!r} is no name", field="model", value=model)
    provider, model_id = split_model(model, given.value if given else None, base.value if base.is_given else None)
    if provider is None and not base.is_given:
        raise ConfigurationError(
            f"{where}model {model!r} does not say who serves it{_advice(model)}", field="model", value=model
        )
    return provider, model_id


def _advice(model: str) -> str:
    """How to say who serves a model; a prefix that is nearly a provider's name is taken for it."""
    prefix, slash, rest = model.partition("/")
    is_known = canonical_provider(prefix) in PROVIDERS
    near = get_close_matches(prefix.lower(), [*PROVIDERS, *ALIASES], 1, 0.8) if slash and not is_known else []
    meant = f"; did you mean '{near[0]}/{rest}'? Otherwise" if near else ":"
    before = "" if near else f", or put the provider before it: 'lm_studio/{model}'"
    return (
        f"{meant} give provider='lm_studio' (or 'ollama', 'llamacpp', 'vllm', 'openai', …) or base_url='http://…/v1'"
        f"{before}"
    )


def _refuse_unknown(provider: Setting, door: str) -> None:
    name = provider.value
    if name in NEEDS_BASE_URL:
        raise ConfigurationError(f"provider {name!r} needs a base_url", field="base_url")
    if door != "litellm":
        allowed, where = ", ".join(PROVIDERS), provider.found_at
        told = "" if where else f" ({provider.source})"
        raise ConfigurationError(
            f"{where}provider {name!r}{told} is unknown{nearest(name, PROVIDERS)}; known are lm_studio, ollama, "
            f"llamacpp, vllm, openai, anthropic and others. Give a base_url for a server of your own, or "
            f"door='litellm' for another provider of LiteLLM",
            field="provider",
            value=name,
            allowed=allowed,
        )


def _check_redirect(provider: str | None, base: Setting) -> None:
    """Some sign in with what lies on the machine (AWS, Google), not only with a key: no folder may redirect that."""
    if base.source.startswith("project file") and may_carry_account(provider):
        raise ConfigurationError(
            f"{base.source} may not give {provider} another base_url ({base.value}): it would receive your account's "
            f"credentials; give it by argument, environment or in the user file",
            field="base_url",
            value=base.value,
        )


def _checked_door(door: object) -> Literal["auto", "litellm", "direct"]:
    where = door.found_at if isinstance(door, Setting) else ""
    door = door.value if isinstance(door, Setting) else door
    if door == "auto" or door == "litellm" or door == "direct":
        return door
    raise ConfigurationError(
        f"{where}door {door!r} is unknown; known are auto, litellm, direct",
        field="door",
        value=door,
        allowed="auto, litellm, direct",
    )


def _door(
    wanted: Literal["auto", "litellm", "direct"], known: Provider | None, provider: str | None, base: Setting
) -> Literal["direct", "litellm"]:
    if wanted != "auto":
        return wanted
    if known is None:
        return "direct" if base.value is not None else "litellm"
    if known.is_local:
        return "direct"
    if known.base_url is None or base.value is None or provider_of_url(base.value) == provider:
        return "litellm"  # it knows the clouds' habits and prices
    return "direct"


# ------------------------------------------------------------------ fallbacks


def fallback_routes(
    entries: Iterable[str | Mapping[str, Any] | Route],
    main: Route,
    *,
    door: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Route]:
    """The routes of `fallback_models`.

    Args:
        entries: a name (`"qwen3-8b"`: on the same server, with its key), a name with a provider (`"openai/gpt-4o"`:
            that provider, with its own key), or a dict with `model` and any of provider, base_url (api_base), api_key,
            api_version, organization, door. What names another provider or an address never gets the main route's key.
        main: the route of the main model.
        door: as for `route()`.
        environ: instead of the process's environment.

    Raises:
        ConfigurationError: an entry is wrong; it says which.
    """
    environ = os.environ if environ is None else environ
    routes: list[Route] = []
    for number, entry in enumerate(entries, 1):
        try:
            routes.append(_fallback(entry, main, door, environ))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"fallback_models, entry {number}: {error.message}",
                field="fallback_models",
                value=error.value,
                allowed=error.allowed,
            ) from None
    return routes


def _fallback(entry: object, main: Route, door: str | None, environ: Mapping[str, str]) -> Route:
    if isinstance(entry, Route):
        return entry
    if isinstance(entry, str):
        entry = {"model": entry}
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{entry!r} is neither a name nor a dict", value=repr(entry))
    said = {str(key): value for key, value in entry.items() if value is not None}
    for key in said:
        if key not in _ENTRY_KEYS:
            allowed = ", ".join(_ENTRY_KEYS)
            raise ConfigurationError(f"unknown key {key!r}{nearest(key, _ENTRY_KEYS)}", value=key, allowed=allowed)
    model = said.get("model")
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError("it names no model", value=model)
    own_door = said.pop("door", None) or door
    if not _is_same_place(said, model, main):
        return route(resolve_alone(said, environ=environ), door=own_door)
    wanted = _checked_door(own_door or "auto")
    chosen = main.door if wanted == "auto" else wanted
    own_key = main.api_key if said.get("api_key", "") in NO_KEY else str(said["api_key"])
    return replace(
        main,
        model=split_model(model, main.provider, main.base_url)[1],
        door=chosen,
        api_key=_sealed(own_key, chosen, main.base_url),
        api_version=said.get("api_version", main.api_version),
        organization=said.get("organization", main.organization),
    )


def _is_same_place(said: Mapping[str, Any], model: str, main: Route) -> bool:
    """Whether an entry means the main route's server: it names no provider, or the same one at the same address."""
    if said.get("base_url") or said.get("api_base"):
        return False
    is_at_home = main.base_url is None or provider_of_url(main.base_url) == main.provider
    if said.get("provider"):
        named: str | None = canonical_provider(str(said["provider"]))
    else:
        # gpt-4o beside claude is OpenAI's; beside a model of a local server it is a name on that server
        named, _ = split_model(model, None, None, knows_bare_names=is_at_home and not main.is_local)
    if named is None:
        return True
    known = PROVIDERS.get(named)
    return named == main.provider and ((known is not None and known.is_local) or is_at_home)
