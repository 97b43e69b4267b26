"""Deltas become blocks: strange fragments of tool calls, <think> at any border."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from any_agent.models.sse import SseReader
from any_agent.models.streaming import Fold, ThinkSplitter
from any_agent.types import (
    Attempt,
    AttemptFailed,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolUseBlock,
    ToolUseError,
)

D = ToolCallDelta


def calls(*deltas: ToolCallDelta, finish: str = "tool_calls") -> list[tuple[str, str, dict]]:
    fold = Fold()
    for delta in deltas:
        fold.add(delta)
    fold.add(StreamEnd("m", finish))
    return [(c.id, c.name, c.input) for c in fold.message().tool_calls if isinstance(c, ToolUseBlock)]


CASES = {
    "whole": ([D(0, "a", "f", '{"x": 1}')], [("a", "f", {"x": 1})]),
    "pieces": ([D(0, "a", "f", "{"), D(0, None, None, '"x":'), D(0, None, None, "1}")], [("a", "f", {"x": 1})]),
    "empty name later": ([D(0, "a", "f", "{"), D(0, "", "", "}")], [("a", "f", {})]),
    "name repeated": ([D(0, "a", "f", "{"), D(0, "a", "f", "}")], [("a", "f", {})]),
    "name split": ([D(0, "a", "get_", None), D(0, None, "time", "{}")], [("a", "get_time", {})]),
    "interleaved": (
        [D(0, "a", "f", "{"), D(1, "b", "g", "{"), D(0, None, None, "}"), D(1, None, None, "}")],
        [("a", "f", {}), ("b", "g", {})],
    ),
    "gap in index": ([D(3, "a", "f", "{}"), D(7, "b", "g", "{}")], [("a", "f", {}), ("b", "g", {})]),
    "same index, new id": ([D(0, "a", "f", '{"a":1}'), D(0, "b", "g", '{"b":2}')], [("a", "f", {"a": 1}), ("b", "g", {"b": 2})]),
    "no index, ids": ([D(None, "a", "f", "{"), D(None, "b", "g", "{}"), D(None, "a", None, "}")], [("a", "f", {}), ("b", "g", {})]),
    "object": ([D(0, "a", "f", {"x": 1})], [("a", "f", {"x": 1})]),
    "null arguments": ([D(0, "a", "f", None)], [("a", "f", {})]),
    "json null": ([D(0, "a", "f", "null")], [("a", "f", {})]),
    "empty arguments": ([D(0, "a", "f", "")], [("a", "f", {})]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_calls_are_put_together(name: str) -> None:
    deltas, expected = CASES[name]
    assert calls(*deltas) == expected


def test_calls_without_ids_stay_apart_and_get_ids() -> None:
    found = calls(D(0, None, "f", '{"a":1}'), D(0, None, "g", '{"b":2}'))
    assert [(n, i) for _, n, i in found] == [("f", {"a": 1}), ("g", {"b": 2})]
    assert len({i for i, _, _ in found}) == 2 and all(i for i, _, _ in found)
    same = calls(D(0, None, "f", "{}"), D(0, None, "f", "{}"))
    assert len(same) == 2
    doubled = calls(D(0, "x", "f", "{}"), D(1, "x", "g", "{}"))
    assert len({i for i, _, _ in doubled}) == 2


BROKEN = {
    "cut": ([D(0, "a", "f", '{"x": ')], "length", "cut off"),
    "cut before arguments": ([D(0, "a", "f", "")], "length", "cut off"),
    "cut although told otherwise": ([D(0, "a", "f", '{"x": ')], "tool_calls", "not valid JSON"),
    "array": ([D(0, "a", "f", "[1]")], "stop", "not an object"),
    "true": ([D(0, "a", "f", "true")], "stop", "not an object"),
    "text": ([D(0, "a", "f", "Paris")], "stop", "not valid JSON"),
    "nameless": ([D(0, "a", None, "{}")], "stop", "no name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_calls_never_become_runnable(name: str) -> None:
    deltas, finish, reason = BROKEN[name]
    fold = Fold()
    for delta in deltas:
        fold.add(delta)
    fold.add(StreamEnd("m", finish))
    (call,) = fold.message().tool_calls
    assert isinstance(call, ToolUseError) and reason in call.error


def test_a_failed_try_leaves_nothing_behind() -> None:
    fold = Fold()
    fold.add(D(0, "a", "f", '{"x'))
    fold.add(AttemptFailed(Attempt("m", None, 0.1, "ServerError", "x", then="retried")))
    fold.add(TextDelta("ok"))
    fold.add(StreamEnd("m", "stop"))
    assert fold.message().tool_calls == () and len(fold.attempts) == 1


# ------------------------------------------------------------------ <think>

THINK = {
    "<think>why</think>\n\nBecause": ("why", "Because"),
    "  <think>why</think>Because": ("why", "Because"),
    "<thinking>a</think>b</thinking>c": ("a</think>b", "c"),
    "Text with <think> inside": ("", "Text with <think> inside"),
    "<thin line": ("", "<thin line"),
    "<think>never closed": ("never closed", ""),
    "<think></think>ok": ("", "ok"),
    "  plain": ("", "  plain"),
    "<": ("", "<"),
    "<think>a < b </thi nk></think> x": ("a < b </thi nk>", "x"),
}


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
    out = [d for p in pieces for d in splitter.feed(p)] + splitter.flush()
    thinking = "".join(d.thinking for d in out if isinstance(d, ThinkingDelta))
    return thinking, "".join(d.text for d in out if isinstance(d, TextDelta))


@pytest.mark.parametrize("text", THINK)
def test_think_is_split_the_same_at_every_border(text: str) -> None:
    assert split([text]) == THINK[text]
    assert split(list(text)) == THINK[text]
    for cut in range(len(text)):
        assert split([text[:cut], text[cut:]]) == THINK[text]


@given(st.text(alphabet="<think>/ ab\n", max_size=40), st.integers(1, 5))
def test_think_never_depends_on_chunking(text: str, size: int) -> None:
    assert split([text[i : i + size] for i in range(0, len(text), size)]) == split([text])


# ------------------------------------------------------------------ server-sent events


def read(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    reader = SseReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


STREAMS = {
    "plain": (b'data: {"a":1}\n\ndata: [DONE]\n\n', [(b"", b'{"a":1}'), (b"", b"[DONE]")]),
    "crlf": (b'data: {"a":1}\r\n\r\ndata: [DONE]\r\n\r\n', [(b"", b'{"a":1}'), (b"", b"[DONE]")]),
    "cr": (b'data: {"a":1}\r\rdata: [DONE]\r\r', [(b"", b'{"a":1}'), (b"", b"[DONE]")]),
    "comments": (b': ping\n\n: ping\ndata: {"a":1}\n\n', [(b"", b'{"a":1}')]),
    "no space": (b'data:{"a":1}\n\n', [(b"", b'{"a":1}')]),
    "fields": (b'id: 7\nretry: 10\nevent: error\ndata: {"a":1}\n\ndata: 1\n\n', [(b"error", b'{"a":1}'), (b"", b"1")]),
    "two lines": (b'data: {"a":\ndata: 1}\n\n', [(b"", b'{"a":\n1}')]),
    "no blank line": (b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n', [(b"", b'{"a":1}'), (b"", b'{"b":2}'), (b"", b"[DONE]")]),
    "no end": (b'data: {"a":1}', [(b"", b'{"a":1}')]),
    "bom": (b'\xef\xbb\xbfdata: {"a":1}\n\n', [(b"", b'{"a":1}')]),
    "umlaut": ('data: {"a":"ü🙂"}\n\n'.encode(), [(b"", '{"a":"ü🙂"}'.encode())]),
    "blank start": (b'\n\ndata: {"a":1}\n\n', [(b"", b'{"a":1}')]),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_events_are_read_in_any_chunking(name: str) -> None:
    data, events = STREAMS[name]
    assert read([data]) == events
    assert read([bytes([b]) for b in data]) == events
    for cut in range(len(data)):
        assert read([data[:cut], data[cut:]]) == events


@pytest.mark.parametrize("body", [b'{"choices": []}', b"  [1]", b"<html>", b"\n\n <!doctype html>"])
def test_a_body_that_is_no_stream_is_kept_whole(body: bytes) -> None:
    reader = SseReader()
    assert [e for b in body for e in reader.feed(bytes([b]))] + reader.end() == []
    assert reader.whole_body() is not None and reader.whole_body().endswith(body.lstrip())


def test_json_of_a_stream_round_trips() -> None:
    chunk = {"choices": [{"delta": {"content": "x\ny"}}]}
    assert json.loads(read([f"data: {json.dumps(chunk)}\n\n".encode()])[0][1]) == chunk
