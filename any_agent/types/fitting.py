"""What is told when history is fitted to the window: deltas of a model, and events that leave the loop."""

from __future__ import annotations

from dataclasses import dataclass

from .messages import Usage


@dataclass(frozen=True, slots=True)
class ContextFitted:
    """History was fitted to the window before the call. Tokens are upper bounds."""

    dropped_messages: int
    shortened_results: int
    tokens_before: int
    tokens_after: int
    window_tokens: int


@dataclass(frozen=True, slots=True)
class ContextSummarized:
    """A summary stands for the oldest messages from now on; it comes before the call that uses it.

    `covered_messages` counts them from the start of the history, system prompts left out; pinned exchanges among them
    stay. `usage` is what making the summary took, for the ledger (None: not told).
    """

    summary: str
    covered_messages: int
    dropped_messages: int = 0  # of them, newly with this summary
    model: str = ""
    usage: Usage | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class ContextTruncated:
    """The server silently cut the prompt; text of this turn so far is void, the turn is repeated with less history.

    `model`, `usage` and `cost_usd` are of the call that was cut (None: not told).
    """

    reported_tokens: int
    expected_tokens: int
    window_tokens: int
    model: str = ""
    usage: Usage | None = None
    cost_usd: float | None = None
