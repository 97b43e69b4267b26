"""Hooks: which are asked, in which order; matchers, both spellings, every shape of an answer, time limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import any_agent
from any_agent import AgentOptions, HookAnswer, HookContext, HookDecision, HookMatcher, PreToolUseEvent
from any_agent.errors import ConfigurationError, InvalidInputError
from any_agent.hooks import CLAUDE_NAMES, HOOK_NAMES, decide, hooks_of, normalised, stop_gate

EVENT = PreToolUseEvent("write_file", {"path": "a", "tags": ["x"]}, "call_1", [{"role": "user", "content": "q"}])
PROMPT = any_agent.UserPromptSubmitEvent("hello", [])
DONE = any_agent.PostToolUseEvent("write_file", {"path": "a"}, {"ok": True}, "call_1", [])
STOP = any_agent.StopEvent("the answer", [], is_continued=True)


async def ask(*entries: Any, event: Any = EVENT, name: str = "pre_tool_use", context: Any = None) -> Any:
    ((known, hooks),) = normalised({name: list(entries)}).items()
    return await decide({known: hooks}, known, event, context)


def denies(event: Any) -> HookDecision:
    return HookDecision(continue_=False, reason="no")


def changes(event: Any) -> HookDecision:
    return HookDecision(modified_input={"path": "b"})


# ------------------------------------------------------------------ order and matchers


async def test_the_first_decision_wins_and_later_hooks_are_not_asked() -> None:
    seen: list[Any] = []
    assert await ask(seen.append, changes, seen.append, denies) == HookDecision(modified_input={"path": "b"})
    assert seen == [EVENT]
    assert await ask(seen.append) is None
    assert await decide({}, "pre_tool_use", EVENT) is None


async def test_what_only_adds_or_changes_does_not_switch_off_the_gate_behind_it() -> None:
    seen: list[Any] = []

    def gate(event: Any) -> Any:
        seen.append(event.tool_input)
        return specific(permissionDecision="deny", permissionDecisionReason="no b") if "b" in str(event) else None

    note, change = specific(additionalContext="one"), specific(updatedInput={"path": "b"})
    for said in (change, HookAnswer(modified_input={"path": "b"}), {**change, "decision": "approve"}):
        decision = await ask(lambda event: note, lambda event, said=said: said, gate, seen.append)  # type: ignore[misc]
        assert (decision.permission, decision.reason, decision.continue_) == ("deny", "no b", False)
    assert seen == [{"path": "b"}] * 3  # the gate sees what would run; behind a refusal nobody is asked
    assert EVENT.tool_input["path"] == "a"


async def test_answers_are_joined() -> None:
    def one(event: Any) -> Any:
        return specific(additionalContext="one", updatedInput={"path": "b"}, permissionDecision="allow")

    def two(event: Any) -> Any:
        event.tool_input["path"] += "c"  # its own copy
        more = {"permissionDecision": "ask", "permissionDecisionReason": "sure?"}
        return specific(additionalContext="two", updatedInput=dict(event.tool_input), **more)

    def three(event: Any) -> Any:
        return specific(permissionDecision="allow", permissionDecisionReason="fine")

    joined = HookAnswer(True, {"path": "bc"}, None, "sure?", "ask", added_context="one\n\ntwo")
    assert await ask(one, two, three) == joined
    assert await ask(one, HookMatcher("write_*", [two]), three, changes, denies) == HookAnswer(
        True, {"path": "b"}, None, "sure?", "ask", added_context="one\n\ntwo"
    ), "a HookDecision wins at once, but takes back no stricter word"


async def test_prompts_and_results_are_handed_on_as_they_stand() -> None:
    def told(name: str, **more: Any) -> Any:
        return {"hookSpecificOutput": {"hookEventName": name, **more}}

    seen: list[Any] = []
    adds = [lambda event, n=n: told("UserPromptSubmit", additionalContext=n) for n in ("one", "two")]  # type: ignore[misc]
    both = HookDecision(modified_prompt="hello\n\none\n\ntwo")
    assert await ask(*adds, seen.append, event=PROMPT, name="UserPromptSubmit") == both
    assert seen[0].prompt == both.modified_prompt
    refused = await ask(
        *adds, lambda event: {"decision": "block", "reason": "r"}, event=PROMPT, name="UserPromptSubmit"
    )
    assert (refused.continue_, refused.reason) == (False, "r")

    def shorter(event: Any) -> Any:
        return told("PostToolUse", updatedToolOutput=f"{event.tool_result}!", additionalContext="more")

    def ends(event: Any) -> Any:
        return {"continue": False, "stopReason": "enough"}

    whole = await ask(shorter, ends, shorter, event=DONE, name="PostToolUse")
    assert whole == HookAnswer(
        reason="enough", ends_run=True, added_context="more\n\nenough\n\nmore", updated_output="{'ok': True}!!"
    )
    stop = await ask(ends, lambda event: {"decision": "block"}, event=STOP, name="Stop")
    assert stop == HookDecision()  # it insists on the stop


async def test_an_exception_goes_through() -> None:
    def gate(event: Any) -> None:
        raise RuntimeError("stop everything")

    with pytest.raises(RuntimeError, match="stop everything"):
        await ask(gate)
    with pytest.raises(RuntimeError, match="stop everything"):
        await ask(HookMatcher("write_*", [gate], timeout=5))


@pytest.mark.parametrize(
    ("matcher", "tools", "others"),
    [
        (None, "write_file shell", ""),
        ("", "write_file shell", ""),
        ("*", "write_file shell", ""),
        ("write_file", "write_file", "write_files Write_file my_write_file"),
        ("write_*|shell", "write_file write_ shell", "rewrite_file shells"),
        ("Write|Edit", "Write Edit", "NotebookEdit"),
        ("write_* | shell", "write_file shell", "read"),
        ("mcp__.*", "mcp__a__b", "amcp__b"),
        ("(read|write)_file", "read_file write_file", "read_"),
        ("shel?", "shell", "shel"),
        ("^write_.+$", "write_file", "write_"),
    ],
)
def test_matchers(matcher: str | None, tools: str, others: str) -> None:
    one = HookMatcher(matcher, [denies])
    assert [one.matches(name) for name in tools.split()] == [True] * len(tools.split())
    assert [one.matches(name) for name in others.split()] == [False] * len(others.split())


async def test_matchers_are_held_against_the_kind_of_other_events() -> None:
    async def of(matcher: str, event: Any, name: str) -> bool:
        seen: list[Any] = []
        await ask(HookMatcher(matcher, [seen.append]), event=event, name=name)
        return bool(seen)

    compact = any_agent.PreCompactEvent("auto", [])
    assert await of("auto", compact, "pre_compact") and not await of("manual", compact, "PreCompact")
    child = any_agent.SubagentStartEvent("1", "reviewer", "look")
    assert await of("review*", child, "subagent_start") and not await of("writer", child, "subagent_start")
    start = any_agent.SessionStartEvent("resume", "s")
    assert await of("startup|resume", start, "session_start") and not await of("startup", start, "session_start")
    # An event without kinds is for every hook: a gate must not be left out by a matcher.
    assert await of("nothing", PROMPT, "user_prompt_submit") and await of("x", STOP, "stop")


# ------------------------------------------------------------------ names and what may stand there


def test_both_spellings_of_names() -> None:
    assert CLAUDE_NAMES["post_tool_use_failure"] == "PostToolUseFailure"
    for name in HOOK_NAMES:
        assert normalised({name: [denies]}) == normalised({CLAUDE_NAMES[name]: [denies]}) == {name: [denies]}
        assert getattr(any_agent, f"HOOK_{name.upper()}") == name
    both = normalised({"PreToolUse": [denies], "pre_tool_use": [changes]})
    assert both == {"pre_tool_use": [denies, changes]}
    assert normalised(None) == {} and normalised({"Stop": denies}) == {"stop": [denies]}
    event_name = Enum("event_name", {"PRE": "PreToolUse"})
    assert normalised({event_name.PRE: [denies]}) == {"pre_tool_use": [denies]}  # type: ignore[dict-item]


@dataclass
class TheirMatcher:
    """Of another package, with the same fields."""

    matcher: str | None = None
    hooks: list[Any] = field(default_factory=list)
    timeout: float | None = None


def test_matchers_of_others_are_taken() -> None:
    wanted = HookMatcher("shell", [denies], 3)
    given_ones = [TheirMatcher("shell", [denies], 3), {"matcher": "shell", "hooks": [denies], "timeout": 3}]
    assert normalised({"PreToolUse": given_ones}) == {"pre_tool_use": [wanted, wanted]}


def test_options_keep_hooks_by_the_names_of_the_house() -> None:
    options = AgentOptions(hooks={"PreToolUse": [HookMatcher("shell", [denies])], "Stop": [denies]})
    assert set(options.hooks) == {"pre_tool_use", "stop"}
    assert options.replace(seed=1).hooks == options.hooks


@pytest.mark.parametrize(
    ("hooks", "word"),
    [
        ({"pre_tool": [denies]}, "no hook event is called 'pre_tool'"),
        ({"PreToolUse": ["denies"]}, "'denies' is no hook"),
        ({"PreToolUse": "denies"}, "is no hook"),
        ({"PreToolUse": [{"matcher": "x", "hook": denies}]}, "is no hook"),
    ],
)
def test_wrong_hooks_are_refused(hooks: Any, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        AgentOptions(hooks=hooks)
    assert caught.value.field == "hooks"


@pytest.mark.parametrize("wrong", [{"matcher": "(x"}, {"hooks": ["f"]}, {"timeout": 0}])
def test_wrong_matchers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HookMatcher(**wrong)
    assert caught.value.field == next(iter(wrong))


# ------------------------------------------------------------------ the Claude-style spelling


async def test_claude_style_functions_get_a_dict() -> None:
    seen: list[Any] = []

    async def gate(input_data: dict[str, Any], tool_use_id: str | None, context: Any) -> dict[str, Any]:
        seen.append((input_data, tool_use_id, context))
        input_data["tool_input"]["tags"].append("changed")
        return {}

    where = HookContext("s1", "/work", "plan", "/t.jsonl")
    assert await ask(HookMatcher("write_file", [gate]), gate, context=where) is None
    assert len(seen) == 2 and seen[0][1] == "call_1" and seen[0][2] == {"signal": None}
    assert seen[1][0] == {
        "hook_event_name": "PreToolUse", "session_id": "s1", "cwd": "/work", "permission_mode": "plan",
        "transcript_path": "/t.jsonl", "tool_name": "write_file", "tool_use_id": "call_1",
        "tool_input": {"path": "a", "tags": ["x", "changed"]},
    }  # fmt: skip
    assert EVENT.tool_input["tags"] == ["x"]  # a copy: changing it changes nothing


async def test_inputs_of_other_events_have_claudes_names() -> None:
    seen: dict[str, Any] = {}

    def note(input_data: Any, tool_use_id: Any, context: Any) -> None:
        seen.update(input_data)

    await ask(note, event=DONE, name="PostToolUse")
    assert seen["tool_response"] == {"ok": True} and "tool_result" not in seen
    await ask(note, event=STOP, name="Stop")
    assert seen["stop_hook_active"] is True and seen["hook_event_name"] == "Stop"
    await ask(note, event=PROMPT, name="UserPromptSubmit")
    assert seen["prompt"] == "hello" and seen["session_id"] == ""


class Gate:
    def __call__(self, input_data: Any, tool_use_id: Any, context: Any) -> Any:
        return {"decision": "block", "reason": tool_use_id}

    def plain(self, event: Any) -> Any:
        return HookDecision(False, reason=event.tool_use_id)


def optional(event: Any, more: int = 1, most: int = 2) -> Any:
    return HookDecision(False, reason=event.tool_use_id)


def with_first(first: Any, input_data: Any, tool_use_id: Any, context: Any) -> Any:
    return {"decision": "block", "reason": tool_use_id}


@pytest.mark.parametrize(
    "hook",
    [
        Gate(),
        Gate().plain,
        optional,
        partial(with_first, 1),
        lambda event: HookDecision(False, reason=event.tool_use_id),
        lambda a, b, c: {"decision": "block", "reason": b},
        lambda *args: HookDecision(False, reason=args[0].tool_use_id),
    ],
)
async def test_any_callable_is_called_as_it_is_spelt(hook: Callable[..., Any]) -> None:
    decision = await ask(hook)
    assert (decision.continue_, decision.reason) == (False, "call_1")


def specific(**more: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **more}}


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, None),
        (None, None),
        ({"suppressOutput": True, "systemMessage": "hm"}, None),
        ({"async_": True, "asyncTimeout": 5}, None),
        ({"continue_": True}, None),
        (specific(), None),
        (specific(permissionDecision="defer"), None),
        ({"decision": "block", "reason": "r"}, HookAnswer(False, None, None, "r", "deny")),
        ({"decision": "approve"}, HookAnswer(permission="allow")),
        ({"continue": False, "stopReason": "r"}, HookAnswer(False, None, None, "r", "deny", ends_run=True)),
        ({"continue_": False}, HookAnswer(False, permission="deny", ends_run=True)),
        (specific(permissionDecision="allow"), HookAnswer(permission="allow")),
        (
            specific(permissionDecision="deny", permissionDecisionReason="r"),
            HookAnswer(False, None, None, "r", "deny"),
        ),
        (specific(permissionDecision="ask", permissionDecisionReason="r"), HookAnswer(True, None, None, "r", "ask")),
        (
            specific(permissionDecision="allow", updatedInput={"path": "c"}),
            HookAnswer(True, {"path": "c"}, permission="allow"),
        ),
        (specific(updatedInput={"path": "c"}), HookAnswer(True, {"path": "c"})),
        (specific(additionalContext="note"), HookAnswer(added_context="note")),
        ({"decision": "block", **specific(permissionDecision="allow")}, HookAnswer(False, permission="deny")),
        ("deny", HookAnswer(False, permission="deny")),
        ("ask", HookAnswer(permission="ask")),
        (any_agent.ToolPermission.ALLOW, HookAnswer(permission="allow")),
        (HookAnswer(permission="deny"), HookAnswer(False, permission="deny")),
        (HookAnswer(permission="ask"), HookAnswer(permission="ask")),
    ],
)
async def test_answers_before_a_tool(said: Any, wanted: HookDecision | None) -> None:
    assert await ask(lambda event: said) == wanted


@pytest.mark.parametrize(
    "said",
    [
        {"permissionDecision": "deny"},  # at the wrong place: it must not slip through
        {"hookSpecificOutput": {"decision": "deny"}},
        {"hookSpecificOutput": "deny"},
        {"hookSpecificOutput": {"hookEventName": "PostToolUse", "permissionDecision": "deny"}},
        {"decision": "perhaps"},
        {"decision": 7},
        "no",
        True,
        False,
        7,
        ["deny"],
    ],
)
async def test_what_cannot_be_understood_aborts_before_a_tool(said: Any) -> None:
    with pytest.raises(InvalidInputError):
        await ask(lambda event: said)
    assert await ask(lambda event: said, event=DONE, name="post_tool_use") is None or isinstance(said, dict)


async def test_answers_around_a_prompt() -> None:
    async def of(said: Any) -> Any:
        return await ask(lambda a, b, c: said, event=PROMPT, name="UserPromptSubmit")

    assert await of({}) is None
    assert await of({"decision": "block", "reason": "r"}) == HookDecision(False, reason="r")
    assert await of({"continue": False, "stopReason": "r"}) == HookDecision(False, reason="r")
    told = {"hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": "It is Monday."}}
    assert await of(told) == HookDecision(modified_prompt="hello\n\nIt is Monday.")
    with pytest.raises(InvalidInputError):
        await of({"block": True})


async def test_answers_when_the_model_stops_and_after_a_tool() -> None:
    async def of(said: Any, event: Any, name: str) -> Any:
        return await ask(lambda a, b, c: said, event=event, name=name)

    assert await of({"decision": "block", "reason": "tests fail"}, STOP, "Stop") == HookDecision(
        False, reason="tests fail"
    )
    assert await of({"continue": False, "decision": "block"}, STOP, "Stop") == HookDecision()
    assert await of({}, STOP, "Stop") is None
    blocked = await of({"decision": "block", "reason": "wrong"}, DONE, "PostToolUse")
    assert blocked == HookAnswer(reason="wrong", added_context="wrong") and blocked.continue_
    told = {"hookEventName": "PostToolUse", "additionalContext": "more", "updatedToolOutput": [1]}
    assert await of({"hookSpecificOutput": told}, DONE, "PostToolUse") == HookAnswer(
        added_context="more", updated_output=[1]
    )
    assert (await of({"continue": False, "stopReason": "r"}, DONE, "PostToolUse")).ends_run
    assert await of({"anything": 1}, DONE, "PostToolUse") is None


def test_plain_decisions_say_what_they_mean_for_permission() -> None:
    assert HookDecision().permission is None and HookDecision(False).permission == "deny"
    assert HookAnswer(permission="ask").permission == "ask" and HookAnswer() == HookAnswer()
    assert HookAnswer(permission="ask") != HookAnswer(permission="allow")


# ------------------------------------------------------------------ time


async def test_a_hook_that_takes_too_long_refuses_before_a_tool_and_is_left_out_after_it() -> None:
    ended: list[str] = []

    async def slow(event: Any) -> HookDecision:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("slow")
        return HookDecision()

    async def quick(event: Any) -> HookDecision:
        return HookDecision(reason="quick")

    refused = await ask(HookMatcher(None, [slow], timeout=0.01))
    assert not refused.continue_ and refused.reason == "the hook slow took longer than 0.01 s"
    stopped = await ask(HookMatcher(None, [slow], timeout=0.01), event=PROMPT, name="UserPromptSubmit")
    assert not stopped.continue_
    assert await ask(HookMatcher(None, [slow, quick], timeout=0.01), event=DONE, name="PostToolUse") == HookDecision(
        reason="quick"
    )
    assert await ask(HookMatcher(None, [quick], timeout=5)) == HookDecision(reason="quick")
    assert ended == ["slow"] * 3


async def test_a_hooks_own_timeout_is_an_exception() -> None:
    async def fails(event: Any) -> None:
        raise asyncio.TimeoutError("upstream")

    with pytest.raises(asyncio.TimeoutError, match="upstream"):
        await ask(HookMatcher(None, [fails], timeout=5))


async def test_leaving_stops_a_hook() -> None:
    ended, started = [], asyncio.Event()

    async def slow(event: Any) -> None:
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    asking = asyncio.create_task(ask(HookMatcher(None, [slow], timeout=60)))
    await started.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended == [True]


# ------------------------------------------------------------------ sugar


async def test_post_tool_hook_is_told_first() -> None:
    told: list[Any] = []

    async def note(tool_name: str, result: Any) -> str:
        told.append((tool_name, result))
        return "ignored"

    options = AgentOptions(post_tool_hook=note, hooks={"PostToolUse": [denies, told.append]})
    assert await decide(hooks_of(options), "post_tool_use", DONE) == HookDecision(False, reason="no")
    assert told == [("write_file", {"ok": True})]
    plain = AgentOptions(hooks={"PostToolUse": [denies]})
    assert hooks_of(plain) is plain.hooks
    assert (
        await decide(hooks_of(AgentOptions(post_tool_hook=lambda n, r: told.append(n))), "post_tool_use", DONE) is None
    )
    assert told[1:] == ["write_file"]


async def test_stop_gate() -> None:
    assert stop_gate({}) is None and stop_gate({"pre_tool_use": [denies]}) is None
    seen: list[Any] = []

    def not_yet(event: any_agent.StopEvent) -> HookDecision | None:
        seen.append(event)
        return None if event.is_continued else HookDecision(False, reason="the tests fail")

    gate = stop_gate({"stop": [not_yet]})
    assert gate is not None
    assert await gate("done", [], False) == "the tests fail" and await gate("done", [], True) is None
    assert seen[0] == any_agent.StopEvent("done", [], False)
    silent = stop_gate({"stop": [lambda event: HookDecision(False)]})
    assert silent is not None and await silent(None, [], False) == "Go on: it is not done."


def test_events_that_nobody_fires_yet_are_marked() -> None:
    """`not yet` in docs/hooks.md is true, and goes away with the work."""
    root = Path(any_agent.__file__).parent
    sources = [p for p in root.rglob("*.py") if p.parent.name != "hooks" and p != root / "__init__.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    rows = (root.parent / "docs" / "hooks.md").read_text(encoding="utf-8").splitlines()
    for name in HOOK_NAMES:
        (row,) = [one for one in rows if one.startswith(f"| `HOOK_{name.upper()}`")]
        word = "stop_gate" if name == "stop" else f"HOOK_{name.upper()}"
        is_fired = re.search(rf"\b{word}\b", text) is not None
        assert is_fired is ("Not yet" not in row), row


# ------------------------------------------------------------------ properties

words = st.sampled_from(["allow", "deny", "ask", "approve", "block", "defer"])


@given(st.lists(st.one_of(st.none(), words), min_size=1, max_size=5), st.booleans())
def test_the_strictest_word_decides(said: list[str | None], is_dict: bool) -> None:
    def spelt(one: str | None) -> Any:
        return specific(permissionDecision=one) if one and is_dict else one

    decision = asyncio.run(ask(*[(lambda event, one=one: spelt(one)) for one in said]))  # type: ignore[misc]
    known = {"allow": "allow", "approve": "allow", "deny": "deny", "block": "deny", "ask": "ask"}
    meant = {known[one] for one in said if one in known}
    strictest = next((one for one in ("deny", "ask", "allow") if one in meant), None)
    if strictest is None:
        assert decision is None or decision.permission is None
    else:
        assert decision.permission == strictest
        assert decision.continue_ is (strictest != "deny")


@given(st.dictionaries(st.text(max_size=12), st.one_of(st.text(max_size=6), st.booleans(), st.none()), max_size=3))
def test_a_gate_says_something_sound_or_aborts(said: dict[str, Any]) -> None:
    """No dict makes a gate open that it does not open on purpose."""
    try:
        decision = asyncio.run(ask(lambda event: said))
    except InvalidInputError:
        return
    if decision is None:
        assert said.keys() <= {
            "continue", "continue_", "suppressOutput", "stopReason", "decision", "systemMessage", "reason",
            "hookSpecificOutput", "async", "async_", "asyncTimeout",
        }  # fmt: skip
