"""Server-sent events from bytes, as real servers send them."""

from __future__ import annotations

import json
import re

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class SseReader:
    """Server-sent events from bytes in any chunking; CRLF, LF or CR; comments and unknown fields are skipped.

    A body that begins with `{`, `[` or `<` is no event stream: it is collected whole.
    """

    __slots__ = ("_buffer", "_data", "_event", "_is_stream", "_parts")

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._event = b""
        self._is_stream: bool | None = None
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """(event, data) pairs that are complete now."""
        if self._is_stream is not True:
            data = self._sniff(data)
            if not data:
                return []
        buffer = self._buffer + data
        tail = b""
        if buffer.endswith(b"\r"):  # perhaps half of a CRLF
            buffer, tail = buffer[:-1], b"\r"
        lines = _LINE_END.split(buffer)
        self._buffer = lines.pop() + tail
        events: list[tuple[bytes, bytes]] = []
        for line in lines:
            if line.startswith(b"data:"):
                if self._data and _is_whole(self._data):  # a server that forgets the blank line
                    events.append(self._dispatch())
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                if self._data:
                    events.append(self._dispatch())
                self._event = b""
            elif line.startswith(b"event:"):
                self._event = line[6:].strip()
        return events

    def _sniff(self, data: bytes) -> bytes:
        if self._is_stream is False:
            self._parts.append(data)
            return b""
        data = (self._buffer + data).removeprefix(_BOM)
        self._buffer = b""
        start = data.lstrip()[:1]
        if not start or _BOM.startswith(data):
            self._buffer = data
            return b""
        self._is_stream = start not in b"{[<"
        if not self._is_stream:
            self._parts.append(data)
            return b""
        return data

    def _dispatch(self) -> tuple[bytes, bytes]:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        return self._event, data

    def end(self) -> list[tuple[bytes, bytes]]:
        """The last event, when the server left out the blank line after it."""
        if self._is_stream is not True:
            return []
        events = self.feed(b"\n")
        if self._data:
            events.append(self._dispatch())
        return events

    def whole_body(self) -> bytes | None:
        """The body, when it is no event stream; None for a stream (or no bytes at all)."""
        return b"".join(self._parts) if self._is_stream is False else None


def _is_whole(parts: list[bytes]) -> bool:
    try:
        json.loads(b"\n".join(parts))
    except ValueError:
        return parts == [b"[DONE]"]
    return True
