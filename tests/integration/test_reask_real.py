"""The constrained re-ask where a real server enforces the schema: llama.cpp, behind a relay that breaks one call."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from support.llama import LlamaServer

from any_agent import Agent, AssistantMessage, CallReasked, ToolUseBlock, tool
from any_agent.models.capabilities import forget_servers, known_verdict
from any_agent.models.openai_wire import DirectModel
from any_agent.testing import LoopbackServer, WireCall, WireReply, WireRequest, chat_chunks, sse

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]
DOORS = ["direct", "litellm"]
BROKEN = '{"room": "kit'


def relayed(llama: LlamaServer, request: WireRequest) -> WireReply:
    """What llama.cpp answers to this very request."""
    asked = urllib.request.Request(
        f"{llama.root_url}{request.path}", data=request.body or None, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return WireReply((answer.read(),), answer.status, {"Content-Type": answer.headers["Content-Type"]})
    except urllib.error.HTTPError as refusal:
        return WireReply((refusal.read(),), refusal.code, {"Content-Type": "application/json"})


@pytest.fixture
def breaking(llama: LlamaServer) -> Iterator[Callable[[], LoopbackServer]]:
    """llama.cpp; once armed, its answer to a question with tools is a call whose arguments are broken."""
    is_armed = False

    def reply(request: WireRequest) -> Any:
        is_question = is_armed and request.method == "POST" and "tools" in request.json
        if is_question and not any(one["role"] == "tool" for one in request.json["messages"]):
            return sse(chat_chunks(tool_calls=[WireCall("set_light", BROKEN)]))
        return relayed(llama, request)

    with LoopbackServer() as server:
        server.reply("*", reply)

        def arm() -> LoopbackServer:
            nonlocal is_armed
            is_armed = True
            return server

        yield lambda: arm() if server.requests else server


@pytest.mark.parametrize("door", DOORS)
async def test_the_kept_verdict_leads_to_arguments_that_fit(door: str, breaking: Callable[[], LoopbackServer]) -> None:
    server, ran = breaking(), []
    forget_servers()

    @tool
    def set_light(room: Literal["kitchen", "hall"], on: bool) -> str:
        """Switch a light."""
        ran.append((room, on))
        return "done"

    name = "tiny" if door == "direct" else "openai/tiny"
    agent = Agent(name, base_url=server.base_url, api_key="none", door=door, tools=[set_light], max_tokens=60, seed=1)
    async with agent:
        asked = (
            DirectModel("tiny", server.base_url) if door == "direct" else agent.make_model(agent.route, agent.options)
        )
        verdict = await known_verdict(asked, may_probe=True)
        assert verdict is not None and verdict.enforces_schema
        await asked.aclose()
        breaking()
        events = [event async for event in agent.stream("Light!", max_tool_iterations=1)]
    (news,) = [event for event in events if isinstance(event, CallReasked)]
    said = next(event for event in events if isinstance(event, AssistantMessage))
    (call,) = said.tool_calls
    assert news.is_read and news.usage is not None and news.usage.output_tokens > 0
    assert isinstance(call, ToolUseBlock) and ran == [(call.input["room"], call.input["on"])]
    assert events[-1].subtype == "success", events[-1].error
