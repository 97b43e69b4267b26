"""Halves of characters: JSON may escape a character beyond U+FFFF as two units, and servers cut between them.

Inside there is only whole text: halves that belong together are joined, a lone one becomes U+FFFD.
"""

from __future__ import annotations

import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")


def joined(text: str) -> str:
    """The text with halves that belong together joined; lone ones stay."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def whole(text: str) -> str:
    """The text as every file, terminal and server takes it: halves joined, a lone one is U+FFFD."""
    if text.isascii() or not _HALF.search(text):
        return text
    return _HALF.sub("\ufffd", joined(text))


def has_lone_half(value: Any) -> bool:
    """Whether a text, or a text in lists and dicts, lacks half of a character."""
    if isinstance(value, str):
        return not value.isascii() and bool(_HALF.search(joined(value)))
    if isinstance(value, dict):
        return any(has_lone_half(k) or has_lone_half(v) for k, v in value.items())
    return isinstance(value, list) and any(map(has_lone_half, value))


def mended(value: Any) -> Any:
    """A copy of lists and dicts with `whole` texts; anything else as it is."""
    kind = value.__class__
    if kind is str:
        return whole(value)
    if kind is dict:
        return {mended(k): mended(v) for k, v in value.items()}
    return [mended(v) for v in value] if kind is list else value


def fed(held: str, text: str) -> tuple[str, str]:
    """The next piece of a text that is cut anywhere.

    Args:
        held: the first half of a character, which ended the pieces so far; '': none. ASCII needs no call then.

    Returns:
        What can be told now, and what is held from now on; at the end of the text that is `whole` by itself.
    """
    text = held + text
    if not _HALF.search(text):
        return text, ""
    if "\ud800" <= text[-1] <= "\udbff":
        return whole(text[:-1]), text[-1]
    return whole(text), ""
