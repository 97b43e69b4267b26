"""Documents in pieces that can be cited: by headings, by definitions, by paragraphs. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_CHARS = 1_500
MARKDOWN = {".md", ".markdown", ".mdx", ".rst", ".qmd"}
CODE = {
    ".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".java", ".kt", ".go", ".rs", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs",
    ".rb", ".php", ".swift", ".scala", ".lua", ".sh", ".sql",
}  # fmt: skip
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_DEFINITION = re.compile(
    r"(?:@|(?:export|public|private|protected|internal|static|final|abstract|async|unsafe|pub(?:\([a-z]+\))?|default|"
    r"inline|open|data|sealed|override)\s+)*"
    r"(?:def|class|function|func|fn|struct|enum|trait|impl|interface|type|module|namespace|object|create|fun|@\w+)\b",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: lines `start_line` to `end_line` (from 1), under `heading`."""

    text: str
    heading: str
    start_line: int
    end_line: int


def chunks(text: str, suffix: str = "") -> list[Chunk]:
    """The pieces of a document, in order, at most 1,500 characters each; blank pieces are left out."""
    lines = text.splitlines()
    kind = suffix.lower()
    sections = _sections(lines) if kind in MARKDOWN else _definitions(lines) if kind in CODE else [("", 0, len(lines))]
    return [chunk for heading, start, end in sections for chunk in _packed(lines, heading, start, end)]


def _sections(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """(path of headings, first line, line after the last) of each section; headings in code fences are none."""
    stack: list[tuple[int, str]] = []
    start, fence = 0, ""
    for place, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        found = None if fence else _HEADING.match(line)
        if found:
            if place > start:
                yield " › ".join(name for _, name in stack), start, place
            level = len(found[1])
            stack = [*[one for one in stack if one[0] < level], (level, found[2])]
            start = place
    yield " › ".join(name for _, name in stack), start, len(lines)


def _definitions(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """Top-level definitions, each with the decorators and comments right above it."""
    heading, start = "", 0
    for place, line in enumerate(lines):
        if line[:1].isspace() or not _DEFINITION.match(line):
            continue
        first = place
        while first > start and lines[first - 1].lstrip().startswith(("#", "//", "@", "/*", "*", "--")):
            first -= 1
        if first > start:
            yield heading, start, first
        heading, start = line.strip().rstrip("{:").strip()[:120], first
    yield heading, start, len(lines)


def _packed(lines: list[str], heading: str, start: int, end: int) -> Iterator[Chunk]:
    """Paragraphs put together while they fit; what does not fit by itself is cut between lines, at last inside one."""
    first, last, size = start, start, 0  # of the piece that grows
    for begin, stop in _paragraphs(lines, start, end):
        chars = sum(len(line) + 1 for line in lines[begin:stop])
        if size and size + chars > MOST_CHARS:
            yield from _chunk(lines, heading, first, last)
            size = 0
        if not size:
            first = begin
        if chars > MOST_CHARS:
            yield from _cut(lines, heading, begin, stop)
            continue
        last, size = stop, size + chars
    if size:
        yield from _chunk(lines, heading, first, last)


def _paragraphs(lines: list[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for place in range(start, end):
        if not lines[place].strip():
            if place > begin:
                yield begin, place
            begin = place + 1
    if end > begin:
        yield begin, end


def _cut(lines: list[str], heading: str, start: int, end: int) -> Iterator[Chunk]:
    first, size = start, 0
    for place in range(start, end):
        line = lines[place]
        if size and size + len(line) + 1 > MOST_CHARS:
            yield from _chunk(lines, heading, first, place)
            first, size = place, 0
        if len(line) > MOST_CHARS:
            for begin in range(0, len(line), MOST_CHARS):
                yield Chunk(line[begin : begin + MOST_CHARS], heading, place + 1, place + 1)
            first, size = place + 1, 0
            continue
        size += len(line) + 1
    if size:
        yield from _chunk(lines, heading, first, end)


def _chunk(lines: list[str], heading: str, start: int, end: int) -> Iterator[Chunk]:
    text = "\n".join(lines[start:end]).strip("\n")
    if text.strip():
        yield Chunk(text, heading, start + 1, end)
