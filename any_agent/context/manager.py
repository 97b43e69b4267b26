"""ContextManager: trims one conversation in blocks and otherwise only appends, so a server keeps its cached prefix."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, cast

from ..errors import ContextOverflowError
from ..models.wire import from_wire
from ..types import ContextStrategy, ContextSummarized, Message, SystemMessage, ToolMessage, ToolSpec, UserMessage
from .dicts import restored, sources
from .shorten import first_numbers, shortened
from .strategies import Exchange, Strategy, chosen_by, find_strategy, grouped, importance, sliding
from .summary import MOST_TOKENS, Counter, Summarize, Summary, as_message, clipped, told_by

_log = logging.getLogger("any_agent")
LOW_WATERMARK = 0.7  # shortening, also of the last turn, goes down to this share of the budget: it happens seldom
DROP_WATERMARK = 0.5  # dropping goes further: all that stays must be prefilled anew (benchmarks/context.py)
OLD_RESULT_CHARS = 400  # what is left of an old tool result before whole exchanges are dropped


@dataclass(frozen=True, slots=True)
class Fit:
    """What is sent instead of the whole history. Tokens are upper bounds, before and after this call's trim."""

    messages: tuple[Message, ...]
    tokens_before: int
    tokens_after: int
    dropped_messages: int = 0
    shortened_results: int = 0
    summarized: ContextSummarized | None = None  # a summary that was made for this fit

    @property
    def has_changed(self) -> bool:
        return bool(self.dropped_messages or self.shortened_results)


