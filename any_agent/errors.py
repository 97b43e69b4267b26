"""One tree of errors. They carry names, ids and numbers, never objects of ours; all of them pickle.

AnyAgentError
├── ConfigurationError        an option or setting is wrong: field, value, allowed      (also a ValueError)
├── InvalidInputError         what was handed to a call is wrong                        (also a ValueError)
├── MissingExtraError         an optional package is needed: says the pip line          (also an ImportError)
├── ProviderError             the way to a model: provider, model, base_url, status
│   ├── ServerUnreachableError    nobody answers there (refused, DNS, TLS)              retried once
│   ├── ProviderTimeoutError      the server stayed silent too long                     retried if undelivered
│   ├── ServerError               5xx without a better reason                           retried
│   ├── ModelLoadingError         the model is loading for longer than was waited
│   ├── RateLimitError            429; retry_after_s                                    retried
│   ├── StreamInterruptedError    the stream ended without its end                      retried if undelivered
│   ├── InvalidResponseError      HTML, broken JSON, no choices                         retried once
│   ├── EmptyResponseError        a proper end, but nothing was said                    retried once
│   ├── AuthenticationError       401, missing or wrong key
│   ├── PermissionDeniedError     403
│   ├── QuotaExceededError        402, insufficient quota
│   ├── ModelNotFoundError        the server does not know the model
│   ├── ContextOverflowError      the prompt does not fit: current_tokens, max_tokens
│   ├── ContentPolicyError        the provider refused the content
│   ├── ToolsUnsupportedError     the model cannot take tools
│   ├── RequestRejectedError      any other 4xx, or a template that cannot render the request
│   └── AllModelsFailedError      the model and all its fallbacks failed: attempts
├── ToolError
│   ├── ToolNotFoundError · ToolInputError · ToolExecutionError · ToolTimeoutError · ToolUnavailableError
├── OutputError               no valid structured output: text, reasons
├── SessionError
│   └── SessionBusyError · SessionFencedError · SessionNotFoundError · SessionClosedError ·
│       InterruptedRunError · ApprovalPendingError
├── LimitError                a limit the user set was reached: limit, value
│   └── MaxTurnsError · LoopDetectedError · BudgetExceededError
├── TapeMismatchError         a replayed run asks something else than the recorded one: call_number, difference
├── HookAbortedError          a hook refused the prompt                                 (also a RuntimeError)
└── MemoryStoreError
"""

from __future__ import annotations

from typing import Any, ClassVar


class AnyAgentError(Exception):
    """Root of the tree. Named values are attributes, given by keyword.

    `next_step` is what to do about this kind; a message that knows better says it in a line `  fix: …` of its own.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()
    next_step: ClassVar[str] = ""

    def __init__(self, message: str = "", **values: Any) -> None:
        super().__init__(message)
        self.message = message
        for name in self.FIELDS:
            setattr(self, name, values.pop(name, None))
        if values:
            raise TypeError(f"{type(self).__name__} has no field {sorted(values)[0]!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (type(self), self.message, {k: v for k, v in self.__dict__.items() if k != "message"})


def _rebuild_error(cls: type[AnyAgentError], message: str, values: dict[str, Any]) -> AnyAgentError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.message = message
    error.__dict__.update(values)
    return error


class ConfigurationError(AnyAgentError, ValueError):
    """A setting is wrong. Names the field, the value and what is allowed."""

    FIELDS: ClassVar[tuple[str, ...]] = ("field", "value", "allowed")
    field: str | None
    value: Any
    allowed: str | None


class InvalidInputError(AnyAgentError, ValueError):
    """What was handed to a call is wrong."""

    FIELDS: ClassVar[tuple[str, ...]] = ("field", "value")
    field: str | None
    value: Any


class MissingExtraError(AnyAgentError, ImportError):
    """An optional package is not installed. The message holds the pip line."""

    FIELDS: ClassVar[tuple[str, ...]] = ("extra",)
    extra: str | None


class ProviderError(AnyAgentError):
    """The way to a model failed. `retryable` tells whether the same request can work later.

    Attributes: provider, model, base_url, status (HTTP), retry_after_s, delivered_chars (text that had reached the
    caller), attempts (all tries of this run), original_error (text of the cause; never the object).
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        "provider",
        "original_error",
        "model",
        "base_url",
        "status",
        "retry_after_s",
        "delivered_chars",
        "attempts",
    )
    is_retryable_by_kind: ClassVar[bool] = False
    retry_limit: int | None = None  # at most so many retries, whatever max_retries says

    provider: str | None
    model: str | None
    base_url: str | None
    status: int | None
    retry_after_s: float | None

    def __init__(
        self, message: str = "", provider: str | None = None, original_error: Any = None, **values: Any
    ) -> None:
        super().__init__(message, provider=provider, **values)
        self.original_error: str | None = None if original_error is None else str(original_error)
        self.delivered_chars: int = self.delivered_chars or 0
        self.attempts: tuple[Any, ...] = tuple(self.attempts or ())

    @property
    def retryable(self) -> bool:
        return self.is_retryable_by_kind and self.delivered_chars == 0


