"""Permissions and hooks through an agent: what the options say holds for every call, in both ways of running tools."""

from __future__ import annotations

from typing import Any

import pytest

from any_agent import (
    Agent,
    AgentOptions,
    Client,
    HookMatcher,
    PermissionDecided,
    PermissionResultAllow,
    ToolMessage,
    tool,
)
from any_agent.testing import ScriptedModel
from any_agent.types import TextBlock, ToolResultBlock, ToolUseBlock

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@tool
def shell(command: str) -> str:
    """Run a command."""
    ran.append(command)
    return f"ran {command}"


@tool(needs_permission=True)
def deploy() -> str:
    """Deploy."""
    ran.append("deploy")
    return "deployed"


def says(*calls: ToolUseBlock) -> ScriptedModel:
    return ScriptedModel([list(calls), "Done."])


def run(command: str, call_id: str = "a") -> ToolUseBlock:
    return ToolUseBlock(call_id, "shell", {"command": command})


async def of(model: Any, **options: Any) -> tuple[list[PermissionDecided], list[str]]:
    """The decisions, and what the model read."""
    decisions, told = [], []
    async for event in Agent(model, tools=[shell, deploy], **options).stream("go"):
        if isinstance(event, PermissionDecided):
            decisions.append(event)
        elif isinstance(event, ToolMessage):
            told += [b.as_text() for b in event.content if isinstance(b, ToolResultBlock)]
    return decisions, told


async def test_nothing_is_decided_when_nothing_is_set() -> None:
    assert await of(says(run("rm x"))) == ([], ["ran rm x"])


async def test_rules_hold_for_each_call() -> None:
    model = says(run("git status"), run("git status; rm x", "b"))
    decisions, told = await of(model, allowed_tools=["shell(git status:*)"], disallowed_tools=["shell(rm:*)"])
    assert {(d.tool_use_id, d.decision, d.rule) for d in decisions} == {
        ("a", "allow", "shell(git status:*)"),
        ("b", "deny", "shell(rm:*)"),
    }
    assert ran == ["git status"] and told == ["ran git status", "Not run: the rule deny shell(rm:*) forbids it"]


async def test_input_may_be_rewritten() -> None:
    def can(*_: Any) -> PermissionResultAllow:
        return PermissionResultAllow(updated_input={"command": "ls"})

    decisions, told = await of(says(run("ls -l")), can_use_tool=can)
    assert (ran, told) == (["ls"], ["ran ls"]) and decisions[0].rule == "can_use_tool"


async def test_a_tool_may_want_permission() -> None:
    decisions, told = await of(says(ToolUseBlock("a", "deploy", {})))
    assert ran == [] and "nobody is there to ask" in told[0] and decisions[0].rule == "needs_permission"
    await of(says(ToolUseBlock("a", "deploy", {})), can_use_tool=lambda *_: True)
    assert ran == ["deploy"]


async def test_plan_and_hooks() -> None:
    assert (await of(says(run("ls")), permission_mode="plan"))[1] == [
        "Not run: only tools that read may run while a plan is made"
    ]
    hooks = {"PreToolUse": [HookMatcher("shell", [lambda event: "ask"])]}
    assert "nobody is there to ask" in (await of(says(run("ls")), hooks=hooks))[1][0]
    assert (await of(says(run("ls")), pre_tool_hook=lambda name, args: False))[1] == ["Not run: pre_tool_hook says so"]
    assert ran == []
    seen: list[Any] = []
    await of(says(run("ls")), post_tool_hook=lambda *told: seen.append(told))
    assert seen == [("shell", "ran ls")]


async def test_permissions_hold_for_tools_that_the_caller_runs() -> None:
    options = {"disallowed_tools": ["shell(rm:*)"], "auto_execute_tools": False}
    async with Client(agent=Agent(says(run("rm x"), run("ls", "b")), tools=[shell], **options)) as client:
        await client.query("go")
        shown = []
        async for block in client.receive_messages():
            shown.append(block)
            if isinstance(block, ToolUseBlock):
                client.add_tool_result(block.id, "listed")
        assert [b.id for b in shown if isinstance(b, ToolUseBlock)] == ["b"]
        assert "".join(b.text for b in shown if isinstance(b, TextBlock)) == "Done."
        assert client.history[2]["content"] == "Not run: the rule deny shell(rm:*) forbids it"


def test_options_are_known() -> None:
    assert AgentOptions(permission_mode="acceptEdits", allowed_tools=["shell"]).allowed_tools == ["shell"]


async def test_a_stop_hook_may_make_it_go_on() -> None:
    seen: list[Any] = []

    async def tests_pass(input_data: Any, tool_use_id: Any, context: Any) -> dict[str, Any]:
        seen.append((input_data["stop_hook_active"], input_data["result"]))
        return {} if input_data["stop_hook_active"] else {"decision": "block", "reason": "the tests fail"}

    model = ScriptedModel(["Done.", "Really done."])
    response = await Agent(model, hooks={"Stop": [HookMatcher(hooks=[tests_pass])]}).query("go")
    assert response == "Really done." and seen == [(False, "Done."), (True, "Really done.")]
    assert [m.content for m in model.requests[1].messages][-1][0].text == "the tests fail"  # type: ignore[union-attr]


async def test_a_stop_hook_that_never_lets_go_is_stopped_by_the_limit() -> None:
    model = ScriptedModel(["again"] * 20)
    never = {"Stop": [lambda event: {"decision": "block"}]}
    assert await Agent(model, hooks=never, max_turns=3).query("go") == "again"
    assert len(model.requests) == 3
