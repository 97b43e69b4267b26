"""How models write a call as text: which marks open and close it, and what stands between them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .lossless import Reader, UnclearError, fitted, parse_arguments, plain_name, types_of
from .marks import INNER, OPENERS

Tools = Mapping[str, Any]  # JSON Schema of the arguments, by tool name

_SEP = r"[｜|]"
_GAP = r"[▁_ ]"
_NAME_KEYS = ("name", "tool_name", "tool", "function")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "tool_input", "input")
_OTHER_KEYS = {"id", "type", "index", "call_id", "tool_call_id"}
_STRINGS = r'"(?:[^"\\]|\\.)*"'
_BRACKETS = re.compile(rf"{_STRINGS}|[\[\]{{}}\"]", re.S)


@dataclass(frozen=True, slots=True)
class Found:
    """A call that stood in the text. `error` says why it may not run."""

    name: str
    arguments: dict[str, Any] | None
    raw: str
    error: str | None = None


# ------------------------------------------------------------------ where a call ends


def balanced_end(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one at `start`; None: it is still open. Knows strings in double quotes."""
    depth = 0
    for found in _BRACKETS.finditer(text, start):
        mark = found.group()
        if mark == '"':
            return None  # a string that has not ended
        if mark in ("{", "["):
            depth += 1
        elif mark in ("}", "]"):
            depth -= 1
            if depth == 0:
                return found.end()
    return None


def block_end(opener: str, text: str, *, is_last: bool) -> int | None:
    """Behind the block that begins with `opener`; None: its end is not there."""
    closers = OPENERS[opener]
    start = len(opener)
    if not closers:
        return _json_block_end(opener, text, start, is_last)
    body = text[start:].lstrip()
    closing = "|".join(map(re.escape, closers))
    if opener == "<function=":
        inner = re.compile(r"(?:</parameter>|<function=[^>\n]*>|\}|\])\s*(</function>)")
    elif opener == "<invoke name=":
        inner = re.compile(r"(?:</parameter>|^[^>\n]*>)\s*(</invoke>)")
    elif body[:1] in ("{", "["):
        inner = re.compile(rf"{_STRINGS}|({closing})|\"", re.S)
    elif re.match(r"[\w.:/-]+\s*<arg_key>", body):
        inner = re.compile(rf"</arg_value>\s*({closing})")
    elif body.startswith(("<function=", "<invoke", "<｜DSML｜invoke")):
        inner = re.compile(rf"(?:</function>|</parameter>|</(?:｜DSML｜)?invoke>|\}}|\])\s*({closing})")
    else:
        inner = re.compile(f"({closing})")
    for found in inner.finditer(text, start):
        if found.group(1):
            return found.end()
        if found.group() == '"':
            break  # a string that has not ended
    if is_last:  # broken quotes hide the end from the rule above
        plain = re.search(closing, text[start:])
        return start + plain.end() if plain else None
    return None


_MISTRAL = re.compile(r"\s*(?:[\w.:-]+\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?)?(?=\{|\[\s*[{\]])")
_MISTRAL_BEGINS = re.compile(r"\s*(?:[\w.:-]+\s*(?:\[CALL_ID\]\s*\w*\s*)?(?:\[ARGS\]\s*)?)?(?:\[[A-Z_]*\s*)?")


def _json_block_end(opener: str, text: str, start: int, is_last: bool) -> int | None:
    head = _MISTRAL.match(text, start)
    if head is None:
        if not is_last and _MISTRAL_BEGINS.fullmatch(text, start):
            return None
        newline = text.find("\n", start + 1)
        stop = re.search(r"<\|eo[mt]_id\|>|</s>", text[start:])
        if opener == "<|python_tag|>" and stop:
            return start + stop.start()
        return (len(text) if is_last else None) if newline < 0 or not text[start:newline].strip() else newline
    end = balanced_end(text, head.end())
    while end is not None:  # `; {…}` and neighbours in one line belong to it
        if opener != "<|python_tag|>":
            return end
        more = re.compile(r"\s*[;,]?\s*").match(text, end)
        assert more is not None
        if more.end() == len(text):
            return end if is_last else None
        if text[more.end()] != "{":
            return end
        end = balanced_end(text, more.end())
    return None


