"""Permissions: the order of rules, hooks, modes and questions; what is never let through; rights that only narrow."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from any_agent import AgentOptions
from any_agent import tool as make_tool
from any_agent.dispatch import Dispatch
from any_agent.errors import ConfigurationError, InvalidInputError
from any_agent.hooks import HookAnswer, HookDecision
from any_agent.permissions import (
    Decision,
    PermissionContext,
    PermissionMode,
    PermissionResultAllow,
    PermissionResultDeny,
    Permissions,
    ToolPermission,
    permissions_of,
    permit,
)
from any_agent.tools import ToolRegistry
from any_agent.types import PermissionDecided, ToolCompleted, ToolUseBlock


class Traits:
    """What permissions look at in a tool."""

    def __init__(self, **declared: Any) -> None:
        self.__dict__.update(declared)


PLAIN = Traits()
READS = Traits(is_read_only=True)
EDITS = Traits(edits_files=True)
WANTS = Traits(needs_permission=True)


def use(name: str = "shell", **arguments: Any) -> ToolUseBlock:
    return ToolUseBlock("call_1", name, arguments)


async def decided(permissions: Permissions, call: ToolUseBlock, tool: Any = PLAIN, **more: Any) -> Decision:
    return await permissions.decide(call, PermissionContext(tool, **more))


async def says(permissions: Permissions, call: ToolUseBlock, tool: Any = PLAIN, **more: Any) -> tuple[str, str | None]:
    decision = await decided(permissions, call, tool, **more)
    return decision.kind, decision.rule


STATUS, REMOVE = use(command="git status"), use(command="rm -rf /")


# ------------------------------------------------------------------ modes


async def test_default_runs_ordinary_tools_and_asks_for_those_that_want_it() -> None:
    assert await says(Permissions(), STATUS) == ("allow", "mode default")
    refused = await decided(Permissions(), STATUS, WANTS)
    assert (refused.kind, refused.allowed, refused.rule) == ("deny", False, "needs_permission")
    assert refused.reason == ("the tool shell wants it: it needs somebody's permission, and nobody is there to ask")
    assert await says(Permissions(allow=["shell"]), STATUS, WANTS) == ("allow", "shell")


async def test_plan_lets_only_tools_that_read() -> None:
    plan = Permissions("plan", allow=["shell", "read"])  # type: ignore[arg-type]
    assert await says(plan, STATUS) == ("deny", "mode plan")
    assert await says(plan, STATUS, READS) == ("allow", "shell")
    assert await says(replace(plan, allow=()), STATUS, READS) == ("allow", "mode plan")
    assert await says(replace(plan, can_use_tool=lambda *_: True), STATUS) == ("deny", "mode plan")
    assert await says(plan, STATUS, hook=HookAnswer(permission="allow")) == ("deny", "mode plan")
    assert await says(plan, STATUS, None) == ("deny", "mode plan")


async def test_accept_edits_lets_tools_edit_inside_the_working_folder(tmp_path: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to("/")
    edits = Permissions(PermissionMode.ACCEPT_EDITS, cwd=str(tmp_path / "in"))
    for path in ("a.txt", "./deep/a.txt", str(tmp_path / "in" / "b"), "x/../a"):
        assert await says(edits, use("write", path=path), EDITS) == ("allow", "mode accept-edits"), path
    for path in ("../a", "/etc/passwd", "out/etc/passwd", "~/a", ".", "", " /etc/passwd", "$HOME/a", "a\0b"):
        assert await says(edits, use("write", path=path), EDITS) == ("deny", "mode accept-edits"), path
    both = use("move", path="a", new_path="/etc/passwd")
    assert await says(edits, both, EDITS) == ("deny", "mode accept-edits")
    assert await says(edits, use("write", text="a"), EDITS) == ("deny", "mode accept-edits")
    assert await says(edits, STATUS) == ("allow", "mode accept-edits")  # an ordinary tool
    asks = replace(edits, can_use_tool=lambda *_: True)
    assert await says(asks, use("write", path="../a"), EDITS) == ("allow", "can_use_tool")


async def test_bypass_lets_everything_but_what_is_denied() -> None:
    bypass = Permissions(PermissionMode.BYPASS, ask=["shell"], deny=["shell(rm:*)"], can_use_tool=lambda *_: False)
    assert await says(bypass, STATUS, WANTS) == ("allow", "mode bypass")
    assert await says(bypass, REMOVE) == ("deny", "shell(rm:*)")
    assert await says(bypass, STATUS, hook=HookDecision(False, reason="no")) == ("deny", "hook")
    assert await says(bypass, STATUS, hook=HookAnswer(permission="ask")) == ("deny", "can_use_tool")


async def test_dont_ask_refuses_what_would_ask() -> None:
    asked: list[Any] = []

    def can(*told: Any) -> bool:
        asked.append(told)
        return True

    quiet = Permissions(PermissionMode.DONT_ASK, can_use_tool=can, allow=["shell(git status:*)"], ask=["deploy"])
    assert await says(quiet, STATUS) == ("allow", "shell(git status:*)")
    for call in (REMOVE, use("deploy"), use("other")):
        assert await says(quiet, call) == ("deny", "mode dont-ask")
    assert asked == []
    nothing = Permissions(PermissionMode.DONT_ASK)
    assert await says(nothing, STATUS) == ("allow", "mode dont-ask")
    assert await says(nothing, STATUS, WANTS) == ("deny", "mode dont-ask")
    listed = Permissions(PermissionMode.DONT_ASK, allow=["read"])  # a list of what may be done is meant as one
    assert await says(listed, STATUS) == ("deny", "mode dont-ask")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("default", "default"), ("acceptEdits", "accept-edits"), ("accept_edits", "accept-edits"), ("plan", "plan"),
        ("bypassPermissions", "bypass"), ("bypass", "bypass"), ("dontAsk", "dont-ask"), ("dont-ask", "dont-ask"),
        (None, "default"), (PermissionMode.PLAN, "plan"),
    ],
)  # fmt: skip
def test_modes_in_every_spelling(text: Any, mode: str) -> None:
    assert Permissions(text).mode.value == mode
    assert AgentOptions(permission_mode=text).permission_mode.value == mode


@pytest.mark.parametrize("text", ["auto", "by-pass-all", "", 3])
def test_other_modes_are_refused(text: Any) -> None:
    if text != "":
        with pytest.raises(ConfigurationError, match="accept-edits"):
            Permissions(text)
    with pytest.raises(ConfigurationError, match="accept-edits"):
        AgentOptions(permission_mode=text)


# ------------------------------------------------------------------ the order


async def test_deny_comes_first_then_ask_then_allow() -> None:
    every = Permissions(allow=["shell"], ask=["shell"], deny=["shell"])
    assert await says(every, STATUS, hook=HookAnswer(permission="allow")) == ("deny", "shell")
    asks = Permissions(allow=["shell"], ask=["shell(rm:*)"], can_use_tool=lambda *_: "deny")
    assert await says(asks, REMOVE) == ("deny", "can_use_tool")
    assert await says(asks, STATUS) == ("allow", "shell")
    refused = await decided(every, STATUS)
    assert refused.reason == "the rule deny shell forbids it"


async def test_an_allow_rule_with_a_pattern_makes_the_other_calls_of_that_tool_ask() -> None:
    listed = Permissions(allow=["shell(git status:*)"])
    assert await says(listed, STATUS) == ("allow", "shell(git status:*)")
    assert await says(listed, REMOVE) == ("deny", "mode default")
    assert await says(listed, use("other")) == ("allow", "mode default")
    assert await says(replace(listed, can_use_tool=lambda *_: True), REMOVE) == ("allow", "can_use_tool")


async def test_hooks_reach_the_permission() -> None:
    strict = Permissions(ask=["shell"])
    assert await says(strict, STATUS, WANTS, hook=HookAnswer(permission="allow")) == ("allow", "hook")
    assert await says(strict, STATUS, hook=HookDecision(modified_input={})) == ("deny", "shell")
    asked = await decided(Permissions(), STATUS, hook=HookAnswer(permission="ask", reason="is it Friday?"))
    assert not asked.allowed and asked.rule == "hook" and asked.reason.startswith("is it Friday?: ")
    ended = await decided(Permissions(), STATUS, hook=HookAnswer(False, permission="deny", reason="r", ends_run=True))
    assert ended == Decision("deny", "r", "hook", interrupt=True)


class Theirs(Enum):
    ASK = "ask"


class OfTheSeed:
    ALLOW = "allow"


async def test_pre_tool_hook() -> None:
    seen: list[Any] = []

    async def gate(tool_name: str, args: dict[str, Any]) -> ToolPermission:
        seen.append((tool_name, dict(args)))
        risky = tool_name == "shell" and "rm " in args.get("command", "")
        args.clear()  # its own copy
        return ToolPermission.ASK if risky else ToolPermission.ALLOW

    gated = Permissions(pre_tool_hook=gate)
    assert await says(gated, STATUS) == ("allow", "pre_tool_hook")
    refused = await decided(gated, REMOVE)
    assert not refused.allowed and "nobody is there to ask" in refused.reason
    assert await says(replace(gated, can_use_tool=lambda *_: True), REMOVE) == ("allow", "can_use_tool")
    assert seen[1] == ("shell", {"command": "rm -rf /"}) and REMOVE.input == {"command": "rm -rf /"}
    assert await says(replace(gated, deny=["shell"]), STATUS) == ("deny", "shell")
    for answer, kind in [
        (True, "allow"), (False, "deny"), ("allow", "allow"), ("DENY", "deny"), (Theirs.ASK, "deny"), (None, "allow"),
        (OfTheSeed.ALLOW, "allow"), (HookDecision(False), "deny"), (HookDecision(), "allow"),
    ]:  # fmt: skip
        assert (await decided(Permissions(pre_tool_hook=lambda n, a, said=answer: said), STATUS)).kind == kind
    with pytest.raises(InvalidInputError):
        await decided(Permissions(pre_tool_hook=lambda n, a: "maybe"), STATUS)
    # The stricter of two hooks holds.
    strict = Permissions(pre_tool_hook=lambda n, a: "deny")
    assert await says(strict, STATUS, hook=HookAnswer(permission="allow")) == ("deny", "pre_tool_hook")


# ------------------------------------------------------------------ asking


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (PermissionResultAllow(), Decision("allow", "", "can_use_tool")),
        (PermissionResultAllow(updated_input={"a": 1}), Decision("allow", "", "can_use_tool", {"a": 1})),
        (PermissionResultDeny(message="not today"), Decision("deny", "not today", "can_use_tool")),
        (PermissionResultDeny(), Decision("deny", "can_use_tool refused it", "can_use_tool")),
        (PermissionResultDeny(message="x", interrupt=True), Decision("deny", "x", "can_use_tool", interrupt=True)),
        (True, Decision("allow", "", "can_use_tool")),
        (False, Decision("deny", "can_use_tool refused it", "can_use_tool")),
        ("allow", Decision("allow", "", "can_use_tool")),
        (ToolPermission.DENY, Decision("deny", "can_use_tool refused it", "can_use_tool")),
        ({"behavior": "allow", "updatedInput": {"a": 1}}, Decision("allow", "", "can_use_tool", {"a": 1})),
        ({"behavior": "deny", "message": "m"}, Decision("deny", "m", "can_use_tool")),
        (Decision("allow", rule="Ada"), Decision("allow", "", "Ada")),
    ],
)
async def test_can_use_tool_answers_in_many_shapes(answer: Any, wanted: Decision) -> None:
    async def later(*_: Any) -> Any:
        return answer

    for can in (lambda *_: answer, later):
        assert await decided(Permissions(can_use_tool=can), STATUS) == wanted


@pytest.mark.parametrize("answer", [7, {}, {"behaviour": "allow"}, {"behavior": None}, object(), "yes", []])
async def test_answers_that_cannot_be_read_are_no_permission(answer: Any) -> None:
    with pytest.raises(InvalidInputError):
        await decided(Permissions(can_use_tool=lambda *_: answer), STATUS)


async def test_updated_input_must_be_a_dict() -> None:
    with pytest.raises(InvalidInputError, match="updated_input"):
        await decided(Permissions(can_use_tool=lambda *_: {"behavior": "allow", "updatedInput": "x"}), STATUS)


async def test_the_one_who_is_asked_is_told_why() -> None:
    told: list[Any] = []

    async def can(tool_name: str, given_input: dict[str, Any], context: Any) -> bool:
        told.append((tool_name, dict(given_input), context))
        given_input["command"] = "changed"
        return True

    asks = Permissions(ask=["shell(git:*)"], can_use_tool=can)
    decision = await decided(asks, STATUS, session_id="s", agent_id="a")
    assert decision.updated_input is None and STATUS.input == {"command": "git status"}
    ((name, given_input, context),) = told
    assert (name, given_input) == ("shell", {"command": "git status"})
    assert (context.tool_use_id, context.session_id, context.agent_id) == ("call_1", "s", "a")
    assert context.decision_reason == "the rule ask shell(git:*) wants it"


async def test_rewritten_input_is_held_against_the_deny_rules_again() -> None:
    def can(*_: Any) -> Any:
        return PermissionResultAllow(updated_input={"command": "sudo rm -rf /"})

    assert await says(Permissions(deny=["shell(rm:*)"], can_use_tool=can), STATUS) == ("deny", "shell(rm:*)")
    allowed = await decided(Permissions(deny=["shell(mv:*)"], can_use_tool=can), STATUS)
    assert allowed.allowed and allowed.updated_input == {"command": "sudo rm -rf /"}


async def test_an_exception_of_the_one_who_is_asked_goes_through() -> None:
    def can(*_: Any) -> Any:
        raise RuntimeError("the window was closed")

    with pytest.raises(RuntimeError, match="window"):
        await decided(Permissions(can_use_tool=can), STATUS)


async def test_an_asker_is_asked_last_and_may_answer_later() -> None:
    seen: list[Any] = []

    async def store(call: Any, decision: Decision, context: PermissionContext) -> Decision:
        seen.append((call, decision, context.session_id))
        return Decision("ask", "waits for approval 7", "approval")

    for can in (None, lambda *_: "ask", lambda *_: None):
        pending = await decided(Permissions(asker=store, can_use_tool=can), STATUS, WANTS, session_id="s")
        assert pending == Decision("ask", "waits for approval 7", "approval") and not pending.allowed
    assert len(seen) == 3 and seen[0] == (STATUS, Decision("ask", "the tool shell wants it", "needs_permission"), "s")

    async def yes(*_: Any) -> bool:
        return True

    assert await says(Permissions(asker=yes), STATUS, WANTS) == ("allow", "asker")
    assert await says(Permissions(asker=yes, can_use_tool=lambda *_: False), STATUS) == ("deny", "can_use_tool")


def test_a_decision_is_a_row_of_the_audit_log() -> None:
    row = Decision("deny", "no", "shell(rm:*)").event(REMOVE)
    assert row == PermissionDecided("call_1", "shell", "deny", "no", "shell(rm:*)")


# ------------------------------------------------------------------ options


async def test_permissions_of_options() -> None:
    assert permissions_of(AgentOptions()) is None
    assert permissions_of(AgentOptions(cwd="/tmp"), [PLAIN, READS]) is None
    assert permissions_of(AgentOptions(), [PLAIN, WANTS]) == Permissions()
    for given_option in (
        {"permission_mode": "plan"}, {"allowed_tools": ["a"]}, {"disallowed_tools": ["a"]}, {"ask_tools": ["a"]},
        {"can_use_tool": print}, {"pre_tool_hook": print},
    ):  # fmt: skip
        assert permissions_of(AgentOptions(**given_option)) is not None, given_option
    found = permissions_of(
        AgentOptions(allowed_tools=["shell(ls:*)"], disallowed_tools=["x"], ask_tools=["y"], cwd="/w")
    )
    assert found == Permissions(allow=["shell(ls:*)"], deny=["x"], ask=["y"], cwd="/w")


@pytest.mark.parametrize("name", ["allowed_tools", "disallowed_tools", "ask_tools"])
def test_wrong_rules_are_refused_when_options_are_made(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no rule") as caught:
        AgentOptions(**{name: ["shell(rm"]})
    assert caught.value.field == name
    assert getattr(AgentOptions(**{name: None}), name) == []


async def test_permit_costs_nothing_when_nothing_is_set() -> None:
    assert await permit(None, STATUS) is None
    assert await permit(None, STATUS, PermissionContext(hook=HookDecision(modified_input={}))) is None
    assert await permit(None, STATUS, PermissionContext(READS)) is None
    wants = await permit(None, STATUS, PermissionContext(WANTS))
    assert wants is not None and wants.rule == "needs_permission" and not wants.allowed
    asked = await permit(None, STATUS, PermissionContext(hook=HookAnswer(permission="ask", reason="r")))
    assert asked is not None and not asked.allowed
    denied = await permit(Permissions(deny=["shell"]), STATUS)
    assert denied is not None and denied.rule == "shell"


# ------------------------------------------------------------------ in dispatch


async def dispatched(
    *calls: ToolUseBlock, hooks: Any = None, **rights: Any
) -> tuple[list[str], dict[str, str], list[Any]]:
    """What ran, what the model reads, and the rows of the audit log."""
    ran: list[str] = []

    @make_tool
    def shell(command: str) -> str:
        """Run a command."""
        ran.append(command)
        return f"ran {command}"

    permissions = Permissions(**rights) if rights else None
    dispatch = Dispatch(ToolRegistry([shell]), hooks or {}, permissions=permissions)
    events = [event async for event in dispatch.answer(calls, [])]
    told = {e.result.tool_use_id: e.result.as_text() for e in events if isinstance(e, ToolCompleted)}
    return ran, told, [event for event in events if isinstance(event, PermissionDecided)]


async def test_every_call_is_decided_before_it_runs() -> None:
    calls = replace(STATUS, id="a"), replace(REMOVE, id="b"), use(command=7), use("none", command="ls")
    ran, told, rows = await dispatched(*calls, deny=["shell(rm:*)"], allow=["shell(git status:*)"])
    assert ran == ["git status"] and told["b"] == "Not run: the rule deny shell(rm:*) forbids it"
    assert sorted((row.tool_use_id, row.decision, row.rule) for row in rows) == [
        ("a", "allow", "shell(git status:*)"),
        ("b", "deny", "shell(rm:*)"),
    ]
    assert await dispatched(STATUS) == (["git status"], {"call_1": "ran git status"}, [])


async def test_what_runs_is_what_was_allowed() -> None:
    def can(*_: Any) -> PermissionResultAllow:
        return PermissionResultAllow(updated_input={"command": "ls"})

    ran, told, _ = await dispatched(REMOVE, can_use_tool=can)
    assert (ran, told) == (["ls"], {"call_1": "ran ls"})
    hooks = {"pre_tool_use": [lambda event: HookDecision(modified_input={"command": "rm x"})]}
    ran, told, _ = await dispatched(STATUS, hooks=hooks, deny=["shell(rm:*)"])
    assert ran == [] and told["call_1"].startswith("Not run: ")
    wrong = PermissionResultAllow(updated_input={"command": 7})
    ran, told, _ = await dispatched(STATUS, can_use_tool=lambda *_: wrong)
    assert ran == [] and "Nothing was run" in told["call_1"]


async def test_a_hook_may_ask_where_no_permissions_are_set() -> None:
    ran, told, rows = await dispatched(STATUS, hooks={"pre_tool_use": [lambda event: "ask"]})
    assert ran == [] and "nobody is there to ask" in told["call_1"] and rows[0].rule == "hook"


# ------------------------------------------------------------------ narrowing


async def test_a_subagent_has_no_wider_rights() -> None:
    parent = Permissions(deny=["shell(rm:*)"], ask=["deploy"])
    child = parent.narrowed(mode="bypass", allow=["shell", "deploy"], can_use_tool=lambda *_: True)
    assert await says(child, REMOVE) == ("deny", "shell(rm:*)")
    assert await says(child, use("deploy")) == ("deny", "deploy")  # its own answer does not count for the parent
    assert await says(child, STATUS) == ("allow", "mode bypass")
    own = parent.narrowed(deny=["shell"], tools=["shell", "read"])
    assert await says(own, STATUS) == ("deny", "shell")
    assert await says(own, use("read")) == ("allow", "mode default")
    assert await says(own, use("write")) == ("deny", "tools")
    grandchild = own.narrowed(allow=["shell", "write"])
    assert await says(grandchild, STATUS) == ("deny", "shell")
    assert await says(grandchild, use("write")) == ("deny", "tools")


async def test_whoever_is_asked_above_is_asked_once_for_a_subagent() -> None:
    asked: list[str] = []

    def can(name: str, *_: Any) -> bool:
        asked.append(name)
        return True

    child = Permissions(can_use_tool=can).narrowed(ask=["shell"])
    assert await says(child, STATUS) == ("allow", "can_use_tool")
    assert asked == ["shell"]
    only_child = Permissions(can_use_tool=can, allow=["shell"]).narrowed(ask=["shell"])
    assert await says(only_child, STATUS) == ("allow", "can_use_tool")
    assert asked == ["shell", "shell"]


async def test_what_a_subagent_rewrites_is_decided_again_above() -> None:
    def to(command: str) -> Any:
        return lambda *_: PermissionResultAllow(updated_input={"command": command})

    parent = Permissions(deny=["shell(rm:*)"])
    assert await says(parent.narrowed(can_use_tool=to("rm x")), STATUS) == ("deny", "shell(rm:*)")
    changed = await decided(parent.narrowed(can_use_tool=to("ls")), STATUS)
    assert changed.allowed and changed.updated_input == {"command": "ls"}
    above = Permissions(can_use_tool=to("ls -l"))
    passed_on = await decided(above.narrowed(), STATUS)
    assert passed_on.allowed and passed_on.updated_input == {"command": "ls -l"}
    refused = await decided(above.narrowed(deny=["shell(ls:*)"]), STATUS)
    assert not refused.allowed and refused.updated_input is None


RULES = st.lists(
    st.sampled_from(
        [
            "shell", "shell(git:*)", "shell(git status:*)", "shell(rm:*)", "shell(* x)", "read", "r*", "*", "write(./a/**)",
            "write(*.md)", "write", "mcp__x", "web(domain:example.com)",
        ]
    ),
    max_size=3,
)  # fmt: skip
CALLS = st.sampled_from(
    [
        STATUS, REMOVE, use(command="git status; rm x"), use(command="git push"), use("read", path="a/b"),
        use("write", path="a/b.md"), use("write", path="../b"), use("mcp__x__y"), use("web", url="https://example.com/"),
    ]
)  # fmt: skip
MODES = st.sampled_from(list(PermissionMode))
ANSWERS = st.sampled_from([None, True, False])
TOOLS = st.sampled_from([PLAIN, READS, EDITS, WANTS])


def answering(answer: bool | None) -> Any:
    return None if answer is None else lambda *_: answer


rights = st.builds(
    lambda mode, allow, ask, deny, answer: {
        "mode": mode, "allow": allow, "ask": ask, "deny": deny, "can_use_tool": answering(answer),
    },
    MODES, RULES, RULES, RULES, ANSWERS,
)  # fmt: skip


@settings(max_examples=300)
@given(rights, st.lists(rights, min_size=1, max_size=3), CALLS, TOOLS, st.sampled_from([None, "allow", "ask", "deny"]))
def test_what_a_parent_refuses_every_descendant_refuses(
    above: Any, below: list[Any], call: ToolUseBlock, tool: Any, word: Any
) -> None:
    hook = None if word is None else HookAnswer(word != "deny", permission=word)
    person = Permissions(**above)

    async def check() -> None:
        permissions = person
        was_allowed = (await decided(permissions, call, tool, hook=hook)).allowed
        for one in below:
            permissions = permissions.narrowed(**one)
            is_allowed = (await decided(permissions, call, tool, hook=hook)).allowed
            assert was_allowed or not is_allowed
            was_allowed = is_allowed

    asyncio.run(check())


@settings(max_examples=300)
@given(rights, CALLS, TOOLS)
def test_more_deny_rules_never_allow_more(given_rights: Any, call: ToolUseBlock, tool: Any) -> None:
    with_more = {**given_rights, "deny": [*given_rights["deny"], "shell(git:*)"]}
    before = asyncio.run(decided(Permissions(**given_rights), call, tool))
    after = asyncio.run(decided(Permissions(**with_more), call, tool))
    assert before.allowed or not after.allowed
    assert before.reason or before.allowed
