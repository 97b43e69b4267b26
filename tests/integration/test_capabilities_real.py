"""The capability probe on real llama.cpp servers, by both doors, with every call counted on the wire."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.llama import LlamaServer, start_llama
from support.recording_proxy import RecordingProxy
from support.tiny_model import TEMPLATE

from any_agent.errors import ModelNotFoundError
from any_agent.models.capabilities import MAX_CALLS, Verdict, forget_servers, known_verdict, probe_capabilities
from any_agent.models.capabilities.verdicts import identity
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.servers import probe
from any_agent.models.servers.nearest import with_nearest

pytestmark = [
    pytest.mark.real,
    # LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

# A template that drops tools, as most did once, and refuses a system message that is not the first.
STRICT = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' and not loop.first -%}{{ raise_exception('System message must be first.') }}"
    "{%- endif -%}<|{{ message.role }}|>{{ message.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def with_template(path: Path, template: str) -> Path:
    """The same model file with another template, no longer than its own."""
    raw, old, new = path.read_bytes(), TEMPLATE.encode(), template.encode()
    assert raw.count(old) == 1
    changed = path.with_name("other.gguf")
    changed.write_bytes(raw.replace(old, new + b"{#" + b"-" * (len(old) - len(new) - 4) + b"#}"))
    return changed


async def asked(llama: LlamaServer, make: Callable[[str], Any]) -> tuple[Verdict, int]:
    """The verdict, and how many chat calls went over the wire."""
    with RecordingProxy(llama.root_url) as proxy:
        server = await probe(proxy.base_url)
        assert server is not None
        model = make(proxy.base_url)
        try:
            verdict = await probe_capabilities(model, server.models[0])
        finally:
            await model.aclose()
        return verdict, len(proxy.chats)


def values(verdict: Verdict) -> dict[str, bool | None]:
    return {name: one.value for name, one in verdict.findings().items() if one.value is not None}


def direct(url: str) -> DirectModel:
    return DirectModel("tiny", url)


async def test_with_a_template_for_tools(llama_tools: LlamaServer) -> None:
    verdict, calls = await asked(llama_tools, direct)
    assert verdict.is_complete
    assert verdict.calls == calls <= MAX_CALLS
    assert values(verdict) == {
        "native_tools": True,
        "required_choice": True,
        "named_choice": False,  # llama.cpp takes the object form for "auto"
        "parallel_calls": False,
        "streamed_arguments": True,
        "json_schema": True,
        "schema_beside_tools": False,
        "late_system": True,
        "images": False,
        "reasoning_field": False,
    }
    assert verdict.schema_beside_tools.note == "the schema keeps calls from coming"
    assert (verdict.enforces_schema, verdict.schema_with_tools, verdict.merges_system) == (True, False, False)


async def test_with_a_template_that_drops_tools(write_model: Callable[..., Path]) -> None:
    with start_llama(with_template(write_model(calls_tools=True), STRICT)) as llama:
        verdict, calls = await asked(llama, direct)
    assert verdict.is_complete
    assert verdict.calls == calls <= MAX_CALLS
    expected = {"native_tools": False, "json_schema": True, "late_system": False, "images": False}
    assert values(verdict) == {**expected, "reasoning_field": False}
    assert "jinja" in verdict.late_system.note.lower() or "template" in verdict.late_system.note
    assert (verdict.can_call_tools, verdict.merges_system) == (False, True)


async def test_a_model_that_never_calls_proves_nothing(llama: LlamaServer) -> None:
    verdict, calls = await asked(llama, direct)
    assert verdict.is_complete
    assert verdict.calls == calls <= MAX_CALLS
    assert (verdict.native_tools.value, verdict.required_choice.value) == (None, None)
    assert verdict.can_call_tools


async def test_the_other_door_finds_the_same(llama_tools: LlamaServer) -> None:
    by_direct, _ = await asked(llama_tools, direct)
    by_litellm, calls = await asked(llama_tools, lambda url: LiteLLMModel("tiny", provider="llamacpp", base_url=url))
    assert by_litellm.is_complete
    assert by_litellm.calls == calls <= MAX_CALLS
    other = {**values(by_direct), "late_system": None}
    assert {**values(by_litellm), "late_system": None} == other
    assert by_litellm.late_system.value is None


async def test_a_small_window_is_enough(llama_small: LlamaServer) -> None:
    verdict, _ = await asked(llama_small, direct)
    assert verdict.is_complete and verdict.json_schema.value is True


async def test_without_the_key_nothing_is_found_and_nothing_kept(llama_key: LlamaServer) -> None:
    model = DirectModel("tiny", llama_key.base_url)
    verdict = await probe_capabilities(model)
    await model.aclose()
    assert (verdict.calls, values(verdict)) == (1, {})
    assert "Invalid API Key" in verdict.trouble


async def test_known_from_then_on_and_anew_for_another_template(
    write_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path))
    path = write_model(calls_tools=True)
    keys, made = set(), []
    port = 0
    for one in (path, path, with_template(path, STRICT)):
        with start_llama(one, port=port) as llama:
            port = int(llama.root_url.rpartition(":")[2])
            forget_servers()
            server = await probe(llama.base_url)
            assert server is not None
            keys.add(identity(server, server.models[0]).key)
            before = llama.metrics()["prompt_tokens_total"]
            model = DirectModel("any-name", llama.base_url)
            verdict = await known_verdict(model, may_probe=True)
            await model.aclose()
            assert verdict is not None and verdict.is_complete
            made.append((llama.metrics()["prompt_tokens_total"] > before, verdict.native_tools.value))
    assert made == [(True, True), (False, True), (True, False)]
    assert len(keys) == 2, "the template makes the difference"


async def test_llama_cpp_answers_to_any_name(llama: LlamaServer) -> None:
    told = await with_nearest(ModelNotFoundError("no"), llama.base_url, "tin")
    assert told.message == "no"


def test_the_compatibility_page_is_what_a_fresh_run_says() -> None:
    script = Path(__file__).parents[2] / "docs" / "make_compatibility.py"
    done = subprocess.run([sys.executable, "-W", "error", str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
