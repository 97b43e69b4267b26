"""AgentSession: one conversation. It runs one prompt at a time and can be interrupted from any task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .conversation import Conversation, SessionHost
from .errors import (
    ApprovalPendingError,
    HookAbortedError,
    InterruptedRunError,
    InvalidInputError,
    MemoryStoreError,
    OutputError,
    SessionError,
)
from .given import judged, messages_of, shown, together
from .hooks import HOOK_USER_PROMPT_SUBMIT, Hooks, UserPromptSubmitEvent, decide
from .live import Live
from .loop import run_turns
from .models.wire import to_wire
from .sync import closing, has_loop, uncancel
from .types import (
    AgentResponse,
    AssistantMessage,
    ContextSummarized,
    ContextTruncated,
    Event,
    Message,
    ResultMessage,
    TextBlock,
    TextDelta,
    ToolCompleted,
    ToolMessage,
    UserMessage,
    text_of,
)

__all__ = ["AgentSession", "Prompt", "SessionHost"]

_log = logging.getLogger("any_agent")
Prompt = str | Sequence[Message | Mapping[str, Any]] | AsyncIterable[Any]


class AgentSession(Conversation):
    """One conversation with an agent. Use it as `async with agent.create_session() as session`.

    Attributes: session_id, turn_count (prompts that reached a result), created_at (seconds since 1970), title, tags,
    result (the last ResultMessage).
    """

    # -------------------------------------------------------------- talking

    async def send(self, prompt: Prompt) -> None:
        """Say something; the next `receive()` or `stream()` gets the answer.

        Raises:
            HookAbortedError: a UserPromptSubmit hook refused it.
        """
        self._check_open()
        self._pending += await self._approved(await messages_of(prompt), self._standing_hooks)

    async def queue(self, prompt: Prompt) -> None:
        """Say something while a prompt is being answered: the run hears it before its next model call.

        When no run is going on it is the same as `send`.

        Raises:
            HookAbortedError: a UserPromptSubmit hook refused it.
        """
        self._check_open()
        messages = await self._approved(await messages_of(prompt), self._hooks)
        (self._pending if self._live is None else self._live.inbox).extend(messages)  # type: ignore[arg-type]

    async def receive(self, **overrides: Any) -> AgentResponse:
        """The answer to what was sent.

        Raises:
            InvalidInputError: nothing was sent, and no tool call waits for its continuation.
            AnyAgentError: the run failed, was interrupted or reached a limit.
        """
        return await self.query("", **overrides)

    async def query(self, prompt: Prompt = "", **overrides: Any) -> AgentResponse:
        """Say something and get the answer. Overrides are option names, for this prompt only."""
        reasons: list[str] = []
        while True:
            place, result = len(self._history.messages), ResultMessage("error")
            async with closing(self._stream(prompt, overrides, is_watched=False)) as events:
                async for event in events:
                    if isinstance(event, ResultMessage):
                        result = event
            if result.error is not None:
                raise result.error
            response = AgentResponse.of(result, self._history.messages[place:])
            reason = await judged(self._host, response)
            if reason is None:
                return response
            reasons.append(reason)
            if len(reasons) > self._host.max_corrections:
                text = f"the answer was refused {len(reasons)} times: {reason}\n  fix: {OutputError.next_step}"
                raise OutputError(text, text=response.content, reasons=reasons)
            prompt = reason

    def stream(self, prompt: Prompt = "", **overrides: Any) -> AsyncIterator[Event]:
        """Say something and watch: events while they happen, a ResultMessage last. Errors are in it, not raised."""
        return self._stream(prompt, overrides)

    async def _stream(
        self, prompt: Prompt, overrides: Mapping[str, Any], is_watched: bool = True
    ) -> AsyncIterator[Event]:
        live, self._is_watched = await self._begin(overrides), is_watched
        live.waiting = asyncio.current_task()
        try:
            try:
                run = await self._host.open_run(self, together(self.own_options, overrides))
                self._hooks = run.dispatch.hooks
                said = await messages_of(prompt, may_be_empty=True)
                await self._take_up(run, live, goes_on=not said and not self._pending)
                await self._hook_start(run)
                await self._submit(said, live)
                live.run = await self._prepared(run, live)
                await self._commit_prompt(live.run)
            except Exception as error:
                live.waiting = None
                self._take_back(live)
                result = ResultMessage("error", session_id=self.session_id, error=error)
                self._record(result, live)
                self._seal(live)
                await self._release(live)
                yield result
                return
            live.events = run_turns(live.run, self._history.messages)
            while not live.is_interrupted and not live.is_over:
                live.waiting, live.rows.is_waiting = asyncio.current_task(), True
                try:
                    event = await live.events.__anext__()
                except StopAsyncIteration:
                    break
                finally:
                    live.waiting = None
                live.rows.is_waiting = False
                yield await self._recorded(event, live)
        except asyncio.CancelledError:
            if not live.is_interrupted or not uncancel():
                raise
        finally:
            live.waiting = None
            await self._set_free(live)
            if not self.is_conversation:  # a one-off prompt is the whole session
                await self._hook_end()
        if live.interrupted is not None:
            yield live.interrupted

    async def _begin(self, overrides: Mapping[str, Any]) -> Live:
        self._check_open()
        for _ in range(3):  # a stream that was left by `break` is closed by the loop's next steps
            if self._live is None:
                break
            await asyncio.sleep(0)
        self._check_idle()
        self._live, self.result = Live(self._watching(overrides), self), None
        return self._live

    async def _submit(self, said: list[Message], live: Live) -> None:
        """Put the user's turn into the history; hooks may change or refuse it."""
        history = self._history
        if not said and not self._pending:
            if history.can_continue or history.ends_in_results:
                history.close_calls()
                return  # the continuation after tool results
            if history.ends_in_prompt or ((self.is_resumed or self._waits) and history.is_unfinished):
                return  # goes on where the last run failed, was killed, or had to wait
            missing = ", ".join(history.missing_results)
            what = f"tool calls without a result: {missing}" if missing else "the prompt is empty: send() first"
            raise InvalidInputError(what, field="prompt", value="")
        messages = await self._approved(said, self._hooks) if said else []
        history.close_calls()
        live.submitted = len(history.messages), self._pending
        history.messages.extend(self._pending + messages)
        self._pending = []

    def _take_back(self, live: Live) -> None:
        """The model was never asked: the prompt may be said again, and what was sent waits as before."""
        if live.submitted is not None:
            place, sent = live.submitted
            del self._history.messages[place:]
            self._pending = sent + self._pending

    async def _approved(self, messages: list[Message], hooks: Hooks) -> list[Message]:
        """The messages as the UserPromptSubmit hooks leave them; hooks see the text of the last one."""
        if not hooks.get(HOOK_USER_PROMPT_SUBMIT):
            return messages
        event = UserPromptSubmitEvent(text_of(messages[-1]), [*self.history, *to_wire(messages[:-1])])
        decision = await decide(hooks, HOOK_USER_PROMPT_SUBMIT, event, self._place(None))
        if decision is not None and not decision.continue_:
            reason = decision.reason or "no reason given"
            raise HookAbortedError(f"Query blocked by hook: {reason}", reason=reason)
        if decision is not None and decision.modified_prompt is not None:
            rest = [block for block in messages[-1].content if not isinstance(block, TextBlock)]  # images
            return [*messages[:-1], replace(messages[-1], content=(TextBlock(decision.modified_prompt), *rest))]
        return messages

    async def _recorded(self, event: Event, live: Live) -> Event:
        """Note the event and commit what it means; what cannot be committed ends the run."""
        self._record(event, live)
        calls, live.is_over = live.rows.of(event), isinstance(event, ResultMessage)
        if self._journal is None or live.run is None or live.run.store is None:
            self._pay(calls)
            return event
        self._journal.turn_count = self.turn_count
        try:
            await self._journal.note(event, self._history.messages, live.run.dispatch.registry, calls)
        except (MemoryStoreError, SessionError) as error:
            live.is_over, live.is_stuck = True, getattr(error, "reason", "") == "locked"
            event = replace(event if isinstance(event, ResultMessage) else _failed(self.session_id), error=error)
            self.result = event
        return event

    def _record(self, event: Event, live: Live) -> None:
        kind = event.__class__
        if kind is TextDelta:
            live.partial.append(event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCompleted):
            live.finished.append(event.result)
        elif kind is UserMessage:
            self._history.messages.append(event)  # type: ignore[arg-type]
        elif kind is ContextTruncated:
            live.partial.clear()  # the turn is repeated
        elif kind is AssistantMessage or kind is ToolMessage:
            self._history.messages.append(event)  # type: ignore[arg-type]
            live.partial.clear()
            live.finished.clear()
        elif isinstance(event, ContextSummarized) and self.summary in ("", self._made_summary):
            self.summary = self._made_summary = event.summary
        elif kind is ResultMessage:
            self.result = event  # type: ignore[assignment]
            self.turn_count += 1
        for observe in live.observers:
            try:
                observe(event)
            except Exception:  # observers may only watch
                live.failed(observe)

    # -------------------------------------------------------------- interrupting and closing

    async def interrupt(self) -> None:
        """Stop the running prompt: the HTTP stream closes, partial text stays in the history, the session is usable.

        From any task; does nothing when nothing runs.
        """
        live = self._live
        if live is None or live.is_interrupted:
            return
        if live.loop is not asyncio.get_running_loop():  # asked from another thread
            if not live.loop.is_closed():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.interrupt(), live.loop))
            return
        live.is_interrupted = True
        waiting = live.waiting
        if waiting is None:  # the consumer holds an event: nobody waits in the stream
            await self._set_free(live)
            return
        waiting.cancel()
        # The interrupted task seals the history; wait for that, but never for ourselves.
        while waiting is not asyncio.current_task() and self._live is live and not waiting.done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def _set_free(self, live: Live) -> None:
        try:
            await live.close_events()
        finally:  # cancelled again meanwhile: the session is free all the same
            self._seal(live)
            await self._release(live)

    def _seal(self, live: Live) -> None:
        """Leave a well-formed history: partial text kept and marked, every call answered."""
        if self._live is not live:
            return
        self._live = None
        self._pending += live.inbox
        if live.run is not None:  # else nothing was asked: calls that wait go on waiting
            self._history.keep_partial("".join(live.partial))
            self._waits = self.result is not None and isinstance(self.result.error, ApprovalPendingError)
            if self._waits:
                self._history.keep_results(live.finished)
            elif live.run.executes_tools:
                self._history.close_calls(live.finished)
        if live.is_interrupted and not live.is_over:  # told before the next prompt can begin
            live.is_over, live.interrupted = True, self._interrupted_result(live)

    def _interrupted_result(self, live: Live) -> ResultMessage:
        partial = "".join(live.partial)
        error = InterruptedRunError("the run was interrupted", session_id=self.session_id, partial_text=partial)
        done = live.told(self._history.messages)
        result = ResultMessage("interrupted", result=partial, session_id=self.session_id, error=error, **done)
        self._record(result, live)
        return result

    async def close(self) -> None:
        """End the conversation; a running prompt is interrupted. Safe to call twice."""
        live = self._live
        await self.interrupt()
        if live is not None:
            await live.is_given_back()
        try:
            await self.save()
        except (MemoryStoreError, SessionError) as error:
            if self._journal is not None and self._journal.is_rewound:
                raise  # what was to be forgotten is still there
            _log.warning("session %s: what no run could keep is not kept: %s", shown(self.session_id), error)
        finally:
            self._host.forget(self)
            was_closed, self._is_closed = self._is_closed, True
            if not was_closed:
                await self._hook_end()

    end = close
    aclose = close

    def __await__(self) -> Generator[Any, None, AgentSession]:
        """`await agent.create_session()` works as well as without `await`."""
        yield from ()
        return self

    async def __aenter__(self) -> AgentSession:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if has_loop():
            await self.close()

    def __repr__(self) -> str:
        return f"AgentSession({self.session_id!r}, {len(self._history.messages)} messages)"


def _failed(session_id: str) -> ResultMessage:
    return ResultMessage("error", session_id=session_id)
