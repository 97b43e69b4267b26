"""Halves of characters (UTF-16 units that JSON may escape alone): wherever a server cuts, the text is whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from any_agent import Agent
from any_agent.errors import ProviderError
from any_agent.models.embeddings import Embeddings
from any_agent.models.failures import Where
from any_agent.models.halves import fed, has_lone_half, joined, mended, whole
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_answer import Answer
from any_agent.models.openai_wire import DirectModel
from any_agent.models.servers import probe
from any_agent.models.streaming import Fold
from any_agent.protocols import Model
from any_agent.testing import LoopbackServer, WireReply, chat_completion, sse
from any_agent.types import (
    AssistantMessage,
    Delta,
    ModelRequest,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
    text_of,
)

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

CHAT = "/v1/chat/completions"
DOORS: dict[str, Callable[[str], Model]] = {
    "direct": lambda url: DirectModel("m", url),
    "litellm": lambda url: LiteLLMModel("m", provider="vllm", base_url=url),
    "litellm-sdk": lambda url: LiteLLMModel("m", provider="lm_studio", base_url=url),
}
TOOL = ToolSpec("note", "Keeps a note.", {"type": "object", "properties": {"text": {"type": "string"}}})
LONE, TEXT = "\ud83d", "a😀b\ufeff𝔘é👩\u200d🚀"
texts = st.text(st.one_of(st.characters(), st.sampled_from("😀𝔘👩🚀\u200da<`{")), max_size=12)
units_of_text = st.lists(st.sampled_from(["\ud83d", "\ude00", "\ud800", "\udfff", "a", "é", "😀"]), max_size=8)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest, server: LoopbackServer) -> Model:
    return DOORS[request.param](server.base_url)


def body(value: Any, status: int = 200) -> WireReply:
    """JSON that escapes what is not ASCII, as many servers do."""
    return WireReply([json.dumps(value).encode()], status, {"content-type": "application/json"})


def units(text: str) -> list[str]:
    """UTF-16 units, one a text; what JSON escapes one by one."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [data[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(data), 2)]


def chunk(delta: dict[str, Any], finish_reason: str | None = None, model: str = "m") -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return json.dumps(told)


def said(pieces: Sequence[str], name: str = "content") -> list[str]:
    return [*[chunk({name: piece}) for piece in pieces], chunk({}, "stop")]


def called(pieces: Sequence[str], tool_name: str = "note", call_id: str = "c1") -> list[str]:
    def fragment(piece: str, **more: Any) -> str:
        return chunk({"tool_calls": [{"index": 0, **more, "function": {"arguments": piece}}]})

    first = {"index": 0, "id": call_id, "type": "function", "function": {"name": tool_name, "arguments": ""}}
    return [chunk({"tool_calls": [first]}), *[fragment(piece) for piece in pieces], chunk({}, "tool_calls")]


def read(events: Sequence[str]) -> tuple[AssistantMessage, list[Delta]]:
    """What the direct door makes of events."""
    answer = Answer(Where("m"))
    deltas = [delta for event in events for delta in answer.take((b"", event.encode()))] + answer.end(None)
    return folded(deltas), deltas


def folded(deltas: Sequence[Delta], tools: Sequence[ToolSpec] = ()) -> AssistantMessage:
    fold = Fold(tools)
    for delta in deltas:
        fold.add(delta)
    return fold.message()


async def asked(door: Model, request: ModelRequest | None = None) -> tuple[AssistantMessage, list[Delta]]:
    request = request or ModelRequest([UserMessage("hi")])
    try:
        async with aclosing(door.stream(request)) as stream:  # type: ignore[type-var]
            deltas = [delta async for delta in stream]
    finally:
        await door.aclose()
    return folded(deltas, request.tools), deltas


def thinking_of(message: AssistantMessage) -> str:
    return "".join(block.thinking for block in message.content if isinstance(block, ThinkingBlock))


def streamed(deltas: Sequence[Delta]) -> str:
    """What a reader of the stream has seen."""
    return "".join(d.text if isinstance(d, TextDelta) else getattr(d, "thinking", "") for d in deltas)


# --- the pieces


