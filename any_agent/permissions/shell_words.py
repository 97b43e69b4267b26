"""Shell text taken apart: what is not plainly one command is told as such, and hidden commands are found."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

UNKNOWN = "\0"  # stands in a word for what only the shell can tell: $x, $(…), *, {a,b}
_MOST_CHARS = 20_000
_MOST_WORDS = 64  # after a runner
_DEEPEST = 6
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^\]]*\])?\+?=")
_IFS = re.compile(r"\$IFS\b|\$\{IFS[^}]*\}")
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh", "ash"}
_KEYWORDS = {
    *("if", "then", "elif", "else", "while", "until", "do", "for", "case", "function", "coproc", "select", "in"),
    *("!", "{", "}", "[[", "fi", "done", "esac"),
}
# They run what follows them, after options of their own that nobody can list; their text arguments may be commands too.
_RUNNERS = {
    *("sudo", "doas", "su", "runuser", "pkexec", "env", "command", "builtin", "exec", "eval", "source", ".", "time"),
    *("nohup", "nice", "ionice", "setsid", "stdbuf", "timeout", "watch", "xargs", "parallel", "find", "fd", "busybox"),
    *("toybox", "sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh", "ash", "ssh", "script", "chroot", "unshare"),
    *("flock", "strace", "ltrace", "trap", "cmd", "cmd.exe", "powershell", "pwsh", "start", "entr", "at", "batch"),
    *("systemd-run", "chronic", "unbuffer", "caffeinate", "nsenter", "taskset", "numactl", "chrt", "proxychains"),
}


@dataclass(frozen=True, slots=True)
class ShellText:
    """A command line: every command that stands anywhere in it, as words. `is_simple`: one command and nothing else."""

    commands: tuple[tuple[str, ...], ...]
    is_simple: bool


def take_apart(text: str, *, is_windows: bool = os.name == "nt") -> ShellText:
    """Every command of a command line, those in quotes, substitutions and after `sudo`, `xargs`, `sh -c` too.

    Where it cannot be told what would run, a command holds UNKNOWN, which any deny rule has to fear.
    """
    if len(text) > _MOST_CHARS:
        return ShellText(((UNKNOWN,),), False)
    first = _Reader(text.strip(" \t\r\n"), 0)
    first.read()
    is_simple = first.is_plain and len(first.commands) == 1
    if is_simple and (_ASSIGNMENT.match(first.commands[0][0]) or first.commands[0][0] in _KEYWORDS):
        is_simple = False
    if is_windows and re.search(r"[;&|<>()$`%^!\r\n]", text):  # its shells quote otherwise
        is_simple = False
    found = list(first.commands)
    if not is_simple and _IFS.search(text):
        spaced = _Reader(_IFS.sub(" ", text), 0)
        spaced.read()
        found += spaced.commands
    if "\\" in text:  # for shells in which it does not quote
        slashed = _Reader(text.replace("\\", "/"), 0)
        slashed.read()
        found += slashed.commands
    starts = [start for words in found for start in _starts(tuple(words), 0)]
    return ShellText(tuple(dict.fromkeys(starts)), is_simple)


def may_be(wanted: str, word: str) -> bool:
    """Whether `word`, with its UNKNOWN parts, may turn out to be `wanted`; a path counts by its last part, too."""
    wanted, word = wanted.casefold(), word.casefold().removesuffix(".exe")
    if UNKNOWN in word:
        return re.fullmatch(
            ".*".join(re.escape(part) for part in word.split(UNKNOWN)), wanted, re.DOTALL
        ) is not None or ("/" in word and may_be(wanted, word.rpartition("/")[2]))
    return word == wanted or ("/" in word and word.rpartition("/")[2] == wanted)


def _starts(words: tuple[str, ...], depth: int) -> Iterator[tuple[str, ...]]:
    """The command, and those it would run itself."""
    place = 0
    while place < len(words) and (words[place] in _KEYWORDS or _ASSIGNMENT.match(words[place])):
        place += 2 if words[place] == "function" else 1  # and its name
    words = words[place:]
    if not words:
        return
    yield words
    if _name(words[0]) not in _RUNNERS:
        return
    for place, word in enumerate(words):
        if _name(word) in _SHELLS and all(one.startswith("-") for one in words[place + 1 :]):
            yield (UNKNOWN,)  # it reads its commands from a pipe or a file
    if depth >= _DEEPEST or len(words) > _MOST_WORDS:
        yield (UNKNOWN,)
        return
    for later in range(1, len(words)):
        yield words[later:]
    for text in {*words[1:], " ".join(words[1:])}:
        if re.search(r"[\s;&|$`<>()]", text):
            inner = _Reader(text, depth + 1)
            inner.read()
            for command in inner.commands:
                yield from _starts(tuple(command), depth + 1)


def _name(word: str) -> str:
    return word.rpartition("/")[2].casefold()


class _Reader:
    """Reads shell text once, from left to right."""

    def __init__(self, text: str, depth: int) -> None:
        self.text = text
        self.depth = depth
        self.place = 0
        self.is_plain = True
        self.commands: list[list[str]] = []
        self._words: list[str] = []
        self._word: str | None = None
        self._skips_word = False  # the target of a redirection is no word of the command

    def read(self) -> None:
        if self.depth > _DEEPEST:
            self.commands.append([UNKNOWN])
            self.is_plain = False
            return
        while self.place < len(self.text):
            char = self.text[self.place]
            self.place += 1
            self._take(char)
        self._end_command()

    def _take(self, char: str) -> None:
        if char in " \t":
            self._end_word()
        elif char in "'\"":
            self._quoted(char)
        elif char == "\\":
            self._escaped()
        elif char in "\n\r;&|()":
            self.is_plain = False
            if not (char == "&" and self._skips_word and self._word is None):  # the & of 2>&1
                self._end_command()
        elif char in "<>":
            self._redirected(char)
        elif char in "$`":
            self._expanded(char)
        elif char in "*?" or (char == "[" and not self._is_test()):
            self._put(UNKNOWN)
            self.place += len(self._within("]")) if char == "[" else 0
        elif char == "{" and ("," in (inner := self._within("}")) or ".." in inner):
            self.is_plain = False
            self._put(UNKNOWN)
            self.place += len(inner)
        elif char == "#" and self._word is None:  # a comment: quotes and line joins in it mean nothing
            self.is_plain = False
            end = self.text.find("\n", self.place)
            self.place = end if end >= 0 else len(self.text)
        else:
            if char.isspace() or char < " " or char == "\x7f":
                self.is_plain = False
            self._put(char)

    def _is_test(self) -> bool:
        """The command `[`, or `[[`."""
        return self._word in (None, "[") and self.text[self.place : self.place + 1] in (" ", "\t", "[")

    def _within(self, closing: str) -> str:
        """What stands up to the closing bracket, with it; '' when the shell reads something else in between."""
        end = self.text.find(closing, self.place)
        inner = self.text[self.place : end + 1] if end > 0 else ""
        return "" if set(inner) & set(" \t\r\n;&|<>()$`'\"\\") else inner

    def _put(self, text: str) -> None:
        self._word = (self._word or "") + text

    def _end_word(self) -> None:
        if self._word is None:
            return
        if self._skips_word:
            self._skips_word = False
        else:
            self._words.append(self._word)
        self._word = None

    def _end_command(self) -> None:
        self._end_word()
        self._skips_word = False
        if self._words:
            self.commands.append(self._words)
        self._words = []

    def _redirected(self, char: str) -> None:
        self.is_plain = False
        if self._word is not None and self._word.isdigit():  # 2>…
            self._word = None
        self._end_word()
        if self.text.startswith("<<", self.place):  # what follows <<< is read: by a shell, as commands
            self.place += 2
        else:
            self._skips_word = not self.text.startswith("(", self.place)  # >(…) is a command

    def _escaped(self) -> None:
        char = self.text[self.place : self.place + 1]
        self.place += 1
        if char in ("", "\n", "\r"):
            self.is_plain = False
        else:
            self._put(char)

    def _quoted(self, quote: str) -> None:
        self._put("")
        while self.place < len(self.text):
            char = self.text[self.place]
            self.place += 1
            if char == quote:
                return
            if quote == '"' and char in "$`":
                self._expanded(char, in_quotes=True)
            elif (
                quote == '"' and char == "\\" and self.text[self.place : self.place + 1] in ("\\", '"', "$", "`", "\n")
            ):
                self._escaped()
            else:
                if char == UNKNOWN:
                    self.is_plain = False
                self._put(char)
        self.is_plain = False  # it never closed

    def _expanded(self, char: str, *, in_quotes: bool = False) -> None:
        self.is_plain = False
        rest = self.text[self.place :]
        if char == "`":
            inner = re.match(r"((?:\\.|[^`\\])*)`?", rest, re.DOTALL)
            length, body = (inner.end(), inner[1]) if inner else (0, "")
            self._inside(re.sub(r"\\([\\`$])", r"\1", body))
        elif rest.startswith("("):
            length = _closing(rest)
            self._inside(rest[1 : length - 1] if rest[length - 1] == ")" else rest[1:])
        elif rest.startswith("'") and not in_quotes:
            inner = re.match(r"'((?:\\.|[^'\\])*)'?", rest, re.DOTALL)
            length, body = (inner.end(), inner[1]) if inner else (0, "")
            self.place += length
            self._put(_decoded(body))
            return
        elif rest.startswith('"') and not in_quotes:
            return  # $"…" is a translated string
        elif rest.startswith("{"):
            length = _closing(rest, "{", "}")
            self._inside(rest[1 : length - 1])  # a default may hold a $(…)
        else:
            name = re.match(r"\w+|[@*#?$!-]", rest)
            length = name.end() if name else 0
        self.place += length
        self._put(UNKNOWN)

    def _inside(self, text: str) -> None:
        inner = _Reader(text, self.depth + 1)
        inner.read()
        self.commands += inner.commands


def _closing(text: str, opening: str = "(", closing: str = ")") -> int:
    """The place after the bracket that closes the first one; the end when none does."""
    depth, place, quote = 0, 0, ""
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\\" and quote != "'":
            place += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if depth == 0:
                return place
    return len(text)


def _decoded(body: str) -> str:
    try:
        return body.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        return UNKNOWN
