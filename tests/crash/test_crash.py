"""SIGKILL at every commit point and at random times: acknowledged but lost 0, once-tools run twice 0, malformed 0."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from any_agent.durability.journal import UNKNOWN

from .judge import Verdict, judge, read, run, start

PROMPTS = 2


def finish(store: Path, log: Path, prompts: int) -> Verdict:
    run(store, log, prompts)
    return judge(store, log, prompts)


def test_nobody_is_killed(tmp_path: Path) -> None:
    verdict = finish(tmp_path / "m.db", tmp_path / "log", PROMPTS)
    assert verdict.faults == [] and verdict.unknown == 0 and verdict.acknowledged == PROMPTS * 6


def test_killed_at_every_commit_point(tmp_path: Path) -> None:
    codes = [tuple(map(int, line.split())) for line in run(tmp_path, 1).splitlines()]
    assert codes == [(-9, 0)] * (len(codes) - 1) + [(0, 0)]
    points = len(codes) - 1
    assert points >= 12  # user, answer, three results, a start, an answer, the end: before and after
    verdicts = [judge(tmp_path / f"at{n}" / "m.db", tmp_path / f"at{n}" / "log", 1) for n in range(1, points + 1)]
    assert [verdict.faults for verdict in verdicts] == [[]] * points
    unknown = sum(verdict.unknown for verdict in verdicts)
    assert 0 < unknown < points // 2
    print(f"{points} commit points; outcome unknown at {unknown}: {UNKNOWN[:15]}")


def kills(folder: Path, count: int, seed: int, prompts: int = 6) -> tuple[int, Verdict, int]:
    """So many kills at random times, at most four per session; then the session is finished and judged."""
    chance = random.Random(seed)
    killed, sessions, total = 0, 0, Verdict()
    while killed < count:
        place = folder / f"session{sessions}"
        place.mkdir()
        store, log = place / "m.db", place / "log"
        sessions += 1
        for _ in range(4):
            process = start(store, log, prompts)
            before = len(read(log))
            deadline = time.monotonic() + 20
            while process.poll() is None and len(read(log)) == before and time.monotonic() < deadline:
                time.sleep(0.002)  # another process: nothing to await
            time.sleep(chance.random() * 0.05)
            process.kill()
            process.communicate()
            killed += process.returncode == -9
        verdict = finish(store, log, prompts)
        assert verdict.faults == [], (seed, sessions)
        total.acknowledged += verdict.acknowledged
        total.once_calls += verdict.once_calls
        total.unknown += verdict.unknown
        total.unknown_that_happened += verdict.unknown_that_happened
    return killed, total, sessions


def test_killed_at_random_times(tmp_path: Path) -> None:
    killed, total, _ = kills(tmp_path, 4, seed=1)
    assert killed >= 4 and total.acknowledged > 0


@pytest.mark.slow
def test_killed_a_thousand_times(tmp_path: Path) -> None:
    killed, total, sessions = kills(tmp_path, 1000, seed=2)
    print(
        f"\n{killed} kills, {sessions} sessions, {total.acknowledged} acknowledged items: lost 0, malformed 0; "
        f"{total.once_calls} once-calls: run twice 0, unknown {total.unknown}, "
        f"of these had happened {total.unknown_that_happened}"
    )
