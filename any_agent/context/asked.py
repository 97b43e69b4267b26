"""What a request takes of the window: characters of its messages, and the tokens its answer may have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import ContextOverflowError, ProviderError
from ..types import ImageBlock, Message, ModelRequest, TextBlock, ToolResultBlock, ToolUseBlock

SHORT_CHARS = 1500  # shorter prompts fit nearly every window: nothing is counted and no server is asked about them
LEAST_ANSWER_TOKENS = 16
_LIMITS = ("max_tokens", "max_completion_tokens")


def chars_of(message: Message) -> int:
    """Characters a message brings to the prompt."""
    total = 0
    for block in message.content:
        if isinstance(block, TextBlock):
            total += len(block.text)
        elif isinstance(block, ToolResultBlock):
            total += len(block.as_text())
        elif isinstance(block, ToolUseBlock):
            total += len(block.name) + len(str(block.input))
        elif isinstance(block, ImageBlock):
            total += SHORT_CHARS  # an image is never short
    return total


def limits_of(request: ModelRequest) -> dict[str, Any]:
    """How long the server may be silent, as arguments of another request."""
    return {
        "timeout_s": request.timeout_s,
        "first_token_timeout_s": request.first_token_timeout_s,
        "connect_timeout_s": request.connect_timeout_s,
    }


def is_answer_too_long(error: ContextOverflowError, request: ModelRequest) -> bool:
    """The prompt fits, but not beside the answer that `max_tokens` allows: vLLM and OpenAI refuse that."""
    most = max(_answer_limits(request).values(), default=0)
    window, prompt = error.max_tokens, error.current_tokens or 0
    return bool(most and window) and prompt < (window or 0) < prompt + most


def with_parts(refused: ProviderError, parts: ContextOverflowError) -> ProviderError:
    """The server's refusal, which says as well what of the prompt is too big, as `ContextManager.overflow` has it."""
    told = parts.message.partition(" Too big: ")[2]
    if told and isinstance(refused, ContextOverflowError) and "Too big: " not in refused.message:
        refused.message += f"\n  Too big: {told.replace('(', '(up to: ', 1)}"
        refused.args = (refused.message,)
    return refused


def with_answer_within(request: ModelRequest, most_tokens: int) -> ModelRequest:
    """The request with its answer limited to so many tokens, if it was limited to more."""
    most = max(most_tokens, LEAST_ANSWER_TOKENS)
    less = {name: most for name, asked in _answer_limits(request).items() if asked > most}
    return replace(request, params={**request.params, **less}) if less else request


def _answer_limits(request: ModelRequest) -> dict[str, int]:
    return {name: asked for name in _LIMITS if isinstance(asked := request.params.get(name), int)}
