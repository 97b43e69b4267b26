"""Budgets: what a session may cost. Asked before each model call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from .errors import BudgetExceededError
from .memory import UsageRow
from .types import AssistantMessage, CallReasked, Usage

OPTIONS = {"cost_usd": "max_budget_usd", "tokens": "max_budget_tokens", "seconds": "max_budget_seconds"}


def exceeded(budget: Mapping[str, float], spent: UsageRow) -> BudgetExceededError | None:
    """The error of the first limit that is used up; None: the next call may be made.

    Args:
        budget: limits by cost_usd, tokens, seconds (of model calls).
        spent: a call whose price is unknown counts as free.
    """
    used = {
        "cost_usd": spent.cost_usd or 0.0,
        "tokens": float(spent.input_tokens + spent.output_tokens),
        "seconds": spent.duration_s or 0.0,
    }
    for name, most in budget.items():
        if used[name] >= most:
            option = OPTIONS[name]
            text = f"{option}={most:g} is used up: {used[name]:g} spent in this session; raise {option} to go on"
            return BudgetExceededError(text, limit=option, value=most)
    return None


def with_paid(known: UsageRow, call: AssistantMessage | CallReasked) -> UsageRow:
    """What is spent when this model call is counted too."""
    usage = call.usage or Usage()
    return replace(
        known,
        calls=known.calls + 1,
        input_tokens=known.input_tokens + usage.input_tokens,
        output_tokens=known.output_tokens + usage.output_tokens,
        cached_tokens=known.cached_tokens + usage.cached_tokens,
        reasoning_tokens=known.reasoning_tokens + usage.reasoning_tokens,
        cost_usd=_sum(known.cost_usd, call.cost_usd),
        unpriced_calls=known.unpriced_calls + (call.cost_usd is None),
        duration_s=known.duration_s + (call.attempt.duration_s if call.attempt else 0.0),
    )


def with_rows(known: UsageRow, rows: Iterable[Mapping[str, Any]]) -> UsageRow:
    """What is spent when these rows of the ledger are counted too."""
    for row in rows:
        told: dict[str, Any] = {name: row.get(name) or 0 for name in _TOKENS}
        one = UsageRow(
            calls=1,
            failed_calls=int(row.get("outcome") != "ok"),
            cost_usd=row.get("cost_usd"),
            unpriced_calls=int(row.get("cost_usd") is None),
            duration_s=row.get("duration_s") or 0.0,
            **told,
        )
        known = together(known, one)
    return known


_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_SUMS = [field.name for field in fields(UsageRow) if field.name not in ("key", "first_token_s", "tokens_per_s")]


def together(one: UsageRow, other: UsageRow) -> UsageRow:
    """The sums of both; means are the first one's."""
    if not other.calls:
        return one
    return replace(one, **{name: _sum(getattr(one, name), getattr(other, name)) for name in _SUMS})


def _sum(one: Any, other: Any) -> Any:
    """None is not known: it counts for nothing, but two of them stay None."""
    return other if one is None else one if other is None else one + other
