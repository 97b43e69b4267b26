"""Calls without any mark: JSON or a list of calls that is all an answer says, alone or in a code fence."""

from __future__ import annotations

import re

from .dialects import Found, Tools, balanced_end, block_end, read_block, read_body, read_json
from .lossless import UnclearError
from .marks import NOISE, OPENERS

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\r?\n")
_FENCE_BEGINNING = re.compile(r"```[ \t]*[\w+-]*[ \t]*\r?")
_LANGUAGES = {"", "json", "tool_call", "tool_calls", "tool_code", "tool", "function_call"}
_FIRST_KEY = re.compile(r"""(?:\[\s*)?\{\s*["']?(\w*)(["']?)\s*(:?)\s*""")
_KEYS = ("name", "tool_name", "tool", "function", "arguments", "parameters", "args", "type", "id", "tool_calls")
_NAME_KEYS = ("name", "tool_name", "tool")
_NAME = re.compile(r"""["']([^"']*)(["']?)""")
_CALL_LIST = re.compile(r"\[\s*([A-Za-z_][\w.-]*)(\(?)")


def read_bare(text: str, tools: Tools, *, is_last: bool, is_cut: bool) -> list[Found] | None:
    """The calls that the whole text consists of; []: it is something else; None: more of it is needed.

    Args:
        is_cut: the token limit ended the text: nothing of it is complete for sure.
    """
    found: list[Found] = []
    place = 0
    if "functools".startswith(text[:9]) and len(text) < 9 and not is_last:
        return None
    if text.startswith("functools"):
        place = 9
    elif text[0] == "f":
        return []
    while True:
        place = _after_noise(text, place)
        if place == len(text):
            if not is_last:
                return None
            return (
                [Found(one.name, None, text, "the answer was cut off by the token limit") for one in found]
                if (is_cut)
                else found
            )
        step = _one(text, place, tools, is_last=is_last)
        if step is None:
            return None
        if not step[0]:
            return []
        found += step[0]
        place = step[1]


def _after_noise(text: str, place: int) -> int:
    while True:
        start = place
        while place < len(text) and (text[place].isspace() or (text[place] in ";," and place)):
            place += 1
        for token in NOISE:
            if text.startswith(token, place) and place:
                place += len(token)
        if place == start:
            return place


def _one(text: str, place: int, tools: Tools, *, is_last: bool) -> tuple[list[Found], int] | None:
    rest = text[place:]
    if rest[0] == "`":
        return _fenced(rest, place, tools, is_last=is_last)
    if rest[0] not in "{[":
        if place and rest[0] == "<" and not is_last and any(token.startswith(rest) for token in NOISE):
            return None
        return [], 0
    looks = _looks_like_call(rest, tools)
    if looks is None and not is_last:
        return None
    if not looks:
        return [], 0
    end = balanced_end(rest, 0)
    if end is None:
        if not is_last:
            return None
        return [Found(looks, None, rest, "the tool call was cut off before its end")], len(text)
    return _calls(rest[:end], looks, tools), place + end


