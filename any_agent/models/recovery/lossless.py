"""JSON as models write it, read without loss: every value is one the text says, and none the text says is left out.

Single quotes, trailing commas, Python literals, bare keys, raw line breaks and doubled encoding are understood.
Whatever would need a guess (a cut string, two values for one key, an unknown escape) is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

DOUBT = "not clear whether it is meant"  # stands in every error of a call that was said, perhaps only to show it

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_][\w-]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_SPACE = re.compile(r"\s*")
_PLAIN = {"'": re.compile(r"[^'\\]*"), '"': re.compile(r'[^"\\]*')}
_LITERALS: Mapping[str, Any] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None,
}  # fmt: skip
_ESCAPES: Mapping[str, str] = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_MOST_DEPTH = 100
_MOST_DIGITS = 4000


class UnclearError(ValueError):
    """The text cannot be read without inventing, cutting or dropping something."""


def parse_arguments(text: str, *, may_close: bool = False) -> Any:
    """The one value that the whole text says.

    Args:
        may_close: closing brackets may be missing at the very end (the text is known to be whole), or be too many.

    Raises:
        UnclearError: says what is wrong and where.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite, parse_int=_integer
        )
        if _HALF.search(text):
            _joined([json.dumps(value, ensure_ascii=False)])
        return value
    except UnclearError:
        raise
    except RecursionError:
        raise UnclearError("it is nested too deeply") from None
    except ValueError as error:
        try:
            value, end = Reader(text, may_close=may_close).value(_SPACE.match(text).end())  # type: ignore[union-attr]
        except UnclearError as unclear:
            raise UnclearError(f"not valid JSON: {unclear}") from None
        rest = text[end:].strip()
        if rest and not (may_close and not rest.strip("}] \n\t")):
            raise UnclearError(f"not valid JSON: {error}") from None
        return value


def plain_name(name: str, tools: Container[str]) -> str:
    """A tool's name without what some dialects put around it: `functions.f:0` and `f<|channel|>commentary` are `f`."""
    name = name.strip()
    if name in tools:
        return name
    short = re.sub(r"^(?:functions?|tools?)[.:]|(?::\d+|<\|.*)$", "", name)
    return short if short in tools else name


class Reader:
    """Reads values, and calls written as in Python, out of a text."""

    def __init__(self, text: str, *, may_close: bool = False) -> None:
        self.text = text
        self.may_close = may_close
        self._depth = 0

    def value(self, at: int) -> tuple[Any, int]:
        """The value at `at` and where it ends."""
        char = self.text[at : at + 1]
        if char == "{" or char == "[":
            self._depth += 1
            if self._depth > _MOST_DEPTH:
                raise UnclearError("it is nested too deeply")
            value, end = self._object(at + 1) if char == "{" else self._array(at + 1)
            self._depth -= 1
            return value, end
        if char == '"' or char == "'":
            return self.string(at)
        number = _NUMBER.match(self.text, at)
        if number:
            said = number.group()
            return (_integer(said) if said.lstrip("-").isdigit() else _finite(said)), number.end()
        word = _WORD.match(self.text, at)
        if word and word.group() in _LITERALS:
            return _LITERALS[word.group()], word.end()
        raise self._unclear("a value is missing", at)

    def string(self, at: int) -> tuple[str, int]:
        quote, parts = self.text[at], []
        place = at + 1
        plain = _PLAIN[quote]
        while True:
            run = plain.match(self.text, place)
            assert run is not None
            parts.append(run.group())
            place = run.end()
            char = self.text[place : place + 1]
            if not char:
                raise self._unclear("a text does not end", at)
            if char == quote:
                return _joined(parts), place + 1
            said, place = self._escape(place + 1)
            parts.append(said)

    def call(self, at: int) -> tuple[str, dict[str, Any], int]:
        """`name(key=value, …)` at `at`: name, arguments, end. Values without a key are refused."""
        name = _NAME.match(self.text, at)
        if not name or self.text[name.end() : name.end() + 1] != "(":
            raise self._unclear("no call", at)
        arguments: dict[str, Any] = {}
        place = self._skip(name.end() + 1)
        while self.text[place : place + 1] != ")":
            key = _WORD.match(self.text, place)
            equals = self._skip(key.end()) if key else place
            if not key or self.text[equals : equals + 1] != "=":
                raise self._unclear("an argument has no name", place)
            value, place = self.value(self._skip(equals + 1))
            if key.group() in arguments:
                raise self._unclear(f"{key.group()} is said twice", place)
            arguments[key.group()] = value
            place = self._skip(place)
            if self.text[place : place + 1] == ",":
                place = self._skip(place + 1)
            elif self.text[place : place + 1] != ")":
                raise self._unclear("a comma or a bracket is missing", place)
        return name.group(), arguments, place + 1

    def calls(self, at: int) -> tuple[list[tuple[str, dict[str, Any]]], int]:
        """`[f(a=1), g()]` at `at`, and where it ends."""
        out = []
        place = self._skip(at + 1)
        while self.text[place : place + 1] != "]":
            name, arguments, place = self.call(place)
            out.append((name, arguments))
            place = self._skip(place)
            if self.text[place : place + 1] == ",":
                place = self._skip(place + 1)
            elif self.text[place : place + 1] != "]":
                raise self._unclear("a comma or a bracket is missing", place)
        return out, place + 1

    def _array(self, place: int) -> tuple[list[Any], int]:
        out: list[Any] = []
        while True:
            place = self._skip(place)
            if self.text[place : place + 1] == "]":
                return out, place + 1
            value, place = self.value(place)
            out.append(value)
            place, is_end = self._after_item(place, "]")
            if is_end:
                return out, place

    def _object(self, place: int) -> tuple[dict[str, Any], int]:
        pairs: list[tuple[str, Any]] = []
        while True:
            place = self._skip(place)
            char = self.text[place : place + 1]
            if char == "}":
                return _once(pairs), place + 1
            if char in ("'", '"') and char:
                key, place = self.string(place)
            else:
                word = _WORD.match(self.text, place)
                if not word:
                    raise self._unclear("a key is missing", place)
                key, place = word.group(), word.end()
            place = self._skip(place)
            if self.text[place : place + 1] != ":":
                raise self._unclear("a colon is missing", place)
            value, place = self.value(self._skip(place + 1))
            pairs.append((key, value))
            place, is_end = self._after_item(place, "}")
            if is_end:
                return _once(pairs), place

    def _after_item(self, place: int, bracket: str) -> tuple[int, bool]:
        place = self._skip(place)
        char = self.text[place : place + 1]
        if char == bracket:
            return place + 1, True
        if char == ",":
            return place + 1, False
        if not char and self.may_close:
            return place, True
        raise self._unclear("a comma or a bracket is missing", place)

    def _escape(self, place: int) -> tuple[str, int]:
        char = self.text[place : place + 1]
        if char in ("u", "x") and char:
            width = 4 if char == "u" else 2
            digits = self.text[place + 1 : place + 1 + width]
            if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
                raise self._unclear("an escape is incomplete", place)
            return chr(int(digits, 16)), place + 1 + width
        if char not in _ESCAPES or not char:
            raise self._unclear(f"the escape \\{char} means nothing", place)
        return _ESCAPES[char], place + 1

    def _skip(self, place: int) -> int:
        space = _SPACE.match(self.text, place)
        assert space is not None
        return space.end()

    def _unclear(self, what: str, place: int) -> UnclearError:
        return UnclearError(f"{what} (character {place + 1})")


