"""`any-agent doctor`: what is installed, which settings hold, which servers answer."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .terminal import table, tell

if TYPE_CHECKING:
    from ..config import Route, Setting
    from ..models.servers import Address, Server
    from .verdicts import Asked, Told

MAX_MODELS_TOLD = 5  # of one server
_PACKAGES = ("litellm", "aiohttp", "pydantic", "tiktoken", "tenacity", "aiosqlite", "typer", "rich")
_EXTRAS = {"proof": "harper-py", "mcp": "mcp", "web": "markdownify", "server": "starlette"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `state` is ok or problem."""

    name: str
    state: str
    text: str


def doctor(
    common: Common,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Ask the loaded models anew and without a limit of time, also one named with --model; or ask none.",
        ),
    ] = None,
) -> None:
    """Look at this machine and its settings.

    Versions, settings with their sources, the model servers that answer here, and what their loaded models can do: as
    found before, or asked with at most 8 short calls each, for about a second. Exit code 1 when something is wrong.
    """
    import asyncio

    checks = [*_installed(), _clash()]
    settings, found, problem = _settings(common)
    if problem := problem or _wrong_place():
        checks.append(Check("settings", "problem", problem))
    places, told = asyncio.run(_looked_at(found, probe, is_named=bool(common.model)))
    checks += _model(found, places)
    is_well = all(check.state != "problem" for check in checks)
    if common.json:
        from .verdicts import as_json

        all_told = {**_told(checks, settings, found, places, is_well), "models": as_json(told)}
        print(json.dumps(all_told, ensure_ascii=False, default=str))
    else:
        _show(checks, settings, found, places, told)
    if not is_well:
        raise typer.Exit(1)


def _installed() -> list[Check]:
    from .. import DISTRIBUTION, __version__

    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    is_known = (3, 10) <= sys.version_info[:2] < (3, 14)
    if not is_known:
        python += "; 3.10 to 3.13 are supported"
    installed = _version(DISTRIBUTION)
    from_where = f"distribution {DISTRIBUTION} {installed}" if installed else f"not installed as {DISTRIBUTION}"
    checks = [
        Check("python", "ok" if is_known else "problem", python),
        Check("any_agent", "ok", f"{__version__}, {from_where}"),
    ]
    versions = {name: _version(name) for name in _PACKAGES}
    found = [f"{name} {version}" for name, version in versions.items() if version]
    checks.append(Check("packages", "ok", ", ".join(found)))
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        checks.append(Check("packages", "problem", f"missing: {', '.join(missing)}; pip install {DISTRIBUTION}"))
    extras = [extra for extra, package in _EXTRAS.items() if _version(package)]
    checks.append(Check("extras", "ok", ", ".join(extras) or f"none; pip install '{DISTRIBUTION}[proof]' for the demo"))
    return checks


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _clash() -> Check:
    from .. import DISTRIBUTION, other_distribution

    other = other_distribution()
    if other is None:
        return Check("name", "ok", "no other distribution installs any_agent")
    fix = f"pip uninstall any-agent {DISTRIBUTION}; pip install {DISTRIBUTION}"
    return Check("name", "problem", f"the other project any-agent also installs any_agent ({other}). Fix: {fix}")


def _settings(common: Common) -> tuple[dict[str, Setting], Route | str, str | None]:
    from ..errors import ConfigurationError
    from .config_command import route_of, settings_of

    try:
        settings = settings_of(common)
    except ConfigurationError as error:
        return {}, error.message, error.message
    return settings, route_of(settings), None


def _wrong_place() -> str | None:
    """What is wrong with an address in the environment, also of a provider that is not the one of the settings."""
    from ..errors import ConfigurationError
    from ..models.servers import addresses_here

    try:
        addresses_here()
    except ConfigurationError as error:
        return error.message
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """An address, and the server that answered there."""

    name: str
    base_url: str
    server: Server | None


async def _looked_at(found: Route | str, probe: bool | None, *, is_named: bool) -> tuple[list[_Place], list[Told]]:
    """The servers that answer, and what their models can do."""
    from ..errors import ConfigurationError
    from .verdicts import BUDGET_S, told_of, told_of_cloud

    started = time.monotonic()
    places, addresses = await _places(found)
    keys = {one.base_url: one.api_key for one in addresses}
    to_ask = [one for place in places for one in _to_ask(place, found, keys[place.base_url])]
    told = await told_of(to_ask, probe, BUDGET_S - (time.monotonic() - started))
    if not isinstance(found, str) and not found.is_local:
        with suppress(ConfigurationError):  # what is wrong stands among the settings
            told.append(await told_of_cloud(found, probe and is_named))
    return places, told