# ------------------------------------------------------------------ what a call says


_FENCED = re.compile(r"\s*```(?:\w*)[ \t]*\n(.*)\n[ \t]*```\s*", re.S)


def read_block(opener: str, block: str, tools: Tools, *, is_closed: bool) -> list[Found]:
    """The calls of one block; what cannot be read for sure is a Found with an error."""
    body = block
    if opener not in INNER:
        body = block[len(opener) :]
        for closer in sorted(OPENERS[opener], key=len, reverse=True):
            body = body.removesuffix(closer)
        while body.lstrip().startswith(opener):
            body = body.lstrip()[len(opener) :]  # said twice
        body = body.lstrip().removeprefix("<|plugin|>")
    fenced = _FENCED.fullmatch(body)
    try:
        found = read_body((fenced[1] if fenced else body).strip(), tools, is_closed=is_closed)
        if not found:
            raise UnclearError("it holds no call")
        return found
    except UnclearError as error:
        cause = str(error) if is_closed else f"it was cut off before its end ({error})"
        return [Found(_name_hint(body, tools), None, block, f"the tool call cannot be read: {cause}")]


def read_body(body: str, tools: Tools, *, is_closed: bool) -> list[Found]:
    if "<|tool_call_argument_begin|>" in body:
        return _read_kimi(body, tools)
    if re.search(rf"<{_SEP}tool{_GAP}(?:call{_GAP}begin|sep){_SEP}>", body):
        return _read_deepseek(body, tools)
    if body.startswith("<function="):
        return _read_functions(body, tools, is_closed=is_closed)
    if body.startswith(("<invoke", "<｜DSML｜invoke")):
        return _read_invokes(body.replace("｜DSML｜", ""), tools)
    if "<arg_key>" in body:
        return [_read_arg_keys(body, tools, is_closed=is_closed)]
    if body.startswith("call:"):
        return [_read_gemma(body, tools)]
    if re.match(r"\[\s*[A-Za-z_][\w.-]*\(", body):
        calls, end = Reader(body).calls(0)
        if body[end:].strip():
            raise UnclearError("something follows the calls")
        return [_made(name, arguments, body, tools) for name, arguments in calls]
    named = re.match(r"([A-Za-z_][\w.:/-]*)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?(?=\{)", body)
    if named:
        return [_made(named[1], parse_arguments(body[named.end() :], may_close=is_closed), body, tools)]
    if re.match(r"[A-Za-z_][\w.-]*\(", body):
        out, end = [], 0
        while end < len(body):  # one behind the other
            name, arguments, end = Reader(body).call(end)
            out.append(_made(name.removesuffix(".call"), arguments, body, tools))
            end += len(body[end:]) - len(body[end:].lstrip(" \r\n\t;,"))
        return out
    if is_closed and re.fullmatch(r"[A-Za-z_][\w.:-]*", body):
        return [_made(body, None, body, tools)]
    return read_json(body, tools, is_closed=is_closed)


def read_json(body: str, tools: Tools, *, is_closed: bool) -> list[Found]:
    """One call, a list of calls, or several with nothing, `;` or `,` between them."""
    try:
        values = [parse_arguments(body)]
    except UnclearError as error:
        values, place = [], 0
        while place < len(body):
            end = balanced_end(body, place) if body[place] in "{[" else None
            if end is None or (place == 0 and not body[end:].strip("}] \n\t")):
                if values or not is_closed:
                    raise error from None
                values.append(parse_arguments(body, may_close=True))
                break
            values.append(parse_arguments(body[place:end]))
            place = end + len(body[end:]) - len(body[end:].lstrip(" \n\r\t;,"))
    return [_call_of(one, tools, body) for value in values for one in (value if isinstance(value, list) else [value])]


