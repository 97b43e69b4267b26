"""Fitting history to the window: strategies, and a ContextManager that trims in blocks and otherwise only appends.

A conversation is cut between exchanges (a user message and all that follows it until the next one) and, inside the
last one, between tool rounds: no call loses its result, roles keep alternating, a server keeps its cached prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .chain import fitted, fitted_chain, keep_learned
from .fitted_model import FittedModel
from .manager import ContextManager, Fit
from .shorten import truncate_messages
from .strategies import STRATEGIES, Exchange, Strategy, adaptive, find_strategy, sliding, truncate
from .summary import Summary
from .usage import ContextUsage, context_usage
from .window import cut_error


def estimate_tokens(messages: Sequence[Any], model: str = "gpt-3.5-turbo") -> int:
    """A guess at the tokens of messages, offline; `any_agent.tokens.TokenCounter` has bounds that hold."""
    from ..tokens import estimate_tokens as estimate

    return estimate(messages, model)


def __getattr__(name: str) -> Any:
    if name == "TokenCounter":  # promised here; the room of tokens is loaded when it is needed
        from ..tokens import TokenCounter

        return TokenCounter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "STRATEGIES",
    "ContextManager",
    "ContextUsage",
    "Exchange",
    "Fit",
    "FittedModel",
    "Strategy",
    "Summary",
    "TokenCounter",
    "adaptive",
    "context_usage",
    "cut_error",
    "estimate_tokens",
    "find_strategy",
    "fitted",
    "fitted_chain",
    "keep_learned",
    "sliding",
    "truncate",
    "truncate_messages",
]
