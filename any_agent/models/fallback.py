"""A Model that retries one model and then tries the next. What has reached the caller is gone on with, not repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from ..errors import (
    AllModelsFailedError,
    InvalidResponseError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
    ServerUnreachableError,
    StreamInterruptedError,
)
from ..protocols import Model
from ..types import (
    Attempt,
    AttemptFailed,
    ContextTruncated,
    Delta,
    ModelLoading,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
)
from .failures import with_next_step

if TYPE_CHECKING:
    from .continuation import Continuation

# The stream broke, the request was good.
_GONE_ON_AFTER = (
    *(StreamInterruptedError, ProviderTimeoutError, ServerError, InvalidResponseError),
    *(ServerUnreachableError, RateLimitError),  # of the try that was to go on
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. Waits grow exponentially from `delay_s` with jitter; the server's Retry-After wins.

    All waits of one run together stay below `total_wait_s`.
    """

    max_retries: int = 3
    delay_s: float = 1.0
    max_delay_s: float = 30.0
    total_wait_s: float = 120.0
    resumes: bool = True
    """A stream that breaks in mid-answer is gone on with by the next try; False: its error is raised."""
    waits_for_servers: bool = False
    """A server that is gone is tried `max_retries` times too, as somebody said how often; False: once."""

    def wait_s(
        self, error: ProviderError, retries_done: int, waited_s: float, *, was_there: bool = False
    ) -> float | None:
        """Seconds to wait before the next try of the same model; None: do not try it again.

        Args:
            was_there: the server has answered in this run: it may be starting anew.
        """
        limit = self.max_retries if error.retry_limit is None else min(self.max_retries, error.retry_limit)
        if error.retry_limit and isinstance(error, ServerUnreachableError) and (self.waits_for_servers or was_there):
            limit = self.max_retries
        if not error.is_retryable_by_kind or retries_done >= limit:
            return None
        wait = error.retry_after_s if error.retry_after_s is not None else self._backoff_s(retries_done)
        return wait if waited_s + wait <= self.total_wait_s else None

    def _backoff_s(self, retries_done: int) -> float:
        from tenacity import AsyncRetrying, RetryCallState, wait_exponential, wait_random

        wait = wait_exponential(multiplier=self.delay_s, max=self.max_delay_s) + wait_random(0, self.delay_s / 2)
        state = RetryCallState(AsyncRetrying(wait=wait), None, (), {})
        state.attempt_number = retries_done + 1
        return min(float(wait(state)), self.max_delay_s)


class FallbackModel:
    """Tries `models` in order. Each is retried while its error may pass; permanent errors go on to the next at once."""

    def __init__(self, models: Sequence[Model], policy: RetryPolicy | None = None) -> None:
        self.models = tuple(models)
        self.policy = policy or RetryPolicy()

    @property
    def name(self) -> str:
        return self.models[0].name

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """Deltas of the first model that answers; `AttemptFailed` before each further try.

        Raises:
            ProviderError: the only model failed, or a stream broke after text and could not be gone on with.
            AllModelsFailedError: the model and all fallbacks failed.
        """
        attempts: list[Attempt] = []
        said: list[str] = []
        waited_s, has_thought, asked = 0.0, False, request
        going_on: Continuation | None = None
        for place, model in enumerate(self.models):
            retries, was_there = 0, False
            while True:
                started, heard_at = perf_counter(), 0.0
                try:
                    async with aclosing(model.stream(asked)) as deltas:  # type: ignore[type-var]
                        async for delta in deltas:
                            if not heard_at and delta.__class__ is not ModelLoading:
                                heard_at = perf_counter()
                            if isinstance(delta, StreamEnd):
                                attempts.append(replace(_attempt(model, started, heard_at), is_cached=delta.is_cached))
                                delta = replace(delta, model=delta.model or model.name, attempts=tuple(attempts))
                            for shown in (delta,) if going_on is None else going_on.take(delta):
                                if shown.__class__ is TextDelta:
                                    said.append(shown.text)
                                elif shown.__class__ is ThinkingDelta:
                                    has_thought = True
                                elif shown.__class__ is ContextTruncated:  # what was said so far is void
                                    said.clear()
                                    has_thought = False
                                yield shown
                    return
                except ProviderError as error:
                    if is_delivered := bool(said or has_thought):
                        error.delivered_chars = error.delivered_chars or 1
                    else:  # what the door had read but held back is lost to nobody
                        error.delivered_chars = 0
                    may_go_on = not is_delivered or (self.policy.resumes and isinstance(error, _GONE_ON_AFTER))
                    was_there = was_there or not isinstance(error, ServerUnreachableError)
                    wait_s = self.policy.wait_s(error, retries, waited_s, was_there=was_there) if may_go_on else None
                    following = self._following(place, wait_s) if may_go_on else ""
                    attempts.append(_attempt(model, started, heard_at, error, following))
                    if not following:
                        raise self._final(error, attempts, is_delivered) from None
                yield AttemptFailed(attempts[-1], keeps_text=is_delivered)
                if is_delivered:
                    from .continuation import Continuation, continued

                    asked = continued(request, "".join(said))
                    going_on = Continuation("".join(said), shows_thinking=not has_thought)
                if wait_s is None:
                    break
                await asyncio.sleep(wait_s)
                waited_s += wait_s
                retries += 1

    async def aclose(self) -> None:
        for model in self.models:
            await model.aclose()

    def _following(self, place: int, wait_s: float | None) -> str:
        if wait_s is not None:
            return f"retried after {wait_s:.1f} s"
        if place + 1 < len(self.models):
            return f"next model: {self.models[place + 1].name}"
        return ""

    def _final(self, error: ProviderError, attempts: list[Attempt], delivered: bool) -> ProviderError:
        if delivered or len(self.models) == 1:
            error.delivered_chars = error.delivered_chars or int(delivered)
            error.attempts = tuple(attempts)
            return with_next_step(error)
        told = _told(attempts)
        if "\n    fix: " not in told:
            told += f"\n  fix: {AllModelsFailedError.next_step}"
        return AllModelsFailedError(
            f"all {len(self.models)} models failed, {len(attempts)} tries:{told}",
            attempts=tuple(attempts),
            status=error.status,
        )


def _told(attempts: Sequence[Attempt]) -> str:
    """A line for each try, and below it what to do about it, once."""
    lines: list[str] = []
    for attempt in attempts:
        first, *rest = (attempt.error or "").splitlines() or [""]
        lines.append(f"  {attempt.model}: {first}")
        fixes = [f"    {line.strip()}" for line in rest if line.lstrip().startswith("fix:")]
        lines += [fix for fix in fixes if fix not in lines]
    return "".join(f"\n{line}" for line in lines)


def _attempt(
    model: Model, started: float, heard_at: float, error: ProviderError | None = None, then: str = ""
) -> Attempt:
    return Attempt(
        model=model.name,
        base_url=getattr(model, "base_url", None),
        duration_s=perf_counter() - started,
        error_type=type(error).__name__ if error else None,
        error=str(error) if error else None,
        status=error.status if error else None,
        delivered_chars=error.delivered_chars if error else 0,
        then=then,
        first_token_s=heard_at - started if heard_at else None,
    )
