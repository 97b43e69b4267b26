"""Whatever bytes a server sends: the right text or one typed error; never a hang, never a silent empty answer."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from any_agent.errors import ProviderError
from any_agent.models.failures import Where
from any_agent.models.openai_answer import Answer
from any_agent.models.sse import SseReader
from any_agent.models.streaming import Fold
from any_agent.types import Delta, StreamEnd, TextDelta, ThinkingDelta, ToolCallDelta, ToolUseError

WHERE = Where("m", "p", "http://127.0.0.1:1/v1")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
deltas = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("content", "reasoning", "reasoning_content", "tool_calls", "function_call", "role"), values
    ),
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "choices": values
        | st.lists(
            values
            | st.fixed_dictionaries(
                {}, optional={"delta": values | deltas, "message": deltas, "finish_reason": values, "error": values}
            ),
            max_size=2,
        ),
        "usage": values
        | st.fixed_dictionaries({}, optional={"prompt_tokens": values, "prompt_tokens_details": values}),
        "model": values,
        "error": values,
    },
)


def read(pieces: list[bytes]) -> list[Delta]:
    """What the direct door makes of a body."""
    answer, reader, out = Answer(WHERE), SseReader(), []
    for piece in pieces:
        for event in reader.feed(piece):
            out += answer.take(event)
    for event in reader.end():
        out += answer.take(event)
    return out + answer.end(reader.whole_body())


def judge(pieces: list[bytes]) -> None:
    try:
        out = read(pieces)
    except ProviderError as error:
        assert str(error)
        return
    assert isinstance(out[-1], StreamEnd)
    fold = Fold()
    for delta in out:
        fold.add(delta)
    assert all(isinstance(call, ToolUseError) or isinstance(call.input, dict) for call in fold.message().tool_calls)
    assert any(isinstance(d, (TextDelta, ThinkingDelta, ToolCallDelta)) for d in out)


@settings(max_examples=400, deadline=None)
@given(st.lists(chunks | values, max_size=4), st.booleans(), st.integers(1, 50))
def test_any_json_in_a_stream(events: list[Any], done: bool, size: int) -> None:
    body = b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events) + (
        b"data: [DONE]\n\n" if done else b""
    )
    judge([body[i : i + size] for i in range(0, len(body), size)])


@settings(max_examples=200, deadline=None)
@given(chunks | values)
def test_any_json_as_a_whole_body(body: Any) -> None:
    judge([json.dumps(body).encode()])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"data: ", b"\n\n", b"{", b"}", b'"choices"', b"[DONE]", b"\r\n"]),
        max_size=12,
    )
)
def test_any_bytes(pieces: list[bytes]) -> None:
    judge(pieces)


@given(
    values
    | st.fixed_dictionaries(
        {}, optional={name: values | st.floats() for name in ("prompt_tokens", "completion_tokens")}
    ),
    values,
)
@settings(max_examples=200, deadline=None)
def test_usage_that_is_no_usage_spoils_no_answer(usage: Any, details: Any) -> None:
    if isinstance(usage, dict) and "prompt_tokens" in usage:
        usage["prompt_tokens_details"] = usage["completion_tokens_details"] = details
    said = {"choices": [{"delta": {"content": "fine"}, "finish_reason": "stop"}], "usage": usage}
    text, end = read([b"data: %b\n\n" % json.dumps(said).encode()])
    assert isinstance(text, TextDelta) and isinstance(end, StreamEnd)
    if end.usage is not None:
        counts = (end.usage.input_tokens, end.usage.output_tokens, end.usage.cached_tokens, end.usage.reasoning_tokens)
        assert all(type(count) is int and 0 <= count < 1e9 for count in counts) and counts[:2] != (0, 0)
