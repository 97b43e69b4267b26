"""The chapters of a manuscript: finding them, reading them as numbered lines, cutting long ones into parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path

from ..errors import ConfigurationError, InvalidInputError

PATTERN = "Chapter*.md"
PART_LINES, PART_CHARS = 120, 12_000
_LEAST_CHARS, _CHARS_PER_TOKEN, _INSTRUCTION_TOKENS = 800, 3.5, 800
_TEXT_SHARE, _MOST_SHARE = 0.45, 0.75  # of what the instructions leave; the rest is for the answer
_NUMBERED = re.compile(r"^[ ]*(\d+) \|(?: (.*))?$")


@dataclass(frozen=True, slots=True)
class Chapter:
    """One file of the manuscript; `chapter_id` is its path below the manuscript's folder, with slashes."""

    chapter_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Part:
    """Lines `first_line` to `last_line` of a chapter, both counted from 1 and both in it."""

    first_line: int
    last_line: int

    def __str__(self) -> str:
        return f"lines {self.first_line}-{self.last_line}"


def natural_key(path: Path) -> list[tuple[int | str, ...]]:
    """Sorts Chapter2 before Chapter10."""
    return [_pieces(part) for part in path.parts]


def _pieces(name: str) -> tuple[int | str, ...]:
    pieces = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(pieces))


def find_chapters(paths: Iterable[Path]) -> list[Chapter]:
    """The chapters that are named, and those in the folders that are named, each once.

    Raises:
        ConfigurationError: a path does not exist, or a folder holds no chapter.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob(PATTERN), key=natural_key)
            if not inside:
                raise _nothing_in(path)
            found.update({one.resolve(): one for one in inside})
        elif path.exists():
            found[path.resolve()] = path
        else:
            raise ConfigurationError(
                f"there is no {path}", field="paths", value=str(path), allowed="chapters, or folders with " + PATTERN
            )
    return _named(list(found.values()))


def _nothing_in(folder: Path) -> ConfigurationError:
    others = sorted(folder.glob("*.md"), key=natural_key)
    hint = f"; it has other files, name those you mean: {folder / '*.md'}" if others else ""
    return ConfigurationError(
        f"{folder} holds no {PATTERN}{hint}", field="paths", value=str(folder), allowed="a folder with " + PATTERN
    )


def _named(paths: Sequence[Path]) -> list[Chapter]:
    """Chapters with ids that tell them apart."""
    if not paths:
        return []
    root = Path(commonpath([path.absolute().parent for path in paths]))
    return [Chapter(path.absolute().relative_to(root).as_posix(), path) for path in paths]


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; what ends the last one begins no other.

    Raises:
        InvalidInputError: it cannot be read, or is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{path} is no UTF-8 text (byte {error.start}); save it as UTF-8", field="path", value=str(path)
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}", field="path", value=str(path)) from None


def content_hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def numbered(lines: Sequence[str], first_line: int = 1) -> str:
    """The lines with their numbers, as `%4d | line`."""
    return "\n".join(f"{number:4d} | {line}" for number, line in enumerate(lines, first_line))


def read_numbered(text: str) -> tuple[int, list[str]] | None:
    """What `numbered` wrote, found in a longer text: the first line's number and the lines; None: there is nothing."""
    first, lines = 0, list[str]()
    for line in text.split("\n"):
        match = _NUMBERED.match(line)
        if match and not lines:
            first = int(match[1])
        if match and int(match[1]) == first + len(lines):
            lines.append(match[2] or "")
        elif lines:
            break
    return (first, lines) if lines else None


def split_parts(lines: Sequence[str], part_lines: int, part_chars: int, overlap_lines: int = 8) -> list[Part]:
    """Parts that overlap a little and end, where they can, between paragraphs.

    Args:
        part_lines, part_chars: the most of each part; a single longer line is a part of its own.
    """
    parts, first = list[Part](), 1
    while True:
        last = _last_that_fits(lines, first, part_lines, part_chars)
        if parts:
            last = max(last, parts[-1].last_line + 1)
        if last >= len(lines):
            return [*parts, Part(first, max(len(lines), 1))]
        least = max(first + (last - first) // 2, parts[-1].last_line + 1 if parts else first)
        last = next((n for n in range(last, least - 1, -1) if not lines[n - 1].strip()), last)
        parts.append(Part(first, last))
        first = _overlap_start(lines, first, last, min(overlap_lines, part_lines // 4), part_chars // 4)


def chars_for_window(window_tokens: int, most_chars: int = PART_CHARS) -> int:
    """How long a part may be so that it fits a window together with instructions and answer."""
    text_tokens = (window_tokens - _INSTRUCTION_TOKENS) * _TEXT_SHARE
    return max(min(int(text_tokens * _CHARS_PER_TOKEN), most_chars), _LEAST_CHARS)


def chars_that_fit(window_tokens: int, instruction_tokens: int, tokens_per_char: float) -> int:
    """The same where a server has counted: no guess is needed, and the least part is as small as it must be."""
    room = max(window_tokens - instruction_tokens, 0) / tokens_per_char
    return max(min(int(room * _TEXT_SHARE), PART_CHARS), min(int(room * _MOST_SHARE), _LEAST_CHARS), 1)


def halves(lines: Sequence[str], part: Part) -> tuple[Part, Part] | None:
    """The part in two, between paragraphs where it can be; None: it is one line."""
    first, last = part.first_line, part.last_line
    if last <= first:
        return None
    middle, most = (first + last - 1) // 2, (last - first + 1) // 4
    ends = [n for n in range(max(first, middle - most), min(last - 1, middle + most) + 1) if not lines[n - 1].strip()]
    end = min(ends, key=lambda n: abs(n - middle), default=middle)
    return Part(first, end), Part(end + 1, last)


def _last_that_fits(lines: Sequence[str], first: int, part_lines: int, part_chars: int) -> int:
    last, chars = first, len(lines[first - 1])
    while last < len(lines) and last - first + 1 < part_lines and chars + len(lines[last]) <= part_chars:
        chars += len(lines[last]) + 1
        last += 1
    return last


def _overlap_start(lines: Sequence[str], first: int, last: int, most_lines: int, most_chars: int) -> int:
    """Where the part after `first`–`last` begins: a few lines back, at the start of a paragraph if there is one."""
    start, chars = last + 1, 0
    while start > first + 1 and last - start + 1 < most_lines and chars + len(lines[start - 2]) <= most_chars:
        start -= 1
        chars += len(lines[start - 1])
    paragraphs = [n for n in range(start, last + 1) if lines[n - 1].strip() and not lines[n - 2].strip()]
    return paragraphs[0] if paragraphs else start
