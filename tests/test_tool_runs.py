"""Tools in whole runs: chains, conditions, handed-out tools, limits, loops and plugins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, MaxTurnsError, ResultMessage, ToolCompleted, ToolMessage
from any_agent.errors import ConfigurationError, LoopDetectedError
from any_agent.testing import ScriptedModel
from any_agent.tools import ToolContext, ToolResult, tool
from any_agent.types import AssistantMessage, Message, ToolProgress, ToolResultBlock


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "input": arguments}


@tool(effect="pure")
def double(x: int) -> int:
    """Double."""
    return 2 * x


def check_well_formed(messages: tuple[Message, ...]) -> None:
    """Every call has exactly one result, right behind it and in its order."""
    for place, message in enumerate(messages):
        if isinstance(message, AssistantMessage) and message.tool_calls:
            answers = messages[place + 1]
            assert isinstance(answers, ToolMessage)
            results = [b for b in answers.content if isinstance(b, ToolResultBlock)]
            assert [r.tool_use_id for r in results] == [c.id for c in message.tool_calls]


async def test_a_chain_of_tools() -> None:
    def next_call(request: Any) -> Any:
        last = request.messages[-1]
        x = int(last.content[0].content) if isinstance(last, ToolMessage) else 1
        return call("double", x=x) if x < 16 else f"it is {x}"

    agent = Agent(ScriptedModel([next_call] * 6), tools=[double])
    session = agent.create_session()
    answer = await session.query("double until 16")
    assert answer == "it is 16" and [c.input["x"] for c in answer.tool_calls] == [1, 2, 4, 8]
    check_well_formed(session.messages)


async def test_results_stand_in_the_order_of_the_calls() -> None:
    @tool
    async def wait(ms: int) -> int:
        await asyncio.sleep(ms / 1000)
        return ms

    model = ScriptedModel([[call("wait", ms=20), call("wait", ms=1), call("wait", ms=8)], "done"])
    done: list[Any] = []
    events = [event async for event in Agent(model, tools=[wait]).stream("go")]
    for event in events:
        if isinstance(event, ToolCompleted):
            done.append(event.data)
        elif isinstance(event, ToolMessage):
            assert [b.content for b in event.content if isinstance(b, ToolResultBlock)] == ["20", "1", "8"]
    assert done == [1, 8, 20]


async def test_a_tool_is_offered_only_while_it_is_enabled() -> None:
    def was_read(messages: Any) -> bool:
        return any(isinstance(m, AssistantMessage) and any(c.name == "read" for c in m.tool_calls) for m in messages)

    @tool
    def read() -> str:
        return "text"

    @tool(enabled=was_read)
    def write() -> str:
        return "written"

    model = ScriptedModel([call("write"), call("read"), call("write"), "done"])
    session = Agent(model, tools=[read, write]).create_session()
    assert await session.query("go") == "done"
    assert [[t.name for t in r.tools] for r in model.requests] == [
        ["read"],
        ["read"],
        ["read", "write"],
        ["read", "write"],
    ]
    said = [b.as_text() for m in session.messages if isinstance(m, ToolMessage) for b in m.content]  # type: ignore[union-attr]
    assert said == ["Not run: write cannot be used now. Tools that can: read.", "text", "written"]


async def test_a_tool_hands_out_tools_for_this_run() -> None:
    @tool
    def secret() -> str:
        return "42"

    @tool
    def unlock() -> ToolResult:
        return ToolResult(True, "unlocked", tools=(secret,))

    model = ScriptedModel([call("unlock"), call("secret"), "it is 42", call("secret"), "gone"])
    agent = Agent(model, tools=[unlock])
    session = agent.create_session()
    assert await session.query("go") == "it is 42"
    assert [[t.name for t in r.tools] for r in model.requests] == [
        ["unlock"],
        ["unlock", "secret"],
        ["unlock", "secret"],
    ]
    assert await session.query("again") == "gone"
    assert [t.name for t in model.requests[3].tools] == ["unlock"]
    assert "there is no tool 'secret'" in session.messages[-2].content[0].as_text()  # type: ignore[union-attr]
    assert agent.tools.names() == ["unlock"]


async def test_a_tool_may_end_the_run_with_its_result() -> None:
    @tool(ends_run=True)
    def finish(report: str) -> str:
        return f"Report: {report}"

    model = ScriptedModel([call("finish", report="all well"), "never asked"])
    session = Agent(model, tools=[finish]).create_session()
    answer = await session.query("go")
    assert answer == "Report: all well" and len(model.requests) == 1
    check_well_formed(session.messages)
    assert await session.query("and now?") == "never asked"


async def test_a_tool_that_failed_does_not_end_the_run() -> None:
    @tool(return_direct=True)
    def finish() -> str:
        raise OSError("no")

    assert await Agent(ScriptedModel([call("finish"), "sorry"]), tools=[finish]).query("go") == "sorry"


@pytest.mark.parametrize(
    ("how", "limit", "ran"),
    [({"max_turns": 1}, "max_turns", 0), ({"max_turns": 3}, "max_turns", 2), ({"max_tool_iterations": 2}, "max_tool_iterations", 2)],
)  # fmt: skip
async def test_limits_end_the_run_with_every_call_answered(how: dict[str, Any], limit: str, ran: int) -> None:
    runs: list[int] = []

    @tool
    def count(n: int) -> int:
        runs.append(n)
        return n

    model = ScriptedModel([[call("count", n=n), call("count", n=-n)] for n in range(1, 9)])
    session = Agent(model, tools=[count], **how).create_session()
    events = [event async for event in session.stream("go")]
    result = events[-1]
    assert isinstance(result, ResultMessage) and result.subtype == "limit"
    assert isinstance(result.error, MaxTurnsError) and result.error.limit == limit
    assert len(runs) == 2 * ran and len(model.requests) == ran + 1
    check_well_formed(session.messages)
    last = session.messages[-1]
    assert isinstance(last, ToolMessage)
    assert all(b.is_error and "Not run" in b.as_text() for b in last.content)  # type: ignore[union-attr]


async def test_a_loop_is_told_and_then_ends_the_run() -> None:
    runs: list[int] = []

    @tool
    def look() -> int:
        runs.append(1)
        return len(runs)

    model = ScriptedModel([call("look")] * 9)
    session = Agent(model, tools=[look], max_tool_iterations=50).create_session()
    with pytest.raises(LoopDetectedError) as caught:
        await session.query("go")
    assert (caught.value.tool_name, caught.value.count, len(runs), len(model.requests)) == ("look", 4, 2, 4)
    assert session.result is not None and session.result.subtype == "limit"
    check_well_formed(session.messages)
    told = [m.content[0].as_text() for m in session.messages if isinstance(m, ToolMessage)]  # type: ignore[union-attr]
    assert told[:2] == ["1", "2"] and "repeating yourself" in told[2] and "Not run" in told[3]
    assert "text" in await Agent(ScriptedModel([call("look"), "text"]), tools=[look]).query("again")


async def test_a_loop_that_heeds_the_note_goes_on() -> None:
    model = ScriptedModel([call("double", x=1)] * 3 + ["I stop"])
    assert await Agent(model, tools=[double]).query("go") == "I stop"


async def test_broken_calls_are_told_and_end_in_text() -> None:
    model = ScriptedModel([call("double"), call("doubel", x=1), call("double", x="one"), call("double", x=4), "8"])
    session = Agent(model, tools=[double]).create_session()
    assert await session.query("go") == "8"
    told = [m.content[0].as_text() for m in session.messages if isinstance(m, ToolMessage)]  # type: ignore[union-attr]
    assert "'x' is a required property" in told[0] and "Did you mean 'double'" in told[1]
    assert "'one' is not of type 'integer'" in told[2] and told[3] == "8"


async def test_session_folder_and_key_reach_the_tool(tmp_path: Path) -> None:
    seen: list[ToolContext] = []

    @tool
    def where(context: ToolContext) -> str:
        seen.append(context)
        context.progress("looking", 0.1)
        return str(context.cwd)

    agent = Agent(ScriptedModel([[{"name": "where", "id": "c7"}], "done"]), tools=[where], cwd=str(tmp_path))
    session = agent.create_session("s7")
    events = [event async for event in session.stream("go")]
    assert ToolProgress("c7", "where", "looking", 0.1) in events
    assert (seen[0].session_id, seen[0].cwd, seen[0].idempotency_key) == ("s7", tmp_path, "s7:c7")


async def test_interrupting_answers_every_call() -> None:
    is_up = asyncio.Event()
    ended: list[str] = []

    @tool
    async def hang(context: ToolContext) -> None:
        is_up.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(f"{context.cancelled.is_set()}")

    model = ScriptedModel([[call("double", x=1), call("hang"), call("hang", n=1)], "after"])
    session = Agent(model, tools=[double, hang]).create_session()
    task = asyncio.ensure_future(session.query("go"))
    await is_up.wait()
    await session.interrupt()
    with pytest.raises(Exception, match="interrupted"):
        await task
    assert ended == ["True"]
    check_well_formed(session.messages)
    assert await session.query("and now?") == "after"


# ------------------------------------------------------------------ names


PLUGIN = """
from any_agent import tool

