"""Settings, their sources and where they lead. Environment and folders are handed in, not the machine's."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from any_agent.config import (
    PROVIDER_DEFAULTS,
    Route,
    Setting,
    fallback_routes,
    get_base_url,
    get_model,
    load_config_file,
    mask_secret,
    normalise_base_url,
    resolve,
    route,
)
from any_agent.errors import ConfigurationError

LM_STUDIO = "http://localhost:1234/v1"
OLLAMA = "http://localhost:11434/v1"
APPENDIX_B = """\
agent:
  provider: lm_studio
  model: mistral-7b-instruct
  api_base: http://localhost:1234/v1

options:
  temperature: 0.7
  max_tokens: 4096
  context_strategy: sliding
  context_window: 8192

tools:
  enabled:
    - read_file
    - write_file
    - web_search
  permissions:
    require_approval: false

memory:
  type: sqlite
  path: ./agent_memory.db

monitoring:
  enabled: true
  metrics:
    - latency
    - tokens
    - costs
"""


@dataclass
class Machine:
    """A home, a project in it, and an environment; `route` and `resolve` look nowhere else."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.root / "home"
        self.project = self.home / "book"
        self.cwd = self.project
        self.project.mkdir(parents=True)
        self.environ["HOME"] = str(self.home)

    def write(self, text: str, path: str = "home/book/.agent/config.yml") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def user(self, text: str) -> Path:
        return self.write(text, "home/.config/any_agent/config.yml")

    def resolve(self, **arguments: Any) -> dict[str, Setting]:
        return resolve(arguments, environ=self.environ, cwd=self.cwd)

    def route(self, model: str | None = None, **arguments: Any) -> Route:
        return route(model=model, environ=self.environ, cwd=self.cwd, **arguments)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# ------------------------------------------------------------------ promised shortcuts


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("lmstudio", "http://localhost:1234/v1"),
        ("lm_studio", "http://localhost:1234/v1"),
        ("LM-Studio", "http://localhost:1234/v1"),
        ("ollama", "http://localhost:11434/v1"),
        ("llamacpp", "http://localhost:8080/v1"),
        ("llama.cpp", "http://localhost:8080/v1"),
        ("vllm", "http://localhost:8000/v1"),
        (None, "http://localhost:1234/v1"),
    ],
)
def test_provider_shortcuts(provider: str | None, url: str) -> None:
    assert get_base_url(provider=provider, environ={}) == url
    if provider in PROVIDER_DEFAULTS:
        assert PROVIDER_DEFAULTS[provider] == url


def test_get_base_url_prefers_argument_then_environment_then_provider() -> None:
    environ = {"ANY_AGENT_BASE_URL": "http://env:1/v1"}
    assert get_base_url("http://arg:1/v1", "ollama", environ=environ) == "http://arg:1/v1"
    assert get_base_url(provider="ollama", environ=environ) == "http://env:1/v1"
    assert get_base_url(environ={"ANY_AGENT_API_BASE": "http://old:1/v1"}) == "http://old:1/v1"
    assert get_base_url(environ={"OPEN_AGENT_BASE_URL": "http://open:1/v1"}) == "http://open:1/v1"
    assert get_base_url(environ={**environ, "OPEN_AGENT_BASE_URL": "http://open:1/v1"}) == "http://env:1/v1"


def test_get_base_url_names_the_nearest_provider() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'ollama'"):
        get_base_url(provider="olama", environ={})


def test_get_model_prefers_the_environment_unless_told_otherwise() -> None:
    environ = {"ANY_AGENT_MODEL": "from-env"}
    assert get_model(environ=environ) == "from-env"
    assert get_model("fallback", environ=environ) == "from-env"
    assert get_model("mine", prefer_env=False, environ=environ) == "mine"
    assert get_model(prefer_env=False, environ=environ) is None
    assert get_model("fallback", environ={"ANY_AGENT_MODEL": "  "}) == "fallback"
    assert get_model(environ={"OPEN_AGENT_MODEL": "open"}) == "open"
    assert get_model(environ={}) is None


# ------------------------------------------------------------------ precedence and sources


def test_one_precedence_and_each_value_with_its_source(machine: Machine) -> None:
    user_file = machine.user("agent: {model: of-user, provider: ollama}\noptions: {temperature: 0.1, top_p: 0.5}")
    assert machine.resolve()["model"] == Setting("model", "of-user", f"user file {user_file}")
    machine.write("agent: {model: of-project, provider: ollama}\noptions: {temperature: 0.2}")
    settings = machine.resolve()
    assert settings["model"] == Setting("model", "of-project", "project file .agent/config.yml")
    assert settings["temperature"] == Setting("temperature", 0.2, "project file .agent/config.yml")
    assert settings["top_p"].source == f"user file {user_file}"
    machine.write("options: {temperature: 0.3}", "home/book/.agent/config.local.yml")
    assert machine.resolve()["temperature"] == Setting("temperature", 0.3, "project file .agent/config.local.yml")
    machine.environ["ANY_AGENT_MODEL"] = "of-env"
    assert machine.resolve()["model"] == Setting("model", "of-env", "environment ANY_AGENT_MODEL")
    settings = machine.resolve(model="of-argument", temperature=0.4, top_p=None)
    assert settings["model"] == Setting("model", "of-argument", "argument")
    assert settings["temperature"] == Setting("temperature", 0.4, "argument")
    assert settings["top_p"].value == 0.5
    assert settings["base_url"] == Setting("base_url", OLLAMA, "provider default")
    assert settings["organization"] == Setting("organization", None, "default")


