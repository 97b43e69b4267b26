"""Results as tools of the Claude Agent SDK and of MCP give them: texts, failures, images."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from any_agent import Agent, HookMatcher, ToolCompleted, ToolResultBlock, tool
from any_agent.testing import ScriptedModel
from any_agent.tools.registry import ResultCache
from any_agent.tools.running import render, run_tool


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


BASE64 = "iVBORw0KGgo" + "A" * 83_285  # 61 KB
IMAGE = {"type": "image", "data": BASE64, "mimeType": "image/png"}


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ({"content": [text("a")]}, "a"),
        ({"content": [text("a"), text("b")], "is_error": False}, "a\nb"),
        ({"content": [text("a")], "isError": False, "structuredContent": {"x": 1}, "_meta": {}}, "a"),
        ({"content": [], "structuredContent": {"x": 1}}, '{"x": 1}'),
        ({"content": [], "is_error": False}, "(done; no output)"),
        ({"content": [text("see"), IMAGE]}, "see\n[image image/png, 61 KB]"),
        (
            {"content": [{"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lG"}}]},
            "[image image/gif, 3 bytes]",
        ),
        (
            {"content": [{"type": "image", "source": {"type": "url", "url": "http://a/b.png"}}]},
            "[image http://a/b.png]",
        ),
        ({"content": [{"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}]}, "[audio audio/wav, 3 bytes]"),
        ({"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "all of it"}}]}, "all of it"),
        (
            {"content": [{"type": "resource", "resource": {"uri": "file:///a", "blob": "AAAA"}}]},
            "[resource file:///a, 3 bytes]",
        ),
        ({"content": [{"type": "resource_link", "uri": "file:///a", "name": "a"}]}, "[resource_link file:///a]"),
    ],
)
def test_blocks_are_read_as_text(data: Any, read: str) -> None:
    assert render(data) == read


@pytest.mark.parametrize(
    "data",
    [
        {"content": "text"},
        {"content": []},
        {"content": ["a"]},
        {"content": [{"type": "paragraph", "text": "a"}]},
        {"content": [{"type": "text", "text": 7}]},
        {"content": [{"text": "a"}]},
        {"content": [text("a"), {"type": "image"}]},
        {"content": [text("a")], "title": "T"},
        {"content": None, "is_error": True},
        {"is_error": True},
    ],
)
async def test_a_dict_that_only_has_such_a_key_stays_json(data: Any) -> None:
    assert render(data).startswith("{") and render(data) != render(str(data))

    @tool
    def fetch() -> Any:
        return data

    outcome = await run_tool(fetch, {})
    assert (outcome.is_error, outcome.data) == (False, data)


@pytest.mark.parametrize("word", ["is_error", "isError"])
async def test_a_failure_is_one_for_model_hooks_and_events(word: str) -> None:
    @tool("fetch", "Fetches", {"url": str})
    async def fetch(args: dict[str, Any]) -> Any:
        return {"content": [text("404 not found")], word: "missing" in args["url"]}

    seen: list[str] = []

    async def failed(input_data: Any, tool_use_id: Any, context: Any) -> None:
        seen.append(input_data["error"])

    calls = [{"name": "fetch", "input": {"url": url}} for url in ("missing", "there")]
    model = ScriptedModel([calls, "ok"])
    hooks = {"PostToolUseFailure": [HookMatcher(hooks=[failed])]}
    agent = Agent(model, tools=[fetch], hooks=hooks, enable_memory=False)
    done = {e.result.is_error: e async for e in agent.stream("go") if isinstance(e, ToolCompleted)}
    results = [b for b in model.requests[1].messages[-1].content if isinstance(b, ToolResultBlock)]
    assert [(b.content, b.is_error) for b in results] == [("Error: 404 not found", True), ("404 not found", False)]
    assert seen == ["Error: 404 not found"]
    assert done[False].data == {"content": [text("404 not found")], word: False}  # whole, for programs


async def test_a_failure_is_tried_again_and_not_cached() -> None:
    said = [{"content": [], "is_error": True}, {"content": [text("busy")], "is_error": True}, {"content": [text("ok")]}]

    @tool(effect="pure", retries=1, retry_delay_s=0.001, cache_ttl=60)
    def fetch() -> Any:
        return said.pop(0)

    cache = ResultCache()
    assert (await run_tool(fetch, {}, cache=cache)).content == "Error: busy (tried 2 times)"
    assert [(await run_tool(fetch, {}, cache=cache)).content for _ in range(2)] == ["ok", "ok"]


class CallResult(BaseModel):
    """Shaped as MCP's own class."""

    meta: dict[str, Any] | None = Field(alias="_meta", default=None)
    content: list[dict[str, Any]]
    structuredContent: dict[str, Any] | None = None
    isError: bool = False


async def test_objects_of_mcp_are_read_alike() -> None:
    @tool
    def fetch(fails: bool) -> Any:
        return CallResult(content=[text("a"), {**IMAGE, "annotations": None}], isError=fails)

    assert (await run_tool(fetch, {"fails": False})).content == "a\n[image image/png, 61 KB]"
    failed = await run_tool(fetch, {"fails": True})
    assert failed.is_error and failed.content == "Error: a\n[image image/png, 61 KB]"


async def test_an_odd_object_is_told_once_and_not_run_again() -> None:
    runs: list[int] = []

    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    @tool(retries=2, retry_delay_s=0.001)
    def fetch() -> Any:
        runs.append(1)
        return Odd()

    outcome = await run_tool(fetch, {})
    assert outcome.is_error and "cannot be told" in outcome.content and runs == [1]