@given(units_of_text)
def test_whole_is_what_utf_16_says(pieces: list[str]) -> None:
    text = "".join(pieces)
    reference = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert whole(text) == reference
    assert whole(reference) == reference and not has_lone_half(reference)
    assert has_lone_half(text) == (joined(text) != reference)
    assert mended({text: [text, {"x": text}, 1]}) == {reference: [reference, {"x": reference}, 1]}


@given(units_of_text)
def test_pieces_make_what_the_text_makes(pieces: list[str]) -> None:
    shown, held = [], ""
    for piece in pieces:
        text, held = fed(held, piece)
        text.encode()
        shown.append(text)
    assert "".join(shown) + whole(held) == whole("".join(pieces))


# --- what a server streams


@given(texts, st.data())
def test_any_cut_gives_the_text_that_the_whole_gives(text: str, data: st.DataObject) -> None:
    all_units = units(text)
    places = sorted(data.draw(st.sets(st.integers(0, len(all_units)), max_size=6)))
    pieces = ["".join(all_units[a:b]) for a, b in zip([0, *places], [*places, len(all_units)], strict=True)]
    for name in ("content", "reasoning_content"):
        if text:
            one, _ = read(said([text], name))
            cut, deltas = read(said(pieces, name))
            assert (text_of(cut), thinking_of(cut)) == (text_of(one), thinking_of(one))
            streamed(deltas).encode()
    arguments = json.dumps({"text": text}, ensure_ascii=False)
    middle = len('{"text": "')
    cut, _ = read(called([arguments[:middle], *pieces_of_json(pieces), '"}']))
    (call,) = cut.tool_calls
    assert isinstance(call, ToolUseBlock) and call.input == {"text": text}


def pieces_of_json(pieces: Sequence[str]) -> list[str]:
    return [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces]


async def test_both_doors_join_halves(door: Model, server: LoopbackServer) -> None:
    server.reply(CHAT, sse(said(units(TEXT))))
    message, deltas = await asked(door)
    assert text_of(message) == TEXT == streamed(deltas)
    server.reply(CHAT, sse([*said(units(TEXT), "reasoning_content")[:-1], *said(["ok"])]))
    message, deltas = await asked(door)
    assert thinking_of(message) == TEXT and streamed(deltas) == TEXT + "ok"
    server.reply(CHAT, sse(called(['{"text": "', *units(TEXT), '"}'])))
    message, _ = await asked(door, ModelRequest([UserMessage("hi")], (TOOL,)))
    assert [getattr(call, "input", call) for call in message.tool_calls] == [{"text": TEXT}]


async def test_a_lone_half_is_one_sign_in_its_place(door: Model, server: LoopbackServer) -> None:
    for pieces, text in (
        (["a" + LONE, " b"], "a\ufffd b"),  # the next piece is ASCII
        ([LONE], "\ufffd"),  # nothing else is said
        (["a", "\ude00b"], "a\ufffdb"),
        (["x" + LONE, LONE + "\ude00", "y" + LONE], "x\ufffd😀y\ufffd"),
    ):
        server.reply(CHAT, sse(said(pieces)))
        message, deltas = await asked(door)
        assert text_of(message) == text == streamed(deltas)
        server.reply(CHAT, sse([*said(pieces, "reasoning_content")[:-1], *said(["ok"])]))
        message, deltas = await asked(door)
        assert thinking_of(message) == text
        assert "".join(d.thinking for d in deltas if isinstance(d, ThinkingDelta)) == text


async def test_whatever_else_a_server_tells_is_whole(door: Model, server: LoopbackServer) -> None:
    events = [chunk({"content": "ok"}, model=f"m{LONE}"), *called(['{"text": "x"}'], f"no{LONE}x", f"c{LONE}1")]
    server.reply(CHAT, sse(events))
    message, _ = await asked(door, ModelRequest([UserMessage("hi")], (TOOL,)))
    (call,) = message.tool_calls
    assert (message.model, call.name, call.id) == ("m\ufffd", "no\ufffdx", "c\ufffd1")
    repr(message).encode()


