"""Deltas become blocks: text, reasoning, tool-call fragments by index and id. Both doors and the loop use it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
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
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
)
from .halves import has_lone_half, joined, whole
from .recovery.lossless import UnclearError, fitted, parse_arguments, plain_name
from .recovery.speech import BESIDE
from .thinking import ThinkSplitter as ThinkSplitter

_FENCED = re.compile(r"\s*```(?:json)?\s*(\{.*\})\s*```\s*", re.S)


class Fold:
    """Folds one model stream into one AssistantMessage.

    Args:
        tools: what the request offered; their schemas tell how arguments are read.
    """

    __slots__ = ("_calls", "attempts", "end", "signature", "text", "thinking", "tools")

    def __init__(self, tools: Sequence[ToolSpec] = ()) -> None:
        self.tools = tools
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
            if delta.takes_text:
                self.thinking += self.text
                self.text, self._calls = [], []  # what stands in reasoning is not called
            self.thinking.append(delta.thinking)
            self.signature = delta.signature or self.signature
        elif isinstance(delta, ToolCallDelta):
            self._add_call(delta)
        elif isinstance(delta, StreamEnd):
            self.end = delta
        elif isinstance(delta, (AttemptFailed, ContextTruncated)):
            if isinstance(delta, AttemptFailed):
                self.attempts.append(delta.attempt)
                if delta.keeps_text:  # the next try goes on with it; half a call is worth nothing
                    self._calls = []
                    return
            self.text, self.thinking, self._calls = [], [], []  # the next try begins anew

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

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

    def message(self, used_ids: Collection[str] = ()) -> AssistantMessage:
        """The turn as one message: reasoning, then text, then calls in the order they began.

        Args:
            used_ids: of earlier calls of the conversation; a call that comes with one of them gets an id of its own.
        """
        end = self.end or StreamEnd()
        blocks: list[Block] = []
        if self.thinking:
            blocks.append(ThinkingBlock(whole("".join(self.thinking)), self.signature))
        if self.text:
            blocks.append(TextBlock(whole("".join(self.text))))
        seen, schemas = set(used_ids), {tool.name: tool.parameters for tool in self.tools} if self._calls else {}
        for position, call in enumerate(self._calls):
            is_last = position == len(self._calls) - 1
            block = call.block(was_cut=is_last and end.finish_reason == "length", seen=seen, schemas=schemas)
            if block is not None and not (call.error == BESIDE and _is_said_in(blocks, call)):
                blocks.append(block)
        return AssistantMessage(
            tuple(blocks),
            model=end.model,
            usage=end.usage,
            finish_reason=end.finish_reason,
            cost_usd=end.cost_usd,
            provider=end.provider,
            provider_fields=end.provider_fields,
            attempt=end.attempts[-1] if end.attempts else None,
        )


def _is_said_in(blocks: Sequence[Block], call: _Call) -> bool:
    """The server told the same call."""
    return any(isinstance(one, ToolUseBlock) and (one.name, one.input) == (call.name, call.whole) for one in blocks)


class _Call:
    __slots__ = ("arguments", "error", "id", "index", "name", "whole")

    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.error: str | None = None
        self.arguments: list[str] = []
        self.whole: dict[str, Any] | None = None  # arguments that came as an object

    def add(self, delta: ToolCallDelta) -> None:
        self.id = self.id or delta.id or ""
        self.error = self.error or delta.error
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

    def block(
        self, *, was_cut: bool, seen: set[str], schemas: Mapping[str, dict[str, Any]]
    ) -> ToolUseBlock | ToolUseError | None:
        said = joined("".join(self.arguments))  # halves of a character come in two fragments
        raw, self.id = whole(said), whole(self.id)
        self.name = plain_name(whole(self.name), schemas)
        if not self.name and not self.id and not raw.strip() and self.whole is None and not self.error:
            return None
        if not self.id or self.id in seen:
            self.id = f"call_{uuid4().hex[:16]}"
        seen.add(self.id)
        if self.error is not None:
            return ToolUseError(whole(self.error), raw or json.dumps(self.whole or {}), self.id, self.name)
        if not self.name:
            return ToolUseError("the tool call has no name", raw, self.id)
        if self.whole is not None and raw.strip():
            return ToolUseError(f"the arguments of {self.name} came twice, in two forms", raw, self.id, self.name)
        if self.whole is None and not raw.strip() and was_cut:
            return ToolUseError(
                "the tool call was cut off by the token limit before its arguments", raw, self.id, self.name
            )
        try:
            value = self._said(said)
        except UnclearError as error:
            cause = "are cut off by the token limit" if was_cut else f"cannot be read: {error}"
            return ToolUseError(f"the arguments of {self.name} {cause}", raw, self.id, self.name)
        if not isinstance(value, dict):
            return ToolUseError(f"the arguments of {self.name} are JSON but not an object", raw, self.id, self.name)
        schema = schemas.get(self.name)
        return ToolUseBlock(self.id, self.name, fitted(value, schema) if schema else value)

    def _said(self, raw: str) -> Any:
        """The arguments as a value; some models encode them twice."""
        value: Any = self.whole
        if value is None:
            fenced = _FENCED.fullmatch(raw)
            value = parse_arguments(fenced[1] if fenced else raw) if raw.strip() else {}
            if isinstance(value, str) and value.lstrip().startswith("{"):
                value = parse_arguments(value)
        if has_lone_half(value):
            raise UnclearError("half of a character is missing")
        return {} if value is None else value
