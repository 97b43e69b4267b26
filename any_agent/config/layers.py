"""What each source says: the caller's arguments, the environment, the files. One layer each, strongest first."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .files import ConfigFile, config_files
from .providers import canonical_provider, normalise_base_url, provider_of_url, split_model

ADDRESS = ("model", "provider", "base_url", "api_key", "api_version", "organization")
NO_KEY = ("", "not-needed")
_PATHS = ("memory_db_path", "record", "replay", "cwd")  # options that are files or folders

_VARIABLES = {
    "model": ("MODEL",),
    "provider": ("PROVIDER",),
    "base_url": ("BASE_URL", "API_BASE"),
    "api_key": ("API_KEY",),
    "api_version": ("API_VERSION",),
    "organization": ("ORGANIZATION",),
    "log_level": ("LOG_LEVEL",),
}
_GIVEN = ("argument", "environment ANY_AGENT_", "environment OPEN_AGENT_", "config file", "project file", "user file")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it came from.

    `source`: `argument`, `environment NAME`, `project file …`, `config file …` (named by the user), `user file …`,
    `provider default`, `derived from …`, `not used: …` (a key that belongs to another address), or `default`.
    """

    name: str
    value: Any
    source: str = "default"
    key: str = field(default="", compare=False)  # in a file: where it stands, e.g. `options.temperature`
    line: int | None = field(default=None, compare=False)

    @property
    def place(self) -> str:
        """The source, as exactly as it is known: `project file .agent/config.yml, line 7 (options.temperature)`."""
        line = "" if self.line is None else f", line {self.line}"
        return f"{self.source}{line}{f' ({self.key})' if self.key else ''}"

    @property
    def found_at(self) -> str:
        """`<place>: ` before what is wrong with it, where it did not come by argument; else ''."""
        return f"{self.place}: " if self.source.startswith(_GIVEN[1:]) else ""

    @property
    def is_only_a_kind(self) -> bool:
        """`memory: type: sqlite` says what kind of store there is, not that one-off queries are to be kept."""
        return self.key == "memory.type" and self.value is True

    def __repr__(self) -> str:
        shown = mask_secret(self.value) if self.name == "api_key" and self.value else self.value
        return f"Setting(name={self.name!r}, value={shown!r}, source={self.source!r})"

    @property
    def is_given(self) -> bool:
        """Whether the user said it: by argument, in our environment variables or in a file."""
        return self.value is not None and self.source.startswith(_GIVEN)


def mask_secret(secret: str | None) -> str:
    """`sk-…***`: enough to tell kinds of keys apart, too little to use; '' for none."""
    if not secret:
        return ""
    prefix = re.match(r"[A-Za-z]{2,4}[-_]", secret) if len(secret) >= 12 else None
    return f"{prefix.group() if prefix else ''}…***"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says. `is_trusted` is False for files that merely lie in the folder."""

    values: dict[str, Setting]
    is_trusted: bool = True

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str | None:
        """The value of that name, None when this source is silent."""
        return self.values[name].value if name in self.values else None

    def pointer(self) -> str | None:
        """The provider this source names: outright, by the model's prefix or by the URL."""
        given = self.text("provider")
        if given:
            return given
        url, model = self.text("base_url"), self.text("model")
        if model:
            return split_model(model, None, url, knows_bare_names=False)[0]
        return provider_of_url(url)


def env_value(environ: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    """The first of our variables that is set and not empty: (full name, value). `names` lack their `ANY_AGENT_`."""
    for name in names:
        for prefix in ("ANY_AGENT_", "OPEN_AGENT_"):
            value = environ.get(prefix + name, "").strip()
            if value:
                return prefix + name, value
    return None


def all_layers(
    arguments: Mapping[str, object], environ: Mapping[str, str], cwd: Path, config_path: str | Path | None
) -> list[Layer]:
    """Every source, strongest first."""
    return [
        argument_layer(arguments),
        _environment_layer(environ),
        *_file_layers(config_files(environ, cwd, config_path)),
    ]


def argument_layer(arguments: Mapping[str, object]) -> Layer:
    """What the caller gave; None, '' and the key 'not-needed' count as not given."""
    bases = {str(arguments[name]) for name in ("base_url", "api_base") if arguments.get(name)}
    if len(bases) > 1:
        raise ConfigurationError(f"base_url and api_base differ: {', '.join(sorted(bases))}", field="base_url")
    values: dict[str, Setting] = {}
    for name, value in arguments.items():
        target = "base_url" if name == "api_base" else name
        if target in ADDRESS:
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"{name} must be text, not {value!r}", field=name, value=value, allowed="text")
            value = (value or "").strip() or None
            if target == "api_key" and value in NO_KEY:
                continue
        if value is not None:
            values[target] = Setting(target, value, "argument")
    return Layer(_spelled(values))


