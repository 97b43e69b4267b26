"""The processes of the benchmark: the model server, a worker per client, and fresh interpreters that import or ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from own_home import own_home

HERE = Path(__file__).resolve().parent
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}


def environment() -> dict[str, str]:
    """Ours, with compiled modules kept (a first import is measured, not a first compilation) and a home of its own."""
    left_out = {"PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, **QUIET, "PYTHONPATH": str(HERE.parent), "ANY_AGENT_HOME": own_home()}


class Child:
    """A process that answers lines with JSON lines; it ends when its standard input closes."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 (close() closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "always::ResourceWarning", str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=HERE,
            env=environment(),
        )

    def read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"{self._process.args} ended:\n{self.errors[-3000:]}")
        return line.strip()

    def ask(self, line: str = "") -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self.read_line())

    @property
    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def close(self) -> str:
        """End it; what it wrote to standard error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        errors = self.errors
        self._errors.close()
        return errors

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self.close()


class Worker(Child):
    """One client, ready to be measured."""

    def __init__(self, way: str, root_url: str) -> None:
        super().__init__("worker.py", way, root_url)
        self.way = way

    def do(self, job: str, **task: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask(json.dumps({"job": job, **task}))
        return answer


IMPORT = """
import os, sys
from time import process_time
def resident_mb():
    with open("/proc/self/statm") as memory:
        return int(memory.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
resident_mb()
modules, memory_mb, cpu_s = len(sys.modules), resident_mb(), process_time()
{statement}
cpu_s = process_time() - cpu_s
modules, memory_mb = len(sys.modules) - modules, resident_mb() - memory_mb
import json, threading
print(json.dumps({{"modules": modules, "mb": memory_mb, "cpu_s": cpu_s,
                  "threads": threading.active_count() - 1}}))
"""

FIRST_ANSWER = """
import sys
{statement}
import json, resource
cpu = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({{"cpu_s": cpu.ru_utime + cpu.ru_stime, "has_litellm": "litellm" in sys.modules,
                  "modules": len(sys.modules)}}))
"""

FIRST_QUESTIONS = {
    "aiohttp": """
import asyncio, json, aiohttp
async def ask():
    async with aiohttp.ClientSession() as session:
        body = json.dumps({{"model": "m", "messages": [{{"role": "user", "content": "one two three"}}]}})
        async with session.post("{url}/chat/completions", data=body) as response:
            return json.loads(await response.read())["choices"][0]["message"]["content"]
assert asyncio.run(ask()).split() == ["one", "two", "three"]
""",
    "openai": """
import openai
client = openai.OpenAI(base_url="{url}", api_key="k")
answer = client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "one two three"}}])
assert answer.choices[0].message.content.split() == ["one", "two", "three"]
""",
    "litellm": """
import asyncio, litellm
answer = asyncio.run(litellm.acompletion(
    "openai/m", messages=[{{"role": "user", "content": "one two three"}}], api_base="{url}", api_key="k"))
assert answer.choices[0].message.content.split() == ["one", "two", "three"]
""",
    "direct": """
from any_agent import Agent
assert Agent("m", base_url="{url}", door="direct").query_sync("one two three").split() == ["one", "two", "three"]
""",
}


def run_fresh(code: str) -> dict[str, Any]:
    """Run `code` in a new interpreter; the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=HERE, env=environment()
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "stderr": done.stderr}


def import_weight(statement: str) -> dict[str, Any]:
    """Modules, resident MB over bare Python and CPU seconds of an import; the leaner of two, compiled before."""
    runs = [run_fresh(IMPORT.format(statement=statement)) for _ in range(3)][1:]
    return {name: min(run[name] for run in runs) for name in ("modules", "mb", "cpu_s", "threads")}


def first_answer(way: str, url: str) -> dict[str, Any]:
    """From a new interpreter to its first answer: CPU seconds, modules, whether LiteLLM was loaded."""
    statement = FIRST_QUESTIONS[way].format(url=url)
    runs = [run_fresh(FIRST_ANSWER.format(statement=statement)) for _ in range(3)][1:]
    return min(runs, key=lambda run: float(run["cpu_s"]))
