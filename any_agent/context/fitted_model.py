"""A Model that keeps one conversation inside the real window of the model it wraps.

It learns the window from the server before a long prompt, from an overflow error's own numbers, and from a reported
prompt that is shorter than what was sent; then it fits the history again and repeats the call once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from ..errors import ContextOverflowError
from ..models.fallback import FallbackModel
from ..protocols import Model
from ..types import (
    Attempt,
    AttemptFailed,
    ContextFitted,
    ContextStrategy,
    ContextTruncated,
    Delta,
    ImageBlock,
    Message,
    ModelRequest,
    StreamEnd,
    TextBlock,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
)
from .manager import ContextManager
from .strategies import Strategy
from .summary import summarizer

_log = logging.getLogger("any_agent")
SHORT_CHARS = 1500  # shorter prompts fit nearly every window: nothing is counted and no server is asked about them


class CalibratedCounter(Protocol):
    """What is needed of a TokenCounter: bounds that hold, and learning from what the server reports."""

    def upper(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int: ...

    def lower(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int: ...

    def learn(self, messages: Sequence[Message], tools: Sequence[ToolSpec], reported_prompt_tokens: int) -> object: ...


AskWindow = Callable[[], Awaitable["int | None"]]


Parts = Callable[[], "tuple[ContextManager, CalibratedCounter]"]


class FittedModel:
    """Wraps one model for one conversation.

    Args:
        parts: makes the ContextManager and its counter, when a prompt is long enough to need them. A manager whose
            `max_tokens` is 0 does not know the window yet.
        ask_window: asks the server for the served window, tokens; None or a None answer: unknown.
        on_truncation: `repeat` fits again and repeats, `raise` raises, `ignore` goes on.
        is_eager: fit every prompt, however short (the user named the window).
    """

    def __init__(
        self,
        inner: Model,
        parts: Parts,
        ask_window: AskWindow | None = None,
        *,
        on_truncation: str = "repeat",
        is_eager: bool = False,
    ) -> None:
        self.inner = inner
        self.on_truncation = on_truncation
        self._parts = parts
        self._ask_window = ask_window
        self._is_eager = is_eager
        self._seen: tuple[int, Message | None, int] = (
            0,
            None,
            0,
        )  # count, last one, characters
        self._news: tuple[int, int] = (0, 0)
        self._cannot_count = False
        self._has_asked = False

    @cached_property
    def _made(self) -> tuple[ContextManager, CalibratedCounter]:
        return self._parts()

    @property
    def manager(self) -> ContextManager:
        return self._made[0]

    @property
    def counter(self) -> CalibratedCounter:
        return self._made[1]

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def base_url(self) -> str | None:
        return getattr(self.inner, "base_url", None)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """Like the inner model, with messages that fit; `ContextFitted` and `ContextTruncated` tell what happened."""
        refused: ContextOverflowError | None = None
        asked, is_second = request, False
        while True:
            before = asked.messages
            asked, news = await self._fit(request)
            if refused is not None and list(map(id, asked.messages)) == list(map(id, before)):
                raise refused  # nothing could be left out: the same call would fail again
            if news is not None:
                yield news
            cut: ContextTruncated | None = None
            try:
                async with aclosing(self.inner.stream(asked)) as deltas:  # type: ignore[type-var]
                    async for delta in deltas:
                        if isinstance(delta, StreamEnd):
                            cut = await self._check(asked, delta)
                            if cut is not None and self.on_truncation == "repeat" and not is_second:
                                break
                        yield delta
            except ContextOverflowError as error:
                if is_second or error.delivered_chars:
                    raise
                await self._correct(error, asked)
                refused, is_second = error, True
                then = f"history is fitted to {self.manager.max_tokens} tokens, repeated"
                said = f"{type(error).__name__}", str(error), error.status
                yield AttemptFailed(Attempt(self.name, self.base_url, 0.0, *said, then=then))
                continue
            if cut is None:
                return
            if is_second or self.on_truncation == "ignore":  # the answer is out: it stays
                _log.warning("%s: the server cut the prompt to %d tokens", self.name, cut.reported_tokens)
                return
            yield cut
            if self.on_truncation == "raise":
                raise cut_error(cut)
            is_second = True

    async def aclose(self) -> None:
        await self.inner.aclose()

    # -------------------------------------------------------------- before the call

    async def _fit(self, request: ModelRequest) -> tuple[ModelRequest, ContextFitted | None]:
        is_idle = not self._is_eager and "_made" not in self.__dict__
        if is_idle and (self._ask_window is None or self._is_short(request)):
            return request, None  # a model that cannot tell its window is left alone
        if "_made" not in self.__dict__:
            self.__dict__["_made"] = await asyncio.to_thread(self._parts)  # reading a vocabulary takes up to 0.5 s
        if not self.manager.max_tokens and not await self._knows_window():
            return request, None  # sent whole; an overflow or a cut will tell
        await self._settle_doubt(request)
        fit = await self.manager.fit(request.messages, request.tools)
        if not fit.has_changed:
            return request, None
        news = None
        if (fit.dropped_messages, fit.shortened_results) != self._news and fit.tokens_after != fit.tokens_before:
            self._news = (fit.dropped_messages, fit.shortened_results)
            window = self.manager.max_tokens
            news = ContextFitted(*self._news, fit.tokens_before, fit.tokens_after, window)
        return replace(request, messages=fit.messages), news

    def _is_short(self, request: ModelRequest) -> bool:
        """Counts characters, of new messages only: a conversation grows at its end."""
        messages = request.messages
        count, last, chars = self._seen
        if count > len(messages) or (count and messages[count - 1] is not last):
            count, chars = 0, 0
        if count == 0:
            chars = sum([len(t.description) + len(str(t.parameters)) for t in request.tools])
        for message in messages[count:]:
            chars += chars_of(message)
        self._seen = (len(messages), messages[-1] if messages else None, chars)
        return chars <= SHORT_CHARS

    async def _settle_doubt(self, request: ModelRequest) -> None:
        """Ask the server for its own count before history is dropped on a mere bound."""
        count = None if self._cannot_count else getattr(self.inner, "count_prompt", None)
        if count is None or self.counter.upper(request.messages, request.tools) <= self.manager.available_tokens:
            return
        view = self.manager.view(request.messages)
        upper = self.counter.upper(view, request.tools)
        if upper > self.manager.available_tokens and upper > 1.05 * self.counter.lower(view, request.tools):
            exact = await count(replace(request, messages=view))
            self._cannot_count = not exact
            if exact:
                self.counter.learn(view, request.tools, exact)

    async def _knows_window(self) -> bool:
        if self._has_asked or self._ask_window is None:
            return False
        self._has_asked = True
        window = await self._ask_window()
        if window:
            self.manager.learn_window(window)
        return bool(window)

    # -------------------------------------------------------------- after the call

    async def _correct(self, error: ContextOverflowError, asked: ModelRequest) -> None:
        """Believe the server: its window, and its count of what was sent."""
        if error.current_tokens and error.current_tokens > 1:
            self.counter.learn(asked.messages, asked.tools, error.current_tokens)
        told = error.max_tokens or (self._ask_window and await self._ask_window())
        if told:
            self.manager.learn_window(told)
        sent = self.counter.upper(asked.messages, asked.tools)
        if not told or sent <= self.manager.available_tokens:  # it does not fit, whatever the numbers say
            self.manager.learn_window(sent * 3 // 4)

    async def _check(self, asked: ModelRequest, end: StreamEnd) -> ContextTruncated | None:
        """Learn from the reported prompt; None unless it is shorter than what was surely sent."""
        usage = end.usage
        if "_made" not in self.__dict__ or usage is None or usage.is_estimated or usage.input_tokens <= 0:
            return None
        least = self.counter.lower(asked.messages, asked.tools)
        if usage.input_tokens >= least:
            self.counter.learn(asked.messages, asked.tools, usage.input_tokens)
            return None
        told = await self._ask_window() if self._ask_window else None
        spare = self.manager.reserve_tokens
        window = told if told and told < least else usage.input_tokens + spare
        self.manager.learn_window(window)
        return ContextTruncated(usage.input_tokens, least, self.manager.max_tokens)


def chars_of(message: Message) -> int:
    """Characters a message brings to the prompt."""
    total = 0
    for block in message.content:
        if isinstance(block, TextBlock):
            total += len(block.text)
        elif isinstance(block, ToolResultBlock):
            total += len(block.as_text())
        elif isinstance(block, ToolUseBlock):
            total += len(block.name) + len(str(block.input))
        elif isinstance(block, ImageBlock):
            total += SHORT_CHARS  # an image is never short
    return total


def fitted(
    model: Model,
    *,
    window_tokens: int | None = None,
    reserve_tokens: int | None = None,
    strategy: ContextStrategy | str | Strategy = ContextStrategy.SLIDING_WINDOW,
    preserve_system: bool = True,
    max_history_messages: int | None = None,
    on_truncation: str = "repeat",
    shared: dict[str, Any] | None = None,
) -> FittedModel:
    """A model for one conversation, fitted with a counter for its server and a summarizer on the model itself.

    Args:
        shared: keeps what one conversation learned of a tokenizer for the next ones of the same agent.
    """

    def parts() -> tuple[ContextManager, CalibratedCounter]:
        from ..calibration import Calibration
        from ..tokens import TokenCounter

        known = Calibration() if shared is None else shared.setdefault("calibration", Calibration())
        counter = TokenCounter(model.name, server=getattr(model, "base_url", None), calibration=known)
        _ = counter.vocabulary
        manager = ContextManager(
            model.name,
            strategy,
            window_tokens or 0,
            reserve_tokens,
            counter=counter,
            preserve_system=preserve_system,
            max_history_messages=max_history_messages,
            summarize=summarizer(model),
        )
        return manager, counter

    is_eager = window_tokens is not None or max_history_messages is not None
    ask = getattr(model, "served_window", None)
    return FittedModel(model, parts, ask, on_truncation=on_truncation, is_eager=is_eager)


def fitted_chain(
    chain: Model, known: dict[Any, FittedModel], how: Mapping[str, Any], shared: dict[str, Any] | None = None
) -> Model:
    """A fallback chain with each model fitted to its own window.

    Args:
        known: what the models of this conversation have learned so far; new ones are added.
        how, shared: arguments of `fitted`.
    """
    if not isinstance(chain, FallbackModel):
        return chain
    models: list[Model] = []
    for model in chain.models:
        key = (len(models), model.name, getattr(model, "base_url", None), *map(str, how.values()))
        one = known.get(key)
        if one is None:
            one = known[key] = fitted(model, **how, shared=shared)
        one.inner = model
        models.append(one)
    return FallbackModel(models, chain.policy)


def cut_error(cut: ContextTruncated) -> ContextOverflowError:
    """A silent cut as an error, also for streams of text that cannot take back what they said."""
    return ContextOverflowError(
        f"the server silently cut the prompt: it counted {cut.reported_tokens} tokens, at least {cut.expected_tokens} "
        f"were sent. The window is now taken as {cut.window_tokens}; ask again.",
        cut.expected_tokens,
        cut.window_tokens,
    )
