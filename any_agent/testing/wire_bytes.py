"""Builders for what an OpenAI-compatible server puts on the wire, down to the byte. Pure, standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

AUTO = "auto"
EVENT_STREAM = {"Content-Type": "text/event-stream"}
JSON_BODY = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class WireReply:
    """What the server does for one request.

    Attributes:
        chunks: The body; each piece is sent by a write of its own, the first together with the head. An empty first
            piece sends the head alone.
        delay_s: Wait before the first byte.
        pause_s: Wait between two chunks.
        framing: "auto" sends one chunk with Content-Length and several chunked; "close" ends the body by closing the
            connection; "raw" sends the chunks alone, the head of the response is in them. A Content-Length or
            Transfer-Encoding in `headers` is sent as it is, with the chunks unframed.
        close_abruptly: After the chunks "cut" the connection in mid-body or "reset" it (TCP RST); "after" ends the body
            properly, then hangs up without a word, as llama.cpp does after a stream.
        stall: After the chunks send nothing more until the client leaves.
        repeat: How many requests it answers before the next reply of the path has its turn; the last one answers all.

    A reply that stalls, is cut or is reset and has no chunks sends no head either.
    """

    chunks: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    pause_s: float = 0.0
    framing: Literal["auto", "close", "raw"] = "auto"
    close_abruptly: Literal["", "after", "cut", "reset"] = ""
    stall: bool = False
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class WireCall:
    """A tool call as a server writes it, strange ones included.

    Attributes:
        arguments: JSON text; a list of texts is streamed in these pieces; an object is sent as one (some servers do).
        call_id: None leaves the id out.
        index: None leaves it out.
    """

    name: str
    arguments: str | Sequence[str] | Mapping[str, Any] = "{}"
    call_id: str | None = "call_1"
    index: int | None = 0


def as_reply(answer: WireReply | Mapping[str, Any] | Sequence[bytes]) -> WireReply:
    """A mapping becomes a JSON body, a list of bytes an event stream."""
    if isinstance(answer, WireReply):
        return answer
    if isinstance(answer, Mapping):
        return WireReply((_json(answer).encode(),), headers=JSON_BODY)
    return WireReply(answer, headers=EVENT_STREAM)


def error(
    status: int,
    message: str,
    *,
    type: str = "server_error",
    code: int | str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> WireReply:
    """A refusal: `{"error": {"message", "type", "code", **more}}` under `status`."""
    body = error_body(message, type=type, code=status if code is None else code, **more)
    return WireReply((_json(body).encode(),), status, {**JSON_BODY, **(headers or {})})


def error_body(
    message: str, *, type: str = "server_error", code: int | str | None = 500, **more: Any
) -> dict[str, Any]:
    """The error object alone, for a body or for an event in mid-stream."""
    return {"error": {"message": message, "type": type, "code": code, **more}}


def token_usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def chat_completion(
    text: str | None = "",
    *,
    tool_calls: Sequence[WireCall] = (),
    finish_reason: str | None = AUTO,
    usage: Mapping[str, Any] | None = None,
    reasoning: str | None = None,
    model: str = "tiny",
    completion_id: str = "chatcmpl-1",
) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if tool_calls:
        message["tool_calls"] = [_whole_call(call) for call in tool_calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish(finish_reason, tool_calls)}
    body = {"id": completion_id, "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
    return body if usage is None else {**body, "usage": usage}


def chat_chunks(
    text_pieces: str | Iterable[str] = (),
    *,
    tool_calls: Sequence[WireCall] = (),
    finish_reason: str | None = AUTO,
    usage: Mapping[str, Any] | None = None,
    reasoning: str | Iterable[str] = (),
    reasoning_key: str = "reasoning_content",
    model: str = "tiny",
    completion_id: str = "chatcmpl-1",
) -> list[dict[str, Any]]:
    """The chunks of a streamed answer: role, reasoning, text, tool calls, finish, usage.

    Args:
        finish_reason: "auto" is "tool_calls" or "stop"; None sends null. To leave the chunk out, drop it from the list.
        usage: Sent in a last chunk without choices; None sends none.
    """

    def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": completion_id, "object": "chat.completion.chunk", "created": 0, "model": model}
        return {**head, "choices": choices, **more}

    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{reasoning_key: piece} for piece in _pieces(reasoning)]
    deltas += [{"content": piece} for piece in _pieces(text_pieces)]
    deltas += [{"tool_calls": [fragment]} for call in tool_calls for fragment in _call_fragments(call)]
    chunks = [chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    chunks.append(chunk([{"index": 0, "delta": {}, "finish_reason": _finish(finish_reason, tool_calls)}]))
    if usage is not None:
        chunks.append(chunk([], usage=usage))
    return chunks


def sse(
    events: Iterable[Mapping[str, Any] | str | bytes],
    *,
    done: bool = True,
    newline: str = "\n",
    comments: Iterable[str] = (),
) -> list[bytes]:
    """Server-sent events, one piece of bytes each.

    Args:
        events: Objects become JSON, texts are data as they stand (broken JSON, say), bytes go out untouched.
        done: End with `data: [DONE]`.
        newline: "\\n", "\\r\\n" or "\\r".
        comments: The first goes before the first event, and so on.
    """
    pieces = [event if isinstance(event, bytes) else sse_event(event, newline=newline) for event in events]
    if done:
        pieces.append(sse_event("[DONE]", newline=newline))
    for place, comment in enumerate(comments):
        pieces.insert(2 * place, f": {comment}{newline}{newline}".encode())
    return pieces


def sse_event(data: Mapping[str, Any] | str, *, event: str | None = None, newline: str = "\n") -> bytes:
    """One event; text of several lines becomes several `data:` lines."""
    lines = [f"event: {event}"] if event is not None else []
    lines += [f"data: {line}" for line in (data if isinstance(data, str) else _json(data)).split("\n")]
    return (newline.join(lines) + newline * 2).encode()


def recut(pieces: Iterable[bytes], size_bytes: int) -> list[bytes]:
    """The same bytes in pieces of `size_bytes`, wherever that cuts a character or a line."""
    whole = b"".join(pieces)
    return [whole[start : start + size_bytes] for start in range(0, len(whole), size_bytes)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _pieces(text: str | Iterable[str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def _finish(finish_reason: str | None, tool_calls: Sequence[WireCall]) -> str | None:
    if finish_reason != AUTO:
        return finish_reason
    return "tool_calls" if tool_calls else "stop"


def _whole_call(call: WireCall) -> dict[str, Any]:
    arguments = call.arguments if isinstance(call.arguments, str | Mapping) else "".join(call.arguments)
    function = {"name": call.name, "arguments": arguments}
    return {**({} if call.call_id is None else {"id": call.call_id}), "type": "function", "function": function}


def _call_fragments(call: WireCall) -> list[dict[str, Any]]:
    pieces = [call.arguments] if isinstance(call.arguments, str | Mapping) else list(call.arguments)
    place = {} if call.index is None else {"index": call.index}
    first = _whole_call(WireCall(call.name, pieces[0] if pieces else "", call.call_id))
    return [{**place, **first}, *({**place, "function": {"arguments": piece}} for piece in pieces[1:])]