def _joined(parts: list[str]) -> str:
    text = "".join(parts)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")  # two halves of one sign
    except UnicodeDecodeError:
        raise UnclearError("half of a character is missing") from None


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out and (out[key] != value or out[key].__class__ is not value.__class__):
            raise UnclearError(f"{key!r} is said twice with different values")
        out[key] = value
    return out


def _no_number(said: str) -> Any:
    raise UnclearError(f"{said} is no number of JSON")


def _finite(said: str) -> float:
    value = float(said)
    if value in (float("inf"), float("-inf")):
        raise UnclearError(f"{said[:20]} is too large")
    return value


def _integer(said: str) -> int:
    if len(said) > _MOST_DIGITS:
        raise UnclearError("a number is too long")
    return int(said)


# ------------------------------------------------------------------ what the schema asks for

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,),
    "object": (dict,), "null": (type(None),),
}  # fmt: skip


def fitted(value: Any, schema: Any, root: Any = None) -> Any:
    """The value with texts read as what the schema asks for (`"3"` as 3, `"[1]"` as [1]); nothing else changes.

    A text stays a text where the schema allows one, and where reading it would be a guess.
    """
    root = schema if root is None else root
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, str):
        wanted = types_of(schema, root)
        if not wanted or "string" in wanted:
            return value
        read = _read_as(value, wanted)
        return value if read is None else fitted(read[0], schema, root)
    if isinstance(value, dict):
        known = schema.get("properties")
        if isinstance(known, Mapping):
            return {k: fitted(v, known[k], root) if k in known else v for k, v in value.items()}
    elif isinstance(value, list) and "items" in schema:
        return [fitted(one, schema["items"], root) for one in value]
    return value


def types_of(schema: Any, root: Any, depth: int = 0) -> set[str]:
    """JSON types that the schema allows; empty: it does not say."""
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping) or depth > 5:
        return set()
    said = schema.get("type")
    if isinstance(said, str):
        return {said}
    if isinstance(said, list):
        return {str(one) for one in said}
    if "enum" in schema or "const" in schema:
        values = schema["enum"] if isinstance(schema.get("enum"), list) else [schema.get("const")]
        return {_type_name(one) for one in values}
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            parts = [types_of(one, root, depth + 1) for one in schema[word]]
            return set().union(*parts) if all(parts) else set()
    return set()


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, kinds in _TYPES.items() if isinstance(value, kinds)), "string")


def _resolved(schema: Any, root: Any) -> Any:
    for _ in range(5):
        ref = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(ref, str) or not ref.startswith("#/"):
            return schema
        schema = root
        for part in ref[2:].split("/"):
            schema = schema.get(part) if isinstance(schema, Mapping) else None
    return schema


def _read_as(text: str, wanted: set[str]) -> tuple[Any] | None:
    try:
        value = parse_arguments(text.strip())
    except UnclearError:
        return None
    name = _type_name(value)
    if name in wanted or (name == "integer" and "number" in wanted):
        return (value,)
    if name == "number" and "integer" in wanted and float(value).is_integer():
        return (value,)  # 3.0, as it was said: the check of the schema takes it
    return None
