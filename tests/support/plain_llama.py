"""A llama.cpp server whose model knows nothing of tools: a plain template, and no parser for calls in the answer.

Run as a script this file is that server; it serves until its standard input closes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from .llama import LlamaServer

# Tools that stand in the system prompt as text mark the prompt as the native ones would: the tiny model calls one then.
TEMPLATE = r"""
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- if '<tools>' in message.content -%}<|tools|>{{ message.content }}<|end|>{%- else -%}<|system|>{{ message.content }}<|end|>{%- endif -%}
{%- elif message.role == 'user' -%}
{%- if '<tool_response>' in message.content -%}<|tool|>{%- else -%}<|user|>{%- endif -%}{{ message.content }}<|end|>
{%- elif message.role == 'assistant' -%}
<|assistant|>{{ message.content }}<|end|>
{%- else -%}
{{ raise_exception('Only user, assistant and system roles are supported!') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
""".strip()


def start_plain_llama(model_path: Path, *, uses_jinja: bool = True, ctx: int = 4096) -> LlamaServer:
    """Start it; `uses_jinja=False` makes it refuse every request with tools.

    Raises:
        RuntimeError: It did not start; the message ends with its log.
    """
    log_path = model_path.with_suffix(".plain.log")
    command = [sys.executable, "-m", "support.plain_llama", str(model_path), f"--ctx={ctx}"]
    command += [] if uses_jinja else ["--no-jinja"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.monotonic()
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, env=environment
        )
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], 30)
    root_url = child.stdout.readline().decode().strip() if ready else ""
    server = LlamaServer(root_url, ctx, time.monotonic() - started, child, None)
    if not root_url:
        server.close()
        raise RuntimeError(f"llama.cpp did not start:\n{log_path.read_text(errors='replace')[-2000:]}")
    return server


def _serve(model: str, ctx: int, *, uses_jinja: bool) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = ctx
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 4
    params.cache_ram_mib = 64
    params.use_jinja = uses_jinja
    params.chat_template = TEMPLATE if uses_jinja else "chatml"
    params.warmup = params.ui = params.fit_params = params.kv_unified = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    os._exit(0)  # while the server still lives: its orderly shutdown sometimes hangs


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--ctx", type=int, required=True)
    parser.add_argument("--no-jinja", action="store_true")
    given = parser.parse_args()
    _serve(given.model, given.ctx, uses_jinja=not given.no_jinja)
