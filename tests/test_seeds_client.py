"""The seeds' code for `query`, `Client`, tools, hooks, interrupts and configuration (see test_seeds.py)."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.seeds import CHAT, asked, calls, isolate, paste, pointed, roles, says, says_and_stalls, snippet

import any_agent
from any_agent import Agent, AgentOptions, Client, Tool, config, hooks, tool
from any_agent.testing import LoopbackServer


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture(autouse=True)
def own_world(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(server, tmp_path, monkeypatch)


# ------------------------------------------------------------------ 002 and 004: query, Client, configuration


@pytest.mark.parametrize("seed", ["002", "004"])
def test_simple_query(server: LoopbackServer, capsys: pytest.CaptureFixture[str], seed: str) -> None:
    server.reply(CHAT, says("A fine", " text."))
    paste(server, f"{seed}/simple_query")
    assert capsys.readouterr().out == "A fine text.\n"
    sent = asked(server)
    assert (sent["model"], sent["temperature"]) == ("qwen2.5-32b-instruct", 0.1)
    assert roles(server) == ["system", "user"]


@pytest.mark.parametrize("seed", ["002", "004"])
def test_multi_turn_with_unawaited_results(
    server: LoopbackServer, capsys: pytest.CaptureFixture[str], seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANY_AGENT_BASE_URL", server.base_url)  # get_base_url(provider="ollama") reads it first
    server.reply(CHAT, calls("atlas", '{"of": "France"}', text="Let me see."), says("Paris", "."))
    paste(server, f"{seed}/multi_turn", asyncio=asyncio)
    assert capsys.readouterr().out == "Assistant: Let me see.\nTool used: atlas\nAssistant: Paris\nAssistant: .\n"
    assert asked(server)["model"] == "kimi-k2:1t-cloud"
    assert roles(server) == ["system", "user", "assistant", "tool"]
    assert json.loads(asked(server)["messages"][-1]["content"]) == {"result": "stub output for atlas"}


@pytest.mark.parametrize("seed", ["002", "004"])
def test_configuration(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, seed: str) -> None:
    given = {"AgentOptions": AgentOptions, "get_model": config.get_model, "get_base_url": config.get_base_url}
    names = paste(server, f"{seed}/shortcuts", AgentOptions=AgentOptions)
    assert names["options"].base_url == "http://localhost:11434/v1"
    options = paste(server, f"{seed}/fallbacks", **given)["options"]
    assert (options.model, options.base_url) == ("qwen2.5-32b-instruct", "http://localhost:1234/v1")

    for name, value in re.findall(r'export (\w+)="(.*)"', pointed(snippet(f"{seed}/environment_exports"), server)):
        monkeypatch.setenv(name, value)
    options = paste(server, f"{seed}/environment")["options"]
    assert (options.model, options.base_url) == ("qwen/qwen3-30b-a3b-2507", server.base_url)
    assert paste(server, f"{seed}/fallbacks", **given)["options"] == options.replace()  # the environment wins
    assert config.get_model("model-name", prefer_env=False) == "model-name"
    server.reply(CHAT, says("Hi."))
    assert Agent(options=options).query_sync("Hello") == "Hi."
    assert asked(server)["model"] == "qwen/qwen3-30b-a3b-2507"


def test_available_providers() -> None:
    assert {"lmstudio", "ollama", "llamacpp", "vllm"} <= config.PROVIDER_DEFAULTS.keys()


# ------------------------------------------------------------------ 004: tools


SUM = '{"a": 25, "b": 17, "op": "+"}'


def test_tools_run_by_themselves(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply(CHAT, calls("calculate", SUM), says("42"))
    paste(server, "004/tools_auto")
    assert capsys.readouterr().out == "Tool called: calculate\nResponse: 42\n"
    assert json.loads(asked(server)["messages"][-1]["content"]) == {"result": 42}
    shown = asked(server)["tools"][0]["function"]
    assert shown["name"] == "get_weather"
    assert shown["parameters"]["required"] == ["location", "units"]


def test_tools_run_by_the_caller(server: LoopbackServer) -> None:
    server.reply(CHAT, says("Ready."), calls("calculate", SUM), says("42"))
    names = paste(server, "004/tools_auto", "004/tools_manual", after="said = client.history[-1]")
    assert names["result"] == {"result": 42}
    assert names["said"] == {"role": "assistant", "content": "42"}
    assert roles(server) == ["system", "user", "assistant", "tool"]
    assert len(server.requests) == 3


def test_stateless_clients(server: LoopbackServer) -> None:
    options = AgentOptions(model="m", base_url=server.base_url)
    paste(server, "004/stateless", tasks=["one", "two"], options=options, Client=Client)
    assert server.requests == []  # the snippet never receives, so nothing is asked


def test_names_of_the_tool_class() -> None:
    text = snippet("004/tool_class")
    one = Tool("t", "d", {"x": int}, lambda args: args)
    for name in re.findall(r"^    (\w+):", text, re.MULTILINE):
        assert hasattr(one, name), name
    for name in re.findall(r"def (\w+)\(", text):
        assert callable(getattr(one, name)), name
    assert next(iter(inspect.signature(one.execute).parameters)) == "arguments"
    assert asyncio.run(one.execute({"x": 1})) == {"x": 1}
    assert one.to_openai_format()["function"]["parameters"]["properties"] == {"x": {"type": "integer"}}


# ------------------------------------------------------------------ 004: hooks


def test_hooks(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    @tool("write_file", "Write", {"path": str})
    async def my_file_tool(args: dict[str, Any]) -> str:
        return f"wrote {args['path']}"

    @tool("delete_file", "Delete", {"path": str})
    async def my_search_tool(args: dict[str, Any]) -> str:
        raise AssertionError("the gate lets nothing be deleted")

    server.reply(
        CHAT, calls("write_file", '{"path": "/etc/config"}'), calls("delete_file", '{"path": "/"}', "c2"), says("Done.")
    )
    names = paste(
        server,
        "004/hooks",
        tool=my_file_tool,  # the snippet names it, and does not say which it is
        my_file_tool=my_file_tool,
        my_search_tool=my_search_tool,
        ToolUseBlock=any_agent.ToolUseBlock,
    )
    assert capsys.readouterr().out == "Tool executed: write_file -> wrote /etc/config\n"
    assert asked(server)["messages"][-1]["content"] == "Not run: Delete operations require approval"

    agent = Agent(options=names["options"])
    with pytest.raises(RuntimeError, match="Query blocked by hook: Dangerous keywords detected"):
        agent.query_sync("Delete everything")
    assert len(server.requests) == 3


def test_hook_patterns(server: LoopbackServer) -> None:
    written: list[Any] = []

    @tool("file_writer", "Write", {"path": str, "content": str})
    async def file_writer(args: dict[str, Any]) -> str:
        written.append(args)
        return "written"

    given = {name: getattr(hooks, name) for name in hooks.__dict__ if name.endswith(("Event", "Decision"))}
    names = paste(
        server,
        "004/redirect_to_sandbox",
        "004/compliance_logger",
        "004/add_safety_warning",
        datetime=SimpleNamespace(now=lambda: datetime.now(timezone.utc)),
        get_current_user=lambda: "somebody",
        **given,
    )
    server.reply(CHAT, calls("file_writer", '{"path": "/etc/x", "content": "c"}'), says("Done."))
    agent = Agent(
        "m",
        base_url=server.base_url,
        tools=[file_writer],
        hooks={
            hooks.HOOK_PRE_TOOL_USE: [names["redirect_to_sandbox"]],
            hooks.HOOK_POST_TOOL_USE: [names["compliance_logger"]],
            hooks.HOOK_USER_PROMPT_SUBMIT: [names["add_safety_warning"]],
        },
    )
    agent.query_sync("Write a file")
    assert written == [{"path": "/tmp/sandbox/etc/x", "content": "c"}]
    assert asked(server, 0)["messages"][0]["content"] == (
        "Write a file (Please confirm this is safe before proceeding)"
    )
    (entry,) = names["audit_log"]
    assert (entry["tool"], entry["result"], entry["user"]) == ("file_writer", "written", "somebody")
    assert entry["input"] == written[0]


def test_awaited_tool_result(server: LoopbackServer) -> None:
    server.reply(CHAT, calls("look", call_id="call_9"), says("Done."))
    names = paste(
        server,
        "004/awaited_result",
        before="""
            client = Client({"model": "m", "base_url": SERVER})
            await client.query("Look")
            async for block in client.receive_messages():
                break
        """,
        after="""
            async for block in client.receive_messages():
                pass
            await client.close()
        """,
        Client=Client,
        tool_id="call_9",
        result={"seen": True},
    )
    assert names["block"].text == "Done."
    assert json.loads(asked(server)["messages"][-1]["content"]) == {"seen": True}


def test_hook_types_have_the_promised_fields(server: LoopbackServer) -> None:
    from collections.abc import Awaitable, Callable
    from dataclasses import dataclass, fields, is_dataclass

    given = {"dataclass": dataclass, "Any": Any, "Callable": Callable, "Awaitable": Awaitable, "HookEvent": Any}
    theirs = paste(server, "004/hook_types", **given)
    for name, value in theirs.items():
        if isinstance(value, str) and name.startswith("HOOK_"):
            assert getattr(any_agent, name) == value
        elif inspect.isclass(value) and is_dataclass(value):
            ours = getattr(any_agent, name)
            assert [(f.name, f.default) for f in fields(ours)] == [(f.name, f.default) for f in fields(value)]
    assert any_agent.HookHandler is not None


# ------------------------------------------------------------------ 004: interrupt


@pytest.mark.parametrize("is_shortened", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_interrupt(server: LoopbackServer, capsys: pytest.CaptureFixture[str], is_shortened: bool) -> None:
    server.reply(CHAT, says_and_stalls("An essay", " about"), says("Short answer."))
    paste(server, "004/interrupt", after="await main()", is_shortened=is_shortened)
    assert capsys.readouterr().out == "An essay about\n⚠️ Operation timed out!\nShort answer.\n"
    assert server.wait_client_left() == 1
    assert roles(server) == ["system", "user", "assistant", "user"]
    assert asked(server)["messages"][2]["content"] == "An essay about"


ONE_CLIENT = """
    client = Client({"model": "m", "base_url": SERVER})
