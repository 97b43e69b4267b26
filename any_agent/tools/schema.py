"""How a function, a dict or JSON Schema tells what a tool takes, and the check of arguments against it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..errors import ConfigurationError
from ..types import Json

_JSON_TYPES: Mapping[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null",
}  # fmt: skip
_SCHEMA_WORDS = {"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "$schema", "$defs"}


@dataclass(frozen=True, slots=True)
class ToolParameter:
    """One parameter of a tool, for code that builds schemas by hand."""

    name: str
    type: Any = str
    description: str = ""
    required: bool = True
    default: Json = None

    def schema(self) -> dict[str, Json]:
        out = dict(_type_schema(self.type))
        if self.description:
            out["description"] = self.description
        if self.default is not None:
            out["default"] = self.default
        return out


class Signature:
    """How arguments reach a handler: by name, or as one dict."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler
        self.is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(type(handler), "__call__", None)  # noqa: B004
        )
        self.parameters = [p for p in inspect.signature(handler).parameters.values() if p.name not in ("self", "cls")]
        self.hints = _hints(handler)
        named = [p for p in self.parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        self.takes_dict = len(named) == 1 and _is_args_dict(named[0], self.hints)
        self._models = {
            name: hint
            for name, hint in self.hints.items()
            if not self.takes_dict and _needs_pydantic(hint) and name != "return"
        }

    def bind(self, arguments: dict[str, Json]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.takes_dict:
            return (arguments,), {}
        for name in self._models.keys() & arguments.keys():
            from pydantic import TypeAdapter

            arguments[name] = TypeAdapter(self._models[name]).validate_python(arguments[name])
        return (), arguments

    def schema(self) -> dict[str, Json]:
        """JSON Schema from type hints and docstring."""
        if self.takes_dict:
            return {"type": "object", "properties": {}, "additionalProperties": True}
        from pydantic import Field, create_model

        told = _parameter_docs(self.handler)
        fields: dict[str, Any] = {}
        for p in self.parameters:
            if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                continue
            default = ... if p.default is p.empty else p.default
            fields[p.name] = (self.hints.get(p.name, Any), Field(default, description=told.get(p.name)))
        schema = create_model("Arguments", **fields).model_json_schema()
        schema.pop("title", None)
        for one in schema.get("properties", {}).values():
            one.pop("title", None)
        return cast("dict[str, Json]", schema)


def _is_args_dict(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> bool:
    hint = hints.get(parameter.name)
    plain_dict = hint is None or hint is dict or typing.get_origin(hint) in (dict, Mapping)
    return plain_dict and (parameter.name in ("args", "arguments", "input", "params") or hint is not None)


def _needs_pydantic(hint: Any) -> bool:
    """The handler wants an object (a model, a dataclass, an enum, …), not the plain JSON value."""
    if hint in _JSON_TYPES or hint is Any or isinstance(hint, str):
        return False
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return False
    if origin is not None:
        return any(_needs_pydantic(a) for a in typing.get_args(hint) if a is not ...)
    return isinstance(hint, type) and not issubclass(hint, types.NoneType)


def _hints(handler: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(handler, include_extras=True)
    except Exception:  # a hint that cannot be resolved counts as Any
        return {}


def summary(handler: Callable[..., Any]) -> str:
    doc = inspect.getdoc(handler)
    if not doc or getattr(handler, "__self__", None).__class__.__name__ == "Tool":
        return ""
    from docstring_parser import parse

    parsed = parse(doc)
    return "\n\n".join(part for part in (parsed.short_description, parsed.long_description) if part)


def _parameter_docs(handler: Callable[..., Any]) -> dict[str, str]:
    doc = inspect.getdoc(handler)
    if not doc:
        return {}
    from docstring_parser import parse

    return {p.arg_name: p.description for p in parse(doc).params if p.description}


def normalise_schema(schema: Mapping[str, Any] | Iterable[ToolParameter]) -> dict[str, Json]:
    """Any spelling of a tool's input as JSON Schema of type object.

    `{"x": str}` and `{"x": {"type": "string", "optional": True}}` become properties; full JSON Schema passes unchanged.
    """
    if not isinstance(schema, Mapping):
        parameters = list(schema)
        properties = {p.name: p.schema() for p in parameters}
        return {"type": "object", "properties": properties, "required": [p.name for p in parameters if p.required]}
    if _is_json_schema(schema):
        out = dict(schema)
        out.setdefault("type", "object")
        out.setdefault("properties", {})
        return out
    properties, required = {}, []
    for name, spec in schema.items():
        if isinstance(spec, Mapping):
            one = {k: v for k, v in spec.items() if k not in ("optional", "required")}
            is_required = spec.get("required", not (spec.get("optional") or "default" in spec))
            if isinstance(one.get("type"), type):
                one.update(_type_schema(one["type"]))
        else:
            one, is_required = dict(_type_schema(spec)), not _is_optional(spec)
        properties[name] = one
        if is_required is True:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _is_json_schema(schema: Mapping[str, Any]) -> bool:
    if schema.get("type") == "object" or isinstance(schema.get("properties"), Mapping):
        return True
    return bool(schema.keys() & (_SCHEMA_WORDS - {"type", "properties"}))


def _is_optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def _type_schema(hint: Any) -> dict[str, Json]:
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    if isinstance(hint, str):
        return {"type": hint}
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(hint).json_schema()
    except Exception:
        raise ConfigurationError(
            f"{hint!r} is no type a tool parameter can have",
            field="input_schema",
            value=hint,
            allowed="a type or JSON Schema",
        ) from None


def checker(schema: dict[str, Json]) -> Callable[[Any], str | None]:
    """A compiled check: what is wrong with the arguments, in words for the model; None when nothing is."""
    from jsonschema.validators import validator_for

    validator = validator_for(schema)(schema)

    def check(arguments: Any) -> str | None:
        problems = sorted(validator.iter_errors(arguments), key=lambda e: list(map(str, e.path)))
        if not problems:
            return None
        said = [f"{'.'.join(map(str, e.absolute_path)) or 'arguments'}: {e.message}" for e in problems[:5]]
        return "; ".join(said)

    return check
