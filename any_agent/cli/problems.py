"""What went wrong, in two to six lines, and the exit code that says its kind."""

from __future__ import annotations

import re
import sys
from typing import Any

from ..errors import (
    AllModelsFailedError,
    AnyAgentError,
    ApprovalPendingError,
    AuthenticationError,
    ConfigurationError,
    ContextOverflowError,
    HookAbortedError,
    InterruptedRunError,
    LimitError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerUnreachableError,
    ToolsUnsupportedError,
)
from .common import Common
from .terminal import say_json, tell

FAILED, USAGE, NO_PROVIDER, REFUSED, LIMIT, INTERRUPTED = 1, 2, 3, 4, 5, 130

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigurationError, USAGE),
    (InterruptedRunError, INTERRUPTED),
    (ServerUnreachableError, NO_PROVIDER),
    (AuthenticationError, NO_PROVIDER),
    (PermissionDeniedError, NO_PROVIDER),
    (QuotaExceededError, NO_PROVIDER),
    (HookAbortedError, REFUSED),
    (ApprovalPendingError, REFUSED),
    (LimitError, LIMIT),
)
_NO_PROVIDER_NAMES = frozenset(kind.__name__ for kind, code in _CODES if code == NO_PROVIDER)


def exit_code(error: BaseException) -> int:
    """The exit code of an error: 2 usage, 3 no provider or key, 4 refused, 5 a limit, 130 interrupted, else 1."""
    if isinstance(error, AllModelsFailedError) and error.attempts:
        kinds = {getattr(attempt, "error_type", None) for attempt in error.attempts}
        return NO_PROVIDER if kinds <= _NO_PROVIDER_NAMES else FAILED
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return FAILED


_OUR_WORDS = (  # the library speaks to programs
    (re.compile(r"make one with Agent\(…, record=.*\)"), "make one with any-agent run --record FILE"),
    (re.compile(r"by argument \(Agent\('([^']*)'\), --model\)"), r"by --model (e.g. \1)"),
    (re.compile(r"api_key=… \(command line: --api-key\)"), "--api-key"),
    (re.compile(r"; answer_approval\(…\), then receive\(\)"), ""),
)


def in_our_words(text: str) -> str:
    """An error's text for somebody who sits at a command line."""
    for theirs, ours in _OUR_WORDS:
        text = theirs.sub(ours, text)
    return text


def report(error: Exception, common: Common) -> int:
    """Tell the user; returns the exit code."""
    code = exit_code(error)
    if common.debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if common.json:
        say_json({"error": as_dict(error), "exit_code": code})
    first, *rest = lines_of(error, common)
    tell(f"✗ {first}", style="red")
    for line in rest:
        tell(line)
    return code


def report_interrupt(common: Common) -> None:
    if common.json:
        say_json({"error": {"type": "KeyboardInterrupt", "message": "interrupted"}, "exit_code": INTERRUPTED})
    tell("✗ interrupted", style="red")


def as_dict(error: BaseException) -> dict[str, Any]:
    """An error for machines: type, message and its plain fields."""
    told: dict[str, Any] = {"type": type(error).__name__, "message": in_our_words(_said(error))}
    for name in ("field", "provider", "model", "base_url", "status", "retry_after_s", "limit", "extra"):
        value = getattr(error, name, None)
        if isinstance(value, (str, int, float)):
            told[name] = value
    return told


def lines_of(error: BaseException, common: Common) -> list[str]:
    """The text for people, two to six lines."""
    ending = "" if common.debug else "  ·  --debug for the traceback"
    if isinstance(error, OSError) and error.strerror and error.filename and not isinstance(error, AnyAgentError):
        return [f"{error.filename}: {_short(error.strerror)}", f"  more:  the system refused it{ending}"]
    if not isinstance(error, AnyAgentError):
        whose = "the system refused it" if isinstance(error, OSError) else "this may be a bug"
        return [f"{type(error).__name__}: {_short(str(error))}", f"  more:  {whose}{ending}"]
    lines = [line for line in _message(error) if not line.lstrip().startswith("more:")]
    lines = [line for line in lines if line.strip() != f"fix: {error.next_step}"]  # said in this program's words below
    fix = _fix(error)
    if fix and not any(line.lstrip().startswith("fix:") for line in lines):  # the model doors' errors bring their own
        lines.append(f"  fix:   {fix}")
    return [*lines[:5], f"  more:  {_more(error)}{ending}"]


def _fix(error: AnyAgentError) -> str:
    """What to do about it, in this program's words."""
    match error:
        case ServerUnreachableError():
            return "start it (e.g. `ollama serve`), or pass --base-url URL"
        case AllModelsFailedError():
            return "start a server (e.g. `ollama serve`), or pass --model, --base-url or a key"
        case AuthenticationError() | PermissionDeniedError():
            return f"set {key_variable(error.provider)}, or pass --api-key"
        case ModelNotFoundError():
            return "pass --model with a name that the server knows"
        case ContextOverflowError():
            return "shorten the prompt, or load the model with a larger context window"
        case QuotaExceededError() | RateLimitError():
            wait = f"wait {error.retry_after_s:.0f} s, or " if error.retry_after_s else ""
            return f"{wait}add another model: --model A --model B"
        case ProviderTimeoutError():
            return "give the server more time (options: timeout: seconds), or use a smaller model"
        case ToolsUnsupportedError():
            return "use a model that was trained for tools"
        case ApprovalPendingError():
            return "any-agent approvals, then any-agent approvals allow ID (or deny ID)"
        case LimitError():
            return f"raise {getattr(error, 'limit', None) or 'the limit'}"
        case _:
            return str(getattr(error, "next_step", ""))


def _said(error: BaseException) -> str:
    """Its own message; what to do stands apart, in this program's words."""
    return error.message if isinstance(error, AnyAgentError) else str(error)


def _more(error: AnyAgentError) -> str:
    match error:
        case ConfigurationError():
            return "any-agent config show tells where each setting comes from"
        case AuthenticationError() | PermissionDeniedError():
            return "any-agent config show tells which key is used, and why"
        case ServerUnreachableError() | AllModelsFailedError():
            return "any-agent doctor  ·  no model at all? any-agent demo"
        case _:
            return "any-agent doctor"


def _message(error: AnyAgentError) -> list[str]:
    text = in_our_words(_said(error)) or type(error).__name__
    first, *rest = [_short(line) for line in text.splitlines() if line.strip()]
    lines = [first, *(f"  {line.strip()}" for line in rest[:5])]
    if isinstance(error, ConfigurationError) and error.field == "model" and error.value is None:
        lines += _servers_here()
    return lines


def _servers_here() -> list[str]:
    """What could be asked instead, when no model was named."""
    import asyncio

    from ..models.servers import best_model, discover

    try:
        best = best_model(asyncio.run(discover()))
    except ConfigurationError:
        return []
    if best is None:
        return []
    server, model = best
    return [f"  here:  a server runs: --base-url {server.base_url} --model {model.id}"]


def key_variable(provider: str | None) -> str:
    """The environment variables that bring a provider's key, in words."""
    from ..config.providers import known_provider

    known = known_provider(provider)
    return known.key_env[0] if known and known.key_env else "ANY_AGENT_API_KEY together with ANY_AGENT_BASE_URL"


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
