"""`any-agent doctor`: what the models can do, as found before or asked now, and how much asking it may do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import replay_servers
from support.replay_abilities import CHAT, Manners, chats, speaks
from typer.testing import CliRunner

from any_agent.cli.app import app
from any_agent.cli.verdict_words import ABILITIES
from any_agent.cli.verdicts import BUDGET_S, Asked, told_of
from any_agent.config.providers import PROVIDERS
from any_agent.models.capabilities import Verdicts, identity
from any_agent.models.capabilities.verdicts import FINDINGS
from any_agent.models.servers import probe
from any_agent.testing import LoopbackServer, WireReply, chat_chunks, sse
from any_agent.testing.wire_bytes import EVENT_STREAM

Call = Callable[..., Any]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command on a machine that nobody has set up."""
    strange = [n for n in os.environ if n.startswith(("ANY_AGENT_", "OPEN_AGENT_"))]
    variables = [n for p in PROVIDERS.values() for n in (*p.base_env, *p.key_env)]
    gone: dict[str, str | None] = dict.fromkeys([*strange, *variables, "XDG_CONFIG_HOME", "XDG_CACHE_HOME"])
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    machine = {**gone, "HOME": str(home), "USERPROFILE": str(home), "ANY_AGENT_HOME": str(tmp_path / "kept")}

    def run(*arguments: str, **environ: str) -> Any:
        return CliRunner().invoke(app, ["doctor", *arguments], env={**machine, **environ})

    return run


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as one:
        yield one


def ready(server: LoopbackServer, manners: Manners | None = None) -> dict[str, str]:
    """A vLLM with two models, and the variable that names it."""
    replay_servers.vllm(server)
    speaks(server, manners or Manners())
    return {"HOSTED_VLLM_API_BASE": server.base_url}


def models(told: Any, server: LoopbackServer) -> list[dict[str, Any]]:
    return [one for one in json.loads(told.stdout)["models"] if one["base_url"] == server.base_url]


def test_what_loaded_models_can_do_with_meaning_and_cure(call: Call, server: LoopbackServer) -> None:
    told = call(**ready(server, Manners("refused", '"auto" tool choice requires --enable-auto-tool-choice')))
    assert told.exit_code == 0, told.output
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert f"tiny at {server.base_url}: 4 calls" in told.stdout
    tools = next(line for line in lines if line.startswith("native tools no"))
    assert "described in the prompt" in tools
    assert "requires --enable-auto-tool-choice" in tools
    assert "fix: llama.cpp: start it with --jinja" in tools
    assert "JSON schema yes the answer's shape is enforced" in lines


def test_it_is_asked_once_and_then_known(call: Call, server: LoopbackServer) -> None:
    environ = ready(server)
    first, second = call("--json", **environ), call("--json", **environ)
    assert [(one["model"], one["source"], one["calls"]) for one in models(first, server)] == [
        ("tiny", "asked", 8),
        ("poet", "asked", 8),
    ]
    assert [one["source"] for one in models(second, server)] == ["kept", "kept"]
    assert len(chats(server)) == 16
    assert "as found before; anew: any-agent doctor --probe" in call(**environ).stdout
    for one in models(second, server):
        assert list(one["verdict"]) == [ability.name for ability in ABILITIES] == list(FINDINGS)
        assert one["verdict"]["native_tools"] == {"value": True, "note": "", "meaning": "tools are called"}
        assert one["build"] == "vllm-0.32.0"


def test_probe_asks_anew_and_no_probe_asks_nothing(call: Call, server: LoopbackServer) -> None:
    environ = ready(server)
    told = call("--no-probe", **environ)
    assert chats(server) == []
    assert f"tiny at {server.base_url}: not asked; any-agent doctor --probe" in told.stdout
    call("--probe", **environ)
    call("--probe", **environ)
    assert len(chats(server)) == 32


def test_the_budget_cuts_it_off_and_says_how_to_go_on(call: Call, server: LoopbackServer) -> None:
    replay_servers.vllm(server)
    server.reply(CHAT, WireReply(stall=True))
    told = call(HOSTED_VLLM_API_BASE=server.base_url)
    assert told.exit_code == 0
    cut = re.search(r"not everything was asked \(cut off after (\S+) s\): any-agent doctor --probe", told.stdout)
    assert cut is not None and float(cut[1]) <= BUDGET_S
    assert f"poet at {server.base_url}: not asked, no time was left; any-agent doctor --probe" in told.stdout
    assert len(chats(server)) == 1
    assert call("--json", "--no-probe", HOSTED_VLLM_API_BASE=server.base_url).stdout.count("not asked;") == 2


