"""What people see: everything but answers goes to standard error, with colour only on a terminal."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

_CODES = {"dim": "2", "bold": "1", "red": "31", "yellow": "33", "green": "32"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ASCII = {"✗": "x", "·": "-", "…": "...", "✓": "+", "→": "->", "—": "-", "–": "-"}


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


def tell(text: str = "", *, style: str | None = None, end: str = "\n", to: TextIO | None = None) -> None:
    """Write a line to standard error (or `to`); signs the stream cannot show become plain ones."""
    stream = to or sys.stderr
    shown = printable(text)
    try:
        shown.encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        shown = "".join(_ASCII.get(sign, sign) for sign in shown).encode("ascii", "replace").decode()
    if style and has_colour(stream):
        shown = f"\x1b[{_CODES[style]}m{shown}\x1b[0m"
    stream.write(shown + end)
    stream.flush()


def table(rows: list[tuple[str, ...]], *, indent: str = "  ") -> str:
    """Columns aligned by spaces; the last is as wide as it needs."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(indent + "  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