def test_environment_names_and_their_aliases(machine: Machine) -> None:
    machine.environ |= {"OPEN_AGENT_MODEL": "m", "ANY_AGENT_API_BASE": "gpu:9", "ANY_AGENT_LOG_LEVEL": "DEBUG"}
    settings = machine.resolve()
    assert settings["model"].source == "environment OPEN_AGENT_MODEL"
    assert settings["base_url"] == Setting("base_url", "http://gpu:9/v1", "environment ANY_AGENT_API_BASE")
    assert settings["log_level"] == Setting("log_level", "DEBUG", "environment ANY_AGENT_LOG_LEVEL")


def test_api_base_is_base_url_and_both_must_agree(machine: Machine) -> None:
    assert machine.resolve(api_base="http://gpu:9/v1")["base_url"].value == "http://gpu:9/v1"
    with pytest.raises(ConfigurationError, match="base_url and api_base differ"):
        machine.resolve(api_base="http://a/v1", base_url="http://b/v1")
    with pytest.raises(ConfigurationError, match="model must be text"):
        machine.resolve(model=3)


def test_process_environment_is_the_default() -> None:
    assert resolve({"model": "m", "provider": "vllm"})["base_url"].name == "base_url"
    assert isinstance(load_config_file(), dict)


# ------------------------------------------------------------------ files


def test_the_file_of_the_seed_is_understood(machine: Machine) -> None:
    machine.write(APPENDIX_B)
    settings = machine.resolve()
    assert {name: s.value for name, s in settings.items() if s.source.startswith("project")} == {
        "model": "mistral-7b-instruct",
        "provider": "lm_studio",
        "base_url": LM_STUDIO,
        "temperature": 0.7,
        "max_tokens": 4096,
        "context_strategy": "sliding",
        "context_window_size": 8192,
        "memory_db_path": str(machine.project / "agent_memory.db"),
        "enable_memory": True,
        "enable_metrics": True,
    }
    loaded = load_config_file(machine.project / ".agent/config.yml", environ=machine.environ, cwd=machine.root)
    assert loaded["tools"] == {
        "enabled": ["read_file", "write_file", "web_search"],
        "permissions": {"require_approval": False},
    }


def test_load_config_file_without_path_lays_local_over_shared(machine: Machine) -> None:
    machine.user("agent: {model: of-user}")
    assert load_config_file(environ=machine.environ, cwd=machine.cwd) == {}
    machine.write("agent: {model: shared, provider: vllm}")
    machine.write("agent: {model: mine}", "home/book/.agent/config.local.yml")
    assert load_config_file(environ=machine.environ, cwd=machine.cwd) == {
        "agent": {"model": "mine", "provider": "vllm"}
    }


def test_the_search_goes_up_and_stops_at_the_first_and_at_home(machine: Machine) -> None:
    machine.cwd = machine.project / "part" / "one"
    machine.cwd.mkdir(parents=True)
    machine.write("agent: {model: of-home}", "home/.agent/config.yml")
    assert machine.resolve()["model"].value is None
    machine.write("agent: {model: of-book, provider: vllm}")
    assert machine.resolve()["model"].source == "project file ../../.agent/config.yml"
    machine.write("options: {top_p: 0.5}", "home/book/part/.agent/config.yml")
    assert machine.resolve()["model"].value is None, "only the nearest project counts"
    machine.cwd = machine.home
    assert machine.resolve()["model"].value == "of-home", "who works in the home folder means its file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_parent_folders_file_of_another_user_is_passed_over(machine: Machine) -> None:
    machine.cwd = machine.project / "part"
    machine.cwd.mkdir()
    file = machine.write("agent: {model: planted, provider: vllm}")
    os.chown(file, 12345, 12345)
    assert machine.resolve()["model"].value is None
    os.chown(machine.cwd, 12345, 12345)  # a project mounted from outside: all of it has that owner
    assert machine.resolve()["model"].value == "planted"


