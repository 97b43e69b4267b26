"""The files of settings: where they lie, what may stand in them. They are read, never executed.

A project file is found by walking up from the current folder, so it may be a stranger's. It can name a model and a
server; it cannot read secrets from the environment, no key of the environment follows it there (see `settings`), and
it names no file outside of its folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .providers import canonical_provider, may_carry_account, nearest, split_model

PROJECT_FILE = Path(".agent") / "config.yml"
LOCAL_FILE = Path(".agent") / "config.local.yml"
MAX_FILE_BYTES = 1_000_000

# What may stand in each section; options are checked by AgentOptions, which knows its fields.
SECTIONS: dict[str, tuple[str, ...] | None] = {
    "agent": ("provider", "model", "api_base", "base_url", "api_key", "api_version", "organization"),
    "options": None,
    "tools": ("enabled", "permissions"),
    "memory": ("type", "path"),
    "monitoring": ("enabled", "metrics"),
}
# Could carry an address or a header past the rules for keys.
NOT_IN_PROJECT_FILES = (
    "litellm_kwargs",
    "extra_body",
    "extra_headers",
    "headers",
    "metrics_endpoint",
    "subagents",
    "agents",
    "record",  # replaces what was in the file
    "permission_mode",  # what widens rights; rules that deny or ask are taken
    "allowed_tools",
)
# Files and folders; a project file may name those inside the project's folder only.
_FOLDERS = ("options.memory_db_path", "memory.path", "options.replay", "options.cwd")
_OF_NO_FOLDER = ("", ":memory:", "~/.any_agent/memory.db")  # the last one is what holds anyway

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_OPEN_VARIABLES = re.compile(
    r"(HOME|USER|LOGNAME|HOSTNAME|PWD|TMPDIR|LANG|(LM_STUDIO|OLLAMA|LLAMAFILE|HOSTED_VLLM)_API_BASE|OLLAMA_HOST"
    r"|XDG_[A-Z_]+|ANY_AGENT_(?![A-Z_]*(KEY|TOKEN|SECRET|PASSWORD))[A-Z0-9_]+)"
)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file, read and checked. `label` is how sources name it; `is_trusted`: the user named it, or it is theirs.

    `lines` holds the line of each key, by `section.key`.
    """

    path: Path
    label: str
    is_trusted: bool
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """What a relative path in it counts from: the project's folder, else the file's own."""
        own = self.path.absolute().parent
        return own.parent if own.name == PROJECT_FILE.parent.name else own

    def at(self, key: str) -> str:
        """The file and, where it is known, the line of a key."""
        return f"{self.path}, line {self.lines[key]}" if key in self.lines else str(self.path)


def home_folder(environ: Mapping[str, str]) -> Path:
    """The user's home: HOME of `environ`, else what the system says."""
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def user_file_path(environ: Mapping[str, str]) -> Path:
    """Where the user's own settings lie, whether or not the file exists."""
    if environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"]) / "any_agent" / "config.yml"
    if environ is not os.environ:  # a test's environment: the real home is not asked
        return home_folder(environ) / ".config" / "any_agent" / "config.yml"
    import platformdirs

    return platformdirs.user_config_path("any_agent") / "config.yml"


def find_project_folder(cwd: Path, environ: Mapping[str, str]) -> Path | None:
    """The nearest folder upwards that holds `.agent/config.yml` (or only `config.local.yml`).

    Stops at the home folder, which is no project (unless one works in it), and at the root. Files of other users in
    folders above are passed over: anybody may write to /tmp.
    """
    home = home_folder(environ)
    for folder in (cwd, *cwd.parents):
        if folder == home and folder != cwd:
            return None
        for name in (PROJECT_FILE, LOCAL_FILE):
            if (folder / name).is_file() and (folder == cwd or _is_ours(folder / name, cwd)):
                return folder
    return None


def _is_ours(path: Path, cwd: Path) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    try:
        return path.stat().st_uid in (0, os.geteuid(), cwd.stat().st_uid)
    except OSError:
        return False


