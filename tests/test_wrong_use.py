"""What goes wrong in the first hour: every mistake has an error that says what to do, and nothing was sent before it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from math import inf, nan
from typing import Any

import pytest
from pydantic import BaseModel

from any_agent import (
    Agent,
    AgentOptions,
    AgentSession,
    AnyAgentError,
    Client,
    ConfigurationError,
    InvalidInputError,
    ResultMessage,
    TextBlock,
    TextDelta,
    UserMessage,
    query,
    tool,
)
from any_agent.errors import ApprovalPendingError, OutputError, SessionBusyError, SessionClosedError
from any_agent.given import REFUSED
from any_agent.memory import MemoryStore
from any_agent.testing import EchoModel, LoopbackServer, ScriptedModel, chat_chunks, sse
from any_agent.tools.running import render

CHAT = "/v1/chat/completions"


class Town(BaseModel):
    name: str


@pytest.fixture
def server() -> Iterable[LoopbackServer]:
    with LoopbackServer() as running:
        running.reply(CHAT, sse(chat_chunks(["Sev", "en."])))
        yield running


def weather(city: str) -> str:
    """Weather."""
    return f"rain in {city}"


# ------------------------------------------------------------------ agents and options


async def test_options_may_stand_in_the_models_place() -> None:
    assert Agent(AgentOptions(model="x")).options.model == "x"
    assert Agent({"model": "x", "temperature": 0}, max_tokens=5).options.max_tokens == 5
    with pytest.raises(ConfigurationError, match="given twice"):
        Agent(AgentOptions(model="x"), options={"model": "y"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Agent(5), "an int, 5"),  # type: ignore[arg-type]
        (lambda: Agent(EchoModel), "the class EchoModel"),  # type: ignore[arg-type]
        (lambda: Agent(Agent("x")), "an Agent"),  # type: ignore[arg-type]
        (lambda: Agent("x", options=5), "options are an int"),  # type: ignore[arg-type]
        (lambda: Agent("x", options={1: 2}), "options are a dict"),  # type: ignore[dict-item]
        (lambda: Agent("x", store="talks.db"), "memory_db_path='talks.db'"),
        (lambda: Agent("x").create_session(store=MemoryStore), "the class MemoryStore"),
        (lambda: Client(5), "an int, 5"),  # type: ignore[arg-type]
        (lambda: Client("x", model="y"), "given twice"),
        (lambda: Client(agent="x"), "takes an Agent"),  # type: ignore[arg-type]
        (lambda: Client("x", agent=Agent("x")), "takes an Agent alone"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_no_agent(wrong: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        wrong()


async def test_a_client_takes_a_model_and_fields(server: LoopbackServer) -> None:
    assert Client("ollama/x").options.model == "ollama/x"
    assert not Client(model="x").options.auto_execute_tools
    client = Client(model="m", base_url=server.base_url, auto_execute_tools=True)
    assert client.options.auto_execute_tools
    await client.query("Hi", temperature=0.5)
    assert "".join([b.text async for b in client.receive_messages() if isinstance(b, TextBlock)]) == "Seven."
    assert server.requests[-1].json["temperature"] == 0.5
    await client.query("And now?")
    assert [b async for b in client.receive_messages()] and "temperature" not in server.requests[-1].json
    with pytest.raises(ConfigurationError, match="temprature"):
        await client.query("x", temprature=1)
    await client.close()


async def test_a_client_prompt_may_have_its_own_limits_and_run_tools() -> None:
    call = {"name": "weather", "input": {"city": "Graz"}}
    async with Client(agent=Agent(ScriptedModel([call, "wet"]), tools=[weather])) as client:
        await client.query("Hi", max_turns=1)
        with pytest.raises(AnyAgentError, match="max_turns=1"):
            _ = [b async for b in client.receive_messages()]
    options = {"tools": [weather], "auto_execute_tools": False}
    async with Client(agent=Agent(ScriptedModel([call, "wet"]), **options)) as client:
        await client.query("Hi", auto_execute_tools=True)
        assert [b.text async for b in client.receive_messages() if isinstance(b, TextBlock)] == ["wet"]


async def test_query_takes_options_by_name(server: LoopbackServer) -> None:
    said = [m async for m in query("Hi", model="m", base_url=server.base_url, top_k=3)]
    assert isinstance(said[-1], ResultMessage) and said[-1].result == "Seven."
    assert server.requests[0].json["top_k"] == 3
    _ = [m async for m in query("Hi", {"model": "m", "base_url": server.base_url}, model="n")]
    assert server.requests[1].json["model"] == "n"
    assert [m.result async for m in query("Hi", model=EchoModel()) if isinstance(m, ResultMessage)] == ["Hi"]
    for wrong in (query("x", Town), query("x", temprature=1)):  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            _ = [m async for m in wrong]


@pytest.mark.parametrize("shape", [Town, list[int], Town | None, dict], ids=str)
async def test_a_type_in_the_options_place(shape: Any) -> None:
    model = ScriptedModel(["x"])
    with pytest.raises(ConfigurationError, match="output_type="):
        await Agent(model).query("x", shape)
    with pytest.raises(ConfigurationError, match="output_type="):
        _ = [c async for c in Agent(model).stream_query("x", options=shape)]
    assert not model.requests


# ------------------------------------------------------------------ prompts


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (None, "NoneType"),
        (5, "an int, 5"),
        (b"x", r"the prompt is a bytes.*decode\(\)"),
        ({"role": "user", "content": "x"}, r"put it into a list: \[message\]"),
        (UserMessage("x"), "put it into a list"),
        ({}, "a dict"),
        (0, "an int"),
        ("", "empty"),
        ([], "empty"),
        ([5], "message 0 is a int"),
        ([{"role": "user"}], r"message 0 \(user\) has no content"),
        ([{"role": "user", "content": "x"}, {"role": "assistant"}], r"message 1 \(assistant\) has no content"),
        ([{"role": "user", "content": None}], "has no content"),
        ([{"role": "user", "content": ""}], "message 0 is empty"),
        ([UserMessage("")], "message 0 is empty"),
        ([{"role": "user", "content": [{"type": "txet", "text": "x"}]}], "type 'txet'; did you mean 'text'"),
        ([{"role": "user", "content": [{"type": "blob", "text": "x"}]}], "use text, input_text"),
        ([{"role": "assistant", "tool_calls": 5}], "tool_calls is an int"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "not a list of dicts"),
        ([{"content": "x"}], "role None"),
    ],
    ids=str,
)
async def test_what_is_no_prompt(prompt: Any, said: str) -> None:
    model = ScriptedModel(["never"])
    agent = Agent(model)
    session = agent.create_session("s", enable_memory=False)
    for ask in (agent.query, session.query):
        with pytest.raises(InvalidInputError, match=said):
            await ask(prompt)
    with pytest.raises(InvalidInputError, match=said):
        await session.send(prompt)
    with pytest.raises(InvalidInputError, match=said):
        await session.queue(prompt)
    *_, last = [event async for event in session.stream(prompt)]  # streams report
    assert isinstance(last, ResultMessage) and isinstance(last.error, InvalidInputError)
    assert not model.requests and not session.messages


async def test_what_is_a_prompt() -> None:
    async def said() -> AsyncIterator[str]:
        yield "from a generator"

    session = Agent(EchoModel()).create_session()
    assert await session.query(said()) == "from a generator"  # type: ignore[arg-type]
    assert await session.query([{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]) == "x"
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    past = [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c", "content": None},
        {"role": "assistant", "content": ""},
    ]
    session.replace_history(past)
    session.replace_history(session.history)
    assert len(session.messages) == 4
    for wrong in ("abc", None, {"role": "user", "content": "x"}, [{"role": "user"}]):
        with pytest.raises(InvalidInputError):
            session.replace_history(wrong)  # type: ignore[arg-type]
    assert len(session.messages) == 4


# ------------------------------------------------------------------ sessions


async def test_a_session_has_options_of_its_own(server: LoopbackServer) -> None:
    seen: list[Any] = []
    agent = Agent("m", base_url=server.base_url, system_prompt="agent's")
    own = {"system_prompt": "session's", "temperature": 0.5, "top_k": 3, "api_base": server.base_url}
    session = agent.create_session("k1", **own, observers=[seen.append], stream_chunk_size=4)
    for number in range(2):
        await session.query("Hi")
        asked = server.requests[number].json
        assert asked["messages"][0]["content"] == "session's" and (asked["temperature"], asked["top_k"]) == (0.5, 3)
    await session.query("Hi", temperature=1, base_url=server.base_url)
    asked = server.requests[2].json
    assert asked["messages"][0]["content"] == "session's" and (asked["temperature"], asked["top_k"]) == (1, 3)
    assert [event for event in seen if isinstance(event, TextDelta)]
    assert [c async for c in session.stream_query("Hi")] == ["Seven."]
    branch = await session.fork(session_id="k2")
    await branch.query("Hi")
    assert server.requests[-1].json["messages"][0]["content"] == "session's"
    await agent.create_session().query("Hi")
    assert server.requests[-1].json["messages"][0]["content"] == "agent's"
    await agent.aclose()


async def test_a_sessions_options_hold_everywhere() -> None:
    model, own, seen = ScriptedModel(["a", "b", "c"]), EchoModel(), list[Any]()
    agent = Agent(model)
    assert await agent.create_session(model=own).query("own") == "own" and not model.requests
    hooks = {"user_prompt_submit": [lambda event: seen.append(event.prompt)]}
    session = agent.create_session("unkept", enable_memory=False, hooks=hooks)
    await session.send("one")
    await session.receive()
    assert seen == ["one"] and await agent.store_of(session) is None
    with pytest.raises(AnyAgentError, match="max_budget_tokens"):
        tight = agent.create_session(max_budget_tokens=1)
        for _ in range(2):
            await tight.query("x")
    typed = Agent(ScriptedModel(['{"name": "Graz"}'])).create_session(output_type=Town)
    assert [part async for part in typed.stream_output("A town?")][-1] == Town(name="Graz")
    await agent.aclose()


async def test_observers_of_one_prompt() -> None:
    always, once, later = list[Any](), list[Any](), list[Any]()
    session = Agent(EchoModel(), observers=[always.append]).create_session(enable_memory=False)
    await session.query("x", observers=[once.append])
    assert once and once == always
    await session.query("y", observers=[later.append])
    assert later == always[len(once) :]
    with pytest.raises(ConfigurationError, match="observers"):
        await session.query("x", observers=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1}, "temprature"),
        ({"max_turns": -1}, "max_turns"),
        ({"log_level": "DEBUG"}, "whole agent"),
    ],
    ids=str,
)
def test_unknown_options_of_a_session_are_refused_at_once(options: dict[str, Any], said: str) -> None:
    agent = Agent(EchoModel())
    with pytest.raises(ConfigurationError, match=said):
        agent.create_session("k1", **options)
    agent.create_session("k1")  # the id is free


@pytest.mark.parametrize("session_id", [5, "", ["x"], "x" * 501, "\ud83d"], ids=ascii)
async def test_what_is_no_session_id(session_id: Any) -> None:
    agent = Agent(EchoModel())
    for wrong in (
        agent.create_session,
        lambda one: AgentSession(agent, one),
        lambda one: agent.stream("x", session_id=one),
    ):
        with pytest.raises(InvalidInputError, match="session_id must be"):
            wrong(session_id)
    for ask in (agent.resume, lambda one: agent.query("hi", session_id=one), agent.create_session("s").fork):
        with pytest.raises(InvalidInputError):
            await ask(session_id)
    assert list(agent._sessions) == ["s"]
    await agent.aclose()


async def test_no_session_id_is_made_up() -> None:
    with pytest.raises(InvalidInputError, match="session_id must be .* not None"):
        await Agent(EchoModel()).resume(None)  # type: ignore[arg-type]


async def test_control_characters_of_an_id_are_escaped() -> None:
    agent = Agent(ScriptedModel(["a"], delay_s=0.2))
    session = agent.create_session("a\x1b[31mb\nc")
    told = []
    with pytest.raises(SessionBusyError) as busy:
        agent.create_session("a\x1b[31mb\nc")
    told.append(str(busy.value))
    talking = asyncio.ensure_future(session.query("x"))
    await asyncio.sleep(0.05)
    with pytest.raises(SessionBusyError) as busy:
        await session.query("x")
    told.append(str(busy.value))
    await talking
    await session.close()
    with pytest.raises(SessionClosedError) as closed:
        await session.query("x")
    told.append(str(closed.value))
    assert all(r"'a\x1b[31mb\nc'" in text and text.isprintable() for text in told)
    await agent.aclose()


@pytest.mark.parametrize(
    ("name", "value"),
    [("tags", None), ("tags", "abc"), ("tags", [1]), ("title", 5), ("title", None), ("summary", ["x"])],
    ids=str,
)
async def test_labels_of_a_session_are_checked_when_they_are_set(name: str, value: Any) -> None:
    agent = Agent(EchoModel())
    session = agent.create_session("s")
    await session.query("x")
    session.title, session.tags = "A talk", ("work",)  # type: ignore[assignment]
    session.tags.append("home")
    with pytest.raises(InvalidInputError, match=f"session.{name} is "):
        setattr(session, name, value)
    await session.close()
    again = await agent.resume("s")
    assert (again.title, sorted(again.tags)) == ("A talk", ["home", "work"])
    await agent.aclose()


@pytest.mark.parametrize("keep", ["a", None, 1.5, True], ids=str)
async def test_rewind_and_fork_take_numbers(keep: Any) -> None:
    agent = Agent(EchoModel())
    session = agent.create_session("s")
    await session.query("x")
    with pytest.raises(InvalidInputError, match="whole number"):
        await session.rewind(keep)
    if keep is not None:
        with pytest.raises(InvalidInputError, match="whole number"):
            await session.fork(keep)
    assert len(session.messages) == 2 and list(agent._sessions) == ["s"]
    await agent.aclose()


# ------------------------------------------------------------------ points to override


def with_check(answer: Any, *, is_async: bool) -> type[Agent]:
    class Checked(Agent):
        if is_async:

            async def check_response(self, response: Any) -> Any:
                return answer

        else:

            def check_response(self, response: Any) -> Any:
                return answer

    return Checked


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_check_response_may_answer_in_many_ways(is_async: bool) -> None:
    for fine in (None, True, ""):
        assert await with_check(fine, is_async=is_async)(ScriptedModel(["x"])).query("x") == "x"
    for wrong, said in ((False, REFUSED), ("say please", "say please")):
        model = ScriptedModel(["x", "y"])
        with pytest.raises(OutputError, match="refused 2 times"):
            await with_check(wrong, is_async=is_async)(model).query("x")
        assert model.requests[1].messages[-1].content == (TextBlock(said),)
    with pytest.raises(ConfigurationError, match=r"Checked.check_response returned 5"):
        await with_check(5, is_async=is_async)(ScriptedModel(["x"])).query("x")


async def test_build_system_prompt_may_be_async(server: LoopbackServer) -> None:
    class Slow(Agent):
        async def build_system_prompt(self) -> str:  # type: ignore[override]
            return "thought of"

    async with Slow("m", base_url=server.base_url) as agent:
        await agent.query("x")
    assert server.requests[0].json["messages"][0] == {"role": "system", "content": "thought of"}


class NumberPrompt(Agent):
    def build_system_prompt(self) -> Any:
        return 5


class NoPrompt(Agent):
    def build_system_prompt(self) -> Any:
        """The return is missing."""


class NoTools(Agent):
    def build_tools(self) -> Any:
        """The return is missing."""


class AsyncTools(Agent):
    async def build_tools(self) -> Any:  # type: ignore[override]
        return []


class NumberTools(Agent):
    def build_tools(self) -> Any:
        return 5


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NumberPrompt, "NumberPrompt.build_system_prompt returned 5; it gives text"),
        (NoPrompt, "NoPrompt.build_system_prompt returned None .is a `return` missing"),
        (NoTools, "NoTools.build_tools returned None .is a `return` missing"),
        (AsyncTools, "AsyncTools.build_tools .*it is not async"),
        (NumberTools, "NumberTools.build_tools returned 5"),
    ],
)
async def test_a_wrong_override_is_told_before_anything_is_sent(kind: type[Agent], said: str) -> None:
    model = ScriptedModel(["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigurationError, match=said):
            await kind(model).query("x")
    assert not model.requests


async def test_tool_choice_names_a_tool(server: LoopbackServer) -> None:
    agent = Agent("m", base_url=server.base_url, tools=[weather], tool_choice="nope")
    with pytest.raises(ConfigurationError, match=r"'nope', which is no tool of the agent \(tools: weather\)"):
        await agent.query("x")
    with pytest.raises(ConfigurationError, match="did you mean 'weather'"):
        await agent.query("x", tool_choice="weathr")
    with pytest.raises(ConfigurationError, match="no tools"):
        await Agent("m", base_url=server.base_url, tool_choice="weather").query("x")
    assert not server.requests
    for fine in ({"tool_choice": "weather"}, {"enable_tools": False}, {"tools": []}, {"tool_choice": "required"}):
        await agent.query("x", **fine)
    await agent.query("x", tool_choice="read_result", recall_results=True)
    assert len(server.requests) == 5
    await agent.aclose()


# ------------------------------------------------------------------ ways to ask


async def test_streams_work_with_and_without_await() -> None:
    agent = Agent(ScriptedModel(["abcdef"] * 4))
    assert "".join([c async for c in agent.query("x", stream=True)]) == "abcdef"
    assert "".join([c async for c in await agent.query("x", stream=True)]) == "abcdef"
    session = agent.create_session(enable_memory=False)
    assert "".join([c async for c in session.stream_query("x")]) == "abcdef"
    assert asyncio.iscoroutine(coming := agent.query("x"))  # asyncio.run() and create_task() take it
    assert await coming == "abcdef"
    with pytest.warns(RuntimeWarning, match=r"'Agent\.query' was never awaited"):
        agent.query("x")


def test_blocking_streams(server: LoopbackServer) -> None:
    agent = Agent("m", base_url=server.base_url)
    assert list(agent.query_sync("x", stream=True)) == ["Sev", "en."]
    session = agent.create_session(enable_memory=False)
    assert list(session.query_sync("x", stream=True)) == ["Sev", "en."]
    assert session.query_sync("x") == "Seven."
    for chunk in session.query_sync("x", stream=True):
        assert chunk == "Sev"
        break
    assert session.query_sync("x") == "Seven."  # what was left is over: the session is not busy
    assert list(agent.query_sync("x", stream=True, stream_chunk_size=5)) == ["Seven."]
    assert Agent("m", base_url=server.base_url, stream_by_default=True).query_sync("x") == "Seven."
    with pytest.raises(ConfigurationError):
        list(agent.query_sync("x", stream=True, temprature=1))


async def test_blocking_streams_are_refused_where_a_loop_runs() -> None:
    with pytest.raises(InvalidInputError, match="await agent.query"):
        list(Agent(EchoModel()).query_sync("x", stream=True))


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)


EXITS = {
    "a thread": """
