"""Which way leads to structured output at one model: by what a probe found, else by who serves it."""

from __future__ import annotations

from typing import Any

from ..models.capabilities.verdicts import Verdict, verdicts_path
from ..protocols import Model
from .asked import Way
from .options import OutputMode

# Who holds an answer to a schema, or at least takes one, as their documentation and our runs say.
TAKES_SCHEMA = frozenset(
    ["llamacpp", "vllm", "lm_studio", "ollama", "openai", "azure", "gemini", "mistral", "xai", "fireworks_ai"]
)


def way_to(
    mode: OutputMode,
    verdict: Verdict | None = None,
    provider: str | None = None,
    *,
    may_try: bool = True,
    runs_tools: bool = True,
) -> Way:
    """The surest way that is known to work there.

    Args:
        verdict: what a probe of the model found; None: nobody has asked.
        provider: who serves it; None: unknown.
        may_try: a server of which nothing is known may be sent a schema; it refuses it at worst.
        runs_tools: we run the tools, so there may be one for the answer.
    """
    beside = verdict is not None and verdict.schema_with_tools
    by_tool = Way("tool", requires_call=verdict is not None and verdict.required_choice.value is True)
    if mode == "tool" or mode == "prompt":
        return by_tool if mode == "tool" and runs_tools else Way("prompt")
    enforced = None if verdict is None else verdict.json_schema.value
    if mode == "schema" or enforced or (enforced is None and (may_try or provider in TAKES_SCHEMA)):
        return Way("schema", beside)
    calls = verdict is not None and verdict.native_tools.value is True
    return by_tool if calls and runs_tools else Way("prompt")


async def way_at(
    model: Model, mode: OutputMode, refusals: set[str], *, runs_tools: bool, may_probe: bool = False
) -> tuple[Way, str]:
    """The way to a model as a session has it (its door inside a fallback chain), and a name for the place.

    Args:
        refusals: places that refused a schema.
        may_probe: what the model can do may be asked where nothing is kept of it (the option `probe_model`).
    """
    chain = getattr(model, "models", (model,))
    door: Any = chain[0]
    while (inner := getattr(door, "inner", None) or getattr(door, "model", None)) is not None and hasattr(
        inner, "name"
    ):
        door = inner
    where: Any = getattr(door, "where", None)
    place = f"{getattr(where, 'base_url', None)} {model.name}"
    if place in refusals and mode in ("auto", "schema"):
        return Way("prompt"), place
    verdict = await _known(door, may_probe) if mode == "auto" or mode == "tool" else None
    # A refusal would send a chain on to its next model; and what is no door of ours may not know the parameter.
    may_try = len(chain) == 1 and where is not None
    provider = getattr(where, "provider", None)
    return way_to(mode, verdict, provider, may_try=may_try, runs_tools=runs_tools), place


async def _known(door: Any, may_probe: bool) -> Verdict | None:
    """What is kept of the model; the server is asked who it is only where there can be something."""
    if not may_probe and not verdicts_path().exists():
        return None
    from ..models.capabilities import known_verdict

    return await known_verdict(door, may_probe=may_probe)
