"""What the logger `any_agent` is told: never prompts, answers or keys."""

from __future__ import annotations

import logging
from typing import Any

from .types import AttemptFailed, Event, ResultMessage, TextDelta, ToolCompleted

_log = logging.getLogger("any_agent")


class LogObserver:
    """An observer that logs retries, tools and results at `level` and above (None: nothing)."""

    def __init__(self, level: str | None, *, has_metrics: bool = False) -> None:
        self._level = logging.getLevelName(level) if level else logging.CRITICAL + 1
        self._metrics = has_metrics

    def on_event(self, event: Event) -> None:
        if event.__class__ is TextDelta:
            return
        if isinstance(event, AttemptFailed):
            a = event.attempt
            self._say(logging.WARNING, "%s failed after %.1f s (%s): %s", a.model, a.duration_s, a.error_type, a.then)
        elif isinstance(event, ToolCompleted):
            self._say(logging.DEBUG, "tool %s: %.3f s, error=%s", event.name, event.duration_s, event.result.is_error)
        elif isinstance(event, ResultMessage):
            level = logging.INFO if self._metrics else logging.DEBUG
            tokens = event.usage.total_tokens if event.usage else None
            self._say(
                level,
                "run: %s, %d turns, %s tokens, %.2f s",
                event.subtype,
                event.num_turns,
                tokens,
                event.timings.total_s,
            )

    def _say(self, level: int, text: str, *args: Any) -> None:
        if level >= self._level:
            _log.log(level, text, *args)
