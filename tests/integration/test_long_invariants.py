"""The recording proxy passes every byte, and the checker of invariants finds what it is there for."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import aiohttp
import pytest
from support.invariants import Spoken, figures, violations
from support.recording_proxy import Chat, RecordingProxy

from any_agent.testing import LoopbackServer, WireReply, chat_chunks, error, sse, token_usage

Wire = dict[str, Any]
SYSTEM = {"role": "system", "content": "Be brief."}
TOOLS = [{"type": "function", "function": {"name": "tide", "description": "", "parameters": {}}}]


def call(number: int) -> list[Wire]:
    function = {"name": "tide", "arguments": "{}"}
    asked = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}],
    }
    return [asked, {"role": "tool", "tool_call_id": f"c{number}", "content": "high water at nine " * 20}]


HISTORY: list[Wire] = [
    {"role": "user", "content": "q0"}, *call(0), {"role": "assistant", "content": "a0"},
    {"role": "user", "content": "q1"}, *call(1), {"role": "assistant", "content": "a1"},
    {"role": "user", "content": "q2"},
]  # fmt: skip
SPOKEN = Spoken(["q0", "q1", "q2"], HISTORY)


def chat(messages: list[Wire], *, tools: Any = TOOLS, prompt_tokens: int = 50) -> Chat:
    body: Wire = {"model": "m", "messages": messages, "stream": True}
    if tools is not None:
        body["tools"] = tools
    answer = b"".join(sse(chat_chunks(["fine"], usage=token_usage(prompt_tokens, 1, 7))))
    return Chat("/v1/chat/completions", json.dumps(body).encode(), 200, answer)


def talk() -> list[Chat]:
    """Three turns, nothing left out."""
    return [chat([SYSTEM, *HISTORY[:1]]), chat([SYSTEM, *HISTORY[:5]]), chat([SYSTEM, *HISTORY])]


def test_a_sound_conversation_has_no_violations() -> None:
    assert violations(talk(), SPOKEN, 100) == []
    trimmed = [*talk()[:2], chat([SYSTEM, *HISTORY[4:]])]
    assert violations(trimmed, Spoken(SPOKEN.prompts, HISTORY, frozenset({2})), 100) == []
    short = copy.deepcopy(HISTORY)
    short[2]["content"] = "high water\n[… 300 of 380 characters left out …]\nat nine "
    assert violations([*talk()[:2], chat([SYSTEM, *short])], Spoken(SPOKEN.prompts, HISTORY, frozenset({2})), 100) == []


def broken(change: str) -> list[Chat]:
    """A conversation whose last call is wrong in one way."""
    said: list[Wire] = copy.deepcopy([SYSTEM, *HISTORY])
    tools, tokens = TOOLS, 50
    match change:
        case "too long":
            tokens = 101
        case "system prompt changed":
            said[0]["content"] += " "
        case "no system prompt":
            del said[0]
        case "tools changed":
            tools = [{**TOOLS[0], "x": 1}]
        case "no tools":
            tools = None
        case "result lost":
            del said[3]
        case "call lost":
            del said[2]
        case "id twice":
            said[6]["tool_calls"][0]["id"] = said[7]["tool_call_id"] = "c0"
        case "order":
            said[1:5], said[5:9] = said[5:9], said[1:5]
        case "two users":
            del said[8]
        case "assistant first":
            del said[1]
        case "assistant last":
            said.append({"role": "assistant", "content": "a2"})
        case "last user lost":
            said = said[:8]
        case "something invented":
            said[4]["content"] = "a9"
        case "result changed":
            said[3]["content"] = "low water"
        case "left out without a word":
            del said[1:5]
    return [*talk()[:2], chat(said, tools=tools, prompt_tokens=tokens)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("too long", "101 prompt tokens in a window of 100"),
        ("system prompt changed", "the system prompt has changed"),
        ("no system prompt", "the first message is of role user"),
        ("tools changed", "the tools have changed"),
        ("no tools", "the tools have changed"),
        ("result lost", "no result for ['c0']"),
        ("call lost", "the result of c0 where no call is open"),
        ("id twice", "ids used twice: ['c0']"),
        ("order", "this was not said at this place"),
        ("two users", "of role user after tool"),
        ("assistant first", "of role calls after system"),
        ("assistant last", "the last message is of role assistant"),
        ("last user lost", "the last call belongs to turn 1 of 3"),
        ("something invented", "this was not said at this place"),
        ("result changed", "this was not said at this place"),
        ("left out without a word", "something was left out in turn 2 without an event"),
    ],
)
def test_each_violation_is_found(change: str, found: str) -> None:
    out = violations(broken(change), SPOKEN, 100)
    assert any(found in line for line in out), out


def test_a_turn_that_was_never_asked_is_found() -> None:
    assert violations(talk()[:2], SPOKEN, 100) == ["the last call belongs to turn 1 of 3"]
    assert any("not that of turn" in line for line in violations([talk()[0], talk()[2]], SPOKEN, 100))


def test_summaries_are_let_pass_only_where_they_are_expected() -> None:
    asked = chat(
        [{"role": "system", "content": "Summarize the conversation below"}, {"role": "user", "content": "…"}],
        tools=None,
    )
    chats = [*talk()[:2], asked, talk()[2]]
    assert violations(chats, SPOKEN, 100, has_summaries=True) == []
    assert violations(chats, SPOKEN, 100) != []


def test_figures() -> None:
    found = figures([*talk(), chat([SYSTEM, *HISTORY[4:]])])
    assert (found.calls, found.trims, found.refused, found.prompt_tokens, found.cached_tokens) == (4, 1, 0, 200, 28)


# ------------------------------------------------------------------ the proxy


async def post(url: str, body: bytes) -> tuple[int, bytes]:
    async with aiohttp.ClientSession(trust_env=False) as session, session.post(url, data=body) as response:
        return response.status, await response.read()


async def test_bytes_pass_unchanged_and_are_recorded() -> None:
    stream = sse(chat_chunks(["é", "🐟", "end"], usage=token_usage(30, 3)), comments=["ping"])
    body = b'{ "messages": [ {"role":"user","content":"hi\\u00e9 [,]"} , {"role":"user","content":"2"} ],"model":"m"}'
    with LoopbackServer() as server, RecordingProxy(server.root_url) as proxy:
        server.reply(
            "/v1/chat/completions",
            WireReply(stream, headers={"Content-Type": "text/event-stream"}),
            WireReply(stream, headers={"Content-Type": "text/event-stream"}, framing="close"),
            error(400, "too long"),
        )
        server.reply("/props", {"n_ctx": 5})
        answers = [await post(f"{proxy.base_url}/chat/completions", body) for _ in range(3)]
        await post(f"{proxy.root_url}/props", b"")
        assert [request.body for request in server.requests[:3]] == [body] * 3
        chats, paths = proxy.chats, proxy.paths
    assert answers[0] == answers[1] == (200, b"".join(stream))
    assert [(c.status, c.answer) for c in chats] == answers
    assert [c.prompt_tokens for c in chats] == [30, 30, 0]
    assert [c.error for c in chats] == [None, None, "too long"]
    assert chats[0].raw_messages == ['{"role":"user","content":"hi\\u00e9 [,]"}', '{"role":"user","content":"2"}']
    assert chats[0].parts["model"] == '"m"' and paths == ["POST /props"]


async def test_a_client_that_leaves_is_felt_behind_the_proxy() -> None:
    with LoopbackServer() as server, RecordingProxy(server.root_url) as proxy:
        server.reply("/v1/chat/completions", WireReply([b"data: {}\n\n"], stall=True))
        async with aiohttp.ClientSession() as session:
            response = await session.post(f"{proxy.base_url}/chat/completions", data=b"{}")
            await response.content.readany()
            response.close()
            assert await server.client_left() == 1


async def test_nobody_behind_the_proxy() -> None:
    with LoopbackServer() as server:
        gone = server.root_url
    with RecordingProxy(gone) as proxy:
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(post(f"{proxy.base_url}/chat/completions", b"{}"), 5)
        assert proxy.chats == []
