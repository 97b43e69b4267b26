"""A program that is killed: one session, some prompts, three kinds of tools. What it acknowledges goes to a log outside.

`python -m crash.victim STORE LOG PROMPTS`: goes on where the last run was killed, until PROMPTS prompts are answered.
`python -m crash.victim FOLDER PROMPTS`: one life for each commit point, killed there and gone on with (see `at_every_point`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from any_agent import Agent, tool
from any_agent.errors import SessionNotFoundError
from any_agent.testing import ScriptedModel
from any_agent.types import AssistantMessage, ModelRequest, ResultMessage, ToolCompleted, UserMessage, text_of

SESSION = "crash"


def note(log: str, **what: Any) -> None:
    """One line, on disk before anything else happens: O_APPEND writes of one line are whole."""
    line = (json.dumps(what) + "\n").encode()
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)


def make_agent(store: str, log: str) -> Agent:
    def effect(kind: str, key: str) -> str:
        note(log, ran=kind, key=key)
        return f"{kind} {key} done"

    @tool(effect="pure")
    async def look(key: str) -> str:
        """Look."""
        return effect("pure", key)

    @tool(effect="idempotent")
    async def put(key: str) -> str:
        """Put."""
        return effect("idempotent", key)

    @tool(effect="once")
    async def pay(key: str) -> str:
        """Pay."""
        return effect("once", key)

    def answer(request: ModelRequest) -> Any:
        """Three calls after a prompt, then text: a model without any memory of its own."""
        prompts = [text_of(m) for m in request.messages if isinstance(m, UserMessage)]
        if isinstance(request.messages[-1], UserMessage):
            place = prompts[-1]
            names = ("look", "put", "pay")
            return [{"name": n, "input": {"key": f"{place}-{n}"}, "id": f"{place}-{n}"} for n in names]
        return f"answer to {prompts[-1]}"

    model = ScriptedModel([answer] * 10_000)
    return Agent(model, tools=[look, put, pay], memory_db_path=store, parallel_tool_calls=False)


async def main(store: str, log: str, prompts: int) -> None:
    async with make_agent(store, log) as agent:
        try:
            session = await agent.resume(SESSION)
        except SessionNotFoundError:
            session = agent.create_session(SESSION)
        if session.is_unfinished:
            await talk(session, "", log)
        while (said := sum(isinstance(m, UserMessage) for m in session.messages)) < prompts:
            await talk(session, f"p{said}", log)
    note(log, finished=True)


async def talk(session: Any, prompt: str, log: str) -> None:
    async for event in session.stream(prompt):
        if isinstance(event, AssistantMessage):
            note(log, acked="assistant", text=text_of(event), calls=[call.id for call in event.tool_calls])
        elif isinstance(event, ToolCompleted):
            note(log, acked="tool", call=event.result.tool_use_id, content=event.result.content)
        elif isinstance(event, ResultMessage):
            if event.error is not None:
                raise event.error
            note(log, acked="result", text=event.result)


def forked(place: str, prompts: int, kill_at: int) -> int:
    """The exit code (−9: killed) of a life in a process of its own, which need not import everything anew."""
    child = os.fork()
    if child == 0:
        if kill_at:
            os.environ["ANY_AGENT_KILL_AT"] = str(kill_at)
        asyncio.run(main(os.path.join(place, "m.db"), os.path.join(place, "log"), prompts))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_every_point(folder: str, prompts: int) -> None:
    """In `at1`, `at2`, … a life is killed at that side of a commit and gone on with; the last one nobody killed."""
    asyncio.run(main(os.path.join(folder, "m.db"), os.path.join(folder, "log"), prompts))  # imports everything
    for point in range(1, 200):
        place = os.path.join(folder, f"at{point}")
        os.mkdir(place)
        code = forked(place, prompts, point)
        print(code, forked(place, prompts, 0) if code else 0, flush=True)
        if code == 0:
            return


if __name__ == "__main__":
    if len(sys.argv) == 3:
        at_every_point(sys.argv[1], int(sys.argv[2]))
    else:
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
