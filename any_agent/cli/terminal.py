"""What people see: everything but answers goes to standard error, with colour only on a terminal."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import sys
from typing import Any, TextIO

_CODES = {"dim": "2", "bold": "1", "red": "31", "yellow": "33", "green": "32"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NO_CELL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ASCII = {"✗": "x", "·": "-", "…": "...", "✓": "+", "→": "->", "—": "-", "–": "-"}
_ESCAPES = "any_agent_escapes"


def has_colour(stream: TextIO) -> bool:
    """Whether to colour this stream: FORCE_COLOR, NO_COLOR, TERM=dumb, and otherwise a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """Without control characters: what a model or a server says must not steer the terminal."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """With control characters and line ends shown as escapes, so that a name stays one cell of a table."""
    return _NO_CELL.sub(lambda sign: ascii(sign[0])[1:-1], text)


def tell(text: str = "", *, style: str | None = None, end: str = "\n", to: TextIO | None = None) -> None:
    """Write a line to standard error (or `to`); signs the stream cannot show become plain ones, or escapes."""
    stream = to or sys.stderr
    shown = fitting(printable(text), stream)
    if style and has_colour(stream):
        shown = f"\x1b[{_CODES[style]}m{shown}\x1b[0m"
    if to is not None and to is sys.stdout:
        put(shown + end)
        return
    with contextlib.suppress(OSError):  # of a standard error that nobody reads, or a full disk under it, nobody is told
        stream.write(shown + end)
        stream.flush()


def fitting(text: str, stream: TextIO) -> str:
    """The text in signs that the stream can show."""
    try:
        text.encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "".join(_ASCII.get(sign, sign) for sign in text).encode("ascii", "backslashreplace").decode()
    return text


# ------------------------------------------------------------------ standard output


def put(text: str) -> None:
    """Write to standard output at once.

    Raises:
        OSError: it cannot be written to; the error names it.
        BrokenPipeError: its reader went away.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritten(error) from None


def unwritten(error: OSError) -> OSError:
    """An error of standard output, which it names; nothing is written there any more."""
    _give_up_output()  # or the interpreter would try it once more at its end, and tell of that
    return OSError(error.errno, error.strerror, "standard output")


def say(text: str = "") -> None:
    """Write a line to standard output."""
    put(f"{text}\n")


def say_json(value: Any) -> None:
    """Write one JSON value as a line: ASCII where standard output is not UTF-8."""
    say(json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout), default=str))


def prepare_streams() -> None:
    """Let nothing be lost for the encoding of standard output, nor fail because a stream was closed (`>&-`)."""
    _fill_closed_descriptors()
    if sys.stdout is None:  # Python's word for a descriptor that was closed
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  it lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(_ESCAPES, _escaped)
    _reconfigure(sys.stdout, errors=_ESCAPES)


def is_output_closed() -> bool:
    """The program was started with its standard output closed."""
    return getattr(sys.stdout, "name", None) == os.devnull


def speak_json() -> None:
    """What goes to standard output from now on is JSON: ASCII where the stream is not UTF-8."""
    if not _is_utf8(sys.stdout):
        _reconfigure(sys.stdout, encoding="ascii", errors=_ESCAPES)


def _fill_closed_descriptors() -> None:
    """The next file to be opened, say a store, would else become standard output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _reconfigure(stream: TextIO, **how: str) -> None:
    change = getattr(stream, "reconfigure", None)
    if change is not None:
        change(**how)


def _is_utf8(stream: TextIO) -> bool:
    try:
        return codecs.lookup(stream.encoding or "utf-8").name == "utf-8"
    except LookupError:
        return False


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Signs that an encoding lacks as `\u00e9`: readable in a text, and what JSON means by it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _give_up_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        number, nowhere = sys.stdout.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def table(rows: list[tuple[str, ...]], *, indent: str = "  ") -> str:
    """Columns aligned by spaces; the last is as wide as it needs. Control characters are shown as escapes."""
    if not rows:
        return ""
    rows = [tuple(one_line(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(indent + "  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
