"""Arguments compared: one text for those that mean the same (votes, repetitions, caches), and whether they fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def canonical(arguments: Any) -> str:
    """JSON with sorted keys, 2.0 written as 2. What JSON cannot say is written as Python shows it; never raises."""
    try:
        return json.dumps(_plain(arguments), sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=repr)
    except (TypeError, ValueError, RecursionError):
        return repr(arguments)


def _plain(value: Any) -> Any:
    kind = value.__class__
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict:
        return {key: _plain(one) for key, one in value.items()}
    if kind is list or kind is tuple:
        return [_plain(one) for one in value]
    return value


def fits(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """A compiled check whether values fit a JSON Schema. A `$ref` is not fetched: the tool's own check tells of it."""
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY  # the default one would fetch

    validator = validator_for(schema)(schema, registry=EMPTY_REGISTRY)

    def check(value: Any) -> bool:
        try:
            return bool(validator.is_valid(value))
        except Unresolvable:
            return True

    return check
