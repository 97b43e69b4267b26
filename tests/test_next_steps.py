"""Every error says what to do: in its text, and on the page of errors, which names each kind once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from any_agent import Agent, errors
from any_agent.config import resolve
from any_agent.errors import (
    AllModelsFailedError,
    AuthenticationError,
    InvalidResponseError,
    OutputError,
    ProviderError,
    ServerError,
    ToolError,
)
from any_agent.models.failures import Where
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.next_steps import for_key
from any_agent.models.openai_wire import DirectModel
from any_agent.protocols import Model
from any_agent.testing import LoopbackServer, ScriptedModel, WireReply, chat_chunks, error, sse
from any_agent.types import ModelRequest, UserMessage

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "errors.md").read_text()
CHAT = "/v1/chat/completions"
ASK = ModelRequest([UserMessage("hi")], first_token_timeout_s=0.5)
KINDS = {name: getattr(errors, name) for name in errors.__all__}
GROUPS = {"AnyAgentError", "ProviderError", "ToolError", "SessionError", "LimitError"}  # nothing raises them
# Told to the model, or a text of its own at each place that raises it.
SAY_IT_THEMSELVES = {
    *("ConfigurationError", "InvalidInputError", "MissingExtraError", "MemoryStoreError", "TapeMismatchError"),
    *("SessionBusyError", "SessionFencedError", "SessionNotFoundError", "SessionClosedError", "ApprovalPendingError"),
    *("BudgetExceededError", "HookAbortedError", "InterruptedRunError"),
    *(name for name, kind in KINDS.items() if issubclass(kind, ToolError) and name not in GROUPS),
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


def steps_in(text: str) -> list[str]:
    return re.findall(r"^ +fix: +(.+)$", text, re.MULTILINE)


# --- the tree and the page


def test_each_kind_has_a_step_or_is_known_to_say_it_itself() -> None:
    told = {name for name, kind in KINDS.items() if kind.next_step}
    assert told | SAY_IT_THEMSELVES == KINDS.keys() - GROUPS
    assert not told & SAY_IT_THEMSELVES
    for name in told:
        step = KINDS[name].next_step
        assert step.endswith(".") and "\n" not in step and len(step) < 160, name


def names_in(tree: str) -> list[str]:
    return re.findall(r"\b[A-Z]\w+Error\b", re.sub(r"also an? \w+", "", tree))


def test_the_trees_name_each_kind_once() -> None:
    on_page = PAGE.partition("```text\n")[2].partition("```")[0]
    for tree in (on_page, errors.__doc__ or ""):
        assert Counter(names_in(tree)) == Counter(KINDS.keys())


def test_the_tables_name_each_kind_once_with_a_cure() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if "Error` |" in line]
    assert Counter(row[0].strip("` ") for row in rows) == Counter(KINDS.keys() - GROUPS)
    for name, *_, cure in rows:
        assert len(cure.strip("| ")) > 3, name
    assert ", ," not in PAGE and "nothing raises it" not in PAGE


# --- what reaches the user


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if issubclass(kind, ProviderError)])
async def test_each_failure_of_a_model_says_one_step(name: str) -> None:
    kind = KINDS[name]
    at_door = Where("m", None, "http://127.0.0.1:8/v1").error(kind, "it said no")
    raised = kind("m: it said no")  # by a model of the user's own, or by what fits prompts
    with pytest.raises(kind) as caught:
        await told_by(FallbackModel([ScriptedModel([raised])], RetryPolicy(max_retries=0)))
    for one in (at_door, caught.value):
        assert steps_in(str(one)) == ([kind.next_step] if name not in GROUPS else [])
    said = Where("m").error(kind, "it said no\n  fix: eat.")
    assert steps_in(str(said)) == ["eat."]


async def told_by(model: Model) -> None:
    async with aclosing(model.stream(ASK)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            pass


DOORS: dict[str, Callable[[str], Model]] = {
    "direct": lambda url: DirectModel("m", url),
    "litellm": lambda url: LiteLLMModel("m", provider="vllm", base_url=url),
    "litellm-sdk": lambda url: LiteLLMModel("m", provider="lm_studio", base_url=url),
}
HTML = WireReply([b"<html><body>Welcome</body></html>"], 200, {"content-type": "text/html"})
HALF = sse(chat_chunks(["half"]), done=False)[:1]
FAILURES: dict[str, Any] = {
    "HTML": HTML,
    "JSON without choices": WireReply([b'{"hello": 1}'], 200, {"content-type": "application/json"}),
    "broken JSON": WireReply([b'data: {"choices": [\n\n'], 200, {"content-type": "text/event-stream"}),
    "400": error(400, "temperature is too hot"),
    "401": error(401, "who are you"),
    "402": error(402, "pay"),
    "403": error(403, "not you"),
    "404 model": error(404, "model 'm' not found"),
    "404 path": error(404, "no such path"),
    "405": error(405, "Method Not Allowed"),
    "redirect": WireReply([b""], 307, {"location": "http://127.0.0.1:9/v1"}),
    "429": error(429, "slow down"),
    "429 with a time": error(429, "slow down", headers={"retry-after": "7"}),
    "500": error(500, "boom"),
    "503 loading": error(503, "Loading model"),
    "overflow": error(400, "request (5003 tokens) exceeds the available context size (2048 tokens)"),
    "no tools": error(400, "m does not support tools"),
    "policy": error(400, "content_policy: refused"),
    "cut": WireReply(HALF, close_abruptly="cut"),
    "stall": WireReply(stall=True),
    "error in the stream": sse(['{"error": {"message": "GPU died"}}']),
    "empty": sse(chat_chunks([], finish_reason="stop")),
    "empty at a limit": sse(chat_chunks([], finish_reason="length")),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", FAILURES)
async def test_each_failure_on_the_wire_says_one_step(name: str, door: str, server: LoopbackServer) -> None:
    server.reply(CHAT, FAILURES[name])
    model = DOORS[door](server.base_url)
    with pytest.raises(ProviderError) as caught:
        await told_by(model)
    await model.aclose()
    assert len(steps_in(str(caught.value))) == 1, str(caught.value)


async def test_steps_that_know_more_than_the_kind(server: LoopbackServer) -> None:
    async def said(name: str) -> str:
        server.reply(CHAT, FAILURES[name])
        model = DirectModel("m", server.base_url)
        with pytest.raises(ProviderError) as caught:
            await told_by(model)
        await model.aclose()
        return steps_in(str(caught.value))[0]

    assert (await said("429 with a time")).startswith("wait 7 s")
    assert await said("redirect") == "give the final address as base_url."
    assert "nothing is served at this path" in await said("404 path")
    assert "no OpenAI-compatible server" in await said("HTML")


async def test_a_web_page_names_the_address_that_was_probably_meant(server: LoopbackServer) -> None:
    server.reply("/chat/completions", HTML)
    model = DirectModel("m", server.root_url)
    with pytest.raises(InvalidResponseError) as caught:
        await told_by(model)
    await model.aclose()
    assert steps_in(str(caught.value)) == [f"check base_url; most servers want it to end in /v1: {server.root_url}/v1"]


async def test_when_all_models_fail_each_step_is_told_once() -> None:
    place = Where("a", None, "http://127.0.0.1:8/v1")
    first = ScriptedModel([place.error(ServerError, "boom") for _ in range(2)], name="a")
    second = ScriptedModel([place.error(AuthenticationError, "who")], name="b")
    with pytest.raises(AllModelsFailedError) as caught:
        await told_by(FallbackModel([first, second], RetryPolicy(max_retries=1, delay_s=0.001)))
    assert steps_in(str(caught.value)) == [ServerError.next_step, AuthenticationError.next_step]
    assert len(str(caught.value).splitlines()) == 6
    with pytest.raises(AllModelsFailedError) as caught:
        models = [ScriptedModel([ProviderError("no")]) for _ in range(2)]
        await told_by(FallbackModel(models, RetryPolicy(max_retries=0)))
    assert steps_in(str(caught.value)) == [AllModelsFailedError.next_step]


async def test_an_answer_that_fits_no_shape_says_a_step(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(["no number"])))
    async with Agent("m", base_url=server.base_url, output_type=int, enable_memory=False) as agent:
        with pytest.raises(OutputError) as caught:
            await agent.query("How many?")
    assert steps_in(str(caught.value)) == [OutputError.next_step]


# --- the key that does not fit


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", [None, "own-key-123456"])
async def test_a_refused_key_says_what_reaches_this_place(door: str, key: str | None, server: LoopbackServer) -> None:
    server.reply(CHAT, error(401, "who are you"))
    url = server.base_url
    makes: dict[str, Model] = {
        "direct": DirectModel("m", url, api_key=key),
        "litellm": LiteLLMModel("m", provider="vllm", base_url=url, api_key=key),
        "litellm-sdk": LiteLLMModel("m", provider="lm_studio", base_url=url, api_key=key),
    }
    with pytest.raises(AuthenticationError) as caught:
        await told_by(makes[door])
    for model in makes.values():
        await model.aclose()
    (step,) = steps_in(str(caught.value))
    assert step.startswith("the key that was sent is not accepted" if key else "no key was sent")
    assert "api_key=" in step and "--api-key" in step and "provider's key" not in step
    assert f"ANY_AGENT_API_KEY together with ANY_AGENT_BASE_URL={url} " in step
    assert "own-key" not in str(caught.value)


def key_of(model: str, base_url: str | None = None, **environ: str) -> Any:
    return resolve({"model": model, "base_url": base_url}, environ=environ)["api_key"].value


def test_the_variables_that_are_named_do_work() -> None:
    url = "http://127.0.0.1:8804/v1"
    assert "ANY_AGENT_API_KEY together with ANY_AGENT_BASE_URL" in for_key(None, url, was_sent=False)
    assert key_of("m", url, ANY_AGENT_API_KEY="k", ANY_AGENT_BASE_URL=url) == "k"
    assert key_of("m", url, ANY_AGENT_API_KEY="k") is key_of("openai/m", url, OPENAI_API_KEY="k") is None
    for provider, place, variable in (
        ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("anthropic", None, "ANTHROPIC_API_KEY"),
        ("lm_studio", "http://localhost:1234/v1", "LM_STUDIO_API_KEY"),
    ):
        step = for_key(provider, place, was_sent=False)
        assert step.endswith(f"or set {variable}.") and "ANY_AGENT" not in step
        assert key_of(f"{provider}/m", None, **{variable: "k"}) == "k"
    assert "sign in as vertex_ai wants it" in for_key("vertex_ai", None, was_sent=False)
