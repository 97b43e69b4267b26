"""The seeds' snippets: where they are kept, what may be changed in them, and how they are run.

`tests/seeds/seed_*.txt` are excerpts of the texts that promised this API, `snippets_*.txt` the code in them, as written
there. Nothing is changed but addresses and the import name; times are shortened where a snippet only waits.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from any_agent.testing import LoopbackServer, WireCall, WireReply, chat_chunks, sse, sse_event
from any_agent.testing.wire_bytes import EVENT_STREAM

FOLDER = Path(__file__).parents[1] / "seeds"
SEEDS = ("000", "001", "002", "004")
CHAT = "/v1/chat/completions"

# Everything that is replaced in a snippet. SERVER stands for the test server's base URL.
POINTED = {
    "from open_agent": "from any_agent",
    "http://localhost:1234/v1": "SERVER",
    "https://lmstudio.localbrandonfamily.com/v1": "SERVER",
}
SHORTER = {"timeout=5.0": "timeout=0.2", "timeout=10.0": "timeout=0.2", "asyncio.sleep(2.0)": "asyncio.sleep(0.2)"}


def snippets(seed: str) -> dict[str, str]:
    """Name to text of one seed's snippets."""
    parts = (FOLDER / f"snippets_{seed}.txt").read_text(encoding="utf-8").split("=== ")[1:]
    return {name: body.rstrip("\n") for name, _, body in (part.partition("\n") for part in parts)}


def snippet(name: str) -> str:
    """The text of `seed/name`, as it stands in the seed."""
    seed, _, key = name.partition("/")
    return snippets(seed)[key]


def pointed(text: str, server: LoopbackServer, *, is_shortened: bool = True) -> str:
    """The text with the replacements above."""
    for old, new in POINTED.items():
        text = text.replace(old, new.replace("SERVER", server.base_url))
    for old, new in SHORTER.items() if is_shortened else ():
        text = text.replace(old, new)
    return text


def paste(
    server: LoopbackServer, *names: str, before: str = "", after: str = "", is_shortened: bool = True, **given: Any
) -> dict[str, Any]:
    """Run snippets one after another as one program; `await` may stand at the top, as in a notebook.

    Args:
        before, after: what a reader would have written around them.
        given: names the snippets use and leave open.

    Returns:
        the program's names.
    """
    texts = [textwrap.dedent(pointed(snippet(name), server, is_shortened=is_shortened)) for name in names]
    program = "\n".join([textwrap.dedent(before), *texts, textwrap.dedent(after)])
    code = compile(program, " + ".join(names), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    names_of_it: dict[str, Any] = {"__name__": "__main__", "SERVER": server.base_url, **given}
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names_of_it))
    else:
        exec(code, names_of_it)
    return names_of_it


def class_fields(text: str) -> dict[str, Any]:
    """The annotated fields of a class body and their default (`...`: none)."""
    body = ast.parse(text).body[0]
    assert isinstance(body, ast.ClassDef)
    found = [node for node in body.body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(n.target): ast.literal_eval(n.value) if n.value else ... for n in found}


def parameters(signature: str) -> list[str]:
    """The parameter names of a `def` line (`self` left out, `**kwargs` as `**`)."""
    text = textwrap.dedent(signature).rstrip().rstrip(":") + ": ..."
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [a.arg for a in named if a.arg != "self"] + (["**"] if node.args.kwarg else [])


# ------------------------------------------------------------------ what the server says


def says(*pieces: str) -> list[bytes]:
    """A streamed text."""
    return sse(chat_chunks(pieces))


def calls(name: str, arguments: str = "{}", call_id: str = "call_1", text: str = "") -> list[bytes]:
    """A streamed tool call."""
    return sse(chat_chunks([text] if text else [], tool_calls=[WireCall(name, arguments, call_id)]))


def claude_says(*pieces: str) -> list[bytes]:
    """A streamed text as Anthropic's own protocol has it."""

    def event(kind: str, **data: Any) -> bytes:
        return sse_event({"type": kind, **data}, event=kind)

    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3", "content": []}
    return [
        event("message_start", message={**message, "usage": {"input_tokens": 3, "output_tokens": 1}}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}) for piece in pieces],
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4}),
        event("message_stop"),
    ]


def says_and_stalls(*pieces: str) -> WireReply:
    """Text that begins and does not end."""
    return WireReply(sse(chat_chunks(pieces))[: len(pieces) + 1], headers=EVENT_STREAM, stall=True)


# ------------------------------------------------------------------ the world of a snippet


def isolate(server: LoopbackServer, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """An empty home and working folder; OpenAI's own variables lead to the test server."""
    for name in list(os.environ):
        if re.match(r"(ANY_AGENT|OPEN_AGENT|OPENAI|ANTHROPIC|OLLAMA|LM_STUDIO|XDG)_", name):
            patch.delenv(name)
    patch.setenv("HOME", str(folder))
    patch.setenv("OPENAI_BASE_URL", server.base_url)
    patch.setenv("OPENAI_API_KEY", "key-of-the-test")
    patch.chdir(folder)


def asked(server: LoopbackServer, number: int = -1) -> Any:
    """The JSON of one request."""
    return [request for request in server.requests if request.method == "POST"][number].json


def roles(server: LoopbackServer, number: int = -1) -> list[str]:
    """Who said what in one request."""
    return [message["role"] for message in asked(server, number)["messages"]]
