"""One text for arguments that mean the same: for votes, repetitions and caches."""

from __future__ import annotations

import json
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
