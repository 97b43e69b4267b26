"""How types, a dict or JSON Schema tell what a tool takes, and the check of arguments against it."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from ..errors import ConfigurationError
from ..types import Json

JSON_TYPES: Mapping[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null",
}  # fmt: skip
_SCHEMA_WORDS = {"$ref", "anyOf", "oneOf", "allOf", "$schema", "$defs"}


@dataclass(frozen=True, slots=True)
class ToolParameter:
    """One parameter of a tool, for code that builds schemas by hand. `enum` lists the values it may have."""

    name: str
    type: Any = str
    description: str = ""
    required: bool = True
    default: Json = None
    enum: Sequence[Json] | None = None

    def schema(self) -> dict[str, Json]:
        out = dict(type_schema(self.type))
        if self.description:
            out["description"] = self.description
        if self.enum is not None:
            out["enum"] = list(self.enum)
        if self.default is not None:
            out["default"] = self.default
        return out


def normalise_schema(schema: Any) -> dict[str, Json]:
    """Any spelling of a tool's input as JSON Schema of type object.

    `{"x": str}` and `{"x": {"type": "string", "optional": True}}` become properties; a TypedDict, dataclass or pydantic
    model tells its fields; full JSON Schema passes unchanged.

    Raises:
        ConfigurationError: something in it is no type.
    """
    if is_structured(schema):
        return structured_schema(schema)
    if not isinstance(schema, (Mapping, Iterable)):
        raise ConfigurationError(
            f"{schema!r} does not say what a tool takes",
            field="input_schema",
            value=schema,
            allowed="a dict, ToolParameters, a TypedDict, dataclass or pydantic model, JSON Schema",
        )
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
        properties[name], is_required = _property(spec)
        if is_required:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _property(spec: Any) -> tuple[dict[str, Json], bool]:
    if not isinstance(spec, Mapping):
        return dict(type_schema(spec)), not _is_optional(spec)
    one = {key: value for key, value in spec.items() if key not in ("optional", "required")}
    if isinstance(spec.get("required"), list):  # of an object's own properties
        one["required"] = spec["required"]
    if "type" in one and not isinstance(one["type"], (str, list)):
        one.update(type_schema(one["type"]))
    if isinstance(spec.get("required"), bool):
        return one, spec["required"]
    return one, not (spec.get("optional") or "default" in spec)


def _is_json_schema(schema: Mapping[str, Any]) -> bool:
    if schema.get("type") == "object" or isinstance(schema.get("properties"), Mapping):
        return True
    return bool(schema.keys() & _SCHEMA_WORDS)


# ------------------------------------------------------------------ types


def is_structured(hint: Any) -> bool:
    """A TypedDict, dataclass or pydantic model: its fields are a tool's parameters."""
    if not isinstance(hint, type):
        return False
    return _is_typeddict(hint) or dataclasses.is_dataclass(hint) or _is_model(hint)


def _is_typeddict(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def _is_model(hint: Any) -> bool:
    return hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate")


def structured_schema(hint: Any) -> dict[str, Json]:
    """The JSON Schema of a TypedDict, dataclass or pydantic model; `Annotated[str, "…"]` describes a field."""
    schema = type_schema(hint)
    try:
        hints = typing.get_type_hints(hint, include_extras=True)
    except Exception:  # a name that cannot be resolved: pydantic has found its way all the same
        hints = {}
    for name, one in schema.get("properties", {}).items():
        told = described(hints.get(name))
        if told:
            one.setdefault("description", told)
    schema.pop("description", None)  # the class's docstring, which speaks to programmers
    return {"type": "object", "properties": {}, **schema}


def described(hint: Any) -> str | None:
    """The text in `Annotated[int, "text"]`."""
    if getattr(getattr(hint, "__origin__", None), "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        hint = hint.__args__[0]
    for one in getattr(hint, "__metadata__", ()):
        if isinstance(one, str):
            return one
        if isinstance(getattr(one, "documentation", None), str):  # typing_extensions.Doc
            return cast(str, one.documentation)
    return None


def type_schema(hint: Any) -> dict[str, Json]:
    """The JSON Schema of one type.

    Raises:
        ConfigurationError: it is no type that JSON can say.
    """
    plain = next((word for one, word in JSON_TYPES.items() if hint is one), None)
    if plain is not None:
        return {"type": plain}
    if isinstance(hint, str):
        return {"type": hint}
    if hint is Any:
        return {}
    from pydantic import TypeAdapter

    try:
        schema = cast("dict[str, Json]", without_titles(TypeAdapter(portable(hint)).json_schema()))
    except Exception:
        raise ConfigurationError(
            f"{hint!r} is no type a tool parameter can have",
            field="input_schema",
            value=hint,
            allowed="a type or JSON Schema",
        ) from None
    told = described(hint)
    return {**schema, "description": told} if told and "description" not in schema else schema


def portable(hint: Any) -> Any:
    """The type as pydantic takes it: before Python 3.12 it refuses `typing.TypedDict`, wherever it stands."""
    if sys.version_info >= (3, 12):
        return hint
    if _is_typeddict(hint) and type(hint).__module__ == "typing":
        return _portable_typeddict(hint)
    args = typing.get_args(hint)
    changed = tuple(portable(one) if not isinstance(one, (str, list)) else one for one in args)
    if all(a is b for a, b in zip(args, changed, strict=True)):
        return hint
    if hasattr(hint, "__metadata__"):
        items = changed[:1] + hint.__metadata__
        return Annotated[items]
    if typing.get_origin(hint) is types.UnionType:
        return typing.Union[changed]  # noqa: UP007
    return hint.copy_with(changed) if hasattr(hint, "copy_with") else types.GenericAlias(hint.__origin__, changed)


def _portable_typeddict(hint: Any) -> Any:
    from typing_extensions import NotRequired, Required, TypedDict

    fields = {}
    for name, one in typing.get_type_hints(hint, include_extras=True).items():
        inner = portable(one)
        if getattr(inner, "__origin__", None) not in (Required, NotRequired):
            inner = (Required if name in hint.__required_keys__ else NotRequired)[inner]
        fields[name] = inner
    return TypedDict(hint.__name__, fields)  # type: ignore[operator]


def without_titles(schema: Any) -> Any:
    """JSON Schema without the titles that pydantic gives everything: they cost tokens and say nothing."""
    if isinstance(schema, list):
        return [without_titles(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        named = key in ("properties", "$defs", "patternProperties") and isinstance(value, dict)
        if named:
            out[key] = {name: without_titles(one) for name, one in value.items()}
        else:
            out[key] = value if key in ("default", "const", "enum", "examples", "required") else without_titles(value)
    return out


def _is_optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


# ------------------------------------------------------------------ arguments


def checker(schema: dict[str, Json]) -> Callable[[Any], str | None]:
    """A compiled check: what is wrong with the arguments, in words for the model; None when nothing is.

    Raises:
        ConfigurationError: the schema itself is wrong.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path)) or "the schema"
        text = f"this is no JSON Schema: {where}: {error.message}"
        raise ConfigurationError(text, field="input_schema", value=schema, allowed="JSON Schema") from None
    validator = kind(schema)

    def check(arguments: Any) -> str | None:
        problems = sorted(validator.iter_errors(arguments), key=lambda e: list(map(str, e.path)))
        if not problems:
            return None
        said = [f"{'.'.join(map(str, e.absolute_path)) or 'arguments'}: {e.message}" for e in problems[:5]]
        return "; ".join(said)

    return check