def test_config_path_replaces_the_project_file(machine: Machine) -> None:
    machine.write("agent: {model: of-project}")
    machine.write("agent: {model: chosen, api_key: '${MY_KEY}', base_url: 'http://gpu:1/v1'}", "home/book/other.yml")
    machine.environ |= {"ANY_AGENT_CONFIG_PATH": "other.yml", "MY_KEY": "secret"}
    assert machine.resolve()["model"] == Setting("model", "chosen", "config file other.yml")
    assert machine.route().api_key == "secret"
    by_call = resolve(
        {}, environ={**machine.environ, "ANY_AGENT_CONFIG_PATH": ""}, cwd=machine.cwd, config_path="other.yml"
    )
    assert by_call["model"].value == "chosen"
    machine.environ["ANY_AGENT_CONFIG_PATH"] = "gone.yml"
    with pytest.raises(ConfigurationError, match=r"no settings file .*gone\.yml"):
        machine.resolve()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agnt: {model: x}", r"config\.yml, line 1: unknown key 'agnt' \(did you mean 'agent'\?\)"),
        ("agent:\n  mdel: x", r"config\.yml, line 2: unknown key 'agent\.mdel' \(did you mean 'model'\?\)"),
        ("model: x", r"unknown key 'model' \(it belongs under agent:\)"),
        ("options: {base_url: 'http://x/v1'}", r"options\.base_url belongs under agent:"),
        ("tools: {enable: []}", r"'tools\.enable' \(did you mean 'enabled'\?\)"),
        ("agent: {model: [a]}", r"agent\.model must be text"),
        ("agent:\n  model: x\n  provider: [a\n", r"config\.yml, line \d: broken YAML"),
        ("agent:\n\tmodel: x\n", r"config\.yml, line 2: broken YAML"),
        ("- a\n- b\n", r"settings are sections .* not a list"),
        ("agent: gpt-4", r"agent: holds names and values, not a text"),
        ("a: &a [1]\nb: *a\n", r"line 2: broken YAML: aliases"),
        ("agent: !!python/object/apply:os.getcwd []", r"line 1: broken YAML"),
        ("memory: {type: redis}", r"memory\.type 'redis' is unknown; known are sqlite, none"),
        (
            "agent: {base_url: 'ftp://x'}",
            r"project file \.agent/config\.yml, line 1 \(agent\.base_url\): base_url 'ftp://x'",
        ),
        ("#" * 1_000_001, r"larger than 1,000,000 bytes"),
        ("\x00", r"cannot be read"),
        ("[" * 5000, r"config\.yml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(machine: Machine, text: str, message: str) -> None:
    machine.write(text)
    with pytest.raises(ConfigurationError, match=message):
        machine.resolve()


def test_an_unknown_option_of_a_file_is_refused_when_the_options_are_known(machine: Machine) -> None:
    machine.write("options: {temperatuur: 1}")
    assert machine.resolve()["temperatuur"].value == 1
    with pytest.raises(
        ConfigurationError,
        match=r"config\.yml, line 1 \(options\.temperatuur\): there is no option 'temperatuur' \(did you mean 'temperature'\?\)",
    ):
        resolve({}, environ=machine.environ, cwd=machine.cwd, known_options={"temperature", "log_level"})
    resolve({"hm": 1}, environ={**machine.environ, "ANY_AGENT_LOG_LEVEL": "DEBUG"}, cwd="/", known_options=set())


def test_bytes_that_are_no_text_are_refused(machine: Machine) -> None:
    machine.write("").write_bytes(b"agent: \xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        machine.resolve()


def test_an_empty_file_says_nothing(machine: Machine) -> None:
    machine.write("agent:\noptions:\n")
    assert machine.resolve()["model"].source == "default"


def test_variables_are_filled_in(machine: Machine) -> None:
    machine.environ |= {"ANY_AGENT_SIZE": "8b", "MY_KEY": "k"}
    machine.write("agent: {model: 'qwen-${ANY_AGENT_SIZE}', provider: '${ANY_AGENT_WHO:-vllm}'}")
    assert machine.route().name == "vllm/qwen-8b"
    machine.write("agent: {model: '${ANY_AGENT_GONE}'}")
    with pytest.raises(ConfigurationError, match=r"agent\.model asks for \$\{ANY_AGENT_GONE\}, which is not set"):
        machine.resolve()


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "ANY_AGENT_API_KEY", "DATABASE_URL", "GH_PAT"])
@pytest.mark.parametrize(
    "text", ["agent: {api_key: '${%s}', base_url: 'http://evil/v1'}", "options: {stop: [{a: 'x${%s}'}]}"]
)
def test_a_project_file_cannot_read_secrets(machine: Machine, name: str, text: str) -> None:
    machine.environ[name] = "secret"
    machine.write(text % name)
    with pytest.raises(ConfigurationError, match="a project file may not read") as caught:
        machine.resolve()
    assert "secret" not in str(caught.value).replace("could be a secret", "")
    machine.write("agent: {provider: openai}")
    machine.user(text % name)
    machine.resolve()  # the user's own file may


@pytest.mark.parametrize(
    "option", ["litellm_kwargs", "extra_body", "metrics_endpoint", "permission_mode", "allowed_tools"]
)
def test_a_project_file_cannot_set_options_that_carry_addresses(machine: Machine, option: str) -> None:
    machine.write(f"options: {{{option}: {{api_base: 'http://evil'}}}}")
    with pytest.raises(ConfigurationError, match=f"options.{option} is not taken from a project file"):
        machine.resolve()


# ------------------------------------------------------------------ which model, which door


