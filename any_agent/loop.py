"""THE HEART: `run_turns(run, history)` yields events. It has no state of its own; the session keeps what must last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .dispatch import Dispatch
from .errors import LimitError, ProviderError
from .protocols import Model
from .tally import Tally
from .types import (
    AssistantMessage,
    Event,
    Message,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCompleted,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    UserMessage,
)

if TYPE_CHECKING:
    from .output import Asked, Wanted


@dataclass(frozen=True, slots=True)
class Run:
    """Everything one prompt needs on its way to one result. None in a limit: no limit."""

    model: Model
    dispatch: Dispatch
    system: SystemMessage | None = None
    tools: tuple[ToolSpec, ...] = ()
    has_moving_tools: bool = False  # some are offered at times only, so they are asked for before each turn
    tool_choice: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)  # of silence, by their names in ModelRequest
    max_turns: int | None = None
    max_tool_iterations: int = 10
    executes_tools: bool = True
    session_id: str = ""
    known: Mapping[str, ToolResultBlock] = field(default_factory=dict)  # results of calls that a killed run left open
    used_ids: Collection[str] = ()  # of calls that are not in the history any more
    reasks: bool | None = None  # unreadable arguments are asked for again; None: where the server is known to bind
    guard: Callable[..., Awaitable[LimitError | None]] | None = None  # asked before each call: may it still be paid?
    may_stop: Callable[..., Awaitable[str | None]] | None = None  # asked when the model has finished; a text: go on
    inbox: list[UserMessage] = field(default_factory=list)  # said while the run goes on; taken before the next call
    budget: Mapping[str, float] = field(default_factory=dict)  # of the session: cost_usd, tokens, seconds
    store: Any = None  # where the session is kept; None: nowhere
    logs_interactions: bool = True
    recalls_results: bool = False  # the model may read what was left out of tool results
    wanted: Wanted | None = None  # structured output; `output` is this run's try to get it
    output: Asked | None = None
    waits_for_approvals: bool = False  # a call that nobody here may allow stays open, and the run ends

    def request(self, messages: Sequence[Message], turn: int) -> ModelRequest:
        """The question of one turn; a forced tool choice holds for the first turn only, or the run would never end."""
        is_first = turn == 1 and not (messages and isinstance(messages[-1], ToolMessage))
        choice = self.tool_choice if is_first or self.tool_choice == "none" else None
        tools = self.dispatch.offered(messages) if self.has_moving_tools else self.tools
        request = ModelRequest(messages, tools, choice, self.params, self.extra_body, **self.limits)
        return request if self.output is None else self.output.fitted(request)

    def queued(self) -> list[UserMessage]:
        taken = list(self.inbox)
        self.inbox.clear()
        return taken


async def run_turns(run: Run, history: Sequence[Message]) -> AsyncIterator[Event]:
    """Ask the model, run its tools, ask again, until it calls none. Ends in exactly one ResultMessage.

    It goes on iff calls came back (`finish_reason` is no switch), and first with those that a killed run left open.
    """
    messages: list[Message] = [run.system, *history] if run.system else list(history)
    tally = Tally(run)
    calls = messages[-1].tool_calls if messages and isinstance(messages[-1], AssistantMessage) else ()
    error: Exception | None = None
    try:
        while True:
            if not calls:
                if run.guard is not None and (error := await run.guard()) is not None:
                    break
                fold = tally.new_turn()
                try:
                    async with aclosing(run.model.stream(tally.request(messages))) as deltas:  # type: ignore[type-var]
                        async for delta in deltas:
                            fold.add(delta)
                            kind = delta.__class__
                            if tally.first_token_s is None and (kind is TextDelta or kind is ThinkingDelta):
                                tally.heard()
                            if kind is not ToolCallDelta and kind is not StreamEnd:
                                yield delta  # type: ignore[misc]
                except ProviderError as refusal:
                    tally.goes_without_schema(refusal)
                    continue
                message = tally.end_turn(fold, messages)
                if tally.has_unread(message):
                    message, news = await tally.asked_again(message, messages)
                    for event in news:
                        yield event
                messages.append(message)
                yield message
                calls = message.tool_calls
            if calls and run.executes_tools:
                if (error := tally.refusal(calls, messages)) is None:
                    new = [call for call in calls if call.id not in run.known] if run.known else calls
                    async with aclosing(tally.answering(new, messages)) as events:
                        async for event in events:
                            if isinstance(event, ToolCompleted):
                                tally.ran(event)
                            yield event
                if error is None and (error := tally.waiting(calls)) is not None:
                    break
                messages.append(answers := tally.answers(calls))
                yield answers
                if error is not None or (tally.is_over and not await tally.goes_on(messages)):
                    for said in tally.last_words():
                        yield said
                    break
            elif not (run.inbox or (not calls and await tally.goes_on(messages))) or tally.limit() is not None:
                break
            calls = ()
            for queued in run.queued():
                messages.append(queued)
                yield queued
    except Exception as caught:
        error = caught
    yield tally.result(error or (run.output.error if run.output else None))
