"""One precedence for every setting, and each value with the place it came from.

argument > environment > project file > user file > provider default > default

A source that names a model's address (provider, base URL, key) is taken as a whole: when a stronger source points at
another provider, the weaker one's address is left out. A key goes only where its own source points, so that neither a
folder's settings nor a changed base URL can carry it elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ..errors import ConfigurationError
from .layers import ADDRESS, NO_KEY, Layer, Setting, all_layers, argument_layer, env_value
from .providers import (
    PROVIDER_DEFAULTS,
    PROVIDERS,
    Provider,
    is_own_host,
    known_provider,
    nearest,
    normalise_base_url,
    provider_of_url,
    read_ollama_host,
    split_model,
)
from .wrong_options import no_such_option


def get_base_url(
    base_url: str | None = None, provider: str | None = None, *, environ: Mapping[str, str] | None = None
) -> str:
    """The base URL to use: the given one, ANY_AGENT_BASE_URL, the provider's default, or LM Studio's.

    Raises:
        ConfigurationError: `provider` has no OpenAI-compatible address of its own.
    """
    if base_url:
        return base_url
    found = env_value(os.environ if environ is None else environ, "BASE_URL", "API_BASE")
    if found:
        return found[1]
    if not provider:
        return PROVIDER_DEFAULTS["lmstudio"]
    known = known_provider(provider)
    if known is None or known.base_url is None:
        allowed = ", ".join(PROVIDER_DEFAULTS)
        raise ConfigurationError(
            f"no default base URL for provider {provider!r}{nearest(provider, PROVIDER_DEFAULTS)}; known are {allowed}",
            field="provider",
            value=provider,
            allowed=allowed,
        )
    return known.base_url


def get_model(
    model: str | None = None, *, prefer_env: bool = True, environ: Mapping[str, str] | None = None
) -> str | None:
    """ANY_AGENT_MODEL, or `model` when it is not set or `prefer_env` is False. None: nobody named one."""
    found = env_value(os.environ if environ is None else environ, "MODEL") if prefer_env else None
    return found[1] if found else model


def resolve(
    arguments: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    config_path: str | Path | None = None,
    known_options: Collection[str] | None = None,
) -> dict[str, Setting]:
    """Every setting with its source.

    Args:
        arguments: what the caller gave (`api_base` is `base_url`); None values count as not given. Names beyond the
            address are options and come back as they are.
        environ: instead of the process's environment.
        cwd: where the search for `.agent/config.yml` starts.
        config_path: a file instead of the project's, before ANY_AGENT_CONFIG_PATH.
        known_options: refuses other names in the files' `options:`; None takes any.

    Returns:
        `model`, `provider`, `base_url`, `api_key`, `api_version`, `organization` always (value None: nobody said it),
        and each option that an argument, the environment or a file's `options:` names, its value unchecked.

    Raises:
        ConfigurationError: a file is wrong, or a base URL is none.
    """
    environ = os.environ if environ is None else environ
    layers = all_layers(arguments or {}, environ, Path(cwd or Path.cwd()).absolute(), config_path)
    settings = _address(layers, environ)
    for layer in layers:
        for name, setting in layer.values.items():
            if name in ADDRESS:
                continue
            if known_options is not None and name not in known_options and " file " in setting.source:
                raise ConfigurationError(f"{setting.place}: {no_such_option(name, known_options)}", field=name)
            settings.setdefault(name, setting)
    return settings


def resolve_alone(arguments: Mapping[str, object], *, environ: Mapping[str, str]) -> dict[str, Setting]:
    """The address that `arguments` name by themselves, with the provider's own environment; nothing is inherited."""
    return _address([argument_layer(arguments)], environ)


# ------------------------------------------------------------------ the address


def _address(layers: list[Layer], environ: Mapping[str, str]) -> dict[str, Setting]:
    picked = Layer({})
    origin: dict[str, Layer] = {}
    agreeing: list[Layer] = []
    for layer in layers:
        if _points_elsewhere(layer, picked):
            continue
        agreeing.append(layer)
        for name in ADDRESS:
            if name in layer and name not in picked:
                picked.values[name] = layer.values[name]
                origin[name] = layer
    provider = _provider(picked)
    base = picked.values.get("base_url") or _default_base(provider.value, environ)
    pointing = origin.get("provider") or origin.get("model")
    key = _key(agreeing, pointing, provider.value, base, environ)
    if key.value is None and key.source == "default":
        ignored = [layer.values["api_key"].source for layer in layers if "api_key" in layer]
        key = Setting("api_key", None, f"not used: {ignored[0]} is for another address") if ignored else key
    settings = {name: picked.values.get(name, Setting(name, None)) for name in ADDRESS}
    settings |= {"provider": provider, "base_url": base, "api_key": key}
    _add_own_environment(settings, environ)
    return settings


