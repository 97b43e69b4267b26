"""Runs the victim, kills it, and judges what is left: nothing acknowledged is lost, no once-tool ran twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from any_agent.memory import MemoryStore, message_of
from any_agent.types import AssistantMessage, Message, ToolMessage, UserMessage, text_of

from .victim import SESSION

ROOT = Path(__file__).parents[2]


@dataclass
class Verdict:
    """What a killed and finished session shows. `faults` must be empty."""

    faults: list[str] = field(default_factory=list)
    acknowledged: int = 0
    once_calls: int = 0
    unknown: int = 0
    unknown_that_happened: int = 0
    runs: int = 0


def start(*arguments: object) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", "crash.victim", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(*arguments: object) -> str:
    """What it printed; it ends well and says nothing on stderr."""
    process = start(*arguments)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 0 and said == b"", said.decode()
    return printed.decode()


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def judge(store: Path, log: Path, prompts: int) -> Verdict:
    notes = read(log)
    messages, problems = asyncio.run(_stored(store))
    verdict = Verdict(acknowledged=sum("acked" in n for n in notes), runs=sum("finished" in n for n in notes))
    verdict.faults += [f"integrity: {problem}" for problem in problems]
    verdict.faults += malformed(messages)
    said = [text_of(m) for m in messages if isinstance(m, AssistantMessage)]
    results = {b.tool_use_id: b for m in messages if isinstance(m, ToolMessage) for b in m.content}
    for note in notes:
        if note.get("acked") in ("assistant", "result") and note["text"] not in said:
            verdict.faults.append(f"lost: {note}")
        if note.get("acked") == "tool" and getattr(results.get(note["call"]), "content", None) != note["content"]:
            verdict.faults.append(f"lost: {note}")
    ran = Counter(note["key"] for note in notes if note.get("ran") == "once")
    verdict.faults += [f"once, but ran {times} times: {key}" for key, times in ran.items() if times > 1]
    users = [text_of(m) for m in messages if isinstance(m, UserMessage)]
    if users != [f"p{i}" for i in range(prompts)]:
        verdict.faults.append(f"prompts: {users}")
    for i in range(prompts):
        for name, kind in (("look", "pure"), ("put", "idempotent"), ("pay", "once")):
            key = f"p{i}-{name}"
            content = getattr(results.get(key), "content", "")
            has_run = any(n.get("key") == key for n in notes)
            if kind == "once":
                verdict.once_calls += 1
                if "unknown" in str(content):
                    verdict.unknown += 1
                    verdict.unknown_that_happened += has_run
                    continue
            if content != f"{kind} {key} done" or not has_run:
                verdict.faults.append(f"{key}: {content!r}, has run: {has_run}")
    return verdict


def malformed(messages: list[Message]) -> list[str]:
    """Every call has exactly one result, in the next message, in order."""
    faults = []
    for place, message in enumerate(messages):
        following = messages[place + 1] if place + 1 < len(messages) else None
        if isinstance(message, AssistantMessage) and message.tool_calls:
            answers = [b.tool_use_id for b in following.content] if isinstance(following, ToolMessage) else []  # type: ignore[union-attr]
            if answers != [call.id for call in message.tool_calls]:
                faults.append(f"message {place}: calls without their results: {answers}")
        if isinstance(message, ToolMessage) and not (place and isinstance(messages[place - 1], AssistantMessage)):
            faults.append(f"message {place}: results without calls")
        if isinstance(message, UserMessage) and isinstance(following, UserMessage):
            faults.append(f"message {place}: no answer")
    return faults


async def _stored(path: Path) -> tuple[list[Message], list[str]]:
    async with MemoryStore(str(path)) as store:
        rows = await store.load(SESSION, kinds=("message",))
        seqs = [row["seq"] for row in rows]
        problems = list(await store.integrity_check())
        if seqs != sorted(set(seqs)):
            problems.append(f"sequence: {seqs}")
        return [message_of(row) for row in rows], problems
