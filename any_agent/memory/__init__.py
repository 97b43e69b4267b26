"""The store of sessions, messages, ledger and search: one SQLite file, nothing else to install."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .database import default_path
    from .documents import IndexReport
    from .messages import message_entry, message_of
    from .postgres import PostgresStore
    from .seam import Hit, Holder, Spent, Store, UsageRow
    from .store import MemoryStore

__all__ = [
    "Hit",
    "Holder",
    "IndexReport",
    "MemoryStore",
    "PostgresStore",
    "Spent",
    "Store",
    "UsageRow",
    "default_path",
    "message_entry",
    "message_of",
]

_ROOM_OF = dict.fromkeys(__all__, "seam")
_ROOM_OF |= {
    "MemoryStore": "store",
    "PostgresStore": "postgres",
    "default_path": "database",
    "IndexReport": "documents",
}
_ROOM_OF |= dict.fromkeys(["message_entry", "message_of"], "messages")


# Lazy: who keeps nothing does not load SQLite.
def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
