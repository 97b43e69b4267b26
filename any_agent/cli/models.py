"""`any-agent models`: which models are live here, with the window really served."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from .common import Common
from .terminal import printable, say, say_json, table, tell

if TYPE_CHECKING:
    from ..config import Setting
    from ..models.servers import Address, ServedModel, Server


def models(common: Common) -> None:
    """List the models of the servers that answer on this machine.

    Window (as served), tools, vision, and whether it is loaded. Exit code 3 when no server answers, 1 when all that do
    want a key.
    """
    import asyncio

    from ..models.servers import discover
    from .config_command import settings_of

    settings = settings_of(common)
    addresses = _addresses(common, settings)
    servers = asyncio.run(discover(addresses))
    if common.json:
        say_json([asdict(server) for server in servers])
    elif servers:
        _show(servers)
    if not servers:
        where = f" at {common.base_url}" if common.base_url else ""
        tell(f"no model server answers{where}. Start one (LM Studio, Ollama, llama.cpp, vLLM), or try: any-agent demo")
        raise typer.Exit(3)
    locked = [server.base_url for server in servers if server.state == "locked"]
    if len(locked) == len(servers):
        tell(f"✗ {', '.join(locked)} wants a key: nothing is told of its models", style="red")
        tell(f"  fix:   {_cure(common, settings, addresses, locked[0])}")
        raise typer.Exit(1)


def _addresses(common: Common, settings: dict[str, Setting]) -> list[Address]:
    """Where to look; a key goes only to the address that it was named for."""
    from ..models.servers import Address, addresses_here
    from ..models.servers.places import with_v1
    from .config_command import has_address

    named = settings["base_url"].value
    if common.base_url:
        return [Address(named, api_key=settings["api_key"].value)]
    addresses = addresses_here()
    if not (common.api_key and has_address(settings)):
        return addresses
    meant = with_v1(named)
    return [replace(one, api_key=common.api_key) if one.base_url == meant else one for one in addresses]


def _cure(common: Common, settings: dict[str, Setting], addresses: list[Address], locked: str) -> str:
    """How a key reaches the server."""
    from ..models.next_steps import for_key
    from ..models.servers.places import with_v1
    from .problems import in_our_words

    was_sent = any(one.api_key and with_v1(one.base_url) == locked for one in addresses)
    if common.base_url:
        return in_our_words(for_key(settings["provider"].value, settings["base_url"].value, was_sent=was_sent))
    cure = in_our_words(for_key(None, locked, was_sent=was_sent))
    return cure.replace("pass --api-key", f"pass --base-url {locked} with --api-key")


def _show(servers: list[Server]) -> None:
    for server in servers:
        version = f" {server.version}" if server.version else ""
        say(printable(f"{server.kind}{version} at {server.base_url} ({server.state})"))
        rows = [("model", "window", "tools", "vision", "loaded"), *[_row(model) for model in server.models]]
        none = "  (wants a key)" if server.state == "locked" else "  (no models)"
        say(table(rows) if server.models else none)


def _row(model: ServedModel) -> tuple[str, ...]:
    window = f"{model.window_tokens:,}" if model.window_tokens else "?"
    if model.trained_tokens and model.trained_tokens != model.window_tokens:
        window += f" of {model.trained_tokens:,}"
    return (model.id, window, _said(model.has_tools), _said(model.has_vision), _said(model.is_loaded))


def _said(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"
