"""What an OpenAI-compatible server says in one answer: chunks in, deltas out, and how it ended. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidResponseError, StreamInterruptedError
from ..types import Delta, ModelRequest, StreamEnd, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from . import failures
from .failures import Where
from .halves import fed, mended, whole
from .recovery import Speech

MOST_TOKENS = 1e9  # what claims to be more is no count


class Answer:
    """Reads chunks of one answer and knows how it ended.

    Args:
        request: what was asked; with tools, calls are also found in the text.
    """

    __slots__ = (
        "_finish_reason",
        "_has_said",
        "_model",
        "_text_half",
        "_thinking_half",
        "_usage",
        "delivered_chars",
        "has_calls",
        "is_done",
        "request",
        "speech",
        "where",
    )

    def __init__(self, where: Where, request: ModelRequest | None = None) -> None:
        self.where = where
        self.request = request
        self.is_done = False  # [DONE] was seen
        self.delivered_chars = 0
        self._has_said = False
        self.has_calls = False
        self.speech = Speech(request)
        self._text_half = self._thinking_half = ""
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._model = ""

    def take(self, event: tuple[bytes, bytes]) -> list[Delta]:
        """The deltas of one event. Raises what an error event means."""
        kind, data = event
        if data.strip() == b"[DONE]":
            self.is_done = True
            return []
        try:
            chunk = json.loads(data.decode())  # of bytes it would guess the encoding first
        except ValueError:
            raise self._failed(InvalidResponseError, f"an event is no JSON: {data[:200]!r}") from None
        if not isinstance(chunk, dict):
            raise self._failed(InvalidResponseError, f"an event is no JSON object: {data[:200]!r}")
        if chunk.get("error") or kind == b"error":
            raise self._said_error(chunk)
        try:
            return self._read(chunk)
        except (AttributeError, TypeError, LookupError):
            raise self._failed(InvalidResponseError, f"an event has an unknown shape: {data[:200]!r}") from None

    def _read(self, chunk: dict[str, Any]) -> list[Delta]:
        if not self._model:
            self._model = chunk.get("model") or ""
        if usage := chunk.get("usage"):
            self._usage = read_usage(usage) or self._usage
        choices = chunk.get("choices")
        if not choices:
            return []
        choice = choices[0]
        if choice.get("error"):
            raise self._said_error(choice)
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
        if said := choice.get("delta"):
            return self._deltas(said)
        said = choice.get("message")
        return self._deltas(said, is_whole=True) if said else []

    def _deltas(self, said: Mapping[str, Any], *, is_whole: bool = False) -> list[Delta]:
        out: list[Delta] = []
        thinking = said.get("reasoning_content") or said.get("reasoning")
        if thinking and isinstance(thinking, str):
            if self._thinking_half or not thinking.isascii():
                thinking, self._thinking_half = fed(self._thinking_half, thinking)
            if thinking:
                out.append(ThinkingDelta(thinking))
                self.delivered_chars += len(thinking)
        text = said.get("content") or said.get("refusal")
        if text:
            if not isinstance(text, str):
                text = "".join([p.get("text") or "" for p in text if isinstance(p, dict)])
            if self._text_half or not text.isascii():
                text, self._text_half = fed(self._text_half, text)
            self.delivered_chars += len(text)
            speech = self.speech
            if speech.is_plain and "<" not in text and "`" not in text:
                if text:  # not while half of a character is all there is
                    speech.think.last = text
                    out.append(TextDelta(text))
            else:
                out.extend(speech.feed(text))
        for place, call in enumerate(said.get("tool_calls") or ()):
            index = place if is_whole else call.get("index")  # whole calls are never put together, whatever their ids
            out.append(_fragment(index, call.get("id"), call.get("function") or {}))
        if old_call := said.get("function_call"):
            out.append(_fragment(0, None, old_call))
        if out:
            self._has_said = True
            self.has_calls = self.has_calls or out[-1].__class__ is ToolCallDelta
        return out

    def end(self, body: bytes | None) -> list[Delta]:
        """The last deltas, StreamEnd being the very last; raises when this was no proper end."""
        out: list[Delta] = self._read_whole(body) if body is not None else []
        if body is None and not self.is_done and self._finish_reason is None:
            raise self._failed(
                StreamInterruptedError,
                f"the server closed the stream before its end ({self.delivered_chars} characters in)",
            )
        held: list[Delta] = [ThinkingDelta(whole(self._thinking_half))] if self._thinking_half else []
        if self._text_half:
            held += self.speech.feed(whole(self._text_half))
        held += self.speech.flush(self._finish_reason, has_calls=self.has_calls)
        out.extend(held)
        if not (self._has_said or held):
            from .empty import empty_answer

            raise empty_answer(self.where, self.request, self._finish_reason, self._usage)
        model, reason = self._model, self._finish_reason
        if not f"{model}{reason}".isascii():
            model, reason = mended(model), mended(reason)
        out.append(StreamEnd(model, reason, self._usage, provider=self.where.provider))
        return out

    def _read_whole(self, body: bytes) -> list[Delta]:
        """A server that ignored `stream` and answered with one JSON object (or with HTML)."""
        text = body.decode("utf-8", "replace")
        try:
            answer = json.loads(text)
        except ValueError:
            what = "HTML" if text.lstrip().startswith("<") else "broken JSON"
            raise self._no_answer(f"the answer is {what}, not an event stream: {text[:200]!r}") from None
        if isinstance(answer, dict) and answer.get("error"):
            raise self._said_error(answer)
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise self._no_answer(f"the answer has no choices: {text[:200]!r}")
        try:
            return self._read(answer)
        except (AttributeError, TypeError, LookupError):
            raise self._failed(InvalidResponseError, f"the answer has an unknown shape: {text[:200]!r}") from None

    def _said_error(self, chunk: Mapping[str, Any]) -> Exception:
        error = failures.from_answer(self.where, 200, chunk, in_stream=True)
        error.delivered_chars = self.delivered_chars
        return error

    def _no_answer(self, what: str) -> Exception:
        return failures.no_answer(self.where, what, delivered_chars=self.delivered_chars)

    def _failed(self, kind: type[Any], message: str) -> Exception:
        return self.where.error(kind, message, delivered_chars=self.delivered_chars)


def _fragment(index: Any, call_id: Any, function: Mapping[str, Any]) -> ToolCallDelta:
    name = function.get("name")
    if not isinstance(name, str | None) or not isinstance(call_id, str | int | None):
        raise TypeError("a tool call whose name or id is no text")
    index = index if isinstance(index, int) else None
    return ToolCallDelta(index, None if call_id is None else str(call_id), name, function.get("arguments"))


def read_usage(usage: Any) -> Usage | None:
    """Usage as the wire tells it; None when it tells nothing (0 means unknown). What is no count counts as not told."""
    tokens_in, tokens_out = _count_of(usage, "prompt_tokens"), _count_of(usage, "completion_tokens")
    if not tokens_in and not tokens_out:
        return None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached, reasoning = _count_of(prompt, "cached_tokens"), _count_of(completion, "reasoning_tokens")
    return Usage(tokens_in, tokens_out, cached, reasoning, queue_s=_seconds_of(usage, "queue_time"))


def _seconds_of(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < MOST_TOKENS else None


def _count_of(fields: Any, name: str) -> int:
    value: Any = fields.get(name) if fields.__class__ is dict else None
    is_count = (value.__class__ is int or value.__class__ is float) and 0 <= value < MOST_TOKENS
    return int(value) if is_count else 0