threading.Thread(target=lambda: agent.query_sync("x"), daemon=True).start()
asked.wait(20)
""",
    "a kept session": """
threading.Thread(target=lambda: agent.query_sync("x", session_id="s"), daemon=True).start()
asked.wait(20)
""",
    "a stream": """
threading.Thread(target=lambda: list(agent.query_sync("x", stream=True)), daemon=True).start()
asked.wait(20)
""",
    "an agent in a tool": """
def ask() -> str:
    "asks another agent"
    return agent.query_sync("x")
Agent(ScriptedModel([ToolUseBlock("c", "ask", {}), "done"]), tools=[ask], tool_timeout=0.3).query_sync("x")
""",
    "one that does not end": """
async def stubborn() -> None:
    "Never ends."
    asked.set()
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
other = Agent(ScriptedModel([ToolUseBlock("c", "stubborn", {})]), tools=[stubborn])
logging.disable()  # it is said that the tool does not end
threading.Thread(target=lambda: other.query_sync("x"), daemon=True).start()
asked.wait(20)
""",
}
EXIT = """
import asyncio, contextlib, logging, threading
from any_agent import Agent, TextDelta, ToolUseBlock
from any_agent.testing import ScriptedModel
asked = threading.Event()
agent = Agent(ScriptedModel(["x" * 4000], delay_s=0.02), observers=[lambda event: asked.set()])
"""


@pytest.mark.parametrize("way", EXITS)
def test_nothing_is_said_at_exit_while_a_blocking_call_goes_on(way: str) -> None:
    done = run_python(EXIT + EXITS[way])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_iterator_that_is_left_open_says_nothing_at_exit() -> None:
    left = "said = agent.query_sync('x', stream=True)\nprint(len(next(said)) > 0)\n"
    done = run_python(EXIT + left)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# ------------------------------------------------------------------ tools and observers


def test_tool_results_are_json() -> None:
    assert render({"a": inf, "b": [-inf, nan], (1, 2): 3, 1: {4}}) == (
        '{"a": "Infinity", "b": ["-Infinity", "NaN"], "(1, 2)": 3, "1": [4]}'
    )
    assert render({1: "a", "1": "b", (2,): "c"}) == '[["1", "a"], ["1", "b"], ["(2,)", "c"]]'
    assert render({None: 1, True: 2, 1.5: 3, b"k": (4,)}) == '{"null": 1, "true": 2, "1.5": 3, "k": [4]}'
    assert render(nan) == '"NaN"'
    assert render("x\ud83d\ude00y \ud83d") == "x\U0001f600y \ufffd"
    assert render(b"caf\xe9 \xc3\xa9") == "caf\\xe9 é" and render([memoryview(b"\xff")]) == '["\\\\xff"]'


async def test_a_failing_observer_is_logged_once_a_run(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(event: Any) -> None:
        raise ValueError("observers may not")

    class Breaks:
        def on_event(self, event: Any) -> None:
            raise KeyError("this one too")

    agent = Agent(ScriptedModel(["a" * 200, "b" * 200]), observers=[breaks, Breaks()])
    with caplog.at_level(logging.ERROR, logger="any_agent"):
        assert await agent.query("x") == "a" * 200
        assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == ["observers may not", "'this one too'"]
        caplog.clear()
        await agent.query("x")
    assert len(caplog.records) == 2  # the next run tells again


# ------------------------------------------------------------------ calls whose tools are not here


def paying(*paid: Any, log: list[str]) -> Any:
    @tool(needs_permission=True)
    async def pay(to: str) -> str:
        """Pay."""
        log.append(to)
        return f"paid {to}"

    return pay


PAY = {"name": "pay", "input": {"to": "Ann"}, "id": "c1"}


async def test_an_approved_call_is_not_lost_where_its_tool_is_missing() -> None:
    log: list[str] = []
    async with Agent(ScriptedModel([PAY]), tools=[paying(log=log)], approvals="wait") as agent:
        with pytest.raises(ApprovalPendingError):
            await agent.create_session("till").query("pay Ann")
    async with MemoryStore() as store:
        await store.answer_approval("till:c1", "allowed", answered_by="Bob")
    model = ScriptedModel(["no"])
    async with Agent(model) as elsewhere:
        session = await elsewhere.resume("till")
        before = session.messages
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="'pay' that has the approval 'allowed'.*give it the tool"):
                await session.receive()
        assert session.messages == before and session.is_unfinished and not model.requests
    async with Agent(ScriptedModel(["done"]), tools=[paying(log=log)], approvals="wait") as agent:
        assert await (await agent.resume("till")).receive() == "done"
    assert log == ["Ann"]


async def test_a_denied_call_needs_no_tool() -> None:
    async with Agent(ScriptedModel([PAY]), tools=[paying(log=[])], approvals="wait") as agent:
        with pytest.raises(ApprovalPendingError):
            await agent.create_session("till").query("pay Ann")
    async with MemoryStore() as store:
        await store.answer_approval("till:c1", "denied", answered_by="Bob", answer={"reason": "too dear"})
    model = ScriptedModel(["a pity"])
    async with Agent(model) as elsewhere:
        assert await (await elsewhere.resume("till")).receive() == "a pity"
    assert "Not run: too dear" in repr(model.requests[0].messages)


async def test_a_task_that_waits_is_not_lost_where_there_are_no_subagents() -> None:
    log: list[str] = []
    task = {"name": "task", "input": {"subagent": "clerk", "prompt": "pay Ann"}, "id": "t1"}
    clerk = {"description": "Pays.", "prompt": "You pay.", "tools": ["pay"]}
    team = {"tools": [paying(log=log)], "approvals": "wait", "agents": {"clerk": clerk}}
    async with Agent(ScriptedModel([task, PAY]), **team) as agent:
        with pytest.raises(ApprovalPendingError) as waiting:
            await agent.create_session("till").query("let Ann be paid")
        (approval_id,) = waiting.value.approval_ids or ()
        await agent.memory.answer_approval(approval_id, "allowed", answered_by="Bob")
    async with Agent(ScriptedModel(["no"])) as elsewhere:
        with pytest.raises(ConfigurationError, match="'task' that was begun"):
            await (await elsewhere.resume("till")).receive()
    async with Agent(ScriptedModel(["paid her", "done"]), **team) as agent:
        assert await (await agent.resume("till")).receive() == "done"
    assert log == ["Ann"]


async def test_a_call_that_waits_goes_on_waiting_when_a_prompt_could_not_begin() -> None:
    log: list[str] = []
    model = ScriptedModel([PAY, "done"])
    async with Agent(model, tools=[paying(log=log)], approvals="wait") as agent:
        session = agent.create_session("till")
        with pytest.raises(ApprovalPendingError):
            await session.query("pay Ann")
        with pytest.raises(ConfigurationError):
            await session.receive(tools=[])
        with pytest.raises(ConfigurationError):
            await session.receive(temprature=1)
        await session.answer_approval("till:c1", True)
        assert await session.receive() == "done" and log == ["Ann"]


async def test_without_the_tool_a_session_goes_on_by_a_result_or_a_new_prompt() -> None:
    for number in range(2):
        async with Agent(ScriptedModel([PAY]), tools=[paying(log=[])], approvals="wait") as agent:
            with pytest.raises(ApprovalPendingError):
                await agent.create_session(f"s{number}").query("pay Ann")
    async with Agent(ScriptedModel(["fine", "fine"])) as agent:
        session = await agent.resume("s0")
        await session.add_tool_result("c1", "paid by hand")
        assert await session.receive() == "fine"
        assert await (await agent.resume("s1")).query("never mind") == "fine"


async def test_a_begun_call_is_not_said_to_be_unknown_where_its_tool_is_missing(tmp_path: Any) -> None:
    begun, path = threading.Event(), tmp_path / "k.db"

    async def print_label() -> None:
        """Prints."""
        begun.set()
        await asyncio.Event().wait()

    program = f"""
