"""An answer in which nothing was said: what the server's own figures tell of the cause."""

from __future__ import annotations

from typing import Any

from ..errors import EmptyResponseError
from ..types import ModelRequest, Usage
from .failures import Where

_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict", "num_predict", "max_new_tokens")


def empty_answer(
    where: Where, request: ModelRequest | None, finish_reason: str | None, usage: Usage | None
) -> EmptyResponseError:
    """The error of an answer without a word.

    A token limit that was used up is named, and not asked into again (`retry_limit` 0). One that was not can only be
    the window: that is left to whoever fits prompts, and tried once more.

    Args:
        usage: what the server counted; None: it told nothing.
    """
    said = f"the answer is empty (finish_reason {finish_reason or 'none'})"
    written = usage.output_tokens if usage else None
    name, most = answer_limit(request)
    if finish_reason != "length":
        return _error(where, f"{said}; the prompt may be too long for the model")
    if most is not None and written is not None and written >= most:
        used = f"{said}: {name}={most} was used up before a word came"
        return _error(where, f"{used}\n  fix: raise {name}, or leave it out.", retry_limit=0)
    if most is None and written is not None and written > 1:
        used = f"{said}: the server ended it at {written} tokens, its own limit, before a word came"
        return _error(where, f"{used}\n  fix: pass a larger max_tokens, or raise the server's own.", retry_limit=0)
    if written is None:
        limit = f"{name}={most}" if most is not None else "the server's own limit"
        told = f"{said}: {limit} may be too small, or the prompt leaves no room in the window"
        return _error(where, f"{told}\n  fix: {'raise' if most else 'pass a larger'} {name}, or shorten the prompt.")
    told = f"{said}: the prompt may be too long for the model, and leave no room for an answer"
    return _error(where, f"{told}\n  fix: shorten the prompt, or serve the model with a larger window.")


def answer_limit(request: ModelRequest | None) -> tuple[str, int | None]:
    """The smallest limit that the request sets for the answer, by its name; None: it sets none."""
    if request is None:
        return "max_tokens", None
    set_here: dict[str, Any] = {**request.params, **request.extra_body}
    told = {n: set_here[n] for n in _LIMITS if isinstance(set_here.get(n), int) and set_here[n] > 0}
    name = min(told, key=lambda one: told[one], default="max_tokens")
    return name, told.get(name)


def _error(where: Where, message: str, *, retry_limit: int = 1) -> EmptyResponseError:
    error = where.error(EmptyResponseError, message)
    error.retry_limit = retry_limit
    assert isinstance(error, EmptyResponseError)
    return error
