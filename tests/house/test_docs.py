"""Examples, README and pages are true: every example and every ```python block runs, links and names exist."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.seeds import CHAT, calls, isolate, says, says_and_stalls

import any_agent
from any_agent import errors
from any_agent.options import AgentOptions
from any_agent.testing import LoopbackServer, WireRequest, chat_completion

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
MOST_LINES = 60  # of an example
OTHER_ROOMS = {"copy_editor.py"}  # examples that are tested, and sized, elsewhere


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


# ------------------------------------------------------------------ examples


@dataclass(frozen=True)
class Play:
    """What the model says in an example, and what must then be printed (pieces, in this order)."""

    replies: Sequence[Any] = ()
    prints: Sequence[str] = ()
    requests: int = 1
    stdin: str = ""
    arguments: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # name to text, in its folder
    before: Sequence[str] = ()  # commands that are run there first
    environment: Mapping[str, str] = field(default_factory=dict)
    warns: str = ""  # what stderr looks like


def essays(request: WireRequest) -> Any:
    """Begins the essay that is asked for, and never ends it."""
    asked = request.json["messages"][-1]["content"]
    if "done" in asked:
        return says("done")
    return says_and_stalls(next(said for said in ("Boats", "A bridge", "Rivers") if said.split()[-1].lower() in asked))


def commit(summary: str, kind: str, *details: str) -> list[bytes]:
    """A commit message, as JSON."""
    return says(json.dumps({"kind": kind, "summary": summary, "details": [one.removeprefix("- ") for one in details]}))


LOG = """\
2025-10-15 09:00:00 ERROR too early
2025-10-15 14:00:01 ERROR db timeout after 30s
2025-10-15T14:20:07Z ERROR db timeout after 31s
  at pool.py, no time of its own
