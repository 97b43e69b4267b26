"""llama.cpp's own HTTP server as a child process on a free loopback port.

Run as a script this file is that child: it serves until its standard input closes, so it never outlives the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running server. A context manager: leaving it ends the child.

    Attributes:
        root_url: Without a path, for `/health`, `/props`, `/slots`; `base_url` is the OpenAI-compatible one.
        slot_ctx: Window of one slot in tokens; one byte of text is one token.
        started_in_s: From the start of the child to its first readiness.
    """

    root_url: str
    slot_ctx: int
    started_in_s: float
    child: subprocess.Popen[bytes]
    api_key: str | None = None
    model: str = "tiny"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def headers(self) -> dict[str, str]:
        """The headers a client with the right key sends."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def slots_busy(self) -> int:
        """How many slots are generating now."""
        return sum(slot["is_processing"] for slot in json.loads(self._get("/slots")))

    def metrics(self) -> dict[str, float]:
        """The server's counters, as `tokens_predicted_total`; they are totals since its start."""
        lines = [line.split() for line in self._get("/metrics").decode().splitlines() if line.startswith("llamacpp:")]
        return {name.removeprefix("llamacpp:"): float(value) for name, value in lines}

    async def until_idle(self, timeout_s: float = 5.0) -> float:
        """Wait until no slot is generating; returns how long that took.

        Raises:
            TimeoutError: A slot is still busy.
        """
        started = time.monotonic()
        while busy := self.slots_busy():
            if time.monotonic() - started > timeout_s:
                raise TimeoutError(f"{busy} slots still busy after {timeout_s} s")
            await asyncio.sleep(0.005)
        return time.monotonic() - started

    def close(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        try:
            self.child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()

    def __enter__(self) -> LlamaServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(self.root_url + path, headers=self.headers)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=5) as response:
            body: bytes = response.read()
        return body


def start_llama(
    model_path: Path, *, slot_ctx: int = 2048, slots: int = 2, api_key: str | None = None, port: int = 0
) -> LlamaServer:
    """Start the server and wait until it answers; its log goes to a file beside the model.

    Args:
        port: to come back where an earlier one was; 0: a free one.

    Raises:
        RuntimeError: It did not start; the message ends with its log.
    """
    log_path = model_path.with_suffix(".log")
    command = [sys.executable, __file__, str(model_path), f"--ctx={slot_ctx * slots}", f"--slots={slots}"]
    command.append(f"--port={port}")
    if api_key:
        command.append(f"--api-key={api_key}")
    started = time.monotonic()
    with log_path.open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0)
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], 30)
    root_url = child.stdout.readline().decode().strip() if ready else ""
    server = LlamaServer(root_url, slot_ctx, time.monotonic() - started, child, api_key)
    if not root_url:
        server.close()
        raise RuntimeError(f"llama.cpp did not start:\n{log_path.read_text(errors='replace')[-2000:]}")
    return server


@contextlib.contextmanager
def cold_llama(model_path: Path, *, ctx: int) -> Iterator[str]:
    """The base URL of a server that is only being started: it refuses connections, then says 503, then answers.

    Args:
        ctx: Window in tokens. The warm-up run over it makes the load long: about 0.6 s for 262 144.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, str(model_path), f"--ctx={ctx}", "--slots=1", f"--port={port}", "--warmup"]
    with model_path.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0)
    with LlamaServer(f"http://127.0.0.1:{port}", ctx, 0.0, child) as server:
        yield server.base_url


def _serve(arguments: Any) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.n_ctx = arguments.ctx
    params.n_parallel = arguments.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 8
    params.cache_ram_mib = 64
    params.endpoint_metrics = True
    params.warmup = arguments.warmup
    params.ui = params.fit_params = params.kv_unified = False
    params.verbosity = 1
    if arguments.api_key:
        params.api_keys = [arguments.api_key]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    os._exit(0)  # while the server still lives: its orderly shutdown sometimes hangs


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--ctx", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--warmup", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    _serve(parser.parse_args())
