"""A scripted HTTP server on loopback that sends exactly the bytes it is told, in a thread of its own.

    with LoopbackServer() as server:
        server.reply("/v1/chat/completions", sse(chat_chunks(["Hel", "lo"])))

`python -m any_agent.testing.loopback --scenario echo` serves from a process of its own: it prints its base URL and
ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias, cast

from .scenarios import echo
from .wire_bytes import WireReply, as_reply, error

BACKLOG = 4096
ANY_PATH = "*"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    connection_id: int

    @property
    def json(self) -> Any:
        """The parsed body; raises ValueError when it is not JSON."""
        return json.loads(self.body)


Answer: TypeAlias = WireReply | Mapping[str, Any] | Sequence[bytes]
Script: TypeAlias = Answer | Callable[[WireRequest], Answer]


class LoopbackServer:
    """HTTP/1.1 with keep-alive on 127.0.0.1; a context manager that starts and joins its thread."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._scripts: dict[str, list[Script]] = {}
        self._turns: dict[str, int] = {}
        self._requests: list[WireRequest] = []
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event
        self.connections_opened = 0
        self.clients_left = 0

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    @property
    def requests(self) -> list[WireRequest]:
        """All requests so far, oldest first (a copy)."""
        return list(self._requests)

    @property
    def connections_open(self) -> int:
        return len(self._connections)

    def reply(self, path: str, *scripts: Script) -> None:
        """Append replies for `path`; they are used in order and the last one repeats.

        Args:
            path: Without the query. "*" answers every path that has no reply of its own; else such a path is a 404.
            scripts: A WireReply, an object (JSON), a list of bytes (an event stream), or a function of the request that
                returns one of these; it runs on the server's thread.
        """
        with self._changed:
            self._scripts.setdefault(path, []).extend(scripts)

    def wait_client_left(self, timeout_s: float = 5.0, count: int = 1) -> int:
        """Block until `count` clients closed their connection in mid-reply; returns how many did.

        For threads without a running event loop; a client on this thread's loop could not close meanwhile.

        Raises:
            TimeoutError: Fewer left.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.clients_left >= count, timeout_s):
                raise TimeoutError(f"{self.clients_left} of {count} clients left within {timeout_s} s")
        return self.clients_left

    async def client_left(self, timeout_s: float = 5.0, count: int = 1) -> int:
        """The same for a coroutine."""
        await self._until(lambda: self.clients_left >= count, timeout_s, f"{count} clients left")
        return self.clients_left

    async def requests_came(self, count: int = 1, timeout_s: float = 5.0) -> list[WireRequest]:
        """Wait until `count` requests were read completely; returns them all.

        Raises:
            TimeoutError: Fewer came.
        """
        await self._until(lambda: len(self._requests) >= count, timeout_s, f"{count} requests")
        return self.requests

    async def _until(self, is_true: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout_s} s for {what}")
            await asyncio.sleep(0.002)

    def start(self) -> None:
        """Listen; the port is open when this returns."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=BACKLOG)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # asyncio sets it only where proto is TCP
        self._port = listener.getsockname()[1]
        is_ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._run(listener, is_ready)], name="loopback")
        self._thread.start()
        is_ready.wait()

    def close(self) -> None:
        """Drop every connection and join the thread. Safe to call twice.

        Raises:
            Exception: What went wrong in the thread: a script function raised, or a client sent no HTTP.
        """
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._thread = self._loop = None
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> LoopbackServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is None:
            self.close()
        else:
            with contextlib.suppress(Exception):  # the failure that is under way tells more
                self.close()

    async def _run(self, listener: socket.socket, is_ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), sock=listener, backlog=BACKLOG)
        is_ready.set()
        await self._closing.wait()
        while accepting := asyncio.all_tasks() - {asyncio.current_task(), *self._connections.values()}:
            await asyncio.wait(accepting)  # server.close() would lose a connection that is only half accepted
        server.close()
        open_connections = dict(self._connections)
        for task in open_connections.values():
            task.cancel()
        await asyncio.gather(*(connection.abort() for connection in open_connections), return_exceptions=True)

    def _record(self, request: WireRequest) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def _record_left(self) -> None:
        with self._changed:
            self.clients_left += 1
            self._changed.notify_all()

    def _reply_to(self, request: WireRequest) -> WireReply:
        try:
            script = self._next_script(request.path)
            if script is None:
                return error(404, f"no reply for {request.method} {request.path}", type="not_found_error")
            return as_reply(script(request) if callable(script) else script)
        except Exception as failure:
            self._failure = self._failure or failure
            return error(500, f"the script of {request.path} raised {failure!r}")

    def _next_script(self, path: str) -> Script | None:
        with self._changed:
            key = path if path in self._scripts else ANY_PATH
            scripts = self._scripts.get(key)
            if not scripts:
                return None
            used = self._turns.get(key, 0)
            if len(scripts) > 1 and used >= (scripts[0].repeat if isinstance(scripts[0], WireReply) else 1):
                scripts.pop(0)
                used = 0
            self._turns[key] = used + 1
            return scripts[0]