def _fenced(rest: str, place: int, tools: Tools, *, is_last: bool) -> tuple[list[Found], int] | None:
    head = _FENCE.match(rest)
    if head is None:
        return None if not is_last and (_FENCE_BEGINNING.fullmatch(rest) or "```".startswith(rest)) else ([], 0)
    if head[1].lower() not in _LANGUAGES:
        return [], 0
    inside = rest[head.end() :]
    body = inside.lstrip()
    if not body:
        return ([], 0) if is_last else None
    looks: str | bool | None
    is_for_calls = "tool" in head[1].lower()  # in any other fence marks of calls are quoted
    opener = next((one for one in OPENERS if is_for_calls and body.startswith(one)), None)
    if opener or (is_for_calls and body[0] == "<" and any(one.startswith(body) for one in OPENERS)):
        looks = True if opener else None
    elif body[0] in "{[":
        looks = _looks_like_call(body, tools)
    elif head[1] == "tool_code":
        word = re.match(r"(?:print\()?([\w.]+)(\(?)", body)
        is_open = "print(".startswith(body) or (word and not word[2] and word.end() == len(body))
        looks = None if is_open else bool(word and word[1] in tools)
    else:
        looks = False
    if looks is None and not is_last:
        return None
    if not looks:
        return [], 0
    closing = re.search(r"\n[ \t]*```[ \t]*(?=\n|$|[<`])", inside)
    if closing is None or (closing.end() == len(inside) and not is_last):
        if not is_last:
            return None
        if closing is None:
            name = looks if isinstance(looks, str) else ""
            return [Found(name, None, rest, "the tool call was cut off before its end")], place + len(rest)
    code = inside[: closing.start()].strip()
    end = place + head.end() + closing.end()
    if opener:
        stop = block_end(opener, code, is_last=True)
        if stop is None or code[stop:].strip():
            return [], 0
        return read_block(opener, code, tools, is_closed=True), end
    if head[1] == "tool_code" and body[0] not in "{[":
        return read_block("<tool_call>", f"<tool_call>{_unprinted(code)}</tool_call>", tools, is_closed=True), end
    return _calls(code, looks if isinstance(looks, str) else "", tools), end


def _unprinted(code: str) -> str:
    return code[6:-1] if code.startswith("print(") and code.endswith(")") else code


def _looks_like_call(text: str, tools: Tools) -> str | None:
    """The name of our tool that the JSON begins to call; '': none of ours; None: not to be told yet."""
    listed = _CALL_LIST.match(text)
    if listed:
        if not listed[2]:
            return None if listed.end() == len(text) else ""
        return listed[1] if listed[1] in tools else ""
    first = _FIRST_KEY.match(text)
    if first is None:
        return None if re.fullmatch(r"\[\s*|\[\s*\{\s*|\{\s*", text) else ""
    key, is_whole = first[1], bool(first[3])
    if not is_whole:
        rest = text[first.end() :]
        return "" if rest or not any(known.startswith(key) for known in _KEYS) else None
    if key not in _KEYS:
        return ""
    if key in _NAME_KEYS or key == "function":
        value = text[first.end() :]
        if not value:
            return None
        if value[0] == "{" and key == "function":
            return _named_later(text, tools)
        name = _NAME.match(value)
        if name is None:
            return ""
        if not name[2]:
            return None if any(tool.startswith(name[1].removeprefix("functions.")) for tool in tools) else ""
        plain = name[1].removeprefix("functions.")
        return plain if plain in tools else ""
    return _named_later(text, tools)


def _named_later(text: str, tools: Tools) -> str | None:
    """Arguments, a type or an id come first: the name is looked for until the JSON ends."""
    end = balanced_end(text, 0)
    text = text[:end]
    for name in tools:
        said = rf"""["']?(?:name|tool_name|tool|function)["']?\s*:\s*["'](?:functions\.)?{re.escape(name)}["']"""
        if re.search(said, text):
            return name
    return None if end is None else ""


def _calls(body: str, name: str, tools: Tools) -> list[Found]:
    """What the JSON calls; [] when it is no call of ours after all."""
    try:
        if re.match(r"\[\s*[A-Za-z_][\w.-]*\(", body):
            found = read_body(body, tools, is_closed=True)
        else:
            wrapped = re.fullmatch(r"""\{\s*["']tool_calls["']\s*:\s*(\[.*\])\s*\}""", body, re.S)
            found = read_json(wrapped[1] if wrapped else body, tools, is_closed=True)
    except UnclearError as error:
        if not re.search(r"""["']?(arguments|parameters|args|tool_input|input)["']?\s*:|^\[""", body):
            return []
        return [Found(name, None, body, f"the tool call cannot be read: {error}")]
    if any(one.name not in tools for one in found):
        return []
    if not re.search(r"""["']?(arguments|parameters|args|tool_input|input)["']?\s*:|^\[\s*\w""", body):
        return []  # a name alone is no call
    return found
