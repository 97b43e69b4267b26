"""Rules: `tool`, `mcp__server__*`, `shell(git status:*)`, `write_file(./src/**)`, `web_fetch(domain:example.com)`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from ..errors import ConfigurationError
from .places import path_fits, url_fits
from .shell_words import UNKNOWN, ShellText, may_be, take_apart

Kind: TypeAlias = Literal["command", "path", "url", "text"]
KINDS: dict[str, Kind] = {
    "command": "command", "cmd": "command", "path": "path", "file_path": "path", "filename": "path", "url": "url",
    "query": "text",
}  # fmt: skip
_ALLOWED = "tool, tool*, tool(pattern), tool(prefix:*), tool(domain:host)"


# Words in an argument's name that tell what it is.
_TELLING: dict[str, Kind] = {
    **dict.fromkeys(("command", "cmd", "shell", "script"), "command"),
    **dict.fromkeys(("path", "paths", "file", "files", "filename", "filepath", "folder", "dir", "directory"), "path"),
    **dict.fromkeys(("url", "urls", "uri"), "url"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One argument that rules look at.

    `certainty`: plain; odd (a shape that cannot be read as its kind); guess (nothing tells what the text is for). Allow
    rules want plain ones, refusing rules look at all.
    """

    kind: Kind
    text: str
    certainty: Literal["plain", "odd", "guess"] = "plain"
    _shell: list[ShellText] = field(default_factory=list, compare=False, repr=False)

    @property
    def shell(self) -> ShellText:
        """The text as a command line; taken apart once."""
        if not self._shell:
            self._shell.append(take_apart(self.text))
        return self._shell[0]


def subjects(tool: Any, arguments: Mapping[str, Any]) -> list[Subject]:
    """The arguments that rules are held against.

    `tool.permission_argument` names one, or several. Otherwise: command, cmd, path, file_path, filename, url, query, in
    this order; then arguments whose name tells a command, a path or an address; then all other texts, as guesses.
    """
    declared = getattr(tool, "permission_argument", None)
    if declared:
        names = [declared] if isinstance(declared, str) else list(declared)
        return [one for name in names if arguments.get(name) is not None for one in _of(name, arguments[name])]
    names = [name for name in KINDS if arguments.get(name) is not None]
    names += [name for name, value in arguments.items() if value is not None and name not in KINDS and _told(name)]
    found = [one for name in names for one in _of(name, arguments[name])]
    rest = {name: value for name, value in arguments.items() if name not in names}
    return found + [Subject("text", text, "guess") for text in _texts(rest)]


def _of(name: str, value: Any) -> list[Subject]:
    kind = KINDS.get(name) or _told(name) or "text"
    if isinstance(value, str):
        return [Subject(kind, value)]
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value):
        if kind == "command":  # the words of one command, or several commands
            import shlex

            return [Subject(kind, shlex.join(value)), *[Subject(kind, one, "odd") for one in value]]
        return [Subject(kind, one) for one in value]
    return [Subject(kind, text, "odd") for text in _texts(value)] or [Subject(kind, "", "odd")]


