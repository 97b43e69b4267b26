"""One table that maps every failure to our tree, by cause and text, shared by both doors.

The text decides before the status: servers report a context overflow as 400, 413, 500 or inside a 200 stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import (
    AuthenticationError,
    ContentPolicyError,
    ContextOverflowError,
    InvalidResponseError,
    ModelLoadingError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
    ToolsUnsupportedError,
)
from .halves import mended, whole

RETRY_AFTER_CAP_S = 120.0
_SHOWN_CHARS = 600
_READ_CHARS = 4000  # a server says what is wrong in its first words


@dataclass(frozen=True, slots=True)
class Where:
    """Which model was asked, where. `secrets` never appear in an error's text."""

    model: str
    provider: str | None = None
    base_url: str | None = None
    secrets: tuple[str, ...] = ()

    def error(self, kind: type[ProviderError], message: str, **values: Any) -> ProviderError:
        """A ProviderError that names this place, and what to do next."""
        place = f" at {self.base_url}" if self.base_url else f" ({self.provider})" if self.provider else ""
        fix = "" if not kind.next_step or "\n  fix: " in message else f"\n  fix: {kind.next_step}"
        text = _redacted(whole(f"{self.model}{place}: {message}{fix}"), self.secrets)
        return kind(text, provider=self.provider, model=self.model, base_url=self.base_url, **mended(values))


# ------------------------------------------------------------------ the table

_RATE = re.compile(
    r"(tokens?|requests?)[ _-]?per[ _-]?(minute|min|day|hour|second)|per-(minute|day)|\bTPM\b|\bTPD\b|\bRPM\b"
    r"|rate[ _-]?limit|please wait before", re.I
)  # fmt: skip
_RATE_NUMBERS = re.compile(r"limit:? (\d+).{0,60}?requested:? (\d+)", re.I | re.S)
_OVERFLOW = (
    r"exceed_context_size|context_length_exceeded|ContextWindowExceeded"
    # the window, and a word that says the prompt is beyond it, in either order
    r"|context[ _](length|size|window|limit).{0,120}?"
    r"\b(exceeded|longer|greater|larger|only|overflow\w*|shorten\w*|reduce|enough|currently available"
    r"|tokens?\b.{0,9}however)"
    r"|\b(exceed\w*|longer|greater|larger|more|fit|fits|reached|keep\b.{0,40}when|too (large|long|big))\b.{0,80}?"
    r"context([ _](length|size|window|limit)|\b.{0,9}overflows)"
    r"|(maximum|available) (context|prompt|model|sequence) (length|size|window)"
    r"|\b(prompt|inputs?|request|sequence)( is| are)? (too (long|large) for|longer than|exceeds? the (model|context))"
    r"|prompt is too long|input token count.{0,40}?exceeds|tokens in the (prompt|input).{0,40}?exceed"
    r"|(?<!your )\b(input|prompt) tokens?\b.{0,20}exceed"
    r"|inputs.{0,3} tokens \+ .{0,3}max_new_tokens.{0,3} must be"
    r"|reduce the (length|size) of (the|your) (messages?|prompt|input)|too many (input |prompt )?tokens"
)
# The answer's length is at fault, not the prompt's: dropping history would not help.
_NOT_OVERFLOW = re.compile(
    r"(?<!\+ .)\bmax_\w*tokens\W{0,2}( or \W?max_\w*tokens\W{0,2})? ?(is too (large|big|high)|must|should|\d+ >)"
    r"|physical batch size",
    re.I,
)
# The prompt's length after all: it does not fit beside the answer (then the answer may be shorter), or alone.
_SURELY_OVERFLOW = re.compile(
    r"maximum context length is \d+ tokens and your request has \d+ input tokens|max_tokens must be at least 1, got -"
    r"|max_tokens=\d+ cannot be greater than max_model_len",
    re.I,
)
# Read without regard to case; compiled when something has gone wrong for the first time.
_TEXTS: tuple[tuple[str, type[ProviderError]], ...] = (
    (r"(does|do)(n['’]t| not) support (any |the |native )?(tools?\b|tool[ _-](us|call)|function)"
     r"|support parameters:? \[[^]]*'tools'|unsupported param\w*:? ?\W?tools?\b"
     r"|\b(tools?|(tool|function)[ _-](use|usage|call\w*))\b\W{0,2}(is|are) (not (currently )?"
     r"(supported|enabled|available)|unsupported|disabled)"
     r"|'tools'.{0,60}not permitted|not permitted.{0,9}\btools\b"
     r"|\btool\w*\b.{0,9}(param\w* )?(requires?|needs?|only supported with).{0,9}--jinja"
     r"|tool.{0,20}choice.{0,20}requires|no endpoints found that support tool",
     ToolsUnsupportedError),
    # not "error loading model", which is final
    (r"^(?!.*\b(error|exception|fail\w*|unable|cannot|could not|crash\w*|timed out)( \w+){0,2} load)"
     r".*(loading (the )?model|\bmodel\b.{0,80}?\bis (currently |still )?(loading|being loaded)"
     r"|still loading|warming up)", ModelLoadingError),
    (r"insufficient[_ ]quota|exceeded your current quota|credit balance|plan and billing|billing_(hard|not)"
     r"|billing (is )?not active|payment required|insufficient (funds|balance|credit)",
     QuotaExceededError),
    (r"content[_ ]?(policy|filter|management)|usage polic|invalid_prompt|safety system",
     ContentPolicyError),
    (r"missing credentials|default credentials|unable to locate credentials|no api key"
     r"|api[_ ]?key.{0,40}(missing|required|must be set|not (set|provided|found|valid)|invalid)"
     r"|(invalid|incorrect|missing|wrong).{0,12}api[_ ]?key|authentication_error|unauthorized",
     AuthenticationError),
    (r"\bmodels?\b\W{0,3}(with \w+ )?\W?[\w./:@-]*\W{0,3}(is |was )?"
     r"(not (found|available|loaded|supported)|unknown|does not exist|doesn't exist)|model[ _]not[ _]found"
     r"|no models? (is |are )?(loaded|found)|no such model|unknown model|not a valid model"
     r"|no endpoints found|pinned to|LLM Provider NOT provided|404 client error", ModelNotFoundError),
    (r"jinja|unable to generate parser|roles? must alternate|chat template|physical batch size"
     r"|failed to parse tool call arguments|image input is not supported|not_supported_error"
     r"|invalid_request_error", RequestRejectedError),
)  # fmt: skip
_STATUSES: Mapping[int, type[ProviderError]] = {
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    408: ProviderTimeoutError,
    409: ServerError,
    425: ServerError,
    429: RateLimitError,
    501: RequestRejectedError,
    504: ProviderTimeoutError,
    524: ProviderTimeoutError,
}


