"""Every call is answered once, whatever happens."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from any_agent.dispatch import Dispatch, render
from any_agent.errors import HookAbortedError, InvalidInputError, ToolInputError
from any_agent.hooks import HookAnswer, HookDecision, PostToolUseEvent, PreToolUseEvent
from any_agent.models.wire import to_wire
from any_agent.permissions import PermissionResultAllow, PermissionResultDeny, Permissions
from any_agent.tools import ToolContext, ToolRegistry, tool
from any_agent.types import (
    AssistantMessage,
    PermissionDecided,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
)

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
    assert render({2}) == "[2]" and render([Model(y=2)]) == '[{"y": 2}]' and render(b"text") == "text"
    assert render({(1, 2): "no JSON key"}) == '{"(1, 2)": "no JSON key"}'
    assert render("half \ud83d a pair") == "half \ufffd a pair"


async def test_a_tool_may_time_out_by_itself() -> None:
    @tool
    async def bare() -> None:
        """Time out."""
        raise asyncio.TimeoutError

    dispatch = Dispatch(ToolRegistry([bare]), timeout_s=None)
    events = [event async for event in dispatch.answer([use("bare")], [])]
    assert results(events) == [("1", True, "Error: TimeoutError: ")]


# ------------------------------------------------------------------ at most so many, cancellation, one answer each


async def test_at_most_so_many_run_at_once() -> None:
    calls = [use("wait", str(n), seconds=0.005 + n / 1e6) for n in range(9)]
    events = await answer(*calls, max_parallel=3)
    assert most == 3 and len(results(events)) == 9
    await answer(*calls[:3], max_parallel=1)
    assert most == 1


async def test_progress_comes_while_the_tool_runs() -> None:
    went_on = asyncio.Event()

    @tool
    async def steps(context: ToolContext) -> str:
        context.progress("one", 0.5)
        await went_on.wait()
        context.progress("two", 1)
        return "done"

    @tool
    def in_a_thread(context: ToolContext) -> str:
        context.progress("here")
        return context.idempotency_key

    dispatch = Dispatch(ToolRegistry([steps, in_a_thread]), cwd="/tmp")
    seen: list[Any] = []
    async for event in dispatch.answer([use("steps", "a"), use("in_a_thread", "b")], [], "s1"):
        seen.append(event)
        if event == ToolProgress("a", "steps", "one", 0.5):
            went_on.set()
    assert ToolProgress("a", "steps", "two", 1.0) in seen and ToolProgress("b", "in_a_thread", "here") in seen
    assert ("b", False, "s1:b") in results(seen) and results(seen)[-1][2] in ("done", "s1:b")


class Odd(BaseException):
    pass


async def test_every_call_is_answered_once_whatever_happens() -> None:
    def raises(error: BaseException) -> Any:
        async def bad() -> None:
            raise error

        return bad

    kinds = [ValueError("v"), SystemExit(1), Odd("odd"), asyncio.CancelledError(), asyncio.TimeoutError()]
    bad = [tool(f"bad{n}", effect="pure")(raises(error)) for n, error in enumerate(kinds)]
    dispatch = Dispatch(ToolRegistry([*REGISTRY, *bad]))
    calls = [use(one.name, f"b{n}") for n, one in enumerate(bad)]
    calls += [use("wait", "ok", seconds=0), use("wait", "invalid"), use("nowhere", "unknown"), use("slow", "slow")]
    calls.append(ToolUseError("broken", "{", "broken", "wait"))
    events = [event async for event in dispatch.answer(calls, [])]
    told = results(events)
    assert sorted(call_id for call_id, _, _ in told) == sorted(call.id for call in calls)
    assert [call_id for call_id, is_error, _ in told if not is_error] == ["ok"]


async def test_leaving_kills_child_processes(tmp_path: Path) -> None:
    @tool
    async def spawns(context: ToolContext) -> None:
        await context.run_process(f"echo $$ > {tmp_path}/pid; sleep 60")

    events = Dispatch(ToolRegistry([spawns])).answer([use("spawns")], [])
    task = asyncio.create_task(_drain(events))
    pid_file = tmp_path / "pid"
    while not (pid_file.exists() and pid_file.read_text().strip()):
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


# ------------------------------------------------------------------ what the model is told


async def test_the_nearest_tool_is_named_with_its_schema() -> None:
    events = await answer(use("functions.wait", "a"), use("WAIT", "b"), use("zzz", "c"))
    told = {call_id: text for call_id, _, text in results(events)}
    for call_id in "ab":
        assert "Did you mean 'wait'?" in told[call_id] and 'wait takes this JSON Schema: {"properties"' in told[call_id]
    assert told["c"] == ("Error: there is no tool 'zzz'. Tools: wait, alone, boom, slow, own_timeout. Nothing was run.")


async def test_a_tool_may_say_that_nothing_was_done() -> None:
    @tool
    def pick(number: int) -> str:
        raise ToolInputError(f"there is no number {number}")

    dispatch = Dispatch(ToolRegistry([pick]))
    ((_, is_error, text),) = results([event async for event in dispatch.answer([use("pick", number=3)], [])])
    assert is_error and text.startswith("Error: there is no number 3. Nothing was run. pick takes this JSON Schema:")


async def test_long_results_are_capped_for_the_model_only() -> None:
    long = Dispatch(ToolRegistry([tool("long")(lambda: "word " * 5000)]), max_result_tokens=50)
    (done,) = [e async for e in long.answer([use("long")], []) if isinstance(e, ToolCompleted)]
    assert len(done.result.as_text()) < 400 and "left out" in done.result.as_text() and len(done.data) == 25_000


# ------------------------------------------------------------------ hooks and permissions


async def test_the_order_is_validate_hooks_permission_run() -> None:
    seen: list[str] = []

    def gate(event: PreToolUseEvent) -> None:
        seen.append("hook")

    async def ask(name: str, given: dict[str, Any], context: Any) -> PermissionResultAllow:
        seen.append(f"permission {given}")
        return PermissionResultAllow(updated_input={"seconds": 0.002})

    how: dict[str, Any] = {"hooks": {"pre_tool_use": [gate]}, "permissions": Permissions(can_use_tool=ask)}
    events = await answer(use("wait", "a", seconds=0.001), use("wait", "b"), use("gone", "c"), **how)
    assert seen == ["hook", "permission {'seconds': 0.001}"]
    assert {e.result.tool_use_id: e.data for e in events if isinstance(e, ToolCompleted)}["a"] == 0.002
    (decided,) = [e for e in events if isinstance(e, PermissionDecided)]
    assert decided == PermissionDecided("a", "wait", "allow", "", "can_use_tool")


async def test_a_refusal_runs_nothing_and_is_audited() -> None:
    global most
    events = await answer(use("wait", "a", seconds=0), permissions=Permissions(deny=["wait"]))
    assert most == 0
    ((_, is_error, text),) = results(events)
    assert is_error and text == "Not run: the rule deny wait forbids it"
    assert [type(e).__name__ for e in events] == ["ToolStarted", "PermissionDecided", "ToolCompleted"]
    assert events[1].decision == "deny" and events[1].rule == "wait"


async def test_a_tool_that_wants_permission_has_it_without_any_rules() -> None:
    @tool(needs_permission=True)
    def delete() -> str:
        return "deleted"

    ((_, is_error, text),) = results([e async for e in Dispatch(ToolRegistry([delete])).answer([use("delete")], [])])
    assert is_error and text.startswith("Not run: the tool delete wants it")
    allowing = Dispatch(ToolRegistry([delete]), permissions=Permissions(can_use_tool=lambda *_: True))
    assert results([e async for e in allowing.answer([use("delete")], [])]) == [("1", False, "deleted")]


async def test_changed_arguments_are_checked_again() -> None:
    async def worsen(name: str, given: dict[str, Any], context: Any) -> PermissionResultAllow:
        return PermissionResultAllow(updated_input={"seconds": "soon"})

    ((_, is_error, text),) = results(await answer(use("wait", seconds=0), permissions=Permissions(can_use_tool=worsen)))
    assert is_error and "'soon' is not of type 'number'" in text and most == 0


async def test_a_refusal_may_end_the_run() -> None:
    async def stop(name: str, given: dict[str, Any], context: Any) -> PermissionResultDeny:
        return PermissionResultDeny(message="enough", interrupt=True)

    seen: list[Any] = []
    with pytest.raises(HookAbortedError, match="enough"):
        async for event in Dispatch(REGISTRY, permissions=Permissions(can_use_tool=stop)).answer(
            [use("wait", seconds=0)], []
        ):
            seen.append(event)
    assert results(seen) == [("1", True, "Not run: Run ended: enough")]


async def test_hooks_after_a_tool_may_add_and_replace() -> None:
    def after(event: PostToolUseEvent) -> HookAnswer:
        return HookAnswer(added_context="(cached)", updated_output="short")

    failed: list[Any] = []
    hooks = {"post_tool_use": [after], "post_tool_use_failure": [failed.append]}
    events = await answer(use("wait", "a", seconds=0), use("boom", "b"), hooks=hooks)
    assert {call_id: text for call_id, _, text in results(events)}["a"] == "short\n\n(cached)"
    assert [(f.tool_name, f.error) for f in failed] == [("boom", "Error: ValueError: bang")]


async def test_a_result_is_not_lost_when_the_hook_after_it_fails() -> None:
    def after(event: PostToolUseEvent) -> None:
        raise RuntimeError("audit is down")

    seen: list[Any] = []
    with pytest.raises(RuntimeError, match="audit is down"):
        async for event in Dispatch(REGISTRY, {"post_tool_use": [after]}).answer([use("wait", seconds=0)], []):
            seen.append(event)
    assert results(seen) == [("1", False, "0")]


# ------------------------------------------------------------------ tools that come and go


async def test_conditional_tools() -> None:
    @tool(enabled=lambda messages: len(messages) > 1)
    def late() -> str:
        return "now"

    switch = {"on": False}

    @tool(enabled=lambda: switch["on"])
    def switched() -> str:
        return "on"

    dispatch = Dispatch(
        ToolRegistry([late, switched, tool("off", enabled=False)(lambda: None), tool("on")(lambda: None)])
    )
    assert [spec.name for spec in dispatch.offered([])] == ["on"]
    switch["on"] = True
    assert [spec.name for spec in dispatch.offered([UserMessage("a"), UserMessage("b")])] == ["late", "switched", "on"]
    told = results([e async for e in dispatch.answer([use("late", "a"), use("switched", "b")], [])])
    assert sorted(told) == [
        ("a", True, "Not run: late cannot be used now. Tools that can: switched, on."),
        ("b", False, "on"),
    ]
    assert dispatch.offered([]) is not dispatch.registry.specs()
    plain = Dispatch(ToolRegistry([boom]))
    assert plain.offered([]) is plain.offered([UserMessage("x")]), "made anew though nothing is conditional"


async def test_tools_handed_out_are_there_from_then_on() -> None:
    dispatch = Dispatch(REGISTRY)
    more = dispatch.with_tools([tool("extra")(lambda: "e"), tool("boom")(lambda: "no more")])
    assert "extra" in more.registry and "extra" not in dispatch.registry and len(more.registry) == len(REGISTRY) + 1
    told = results([e async for e in more.answer([use("extra", "a"), use("boom", "b")], [])])
    assert sorted(told) == [("a", False, "e"), ("b", False, "no more")]


# ------------------------------------------------------------------ what hooks are shown


async def test_hooks_see_the_history_as_it_stands_and_cannot_change_it() -> None:
    seen: list[Any] = []

    def spoil(event: Any) -> None:
        seen.append([one["role"] for one in event.history] + [event.history[-1].get("content")])
        event.history[0]["content"] = "spoilt"
        event.history[1]["tool_calls"][0]["function"]["name"] = "spoilt"
        event.tool_input["deep"].append("spoilt")

    @tool
    def keep(deep: list[str]) -> str:
        return "kept"

    call = ToolUseBlock("1", "keep", {"deep": ["a"]})
    history = [UserMessage("q"), AssistantMessage((call, ToolUseBlock("2", "keep", {"deep": []})))]
    dispatch = Dispatch(ToolRegistry([keep]), {"pre_tool_use": [spoil], "post_tool_use": [spoil]})
    events = [event async for event in dispatch.answer([call], history)]
    assert results(events) == [("1", False, "kept")]
    assert seen == [["user", "assistant", None], ["user", "assistant", "tool", "kept"]]
    assert call.input == {"deep": ["a"]}
    wire = to_wire(history)
    assert wire[0]["content"] == "q" and wire[1]["tool_calls"][0]["function"]["name"] == "keep"


@pytest.mark.parametrize(
    "answer", [HookDecision(modified_input=["x"]), {"hookSpecificOutput": {"updatedInput": "x"}}]  # type: ignore[arg-type]
)  # fmt: skip
async def test_a_hook_must_put_arguments_in_place_of_arguments(answer: Any) -> None:
    dispatch = Dispatch(REGISTRY, {"pre_tool_use": [lambda event: answer]})
    with pytest.raises(InvalidInputError, match="a hook's modified_input must be a dict, not"):
        _ = [event async for event in dispatch.answer([use("wait", seconds=0)], [UserMessage("q")])]
