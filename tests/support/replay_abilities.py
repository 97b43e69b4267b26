"""How servers we cannot run in the tests meet the requests of a capability probe, replayed with an able model behind.

Sources: lmstudio-bug-tracker#670 (a named tool_choice is refused), #2115 ("required" brings text), #649 (calls come in
parts); ollama openai/openai.go (no tool_choice in its request), #11037 (a schema suppresses calls); vllm#39929 (so it
does there), chat_completion/serving.py; mlx_lm 0.32.2, measured. Where they say nothing the server is an able one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from any_agent.testing import LoopbackServer, WireCall, WireReply, WireRequest, chat_chunks, error, sse, token_usage
from any_agent.testing.wire_bytes import EVENT_STREAM
from support import replay_servers

CHAT = "/v1/chat/completions"
Wire = dict[str, Any]


@dataclass(frozen=True)
class Manners:
    """What a server makes of a request; its model does what it is asked and can.

    Attributes:
        tools: calls come native, as text, never (the template drops them), or the request is refused with `refusal`.
        beside: with tools and a schema both hold, or the one named wins.
        reasoning: a thought comes before each answer, in the field of this name.
    """

    tools: Literal["native", "text", "dropped", "refused"] = "native"
    refusal: str = ""
    required: Literal["obeyed", "ignored", "text"] = "obeyed"
    named: Literal["obeyed", "ignored", "refused"] = "obeyed"
    calls_are_whole: bool = False
    makes_parallel_calls: bool = True
    schema: Literal["enforced", "ignored", "refused"] = "enforced"
    beside: Literal["both", "schema", "tools"] = "both"
    takes_late_system: bool = True
    images: Literal["seen", "unseen", "refused"] = "refused"
    reasoning: str = ""


def speaks(server: LoopbackServer, manners: Manners) -> None:
    """Teach a server to answer chat requests in this way."""
    server.reply(CHAT, lambda request: _answer(manners, request.json))


def _answer(manners: Manners, asked: Wire) -> WireReply:
    messages, tools = asked["messages"], asked.get("tools") or []
    if tools and manners.tools == "refused":
        return error(400, manners.refusal, type="BadRequestError")
    if not manners.takes_late_system and any(one["role"] == "system" for one in messages[1:]):
        return error(500, "Error rendering prompt with jinja template: system message must be first")
    choice, wants_schema = asked.get("tool_choice"), asked.get("response_format") is not None
    if isinstance(choice, dict) and manners.named == "refused":
        said = "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"
        return WireReply((json.dumps({"error": said}).encode(),), 400, {"Content-Type": "application/json"})
    if wants_schema and manners.schema == "refused":
        return error(400, "response_format of type json_schema is not supported", type="invalid_request_error")
    if "image_url" in json.dumps(messages):
        return _image(manners)
    holds_schema = wants_schema and manners.schema == "enforced" and not (tools and manners.beside == "tools")
    calls = _calls(manners, messages, tools, choice)
    if calls and not (holds_schema and manners.beside == "schema"):
        is_text = manners.tools == "text" or (choice == "required" and manners.required == "text")
        return _says(manners, "", calls, as_text=is_text)
    if holds_schema:
        schema = asked["response_format"]["json_schema"]["schema"]
        return _says(manners, json.dumps({name: one["enum"][0] for name, one in schema["properties"].items()}))
    return _says(manners, _plain(messages))


def _calls(manners: Manners, messages: list[Wire], tools: list[Wire], choice: Any) -> list[WireCall]:
    names = [tool["function"]["name"] for tool in tools]
    last = messages[-1]
    if not names or last["role"] != "user" or manners.tools == "dropped":
        return []
    if isinstance(choice, dict) and manners.named == "obeyed":
        return [WireCall(choice["function"]["name"], '{"city": "Paris"}')]
    wanted = next((name for name in names if name in str(last["content"])), None)
    if wanted is None:
        is_forced = choice == "required" and manners.required != "ignored"
        return [WireCall(names[0], '{"city": "Paris"}')] if is_forced else []
    cities = re.findall(r"Paris|Rome", str(last["content"]))[: None if manners.makes_parallel_calls else 1]
    return [WireCall(wanted, f'{{"city": "{city}"}}', f"call_{n}", n) for n, city in enumerate(cities)]


def _image(manners: Manners) -> WireReply:
    if manners.images == "refused":
        return error(400, "this model does not support images", type="invalid_request_error")
    return _says(manners, "Red." if manners.images == "seen" else "I see no picture.")


def _plain(messages: list[Wire]) -> str:
    system = " ".join(str(one["content"]) for one in messages if one["role"] == "system")
    if found := re.search(r"with the word (\w+)", system):
        return found[1]
    return "It is sunny in Paris." if messages[-1]["role"] == "tool" else "Hello!"


def _says(manners: Manners, text: str, calls: list[WireCall] | None = None, *, as_text: bool = False) -> WireReply:
    calls = calls or []
    if as_text:
        text = "".join(
            f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n</tool_call>\n' for call in calls
        )
        calls = []
    elif not manners.calls_are_whole:
        calls = [WireCall(one.name, ["", *_pieces(str(one.arguments))], one.call_id, one.index) for one in calls]
    thought = {"reasoning": "Hm.", "reasoning_key": manners.reasoning} if manners.reasoning else {}
    chunks = chat_chunks(_pieces(text), tool_calls=calls, usage=token_usage(40, 9), **thought)
    return WireReply(sse(chunks), headers=EVENT_STREAM)


def _pieces(text: str) -> list[str]:
    return [text[start : start + 6] for start in range(0, len(text), 6)]


@dataclass(frozen=True)
class Replayed:
    """One server with one model, in the manners told by its sources."""

    title: str
    model: str
    sets_up: Callable[[LoopbackServer], None]
    manners: Manners


def _ollama(server: LoopbackServer) -> None:
    replay_servers.ollama(server, {"llama3.1:8b": 8192, "qwen3:latest": 16384})


def _mlx(server: LoopbackServer) -> None:
    server.reply("/v1/models", {"object": "list", "data": [{"id": "hf_toy", "object": "model"}]})


_VLLM_REFUSAL = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
REPLAYED = (
    Replayed(
        "LM Studio 0.4", "qwen/qwen3-8b",
        lambda server: replay_servers.lm_studio_with(server, "qwen/qwen3-8b", 8192),
        Manners(required="text", named="refused", beside="schema"),
    ),
    Replayed(
        "Ollama, a model with tools", "qwen3:latest", _ollama,
        Manners(required="ignored", named="ignored", calls_are_whole=True, beside="schema", reasoning="reasoning"),
    ),
    Replayed("vLLM with a tool parser", "tiny", replay_servers.vllm, Manners(beside="schema")),
    Replayed("vLLM without one", "tiny", replay_servers.vllm, Manners("refused", _VLLM_REFUSAL)),
    Replayed(
        "mlx_lm", "hf_toy", _mlx,
        Manners("text", required="ignored", named="ignored", schema="ignored", images="unseen"),
    ),
)  # fmt: skip


def chats(server: LoopbackServer) -> list[WireRequest]:
    """The model calls among what was asked."""
    return [request for request in server.requests if request.path == CHAT]
