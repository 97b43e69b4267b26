"""A call that nobody here may allow waits in the store, over restarts, until somebody answers it."""

from __future__ import annotations

from typing import Any

import pytest

from any_agent import Agent, AgentOptions, Client, HookMatcher, tool
from any_agent.errors import ApprovalPendingError, InvalidInputError
from any_agent.hooks import HOOK_NOTIFICATION, HOOK_SESSION_END, HOOK_SESSION_START
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel, ScriptedModel
from any_agent.types import PermissionDecided, ToolMessage

PAY = {"name": "pay", "input": {"to": "Ann"}, "id": "c1"}
LOOK = {"name": "look", "input": {}, "id": "c2"}


class Shop:
    """An agent that pays, and what it paid."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.paid: list[str] = []
        self.looked = 0

        @tool(needs_permission=True)
        async def pay(to: str) -> str:
            """Pay."""
            self.paid.append(to)
            return f"paid {to}"

        @tool
        async def look() -> str:
            """Look."""
            self.looked += 1
            return "seen"

        self.agent = Agent(ScriptedModel(replies), tools=[pay, look], **{"approvals": "wait", **options})


async def test_without_waiting_it_is_refused() -> None:
    shop = Shop([PAY], "so be it", approvals="deny")
    async with shop.agent as agent:
        assert await agent.create_session().query("pay Ann") == "so be it"
    assert shop.paid == []


@pytest.mark.parametrize("allow", [True, False])
async def test_it_waits_for_another_process(allow: bool) -> None:
    first = Shop([PAY, LOOK])
    async with first.agent as agent:
        session = agent.create_session("till")
        with pytest.raises(ApprovalPendingError) as caught:
            await session.query("pay Ann")
        assert caught.value.approval_ids == ("till:c1",) and first.paid == [] and first.looked == 1
        with pytest.raises(ApprovalPendingError):  # nobody has answered yet
            await session.receive()
        assert first.looked == 1
    async with MemoryStore() as store:  # somebody else, somewhere else
        (waiting,) = await store.pending_approvals()
        assert (waiting["tool_name"], waiting["arguments"]) == ("pay", {"to": "Ann"})
        await store.answer_approval(waiting["approval_id"], "allowed" if allow else "denied", answered_by="Bob")
    second = Shop("done")
    async with second.agent as agent:
        session = await agent.resume("till")
        assert session.is_unfinished
        assert await session.receive() == "done"
        assert second.paid == (["Ann"] if allow else []) and second.looked == 0
        results = [m for m in session.messages if isinstance(m, ToolMessage)]
        assert [b.is_error for b in results[0].content] == [not allow, False]  # type: ignore[union-attr]
        decided = [e["decision"] for e in await agent.memory.load("till", kinds=("audit",))]
        assert decided[-1] == ("allow" if allow else "deny") and "ask" in decided


async def test_it_goes_on_in_the_same_process_with_other_arguments() -> None:
    shop = Shop([PAY], "done")
    async with shop.agent as agent:
        session = agent.create_session()
        with pytest.raises(ApprovalPendingError):
            await session.query("pay Ann")
        (waiting,) = await session.approvals()
        await session.answer_approval(waiting["approval_id"], True, updated_input={"to": "Eve"})
        assert await session.receive() == "done"
        assert shop.paid == ["Eve"] and await session.approvals() == []
        with pytest.raises(InvalidInputError):
            await session.answer_approval(waiting["approval_id"], False)


async def test_who_says_something_else_goes_on_without_it() -> None:
    shop = Shop([PAY], "as you like")
    async with shop.agent as agent:
        session = agent.create_session()
        with pytest.raises(ApprovalPendingError):
            await session.query("pay Ann")
        assert await session.query("never mind") == "as you like"
        assert shop.paid == [] and [m.role for m in session.messages][1:3] == ["assistant", "tool"]


async def test_every_decision_is_a_row() -> None:
    shop = Shop([PAY], "fine", can_use_tool=lambda name, given, context: True)
    async with shop.agent as agent:
        session = agent.create_session("s")
        events = [event async for event in session.stream("pay Ann")]
        told = [e for e in events if isinstance(e, PermissionDecided)]
        assert [(t.decision, t.rule) for t in told] == [("allow", "can_use_tool")]
        (row,) = await agent.memory.load("s", kinds=("audit",))
        assert (row["decision"], row["rule"], row["tool_name"], row["call_id"]) == (
            "allow",
            "can_use_tool",
            "pay",
            "c1",
        )


async def test_hooks_hear_of_begin_end_and_waiting() -> None:
    heard: list[str] = []
    hooks = {
        HOOK_SESSION_START: [lambda event: heard.append(f"start {event.source}")],
        HOOK_SESSION_END: [lambda event: heard.append("end")],
        HOOK_NOTIFICATION: [
            HookMatcher(
                "permission_prompt", [lambda event: heard.append("waits" if "approval" in event.message else "")]
            )
        ],
    }
    shop = Shop([PAY], hooks=hooks)
    async with shop.agent as agent:
        session = agent.create_session("s")
        with pytest.raises(ApprovalPendingError):
            await session.query("pay Ann")
        await session.close()
        await session.close()
    assert heard == ["start startup", "waits", "end"]
    async with Agent(EchoModel(), hooks=hooks) as agent:
        await (await agent.resume("s")).query("x")
    assert heard[3:] == ["start resume", "end"]


async def test_nothing_waits_for_tools_that_the_caller_runs() -> None:
    shop = Shop()
    options = AgentOptions(tools=list(shop.agent.tools), approvals="wait", auto_execute_tools=False)
    async with Agent(ScriptedModel([PAY, "I may not"]), options=options) as agent:
        client = Client(agent=agent)
        await client.query("pay Ann")
        assert [block.text async for block in client.receive_messages()] == ["I ma", "y no", "t"]  # type: ignore[union-attr]
        assert "nobody is there to ask" in client.history[2]["content"]
        assert await client.session.approvals() == []
