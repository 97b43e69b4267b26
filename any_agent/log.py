"""What the logger `any_agent` is told: never prompts or answers, and no secret gets through it."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

from .masking import known_secrets, masked, masked_value
from .types import AttemptFailed, Event, ModelLoading, ResultMessage, TextDelta, ToolCompleted

_log = logging.getLogger("any_agent")
_LEAST_SAID = logging.CRITICAL + 1


class _NoSecrets(logging.Filter):
    """Masks the secrets in every record of the logger, whoever wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = known_secrets()
        record.msg, record.args = masked(record.getMessage(), secrets), ()
        fields = getattr(record, "fields", None)
        if fields is not None:
            record.fields = masked_value(fields, secrets)
        return True


if not any(isinstance(one, _NoSecrets) for one in _log.filters):
    _log.addFilter(_NoSecrets())


class LogObserver:
    """An observer that logs retries, tools and results at `level` and above (None: nothing)."""

    def __init__(self, level: str | None, *, has_metrics: bool = False) -> None:
        self._level = logging.getLevelName(level) if level else _LEAST_SAID
        self._metrics = has_metrics

    def on_event(self, event: Event) -> None:
        if event.__class__ is TextDelta:
            return
        if isinstance(event, AttemptFailed):
            a = event.attempt
            told: dict[str, Any] = {"model": a.model, "server": a.base_url, "duration_s": a.duration_s}
            told |= {"error_type": a.error_type, "status": a.status, "then": a.then}
            text = f"{a.model} failed after {a.duration_s:.1f} s ({a.error_type}): {a.then}"
            self._say(logging.WARNING, "attempt_failed", text, told)
        elif isinstance(event, ModelLoading):
            level = logging.DEBUG if event.waited_s else logging.INFO
            told = {"model": event.model, "server": event.base_url, "waited_s": event.waited_s}
            self._say(level, "model_loading", f"{event.model} is being loaded, waited {event.waited_s:.1f} s", told)
        elif isinstance(event, ToolCompleted) and self._level <= logging.DEBUG:
            is_error = event.result.is_error
            told = {"tool": event.name, "duration_s": event.duration_s, "is_error": bool(is_error)}
            text = f"tool {event.name}: {event.duration_s:.3f} s, error={is_error}"
            self._say(logging.DEBUG, "tool_completed", text, told)
        elif isinstance(event, ResultMessage):
            self._result(event)

    def _result(self, result: ResultMessage) -> None:
        level = logging.INFO if self._metrics else logging.DEBUG
        if level < self._level:
            return
        tokens = result.usage.total_tokens if result.usage else None
        total_s = result.timings.total_s
        told = {"subtype": result.subtype, "session_id": result.session_id, "turns": result.num_turns, "tokens": tokens}
        told |= {
            "cost_usd": result.total_cost_usd,
            "duration_s": total_s,
            "first_token_s": result.timings.first_token_s,
        }
        told["error_type"] = type(result.error).__name__ if result.error else None
        text = f"run: {result.subtype}, {result.num_turns} turns, {tokens} tokens, {total_s:.2f} s"
        self._say(level, "run", text, told)

    def _say(self, level: int, event: str, text: str, fields: dict[str, Any]) -> None:
        if level >= self._level:
            _log.log(level, "%s", text, extra={"fields": {"event": event, **fields}})


class JsonLogObserver(LogObserver):
    """The same, each line as one JSON object (option `log_format`)."""

    def _say(self, level: int, event: str, text: str, fields: dict[str, Any]) -> None:
        if level >= self._level:
            said = {name: round(one, 6) if isinstance(one, float) else one for name, one in fields.items()}
            super()._say(level, event, json.dumps({"event": event, **said}, ensure_ascii=False), said)


class JsonFormatter(logging.Formatter):
    """Every record as one JSON object, for a handler of yours: time (UTC), level, logger, and what it says.

    Records of any_agent bring their own fields (event, model, duration_s, …); others a message. Secrets are masked.
    """

    def format(self, record: logging.LogRecord) -> str:
        secrets = known_secrets()
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        told: dict[str, Any] = {"time": at, "level": record.levelname, "logger": record.name}
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            told |= masked_value(fields, secrets)
        else:
            told["message"] = masked(record.getMessage(), secrets)
        if record.exc_info:
            told["exception"] = masked(self.formatException(record.exc_info), secrets)
        return json.dumps(told, ensure_ascii=False, default=str)