@pytest.mark.parametrize(
    ("arguments", "provider", "model", "base_url", "door"),
    [
        ({"model": "ollama/llama3.1"}, "ollama", "llama3.1", OLLAMA, "direct"),
        ({"model": "lm_studio/qwen/qwen3-8b"}, "lm_studio", "qwen/qwen3-8b", LM_STUDIO, "direct"),
        ({"model": "llama3.1:70b", "provider": "ollama"}, "ollama", "llama3.1:70b", OLLAMA, "direct"),
        ({"model": "ollama/llama3.1", "provider": "ollama"}, "ollama", "llama3.1", OLLAMA, "direct"),
        (
            {"model": "openai/gpt-oss-20b", "provider": "lmstudio"},
            "lm_studio",
            "openai/gpt-oss-20b",
            LM_STUDIO,
            "direct",
        ),
        ({"model": "hosted_vllm/m"}, "vllm", "m", "http://localhost:8000/v1", "direct"),
        ({"model": "llama.cpp/m"}, "llamacpp", "m", "http://localhost:8080/v1", "direct"),
        (
            {"model": "qwen/qwen3-30b", "base_url": "http://gpu:9/v1"},
            None,
            "qwen/qwen3-30b",
            "http://gpu:9/v1",
            "direct",
        ),
        ({"model": "qwen3", "base_url": LM_STUDIO}, "lm_studio", "qwen3", LM_STUDIO, "direct"),
        ({"model": "gpt-4", "base_url": "http://gpu:9"}, None, "gpt-4", "http://gpu:9/v1", "direct"),
        ({"model": "gpt-4"}, "openai", "gpt-4", None, "litellm"),
        ({"model": "gpt-3.5-turbo"}, "openai", "gpt-3.5-turbo", None, "litellm"),
        ({"model": "o3"}, "openai", "o3", None, "litellm"),
        ({"model": "claude-3"}, "anthropic", "claude-3", None, "litellm"),
        ({"model": "gemini-2.5-pro"}, "gemini", "gemini-2.5-pro", None, "litellm"),
        ({"model": "openai/gpt-4o"}, "openai", "gpt-4o", None, "litellm"),
        ({"model": "anthropic/claude-3"}, "anthropic", "claude-3", None, "litellm"),
        ({"model": "claude-3", "provider": "anthropic"}, "anthropic", "claude-3", None, "litellm"),
        ({"model": "openrouter/deepseek/deepseek-r1"}, "openrouter", "deepseek/deepseek-r1", None, "litellm"),
        ({"model": "openrouter/auto"}, "openrouter", "openrouter/auto", None, "litellm"),
        ({"provider": "openai"}, "openai", "gpt-4", None, "litellm"),
        ({"provider": "openai", "door": "direct"}, "openai", "gpt-4", "https://api.openai.com/v1", "direct"),
        ({"model": "groq/m", "door": "direct"}, "groq", "m", "https://api.groq.com/openai/v1", "direct"),
        ({"model": "ollama/m", "door": "litellm"}, "ollama", "m", OLLAMA, "litellm"),
        ({"model": "nlp_cloud/m", "provider": "nlp_cloud", "door": "litellm"}, "nlp_cloud", "m", None, "litellm"),
        # LiteLLM's habit: "openai/" with a base URL says the protocol
        ({"model": "openai/m", "base_url": "http://gpu:9/v1"}, None, "m", "http://gpu:9/v1", "direct"),
        # … but these are whole ids of the server that was addressed
        (
            {"model": "openai/gpt-oss-20b", "base_url": LM_STUDIO},
            "lm_studio",
            "openai/gpt-oss-20b",
            LM_STUDIO,
            "direct",
        ),
        (
            {"model": "deepseek/deepseek-r1", "base_url": LM_STUDIO},
            "lm_studio",
            "deepseek/deepseek-r1",
            LM_STUDIO,
            "direct",
        ),
        (
            {"model": "openai/gpt-4o", "base_url": "https://openrouter.ai/api/v1"},
            "openrouter",
            "openai/gpt-4o",
            "https://openrouter.ai/api/v1",
            "litellm",
        ),
        # a cloud with its own protocol stays with LiteLLM at any address
        (
            {"model": "anthropic/claude-3", "base_url": "https://gateway.example/x/"},
            "anthropic",
            "claude-3",
            "https://gateway.example/x",
            "litellm",
        ),
        ({"model": "m", "provider": "mine", "base_url": "http://gpu:9"}, "mine", "m", "http://gpu:9/v1", "direct"),
    ],
)
def test_where_a_model_is(
    machine: Machine, arguments: dict[str, Any], provider: str | None, model: str, base_url: str | None, door: str
) -> None:
    found = machine.route(**arguments)
    assert (found.provider, found.model, found.base_url, found.door) == (provider, model, base_url, door)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"(?s)--model.*ANY_AGENT_MODEL.*\.agent/config\.yml.*any-agent demo"),
        ({"provider": "ollama"}, "no model is given"),
        ({"base_url": "http://gpu:9/v1"}, "no model is given"),
        ({"provider": "anthropic"}, "no model is given"),
        ({"model": " / "}, "is no name"),
        ({"model": "llama3.1"}, r"does not say who serves it: give provider='lm_studio'.*'lm_studio/llama3\.1'"),
        ({"model": "gpt-oss-20b"}, "does not say who serves it"),
        ({"model": "gpt2"}, "does not say who serves it"),
        ({"model": "openai/gpt-oss-20b"}, "does not say who serves it: give"),
        ({"model": "olama/x"}, r"does not say who serves it; did you mean 'ollama/x'\? Otherwise give [^/]*base_url"),
        ({"model": "x", "provider": "olama"}, r"provider 'olama' \(argument\) is unknown \(did you mean 'ollama'\?\)"),
        ({"model": "x", "provider": "litellm_proxy", "door": "litellm"}, "needs a base_url"),
        (
            {"model": "x", "provider": "ollama", "door": "side"},
            "door 'side' is unknown; known are auto, litellm, direct",
        ),
        ({"model": "anthropic/x", "door": "direct"}, "speaks OpenAI's protocol only"),
        ({"model": "x", "base_url": "http://"}, "base_url 'http://' is no URL"),
    ],
)
def test_what_cannot_be_reached_is_said(machine: Machine, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        machine.route(**arguments)


def test_door_may_come_from_a_file(machine: Machine) -> None:
    machine.write("options: {door: litellm}")
    assert machine.route("ollama/m").door == "litellm"
    assert route(machine.resolve(model="ollama/m"), door="direct").door == "direct"
    with pytest.raises(TypeError, match="settings or arguments"):
        route(machine.resolve(), model="x")


@pytest.mark.parametrize(
    ("environ", "arguments", "name", "base_url"),
    [
        # the environment's address serves what does not point elsewhere
        ({"BASE_URL": "http://gpu:9/v1"}, {"model": "m"}, "m", "http://gpu:9/v1"),
        ({"BASE_URL": "http://gpu:9/v1"}, {"model": "gpt-4"}, "gpt-4", "http://gpu:9/v1"),
        ({"BASE_URL": "http://gpu:9/v1"}, {"model": "ollama/m"}, "ollama/m", "http://gpu:9/v1"),
        ({"BASE_URL": LM_STUDIO}, {"model": "ollama/m"}, "ollama/m", OLLAMA),
        ({"BASE_URL": LM_STUDIO}, {"model": "anthropic/m"}, "anthropic/m", None),
        ({"BASE_URL": "http://gpu:9/v1"}, {"model": "m", "provider": "anthropic"}, "anthropic/m", None),
        ({"BASE_URL": LM_STUDIO, "PROVIDER": "lm_studio"}, {"model": "gpt-4"}, "lm_studio/gpt-4", LM_STUDIO),
        # a weaker source that points elsewhere is left out as a whole
        ({"MODEL": "qwen", "PROVIDER": "ollama"}, {"provider": "openai"}, "openai/gpt-4", None),
        ({"MODEL": "qwen", "BASE_URL": "http://gpu:9/v1"}, {"provider": "openai"}, "openai/gpt-4", None),
        ({"MODEL": "qwen", "BASE_URL": "http://gpu:9/v1"}, {"base_url": OLLAMA}, "ollama/qwen", OLLAMA),
        ({"MODEL": "claude", "PROVIDER": "anthropic"}, {"base_url": OLLAMA, "model": "m"}, "ollama/m", OLLAMA),
        # both from the environment
        ({"MODEL": "qwen/qwen3", "BASE_URL": "https://gpu.example/v1"}, {}, "qwen/qwen3", "https://gpu.example/v1"),
        ({"MODEL": "m", "PROVIDER": "lm_studio"}, {}, "lm_studio/m", LM_STUDIO),
    ],
)
def test_what_the_environment_adds(
    machine: Machine, environ: dict[str, str], arguments: dict[str, Any], name: str, base_url: str | None
) -> None:
    machine.environ |= {f"ANY_AGENT_{key}": value for key, value in environ.items()}
    found = machine.route(**arguments)
    assert (found.name, found.base_url) == (name, base_url)


@pytest.mark.parametrize(
    ("variable", "value", "model", "base_url"),
    [
        ("LM_STUDIO_API_BASE", "http://gpu:1234", "lm_studio/m", "http://gpu:1234/v1"),
        ("OLLAMA_API_BASE", "http://gpu:11434/", "ollama/m", "http://gpu:11434/v1"),
        ("OLLAMA_HOST", "gpu", "ollama/m", "http://gpu:11434/v1"),
        ("OLLAMA_HOST", "0.0.0.0", "ollama/m", "http://localhost:11434/v1"),
        ("OLLAMA_HOST", "0.0.0.0:5000", "ollama/m", "http://localhost:5000/v1"),
        ("OLLAMA_HOST", ":5000", "ollama/m", "http://localhost:5000/v1"),
        ("OLLAMA_HOST", "[::1]:5000", "ollama/m", "http://[::1]:5000/v1"),
        ("OLLAMA_HOST", "https://ollama.example", "ollama/m", "https://ollama.example/v1"),
        ("HOSTED_VLLM_API_BASE", "http://gpu:8000/v1", "vllm/m", "http://gpu:8000/v1"),
        ("LLAMAFILE_API_BASE", "http://gpu:8080/v1", "llamacpp/m", "http://gpu:8080/v1"),
        ("OPENAI_BASE_URL", "http://gpu:9/v1", "openai/m", "http://gpu:9/v1"),
        ("OPENAI_API_BASE", "http://gpu:9/v1", "openai/m", "http://gpu:9/v1"),
    ],
)
def test_a_providers_own_variable(machine: Machine, variable: str, value: str, model: str, base_url: str) -> None:
    machine.environ[variable] = value
    found = machine.route(model)
    assert (found.base_url, found.door) == (base_url, "direct")
    assert machine.resolve(model=model)["base_url"].source == f"environment {variable}"
    if model.startswith(("openai/", "lm_studio/")):
        return
    machine.environ["ANY_AGENT_BASE_URL"] = "http://stronger:9/v1"
    assert machine.route(model).base_url == "http://stronger:9/v1"


def test_a_wrong_own_variable_is_named(machine: Machine) -> None:
    machine.environ["OLLAMA_API_BASE"] = "tcp://gpu"
    with pytest.raises(ConfigurationError, match="environment OLLAMA_API_BASE: base_url 'tcp://gpu'"):
        machine.route("ollama/m")


# ------------------------------------------------------------------ base URLs


@pytest.mark.parametrize(
    ("written", "provider", "url"),
    [
        ("localhost:1234", None, "http://localhost:1234/v1"),
        ("127.0.0.1:1234/v1/", None, "http://127.0.0.1:1234/v1"),
        ("http://localhost:1234/v1/chat/completions", None, "http://localhost:1234/v1"),
        ("http://localhost:1234/v1/chat/completions/", None, "http://localhost:1234/v1"),
        ("192.168.1.5:1234", None, "http://192.168.1.5:1234/v1"),
        ("gpu.local:1234", None, "http://gpu.local:1234/v1"),
        ("api.example.com/v1", None, "https://api.example.com/v1"),
        ("api.example.com", None, "https://api.example.com"),
        ("api.example.com", "vllm", "https://api.example.com/v1"),
        ("http://localhost:4000", "anthropic", "http://localhost:4000"),
        ("HTTPS://Api.Example.com/v1", None, "https://Api.Example.com/v1"),
        ("http://[::1]:1234", None, "http://[::1]:1234/v1"),
        (" http://localhost:1234/api/v3 ", None, "http://localhost:1234/api/v3"),
    ],
)
def test_base_urls_get_one_spelling(written: str, provider: str | None, url: str) -> None:
    assert normalise_base_url(written, provider) == url
    assert normalise_base_url(url, provider) == url


@pytest.mark.parametrize(
    "written",
    [
        "ftp://x/v1",
        "http://",
        "http://host:99999/v1",
        "http://host:0",
        "http://a b/v1",
        "http://h/v1?key=1",
        "http://[::1",
    ],
)
def test_what_is_no_base_url_is_refused(written: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        normalise_base_url(written)
    assert caught.value.field == "base_url"
    assert caught.value.value == written
    assert written in str(caught.value)


@pytest.mark.parametrize("written", ["http://me:hunter2@host/v1", "me:hunter2@host/v1"])
def test_a_password_in_a_base_url_is_refused_and_not_shown(written: str) -> None:
    with pytest.raises(ConfigurationError, match="user name or password") as caught:
        normalise_base_url(written)
    assert "hunter2" not in f"{caught.value} {caught.value.value}"


def test_is_local(machine: Machine) -> None:
    assert machine.route("ollama/m").is_local
    assert machine.route("m", base_url="http://10.0.0.3:9/v1").is_local
    assert not machine.route("m", base_url="https://api.example.com/v1").is_local
    assert not machine.route("gpt-4").is_local


# ------------------------------------------------------------------ keys

CLOUD_KEYS = {
    "OPENAI_API_KEY": "sk-openai",
    "ANTHROPIC_API_KEY": "sk-ant",
    "OPENROUTER_API_KEY": "sk-or",
    "HF_TOKEN": "hf",
}


@pytest.mark.parametrize(
    ("environ", "arguments", "key"),
    [
        # the provider's own key at its own address
        ({}, {"model": "gpt-4"}, "sk-openai"),
        ({}, {"model": "gpt-4", "provider": "openai", "door": "direct"}, "sk-openai"),
        ({}, {"model": "claude-3"}, "sk-ant"),
        ({}, {"model": "m", "base_url": "https://openrouter.ai/api/v1"}, "sk-or"),
        ({"OPENAI_BASE_URL": "http://gpu:9/v1"}, {"model": "gpt-4"}, "sk-openai"),
        (
            {"OPENAI_BASE_URL": "http://gpu:9/v1"},
            {"model": "gpt-4", "base_url": "gpu:9", "provider": "openai"},
            "sk-openai",
        ),
        # … and nowhere else
        ({}, {"model": "gpt-4", "base_url": LM_STUDIO}, None),
        ({}, {"model": "gpt-4", "provider": "openai", "base_url": LM_STUDIO}, None),
        ({}, {"model": "openai/m", "base_url": "https://api.openai.com.evil.example/v1"}, None),
        ({}, {"model": "openai/m", "base_url": "http://api.openai.com/v1"}, None),
        ({}, {"model": "ollama/m"}, None),
        ({}, {"model": "lm_studio/m"}, None),
        ({"ANY_AGENT_BASE_URL": LM_STUDIO}, {"model": "gpt-4"}, None),
        # a local server's own key
        ({"LM_STUDIO_API_KEY": "lm"}, {"model": "lm_studio/m"}, "lm"),
        ({"LM_STUDIO_API_KEY": "lm"}, {"model": "m", "base_url": LM_STUDIO}, "lm"),
        ({"LM_STUDIO_API_KEY": "lm"}, {"model": "lm_studio/m", "base_url": "http://elsewhere:9/v1"}, None),
        ({"OLLAMA_API_KEY": "o", "OLLAMA_HOST": "gpu"}, {"model": "ollama/m"}, "o"),
        # ours goes where the environment points
        ({"ANY_AGENT_API_KEY": "any"}, {"model": "gpt-4"}, "any"),
        ({"ANY_AGENT_API_KEY": "any"}, {"model": "ollama/m"}, None),
        ({"ANY_AGENT_API_KEY": "any"}, {"model": "m", "base_url": "http://gpu:9/v1"}, None),
        ({"ANY_AGENT_API_KEY": "any", "ANY_AGENT_BASE_URL": "gpu:9"}, {"model": "m"}, "any"),
        (
            {"ANY_AGENT_API_KEY": "any", "ANY_AGENT_BASE_URL": "gpu:9"},
            {"model": "m", "base_url": "http://gpu:9/v1/"},
            "any",
        ),
        (
            {"ANY_AGENT_API_KEY": "any", "ANY_AGENT_BASE_URL": "gpu:9"},
            {"model": "m", "base_url": "http://other:9"},
            None,
        ),
        ({"ANY_AGENT_API_KEY": "any", "ANY_AGENT_BASE_URL": "gpu:9"}, {"model": "anthropic/m"}, "sk-ant"),
        ({"ANY_AGENT_API_KEY": "any", "ANY_AGENT_PROVIDER": "openai"}, {"model": "anthropic/m"}, "sk-ant"),
        ({"ANY_AGENT_API_KEY": "any", "ANY_AGENT_PROVIDER": "lm_studio"}, {"model": "m"}, "any"),
        # an argument is always used, except the words for none
        ({}, {"model": "m", "base_url": LM_STUDIO, "api_key": "mine"}, "mine"),
        ({}, {"model": "ollama/m", "api_key": "mine"}, "mine"),
        ({"ANY_AGENT_API_KEY": "any"}, {"model": "gpt-4", "api_key": "mine"}, "mine"),
        ({}, {"model": "m", "base_url": LM_STUDIO, "api_key": "not-needed"}, None),
        ({}, {"model": "m", "base_url": LM_STUDIO, "api_key": ""}, None),
        ({"ANY_AGENT_API_KEY": "not-needed"}, {"model": "gpt-4"}, "sk-openai"),
        # LiteLLM would take a key from the environment by itself: a custom address gets this word instead
        ({}, {"model": "anthropic/m", "base_url": "https://gateway.example"}, "not-needed"),
        ({}, {"model": "openai/m", "base_url": LM_STUDIO, "door": "litellm"}, "not-needed"),
        ({}, {"model": "lm_studio/m", "door": "litellm"}, "not-needed"),
        ({"AZURE_API_KEY": "az"}, {"model": "azure/m", "base_url": "https://me.openai.azure.com"}, "az"),
        (
            {"AZURE_API_KEY": "az"},
            {"model": "azure/m", "base_url": "https://openai.azure.com.evil.example"},
            "not-needed",
        ),
        ({"AZURE_API_KEY": "az"}, {"model": "azure/m", "base_url": "http://me.openai.azure.com"}, "not-needed"),
    ],
)
def test_which_key_goes_where(
    machine: Machine, environ: dict[str, str], arguments: dict[str, Any], key: str | None
) -> None:
    machine.environ |= {**CLOUD_KEYS, **environ}
    assert machine.route(**arguments).api_key == key


@pytest.mark.parametrize(
    ("project", "key"),
    [
        ("{base_url: 'https://evil.example/v1', model: m}", None),
        ("{base_url: 'https://evil.example/v1', model: gpt-4, provider: openai}", None),
        ("{base_url: 'https://evil.example:1234/v1', model: m, provider: lm_studio}", None),
        ("{base_url: 'https://evil.example:1234/v1', model: m}", None),
        ("{base_url: 'https://evil.example/v1', model: m, api_key: theirs}", "theirs"),
        ("{provider: openrouter, model: m}", "sk-or"),  # its own key to its own address, not ours
        ("{provider: perplexity, model: m}", None),
        ("{base_url: 'http://gpu:9/v1', model: m}", "any"),  # the address the user's environment names as well
    ],
)
def test_a_strangers_folder_gets_no_key_of_the_environment(machine: Machine, project: str, key: str | None) -> None:
    machine.environ |= {**CLOUD_KEYS, "ANY_AGENT_API_KEY": "any", "LM_STUDIO_API_KEY": "lm"}
    if key == "any":
        machine.environ["ANY_AGENT_BASE_URL"] = "http://gpu:9/v1"
    machine.user("agent: {api_key: of-user}")
    machine.write(f"agent: {project}")
    assert machine.route().api_key == key
    if key is None:
        assert machine.resolve()["api_key"].source == "not used: environment ANY_AGENT_API_KEY is for another address"


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "vertex_ai", "azure", "oci"])
def test_a_project_file_may_not_redirect_an_account(machine: Machine, provider: str) -> None:
    address = f"provider: {provider}, model: m, base_url: 'https://evil.example'"
    machine.write(f"agent: {{{address}}}\noptions: {{door: litellm}}")
    with pytest.raises(ConfigurationError, match=f"may not give {provider} another base_url"):
        machine.route()
    machine.write(f"options: {{fallback_models: [fine, {{{address}}}]}}")
    with pytest.raises(ConfigurationError, match=f"fallback_models may not give {provider} another base_url"):
        machine.resolve()
    machine.write("options: {fallback_models: [fine, {model: m, base_url: 'http://gpu:9/v1'}, {model: openai/m}]}")
    assert len(machine.resolve()["fallback_models"].value) == 3


