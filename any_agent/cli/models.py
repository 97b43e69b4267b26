"""`any-agent models`: which models are live here, with the window really served."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from .common import Common
from .terminal import printable, say, say_json, table, tell

if TYPE_CHECKING:
    from ..models.servers import ServedModel, Server


def models(common: Common) -> None:
    """List the models of the servers that answer on this machine.

    Window (as served), tools, vision, and whether it is loaded. Exit code 3 when no server answers, 1 when all that do
    want a key.
    """
    import asyncio

    from ..models.servers import Address, discover

    place = common.address()
    base_url, key = place.get("base_url"), place.get("api_key")
    servers = asyncio.run(discover([Address(base_url, api_key=key)] if base_url else None))
    if common.json:
        say_json([asdict(server) for server in servers])
    elif servers:
        _show(servers)
    if not servers:
        where = f" at {base_url}" if base_url else ""
        tell(f"no model server answers{where}. Start one (LM Studio, Ollama, llama.cpp, vLLM), or try: any-agent demo")
        raise typer.Exit(3)
    locked = [server.base_url for server in servers if server.state == "locked"]
    if len(locked) == len(servers):
        from .problems import key_variable

        problem = "does not take this key" if base_url and key else "wants a key"
        tell(f"✗ {', '.join(locked)} {problem}: nothing is told of its models", style="red")
        tell(f"  fix:   pass --api-key with --base-url, or set {key_variable(None)}")
        raise typer.Exit(1)


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
