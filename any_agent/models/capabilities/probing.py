"""What a model can do, found out by asking it: at most eight tiny calls, and what they found is kept.

Everything goes through the `Model` seam, so both doors can be asked and every refusal is a typed error. A verdict is
kept per server build, address, model and chat template; servers that may cost money are asked only by name.
"""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from ...config.providers import is_near
from ...errors import ConfigurationError
from ...protocols import Model
from ..emulation import Ways
from ..servers.places import is_cloud
from ..servers.shapes import ServedModel, Server, find_model
from .questions import Probe
from .verdicts import Identity, Verdict, Verdicts, identity, place_of, verdicts_path

AGENT_LIMIT_S = 120.0  # a probe that an agent waits for ends here
NOBODY_S = 60.0  # for so long nobody is looked for again where nobody was found: it takes several requests


async def probe_capabilities(
    model: Model,
    served: ServedModel | None = None,
    *,
    call_timeout_s: float = 60.0,
    time_limit_s: float | None = None,
) -> Verdict:
    """Ask a model what it can do. A refusal is a finding; nothing is raised for what a server says or does.

    Args:
        served: what the server tells of this model; it saves the call with an image.
        call_timeout_s: the longest silence in one call.
        time_limit_s: for all calls together; None: no limit.

    Returns:
        A verdict whose `trouble` says why it is not complete: the server died, wants a key, or the limit was reached.
    """
    asked = _undisguised(model)
    try:
        return await Probe(asked, served, call_timeout_s, time_limit_s).run()
    finally:
        if asked is not model:
            await asked.aclose()


def _undisguised(model: Model) -> Model:
    """The same door, but one that does not tell tools as text where they are refused: the refusal is wanted."""
    if not isinstance(getattr(model, "ways", None), Ways):
        return model
    twin: Any = copy(model)
    twin.ways = Ways("native")
    return cast(Model, twin)


def is_free_to_ask(server: Server, model: ServedModel) -> bool:
    """Whether asking costs nothing but a moment: a loaded model of a local server near by, no gateway to a cloud."""
    is_local = server.kind != "openai_compatible" and is_near(urlsplit(server.base_url).hostname or "")
    is_idle = server.state == "ready" and model.is_loaded
    return is_local and is_idle and not model.is_remote and model.kind != "embedding"


@dataclass(slots=True)
class _Known:
    """What this process knows: the verdicts of one file, who is served where, and who is being asked now."""

    verdicts: Verdicts
    whom: dict[tuple[str, ...], tuple[Identity, ServedModel | None, bool]] = field(default_factory=dict)
    nobody_until: dict[tuple[str, ...], float] = field(default_factory=dict)  # places, monotonic seconds
    asking: set[str] = field(default_factory=set)


_KNOWN: dict[Path, _Known] = {}


async def known_verdict(model: Model, *, may_probe: bool) -> Verdict | None:
    """What is known of the model behind a door, a FittedModel or (its first one) a FallbackModel.

    The first time the server is asked who it is; from then on it is a look into memory. Where nobody is identified the
    server is asked again after a minute. Never raises.

    Args:
        may_probe: ask the model when nothing is known and it `is_free_to_ask`; clouds and gateways never are.

    Returns:
        None: nothing is known, or it is being asked right now. A verdict may be incomplete (`trouble`).
    """
    door = _door(model)
    where: Any = getattr(door, "where", None)
    if where is None:
        return None
    known = _KNOWN.setdefault(verdicts_path(), _Known(Verdicts.load()))
    place = (where.base_url or "", where.provider or "", where.model, type(door).__name__)
    if place not in known.whom:
        if time.monotonic() < known.nobody_until.get(place, 0.0):
            return None
        found = await _identified(where, _door_name(door))
        if found is None:
            known.nobody_until[place] = time.monotonic() + NOBODY_S
            return None
        known.whom[place] = found
    whom, served, is_free = known.whom[place]
    verdict = known.verdicts.get(whom)
    if verdict is not None or not (may_probe and is_free) or whom.key in known.asking:
        return verdict
    known.asking.add(whom.key)
    try:
        verdict = await probe_capabilities(door, served, time_limit_s=AGENT_LIMIT_S)
    finally:
        known.asking.discard(whom.key)
    known.verdicts.put(whom, verdict)
    return verdict


def forget_servers() -> None:
    """Ask again who is served where, e.g. after another model was loaded; verdicts stay."""
    for known in _KNOWN.values():
        known.whom.clear()
        known.nobody_until.clear()


def cloud_identity(model: Any) -> Identity:
    """Who is behind the door to a cloud: it tells no build and no template."""
    return _cloud(model.where, _door_name(model))


def _cloud(where: Any, door: str) -> Identity:
    return Identity(place_of(where.base_url) if where.base_url else str(where.provider or ""), where.model, door=door)


def _door(model: Any) -> Any:
    """The door inside the models that wrap it."""
    while (inner := getattr(model, "inner", None) or next(iter(getattr(model, "models", ())), None)) is not None:
        model = inner
    return model


def _door_name(door: Any) -> str:
    from ..openai_wire import DirectModel

    return "direct" if isinstance(door, DirectModel) else "litellm"


async def _identified(where: Any, door: str) -> tuple[Identity, ServedModel | None, bool] | None:
    """Who is behind a door; None: nobody answers, or not with that model."""
    if where.base_url is None or is_cloud(where.provider, where.base_url):
        return _cloud(where, door), None, False
    from ..servers import probe

    key = next(iter(where.secrets), None)
    try:
        server = await probe(where.base_url, api_key=key, provider=where.provider, only=where.model)
    except ConfigurationError:  # the address is none; the door says so when it is asked
        return None
    served = find_model(server, where.model) if server else None
    if server is None or served is None:
        return None
    return identity(server, served, door), served, is_free_to_ask(server, served)