async def test_a_call_whose_arguments_lack_half_a_character_is_not_run(door: Model, server: LoopbackServer) -> None:
    request = ModelRequest([UserMessage("hi")], (TOOL,))
    for text in (LONE, "\\ud83d"):  # as a unit of the event, and escaped in the arguments' own JSON
        server.reply(CHAT, sse(called([f'{{"text": "a{text}', ' b"}'])))
        message, _ = await asked(door, request)
        (call,) = message.tool_calls
        assert isinstance(call, ToolUseError) and "half of a character is missing" in call.error
        repr(call).encode()


def test_arguments_that_come_as_an_object_are_judged_alike() -> None:
    first = {"index": 0, "id": "c1", "function": {"name": "note", "arguments": {"text": f"a{LONE}"}}}
    (call,) = read([chunk({"tool_calls": [first]}), chunk({}, "tool_calls")])[0].tool_calls
    assert isinstance(call, ToolUseError) and "half of a character is missing" in call.error


@pytest.mark.parametrize("door", ["direct", "litellm"], indirect=True)
async def test_a_whole_answer_is_whole_text(door: Model, server: LoopbackServer) -> None:
    server.reply(CHAT, body({**chat_completion(f"a{LONE}b"), "model": f"m{LONE}"}))
    message, deltas = await asked(door)
    assert text_of(message) == "a\ufffdb" == streamed(deltas)
    message.model.encode()


async def test_an_error_is_whole_text(door: Model, server: LoopbackServer) -> None:
    server.reply(CHAT, body({"error": {"message": f"bad {LONE} word"}}, 400))
    with pytest.raises(ProviderError) as caught:
        await asked(door)
    assert "bad \ufffd word" in str(caught.value)
    server.reply(CHAT, sse([json.dumps({"error": {"message": f"bad {LONE} word"}})]))
    with pytest.raises(ProviderError) as caught:
        await asked(door)
    str(caught.value).encode()


async def test_names_of_models_are_whole_text(server: LoopbackServer) -> None:
    server.reply("/v1/models", body({"object": "list", "data": [{"id": f"m{LONE}", "object": "model"}]}))
    found = await probe(server.base_url)
    assert found is not None and [model.id for model in found.models] == ["m\ufffd"]


# --- what is sent


async def test_both_doors_send_the_replacement_sign(door: Model, server: LoopbackServer) -> None:
    tool = ToolSpec("note", f"Keeps {LONE}", {"type": "object", "properties": {"text": {"description": LONE}}})
    history = [
        UserMessage(f"a{LONE}b 😀"),
        AssistantMessage((ToolUseBlock("c", "note", {f"k{LONE}": [LONE, "\ud83d\ude00"]}),)),
        UserMessage("go on"),
    ]
    server.reply(CHAT, sse(said(["ok"])))
    await asked(door, ModelRequest(history, (tool,), params={"stop": [f"end{LONE}"]}))
    sent = server.requests[-1].json
    assert sent["messages"][0]["content"] == "a\ufffdb 😀"
    arguments = json.loads(sent["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert arguments == {"k\ufffd": ["\ufffd", "😀"]}
    assert sent["tools"][0]["function"]["description"] == "Keeps \ufffd" and sent["stop"] == ["end\ufffd"]
    json.dumps(sent, ensure_ascii=False).encode()


@pytest.mark.parametrize("door", ["direct", "litellm"])
async def test_texts_for_vectors_are_whole(door: Any, server: LoopbackServer) -> None:
    server.reply("/v1/embeddings", {"object": "list", "data": [{"index": 0, "embedding": [1.0]}], "model": "m"})
    embed = Embeddings("m", base_url=server.base_url, provider="vllm", door=door)
    assert await embed([f"a{LONE}"]) == [[1.0]]
    assert server.requests[-1].json["input"] == ["a\ufffd"]


# --- for the user


async def test_an_answer_can_be_printed_and_kept(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply(CHAT, sse(said(["a\ud83d", "\ude00b and more"])))
    path = tmp_path / "talks.db"
    async with Agent("m", base_url=server.base_url, memory_db_path=path) as agent:
        response = await agent.create_session("s").query(f"hi {LONE}")
        print(response)
    assert capsys.readouterr().out == "a😀b and more\n"
    async with Agent("m", base_url=server.base_url, memory_db_path=path) as agent:
        session = await agent.resume("s")
        assert [message["content"] for message in session.history] == ["hi \ufffd", "a😀b and more"]
