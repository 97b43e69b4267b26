"""What models say, and which calls it means: a corpus of outputs, each also cut at every place a stream may be cut."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from any_agent.models.recovery import Speech
from any_agent.models.streaming import Fold
from any_agent.types import (
    ModelRequest,
    StreamEnd,
    TextBlock,
    ThinkingBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
)

DATA = Path(__file__).parent / "data" / "tool_outputs"
TOOLS = tuple(ToolSpec(**tool) for tool in json.loads((DATA / "tools.json").read_text()))
ROWS = [json.loads(line) for file in sorted(DATA.glob("*.jsonl")) for line in file.read_text().splitlines()]
ASKED = ModelRequest((), TOOLS)

Heard = dict[str, Any]


def heard(pieces: list[str], finish: str = "stop") -> Heard:
    """What comes of an answer that arrives in these pieces."""
    speech, fold = Speech(ASKED), Fold(TOOLS)
    for piece in pieces:
        for delta in speech.feed(piece):
            fold.add(delta)
    for delta in speech.flush(finish):
        fold.add(delta)
    fold.add(StreamEnd("m", finish))
    blocks = fold.message().content
    return {
        "calls": [{"name": b.name, "arguments": b.input} for b in blocks if isinstance(b, ToolUseBlock)],
        "refused": [(b.name, b.error, b.raw_data) for b in blocks if isinstance(b, ToolUseError)],
        "shown": "".join(b.text for b in blocks if isinstance(b, TextBlock)),
        "thinking": "".join(b.thinking for b in blocks if isinstance(b, ThinkingBlock)),
    }


def whole(row: Heard) -> Heard:
    return heard([row["text"]], row.get("finish", "stop"))


def test_the_corpus_is_large_and_each_output_has_its_own_name() -> None:
    assert len(ROWS) >= 300
    assert len({row["id"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_an_output_means_these_calls(row: Heard) -> None:
    found = whole(row)
    same_kinds = json.dumps(found["calls"]) == json.dumps(row["calls"])  # 1, 1.0 and True are not the same
    assert found["calls"] == row["calls"] and same_kinds, found
    assert len(found["refused"]) == row.get("refused", 0), found
    if "shown" in row:
        assert found["shown"] == row["shown"]
    elif row["dialect"] not in ("quoted", "text", "thinking"):
        assert not any(mark in found["shown"] for mark in ("<tool_call", "[TOOL", "<function=", "<|")), found
    if "thinking" in row:
        assert found["thinking"] == row["thinking"]


def test_nothing_wrong_is_executed_and_most_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    meant, understood, wrong = Counter[str](), Counter[str](), []
    for row in ROWS:
        found = [json.dumps(call, sort_keys=True) for call in whole(row)["calls"]]
        expected = [json.dumps(call, sort_keys=True) for call in row["calls"]]
        wrong += [row["id"] for call in found if call not in expected]
        meant[row["dialect"]] += len(expected)
        understood[row["dialect"]] += len([call for call in expected if call in found])
    with capsys.disabled():
        print(f"\n{len(ROWS)} outputs, {len(wrong)} wrong executions; recall:")
        print(", ".join(f"{name} {understood[name]}/{count}" for name, count in sorted(meant.items()) if count))
    assert wrong == []
    for name, count in meant.items():
        assert understood[name] >= 0.95 * count, name


def cut_at(row: Heard, places: range) -> None:
    text, finish, expected = row["text"], row.get("finish", "stop"), whole(row)
    for place in places:
        assert heard([text[:place], text[place:]], finish) == expected, (text[:place], text[place:])


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: ROWS[number]["id"])
def test_cut_anywhere_it_means_the_same(number: int) -> None:
    """Character by character, and at every eighth place, another eighth for the next output of its kind."""
    row = ROWS[number]
    assert heard(list(row["text"]), row.get("finish", "stop")) == whole(row)
    cut_at(row, range(1 + number % 8, len(row["text"]), 8))


@pytest.mark.slow
def test_cut_at_each_single_place_it_means_the_same() -> None:
    for row in ROWS:
        cut_at(row, range(1, len(row["text"])))


# ------------------------------------------------------------------ any text at all

PIECES = [
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "<|python_tag|>", "<function=now>", "```"),
    *("</function>", "<parameter=city>", "</parameter>", "\n", "`", '"', "'", "{", "}", "[", "]", "(", ")", ":", ","),
    *('{"name": "now", "arguments": {}}', '{"name": "get_weather", "arguments": {"city": "Paris"}}', "Let me check.", " "),
    *("<|channel|>", "<|message|>", "analysis", "commentary to=functions.now", "<|end|>", "<|call|>", "TOOL: now\nARGS: {}"),
    *("<|tool_call_start|>", "<|tool_call_end|>", "now()", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "For example:"),
    *("~~~", "````", "xml", "    ", "<pre>", "</pre>", "Action: now\nAction Input: {}", "Action: ```json\n", "Act", "<escape>"),
    *("<|tool_call>call:now{}<tool_call|>", '<invoke name="now">', "</invoke>", "<|tool_call_begin|>", "<|tool_call_end|>"),
]  # fmt: skip
ANY_TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=14).map("".join)


@given(ANY_TEXT, st.data())
def test_any_text_is_read_without_failing_and_alike_in_pieces(text: str, data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    found = heard([text])
    assert heard(pieces) == found
    assert heard(list(text)) == found
    known = {tool.name for tool in TOOLS}
    assert all(call["name"] in known or call["name"] in text for call in found["calls"])


@given(ANY_TEXT)
def test_text_without_calls_and_reasoning_is_conserved(text: str) -> None:
    found = heard([text])
    if (
        not found["calls"]
        and not found["refused"]
        and not found["thinking"]
        and "think" not in text
        and "<|" not in text
    ):
        assert found["shown"] == text


@given(ANY_TEXT)
def test_without_tools_nothing_is_a_call(text: str) -> None:
    speech, fold = Speech(ModelRequest(())), Fold()
    for delta in [*speech.feed(text), *speech.flush()]:
        fold.add(delta)
    assert fold.message().tool_calls == ()


def test_tool_choice_none_and_structured_output_make_no_calls() -> None:
    said = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
    for asked in (
        ModelRequest((), TOOLS, "none"),
        ModelRequest((), TOOLS, None, {"response_format": {"type": "json_object"}}),
    ):
        speech = Speech(asked)
        fold = Fold(TOOLS)
        for delta in [*speech.feed(said), *speech.flush()]:
            fold.add(delta)
        assert fold.message().tool_calls == () and "".join(fold.text) == said


def test_ordinary_text_is_not_held_back() -> None:
    speech = Speech(ASKED)
    for word in [
        "The",
        "weather",
        "in",
        "Paris",
        "is",
        "fine,",
        "and",
        "<",
        "3",
        "is",
        "less",
        "than",
        "[4]",
        "or",
        "{5};",
        "`code`",
        "too.",
        "",
    ]:
        (delta,) = speech.feed(f"{word} ")
        assert delta.text == f"{word} "


def test_a_long_call_in_small_pieces_costs_little() -> None:
    content = 'def f(x):\n    return {"a": [x], "b": x < 3 > 2}\n' * 2000
    call = {"name": "write_file", "arguments": {"path": "a", "content": content}}
    text = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    started = process_time()
    found = heard([text[at : at + 4] for at in range(0, len(text), 4)])
    assert found["calls"] == [call]
    assert process_time() - started < 3  # 0.2 s; looking at all of it for every piece takes 20 s
