"""Budgets: what a session may cost. Asked before each model call."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import BudgetExceededError
from .memory import UsageRow

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
