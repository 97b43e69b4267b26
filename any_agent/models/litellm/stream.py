"""LiteLLM's chunks become deltas, with the end that the tap has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import ProviderError, StreamInterruptedError
from ...types import Delta, ModelRequest, StreamEnd, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from ..failures import Where, no_answer
from ..halves import fed, mended, whole
from ..openai_answer import read_usage
from ..recovery import Speech
from .tap import Tap, fields_of

_SIGNERS = ("anthropic", "bedrock", "gemini", "vertex_ai")  # they want some of their own fields back


class Reading:
    """LiteLLM's chunks as deltas, and the proper end of them."""

    def __init__(self, where: Where, tap: Tap, request: ModelRequest | None = None) -> None:
        self.where = where
        self.tap = tap
        self.delivered_chars = 0
        self._request = request
        self._text_half = self._thinking_half = ""
        self._usage: Any = None
        self.speech = Speech(request)
        self.has_calls = False
        self._has_said = False
        self._finish_reason: str | None = None
        self._fields: dict[str, Any] = {}

    def take(self, chunk: Any) -> list[Delta]:
        """The deltas of one chunk."""
        fields = fields_of(chunk)
        self._usage = fields.get("usage") or self._usage
        choices = fields["choices"]
        if not choices:
            return []
        choice = choices[0]
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
        if choice.delta is None:
            return []
        said = fields_of(choice.delta)
        out = self._thinking(said)
        text = said.get("content")
        if text and (self._text_half or not text.isascii()):
            text, self._text_half = fed(self._text_half, text)
        if text:
            self.delivered_chars += len(text)
            speech = self.speech
            if speech.is_plain and "<" not in text and "`" not in text:
                speech.think.last = text
                out.append(TextDelta(text))
            else:
                out += speech.feed(text)
        for call in said.get("tool_calls") or ():
            function = call.function
            name, arguments = (function.name, function.arguments) if function is not None else (None, None)
            out.append(ToolCallDelta(call.index, call.id, name, arguments))
            self.has_calls = True
        if old_call := said.get("function_call"):
            out.append(ToolCallDelta(0, None, old_call.name, old_call.arguments))
            self.has_calls = True
        if self.where.provider in _SIGNERS and (own := said.get("provider_specific_fields")):
            _merge(self._fields.setdefault("provider_specific_fields", {}), own)
        if out:
            self._has_said = True
        return out

    def _thinking(self, said: Mapping[str, Any]) -> list[Delta]:
        thinking, blocks = said.get("reasoning_content") or "", said.get("thinking_blocks")
        signature = None
        for block in blocks or ():
            signature = block.get("signature") or signature
            self._keep(block)
        if thinking and (self._thinking_half or not thinking.isascii()):
            thinking, self._thinking_half = fed(self._thinking_half, thinking)
        if not thinking and not signature:
            return []
        self.delivered_chars += len(thinking)
        return [ThinkingDelta(thinking, signature)]

    def _keep(self, block: Any) -> None:
        """Signed thinking goes back word for word, in the blocks it came in: a signature closes one."""
        blocks: list[dict[str, Any]] = self._fields.setdefault("thinking_blocks", [])
        last = blocks[-1] if blocks else None
        if block.get("type") != "thinking" or last is None or last.get("type") != "thinking" or last.get("signature"):
            blocks.append(dict(block))
            return
        old, new = last.get("thinking") or "", block.get("thinking") or ""
        is_repeated = bool(block.get("signature")) and new.startswith(old)  # some versions say all of it once more
        last["thinking"] = new if is_repeated and new else old + new
        last["signature"] = block.get("signature") or last.get("signature")

    @property
    def usage(self) -> Any:
        """LiteLLM's own object, or the openai client's: the price is made from it."""
        return self.tap.usage or self._usage

    @property
    def reported_usage(self) -> Usage | None:
        """What the server counted; None when LiteLLM only guessed."""
        if self.usage is None or not (self.tap.has_usage or self.tap.is_blind):
            return None
        usage = read_usage(self.usage.model_dump() if hasattr(self.usage, "model_dump") else self.usage)
        return replace(usage, is_estimated=True) if usage is not None and self.tap.is_blind else usage

    def end(self, cost_usd: float | None) -> list[Delta]:
        """The last deltas, StreamEnd being the very last; raises when this was no proper end."""
        tap = self.tap
        if tap.answer is not None and tap.body is not None:  # LiteLLM saw no stream in it: nothing of it was delivered
            tap.answer.speech, tap.answer.request = self.speech, self._request
            all_of_it = tap.answer.end(tap.body)
            self.has_calls = tap.answer.has_calls
            return all_of_it
        if tap.answer is not None:
            tap.answer.request = self._request
        judged: list[Delta] = tap.answer.end(None) if tap.answer is not None else []
        if not (judged or tap.has_end or tap.is_blind):
            raise self._no_end()
        told = judged[-1] if judged else None
        finish_reason = told.finish_reason if isinstance(told, StreamEnd) else self._finish_reason
        held: list[Delta] = [ThinkingDelta(whole(self._thinking_half))] if self._thinking_half else []
        if self._text_half:
            held += self.speech.feed(whole(self._text_half))
        held += self.speech.flush(finish_reason, has_calls=self.has_calls)
        if not (self._has_said or held):
            from ..empty import empty_answer

            raise empty_answer(
                self.where, self._request, self._finish_reason if tap.has_end else None, self.reported_usage
            )
        end = StreamEnd(
            whole(tap.model) or self.where.model,
            self._finish_reason,
            self.reported_usage,
            cost_usd,
            self.where.provider,
            mended({name: value for name, value in self._fields.items() if value}) if self._fields else None,
        )
        if isinstance(told, StreamEnd):  # what the wire itself said
            end = replace(
                end, model=told.model or end.model, finish_reason=told.finish_reason, usage=told.usage or end.usage
            )
        return [*held, end]

    def _no_end(self) -> ProviderError:
        if not self._has_said and not self.tap.model and "event-stream" not in self.tap.content_type:
            kind = self.tap.content_type or "of no kind"
            return no_answer(self.where, f"the answer is {kind}, not an event stream")
        return self.where.error(
            StreamInterruptedError,
            f"the server closed the stream before its end ({self.delivered_chars} characters in)",
            delivered_chars=self.delivered_chars,
        )


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for name, value in new.items():
        if isinstance(value, list) and isinstance(into.get(name), list):
            into[name] = into[name] + value
        elif value is not None:
            into[name] = value
