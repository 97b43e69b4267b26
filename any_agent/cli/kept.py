"""The store that the commands read, and words for times and sums."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from ..errors import SessionNotFoundError
    from ..memory import MemoryStore

T = TypeVar("T")
_MOST_NAMED, _MOST_COMPARED = 5, 1_000  # sessions, the newest
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class ListsByDefault(TyperGroup):
    """A group whose command `list` is meant when none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_named = bool(args) and (not args[0].startswith("-") or args[0] in ("-h", "--help"))
        return list(super().parse_args(ctx, args if is_named else ["list", *args]))


def store_path(db: str | None) -> str | None:
    """The store's file: --db, else the settings file's `memory_db_path`; None: the user's own."""
    from ..options import AgentOptions

    if db:
        return db
    options = AgentOptions().with_files()
    return os.fspath(options.memory_db_path) if "memory_db_path" in options.model_fields_set else None


def in_store(db: str | None, work: Callable[[MemoryStore], Awaitable[T]]) -> T:
    """Do something with the kept sessions. Never makes a store.

    Raises:
        MemoryStoreError: there is none, or it cannot be read.
    """
    import asyncio

    from ..errors import MemoryStoreError
    from ..memory import MemoryStore

    store = MemoryStore(store_path(db))
    if not os.path.exists(store.path):
        text = f"nothing is kept yet: there is no {store.path}\n  fix:   talk first: any-agent run --session NAME …"
        raise MemoryStoreError(text, path=store.path, reason="missing")

    async def done() -> T:
        async with store:
            return await work(store)

    return asyncio.run(done())


async def known_session(store: MemoryStore, session_id: str) -> dict[str, Any]:
    """The session of this id, or of the one id that begins like this.

    Raises:
        SessionNotFoundError: there is none, or several begin so.
    """
    found = await store.session(session_id)
    if found is not None:
        return found
    alike = [row for row in await store.list_sessions(limit=100_000) if row["session_id"].startswith(session_id)]
    if len(alike) == 1 and session_id:
        return alike[0]
    raise await not_found(store, session_id, [row["session_id"] for row in alike])


async def not_found(store: Any, session_id: str, alike: Sequence[str] = ()) -> SessionNotFoundError:
    """The error for an id that the store does not know; names those that look like it, or begin like it."""
    from difflib import get_close_matches

    from ..errors import SessionNotFoundError

    said = f"{len(alike)} sessions begin with {session_id!r}" if alike else f"there is no session {session_id!r}"
    ids = [row["session_id"] for row in await store.list_sessions(limit=_MOST_COMPARED)]
    near = list(alike)[:_MOST_NAMED] or get_close_matches(session_id, ids, _MOST_NAMED)
    named = f"; near: {', '.join(map(repr, near))}" if near else ""
    where = getattr(store, "path", None) or "the store"
    text = f"{said} in {where}{named}\n  fix:   any-agent sessions lists them"
    return SessionNotFoundError(text, session_id=session_id)


async def check_free(store: Any, session_id: str) -> None:
    """Refuse a session that is being answered elsewhere: what is read of it now says little.

    Raises:
        SessionBusyError: names who holds it.
    """
    from ..errors import SessionBusyError
    from .terminal import one_line

    held = await store.holder(session_id)
    if held is not None:
        raise SessionBusyError(
            f"session {one_line(session_id)} is held by {held}, which is answering a prompt of it; nothing was asked\n"
            "  fix:   ask again when that one is done",
            session_id=session_id,
            holder=str(held),
        )


def since(text: str | None, now_s: float) -> float | None:
    """Seconds since 1970 of `90m`, `24h`, `7d`, `2w`, or a day or time as ISO writes it."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:].lower()
    if unit in _UNITS_S and number.replace(".", "", 1).isdigit():
        return now_s - float(number) * _UNITS_S[unit]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(f"--since {text}: say 90m, 24h, 7d, 2w, or a day like 2026-11-01") from None


def when(seconds: float | None) -> str:
    """Local time to the minute."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")  # noqa: DTZ006


def cost(cost_usd: float | None, unpriced_calls: int, calls: int) -> str:
    """A sum in US dollars; `+` where some calls' price is not known, `-` where none is."""
    if calls and unpriced_calls >= calls:
        return "-"
    return f"${cost_usd or 0.0:,.4f}{'+' if unpriced_calls else ''}"


def quoted(session_id: str) -> str:
    """An id as a shell takes it."""
    import shlex

    return shlex.quote(session_id)
