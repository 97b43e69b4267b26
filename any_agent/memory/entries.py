"""What a store keeps: the kinds of entries, their fields, and how they become rows. No SQL dialect, no I/O.

Each kind has a table; a field without a column is kept in the column `extra`. A store generates its statements from
`KINDS`, so two stores cannot disagree on what an entry is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any, Literal, TypeAlias

from ..errors import InvalidInputError

Entry: TypeAlias = dict[str, Any]
ColumnType: TypeAlias = Literal["text", "int", "real", "bool", "json"]


@dataclass(frozen=True, slots=True)
class Column:
    """A field with a column of its own. `allowed`: the only values it takes; empty: any of its type."""

    name: str
    type: ColumnType = "text"
    is_required: bool = False
    allowed: tuple[str, ...] = ()
    default: Any = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entry, its table, its fields. `needs_session`: it cannot stand outside a session."""

    name: str
    table: str
    columns: tuple[Column, ...]
    needs_session: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """All columns but the key: the kind's own, then those that every kind has."""
        return (*[c.name for c in self.columns], *(COMMON if self.name != "session" else ("created_at", "extra")))


# Every table has these besides session_id and seq.
COMMON = ("run_id", "turn", "created_at", "extra")
_COMMON_COLUMNS = (Column("run_id"), Column("turn", "int"), Column("created_at", "real"))
TOOL_STATES = ("started", "finished", "failed", "unknown", "denied")
APPROVAL_STATES = ("pending", "allowed", "denied")


def _kind(name: str, table: str, *columns: Column, needs_session: bool = True) -> Kind:
    return Kind(name, table, columns, needs_session)


_INT_LEDGER = [Column(n, "int") for n in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")]
_REAL_LEDGER = [Column(n, "real") for n in ("cost_usd", "queue_s", "first_token_s", "tokens_per_s", "duration_s")]

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _kind(
            "message",
            "messages",
            Column("role", is_required=True, allowed=("system", "user", "assistant", "tool")),
            Column("content", "json", is_required=True),
            Column("pinned", "bool", default=False),
            Column("state", allowed=("live", "rewound", "replaced"), default="live"),
        ),
        _kind(
            "tool",
            "tool_calls",
            Column("call_id", is_required=True),
            Column("state", is_required=True, allowed=TOOL_STATES),
            Column("name"),
            Column("arguments", "json"),
            Column("effect", allowed=("pure", "idempotent", "once")),
            Column("idempotency_key"),
            Column("result", "json"),
            Column("error_type"),
            Column("duration_s", "real"),
            Column("message_seq", "int"),
            Column("attempts", "int", default=1),
        ),
        _kind(
            "model_call",
            "model_calls",
            Column("purpose", default="turn"),
            Column("server"),
            Column("model"),
            *_INT_LEDGER,
            *_REAL_LEDGER,
            Column("outcome", default="ok"),
            Column("error_type"),
            Column("parent_session_id"),
            needs_session=False,
        ),
        _kind(
            "audit",
            "audits",
            Column("who"),
            Column("decision", is_required=True),
            Column("rule"),
            Column("reason"),
            Column("tool_name"),
            Column("call_id"),
            needs_session=False,
        ),
        _kind(
            "approval",
            "approvals",
            Column("approval_id", is_required=True),
            Column("call_id"),
            Column("tool_name"),
            Column("arguments", "json"),
            Column("reason"),
            Column("state", allowed=APPROVAL_STATES, default="pending"),
            Column("answer", "json"),
            Column("answered_by"),
            Column("answered_at", "real"),
        ),
        _kind(
            "interaction",
            "interactions",
            Column("prompt", is_required=True),
            Column("response", is_required=True),
            Column("metadata", "json"),
            needs_session=False,
        ),
        _kind("checkpoint", "checkpoints", Column("summary", "json", True), Column("covers_seq", "int", True)),
        _kind("event", "events", Column("name", is_required=True), Column("body", "json")),
        _kind(
            "rewind",
            "rewinds",
            Column("after_seq", "int", is_required=True),
            Column("state", allowed=("rewound", "replaced"), default="rewound"),
        ),
    )
}

# A session is one row, not a journal of rows: an entry of this kind changes the fields it gives.
SESSION = Kind(
    "session",
    "sessions",
    (
        Column("title"),
        Column("summary"),
        Column("model"),
        Column("status"),
        Column("options_digest"),
        Column("parent_session_id"),
        Column("forked_from"),
        Column("metadata", "json"),
    ),
)

_SURROGATES = re.compile("[\ud800-\udfff\x00]")
_LARGEST_INT = 2**63 - 1
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Row:
    """An entry made ready: column values of the given fields (JSON as text), and the tags of a session."""

    kind: Kind
    values: dict[str, Any]
    tags: tuple[str, ...] | None = None


