"""https:// to a server that speaks plain HTTP, and the package that is imported beside the event loop."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from any_agent.errors import ProviderTimeoutError, ServerUnreachableError
from any_agent.models.failures import Where
from any_agent.models.litellm_wrapper import LiteLLMModel
from any_agent.models.openai_wire import DirectModel
from any_agent.models.servers.scheme import with_scheme
from any_agent.protocols import Model
from any_agent.testing import LoopbackServer
from any_agent.types import ModelRequest, UserMessage

# LiteLLM silences what pydantic says of its models when it is imported; pytest forgets that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class"),
]

DOORS: dict[str, Callable[[str], Model]] = {
    "direct": lambda url: DirectModel("m", url),
    "litellm": lambda url: LiteLLMModel("m", provider="vllm", base_url=url),
    "litellm-sdk": lambda url: LiteLLMModel("m", provider="lm_studio", base_url=url),
}


@asynccontextmanager
async def patient_server(answer: bytes) -> AsyncIterator[int]:
    """Waits for the end of a request's head, as llama.cpp does, and a greeting of TLS has none; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def refused(door: Model, connect_timeout_s: float) -> ServerUnreachableError:
    request = ModelRequest([UserMessage("hi")], connect_timeout_s=connect_timeout_s, first_token_timeout_s=1.0)
    try:
        with pytest.raises(ServerUnreachableError) as caught:
            async with aclosing(door.stream(request)) as stream:  # type: ignore[type-var]
                async for _ in stream:
                    pass
    finally:
        await door.aclose()
    return caught.value


async def test_a_server_that_waits_for_more_is_known_to_speak_plain_http() -> None:
    async with patient_server(b"HTTP/1.0 404 Not Found\r\n\r\n") as port:
        error = await refused(DirectModel("m", f"https://127.0.0.1:{port}/v1"), 0.3)
    fix = f"speaks plain HTTP, no TLS.\n  fix: begin base_url with http:// (http://127.0.0.1:{port}/v1)."
    assert fix in str(error) and "start" not in str(error)
    assert error.retry_limit == 0


@pytest.mark.parametrize("name", DOORS)
async def test_a_server_that_answers_in_plain_text_is_known_too(name: str) -> None:
    with LoopbackServer() as server:
        error = await refused(DOORS[name](server.base_url.replace("http://", "https://")), 0.5)
    assert f"begin base_url with http:// ({server.base_url})" in str(error) and error.retry_limit == 0


TO_TLS = b"HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port"


@pytest.mark.parametrize("answer", [b"220 mail\r\n", b"", TO_TLS, b"HTTP/1.1 308 Permanent Redirect\r\n\r\n"])
async def test_a_server_that_says_something_else_is_left_in_doubt(answer: bytes) -> None:
    async with patient_server(answer) as port:
        error = await refused(DirectModel("m", f"https://127.0.0.1:{port}/v1"), 0.3)
    assert "plain HTTP" not in str(error) and "start the model server there" in str(error)


async def test_a_port_that_speaks_both_is_not_called_plain() -> None:
    """One that is slow behind its TLS, and has a page for those who speak none."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).parent / "data/tls/localhost.pem")
    greeted: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(await reader.read(1))
        if greeted[-1] == b"\x16":  # the first byte of a TLS greeting
            inner, bridge = await asyncio.open_connection("127.0.0.1", secure.sockets[0].getsockname()[1])
            bridge.write(greeted[-1] + await reader.read(4000))
            writer.write(await inner.read(8000))
            bridge.write(await reader.read(4000))
            bridge.close()
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\n\r\nuse https")
        writer.close()

    secure = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    both = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{both.sockets[0].getsockname()[1]}/v1"
    slow = ProviderTimeoutError("the server stayed silent")
    assert await with_scheme(slow, Where("m", base_url=url), timeout_s=10) is slow
    assert greeted == [b"G", b"\x16"]
    both.close()
    secure.close()


async def test_nobody_there_is_as_it_was() -> None:
    for scheme in ("http", "https"):
        error = await refused(DirectModel("m", f"{scheme}://127.0.0.1:9/v1"), 1.0)
        assert "no server answered" in str(error) and error.retry_limit == 1


IMPORTS = """
import asyncio, sys, threading
from any_agent import Agent
from any_agent.testing import LoopbackServer, chat_chunks, sse
by = []
def note(event, args):
    if event == "import" and args[0].startswith("aiohttp"):
        by.append(threading.current_thread() is threading.main_thread())
sys.addaudithook(note)
async def main(url):
    return await Agent("m", base_url=url, enable_memory=False).query("x" * {chars})
with LoopbackServer() as server:
    server.reply("/v1/chat/completions", sse(chat_chunks(["fine"])))
    assert asyncio.run(main(server.base_url)) == "fine"
assert by and not any(by), by
"""


@pytest.mark.parametrize("chars", [2, 9000])  # a long prompt has the server asked for its window first
def test_the_first_query_imports_beside_the_loop(chars: int) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS.format(chars=chars)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