def test_a_user_files_key_stays_with_its_provider(machine: Machine) -> None:
    machine.user("agent: {provider: openai, model: gpt-4o, api_key: of-user}")
    assert machine.route().api_key == "of-user"
    assert machine.route("gpt-4o-mini").api_key == "of-user"
    assert machine.route("anthropic/claude-3").api_key is None
    assert machine.route("m", base_url="http://gpu:9/v1").api_key is None
    machine.write("agent: {base_url: 'https://evil.example/v1', model: m}")
    assert machine.route().api_key is None


def test_openai_and_azure_add_what_only_they_have(machine: Machine) -> None:
    machine.environ |= {
        "OPENAI_ORG_ID": "org",
        "AZURE_API_VERSION": "2026-01-01",
        "AZURE_API_BASE": "https://a.example",
    }
    assert machine.route("gpt-4").organization == "org"
    assert machine.route("gpt-4", organization="mine").organization == "mine"
    assert machine.route("openai/gpt-4", base_url="http://gpu:9/v1").organization is None
    azure = machine.route("azure/m")
    assert (azure.api_version, azure.base_url, azure.organization) == ("2026-01-01", "https://a.example", None)


def test_keys_are_never_shown(machine: Machine) -> None:
    found = machine.route("gpt-4", api_key="sk-proj-abcdefghijkl")
    assert "abcdefghijkl" not in repr(found)
    assert "abcdefghijkl" not in repr(machine.resolve(api_key="sk-proj-abcdefghijkl"))
    assert mask_secret("sk-proj-abcdefghijkl") == "sk-…***"
    assert mask_secret("short-key") == "…***"
    assert mask_secret("abcdefghijklmnop") == "…***"
    assert mask_secret(None) == mask_secret("") == ""