def _told(name: str) -> Kind | None:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower().split("_")
    return next((_TELLING[word] for word in words if word in _TELLING), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        if value and all(isinstance(one, str) for one in value):
            yield " ".join(value)
        for one in value:
            yield from _texts(one)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule text means. `pattern` None: every call of the tool.

    The pattern is held against the tool's argument, and means what the argument is: a command (`git status:*` begins
    with these words; without `:*` the whole command), a path (relative to the working folder), an address
    (`domain:…`), or a text; with wildcards.
    """

    text: str
    tool: str
    pattern: str | None = None

    @classmethod
    def parse(cls, text: str | Rule) -> Rule:
        """Read a rule.

        Raises:
            ConfigurationError: it is none.
        """
        if isinstance(text, Rule):
            return text
        found = re.fullmatch(r"\s*([\w*?.-]+)\s*(?:\((.+)\)\s*)?", text, re.DOTALL) if isinstance(text, str) else None
        if found is None:
            raise ConfigurationError(f"{text!r} is no rule", field="rule", value=text, allowed=_ALLOWED)
        pattern = found[2].strip() if found[2] is not None else None
        if pattern == "" or (pattern and re.search(r"[*?\[].*/\.\.(/|$)", pattern)):
            what = "has .. after a wildcard" if pattern else "has an empty pattern"
            raise ConfigurationError(f"the rule {text!r} {what}", field="rule", value=text, allowed=_ALLOWED)
        return cls(text.strip(), found[1], None if pattern in ("*", "**", ":*") else pattern)

    def names(self, tool_name: str) -> bool:
        """Whether it is about this tool; `mcp__server` is about all tools of that server."""
        if fnmatchcase(tool_name, self.tool):
            return True
        is_server = self.tool.startswith("mcp__") and self.tool.count("__") == 1
        return is_server and tool_name.startswith(f"{self.tool}__")

    def permits(self, found: Sequence[Subject], cwd: str) -> bool:
        """Whether an allow rule with this pattern means the call: its first argument and all others of that kind."""
        if self.pattern is None:
            return True
        told = [one for one in found if one.certainty != "guess"]
        alike = [one for one in told if one.kind == told[0].kind]
        return bool(alike) and all(one.certainty == "plain" and _permits(self.pattern, one, cwd) for one in alike)

    def catches(self, found: Sequence[Subject], cwd: str) -> bool:
        """Whether a deny or ask rule with this pattern means the call: any argument, any command hidden in it."""
        if self.pattern is None:
            return True
        pattern, told = self.pattern, [one for one in found if one.certainty != "guess"]
        if any(_catches(pattern, one, cwd) for one in told):
            return True
        meant = _meant(pattern)
        if any(meant in (None, one.kind) for one in told):
            return False  # it was held against the argument that it is about
        kinds: tuple[Kind, ...] = (meant,) if meant else ("text", "path", "command")
        guesses = [one for one in found if one.certainty == "guess"]
        return any(_catches(pattern, replace(one, kind=kind), cwd) for one in guesses for kind in kinds)


def _meant(pattern: str) -> Kind | None:
    """What kind of argument a pattern is clearly about."""
    if pattern.endswith(":*"):
        return "command"
    if pattern.startswith("domain:") or "://" in pattern:
        return "url"
    return "path" if pattern.startswith(("/", "./", "~", "../", "**/")) else None


def _permits(pattern: str, one: Subject, cwd: str) -> bool:
    if one.kind == "path":
        return path_fits(pattern, one.text, cwd, is_strict=True)
    if one.kind == "url":
        return url_fits(pattern, one.text, is_strict=True)
    is_prefix = pattern.endswith(":*")
    if one.kind == "text" and not is_prefix:
        return fnmatchcase(one.text, pattern)
    if not is_prefix and one.text.strip() == pattern and not set(pattern) & set("*?["):
        return True  # the very text, whatever it is
    if not one.shell.is_simple:
        return False
    words, wanted = one.shell.commands[0], _words(pattern.removesuffix(":*"))
    if is_prefix:
        return bool(wanted) and words[: len(wanted)] == wanted
    if set(pattern) & set("*?["):
        return fnmatchcase(one.text.strip(), pattern)
    return words == wanted


def _catches(pattern: str, one: Subject, cwd: str) -> bool:
    if one.kind == "path":
        return path_fits(pattern, one.text, cwd, is_strict=False)
    if one.kind == "url":
        return url_fits(pattern, one.text, is_strict=False)
    wanted, folded = _words(pattern.removesuffix(":*")), pattern.casefold()
    if pattern.endswith(":*"):
        return any(_begins(words, wanted) for words in one.shell.commands)
    if fnmatchcase(one.text.casefold().strip(), folded):
        return True
    if one.kind == "text":
        return False
    if set(pattern) & set("*?["):
        return any(_reads_as(words, folded) for words in one.shell.commands)
    return any(len(words) == len(wanted) and _begins(words, wanted) for words in one.shell.commands)


def _begins(words: Sequence[str], wanted: Sequence[str]) -> bool:
    if words == (UNKNOWN,):
        return True
    return len(words) >= len(wanted) and all(may_be(one, word) for one, word in zip(wanted, words, strict=False))


def _reads_as(words: Sequence[str], folded: str) -> bool:
    """Whether a command, its name with and without a folder, fits a pattern with wildcards."""
    if UNKNOWN in words[0]:
        return True
    name = words[0].rpartition("/")[2].removesuffix(".exe")
    return any(fnmatchcase(" ".join([first, *words[1:]]).casefold(), folded) for first in {words[0], name})


def _words(text: str) -> tuple[str, ...]:
    """The words of a pattern; quotes as in the shell."""
    found = take_apart(text)
    return found.commands[0] if found.is_simple else tuple(text.split())