def _call_of(value: Any, tools: Tools, raw: str) -> Found:
    """`{"name": …, "arguments": …}` in its spellings; keys that are none of a call's make it unclear."""
    if not isinstance(value, dict):
        raise UnclearError("a call is a JSON object with name and arguments")
    inner = value.get("function")
    if isinstance(inner, dict) and not value.keys() - _OTHER_KEYS - {"function"}:
        value = inner
    names = [key for key in _NAME_KEYS if isinstance(value.get(key), str)]
    given = [key for key in _ARGUMENT_KEYS if key in value]
    if value.get("type") == "function" and names == ["name", "function"]:
        names = ["name"]
    if len(names) != 1:
        raise UnclearError("it has no name" if not names else "it has two names")
    if len(given) > 1:
        raise UnclearError("it has arguments twice")
    stray = value.keys() - {*names, *given} - _OTHER_KEYS
    if stray:
        raise UnclearError(f"{', '.join(sorted(map(repr, stray)))} stands beside the arguments")
    return _made(value[names[0]], value[given[0]] if given else None, raw, tools)


def _read_functions(body: str, tools: Tools, *, is_closed: bool) -> list[Found]:
    """`<function=f><parameter=x>…</parameter></function>`, or with JSON inside."""
    out, place = [], 0
    head = re.compile(r"\s*<function=\s*([^>\n]+?)\s*>")
    tail = re.compile(r"\s*(?:</function>|$)\s*(?:</tool_call>\s*)?")
    while place < len(body):
        found = head.match(body, place)
        if not found:
            raise UnclearError("something stands between the calls")
        place = _after_space(body, found.end())
        if body[place : place + 1] == "{":
            end = balanced_end(body, place)
            if end is None:
                raise UnclearError("the arguments do not end")
            arguments = parse_arguments(body[place:end])
        else:
            arguments, end = _parameters(body, place, found[1], tools)
        closing = tail.match(body, end)
        if not closing:
            raise UnclearError("something stands beside the parameters")
        if "</" not in closing.group() and not (is_closed and body.endswith("</parameter>")):
            raise UnclearError("the function does not end")
        out.append(_made(found[1], arguments, body, tools))
        place = closing.end()
    return out


def _after_space(text: str, place: int) -> int:
    return len(text) - len(text[place:].lstrip())


_PARAMETER = re.compile(r"\s*<parameter=\s*([^>\n]+?)\s*>(.*?)</parameter>(?=\s*(?:<parameter=|</function>|$))", re.S)
_INVOKE = re.compile(r"\s*<invoke\s+name=[\"']?([^\"'>]+)[\"']?\s*>(.*?)</invoke>", re.S)
_NAMED_PARAMETER = re.compile(
    r"\s*<parameter\s+name=[\"']?([^\"'>]+?)[\"']?(\s+string=[\"']?(\w+)[\"']?)?\s*>(.*?)</parameter>", re.S
)
_ARG = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.S)


def _parameters(body: str, place: int, name: str, tools: Tools) -> tuple[dict[str, Any], int]:
    said: dict[str, str] = {}
    while found := _PARAMETER.match(body, place):
        if found[1] in said and said[found[1]] != found[2]:
            raise UnclearError(f"{found[1]} is said twice")
        if "<function=" in found[2] or "<parameter=" in found[2]:
            raise UnclearError(f"the parameter {found[1]} does not end")
        said[found[1]] = found[2]
        place = found.end()
    return {key: _typed(text, key, name, tools) for key, text in said.items()}, place


def _read_invokes(body: str, tools: Tools) -> list[Found]:
    out, place = [], 0
    while found := _INVOKE.match(body, place):
        arguments: dict[str, Any] = {}
        at = 0
        while one := _NAMED_PARAMETER.match(found[2], at):
            if one[1] in arguments:
                raise UnclearError(f"{one[1]} is said twice")
            is_text = one[3] == "true"
            arguments[one[1]] = one[4] if is_text else _typed(one[4], one[1], found[1], tools, is_exact=True)
            at = one.end()
        if found[2][at:].strip():
            raise UnclearError("something stands beside the parameters")
        out.append(_made(found[1], arguments, body, tools))
        place = found.end()
    if body[place:].strip():
        raise UnclearError("something stands beside the calls")
    return out


def _read_arg_keys(body: str, tools: Tools, *, is_closed: bool) -> Found:
    name = body.partition("<arg_key>")[0].strip()
    place, arguments = len(body.partition("<arg_key>")[0]), dict[str, Any]()
    while found := _ARG.match(body, place):
        key = found[1].strip()
        if key in arguments:
            raise UnclearError(f"{key} is said twice")
        arguments[key] = _typed(found[2], key, name, tools, is_exact=True)
        place = found.end()
    if body[place:].strip():
        raise UnclearError("something stands beside the arguments")
    if not is_closed:
        raise UnclearError("more arguments might follow")
    return _made(name, arguments, body, tools)


