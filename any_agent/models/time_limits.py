"""What both doors do when a server is slow: which limit was crossed, and waiting for a model that is being loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf
from time import perf_counter

from ..errors import ModelLoadingError, ProviderError, ProviderTimeoutError
from ..types import ModelLoading, ModelRequest
from .failures import Where, unreachable

LOADING_PAUSES_S = (0.25, 0.5, 1.0, 2.0)  # the last one repeats


def first_token_limit_s(request: ModelRequest) -> float | None:
    """Seconds the server may stay silent before its first token; None: for ever."""
    limit_s = request.first_token_timeout_s
    return request.timeout_s if limit_s is None else limit_s


def too_silent(where: Where, request: ModelRequest, *, has_token: bool, delivered_chars: int) -> ProviderError:
    """The server stayed silent for too long; says which limit it was."""
    limit_s = request.timeout_s if has_token else first_token_limit_s(request)
    silence = "for too long" if limit_s is None else f"for {limit_s:g} s"
    if has_token:
        said = f"the stream stalled: nothing came {silence}, {delivered_chars} characters in (option gap_timeout_s"
    else:
        said = f"the server stayed silent {silence} before its first token (option first_token_timeout_s"
    return where.error(ProviderTimeoutError, f"{said}, else timeout)", delivered_chars=delivered_chars)


def not_connected(where: Where, request: ModelRequest) -> ProviderError:
    """No connection came about in time."""
    return unreachable(where, f"no connection within {request.connect_timeout_s:g} s, option connect_timeout_s")


def is_loading(error: ProviderError) -> bool:
    """Whether the server is there and says that the model will be. Elsewhere than in a 503 the word is used loosely."""
    return isinstance(error, ModelLoadingError) and error.status == 503


class LoadingWait:
    """Asking again while the server says that it is loading. Not a retry: nothing has failed.

    Args:
        limit_s: how long it may take altogether; None: for ever.
        pauses_s: seconds between two tries; the last one repeats. A longer Retry-After wins.
    """

    def __init__(self, where: Where, limit_s: float | None, pauses_s: Sequence[float]) -> None:
        self.where = where
        self._limit_s = inf if limit_s is None else limit_s
        self._pauses_s = pauses_s
        self._started = perf_counter()
        self._tries = 0
        self.pause_s = 0.0

    def news(self, refusal: ProviderError) -> ModelLoading:
        """What to tell before the next pause. Raises ModelLoadingError when the limit is over."""
        waited_s = perf_counter() - self._started if self._tries else 0.0
        left_s = self._limit_s - waited_s
        if left_s <= 0:
            error = self.where.error(
                ModelLoadingError,
                f"the server was still loading the model after {self._limit_s:g} s "
                "(option first_token_timeout_s, else timeout)",
                status=refusal.status,
            )
            error.retry_limit = 0  # as long again would help nobody: the next model is tried
            raise error
        pause_s = self._pauses_s[min(self._tries, len(self._pauses_s) - 1)]
        self.pause_s = min(max(pause_s, refusal.retry_after_s or 0.0), left_s)
        self._tries += 1
        return ModelLoading(self.where.model, self.where.base_url, waited_s)

    async def pause(self) -> None:
        await asyncio.sleep(self.pause_s)
