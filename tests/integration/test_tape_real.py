"""A run with a real llama.cpp server, recorded and played back: the same events, and the server is not asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.llama import LlamaServer

from any_agent import Agent
from any_agent.models.tape import Tape
from any_agent.types import AssistantMessage, AttemptFailed, Event, ResultMessage, Timings


def timeless(event: Event) -> Event:
    if isinstance(event, AssistantMessage):
        return replace(event, attempt=None)
    if isinstance(event, AttemptFailed):
        return replace(event, attempt=replace(event.attempt, duration_s=0.0, first_token_s=None))
    if not isinstance(event, ResultMessage):
        return event
    attempts = tuple(replace(one, duration_s=0.0, first_token_s=None) for one in event.attempts)
    return replace(event, timings=Timings(), attempts=attempts)


async def events_of(prompts: Sequence[str], **fields: Any) -> list[Event]:
    async with Agent(enable_memory=False, keep_calibration=False, max_tokens=24, **fields) as agent:
        session = agent.create_session("s")
        return [timeless(event) for prompt in prompts async for event in session.stream(prompt)]


async def test_a_conversation_is_played_back(llama: LlamaServer, tmp_path: Path) -> None:
    tape = str(tmp_path / "tape.jsonl")
    prompts = (
        "Once upon a time",
        "and then " * 80,
        "so it was " * 70,
        "in the end " * 60,
    )  # long enough that the window is asked for
    place = {"model": "tiny", "base_url": llama.base_url}
    recorded = await events_of(prompts, record=tape, **place)
    assert [event.subtype for event in recorded if isinstance(event, ResultMessage)] == ["success"] * 4
    text = Path(tape).read_text()
    assert '"kind":"served_window"' in text
    played = Tape(tape)
    gone = {"model": "tiny", "base_url": llama.base_url.replace("127.0.0.1", "127.0.0.2")}
    replayed = await events_of(prompts, replay=played, **gone)
    assert played.unplayed_calls == 0

    assert repr(replayed).replace("127.0.0.2", "127.0.0.1") == repr(recorded), "the address is the only difference"
