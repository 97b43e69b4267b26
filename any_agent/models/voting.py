"""A Model that asks several times and lets the majority decide which tools are called. For weak models."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ..errors import ProviderError
from ..protocols import Model
from ..types import Attempt, Delta, ModelRequest, StreamEnd, ToolSpec, ToolUseBlock, Usage
from .canonical import canonical, fits
from .streaming import Fold

ROUNDS = 2  # without a majority everybody is asked once more
Vote: TypeAlias = "tuple[tuple[str, str], ...]"  # the calls of one answer: (name, arguments), sorted; () is text


@dataclass(slots=True)
class _Sample:
    """One answer. `vote` None: it cannot count, a call of it does not fit its tool."""

    deltas: list[Delta] = field(default_factory=list)
    end: StreamEnd = field(default_factory=StreamEnd)
    vote: Vote | None = None


class VotingModel:
    """Asks `n` times at once and gives one of the answers whose calls the majority made.

    Calls are the same when names and arguments are. An answer with a call that does not fit its schema does not count.
    Without a majority of the answers `n` more are asked for; without one of all of them, most votes win, then the
    earliest. When the majority calls nothing, the first text is the answer. Requests without tools pass unchanged.
    Usage and cost are those of all answers. Answers that differ need a temperature above 0; a seed is counted up.

    Args:
        n: answers to each question; 1: this does nothing.
    """

    def __init__(self, model: Model, n: int) -> None:
        self.model = model
        self.n = n
        self._checks: dict[str, tuple[Any, Callable[[Any], bool]]] = {}

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def base_url(self) -> str | None:
        return getattr(self.model, "base_url", None)

    async def aclose(self) -> None:
        await self.model.aclose()

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """The elected answer, once all have been given.

        Raises:
            ProviderError: every answer failed; the first one's.
        """
        if self.n < 2 or not request.tools or request.tool_choice == "none":
            async with aclosing(self.model.stream(request)) as deltas:  # type: ignore[type-var]
                async for delta in deltas:
                    yield delta
            return
        samples: list[_Sample] = []
        for _ in range(ROUNDS):
            samples += await self._round(request, len(samples))
            elected = _elected(samples)
            if elected is not None:
                break
        else:
            elected = _most(samples)
        for delta in elected.deltas:
            yield delta
        yield _whole_end(elected, samples)

    async def _round(self, request: ModelRequest, first: int) -> list[_Sample]:
        """`n` answers. The others begin when the first one does: then history is fitted, and the prompt is cached."""
        begun = asyncio.Event()
        tasks = [asyncio.ensure_future(self._sample(request, first, begun))]
        waiting = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait({tasks[0], waiting}, return_when=asyncio.FIRST_COMPLETED)
            tasks += [asyncio.ensure_future(self._sample(request, first + i)) for i in range(1, self.n)]
            await asyncio.wait(tasks)
        finally:
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
        errors = [error for task in tasks if (error := task.exception()) is not None]
        for error in errors:
            if len(errors) == len(tasks) or not isinstance(error, ProviderError):
                raise error
        return [task.result() for task in tasks if task.exception() is None]

    async def _sample(self, request: ModelRequest, number: int, begun: asyncio.Event | None = None) -> _Sample:
        seed = request.params.get("seed")
        if seed is not None and number:
            request = replace(request, params={**request.params, "seed": seed + number})
        sample, fold = _Sample(), Fold(request.tools)
        async with aclosing(self.model.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                if begun is not None:
                    begun.set()
                fold.add(delta)
                if isinstance(delta, StreamEnd):
                    sample.end = delta
                else:
                    sample.deltas.append(delta)
        sample.vote = self._vote(fold, request.tools)
        return sample

    def _vote(self, fold: Fold, tools: Sequence[ToolSpec]) -> Vote | None:
        calls = fold.message().tool_calls
        for call in calls:
            if not isinstance(call, ToolUseBlock) or not self._fits(call, tools):
                return None
        return tuple(sorted((call.name, canonical(call.input)) for call in calls if isinstance(call, ToolUseBlock)))

    def _fits(self, call: ToolUseBlock, tools: Sequence[ToolSpec]) -> bool:
        spec = next((one for one in tools if one.name == call.name), None)
        if spec is None:
            return False
        known = self._checks.get(spec.name)
        if known is None or known[0] is not spec.parameters:
            known = self._checks[spec.name] = (spec.parameters, fits(spec.parameters))
        return known[1](call.input)


def _elected(samples: Sequence[_Sample]) -> _Sample | None:
    """The first answer of those that more than half of all agree with."""
    best = _most(samples)
    agreeing = sum(one.vote == best.vote for one in samples)
    return best if best.vote is not None and agreeing > len(samples) // 2 else None


def _most(samples: Sequence[_Sample]) -> _Sample:
    """The first answer of those with most votes; the very first when none counts."""
    votes = Counter(one.vote for one in samples if one.vote is not None)
    if not votes:
        return samples[0]
    vote = votes.most_common(1)[0][0]
    return next(one for one in samples if one.vote == vote)


def _whole_end(elected: _Sample, samples: Sequence[_Sample]) -> StreamEnd:
    """The end of the elected answer, with what all of them cost."""
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    for one in samples:
        if one.end.usage is not None:
            usage = one.end.usage if usage is None else usage + one.end.usage
        known = cost_usd is not None and one.end.cost_usd is not None
        cost_usd = cost_usd + one.end.cost_usd if known else None  # type: ignore[operator]
    if usage is not None and any(one.end.usage is None for one in samples):
        usage = replace(usage, is_estimated=True)
    others = tuple([attempt for one in samples if one is not elected for attempt in _paid(one.end)])
    attempts = _paid(elected.end)
    if attempts:
        attempts = (*others, *attempts[:-1], replace(attempts[-1], others=others))
    return replace(elected.end, usage=usage, cost_usd=cost_usd, attempts=attempts)


def _paid(end: StreamEnd) -> tuple[Attempt, ...]:
    """The tries of one answer; the last one tells what the answer cost."""
    if not end.attempts:
        return ()
    return (*end.attempts[:-1], replace(end.attempts[-1], usage=end.usage, cost_usd=end.cost_usd))
