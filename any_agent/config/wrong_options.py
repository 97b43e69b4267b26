"""What is wrong with an option, as one error that names the field, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import ValidationError


def option_error(error: ValidationError, values: Mapping[str, Any], known: Collection[str]) -> ConfigurationError:
    """The first of pydantic's complaints; the value of a key is not shown."""
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "options"
    value = values.get(field)
    shown = "***" if "key" in field else repr(value)[:80]
    if first["type"] == "extra_forbidden":
        near = get_close_matches(field, known, 1, 0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return ConfigurationError(
            f"there is no option {field!r}{hint}", field=field, value=value, allowed="see AgentOptions"
        )
    allowed = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigurationError(
        f"option {field}={shown} is not allowed: {allowed}", field=field, value=value, allowed=allowed
    )
