"""How `any-agent run` shows a run: as text, as one JSON object, or as one per event."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..errors import InterruptedRunError
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
from .run_notes import Notes, Silence, shortfall
from .terminal import printable, put, say_json, table, tell

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


class Output:
    """What every format has: the notes beside it, and what was said of the turn that is going on.

    Attributes: context (how full the window is), profile (where time went), where they are asked for; max_tokens (of
    the settings), silence (of a server that says nothing), has_ended (the result was shown).
    """

    context: ContextUsage | None = None
    profile: RunProfile | None = None
    max_tokens: int | None = None

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._notes = Notes(is_quiet)
        self._is_quiet = is_quiet
        self.silence = Silence(self._notes.silent)
        self.has_ended = False
        self._partial: list[str] = []
        self._last: AssistantMessage | None = None
        self._model = ""

    def take(self, event: Event) -> None:
        self._notes.take(event)
        self.silence.take(event)
        if self.profile is not None:
            self.profile.take(event)
        if isinstance(event, TextDelta):
            self._partial.append(event.text)
        elif isinstance(event, (AssistantMessage, ContextTruncated)):
            self._partial.clear()
            self._last = event if isinstance(event, AssistantMessage) else None
            self._model = (self._last and self._last.model) or self._model
        elif isinstance(event, ResultMessage):
            self.has_ended = True

    def interrupted(self, session_id: str | None) -> ResultMessage:
        """The result of a run that was stopped where no session could end it; shown, if none was."""
        partial = "".join(self._partial)
        error = InterruptedRunError("the run was interrupted", session_id=session_id, partial_text=partial)
        result = ResultMessage("interrupted", result=partial, session_id=session_id or "", error=error)
        if not self.has_ended:
            self.take(result)
        return result

    def _tell_shortfall(self, result: ResultMessage) -> None:
        text = shortfall(self._last, self.max_tokens) if result.error is None else ""
        if text:
            tell(f"! {text}", style="yellow")


class JsonOutput(Output):
    """One object at the end, with `context` and `profile` where they are asked for."""

    def take(self, event: Event) -> None:
        super().take(event)
        if isinstance(event, ResultMessage):
            if not self._is_quiet:
                self._tell_shortfall(event)
            say_json(self._told(event))

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
    """One line per event; thoughts are among them."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        super().__init__(is_quiet=is_quiet)
        self._notes.tells_thoughts = False

    def take(self, event: Event) -> None:
        super().take(event)
        if not isinstance(event, ResultMessage):
            say_json(plain(event))


class TextOutput(Output):
    """The text as it arrives."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        super().__init__(is_quiet=is_quiet)
        self._end = "\n"
        # a file gets what the model said; a terminal must not be steered by it
        self._shown = printable if sys.stdout.isatty() else str

    def take(self, event: Event) -> None:
        is_beside = isinstance(event, ThinkingDelta) and not sys.stdout.isatty()
        if self._end != "\n" and not isinstance(event, TextDelta) and not is_beside:
            put("\n")
            self._end = "\n"
        super().take(event)
        if isinstance(event, TextDelta) and event.text:
            text = self._shown(event.text)
            put(text)
            self._end = text[-1:] or self._end
        elif isinstance(event, ResultMessage):
            if self.context is not None:
                tell(f"  context: {self.context}", style="dim")
            if self.profile is not None:
                tell(table(self.profile.rows()), style="dim")
            self._tell_shortfall(event)  # also when it is to be quiet: half an answer must not look like one


def output_for(output_format: str, *, is_quiet: bool) -> Output:
    """The output of a format: text, json or stream-json."""
    kinds: dict[str, type[Output]] = {"json": JsonOutput, "stream-json": StreamJsonOutput}
    return kinds.get(output_format, TextOutput)(is_quiet=is_quiet)
