"""Subagents: a task goes out, an answer comes back; never wider rights, one budget, one ledger, nothing left running."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.seeds import says_and_stalls

import any_agent
from any_agent import Agent, AgentOptions, Client, HookAnswer, HookDecision, HookMatcher, PermissionResultAllow, tool
from any_agent import Subagent as Sub
from any_agent.errors import (
    ApprovalPendingError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InterruptedRunError,
)
from any_agent.subagents import MOST_LEVELS
from any_agent.testing import LoopbackServer, ScriptedModel, WireCall, WireRequest, chat_chunks, sse
from any_agent.types import (
    ResultMessage,
    StreamEnd,
    SystemMessage,
    TextDelta,
    ToolCompleted,
    ToolMessage,
    ToolProgress,
    ToolResultBlock,
    ToolUseBlock,
    Usage,
    UserMessage,
    text_of,
)

CHAT = "/v1/chat/completions"
REVIEWER = {"description": "Reads and judges.", "prompt": "You review."}


@tool(effect="pure")
async def look(path: str = "x") -> str:
    """Look at a file."""
    return f"seen {path}"


def ask(prompt: str = "look at x", who: str = "reviewer", call_id: str = "t1") -> ToolUseBlock:
    return ToolUseBlock(call_id, "task", {"subagent": who, "prompt": prompt})


def use(name: str, call_id: str = "c1", **arguments: Any) -> ToolUseBlock:
    return ToolUseBlock(call_id, name, arguments)


def told(model: ScriptedModel, number: int = -1) -> list[str]:
    """The tool results that a model was shown at last."""
    last = model.requests[number].messages[-1]
    assert isinstance(last, ToolMessage), last
    return [block.as_text() for block in last.content if isinstance(block, ToolResultBlock)]


def team(*script: Any, parent: Any = None, **options: Any) -> tuple[Agent, ScriptedModel, ScriptedModel]:
    """An agent with one subagent; the agent, its model and the subagent's."""
    child = ScriptedModel(script, name="child")
    model = ScriptedModel(parent if parent is not None else [[ask()], "Reviewed."])
    own = {name: options.pop(name) for name in list(options) if name in ("permission_mode_below", "below")}
    definition = {**REVIEWER, "model": child, **own.get("below", {})}
    return Agent(model, **{"tools": [look], "subagents": {"reviewer": definition}, **options}), model, child


# ------------------------------------------------------------------ a task and its answer


async def test_a_task_goes_out_and_an_answer_comes_back() -> None:
    agent, model, child = team([use("look", path="a")], "All fine.", system_prompt="You lead.")
    async with agent:
        session = agent.create_session()
        assert await session.query("Is it good?") == "Reviewed."
    assert told(model) == ["All fine."]
    first = child.requests[0]
    assert [type(m) for m in first.messages] == [SystemMessage, UserMessage]
    assert [text_of(m) for m in first.messages] == ["You review.", "look at x"]  # nothing of the conversation above
    assert [spec.name for spec in first.tools] == ["look"]  # and no way to ask further subagents
    assert told(child) == ["seen a"]
    assert [spec.name for spec in model.requests[0].tools] == ["look", "task"]
    asked = model.requests[0].tools[1]
    assert asked.parameters["properties"]["subagent"]["enum"] == ["reviewer"]
    assert "reviewer: Reads and judges." in asked.description
    assert [type(m).__name__ for m in session.messages] == [
        "UserMessage", "AssistantMessage", "ToolMessage", "AssistantMessage",
    ]  # fmt: skip


@dataclass
class AgentDefinition:
    """As another package spells it."""

    description: str
    prompt: str
    tools: list[str] | None = None
    disallowedTools: list[str] | None = None
    model: str | None = None
    maxTurns: int | None = None
    permissionMode: str | None = None


@pytest.mark.parametrize("field", ["subagents", "agents"])
@pytest.mark.parametrize(
    "given",
    [
        [Sub("reviewer", "Reads.", "You review.", ["look"])],
        (Sub(name="reviewer", description="Reads.", prompt="You review.", tools=("look",)),),
        [{"name": "reviewer", "description": "Reads.", "prompt": "You review.", "tools": ["look"]}],
        {"reviewer": {"description": "Reads.", "prompt": "You review.", "tools": ["look"], "model": "inherit"}},
        {"reviewer": Sub("", "Reads.", "You review.", ["look"])},
        {"reviewer": AgentDefinition("Reads.", "You review.", ["look"], model="inherit")},
    ],
    ids=["list", "tuple", "dicts", "mapping", "unnamed", "definition"],
)
def test_every_spelling_is_the_same_subagent(field: str, given: Any) -> None:
    options = AgentOptions(**{field: given})
    assert options.team == (Sub("reviewer", "Reads.", "You review.", ("look",)),)
    assert options.replace(seed=1).team == options.team and AgentOptions().team == ()
    other = options.replace(**{"agents" if field == "subagents" else "subagents": [Sub("other", "Writes.")]})
    assert [one.name for one in other.team] == ["other"]