def shout(text: str) -> str:
    "Shout."
    return text.upper()

@tool
def whisper(text: str) -> str:
    "Whisper."
    return text.lower()

pair = [shout, whisper]
nothing = []
wrong = 7
"""
ENTRY_POINTS = """
[any_agent.tools]
shout = a_plugin_of_tools:shout
voices = a_plugin_of_tools:pair
nothing = a_plugin_of_tools:nothing
wrong = a_plugin_of_tools:wrong
lost = no_such_module_anywhere:x
"""


async def test_names_are_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_plugin_of_tools.py").write_text(PLUGIN)
    info = tmp_path / "a_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = ScriptedModel([call("shout", text="hi"), "done"])
    agent = Agent(model, tools=["voices"])
    assert await agent.query("go") == "done" and agent.tools.names() == ["shout", "whisper"]
    assert model.requests[1].messages[-1].content[0].content == "HI"  # type: ignore[union-attr]
    assert Agent(model, tools=["shout"]).tools.names() == ["shout"]
    for name, told in [
        ("nothing", "holds no tool"),
        ("wrong", "is 7, no tool"),
        ("lost", "cannot be loaded"),
        ("shuot", "did you mean 'shout'"),
        ("voices", "registered already"),
    ]:
        with pytest.raises(ConfigurationError, match=told):
            _ = Agent(model, tools=["shout", name]).tools