async def test_the_budget_is_for_all_models_together(
    clock: Callable[[float], float], server: LoopbackServer, tmp_path: Path
) -> None:
    assert 0 < BUDGET_S <= 1
    replay_servers.vllm(server)
    server.reply(CHAT, WireReply(sse(chat_chunks("Hello!")), delay_s=clock(0.1)))
    found = await probe(server.base_url)
    assert found is not None
    kept = Verdicts(tmp_path / "capabilities.json")
    told = await told_of([Asked(found, one) for one in found.models], None, clock(0.25), verdicts=kept)
    assert [one.verdict is not None for one in told] == [True, False]
    assert told[0].verdict is not None and told[0].verdict.trouble.startswith("cut off after ")
    assert len(chats(server)) <= 3
    assert kept.get(identity(found, found.models[1])) is None


def test_only_loaded_models_are_asked(call: Call, server: LoopbackServer) -> None:
    replay_servers.ollama(server)
    speaks(server, Manners())
    told = call("--json", OLLAMA_API_BASE=server.base_url)
    assert [one["model"] for one in models(told, server)] == ["llama3.1:8b"]
    assert {request.json["model"] for request in chats(server)} == {"llama3.1:8b"}


def test_a_gateway_is_asked_only_by_name(call: Call, server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "m"}, {"id": "dear"}]})
    speaks(server, Manners())
    named = ("-m", "m", "--base-url", server.base_url)
    told = call(*named)
    assert "not asked: it may cost money; any-agent doctor --probe --model m" in told.stdout
    assert chats(server) == []
    call("--probe", OPENAI_BASE_URL=server.base_url)
    assert chats(server) == [], "no model was named"
    assert models(call("--probe", "--json", *named), server)[0]["calls"] == 8
    assert {request.json["model"] for request in chats(server)} == {"m"}
    assert "as found before" in call(*named).stdout


def test_the_key_goes_where_it_was_named_for(call: Call, server: LoopbackServer) -> None:
    with LoopbackServer() as other:
        environ = {**ready(server), "ANY_AGENT_BASE_URL": other.base_url, "ANY_AGENT_API_KEY": "sk-secret-secret"}
        replay_servers.vllm(other)
        speaks(other, Manners())
        told = call("-m", "tiny", **environ)
        assert {request.headers.get("authorization") for request in chats(other)} == {"Bearer sk-secret-secret"}
        assert {request.headers.get("authorization") for request in chats(server)} == {None}
        assert "secret" not in told.stdout


def test_a_cloud_is_told_of_but_not_asked(call: Call) -> None:
    told = call("-m", "anthropic/claude-sonnet-4-5", ANTHROPIC_API_KEY="sk-ant-secret")
    assert (
        "claude-sonnet-4-5 at anthropic: not asked: it costs money; any-agent doctor --probe --model NAME"
        in told.stdout
    )
    assert "secret" not in told.stdout


def test_a_cloud_is_asked_when_it_is_named_together_with_probe(call: Call, server: LoopbackServer) -> None:
    """A host far away, which a proxy on this machine stands in for."""
    answer = WireReply(sse(chat_chunks("Hello!")), headers=EVENT_STREAM)
    server.reply("*", answer)
    far = {"http_proxy": server.root_url, "no_proxy": "127.0.0.1,localhost"}
    named = {"ANY_AGENT_MODEL": "m", "ANY_AGENT_BASE_URL": "http://models.example.com/v1"}
    assert "not asked: it costs money" in call("--probe", **far, **named).stdout, "the settings name it, not the user"
    assert server.requests == []
    told = call("--probe", "-m", "m", **far, **named)
    assert re.search(r"m at http://models.example.com/v1: [5-8] calls", told.stdout)
    assert 5 <= len(server.requests) <= 8
    assert "as found before" in call(**far, **named).stdout


def test_a_server_that_wants_a_key_is_not_asked(call: Call, server: LoopbackServer) -> None:
    server.reply("*", replay_servers.json_reply({"error": {"message": "Invalid API Key", "code": 401}}, 401))
    told = call("-m", "m", "--base-url", server.base_url)
    assert "wants a key" in told.stdout
    assert chats(server) == []


def locks(server: LoopbackServer, key: str, *, lists_models: bool = False) -> None:
    """A gateway that answers nobody without its key; some tell their models to everybody."""

    def answer(request: Any) -> Any:
        if request.headers.get("authorization") == f"Bearer {key}" or (lists_models and request.path != CHAT):
            return replay_servers.json_reply({"object": "list", "data": [{"id": "m"}]})
        return replay_servers.json_reply({"error": {"message": "Invalid API Key", "code": 401}}, 401)

    server.reply("*", answer)


