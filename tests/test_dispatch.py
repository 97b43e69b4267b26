"""Every call is answered once, whatever happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from any_agent.dispatch import Dispatch, render
from any_agent.hooks import HookDecision, PostToolUseEvent, PreToolUseEvent
from any_agent.tools import ToolRegistry, tool
from any_agent.types import ToolCompleted, ToolStarted, ToolUseBlock, ToolUseError, UserMessage

running = 0
most = 0


async def busy(seconds: float) -> float:
    global running, most
    running += 1
    most = max(most, running)
    try:
        await asyncio.sleep(seconds)
    finally:
        running -= 1
    return seconds


@tool
async def wait(seconds: float) -> float:
    """Wait."""
    return await busy(seconds)


@tool(parallel=False)
async def alone(seconds: float) -> float:
    """Wait alone."""
    return await busy(seconds)


@tool
def boom() -> None:
    """Fail."""
    raise ValueError("bang")


@tool(timeout=0.02)
async def slow() -> None:
    """Too slow."""
    await asyncio.sleep(5)


@tool
async def own_timeout() -> None:
    """Times out by itself."""
    raise asyncio.TimeoutError("upstream")


REGISTRY = ToolRegistry([wait, alone, boom, slow, own_timeout])


async def answer(*calls: Any, **how: Any) -> list[Any]:
    global most
    most = 0
    dispatch = Dispatch(REGISTRY, **how)
    return [event async for event in dispatch.answer(calls, [UserMessage("q")])]


def use(name: str, call_id: str = "1", **arguments: Any) -> ToolUseBlock:
    return ToolUseBlock(call_id, name, arguments)


def results(events: list[Any]) -> list[tuple[str, bool | None, str]]:
    return [
        (e.result.tool_use_id, e.result.is_error, e.result.as_text()) for e in events if isinstance(e, ToolCompleted)
    ]


async def test_calls_run_side_by_side_and_report_when_they_are_done() -> None:
    events = await answer(
        use("wait", "a", seconds=0.05), use("wait", "b", seconds=0.001), use("wait", "c", seconds=0.0)
    )
    assert [r[0] for r in results(events)] == ["c", "b", "a"] and most == 3
    assert [e.call.id for e in events if isinstance(e, ToolStarted)] == ["a", "b", "c"]
    assert {e.result.tool_use_id: e.data for e in events if isinstance(e, ToolCompleted)} == {
        "a": 0.05,
        "b": 0.001,
        "c": 0.0,
    }


async def test_alone_means_alone() -> None:
    await answer(use("wait", "a", seconds=0.01), use("alone", "b", seconds=0.01), use("wait", "c", seconds=0.01))
    assert most == 1
    await answer(use("wait", "a", seconds=0.01), use("wait", "b", seconds=0.01), is_parallel=False)
    assert most == 1


async def test_errors_are_told_to_the_model() -> None:
    events = await answer(
        use("boom", "a"),
        use("bom", "b"),
        use("wait", "c"),
        ToolUseError("not valid JSON", "{", "d", "wait"),
        use("slow", "e"),
        use("own_timeout", "f"),
    )
    told = {call_id: text for call_id, is_error, text in results(events) if is_error}
    assert told["a"] == "Error: ValueError: bang"
    assert "Did you mean 'boom'" in told["b"]
    assert (
        "'seconds' is a required property" in told["c"] and '"seconds"' in told["c"] and "Nothing was run" in told["c"]
    )
    assert "not valid JSON. Nothing was run. wait takes this JSON Schema" in told["d"]
    assert told["e"] == "Error: slow took longer than 0.02 s"
    assert "upstream" in told["f"] and len(told) == 6


async def test_the_general_timeout_holds() -> None:
    (result,) = results(await answer(use("wait", seconds=5), timeout_s=0.02))
    assert result[1] and "took longer than 0.02 s" in result[2]


async def test_hooks_may_change_and_refuse() -> None:
    seen: list[Any] = []

    async def gate(event: PreToolUseEvent) -> HookDecision | None:
        seen.append(event)
        if event.tool_name == "boom":
            return HookDecision(continue_=False, reason="too dangerous")
        return HookDecision(modified_input={"seconds": 0.0})

    def audit(event: PostToolUseEvent) -> None:
        seen.append(event)

    hooks = {"pre_tool_use": [gate], "post_tool_use": [audit]}
    events = await answer(use("boom", "a"), use("wait", "b", seconds=9), hooks=hooks, is_parallel=False)
    assert results(events) == [("a", True, "Not run: too dangerous"), ("b", False, "0.0")]
    assert [type(e).__name__ for e in seen] == ["PreToolUseEvent", "PreToolUseEvent", "PostToolUseEvent"]
    assert seen[0].history == [{"role": "user", "content": "q"}]
    assert (seen[2].tool_input, seen[2].tool_result) == ({"seconds": 0.0}, 0.0)


async def test_an_exception_in_a_hook_aborts() -> None:
    async def gate(event: PreToolUseEvent) -> None:
        raise RuntimeError("stop everything")

    with pytest.raises(RuntimeError, match="stop everything"):
        await answer(use("wait", seconds=0), hooks={"pre_tool_use": [gate]})


async def test_leaving_cancels_what_runs() -> None:
    dispatch = Dispatch(REGISTRY)
    events = dispatch.answer([use("wait", "a", seconds=30), use("wait", "b", seconds=30)], [])
    task = asyncio.create_task(_drain(events))
    while running < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running == 0


async def _drain(events: Any) -> None:
    async for _ in events:
        pass


def test_rendering() -> None:
    @dataclass
    class Point:
        x: int

    from pydantic import BaseModel

    class Model(BaseModel):
        y: int

    assert render("text") == "text" and render(None) == "(done; no output)"
    assert render({"ü": 1}) == '{"ü": 1}' and render(Point(1)) == '{"x": 1}' and render(Model(y=2)) == '{"y": 2}'
    assert render({1, 2}) in ('"{1, 2}"', '"{2, 1}"')


async def test_a_tool_may_time_out_by_itself() -> None:
    @tool
    async def bare() -> None:
        """Time out."""
        raise asyncio.TimeoutError

    dispatch = Dispatch(ToolRegistry([bare]), timeout_s=None)
    events = [event async for event in dispatch.answer([use("bare")], [])]
    assert results(events) == [("1", True, "Error: TimeoutError: ")]