def from_answer(
    where: Where,
    status: int | None,
    body: str | Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    *,
    in_stream: bool = False,
    otherwise: type[ProviderError] | None = None,
) -> ProviderError:
    """The error that a server's own words mean.

    Args:
        status: HTTP status; 200 when the error came inside a healthy-looking answer; None: there was no answer.
        body: the answer's text, or its decoded JSON.
        in_stream: the error came as an event of a stream that had begun.
        otherwise: what it is when the text tells nothing; None: the status decides.
    """
    said = _read(body)
    values: dict[str, Any] = {"status": status, "retry_after_s": retry_after_s(headers or {})}
    code = status or 500
    about = f"{said.text[:_READ_CHARS]} {said.kind} {said.code}"
    if said.is_overflow or _is_overflow(about, code):
        return overflow(where, said.text or about, status=status, fields=said.fields)
    kind = _kind_by_text(about, code) or otherwise or _kind_by_status(code, in_stream)
    hint = _hint(kind, where, status, values["retry_after_s"])
    shown = said.text or f"HTTP {status} with an empty body"
    prefix = "the server said in its stream: " if in_stream else f"HTTP {status}: " if status else ""
    return where.error(kind, f"{prefix}{shown[:_SHOWN_CHARS]}{hint}", **values)


def overflow(
    where: Where, text: str, *, status: int | None = None, fields: Mapping[str, Any] | None = None
) -> ProviderError:
    """A ContextOverflowError with the numbers the server told."""
    current, maximum = _overflow_numbers(text, fields or {})
    is_answer = current is not None and maximum is not None and current < maximum
    fix = "\n  fix: lower max_tokens, or shorten the prompt." if is_answer else ""
    what = "prompt and answer together do not fit" if is_answer else "the prompt does not fit"
    return where.error(
        ContextOverflowError,
        f"{what} the model's window: {text[:_SHOWN_CHARS]}{fix}",
        status=status,
        current_tokens=current,
        max_tokens=maximum,
    )


