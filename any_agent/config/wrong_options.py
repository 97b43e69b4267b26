"""What is wrong with an option, as one error that names the field, the value and what it must be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import ValidationError

_MOST_UNLIKE = 0.75  # below it a suggestion is a guess: session_id is like permission_mode
_MOST_NAMED = 2  # options that have a word in common; more of them say nothing
# Names that others have for it.
_KNOWN_AS = {
    **dict.fromkeys(("response_model", "response_type", "response_schema", "result_type"), "output_type"),
    **dict.fromkeys(("output_schema", "json_schema", "output_model"), "output_type"),
    **dict.fromkeys(("system", "system_message", "instructions"), "system_prompt"),
    **dict.fromkeys(("max_new_tokens", "max_output_tokens", "num_predict"), "max_tokens"),
    **dict.fromkeys(("url", "api_url", "endpoint", "host", "server"), "base_url"),
    **dict.fromkeys(("db_path", "memory_path", "database"), "memory_db_path"),
    **dict.fromkeys(("num_ctx", "n_ctx", "max_context"), "context_window_size"),
    **dict.fromkeys(("fallbacks", "fallback_model"), "fallback_models"),
    **dict.fromkeys(("functions",), "tools"),
    **dict.fromkeys(("stop_sequences",), "stop"),
    **dict.fromkeys(("request_timeout",), "timeout"),
}
_ARGUMENTS = {
    "session_id": "an argument of agent.query(), agent.create_session() and agent.resume()",
    "stream": "an argument of agent.query()",
}
# Where pydantic tells of one of several types only.
_MUST_BE = {
    "tool_choice": "'auto', 'none', 'required', the name of a tool, or a dict in OpenAI's form",
    "context_strategy": "'sliding', 'truncate', 'summarize', 'adaptive', or a function",
    "stop": "a text or a list of texts",
    "fallback_models": "a list of names and dicts",
    "summary_model": "a name or a dict",
    "memory_db_path": "a path",
}
_PLAINLY = {
    "a valid string": "a text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "True or False",
    "a valid list": "a list",
    "a valid dictionary": "a dict",
    "a valid mapping": "a dict",
}


def option_error(error: ValidationError, values: Mapping[str, Any], known: Collection[str]) -> ConfigurationError:
    """The first of pydantic's complaints; the value of a key is not shown."""
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "options"
    value = values.get(field)
    if first["type"] == "extra_forbidden":
        return ConfigurationError(no_such_option(field, known), field=field, value=value, allowed="see AgentOptions")
    shown = "***" if "key" in field else repr(value)[:80]
    wanted = _MUST_BE.get(field) or _wanted(str(first["msg"]))
    if wanted is None:
        text = str(first["msg"]).removeprefix("Value error, ")
        return ConfigurationError(f"option {field}={shown} is wrong: {text}", field=field, value=value, allowed=text)
    return ConfigurationError(
        f"option {field}={shown} must be {wanted}{_which(first['loc'])}", field=field, value=value, allowed=wanted
    )


def _wanted(message: str) -> str | None:
    """What follows on "must be"; None: the message says something else."""
    if message.startswith("Value error, allowed: "):
        return "one of " + message.removeprefix("Value error, allowed: ")
    if not message.startswith("Input should be "):
        return None
    wanted = message.removeprefix("Input should be ")
    wanted = wanted.partition(", unable to ")[0].partition(", got ")[0]
    kind, comma, rest = wanted.partition(", ")
    return f"{_PLAINLY.get(kind, kind)}{comma}{rest}"


def _which(loc: tuple[int | str, ...]) -> str:
    """Which entry of a list is meant."""
    return f" (entry {loc[1] + 1})" if len(loc) > 1 and isinstance(loc[1], int) else ""


def no_such_option(name: str, known: Collection[str]) -> str:
    """That there is none of this name, and which one may be meant."""
    if name in _ARGUMENTS:
        return f"there is no option {name!r}; it is {_ARGUMENTS[name]}"
    meant = _KNOWN_AS.get(name)
    near = meant if meant in known else _near(name, known)
    return f"there is no option {name!r}{f' (did you mean {near!r}?)' if near else ''}"


def _near(name: str, known: Collection[str]) -> str | None:
    """The option that is written nearly so, or has all words of the name."""
    if near := get_close_matches(name, known, 1, _MOST_UNLIKE):
        return near[0]
    words = set(name.split("_"))
    having = [one for one in known if len(name) > 3 and words <= set(one.split("_"))]
    return (
        max(having, key=lambda one: SequenceMatcher(None, name, one).ratio())
        if 0 < len(having) <= _MOST_NAMED
        else None
    )
