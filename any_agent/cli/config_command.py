"""`any-agent config`: each setting with its source, and the files that are read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import Common
from .terminal import say, say_json, table

if TYPE_CHECKING:
    from ..config import Route, Setting

_SECRET = re.compile(r"key|token|secret|password|authorization|cookie", re.IGNORECASE)


def settings_of(common: Common) -> dict[str, Setting]:
    """Every setting that holds here, options of files checked by name."""
    from ..config import resolve
    from ..options import AgentOptions

    arguments: dict[str, object] = {**common.address(), "fallback_models": common.fallback_models or None}
    return resolve(arguments, known_options={*AgentOptions.model_fields, "log_level"})


def shown(name: str, value: Any) -> Any:
    """A value with every secret in it masked."""
    from ..config import mask_secret

    if isinstance(value, Mapping):
        return {key: shown(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(name, inner) for inner in value]
    if isinstance(value, str) and _SECRET.search(name):
        return mask_secret(value)
    return value


def route_of(settings: dict[str, Setting]) -> Route | str:
    """Where the settings lead, or why nowhere."""
    from ..config import route
    from ..errors import ConfigurationError

    try:
        return route(settings)
    except ConfigurationError as error:
        return error.message


def has_address(settings: dict[str, Setting]) -> bool:
    """An address is named, by whatever means but a provider's own."""
    place = settings.get("base_url")
    return place is not None and place.value is not None and place.source != "provider default"


def as_rows(settings: dict[str, Setting]) -> list[tuple[str, ...]]:
    """(name, value, source) of each setting, secrets masked."""
    rows: list[tuple[str, ...]] = []
    for name, setting in settings.items():
        value = shown(name, setting.value)
        text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append((name, text, setting.source))
    return rows


def show(common: Common) -> None:
    """Print each setting with the place it comes from; secrets are masked."""
    settings = settings_of(common)
    found = route_of(settings)
    if common.json:
        told: dict[str, Any] = {
            "settings": {
                name: {"value": shown(name, one.value), "source": one.source} for name, one in settings.items()
            },
            "route": None
            if isinstance(found, str)
            else {"model": found.model, "provider": found.provider, "base_url": found.base_url, "door": found.door},
            "problem": found if isinstance(found, str) else None,
        }
        say_json(told)
        return
    say(table(as_rows(settings), indent=""))
    say(f"\n{destination(found)}")


def destination(found: Route | str) -> str:
    """One line: where a prompt would go."""
    if isinstance(found, str):
        return f"prompts go nowhere: {found}"
    where = found.base_url or f"{found.provider}'s own address"
    return f"prompts go to {where} for {found.model}, by the {found.door} door"


def path(common: Common) -> None:
    """Print which settings files are read here, strongest first, and where the user's own would lie."""
    from ..config import find_project_folder, user_file_path
    from ..config.files import LOCAL_FILE, PROJECT_FILE

    rows: list[tuple[str, str, bool]] = []
    chosen = os.environ.get("ANY_AGENT_CONFIG_PATH") or os.environ.get("OPEN_AGENT_CONFIG_PATH")
    if chosen:
        rows.append(("named", str(Path(chosen).expanduser().absolute()), Path(chosen).expanduser().is_file()))
    else:
        folder = find_project_folder(Path.cwd(), os.environ) or Path.cwd()
        for file in (folder / LOCAL_FILE, folder / PROJECT_FILE):
            rows.append(("project", str(file), file.is_file()))
    user = user_file_path(os.environ)
    rows.append(("user", str(user), user.is_file()))
    if common.json:
        say_json([{"kind": kind, "path": where, "exists": exists} for kind, where, exists in rows])
    else:
        say(table([(kind, "read" if exists else "none", where) for kind, where, exists in rows], indent=""))
