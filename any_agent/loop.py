"""THE HEART: `run_turns(run, history)` yields events. It has no state of its own; the session keeps what must last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from .dispatch import Dispatch
from .errors import LimitError, MaxTurnsError
from .models.streaming import Fold
from .protocols import Model
from .types import (
    AssistantMessage,
    Attempt,
    Event,
    Message,
    ModelRequest,
    ResultMessage,
    StreamEnd,
    SystemMessage,
    TextDelta,
    ThinkingDelta,
    Timings,
    ToolCallDelta,
    ToolCompleted,
    ToolMessage,
    ToolSpec,
    Usage,
    text_of,
)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything one prompt needs on its way to one result. None in a limit: no limit."""

    model: Model
    dispatch: Dispatch
    system: SystemMessage | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = 300.0
    max_turns: int | None = None
    max_tool_iterations: int = 10
    executes_tools: bool = True
    session_id: str = ""

    def request(self, messages: Sequence[Message], turn: int) -> ModelRequest:
        """The question of one turn; a forced tool choice holds for the first turn only, or the run would never end."""
        is_first = turn == 1 and not (messages and isinstance(messages[-1], ToolMessage))
        choice = self.tool_choice if is_first or self.tool_choice == "none" else None
        return ModelRequest(messages, self.tools, choice, self.params, self.extra_body, self.timeout_s)


async def run_turns(run: Run, history: Sequence[Message]) -> AsyncIterator[Event]:
    """Ask the model, run its tools, ask again, until it calls none. Ends in exactly one ResultMessage.

    The loop goes on if and only if tool calls came back; `finish_reason` is a diagnosis, never a switch.
    """
    messages: list[Message] = [run.system, *history] if run.system else list(history)
    tally = _Tally(run)
    error: Exception | None = None
    try:
        while True:
            fold = tally.new_turn()
            async with aclosing(run.model.stream(run.request(messages, tally.turns))) as deltas:  # type: ignore[type-var]
                async for delta in deltas:
                    fold.add(delta)
                    kind = delta.__class__
                    if kind is ToolCallDelta or kind is StreamEnd:
                        continue
                    if tally.first_token_s is None and (kind is TextDelta or kind is ThinkingDelta):
                        tally.heard()
                    yield delta  # type: ignore[misc]
            message = tally.end_turn(fold)
            messages.append(message)
            yield message
            calls = message.tool_calls
            if not calls or not run.executes_tools:
                break
            error = tally.limit()
            results = []
            if error is not None:
                results = [outcome.result for outcome in run.dispatch.refuse(calls, f"Not run: {error}")]
            else:
                async with aclosing(run.dispatch.answer(calls, messages)) as events:  # type: ignore[type-var]
                    async for event in events:
                        if isinstance(event, ToolCompleted):
                            results.append(event.result)
                            tally.tools_s += event.duration_s
                        yield event
            by_id = {result.tool_use_id: result for result in results}
            answers = ToolMessage(tuple([by_id[call.id] for call in calls]))
            messages.append(answers)
            yield answers
            if error is not None:
                break
    except Exception as caught:
        error = caught
    yield tally.result(error)


class _Tally:
    """The numbers of one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.turns = 0
        self.tools_s = 0.0
        self._model_s = 0.0
        self._started = self._turn_started = perf_counter()
        self.first_token_s: float | None = None
        self._usage: Usage | None = None
        self._cost_usd: float | None = 0.0
        self._attempts: list[Attempt] = []
        self._last: AssistantMessage | None = None
        self._fold = Fold()

    def new_turn(self) -> Fold:
        self.turns += 1
        self._turn_started = perf_counter()
        self._fold = Fold()
        return self._fold

    def heard(self) -> None:
        self.first_token_s = perf_counter() - self._started

    def end_turn(self, fold: Fold) -> AssistantMessage:
        self._last = message = fold.message()
        self._model_s += perf_counter() - self._turn_started
        if message.usage:
            self._usage = self._usage + message.usage if self._usage else message.usage
        known = message.cost_usd is not None and self._cost_usd is not None
        self._cost_usd = self._cost_usd + message.cost_usd if known else None  # type: ignore[operator]
        if fold.end:
            self._attempts.extend(fold.end.attempts)
        return message

    def limit(self) -> LimitError | None:
        run = self.run
        if run.max_turns is not None and self.turns >= run.max_turns:
            return MaxTurnsError(
                f"max_turns={run.max_turns} reached before the model finished", limit="max_turns", value=run.max_turns
            )
        if self.turns > run.max_tool_iterations:
            most = run.max_tool_iterations
            return MaxTurnsError(
                f"max_tool_iterations={most} reached before the model finished", limit="max_tool_iterations", value=most
            )
        return None

    def result(self, error: Exception | None) -> ResultMessage:
        last = self._last
        attempts = tuple(self._attempts) + tuple(getattr(error, "attempts", ()))
        return ResultMessage(
            subtype="success" if error is None else "limit" if isinstance(error, LimitError) else "error",
            result=text_of(last) if last else None,
            session_id=self.run.session_id,
            num_turns=self.turns,
            usage=self._usage,
            total_cost_usd=self._cost_usd if last else None,
            stop_reason=last.finish_reason if last else None,
            timings=Timings(perf_counter() - self._started, self._model_s, self.tools_s, self.first_token_s),
            attempts=attempts,
            error=error,
        )