def _points_elsewhere(layer: Layer, picked: Layer) -> bool:
    """Whether a weaker source names another provider than the stronger ones do."""
    strong, weak = picked.pointer(), layer.pointer()
    if strong and weak:
        return strong != weak
    if strong and "base_url" in layer and "base_url" not in picked:
        return not _is_local(strong)  # an unknown server's address is not a cloud's
    # a base URL alone: a local server's settings may fit it, a cloud's do not
    return bool(weak) and "base_url" in picked and not _is_local(weak)


def _is_local(name: str | None) -> bool:
    provider = PROVIDERS.get(name or "")
    return provider is not None and provider.is_local


def _provider(picked: Layer) -> Setting:
    if "provider" in picked:
        return picked.values["provider"]
    url, model = picked.text("base_url"), picked.text("model")
    if model:
        found, _ = split_model(model, None, url)
        return Setting("provider", found, "derived from the model" if found else "default")
    found = provider_of_url(url)
    return Setting("provider", found, "derived from the base URL" if found else "default")


def _default_base(provider: str | None, environ: Mapping[str, str]) -> Setting:
    known = PROVIDERS.get(provider or "")
    if known is None:
        return Setting("base_url", None)
    own = _own_base(known, environ)
    if own or not known.is_local:
        return own or Setting("base_url", None)
    return Setting("base_url", known.base_url, "provider default")


def _own_base(provider: Provider, environ: Mapping[str, str]) -> Setting | None:
    """The address in the provider's own environment variable."""
    for name in provider.base_env:
        value = environ.get(name, "").strip()
        if value:
            try:
                url = normalise_base_url(read_ollama_host(value) if name == "OLLAMA_HOST" else value, provider.name)
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"environment {name}: {error.message}", field=name, value=error.value
                ) from None
            return Setting("base_url", url, f"environment {name}")
    return None


# ------------------------------------------------------------------ the key


def _key(
    layers: list[Layer], pointing: Layer | None, provider: str | None, base: Setting, environ: Mapping[str, str]
) -> Setting:
    for layer in layers:
        if "api_key" in layer:
            key = layer.values["api_key"]
            if key.source == "argument" or _belongs_there(layer, pointing, provider, base):
                return key
    known = PROVIDERS.get(provider or "")
    if known and _is_own_endpoint(known, base, environ):
        for name in known.key_env:
            value = environ.get(name, "").strip()
            if value not in NO_KEY:
                return Setting("api_key", value, f"environment {name}")
    return Setting("api_key", None)


def _belongs_there(layer: Layer, pointing: Layer | None, provider: str | None, base: Setting) -> bool:
    """Whether a source's key is for the address that was settled on."""
    own = layer.text("base_url")
    if own is not None:
        return own == str(base.value)
    if base.is_given:
        return False
    named = layer.pointer()
    if named is not None:
        return named == provider
    # The source names no address: its key is a cloud's, and only the user may say which.
    return not _is_local(provider) and pointing is not None and pointing.is_trusted


def _is_own_endpoint(provider: Provider, base: Setting, environ: Mapping[str, str]) -> bool:
    """Whether a base URL is where the provider's own key belongs."""
    if not base.is_given:
        return True
    own = _own_base(provider, environ)
    own_url: str | None = own.value if own else provider.base_url
    url: str = base.value
    return url == own_url or is_own_host(provider, url)


def _add_own_environment(settings: dict[str, Setting], environ: Mapping[str, str]) -> None:
    """What OpenAI's and Azure's own variables add, at their own address."""
    provider = settings["provider"].value
    added = {
        "openai": ("organization", ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID")),
        "azure": ("api_version", ("AZURE_API_VERSION",)),
    }.get(provider)
    if added is None or not _is_own_endpoint(PROVIDERS[provider], settings["base_url"], environ):
        return
    name, variables = added
    for variable in variables:
        if settings[name].value is None and environ.get(variable, "").strip():
            settings[name] = Setting(name, environ[variable].strip(), f"environment {variable}")
