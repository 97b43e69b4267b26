"""What keeping a conversation costs: MemoryStore against raw sqlite3 with the same durability, a kept turn against one
that is not kept, search in 100,000 rows, and the memory of 1,000 open sessions.

    python benchmarks/memory.py [--json FILE] [--rows N] [--rounds N]

The exit status is 1 when a gate is broken. Times are medians; every commit takes turns with the baseline's, so that
a busy machine slows both. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from gates import Gate, broken_gates
from own_home import own_home

from any_agent import Agent, AgentSession
from any_agent.memory import MemoryStore
from any_agent.types import Delta, ModelRequest, StreamEnd, TextDelta, Usage

COMMIT_X_RAW = 2.0
SEARCH_P50_MS = 10.0
FREQUENT_P50_MS = 10.0
TURN_CPU_MS = 1.0
SESSION_KB = 60.0
SESSIONS = 1_000
SESSION_TURNS = 5
TURNS = 50  # in a round
COMMITS = 60  # in a round
PAYLOAD = "The quick brown fox jumps over the lazy dog. " * 45  # 2 KB
QUERIES = (  # what people ask, by how many rows hold its words
    "{rare}",
    "{rare} {middle}",
    "what did we say about {middle} and {rare}?",
    "{middle}",
    "{middle} {middle2}",
    "{frequent} {rare}",
    "{rare} {rare2} {rare3}",
    "how do I use the {middle} of {middle2}",
)
FREQUENT = ("{frequent}", "{frequent} {frequent2}", "{frequent} {frequent2} {frequent3}", "{frequent} {middle}")


class Raw:
    """sqlite3 in the caller's thread: what nobody can be faster than without keeping less."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        for line in ("journal_mode = WAL", "synchronous = FULL"):
            self.db.execute(f"PRAGMA {line}")
        self.db.execute("CREATE TABLE said (id INTEGER PRIMARY KEY, session_id TEXT, seq INTEGER, content TEXT)")
        self.db.execute("CREATE INDEX said_by_seq ON said (session_id, seq)")

    async def commit(self, seq: int) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("INSERT INTO said (session_id, seq, content) VALUES (?, ?, ?)", ("s", seq, PAYLOAD))
        self.db.execute("COMMIT")


