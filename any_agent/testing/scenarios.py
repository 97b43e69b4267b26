"""Scripts for a LoopbackServer that answer any chat request; for benchmarks and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from .wire_bytes import WireCall, as_reply, chat_chunks, chat_completion, sse, token_usage

if TYPE_CHECKING:
    from .loopback import WireRequest
    from .wire_bytes import WireReply


def echo(
    *, chunks: int = 0, delay_s: float = 0.0, pause_s: float = 0.0, calls_tool: bool = False, arguments: str = "{}"
) -> Callable[[WireRequest], WireReply]:
    """A script that answers like a chat model which repeats the last message's words.

    Args:
        chunks: Go round the words until so many chunks are sent; 0 sends each word once.
        delay_s: Wait before the first byte.
        pause_s: Wait between two chunks.
        calls_tool: Answer a user with a call of the first tool, if the request has tools.
        arguments: JSON text for that call.
    """

    def answer(request: WireRequest) -> WireReply:
        if request.method == "GET":
            return as_reply({"object": "list", "data": [{"id": "echo", "object": "model", "owned_by": "any_agent"}]})
        asked = request.json
        last = asked["messages"][-1]
        wants_call = calls_tool and asked.get("tools") and last["role"] != "tool"
        tool = asked["tools"][0]["function"]["name"] if wants_call else None
        has_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        # About what a tokenizer counts: an agent takes a far smaller number for a silently cut prompt.
        prompt_tokens = max(len(request.body) // 5, 1)
        is_streamed = bool(asked.get("stream"))
        told = prompt_tokens if has_usage or not is_streamed else 0
        body = _echo_body(_text_of(last), chunks, tool, arguments, is_streamed, told)
        return replace(as_reply(body), delay_s=delay_s, pause_s=pause_s)

    return answer


@lru_cache(maxsize=1024)
def _echo_body(
    text: str, chunks: int, tool: str | None, arguments: str, is_streamed: bool, prompt_tokens: int
) -> Mapping[str, Any] | Sequence[bytes]:
    words = text.split() or ["…"]
    pieces = [f"{word} " for word in islice(cycle(words), chunks or len(words))]
    usage = token_usage(prompt_tokens, len(pieces)) if prompt_tokens else None
    calls = [WireCall(tool, arguments)] if tool else []
    if tool:
        pieces = []
    if not is_streamed:
        return chat_completion("".join(pieces), tool_calls=calls, usage=usage, model="echo")
    return sse(chat_chunks(pieces, tool_calls=calls, usage=usage, model="echo"))


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
