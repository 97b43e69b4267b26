"""How `any-agent run` shows a run: as text, as one JSON object, or as one per event."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..types import (
    AssistantMessage,
    AttemptFailed,
    CallReasked,
    ContextFitted,
    ContextSummarized,
    ContextTruncated,
    Event,
    ModelLoading,
    ResultMessage,
    TextDelta,
    ThinkingDelta,
    ToolCompleted,
    ToolMessage,
    ToolStarted,
)
from .problems import as_dict, exit_code
from .terminal import printable, table, tell

if TYPE_CHECKING:
    from ..context import ContextUsage
    from .run_profile import RunProfile

_TYPES: dict[type, str] = {
    TextDelta: "text_delta",
    ThinkingDelta: "thinking_delta",
    AttemptFailed: "attempt_failed",
    CallReasked: "call_reasked",
    ContextFitted: "context_fitted",
    ContextSummarized: "context_summarized",
    ContextTruncated: "context_truncated",
    ModelLoading: "model_loading",
    ToolStarted: "tool_started",
    ToolCompleted: "tool_completed",
    AssistantMessage: "assistant",
    ToolMessage: "tool",
    ResultMessage: "result",
}


def plain(value: Any) -> Any:
    """What `json.dumps` takes, from events, blocks and errors."""
    if isinstance(value, BaseException):
        return as_dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        kind = _TYPES.get(type(value))
        told = {"type": kind} if kind else {}
        return told | {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name != "wire"}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


class JsonOutput:
    """One object at the end. Where asked for: `context` (how full the window is), `profile` (where time went)."""

    context: ContextUsage | None = None
    profile: RunProfile | None = None

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._notes = Notes(is_quiet)
        self._model = ""

    def take(self, event: Event) -> None:
        self._notes.take(event)
        if self.profile is not None:
            self.profile.take(event)
        if isinstance(event, AssistantMessage):
            self._model = event.model or self._model
        if isinstance(event, ResultMessage):
            _write(self._told(event))

    def _told(self, result: ResultMessage) -> dict[str, Any]:
        code = exit_code(result.error) if result.error else 0
        told = {} if self.context is None else {"context": plain(self.context)}
        if self.profile is not None:
            told["profile"] = self.profile.as_dict()
        return {
            **plain(result),
            **told,
            "model": self._model,
            "is_error": result.is_error,
            "duration_ms": result.duration_ms,
            "exit_code": code,
        }


class StreamJsonOutput(JsonOutput):
    """One line per event."""

    def take(self, event: Event) -> None:
        super().take(event)
        if not isinstance(event, ResultMessage):
            _write(plain(event))


def _write(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    sys.stdout.flush()


class TextOutput:
    """The text as it arrives."""

    context: ContextUsage | None = None
    profile: RunProfile | None = None

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._notes = Notes(is_quiet)
        self._last = "\n"
        # a file gets what the model said; a terminal must not be steered by it
        self._shown = printable if sys.stdout.isatty() else str

    def take(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            text = self._shown(event.text)
            sys.stdout.write(text)
            sys.stdout.flush()
            self._last = text[-1:] or self._last
            return
        if not isinstance(event, ThinkingDelta) and self._last != "\n":
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._last = "\n"
        self._notes.take(event)
        if self.profile is not None:
            self.profile.take(event)
        if isinstance(event, ResultMessage):
            if self.context is not None:
                tell(f"  context: {self.context}", style="dim")
            if self.profile is not None:
                tell(table(self.profile.rows()), style="dim")


def output_for(output_format: str, *, is_quiet: bool) -> TextOutput | JsonOutput:
    """The output of a format: text, json or stream-json."""
    if output_format == "text":
        return TextOutput(is_quiet=is_quiet)
    return (StreamJsonOutput if output_format == "stream-json" else JsonOutput)(is_quiet=is_quiet)


class Notes:
    """What happens beside the answer, on standard error: reasoning, tools, failed tries, figures."""

    LOADING_EVERY_S = 10.0  # a model may load for minutes

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._model = ""
        self._is_in_line = False
        self._loading_due_s = 0.0

    def take(self, event: Event) -> None:
        if self._is_quiet:
            return
        if isinstance(event, ThinkingDelta):
            if sys.stderr.isatty():
                tell(event.thinking, style="dim", end="")
                self._is_in_line = not event.thinking.endswith("\n")
            return
        if self._is_in_line and not isinstance(event, TextDelta):
            tell()
            self._is_in_line = False
        match event:
            case AttemptFailed(attempt):
                reason = (attempt.error or attempt.error_type or "failed").splitlines()[0]
                tell(f"! {reason} ({attempt.duration_s:.1f} s): {attempt.then}")
            case ModelLoading(model, base_url, waited_s):
                if waited_s == 0 or waited_s >= self._loading_due_s:
                    self._loading_due_s = waited_s + self.LOADING_EVERY_S
                    since = f" ({waited_s:.0f} s)" if waited_s else ""
                    tell(f"  loading model {model} at {base_url} …{since}", style="dim")
            case CallReasked(tool_name=name, is_read=is_read):
                tell(f"  {name}: unreadable arguments, asked again: {'ok' if is_read else 'failed'}", style="dim")
            case ContextFitted(dropped, shortened) if dropped + shortened:
                tell(f"  context: {dropped} messages left out, {shortened} results shortened", style="dim")
            case ContextSummarized(covered_messages=covered):
                tell(f"  context: a summary stands for {covered} messages", style="dim")
            case ContextTruncated(reported, expected):
                tell(f"! the server cut the prompt to {reported:,} of at least {expected:,} tokens: asked again")
            case ToolStarted(call):
                arguments = ", ".join(f"{name}={_brief(value)}" for name, value in call.input.items())
                tell(f"* {call.name}({arguments})", style="dim")
            case ToolCompleted(name, result):
                state = "failed" if result.is_error else "ok"
                size = len(result.as_text())
                tell(f"  {name}: {state}  {event.duration_s * 1000:,.0f} ms  {size:,} characters", style="dim")
            case AssistantMessage():
                self._model = event.model or self._model
            case ResultMessage(error=None):
                tell(f"  {figures(event, self._model)}", style="dim")
            case _:
                pass


def figures(result: ResultMessage, model: str) -> str:
    """One line: model, turns, tokens, times, cost."""
    parts = [model, f"{result.num_turns} turn{'' if result.num_turns == 1 else 's'}"]
    if result.usage:
        about = "about " if result.usage.is_estimated else ""
        parts.append(f"{about}{result.usage.input_tokens:,} in / {result.usage.output_tokens:,} out")
    if result.timings.first_token_s is not None:
        parts.append(f"first token {result.timings.first_token_s:.2f} s")
    parts.append(f"{result.timings.total_s:.1f} s")
    if result.total_cost_usd is not None:
        parts.append(f"${result.total_cost_usd:.4f}")
    return " · ".join([part for part in parts if part])


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