def _to_ask(place: _Place, found: Route | str, api_key: str | None) -> list[Asked]:
    """The loaded models of a server, and the one that the settings name; of a gateway only that, or its only one."""
    from ..models.servers import find_model
    from .verdicts import Asked

    server = place.server
    if server is None or server.state != "ready":
        return []
    is_meant = not isinstance(found, str) and _same(found.base_url or "") == _same(place.base_url)
    named = find_model(server, found.model) if is_meant and not isinstance(found, str) else None
    usual = [one for one in server.models if one.is_loaded and one.kind != "embedding"][:MAX_MODELS_TOLD]
    if server.kind == "openai_compatible" and len(server.models) > 1:
        usual = []
    models = usual if named is None or named in usual else [named, *usual]
    return [Asked(server, one, api_key, one is named) for one in models]


def _same(base_url: str) -> str:
    return base_url.replace("//localhost", "//127.0.0.1")


async def _places(found: Route | str) -> tuple[list[_Place], list[Address]]:
    from ..errors import ConfigurationError
    from ..models.servers import Address, addresses_here, discover
    from ..models.servers.places import with_v1

    try:
        addresses = addresses_here()
    except ConfigurationError:  # told already; the default ports are left
        addresses = addresses_here({"HOME": os.devnull}, os.sep)
    given = found.base_url if not isinstance(found, str) and found.is_local else None
    if given and not isinstance(found, str) and all(_same(one.base_url) != _same(given) for one in addresses):
        addresses.append(Address(given, found.provider or "", found.api_key))
    servers = {server.base_url: server for server in await discover(addresses)}
    places = [_Place(one.name or "a server", one.base_url, servers.get(with_v1(one.base_url))) for one in addresses]
    return places, addresses


def _model(found: Route | str, places: list[_Place]) -> list[Check]:
    """What is wrong with the model of the settings where it is said to be served; gateways may serve unlisted ones."""
    from ..models.servers import find_model, nearest_model

    base_url = "" if isinstance(found, str) else _same(found.base_url or "")
    place = next((one for one in places if _same(one.base_url) == base_url), None)
    if isinstance(found, str) or place is None:
        return []
    if place.server is None:
        text = f"no server answers at {place.base_url}, where {found.model} is asked; start it, or name another address"
        return [Check("model", "problem", text)]
    lists_all = place.server.state == "ready" and place.server.kind != "openai_compatible"
    if not lists_all or find_model(place.server, found.model) is not None:
        return []
    near = nearest_model(found.model, [place.server])
    fix = f"did you mean {near}?" if near else "load it there, or name one that is listed"
    return [Check("model", "problem", f"{found.model} is not among the models of {place.base_url}; {fix}")]


def _told(
    checks: list[Check], settings: dict[str, Setting], found: Route | str, places: list[_Place], is_well: bool
) -> dict[str, Any]:
    from .config_command import destination, shown

    return {
        "ok": is_well,
        "checks": [asdict(check) for check in checks],
        "settings": {name: {"value": shown(name, one.value), "source": one.source} for name, one in settings.items()},
        "destination": destination(found),
        "servers": [asdict(place) for place in places],
    }


def _show(
    checks: list[Check], settings: dict[str, Setting], found: Route | str, places: list[_Place], told: list[Told]
) -> None:
    from .config_command import as_rows, destination
    from .verdicts import as_lines

    marks = {"ok": "ok", "problem": "✗"}
    out = sys.stdout
    tell(table([(marks[check.state], check.name, check.text) for check in checks], indent=""), to=out)
    if settings:
        tell("\nsettings", style="bold", to=out)
        tell(table([row for row in as_rows(settings) if row[1] != "-" or row[2] != "default"]) or "  none", to=out)
    tell(f"  {destination(found)}", to=out)
    tell("\nmodel servers", style="bold", to=out)
    tell(table([(place.name, place.base_url, _said(place.server)) for place in places]), to=out)
    if not any(place.server for place in places):
        tell("  none answers here; try without any:  any-agent demo", to=out)
    if told:
        tell("\nwhat the models can do", style="bold", to=out)
    for line in as_lines(told):
        tell(line, to=out)


def _said(server: Server | None) -> str:
    if server is None:
        return "no answer"
    what = " ".join([part for part in (server.kind, server.version) if part])
    if server.state != "ready":
        return f"{what}: {'wants a key' if server.state == 'locked' else 'loading its model'}"
    names = [one.id + (f" ({one.window_tokens:,} tokens)" if one.window_tokens else "") for one in server.models[:5]]
    more = len(server.models) - 5
    return f"{what}: {', '.join(names) or 'no model'}" + (f" and {more} more" if more > 0 else "")
