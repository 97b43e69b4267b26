"""AgentOptions: what is said of wrong values and names, where they stand, and that options do not change."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, AgentOptions
from any_agent.config import load_config_file
from any_agent.errors import ConfigurationError
from any_agent.testing import EchoModel


def refusal(**fields: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        AgentOptions(**fields)
    return caught.value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder; the program runs in a folder below it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.delenv("ANY_AGENT_LOG_LEVEL", raising=False)
    inside = tmp_path / "book" / "part"
    inside.mkdir(parents=True)
    (tmp_path / "book" / ".agent").mkdir()
    monkeypatch.chdir(inside)
    return tmp_path / "book"


def says(project: Path, text: str) -> None:
    (project / ".agent" / "config.yml").write_text(text)


# ------------------------------------------------------------------ the words


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": "hot"}, "option temperature='hot' must be a number"),
        ({"temperature": 3}, "option temperature=3 must be less than or equal to 2"),
        ({"max_tokens": 1.5}, "option max_tokens=1.5 must be a whole number"),
        ({"enable_tools": "maybe"}, "option enable_tools='maybe' must be True or False"),
        ({"door": "side"}, "option door='side' must be 'auto', 'direct' or 'litellm'"),
        ({"log_level": "LOUD"}, "option log_level='LOUD' must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ({"permission_mode": "x"}, "option permission_mode='x' must be one of default, accept-edits, plan, bypass"),
        ({"tool_choice": 7}, "option tool_choice=7 must be 'auto', 'none', 'required', the name of a tool, or a dict"),
        ({"stop": [1]}, "option stop=[1] must be a text or a list of texts"),
        ({"fallback_models": ["a", 5]}, "must be a list of names and dicts (entry 2)"),
        ({"api_key": 5}, "option api_key=*** must be a text"),
        ({"allowed_tools": ["("]}, "option allowed_tools=['('] is wrong: '(' is no rule"),
    ],
)
def test_a_wrong_value_is_told_what_it_must_be(fields: dict[str, Any], said: str) -> None:
    error = refusal(**fields)
    assert said in str(error) and "is not allowed" not in str(error)
    assert error.field == next(iter(fields)) and error.allowed


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("modl", "model"),
        ("temprature", "temperature"),
        ("retries", "max_retries"),
        ("response_model", "output_type"),
        ("system", "system_prompt"),
        ("callbacks", None),
        ("mission_mode", "permission_mode"),
        ("max", None),
    ],
)
def test_a_name_is_suggested_only_where_it_is_likely(name: str, meant: str | None) -> None:
    hint = f" (did you mean {meant!r}?)" if meant else ""
    assert str(refusal(**{name: 1})) == f"there is no option {name!r}{hint}"


async def test_an_argument_of_a_method_is_no_option() -> None:
    async with Agent(EchoModel()) as agent:
        with pytest.raises(ConfigurationError, match=r"no option 'session_id'; it is an argument of agent\.query"):
            await agent.create_session().query("x", session_id="a")


def test_options_do_not_change() -> None:
    options = AgentOptions(temperature=0.5)
    with pytest.raises(ConfigurationError, match=r"options do not change; use options\.replace\(temperature=…\)"):
        options.temperature = 1
    with pytest.raises(ConfigurationError, match="options do not change"):
        del options.temperature
    assert options.temperature == 0.5 and options.replace(temperature=1).temperature == 1
    assert copy.deepcopy(options) == pickle.loads(pickle.dumps(options)) == options


# ------------------------------------------------------------------ where it stands


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "options:\n  max_tokens: 5\n  temperature: hot\n",
            "line 3 (options.temperature): option temperature='hot' must",
        ),
        ("memory:\n  path: [1]\n", "line 2 (memory.path): option memory_db_path=[1] must be a path"),
        ("options:\n  ask_tools: ['(']\n", "line 2 (options.ask_tools): option ask_tools=['('] is wrong"),
        (
            "options:\n  response_model: x\n",
            "line 2 (options.response_model): there is no option 'response_model' (did",
        ),
    ],
)
async def test_a_wrong_value_of_a_file_names_file_line_and_field(project: Path, text: str, said: str) -> None:
    says(project, text)
    async with Agent(EchoModel(), seed=1) as agent:
        with pytest.raises(ConfigurationError) as caught:
            await agent.query("x")
    assert f"project file ../.agent/config.yml, {said}" in str(caught.value)


async def test_a_wrong_value_of_the_environment_names_the_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANY_AGENT_LOG_LEVEL", "LOUD")
    async with Agent(EchoModel()) as agent:
        with pytest.raises(ConfigurationError, match="^environment ANY_AGENT_LOG_LEVEL: option log_level='LOUD' must"):
            await agent.query("x")
    monkeypatch.setenv("ANY_AGENT_LOG_LEVEL", "")
    monkeypatch.setenv("ANY_AGENT_MODEL", "olama/qwen3")
    with pytest.raises(ConfigurationError, match=r"^environment ANY_AGENT_MODEL: .*did you mean 'ollama/qwen3'\?"):
        _ = Agent().route


def test_a_wrong_argument_is_not_said_to_come_from_a_file(project: Path) -> None:
    says(project, "options: {temperature: 0.5}")
    with pytest.raises(ConfigurationError, match="^option max_tokens=0 must"):
        Agent(EchoModel(), max_tokens=0)


# ------------------------------------------------------------------ paths of files


@pytest.mark.parametrize(
    ("text", "field", "place"),
    [
        ("options: {memory_db_path: m.db}", "memory_db_path", "m.db"),
        ("memory: {path: ./kept/../m.db}", "memory_db_path", "m.db"),
        ("options: {cwd: src}", "cwd", "src"),
        ("options: {cwd: .}", "cwd", "."),
    ],
)
def test_a_relative_path_belongs_to_the_project(project: Path, text: str, field: str, place: str) -> None:
    says(project, text)
    assert getattr(AgentOptions().with_files(), field) == os.path.normpath(project / place)


@pytest.mark.parametrize("path", [":memory:", "~/.any_agent/memory.db"])
def test_a_store_that_is_no_file_and_the_default_stay(project: Path, path: str) -> None:
    says(project, f"options: {{memory_db_path: '{path}'}}")
    assert AgentOptions().with_files().memory_db_path == path


@pytest.mark.parametrize("path", ["/somewhere/m.db", "../m.db", "~/m.db", ":memory:"])
def test_a_file_that_is_named_may_name_any_place(project: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (project / "ci.yml").write_text(f"options: {{memory_db_path: '{path}', record: ../tape.jsonl}}")
    monkeypatch.setenv("ANY_AGENT_CONFIG_PATH", str(project / "ci.yml"))
    options = AgentOptions().with_files()
    assert options.memory_db_path == (str(project.parent / "m.db") if path.startswith("..") else path)
    assert options.record.path == str(project.parent / "tape.jsonl")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("options:\n  memory_db_path: %s", "options.memory_db_path"),
        ("memory:\n  path: %s", "memory.path"),
        ("options:\n  replay: %s", "options.replay"),
        ("options:\n  cwd: %s", "options.cwd"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/somewhere/m.db", "../m.db", "part/../../m.db", "~/m.db", "${HOME}/m.db", "way/m.db"]
)
def test_a_project_file_names_nothing_outside_of_its_folder(project: Path, text: str, key: str, path: str) -> None:
    (project / "way").symlink_to("..")
    says(project, text % path)
    said = path.replace("${HOME}", os.environ["HOME"])
    with pytest.raises(ConfigurationError) as caught:
        AgentOptions().with_files()
    told = str(caught.value)
    assert told.startswith(f"{project / '.agent' / 'config.yml'}, line 2: {key} {said!r} lies outside of the project's")
    assert f"folder {os.path.realpath(project)}" in told and "in the program or the user file" in told
    assert (caught.value.field, caught.value.value) == (key, said)


async def test_a_project_file_cannot_record(project: Path) -> None:
    victim = project.parent / "victim.txt"
    victim.write_text("precious")
    says(project, "options:\n  record: ../victim.txt")
    with pytest.raises(
        ConfigurationError, match=r"config\.yml, line 2: options\.record '../victim\.txt' is not taken from"
    ):
        await Agent(EchoModel()).query("hello")
    assert victim.read_text() == "precious"


def test_the_local_file_is_no_more_trusted(project: Path) -> None:
    (project / ".agent" / "config.local.yml").write_text("memory: {path: ../m.db}")
    with pytest.raises(ConfigurationError, match=r"config\.local\.yml, line 1: memory\.path '\.\./m\.db' lies outside"):
        load_config_file()


async def test_the_same_store_and_tape_from_every_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "named.yml").write_text("options: {memory_db_path: m.db, record: tape.jsonl}")
    monkeypatch.setenv("ANY_AGENT_CONFIG_PATH", str(project / "named.yml"))
    for folder in (project / "part", project):
        monkeypatch.chdir(folder)
        async with Agent(EchoModel()) as agent:
            await agent.query("hello", session_id="talk")
            assert await agent.list_sessions()
    assert sorted(one.name for one in project.iterdir() if one.is_file() and one.suffix in (".db", ".jsonl")) == [
        "m.db",
        "tape.jsonl",
    ]
    assert list((project / "part").iterdir()) == []


def test_a_file_that_is_named_counts_from_its_own_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "ci.yml").write_text("options: {memory_db_path: m.db}")
    monkeypatch.setenv("ANY_AGENT_CONFIG_PATH", "../ci.yml")
    assert AgentOptions().with_files().memory_db_path == str(project / "m.db")
    assert AgentOptions(memory_db_path="own.db").with_files().memory_db_path == "own.db"
