"""How types, a dict or JSON Schema tell what a tool takes, and the check of arguments against it."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NoReturn, cast

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
    if isinstance(schema, str) or not isinstance(schema, (Mapping, Iterable)):
        raise ConfigurationError(
            f"{schema!r} does not say what a tool takes",
            field="input_schema",
            value=schema,
            allowed="a dict, ToolParameters, a TypedDict, dataclass or pydantic model, JSON Schema",
        )
    if not isinstance(schema, Mapping):
        parameters = list(schema)
        for one in parameters:
            if not isinstance(one, ToolParameter):
                _no_type(one)
        return _of_fields({p.name: p.schema() for p in parameters}, [p.name for p in parameters if p.required])
    if _is_json_schema(schema):
        out = dict(schema)
        out.setdefault("type", "object")
        out.setdefault("properties", {})
        _check_words(out)
        return out
    properties, required = {}, []
    for name, spec in schema.items():
        properties[name], is_required = _property(spec)
        if is_required:
            required.append(name)
    return _of_fields(properties, required)


def _of_fields(properties: dict[str, dict[str, Json]], required: list[str]) -> dict[str, Json]:
    _check_words(list(properties.values()))
    schema: dict[str, Json] = {"type": "object", "properties": properties, "required": required}
    for one in properties.values():
        for name, meant in one.pop("$defs", {}).items():  # a $ref counts from the root
            if schema.setdefault("$defs", {}).setdefault(name, meant) != meant:
                text = f"two types of the parameters are called {name}; rename one"
                raise ConfigurationError(text, field="input_schema", value=name, allowed="names that differ")
    return schema


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
        return {"type": hint} if hint in JSON_TYPES.values() else _no_type(hint)
    if hint is Any:
        return {}
    from pydantic import TypeAdapter

    try:
        plain_schema = TypeAdapter(portable(hint)).json_schema(schema_generator=schema_maker())
    except Exception:
        return _no_type(hint)
    schema = closed(without_titles(plain_schema))
    told = described(hint)
    return {**schema, "description": told} if told and "description" not in schema else schema


def _no_type(hint: Any) -> NoReturn:
    allowed = f"a type, JSON Schema, {', '.join(JSON_TYPES.values())}"
    text = f"{hint!r} is no type a tool parameter can have; allowed: {allowed}"
    raise ConfigurationError(text, field="input_schema", value=hint, allowed=allowed)


@lru_cache(maxsize=1)
def schema_maker() -> Any:
    """Pydantic's generator of JSON Schema, which leaves out defaults that JSON cannot say and warns of nothing."""
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        def emit_warning(self, kind: Any, detail: str) -> None:
            return None

        def encode_default(self, dft: Any) -> Any:
            told = super().encode_default(dft)
            json.dumps(told, allow_nan=False)  # a PydanticSerializationError is a ValueError, too
            return told

        def default_schema(self, schema: Any) -> Any:
            try:
                return super().default_schema(schema)
            except ValueError:
                return self.generate_inner(schema["schema"])

    return Quiet


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


def parts(schema: Any) -> list[dict[str, Any]]:
    """All the schemas in a schema, itself first."""
    if isinstance(schema, list):
        return [part for one in schema for part in parts(one)]
    if not isinstance(schema, dict):
        return []
    found = [schema]
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions", "patternProperties") and isinstance(value, dict):
            found += parts(list(value.values()))
        elif key not in ("enum", "const", "default", "examples", "required"):
            found += parts(value)
    return found


def closed(schema: Any) -> Any:
    """Objects take the fields they name and no others, unless they say something else: nothing is dropped silently."""
    for part in parts(schema):
        if part.get("type") == "object" and "properties" in part:
            part.setdefault("additionalProperties", False)
    return schema


def _check_words(schema: Any) -> None:
    """Look for types that there are not; the whole check needs a package that loads at the first call."""
    for part in parts(schema):
        named = part.get("type")
        for one in named if isinstance(named, list) else [named]:
            if isinstance(one, str) and one not in JSON_TYPES.values():
                _no_type(one)


def _is_optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


# ------------------------------------------------------------------ arguments


def checker(schema: dict[str, Json], field: str = "input_schema") -> Callable[[Any], list[tuple[str, str]]]:
    """A compiled check: (place, problem) of what is wrong with a value, at most five. Nothing is fetched.

    Raises:
        ConfigurationError: the schema itself is wrong; also from the check, when a `$ref` leads nowhere.
    """
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY  # the default one fetches what a $ref names

    def wrong(told: str) -> ConfigurationError:
        return ConfigurationError(
            f"this is no JSON Schema: {told}", field=field, value=schema, allowed="JSON Schema, whole in itself"
        )

    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise wrong(f"{'.'.join(map(str, error.absolute_path)) or 'the schema'}: {error.message}") from None
    validator = kind(schema, registry=EMPTY_REGISTRY)

    def check(value: Any) -> list[tuple[str, str]]:
        try:
            problems = sorted(validator.iter_errors(value), key=lambda e: list(map(str, e.path)))[:5]
        except Unresolvable as error:
            raise wrong(f"$ref {error.ref} leads nowhere; put what it means into $defs") from None
        told = [best_match([e]) or e for e in problems]  # of a union: what is wrong with the nearest one
        return [(".".join(map(str, e.absolute_path)), e.message) for e in told]

    return check
