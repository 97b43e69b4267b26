"""Record and replay: the same events without a model, readable mismatches, no secrets on the tape. And masking."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from any_agent import Agent, AgentOptions, tool
from any_agent.errors import ConfigurationError, RateLimitError, ServerError, TapeMismatchError
from any_agent.masking import known_secrets, masked, masked_pieces, masked_value
from any_agent.models.on_tape import delta_json, delta_of, difference, error_json, error_of
from any_agent.testing import (
    ChaosModel,
    EchoModel,
    LoopbackServer,
    RecordingModel,
    ReplayModel,
    ScriptedModel,
    Tape,
    WireCall,
    WireReply,
    chat_chunks,
    error,
    sse,
    token_usage,
)
from any_agent.types import (
    Attempt,
    AttemptFailed,
    ContextSummarized,
    Event,
    ModelLoading,
    ResultMessage,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    Timings,
    ToolCallDelta,
    ToolCompleted,
    Usage,
    UserMessage,
)

CHAT = "/v1/chat/completions"
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tape.jsonl")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@tool
async def stock(item: str) -> int:
    """How many are there."""
    return {"hammers": 7}[item]


def timeless(event: Event) -> Event:
    """Without what a clock says."""
    match event:
        case ResultMessage():
            attempts = tuple(replace(a, duration_s=0.0, first_token_s=None) for a in event.attempts)
            return replace(event, timings=Timings(), session_id="", attempts=attempts)
        case AttemptFailed(attempt):
            return replace(event, attempt=replace(attempt, duration_s=0.0, first_token_s=None))
        case ToolCompleted():
            return replace(event, duration_s=0.0)
        case _:
            return event


async def events_of(agent: Agent, *prompts: str) -> list[Event]:
    async with agent:
        session = agent.create_session()
        return [timeless(event) for prompt in prompts async for event in session.stream(prompt)]


def entries(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# ------------------------------------------------------------------ the same events


async def test_a_run_over_http_is_replayed_with_its_retries_and_fallbacks(server: LoopbackServer, path: str) -> None:
    server.reply(
        CHAT,
        error(503, "busy"),
        error(404, "no such model", type="not_found_error"),
        sse(chat_chunks(reasoning=["Let me ", "see."], tool_calls=[WireCall("stock", ['{"item": ', '"hammers"}'])], usage=token_usage(20, 5), model="second")),
        error(404, "no such model", type="not_found_error"),
        sse(chat_chunks(["Sev", "en."], usage=token_usage(30, 2), model="second")),
        error(404, "no such model", type="not_found_error"),
        sse(chat_chunks(["Yes."], usage=token_usage(40, 1), model="second")),
    )  # fmt: skip
    how: dict[str, Any] = {
        "base_url": server.base_url,
        "api_key": KEY,
        "tools": [stock],
        "retry_delay": 0,
        "fallback_models": ["second"],
        "enable_memory": False,
        "system_prompt": "Be short.",
    }
    prompts = ("How many hammers?", "Sure?")
    recorded = await events_of(Agent("first", **how, record=path), *prompts)
    asked = len(server.requests)
    assert [call["ended"] for call in entries(path)[1:] if call["kind"] == "call"] == ["error", "error", "end", "error", "end", "error", "end"]  # fmt: skip
    replayed = await events_of(Agent("first", **how, replay=path), *prompts)
    assert len(server.requests) == asked, "nothing is sent"
    assert list(map(repr, replayed)) == list(map(repr, recorded))
    assert recorded[-1].result == "Yes."  # type: ignore[union-attr]
    assert sum(isinstance(event, AttemptFailed) for event in recorded) == 4


async def test_replay_needs_no_server_and_no_key(path: str) -> None:
    with LoopbackServer() as server:
        server.reply(CHAT, sse(chat_chunks(["Hello."])))
        place = {"base_url": server.base_url, "model": "m"}
        assert (await events_of(Agent(**place, record=path), "hi"))[-1].result == "Hello."  # type: ignore[union-attr]
    assert await Agent(**place, replay=path).query("hi") == "Hello."
    assert await Agent("auto", replay=path).query("hi") == "Hello.", "no server is looked for"


@pytest.mark.parametrize("how", [{}, {"model": "auto"}])
async def test_the_tape_names_the_model_where_the_agent_does_not(path: str, how: dict[str, Any]) -> None:
    """Also one that nobody could reach by its name."""
    script = [[{"name": "stock", "input": {"item": "hammers"}, "id": "c1"}], "Seven."]
    recorded = await events_of(
        Agent(ScriptedModel(script), tools=[stock], record=path, enable_memory=False), "How many?"
    )
    replayed = await events_of(Agent(**how, tools=[stock], replay=path, enable_memory=False), "How many?")
    assert list(map(repr, replayed)) == list(map(repr, recorded)) and len(recorded) > 5


async def test_half_surrogates_get_onto_a_tape_and_back(path: str) -> None:
    said = "half \ud83d of a sign"
    async with Agent(EchoModel(), record=path, enable_memory=False) as agent:
        assert await agent.query(said) == "half \ufffd of a sign"  # an answer is whole text
    async with Agent(replay=path, enable_memory=False) as agent:
        assert await agent.query(said) == "half \ufffd of a sign"


async def test_a_tape_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    deep = tmp_path / "tapes" / "of today" / "one.jsonl"
    async with Agent(EchoModel(), record=deep, enable_memory=False) as agent:
        await agent.query("x")
    assert stat.S_IMODE(deep.stat().st_mode) == 0o600 and stat.S_IMODE(deep.parent.stat().st_mode) == 0o700
    for place in (tmp_path, deep / "below a file"):
        with pytest.raises(
            ConfigurationError, match="the tape .* cannot be written: (Is a directory|File exists)"
        ) as caught:
            await Agent(EchoModel(), record=place, enable_memory=False).query("x")
        assert caught.value.field == "record"
    with pytest.raises(ConfigurationError, match="exclude each other"):
        await Agent(EchoModel(), record=tmp_path / "other", replay=deep, enable_memory=False).query("x")


async def test_an_overlong_prompt_is_fitted_the_same_way(server: LoopbackServer, path: str) -> None:
    """The window is asked for beside the calls: its answer is on the tape."""
    server.reply("/v1/models", {"object": "list", "data": [{"id": "m", "max_model_len": 2048}]})
    server.reply(CHAT, *[sse(chat_chunks([f"answer {n}"], usage=token_usage(600 * (n + 1), 3))) for n in range(4)])
    prompts = [f"{n}: " + "word and word, " * 150 for n in range(4)]
    how: dict[str, Any] = {
        "base_url": server.base_url,
        "keep_calibration": False,
        "enable_memory": False,
        "reserve_tokens": 300,
    }
    recorded = await events_of(Agent("m", **how, record=path), *prompts)
    asked = len(server.requests)
    assert "ContextFitted" in {type(event).__name__ for event in recorded}
    assert "served_window" in {entry["kind"] for entry in entries(path)}
    replayed = await events_of(Agent("m", **how, replay=path), *prompts)
    assert replayed == recorded and len(server.requests) == asked


async def test_a_broken_answer_is_gone_on_with_as_recorded(server: LoopbackServer, path: str) -> None:
    broken = sse(chat_chunks(["One ", "two "]), done=False)[:3]
    server.reply(
        CHAT,
        WireReply(broken, headers={"Content-Type": "text/event-stream"}, close_abruptly="cut"),
        sse(chat_chunks(["three."])),
    )
    how: dict[str, Any] = {"base_url": server.base_url, "retry_delay": 0, "enable_memory": False}
    recorded = await events_of(Agent("m", **how, record=path), "count")
    replayed = await events_of(Agent("m", **how, replay=path), "count")
    assert replayed == recorded and recorded[-1].result == "One two three."  # type: ignore[union-attr]


async def test_calls_without_an_id_match(path: str) -> None:
    """The id is made anew in each run, in the question after it too."""
    script = [[ToolCallDelta(0, None, "stock", '{"item": "hammers"}'), StreamEnd("m")], "Seven."]
    async with Agent(ScriptedModel(script), tools=[stock], record=path) as agent:
        assert await agent.query("How many?") == "Seven."
    async with Agent(ScriptedModel(), tools=[stock], replay=path) as agent:
        assert await agent.query("How many?") == "Seven."


async def test_many_sessions_at_the_same_time_find_their_own_calls(path: str) -> None:
    prompts = [f"I am number {number}" for number in range(30)]
    async with Agent(EchoModel(delay_s=0.001), record=path) as agent:
        await asyncio.gather(*(agent.query(prompt) for prompt in prompts))
    async with Agent(EchoModel(), replay=path) as agent:
        assert await asyncio.gather(*(agent.query(p) for p in reversed(prompts))) == prompts[::-1]
        assert agent.options.replay.unplayed_calls == 0


async def test_the_same_question_twice_has_two_answers(path: str) -> None:
    async with Agent(ScriptedModel(["one", "two"]), record=path) as agent:
        assert [await agent.query("x"), await agent.query("x")] == ["one", "two"]
    async with Agent(ScriptedModel(), replay=path) as agent:
        assert [await agent.query("x"), await agent.query("x")] == ["one", "two"]
        with pytest.raises(TapeMismatchError, match="ends after 2 calls, and scripted is asked once more"):
            await agent.query("x")


async def test_models_can_be_wrapped_by_hand(path: str) -> None:
    chaos = RecordingModel(ChaosModel(RateLimitError("slow down", retry_after_s=0.0), every=2), path)
    async with Agent(chaos, retry_delay=0) as agent:
        said = [await agent.query(text) for text in ("one", "two")]
    assert said == ["one", "two"] and len(entries(path)) == 4
    played = ReplayModel(path)
    assert played.name == "chaos"
    async with Agent(played, retry_delay=0) as agent:
        responses = [await agent.query(text) for text in ("one", "two")]
    assert responses == said and [a.error_type for a in responses[1].attempts] == ["RateLimitError", None]


async def test_an_interrupt_is_replayed(path: str) -> None:
    async def interrupted(agent: Agent) -> list[Event]:
        async with agent:
            session, seen = agent.create_session(), []
            async for event in session.stream("tell me"):
                seen.append(timeless(event))
                if len(seen) == 2:
                    await session.interrupt()
            return seen

    story = ScriptedModel(["A long story."], name="m")
    recorded = await interrupted(Agent(story, record=path, enable_memory=False))
    assert entries(path)[1]["ended"] == "left"
    replayed = await interrupted(Agent(ScriptedModel(name="m"), replay=path, enable_memory=False))
    assert list(map(repr, replayed)) == list(map(repr, recorded)) and len(recorded) == 3


async def test_pace_is_kept_on_demand(path: str, clock: Callable[[float], float]) -> None:
    async with Agent(RecordingModel(ScriptedModel(["abcdefgh"], delay_s=clock(0.15)), path)) as agent:
        await agent.query("x")
    for keeps_pace, least_s, most_s in ((False, 0.0, clock(0.25)), (True, clock(0.3), clock(5))):
        began = time.perf_counter()
        assert await Agent(ReplayModel(path, keeps_pace=keeps_pace)).query("x") == "abcdefgh"
        assert least_s <= time.perf_counter() - began < most_s


# ------------------------------------------------------------------ mismatches


async def test_a_mismatch_names_the_first_difference(path: str) -> None:
    async with Agent(EchoModel(), system_prompt="Be kind.", tools=[stock], record=path) as agent:
        await agent.query("Tell me about the river Rhine and its many old castles.")

    async def asked(prompt: str = "Tell me about the river Rhine and its many old castles.", **fields: Any) -> str:
        given = {"system_prompt": "Be kind.", "tools": [stock], **fields}
        with pytest.raises(TapeMismatchError) as caught:
            await Agent(EchoModel(), replay=path, **given).query(prompt)
        assert caught.value.call_number == 1 and caught.value.path == path
        return str(caught.value)

    text = await asked("Tell me about the river Rhone and its many old castles.")
    assert "  messages[1].content differs:\n    recorded: 'Tell me about the river Rhine and" in text
    assert "\n    now:      'Tell me about the river Rhone and" in text
    assert "messages[0].content differs:\n    recorded: 'Be kind.'\n    now:      'Be rude.'" in await asked(
        system_prompt="Be rude."
    )
    assert 'params is new:\n    now:      {"temperature": 0.5}' in await asked(temperature=0.5)
    assert "tools was there, and is missing now" in await asked(tools=[])
    text = await asked(prompt=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}])  # type: ignore[arg-type]  # fmt: skip
    assert "messages[1].content differs" in text


async def test_another_model_is_told_by_name(path: str) -> None:
    async with Agent(EchoModel(), record=path) as agent:
        await agent.query("x")
    with pytest.raises(
        TapeMismatchError, match="call 1, to other, is not on the tape .*; next on it is call 1, to echo"
    ):
        await Agent(EchoModel(name="other"), replay=path).query("x")


async def test_a_mismatch_is_no_reason_to_try_another_model(path: str) -> None:
    async with Agent(EchoModel(), record=path) as agent:
        await agent.query("x")
    with pytest.raises(TapeMismatchError, match=r"messages\[0\]"):
        await Agent(
            EchoModel(), replay=path, fallback_models=[{"model": "m", "base_url": "http://127.0.0.1:9/v1"}]
        ).query("y")


def test_differences() -> None:
    assert difference({"a": [1, 2]}, {"a": [1, 2]}) == ""
    assert (
        difference({"a": [1]}, {"a": [1, {"b": 2}]})
        == '  a: 1 recorded, 2 now; the first new one is a[1]:\n    {"b": 2}'
    )
    assert "2 recorded, 1 now; the first that is missing is a[1]" in difference({"a": [1, 2]}, {"a": [1]})
    assert difference({"a": 1}, {"a": "1"}) == '  a differs:\n    recorded: 1\n    now:      "1"'
    long = "x" * 500
    told = difference({"a": long + "1" + long}, {"a": long + "2" + long})
    assert len(told) < 400 and f"…'{'x' * 40}1" in told and f"…'{'x' * 40}2" in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        '{"kind": "other"}\n',
        '{"kind": "tape", "version": 99}\n',
        '{"kind":"tape","version":1}\n{"kind":"call"}\n',
    ],
)
async def test_what_is_no_tape_is_told(path: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no tape .*record="):
        await Agent(EchoModel(), replay=path).query("x")
    Path(path).write_text(text)
    with pytest.raises(ConfigurationError, match="is no tape of this version"):
        await Agent(EchoModel(), replay=path).query("x")


# ------------------------------------------------------------------ the file


async def test_recording_begins_the_tape_anew_at_its_first_call(path: str) -> None:
    for text in ("old", "new"):
        agent = Agent(EchoModel(), record=path)
        assert not (text == "old" and os.path.exists(path)), "making an agent does no I/O"
        assert await agent.query(text) == text
        assert await agent.query(text, temperature=0.5) == text  # another chain, the same tape
    assert [entry["request"]["messages"][0]["content"] for entry in entries(path)[1:]] == ["new", "new"]
    if sys.platform != "win32":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("text", ["precious\n", '{"kind": "other"}\n', "[1]\n", "7", "[" * 9_000, "\0", " \n"])
async def test_what_is_no_tape_is_not_replaced(path: str, text: str) -> None:
    Path(path).write_text(text)
    model = EchoModel()
    with pytest.raises(ConfigurationError, match=r"tape\.jsonl is there and is no tape; it stays as it is") as caught:
        await Agent(model, record=path).query("x")
    assert Path(path).read_text() == text and model.requests == [], "nobody was asked in vain"
    assert caught.value.field == "record" and caught.value.value == path
    with pytest.raises(ConfigurationError, match="is no tape"):
        Tape(path).write({"kind": "call"})
    assert Path(path).read_text() == text


async def test_an_empty_file_and_a_tape_of_another_version_are_replaced(path: str) -> None:
    for text in ("", '{"kind": "tape", "version": 99}\n' + "x" * 5_000):
        Path(path).write_text(text)
        assert await Agent(EchoModel(), record=path).query("x") == "x"
        assert [entry["kind"] for entry in entries(path)] == ["tape", "call"]


def test_options_take_paths_and_tapes(path: str) -> None:
    tape = Tape(path)
    assert AgentOptions(record=tape).record is tape
    assert AgentOptions(record=Path(path)).record.path == path and AgentOptions().record is None
    with pytest.raises(ConfigurationError, match="response_cache_ttl_s"):
        AgentOptions(response_cache_ttl_s=0)


@pytest.mark.parametrize(
    "delta",
    [
        *(TextDelta("x"), ThinkingDelta("x", "sig", takes_text=True), ToolCallDelta(0, "c", "f", '{"a": 1}')),
        *(ToolCallDelta(None, None, "f", {"is": "Usage"}), ToolCallDelta(error="broken")),
        StreamEnd(
            "m", "stop", Usage(1, 2, 3, 4, True), 0.5, "p", {"is": "Attempt", "l": [1]}, (Attempt("m", None, 1.0),)
        ),
        AttemptFailed(Attempt("m", "http://x", 1.5, "ServerError", "x", 500, 3, "retried", 0.1), keeps_text=True),
        *(ModelLoading("m", None, 3.0), ContextSummarized("s", 3, 2, "m", Usage(1, 1))),
    ],
)
def test_deltas_come_back_as_they_were(delta: Any) -> None:
    assert delta_of(json.loads(json.dumps(delta_json(delta)))) == delta


def test_deltas_of_a_later_version_lose_what_is_new() -> None:
    assert delta_of({"is": "TextDelta", "text": "x", "colour": "red", "at_ms": 3}) == TextDelta("x")


def test_errors_come_back_with_their_kind_and_numbers() -> None:
    told = error_json(RateLimitError("slow down", model="m", status=429, retry_after_s=1.5), ())
    back = error_of(json.loads(json.dumps(told)))
    assert type(back) is RateLimitError and (str(back), back.status, back.retry_after_s) == ("slow down", 429, 1.5)
    assert type(error_of({"is": "NoSuchError", "message": "x"})).__name__ == "ProviderError"
    assert back.attempts == () and isinstance(error_of({"is": "ServerError"}), ServerError)


# ------------------------------------------------------------------ secrets


async def test_secrets_do_not_get_onto_the_tape(
    server: LoopbackServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "value-of-a-variable")
    key = "no-shape-at-all-9"
    said = f"The keys are {key}, {KEY} and value-of-a-variable."
    reply = sse(chat_chunks([said[i : i + 5] for i in range(0, len(said), 5)], tool_calls=[WireCall("login", ['{"password": "hunt', 'er22", "token": "x"}'])]))  # fmt: skip
    server.reply(CHAT, reply, error(401, f"wrong key {key}"))

    @tool
    async def login(password: str, token: str) -> str:
        """Log in."""
        return "in with Bearer abcdefghijkl"

    how: dict[str, Any] = {"base_url": server.base_url, "api_key": key, "tools": [login], "enable_memory": False}
    recorded = await events_of(Agent("m", **how, record=path), f"My key is {KEY}")
    text = Path(path).read_text()
    for secret in (key, KEY, "value-of-a-variable", "hunter22", "abcdefghijkl"):
        assert secret not in text, secret
    assert "[secret]" in text
    how.pop("api_key")
    replayed = await events_of(Agent("m", **how, replay=path), "My key is [secret]")
    assert [type(e) for e in replayed if not isinstance(e, TextDelta)] == [
        type(e) for e in recorded if not isinstance(e, TextDelta)
    ]
    assert (
        "".join(e.text for e in replayed if isinstance(e, TextDelta)) == "The keys are [secret], [secret] and [secret]."
    )
    assert type(replayed[-1].error).__name__ == "AuthenticationError"  # type: ignore[union-attr]


async def test_whole_arguments_are_masked_as_the_next_request_has_them(path: str) -> None:
    call = {"name": "login", "input": {"password": "abc", "key": KEY}, "id": "c1"}
    got: list[str] = []

    @tool
    async def login(password: str, key: str) -> str:
        """Log in."""
        got.append(key)
        return "in"

    async with Agent(ScriptedModel([[call], "done"]), tools=[login], record=path) as agent:
        await agent.query("x")
    async with Agent(ScriptedModel(), tools=[login], replay=path) as agent:
        assert await agent.query("x") == "done"
    assert got == [KEY, "[secret]"] and KEY not in Path(path).read_text()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer abcdef.ghij-klm", "Authorization: Bearer [secret]"),
        ('{"api_key": "abcdef123"}', '{"api_key": "[secret]"}'),
        ("x-api-key=abcdef123; a", "x-api-key=[secret]; a"),
        ("sk-ant-api03-abcdefgh", "[secret]"),
        ("at ghp_abcdefghij0123456789 and xoxb-1234567890-ab", "at [secret] and [secret]"),
        ("postgres://me:pass@host/db", "postgres://[secret]@host/db"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abc-def", "[secret]"),
        ("a risk-averse task-oriented mask", "a risk-averse task-oriented mask"),
        ("the password is short", "the password is short"),
        ("https://example.org:8080/a@b", "https://example.org:8080/a@b"),
    ],
)
def test_masking(text: str, kept: str) -> None:
    assert masked(text) == kept
    assert masked(kept) == kept, "what is masked stays as it is"


def test_masking_of_values_and_variables() -> None:
    said = {"headers": {"Authorization": "x", "n": 1}, "list": [KEY, None], "max_tokens": 5, "api_keys": ["a", "b"]}
    hidden = {"headers": {"Authorization": "[secret]", "n": 1}, "list": ["[secret]", None]}
    assert masked_value(said) == {**hidden, "max_tokens": 5, "api_keys": ["[secret]", "[secret]"]}
    assert masked_value({"password": "abc"}, by_name=False) == {"password": "abc"}
    environ = {"A_TOKEN": "long-enough", "B_TOKEN": "short", "PATH": "/usr/bin/python"}
    assert known_secrets(["given", None, ""], environ) == ("long-enough", "given")


@given(
    st.lists(st.sampled_from(["a", "b", "-", KEY, KEY[:9], KEY[9:], "Bearer ", "abcdefgh", " ", '"'])),
    st.integers(1, 7),
)
def test_pieces_hide_what_the_whole_hides(words: list[str], size: int) -> None:
    text = "".join(words)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    hidden = masked_pieces(pieces, (KEY,))
    assert len(hidden) == len(pieces) and "".join(hidden) == masked(text, (KEY,)) and KEY not in "".join(hidden)


def test_a_prompt_is_not_changed_by_recording(path: str) -> None:
    model = EchoModel()
    assert Agent(model, record=path).query_sync(f"say {KEY}") == f"say {KEY}"
    assert model.requests[0].messages == (UserMessage(f"say {KEY}"),)
