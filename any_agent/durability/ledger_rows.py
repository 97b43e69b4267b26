"""Ledger rows: what the events of a run say about its model calls, one row per call."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from ..types import (
    AssistantMessage,
    Attempt,
    AttemptFailed,
    CallReasked,
    ContextSummarized,
    ContextTruncated,
    Event,
    ResultMessage,
    TextDelta,
    ToolMessage,
    Usage,
    UserMessage,
)

Entry = dict[str, Any]


class LedgerRows:
    """Turns the events of one run into ledger rows. It sees each event once, in their order."""

    __slots__ = ("_asked_at", "_is_speaking", "_tried", "is_waiting")

    def __init__(self) -> None:
        self._tried: list[str] = []  # models, since the last answer
        self._asked_at = perf_counter()
        self._is_speaking = False  # something of the answer has come
        self.is_waiting = False  # somebody waits for the next event

    def of(self, event: Event) -> list[Entry]:
        """The rows of the calls that the event tells of, with the last try of a run that failed."""
        kind = event.__class__
        if kind is TextDelta:
            self._is_speaking = True
            return []
        if isinstance(event, AssistantMessage):
            self._asked_at, self._is_speaking = 0.0, False
            return self._answered(event)
        if isinstance(event, (ToolMessage, UserMessage)):
            self._asked_at, self._is_speaking = perf_counter(), False
        elif isinstance(event, CallReasked):
            return [self._reasked(event)]
        elif isinstance(event, AttemptFailed):
            return [self._failed(event.attempt)]
        elif isinstance(event, (ContextSummarized, ContextTruncated)):
            return _paid(event)
        elif isinstance(event, ResultMessage):
            self._asked_at = 0.0
            return [self._failed(a) for a in getattr(event.error, "attempts", ())[-1:] if a.error_type]
        elif self._asked_at:
            self._is_speaking = True
        return []

    def cut(self, model: Any) -> list[Entry]:
        """The row of the call that is cut off now, by an interrupt or a `break`; [] when none is going on."""
        if not self._asked_at or not (self._is_speaking or self.is_waiting):
            return []
        seconds, self._asked_at = perf_counter() - self._asked_at, 0.0
        row = model_call(self._purpose(model.name), model.name, None, None)
        place = getattr(model, "base_url", None)
        return [{**row, "outcome": "interrupted", "server": place, "duration_s": seconds}]

    def _answered(self, message: AssistantMessage) -> list[Entry]:
        attempt, usage, cost_usd = message.attempt, message.usage, message.cost_usd
        if attempt is None:  # without a model's name it is the answer that a tool gave
            return [model_call("turn", message.model, usage, cost_usd)] if message.model else []
        others = [_told_row("vote" if one.is_ok else "retry", one, one.usage, one.cost_usd) for one in attempt.others]
        if others:
            usage, cost_usd = attempt.usage, attempt.cost_usd
        purpose = "cache" if attempt.is_cached else self._purpose(message.model)
        self._tried = []
        return [*others, {**_told_row(purpose, attempt, usage, cost_usd), "model": message.model}]

    def _failed(self, attempt: Attempt) -> Entry:
        purpose = self._purpose(attempt.model)
        self._tried.append(attempt.model)
        return _told_row(purpose, attempt, None, None)

    def _reasked(self, event: CallReasked) -> Entry:
        if event.attempt is None:
            return model_call("reask", event.model, event.usage, event.cost_usd)
        return {**_told_row("reask", event.attempt, event.usage, event.cost_usd), "model": event.model}

    def _purpose(self, model: str) -> str:
        if not self._tried:
            return "turn"
        return "retry" if model in self._tried else "fallback"


def _told_row(purpose: str, attempt: Attempt, usage: Usage | None, cost_usd: float | None) -> Entry:
    """A row with what the try tells of itself."""
    seconds, first_s = attempt.duration_s, attempt.first_token_s
    row = {**model_call(purpose, attempt.model, usage, cost_usd), "server": attempt.base_url, "duration_s": seconds}
    if not attempt.is_ok:
        return {**row, "outcome": "error", "error_type": attempt.error_type}
    told = usage.output_tokens if usage else 0
    speaking_s = seconds - (first_s or 0.0)
    return {**row, "first_token_s": first_s, "tokens_per_s": told / speaking_s if told and speaking_s > 0 else None}


def _paid(event: ContextSummarized | ContextTruncated) -> list[Entry]:
    usage: Usage | None = getattr(event, "usage", None)
    purpose = "summary" if isinstance(event, ContextSummarized) else "cut"
    cost_usd: float | None = getattr(event, "cost_usd", None)
    return [model_call(purpose, getattr(event, "model", ""), usage, cost_usd)] if usage else []


_TOLD = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "queue_s")


def model_call(purpose: str, model: str, usage: Usage | None, cost_usd: float | None) -> Entry:
    row: Entry = {"kind": "model_call", "purpose": purpose, "model": model, "cost_usd": cost_usd, "outcome": "ok"}
    if usage is not None:
        for name in _TOLD:
            row[name] = getattr(usage, name)
        if usage.is_estimated:
            row["is_estimated"] = True
    return row