def unreachable(where: Where, cause: str) -> ProviderError:
    """Nobody answers: says what to start; or that the two do not agree on TLS."""
    if "SSL" not in cause:
        from . import next_steps

        more = "\n  more: any-agent doctor   ·   no model at all? any-agent demo"
        said = f"no server answered ({cause}).\n  fix: {next_steps.for_start(where.base_url)}{more}"
        return where.error(ServerUnreachableError, said, original_error=cause)
    fix = "if it speaks plain HTTP, begin base_url with http://"
    if "CERTIFICATE" in cause:
        fix = "set SSL_CERT_FILE to a file with the certificate that signed the server's, before the start"
    said = f"no secure connection to the server ({cause}).\n  fix: {fix}."
    return where.error(ServerUnreachableError, said, original_error=cause)


def no_answer(where: Where, what: str, **values: Any) -> ProviderError:
    """Something answers, but not as a model server does: a web page, mostly."""
    from . import next_steps

    return where.error(InvalidResponseError, f"{what}\n  fix: {next_steps.for_address(where.base_url)}", **values)


def with_next_step(error: ProviderError) -> ProviderError:
    """The same error, with what to do about its kind, unless it says so already."""
    if error.next_step and error.message and "\n  fix: " not in error.message:
        error.message += f"\n  fix: {error.next_step}"
        error.args = (error.message,)
    return error


def _kind_by_text(text: str, status: int) -> type[ProviderError] | None:
    if status in (401, 402, 403):
        return None
    if status in (413, 429) and _RATE.search(text):
        numbers = _RATE_NUMBERS.search(_plain_numbers(text))
        if numbers and int(numbers[2]) > int(numbers[1]):
            return RequestRejectedError  # more than a whole minute's allowance: waiting does not help
        if status == 413:
            return RateLimitError
    for pattern, kind in _TEXTS:
        if re.search(pattern, text, re.I | re.S) and not (
            status == 429 and kind in (ModelNotFoundError, RequestRejectedError)
        ):
            return kind
    return None


def _kind_by_status(status: int, in_stream: bool) -> type[ProviderError]:
    if status in _STATUSES:
        return _STATUSES[status]
    if 300 <= status < 400:
        return RequestRejectedError
    if status >= 500 or in_stream or status < 400:
        return ServerError
    return RequestRejectedError


def _is_overflow(text: str, status: int) -> bool:
    if status in (401, 402, 403, 404) or (status == 429 and "context_length" not in text):
        return False
    if _SURELY_OVERFLOW.search(text):
        return True
    if _RATE.search(text) or _NOT_OVERFLOW.search(text):
        return False
    return bool(re.search(_OVERFLOW, text, re.I | re.S))


def _hint(kind: type[ProviderError], where: Where, status: int | None, wait_s: float | None) -> str:
    """The cure that this place or status needs; '': the kind's own, which every error of it tells."""
    from . import next_steps

    if kind is AuthenticationError:
        fix = next_steps.for_key(where.provider, where.base_url, was_sent=bool(where.secrets))
    elif kind is RequestRejectedError and status is not None and 300 <= status < 400:
        fix = "give the final address as base_url."
    elif kind is RequestRejectedError and status in (404, 405):
        fix = f"nothing is served at this path; {next_steps.for_address(where.base_url)}"
    elif kind is RateLimitError and wait_s:
        fix = f"wait {wait_s:.0f} s, ask fewer things at a time, or add fallback_models."
    else:
        return ""
    return f"\n  fix: {fix}"


# ------------------------------------------------------------------ reading what was said