def encode(entry: Mapping[str, Any], session_id: str, place: int = 0) -> Row:
    """Check an entry and make a row of it.

    Raises:
        InvalidInputError: unknown kind, a missing or wrong field, a value that is no JSON.
    """
    name = entry.get("kind") if isinstance(entry, Mapping) else None
    if name == "session":
        kind = SESSION
    elif (found := KINDS.get(str(name))) is not None:
        kind = found
    else:
        raise _wrong(place, "kind", name, f"is no kind of entry; known are session, {', '.join(KINDS)}")
    if not session_id and kind.needs_session:
        raise _wrong(place, "session_id", session_id, f"is empty: a {kind.name} belongs to a session")
    values: dict[str, Any] = {}
    rest: dict[Any, Any] = {}
    columns = _BY_NAME[kind.name]
    for key, value in entry.items():
        if key in columns:
            values[key] = _checked(columns[key], value, place)
        elif key not in _NOT_EXTRA:
            rest[key] = value
    for key in _REQUIRED[kind.name]:
        if key not in values:
            raise _wrong(place, key, None, f"is missing: a {kind.name} needs it")
    if values.get("created_at") is None:
        values["created_at"] = time()
    tags = _tags(rest.pop("tags", None), place) if kind is SESSION else None
    if rest:
        values["extra"] = dump(rest, place, "extra")
    return Row(kind, values, tags)


_NOT_EXTRA = {"kind", "seq", "session_id"}
_ALL = (*KINDS.values(), SESSION)
_BY_NAME = {k.name: {c.name: c for c in (*k.columns, *_COMMON_COLUMNS[2 * (k is SESSION) :])} for k in _ALL}
_REQUIRED = {k.name: [c.name for c in k.columns if c.is_required] for k in _ALL}
_DEFAULTS: dict[str, dict[str, Any]] = {
    k.name: {**dict.fromkeys(k.names), **{c.name: c.default for c in k.columns}} for k in _ALL
}


def with_defaults(row: Row) -> dict[str, Any]:
    """All columns of the row's kind, in the order of `Kind.names`."""
    full = _DEFAULTS[row.kind.name].copy()
    for name, value in row.values.items():
        if value is not None:
            full[name] = value
    return full


def decode(kind: Kind, names: Sequence[str], row: Sequence[Any]) -> Entry:
    """A row as the entry it was. `names`: the columns that `row` holds."""
    entry: Entry = {"kind": kind.name}
    types = _TYPES[kind.name]
    extra = None
    for name, value in zip(names, row, strict=True):
        if name == "extra":
            extra = value
        elif value is not None and (shape := types.get(name)) is not None:
            entry[name] = json.loads(value) if shape == "json" else bool(value)
        else:
            entry[name] = value
    if extra:
        entry.update(json.loads(extra))
    return entry


_TYPES = {k.name: {c.name: c.type for c in k.columns if c.type in ("json", "bool")} for k in _ALL}


def _checked(column: Column, value: Any, place: int) -> Any:
    if value is None:
        if column.is_required and column.type != "json":
            raise _wrong(place, column.name, value, "is None")
        return dump(None, place, column.name) if column.is_required else None
    if column.type == "json":
        return dump(value, place, column.name)
    if column.type == "text":
        text = clean(value if isinstance(value, str) else str(value))
        if column.allowed and text not in column.allowed:
            raise _wrong(place, column.name, value, f"is not allowed; allowed: {', '.join(column.allowed)}")
        return text
    if not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > _LARGEST_INT:
        raise _wrong(place, column.name, value, "is no number a store can keep")
    if column.type == "real":
        return float(value)
    return int(value)


def _tags(tags: Any, place: int) -> tuple[str, ...] | None:
    if tags is None:
        return None
    if isinstance(tags, str) or not isinstance(tags, (Sequence, set, frozenset)):
        raise _wrong(place, "tags", tags, "is no list of words")
    return tuple(dict.fromkeys(clean(str(tag)) for tag in tags))


def clean(text: str) -> str:
    """Text that every database takes: halves of characters are joined; a lone half and NUL become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")


def checked_id(name: str, value: Any) -> str:
    """A session id, owner or approval id that every database takes as it is.

    Raises:
        InvalidInputError: not a string, empty, longer than 500 characters, or holding NUL or half surrogates.
    """
    if not isinstance(value, str) or not 0 < len(value) <= 500 or clean(value) != value:
        raise InvalidInputError(
            f"{name} must be 1 to 500 characters of text, not {value!r:.80}", field=name, value=value
        )
    return value


def dump(value: Any, place: int = 0, field: str = "value") -> str:
    """JSON text of a value; NaN and infinities become null, half surrogates are escaped.

    Raises:
        InvalidInputError: the value is no JSON.
    """
    try:
        try:
            text = _to_json(value)
        except ValueError:
            text = _to_json(_finite(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(place, field, value, f"is no JSON: {error}") from None
    if not text.isascii() and _SURROGATES.search(text):
        return json.dumps(json.loads(text), separators=(",", ":"))
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def spoken(content: Any) -> str:
    """The words of a message's content: a text, or the `text` of its blocks. Tool calls and results are not words."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        texts = [b["text"] for b in content if isinstance(b, Mapping) and isinstance(b.get("text"), str)]
        return "\n".join(texts)
    return ""


def _wrong(place: int, field: str, value: Any, what: str) -> InvalidInputError:
    try:
        shown = "" if value is None else f" {value!r:.80}"
    except RecursionError:
        shown, value = " (very deep)", None
    return InvalidInputError(f"entry {place}: {field}{shown} {what}", field=field, value=value)