class ServerUnreachableError(ProviderError):
    """Nobody answers at base_url."""

    next_step = "check base_url, and that the server runs."
    is_retryable_by_kind = True
    retry_limit = 1


class ProviderTimeoutError(ProviderError):
    """The server stayed silent for longer than `first_token_timeout_s` or `gap_timeout_s` seconds."""

    next_step = "give it more time (first_token_timeout_s, gap_timeout_s), or use a smaller model."
    is_retryable_by_kind = True


class ServerError(ProviderError):
    """The server failed (5xx)."""

    next_step = "look into the server's log; fallback_models can answer meanwhile."
    is_retryable_by_kind = True


class ModelLoadingError(ServerError):
    """The server is loading the model. A 503 that says so is waited for; this is raised when it takes too long."""

    next_step = "wait until it is loaded, or raise first_token_timeout_s."


class RateLimitError(ProviderError):
    """Too many requests; `retry_after_s` when the server told it."""

    next_step = "wait, ask fewer things at a time, or add fallback_models."
    is_retryable_by_kind = True


class StreamInterruptedError(ProviderError):
    """The stream ended without its end; `delivered_chars` of text had reached the caller."""

    next_step = "ask again; if it comes back, look for a proxy that cuts, or a server that crashes."
    is_retryable_by_kind = True


class InvalidResponseError(ProviderError):
    """The server's bytes are no answer: HTML, broken JSON, no choices."""

    next_step = "check base_url (most servers want it to end in /v1); if it is right, update the server."
    is_retryable_by_kind = True
    retry_limit = 1


class EmptyResponseError(ProviderError):
    """The stream ended properly but held no text, no reasoning and no tool call."""

    next_step = "ask again, or use another model; one that reasons first needs a larger max_tokens."
    is_retryable_by_kind = True
    retry_limit = 1


class AuthenticationError(ProviderError):
    """The key is missing or wrong."""

    next_step = "pass api_key=… (command line: --api-key)."


class PermissionDeniedError(ProviderError):
    """The key may not do this (403)."""

    next_step = "use a key that may use this model, or another model."


class QuotaExceededError(ProviderError):
    """The account has no credit left (402, insufficient_quota): waiting does not help."""

    next_step = "pay, or use another provider; waiting does not help."


class ModelNotFoundError(ProviderError):
    """The server does not know the model."""

    next_step = "load the model on the server, or name one that it lists (any-agent doctor)."


class ContextOverflowError(ProviderError):
    """The prompt does not fit the window: `current_tokens` of `max_tokens` (None: the server told none)."""

    next_step = "shorten the prompt, clear() the session, or serve the model with a larger window."
    FIELDS: ClassVar[tuple[str, ...]] = (*ProviderError.FIELDS, "current_tokens", "max_tokens")

    def __init__(
        self, message: str = "", current_tokens: int | None = None, max_tokens: int | None = None, **values: Any
    ) -> None:
        super().__init__(message, current_tokens=current_tokens, max_tokens=max_tokens, **values)
        self.current_tokens: int | None = current_tokens
        self.max_tokens: int | None = max_tokens


class ContentPolicyError(ProviderError):
    """The provider refused the content."""

    next_step = "change the prompt, or use another model."


class ToolsUnsupportedError(ProviderError):
    """The model or server cannot take `tools`."""

    next_step = (
        "start the server with tools (llama-server --jinja, vLLM --enable-auto-tool-choice), or pass "
        "tool_mode='prompt' or enable_tools=False."
    )


