"""A Model that retries one model and then tries the next. Nothing is repeated once text has reached the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter

from ..errors import AllModelsFailedError, ProviderError
from ..protocols import Model
from ..types import Attempt, AttemptFailed, Delta, ModelRequest, StreamEnd, TextDelta, ThinkingDelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. Waits grow exponentially from `delay_s` with jitter; the server's Retry-After wins.

    All waits of one run together stay below `total_wait_s`.
    """

    max_retries: int = 3
    delay_s: float = 1.0
    max_delay_s: float = 30.0
    total_wait_s: float = 120.0

    def wait_s(self, error: ProviderError, retries_done: int, waited_s: float) -> float | None:
        """Seconds to wait before the next try of the same model; None: do not try it again."""
        limit = self.max_retries if error.retry_limit is None else min(self.max_retries, error.retry_limit)
        if not error.retryable or retries_done >= limit:
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
            ProviderError: the only model failed, or a stream broke after text had been delivered.
            AllModelsFailedError: the model and all fallbacks failed.
        """
        attempts: list[Attempt] = []
        waited_s = 0.0
        for place, model in enumerate(self.models):
            retries = 0
            while True:
                started = perf_counter()
                delivered = False
                try:
                    async with aclosing(model.stream(request)) as deltas:  # type: ignore[type-var]
                        async for delta in deltas:
                            kind = delta.__class__
                            if kind is TextDelta or kind is ThinkingDelta:
                                delivered = True
                            elif isinstance(delta, StreamEnd):
                                attempts.append(_attempt(model, started))
                                delta = replace(delta, model=delta.model or model.name, attempts=tuple(attempts))
                            yield delta
                    return
                except ProviderError as error:
                    wait_s = None if delivered else self.policy.wait_s(error, retries, waited_s)
                    following = "" if delivered else self._following(place, wait_s)
                    attempts.append(_attempt(model, started, error, following))
                    if not following:
                        raise self._final(error, attempts, delivered) from None
                yield AttemptFailed(attempts[-1])
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
            return error
        lines = "".join(f"\n  {a.model}: {(a.error or '').splitlines()[0] if a.error else ''}" for a in attempts)
        return AllModelsFailedError(
            f"all {len(self.models)} models failed, {len(attempts)} tries:{lines}",
            attempts=tuple(attempts),
            status=error.status,
        )


def _attempt(model: Model, started: float, error: ProviderError | None = None, then: str = "") -> Attempt:
    return Attempt(
        model=model.name,
        base_url=getattr(model, "base_url", None),
        duration_s=perf_counter() - started,
        error_type=type(error).__name__ if error else None,
        error=str(error) if error else None,
        status=error.status if error else None,
        delivered_chars=error.delivered_chars if error else 0,
        then=then,
    )
