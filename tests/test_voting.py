"""Several answers, and the majority of their calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from any_agent.errors import ProviderError, ServerError
from any_agent.models.streaming import Fold
from any_agent.models.voting import VotingModel
from any_agent.testing import LoopbackServer, ScriptedModel
from any_agent.types import (
    AssistantMessage,
    Attempt,
    ModelRequest,
    StreamEnd,
    ToolSpec,
    ToolUseBlock,
    Usage,
    UserMessage,
)

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TOOLS = (ToolSpec("add", "Add", SCHEMA), ToolSpec("sub", "Subtract", SCHEMA))


def call(name: str = "add", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "input": arguments}


async def vote(replies: list[Any], n: int = 3, **how: Any) -> tuple[AssistantMessage, ScriptedModel]:
    model, fold = ScriptedModel(replies), Fold()
    request = ModelRequest([UserMessage("q")], **{"tools": TOOLS, **how})
    async for delta in VotingModel(model, n).stream(request):
        fold.add(delta)
    return fold.message(), model


def made(message: AssistantMessage) -> list[Any]:
    return [(c.name, c.input) if isinstance(c, ToolUseBlock) else c for c in message.tool_calls]


@pytest.mark.parametrize(
    ("replies", "elected", "asked"),
    [
        ([call(x=1), call(x=2), call(x=2)], [("add", {"x": 2})], 3),
        ([call(x=1), call(x=1.0), call(x=3)], [("add", {"x": 1})], 3),
        ([call(x="one"), call(x=2), call(x=2)], [("add", {"x": 2})], 3),
        ([call("nowhere", x=1), call("nowhere", x=1), call("nowhere", x=1)] * 2, [("nowhere", {"x": 1})], 6),
        ([call(x=1), call(x=2), call(x=3), call(x=3), call(x=3), call(x=3)], [("add", {"x": 3})], 6),
        ([call(x=1), call(x=2), call(x=3), call(x=4), call(x=5), call(x=6)], [("add", {"x": 1})], 6),
        ([call(x=1), call(x=2), call(x=3), call(x=2), call(x=5), call(x=6)], [("add", {"x": 2})], 6),
        (
            [[call(x=1), call("sub", x=2)], [call("sub", x=2), call(x=1)], call(x=1)],
            [("add", {"x": 1}), ("sub", {"x": 2})],
            3,
        ),
        (["text", call(x=1), call(x=1)], [("add", {"x": 1})], 3),
    ],
)
async def test_the_majority_decides(replies: list[Any], elected: list[Any], asked: int) -> None:
    message, model = await vote(replies)
    assert made(message) == elected and len(model.requests) == asked


async def test_when_most_call_nothing_the_first_text_counts() -> None:
    message, _ = await vote([call(x=1), "first text", "other text"])
    assert message.content[0].text == "first text" and not message.tool_calls  # type: ignore[union-attr]


async def test_everything_is_paid_and_tried() -> None:
    def reply(x: int) -> list[Any]:
        attempt = Attempt("m", None, 0.1)
        return [call(x=x), StreamEnd("m", "tool_calls", Usage(10, 2), cost_usd=0.5, attempts=(attempt,))]

    message, _ = await vote([reply(1), reply(2), reply(2)])
    assert made(message) == [("add", {"x": 2})]
    assert message.usage == Usage(30, 6) and message.cost_usd == 1.5 and message.finish_reason == "tool_calls"
    unknown, _ = await vote([[call(x=1), StreamEnd("m", "stop")], reply(1), reply(1)])
    assert unknown.usage == Usage(20, 4, is_estimated=True) and unknown.cost_usd is None


async def test_nothing_is_voted_on_without_tools() -> None:
    for how in ({"tools": ()}, {"tool_choice": "none"}):
        message, model = await vote(["text"], **how)
        assert message.content[0].text == "text" and len(model.requests) == 1  # type: ignore[union-attr]
    message, model = await vote([call(x=1)], n=1)
    assert made(message) == [("add", {"x": 1})] and len(model.requests) == 1


async def test_an_answer_that_fails_does_not_count() -> None:
    message, model = await vote([ServerError("down"), call(x=2), call(x=2)])
    assert made(message) == [("add", {"x": 2})] and len(model.requests) == 3
    with pytest.raises(ServerError, match="down 0"):
        await vote([ServerError(f"down {n}") for n in range(3)])


async def test_seeds_differ() -> None:
    _, model = await vote([call(x=1)] * 3, params={"seed": 7, "temperature": 0.5})
    assert [request.params["seed"] for request in model.requests] == [7, 8, 9]
    assert all(request.params["temperature"] == 0.5 for request in model.requests)


async def test_the_others_wait_for_the_first_and_then_run_together() -> None:
    running = most = 0
    first_has_begun = False

    class Counting(ScriptedModel):
        async def stream(self, request: ModelRequest) -> Any:
            nonlocal running, most, first_has_begun
            is_first = not self.requests
            assert is_first or first_has_begun, "it did not wait for the first answer"
            running += 1
            most = max(most, running)
            try:
                async for delta in super().stream(request):
                    first_has_begun = True
                    yield delta
                    await asyncio.sleep(0.001)
            finally:
                running -= 1

    async for _ in VotingModel(Counting(["some text that takes a while"] * 4), 4).stream(
        ModelRequest([UserMessage("q")], TOOLS)
    ):
        pass
    assert most == 4 and running == 0


async def test_leaving_closes_every_stream() -> None:
    model = ScriptedModel(["a long text"] * 3, delay_s=0.2)

    async def talk() -> None:
        async for _ in VotingModel(model, 3).stream(ModelRequest([UserMessage("q")], TOOLS)):
            pass

    task = asyncio.create_task(talk())
    while len(model.requests) < 3:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed_streams == 3


async def test_it_passes_for_a_model() -> None:
    model = VotingModel(ScriptedModel([ProviderError("no")], name="inner"), 3)
    assert model.name == "inner" and model.base_url is None
    await model.aclose()


async def test_counting_votes_fetches_nothing() -> None:
    with LoopbackServer() as server:
        server.reply("*", {"type": "integer"})
        schema = {"type": "object", "properties": {"a": {"$ref": f"{server.root_url}/a.json"}}}
        spec = ToolSpec("t", "d", schema)
        call = ToolUseBlock("c", "t", {"a": "x"})
        model = VotingModel(ScriptedModel([call] * 3), 3)
        deltas = [delta async for delta in model.stream(ModelRequest([UserMessage("q")], tools=(spec,)))]
        assert len(deltas) == 2 and server.requests == []
