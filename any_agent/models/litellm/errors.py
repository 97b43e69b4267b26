"""What LiteLLM's errors mean: told by cause and text, because its classes lie.

It reports a refused connection and a missing key as a 500, and a stalled stream as a broken connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import (
    InvalidResponseError,
    ProviderError,
    ProviderTimeoutError,
    RequestRejectedError,
    StreamInterruptedError,
)
from .. import failures
from ..failures import Where

_NOISE = re.compile(r"^\s*(litellm\.)?\w*(Error|Exception|Timeout)\b\s*[:-]\s*", re.I)
_DROP_HINT = re.compile(r"\.? ?To drop these, set .*", re.S)


def explained(error: BaseException, where: Where, *, has_begun: bool) -> ProviderError:
    """Our error for LiteLLM's. `has_begun`: the server had answered with a stream."""
    import httpx

    causes = list(_causes(error))
    text = _text(causes)
    said = next((cause for cause in causes if isinstance(cause, httpx.HTTPStatusError)), None)
    if said is not None:
        headers = {**said.response.headers, **(getattr(error, "litellm_response_headers", None) or {})}
        return failures.from_answer(where, said.response.status_code, text, headers)
    network = next((cause for cause in causes if isinstance(cause, (httpx.TransportError, httpx.InvalidURL))), None)
    if network is not None:
        return _network(network, causes, where, has_begun=has_begun)
    # No answer and no network: LiteLLM refused by itself, or an event of the stream was an error or could not be read.
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or status in (200, 500):
        status = None  # invented
    otherwise: type[ProviderError] | None = None if status else RequestRejectedError
    if has_begun:
        is_unreadable = any(isinstance(cause, (LookupError, TypeError, ValueError, AttributeError)) for cause in causes)
        is_unreadable = is_unreadable or "repeating the same chunk" in str(error)
        otherwise = InvalidResponseError if is_unreadable else None
    return failures.from_answer(where, status, text, in_stream=has_begun, otherwise=otherwise)


def is_end_without_reason(error: BaseException) -> bool:
    """LiteLLM (from 1.109 on) says that a stream ended without a finish_reason."""
    return "before a finish_reason" in str(error)


def _network(network: Exception, causes: list[BaseException], where: Where, *, has_begun: bool) -> ProviderError:
    import ssl

    import httpx

    # aiohttp's errors are OSErrors too, and speak of SSLContext objects
    told = [str(c) for c in causes if isinstance(c, OSError) and not type(c).__module__.startswith("aiohttp")]
    why = (told[-1] if told else "") or str(network) or type(network).__name__
    if isinstance(network, httpx.ConnectTimeout):
        why = "no connection in time, option connect_timeout_s"
    first = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.InvalidURL)
    if not has_begun and (isinstance(network, first) or any(isinstance(c, ssl.SSLError) for c in causes)):
        return failures.unreachable(where, why)
    if isinstance(network, httpx.TimeoutException):
        return where.error(ProviderTimeoutError, f"the server stayed silent ({why})")
    return where.error(StreamInterruptedError, f"the connection broke in the answer ({type(network).__name__}: {why})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all it came from, nearest first."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting and len(seen) < 50:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [getattr(cause, "original_exception", None), cause.__cause__, cause.__context__]


def _text(causes: list[BaseException]) -> Any:
    """The server's own words where they are kept, else LiteLLM's without its prefixes."""
    for cause in causes:
        body = getattr(cause, "body", None)
        if isinstance(body, Mapping) and body:
            return body if "error" in body else {"error": body}
        if isinstance(body, str) and body:
            return body
    for cause in reversed(causes):
        message = getattr(cause, "message", None)
        if type(cause).__module__.startswith("litellm.llms.") and isinstance(message, str) and message:
            return message
    text = str(getattr(causes[0], "original_exception", None) or causes[0]).split("Traceback (most recent call last)")[
        0
    ]
    while (plain := _NOISE.sub("", text)) != text:
        text = plain
    return _DROP_HINT.sub("; to leave them out pass litellm_kwargs={'drop_params': True}", text)
