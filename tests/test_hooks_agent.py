"""Hooks and permissions through Agent, Client and query(): also where the caller runs the tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, AgentOptions, Client, HookDecision, HookMatcher, PreCompactEvent, query, tool
from any_agent.errors import HookAbortedError
from any_agent.testing import EchoModel, LoopbackServer, ScriptedModel
from any_agent.testing.wire_bytes import WireCall, chat_chunks, sse, token_usage
from any_agent.types import (
    AssistantMessage,
    ContextSummarized,
    PermissionDecided,
    ResultMessage,
    ToolMessage,
    ToolUseBlock,
)

CALLS = [WireCall("pay", '{"usd": 1}', "a", 0), WireCall("look", "{}", "b", 1)]


@tool
def pay(usd: int) -> str:
    """Pay."""
    return f"paid {usd}"


@tool
def look() -> str:
    """Look."""
    return "seen"


def serve(server: LoopbackServer) -> None:
    server.reply(
        "/v1/chat/completions",
        sse(chat_chunks(tool_calls=CALLS, usage=token_usage(99, 5))),
        sse(chat_chunks(["done"], usage=token_usage(99, 5))),
    )


# ------------------------------------------------------------------ the caller runs the tools


async def test_query_shows_no_call_that_was_refused() -> None:
    seen: list[Any] = []

    def gate(event: Any) -> HookDecision | None:
        seen.append(event.tool_name)
        return HookDecision(modified_input={"usd": 2}) if event.tool_name == "pay" else None

    with LoopbackServer() as server:
        serve(server)
        options = AgentOptions(
            model="m",
            base_url=server.base_url,
            tools=[pay, look],
            hooks={"PreToolUse": [gate]},
            disallowed_tools=["look"],
            observers=[seen.append],
        )
        messages = [message async for message in query("q", options)]
    shown, refused, result = messages
    assert isinstance(shown, AssistantMessage) and shown.content == (ToolUseBlock("a", "pay", {"usd": 2}),)
    assert isinstance(refused, ToolMessage) and isinstance(result, ResultMessage)
    assert [(one.tool_use_id, one.as_text()) for one in refused.content] == [  # type: ignore[union-attr]
        ("b", "Not run: the rule deny look forbids it")
    ]
    assert [one for one in seen if isinstance(one, str)] == ["pay", "look"]
    assert [one.decision for one in seen if isinstance(one, PermissionDecided)] == ["allow", "deny"]


async def test_decisions_about_the_callers_tools_are_in_the_audit_log(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        serve(server)
        options = AgentOptions(
            model="m",
            base_url=server.base_url,
            tools=[pay, look],
            disallowed_tools=["look"],
            memory_db_path=str(tmp_path / "memory.db"),
        )
        async with Client(options) as client:
            await client.query("q")
            async for block in client.receive_messages():
                if isinstance(block, ToolUseBlock):
                    await client.add_tool_result(block.id, await pay.execute(block.input))
            rows = await client.agent.memory.load(client.session.session_id, kinds=("audit",))
            await client.agent.aclose()
    assert [(row["tool_name"], row["decision"], row["rule"]) for row in rows] == [
        ("pay", "allow", "mode default"),
        ("look", "deny", "look"),
    ]


# ------------------------------------------------------------------ several Claude-style hooks


@pytest.mark.parametrize(
    "more", [{"additionalContext": "logged"}, {"permissionDecision": "allow"}, {"updatedInput": {"usd": 9}}]
)
@pytest.mark.parametrize("is_option", [False, True])
async def test_a_gate_stands_behind_hooks_that_add_change_or_allow(more: dict[str, Any], is_option: bool) -> None:
    ran: list[int] = []

    @tool
    def pay(usd: int) -> str:
        ran.append(usd)
        return "paid"

    def said(**more: Any) -> Any:
        async def hook(input_data: Any, tool_use_id: Any, context: Any) -> Any:
            return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **more}}

        return HookMatcher(hooks=[hook])

    gate = [] if is_option else [said(permissionDecision="deny", permissionDecisionReason="not today")]
    how: dict[str, Any] = {"pre_tool_hook": lambda name, given: "deny"} if is_option else {}
    model = ScriptedModel([ToolUseBlock("a", "pay", {"usd": 1}), "ok"])
    agent = Agent(model, tools=[pay], hooks={"PreToolUse": [said(**more), *gate]}, enable_memory=False, **how)
    assert await agent.query("pay") == "ok" and ran == []
    (result,) = model.requests[1].messages[-1].content
    assert result.is_error and (is_option or "not today" in result.content)  # type: ignore[union-attr,operator]


async def test_a_blocked_prompt_does_not_get_through_behind_a_note() -> None:
    async def note(input_data: Any, tool_use_id: Any, context: Any) -> Any:
        return {"hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": "It is Monday."}}

    async def gate(input_data: Any, tool_use_id: Any, context: Any) -> Any:
        return {"decision": "block", "reason": "no"} if "secret" in input_data["prompt"] else {}

    model = ScriptedModel(["fine"])
    agent = Agent(model, hooks={"UserPromptSubmit": [note, gate]}, enable_memory=False)
    with pytest.raises(HookAbortedError):
        await agent.query("my secret")
    assert not model.requests and await agent.query("hello") == "fine"
    assert model.requests[0].messages[-1].content[0].text == "hello\n\nIt is Monday."  # type: ignore[union-attr]


# ------------------------------------------------------------------ before a summary


def long_talk(*entries: Any) -> Agent:
    how: dict[str, Any] = {"context_strategy": "summarize", "context_window": 600, "enable_memory": False}
    return Agent(EchoModel(), hooks={"PreCompact": list(entries)}, **how)


async def test_hooks_are_told_before_old_messages_are_summarised() -> None:
    events: list[Any] = []
    claude: list[Any] = []

    async def in_claudes_way(input_data: Any, tool_use_id: Any, context: Any) -> dict[str, Any]:
        claude.append(input_data)
        return {}

    hooks = [events.append, in_claudes_way, HookMatcher("manual", [lambda event: events.append("manual")])]
    async with long_talk(*hooks) as agent:
        session = agent.create_session()
        for turn in range(8):
            async for event in session.stream(f"{turn} " + "word " * 40):
                if isinstance(event, ContextSummarized):
                    events.append(event)
    told, made = events[:2]
    assert isinstance(told, PreCompactEvent) and isinstance(made, ContextSummarized)
    assert told.trigger == "auto" and told.history[0]["content"].startswith("0 word")
    assert "manual" not in events
    assert claude[0]["hook_event_name"] == "PreCompact" and claude[0]["session_id"] == session.session_id


async def test_a_hook_that_raises_before_a_summary_ends_the_run() -> None:
    def full(event: PreCompactEvent) -> None:
        raise RuntimeError("the archive is full")

    async with long_talk(full) as agent:
        session = agent.create_session()
        with pytest.raises(RuntimeError, match="the archive is full"):
            for turn in range(8):
                await session.query(f"{turn} " + "word " * 40)


# ------------------------------------------------------------------ beginning and end


async def test_every_session_that_starts_ends_once() -> None:
    seen: list[str] = []
    hooks = {
        "SessionStart": [lambda event: seen.append(f"start {event.source}")],
        "SessionEnd": [lambda event: seen.append("end")],
    }
    async with Agent(EchoModel(), hooks=hooks, enable_memory=False) as agent:
        await agent.query("one-off")
        assert seen == ["start startup", "end"]
        async for _ in agent.stream("left at once"):
            break
        assert [text async for text in agent.stream_query("in pieces")]
        seen.clear()
        async with agent.create_session() as session:
            await session.query("a")
            await session.query("b")
            assert seen == ["start startup"]
        await session.close()
        assert seen == ["start startup", "end"]


# ------------------------------------------------------------------ prompts


async def test_a_changed_prompt_keeps_its_images_and_hooks_know_the_place() -> None:
    seen: list[Any] = []

    async def politely(input_data: Any, tool_use_id: Any, context: Any) -> Any:
        seen.append(input_data)
        told = {"hookEventName": "UserPromptSubmit", "additionalContext": "Please."}
        return {"hookSpecificOutput": told}

    async def stop(input_data: Any, tool_use_id: Any, context: Any) -> Any:
        seen.append(input_data)

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    hooks = {"UserPromptSubmit": [politely], "Stop": [stop]}
    async with Agent(EchoModel(), hooks=hooks, permission_mode="plan", enable_memory=False) as agent:
        session = agent.create_session("s")
        await session.query([{"role": "user", "content": [{"type": "text", "text": "Look."}, image]}])
    assert session.history[0]["content"] == [{"type": "text", "text": "Look.\n\nPlease."}, image]
    assert [one["session_id"] for one in seen] == ["s", "s"] and seen[1]["permission_mode"] == "plan"
