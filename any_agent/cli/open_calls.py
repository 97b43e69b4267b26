"""Tool calls that a kept session has left open, and whether this program can go on with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ToolNotFoundError
from ..memory import message_of
from ..types import AssistantMessage, ToolUseBlock

if TYPE_CHECKING:
    from ..agent import Agent
    from ..session import AgentSession

MOST_CHARS = 100  # of arguments shown


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call without a result; `state`: open, started, pending, allowed or denied, and by whom and why."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    state: str = "open"
    answered_by: str = ""
    reason: str = ""

    def __str__(self) -> str:
        by = f" by {self.answered_by}" if self.answered_by else ""
        said = {"open": "", "started": "has started", "pending": "waits for an approval", "allowed": f"allowed{by}"}
        note = said.get(self.state, self.state)
        return f"{self.name}({shown_arguments(self.arguments)})" + (f" ({note})" if note else "")


def shown_arguments(arguments: dict[str, Any] | None) -> str:
    text = json.dumps(arguments or {}, ensure_ascii=False)
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"


async def open_calls(store: Any, session_id: str) -> list[OpenCall]:
    """The calls of the session's last message that have neither a result nor one that only has to be taken up."""
    rows = await store.load(session_id, kinds=("message", "tool"))
    said = [row for row in rows if row["kind"] == "message"]
    last = message_of(said[-1]) if said else None
    if not isinstance(last, AssistantMessage):
        return []
    tried = {row["call_id"]: row for row in rows if row["kind"] == "tool" and row["seq"] > said[-1]["seq"]}
    found = []
    for call in last.tool_calls:
        row = tried.get(call.id) or {}
        is_waiting = row.get("state") == "denied" and not row.get("result")
        if isinstance(call, ToolUseBlock) and (is_waiting or row.get("state") in (None, "started")):
            asked = None if row.get("state") == "started" else await store.approval(f"{session_id}:{call.id}")
            found.append(_told(call, row, asked))
    return found


def _told(call: ToolUseBlock, row: dict[str, Any], asked: dict[str, Any] | None) -> OpenCall:
    if asked is None:
        return OpenCall(call.id, call.name, call.input, row.get("state") or "open")
    answer = asked.get("answer") or {}
    arguments = answer.get("updated_input") or call.input
    who, why = asked.get("answered_by") or "", answer.get("reason") or ""
    return OpenCall(call.id, call.name, arguments, asked["state"], who, why)


async def go_on(agent: Agent, session: AgentSession) -> None:
    """See to it that resuming loses no call: this program has the tools, or a call was denied, which the model is told.

    Raises:
        ToolNotFoundError: a tool is missing here; nothing was changed.
    """
    calls = await open_calls(agent.memory, session.session_id)
    if not calls:
        return
    tools = (await agent.open_run(session, {})).dispatch.registry
    lacking = [one for one in calls if one.name not in tools]
    lost = [one for one in lacking if one.state != "denied"]
    if lost:
        raise _refusal(session.session_id, lost)
    for one in lacking:
        session.put_tool_result(one.call_id, f"Not run: {one.reason or 'it was refused'}", is_error=True)


def _refusal(session_id: str, lost: list[OpenCall]) -> ToolNotFoundError:
    from .kept import quoted
    from .terminal import one_line

    names = ", ".join(dict.fromkeys(one.name for one in lost))
    calls = ", ".join(map(str, lost))
    return ToolNotFoundError(
        f"session {one_line(session_id)} was left as it was: it goes on with {calls}, and this program has no tool "
        f"{names}\n"
        f"  fix:   {in_program(session_id)}\n"
        f'  or:    any-agent run --session {quoted(session_id)} "…" goes on without them: they get no result',
        tool_name=lost[0].name,
    )


def in_program(session_id: str) -> str:
    """How a session goes on where its tools are."""
    resumed = f"session = await agent.resume({json.dumps(session_id, ensure_ascii=False)}); await session.receive()"
    return f"in the program that has the tools: {resumed}"