class ContextManager:
    """Keeps one conversation inside its window.

    Args:
        model: name of the model; tokens are counted for it where `counter` is None.
        strategy: a ContextStrategy, its value, or a function of (exchanges, budget) like `sliding`.
        max_tokens: the window; None: what the counter knows of the model; 0: not known yet (`learn_window` tells it).
        reserve_tokens: kept free for the answer; None: a quarter of the window, at most 1,000.
        max_history_messages: most messages sent besides the system prompt; None: no limit.
        summarize: gives the text, or the Summary, that stands for dropped messages (strategy summarize).
        can_read_results: the model has the tool `read_result`; what is left out of a result then names it.
    """

    def __init__(
        self,
        model: str = "",
        strategy: ContextStrategy | str | Strategy = ContextStrategy.SLIDING_WINDOW,
        max_tokens: int | None = None,
        reserve_tokens: int | None = 1000,
        *,
        counter: Counter | None = None,
        preserve_system: bool = True,
        preserve_last_n: int = 1,
        max_history_messages: int | None = None,
        summarize: Summarize | None = None,
        can_read_results: bool = False,
    ) -> None:
        if counter is None:
            from ..tokens import TokenCounter

            counter = TokenCounter(model)
        self.counter = counter
        self.strategy = strategy
        self.max_tokens: int = int(getattr(counter, "limit", None) or 4096) if max_tokens is None else max_tokens
        self._reserve_tokens = reserve_tokens
        self.preserve_system = preserve_system
        self.preserve_last_n = preserve_last_n
        self.max_history_messages = max_history_messages
        self.summarize = summarize
        self.can_read_results = can_read_results
        self._choose: Strategy = find_strategy(strategy)
        self._gone: dict[int, Message] = {}  # by id(); holding the message keeps its id from being given again
        self._twins: dict[tuple[int, int], tuple[Message, Message]] = {}  # of a message that stands there twice
        self._short: dict[int, tuple[Message, Message]] = {}
        self._in_doubt = "lower"  # which figure of the counter must fit when nothing more can be left out
        self._summary: UserMessage | None = None
        self._known: ContextSummarized | None = None  # of an earlier run; used as soon as history must go

    @property
    def reserve_tokens(self) -> int:
        return self.reserve_for(self.max_tokens)

    def reserve_for(self, window_tokens: int) -> int:
        """Tokens of such a window kept free for the answer."""
        return min(1000, window_tokens // 4) if self._reserve_tokens is None else self._reserve_tokens

    @property
    def shortened_results(self) -> int:
        """How many tool messages are sent shortened."""
        return sum([key not in self._gone for key in self._short])

    @property
    def available_tokens(self) -> int:
        """Tokens a prompt may have: the window less the reserve, but at least half of the window."""
        return max(self.max_tokens - self.reserve_tokens, self.max_tokens // 2)

    @property
    def summary_tokens(self) -> int:
        """Tokens a summary may have."""
        return min(MOST_TOKENS, self.available_tokens // 5)

    @property
    def summary(self) -> str | None:
        """The summary that stands for dropped messages now."""
        return None if self._summary is None else told_by(self._summary)

    async def manage_context(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        preserve_system: bool = True,
        preserve_last_n: int = 1,
    ) -> list[Any]:
        """One list of messages, fitted; nothing is remembered and the input is not changed. Dicts in, those dicts out.

        Raises:
            ContextOverflowError: what must be kept does not fit.
        """
        own = from_wire(messages)
        if self._fits(own, ()):
            return list(messages)
        once = ContextManager(
            strategy=self.strategy,
            max_tokens=self.max_tokens,
            reserve_tokens=self._reserve_tokens,
            counter=self.counter,
            preserve_system=preserve_system,
            preserve_last_n=preserve_last_n,
            max_history_messages=self.max_history_messages,
            summarize=self.summarize,
        )
        once._in_doubt = "estimate"  # no server is asked next that could refuse
        fit = await once.fit(own)
        if not all(isinstance(item, Mapping) for item in messages):
            return list(fit.messages)
        return restored(fit.messages, sources(messages, own), once._original)

    async def fit(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Fit:
        """The messages to send. What was once dropped stays dropped: between two trims the prompt only grows.

        Raises:
            ContextOverflowError: system prompt, tools, pins and last user turn do not fit; names the biggest.
        """
        view = self.view(messages)
        before = self.counter.upper(view, tools)
        if self._fits(view, tools, before):
            return Fit(tuple(view), before, before, self._dropped(messages, view), self.shortened_results)
        messages = self._distinct(messages)
        if self._known is not None:
            self._take_known(messages)
            return await self.fit(messages, tools)
        view = self.view(messages)
        target = int(self.available_tokens * LOW_WATERMARK)
        if before > self.available_tokens:
            self._shorten(messages, tools, target, self._old_results(view), OLD_RESULT_CHARS)
            view = self.view(messages)
        summarized = None
        if self.counter.upper(view, tools) > target or self._too_many(view):
            target = int(self.available_tokens * DROP_WATERMARK)
            summarized = await self._drop_exchanges(messages, tools, target, self._choose)
            view = self.view(messages)
        if self.counter.upper(view, tools) > self.available_tokens:  # the strategy kept too much
            await self._drop_exchanges(messages, tools, target, sliding, is_summarized=True)
            view = self.view(messages)
        if self.counter.upper(view, tools) > self.available_tokens:
            self._squeeze_last(messages, tools)
            view = self.view(messages)
        after = self.counter.upper(view, tools)
        if after > self.max_tokens and self._surely(view, tools) > self.max_tokens:
            raise self.overflow(view, tools)  # in doubt the server decides; the reserve may be used up
        return Fit(tuple(view), before, after, self._dropped(messages, view), self.shortened_results, summarized)

    def learn_window(self, max_tokens: int) -> None:
        """Correct the window. In a much wider one the history is whole again."""
        if max_tokens > 1.25 * self.max_tokens > 0:
            self._gone, self._short, self._summary = {}, {}, None
        self.max_tokens = max(max_tokens, 64)

    def restore(self, summary: ContextSummarized) -> None:
        """Go on with the summary of an earlier run. The history is whole while it fits; then the summary is used."""
        self._known = summary

    # -------------------------------------------------------------- inside

    def _fits(self, view: Sequence[Message], tools: Sequence[ToolSpec], tokens: int | None = None) -> bool:
        count = self.counter.upper(view, tools) if tokens is None else tokens
        return count <= self.available_tokens and not self._too_many(view)

    def _too_many(self, view: Sequence[Message]) -> bool:
        most = self.max_history_messages
        return most is not None and sum(not isinstance(m, SystemMessage) for m in view) > most

    def view(self, messages: Sequence[Message]) -> Sequence[Message]:
        """What is left of the history after the trims so far; the history itself when that is all of it."""
        if not messages or (not self._gone and not self._short and self._summary is None):
            return messages
        # Written with map, for thousands of messages each turn cost no call of their own.
        if self._twins or id(messages[-1]) in self._gone:
            messages = self._distinct(messages)
        ids = list(map(id, messages))
        parts = zip(messages, map(self._gone.__contains__, ids), map(self._short.get, ids), strict=True)
        out = [short[1] if short else message for message, is_gone, short in parts if not is_gone]
        if self._summary is not None:
            place = next((i for i, m in enumerate(out) if not isinstance(m, SystemMessage)), len(out))
            out.insert(place, self._summary)
        return out

    def _distinct(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages, with copies for those that stand there again: what goes and what stays is told by id()."""
        if len(set(map(id, messages))) == len(messages):
            return messages
        seen: dict[int, int] = {}
        out: list[Message] = []
        for message in messages:
            times = seen[id(message)] = seen.get(id(message), 0) + 1
            if times > 1:
                _, message = self._twins.setdefault((id(message), times), (message, replace(message)))
            out.append(message)
        return out

    def _surely(self, view: Sequence[Message], tools: Sequence[ToolSpec]) -> int:
        return cast("int", getattr(self.counter, self._in_doubt, self.counter.upper)(view, tools))

    def _estimate(self, messages: Sequence[Message]) -> int:
        estimate = getattr(self.counter, "estimate", self.counter.upper)
        return cast("int", estimate(messages))

    def _dropped(self, messages: Sequence[Message], view: Sequence[Message]) -> int:
        return len(messages) - len(view) + (self._summary is not None)

    def _original(self, message: Message) -> Message:
        return next((old for old, new in self._short.values() if new is message), message)

    def _old_results(self, view: Sequence[Message]) -> list[ToolMessage]:
        """Tool results but those of the newest round."""
        found = [m for m in view if isinstance(m, ToolMessage) and not m.pinned]
        return found[:-1] if view and found and view[-1] is found[-1] else found

    def _shorten(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        target: int,
        results: list[ToolMessage],
        most_chars: int,
    ) -> None:
        tokens = self.counter.upper(self.view(messages), tools)
        numbers = first_numbers(messages) if self.can_read_results else {}
        for message in sorted(results, key=lambda m: 1.0 if m.importance is None else m.importance):
            if tokens <= target:
                break
            original = self._original(message)
            short = shortened(original, most_chars, numbers.get(id(original)))  # type: ignore[arg-type]
            if short is None:
                continue
            saved = self.counter.upper([message]) - self.counter.upper([short])
            if saved > 0:
                self._short[id(original)] = (original, short)
                tokens -= saved

    async def _drop_exchanges(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        target: int,
        choose: Strategy,
        *,
        is_summarized: bool = False,
    ) -> ContextSummarized | None:
        view = self.view(messages)
        system = [m for m in view if isinstance(m, SystemMessage)]
        kept_system = system if self.preserve_system else [m for m in system if m.pinned]
        will_summarize = self.summarize is not None and not is_summarized and self._is_summarizing
        fixed = self.counter.upper(kept_system, tools) + self.summary_tokens * will_summarize
        if self._summary is not None and not will_summarize:
            fixed += self.counter.upper([self._summary])
        exchanges = self._exchanges([m for m in view if not isinstance(m, SystemMessage) and m is not self._summary])
        chosen = await chosen_by(choose, exchanges, target - fixed)
        kept = [*chosen, *[e for e in exchanges if e.is_kept]]
        stays = {id(m) for e in kept for m in e.messages} | {id(m) for m in kept_system}
        if self.max_history_messages is not None:
            stays &= self._newest(exchanges, stays) | {id(m) for m in system}
        gone = [self._original(m) for m in view if id(m) not in stays and m is not self._summary]
        summary = await self._summary_of(gone) if gone and will_summarize else None
        # Nothing is awaited from here: messages go and their summary comes in one step, whoever interrupts.
        self._gone.update({id(message): message for message in gone})
        if summary is None:
            return None
        self._summary = as_message(summary.text)
        covered = self._covered(messages, gone)
        return ContextSummarized(summary.text, covered, len(gone), summary.model, summary.usage, summary.cost_usd)

    @property
    def _is_summarizing(self) -> bool:
        return self.strategy in (ContextStrategy.SUMMARIZE, "summarize")

    def _newest(self, exchanges: Sequence[Exchange], stays: set[int]) -> set[int]:
        """Ids of the newest exchanges that keep within `max_history_messages`; kept ones always."""
        left, out = cast("int", self.max_history_messages), set()
        for exchange in reversed(exchanges):
            ids = [id(m) for m in exchange.messages if id(m) in stays]
            if exchange.is_kept or len(ids) <= left:
                out.update(ids)
                left -= len(ids)
            else:
                left = 0
        return out

    async def _summary_of(self, gone: Sequence[Message]) -> Summary | None:
        assert self.summarize is not None
        try:
            made = await self.summarize([self._summary, *gone] if self._summary else list(gone))
        except Exception as error:  # no summary is no reason to fail: the history just slides
            if getattr(error, "aborts_run", False):  # of a hook
                raise
            _log.warning("no summary could be made, history slides: %s: %s", type(error).__name__, error)
            return None
        summary = made if isinstance(made, Summary) else Summary(made)
        text = clipped(summary.text, self.summary_tokens, self._estimate)
        return Summary(text, summary.model, summary.usage, summary.cost_usd) if text else None

    @staticmethod
    def _covered(messages: Sequence[Message], gone: Sequence[Message]) -> int:
        """How many of the oldest messages, system prompts left out, a summary of `gone` stands for."""
        ids = set(map(id, gone))
        last = max((i for i, m in enumerate(messages) if id(m) in ids), default=-1)
        return sum(not isinstance(m, SystemMessage) for m in messages[: last + 1])

    def _take_known(self, messages: Sequence[Message]) -> None:
        known, self._known = self._known, None
        assert known is not None
        left = known.covered_messages
        for group in grouped([m for m in messages if not isinstance(m, SystemMessage)])[:-1]:
            if left <= 0:
                break
            left -= len(group)
            if not any(m.pinned for m in group):
                self._gone.update({id(m): m for m in group})
        self._summary = as_message(clipped(known.summary, self.summary_tokens, self._estimate))

    def _exchanges(self, messages: Sequence[Message]) -> list[Exchange]:
        groups = grouped(messages)
        first_kept = len(groups) - max(self.preserve_last_n, 1)
        alone = [self.counter.upper(group) for group in groups]
        # Bounds of parts add up to more than the bound of the whole, which is what must fit.
        share = self.counter.upper(messages) / (sum(alone) or 1)
        return [
            Exchange(
                tuple(group),
                ceil(alone[place] * min(share, 1.0)),
                place >= first_kept or any(m.pinned for m in group),
                importance(group, place, len(groups)),
            )
            for place, group in enumerate(groups)
        ]

    def _squeeze_last(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> None:
        """The last turn alone is too big: its older tool rounds go, then its results are shortened more and more."""
        view = self.view(messages)
        start = max((i for i, m in enumerate(view) if isinstance(m, UserMessage)), default=0)
        rounds = [i for i in range(start, len(view)) if isinstance(view[i], ToolMessage)]
        for place in rounds[:-1]:
            if self.counter.upper(self.view(messages), tools) <= int(self.available_tokens * LOW_WATERMARK):
                return
            for part in (view[place - 1], view[place]):
                original = self._original(part)
                if not part.pinned:
                    self._gone[id(original)] = original
        for most_chars in (2000, OLD_RESULT_CHARS, 80):
            view = self.view(messages)
            results = [m for m in view if isinstance(m, ToolMessage)]
            self._shorten(messages, tools, self.available_tokens, results, most_chars)

    def overflow(self, view: Sequence[Message], tools: Sequence[ToolSpec]) -> ContextOverflowError:
        """The error that says what of a fitted prompt is too big."""
        tokens = self.counter.upper(view, tools)
        parts = {
            "system prompt": self.counter.upper([m for m in view if isinstance(m, SystemMessage)]),
            "tools": self.counter.upper([], tools),
            "pinned messages": self.counter.upper([m for m in view if m.pinned]),
            "last user turn": self.counter.upper(self._exchanges(view)[-1].messages) if view else 0,
        }
        biggest = max(parts, key=lambda name: parts[name])
        told = ", ".join(f"{name} {count}" for name, count in parts.items())
        return ContextOverflowError(
            f"what must be sent does not fit: up to {tokens} tokens for a window of {self.max_tokens}. "
            f"Too big: {biggest} ({told} tokens)",
            tokens,
            self.max_tokens,
        )
