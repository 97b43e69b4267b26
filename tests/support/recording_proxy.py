"""A relay on loopback in front of any server: every byte passes unchanged, and each chat call can be read afterwards.

    with RecordingProxy(server.root_url) as proxy:
        ...                      # talk to proxy.base_url
        proxy.chats              # each request's raw body, each answer's status, usage and timings

`support.invariants` judges what was recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

PIECE_BYTES = 65_536


@dataclass(frozen=True)
class Chat:
    """One chat call as it went over the wire.

    Attributes:
        body: The request's body, byte for byte.
        answer: The answer's body, unchunked.
        status: HTTP status; 0 when the connection ended before an answer began.
    """

    path: str
    body: bytes
    status: int
    answer: bytes

    @cached_property
    def asked(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.asked["messages"]
        return found

    @cached_property
    def parts(self) -> dict[str, str]:
        """The raw text of each field of the body, untouched by any JSON reader."""
        return dict(_raw_fields(self.body.decode()))

    @cached_property
    def raw_messages(self) -> list[str]:
        return list(_raw_items(self.parts["messages"]))

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The JSON of every event; a body that is no event stream is one event."""
        text = self.answer.decode()
        if not text.lstrip().startswith(("data:", "event:", ":")):
            with contextlib.suppress(ValueError):
                return [json.loads(text)]
            return []
        data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
        return [json.loads(one) for one in data if one != "[DONE]"]

    @cached_property
    def usage(self) -> dict[str, Any] | None:
        """What the server reported, llama.cpp's `timings` beside it; None: nothing (an error, or the client left)."""
        usage = next((e["usage"] for e in reversed(self.events) if e.get("usage")), None)
        timings = next((e["timings"] for e in reversed(self.events) if e.get("timings")), None)
        return None if usage is None else {**usage, "timings": timings}

    @property
    def prompt_tokens(self) -> int:
        """The server's own count; 0: it told none."""
        return int(self.usage["prompt_tokens"]) if self.usage else 0

    @property
    def prefilled_tokens(self) -> int:
        """Prompt tokens that were not in the server's cache."""
        timings = (self.usage or {}).get("timings") or {}
        return int(timings.get("prompt_n", 0))

    @property
    def cached_tokens(self) -> int:
        details = (self.usage or {}).get("prompt_tokens_details") or {}
        return int(details.get("cached_tokens", 0))

    @property
    def error(self) -> str | None:
        """What the server said instead of an answer."""
        found = next((event["error"] for event in self.events if event.get("error")), None)
        if found is None:
            return None if self.status == 200 else f"HTTP {self.status}"
        return str(found.get("message", found)) if isinstance(found, dict) else str(found)


class RecordingProxy:
    """Listens on a free port; each client connection gets one of its own to the server behind.

    Args:
        upstream_url: The server's root URL; a path in it is ignored.
    """

    def __init__(self, upstream_url: str) -> None:
        split = urlsplit(upstream_url)
        self._upstream = (split.hostname or "127.0.0.1", split.port or 80)
        self._lines: list[_Line] = []
        self._order = 0
        self._port = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    @property
    def chats(self) -> list[Chat]:
        """The answered chat calls so far, oldest first; a request on a dead connection, sent again, counts once."""
        return [
            Chat(c.path, c.body, c.status, c.answer)
            for c in self._calls()
            if c.path.endswith("/chat/completions") and c.status
        ]

    @property
    def paths(self) -> list[str]:
        """What else was asked, as `GET /props`."""
        return [f"{c.method} {c.path}" for c in self._calls() if not c.path.endswith("/chat/completions")]

    def __enter__(self) -> RecordingProxy:
        is_ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._run(is_ready)], name="recording-proxy")
        self._thread.start()
        is_ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def _run(self, is_ready: threading.Event) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        is_ready.set()
        await self._closing.wait()
        server.close()
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line()
        self._lines.append(line)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # the proxy closes
            await asyncio.gather(
                self._pump(reader, server_writer, line.asked), self._pump(server_reader, writer, line.answered)
            )
        for one in (server_writer, writer):
            one.close()
            with contextlib.suppress(ConnectionError):
                await one.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: list[tuple[int, bytes]]
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                self._order += 1
                record.append((self._order, data))
                writer.write(data)
                await writer.drain()
        writer.close()  # whoever leaves, the other side hears of it

    def _calls(self) -> list[_Call]:
        return sorted((call for line in list(self._lines) for call in line.calls()), key=lambda call: call.order)


# ------------------------------------------------------------------ reading the bytes afterwards


@dataclass(frozen=True, slots=True)
class _Call:
    order: int
    method: str
    path: str
    body: bytes
    status: int
    answer: bytes


class _Line:
    """The bytes of one connection, both ways, each piece with its place among all pieces."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.answered: list[tuple[int, bytes]] = []

    def calls(self) -> Iterator[_Call]:
        answers = list(_split(b"".join([data for _, data in self.answered])))
        for number, (start, first, body) in enumerate(_split(b"".join([data for _, data in self.asked]))):
            method, target, _ = first.split(" ", 2)
            status, answer = 0, b""
            if number < len(answers):
                _, first, answer = answers[number]
                status = int(first.split(" ", 2)[1])
            yield _Call(self._order_at(start), method, target.partition("?")[0], body, status, answer)

    def _order_at(self, offset: int) -> int:
        for order, data in self.asked:
            offset -= len(data)
            if offset < 0:
                return order
        raise AssertionError("an offset beyond the bytes")


def _split(data: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Where each HTTP message of one direction starts, its first line, its body."""
    place = 0
    while (end := data.find(b"\r\n\r\n", place)) >= 0:
        first, *lines = data[place:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start, place = place, end + 4
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body, place = _unchunked(data, place)
        elif "content-length" in headers:
            size = int(headers["content-length"])
            body, place = data[place : place + size], place + size
        elif first.startswith("HTTP/"):  # it ends with the connection
            body, place = data[place:], len(data)
        else:
            body = b""
        yield start, first, body


def _unchunked(data: bytes, place: int) -> tuple[bytes, int]:
    pieces = []
    while (end := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:end].split(b";")[0], 16)
        place = end + 2
        if size == 0:
            end = data.find(b"\r\n", place)
            return b"".join(pieces), end + 2 if end >= 0 else len(data)
        pieces.append(data[place : place + size])
        place += size + 2
    return b"".join(pieces), len(data)


_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")


def _raw_fields(text: str) -> Iterator[tuple[str, str]]:
    """Each field of a JSON object with the raw text of its value."""
    place = _past(text, 0, "{")
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        place = _past(text, place, ":")
        _, end = _DECODER.raw_decode(text, place)
        yield name, text[place:end]
        place = _past(text, end, ",")


def _raw_items(text: str) -> Iterator[str]:
    place = _past(text, 0, "[")
    while text[place] != "]":
        _, end = _DECODER.raw_decode(text, place)
        yield text[place:end]
        place = _past(text, end, ",")


def _past(text: str, place: int, sign: str) -> int:
    """The place after white space, at most one `sign`, and white space."""
    place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
    return _SPACE.match(text, place + 1).end() if text.startswith(sign, place) else place  # type: ignore[union-attr]
