"""The tally of one run: turns, results, limits, usage; and the ResultMessage they add up to."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .errors import ApprovalPendingError, LimitError, MaxTurnsError, ProviderError
from .models.streaming import Fold
from .types import (
    AssistantMessage,
    Attempt,
    CallReasked,
    Message,
    ModelRequest,
    ResultMessage,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    Timings,
    ToolCompleted,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    Usage,
    UserMessage,
    text_of,
)

if TYPE_CHECKING:
    from .models.recovery.reask import Reasked

_log = logging.getLogger("any_agent")


class Tally:
    """What one run has asked, heard and spent so far. `run` is the Run; tools that a tool hands out change it."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.turns = 0
        self.tools_s = 0.0
        self._model_s = 0.0
        self._started = self._turn_started = perf_counter()
        self.first_token_s: float | None = None
        self._was_told = False  # to go on, by a Stop hook
        self.is_over = False  # a tool's result is the run's answer
        self._answer: str | None = None
        self._results: dict[str, ToolResultBlock] = dict(run.known)
        self._usage: Usage | None = None
        self._cost_usd: float | None = 0.0
        self._attempts: list[Attempt] = []
        self._last: AssistantMessage | None = None
        self._ids = set(run.used_ids)
        self._looked_through = 0
        self._fold = Fold()

    def new_turn(self) -> Fold:
        self.turns += 1
        self._turn_started = perf_counter()
        self._fold = Fold()
        return self._fold

    def heard(self) -> None:
        self.first_token_s = perf_counter() - self._started

    def end_turn(self, fold: Fold, messages: Sequence[Message]) -> AssistantMessage:
        self._last = message = fold.message(self._used_ids(messages) if fold.has_calls else ())
        self._model_s += perf_counter() - self._turn_started
        self._pay(message)
        if fold.end:
            self._attempts.extend(fold.end.attempts)
        return message

    def _used_ids(self, messages: Sequence[Message]) -> set[str]:
        """Ids of earlier calls: servers that count each answer's calls from 0 use them again."""
        for message in messages[self._looked_through :]:
            if isinstance(message, AssistantMessage):
                self._ids.update([call.id for call in message.tool_calls])
        self._looked_through = len(messages)
        return self._ids

    def _pay(self, paid: AssistantMessage | CallReasked) -> None:
        if paid.usage:
            self._usage = self._usage + paid.usage if self._usage else paid.usage
        known = paid.cost_usd is not None and self._cost_usd is not None
        self._cost_usd = self._cost_usd + paid.cost_usd if known else None  # type: ignore[operator]

    def has_unread(self, message: AssistantMessage) -> bool:
        """It holds a call that could not be read, and that may be asked for again."""
        return self.run.reasks is not False and any(isinstance(one, ToolUseError) for one in message.tool_calls)

    def asked_again(self, message: AssistantMessage, messages: Sequence[Message]) -> Awaitable[Reasked]:
        """The message with arguments that could be read after all, and what happened meanwhile; see `reask`."""
        from .models.recovery.reask import asked_again

        run, request = self.run, self.request(messages)
        may_pay = None if run.guard is None else partial(run.guard, message)
        return asked_again(run.model, request, message, is_wanted=run.reasks, may_pay=may_pay, paid=self._reasked)

    def _reasked(self, event: CallReasked) -> None:
        if event.attempt is not None:
            self._model_s += event.attempt.duration_s
            self._attempts.append(event.attempt)
            if event.attempt.is_ok:
                self._pay(event)

    async def goes_on(self, messages: Sequence[Message]) -> bool:
        """Whether the answer has not the wanted shape, or a Stop hook refuses the end; why is the next prompt."""
        run, may_ask, last = self.run, self.limit() is None, messages[-1]
        reason = await run.output.judged(last, self._answer, may_ask=may_ask) if run.output else None
        if reason is None and may_ask and run.may_stop is not None and not self.is_over:
            reason = await run.may_stop(text_of(last), messages, self._was_told)
            self._was_told = self._was_told or reason is not None
        if reason is not None:
            run.inbox.append(UserMessage(reason))
            self.is_over, self._answer = False, None
        return reason is not None

    def goes_without_schema(self, refusal: ProviderError) -> None:
        """The turn is repeated without the schema of structured output, if that was refused; else this raises."""
        if self.run.output is None or not self.run.output.goes_without(refusal):
            raise refusal
        self.turns -= 1
        self._attempts.extend(refusal.attempts)

    def request(self, messages: Sequence[Message]) -> ModelRequest:
        request: ModelRequest = self.run.request(messages, self.turns)
        self._fold.tools = request.tools
        return request

    def answering(self, calls: Sequence[ToolUseBlock | ToolUseError], messages: Sequence[Message]) -> Any:
        if self.run.tool_choice == "none":  # not every server obeys
            return _each(self.run.dispatch.refuse(calls, "Not run: tools may not be called now. Answer without them."))
        return self.run.dispatch.answer(calls, messages, self.run.session_id)

    def ran(self, done: ToolCompleted) -> None:
        self._results[done.result.tool_use_id] = done.result
        self.tools_s += done.duration_s
        if done.ends_run and not done.result.is_error:
            self.is_over, self._answer = True, done.result.as_text()
        if done.new_tools:
            self.run = replace(self.run, dispatch=self.run.dispatch.with_tools(done.new_tools), has_moving_tools=True)

    def last_words(self) -> tuple[TextDelta | AssistantMessage, ...]:
        """The answer that a tool gave for the model, as if the model had said it."""
        said = self._answer
        return (TextDelta(said), AssistantMessage((TextBlock(said),))) if said else ()

    def refusal(self, calls: Sequence[ToolUseBlock | ToolUseError], messages: Sequence[Message]) -> LimitError | None:
        """Why none of the calls may run; each is answered with it."""
        error = self.limit() or self.run.dispatch.looping(calls, messages)
        if error is not None:
            for outcome in self.run.dispatch.refuse(calls, f"Not run: {error}"):
                self._results.setdefault(outcome.result.tool_use_id, outcome.result)
        return error

    def waiting(self, calls: Sequence[ToolUseBlock | ToolUseError]) -> ApprovalPendingError | None:
        """The error of a run whose calls wait for an approval."""
        waits_for = self.run.dispatch.waits_for
        own = [f"{self.run.session_id}:{call.id}" for call in calls if call.id not in self._results]
        ids = tuple([approval_id for call in own for approval_id in waits_for.pop(call, (call,))])
        text = f"{len(ids)} tool calls wait for approval: {', '.join(ids)}; answer_approval(…), then receive()"
        return ApprovalPendingError(text, session_id=self.run.session_id, approval_ids=ids) if ids else None

    def answers(self, calls: Sequence[ToolUseBlock | ToolUseError]) -> ToolMessage:
        results, self._results = self._results, {}
        return ToolMessage(tuple([results[call.id] for call in calls]))

    def limit(self) -> LimitError | None:
        run = self.run
        if run.max_turns is not None and self.turns >= run.max_turns:
            return too_many_turns("max_turns", run.max_turns)
        if self.turns > run.max_tool_iterations:
            return too_many_turns("max_tool_iterations", run.max_tool_iterations)
        return None

    def _tell_if_silent(self, last: AssistantMessage) -> None:
        """Reasoning models sometimes stop before they answer; an empty answer must not look like one."""
        if last.content and all(isinstance(block, ThinkingBlock) for block in last.content):
            cure = "raise max_tokens" if last.finish_reason == "length" else "ask again"
            _log.warning("%s only thought and gave no answer (%s): %s", last.model, last.finish_reason, cure)

    def result(self, error: Exception | None) -> ResultMessage:
        last = self._last
        if last is not None and error is None and self._answer is None:
            self._tell_if_silent(last)
        attempts = tuple(self._attempts) + tuple(getattr(error, "attempts", ()))
        return ResultMessage(
            subtype="success" if error is None else "limit" if isinstance(error, LimitError) else "error",
            result=text_of(last) if last and self._answer is None else self._answer,
            session_id=self.run.session_id,
            num_turns=self.turns,
            usage=self._usage,
            total_cost_usd=self._cost_usd if last else None,
            stop_reason=last.finish_reason if last else None,
            structured_output=self.run.output.data if self.run.output and error is None else None,
            timings=Timings(perf_counter() - self._started, self._model_s, self.tools_s, self.first_token_s),
            attempts=attempts,
            error=error,
        )


async def _each(events: Sequence[ToolCompleted]) -> AsyncIterator[ToolCompleted]:
    for event in events:
        yield event


def too_many_turns(limit: str, value: int) -> MaxTurnsError:
    """The error of the option `limit`, which is `value`."""
    told = f"{limit}={value} reached before the model finished\n  fix: {MaxTurnsError.next_step}"
    return MaxTurnsError(told, limit=limit, value=value)