@pytest.mark.parametrize("model", [(), ("-m", "m")], ids=["alone", "with-model"])
def test_a_server_that_wants_a_key_is_a_problem(call: Call, server: LoopbackServer, model: tuple[str, ...]) -> None:
    locks(server, "right")
    place = (*model, "--base-url", server.base_url)
    told = call(*place)
    assert told.exit_code == 1
    assert f"{server.base_url} wants a key: no key was sent; pass --api-key, or set ANY_AGENT_API_KEY" in told.stdout
    told = call(*place, "--api-key", "wrong-key-123456")
    assert told.exit_code == 1 and "the key that was sent is not accepted; pass --api-key" in told.stdout
    assert "wrong-key-123456" not in told.stdout
    assert json.loads(call(*place, "--json").stdout)["ok"] is False
    assert call(*place, "--api-key", "right", "--no-probe").exit_code == 0


def test_a_server_that_lists_its_models_to_all_but_wants_a_key_is_a_problem(call: Call, server: LoopbackServer) -> None:
    locks(server, "right", lists_models=True)
    told = call("-m", "m", "--base-url", server.base_url, "--probe")
    assert told.exit_code == 1 and "wants a key: no key was sent" in told.stdout


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("m", ""),
        ("vllm/m", ""),
        ("lm_studio/m", ""),
        ("openai/m", ""),
        ("anthropic/m", ""),
        ("vllm/m", "HOSTED_VLLM_API_BASE"),
        ("lm_studio/m", "LM_STUDIO_API_BASE"),
    ],
)
def test_what_is_advised_for_a_key_works(call: Call, server: LoopbackServer, model: str, variable: str) -> None:
    locks(server, "sk-right")
    at = {variable: server.base_url} if variable else {}
    place = ("-m", model, "--no-probe", *(() if variable else ("--base-url", server.base_url)))
    told = call(*place, **at)
    advice = re.search(
        r"wants a key: no key was sent; pass --api-key, or set (\w+)( together with (\w+)=(\S+))?", told.stdout
    )
    assert told.exit_code == 1 and advice is not None, told.stdout
    assert {request.headers.get("authorization") for request in server.requests} == {None}
    environ = {advice[1]: "sk-right", **({advice[3]: advice[4]} if advice[2] else {})}
    assert (advice[1] == "ANY_AGENT_API_KEY") == (not variable)
    assert call(*place, **{**at, **environ}).exit_code == 0
    assert call(*place, "--api-key", "sk-right", **at).exit_code == 0
    told = call(*place, **{**at, **environ, advice[1]: "sk-wrong"})
    assert told.exit_code == 1 and "wants a key: the key that was sent is not accepted" in told.stdout


def test_an_address_alone_is_asked(call: Call, server: LoopbackServer) -> None:
    replay_servers.vllm(server)
    told = call("--base-url", server.root_url, "--no-probe")
    assert told.exit_code == 0 and f"tiny at {server.base_url}: not asked" in told.stdout
    told = call("--base-url", "http://127.0.0.1:9/v1")
    assert told.exit_code == 1 and "no server answers at http://127.0.0.1:9/v1; start it" in told.stdout
    assert call(ANY_AGENT_BASE_URL="http://127.0.0.1:9/v1").exit_code == 1


def test_a_model_that_its_server_does_not_have_is_a_problem_with_its_cure(call: Call, server: LoopbackServer) -> None:
    replay_servers.ollama(server)
    told = call("--no-probe", "--model", "ollama/qwn3", "--base-url", server.root_url)
    problem = f"model qwn3 is not among the models of {server.base_url}; did you mean qwen3:latest?"
    assert told.exit_code == 1 and problem in " ".join(told.stdout.split())
    assert call("--no-probe", "--model", "ollama/qwen3", "--base-url", server.root_url).exit_code == 0


def test_a_named_server_that_does_not_answer_is_a_problem(call: Call) -> None:
    told = call("--model", "m", "--base-url", "http://127.0.0.1:9")
    assert told.exit_code == 1
    assert "no server answers at http://127.0.0.1:9/v1, where m is asked" in " ".join(told.stdout.split())


def test_an_address_in_the_environment_that_is_none_is_a_problem(call: Call) -> None:
    told = call(OLLAMA_HOST="http://[bad")
    assert told.exit_code == 1 and "environment OLLAMA_HOST: base_url 'http://[bad' is no URL" in told.stdout
