"""`any-agent doctor`: what is installed, which settings hold, which servers answer."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .terminal import say_json, table, tell

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
    named = _named_address(common, settings, found)
    places, told = asyncio.run(_looked_at(found, named, probe, is_named=bool(common.model)))
    checks += _served(found, named, places, told, settings)
    is_well = all(check.state != "problem" for check in checks)
    if common.json:
        from .verdicts import as_json

        all_told = {**_told(checks, settings, found, places, is_well), "models": as_json(told)}
        say_json(all_told)
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


async def _looked_at(
    found: Route | str, named: Address | None, probe: bool | None, *, is_named: bool
) -> tuple[list[_Place], list[Told]]:
    """The servers that answer, and what their models can do."""
    from ..errors import ConfigurationError
    from .verdicts import BUDGET_S, told_of, told_of_cloud

    started = time.monotonic()
    places, addresses = await _places(named)
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


def _named_address(common: Common, settings: dict[str, Setting], found: Route | str) -> Address | None:
    """The server that the settings mean, also without a model: one that --base-url names, or one near by."""
    from urllib.parse import urlsplit

    from ..config.layers import NO_KEY
    from ..config.providers import is_near
    from ..models.servers import Address
    from .config_command import has_address

    if not isinstance(found, str):
        key = None if found.api_key in NO_KEY else found.api_key
        return Address(found.base_url, found.provider or "", key) if found.is_local and found.base_url else None
    if not has_address(settings):
        return None
    base_url = str(settings["base_url"].value)
    is_asked = common.base_url is not None or is_near(urlsplit(base_url).hostname or "")
    return Address(base_url, "", settings["api_key"].value) if is_asked else None


async def _places(named: Address | None) -> tuple[list[_Place], list[Address]]:
    from ..errors import ConfigurationError
    from ..models.servers import addresses_here, discover
    from ..models.servers.places import with_v1

    try:
        addresses = addresses_here()
    except ConfigurationError:  # told already; the default ports are left
        addresses = addresses_here({"HOME": os.devnull}, os.sep)
    if named is not None:
        same = next(
            (i for i, one in enumerate(addresses) if _same(one.base_url) == _same(with_v1(named.base_url))), None
        )
        if same is None:
            addresses.append(named)
        elif named.api_key:  # the key that a run would send
            addresses[same] = replace(addresses[same], api_key=named.api_key)
    servers = {server.base_url: server for server in await discover(addresses)}
    places = [_Place(one.name or "a server", one.base_url, servers.get(with_v1(one.base_url))) for one in addresses]
    return places, addresses


def _served(
    found: Route | str,
    named: Address | None,
    places: list[_Place],
    told: list[Told],
    settings: dict[str, Setting],
) -> list[Check]:
    """What is wrong with the server that is meant, or with the model of the settings there."""
    from ..models.servers.places import with_v1

    if named is None:
        return []
    meant = _same(with_v1(named.base_url))
    place = next(one for one in places if _same(with_v1(one.base_url)) == meant)
    if place.server is None:
        asked = "" if isinstance(found, str) else f", where {found.model} is asked"
        text = f"no server answers at {place.base_url}{asked}; start it, or name another address"
        return [Check("model", "problem", text)]
    refused = [
        one
        for one in told
        if one.verdict is not None and one.base_url == place.server.base_url and _is_lock(one.verdict.trouble)
    ]
    if place.server.state == "locked" or refused:
        return [Check("key", "problem", _locked(place.base_url, named, settings))]
    return [] if isinstance(found, str) else _model(found, place.server, place.base_url)


def _is_lock(trouble: str) -> bool:
    return "HTTP 401" in trouble or "HTTP 403" in trouble


def _locked(base_url: str, named: Address, settings: dict[str, Setting]) -> str:
    from ..models.next_steps import for_key
    from .problems import in_our_words

    provider = settings["provider"].value
    is_own = provider and not settings["base_url"].is_given  # its own variable's, or its usual one
    cure = for_key(provider, None if is_own else named.base_url, was_sent=bool(named.api_key))
    return f"{base_url} wants a key: {in_our_words(cure)}"


def _model(found: Route, server: Server, base_url: str) -> list[Check]:
    """The model of the settings is not there; gateways may serve unlisted ones."""
    from ..models.servers import find_model, nearest_model

    lists_all = server.state == "ready" and server.kind != "openai_compatible"
    if not lists_all or find_model(server, found.model) is not None:
        return []
    near = nearest_model(found.model, [server])
    fix = f"did you mean {near}?" if near else "load it there, or name one that is listed"
    return [Check("model", "problem", f"{found.model} is not among the models of {base_url}; {fix}")]


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
