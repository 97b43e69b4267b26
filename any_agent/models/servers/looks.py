"""Who answers at an address: which questions are asked, in which order, and what the answers make up together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

from ...config import canonical_provider
from . import shapes
from .places import is_cloud
from .shapes import ServedModel, Server, State

MAX_MODELS_ASKED = 32  # Ollama and a llama.cpp router tell abilities one model at a time
KOBOLDCPP_WINDOW = "/api/extra/true_max_context_length"


class Line(Protocol):
    """Questions to one server; servers.py has the one that speaks HTTP.

    Attributes: trouble (why there is no answer), refusal (the latest answer was that it is locked or loading).
    """

    base_url: str
    trouble: str
    refusal: State | None

    async def get(self, path: str, body: Any = None) -> Any:
        """The JSON behind a path (a POST when there is a body); None when there is none."""

    async def props(self, model: str) -> Any:
        """llama.cpp's properties of one model."""


async def identified(line: Line, *, provider: str | None = None, only: str | None = None) -> Server | None:
    """Look for each kind of server until one shows its shape.

    Args:
        only: the one model whose details are wanted.
    """
    first = canonical_provider(provider) if provider else None
    if is_cloud(first, line.base_url):
        return await _openai(line)
    if first == "vllm" and (server := await _openai(line)) and server.kind == "vllm":
        return server
    for _, look in sorted(_LOOKS.items(), key=lambda item: item[0] != first):
        server = await look(line, only)
        if server is not None or line.trouble:
            return server
        if line.refusal:
            break
    return await _openai(line)


async def _lm_studio(line: Line, only: str | None) -> Server | None:
    models = shapes.lm_studio_models(await line.get("/api/v1/models"))
    if not models:
        old = shapes.lm_studio_old_models(await line.get("/api/v0/models"))
        models = old or (() if models == old == () else None)  # two empty lists, each in its own shape
    return None if models is None else Server("lm_studio", line.base_url, None, models)


async def _ollama(line: Line, only: str | None) -> Server | None:
    running = shapes.ollama_running(await line.get("/api/ps"))
    if running is None:
        return None
    version = shapes.read_text(await line.get("/api/version"), "version")
    if not running and version is None:
        return None
    rows = shapes.ollama_rows(await line.get("/api/tags"))
    rows += [{"name": name} for name in running if name not in {row["name"] for row in rows}]
    if only is not None:
        rows = [row for row in rows if row["name"].lower() in (only.lower(), f"{only}:latest".lower())]
    rows.sort(key=lambda row: row["name"] not in running)
    asked = rows[:MAX_MODELS_ASKED]
    shown = await asyncio.gather(*(line.get("/api/show", {"model": row["name"]}) for row in asked))
    details = [*shown, *[None] * (len(rows) - len(asked))]
    models = [shapes.ollama_model(row, running, detail) for row, detail in zip(rows, details, strict=True)]
    return Server("ollama", line.base_url, version, tuple(models))


async def _llamacpp(line: Line, only: str | None) -> Server | None:
    props = await line.props(only) if only else None
    told = {only: props}
    if not shapes.is_llamacpp_props(props):
        props = await line.get("/props")
        if not shapes.is_llamacpp_props(props):
            return None
    rows = shapes.openai_rows(await line.get("/v1/models")) or []
    is_router = shapes.is_router_props(props) or any(map(shapes.is_router_row, rows))
    if not is_router:
        # the list can be missing (it is while the model loads); the properties name the model as well
        named = shapes.read_text(props, "model_alias") or shapes.read_text(props, "model_path")
        rows = rows or [{"id": named or "default"}]
        told = {row["id"]: props for row in rows}
    elif only is None:
        names = [row["id"] for row in rows if shapes.is_running_row(row)][:MAX_MODELS_ASKED]
        told = dict(zip(names, await asyncio.gather(*map(line.props, names)), strict=True))
    models = [
        shapes.llamacpp_model(row, next((told[name] for name in shapes.names_of(row) if name in told), None))
        for row in rows
    ]
    build, takes_any_name = shapes.read_text(props, "build_info"), not is_router and len(models) == 1
    return Server("llamacpp", line.base_url, None, tuple(models), build, takes_any_name=takes_any_name)


async def _openai(line: Line) -> Server | None:
    was_loading = line.refusal == "loading"
    rows = shapes.openai_rows(await line.get("/v1/models"))
    if rows is None:
        return Server("openai_compatible", line.base_url, state=line.refusal) if line.refusal else None
    kind = shapes.openai_kind(rows)
    version = shapes.read_text(await line.get("/version"), "version") if kind == "vllm" else None
    models = shapes.openai_models(rows)
    if any(row["id"].startswith("koboldcpp/") for row in rows):
        models = _with_window(models, shapes.koboldcpp_window(await line.get(KOBOLDCPP_WINDOW)))
    state: State = "loading" if was_loading else "ready"
    return Server(kind, line.base_url, version, models, state=state)


def _with_window(models: tuple[ServedModel, ...], tokens: int | None) -> tuple[ServedModel, ...]:
    if tokens is None:
        return models
    told = {"window_tokens": tokens, "source": f"{KOBOLDCPP_WINDOW} value", "is_window_certain": True}
    return tuple([replace(one, **told) for one in models])  # type: ignore[arg-type]


_LOOKS: dict[str, Callable[[Line, str | None], Awaitable[Server | None]]] = {
    "lm_studio": _lm_studio,
    "ollama": _ollama,
    "llamacpp": _llamacpp,
}
