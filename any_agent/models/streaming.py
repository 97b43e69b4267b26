"""Deltas become blocks: text, reasoning, tool-call fragments by index and id. Both doors and the loop use it."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from ..types import (
    AssistantMessage,
    Attempt,
    AttemptFailed,
    Block,
    ContextTruncated,
    Delta,
    StreamEnd,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolCallDelta,
    ToolUseBlock,
    ToolUseError,
)


class Fold:
    """Folds one model stream into one AssistantMessage."""

    __slots__ = ("_calls", "attempts", "end", "signature", "text", "thinking")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.signature: str | None = None
        self.end: StreamEnd | None = None
        self.attempts: list[Attempt] = []
        self._calls: list[_Call] = []

    def add(self, delta: Delta) -> None:
        kind = delta.__class__
        if kind is TextDelta:
            self.text.append(delta.text)  # type: ignore[union-attr]
        elif isinstance(delta, ThinkingDelta):
            self.thinking.append(delta.thinking)
            self.signature = delta.signature or self.signature
        elif isinstance(delta, ToolCallDelta):
            self._add_call(delta)
        elif isinstance(delta, StreamEnd):
            self.end = delta
        elif isinstance(delta, (AttemptFailed, ContextTruncated)):
            if isinstance(delta, AttemptFailed):
                self.attempts.append(delta.attempt)
            self.text, self.thinking, self._calls = [], [], []  # the next try begins anew

    @property
    def is_empty(self) -> bool:
        """Nothing was said: no text, no reasoning, no call."""
        return not (self.text or self.thinking or self._calls)

    def _add_call(self, delta: ToolCallDelta) -> None:
        call = self._find(delta)
        if call is None:
            call = _Call(delta.index, delta.id or "")
            self._calls.append(call)
        call.add(delta)

    def _find(self, delta: ToolCallDelta) -> _Call | None:
        """The open call this fragment belongs to; None: it starts a new one.

        Servers reuse index 0 for parallel calls (Ollama), leave out the index, or leave out the id.
        """
        if delta.index is None:
            known = [c for c in self._calls if delta.id and c.id == delta.id]
            call = known[-1] if known else (self._calls[-1] if self._calls else None)
        else:
            same = [c for c in self._calls if c.index == delta.index]
            call = same[-1] if same else None
        if call is None:
            return None
        if delta.id and call.id and delta.id != call.id:
            return None
        if delta.name and not delta.id and call.is_started and delta.name != call.name:
            return None
        if delta.name and not delta.id and call.is_complete and delta.arguments:
            return None
        return call

    def message(self) -> AssistantMessage:
        """The turn as one message: reasoning, then text, then calls in the order they began."""
        end = self.end or StreamEnd()
        blocks: list[Block] = []
        if self.thinking:
            blocks.append(ThinkingBlock("".join(self.thinking), self.signature))
        if self.text:
            blocks.append(TextBlock("".join(self.text)))
        seen: set[str] = set()
        for position, call in enumerate(self._calls):
            is_last = position == len(self._calls) - 1
            block = call.block(was_cut=is_last and end.finish_reason == "length", seen=seen)
            if block is not None:
                blocks.append(block)
        return AssistantMessage(
            tuple(blocks),
            model=end.model,
            usage=end.usage,
            finish_reason=end.finish_reason,
            cost_usd=end.cost_usd,
            provider=end.provider,
            provider_fields=end.provider_fields,
        )


class _Call:
    __slots__ = ("arguments", "id", "index", "name", "whole")

    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.arguments: list[str] = []
        self.whole: dict[str, Any] | None = None  # arguments that came as an object

    def add(self, delta: ToolCallDelta) -> None:
        self.id = self.id or delta.id or ""
        # Some servers repeat the whole name in every fragment, others split it.
        if delta.name and delta.name != self.name:
            self.name += delta.name
        if isinstance(delta.arguments, str):
            self.arguments.append(delta.arguments)
        elif isinstance(delta.arguments, dict):
            self.whole = {**(self.whole or {}), **delta.arguments}
        elif delta.arguments is not None:
            self.arguments.append(json.dumps(delta.arguments))

    @property
    def is_started(self) -> bool:
        return self.whole is not None or any(self.arguments)

    @property
    def is_complete(self) -> bool:
        if self.whole is not None:
            return True
        try:
            json.loads("".join(self.arguments))
        except ValueError:
            return False
        return True

    def block(self, *, was_cut: bool, seen: set[str]) -> ToolUseBlock | ToolUseError | None:
        raw = "".join(self.arguments)
        if not self.name and not self.id and not raw.strip() and self.whole is None:
            return None
        if not self.id or self.id in seen:
            self.id = f"call_{uuid4().hex[:16]}"
        seen.add(self.id)
        if not self.name:
            return ToolUseError("the tool call has no name", raw, self.id)
        if self.whole is not None and not raw.strip():
            return ToolUseBlock(self.id, self.name, self.whole)
        if not raw.strip():
            if was_cut:
                return ToolUseError(
                    "the tool call was cut off by the token limit before its arguments", raw, self.id, self.name
                )
            return ToolUseBlock(self.id, self.name, {})
        try:
            value = json.loads(raw)
        except ValueError as error:
            cause = "cut off by the token limit" if was_cut else f"not valid JSON: {error}"
            return ToolUseError(f"the arguments of {self.name} are {cause}", raw, self.id, self.name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            return ToolUseError(f"the arguments of {self.name} are JSON but not an object", raw, self.id, self.name)
        return ToolUseBlock(self.id, self.name, value)


_TAGS = {"<think>": "</think>", "<thinking>": "</thinking>", "<thought>": "</thought>"}


class ThinkSplitter:
    """Splits `<think>…</think>` at the start of an answer from its text, at any chunk border.

    Only a tag that opens the answer counts: one in the middle is something the model talks about.
    """

    __slots__ = ("_close", "_held", "is_text")

    def __init__(self) -> None:
        self.is_text = False  # from here on everything is text: the fast path
        self._held = ""
        self._close = ""

    def feed(self, text: str) -> list[TextDelta | ThinkingDelta]:
        if self.is_text:
            return [TextDelta(text)]
        self._held += text
        if not self._close:
            start = self._held.lstrip()
            tag = next((t for t in _TAGS if start.startswith(t)), None)
            if tag:
                self._close = _TAGS[tag]
                self._held = start[len(tag) :]
            elif not start or any(t.startswith(start) for t in _TAGS):
                return []  # could still become a tag
            else:
                return self._to_text(self._held)
        return self._thinking()

    def _to_text(self, text: str) -> list[TextDelta | ThinkingDelta]:
        self._held, self.is_text = "", True
        return [TextDelta(text)] if text else []

    def _thinking(self) -> list[TextDelta | ThinkingDelta]:
        if self._close == "\n":  # reasoning is over; the blank lines after it belong to nobody
            rest = self._held.lstrip()
            return self._to_text(rest) if rest else []
        before, found, after = self._held.partition(self._close)
        if found:
            self._held, self._close = after, "\n"
            return ([ThinkingDelta(before)] if before else []) + self._thinking()
        keep = next((n for n in range(len(self._close) - 1, 0, -1) if before.endswith(self._close[:n])), 0)
        said, self._held = before[: len(before) - keep], before[len(before) - keep :]
        return [ThinkingDelta(said)] if said else []

    def flush(self) -> list[TextDelta | ThinkingDelta]:
        """What was held back when the stream ends."""
        held, self._held = self._held, ""
        if self.is_text or self._close == "\n" or not held:
            return []
        return [ThinkingDelta(held)] if self._close else [TextDelta(held)]
