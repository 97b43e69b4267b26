"""What an answer must be, from a type or JSON Schema: the schema that servers are told, and the check of what comes."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from ..errors import ConfigurationError
from ..models.canonical import canonical
from ..models.recovery.dialects import balanced_end
from ..models.recovery.lossless import UnclearError, parse_arguments, types_of
from ..tools.schema import checker, closed, described, is_structured, normalise_schema, parts, portable, without_titles
from ..types import Json

VALUE = "value"  # what is no object travels as the one field of an object: some servers take objects only
_MOST_PROBLEMS = 5
_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:json\w*)?[ \t]*\r?\n(.*?)^[ \t]*```[ \t]*$", re.S | re.M | re.I)
_OPENING = re.compile(r"[{\[]")
_DIGITS = re.compile(r"\s*-?\d+\.?\d*\s*")
_TIMES = ("date", "date-time", "time")


@dataclass(frozen=True, slots=True)
class Output:
    """What an answer must be.

    Attributes:
        schema: JSON Schema of type object, as servers are told; `is_wrapped`: the value is its field `value`.
        is_strict: every object in it names all its fields (OpenAI's `strict`).
        check: makes the value of JSON text; raises ValueError.
    """

    name: str
    schema: dict[str, Json]
    is_wrapped: bool
    is_strict: bool
    check: Callable[[str], Any] = field(repr=False)

    @property
    def response_format(self) -> dict[str, Json]:
        shape = {"name": self.name, "schema": self.schema, "strict": self.is_strict}
        return {"type": "json_schema", "json_schema": shape}

    def of_json(self, text: str) -> Any:
        """The value that a JSON text says. Raises ValueError: it is none, or does not fit."""
        said = parse_arguments(text)
        if self.is_wrapped and isinstance(said, dict) and said.keys() == {VALUE}:
            try:
                return self.check(dumped(said[VALUE]))
            except ValueError as problem:
                try:
                    return self.check(dumped(said))  # the wanted value has a field of this name itself
                except ValueError:
                    raise problem from None
        try:
            json.loads(text)
        except ValueError:  # sloppy JSON that was read without loss
            text = dumped(said)
        return self.check(text)

    def parse(self, text: str) -> Any:
        """The value that an answer says: JSON alone, in code fences, or the one that stands in prose.

        Never guesses: two values that differ, or JSON that is not whole, are refused.

        Raises:
            ValueError: says what is wrong, in words for the model.
        """
        text = text.strip()
        if not text:
            raise ValueError("the answer is empty")
        bare = self.is_wrapped and text[0] not in '{["`'
        try:
            parse_arguments(text)
        except UnclearError as unclear:
            if bare and (found := self._bare(text)) is not None:
                return found[0]
            return self._found(text, unclear)
        try:
            return self.of_json(text)
        except ValueError:
            if bare and (found := self._bare(text)) is not None:
                return found[0]
            raise

    def _bare(self, text: str) -> tuple[Any] | None:
        """A text, choice or date that was said without quotes."""
        try:
            return (self.check(dumped(text)),)
        except ValueError:
            return None

    def _found(self, text: str, unclear: UnclearError) -> Any:
        fitting: dict[str, str] = {}
        problem: ValueError | None = None
        for one in _inside(text):
            try:
                said = parse_arguments(one)
                self.of_json(one)
                fitting.setdefault(canonical(said), one)
            except ValueError as misfit:
                problem = problem or misfit
        if len(fitting) == 1:
            return self.of_json(*fitting.values())
        if fitting:
            raise ValueError(f"the answer holds {len(fitting)} different JSON values that fit; give one")
        if problem is None and _OPENING.search(text) is None:
            raise ValueError("there is no JSON in it")
        raise problem or unclear


def _inside(text: str) -> list[str]:
    """The JSON texts within an answer: what stands in code fences, else objects, and arrays that begin a line."""
    fenced = [one.strip() for one in _FENCE.findall(text)]
    if fenced:
        return fenced
    found: list[str] = []
    place = 0
    while opening := _OPENING.search(text, place):
        end = balanced_end(text, opening.start())
        if end is None:  # what is inside an open bracket is a part of something that is not whole
            return []
        line = text[text.rfind("\n", 0, opening.start()) + 1 : opening.start()]
        if opening.group() == "{" or not line.strip():
            found.append(text[opening.start() : end])
        place = end
    return found


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def why(problem: Exception) -> str:
    """What is wrong, in words for the model."""
    if not isinstance(problem, ValidationError):
        return str(problem) or type(problem).__name__
    said = []
    for one in problem.errors(include_url=False, include_input=False)[:_MOST_PROBLEMS]:
        place = ".".join(map(str, one["loc"]))
        message = one["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        said.append(f"{place}: {message}" if place else message)
    return "; ".join(said)


# ------------------------------------------------------------------ from a type or a schema


def output_of(wanted: Any) -> Output:
    """What a type, a JSON Schema, or a `json_schema` format of Claude's or OpenAI's spelling asks for.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(wanted, Mapping):
        return _of_schema(wanted)
    if inspect.isroutine(wanted):  # pydantic would ask for its arguments
        raise _no_output(wanted, "it is a function")
    try:
        return _of_type(wanted)
    except TypeError:  # not hashable: Annotated with a list, say
        return _of_type.__wrapped__(wanted)


def _of_schema(wanted: Mapping[str, Any]) -> Output:
    shape = wanted
    if wanted.get("type") == "json_schema":
        inner = wanted.get("json_schema")
        shape = inner if isinstance(inner, Mapping) else wanted
    given = shape.get("schema") if wanted.get("type") == "json_schema" else wanted
    if not isinstance(given, Mapping):
        raise _no_output(wanted, "there is no 'schema' in it")
    schema: dict[str, Any] = dict(given)
    try:
        if any(isinstance(one, type) for one in schema.values()):  # {"name": str}, as tools are told
            schema = closed(normalise_schema(schema))
        problems_of = checker(schema, "output_type")
    except ConfigurationError as error:
        raise _no_output(wanted, str(error)) from None

    def check(text: str) -> Any:
        value = json.loads(text)
        problems = problems_of(value)
        if problems:
            raise ValueError("; ".join([f"{place}: {said}" if place else said for place, said in problems]))
        return value

    return _output(str(shape.get("name") or schema.get("title") or "answer"), schema, check)


@lru_cache(maxsize=256)
def _of_type(wanted: Any) -> Output:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(portable(wanted))
        schema = adapter.json_schema(schema_generator=_AllFields)
    except Exception as error:
        raise _no_output(wanted, str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    schema = closed(without_titles(schema))
    if is_structured(wanted):
        try:
            hints = get_type_hints(wanted, include_extras=True)
        except Exception:  # a name that cannot be resolved: pydantic has found its way all the same
            hints = {}
        for name, one in schema.get("properties", {}).items():
            if told := described(hints.get(name)):
                one.setdefault("description", told)

    def check(text: str) -> Any:
        if problem := _swapped(json.loads(text), schema, schema):
            raise ValueError(problem)
        return adapter.validate_json(text)

    return _output(getattr(wanted, "__name__", "answer"), schema, check)


def _swapped(value: Any, schema: Any, root: Any, place: str = "") -> str | None:
    """What pydantic would take and nobody said: `true` as the number 1, a number as seconds since 1970."""
    kinds = [schema]
    while len(kinds) == 1 and isinstance(kinds[0], Mapping) and ("$ref" in kinds[0] or "anyOf" in kinds[0]):
        own = kinds[0].get("$ref", "").removeprefix("#/$defs/")
        inside = [root.get("$defs", {}).get(own, {})] if own else kinds[0]["anyOf"]
        kinds = [one for one in inside if not (isinstance(one, Mapping) and one.get("type") == "null")]
    if not kinds or not all(isinstance(one, Mapping) for one in kinds):
        return None
    where = f"{place}: " if place else ""
    if isinstance(value, bool):
        wanted = types_of(schema, root)
        return f"{where}{dumped(value)} is no number" if wanted and wanted <= {"integer", "number", "null"} else None
    if isinstance(value, (int, float)) or (isinstance(value, str) and _DIGITS.fullmatch(value)):
        is_time = all(one.get("format") in _TIMES for one in kinds)
        return f"{where}{dumped(value)} is no text that tells a {kinds[0]['format']}" if is_time else None
    schema = kinds[0] if len(kinds) == 1 else {}
    inner: list[tuple[Any, Any, Any]] = []
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        inner = [(key, one, known.get(key, other)) for key, one in value.items()]
    elif isinstance(value, list):
        inner = [(number, one, schema.get("items")) for number, one in enumerate(value)]
    told = (_swapped(one, its, root, f"{place}.{key}" if place else str(key)) for key, one, its in inner)
    return next((one for one in told if one), None)


class _AllFields(GenerateJsonSchema):
    """A field with a default is to be said, too: strict servers want every field, and models cannot skip one."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return super().field_is_required(field, total) if field["type"] == "typed-dict-field" else True

    def default_schema(self, schema: Any) -> Any:
        return self.generate_inner(schema["schema"])


def _output(name: str, schema: dict[str, Json], check: Callable[[str], Any]) -> Output:
    definitions: dict[str, Json] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    reference = schema.get("$ref", "")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        schema = {**schema["$defs"].get(reference.removeprefix("#/$defs/"), schema), **definitions}
    is_wrapped = schema.get("type") != "object"
    if is_wrapped:
        inner = {key: value for key, value in schema.items() if key not in definitions}
        schema = {"type": "object", "properties": {VALUE: inner}, "required": [VALUE], "additionalProperties": False}
        schema |= definitions
    known_as = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64].strip("_") or "answer"
    return Output(known_as, schema, is_wrapped, _is_strict(schema), check)


def _is_strict(schema: Any) -> bool:
    return all(
        part.get("additionalProperties") is False and set(part.get("required", ())) == set(part.get("properties", {}))
        for part in parts(schema)
        if part.get("type") == "object" or "properties" in part
    )


def _no_output(wanted: Any, why_not: str) -> ConfigurationError:
    text = f"{wanted!r:.80} is nothing an answer can be checked against: {why_not}"
    return ConfigurationError(text, field="output_type", value=wanted, allowed="a type, or JSON Schema")