class RequestRejectedError(ProviderError):
    """The server refuses this request and always will."""

    next_step = "change or leave out what it names: an option, a message or a tool."


class AllModelsFailedError(ProviderError):
    """The model and every fallback failed; `attempts` lists each try."""

    next_step = "mend one of them; `attempts` tells why each failed."


class ToolError(AnyAgentError):
    """A tool call went wrong."""

    FIELDS: ClassVar[tuple[str, ...]] = ("tool_name", "original_error")
    tool_name: str | None

    def __init__(
        self, message: str = "", tool_name: str | None = None, original_error: Any = None, **values: Any
    ) -> None:
        super().__init__(message, tool_name=tool_name, **values)
        self.original_error: str | None = None if original_error is None else str(original_error)


class ToolNotFoundError(ToolError):
    """No tool of that name is registered."""


class ToolInputError(ToolError):
    """The arguments do not fit the tool's schema."""


class ToolExecutionError(ToolError):
    """The tool itself failed."""


class ToolTimeoutError(ToolExecutionError):
    """The tool ran longer than its timeout."""


class ToolUnavailableError(ToolExecutionError):
    """The tool could not begin: nothing was done, so the same call may be tried again. Tools raise it."""


class OutputError(AnyAgentError):
    """No valid structured output. `text` is what the model said, `reasons` why it does not fit."""

    next_step = "ask more clearly, or use a better model; `text` is what it said, `reasons` why it does not fit."
    FIELDS: ClassVar[tuple[str, ...]] = ("text", "reasons")


class SessionError(AnyAgentError):
    """A session cannot do that now."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_id",)
    session_id: str | None


class SessionBusyError(SessionError):
    """Another run of the same session is going on; `holder` names it where a store knows."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_id", "holder")
    holder: str | None


class SessionFencedError(SessionError):
    """Somebody else took the session over; nothing was written. Resume it to go on."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_id", "holder")
    holder: str | None


class SessionNotFoundError(SessionError):
    """No kept session has this id."""


class SessionClosedError(SessionError):
    """The session was closed."""


class InterruptedRunError(SessionError):
    """The run was interrupted; `partial_text` is what had arrived."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_id", "partial_text")


class LimitError(AnyAgentError):
    """A limit the user set was reached: `limit` names it, `value` is the number."""

    FIELDS: ClassVar[tuple[str, ...]] = ("limit", "value")


class MaxTurnsError(LimitError):
    """`max_turns` or `max_tool_iterations` was reached before the model finished."""

    next_step = "raise the limit, or look why the model does not finish."


class LoopDetectedError(LimitError):
    """The model repeats the same call, though it was told: `tool_name`, `arguments`, `count` (calls since the user)."""

    next_step = "make the prompt or the tool's result clearer; a tool that polls takes may_repeat=True."
    FIELDS: ClassVar[tuple[str, ...]] = (*LimitError.FIELDS, "tool_name", "arguments", "count")


class BudgetExceededError(LimitError):
    """The budget in tokens, seconds or USD is used up."""


class ApprovalPendingError(SessionError):
    """Tool calls wait for somebody's approval; answer them, then `receive()` goes on. `approval_ids` names them."""

    FIELDS: ClassVar[tuple[str, ...]] = ("session_id", "approval_ids")
    approval_ids: tuple[str, ...] | None


class TapeMismatchError(AnyAgentError):
    """A replayed run asks something that is not on the tape: `path`, `call_number`, `difference` (the first one)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("path", "call_number", "difference")


class HookAbortedError(AnyAgentError, RuntimeError):
    """A hook refused the prompt."""

    FIELDS: ClassVar[tuple[str, ...]] = ("reason",)


class MemoryStoreError(AnyAgentError):
    """The store of sessions and memory failed; the message says what to do next.

    Attributes: path (the file or server), reason (locked, corrupt, read_only, disk_full, io, newer_schema,
    foreign_file, unavailable).
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("path", "reason")
    path: str | None
    reason: str | None


# Other names of two of them; they shadow well-known names, so they stay out of __all__.
MemoryError = MemoryStoreError
ValidationError = InvalidInputError

__all__ = [
    name
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, AnyAgentError) and value.__name__ == name
]
