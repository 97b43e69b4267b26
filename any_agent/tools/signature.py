"""How arguments reach a function: by name, as one dict or object, with or without a ToolContext."""

from __future__ import annotations

import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any

from ..errors import ConfigurationError, ToolInputError
from ..types import Json
from .context import ToolContext
from .schema import (
    JSON_TYPES,
    closed,
    described,
    is_structured,
    portable,
    schema_maker,
    structured_schema,
    type_schema,
    without_titles,
)

_ARGUMENT_NAMES = ("args", "arguments", "input", "params", "tool_input")
_COMPOSED = {"$ref", "anyOf", "oneOf", "allOf", "patternProperties"}


class Signature:
    """What a function takes, seen by a model that sends one JSON object.

    Args:
        input_schema: the schema that goes with the function, in any spelling; None: made from the type hints.

    Raises:
        ConfigurationError: it cannot be a tool's function (a generator, no signature).
    """

    def __init__(self, function: Callable[..., Any], input_schema: Any = None) -> None:
        call = getattr(type(function), "__call__", None)  # noqa: B004
        if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in (function, call)):
            raise _unfit(function, "yields; a tool returns its result (ToolContext.progress tells what happens before)")
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except ValueError:
            raise _unfit(function, "does not tell its parameters; wrap it in a function") from None
        self.is_method = bool(parameters) and parameters[0].name in ("self", "cls")
        parameters = parameters[self.is_method :]
        self.hints = _hints(function, parameters)
        self.lacks_types = any(isinstance(p.annotation, str) and p.name not in self.hints for p in parameters)
        self.context_name = next((p.name for p in parameters if _is_context(self.hints.get(p.name))), None)
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
        self.takes_any = bool(self._rest)
        self._all = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        self.parameters = [p for p in self._all if p.name != self.context_name]
        self.whole = self._whole_name(input_schema)
        self.whole_type = self._whole_type(input_schema)
        self._defaults: dict[str, Json] = {}
        self._whole_numbers: list[str] = []

    def _whole_name(self, given: Any) -> str | None:
        """The parameter that gets all arguments as one dict or object; None: each goes to the one of its name."""
        if len(self.parameters) != 1:
            return None
        (one,) = self.parameters
        hint = self.hints.get(one.name)
        if given is None:
            is_fit = hint is None or _is_plain_dict(hint) or is_structured(hint)
            return one.name if one.name in _ARGUMENT_NAMES and is_fit else None
        if is_structured(given):
            return one.name if hint is given or one.name not in structured_schema(given)["properties"] else None
        return one.name if one.default is one.empty or one.name in _ARGUMENT_NAMES else None

    def _whole_type(self, given: Any) -> Any:
        """What the one parameter wants to get instead of a dict; None: the dict."""
        if self.whole is None:
            return None
        hint = self.hints.get(self.whole)
        if hint is not None and is_structured(hint):
            return hint
        return given if given is not None and is_structured(given) and hint is None else None

    def schema(self) -> dict[str, Json]:
        """JSON Schema from type hints and docstring."""
        if self.whole is not None:
            if self.whole_type is not None:
                return structured_schema(self.whole_type)
            return {"type": "object", "properties": {}, "additionalProperties": True}
        from pydantic import Field, create_model

        told = parameter_docs(self.function)
        fields: dict[str, Any] = {}
        for number, p in enumerate(self.parameters):
            default = ... if p.default is p.empty else p.default
            hint = self.hints.get(p.name, Any)
            text = described(hint) or told.get(p.name)
            has_own = any(getattr(one, "description", None) for one in getattr(hint, "__metadata__", ()))
            more: dict[str, Any] = {"description": text} if text and not has_own else {}
            # Pydantic refuses some names (`_x`, `schema`): the alias is what the model sees.
            fields[f"field_{number}"] = (portable(hint), Field(default, alias=p.name, **more))
        try:
            model = create_model("Arguments", **fields)
            schema: dict[str, Json] = without_titles(model.model_json_schema(schema_generator=schema_maker()))
        except Exception as error:
            said = str(error).splitlines()[0]
            raise _unfit(self.function, f"has a parameter whose type no JSON Schema can tell: {said}") from None
        schema.setdefault("properties", {})
        closed(list(schema.get("$defs", {}).values()))
        if self.takes_any:  # the rest of them are told by one type
            others = self.hints.get(self._rest, Any)
            schema["additionalProperties"] = True if others is Any else type_schema(others)
        return schema

    def fit(self, schema: Mapping[str, Json]) -> None:
        """Take the schema that the model will see.

        Raises:
            ConfigurationError: it names parameters that the function does not have, or the other way round.
        """
        properties: Mapping[str, Any] = schema.get("properties", {})
        if self.whole in properties and self.whole_type is None:
            self.whole = None  # it goes by its name
        self._whole_numbers = [name for name, one in properties.items() if _is_whole_number(one)]
        own = {p.name for p in self.parameters if p.default is not p.empty}
        self._defaults = {
            name: one["default"]
            for name, one in properties.items()
            if isinstance(one, dict) and "default" in one and name not in own and self.whole_type is None
        }
        if self.whole is not None or schema.keys() & _COMPOSED:
            return
        known = {p.name for p in self.parameters}
        lacking = [p.name for p in self.parameters if p.default is p.empty and p.name not in properties]
        surplus = [] if self.takes_any else [name for name in properties if name not in known]
        if lacking:
            raise _unfit(self.function, f"needs {lacking[0]!r}, which its schema does not have")
        if surplus:
            raise _unfit(self.function, f"has no parameter {surplus[0]!r}, which its schema has")

    def bind(
        self, arguments: dict[str, Json], context: ToolContext | None, tool_name: str
    ) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named arguments of the call. `arguments` has passed the schema and is changed.

        Raises:
            ToolInputError: a value does not become what its type hint wants, or nobody takes it.
        """
        for name in self._defaults.keys() - arguments.keys():
            arguments[name] = self._defaults[name]
        for name in self._whole_numbers:
            value = arguments.get(name)
            if value.__class__ is float:
                arguments[name] = int(value)
        if self.whole is not None:
            value = arguments if self.whole_type is None else _made(self._whole_adapter, arguments, tool_name)
            arguments = {self.whole: value}
        else:
            for name, adapter in self._adapters.items():
                if name in arguments:
                    arguments[name] = _made(adapter, arguments[name], tool_name, name)
            if not self.takes_any and (unknown := arguments.keys() - self._names):
                raise ToolInputError(f"{tool_name}: there is no argument {sorted(unknown)[0]!r}", tool_name=tool_name)
        if self.context_name is not None:
            arguments[self.context_name] = context or ToolContext(tool_name)
        last = max([place for place, p in enumerate(self._by_place) if p.name in arguments], default=-1)
        places = [arguments.pop(p.name, p.default) for p in self._by_place[: last + 1]]
        return places, arguments

    @cached_property
    def _names(self) -> set[str]:
        return {p.name for p in self.parameters}

    @cached_property
    def _by_place(self) -> list[inspect.Parameter]:
        """Parameters that are given by their place: those that take no name, and the one that takes everything."""
        taken = [p for p in self._all if p.kind is not p.KEYWORD_ONLY]
        places = [n for n, p in enumerate(taken) if p.kind is p.POSITIONAL_ONLY or p.name == self.whole]
        return taken[: places[-1] + 1] if places else []

    @cached_property
    def _whole_adapter(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(portable(self.whole_type))

    @cached_property
    def _adapters(self) -> dict[str, Any]:
        """Of the parameters that want an object (a model, a date, an enum, …), not the plain JSON value."""
        from pydantic import TypeAdapter

        wanted = {p.name: self.hints.get(p.name, Any) for p in self.parameters}
        return {name: TypeAdapter(portable(hint)) for name, hint in wanted.items() if _wants_object(hint)}


def _made(adapter: Any, value: Json, tool_name: str, name: str = "") -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        said = []
        for one in error.errors(include_url=False)[:5]:
            where = ".".join(map(str, [name, *one["loc"]] if name else one["loc"])) or "arguments"
            said.append(f"{where}: {one['msg'].removeprefix('Value error, ')}")
        raise ToolInputError(f"{tool_name}: {'; '.join(said)}", tool_name=tool_name) from None


def _unfit(function: Any, problem: str) -> ConfigurationError:
    name = getattr(function, "__name__", repr(function))
    text = f"{name} cannot be a tool: it {problem}"
    return ConfigurationError(text, field="handler", value=name, allowed="a function that takes what its schema says")


def _is_plain_dict(hint: Any) -> bool:
    return any(hint is one for one in (dict, Mapping, Any)) or typing.get_origin(hint) in (dict, Mapping)


def _is_whole_number(schema: Any) -> bool:
    """It takes an integer, or an integer or null."""
    if not isinstance(schema, dict):
        return False
    kinds = [one.get("type") if isinstance(one, dict) else None for one in schema.get("anyOf", [schema])]
    kinds = [kind for one in kinds for kind in (one if isinstance(one, list) else [one])]
    return "integer" in kinds and all(kind in ("integer", "null") for kind in kinds)


def _is_context(hint: Any) -> bool:
    if isinstance(hint, str):  # imported for type checking only
        return hint.split("|")[0].strip().rpartition(".")[2] == "ToolContext"
    return hint is ToolContext or ToolContext in typing.get_args(hint)


def _wants_object(hint: Any) -> bool:
    if hint is Any or isinstance(hint, str) or any(hint is one for one in JSON_TYPES):
        return False
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return any(isinstance(one, enum.Enum) for one in typing.get_args(hint))
    if origin is Annotated:  # its functions may change the value
        bare, *rest = typing.get_args(hint)
        return _wants_object(bare) or any(type(one).__module__.startswith("pydantic.functional") for one in rest)
    if origin in (list, dict, typing.Union, types.UnionType):
        return any(_wants_object(a) for a in typing.get_args(hint))
    return origin is not None or isinstance(hint, type)


def _hints(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> dict[str, Any]:
    """Type hints by parameter; one that cannot be resolved stays away, and the others stay."""
    inner: Any = getattr(function, "func", function)  # of a partial
    if not inspect.isroutine(inner):
        inner = type(inner).__call__
    nearby: dict[str, Any] = {}
    for _ in range(2):
        try:
            found = typing.get_type_hints(inner, localns=nearby or None, include_extras=True)
            return {p.name: found[p.name] for p in parameters if p.name in found}
        except Exception:
            found, nearby = {}, _names_around(inspect.unwrap(inner))
    space = {**getattr(inspect.unwrap(inner), "__globals__", {}), **nearby}
    for p in parameters:
        if p.annotation is p.empty:
            continue
        if not isinstance(p.annotation, str):
            found[p.name] = p.annotation
            continue
        try:
            found[p.name] = eval(p.annotation, space)
        except Exception:
            if _is_context(p.annotation):
                found[p.name] = ToolContext
    return found


def _names_around(function: Any) -> dict[str, Any]:
    """The names where a function was defined, as far as what defines it is still running: types of a test, say."""
    names: dict[str, Any] = {}
    code, frame = getattr(function, "__code__", None), sys._getframe()
    while code is not None and (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if code in frame.f_code.co_consts:
            names, code = {**frame.f_locals, **names}, frame.f_code
    return names


# ------------------------------------------------------------------ docstrings


def summary(documented: Any) -> str:
    """What the docstring of a function or class says it is for."""
    parsed = _docstring(documented)
    return "\n\n".join(part for part in (parsed.short_description, parsed.long_description) if part) if parsed else ""


def parameter_docs(function: Callable[..., Any]) -> dict[str, str]:
    parsed = _docstring(function)
    return {p.arg_name: p.description for p in parsed.params if p.description} if parsed else {}


def _docstring(documented: Any) -> Any:
    inner = getattr(documented, "func", documented)  # of a partial
    doc = getattr(inner, "__doc__", None)  # its own: an inherited one speaks of something else
    if not doc and not isinstance(inner, type) and not inspect.isroutine(inner):  # an object that can be called
        doc = vars(type(inner)).get("__call__", inner).__doc__
    if not doc:
        return None
    from docstring_parser import parse

    return parse(inspect.cleandoc(doc))
