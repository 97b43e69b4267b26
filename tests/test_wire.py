"""Own messages to wire dicts and back; history that any server can read."""

from __future__ import annotations

import json

import pytest

from any_agent.errors import ConfigurationError, InvalidInputError
from any_agent.models.wire import NO_RESULT, check_params, collected, from_wire, to_wire, tools_to_wire
from any_agent.types import (
    AssistantMessage,
    ImageBlock,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
)

CALL = AssistantMessage((TextBlock("ok"), ToolUseBlock("a", "f", {"x": "é"}), ToolUseBlock("b", "g", {})))


def test_plain_messages() -> None:
    wire = to_wire(
        [SystemMessage("be kind"), UserMessage("hi"), AssistantMessage((ThinkingBlock("hm"), TextBlock("yes")))]
    )
    assert wire == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
    ]


def test_results_follow_the_order_of_the_calls_and_orphans_go() -> None:
    results = ToolMessage((ToolResultBlock("b", "2"), ToolResultBlock("zzz", "?"), ToolResultBlock("a", {"n": 1})))
    wire = to_wire([UserMessage("q"), CALL, results])
    assert [(w.get("tool_call_id"), w["content"]) for w in wire[2:]] == [("a", '{"n": 1}'), ("b", "2")]
    assert json.loads(wire[1]["tool_calls"][0]["function"]["arguments"]) == {"x": "é"}


@pytest.mark.parametrize("after", [[], [UserMessage("go on")], [AssistantMessage("hm")]])
def test_every_call_is_answered_once(after: list) -> None:
    wire = to_wire([CALL, *after])
    assert [w["content"] for w in wire[1:3]] == [NO_RESULT, NO_RESULT]
    assert to_wire([ToolMessage((ToolResultBlock("x", "orphan"),)), UserMessage("q")]) == [
        {"role": "user", "content": "q"}
    ]


def test_broken_arguments_become_valid_json_in_the_history() -> None:
    wire = to_wire([AssistantMessage((ToolUseError("bad", '{"x', "a", "f"), ToolUseError("nameless", "", "b", "")))])
    functions = [c["function"] for c in wire[0]["tool_calls"]]
    assert json.loads(functions[0]["arguments"]) == {"invalid_arguments": '{"x'}
    assert functions[1]["name"] == "unknown_tool"


def test_two_user_messages_in_a_row_are_merged() -> None:
    assert to_wire([UserMessage("a"), UserMessage("b")]) == [{"role": "user", "content": "a\n\nb"}]
    (merged,) = to_wire([UserMessage("a"), UserMessage((ImageBlock("data:x", "low"), TextBlock("b")))])
    assert [p["type"] for p in merged["content"]] == ["text", "image_url", "text"]
    assert merged["content"][1]["image_url"] == {"url": "data:x", "detail": "low"}


def test_provider_fields_go_back_to_their_provider_only() -> None:
    message = AssistantMessage((TextBlock("x"),), provider="anthropic", provider_fields={"thinking_blocks": [1]})
    assert "thinking_blocks" in to_wire([message], "anthropic")[0]
    assert "thinking_blocks" not in to_wire([message], "openai")[0]


def test_messages_are_encoded_once() -> None:
    message = UserMessage("hi")
    assert to_wire([message])[0] is to_wire([message])[0]


def test_round_trip() -> None:
    history = [
        SystemMessage("s"),
        UserMessage("q"),
        CALL,
        ToolMessage((ToolResultBlock("a", "1"), ToolResultBlock("b", "2"))),
    ]
    assert from_wire(to_wire(history)) == history
    assert from_wire(history) == history


def test_wire_dicts_of_others_are_read() -> None:
    items = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": "http://x/i.png"}]},
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}},
            {"id": "2", "function": {"name": "f", "arguments": "{"}},
            {"id": "3", "function": {"name": "f", "arguments": "[]"}},
            {"id": "4", "function": {"name": "f", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]  # fmt: skip
    system, user, assistant, results = from_wire(items)
    assert isinstance(system, SystemMessage) and user.content[1] == ImageBlock("http://x/i.png")
    kinds = [type(b).__name__ for b in assistant.content]
    assert kinds == ["ThinkingBlock", "ToolUseBlock", "ToolUseError", "ToolUseError", "ToolUseBlock"]
    assert results.content[0].tool_use_id == "1"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ("hi", r"messages\[0\]"),
        ({"role": "wizard"}, r"messages\[0\].role"),
        ({"role": "user", "content": [7]}, "content"),
    ],
)
def test_bad_messages_are_named(item: object, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        from_wire([item])  # type: ignore[list-item]
    assert caught.value.field and caught.value.field.startswith("messages[0]")


def test_unknown_parameters_are_refused_by_name() -> None:
    check_params({"temperature": 1, "seed": 2})
    with pytest.raises(ConfigurationError, match="did you mean 'temperature'"):
        check_params({"temprature": 1})
    with pytest.raises(ConfigurationError, match="extra_body"):
        check_params({"zzzzzz": 1})


def test_tools_to_wire() -> None:
    (wire,) = tools_to_wire([ToolSpec("f", "does f", {"type": "object", "properties": {}})])
    assert wire["function"] == {
        "name": "f",
        "description": "does f",
        "parameters": {"type": "object", "properties": {}},
    }


async def test_async_prompts_are_collected() -> None:
    async def prompts():
        yield "one"
        yield {"type": "user", "message": {"role": "user", "content": "two"}}
        yield UserMessage("three")

    assert to_wire(from_wire(await collected(prompts()))) == [{"role": "user", "content": "one\n\ntwo\n\nthree"}]