@dataclass(frozen=True, slots=True)
class _Said:
    text: str = ""
    kind: str = ""
    code: str = ""
    fields: Mapping[str, Any] = None  # type: ignore[assignment]

    @property
    def is_overflow(self) -> bool:
        return self.kind == "exceed_context_size_error" or self.code == "context_length_exceeded"


def _read(body: str | Mapping[str, Any]) -> _Said:
    data: Any = body
    if isinstance(body, str):
        try:
            data = json.loads(body)
        except ValueError:
            text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", body, flags=re.S | re.I)
            return _Said(" ".join(text.split()), fields={})
    if isinstance(data, list) and data:  # Gemini wraps its error in a list
        data = data[0]
    error = data.get("error", data) if isinstance(data, Mapping) else data
    if not isinstance(error, Mapping):
        return _Said(str(error), fields={})
    text = error.get("message") or error.get("detail") or error.get("msg") or ""
    if not isinstance(text, str) or not text:
        text = json.dumps(text or error, ensure_ascii=False, default=str)
    kind, code = str(error.get("type") or ""), str(error.get("code") or "")
    if error.get("param") == "input_tokens":
        code = "context_length_exceeded"
    return _Said(text, kind, code, error)


_CURRENT = (
    r"(\d+) in the messages", r"(\d+) tokens from the input", r"(\d+) of text input", r"request has (\d+) input",
    r"limit: (\d+) \+", r"request \((\d+) tokens\)", r"input \((\d+) tokens\)", r"contains (?:at least )?(\d+)",
    r"passed (\d+) input", r"input has (\d+)", r"input length \((\d+)",
    r"requested tokens \((\d+)\)", r"requested (?:about )?(\d+) tokens",
    r"resulted in (\d+)", r"first (\d+) tokens", r"n_keep: ?(\d+)", r"prompt is too long: (\d+)", r"(\d+) tokens? >",
    r"\(length (\d+)\)", r"given: (\d+)", r"token count \((\d+)\)", r"received (\d+)",
)  # fmt: skip
_MAXIMUM = (
    r"max_model_len=(?:max_total_tokens=)?(\d+)", r"context size \((\d+)",
    r"context length (?:is|of) (?:only )?(\d+)", r"context length \((\d+)", r"supports (\d+)",
    r"n_ctx: ?(\d+)", r"context window of (\d+)", r"> (\d+)(?: maximum|, decrease)",
    r"(?:prompt|model) length (?:is|of) (\d+)",
    r"limit (?:is|of) (\d+)", r"only (\d+) tokens", r"window \((\d+)", r"must be <= (\d+)", r"with (\d+) maximum",
    r"allowed \((\d+)\)", r"cannot exceed (\d+)",
)  # fmt: skip


def _overflow_numbers(text: str, fields: Mapping[str, Any]) -> tuple[int | None, int | None]:
    plain = _plain_numbers(text[:_READ_CHARS])

    def first(patterns: tuple[str, ...]) -> int | None:
        found = (re.search(p, plain, re.I) for p in patterns)
        return next((int(m.group(1)) for m in found if m), None)

    current, maximum = fields.get("n_prompt_tokens"), fields.get("n_ctx")
    return (
        current if isinstance(current, int) else first(_CURRENT),
        maximum if isinstance(maximum, int) else first(_MAXIMUM),
    )


def _plain_numbers(text: str) -> str:
    return re.sub(r"(?<=\d)[,_](?=\d{3})", "", text)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After` (seconds or HTTP date), capped at 120; None: not told."""
    low = {str(k).lower(): str(v).strip() for k, v in headers.items()}
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = low.get(name)
        if not value:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            pass
        else:
            return None if seconds != seconds else min(max(seconds, 0.0), RETRY_AFTER_CAP_S)
        try:
            when = parsedate_to_datetime(value)
        except (TypeError, ValueError):
            continue
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return min(max((when - datetime.now(timezone.utc)).total_seconds(), 0.0), RETRY_AFTER_CAP_S)
    return None


def _redacted(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return re.sub(r"\b((sk|key|gsk|xai)[-_]|AIza)[A-Za-z0-9_-]{8,}|Bearer +\S+", "***", text)