127.0.0.1 - - [15/Oct/2025:14:55:36 +0000] "GET /pay HTTP/1.1" 503 12
{"time": "2025-10-15T15:00:00", "level": "error", "msg": "x"}
2025-10-15 15:00:02 WARN slow
2025-10-16 09:00:00 ERROR too late
"""
PLAYS = {
    "simple_query.py": Play([says("Fitting ", "curves.")], ["Fitting curves.", "-- tiny: an unknown number of tokens"]),
    "with_tools.py": Play(
        [calls("count_stock", '{"item": "hammers"}'), calls("current_year", "{}", "call_2"), says("Seven, now.")],
        ["called count_stock({'item': 'hammers'})", "called current_year({})", "Seven, now."],
        requests=3,
    ),
    "stateful_session.py": Play(
        [says("Hello Ada."), says("Ada."), says("Trains.")],
        ["1: Hello Ada.", "2: Ada.", "3: Trains.", "-- 3 prompts, 6 messages", "-- after clear(): 0 messages"],
        requests=3,
    ),
    "streaming.py": Play(
        [says("Once ", "upon."), calls("word_count", '{"text": "the quick brown fox"}'), says("Four.")],
        ["Once upon.", "[word_count -> 4]", "Four.", "-- success: 2 model calls"],
        requests=3,
    ),
    "simple_lmstudio.py": Play([says("They're ", "going.")], ["They're going.", "-- success"]),
    "simple_with_env.py": Play(
        [says("Bonjour.")], ["model          m", "(environment ANY_AGENT_MODEL)", "api_key        -", "Bonjour."]
    ),
    "ollama_chat.py": Play(
        [calls("roll_dice"), says("It is ", "a five."), says("Bye.")],
        ["you> [roll_dice {}]", "It is a five.", "you> Bye.", "-- 2 turns"],
        requests=3,
        stdin="Roll a die.\nThanks.\n",
    ),
    "tool_use_agent.py": Play(
        [
            *[calls("get_price", '{"fruit": "apple"}'), says("It costs ", "0.5.")],
            *[calls("get_price", '{"fruit": "pear"}'), says("It costs 0.7.")],
            *[calls("get_price", '{"fruit": "pear"}'), says("The apple.")],
        ],
        ["[the model asks for get_price {'fruit': 'apple'}]", "It costs 0.5.", "It costs 0.7.", "The apple."],
        requests=6,
    ),
    "calculator_tools.py": Play(
        [
            calls("calculate", '{"a": 25, "b": 17, "op": "+"}'),
            calls("square_root", '{"x": 42}', "call_2"),
            says("42 and 6.48."),
        ],
        ["[calculate {'a': 25, 'b': 17, 'op': '+'}]", "[square_root {'x': 42}]", "42 and 6.48."],
        requests=3,
    ),
    "hooks_example.py": Play(
        [
            calls("write_file", '{"path": "a.exe", "content": "x"}'),
            calls("write_file", '{"path": "/etc/motd", "content": "hello"}', "call_2"),
            says("Done."),
        ],
        [
            "[log: write_file {'path': '/sandbox/etc/motd', 'content': 'hello'} -> wrote /sandbox/etc/motd]",
            "Done.",
            "written: {'/sandbox/etc/motd': 'hello'}",
            "Query blocked by hook: no passwords in prompts",
        ],
        requests=3,
    ),
    "interrupt_demo.py": Play(
        [essays],
        ["Rivers", "-- that took too long", "A bridge", "is interrupted", "Boats", "-- cancelled", "done"],
        requests=4,
        environment={"PATIENCE_S": "3"},  # a cold start on a busy machine takes most of it
    ),
    "fallback_models.py": Play(
        [says("The second.")],
        ["The second.", "-- big-model at http://127.0.0.1:9/v1: ServerUnreachableError", "next model: m", "-- m at"],
        warns=r"big-model failed after .*: retried after .* s\nbig-model failed after .*: next model: m\n",
    ),
    "domain_agent.py": Play(
        [says("The town library will from October on also be open on Sundays"), says("Library to open Sundays")],
        ["Library to open Sundays"],
        requests=2,
    ),
    "subagents.py": Play(
        [
            *[calls("task", '{"subagent": "reader", "prompt": "boats"}'), calls("read_page", '{"title": "boats"}')],
            *[says("Boats float."), calls("task", '{"subagent": "writer", "prompt": "Boats float."}', "call_2")],
            *[calls("write_note", '{"text": "Boats float."}'), says("Noted."), says("Boats float, and it is noted.")],
        ],
        [
            *["[reader: boats]", "[writer: Boats float.]", "Boats float, and it is noted."],
            "-- 7 model calls, notes: ['Boats float.']",
        ],
        requests=7,
    ),
    "simple_tool.py": Play(
        [calls("get_weather", '{"city": "Paris"}'), says("Sunny, ", "22 °C.")], ["Sunny, 22 °C."], requests=2
    ),
    "env_config_complete.py": Play(
        [says("No surprises.")], ["m at http://127.0.0.1", "temperature 0.7", "No surprises."]
    ),
    "git_commit_agent.py": Play(
        [commit("Say hello", "docs"), commit("Greet", "feat", "- More polite")],
        ["Staged: 1 file(s)", "docs: Say hello\n\n", "feat: Greet\n\n- More polite\n", "1 file changed"],
        requests=2,
        stdin="it is a feature\n\n",
        files={"hello.txt": "hello\n"},
        before=["git init -q", "git add hello.txt"],
        environment={f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    ),
    "log_analyzer_agent.py": Play(
        [calls("find_lines", '{"text": "timeout"}'), says("The pool ", "is too small."), says("At two.")],
        [
            *["Entries: 6\nErrors: 4\nWarnings: 1\n", "Peak: 3 errors in the hour from 2025-10-15T14:00\n"],
            *["  2 x # ERROR db timeout after #\n", "The pool is too small.", "ask (Enter leaves)> At two."],
        ],
        requests=3,
        stdin="When?\n\n",
        arguments=["app.log", "--since", "2025-10-15T12:00:00", "--until", "2025-10-16T00:00:00", "--interactive"],
        files={"app.log": LOG},
    ),
    "context_management.py": Play(
        [says(f"Answer {n}.") for n in range(1, 14)],
        [
            *["stateless: Tasks", "Answer 1.", "Answer 2.", "watched: Count", "-- cut to 2 messages"],
            *["with_notes: Keep", "Answer 7.", "by_itself: The oldest", "-- message 6: 10 older", "12 messages"],
        ],
        requests=16,  # three ask whether the server counts tokens
    ),
    "config_examples.py": Play((), ["explicit", "get_model('qwen3-8b')", "m", "temperature"], requests=0),
}


def test_every_example_has_a_play() -> None:
    found = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert found - OTHER_ROOMS == PLAYS.keys()


@pytest.mark.parametrize("name", PLAYS)
def test_example(name: str, server: LoopbackServer, tmp_path: Path) -> None:
    play = PLAYS[name]
    server.reply(CHAT, *play.replies)
    for file, text in play.files.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANY_AGENT_MODEL": "m",
        "ANY_AGENT_BASE_URL": server.base_url,
        **play.environment,
    }
    for command in play.before:
        subprocess.run(command.split(), cwd=tmp_path, env=environment, check=True, timeout=30)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *play.arguments],
        cwd=tmp_path,
        env=environment,
        input=play.stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(play.warns, done.stderr), done.stderr
    rest = done.stdout
    for piece in play.prints:
        assert piece in rest, f"{piece!r} is not (or not in this order) in:\n{done.stdout}"
        rest = rest.partition(piece)[2]
    assert len(server.requests) == play.requests


@pytest.mark.parametrize("name", PLAYS)
def test_example_is_short_and_says_how_to_run_it(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    told = ast.get_docstring(ast.parse(text)) or ""
    assert f"python examples/{name}" in told


# ------------------------------------------------------------------ pages


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, code) of each fenced block; those after `<!-- no-run -->` are left out."""
    found = []
    pattern = rf"^(<!-- no-run -->\n+)?```{language}\n(.*?)^```$"
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        if not match[1]:
            found.append((text.count("\n", 0, match.start(2)) + 1, match[2]))
    return found


def any_object(schema: dict[str, Any]) -> str:
    """JSON that has what the schema names."""
    values = {"string": "Oslo", "integer": 2, "number": 2.5, "boolean": True, "array": [], "object": {}}
    wanted = schema.get("properties", {"ok": {"type": "boolean"}})
    return json.dumps({name: values[spec["type"]] for name, spec in wanted.items() if "type" in spec})


