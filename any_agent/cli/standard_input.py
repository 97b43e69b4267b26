"""The prompt of `any-agent run`, from its argument and from standard input."""

from __future__ import annotations

import codecs
import os
import stat
import sys
import threading
from typing import BinaryIO

import typer

SILENCE_S = 3.0  # how long a pipe beside a prompt may say nothing
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK_BYTES = 1 << 16


def prompt_of(argument: str | None) -> str:
    """The prompt: the argument, then a blank line and what a pipe or a file on standard input says; `-`: that alone.

    Raises:
        BadParameter: nothing was asked, or standard input is no text.
    """
    if argument == "-" or (argument is None and not _is_terminal()):
        prompt = _text(_all())
    elif argument is None or not argument.strip():
        prompt = ""
    else:
        piped = _text(_beside())
        prompt = f"{argument}\n\n{piped}" if piped.strip() else argument
    if not prompt.strip():
        raise typer.BadParameter("nothing was asked: give a prompt, or - and text on standard input")
    return prompt


def _is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


def _bytes_of_input() -> BinaryIO | None:
    """None where the program was started with its standard input closed."""
    return None if sys.stdin is None else sys.stdin.buffer


def _all() -> bytes:
    source = _bytes_of_input()
    return b"" if source is None else source.read()


def _beside() -> bytes:
    """What stands on standard input beside a prompt: of a pipe or a file everything, of anything else nothing.

    Scheduled jobs, build machines and parent programs hand on inputs that never say a word and never end: sockets and
    devices are not read, and a pipe that says nothing for `SILENCE_S` seconds is let be, with a line that tells so.
    """
    source = _bytes_of_input()
    if source is None or sys.stdin.isatty():
        return b""
    try:
        number = source.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError):  # no descriptor: text in memory
        return source.read()
    if stat.S_ISREG(mode):
        return source.read()
    return _heard(number) if stat.S_ISFIFO(mode) else b""


def _heard(number: int) -> bytes:
    """All that a pipe says, unless it stays silent."""
    parts: list[bytes] = []
    began, ended = threading.Event(), threading.Event()

    def listen() -> None:  # on Windows nothing but a thread can wait for a pipe
        try:
            while part := os.read(number, _CHUNK_BYTES):
                parts.append(part)
                began.set()
        except OSError:
            pass
        began.set()
        ended.set()

    threading.Thread(target=listen, name="standard input", daemon=True).start()
    if not began.wait(SILENCE_S):
        from .terminal import tell

        tell(f"! standard input is a pipe that said nothing for {SILENCE_S:.0f} s: asked without it", style="yellow")
        tell("  fix:   </dev/null when nothing is meant; a slow command: (echo PROMPT; COMMAND) | any-agent run -")
        return b""
    ended.wait()
    return b"".join(parts)


def _text(raw: bytes) -> str:
    """The text of the bytes: by their byte order mark, as UTF-8, or as the user says that standard input is written.

    Raises:
        BadParameter: they are none of these.
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return _decoded(raw.removeprefix(mark) if encoding == "utf-8" else raw, encoding)
    said = "utf-8" if sys.stdin is None else codecs.lookup(sys.stdin.encoding or "utf-8").name
    try:
        return _decoded(raw, "utf-8")
    except typer.BadParameter:
        if said in ("utf-8", "ascii"):
            raise
        return _decoded(raw, said)


def _decoded(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding).replace(os.linesep, "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise typer.BadParameter(
            f"standard input is not {encoding.upper()}: byte {error.start} (0x{raw[error.start]:02x}, in line {line}) "
            "cannot be read; nothing was asked. "
            "Convert it first, e.g. iconv -f ISO-8859-1 -t UTF-8 FILE | any-agent run …"
        ) from None
