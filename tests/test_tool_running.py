"""One tool runs: tries, time, cancellation, processes, cache, context, and what the model reads."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from any_agent.errors import ToolExecutionError, ToolUnavailableError
from any_agent.tools import CancelSignal, Tool, ToolContext, ToolResult, tool
from any_agent.tools.processes import ProcessResult
from any_agent.tools.registry import ResultCache
from any_agent.tools.running import Outcome, run_tool, shortened
from any_agent.types import ToolProgress

PYTHON = sys.executable


async def run(one: Tool, **arguments: Any) -> Outcome:
    return await run_tool(one, arguments)


async def until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < timeout_s, "it never came true"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # a zombie is dead
        return stat.read().rpartition(")")[2].split()[0] != "Z"


# ------------------------------------------------------------------ tries


def failing(times: int, error: Exception, **traits: Any) -> tuple[Tool, list[int]]:
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return "done"

    return Tool("flaky", handler=flaky, retry_delay_s=0, **traits), tries


async def test_a_tool_is_tried_again_only_if_it_says_so() -> None:
    one, tries = failing(2, OSError("busy"))
    assert await run(one) == Outcome("Error: OSError: busy", True) and len(tries) == 1
    one, tries = failing(2, OSError("busy"), retries=2)
    assert (await run(one)).content == "done" and len(tries) == 3
    one, tries = failing(9, OSError("busy"), retries=2)
    assert await run(one) == Outcome("Error: OSError: busy (tried 3 times)", True) and len(tries) == 3


async def test_what_runs_once_is_tried_again_only_if_nothing_was_done() -> None:
    one, tries = failing(1, OSError("busy"), retries=2, effect="once")
    assert (await run(one)).is_error and len(tries) == 1
    one, tries = failing(1, ToolUnavailableError("no line"), retries=2, effect="once")
    assert (await run(one)).content == "done" and len(tries) == 2


async def test_a_refused_result_and_a_timeout_are_failures_to_try_again() -> None:
    said: list[ToolResult] = [ToolResult(False, error="closed"), ToolResult(True, "open")]

    @tool(retries=1, retry_delay_s=0)
    def door() -> ToolResult:
        return said.pop(0)

    assert (await run(door)).content == "open"
    waits = [5.0, 0.0]

    @tool(retries=1, retry_delay_s=0, timeout=0.05)
    async def slow() -> str:
        await asyncio.sleep(waits.pop(0))
        return "at last"

    assert (await run(slow)).content == "at last"


# ------------------------------------------------------------------ whatever the tool does


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [SystemExit(3), Odd("odd"), asyncio.CancelledError(), StopIteration(1), TimeoutError()]
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_nothing_a_tool_raises_ends_the_run(error: BaseException, kind: str) -> None:
    async def later() -> None:
        raise error

    def now() -> None:
        raise error

    outcome = await run(Tool("bad", handler=later if kind == "async" else now))
    assert outcome.is_error and outcome.content.startswith("Error: ")


async def test_a_thread_cannot_end_the_program() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    assert "KeyboardInterrupt" in (await run(Tool("stop", handler=stop))).content


async def test_a_tool_that_will_not_end_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    is_free = asyncio.Event()

    async def stubborn() -> None:
        while not is_free.is_set():
            try:
                await is_free.wait()
            except asyncio.CancelledError:
                continue

    one = Tool("stubborn", handler=stubborn, timeout=0.05)
    one.grace_s = 0.1  # type: ignore[attr-defined]
    outcome = await run_tool(one, {})
    assert "took longer than 0.05 s" in outcome.content
    assert "left behind" in caplog.text
    is_free.set()
    await asyncio.sleep(0)


async def test_a_blocking_tool_neither_holds_up_the_run_nor_the_end_of_the_program() -> None:
    code = (
        "import asyncio, time\n"
        "from any_agent.tools import Tool\n"
        "from any_agent.tools.running import run_tool\n"
        "one = Tool('sleeps', handler=lambda: time.sleep(60), timeout=0.05)\n"
        "print(asyncio.run(run_tool(one, {})).content)\n"
    )
    started = time.monotonic()
    done = await ToolContext().run_process([PYTHON, "-c", code], timeout_s=20)
    assert done.stdout == "Error: sleeps took longer than 0.05 s\n", done
    assert time.monotonic() - started < 20 and done.exit_code == 0


# ------------------------------------------------------------------ cancellation


async def test_the_tool_hears_that_it_should_stop() -> None:
    heard = threading.Event()

    @tool(timeout=0.05)
    def waits(context: ToolContext) -> None:
        context.cancelled.wait_blocking(10)
        heard.set()

    @tool
    async def tidies(context: ToolContext) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            assert context.cancelled.is_set() and context.cancelled
            heard.set()

    assert "took longer" in (await run(waits)).content
    await until(heard.is_set)
    heard.clear()
    task = asyncio.ensure_future(run(tidies))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard.is_set()


async def test_cancel_signal() -> None:
    signal_ = CancelSignal()
    called: list[int] = []
    forget = signal_.on_set(lambda: called.append(1))
    forget()
    signal_.on_set(lambda: called.append(2))
    assert not signal_.wait_blocking(0.001)
    waiting = asyncio.ensure_future(signal_.wait())
    await asyncio.sleep(0)
    threading.Thread(target=signal_.set).start()
    assert await waiting is True
    signal_.set()
    signal_.on_set(lambda: called.append(3))
    assert called == [2, 3] and await signal_.wait() and signal_.wait_blocking(0)


SPAWNS = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"


@pytest.mark.parametrize("how", ["timeout", "interrupt", "inner timeout"])
async def test_child_processes_die_with_the_call(how: str, clock: Callable[[float], float], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = SPAWNS.replace("print(p.pid, flush=True)", f"open({str(pids)!r}, 'w').write(f'{{p.pid}}\\n')")

    async def build(context: ToolContext) -> str:
        work = context.run_process([PYTHON, "-c", code])
        return (await (asyncio.wait_for(work, clock(0.5)) if how == "inner timeout" else work)).stdout

    one = Tool("build", handler=build, timeout=clock(0.5) if how == "timeout" else None)
    task = asyncio.ensure_future(run(one))
    await until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    pid = int(pids.read_text())
    assert is_alive(pid)
    if how == "interrupt":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        assert (await task).is_error
    await until(lambda: not is_alive(pid))


async def test_a_process_that_refuses_to_go_is_killed(clock: Callable[[float], float]) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    started = time.monotonic()
    done = await ToolContext().run_process([PYTHON, "-c", code], timeout_s=clock(0.5))
    assert (done.exit_code, done.stdout, done.is_timed_out, done.is_stopped) == (-signal.SIGKILL, "up\n", True, False)
    assert time.monotonic() - started < clock(10)


async def test_a_process_is_run_to_its_end(tmp_path: Path) -> None:
    context = ToolContext(cwd=tmp_path)
    done = await context.run_process("pwd; cat; echo oops >&2; exit 3", input="in ü")
    assert done == ProcessResult(3, f"{tmp_path}\nin ü", "oops\n")
    assert context.run_process_blocking(["sh", "-c", "echo $A"], env={"A": "b"}).stdout == "b\n"
    with pytest.raises(FileNotFoundError):
        await context.run_process(["no-such-program"])
    long = await context.run_process([PYTHON, "-c", "print('a' * 5000 + 'z' * 5000)"], max_output_bytes=100)
    assert long.is_cut and long.stdout.startswith("a" * 50) and long.stdout.endswith("z" * 49 + "\n")
    assert "9901 bytes left out" in long.stdout


async def test_what_a_command_leaves_running_ends_with_it() -> None:
    started = time.monotonic()
    done = await ToolContext().run_process("sleep 60 & echo $!")
    pid = int(done.stdout)
    assert time.monotonic() - started < 5, "the pipe was held open"
    await until(lambda: not is_alive(pid))


# ------------------------------------------------------------------ context


async def test_the_context_tells_and_stays_out_of_the_schema(tmp_path: Path) -> None:
    told: list[ToolProgress] = []

    @tool
    def build(target: str, context: ToolContext | None = None) -> list[Any]:
        assert context is not None
        context.progress("begun")
        context.progress("half", 0.5)
        context.progress("too much", 7)
        return [target, context.session_id, str(context.cwd), context.tool_use_id, context.idempotency_key]

    assert list(build.parameters["properties"]) == ["target"]
    given = lambda: ToolContext("build", "s", tmp_path, "c1", told.append)  # noqa: E731
    outcome = await run_tool(build, {"target": "all"}, given)
    assert outcome.data == ["all", "s", str(tmp_path), "c1", "s:c1"]
    await until(lambda: len(told) == 3)
    assert told == [
        ToolProgress("c1", "build", "begun"),
        ToolProgress("c1", "build", "half", 0.5),
        ToolProgress("c1", "build", "too much", 1.0),
    ]
    by_hand = await build.execute({"target": "x"})
    assert by_hand[1:] == ["", os.getcwd(), "", ":"]


# ------------------------------------------------------------------ cache


async def test_results_of_pure_tools_are_kept_for_a_while() -> None:
    runs: list[Any] = []

    async def look(x: float, deep: dict[str, int] | None = None) -> list[Any]:
        runs.append(x)
        return [x]

    one, cache = Tool("look", handler=look, cache_ttl=30), ResultCache()

    async def ask(**arguments: Any) -> Outcome:
        return await run_tool(one, arguments, cache=cache)

    first = await ask(x=1, deep={"a": 1, "b": 2})
    first.data.append("changed by somebody")
    second = await ask(deep={"b": 2, "a": 1}, x=1.0)
    assert second.data == [1] and runs == [1]
    await ask(x=2)
    assert runs == [1, 2]
    short = Tool("look", handler=look, cache_ttl=0.01)
    await run_tool(short, {"x": 9}, cache=cache)
    await asyncio.sleep(0.02)
    await run_tool(short, {"x": 9}, cache=cache)
    assert runs == [1, 2, 9, 9]


async def test_failures_are_not_kept_and_a_context_is_part_of_the_key() -> None:
    one, tries = failing(1, OSError("busy"), cache_ttl=30)
    cache = ResultCache()
    assert (await run_tool(one, {}, cache=cache)).is_error
    assert (await run_tool(one, {}, cache=cache)).content == "done" and len(tries) == 2

    @tool(cache_ttl=30)
    def who(context: ToolContext) -> str:
        return context.session_id

    for session_id in ("a", "b", "a"):
        assert (await run_tool(who, {}, lambda s=session_id: ToolContext("who", s), cache=cache)).content == session_id


def test_the_cache_does_not_grow_for_ever() -> None:
    cache = ResultCache()
    for n in range(ResultCache.MOST + 10):
        cache.put(n, n, 60)
    assert cache.get(0) is None and cache.get(ResultCache.MOST) == ResultCache.MOST and len(cache._kept) == cache.MOST


# ------------------------------------------------------------------ what the model reads


async def test_long_results_are_shortened_and_kept_whole_in_the_data() -> None:
    text = "".join(f"line {n}\n" for n in range(2000))
    one = Tool("log", handler=lambda: text, max_result_tokens=100)
    outcome = await run_tool(one, {}, max_result_tokens=5)
    assert outcome.data == text and 200 < len(outcome.content) < 600
    assert outcome.content.startswith("line 0\n") and outcome.content.endswith("line 1999\n")
    assert f"of {len(text)} characters left out" in outcome.content
    assert len((await run_tool(Tool("log", handler=lambda: text), {}, max_result_tokens=30)).content) < 250
    assert (await run(Tool("log", handler=lambda: text))).content == text
    assert shortened("日本語" * 1000, 100) != shortened("日本語", 100) == "日本語"


async def test_a_result_may_hand_out_tools_and_end_the_run() -> None:
    @tool
    def inner() -> str:
        return "in"

    def plain() -> str:
        return "p"

    @tool
    def unlock() -> ToolResult:
        return ToolResult(True, "unlocked", tools=(inner, plain))

    @tool(ends_run=True)
    def finish() -> str:
        return "the end"

    outcome = await run(unlock)
    assert [t.name for t in outcome.new_tools] == ["inner", "plain"] and not outcome.ends_run
    assert outcome.content == "unlocked\nNew tools: inner, plain"
    assert (await run(finish)).ends_run
    assert not (await run(Tool("f", handler=lambda: ToolResult(True, 1, ends_run=False), ends_run=True))).ends_run
    with pytest.raises(ToolExecutionError, match="closed"):
        await Tool("f", handler=lambda: ToolResult(False, error="closed")).run({})
