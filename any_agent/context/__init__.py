"""Fitting history to the window: strategies, and a ContextManager that trims in blocks and otherwise only appends.

A conversation is cut between exchanges (a user message and all that follows it until the next one) and, inside the
last one, between tool rounds: no call loses its result, roles keep alternating, a server keeps its cached prefix.
"""

from .fitted_model import FittedModel, fitted, fitted_chain
from .manager import ContextManager, Fit
from .shorten import truncate_messages
from .strategies import STRATEGIES, Exchange, Strategy, adaptive, find_strategy, sliding, truncate

__all__ = [
    "STRATEGIES",
    "ContextManager",
    "Exchange",
    "Fit",
    "FittedModel",
    "Strategy",
    "adaptive",
    "find_strategy",
    "fitted",
    "fitted_chain",
    "sliding",
    "truncate",
    "truncate_messages",
]
