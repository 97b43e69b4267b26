"""A Model that keeps one conversation inside the real window of the model it wraps.

It learns the window from the server before a long prompt and when it may have changed, from an overflow error's own
numbers, from a reported prompt that is shorter than what was sent, and from answers that stay empty; then it fits the
history again and repeats the call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from ..config.providers import is_near
from ..errors import ContextOverflowError, EmptyResponseError, ServerUnreachableError, StreamInterruptedError
from ..protocols import Model
from ..types import (
    Attempt,
    AttemptFailed,
    ContextFitted,
    ContextTruncated,
    Delta,
    Message,
    ModelRequest,
    StreamEnd,
    ToolSpec,
)
from .asked import SHORT_CHARS, chars_of, is_answer_too_long, limits_of, with_answer_within, with_parts
from .manager import ContextManager, Fit
from .window import (
    ASSUMED_TOKENS,
    LARGEST_UNTOLD_TOKENS,
    AskWindow,
    CalibratedCounter,
    GrowthWatch,
    WindowWatch,
    cut_error,
    window_of_cut,
)

_log = logging.getLogger("any_agent")
MOST_REPEATS = 3  # of one call, each with less history
LEAST_CUT_TOKENS = 32  # no server cuts to less; what reports less does not count prompts
Parts = Callable[[], "tuple[ContextManager, CalibratedCounter]"]


class FittedModel:
    """Wraps one model for one conversation.

    Args:
        parts: makes the ContextManager and its counter, when a prompt is long enough to need them. A manager whose
            `max_tokens` is 0 does not know the window yet.
        ask_window: asks the server for the served window, tokens; None or a None answer: unknown.
        on_truncation: `repeat` fits again and repeats, `raise` raises, `ignore` goes on.
        is_eager: fit every prompt, however short.
        is_window_named: the user named the window: the server is not asked for it, only believed when it overflows.
        ask_again_s: how old the server's word may be when history is about to be dropped.
        keep: keeps what was learned of the tokenizer, after each answer.
        warned: models whose window is not known and that were warned of; shared by conversations.
    """

    def __init__(
        self,
        inner: Model,
        parts: Parts,
        ask_window: AskWindow | None = None,
        *,
        on_truncation: str = "repeat",
        is_eager: bool = False,
        is_window_named: bool = False,
        ask_again_s: float = 5.0,
        keep: Callable[[], Awaitable[None]] | None = None,
        warned: set[Any] | None = None,
    ) -> None:
        self.inner = inner
        self.on_truncation = on_truncation
        self.summary_model: Model | None = None  # None: the model itself
        self.before_summary: Callable[[Sequence[Message]], Awaitable[None]] | None = None  # told what goes into one
        self.limits: dict[str, Any] = {}  # of the server's silence, as the last request had them; summaries keep them
        self._parts = parts
        self._can_tell = ask_window is not None
        self.watch = WindowWatch(ask_window, ask_again_s)
        self._is_eager = is_eager
        self._is_window_named = is_window_named
        self._keep = keep
        self._warned = set() if warned is None else warned
        self._seen: tuple[int, Message | None, int] = (
            0,
            None,
            0,
        )  # count, last one, characters
        self.is_guessed = False  # the window is our guess: when in doubt the server decides
        self._answered_tokens = 0  # the longest prompt that was surely read whole
        self._growth = GrowthWatch()
        self._empty: Message | None = None  # the last message of the prompt that had an empty answer just now
        self._cannot_count = False
        self._answers_refused = 0  # in a row, as the longest answer did not fit beside the prompt; 1 from then on

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

    @property
    def assumed_tokens(self) -> int:
        """The window taken as safe while nothing tells it: the family's; nearby, 4,096 at most."""
        limit = int(getattr(self.counter, "limit", None) or ASSUMED_TOKENS)
        return min(limit, ASSUMED_TOKENS) if self._is_near else limit

    @property
    def _is_near(self) -> bool:
        host = urlsplit(self.base_url or "").hostname
        return bool(host) and is_near(str(host))

    async def make(self) -> None:
        """Make the counter and the manager if that was not done yet; reading a vocabulary takes up to 0.5 s."""
        if "_made" not in self.__dict__:
            made = await asyncio.to_thread(self._parts)
            self.__dict__.setdefault("_made", made)

    async def knows_window(self) -> bool:
        """Whether the window is known; asks the server when it may tell something new. After `make()`."""
        if not self._is_window_named and self.watch.is_due(is_known=self.manager.max_tokens > 0):
            await self._ask_anew()
        return self.manager.max_tokens > 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """Like the inner model, with messages that fit; `ContextFitted` and `ContextTruncated` tell what happened."""
        refused: ContextOverflowError | EmptyResponseError | None = None  # raised when nothing more can be left out
        asked, repeats, self.limits = request, 0, limits_of(request)
        while True:
            before = asked
            asked, news = await self._fit(request)
            asked = self._with_room(asked)
            is_same = repeats > 0 and asked.params == before.params
            is_same = is_same and list(map(id, asked.messages)) == list(map(id, before.messages))
            if refused is not None and is_same:
                # Nothing could be left out: the same call would fail again.
                raise with_parts(refused, self.manager.overflow(asked.messages, asked.tools))
            for one in news:
                yield one
            cut: ContextTruncated | None = None
            is_last = repeats >= MOST_REPEATS
            try:
                async with aclosing(self.inner.stream(asked)) as deltas:  # type: ignore[type-var]
                    async for delta in deltas:
                        if isinstance(delta, StreamEnd):
                            cut = await self._check(asked, delta)
                            if cut is not None and self.on_truncation == "repeat" and not is_last:
                                break
                        yield delta
            except (ContextOverflowError, EmptyResponseError) as error:
                is_doubtful = isinstance(error, EmptyResponseError) and not self._is_empty_again(request)
                if is_last or error.delivered_chars or not self._may_be_too_long(error, asked, refused):
                    raise
                then = "asked again, as it may be chance"
                if not is_doubtful:
                    await self._correct(error, asked, repeats)
                    then = f"history is fitted to {self.manager.max_tokens} tokens, repeated"
                refused, repeats = None if is_doubtful else error, repeats + 1
                said = f"{type(error).__name__}", str(error), error.status
                yield AttemptFailed(Attempt(self.name, self.base_url, 0.0, *said, then=then))
                continue
            except (ServerUnreachableError, StreamInterruptedError):
                self.watch.note_loss()
                self._answered_tokens = 0
                raise
            if cut is None:
                if self._keep is not None:
                    await self._keep()
                return
            if is_last or self.on_truncation == "ignore":  # the answer is out: it stays
                _log.warning("%s: the server cut the prompt to %d tokens", self.name, cut.reported_tokens)
                return
            yield cut
            if self.on_truncation == "raise":
                raise cut_error(cut)
            refused, repeats = self.manager.overflow(asked.messages, asked.tools), repeats + 1

    async def aclose(self) -> None:
        await self.inner.aclose()

    # -------------------------------------------------------------- before the call

    async def _fit(self, request: ModelRequest) -> tuple[ModelRequest, list[Delta]]:
        is_idle = not self._is_eager and "_made" not in self.__dict__
        if is_idle and (not self._can_tell or self._is_short(request)):
            return request, []  # a model that cannot tell its window is left alone
        await self.make()
        if not await self.knows_window():
            self._warn(request)
            if not self._is_beyond_sense(request):
                return request, []  # sent whole; an overflow or a cut will tell
        request = replace(request, messages=tuple(request.messages))  # what cannot change is counted once
        await self._settle_doubt(request)
        fit = await self._fitted(request)
        news: list[Delta] = [] if fit.summarized is None else [fit.summarized]
        if not fit.has_changed:
            return request, news
        if fit.tokens_after != fit.tokens_before:  # also when a result that was shortened is shortened again
            left_out = (fit.dropped_messages, fit.shortened_results)
            news.append(ContextFitted(*left_out, fit.tokens_before, fit.tokens_after, self.manager.max_tokens))
        return replace(request, messages=fit.messages), news

    def _with_room(self, request: ModelRequest) -> ModelRequest:
        """The answer may be as long as there is room beside the prompt, for a server that insists on it."""
        if not self._answers_refused or self.manager.max_tokens <= 0:
            return request
        room = self.manager.max_tokens - self.counter.upper(request.messages, request.tools)
        return with_answer_within(request, room >> (self._answers_refused - 1))

    async def _fitted(self, request: ModelRequest) -> Fit:
        """What the manager keeps; what does not fit a window that was only guessed is sent all the same."""
        messages, tools = request.messages, request.tools
        before = self.counter.upper(self.manager.view(messages), tools) if self.is_guessed else 0
        try:
            return await self.manager.fit(messages, tools)
        except ContextOverflowError:
            if not self.is_guessed:
                raise
            view = tuple(self.manager.view(messages))
            return Fit(view, before, self.counter.upper(view, tools), len(messages) - len(view), 1)

    def _warn(self, request: ModelRequest) -> None:
        """Once a model: its window is not known, and the prompt has outgrown what is safe."""
        place = (self.name, self.base_url)
        if place in self._warned or self.counter.upper(request.messages, request.tools) <= self.assumed_tokens:
            return
        self._warned.add(place)
        _log.warning(
            "%s: nothing tells the window of this model, and the prompt may have outgrown %d tokens. It is sent whole "
            "until the server refuses or cuts it; set context_window_size to be sure.",
            self.name,
            self.assumed_tokens,
        )

    def _is_beyond_sense(self, request: ModelRequest) -> bool:
        """Some servers read on beyond what a model was trained for (mlx_lm): from there on a window is guessed."""
        limit = int(getattr(self.counter, "limit", None) or 0)
        most = LARGEST_UNTOLD_TOKENS if limit == ASSUMED_TOKENS else limit
        if not (self._is_near and 0 < most < self.counter.lower(request.messages, request.tools)):
            return False
        self._believe(most, is_guess=True)
        return True

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
        """Before history is dropped: ask the server for its window, then for its own count if there is only a bound."""
        view = self.manager.view(request.messages)
        upper = self.counter.upper(view, request.tools)
        if upper <= self.manager.available_tokens:
            return
        if not self._is_window_named and self.watch.is_stale and await self._ask_anew():
            view = self.manager.view(request.messages)
            upper = self.counter.upper(view, request.tools)
        if upper > max(self.manager.available_tokens, 1.05 * self.counter.lower(view, request.tools)):
            await self._count(replace(request, messages=view))

    async def count_exactly(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int | None:
        """The server's own count of a prompt; None: it has none. After `make()`."""
        return await self._count(ModelRequest(messages, tuple(tools)))

    async def _count(self, request: ModelRequest) -> int | None:
        count = None if self._cannot_count else getattr(self.inner, "count_prompt", None)
        exact: int | None = await count(request) if count is not None else None
        self._cannot_count = not exact
        if exact:
            self.counter.learn(request.messages, request.tools, exact)
        return exact or None

    async def _ask_anew(self) -> bool:
        window = await self.watch.news()
        if window:
            self._believe(window)
        return bool(window)

    def _believe(self, window: int, *, is_guess: bool = False) -> None:
        self.is_guessed = is_guess
        self._answered_tokens = min(self._answered_tokens, window)
        self.manager.learn_window(window)

    def _window_for(self, prompt_tokens: int) -> int:
        """The smallest window that leaves so many tokens to a prompt."""
        return prompt_tokens + min(self.manager.reserve_tokens, prompt_tokens)

    # -------------------------------------------------------------- after the call

    def _is_empty_again(self, request: ModelRequest) -> bool:
        """Whether the answer to this prompt was empty before; notes that it is now."""
        last = request.messages[-1] if request.messages else None
        was_empty, self._empty = self._empty is last, last
        return was_empty

    def _may_be_too_long(
        self, error: ContextOverflowError | EmptyResponseError, asked: ModelRequest, refused: object
    ) -> bool:
        """An empty answer may mean it: when it comes twice, to a prompt longer than all that were answered."""
        if error.retry_limit == 0:  # the server's figures name another cause
            return False
        if isinstance(error, ContextOverflowError):
            if refused is None or is_answer_too_long(error, asked):
                return True
            return error.max_tokens is None  # a number that the server repeats does not get better
        return "_made" in self.__dict__ and self.counter.upper(asked.messages, asked.tools) > self._answered_tokens

    async def _correct(
        self, error: ContextOverflowError | EmptyResponseError, asked: ModelRequest, repeats: int
    ) -> None:
        """Believe the server: its window, and its count of what was sent. Where it tells nothing, guess."""
        await self.make()
        told: int | None = None
        is_answer = False
        if isinstance(error, ContextOverflowError):
            told, is_answer = error.max_tokens, is_answer_too_long(error, asked)
            self._answers_refused += is_answer
            if error.current_tokens and error.current_tokens > 1 and " at least " not in error.message:
                self.counter.learn(asked.messages, asked.tools, error.current_tokens)
        told = told or await self.watch.ask()
        if told:
            self._believe(told)
        sent = self.counter.upper(asked.messages, asked.tools)
        if not told or (sent <= self.manager.available_tokens and not is_answer):  # whatever the numbers say
            known_good = self._window_for(self._answered_tokens)
            self._believe(max(sent // 2 if repeats else sent * 3 // 4, known_good), is_guess=True)

    async def _check(self, asked: ModelRequest, end: StreamEnd) -> ContextTruncated | None:
        """Learn from the reported prompt; None unless it is shorter than what was surely sent."""
        self.watch.note_answer(end.model)
        self._empty, usage, self._answers_refused = None, end.usage, min(self._answers_refused, 1)
        if "_made" not in self.__dict__ or usage is None or usage.is_estimated or usage.input_tokens <= 0:
            return None
        told, bound = usage.input_tokens, self.counter.lower(asked.messages, asked.tools)
        cut_window, window = window_of_cut(told), self._window_for(told)
        least = bound
        # Ollama's cut is known by its figure, even before its tokenizer is.
        is_power = cut_window >= 2048 and cut_window & (cut_window - 1) == 0  # all its defaults are
        if is_power and bound < cut_window and getattr(self.inner, "provider", None) == "ollama":
            least = cut_window if self.counter.upper(asked.messages, asked.tools) > cut_window else bound
        grown = self._growth.least(asked.messages, (end.model, *asked.tools), self.counter.floor)
        is_creeping, least = least <= told < grown, max(least, grown)
        if told >= least:
            self._growth.note(told)
            self.counter.learn(asked.messages, asked.tools, told)
            self._answered_tokens = max(self._answered_tokens, told)
            if self.is_guessed and window > self.manager.max_tokens:
                self._believe(window, is_guess=True)
            return None
        if told < LEAST_CUT_TOKENS:
            return None
        beside = told + usage.cached_tokens  # some servers count only what was not cached
        if told < beside and least <= beside <= self.counter.upper(asked.messages, asked.tools):
            return None
        doubtful = self._growth.forget()
        if is_creeping:  # the cuts began some calls ago, each within the doubt
            self.counter.unlearn(doubtful)
        served = await self.watch.ask()
        if served and served <= least:
            self._believe(served)
        else:
            self._believe(cut_window if cut_window > self._answered_tokens else window, is_guess=True)
        if told < bound:  # then it is not believed, unless it shows another tokenizer
            self.counter.learn(asked.messages, asked.tools, told)
        sent = self.counter.upper(asked.messages, asked.tools)
        if sent <= self.manager.available_tokens:  # an earlier cut was taken for the tokenizer's ways
            self._believe(sent * 3 // 4, is_guess=True)
        model = end.model or self.name
        return ContextTruncated(told, least, self.manager.max_tokens, model, usage, end.cost_usd)
