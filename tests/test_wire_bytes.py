"""The builders of exact wire bytes."""

from __future__ import annotations

import pytest

from any_agent import testing
from any_agent.testing import (
    WireCall,
    chat_chunks,
    chat_completion,
    error_body,
    recut,
    sse,
    sse_event,
    token_usage,
)


def test_an_event_stream_to_the_byte() -> None:
    assert sse([{"a": "é"}, '{"cut', b"as it is"], comments=["ping"]) == [
        b": ping\n\n",
        'data: {"a":"é"}\n\n'.encode(),
        b'data: {"cut\n\n',
        b"as it is",
        b"data: [DONE]\n\n",
    ]
    assert sse([{}], newline="\r\n", comments=["1", "2"]) == [
        b": 1\r\n\r\n",
        b"data: {}\r\n\r\n",
        b": 2\r\n\r\n",
        b"data: [DONE]\r\n\r\n",
    ]
    assert sse([], done=False) == []
    assert sse_event("two\nlines", event="error") == b"event: error\ndata: two\ndata: lines\n\n"
    assert (
        sse_event(error_body("no", code=None))
        == b'data: {"error":{"message":"no","type":"server_error","code":null}}\n\n'
    )


def test_bytes_can_be_cut_anywhere() -> None:
    whole = sse([{"a": "é"}])
    pieces = recut(whole, 1)
    assert len(pieces) == len(b"".join(whole)) == len(b"".join(pieces))
    assert recut(whole, 10**6) == [b"".join(whole)]


def test_streamed_text_with_reasoning_and_usage() -> None:
    usage = token_usage(7, 2, cached_tokens=3)
    chunks = chat_chunks(["a", "b"], reasoning="hm", reasoning_key="reasoning", usage=usage)
    choices = [chunk["choices"] for chunk in chunks]
    assert [choice[0]["delta"] for choice in choices[:-1]] == [
        {"role": "assistant", "content": None},
        {"reasoning": "hm"},
        {"content": "a"},
        {"content": "b"},
        {},
    ]
    assert [choice[0]["finish_reason"] for choice in choices[:-1]] == [None] * 4 + ["stop"]
    assert (choices[-1], chunks[-1]["usage"]["total_tokens"]) == ([], 9)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_streamed_tool_calls_in_fragments() -> None:
    calls = [
        WireCall("f", ['{"a"', ": 1}"], "id-1", 0),
        WireCall("g", {"b": 2}, None, None),
    ]
    chunks = chat_chunks(tool_calls=calls)
    fragments = [fragment for chunk in chunks for fragment in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert fragments == [
        {"index": 0, "id": "id-1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"type": "function", "function": {"name": "g", "arguments": {"b": 2}}},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert chat_chunks(tool_calls=calls, finish_reason=None)[-1]["choices"][0]["finish_reason"] is None


def test_an_answer_in_one_body() -> None:
    body = chat_completion(None, tool_calls=[WireCall("f", ["{", "}"])], reasoning="hm", usage=token_usage(1, 2))
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert "usage" not in chat_completion("hi")


def test_all_names_of_the_room_can_be_imported() -> None:
    assert all(getattr(testing, name) for name in testing.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = testing.nothing