# ------------------------------------------------------------------ fallbacks

LOCAL = Route("m", "lm_studio", "http://gpu:9/v1", "gpu-key")
UNNAMED = Route("m", None, "http://gpu:9/v1", "gpu-key")
CLOUD = Route("gpt-4", "openai", None, "mine", "litellm")


@pytest.mark.parametrize(
    ("main", "entry", "expected"),
    [
        (LOCAL, "other", ("lm_studio", "other", "http://gpu:9/v1", "gpu-key", "direct")),
        (LOCAL, "qwen/qwen3", ("lm_studio", "qwen/qwen3", "http://gpu:9/v1", "gpu-key", "direct")),
        (LOCAL, "gpt-4o", ("lm_studio", "gpt-4o", "http://gpu:9/v1", "gpu-key", "direct")),
        (LOCAL, "lm_studio/other", ("lm_studio", "other", "http://gpu:9/v1", "gpu-key", "direct")),
        (LOCAL, "ollama/other", ("ollama", "other", OLLAMA, None, "direct")),
        (LOCAL, "openai/gpt-4o", ("openai", "gpt-4o", None, "sk-openai", "litellm")),
        (UNNAMED, "other", (None, "other", "http://gpu:9/v1", "gpu-key", "direct")),
        (UNNAMED, "openai/gpt-4o", ("openai", "gpt-4o", None, "sk-openai", "litellm")),
        (LOCAL, {"model": "b", "api_key": "own"}, ("lm_studio", "b", "http://gpu:9/v1", "own", "direct")),
        (LOCAL, {"model": "b", "base_url": "http://two:9/v1"}, (None, "b", "http://two:9/v1", None, "direct")),
        (LOCAL, {"model": "b", "api_base": "http://gpu:9/v1"}, (None, "b", "http://gpu:9/v1", None, "direct")),
        (LOCAL, {"model": "b", "provider": "ollama", "api_key": "k"}, ("ollama", "b", OLLAMA, "k", "direct")),
        (LOCAL, {"model": "b", "door": "litellm"}, ("lm_studio", "b", "http://gpu:9/v1", "gpu-key", "litellm")),
        (CLOUD, "gpt-4o-mini", ("openai", "gpt-4o-mini", None, "mine", "litellm")),
        (CLOUD, "openai/gpt-4o-mini", ("openai", "gpt-4o-mini", None, "mine", "litellm")),
        (CLOUD, "claude-3", ("anthropic", "claude-3", None, "sk-ant", "litellm")),
        (CLOUD, "lm_studio/m", ("lm_studio", "m", LM_STUDIO, None, "direct")),
        (CLOUD, LOCAL, ("lm_studio", "m", "http://gpu:9/v1", "gpu-key", "direct")),
    ],
)
def test_fallbacks(main: Route, entry: Any, expected: tuple[Any, ...]) -> None:
    environ = {**CLOUD_KEYS, "ANY_AGENT_API_KEY": "any", "ANY_AGENT_BASE_URL": "http://gpu:9/v1"}
    (found,) = fallback_routes([entry], main, environ=environ)
    assert (found.provider, found.model, found.base_url, found.api_key, found.door) == expected


