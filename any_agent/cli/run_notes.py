"""What `any-agent run` tells on standard error beside the answer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

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
    ThinkingBlock,
    ThinkingDelta,
    ToolCompleted,
    ToolMessage,
    ToolStarted,
    UserMessage,
)
from .terminal import one_line, printable, tell

_NEXT_MODEL = "next model: "


class Notes:
    """What happens beside the answer: reasoning, tools, failed tries, silence, figures."""

    LOADING_EVERY_S = 10.0  # a model may load for minutes

    def __init__(self, is_quiet: bool) -> None:
        self.tells_thoughts = True
        self._is_quiet = is_quiet
        self._model = ""
        self._is_in_line = False
        self._loading_due_s = 0.0

    def take(self, event: Event) -> None:
        if self._is_quiet:
            return
        if isinstance(event, ThinkingDelta):
            self._think(event.thinking)
            return
        if not (isinstance(event, TextDelta) and not event.text):
            self.end_line()
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

    def _think(self, text: str) -> None:
        if text and self.tells_thoughts and sys.stderr.isatty():
            tell(text, style="dim", end="")
            self._is_in_line = not printable(text).endswith("\n")

    def end_line(self) -> None:
        """What comes next begins a line."""
        if self._is_in_line:
            self._is_in_line = False
            tell()

    def silent(self, place: str, waited_s: float) -> None:
        """The server has taken the request and says nothing yet."""
        if not self._is_quiet:
            self.end_line()
            tell(f"  waiting for {one_line(place)} … {waited_s:.0f} s", style="dim")


class Silence:
    """Tells of a server that accepts and says nothing: after `first_s` seconds, then ever more rarely."""

    def __init__(self, told: Callable[[str, float], None], *, first_s: float = 10.0) -> None:
        self.first_s = first_s
        self._told = told
        self._place: Callable[[], str] = str
        self._since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, place: Callable[[], str]) -> None:
        """The model is asked from now on; `place` names it when it has to be told."""
        self._place = place
        self._wait_anew()

    def take(self, event: Event) -> None:
        if self._timer is None:  # nobody has begun
            return
        if isinstance(event, AttemptFailed) and event.attempt.then.startswith(_NEXT_MODEL):
            name = event.attempt.then.removeprefix(_NEXT_MODEL)
            self._place = lambda: name
        if isinstance(event, (ToolMessage, UserMessage, AttemptFailed, ModelLoading)):
            self._wait_anew()
        elif isinstance(event, (TextDelta, ThinkingDelta, AssistantMessage, ToolStarted, ResultMessage)):
            self._since_s = None

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._since_s = None

    def _wait_anew(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._since_s = loop.time()
        self._timer = loop.call_later(self.first_s, self._due)

    def _due(self) -> None:
        if self._since_s is None:
            return
        loop = asyncio.get_running_loop()
        waited_s = loop.time() - self._since_s
        self._told(self._place(), waited_s)
        self._timer = loop.call_later(2 * waited_s, self._due)


def shortfall(last: AssistantMessage | None, max_tokens: int | None) -> str:
    """Why the answer is not whole, and what to do; "": it is.

    Args:
        last: the model's last message.
        max_tokens: of the settings; None: the server's own limit holds.
    """
    if last is None:
        return ""
    only_thought = bool(last.content) and all(isinstance(block, ThinkingBlock) for block in last.content)
    if last.finish_reason == "length":
        said = "the model only thought and gave no answer: " if only_thought else "the answer is not whole: "
        if max_tokens is not None:
            return f"{said}cut off at max_tokens ({max_tokens:,}): set more in .agent/config.yml (options: max_tokens)"
        return (
            f"{said}cut off at the server's limit of max_tokens, or its window is full (--context tells); "
            "set more in .agent/config.yml (options: max_tokens)"
        )
    if only_thought:
        return f"the model only thought and gave no answer ({last.finish_reason}): ask again, or another model"
    return ""


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