def config_files(environ: Mapping[str, str], cwd: Path, path: str | Path | None = None) -> list[ConfigFile]:
    """All files that speak here, strongest first. `path` (or ANY_AGENT_CONFIG_PATH) replaces the project's files.

    Raises:
        ConfigurationError: a file cannot be read or holds something unknown; it names file, line or key.
    """
    files: list[ConfigFile] = []
    chosen = path or environ.get("ANY_AGENT_CONFIG_PATH") or environ.get("OPEN_AGENT_CONFIG_PATH")
    if chosen:
        named = cwd / Path(chosen).expanduser()
        if not named.is_file():
            raise ConfigurationError(f"there is no settings file {named}", field="config", value=str(chosen))
        files.append(_read(ConfigFile(named, f"config file {chosen}", True), environ))
    elif folder := find_project_folder(cwd, environ):
        for name in (LOCAL_FILE, PROJECT_FILE):
            if (folder / name).is_file():
                label = f"project file {os.path.relpath(folder / name, cwd)}"
                files.append(_read(ConfigFile(folder / name, label, False), environ))
    user = user_file_path(environ)
    if user.is_file():
        files.append(_read(ConfigFile(user, f"user file {user}", True), environ))
    return files


def load_config_file(
    path: str | Path | None = None, *, environ: Mapping[str, str] | None = None, cwd: str | Path | None = None
) -> dict[str, Any]:
    """One file as a dict of sections, checked and with `${VAR}` filled in.

    Args:
        path: a file; None takes the project's own (`config.local.yml` over `config.yml`), {} when there is none.
        environ: instead of the process's environment.
        cwd: where the walk upwards starts.

    Raises:
        ConfigurationError: names the file and its line, or the key and the nearest known one.
    """
    environ = os.environ if environ is None else environ
    folder = Path(cwd or Path.cwd()).absolute()
    merged: dict[str, Any] = {}
    for file in reversed(config_files(environ, folder, path)):
        if not file.label.startswith("user file"):
            for section, values in file.sections.items():
                merged[section] = {**merged.get(section, {}), **values}
    return merged


def _read(file: ConfigFile, environ: Mapping[str, str]) -> ConfigFile:
    loaded, lines = _parse(file.path)
    file = replace(file, lines=lines)
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{file.path}: settings are sections ({', '.join(SECTIONS)}:), not a {_kind(loaded)}")
    sections: dict[str, dict[str, Any]] = {}
    for name, values in loaded.items():
        if name not in SECTIONS:
            where = [s for s, keys in SECTIONS.items() if keys and name in keys]
            hint = f" (it belongs under {where[0]}:)" if where else nearest(str(name), SECTIONS)
            raise _unknown(file, str(name), hint, SECTIONS)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise ConfigurationError(
                f"{file.at(name)}: {name}: holds names and values, not a {_kind(values)}", field=name
            )
        known = SECTIONS[name]
        for key in values:
            if known is not None and key not in known:
                raise _unknown(file, f"{name}.{key}", nearest(str(key), known), known)
        if name == "options":
            _check_options(values, file)
        sections[name] = {str(key): _expand(value, f"{name}.{key}", file, environ) for key, value in values.items()}
    file = replace(file, sections=sections)
    if not file.is_trusted:
        _check_folders(file)
    return file


def _check_folders(file: ConfigFile) -> None:
    """Raises where a path leads out of the project's folder, also by a symbolic link."""
    root = os.path.realpath(file.folder)
    for key in _FOLDERS:
        section, _, name = key.partition(".")
        value = file.sections.get(section, {}).get(name)
        if not isinstance(value, str) or value in _OF_NO_FOLDER:
            continue
        where = Path(os.path.realpath(file.folder / os.path.expanduser(value)))
        if not where.is_relative_to(root):
            option = "memory_db_path" if key == "memory.path" else name
            raise ConfigurationError(
                f"{file.at(key)}: {key} {value!r} lies outside of the project's folder {root}, and the file could be a "
                f"stranger's. Name a place in that folder; or say {option} in the program or the user file, or name "
                f"this file in ANY_AGENT_CONFIG_PATH",
                field=key,
                value=value,
                allowed=f"a path in {root}",
            )


