"""The seeds' code runs unchanged: only addresses and the import name are replaced (tests/support/seeds.py, POINTED).

Left out, because they are no promise of this API or not whole programs: `_prepare_messages` (private), the "Before"
halves of the migration guide and "without any-agent" (other packages), loops whose body is only a comment.
`any_agent.context` has its own file, test_seeds_context.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.seeds import (
    CHAT,
    FOLDER,
    SEEDS,
    asked,
    calls,
    class_fields,
    claude_says,
    isolate,
    parameters,
    paste,
    pointed,
    roles,
    says,
    snippet,
    snippets,
)

import any_agent
from any_agent import Agent, AgentOptions, ConfigurationError, errors, query, tool
from any_agent.testing import LoopbackServer

# The excerpts, so that neither they nor the snippets can drift from what was promised.
EXCERPTS = {
    "000": "d02e5e3e62976c6f",
    "001": "530d7b7500b48e29",
    "002": "fc813cbc26c6981f",
    "004": "04c3ca81550840da",
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture(autouse=True)
def own_world(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(server, tmp_path, monkeypatch)


# ------------------------------------------------------------------ verbatim


@pytest.mark.parametrize("seed", SEEDS)
def test_snippets_are_verbatim(seed: str) -> None:
    text = (FOLDER / f"seed_{seed}.txt").read_text(encoding="utf-8")
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == EXCERPTS[seed]
    assert len(snippets(seed)) >= 8
    for name, body in snippets(seed).items():
        assert body.strip(), name
        assert body in text, f"{seed}/{name} is not in the seed"


# ------------------------------------------------------------------ 000: agent, local model, streaming, session, tools


def test_basic_agent(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply(CHAT, says("No err", "ors."))
    names = paste(server, "000/basic_agent")
    assert capsys.readouterr().out == "No errors.\n"
    assert names["response"] == "No errors."
    assert asked(server)["model"] == "gpt-4"
    assert server.requests[0].headers["authorization"] == "Bearer key-of-the-test"


def test_local_model(server: LoopbackServer) -> None:
    server.reply(CHAT, says("Once."))
    names = paste(server, "000/local_model", Agent=Agent)
    assert names["response"] == "Once."
    assert asked(server)["model"] == "llama-3.1-8b"
    assert "authorization" not in server.requests[0].headers  # a cloud's key never goes to a local server


def test_custom_tool_and_register_tool(server: LoopbackServer) -> None:
    searched = []

    async def search(text: str, count: int) -> list[str]:
        searched.append((text, count))
        return ["a page"]

    server.reply(CHAT, says("Once."), calls("web_search", '{"query": "owls"}'), says("Found."))
    names = paste(
        server,
        "000/local_model",
        "000/custom_tool",
        after="answer = await agent.query('Find owls')",
        Agent=Agent,
        tool=tool,
        search_engine=SimpleNamespace(search=search),
    )
    assert names["answer"] == "Found."
    assert searched == [("owls", 5)]
    assert json.loads(asked(server)["messages"][-1]["content"]) == ["a page"]
    assert [call.name for call in names["answer"].tool_calls] == ["web_search"]


def test_tool_with_described_parameters(server: LoopbackServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("inside")
    server.reply(CHAT, calls("read_file", '{"path": "a.txt"}'), says("Read."))
    names = paste(server, "000/read_file_tool", tool=tool, Path=Path)
    answer = Agent("m", base_url=server.base_url, tools=[names["read_file"]]).query_sync("Read a.txt")
    assert answer == "Read."
    assert asked(server)["messages"][-1]["content"] == "inside"
    shown = asked(server, 0)["tools"][0]["function"]["parameters"]
    assert shown["properties"] == {"path": {"type": "string", "description": "File path"}}
    assert shown["required"] == ["path"]


def test_tool_classes_of_the_sketch(server: LoopbackServer) -> None:
    theirs = paste(server, "000/tool_framework", asyncio=asyncio)
    for name in ("Tool", "ToolResult"):
        ours = inspect.signature(getattr(any_agent, name)).parameters
        assert [p for p in inspect.signature(theirs[name]).parameters if p not in ours] == []
    assert [
        p for p in inspect.signature(theirs["tool"]).parameters if p not in inspect.signature(tool).parameters
    ] == []

    class Counter(any_agent.Tool):  # made and overridden as the sketch does
        async def execute(self, **kwargs: Any) -> any_agent.ToolResult:
            if kwargs["text"] == "":
                return any_agent.ToolResult(success=False, data=None, error="nothing to count")
            return any_agent.ToolResult(success=True, data=len(kwargs["text"]))

    counter = Counter(name="count", description="Count", parameters={"text": {"type": "string"}})
    server.reply(CHAT, calls("count", '{"text": "four"}'), calls("count", '{"text": ""}', "call_2"), says("Done."))
    agent = Agent("m", base_url=server.base_url, tools=[counter])
    assert agent.query_sync("Count") == "Done."
    assert [m["content"] for m in asked(server)["messages"] if m["role"] == "tool"] == ["4", "Error: nothing to count"]


def test_stream_query(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply(CHAT, says("A ", "long ", "one."))
    paste(server, "000/streaming", agent=Agent("m", base_url=server.base_url))
    assert capsys.readouterr().out == "A long one."


def test_session(server: LoopbackServer) -> None:
    server.reply(CHAT, says("Hello."), says("You said hello."))
    names = paste(server, "000/session", agent=Agent("m", base_url=server.base_url))
    assert (names["response1"], names["response2"]) == ("Hello.", "You said hello.")
    assert roles(server) == ["user", "assistant", "user"]


def test_config_file(server: LoopbackServer, tmp_path: Path) -> None:
    (tmp_path / ".agent").mkdir()
    (tmp_path / ".agent" / "config.yml").write_text(pointed(snippet("000/config_yml"), server))
    server.reply(CHAT, says("Hi."))
    agent = Agent()
    assert (agent.provider, agent.model) == ("lm_studio", "mistral-7b-instruct")
    assert agent.query_sync("Hello") == "Hi."
    sent = asked(server)
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("mistral-7b-instruct", 0.7, 4096)


def test_environment_and_its_place_above_the_file(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_config_file(server, tmp_path)
    for line in pointed(snippet("000/environment"), server).splitlines():
        if line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    agent = Agent()
    assert agent.query_sync("Hello") == "Hi."
    assert asked(server)["model"] == agent.model == "llama-3.1-8b"
    assert asked(server)["max_tokens"] == 4096  # the file still speaks where the environment is silent
    assert server.requests[-1].headers["authorization"] == "Bearer your-key-here"


@pytest.mark.parametrize("name", ["from_openai", "from_langchain"])
def test_migration(server: LoopbackServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Agent()  # Defaults to OpenAI`: only once the user has said so; nothing is sent to a cloud nobody named."""
    server.reply(CHAT, says("Yes."))
    with pytest.raises(ConfigurationError, match="no model is given"):
        paste(server, f"000/{name}")
    monkeypatch.setenv("ANY_AGENT_PROVIDER", "openai")
    names = paste(server, f"000/{name}")
    assert names.get("response", names.get("result")) == "Yes."
    assert asked(server)["model"] == "gpt-4"


