"""How Ollama and LM Studio meet a prompt that is too long, replayed: each counts with a tokenizer of its own.

Ollama drops messages and cuts tokens without a word (server/prompt.go `chatPrompt`, llm/llama_server.go
`completionPromptForRequest` and `contextShiftPromptLimit`); LM Studio answers 200 with an error event, or with nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal

from any_agent.testing import LoopbackServer, WireCall, WireReply, WireRequest, chat_chunks, sse, sse_event
from any_agent.testing.wire_bytes import EVENT_STREAM, as_reply
from support.long_talk import words
from support.odd_tokenizers import Tokenize

Wire = dict[str, Any]
KEEP = 4  # Ollama's default num_keep


@dataclass
class Template:
    """Tokens of a prompt: overhead around each message and call, the tools' schemas, and what their texts come to."""

    tokenize: Tokenize
    overhead: float = 5
    fixed: float = 3
    tools_share: float = 1.0
    _known: dict[str, float] = field(default_factory=dict)

    def count(self, messages: Sequence[Wire], tools: Sequence[Wire] = ()) -> int:
        total = self.fixed + sum(map(self._message, messages))
        return ceil(total + (self.tools_share * self._text(json.dumps(tools)) if tools else 0.0))

    def _message(self, message: Wire) -> float:
        total = self.overhead + self._text(message.get("content") or "")
        for call in message.get("tool_calls") or ():
            function = call["function"]
            total += self.overhead + self._text(
                f'{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}'
            )
        return total

    def _text(self, text: str) -> float:
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self.tokenize(text)
        return found


class Talker:
    """What the replayed models say: a call of one of the tools to a user, some words to a tool's result."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._calls = 0

    def chunks(self, asked: Wire, model: str, prompt_tokens: int, *, is_call_whole: bool) -> list[Wire]:
        text, calls = "", []
        if asked.get("tools") and asked["messages"][-1]["role"] == "user" and self._rng.random() < 0.8:
            self._calls += 1
            function = self._rng.choice(asked["tools"])["function"]
            values = {name: words(self._rng, 8) for name in list(function["parameters"]["properties"])[:1]}
            arguments = json.dumps(values, ensure_ascii=False)
            pieces = [arguments] if is_call_whole else [arguments[:3], arguments[3:]]
            calls = [WireCall(function["name"], pieces, f"call_{self._calls:08d}")]
        else:
            text = words(self._rng, self._rng.choice((10, 60, 200)))
        said = len(text) // 4 + 20 * len(calls)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": said, "total_tokens": prompt_tokens + said}
        return chat_chunks([text] if text else [], tool_calls=calls, usage=usage, model=model)


@dataclass(frozen=True, slots=True)
class Meeting:
    """A prompt that was too long: the last user's words in it, its tokens, and those that were used (0: none)."""

    prompt: str
    true_tokens: int
    kept_tokens: int


class OllamaChat:
    """Ollama's `/v1/chat/completions`.

    Args:
        rule: "messages": the oldest messages go until the rest fits (system messages and the last one stay), and what
            is still too long is cut to `num_ctx / 2 + 2` tokens. "half": that cut alone, at any prompt.

    Attributes: cuts.
    """

    def __init__(
        self, server: LoopbackServer, model: str, tokenize: Tokenize, num_ctx: int, rule: Literal["messages", "half"]
    ) -> None:
        self.model, self.num_ctx, self.rule = model, num_ctx, rule
        self.template, self.talker = Template(tokenize), Talker(7)
        self.cuts: list[Meeting] = []
        server.reply("/v1/chat/completions", self._answer)

    def kept(self, messages: Sequence[Wire], tools: Sequence[Wire]) -> int:
        """Tokens of what the model is shown."""
        count, rest = self.template.count(messages, tools), list(messages)
        if self.rule == "messages":
            for first in range(len(messages)):
                system = [m for m in messages[:first] if m["role"] == "system"]
                rest = [*system, *messages[first:]]
                count = self.template.count(rest, tools)
                if count <= self.num_ctx:
                    break
        if count > self.num_ctx - 1:
            count = self.num_ctx - max((self.num_ctx - KEEP) // 2, 1)
        return count

    def _answer(self, request: WireRequest) -> WireReply:
        asked = request.json
        messages, tools = asked["messages"], asked.get("tools") or ()
        true, kept = self.template.count(messages, tools), self.kept(messages, tools)
        if kept < true:
            self.cuts.append(Meeting(last_user(messages), true, kept))
        chunks = self.talker.chunks(asked, self.model, kept, is_call_whole=True)
        for chunk in chunks:
            chunk["system_fingerprint"] = "fp_ollama"
        return as_reply(sse(chunks))


class LmStudioChat:
    """LM Studio's `/v1/chat/completions` for a model loaded with `window` tokens.

    Args:
        overflow: "event" sends `event: error` under status 200; "nothing" ends the stream without a single delta;
            "stop" sends a role and `stop`.

    Attributes: refused.
    """

    def __init__(
        self,
        server: LoopbackServer,
        model: str,
        tokenize: Tokenize,
        window: int,
        overflow: Literal["event", "nothing", "stop"],
    ) -> None:
        self.model, self.window, self.overflow = model, window, overflow
        self.template, self.talker = Template(tokenize), Talker(7)
        self.refused: list[Meeting] = []
        server.reply("/v1/chat/completions", self._answer)

    def _answer(self, request: WireRequest) -> WireReply:
        asked = request.json
        messages = asked["messages"]
        true = self.template.count(messages, asked.get("tools") or ())
        if true <= self.window:
            return as_reply(sse(self.talker.chunks(asked, self.model, true, is_call_whole=False)))
        self.refused.append(Meeting(last_user(messages), true, 0))
        if self.overflow == "event":
            return WireReply((lm_overflow(true, self.window),), headers=EVENT_STREAM)
        return as_reply(sse(chat_chunks(model=self.model) if self.overflow == "stop" else []))


def lm_overflow(tokens: int, window: int) -> bytes:
    """The bytes of LM Studio 0.4.21."""
    said = (
        f"Input does not fit in context length. The input has {tokens} tokens, "
        f"but the context length only supports {window} tokens."
    )
    return sse_event({"error": {"message": said}, "message": said}, event="error")


def last_user(messages: Sequence[Wire]) -> str:
    return next((str(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")
