"""Fitting history to the window: strategies, and a ContextManager that trims in blocks and otherwise only appends.

A conversation is cut between exchanges (a user message and all that follows it until the next one) and, inside the
last one, between tool rounds: no call loses its result, roles keep alternating, a server keeps its cached prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .fitted_model import FittedModel, cut_error, fitted, fitted_chain
from .manager import ContextManager, Fit
from .shorten import truncate_messages
from .strategies import STRATEGIES, Exchange, Strategy, adaptive, find_strategy, sliding, truncate


def estimate_tokens(messages: Sequence[Any], model: str = "gpt-3.5-turbo") -> int:
    """A guess at the tokens of messages, offline; `any_agent.tokens.TokenCounter` has bounds that hold."""
    from ..tokens import estimate_tokens as estimate

    return estimate(messages, model)


__all__ = [
    "STRATEGIES",
    "ContextManager",
    "Exchange",
    "Fit",
    "FittedModel",
    "Strategy",
    "adaptive",
    "cut_error",
    "estimate_tokens",
    "find_strategy",
    "fitted",
    "fitted_chain",
    "sliding",
    "truncate",
    "truncate_messages",
]
