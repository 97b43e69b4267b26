"""What is written on a tape: requests, deltas and errors as JSON values, and where two requests differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, cast

from .. import errors
from ..errors import ProviderError
from ..masking import masked, masked_pieces, masked_value
from ..types import (
    Attempt,
    AttemptFailed,
    ContextFitted,
    ContextSummarized,
    ContextTruncated,
    ModelLoading,
    ModelRequest,
    StreamEnd,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from .wire import to_wire, tools_to_wire

Json = dict[str, Any]
_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(TextDelta, ThinkingDelta, ToolCallDelta, StreamEnd, AttemptFailed, ModelLoading),
        *(ContextFitted, ContextSummarized, ContextTruncated, Attempt, Usage),
    )
}
_PIECES = {"TextDelta": "text", "ThinkingDelta": "thinking", "ToolCallDelta": "arguments"}  # fields that come in pieces

# ------------------------------------------------------------------ deltas


def delta_json(value: Any) -> Any:
    """A delta as JSON: its kind, and the fields that are not as they are by default."""
    kind = type(value)
    if _KINDS.get(kind.__name__) is not kind:
        return [delta_json(one) for one in value] if isinstance(value, (list, tuple)) else value
    said: Json = {"is": kind.__name__}
    for field in fields(kind):
        given = getattr(value, field.name)
        if field.default is MISSING or given != field.default:
            said[field.name] = delta_json(given)
    return said


def delta_of(said: Any) -> Any:
    """The delta that `delta_json` wrote. Fields that this version does not know are left out."""
    if isinstance(said, list):
        return tuple(delta_of(one) for one in said)
    if not (isinstance(said, dict) and said.get("is") in _KINDS):
        return said
    kind = _KINDS[said["is"]]
    known = {field.name: field for field in fields(kind)}
    return kind(**{name: _field(name, one) for name, one in said.items() if name in known})


def _field(name: str, said: Any) -> Any:
    return said if name in ("provider_fields", "arguments") else delta_of(said)


def masked_deltas(deltas: Sequence[Json], secrets: Sequence[str]) -> list[Json]:
    """Deltas without secrets, also those that lie across several deltas."""
    out = [dict(one) for one in deltas]
    rivers: dict[Any, list[int]] = {}
    for place, one in enumerate(out):
        name = _PIECES.get(one["is"])
        if name and isinstance(one.get(name), str):
            rivers.setdefault((name, one.get("index")), []).append(place)
        elif isinstance(one.get("arguments"), dict):
            out[place]["arguments"] = _masked_object(one["arguments"], secrets)
        else:
            out[place] = masked_value(one, secrets, by_name=False)
    for (name, _), places in rivers.items():
        for place, text in zip(places, masked_pieces([out[p][name] for p in places], secrets), strict=True):
            out[place][name] = text
    return out


def _masked_object(value: Json, secrets: Sequence[str]) -> Any:
    """Masked as its text, for that is how the next request holds it."""
    return json.loads(masked(json.dumps(value, ensure_ascii=False, default=str), secrets))


# ------------------------------------------------------------------ errors


def error_json(error: ProviderError, secrets: Sequence[str]) -> Json:
    """An error as JSON, without its attempts (they are made anew)."""
    values = {name: one for name, one in vars(error).items() if one is None or isinstance(one, (str, int, float))}
    return cast(Json, masked_value({"is": type(error).__name__, **values}, secrets))


def error_of(said: Json) -> ProviderError:
    kind = getattr(errors, said["is"], ProviderError)
    error: ProviderError = kind(said.get("message", ""))
    for name, value in said.items():
        if name not in ("is", "message"):
            setattr(error, name, value)
    return error


# ------------------------------------------------------------------ requests


def request_json(request: ModelRequest, secrets: Sequence[str]) -> Json:
    """What makes a request the same: messages, tools, parameters; not its time limits.

    Ids of tool calls are numbered: one that no server gave is made anew in each run.
    """
    said: Json = {
        "messages": _numbered(to_wire(request.messages)),
        "tools": tools_to_wire(request.tools),
        "tool_choice": request.tool_choice,
        "params": dict(request.params),
        "extra_body": dict(request.extra_body),
    }
    plain = json.loads(json.dumps({k: v for k, v in said.items() if v not in (None, [], {})}, default=str))
    return {name: masked_value(one, secrets, by_name=name != "messages") for name, one in plain.items()}


def _numbered(messages: Sequence[Mapping[str, Any]]) -> list[Json]:
    ids: dict[str, str] = {}

    def number(call_id: str) -> str:
        return ids.setdefault(call_id, f"call {len(ids) + 1}")

    out: list[Json] = []
    for message in messages:
        one = dict(message)
        if "tool_calls" in one:
            one["tool_calls"] = [{**call, "id": number(call["id"])} for call in one["tool_calls"]]
        if "tool_call_id" in one:
            one["tool_call_id"] = number(one["tool_call_id"])
        out.append(one)
    return out


# ------------------------------------------------------------------ differences


def difference(recorded: Any, asked: Any, path: str = "") -> str:
    """Where two JSON values differ first, in lines for people; '': nowhere."""
    if recorded == asked:
        return ""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        names = sorted(recorded.keys() | asked.keys(), key=lambda name: (name != "messages", name))
        for name in names:
            place = f"{path}.{name}" if path else name
            if name not in asked:
                return f"  {place} was there, and is missing now:\n    recorded: {_short(recorded[name])}"
            if name not in recorded:
                return f"  {place} is new:\n    now:      {_short(asked[name])}"
            if found := difference(recorded[name], asked[name], place):
                return found
    if isinstance(recorded, list) and isinstance(asked, list):
        for place, (one, other) in enumerate(zip(recorded, asked, strict=False)):
            if found := difference(one, other, f"{path}[{place}]"):
                return found
        many, few = (recorded, asked) if len(recorded) > len(asked) else (asked, recorded)
        which = "the first that is missing" if many is recorded else "the first new one"
        counts = f"{len(recorded)} recorded, {len(asked)} now"
        return f"  {path}: {counts}; {which} is {path}[{len(few)}]:\n    {_short(many[len(few)])}"
    if isinstance(recorded, str) and isinstance(asked, str):
        start = next((i for i, (a, b) in enumerate(zip(recorded, asked, strict=False)) if a != b), None)
        start = max((min(len(recorded), len(asked)) if start is None else start) - 40, 0)
        recorded, asked = _around(recorded, start), _around(asked, start)
        return f"  {path} differs:\n    recorded: {recorded}\n    now:      {asked}"
    return f"  {path} differs:\n    recorded: {_short(recorded)}\n    now:      {_short(asked)}"


def _around(text: str, start: int, most: int = 120) -> str:
    end = start + most
    return ("…" if start else "") + repr(text[start:end]) + ("…" if len(text) > end else "")


def _short(value: Any, most: int = 160) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else text[: most - 1] + "…"