def test_claudes_words_for_fields() -> None:
    (one,) = AgentOptions(agents={"a": AgentDefinition("d", "p", None, ["shell(rm:*)"], None, 3, "dontAsk")}).team
    assert (one.disallowed_tools, one.max_turns, one.tools) == (("shell(rm:*)",), 3, None)
    assert getattr(one.permission_mode, "value", None) == "dont-ask"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a b": REVIEWER}, "name='a b'"),
        ([REVIEWER], "name=''"),
        ([{**REVIEWER, "name": "a"}, {**REVIEWER, "name": "a"}], "given twice"),
        ({"a": {"prompt": "p"}}, "description"),
        ({"a": {**REVIEWER, "description": " "}}, "description"),
        ({"a": {**REVIEWER, "promt": "x"}}, "'promt'; allowed: name, description"),
        ({"a": {**REVIEWER, "tools": "look"}}, "tools"),
        ({"a": {**REVIEWER, "max_turns": 0}}, "max_turns"),
        ({"a": {**REVIEWER, "permission_mode": "free"}}, "permission_mode"),
        ({"a": {**REVIEWER, "disallowed_tools": ["shell("]}}, "shell("),
        ({"a": {**REVIEWER, "model": 7}}, "model"),
        ({"a": {**REVIEWER, "prompt": 7}}, "prompt"),
        ({"a": 7}, "7 is no subagent"),
        (7, "7 is no subagent"),
    ],
)
def test_what_is_no_subagent_is_said(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AgentOptions(subagents=given)
    assert said in str(caught.value) and caught.value.field


async def test_a_tool_that_the_agent_has_not_is_said_before_anything_is_sent() -> None:
    agent, model, child = team(below={"tools": ["look", "lok"]})
    async with agent:
        with pytest.raises(ConfigurationError, match="'lok'; allowed: look, task"):
            await agent.query("go")
    assert model.requests == child.requests == []


async def test_who_runs_tools_alone_is_told_that_subagents_need_us() -> None:
    client = Client({"model": "m", "base_url": "http://127.0.0.1:9/v1", "agents": {"reviewer": REVIEWER}})
    await client.query("go")
    with pytest.raises(ConfigurationError, match="auto_execute_tools=True"):
        _ = [block async for block in client.receive_messages()]
    await client.agent.aclose()


async def test_without_tools_there_are_no_subagents() -> None:
    agent, model, _ = team(parent=["No."], enable_tools=False)
    async with agent:
        assert await agent.query("go") == "No." and model.requests[0].tools == ()


async def test_own_tools_functions_and_a_tool_named_task() -> None:
    def task(x: int) -> int:
        """The agent's own."""
        return x

    def only_mine() -> str:
        """Of the subagent."""
        return "mine"

    call = ToolUseBlock("t1", "ask_subagent", {"subagent": "reviewer", "prompt": "p"})
    agent, model, child = team(
        [use("only_mine")], "ok", parent=[[call], "done"], tools=[task], below={"tools": [only_mine]}
    )
    async with agent:
        assert await agent.query("go") == "done"
    assert [spec.name for spec in model.requests[0].tools] == ["task", "ask_subagent"]
    assert [spec.name for spec in child.requests[0].tools] == ["only_mine"] and told(child) == ["mine"]


async def test_subagents_for_one_prompt_only() -> None:
    model = ScriptedModel(["one", "two"])
    async with Agent(model) as agent:
        session = agent.create_session()
        await session.query("a", agents={"reviewer": REVIEWER})
        await session.query("b")
    assert [[spec.name for spec in request.tools] for request in model.requests] == [["task"], []]


async def test_options_of_one_prompt_hold_for_its_subagents() -> None:
    agent, model, child = team("ok", temperature=0.9)
    async with agent:
        await agent.query("go", temperature=0.1, seed=7, extra_body={"x": 1})
    for request in (model.requests[0], child.requests[0]):
        assert (request.params["temperature"], request.params["seed"], request.extra_body) == (0.1, 7, {"x": 1})


async def test_settings_files_may_name_them_but_not_a_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "options:\n  agents:\n    reviewer: {description: Reads., prompt: You review.}\n"
    (tmp_path / ".agent").mkdir()
    (tmp_path / ".agent" / "config.yml").write_text(text)
    (tmp_path / "own.yml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="agents is not taken from a project file"):
        await Agent(ScriptedModel(["no"])).query("go")
    (tmp_path / ".agent" / "config.yml").unlink()
    monkeypatch.setenv("ANY_AGENT_CONFIG_PATH", str(tmp_path / "own.yml"))
    model = ScriptedModel([[ask()], "inner", "done"])
    async with Agent(model) as agent:
        assert await agent.query("go") == "done"
    assert told(model) == ["inner"] and text_of(model.requests[1].messages[0]) == "You review."


async def test_what_the_caller_wants_of_the_answer_is_not_wanted_of_subagents() -> None:
    agent, model, child = team("free text", parent=[[ask()], '{"n": 1}'], tools=[], output_mode="prompt")
    async with agent:
        response = await agent.query("go", output_type=dict[str, int], tool_choice="required", stop=["x"])
    assert response.data == {"n": 1}
    assert model.requests[0].tool_choice == "required" and model.requests[0].params["stop"] == ["x"]
    assert child.requests[0].tool_choice is None and "stop" not in child.requests[0].params
    assert text_of(child.requests[0].messages[0]) == "You review."


async def test_calls_of_one_turn_run_side_by_side() -> None:
    inside, met = 0, asyncio.Event()

    @tool
    async def meet() -> str:
        """Wait until all three are here."""
        nonlocal inside
        inside += 1
        if inside == 3:
            met.set()
        await asyncio.wait_for(met.wait(), 20)
        return "met"

    children = {f"r{n}": {**REVIEWER, "model": ScriptedModel([[use("meet")], f"answer {n}"])} for n in range(3)}
    calls = [ask("p", f"r{n}", f"t{n}") for n in range(3)]
    model = ScriptedModel([calls, "done"])
    async with Agent(model, tools=[meet], agents=children) as agent:
        events = [event async for event in agent.create_session().stream("go")]
    assert told(model) == ["answer 0", "answer 1", "answer 2"]  # in the order of the calls
    progress = [event for event in events if isinstance(event, ToolProgress)]
    assert sorted((p.tool_use_id, p.message) for p in progress) == [(f"t{n}", f"r{n}: meet") for n in range(3)]
    assert isinstance(events[-1], ResultMessage) and sum(isinstance(e, ResultMessage) for e in events) == 1


async def test_subagents_may_ask_subagents_where_that_is_said_and_so_deep_only() -> None:
    depth: list[list[str]] = []

    def reply(request: Any) -> Any:
        names = [spec.name for spec in request.tools]
        depth.append(names)
        last = request.messages[-1]
        return [ask(f"level {len(depth)}")] if isinstance(last, UserMessage) and "task" in names else "bottom"

    model = ScriptedModel([reply] * 20)
    agent = Agent(model, tools=[look], agents={"reviewer": {**REVIEWER, "tools": ["look", "task"]}})
    async with agent:
        session = agent.create_session()
        assert await session.query("go") == "bottom"
        assert depth[: MOST_LEVELS + 1] == [["look", "task"]] * MOST_LEVELS + [["look"]]
        assert len(depth) == 2 * MOST_LEVELS + 1
        assert (await session.usage()).calls == len(depth)


# ------------------------------------------------------------------ rights

MODES = ["default", "accept-edits", "plan", "bypass", "dont-ask"]
RULES: list[dict[str, Any]] = [
    {},
    {"allowed_tools": ["reads", "careful", "task"]},
    {"disallowed_tools": ["plain", "edits"]},
    {"ask_tools": ["plain", "reads"]},
]
CALLS = [
    ToolUseBlock("c0", "reads", {}),
    ToolUseBlock("c1", "plain", {}),
    ToolUseBlock("c2", "edits", {"path": "/tmp/else/where"}),
    ToolUseBlock("c3", "edits", {"path": "inside.txt"}),
    ToolUseBlock("c4", "careful", {}),
]


class Recorder:
    """Tools of every kind, and which calls of them ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

        @tool(is_read_only=True)
        async def reads() -> None:
            """Read."""
            self.ran.append("reads")

        @tool
        async def plain() -> None:
            """Do."""
            self.ran.append("plain")

        @tool(edits_files=True)
        async def edits(path: str) -> None:
            """Edit."""
            self.ran.append(f"edits {path}")

        @tool(needs_permission=True)
        async def careful() -> None:
            """Pay."""
            self.ran.append("careful")

        self.tools = [reads, plain, edits, careful]


async def ran_alone(tmp_path: Path, **options: Any) -> list[str]:
    seen = Recorder()
    async with Agent(ScriptedModel([CALLS, "done"]), tools=seen.tools, cwd=str(tmp_path), **options) as agent:
        await agent.query("go")
    return sorted(seen.ran)


async def ran_below(tmp_path: Path, below: dict[str, Any], **options: Any) -> list[str]:
    seen = Recorder()
    child = ScriptedModel([CALLS, "done"])
    agents = {"reviewer": {**REVIEWER, "model": child, **below}}
    model = ScriptedModel([[ask()], "done"])
    async with Agent(model, tools=seen.tools, agents=agents, cwd=str(tmp_path), **options) as agent:
        await agent.query("go")
    return sorted(seen.ran)


@pytest.mark.parametrize("share", [3, pytest.param(1, marks=pytest.mark.slow)], ids=["a third", "all"])
@pytest.mark.parametrize("asks", ["nobody", "yes", "no"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_subagent_never_runs_what_the_agent_may_not(tmp_path: Path, mode: str, asks: str, share: int) -> None:
    """All modes above and below, with all rules above and below, with and without somebody to ask.

    A third of them still has every mode and all rules above with every mode and with all rules below.
    """
    options: dict[str, Any] = {"permission_mode": mode}
    if asks != "nobody":
        options["can_use_tool"] = lambda name, *_: asks == "yes" or name == "task"
    for number, rules in enumerate(RULES):
        may = await ran_alone(tmp_path, **options, **rules)
        assert await ran_below(tmp_path, {}, **options, **rules) in (may, []), (
            rules
        )  # [] where `task` itself may not run
        all_below = enumerate(itertools.product([None, *MODES], RULES[:3]))
        for own_mode, own_rules in [one for place, one in all_below if (place // 3 + place + number) % share == 0]:
            below = {"permission_mode": own_mode, **own_rules}
            did = await ran_below(tmp_path, below, **options, **rules)
            assert set(did) <= set(may), (rules, below)
            if "disallowed_tools" in own_rules:
                assert not {"plain", "edits inside.txt", "edits /tmp/else/where"} & set(did)
            if own_mode == "plan":
                assert set(did) <= {"reads"}


async def test_a_subagent_has_the_agents_rights_where_it_names_none(tmp_path: Path) -> None:
    rules = {"permission_mode": "dont-ask", "allowed_tools": ["careful", "task"], "disallowed_tools": ["plain"]}
    assert await ran_below(tmp_path, {}, **rules) == await ran_alone(tmp_path, **rules) == ["careful"]
    assert await ran_below(tmp_path, {"disallowed_tools": ["careful"]}, **rules) == []
    everything = await ran_alone(tmp_path, permission_mode="bypass")
    assert await ran_below(tmp_path, {}, permission_mode="bypass") == everything and len(everything) == 5
    assert await ran_below(tmp_path, {"permission_mode": "plan"}, permission_mode="bypass") == ["reads"]
    assert await ran_below(tmp_path, {"permission_mode": "bypass"}, permission_mode="plan") == ["reads"]
    only = {"permission_mode": "dont-ask", "allowed_tools": ["plain"]}
    assert await ran_below(tmp_path, only, permission_mode="bypass") == ["plain"]


async def test_what_holds_for_one_prompt_holds_for_its_subagents() -> None:
    ran: list[str] = []

    @tool
    async def write() -> None:
        """Write."""
        ran.append("write")

    agent, _, child = team([use("write")], "ok", tools=[write], permission_mode="bypass")
    async with agent:
        await agent.query("go", permission_mode="plan")
    assert ran == [] and "only tools that read" in told(child)[0]


async def test_the_agents_can_use_tool_is_asked_for_a_subagents_call() -> None:
    asked: list[tuple[str, dict[str, Any], str, str | None]] = []

    async def can(name: str, given: dict[str, Any], context: Any) -> Any:
        asked.append((name, given, context.session_id, context.agent_id))
        if name == "look" and given["path"] == "secret":
            return False
        return PermissionResultAllow(updated_input={"path": "other"}) if name == "look" else True

    starts: list[Any] = []
    agent, _, child = team(
        [use("look", path="secret"), use("look", "c2", path="a")], "ok", can_use_tool=can,
        hooks={"SubagentStart": [starts.append]},
    )  # fmt: skip
    async with agent:
        session = agent.create_session()
        await session.query("go")
    assert [one[0] for one in asked] == ["task", "look", "look"]
    assert asked[0][2:] == (session.session_id, None)
    assert asked[1][2:] == (starts[0].agent_id, starts[0].agent_id) != asked[0][2:]
    assert told(child) == ["Not run: can_use_tool refused it", "seen other"]


async def test_rules_about_who_may_be_asked() -> None:
    calls = [ask("p", "writer", "t1"), ask("p", "reviewer", "t2")]
    agents = {
        "reviewer": {**REVIEWER, "model": ScriptedModel(["fine"])},
        "writer": {**REVIEWER, "model": ScriptedModel(["written"])},
    }
    model = ScriptedModel([calls, "done"])
    async with Agent(model, agents=agents, disallowed_tools=["task(writer)"], permission_mode="plan") as agent:
        await agent.query("go")
    assert told(model) == ["Not run: the rule deny task(writer) forbids it", "fine"]


async def test_a_subagents_tools_bind_it_whatever_it_calls() -> None:
    agent, _, child = team([use("write"), use("task", "c2", subagent="reviewer", prompt="x")], "ok",
                           tools=[look, Recorder().tools[1]], below={"tools": ["look"]})  # fmt: skip
    async with agent:
        await agent.query("go")
    assert [text.split(".")[0] for text in told(child)] == [
        "Error: there is no tool 'write'",
        "Error: there is no tool 'task'",
    ]


async def test_it_waits_for_an_approval_and_goes_on() -> None:
    paid: list[str] = []

    def shop(*script: Any, parent: Any) -> Agent:
        @tool(needs_permission=True)
        async def pay(to: str) -> str:
            """Pay."""
            paid.append(to)
            return f"paid {to}"

        return team(*script, parent=parent, tools=[pay, look], approvals="wait")[0]

    async with shop([use("look"), use("pay", "c2", to="Ann")], parent=[[ask()]]) as agent:
        session = agent.create_session("till")
        with pytest.raises(ApprovalPendingError) as caught:
            await session.query("go")
        (waiting,) = await session.approvals()
        assert caught.value.approval_ids == (waiting["approval_id"],) and paid == []
    async with shop("paid it", parent=["done"]) as agent:  # another process
        session = await agent.resume("till")
        await session.answer_approval(waiting["approval_id"], True)
        assert await session.receive() == "done"
        assert paid == ["Ann"] and await session.approvals() == []
        (results,) = [m for m in session.messages if isinstance(m, ToolMessage)]
        assert text_of(results) == "" and results.content[0].as_text() == "paid it"  # type: ignore[union-attr]


@pytest.mark.parametrize("allow", [True, False])
async def test_narrowed_rights_wait_for_one_approval_too(allow: bool) -> None:
    seen = Recorder()
    agent, model, _ = team(
        [use("careful")], "ok", tools=seen.tools, approvals="wait", below={"permission_mode": "accept-edits"}
    )
    async with agent:
        session = agent.create_session()
        with pytest.raises(ApprovalPendingError) as caught:
            await session.query("go")
        assert caught.value.approval_ids is not None
        await session.answer_approval(caught.value.approval_ids[0], allow)
        assert await session.receive() == "Reviewed."
    assert seen.ran == (["careful"] if allow else []) and told(model) == ["ok"]


# ------------------------------------------------------------------ hooks


async def test_hooks_are_told_of_start_and_stop() -> None:
    seen: list[Any] = []
    events = ("SubagentStart", "SubagentStop", "Stop", "UserPromptSubmit", "SessionStart", "SessionEnd", "PreToolUse")
    hooks = {name: [seen.append] for name in events}
    agent, _, _ = team([use("look")], "All fine.", hooks=hooks)
    async with agent, agent.create_session() as session:
        await session.query("go")
        (child,) = await agent.list_sessions(parent_session_id=session.session_id)
    names = [type(one).__name__.removesuffix("Event") for one in seen]
    assert names == [
        "SessionStart", "UserPromptSubmit", "PreToolUse", "SubagentStart", "PreToolUse", "SubagentStop", "Stop",
        "SessionEnd",
    ]  # fmt: skip
    start, stop = seen[3], seen[5]
    assert (start.agent_type, start.prompt, start.session_id) == ("reviewer", "look at x", session.session_id)
    assert start.agent_id == stop.agent_id == child["session_id"]
    assert (stop.agent_type, stop.result, stop.is_continued, stop.error) == ("reviewer", "All fine.", False, None)
    assert stop.session_id == session.session_id


async def test_a_hook_refuses_a_subagent_or_changes_its_task() -> None:
    def gate(event: Any) -> HookDecision | None:
        if "secret" in event.prompt:
            return HookDecision(False, reason="no secrets")
        return HookDecision(modified_prompt=event.prompt.upper())

    calls = [ask("the secret", call_id="t1"), ask("the plan", call_id="t2")]
    stops: list[Any] = []
    hooks = {"SubagentStart": [HookMatcher("review*", [gate])], "SubagentStop": [stops.append]}
    agent, model, child = team("ok", parent=[calls, "done"], hooks=hooks)
    async with agent:
        session = agent.create_session()
        await session.query("go")
        below = await agent.list_sessions(parent_session_id=session.session_id)
    assert told(model) == ["Error: Not run: no secrets", "ok"]
    assert [text_of(request.messages[-1]) for request in child.requests] == ["THE PLAN"]
    assert len(stops) == 1 and [one["title"] for one in below] == ["reviewer: THE PLAN"]


async def test_claude_style_hooks() -> None:
    seen: list[dict[str, Any]] = []

    async def gate(input_data: dict[str, Any], tool_use_id: str | None, context: Any) -> dict[str, Any]:
        seen.append(input_data)
        if input_data["hook_event_name"] == "SubagentStop":
            return {} if input_data["stop_hook_active"] else {"decision": "block", "reason": "look again"}
        if "secret" in input_data["prompt"]:
            return {"decision": "block", "reason": "no secrets"}
        return {"hookSpecificOutput": {"hookEventName": "SubagentStart", "additionalContext": "Be brief."}}

    hooks = {name: [HookMatcher("reviewer", [gate])] for name in ("SubagentStart", "SubagentStop")}
    calls = [ask("the secret", call_id="t1"), ask("the plan", call_id="t2")]
    agent, model, child = team("ok", "better", parent=[calls, "done"], hooks=hooks, permission_mode="plan")
    async with agent:
        session = agent.create_session()
        await session.query("go")
    assert told(model) == ["Error: Not run: no secrets", "better"]
    assert [text_of(request.messages[-1]) for request in child.requests] == ["the plan\n\nBe brief.", "look again"]
    start = seen[0]
    assert (start["agent_type"], start["session_id"], start["permission_mode"]) == (
        "reviewer", session.session_id, "plan",
    )  # fmt: skip


async def test_a_hook_sends_a_subagent_on() -> None:
    results: list[tuple[str | None, bool]] = []

    def check(event: Any) -> HookDecision | None:
        results.append((event.result, event.is_continued))
        return None if event.is_continued else HookDecision(False, reason="look again")

    agent, model, child = team("first", "second", hooks={"SubagentStop": [check]})
    async with agent:
        await agent.query("go")
    assert told(model) == ["second"] and results == [("first", False), ("second", True)]
    assert text_of(child.requests[1].messages[-1]) == "look again"


async def test_a_start_hook_that_is_late_or_fails_lets_nothing_through() -> None:
    async def late(event: Any) -> None:
        await asyncio.Event().wait()

    def fails(event: Any) -> None:
        raise RuntimeError("gate is broken")

    for hook, said in ((HookMatcher(None, [late], timeout=0.01), "took longer"), (fails, "gate is broken")):
        agent, model, child = team("ok", hooks={"SubagentStart": [hook]})
        async with agent:
            assert await agent.query("go") == "Reviewed."
        assert said in told(model)[0] and child.requests == []


# ------------------------------------------------------------------ trouble below


@tool
async def breaks() -> None:
    """Break."""
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ([AuthenticationError("wrong key", model="child")], {}, "wrong key"),
        ([], {}, "script is used up"),
        ([[use("look", f"c{n}", path=str(n))] for n in range(9)], {"below": {"max_turns": 2}}, "max_turns=2"),
        ([[use("look", f"c{n}", path=str(n))] for n in range(9)], {"max_tool_iterations": 3}, "max_tool_iterations=3"),
        ([[use("look", f"c{n}")] for n in range(9)], {}, "the subagent reviewer failed"),  # a loop
        ([["It is so ", AuthenticationError("cut", model="child")]], {}, "cut"),
    ],
)
async def test_what_goes_wrong_below_is_told_to_the_model(script: Any, options: Any, said: str) -> None:
    ends: list[Any] = []
    agent, model, _ = team(*script, hooks={"SubagentStop": [ends.append]}, max_retries=0, **options)
    async with agent:
        session = agent.create_session()
        assert await session.query("go") == "Reviewed."
        assert await session.query("and now", agents=(), model=ScriptedModel(["usable"])) == "usable"
    (text,) = told(model)
    assert text.startswith("Error: the subagent reviewer failed: ") and said in text
    assert len(ends) == 1 and said.removeprefix("the subagent reviewer failed") in ends[0].error


async def test_a_tool_or_a_hook_that_breaks_below_ends_nothing_above() -> None:
    agent, model, child = team([use("breaks")], "so be it", tools=[breaks])
    async with agent:
        assert await agent.query("go") == "Reviewed."
    assert told(child) == ["Error: RuntimeError: broken"] and told(model) == ["so be it"]

    def ends(event: Any) -> HookAnswer | None:
        return (
            HookAnswer(False, reason="enough", permission="deny", ends_run=True) if event.tool_name == "look" else None
        )

    agent, model, child = team([use("look")], hooks={"PreToolUse": [ends]})
    async with agent:
        assert await agent.query("go") == "Reviewed."
    assert "enough" in told(model)[0] and len(child.requests) == 1


async def test_an_empty_task_is_no_task() -> None:
    agent, model, child = team(parent=[[ask("  ")], "done"])
    async with agent:
        await agent.query("go")
    assert "prompt is empty" in told(model)[0] and child.requests == []
    agent, model, child = team(parent=[[ask("p", "nobody")], "done"])
    async with agent:
        await agent.query("go")
    assert "reviewer" in told(model)[0] and "Nothing was run" in told(model)[0] and child.requests == []


# ------------------------------------------------------------------ stopping


class Stuck:
    """A tool that begins and never ends, and whether it was stopped."""

    def __init__(self) -> None:
        self.begun, self.stopped = asyncio.Event(), 0

        @tool
        async def hang() -> None:
            """Hang."""
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped += 1

        self.hang = hang


def others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()}


async def test_all_levels_and_all_siblings_stop() -> None:
    before, inside, all_in = others(), list[str](), asyncio.Event()

    @tool
    async def hang(context: any_agent.ToolContext) -> None:
        """Hang."""
        inside.append(context.session_id)
        if len(inside) == 4:
            all_in.set()
        try:
            await asyncio.Event().wait()
        finally:
            inside.remove(context.session_id)

    def reply(request: Any) -> Any:
        said = text_of(request.messages[-1])
        return [ask("deeper", call_id="d1"), use("hang", "d2")] if said == "deep" else [use("hang")]

    calls = [ask("deep", call_id="t1"), ask("deep", call_id="t2")]
    agents = {"reviewer": {**REVIEWER, "tools": ["hang", "task"], "model": ScriptedModel([reply] * 9)}}
    async with Agent(ScriptedModel([calls]), tools=[hang], agents=agents) as agent:
        session = agent.create_session()
        running = asyncio.ensure_future(session.query("go"))
        await asyncio.wait_for(all_in.wait(), 20)
        assert len(set(inside)) == 4
        await session.interrupt()
        with pytest.raises(InterruptedRunError):
            await running
        assert inside == [] and (await session.usage()).calls == 5
    assert others() - before == set()


@pytest.mark.parametrize("how", ["interrupt", "cancel", "close", "agent"])
async def test_whoever_stops_the_agent_stops_its_subagents(how: str) -> None:
    before, stuck, starts = others(), Stuck(), list[Any]()
    agent, _, child = team([use("hang")], tools=[stuck.hang], hooks={"SubagentStart": [starts.append]})
    async with agent:
        session = agent.create_session()
        running = asyncio.ensure_future(session.query("go"))
        await asyncio.wait_for(stuck.begun.wait(), 20)
        if how == "cancel":
            running.cancel()
        else:
            await {"interrupt": session.interrupt, "close": session.close, "agent": agent.aclose}[how]()
        (outcome,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError if how == "cancel" else InterruptedRunError)
        assert stuck.stopped == 1 and child.closed_streams == 1
        if how in ("interrupt", "cancel"):
            assert await session.query("again", agents=(), model=ScriptedModel(["usable"])) == "usable"
            rows = await agent.memory.load(starts[0].agent_id, kinds=("message",))
            assert [row["role"] for row in rows] == ["user", "assistant", "tool"]  # well formed, every call answered
    assert others() - before == set()


async def test_an_interrupt_closes_the_subagents_connection() -> None:
    def reply(request: WireRequest) -> Any:
        if any(one["role"] == "system" for one in request.json["messages"]):
            return says_and_stalls("never ", "ends")
        call = WireCall("task", '{"subagent": "reviewer", "prompt": "p"}', "t1")
        return sse(chat_chunks(tool_calls=[call]))

    with LoopbackServer() as server:
        server.reply(CHAT, reply)
        heard = asyncio.Event()
        watch = [lambda event: heard.set() if isinstance(event, TextDelta) else None]
        async with Agent("m", base_url=server.base_url, agents={"reviewer": REVIEWER}, observers=watch) as agent:
            session = agent.create_session()
            running = asyncio.ensure_future(session.query("go"))
            await asyncio.wait_for(heard.wait(), 20)
            await session.interrupt()
            with pytest.raises(InterruptedRunError):
                await running
            await asyncio.to_thread(server.wait_client_left, 20)
            assert others() == set()


# ------------------------------------------------------------------ what it costs


def paid(text: Any, tokens_in: int, tokens_out: int, cost_usd: float = 0.5) -> list[Any]:
    said = text if isinstance(text, list) else [text]
    return [*said, StreamEnd("m", "stop", Usage(tokens_in, tokens_out), cost_usd)]


@pytest.mark.parametrize("enable_memory", [True, False])
async def test_a_session_pays_for_its_subagents(enable_memory: bool) -> None:
    agent, _, _ = team(
        paid([use("look")], 10, 1), paid("fine", 20, 2), parent=[paid([ask()], 1, 1), paid("ok", 2, 1)],
        enable_memory=enable_memory,
    )  # fmt: skip
    async with agent:
        session = agent.create_session()
        response = await session.query("go")
        spent = await session.usage()
    assert (spent.calls, spent.input_tokens, spent.output_tokens, spent.cost_usd) == (4, 33, 5, 2.0)
    assert response.usage == Usage(3, 2)  # of the answer's own turns


@pytest.mark.parametrize("enable_memory", [True, False])
@pytest.mark.parametrize(
    ("budget", "calls_below"),
    [({"max_budget_tokens": 12}, 1), ({"max_budget_tokens": 31}, 2), ({"max_budget_usd": 1.5}, 2)],
)
async def test_one_budget_holds_for_the_whole_tree(
    enable_memory: bool, budget: dict[str, Any], calls_below: int
) -> None:
    script = [paid([use("look", f"c{n}", path=str(n))], 10, 5) for n in range(9)]
    agent, model, child = team(
        *script, parent=[paid([ask()], 1, 1), paid("ok", 1, 1)], enable_memory=enable_memory, **budget
    )
    async with agent:
        session = agent.create_session()
        with pytest.raises(BudgetExceededError):
            await session.query("go")
    assert len(child.requests) == calls_below and len(model.requests) == 1
    assert "is used up" in session.messages[-1].content[0].as_text()  # type: ignore[union-attr]


async def test_the_store_knows_it_as_a_session_below_its_parent() -> None:
    agent, _, _ = team([use("look")], "All fine.")
    async with agent:
        session = agent.create_session("above")
        await session.query("Is it good?")
        assert [row["session_id"] for row in await agent.list_sessions()] == ["above"]
        (row,) = await agent.list_sessions(parent_session_id="above")
        named = {name: row[name] for name in ("parent_session_id", "subagent", "tool_use_id", "title", "status")}
        assert named == {
            "parent_session_id": "above", "subagent": "reviewer", "tool_use_id": "t1",
            "title": "reviewer: look at x", "status": "idle",
        }  # fmt: skip
        rows = {row.key: row.calls for row in await agent.stats("above", group_by="session")}
        assert rows == {"above": 2, row["session_id"]: 2}
        assert {one.key: one.calls for one in await agent.stats("above", group_by="tool")} == {"look": 1, "task": 1}
        assert [hit.session_id for hit in await agent.memory.search("Reviewed", sources=["interaction"])] == ["above"]
        assert await agent.memory.search("fine", sources=["interaction"]) == []
        assert await agent.memory.delete("above") == 2
        assert await agent.list_sessions(parent_session_id="above") == []


# ------------------------------------------------------------------ killed

KILLED = """
import asyncio, os, sys
from pathlib import Path
from any_agent import Agent, tool
from any_agent.memory import MemoryStore
from any_agent.testing import ScriptedModel
from any_agent.types import ToolMessage, ToolUseBlock, UserMessage

work = Path(sys.argv[1])


async def life(place, kill_at):
    log = place / "log"
    def note(word):
        with open(log, "a") as file:
            file.write(word + "\\n")

    @tool
    async def pay(to: str) -> str:
        "Pay, once."
        note(f"pay {to}")
        return f"paid {to}"

    def below(request):
        note("asked below")
        last = request.messages[-1]
        return [ToolUseBlock("c1", "pay", {"to": "Ann"})] if isinstance(last, UserMessage) else "paid it"

    def above(request):
        last = request.messages[-1]
        call = ToolUseBlock("t1", "task", {"subagent": "payer", "prompt": "pay Ann"})
        return [call] if isinstance(last, UserMessage) else f"said: {last.content[0].as_text()}"

    agents = {"payer": {"description": "Pays.", "prompt": "Pay.", "model": ScriptedModel([below] * 9)}}
    store = MemoryStore(str(place / "m.db"), durability="process")
    async with store, Agent(ScriptedModel([above] * 9), tools=[pay], agents=agents, store=store) as agent:
        session = agent.create_session("s")
        if kill_at:
            os.environ["ANY_AGENT_KILL_AT"] = str(kill_at)
            await session.query("go")
            return
        known = await session.load(store)
        answer = await (session.query("go") if not session.messages else session.receive() if session.is_unfinished
                        or isinstance(session.messages[-1], ToolMessage) else asyncio.sleep(0, session.messages[-1].content[0].text))
        rows = await agent.list_sessions(parent_session_id="s")
        lines = log.read_text().splitlines()
        results = [m.content[0].as_text() for m in session.messages if isinstance(m, ToolMessage)]
        print(lines.count("pay Ann"), lines.count("asked below"), len(rows), len(session.messages), results, str(answer), sep="|")


def in_child(place, kill_at):
    pid = os.fork()
    if pid == 0:
        asyncio.run(life(place, kill_at))
        sys.stdout.flush()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


(work / "0").mkdir()
asyncio.run(life(work / "0", 0))  # imports everything: a child need not
print("--", flush=True)
for point in range(1, 100):
    place = work / str(point)
    place.mkdir()
    died = in_child(place, point)
    in_child(place, 0)
    if not died:
        break
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_killed_at_every_commit_a_subagent_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("|") for line in done.stdout.partition("--\n")[2].splitlines()]
    assert len(rows) > 12
    unknown = 0
    for point, (pays, asked, children, messages, results, answer) in enumerate(rows, 1):
        assert (int(pays) <= 1, children, messages) == (True, "1", "4"), point
        assert results == "['paid it']" and answer == "said: paid it", point
        assert int(asked) <= 3, point  # never the whole task again
        unknown += pays == "0"
    assert rows[-1][:2] == ["1", "2"] and unknown <= 1  # killed between the mark that it starts and its start


# ------------------------------------------------------------------ over HTTP


async def test_over_http_with_a_model_of_its_own() -> None:
    def reply(request: WireRequest) -> Any:
        asked = request.json
        if asked["model"] == "big" and asked["messages"][-1]["role"] == "user":
            return sse(chat_chunks(tool_calls=[WireCall("task", '{"subagent": "small", "prompt": "add"}', "t1")]))
        return sse(chat_chunks([f"{asked['model']} says ok"]))

    with LoopbackServer() as server, LoopbackServer() as other:
        server.reply(CHAT, reply)
        other.reply(CHAT, reply)
        for place, model in ((server, "little"), (other, {"model": "little", "base_url": other.base_url})):
            agents = {"small": {"description": "Adds.", "prompt": "You add.", "model": model}}
            async with Agent("big", base_url=server.base_url, api_key="the-key", agents=agents) as agent:
                assert await agent.query("go") == "big says ok"
            below = [r for r in place.requests if r.method == "POST" and r.json["model"] == "little"]
            assert [one["content"] for one in below[-1].json["messages"]] == ["You add.", "add"]
            assert "tools" not in below[-1].json
            assert ("the-key" in below[-1].headers.get("authorization", "")) is (place is server)
        above = [r.json for r in server.requests if r.method == "POST" and r.json["model"] == "big"]
        assert above[1]["messages"][-1] == {"role": "tool", "tool_call_id": "t1", "content": "little says ok"}


def test_who_has_no_subagents_pays_nothing() -> None:
    program = (
        "import sys, asyncio; from any_agent import Agent; from any_agent.testing import EchoModel\n"
        "asyncio.run(Agent(EchoModel(), enable_memory=False).query('x')); assert 'any_agent.subagents' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_observers_see_subagents_by_their_sessions() -> None:
    seen: dict[str, list[str]] = {}

    class Watch:
        def for_run(self, session: Any) -> Any:
            kinds = seen.setdefault(session.session_id, [])
            return lambda event: kinds.append(type(event).__name__)

    agent, _, _ = team([use("look")], "fine", observers=[Watch()])
    async with agent:
        session = agent.create_session()
        await session.query("go")
    assert len(seen) == 2 and all(kinds[-1] == "ResultMessage" for kinds in seen.values())
    (below,) = [kinds for session_id, kinds in seen.items() if session_id != session.session_id]
    assert "ToolStarted" in below and ToolCompleted.__name__ in below