def _environment_layer(environ: Mapping[str, str]) -> Layer:
    values: dict[str, Setting] = {}
    for name, variables in _VARIABLES.items():
        found = env_value(environ, *variables)
        if found and not (name == "api_key" and found[1] in NO_KEY):
            values[name] = Setting(name, found[1], f"environment {found[0]}")
    return Layer(_spelled(values))


def _file_layers(files: list[ConfigFile]) -> list[Layer]:
    layers: list[Layer] = []
    for file in files:
        values = _spelled({**_file_address(file), **_file_options(file)})
        if layers and not file.is_trusted:  # config.local.yml lies over config.yml: one source
            layers[-1] = Layer({**values, **layers[-1].values}, False)
        else:
            layers.append(Layer(values, file.is_trusted))
    return layers


def _file_address(file: ConfigFile) -> dict[str, Setting]:
    values: dict[str, Setting] = {}
    for name, value in file.sections.get("agent", {}).items():
        if isinstance(value, (dict, list, bool)):
            raise ConfigurationError(
                f"{file.at(f'agent.{name}')}: agent.{name} must be text, not {value!r}", field=f"agent.{name}"
            )
        text = "" if value is None else str(value).strip()
        if text and not (name == "api_key" and text in NO_KEY):
            target = "base_url" if name == "api_base" else name
            values[target] = _in_file(file, target, text, f"agent.{name}")
    return values


def _file_options(file: ConfigFile) -> dict[str, Setting]:
    """The options section, and what other sections say that is an option too."""
    said: dict[str, tuple[str, Any]] = {}
    memory, monitoring = file.sections.get("memory", {}), file.sections.get("monitoring", {})
    if "path" in memory:
        said["memory_db_path"] = ("memory.path", memory["path"])
    if memory.get("type") in ("sqlite", "none"):
        said["enable_memory"] = ("memory.type", memory["type"] == "sqlite")
    elif "type" in memory:
        kind = memory["type"]
        raise ConfigurationError(
            f"{file.at('memory.type')}: memory.type {kind!r} is unknown; known are sqlite, none",
            field="memory.type",
            value=kind,
            allowed="sqlite, none",
        )
    if "enabled" in monitoring:
        said["enable_metrics"] = ("monitoring.enabled", monitoring["enabled"])
    for name, value in file.sections.get("options", {}).items():
        said["context_window_size" if name == "context_window" else name] = (f"options.{name}", value)
    return {name: _in_file(file, name, value, key) for name, (key, value) in said.items() if value is not None}


def _in_file(file: ConfigFile, name: str, value: Any, key: str) -> Setting:
    """A setting of a file; a relative path belongs to the file's project, wherever the program is started."""
    if name in _PATHS and isinstance(value, str) and value and value != ":memory:" and not value.startswith("~"):
        value = os.path.normpath(file.folder / value)
    return Setting(name, value, file.label, key, file.lines.get(key))


def _spelled(values: dict[str, Setting]) -> dict[str, Setting]:
    """With the provider's canonical name and a normalised base URL."""
    if "provider" in values:
        values["provider"] = replace(values["provider"], value=canonical_provider(values["provider"].value))
    base = values.get("base_url")
    if base:
        provider = values["provider"].value if "provider" in values else ""
        prefix = values["model"].value.partition("/")[0] if "model" in values else ""
        try:
            values["base_url"] = replace(base, value=normalise_base_url(base.value, provider or prefix))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{base.found_at}{error.message}", field="base_url", value=error.value, allowed=error.allowed
            ) from None
    return values
