"""Going round in circles is told first and then ends the run."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from any_agent.dispatch import Dispatch
from any_agent.errors import LimitError, LoopDetectedError
from any_agent.models.canonical import canonical
from any_agent.tools import ToolRegistry, tool
from any_agent.tools.repeats import loop_detected, repeated
from any_agent.types import (
    AssistantMessage,
    Message,
    ToolCompleted,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
)

ran: list[str] = []


@tool
def look(where: str = "", **more: Any) -> str:
    ran.append(where)
    return "nothing"


@tool(edits_files=True)
def edit(text: str) -> str:
    return "edited"


@tool(may_repeat=True)
def poll() -> str:
    ran.append("poll")
    return "not yet"


REGISTRY = ToolRegistry([look, edit, poll])


def turns(*made: Any, start: int = 0) -> list[Message]:
    """A history: the user, then each call with its result. A tuple is several calls of one turn."""
    history: list[Message] = [UserMessage("go")]
    for number, calls in enumerate(made, start):
        if isinstance(calls, str):
            history.append(UserMessage(calls))
            continue
        named = tuple([c(f"{number}.{i}") for i, c in enumerate(calls if isinstance(calls, tuple) else (calls,))])
        history.append(AssistantMessage(named))
        history.append(ToolMessage(tuple([ToolResultBlock(c.id, "r") for c in named])))
    return history


def a(call_id: str) -> ToolUseBlock:
    return ToolUseBlock(call_id, "look", {"where": "a", "deep": {"x": 1, "y": 2.0}})


def same_as_a(call_id: str) -> ToolUseBlock:
    return ToolUseBlock(call_id, "look", {"deep": {"y": 2, "x": 1}, "where": "a"})


def b(call_id: str) -> ToolUseBlock:
    return ToolUseBlock(call_id, "look", {"where": "b"})


def e(call_id: str) -> ToolUseBlock:
    return ToolUseBlock(call_id, "edit", {"text": "x"})


def polls(call_id: str) -> ToolUseBlock:
    return ToolUseBlock(call_id, "poll", {})


def broken(call_id: str) -> ToolUseError:
    return ToolUseError("not JSON", "{oops", call_id, "look")


def judged(history: list[Message]) -> str:
    """What becomes of the last turn's calls: run, told or ended."""
    *before, last, _ = history
    assert isinstance(last, AssistantMessage)
    now = [*before, last]
    if loop_detected(last.tool_calls, now, REGISTRY):
        return "ended"
    return "told" if repeated(last.tool_calls, now, REGISTRY) else "run"


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        ([a], "run"),
        ([a, a], "run"),
        ([a, a, a], "told"),
        ([a, same_as_a, a], "told"),
        ([a, a, a, a], "ended"),
        ([a, b, a, b, a], "told"),
        ([a, b, a, b, a, b], "told"),
        ([a, b, a, b, a, b, a], "ended"),
        ([a, a, "and now?", a], "run"),
        ([a, a, a, "once more, please", a, a], "run"),
        ([polls] * 6, "run"),
        ([broken, broken, broken], "told"),
        ([broken, broken, broken, broken], "ended"),
        ([a, a, e, a], "run"),
        ([a, a, e, a, a, a], "told"),
        ([a, e, a, e, a, e], "told"),
        ([e, e, e, e], "ended"),
        ([(a, a, a, a, a)], "told"),
        ([(a, a, a), a], "ended"),
        ([(a, b), (a, b), b], "told"),
    ],
)
def test_what_becomes_of_a_repeated_call(made: list[Any], outcome: str) -> None:
    assert judged(turns(*made)) == outcome


def test_only_the_repeated_calls_of_a_turn_are_told() -> None:
    history = turns(a, a, (a, b))[:-1]
    calls = history[-1].tool_calls  # type: ignore[union-attr]
    assert repeated(calls, history, REGISTRY) == {calls[0].id: 3}
    resumed = repeated(calls[1:], history, REGISTRY)  # the first one was answered before the program was killed
    assert resumed == {}


def test_the_same_ids_in_every_turn_do_not_hide_a_loop() -> None:
    call = ToolUseBlock("call_1", "look", {})
    history: list[Message] = [UserMessage("go")]
    for _ in range(3):
        history += [AssistantMessage((call,)), ToolMessage((ToolResultBlock("call_1", "r"),))]
    history.append(AssistantMessage((call,)))
    assert loop_detected([call], history, REGISTRY) is not None


def test_the_error_says_what_was_repeated() -> None:
    history = turns(b, b, b, b)[:-1]
    error = loop_detected(history[-1].tool_calls, history, REGISTRY)  # type: ignore[union-attr]
    assert isinstance(error, LoopDetectedError) and isinstance(error, LimitError)
    assert (error.tool_name, error.arguments, error.count, error.limit) == ("look", {"where": "b"}, 4, "same_calls")
    assert pickle.loads(pickle.dumps(error)).count == 4


async def test_dispatch_tells_the_model_and_does_not_run_it() -> None:
    ran.clear()
    dispatch = Dispatch(REGISTRY)
    history = turns(a, a, (a, b, polls))[:-1]
    calls = history[-1].tool_calls  # type: ignore[union-attr]
    done = [event async for event in dispatch.answer(calls, history) if isinstance(event, ToolCompleted)]
    told = {one.result.tool_use_id: one.result for one in done}
    assert told[calls[0].id].is_error and "third call of look with the same arguments" in told[calls[0].id].as_text()
    assert sorted(ran) == ["b", "poll"] and len(told) == 3
    assert dispatch.looping(calls, history) is None


def test_arguments_that_mean_the_same() -> None:
    assert canonical({"b": [1.0, {"z": 1, "a": None}], "a": "ü"}) == canonical(
        {"a": "ü", "b": [1, {"a": None, "z": 1}]}
    )
    different: list[Any] = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": True},
        {"a": None},
        {"a": 1.5},
        {"a": [1]},
        {"a": [[1]]},
        [],
    ]
    assert len({canonical(one) for one in different}) == len(different)
    odd: dict[Any, Any] = {(1, 2): {3}}
    odd["self"] = odd
    assert canonical(odd) and canonical({"x": float("nan")}) == canonical({"x": float("nan")})