class _Connection(asyncio.StreamReaderProtocol):
    """One client: answers its requests one after another and notices at once when it leaves."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._has_left = asyncio.Event()
        self._reader = asyncio.StreamReader(limit=2**20)
        super().__init__(self._reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop, server = asyncio.get_running_loop(), self._server
        self._writer = asyncio.StreamWriter(cast(asyncio.WriteTransport, transport), self, self._reader, loop)
        server._connections[self] = loop.create_task(self._serve())
        server.connections_opened += 1
        self._connection_id = server.connections_opened

    def eof_received(self) -> bool | None:
        self._has_left.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_left.set()
        self._server._connections.pop(self, None)
        super().connection_lost(exc)

    async def abort(self) -> None:
        self._writer.transport.abort()
        await self._writer.wait_closed()

    async def _serve(self) -> None:
        try:
            while request := await _read_request(self._reader, self._connection_id):
                self._server._record(request)
                if not await self._answer(self._server._reply_to(request)):
                    break
                if request.headers.get("connection", "").lower() == "close":
                    break
        except ConnectionError:
            self._left()
        except Exception as failure:  # what came is no HTTP, or the reply no bytes
            self._server._failure = self._server._failure or failure
        finally:
            self._writer.close()

    async def _answer(self, reply: WireReply) -> bool:
        """Send the reply; False when the connection ends with it."""
        if reply.delay_s and await self._leaves_within(reply.delay_s):
            return self._left()
        is_whole = not reply.stall and reply.close_abruptly in ("", "after")
        head, is_chunked, is_kept = _frame(reply, is_whole)
        for number, chunk in enumerate(reply.chunks or ([b""] if is_whole else [])):
            if number and await self._leaves_within(reply.pause_s):
                return self._left()
            framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if is_chunked and chunk else chunk
            self._writer.write(framed if number else head + framed)
            await self._writer.drain()
        if reply.stall:
            await self._has_left.wait()
            return self._left()
        if reply.close_abruptly == "reset":
            linger_s = struct.pack("ii", 1, 0)  # on with no time to linger: close sends RST
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_s)
            self._writer.transport.abort()
        elif is_chunked and is_whole:
            self._writer.write(b"0\r\n\r\n")
        return is_kept

    def _left(self) -> bool:
        self._server._record_left()
        return False

    async def _leaves_within(self, time_s: float) -> bool:
        if time_s:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._has_left.wait(), time_s)
        else:
            await asyncio.sleep(0)  # let the loop see the client, and the other clients their bytes
        return self._has_left.is_set()


def _frame(reply: WireReply, is_whole: bool) -> tuple[bytes, bool, bool]:
    """The head of the response, whether the body goes out chunked, and whether the connection is kept after it."""
    if reply.framing == "raw":
        return b"", False, False
    headers = dict(reply.headers)
    names = {name.lower(): value.lower() for name, value in headers.items()}
    is_chunked = False
    if reply.framing == "close":
        headers.setdefault("Connection", "close")
    elif "content-length" not in names and "transfer-encoding" not in names:
        is_chunked = len(reply.chunks) > 1 or not is_whole
        if is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(sum(map(len, reply.chunks)))
    is_kept = is_whole and reply.framing == "auto" and not reply.close_abruptly and names.get("connection") != "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {reply.status} {_reason(reply.status)}\r\n{lines}\r\n"
    return head.encode("latin-1"), is_chunked, is_kept


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


async def _read_request(reader: asyncio.StreamReader, connection_id: int) -> WireRequest | None:
    """The next request, or None when the client is done."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunked(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    path, _, query = target.partition("?")
    return WireRequest(method, path, query, headers, body, connection_id)


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(pieces)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a scenario until standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m any_agent.testing.loopback", description=main.__doc__)
    parser.add_argument("--scenario", choices=["echo", "tool-then-text"], default="echo")
    parser.add_argument("--chunks", type=int, default=0, help="text chunks per answer; 0 is one per word")
    parser.add_argument("--first-byte-ms", type=float, default=0.0, help="wait before an answer begins")
    parser.add_argument("--pause-ms", type=float, default=0.0, help="wait between two chunks")
    parser.add_argument("--tool-arguments", default="{}", help="JSON text of the tool call")
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args(arguments)
    _allow_many_connections()
    script = echo(
        chunks=chosen.chunks,
        delay_s=chosen.first_byte_ms / 1000,
        pause_s=chosen.pause_ms / 1000,
        calls_tool=chosen.scenario == "tool-then-text",
        arguments=chosen.tool_arguments,
    )
    with LoopbackServer(chosen.port) as server, contextlib.suppress(KeyboardInterrupt):
        server.reply(ANY_PATH, script)
        print(server.base_url, flush=True)
        sys.stdin.buffer.read()


def _allow_many_connections() -> None:
    """Raise this process's limit of open files to what it may have."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