class RawSearchable(Raw):
    """The same with the text in a full-text index, which the store keeps as well."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.db.execute("CREATE VIRTUAL TABLE words USING fts5 (text, content = 'said', content_rowid = 'id')")

    async def commit(self, seq: int) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        row = self.db.execute("INSERT INTO said (session_id, seq, content) VALUES (?, ?, ?)", ("s", seq, PAYLOAD))
        self.db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row.lastrowid, PAYLOAD))
        self.db.execute("COMMIT")


def message(role: str, text: str) -> dict[str, Any]:
    return {"kind": "message", "role": role, "content": text}


Ways = dict[str, Callable[[int], Awaitable[Any]]]


async def one_round(ways: Ways, start: int) -> dict[str, dict[str, float]]:
    """Median wall and mean CPU milliseconds of one call by each way, one call after another in turns; CPU of all threads."""
    walls: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, 0.0)
    for number in range(start, start + COMMITS):
        for name, work in ways.items():
            cpu_began, began = time.process_time(), time.perf_counter()
            await work(number)
            walls[name].append(time.perf_counter() - began)
            cpu[name] += time.process_time() - cpu_began
    return {
        name: {"wall_ms": statistics.median(walls[name]) * 1e3, "cpu_ms": cpu[name] / COMMITS * 1e3} for name in ways
    }


async def commits(folder: Path, rounds: int) -> dict[str, Any]:
    """One commit of a 2 KB message, by each way, in turns."""
    raw, searchable = Raw(folder / "raw.db"), RawSearchable(folder / "searchable.db")
    async with (
        MemoryStore(folder / "store.db") as store,
        MemoryStore(folder / "process.db", durability="process") as process,
    ):
        synced: Ways = {
            "raw sqlite3": raw.commit,
            "raw sqlite3 with FTS": searchable.commit,
            "MemoryStore": lambda number: store.append("s", [message("user", PAYLOAD)]),
        }
        unsynced: Ways = {
            'MemoryStore, durability="process"': lambda number: process.append("s", [message("user", PAYLOAD)]),
        }
        # The first round warms up.
        found = [await one_round(synced, number * COMMITS) for number in range(rounds + 1)][1:]
        # Apart: a sync would write down what these have left to the system.
        more = [await one_round(unsynced, number * COMMITS) for number in range(rounds + 1)][1:]
        began = time.perf_counter()
        await asyncio.gather(*[store.append(f"s{place % 100}", [message("user", PAYLOAD)]) for place in range(2000)])
        at_once = 2000 / (time.perf_counter() - began)
    raw.db.close()
    searchable.db.close()
    medians = {
        name: {what: statistics.median([one[name][what] for one in rows]) for what in ("wall_ms", "cpu_ms")}
        for rows in (found, more)
        for name in rows[0]
    }
    ratios = [one["MemoryStore"]["wall_ms"] / one["raw sqlite3"]["wall_ms"] for one in found]
    return {"ways": medians, "x_raw": statistics.median(ratios), "at_once_per_s": at_once}


def vocabulary(count: int = 20_000) -> tuple[list[str], list[float]]:
    """Made-up words, and how often each and those before it are said (Zipf's law)."""
    chance = random.Random(7)
    letters = "bcdfghklmnprstvz"
    words = [
        "".join(chance.choice(letters) + chance.choice("aeiou") for _ in range(chance.randint(2, 4)))
        for _ in range(count)
    ]
    return words, list(accumulate(1 / (place + 10) for place in range(count)))


async def search(folder: Path, rows: int) -> dict[str, Any]:
    """Median and 95th percentile of a search in so many messages of 60 words."""
    words, weights = vocabulary()
    chance = random.Random(11)
    async with MemoryStore(folder / "search.db", durability="process") as store:
        began = time.perf_counter()
        for start in range(0, rows, 1000):
            texts = [" ".join(chance.choices(words, cum_weights=weights, k=60)) for _ in range(min(1000, rows - start))]
            await store.append(f"s{start // 1000}", [message("user", text) for text in texts])
        loaded_s = time.perf_counter() - began
        kinds = {"frequent": words[:20], "middle": words[200:2000], "rare": words[4000:]}
        walls: dict[str, list[float]] = {query: [] for query in (*QUERIES, *FREQUENT)}
        for _ in range(12):
            for query in walls:
                asked = query.format(
                    **{f"{kind}{n}": chance.choice(some) for kind, some in kinds.items() for n in ("", "2", "3")}
                )
                began = time.perf_counter()
                await store.search(asked, 5)
                walls[query].append((time.perf_counter() - began) * 1e3)
        in_session = []
        for place in range(30):
            began = time.perf_counter()
            await store.search(chance.choice(words[200:2000]), 5, session_id=f"s{place}")
            in_session.append((time.perf_counter() - began) * 1e3)
        size_mb = (await store.stats())["size_bytes"] / 1e6
    every = sorted(ms for some in walls.values() for ms in some)
    return {
        "rows": rows,
        "frequent_p50_ms": statistics.median([ms for query in FREQUENT for ms in walls[query]]),
        "p50_ms": statistics.median(every),
        "p95_ms": every[int(len(every) * 0.95)],
        "by_query_ms": {query: statistics.median(ms) for query, ms in walls.items()},
        "in_one_session_p50_ms": statistics.median(in_session),
        "load_s": loaded_s,
        "size_mb": size_mb,
    }


class Slow:
    """A Model that says half of its answer, and the rest when it may."""

    name = "slow"

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.open = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        yield TextDelta(PAYLOAD[:600])
        self.open += 1
        await self.may_end.wait()
        self.open -= 1
        yield StreamEnd("stop", usage=Usage(900, 120))

    async def aclose(self) -> None:
        """Nothing is held."""


async def turns(folder: Path, rounds: int) -> dict[str, float]:
    """CPU milliseconds of a turn of a session, all threads: not kept, and what keeping it adds, by durability.

    The whole of it, as a caller has it: the session is taken, the question, the answer with its ledger row and the result
    are committed, the session is given back. The agents take turns, so that a busy machine slows all.
    """
    async with (
        MemoryStore(folder / "power_turns.db") as power,
        MemoryStore(folder / "process_turns.db", durability="process") as process,
        Agent(Slow(), enable_memory=False) as unkept,
        Agent(Slow(), store=power) as to_power,
        Agent(Slow(), store=process) as to_process,
    ):
        found: dict[str, list[float]] = {"unkept": [], "process": [], "power": []}
        for number in range(rounds + 1):
            for name, agent in zip(found, (unkept, to_process, to_power), strict=True):
                async with agent.create_session() as session:
                    await session.query("warm")
                    began = time.process_time()
                    for place in range(TURNS):
                        await session.query(f"question {number} {place} {PAYLOAD[:200]}")
                    found[name].append((time.process_time() - began) / TURNS * 1e3)
    plain = found.pop("unkept")[1:]  # the first round warms up
    added = {name: [all_ms - ms for all_ms, ms in zip(some[1:], plain, strict=True)] for name, some in found.items()}
    return {"unkept": statistics.median(plain), **{name: statistics.median(some) for name, some in added.items()}}


def resident_kb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


async def open_sessions(folder: Path) -> dict[str, float]:
    """What an open session takes that has said `SESSION_TURNS` times 800 characters, and what one in mid-answer takes."""
    model = Slow()
    async with Agent(model, memory_db_path=str(folder / "open.db")) as agent:

        async def talk(number: int) -> AgentSession:
            session = agent.create_session()
            for turn in range(SESSION_TURNS):
                await session.query(f"question {number} {turn} {PAYLOAD[:200]}")
            return session

        sessions = list(await asyncio.gather(*[talk(number) for number in range(100)]))  # warm
        began = resident_kb()
        for start in range(0, SESSIONS, 100):
            sessions += await asyncio.gather(*[talk(start + number) for number in range(100)])
        idle_kb = (resident_kb() - began) / SESSIONS
        model.may_end.clear()
        began = resident_kb()
        asked = [asyncio.create_task(session.query("and now?")) for session in sessions[-SESSIONS:]]
        while model.open < SESSIONS:
            await asyncio.sleep(0.01)
        answering_kb = (resident_kb() - began) / SESSIONS
        model.may_end.set()
        await asyncio.gather(*asked)
    return {"idle_kb": idle_kb, "answering_kb": idle_kb + answering_kb}


async def measure(rows: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        found["sessions"] = await open_sessions(folder)  # first: memory that others gave back would hide its own
        found["commits"] = await commits(folder, rounds)
        found["turns"] = await turns(folder, rounds)
        found["search"] = await search(folder, rows)
    found["gates"] = [
        {"what": gate.what, "found": gate.found, "most": gate.most, "holds": gate.holds}
        for gate in (
            Gate("commit of a message, x raw sqlite3 of the same durability", found["commits"]["x_raw"], COMMIT_X_RAW),
            Gate(f"search in {rows:,} rows, p50 ms", found["search"]["p50_ms"], SEARCH_P50_MS),
            Gate("of it, questions of frequent words, p50 ms", found["search"]["frequent_p50_ms"], FREQUENT_P50_MS),
            Gate("what keeping adds to a turn, CPU ms", found["turns"]["process"], TURN_CPU_MS),
            Gate(f"an open session of {SESSIONS:,}, KB", found["sessions"]["idle_kb"], SESSION_KB),
            Gate("one in mid-answer, KB", found["sessions"]["answering_kb"], SESSION_KB),
        )
    ]
    return found


def report(found: dict[str, Any]) -> str:
    lines = [
        f"Python {found['python']}, SQLite {found['sqlite']}",
        "",
        "one commit, 2 KB message      wall ms   CPU ms",
    ]
    for name, one in found["commits"]["ways"].items():
        lines.append(f"{name:34} {one['wall_ms']:6.3f}  {one['cpu_ms']:6.3f}")
    lines.append(f"100 sessions at once: {found['commits']['at_once_per_s']:,.0f} commits acknowledged per second")
    told = found["turns"]
    lines.append(
        f"CPU of a turn that is not kept: {told['unkept']:.2f} ms; keeping it adds {told['process']:.2f} ms "
        f'(durability="process"), {told["power"]:.2f} ms with the work of syncing ("power")'
    )
    some, kept = found["search"], found["sessions"]
    lines.append(
        f"an open session of {SESSIONS:,}: {kept['idle_kb']:.0f} KB; in mid-answer {kept['answering_kb']:.0f} KB"
    )
    lines += ["", f"search in {some['rows']:,} messages ({some['size_mb']:.0f} MB, loaded in {some['load_s']:.0f} s)"]
    lines += [f"{query:44} {ms:6.2f} ms" for query, ms in some["by_query_ms"].items()]
    lines.append(f"{'one word, within one session':44} {some['in_one_session_p50_ms']:6.2f} ms")
    lines.append(f"all: p50 {some['p50_ms']:.2f} ms, p95 {some['p95_ms']:.2f} ms")
    lines.append("")
    for gate in found["gates"]:
        state = "ok" if gate["holds"] else "BROKEN"
        lines.append(f"{gate['what']:60} {gate['found']:8.2f} (at most {gate['most']:g})  {state}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the raw numbers there")
    parser.add_argument("--rows", type=int, default=100_000, help="messages to search in (default: 100,000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of commits (default: 7)")
    chosen = parser.parse_args()
    os.environ["ANY_AGENT_HOME"] = own_home()
    found = asyncio.run(measure(chosen.rows, max(1, chosen.rounds)))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report(found))
    return 1 if broken_gates(found["gates"]) else 0


if __name__ == "__main__":
    sys.exit(main())
