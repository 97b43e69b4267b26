"""The part of `doctor` that asks models what they can do, or tells what is known of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config import Route
    from ..models.capabilities import Verdict, Verdicts
    from ..models.servers import ServedModel, Server
    from ..protocols import Model

BUDGET_S = 0.9  # for the look for servers and all model calls of a doctor that was not told to --probe
ASK_MORE = "any-agent doctor --probe"


@dataclass(frozen=True, slots=True)
class Told:
    """One model, and what is known of it; `source`: kept, asked, or why it was not asked."""

    model_id: str
    base_url: str
    build: str
    source: str
    verdict: Verdict | None = None
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that could be asked: the key its address was named with, and whether the user named the model."""

    server: Server
    model: ServedModel
    api_key: str | None = None
    is_named: bool = False


async def told_of(
    candidates: Sequence[Asked], probe: bool | None, budget_s: float = BUDGET_S, verdicts: Verdicts | None = None
) -> list[Told]:
    """What is known of each model; those nothing is known of are asked.

    Args:
        probe: True asks every model anew, without a limit of time, and also gateways, for a model the user named; False
            asks none; None asks the local ones of which nothing is known, as long as the budget lasts.
        budget_s: seconds for all calls together.
        verdicts: where they are kept; None: in the user's own file.
    """
    from ..models.capabilities import Verdicts

    verdicts = verdicts or Verdicts.load()
    deadline = time.monotonic() + budget_s
    told = []
    for one in candidates:
        limit_s = None if probe else max(deadline - time.monotonic(), 0.0)
        told.append(await _told(one, probe, limit_s, verdicts))
    return told


async def _told(one: Asked, probe: bool | None, limit_s: float | None, verdicts: Verdicts) -> Told:
    from ..models.capabilities import identity, is_free_to_ask, probe_capabilities
    from ..models.openai_wire import DirectModel

    whom = identity(one.server, one.model)
    about = (one.model.id, one.server.base_url, whom.build)
    kept = verdicts.get(whom)
    if kept is not None and not probe:
        return Told(*about, "kept", kept)
    if probe is False:
        return Told(*about, f"not asked; {ASK_MORE}")
    if not is_free_to_ask(one.server, one.model) and not (probe and one.is_named):
        return Told(*about, _why_not(one))
    if limit_s == 0:
        return Told(*about, f"not asked, no time was left; {ASK_MORE}")
    model = DirectModel(one.model.id, one.server.base_url, provider=one.server.kind, api_key=one.api_key)
    started = time.monotonic()
    try:
        verdict = await probe_capabilities(model, one.model, time_limit_s=limit_s)
    finally:
        await model.aclose()
    verdicts.put(whom, verdict)
    return Told(*about, "asked", verdict, time.monotonic() - started)


def _why_not(one: Asked) -> str:
    if not one.model.is_loaded:
        return "not asked: it is not loaded"
    if one.model.is_remote:
        return "not asked: it runs on the vendor's machines"
    return f"not asked: it may cost money; {ASK_MORE} --model {one.model.id} --base-url {one.server.base_url}"


async def told_of_cloud(route: Route, probe: bool | None) -> Told:
    """What is known of a cloud's model. It is asked only when the user names it together with --probe: it costs money.

    Raises:
        ConfigurationError: the route leads nowhere.
    """
    from ..agent import Agent
    from ..models.capabilities import Verdicts, cloud_identity, probe_capabilities

    agent = Agent()
    model: Model = agent.make_model(route, agent.options)
    whom = cloud_identity(model)
    about = (route.model, whom.place, "")
    verdicts = Verdicts.load()
    kept = verdicts.get(whom)
    if not probe:
        return Told(*about, "kept" if kept else f"not asked: it costs money; {ASK_MORE} --model NAME", kept)
    started = time.monotonic()
    try:
        verdict = await probe_capabilities(model)
    finally:
        await model.aclose()
    verdicts.put(whom, verdict)
    return Told(*about, "asked", verdict, time.monotonic() - started)


def as_json(told: Sequence[Told]) -> list[dict[str, Any]]:
    """For --json: each finding with its value, note and meaning."""
    from .verdict_words import ABILITIES

    out: list[dict[str, Any]] = []
    for one in told:
        entry: dict[str, Any] = {
            "model": one.model_id, "base_url": one.base_url, "build": one.build, "source": one.source, "verdict": None,
        }  # fmt: skip
        if one.verdict is not None:
            found = one.verdict.findings()
            entry["calls"], entry["trouble"] = one.verdict.calls, one.verdict.trouble
            entry["verdict"] = {
                ability.name: {
                    "value": found[ability.name].value,
                    "note": found[ability.name].note,
                    "meaning": ability.meaning(found[ability.name]),
                }
                for ability in ABILITIES
            }
        out.append(entry)
    return out


def as_lines(told: Sequence[Told]) -> Iterator[str]:
    """For people: a table for each model."""
    from .terminal import table
    from .verdict_words import rows

    for one in told:
        yield f"  {one.model_id} at {one.base_url}: {_how(one)}"
        if one.verdict is not None:
            yield table(rows(one.verdict), indent="    ")


def _how(one: Told) -> str:
    if one.verdict is None:
        return one.source
    if one.source == "kept":
        return f"as found before; anew: {ASK_MORE}"
    said = f"{one.verdict.calls} calls, {one.took_s:.1f} s"
    return f"{said}; not everything was asked ({one.verdict.trouble}): {ASK_MORE}" if one.verdict.trouble else said