def any_model(request: WireRequest) -> Any:
    """Calls the tool that the user names, then says one sentence. JSON when it is asked for JSON."""
    if request.method == "GET":
        return {"object": "list", "data": [{"id": "m", "object": "model"}]}
    asked = request.json
    last = asked["messages"][-1]
    for one in asked.get("tools", []) if last["role"] == "user" else []:
        function = one["function"]
        if function["name"] in str(last["content"]):
            return calls(function["name"], any_object(function["parameters"]))
    form = asked.get("response_format")
    text = any_object(form.get("json_schema", {}).get("schema", {})) if form else "It is a fine day in Oslo."
    return says(*re.findall(r"\S+\s*", text)) if asked.get("stream") else chat_completion(text)


async def run_blocks(page: Path, names: dict[str, Any]) -> int:
    """Run a page's blocks one after another, as a reader would in a notebook."""
    count = 0
    for line, code in blocks(page, "python"):
        program = "\n" * (line - 1) + code
        compiled = compile(program, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if compiled.co_flags & inspect.CO_COROUTINE:
            await eval(compiled, names)
        else:
            await asyncio.to_thread(exec, compiled, names)  # a thread: blocking calls may stand there
        count += 1
    return count


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(server, tmp_path, monkeypatch)
    for name in ("ANY_AGENT_BASE_URL", "LM_STUDIO_API_BASE", "OLLAMA_API_BASE"):
        monkeypatch.setenv(name, server.base_url)
    monkeypatch.setenv("ANY_AGENT_MODEL", "m")
    server.reply("*", any_model)
    count = asyncio.run(run_blocks(page, {"__name__": "page"}))
    assert count == page.read_text(encoding="utf-8").count("```python") - page.read_text(encoding="utf-8").count(
        "<!-- no-run -->"
    )


def test_most_blocks_run() -> None:
    """`no-run` is for what needs a stranger's key, not for what is wrong."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    left_out = sum(text.count("<!-- no-run -->") for text in texts)
    assert left_out <= 5
    assert sum(text.count("```python") for text in texts) >= 30


def slug(heading: str) -> str:
    """The anchor that a heading gets on a forge."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"
    for example in re.findall(r"examples/[\w.]+\.py", text):
        assert (ROOT / example).exists(), f"{page.name}: {example}"


def test_commands_and_their_flags_exist() -> None:
    import typer.main

    from any_agent.cli.app import app

    root = typer.main.get_command(app)
    seen = set()
    for page in PAGES:
        for block in [code for _, code in blocks(page, "sh")] + re.findall(r"`(any-agent .*?)`", page.read_text()):
            for line in re.findall(r"^any-agent (.*)$", block, re.MULTILINE):
                words = re.sub(r'".*?"|#.*', "", line).split()
                command, known = root, {flag for p in root.params for flag in p.opts}
                for word in words:
                    if word in getattr(command, "commands", {}):
                        command = command.commands[word]
                        known |= {flag for p in command.params for flag in [*p.opts, *p.secondary_opts]}
                    elif word.startswith("-"):
                        assert word in known, f"{page.name}: any-agent {line}: {word}"
                assert command is not root or words[0].startswith("--"), f"{page.name}: any-agent {line}"
                seen.add(command.name)
    assert {"run", "demo", "doctor", "show", "copy-edit"} <= seen


def test_every_page_is_linked_from_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if page.name != "index.md" and f"({page.name})" not in index] == []


# ------------------------------------------------------------------ names


def test_options_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(DOCS / "make_options.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_option_is_explained() -> None:
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    assert [name for name in AgentOptions.model_fields if f"`{name}`" not in page] == []


def test_options_without_effect_are_marked() -> None:
    """`not yet` in docs/make_options.py is true, and goes away with the work."""
    marks = re.search(r"NOT_YET = \((.*?)\)", (DOCS / "make_options.py").read_text(encoding="utf-8"), re.DOTALL)
    assert marks is not None
    names = re.findall(r'"(\w+)"', marks[1])
    assert set(names) <= AgentOptions.model_fields.keys()
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "any_agent").rglob("*.py")]
    used = [name for name in names if any(re.search(rf"options\.{name}\b", source) for source in sources)]
    assert used == [], "they have an effect now: take them out of NOT_YET"


def test_every_error_is_explained() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    families = {"ToolError", "SessionError", "LimitError"}  # stand in the tree only
    assert {name for name in errors.__all__ if f"`{name}`" not in page} == families
    assert [name for name in families if name not in page] == []


def test_every_public_name_is_mentioned() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [name for name in any_agent.__all__ if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_on_the_page_exist(page: Path) -> None:
    """`from any_agent import x` in any block, run or not."""
    for module, names in re.findall(r"^from (any_agent[\w.]*) import ([\w, ]+)$", page.read_text(), re.MULTILINE):
        home = __import__(module, fromlist=["x"])
        for name in names.split(","):
            assert hasattr(home, name.strip()), f"{page.name}: {module}.{name}"