"""
STILL_USABLE = """
    await client.query("Still there?")
    async for block in client.receive_messages():
        last = block.text
    await client.close()
"""


def test_interrupt_after_a_timeout(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    async def process_messages(client: Client) -> None:
        async for block in client.receive_messages():
            print(block.text)

    server.reply(CHAT, says_and_stalls("Wait"), says("Yes."))
    names = paste(
        server,
        "004/interrupt_timeout",
        before=ONE_CLIENT + "    await client.query('Go')",
        after=STILL_USABLE,
        Client=Client,
        asyncio=asyncio,
        process_messages=process_messages,
    )
    assert capsys.readouterr().out == "Wait\nOperation timed out\n"
    assert names["last"] == "Yes."
    assert server.wait_client_left() == 1


def test_interrupt_on_a_condition(server: LoopbackServer) -> None:
    server.reply(CHAT, says_and_stalls("Fine. ", "An ERROR", " occurred"), says("Yes."))
    names = paste(
        server,
        "004/interrupt_condition",
        before=ONE_CLIENT + "    await client.query('Go')",
        after=STILL_USABLE,
        Client=Client,
    )
    assert names["full_text"] == "Fine. An ERROR"
    assert names["last"] == "Yes."
    assert server.wait_client_left() == 1
    assert asked(server)["messages"][1] == {"role": "assistant", "content": "Fine. An ERROR"}


def test_interrupt_from_another_task(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply(CHAT, says_and_stalls("Working"), says("Yes."))
    names = paste(
        server,
        "004/interrupt_cancel_button",
        before=ONE_CLIENT,
        after=STILL_USABLE,
        Client=Client,
        asyncio=asyncio,
    )
    assert capsys.readouterr().out == "Working"
    assert names["last"] == "Yes."
    assert server.wait_client_left() == 1


def test_interrupt_while_tools_run(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_AGENT_MODEL", "m")  # the snippet's options name neither model nor address
    monkeypatch.setenv("ANY_AGENT_BASE_URL", server.base_url)
    ran = []

    @tool
    async def slow_tool() -> str:
        ran.append("slow")
        return "slow"

    @tool
    async def fast_tool() -> str:
        ran.append("fast")
        return "fast"

    server.reply(CHAT, calls("slow_tool"), calls("fast_tool", call_id="call_2"), says("never asked for"))
    given = {"AgentOptions": AgentOptions, "Client": Client, "ToolUseBlock": any_agent.ToolUseBlock}
    names = paste(
        server, "004/interrupt_auto", after="left = client.history", slow_tool=slow_tool, fast_tool=fast_tool, **given
    )
    assert names["tool_count"] == 2
    assert ran == ["slow"]  # the second call was shown, and stopped before it ran
    assert [m["role"] for m in names["left"]] == ["user", "assistant", "tool", "assistant", "tool"]
    assert len(server.requests) == 2