def _typed(text: str, key: str, name: str, tools: Tools, *, is_exact: bool = False) -> Any:
    """A value between tags: a text where the schema wants one or says nothing, else the JSON it says.

    Args:
        is_exact: the dialect puts no line breaks between tag and value; both or neither are the model's habit.
    """
    if not is_exact or (text[:1] == "\n" == text[-1:] and len(text) > 1):
        text = text.removeprefix("\n").removesuffix("\n")
    schema = tools.get(plain_name(name, tools))
    known = schema.get("properties") if isinstance(schema, Mapping) else None
    wanted = types_of(known[key], schema) if isinstance(known, Mapping) and key in known else set()
    if "null" in wanted and text.strip() in ("null", "None"):
        return None
    return text if not wanted or "string" in wanted else fitted(text, known[key], schema)  # type: ignore[index]


def _read_gemma(body: str, tools: Tools) -> Found:
    """`call:f{key:<escape>text<escape>,n:2}`; newer ones put `<|"|>` around texts."""
    head = re.match(r"call:\s*([\w.-]+)\s*(?=\{)", body)
    parts = re.split(r'<escape>|<\|"\|>', body[head.end() :] if head else "")
    if not head or len(parts) % 2 == 0:
        raise UnclearError("a text does not end" if head else "it has no name or no arguments")
    plain = "".join(json.dumps(part) if place % 2 else part for place, part in enumerate(parts))
    return _made(head[1], parse_arguments(plain), body, tools)


def _read_deepseek(body: str, tools: Tools) -> list[Found]:
    text = re.sub(rf"<{_SEP}tool{_GAP}(calls|call|sep)(?:{_GAP}(begin|end))?{_SEP}>", r"<|\1-\2|>", body)
    parts = [part for part in re.split(r"<\|call-begin\|>", text) if part.strip()]
    out = []
    for part in parts:
        said, end, rest = part.partition("<|call-end|>")
        first, sep, second = said.partition("<|sep-|>")
        if not end or not sep or rest.strip():
            raise UnclearError("a call does not end")
        fenced = re.fullmatch(r"\s*([\w.:-]+)\s*```(?:json)?\s*(.*?)\s*```\s*", second, re.S)
        name, raw = (fenced[1], fenced[2]) if fenced else (first.strip(), second.strip())
        out.append(_made(name, parse_arguments(raw), body, tools))
    return out


def _read_kimi(body: str, tools: Tools) -> list[Found]:
    out = []
    for part in body.split("<|tool_call_begin|>")[1:]:
        said, end, rest = part.partition("<|tool_call_end|>")
        name, sep, raw = said.partition("<|tool_call_argument_begin|>")
        if not end or not sep or rest.strip():
            raise UnclearError("a call does not end")
        out.append(_made(re.sub(r":\d+$", "", name.strip()), parse_arguments(raw.strip()), body, tools))
    return out


def _made(name: str, arguments: Any, raw: str, tools: Tools) -> Found:
    name = plain_name(name, tools)
    schema = tools.get(name)
    if not name or not re.fullmatch(r"[\w.:/-]+", name):
        raise UnclearError(f"{name[:40]!r} is no name of a tool")
    if isinstance(arguments, str):  # encoded twice
        arguments = parse_arguments(arguments) if arguments.strip() else None
    if arguments is None:
        if isinstance(schema, Mapping) and schema.get("required"):
            raise UnclearError(f"{name} needs arguments, none are said")
        arguments = {}
    if not isinstance(arguments, dict):
        raise UnclearError("the arguments are no JSON object")
    return Found(name, fitted(arguments, schema) if schema else arguments, raw)


def _name_hint(body: str, tools: Tools) -> str:
    """Which tool was meant, for the message to the model; '' when it is not clear."""
    named: Sequence[str] = [name for name in tools if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", body)]
    return named[0] if len(named) == 1 else ""
