"""Secrets are taken out of what is written down: logs, tapes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MASK = "[secret]"
# Names whose values are secrets, in headers, settings and environment variables.
SECRET_NAME = re.compile(
    r"(api[-_ ]?key|token|secret|password|passwd|authorization|cookie|credential)s?$", re.IGNORECASE
)
_LEAST_CHARS = 8  # a shorter value of a variable is no secret, and would be found everywhere
_SHAPES = re.compile(
    r"(?P<kept>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<head>\b(?:authorization|x-api-key|api[-_]?key|password|secret)[\"']?\s*[:=]\s*[\"']?)(?!\[secret\])"
    r"(?!Bearer\b|Basic\b)[^\s\"',;}\\]{6,}"
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}"  # OpenAI, Anthropic, OpenRouter, …
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bxox[abposr]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{30,}|\bgsk_[A-Za-z0-9]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"
    r"|(?<=://)[^\s/:@\"'\\]+:[^\s/@\"'\\]+(?=@)",
    re.IGNORECASE,
)
Span = tuple[int, int]


def known_secrets(given: Iterable[str | None] = (), environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The values to look for, longest first: the given ones, and those of variables whose name says secret."""
    variables = os.environ if environ is None else environ
    found = {value for name, value in variables.items() if SECRET_NAME.search(name) and len(value) >= _LEAST_CHARS}
    found |= {value for value in given if value}
    return tuple(sorted(found, key=len, reverse=True))


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """The text with every known secret, and everything that has the shape of one, replaced by `[secret]`."""
    return masked_pieces([text], secrets)[0]


def masked_pieces(pieces: Sequence[str], secrets: Sequence[str] = ()) -> list[str]:
    """The same for a text in pieces: a secret may lie across several; their number stays."""
    text = "".join(pieces)
    spans = _spans(text, secrets)
    if not spans:
        return list(pieces)
    out, start = [], 0
    for piece in pieces:
        end, kept, at = start + len(piece), [], start
        for first, last in spans:
            if last <= at or first >= end:
                continue
            kept.append(text[at : max(first, at)])
            if first >= start:  # told once, in the piece where it begins
                kept.append(MASK)
            at = min(last, end)
        kept.append(text[at:end])
        out.append("".join(kept))
        start = end
    return out


def masked_value(value: Any, secrets: Sequence[str] = (), name: str = "", *, by_name: bool = True) -> Any:
    """A JSON value with its texts masked; `by_name`: those under a name like `api_key` altogether."""
    if isinstance(value, str):
        return MASK if by_name and value and SECRET_NAME.search(name) else masked(value, secrets)
    if isinstance(value, Mapping):
        return {key: masked_value(one, secrets, str(key), by_name=by_name) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_value(one, secrets, name, by_name=by_name) for one in value]
    return value


def _spans(text: str, secrets: Sequence[str]) -> list[Span]:
    """Where the secrets stand, in order, joined where they overlap."""
    found: list[Span] = []
    for secret in secrets:
        at = text.find(secret)
        while at >= 0:
            found.append((at, at + len(secret)))
            at = text.find(secret, at + len(secret))
    for match in _SHAPES.finditer(text):
        kept = match["kept"] or match["head"] or ""
        found.append((match.start() + len(kept), match.end()))
    joined: list[Span] = []
    for first, last in sorted(found):
        if joined and first < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
