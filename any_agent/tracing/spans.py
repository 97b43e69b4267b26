"""What a span says: attributes of runs, model calls and tool calls, from events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ..masking import masked_value
from ..types import (
    AssistantMessage,
    Attempt,
    Message,
    ResultMessage,
    TextBlock,
    ThinkingBlock,
    ToolCompleted,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    Usage,
)
from . import names

Attributes = dict[str, Any]


def provider_name(provider: str | None) -> str:
    return names.PROVIDERS.get(provider, provider) if provider else names.UNKNOWN_PROVIDER


def place(base_url: str | None) -> Attributes:
    """The server's address and port."""
    if not base_url:
        return {}
    found = urlsplit(base_url)
    port = found.port or {"http": 80, "https": 443}.get(found.scheme)
    return _known({names.SERVER_ADDRESS: found.hostname, names.SERVER_PORT: port})


def usage(told: Usage | None) -> Attributes:
    if told is None:
        return {}
    said: Attributes = {names.INPUT_TOKENS: told.input_tokens, names.OUTPUT_TOKENS: told.output_tokens}
    more = {names.CACHED_TOKENS: told.cached_tokens, names.REASONING_TOKENS: told.reasoning_tokens}
    return said | {name: value for name, value in more.items() if value}


def call(attempt: Attempt, provider: str | None, number: int) -> Attributes:
    """A try of a model, whatever came of it; also the attributes of its metrics, but for the try's number."""
    return _known(
        {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider_name(provider),
            names.REQUEST_MODEL: attempt.model or None,
            names.ATTEMPT: number,
            names.ATTEMPT_THEN: attempt.then or None,
            names.TIME_TO_FIRST_CHUNK: attempt.first_token_s,
            names.ERROR_TYPE: attempt.error_type,
            **place(attempt.base_url),
        }
    )


def answer(message: AssistantMessage) -> Attributes:
    """What a model call gave."""
    reason = message.finish_reason
    return _known(
        {
            names.RESPONSE_MODEL: message.model or None,
            names.FINISH_REASONS: (reason,) if reason else None,
            names.COST_USD: message.cost_usd,
            names.IS_CACHED: True if message.attempt and message.attempt.is_cached else None,
            **usage(message.usage),
        }
    )


def tool(name: str, call_id: str) -> Attributes:
    return {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL_NAME: name,
        names.TOOL_TYPE: "function",
        names.TOOL_CALL_ID: call_id,
    }


def result(told: ResultMessage) -> Attributes:
    """What a whole run took."""
    error = type(told.error).__name__ if told.error else None
    totals = {names.TURNS: told.num_turns, names.COST_USD: told.total_cost_usd, names.ERROR_TYPE: error}
    return _known({**totals, **usage(told.usage)})


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


# ------------------------------------------------------------------ content, on demand


def output_messages(message: AssistantMessage, secrets: Sequence[str]) -> Attributes:
    said = {**_said(message), "finish_reason": message.finish_reason or ""}
    return {names.OUTPUT_MESSAGES: _json([said], secrets)}


def input_messages(messages: Sequence[Message], secrets: Sequence[str]) -> Attributes:
    return {names.INPUT_MESSAGES: _json([_said(one) for one in messages], secrets)}


def tool_arguments(call: ToolUseBlock, secrets: Sequence[str]) -> Attributes:
    return {names.TOOL_ARGUMENTS: _json(call.input, secrets)}


def tool_result(done: ToolCompleted, secrets: Sequence[str]) -> Attributes:
    return {names.TOOL_RESULT: _json(done.result.content, secrets)}


def _json(value: Any, secrets: Sequence[str]) -> str:
    return json.dumps(masked_value(value, secrets), ensure_ascii=False, default=str)


def _said(message: Message) -> dict[str, Any]:
    return {"role": message.role, "parts": [_part(block) for block in message.content]}


def _part(block: Any) -> dict[str, Any]:
    match block:
        case TextBlock(text):
            return {"type": "text", "content": text}
        case ThinkingBlock(thinking):
            return {"type": "reasoning", "content": thinking}
        case ToolUseBlock(call_id, name, arguments):
            return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
        case ToolUseError():
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": block.raw_data}
        case ToolResultBlock(call_id, content):
            return {"type": "tool_call_response", "id": call_id, "response": content}
        case _:
            return {"type": str(getattr(block, "type", "unknown"))}