import asyncio, os
from any_agent import Agent
from any_agent.testing import ScriptedModel
async def print_label():
    "Prints."
    os._exit(0)
agent = Agent(ScriptedModel([{{"name": "print_label", "input": {{}}, "id": "c1"}}]), tools=[print_label],
              memory_db_path={str(path)!r})
asyncio.run(agent.create_session("s").query("x"))
"""
    run_python(program)
    async with Agent(ScriptedModel(["no"]), memory_db_path=path) as elsewhere:
        session = await elsewhere.resume("s")
        with pytest.raises(ConfigurationError, match="'print_label' that was begun"):
            await session.receive()
    async with Agent(ScriptedModel(["asked"]), tools=[print_label], memory_db_path=path) as agent:
        session = await agent.resume("s")
        assert await session.receive() == "asked"
        assert "Outcome unknown" in session.history[2]["content"] and not begun.is_set()


async def test_a_tool_that_never_was_is_answered_as_ever(tmp_path: Any) -> None:
    """The model made it up, and the program was killed before it was told: nothing is lost."""
    path = tmp_path / "k.db"
    made_up = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "made_up", "arguments": "{}"}}
    ]}]  # fmt: skip
    async with MemoryStore(path) as store:
        from any_agent.memory import message_entry
        from any_agent.models.wire import from_wire

        await store.append("s", [message_entry(message) for message in from_wire(made_up)])
    async with Agent(ScriptedModel(["I see"]), memory_db_path=path, tools=[weather]) as agent:
        session = await agent.resume("s")
        assert await session.receive() == "I see"
        assert "no tool" in session.history[2]["content"]
