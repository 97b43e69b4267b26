"""Subagents on a real llama.cpp server: the server's grammar makes the call of `task`, its own counters are the ledger's."""

from __future__ import annotations

import asyncio

import pytest
from support.llama import LlamaServer

from any_agent import Agent, SubagentStartEvent, SubagentStopEvent, ToolMessage, ToolProgress, tool
from any_agent.errors import InterruptedRunError
from any_agent.types import ToolUseBlock

pytestmark = pytest.mark.real
DOORS = ["direct", "litellm"]


@tool
async def go(x: str) -> str:
    """Go."""
    return f"ok {x}"


def agent_for(server: LlamaServer, door: str = "direct", **more: object) -> Agent:
    given = {"temperature": 0.0, "seed": 1, "max_tokens": 300, "max_retries": 0, **more}
    name = "tiny" if door == "direct" else "openai/tiny"
    return Agent(name, base_url=server.base_url, api_key="none", door=door, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("door", DOORS)
async def test_the_model_gives_a_task_and_hears_the_answer(llama_tools: LlamaServer, door: str) -> None:
    starts: list[SubagentStartEvent] = []
    stops: list[SubagentStopEvent] = []
    agents = {name: {"description": f"Does {name}.", "prompt": "You go.", "tools": [go]} for name in ("one", "two")}
    hooks = {"SubagentStart": [starts.append], "SubagentStop": [stops.append]}
    before = llama_tools.metrics()
    async with agent_for(llama_tools, door, agents=agents, hooks=hooks) as agent:
        session = agent.create_session()
        events = [event async for event in session.stream("Go!")]
        answer, spent = session.result, await session.usage()
        below = await agent.list_sessions(parent_session_id=session.session_id)
    assert answer is not None and answer.error is None and answer.result
    (call,) = [c for m in session.messages for c in getattr(m, "tool_calls", ()) if isinstance(c, ToolUseBlock)]
    assert call.name == "task" and call.input["subagent"] in agents
    (told,) = [m for m in session.messages if isinstance(m, ToolMessage)]
    if not str(call.input["prompt"]).strip():
        pytest.fail("the model gave an empty task: another seed is needed")
    assert [one.prompt for one in starts] == [call.input["prompt"]] and starts[0].agent_type == call.input["subagent"]
    assert stops[0].result and told.content[0].as_text() == stops[0].result  # type: ignore[union-attr]
    assert [event.message for event in events if isinstance(event, ToolProgress)] == [f"{starts[0].agent_type}: go"]
    assert [row["session_id"] for row in below] == [starts[0].agent_id]
    after = llama_tools.metrics()
    assert spent.calls == 4 and spent.failed_calls == 0
    assert spent.output_tokens == after["tokens_predicted_total"] - before["tokens_predicted_total"]


async def test_an_interrupt_frees_the_slots(llama_tools: LlamaServer, llama_endless: LlamaServer) -> None:
    model = {"model": "tiny", "base_url": llama_endless.base_url, "api_key": "none"}
    agents = {"talker": {"description": "Talks.", "prompt": "Talk.", "model": model, "tools": []}}
    async with agent_for(llama_tools, agents=agents, max_tokens=None) as agent:
        session = agent.create_session()
        running = asyncio.ensure_future(session.query("Go!"))
        for _ in range(3000):
            if llama_endless.slots_busy() or running.done():
                break
            await asyncio.sleep(0.01)
        assert llama_endless.slots_busy()
        await session.interrupt()
        with pytest.raises(InterruptedRunError):
            await running
        assert await llama_endless.until_idle(10) < 10
        assert await session.query("Still there?", agents=())
