"""AgentSession: one conversation. It runs one prompt at a time and can be interrupted from any task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import aclosing
from copy import deepcopy
from dataclasses import replace
from time import time
from typing import Any, Protocol
from uuid import uuid4

from .context import FittedModel
from .dispatch import render
from .errors import (
    HookAbortedError,
    InterruptedRunError,
    InvalidInputError,
    OutputError,
    SessionBusyError,
    SessionClosedError,
)
from .history import History
from .hooks import (
    HOOK_POST_TOOL_USE,
    HOOK_PRE_TOOL_USE,
    HOOK_USER_PROMPT_SUBMIT,
    Hooks,
    PostToolUseEvent,
    UserPromptSubmitEvent,
    decide,
)
from .live import Live
from .loop import Run, run_turns
from .models.wire import from_wire, to_wire
from .sync import uncancel
from .types import (
    AgentResponse,
    AssistantMessage,
    ContextTruncated,
    Event,
    Message,
    ResultMessage,
    TextDelta,
    ToolCompleted,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    text_of,
)

_log = logging.getLogger("any_agent")
Prompt = str | Sequence[Message | Mapping[str, Any]]


class SessionHost(Protocol):
    """What a session needs of its agent."""

    async def open_run(self, session: AgentSession, overrides: Mapping[str, Any]) -> Run: ...

    async def check_response(self, response: AgentResponse) -> str | None: ...

    @property
    def max_corrections(self) -> int: ...

    @property
    def observers(self) -> Sequence[Any]: ...

    @property
    def hooks(self) -> Hooks: ...

    def forget(self, session: AgentSession) -> None: ...


class AgentSession:
    """One conversation with an agent. Use it as `async with agent.create_session() as session`.

    Attributes: session_id, turn_count (prompts that reached a result), created_at (seconds since 1970), title, tags,
    result (the last ResultMessage).
    """

    def __init__(self, host: SessionHost, session_id: str | None = None, history: Sequence[Message] = ()) -> None:
        self.session_id = session_id or uuid4().hex
        self.turn_count = 0
        self.created_at = time()
        self.title = ""
        self.tags: list[str] = []
        self.result: ResultMessage | None = None
        self.fitted: dict[Any, FittedModel] = {}  # by model: what it has learned and dropped in this conversation
        self._host = host
        self._history = History(history)
        self._pending: list[Message] = []  # sent, not answered yet
        self._hooks: Hooks = {}
        self._is_closed = False
        self._live: Live | None = None  # the prompt that is being answered

    # -------------------------------------------------------------- talking

    async def send(self, prompt: Prompt) -> None:
        """Say something; the next `receive()` or `stream()` gets the answer.

        Raises:
            HookAbortedError: a UserPromptSubmit hook refused it.
        """
        self._check_open()
        self._pending += await self._approved(_as_messages(prompt), self._host.hooks)

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
            async with aclosing(self.stream(prompt, **overrides)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, ResultMessage):
                        result = event
            if result.error is not None:
                raise result.error
            response = AgentResponse.of(result, self._history.messages[place:])
            reason = await self._host.check_response(response)
            if reason is None:
                return response
            reasons.append(reason)
            if len(reasons) > self._host.max_corrections:
                text = f"the answer was refused {len(reasons)} times: {reason}"
                raise OutputError(text, text=response.content, reasons=reasons)
            prompt = reason

    def stream(self, prompt: Prompt = "", **overrides: Any) -> AsyncIterator[Event]:
        """Say something and watch: events while they happen, a ResultMessage last. Errors are in it, not raised."""
        return self._stream(prompt, overrides)

    async def _stream(self, prompt: Prompt, overrides: Mapping[str, Any]) -> AsyncIterator[Event]:
        live = await self._begin()
        live.waiting = asyncio.current_task()
        try:
            try:
                live.run = await self._host.open_run(self, overrides)
                self._hooks = live.run.dispatch.hooks
                await self._submit(prompt)
            except Exception as error:
                live.waiting = None
                result = ResultMessage("error", session_id=self.session_id, error=error)
                self._record(result, live)
                yield result
                return
            live.events = run_turns(live.run, self._history.messages)
            while not live.is_interrupted:
                live.waiting = asyncio.current_task()
                try:
                    event = await live.events.__anext__()
                except StopAsyncIteration:
                    break
                finally:
                    live.waiting = None
                self._record(event, live)
                yield event
        except asyncio.CancelledError:
            if not live.is_interrupted or not uncancel():
                raise
        finally:
            live.waiting = None
            await live.close_events()
            self._seal(live)
        if live.is_interrupted:
            yield self._interrupted_result(live)

    async def _begin(self) -> Live:
        self._check_open()
        for _ in range(3):  # a stream that was left by `break` is closed by the loop's next steps
            if self._live is None:
                break
            await asyncio.sleep(0)
        if self._live is not None:
            raise SessionBusyError(
                f"session {self.session_id} is answering another prompt: await it or interrupt() it",
                session_id=self.session_id,
            )
        self._live, self.result = Live(self._host.observers), None
        return self._live

    async def _submit(self, prompt: Prompt) -> None:
        """Put the user's turn into the history; hooks may change or refuse it."""
        history = self._history
        if not prompt and not self._pending:
            if history.can_continue or history.ends_in_results:
                history.close_calls()
                return  # the continuation after tool results
            missing = ", ".join(history.missing_results)
            what = f"tool calls without a result: {missing}" if missing else "the prompt is empty: send() first"
            raise InvalidInputError(what, field="prompt", value=prompt)
        messages = await self._approved(_as_messages(prompt), self._hooks) if prompt else []
        history.close_calls()
        history.messages.extend(self._pending + messages)
        self._pending = []

    async def _approved(self, messages: list[Message], hooks: Hooks) -> list[Message]:
        """The messages as the UserPromptSubmit hooks leave them; hooks see the text of the last one."""
        if not hooks.get(HOOK_USER_PROMPT_SUBMIT):
            return messages
        event = UserPromptSubmitEvent(text_of(messages[-1]), [*self.history, *to_wire(messages[:-1])])
        decision = await decide(hooks, HOOK_USER_PROMPT_SUBMIT, event)
        if decision is not None and not decision.continue_:
            reason = decision.reason or "no reason given"
            raise HookAbortedError(f"Query blocked by hook: {reason}", reason=reason)
        if decision is not None and decision.modified_prompt is not None:
            return [*messages[:-1], UserMessage(decision.modified_prompt)]
        return messages

    def _record(self, event: Event, live: Live) -> None:
        kind = event.__class__
        if kind is TextDelta:
            live.partial.append(event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCompleted):
            live.finished.append(event.result)
        elif kind is ContextTruncated:
            live.partial.clear()  # the turn is repeated
        elif kind is AssistantMessage or kind is ToolMessage:
            self._history.messages.append(event)  # type: ignore[arg-type]
            live.partial.clear()
            live.finished.clear()
        elif kind is ResultMessage:
            self.result = event  # type: ignore[assignment]
            self.turn_count += 1
        for observe in live.observers:
            try:
                observe(event)
            except Exception:  # observers may only watch
                _log.exception("observer %r failed", observe)

    # -------------------------------------------------------------- tools the caller runs

    async def add_tool_result(
        self, tool_use_id: str, content: Any, *, name: str | None = None, is_error: bool = False
    ) -> None:
        """Answer a tool call yourself; the conversation goes on with `query("")`, `receive()` or `stream()`.

        Raises:
            InvalidInputError: no open call has this id.
        """
        self.put_tool_result(tool_use_id, content, is_error=is_error)
        await self.report_tool_result(tool_use_id, content)

    def put_tool_result(self, tool_use_id: str, content: Any, *, is_error: bool = False) -> None:
        """Like `add_tool_result`, without the PostToolUse hooks."""
        self._history.put_result(ToolResultBlock(tool_use_id, render(content), is_error))

    async def report_tool_result(self, tool_use_id: str, content: Any) -> None:
        """Tell the PostToolUse hooks of a result that the caller put in."""
        call = self._history.open_calls().get(tool_use_id)
        if isinstance(call, ToolUseBlock) and self._hooks.get(HOOK_POST_TOOL_USE):
            event = PostToolUseEvent(call.name, call.input, content, tool_use_id, to_wire(self._history.messages))
            await decide(self._hooks, HOOK_POST_TOOL_USE, event)

    async def offer(self, call: ToolUseBlock) -> ToolUseBlock | None:
        """The call as the PreToolUse hooks leave it, for callers that run tools; None: refused and answered."""
        if self._live is None or self._live.run is None or not self._hooks.get(HOOK_PRE_TOOL_USE):
            return call
        arguments, refusal = await self._live.run.dispatch.ask_hooks(call, self._history.messages)
        if refusal is not None:
            self.put_tool_result(call.id, refusal, is_error=True)
            return None
        return call if arguments is call.input else replace(call, input=arguments)

    @property
    def can_continue(self) -> bool:
        """All open tool calls have been answered; `query("")` goes on."""
        return self._history.can_continue

    # -------------------------------------------------------------- interrupting and closing

    async def interrupt(self) -> None:
        """Stop the running prompt: the HTTP stream closes, partial text stays in the history, the session is usable.

        From any task; does nothing when nothing runs.
        """
        live = self._live
        if live is None or live.is_interrupted:
            return
        live.is_interrupted = True
        waiting = live.waiting
        if waiting is None:  # the consumer holds an event: nobody waits in the stream
            await live.close_events()
            self._seal(live)
            return
        waiting.cancel()
        # The interrupted task seals the history; wait for that, but never for ourselves.
        while waiting is not asyncio.current_task() and self._live is live and not waiting.done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def _seal(self, live: Live) -> None:
        """Leave a well-formed history: partial text kept and marked, every call answered."""
        if self._live is not live:
            return
        self._live = None
        self._history.keep_partial("".join(live.partial))
        if live.run is not None and live.run.executes_tools:
            self._history.close_calls(live.finished)

    def _interrupted_result(self, live: Live) -> ResultMessage:
        partial = "".join(live.partial)
        error = InterruptedRunError("the run was interrupted", session_id=self.session_id, partial_text=partial)
        result = ResultMessage("interrupted", result=partial, session_id=self.session_id, error=error)
        self._record(result, live)
        return result

    @property
    def is_busy(self) -> bool:
        return self._live is not None

    async def close(self) -> None:
        """End the conversation; a running prompt is interrupted. Safe to call twice."""
        await self.interrupt()
        self._is_closed = True
        self._host.forget(self)

    end = close
    aclose = close

    def _check_open(self) -> None:
        if self._is_closed:
            raise SessionClosedError(
                f"session {self.session_id} is closed; create_session() a new one", session_id=self.session_id
            )

    # -------------------------------------------------------------- history

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation as OpenAI dicts (a copy)."""
        return deepcopy(to_wire(self._history.messages))

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation as our own messages."""
        return tuple(self._history.messages)

    def replace_history(self, messages: Sequence[Message | Mapping[str, Any]]) -> None:
        """Put another history in place.

        Raises:
            SessionBusyError: a prompt is being answered.
            InvalidInputError: an item is no message.
        """
        if self._live is not None:
            raise SessionBusyError("the history cannot change while a prompt is answered", session_id=self.session_id)
        self._history, self.fitted = History(from_wire(messages)), {}

    def clear(self) -> None:
        """Forget the conversation; the session stays open."""
        self.replace_history([])
        self._pending = []

    def __await__(self) -> Generator[Any, None, AgentSession]:
        """`await agent.create_session()` works as well as without `await`."""
        yield from ()
        return self

    async def __aenter__(self) -> AgentSession:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AgentSession({self.session_id!r}, {len(self._history.messages)} messages)"


def _as_messages(prompt: Prompt) -> list[Message]:
    return [UserMessage(prompt)] if isinstance(prompt, str) else from_wire(prompt)