def test_a_fallback_through_litellm_gets_no_key_of_the_environment() -> None:
    keyless = Route("m", "lm_studio", "http://gpu:9/v1")
    (found,) = fallback_routes([{"model": "b", "door": "litellm"}], keyless, environ=CLOUD_KEYS)
    assert found.api_key == "not-needed"
    (back,) = fallback_routes([{"model": "c", "door": "direct"}], found, environ=CLOUD_KEYS)
    assert back.api_key is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"modelx": "b"}, r"entry 2: unknown key 'modelx' \(did you mean 'model'\?\)"),
        ({"provider": "ollama"}, "entry 2: it names no model"),
        ("  ", "entry 2: it names no model"),
        (3, "entry 2: 3 is neither a name nor a dict"),
        ({"model": "b", "door": "side"}, "entry 2: door 'side' is unknown"),
        ({"model": "b", "provider": "olama"}, "entry 2: provider 'olama'"),
    ],
)
def test_a_wrong_fallback_says_which(entry: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fallback_routes(["fine", entry], LOCAL, environ={})


# ------------------------------------------------------------------ weight


def test_importing_config_reads_no_yaml_library() -> None:
    import subprocess

    code = "import sys, any_agent.config; print([m for m in ('yaml', 'platformdirs', 'pydantic') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