def _check_options(options: dict[Any, Any], file: ConfigFile) -> None:
    for key in options:
        where = file.at(f"options.{key}")
        if key in SECTIONS["agent"]:  # type: ignore[operator]
            raise ConfigurationError(f"{where}: options.{key} belongs under agent:", field=f"options.{key}")
        if not file.is_trusted and key in NOT_IN_PROJECT_FILES:
            shown = f" {options[key]!r}" if key == "record" else ""  # others may hold secrets
            raise ConfigurationError(
                f"{where}: options.{key}{shown} is not taken from a project file; give it in the program or user file",
                field=f"options.{key}",
            )
    fallbacks = options.get("fallback_models")
    for entry in fallbacks if isinstance(fallbacks, list) and not file.is_trusted else ():
        url = isinstance(entry, dict) and (entry.get("base_url") or entry.get("api_base"))
        if url:
            provider = str(entry.get("provider") or "")
            owner, _ = split_model(str(entry.get("model")), canonical_provider(provider) or None, str(url))
            if may_carry_account(owner):
                raise ConfigurationError(
                    f"{file.at('options.fallback_models')}: options.fallback_models may not give {owner} another "
                    f"base_url ({url})",
                    field="options.fallback_models",
                )


def _unknown(file: ConfigFile, key: str, hint: str, known: Mapping[str, Any] | tuple[str, ...]) -> ConfigurationError:
    allowed = ", ".join(known)
    return ConfigurationError(
        f"{file.at(key)}: unknown key {key!r}{hint}; known are {allowed}", field=key, allowed=allowed
    )


def _kind(value: object) -> str:
    return {"list": "list", "str": "text", "int": "number", "float": "number"}.get(type(value).__name__, "single value")


def _parse(path: Path) -> tuple[Any, dict[str, int]]:
    """What stands in the file, and the line of each key."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: int) -> Any:
            # A few nested aliases make a gigabyte.
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()  # type: ignore[no-untyped-call]
                raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=event.start_mark)
            return super().compose_node(parent, index)

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes: this is no settings file")
        text = path.read_text(encoding="utf-8-sig")
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            loaded = {} if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise ConfigurationError(f"{path}{line}: broken YAML: {problem}", field="config") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ConfigurationError(f"{path}: cannot be read: {reason}", field="config") from None
    return ({} if loaded is None else loaded), dict(_key_lines(root))


def _key_lines(node: Any, above: str = "") -> Iterator[tuple[str, int]]:
    """The keys of two levels, as `section.key`, with their lines."""
    for key, value in node.value if getattr(node, "id", "") == "mapping" else ():
        yield f"{above}{key.value}", key.start_mark.line + 1
        if not above:
            yield from _key_lines(value, f"{key.value}.")


def _expand(value: Any, key: str, file: ConfigFile, environ: Mapping[str, str]) -> Any:
    """Fill in `${NAME}` and `${NAME:-instead}`."""
    if isinstance(value, dict):
        return {name: _expand(inner, f"{key}.{name}", file, environ) for name, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, key, file, environ) for inner in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, instead = match.groups()
        if not file.is_trusted and not _OPEN_VARIABLES.fullmatch(name):
            raise ConfigurationError(
                f"{file.at(key)}: {key} asks for ${{{name}}}, which a project file may not read: it could be a secret, "
                f"and the file a stranger's. Use the user file, an ANY_AGENT_… variable, or name this file in "
                f"ANY_AGENT_CONFIG_PATH",
                field=key,
            )
        if environ.get(name) is not None:
            return environ[name]
        if instead is None:
            raise ConfigurationError(
                f"{file.at(key)}: {key} asks for ${{{name}}}, which is not set; ${{{name}:-…}} would give a value "
                f"instead",
                field=key,
            )
        return str(instead)

    return _VARIABLE.sub(fill, value)
