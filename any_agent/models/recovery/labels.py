"""Calls written as two lines with labels: `TOOL:` and `ARGS:`, or `Action:` and `Action Input:`."""

from __future__ import annotations

import re

from .dialects import Found, Tools, balanced_end
from .lossless import UnclearError, fitted, parse_arguments

CUT = "the answer was cut off by the token limit inside the tool call"
BEGINNINGS = r"TOOL|TOO$|TO$|T$|Action|Actio$|Acti$|Act$|Ac$|A$"  # where one may begin in a text
_LABELLED = re.compile(r"(?:TOOL|Action):[ \t]*([\w.:-]+)[ \t]*\r?\n\s*(?:ARGS|Action Input):[ \t]*(?=\{)")
_NAME = re.compile(r"(TOOL|Action):[ \t]*[\w.:-]*[ \t]*(\r?(\n\s*)?)")
_FENCED = re.compile(r"Action:[ \t]*(?=```json\b)")  # Command R
_FENCED_BEGINS = re.compile(r"Action:[ \t]*`{0,3}(j(s(on?)?)?)?")


def is_beginning(held: str) -> bool:
    """More text may make a call of it."""
    if any(one.startswith(held) for one in ("TOOL:", "Action:")) or _FENCED_BEGINS.fullmatch(held):
        return True
    head = _NAME.match(held)
    if head is None:
        return False
    rest = held[head.end() :]
    return not rest or any(one.startswith(rest.rstrip(" \t")) for one in ("ARGS:", "Action Input:"))


def fenced_call_at(held: str) -> int:
    """Where the code fence behind `Action:` begins; 0: there is none."""
    head = _FENCED.match(held)
    return head.end() if head else 0


def read_labelled(held: str, tools: Tools, *, is_last: bool, is_cut: bool) -> tuple[Found | None, int] | None:
    """The call at the start of the text and its length in characters; no call: what is text; None: more is needed."""
    head = _LABELLED.match(held)
    if head is None:
        return None if is_beginning(held) and not is_last else (None, 1)
    if head[1] not in tools:
        return None, head.end()
    end = balanced_end(held, head.end())
    if end is None and not is_last:
        return None
    try:
        arguments = parse_arguments(held[head.end() : end])
        if end is None or not isinstance(arguments, dict):
            raise UnclearError("the arguments do not end" if end is None else "the arguments are no JSON object")
        found = Found(head[1], fitted(arguments, tools[head[1]]), held[:end])
    except UnclearError as error:
        found = Found(head[1], None, held[:end], CUT if is_cut else f"the tool call cannot be read: {error}")
    return found, len(held) if end is None else end
