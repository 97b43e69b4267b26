"""Paths and addresses in rules. Allowing is strict: every reading must fit; refusing is generous: one is enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

_GLOB = re.compile(r"[*?\[]")


def path_fits(pattern: str, value: str, cwd: str, *, is_strict: bool) -> bool:
    """Whether a path is what the pattern means: `*` within a folder, `**` through folders, relative to `cwd`.

    Strict: links and `..` are followed first, and a path that a tool could read in another way fits nothing. Otherwise
    upper and lower case are the same, the folder above `/**` counts too, and so does a bare name in any folder.
    """
    if is_strict:
        wanted = _compiled(pattern, cwd, is_real=True)
        places = _plain_places(value, cwd)
        return bool(places) and all(wanted.fullmatch(one) for one in places)
    if "/" not in _slashed(pattern):
        pattern = f"**/{pattern}"
    patterns = [pattern, pattern.removesuffix("/**")] if pattern.endswith("/**") else [pattern]
    for one in patterns:
        for is_real in (True, False):
            regex = normalize("NFC", _compiled(one, cwd, is_real=is_real).pattern)
            wanted = re.compile(regex, re.IGNORECASE | re.DOTALL)
            if any(wanted.fullmatch(normalize("NFC", reading)) for reading in _readings(value, cwd)):
                return True
    return False


def is_inside(value: str, folder: str, cwd: str) -> bool:
    """Whether a path, links followed, lies in a folder."""
    places, root = _plain_places(value, cwd), _real(folder, cwd).rstrip("/") + "/"
    return bool(places) and all(one.startswith(root) for one in places)


def _plain_places(value: str, cwd: str) -> list[str]:
    """The place of a path, with and without `~`, links followed; [] when a tool could read it in yet another way."""
    if not value or value != value.strip() or re.search(r"[\0$]|://" + ("|%" if os.name == "nt" else ""), value):
        return []
    return [_real(one, cwd) for one in {value, os.path.expanduser(value)}]


def _readings(value: str, cwd: str) -> Iterator[str]:
    """The places that a tool may take a path for."""
    bare = unquote(re.sub(r"^file:(//(localhost)?)?", "", value.strip()))
    for text in {value, value.strip(), bare}:
        for one in {text, os.path.expanduser(os.path.expandvars(text))}:
            yield _real(one, cwd)
            yield _slashed(os.path.normpath(os.path.join(cwd, one)))


def _real(value: str, cwd: str) -> str:
    try:
        return _slashed(os.path.realpath(os.path.join(cwd, value)))
    except (OSError, ValueError):  # a null byte, a circle of links
        return "\0"


def _slashed(path: str) -> str:
    return path.replace(os.sep, "/")


def _compiled(pattern: str, cwd: str, *, is_real: bool) -> re.Pattern[str]:
    """A regular expression of the pattern; the part before its first wildcard is a real place."""
    segments = _slashed(os.path.expanduser(pattern)).split("/")
    wild = next((place for place, one in enumerate(segments) if _GLOB.search(one)), len(segments))
    head = "/".join(segments[:wild])
    if wild and not head:
        head = "/"  # "/*.py"
    place = os.path.join(cwd, head)
    base = _real(place, cwd) if is_real else _slashed(os.path.normpath(place))
    parts = [re.escape(base.rstrip("/"))]
    for number, segment in enumerate(segments[wild:], wild):
        is_last = number == len(segments) - 1
        if segment == "**":
            parts.append("(?:/.+)" if is_last else "(?:/[^/]+)*")
        elif segment not in ("", "."):
            parts.append("/" + _segment(segment))
    return re.compile("".join(parts) or "/", re.DOTALL)


def _segment(text: str) -> str:
    """One part between slashes, as a regular expression."""
    out = ""
    for piece in re.findall(r"\[[!^]?\]?[^\]]*\]|\*+|.", text, re.DOTALL):
        if piece[0] == "*":
            out += "[^/]*"
        elif piece == "?":
            out += "[^/]"
        elif piece[0] == "[" and len(piece) > 2:
            inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            out += f"(?!/)[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
        else:
            out += re.escape(piece)
    return out


def url_fits(pattern: str, value: str, *, is_strict: bool) -> bool:
    """Whether an address is what the pattern means: `domain:example.com`, `domain:*.example.com`, `https://host/docs/*`.

    Strict: http or https, the very host, no user name, no `..`. Otherwise subdomains count, and every way to read it.
    """
    if pattern.startswith("domain:"):
        wanted = pattern[7:].strip().lower()
        if is_strict:
            host = _plain_host(value)
            return host is not None and fnmatchcase(host, wanted)
        return any(fnmatchcase(host, wanted) or fnmatchcase(host, f"*.{wanted}") for host in _hosts(value))
    scheme, mark, rest = pattern.partition("://")
    rest = rest if mark else scheme
    wanted_host, _, wanted_path = rest.partition("/")
    if not is_strict:
        readings = {value, value.strip(), unquote(value), unquote(value.strip().partition("://")[2])}
        folded = pattern.casefold()
        is_host = not wanted_path and any(fnmatchcase(host, wanted_host.lower()) for host in _hosts(value))
        return is_host or any(fnmatchcase(one.casefold(), folded) for one in readings)
    if _plain_host(value) is None or ".." in unquote(unquote(value)):
        return False
    if pattern in ("*", "**"):
        return True
    given_scheme, _, given = value.partition("://")
    authority = re.split(r"[/?#]", given, maxsplit=1)[0]
    path = given[len(authority) :].removeprefix("/")
    is_host = fnmatchcase(authority.lower(), wanted_host.lower()) and given_scheme.lower() == (
        scheme.lower() if mark else given_scheme.lower()
    )
    return is_host and fnmatchcase(path, wanted_path)


def _plain_host(value: str) -> str | None:
    """The host of an address that can be read in one way only; None: it cannot."""
    if not value.isascii() or re.search(r"[\s\\\0-\x20\x7f]", value):
        return None
    found = re.match(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?([/?#]|$)", value, re.I)
    return found[1].lower().rstrip(".") if found else None


def _hosts(value: str) -> set[str]:
    """Every host that some reader may see in the text."""
    cleaned = re.sub(r"[\t\r\n]", "", value.strip())
    hosts: set[str] = set()
    for one in {cleaned, unquote(cleaned), cleaned.replace("\\", "/"), normalize("NFKC", cleaned)}:
        for text in (one, re.sub(r"^[\w+.-]*:?/*", "http://", one), f"http://{one}"):
            try:
                host = urlsplit(text).hostname or ""
            except ValueError:
                continue
            names = {host, normalize("NFKC", host).replace("。", ".")}
            for name in list(names):
                try:
                    names.add(name.encode("idna").decode())
                except UnicodeError:
                    continue
            hosts |= {name.lower().strip(".") for name in names}
    return hosts - {""}
