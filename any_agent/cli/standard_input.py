"""The prompt of `any-agent run`, from its argument and from standard input."""

from __future__ import annotations

import codecs
import errno
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import typer

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an open pipe beside a prompt may say nothing: until a line tells of it, and until nothing is asked."""

    told_after_s: float = 3.0
    over_after_s: float = 30.0


def prompt_of(argument: str | None, *, is_quiet: bool = False, patience: Patience | None = None) -> str:
    """The prompt: the argument, then a blank line and what a pipe or a file on standard input says; `-`: that alone.

    Raises:
        BadParameter: nothing was asked, standard input is no text, or it is open and says nothing.
        InvalidInputError: standard input could not be read to its end.
    """
    try:
        if argument == "-" or (argument is None and not is_terminal()):
            prompt = _text(_all())
        elif argument is None or not argument.strip():
            prompt = ""
        else:
            prompt = _joined(argument, _text(_beside(is_quiet, patience or Patience())), is_quiet)
    except OSError as error:
        from ..errors import InvalidInputError

        why = error.strerror or str(error) or type(error).__name__
        told = f"standard input cannot be read: {why}; nothing was asked"
        raise InvalidInputError(f"{told}\n  fix:   </dev/null where nothing is meant", field="stdin") from error
    if not prompt.strip():
        raise typer.BadParameter("nothing was asked: give a prompt, or - and text on standard input")
    return prompt


def _joined(argument: str, piped: str, is_quiet: bool) -> str:
    if not piped.strip():
        return argument
    if not is_quiet:
        _tell(f"+ {len(piped):,} characters from standard input")
    return f"{argument}\n\n{piped}"


def _tell(note: str) -> None:
    from .terminal import tell

    tell(f"  {note}", style="dim")


def is_terminal() -> bool:
    """Whether somebody sits at standard input; not where it is closed."""
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):  # None: closed from the start; another object; closed by this process
        return False


def _descriptor() -> int | None:
    """None: standard input is closed, or an object in memory that some program put in its place."""
    try:
        number: int = sys.stdin.fileno()
        os.fstat(number)
    except (OSError, ValueError, AttributeError):
        return None
    return number


def _all() -> bytes:
    """Everything, however long it takes."""
    number = _descriptor()
    if number is None or (os.name == "nt" and is_terminal()):  # Windows' terminal speaks by its own calls
        return _by_object()
    return _by_object() if stat.S_ISREG(os.fstat(number).st_mode) else b"".join(_parts(number))


def _beside(is_quiet: bool, patience: Patience) -> bytes:
    """What stands on standard input beside a prompt: of a pipe, a socket or a file everything, of all else nothing.

    A slow command is waited for, as the answer without its text would be a wrong one. But build machines and parent
    programs hand on pipes that never say a word and never end: for ever is too long, and nothing is asked then.
    """
    if is_terminal():
        return b""
    number = _descriptor()
    mode = stat.S_IFREG if number is None else os.fstat(number).st_mode
    if number is None or stat.S_ISREG(mode):
        return _by_object()
    return _heard(number, is_quiet, patience) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else b""


def _by_object() -> bytes:
    """All of a file or of an object in memory; nothing where it is closed, for writing only, or not to be read."""
    source: Any = getattr(sys.stdin, "buffer", sys.stdin)
    try:
        said: str | bytes = source.read() or ""
    except UnicodeError as error:
        raise typer.BadParameter(f"standard input is no text: {error}; nothing was asked") from None
    except (AttributeError, ValueError):  # None, nothing to read from, closed, or for writing only
        return b""
    except OSError as error:
        if error.errno in (None, errno.EBADF):  # test runners refuse without a number
            return b""
        raise
    return said.encode("utf-8", "surrogatepass") if isinstance(said, str) else said


def _parts(number: int) -> Iterator[bytes]:
    """What a pipe or a socket says until its end; nothing where it is open for writing only."""
    has_begun = False
    while True:
        try:
            part = os.read(number, _CHUNK_BYTES)
        except BlockingIOError:  # its other holders set it so: nothing there yet is no end
            select.select([number], [], [])
            continue
        except OSError as error:
            if error.errno == errno.EBADF and not has_begun:
                return
            raise
        if not part:
            return
        has_begun = True
        yield part


def _heard(number: int, is_quiet: bool, patience: Patience) -> bytes:
    """All that a pipe or a socket says.

    Raises:
        OSError: it broke.
        BadParameter: it said nothing for too long.
    """
    said: SimpleQueue[bytes | OSError] = SimpleQueue()

    def listen() -> None:  # on Windows nothing but a thread can wait for a pipe
        try:
            for part in _parts(number):
                said.put(part)
            said.put(b"")
        except OSError as error:
            said.put(error)

    threading.Thread(target=listen, name="standard input", daemon=True).start()
    parts, is_told = [_first(said, is_quiet, patience)], is_quiet
    while parts[-1]:
        try:
            parts.append(_taken(said, None if is_told else patience.told_after_s))
        except Empty:
            is_told = True
            _tell("waiting for the end of standard input …")
    return b"".join(parts)


def _first(said: SimpleQueue[bytes | OSError], is_quiet: bool, patience: Patience) -> bytes:
    started = time.monotonic()
    try:
        return _taken(said, patience.told_after_s)
    except Empty:
        if not is_quiet:
            _tell(f"waiting for standard input, at most {patience.over_after_s:.0f} s … (to do without it: </dev/null)")
    try:
        return _taken(said, max(0.0, patience.over_after_s - (time.monotonic() - started)))
    except Empty:
        raise typer.BadParameter(
            f"standard input is open and said nothing for {patience.over_after_s:.0f} s; nothing was asked. To do "
            "without it: </dev/null (programs: stdin=DEVNULL, stdio 'ignore'). For a slow command, which is waited for "
            "without end: (echo PROMPT; COMMAND) | any-agent run -"
        ) from None


def _taken(said: SimpleQueue[bytes | OSError], timeout_s: float | None) -> bytes:
    one = said.get(timeout=timeout_s)
    if isinstance(one, OSError):
        raise one
    return one


def _text(raw: bytes) -> str:
    """The text of the bytes: by their byte order mark, as UTF-8, or as the user says that standard input is written.

    Raises:
        BadParameter: they are none of these.
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return _decoded(raw.removeprefix(mark) if encoding == "utf-8" else raw, encoding)
    said = codecs.lookup(getattr(sys.stdin, "encoding", None) or "utf-8").name
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
