"""The features a prompt is described by. Those of texts and messages are packed into one integer: `+` adds them all.

Of a text: tokens in our vocabulary, then bytes: of ASCII, and of it digits, capitals, symbols and runs of one sign; of
Latin letters beyond ASCII, of other scripts with two bytes a letter, of Indic scripts and their neighbours, of Han and
kana, of Hangul, of all other signs. Of a message: 1, and its images. Of a request, not packed: tokens of the schemas,
and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

Features: TypeAlias = Sequence[float]

TOKENS, ASCII, SCRIPTS, MESSAGES, IMAGES, TOOLS, FIXED = 0, 1, 6, 12, 13, 14, 15
TEXT_SIZE, PACKED_SIZE, SIZE = 12, 14, 16
_BITS = 40
MESSAGE, IMAGE = 1 << _BITS * MESSAGES, 1 << _BITS * IMAGES

_CAPITALS, _DIGITS, _BEYOND_ASCII = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789", bytes(range(0x80, 0x100))
_NO_SYMBOLS = b"abcdefghijklmnopqrstuvwxyz " + _CAPITALS + _DIGITS + _BEYOND_ASCII
_RUN = re.compile(rb"([\0-\x7f]{1,2})\1{7,}", re.S)  # some vocabularies have one token for it, others one a sign
_RUN_BYTES = 8  # not counted: the shortest run
# The lead byte of a UTF-8 sequence tells the script: Latin, two-byte scripts, Indic, Han and kana, Hangul.
_LEADS = (
    (bytes(range(0xC2, 0xCB)), 2), (bytes(range(0xCB, 0xE0)), 2),
    (b"\xe0\xe1", 3), (bytes(range(0xE3, 0xEA)), 3), (b"\xea\xeb\xec\xed", 3),
)  # fmt: skip


def packed(text: str, tokens: int) -> int:
    """The features of a text that has `tokens` tokens in our vocabulary."""
    total = 0
    for value in reversed((tokens, *_measured(text))):
        total = total << _BITS | value
    return total


def unpacked(total: int) -> list[float]:
    """What was added up, as numbers."""
    return [float(total >> _BITS * place & (1 << _BITS) - 1) for place in range(PACKED_SIZE)]


def rough_tokens(text: str) -> int:
    """Tokens by the kinds of characters: those of o200k_base on average, within a third on most texts."""
    size, digits, capitals, symbols, _, latin, letters, indic, han, hangul, signs = _measured(text)
    plain = 0.19 * (size - digits - symbols) + 0.5 * digits + 0.42 * symbols + 0.1 * capitals
    return math.ceil(plain + 0.55 * latin + 0.17 * letters + 0.12 * indic + 0.24 * (han + hangul) + 0.45 * signs)


def _measured(text: str) -> list[int]:
    data = text.encode("utf-8", "replace")
    size = len(data)
    kinds = [size - len(data.translate(None, kind)) for kind in (_DIGITS, _CAPITALS)]
    kinds.append(len(data.translate(None, _NO_SYMBOLS)))
    kinds.append(sum([run.end() - run.start() - _RUN_BYTES for run in _RUN.finditer(data)]))
    if size == len(text):
        return [size, *kinds, 0, 0, 0, 0, 0, 0]
    ascii_size = len(data.translate(None, _BEYOND_ASCII))
    scripts = [(size - len(data.translate(None, leads))) * width for leads, width in _LEADS]
    return [ascii_size, *kinds, *scripts, size - ascii_size - sum(scripts)]
