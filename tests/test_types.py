"""Blocks, messages, the answer, errors: plain values that copy, compare and pickle."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from any_agent import errors
from any_agent.types import (
    AgentResponse,
    AssistantMessage,
    Attempt,
    TextBlock,
    ThinkingBlock,
    Timings,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    Usage,
    UserMessage,
)


def answer() -> AgentResponse:
    blocks = (ThinkingBlock("hm"), TextBlock("Hi"))
    return AgentResponse(
        "Hi", blocks=blocks, usage=Usage(3, 2, 1), cost_usd=0.5, model="m", finish_reason="stop", timings=Timings(1.0)
    )


def test_response_is_a_str_with_more() -> None:
    r = answer()
    assert r == "Hi" and r.content == "Hi" and type(r.content) is str and r.upper() == "HI"
    assert (r.thinking, r.cost_usd, r.model, r.attempts, r.data) == ("hm", 0.5, "m", (), None)
    assert json.dumps({"a": r}) == '{"a": "Hi"}'
    assert r._repr_markdown_() == "Hi"


@pytest.mark.parametrize("clone", [lambda r: pickle.loads(pickle.dumps(r)), copy.copy, copy.deepcopy])
def test_response_survives_copying(clone) -> None:
    r = clone(answer())
    assert isinstance(r, AgentResponse) and r == "Hi" and r.usage == Usage(3, 2, 1) and r.blocks == answer().blocks


def test_response_refuses_unknown_fields() -> None:
    with pytest.raises(TypeError, match="colour"):
        AgentResponse("x", colour="red")


def test_usage_reads_like_the_wire_and_adds() -> None:
    usage = Usage(10, 5, 4, 1) + Usage(1, 1, is_estimated=True)
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage.total_tokens) == (11, 6, 17)
    assert usage.is_estimated
    with pytest.raises(KeyError):
        usage["nothing"]


def test_messages_take_text_and_pickle() -> None:
    message = UserMessage("hello")
    assert message.content == (TextBlock("hello"),) and message.role == "user"
    assert UserMessage("") == UserMessage(())
    turn = AssistantMessage([ToolUseBlock("1", "f", {"a": 1})], model="m")
    assert pickle.loads(pickle.dumps(turn)) == turn and turn.tool_calls[0].name == "f"
    assert UserMessage("x") != ToolMessage("x")
    with pytest.raises(AttributeError):
        message.content = ()  # type: ignore[misc]


def test_reasoning_and_results_never_leak_into_a_joined_answer() -> None:
    assert not hasattr(ThinkingBlock("x"), "text")
    assert not hasattr(ToolResultBlock("1", "x"), "text")


def test_tool_result_text() -> None:
    assert ToolResultBlock("1", {"a": "é"}).as_text() == '{"a": "é"}'
    assert ToolResultBlock("1").as_text() == ""


EXAMPLES = [
    errors.ContextOverflowError("too long", 5, 4, model="m", status=400),
    errors.AllModelsFailedError("all", attempts=(Attempt("m", None, 0.1, "X", "y"),)),
    errors.ConfigurationError("bad", field="temperature", value=3, allowed="0-2"),
    errors.ToolExecutionError("boom", "f", ValueError("inner")),
    errors.InterruptedRunError("stop", session_id="s", partial_text="abc"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_errors_pickle_with_their_values(error: errors.AnyAgentError) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error) and str(twin) == str(error) and twin.__dict__ == error.__dict__


def test_error_tree_promises() -> None:
    assert issubclass(errors.ConfigurationError, ValueError)
    assert errors.MemoryError is errors.MemoryStoreError and "MemoryError" not in errors.__all__
    assert errors.ValidationError is errors.InvalidInputError and "ValidationError" not in errors.__all__
    assert "ContextOverflowError" in errors.__all__
    provider = errors.ProviderError("x", provider="p", original_error=ValueError("why"))
    assert (provider.provider, provider.original_error) == ("p", "why")
    with pytest.raises(TypeError, match="no field 'colour'"):
        errors.ProviderError("x", colour=1)


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__ is not None
    assert [name for name in errors.__all__ if name not in errors.__doc__] == []


def test_delivered_text_ends_retrying() -> None:
    assert errors.ServerError("x").retryable
    assert not errors.ServerError("x", delivered_chars=1).retryable
    assert not errors.AuthenticationError("x").retryable
