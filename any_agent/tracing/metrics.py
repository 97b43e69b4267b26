"""Which metrics there are, and what is counted in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import names

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4.0**power for power in range(14))

# name: (unit, description, bucket boundaries)
HISTOGRAMS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    names.TOKEN_USAGE: ("{token}", "Tokens of a model call, in and out.", _TOKENS),
    names.OPERATION_DURATION: ("s", "How long a model call took, failed tries too.", _SECONDS),
    names.FIRST_CHUNK_DURATION: ("s", "Seconds until the first piece of an answer.", _SECONDS),
    names.AGENT_DURATION: ("s", "How long a run took.", _SECONDS),
    names.TOOL_DURATION: ("s", "How long a tool call took.", _SECONDS),
}
# Attributes of spans that metrics have too: few values each, no ids.
_SHARED = (
    *(names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.RESPONSE_MODEL, names.SERVER_ADDRESS),
    *(names.SERVER_PORT, names.ERROR_TYPE, names.TOOL_NAME, names.AGENT_NAME),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of one metric."""

    name: str
    value: float
    attributes: dict[str, Any] = field(default_factory=dict)


def of_call(attributes: Mapping[str, Any], duration_s: float) -> list[Measured]:
    """The metrics of a model call, from its span's attributes. What the cache answered took no tokens."""
    shared = _shared(attributes)
    told = [Measured(names.OPERATION_DURATION, duration_s, shared)]
    if (first_s := attributes.get(names.TIME_TO_FIRST_CHUNK)) is not None and names.ERROR_TYPE not in attributes:
        told.append(Measured(names.FIRST_CHUNK_DURATION, first_s, shared))
    for name, kind in ((names.INPUT_TOKENS, "input"), (names.OUTPUT_TOKENS, "output")):
        if name in attributes:
            told.append(Measured(names.TOKEN_USAGE, attributes[name], {**shared, names.TOKEN_TYPE: kind}))
    return told


def of_tool(attributes: Mapping[str, Any], duration_s: float) -> Measured:
    return Measured(names.TOOL_DURATION, duration_s, _shared(attributes))


def of_run(attributes: Mapping[str, Any], duration_s: float) -> Measured:
    return Measured(names.AGENT_DURATION, duration_s, _shared(attributes))


def _shared(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in _SHARED if name in attributes}
