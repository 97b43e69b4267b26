"""How full the window is, by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..models.fallback import FallbackModel
from ..protocols import Model
from ..types import Message, SystemMessage, ToolSpec
from .chain import fitted
from .fitted_model import FittedModel


@dataclass(frozen=True, slots=True)
class ContextUsage:
    """What the next prompt takes of the window, in tokens, after what was dropped and shortened so far.

    The parts add up to `prompt_tokens`, which is the best estimate; `upper_tokens` is not below the truth, and budgets
    go by it. `is_exact`: the server itself has counted the prompt, both are its figure. `is_window_known`: the server
    or the user named the window; else `window_tokens` is assumed (prompts are sent whole), or guessed from a cut.

    Attributes: pinned_tokens (pinned messages besides system prompts), history_tokens (all other messages),
    reserve_tokens (kept for the answer), free_tokens (surely left beside prompt and reserve), dropped_messages,
    shortened_results, summary (the text that stands for dropped messages; None: none).
    """

    model: str
    window_tokens: int
    is_window_known: bool
    is_exact: bool
    system_tokens: int
    tools_tokens: int
    pinned_tokens: int
    history_tokens: int
    prompt_tokens: int
    upper_tokens: int
    reserve_tokens: int
    free_tokens: int
    dropped_messages: int = 0
    shortened_results: int = 0
    summary: str | None = None

    @property
    def used_share(self) -> float:
        """Of the window, by prompt and reserve: 0 to 1, more when it does not fit."""
        return (self.prompt_tokens + self.reserve_tokens) / max(self.window_tokens, 1)

    def __str__(self) -> str:
        about, known = "" if self.is_exact else "about ", "" if self.is_window_known else " (assumed)"
        parts = {"system": self.system_tokens, "tools": self.tools_tokens, "pinned": self.pinned_tokens}
        told = [f"{name} {tokens:,}" for name, tokens in parts.items() if tokens]
        told.append(f"history {self.history_tokens:,}")
        line = f"{about}{self.prompt_tokens:,} of {self.window_tokens:,} tokens{known}: {', '.join(told)}; "
        line += f"{self.reserve_tokens:,} kept for the answer, {self.free_tokens:,} free"
        if self.dropped_messages:
            line += f"; {self.dropped_messages} messages {'summarized' if self.summary else 'left out'}"
        return line + (f"; {self.shortened_results} results shortened" if self.shortened_results else "")


async def context_usage(
    model: Model, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), *, asks_server: bool = True
) -> ContextUsage:
    """What the next prompt would take of the window. Nothing is dropped, and no text is generated.

    Args:
        model: of a run: a fitted chain, of which the first counts; or any model.
        messages: system prompt and whole history.
        asks_server: False: neither its window nor its own count is asked for.
    """
    first = model.models[0] if isinstance(model, FallbackModel) else model
    one = first if isinstance(first, FittedModel) else fitted(first)
    await one.make()
    is_known = await one.knows_window() if asks_server else one.manager.max_tokens > 0
    window = one.manager.max_tokens if is_known else one.assumed_tokens
    manager = one.manager
    view = manager.view(messages)
    exact = await one.count_exactly(view, tools) if asks_server and view else None
    upper = exact or one.counter.upper(view, tools)
    total = exact or min(_estimate(one, view, tools), upper)
    reserve = manager.reserve_for(window)
    usage = ContextUsage(
        model=one.name,
        window_tokens=window,
        is_window_known=is_known and not one.is_guessed,
        is_exact=exact is not None,
        **_parts(one, view, tools, total),
        prompt_tokens=total,
        upper_tokens=upper,
        reserve_tokens=reserve,
        free_tokens=max(window - reserve - upper, 0),
        shortened_results=manager.shortened_results,
        summary=manager.summary,
    )
    return replace(usage, dropped_messages=len(messages) - len(view) + (manager.summary is not None))


def _parts(one: FittedModel, view: Sequence[Message], tools: Sequence[ToolSpec], total: int) -> dict[str, int]:
    """The parts of the total: estimated one by one, then scaled so that they add up to it."""
    system = [m for m in view if isinstance(m, SystemMessage)]
    pinned = [m for m in view if m.pinned and not isinstance(m, SystemMessage)]
    others = [m for m in view if not m.pinned and not isinstance(m, SystemMessage)]
    guesses: dict[str, Any] = {
        "system_tokens": _estimate(one, system) if system else 0,
        "tools_tokens": _estimate(one, (), tools) if tools else 0,
        "pinned_tokens": _estimate(one, pinned) if pinned else 0,
        "history_tokens": _estimate(one, others) if others else 0,
    }
    scale = total / (sum(guesses.values()) or 1)
    told = {name: round(guess * scale) for name, guess in guesses.items()}
    biggest = max(told, key=lambda name: told[name])
    told[biggest] += total - sum(told.values())
    return told


def _estimate(one: FittedModel, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
    estimate = getattr(one.counter, "estimate", one.counter.upper)
    return int(estimate(messages, tools))
