"""The capability probe: what it finds on replayed servers, what it makes of trouble, and how its verdicts are kept."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.replay_abilities import CHAT, REPLAYED, Manners, Replayed, chats, speaks
from support.replay_servers import LlamaRouter, lm_studio, ollama, vllm

from any_agent.cli.verdict_words import ABILITIES, rows
from any_agent.context import FittedModel
from any_agent.errors import ModelNotFoundError, ServerError
from any_agent.models.capabilities import (
    MAX_CALLS,
    Verdict,
    Verdicts,
    forget_servers,
    is_free_to_ask,
    known_verdict,
    probe_capabilities,
)
from any_agent.models.capabilities.verdicts import (
    FINDINGS,
    MAX_ENTRIES,
    Finding,
    Identity,
    identity,
    place_of,
    verdicts_path,
)
from any_agent.models.fallback import FallbackModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.servers import ServedModel, Server, find_model, probe
from any_agent.models.servers.nearest import with_nearest
from any_agent.testing import LoopbackServer, ScriptedModel, WireReply, WireRequest, chat_chunks, error, sse
from any_agent.testing.wire_bytes import EVENT_STREAM, sse_event

YES, NO, OPEN = True, False, None
MODEL = ServedModel("m", 4096, None, True, None, None, "llm", "")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as one:
        yield one


async def verdict_on(server: LoopbackServer, served: ServedModel | None = None, **limits: Any) -> Verdict:
    model = DirectModel(served.id if served else "m", server.base_url)
    try:
        return await probe_capabilities(model, served, **limits)
    finally:
        await model.aclose()


def values(verdict: Verdict) -> dict[str, bool | None]:
    return {name: one.value for name, one in verdict.findings().items() if one.value is not None}


# --- what it finds

FOUND = {
    "LM Studio 0.4": {
        "native_tools": YES, "required_choice": YES, "named_choice": NO, "parallel_calls": YES,
        "streamed_arguments": YES, "json_schema": YES, "schema_beside_tools": NO, "late_system": YES, "images": NO,
        "reasoning_field": NO,
    },
    "Ollama, a model with tools": {
        "native_tools": YES, "required_choice": NO, "named_choice": NO, "parallel_calls": YES,
        "streamed_arguments": NO, "json_schema": YES, "schema_beside_tools": NO, "late_system": YES, "images": YES,
        "reasoning_field": YES,
    },
    "vLLM with a tool parser": {
        "native_tools": YES, "required_choice": YES, "named_choice": YES, "parallel_calls": YES,
        "streamed_arguments": YES, "json_schema": YES, "schema_beside_tools": NO, "late_system": YES, "images": NO,
        "reasoning_field": NO,
    },
    "vLLM without one": {
        "native_tools": NO, "json_schema": YES, "late_system": YES, "images": NO, "reasoning_field": NO,
    },
    "mlx_lm": {
        "native_tools": NO, "text_calls": YES, "required_choice": NO, "named_choice": NO, "parallel_calls": YES,
        "json_schema": NO, "late_system": YES, "reasoning_field": NO,
    },
}  # fmt: skip


@pytest.mark.parametrize("replayed", REPLAYED, ids=lambda one: one.title)
async def test_replayed_servers(server: LoopbackServer, replayed: Replayed) -> None:
    replayed.sets_up(server)
    speaks(server, replayed.manners)
    found = await probe(server.base_url)
    assert found is not None
    verdict = await verdict_on(server, find_model(found, replayed.model))
    assert values(verdict) == FOUND[replayed.title]
    assert verdict.is_complete
    assert verdict.calls == len(chats(server)) <= MAX_CALLS
    assert all(request.json["temperature"] == 0 for request in chats(server))
    assert max(request.json["max_tokens"] for request in chats(server)) <= 128 or replayed.manners.reasoning


async def test_the_ablest_of_servers_takes_eight_calls(server: LoopbackServer) -> None:
    speaks(server, Manners(images="seen"))
    verdict = await verdict_on(server)
    able = {name: YES for name in FINDINGS if name not in ("text_calls", "reasoning_field")}
    assert values(verdict) == {**able, "reasoning_field": NO}
    assert verdict.calls == len(chats(server)) == MAX_CALLS


@pytest.mark.parametrize(
    ("manners", "name", "value", "note"),
    [
        (Manners("dropped"), "native_tools", OPEN, "no call came"),
        (Manners(schema="refused"), "json_schema", NO, "refused: HTTP 400"),
        (Manners(schema="ignored"), "json_schema", NO, "ignored: 'Hello!'"),
        (Manners(beside="tools"), "schema_beside_tools", NO, "the schema is ignored when tools are given"),
        (Manners(takes_late_system=False), "late_system", NO, "refused: HTTP 500"),
        (Manners(images="unseen"), "images", OPEN, "accepted; not shown to be seen"),
        (Manners(images="refused"), "images", NO, "refused"),
        (Manners(makes_parallel_calls=False), "parallel_calls", NO, "one call"),
        (Manners("text", calls_are_whole=True), "native_tools", NO, "came as text"),
    ],
)
async def test_single_findings(
    server: LoopbackServer, manners: Manners, name: str, value: bool | None, note: str
) -> None:
    speaks(server, manners)
    verdict = await verdict_on(server)
    assert (verdict.findings()[name].value, verdict.is_complete) == (value, True)
    assert note in verdict.findings()[name].note


async def test_the_server_s_own_word_on_tools_and_images(server: LoopbackServer) -> None:
    speaks(server, Manners("dropped"))
    verdict = await verdict_on(server, replace(MODEL, has_tools=False, has_vision=True))
    assert (verdict.native_tools.value, verdict.images) == (NO, Finding(YES, "the server says so"))
    assert not any("image_url" in request.body.decode() for request in chats(server))


async def test_the_late_system_message_really_goes_out_late(server: LoopbackServer) -> None:
    speaks(server, Manners())
    await verdict_on(server)
    roles = [[one["role"] for one in request.json["messages"]] for request in chats(server)]
    assert ["user", "assistant", "system", "user"] in roles


async def test_a_model_that_thinks_gets_room_for_it(server: LoopbackServer) -> None:
    def thinks(request: WireRequest) -> WireReply:
        is_cut = request.json["max_tokens"] < 500
        chunks = chat_chunks(
            "" if is_cut else "Hello!", reasoning="Hm. " * 9, finish_reason="length" if is_cut else "auto"
        )
        return WireReply(sse(chunks), headers=EVENT_STREAM)

    server.reply(CHAT, thinks)
    verdict = await verdict_on(server)
    assert verdict.reasoning_field.value is YES
    assert [request.json["max_tokens"] for request in chats(server)][:2] == [128, 1024]
    assert verdict.calls == len(chats(server)) <= MAX_CALLS


async def test_a_cut_answer_proves_nothing(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks('{ "kq', finish_reason="length")))
    verdict = await verdict_on(server)
    assert (verdict.json_schema.value, verdict.required_choice.value) == (OPEN, OPEN)


async def test_any_model_can_be_asked() -> None:
    verdict = await probe_capabilities(ScriptedModel(["Hello!"] * MAX_CALLS))
    assert verdict.json_schema.value is NO
    assert verdict.late_system == Finding(OPEN, "not asked: LiteLLM writes the messages in its own way")


async def test_a_door_that_tells_tools_as_text_is_asked_without_that(server: LoopbackServer) -> None:
    speaks(server, Manners("refused", '"auto" tool choice requires --enable-auto-tool-choice'))
    model = DirectModel("m", server.base_url)
    verdict = await probe_capabilities(model)
    await model.aclose()
    assert verdict.native_tools.value is NO
    assert not model.ways.is_refused, "the agent's own door has learned nothing from it"


# --- trouble

OK = sse(chat_chunks("Hello!"))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (error(401, "Invalid API Key", type="authentication_error"), "Invalid API Key"),
        (error(503, "Loading model", type="unavailable_error"), "the server is loading the model"),
        (error(404, "The model `m` does not exist.", type="NotFoundError"), "does not exist"),
        (WireReply(OK[:1], headers=EVENT_STREAM, close_abruptly="cut"), "the connection broke"),
        (error(429, "Rate limit reached"), "Rate limit"),
    ],
)
@pytest.mark.parametrize("answered", [0, 2])
async def test_a_server_that_cannot_go_on(server: LoopbackServer, trouble: WireReply, said: str, answered: int) -> None:
    server.reply(CHAT, *[OK] * answered, trouble)
    verdict = await verdict_on(server)
    assert said in verdict.trouble
    assert not verdict.is_complete
    assert verdict.calls == answered + 1
    assert values(verdict) == ({"json_schema": NO, "reasoning_field": NO} if answered else {})


async def test_nobody_there() -> None:
    model = DirectModel("m", "http://127.0.0.1:9/v1")
    verdict = await probe_capabilities(model)
    assert (verdict.calls, values(verdict)) == (1, {})
    assert "no server answered" in verdict.trouble


async def test_one_server_error_is_a_refusal_two_in_a_row_are_trouble(server: LoopbackServer) -> None:
    server.reply(CHAT, error(500, "boom"), OK)
    verdict = await verdict_on(server)
    assert (verdict.native_tools.value, verdict.is_complete) == (NO, True)
    assert "the server failed on it: HTTP 500: boom" in verdict.native_tools.note
    with LoopbackServer() as broken:
        broken.reply(CHAT, error(500, "boom"))
        verdict = await verdict_on(broken)
        assert (verdict.calls, values(verdict), verdict.trouble) == (2, {}, "HTTP 500: boom")


async def test_the_limit_of_time_ends_it(clock: Callable[[float], float], server: LoopbackServer) -> None:
    server.reply(CHAT, OK, WireReply(stall=True))
    started = time.monotonic()
    verdict = await verdict_on(server, time_limit_s=clock(0.2))
    assert time.monotonic() - started < clock(2)
    assert verdict.trouble == f"cut off after {clock(0.2):.1f} s"
    assert verdict.calls == 2
    await server.client_left()  # the model does not go on writing for nobody
    assert (await verdict_on(server, time_limit_s=0.0)).calls == 0


async def test_one_silent_call_says_nothing(clock: Callable[[float], float], server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply(stall=True), OK)
    verdict = await verdict_on(server, call_timeout_s=clock(0.1))
    assert (verdict.native_tools.value, verdict.is_complete) == (OPEN, True)
    assert "stayed silent" in verdict.native_tools.note


# --- what an agent reads from it


def test_the_unknown_is_worth_a_try_but_no_promise() -> None:
    nothing = Verdict()
    assert (nothing.can_call_tools, nothing.can_take_images) == (True, True)
    assert (nothing.enforces_schema, nothing.schema_with_tools, nothing.merges_system) == (False, False, False)
    no = Finding(NO)
    never = Verdict(native_tools=no, images=no, json_schema=no, schema_beside_tools=no, late_system=no)
    assert (never.can_call_tools, never.can_take_images, never.merges_system) == (False, False, True)
    yes = Finding(YES)
    assert replace(never, text_calls=yes).can_call_tools
    assert Verdict(json_schema=yes, schema_beside_tools=yes).schema_with_tools


async def test_of_a_server_that_is_not_there_nothing_is_known() -> None:
    model = DirectModel("m", "http://127.0.0.1:9/v1")
    verdict = await probe_capabilities(model)
    await model.aclose()
    assert "no server answered" in verdict.trouble and not verdict.is_complete
    assert (verdict.can_call_tools, verdict.can_take_images) == (None, None)
    no, yes = Finding(NO), Finding(YES)
    seen = replace(verdict, native_tools=no, images=no)
    assert (seen.can_call_tools, seen.can_take_images) == (False, False)
    assert replace(verdict, native_tools=yes).can_call_tools and replace(verdict, text_calls=yes).can_call_tools


def test_every_finding_is_explained() -> None:
    assert [one.name for one in ABILITIES] == list(FINDINGS)
    no = Verdict(**{name: Finding(NO, "because") for name in FINDINGS}, calls=1, trouble="")
    for (title, sign, meaning), ability in zip(rows(no), ABILITIES, strict=True):
        assert (title, sign) == (ability.title, "no")
        assert meaning.startswith(ability.no) and "because" in meaning and ability.fix in meaning
    assert rows(Verdict()) == []


# --- keeping

WHOM = Identity("http://127.0.0.1:8080/v1", "m", "llamacpp-b1", "abc", tells_build=True)
FULL = Verdict(native_tools=Finding(YES), json_schema=Finding(YES), images=Finding(NO, "so"), calls=6)


def test_a_verdict_is_kept_for_this_build_and_template_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "capabilities.json"
    assert Verdicts(path).get(WHOM) is None
    assert Verdicts(path).put(WHOM, FULL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Verdicts(path).get(WHOM) == FULL
    for other in ({"build": "llamacpp-b2"}, {"template_id": "def"}, {"model_id": "n"}, {"place": "x"}, {"door": "y"}):
        assert Verdicts(path).get(replace(WHOM, **other)) is None
    newer = replace(WHOM, build="llamacpp-b2")
    verdicts = Verdicts(path)
    assert verdicts.put(newer, FULL) and verdicts.get(WHOM) is None, "the older build's is dropped"
    assert list(json.loads(path.read_text())["verdicts"]) == [newer.key]


def test_an_incomplete_verdict_is_remembered_but_not_written(tmp_path: Path) -> None:
    path = tmp_path / "capabilities.json"
    verdicts, cut = Verdicts(path), replace(FULL, trouble="cut off")
    assert not verdicts.put(WHOM, cut)
    assert verdicts.get(WHOM) == cut
    assert not path.exists()
    assert verdicts.put(WHOM, FULL) and verdicts.get(WHOM) == FULL


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "capabilities.json"
    one, other = Verdicts(path), Verdicts(path)
    assert one.get(WHOM) is other.get(WHOM) is None
    second = replace(WHOM, model_id="n")
    assert one.put(WHOM, FULL) and other.put(second, FULL)
    assert Verdicts(path).get(WHOM) == Verdicts(path).get(second) == FULL


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 9}', '{"version": 1, "verdicts": 3}', "x" * 600_000, "[" * 100_000],
    ids=lambda text: text[:20],
)
def test_a_broken_file_counts_as_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "capabilities.json"
    path.write_text(text)
    assert Verdicts(path).get(WHOM) is None
    assert Verdicts(path).put(WHOM, FULL) and Verdicts(path).get(WHOM) == FULL


def test_a_broken_entry_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "capabilities.json"
    for entry in ({}, {"found": {}, "calls": 1}, {"found": {n: [1, ""] for n in FINDINGS}, "calls": 1, "at": 1}):
        path.write_text(json.dumps({"version": 1, "verdicts": {WHOM.key: entry}}))
        assert Verdicts(path).get(WHOM) is None


@pytest.mark.parametrize(
    ("whom", "verdict", "age_days", "is_kept"),
    [
        (WHOM, FULL, 1000, True),
        (replace(WHOM, tells_build=False), FULL, 13, True),
        (replace(WHOM, tells_build=False), FULL, 15, False),  # it may be another version by now
        (WHOM, replace(FULL, native_tools=Finding(NO)), 0.9, True),
        (WHOM, replace(FULL, native_tools=Finding(NO)), 1.1, False),  # restarted with --jinja, perhaps
    ],
)
def test_how_long_it_is_believed(
    tmp_path: Path, whom: Identity, verdict: Verdict, age_days: float, is_kept: bool
) -> None:
    path = tmp_path / "capabilities.json"
    Verdicts(path).put(whom, verdict)
    content = json.loads(path.read_text())
    content["verdicts"][whom.key]["at"] -= age_days * 86_400
    path.write_text(json.dumps(content))
    assert (Verdicts(path).get(whom) is not None) is is_kept


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path / "capabilities.json")
    for number in range(MAX_ENTRIES + 5):
        verdicts.put(replace(WHOM, model_id=f"m{number}"), FULL)
    assert len(json.loads((tmp_path / "capabilities.json").read_text())["verdicts"]) == MAX_ENTRIES


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    verdicts = Verdicts(tmp_path / "file" / "capabilities.json")
    assert not verdicts.put(WHOM, FULL)
    assert verdicts.get(WHOM) == FULL, "this process knows it all the same"


def test_no_credentials_in_the_key() -> None:
    assert place_of("http://user:secret@host:8080/v1/?key=abc") == "http://host:8080/v1"
    server = Server("llamacpp", "http://u:secret@host/v1", build="b0-unknown")
    whom = identity(server, replace(MODEL, template_id="abc"))
    assert "secret" not in whom.key
    assert (whom.build, whom.template_id, whom.tells_build) == ("llamacpp-b0-unknown", "abc", False)


def test_where_it_is_kept(tmp_path: Path) -> None:
    assert verdicts_path({"ANY_AGENT_HOME": str(tmp_path)}) == tmp_path / "capabilities.json"
    assert verdicts_path({}).name == "capabilities.json"


# --- what an agent knows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANY_AGENT_HOME", str(tmp_path))
    return tmp_path / "capabilities.json"


@pytest.fixture
def able(server: LoopbackServer) -> LoopbackServer:
    vllm(server)
    speaks(server, Manners())
    return server


async def test_known_verdict_asks_once_and_only_if_it_may(able: LoopbackServer, home: Path) -> None:
    model = DirectModel("tiny", able.base_url, provider="vllm")
    assert await known_verdict(model, may_probe=False) is None
    assert chats(able) == [] and not home.exists()
    verdict = await known_verdict(model, may_probe=True)
    assert verdict is not None and verdict.is_complete and len(chats(able)) == verdict.calls
    so_far = len(able.requests)
    wrapped = FallbackModel([FittedModel(model, lambda: pytest.fail("not needed"))])
    assert await known_verdict(wrapped, may_probe=True) == verdict
    assert len(able.requests) == so_far, "a look into memory"
    forget_servers()
    assert await known_verdict(DirectModel("tiny", able.base_url), may_probe=False) == verdict
    assert len(chats(able)) == verdict.calls
    await model.aclose()


async def test_another_build_is_asked_anew(home: Path) -> None:
    async def asked(version: str) -> int:
        with LoopbackServer(port) as server:
            server.reply("/version", {"version": version})
            vllm(server)
            speaks(server, Manners())
            forget_servers()
            model = DirectModel("tiny", server.base_url)
            assert await known_verdict(model, may_probe=True) is not None
            await model.aclose()
            return len(chats(server))

    with LoopbackServer() as first:
        port = int(first.root_url.rpartition(":")[2])
    assert [await asked(version) for version in ("1", "1", "2")] == [8, 0, 8]


async def test_only_one_asks_at_a_time(able: LoopbackServer, home: Path) -> None:
    model = DirectModel("tiny", able.base_url, provider="vllm")
    await known_verdict(model, may_probe=False)
    first, second = await asyncio.gather(known_verdict(model, may_probe=True), known_verdict(model, may_probe=True))
    assert first is not None and second is None
    assert len(chats(able)) == first.calls
    await model.aclose()


async def test_a_cut_off_verdict_is_not_asked_for_again_and_again(server: LoopbackServer, home: Path) -> None:
    vllm(server)
    server.reply(CHAT, OK, error(429, "Rate limit reached"))
    model = DirectModel("tiny", server.base_url, provider="vllm")
    verdicts = [await known_verdict(model, may_probe=True) for _ in range(3)]
    assert verdicts[0] is not None and not verdicts[0].is_complete
    assert verdicts == verdicts[:1] * 3
    assert len(chats(server)) == 2
    assert not home.exists()
    await model.aclose()


async def test_a_gateway_may_cost_money(server: LoopbackServer, home: Path) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "m"}]})
    speaks(server, Manners())
    model = DirectModel("m", server.base_url)
    assert await known_verdict(model, may_probe=True) is None
    assert chats(server) == []


async def test_nothing_is_asked_of_clouds_and_strangers(home: Path) -> None:
    cloud = DirectModel("gpt-4o", "https://api.openai.com/v1", api_key="sk-none")
    assert await known_verdict(cloud, may_probe=True) is None  # a socket out of loopback would fail this test
    assert await known_verdict(ScriptedModel(["x"]), may_probe=True) is None
    assert await known_verdict(DirectModel("m", "http://127.0.0.1:9/v1"), may_probe=True) is None
    assert await known_verdict(DirectModel("m", "http://user:pw@127.0.0.1:9/v1"), may_probe=True) is None


@pytest.mark.parametrize(
    ("server", "model", "is_free"),
    [
        (Server("ollama", "http://127.0.0.1:1/v1"), MODEL, True),
        (Server("vllm", "http://192.168.0.5:8000/v1"), MODEL, True),
        (Server("vllm", "https://models.example.com/v1"), MODEL, False),
        (Server("openai_compatible", "http://127.0.0.1:1/v1"), MODEL, False),
        (Server("ollama", "http://127.0.0.1:1/v1"), replace(MODEL, is_remote=True), False),
        (Server("ollama", "http://127.0.0.1:1/v1"), replace(MODEL, is_loaded=False), False),
        (Server("ollama", "http://127.0.0.1:1/v1"), replace(MODEL, kind="embedding"), False),
        (Server("llamacpp", "http://127.0.0.1:1/v1", state="loading"), MODEL, False),
    ],
)
def test_what_is_free_to_ask(server: Server, model: ServedModel, is_free: bool) -> None:
    assert is_free_to_ask(server, model) is is_free


# --- a misspelt name


def not_found(name: str, status: int = 404) -> WireReply:
    return error(status, f"model '{name}' not found, try pulling it first", type="api_error")


@pytest.mark.parametrize("status", [404, 400])
@pytest.mark.parametrize(
    ("name", "hint"),
    [("qwen-3", "did you mean 'qwen3:latest'?"), ("lama3.1:8b", "did you mean 'llama3.1:8b'?")],
)
async def test_a_misspelt_name_brings_the_nearest_live_one(
    server: LoopbackServer, name: str, hint: str, status: int
) -> None:
    ollama(server)
    server.reply(CHAT, not_found(name, status))
    model = DirectModel(name, server.base_url, provider="ollama", api_key="right-key")
    with pytest.raises(ModelNotFoundError) as caught:
        [_ async for _ in model.stream(_request())]
    await model.aclose()
    assert hint in str(caught.value).splitlines()[0]
    assert hint in caught.value.message
    assert "any-agent doctor" in caught.value.message, "the rest of the text stays"
    assert len(chats(server)) == 1
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer right-key"}


async def test_also_when_the_server_says_it_in_its_stream(server: LoopbackServer) -> None:
    lm_studio(server)
    said = {"error": {"message": 'Model "qwen3-8" not found'}}
    server.reply(CHAT, sse([sse_event(said, event="error")], done=False))
    model = DirectModel("qwen3-8", server.base_url, provider="lm_studio")
    with pytest.raises(ModelNotFoundError, match=r"in its stream: .* \(did you mean 'qwen/qwen3-8b'\?\)"):
        [_ async for _ in model.stream(_request())]
    await model.aclose()


def _request() -> Any:
    from any_agent.types import ModelRequest, UserMessage

    return ModelRequest([UserMessage("hi")])


async def test_lm_studio_and_router_names_as_well(server: LoopbackServer) -> None:
    lm_studio(server)
    told = await with_nearest(ModelNotFoundError("no"), server.base_url, "qwen3-8")
    assert told.message == "no (did you mean 'qwen/qwen3-8b'?)"
    with LoopbackServer() as router:
        LlamaRouter(router)
        told = await with_nearest(ModelNotFoundError("no"), router.base_url, "big-7b")
        assert told.message == "no (did you mean 'big-70b'?)"


async def test_nothing_near_names_what_there_is(server: LoopbackServer) -> None:
    vllm(server)
    told = await with_nearest(ModelNotFoundError("no\n  fix: x"), server.base_url, "completely-else")
    assert told.message == str(told) == "no (it has 'tiny', 'poet')\n  fix: x"


async def test_when_there_is_nothing_to_suggest(server: LoopbackServer) -> None:
    vllm(server)
    for given, base_url, model in (
        (ServerError("boom"), server.base_url, "tin"),  # another failure: nobody is asked
        (ModelNotFoundError("no"), None, "tin"),
    ):
        assert (await with_nearest(given, base_url, model)).message == given.message in ("boom", "no")
    assert server.requests == []
    assert (await with_nearest(ModelNotFoundError("no"), server.base_url, "tiny")).message == "no"
    assert (await with_nearest(ModelNotFoundError("no"), "http://127.0.0.1:9/v1", "tin")).message == "no"
    assert (await with_nearest(ModelNotFoundError("no"), "http://u:p@127.0.0.1:9/v1", "tin")).message == "no"
    with LoopbackServer() as llama:
        settings = {"default_generation_settings": {"n_ctx": 64}, "model_alias": "tiny", "total_slots": 1}
        llama.reply("/props", settings)
        told = await with_nearest(ModelNotFoundError("no"), llama.base_url, "tin")
        assert told.message == "no", "llama.cpp answers to any name"