def test_migration_from_claude(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through LiteLLM, in Anthropic's own protocol."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.root_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-anthropic")
    server.reply("/v1/messages", claude_says("Bon", "jour."))
    names = paste(server, "000/from_claude")
    assert names["result"] == "Bonjour."
    assert names["result"].usage.total_tokens == 7
    assert asked(server)["model"] == "claude-3"
    assert server.requests[0].headers["x-api-key"] == "key-of-anthropic"


def test_copy_editor_class(server: LoopbackServer, tmp_path: Path) -> None:
    chapter = tmp_path / "Chapter01.md"
    chapter.write_text("It was the the best\nof times.")
    issue = {"line_number": 1, "category": "mechanical", "severity": "high", "issue_text": "typo"}
    server.reply(CHAT, says(json.dumps([issue, {**issue, "line_number": 9}])), says("no JSON at all"))
    names = paste(server, "000/copy_editor", json=json, CopyEditDatabase=lambda path: path)

    class Finished(names["CopyEditorAgent"]):  # type: ignore[misc]  # what the sketch calls and does not show
        def _load_style_guide(self) -> str:
            return ""

        def _parse_text_issues(self, text: str, lines: list[str]) -> list[str]:
            return [text]

        def build_tools(self) -> list[Any]:  # its tools are named, not given: "read_file", "write_file", "database"
            return []

    editor = Finished(novel_metadata={"title": "x"})
    assert asyncio.run(editor.analyze_chapter(chapter)) == [issue]
    assert asyncio.run(editor.analyze_chapter(chapter)) == ["no JSON at all"]
    sent = asked(server, 0)
    assert sent["messages"][0]["content"].startswith("You are a professional copy editor")
    assert "   1 | It was the the best" in sent["messages"][1]["content"]
    assert (sent["temperature"], sent["max_tokens"]) == (0.3, 8000)
    assert sent["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("name", ["000/agent_class", "001/agent_init"])
def test_arguments_of_agent(name: str) -> None:
    text = snippet(name)
    if name.startswith("000"):
        text = text[text.index("    def __init__") : text.index("        self.provider")]
    ours = inspect.signature(Agent).parameters
    assert [p for p in parameters(text) if p not in ours] == []


def test_arguments_of_query() -> None:
    ours = inspect.signature(Agent.query).parameters
    assert [p for p in parameters(snippet("001/agent_query")) if p not in ours and p != "**"] == []
    assert "options" in ours  # 000: query(prompt, options)
    for name in ("session_id", "stream"):
        assert ours[name].kind is inspect.Parameter.KEYWORD_ONLY
    for name in ("002/query_signature", "004/query_signature"):
        assert parameters(snippet(name).partition(" ->")[0]) == [
            n for n in inspect.signature(query).parameters if n != "overrides"
        ]


# ------------------------------------------------------------------ 001: options, errors, its own tests and examples


def test_options_of_001(server: LoopbackServer) -> None:
    names = paste(server, "001/options")
    theirs = vars(names["AgentOptions"]())
    AgentOptions(**theirs).validate()
    for enum in ("ContextStrategy", "ToolChoice"):
        assert {m.name: m.value for m in names[enum]} == {m.name: m.value for m in getattr(any_agent, enum)}
    for field, value in {"temperature": 3.0, "max_tokens": 0, "top_p": 1.5, "max_retries": -1}.items():
        with pytest.raises(ValueError, match=field):  # their validate() raises it too
            AgentOptions(**{field: value})


@pytest.mark.parametrize("seed", ["002", "004"])
def test_options_of_the_readmes(seed: str) -> None:
    fields = class_fields(snippet(f"{seed}/options"))
    given = {name: "x" if value is ... else value for name, value in fields.items()}
    options = AgentOptions(**given)
    assert {name for name in fields if not hasattr(options, name)} == set()


def test_errors_of_001(server: LoopbackServer) -> None:
    theirs = {n: c for n, c in paste(server, "001/errors").items() if inspect.isclass(c)}
    assert len(theirs) == 8
    for name, their_class in theirs.items():
        ours = getattr(errors, name)
        assert issubclass(ours, errors.AnyAgentError)
        places = [p for p in inspect.signature(their_class.__init__).parameters if p not in ("self", "args", "kwargs")]
        values = ["what happened", *range(1, len(places))]
        error = ours(*values)
        assert str(error) == "what happened"
        assert pickle.loads(pickle.dumps(error)).args == error.args
        for place, value in zip(places[1:], values[1:], strict=True):
            # An original error is kept as its text: errors carry no objects.
            assert getattr(error, place) == (str(value) if place == "original_error" else value), place


def test_docstring_examples(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply(CHAT, says("It learns."), says("Quanta."), says("Once ", "upon."))
    names = paste(server, "001/agent_example", "001/query_example", Agent=Agent)
    assert names["response"] == "Quanta."
    assert capsys.readouterr().out == "It learns.\nOnce upon."


def test_tests_of_001(server: LoopbackServer) -> None:
    server.reply(CHAT, says("Hello."))
    names = paste(server, "001/test_agent", "001/test_provider_detection")
    tests = {name: value for name, value in names.items() if name.startswith("test_")}
    assert len(tests) == 5
    for test in tests.values():  # `mock_litellm` need not be one: the test server answers
        asyncio.run(test(**dict.fromkeys(inspect.signature(test).parameters)))
    assert asked(server)["model"] == "gpt-3.5-turbo"


def test_simple_query_of_001(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply(CHAT, says("Fitting ", "curves."))
    paste(server, "001/simple_query")
    assert capsys.readouterr().out == "Querying agent...\n\nResponse: Fitting curves.\n"


def test_long_session_of_001(server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Its 21 prompts run; how history is cut to the window is tested elsewhere."""
    server.reply(CHAT, says("Noted."))
    paste(server, "001/context_management")
    assert capsys.readouterr().out.endswith("Turn 19: Noted....\n\nRecall test: Noted.\n")
    assert sum(request.path == CHAT for request in server.requests) == 21
    assert roles(server)[0] == "system"
