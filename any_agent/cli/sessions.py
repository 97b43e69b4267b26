"""`any-agent sessions`: the kept conversations."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .kept import cost, in_store, known_session, when
from .standard_input import is_terminal
from .terminal import one_line, printable, put, say, say_json, table, tell

if TYPE_CHECKING:
    from ..memory import Hit, MemoryStore

_DB = Annotated[str | None, typer.Option("--db", help="Another store than the user's.", metavar="FILE")]
_ID = Annotated[str, typer.Argument(help="The session's id, or how it begins.", metavar="ID")]
_LIMIT = Annotated[int, typer.Option("--limit", "-n", min=1, help="So many at most.")]


class ExportFormat(str, Enum):
    """How a session is written."""

    MARKDOWN = "md"
    HTML = "html"
    JSONL = "jsonl"


def list_sessions(
    common: Common,
    limit: _LIMIT = 20,
    tag: Annotated[str | None, typer.Option("--tag", help="Only sessions with this tag.")] = None,
    db: _DB = None,
) -> None:
    """List the kept sessions, the last changed first."""

    async def read(store: MemoryStore) -> list[dict[str, Any]]:
        return await store.list_sessions(limit=limit, tag=tag)

    rows = in_store(db, read)
    if common.json:
        say_json(rows)
        return
    head = ("session", "changed", "messages", "model", "title")
    shown = [
        (r["session_id"], when(r["updated_at"]), str(r["message_count"]), r["model"] or "-", _title(r)) for r in rows
    ]
    say(table([head, *shown], indent="") if rows else "no sessions are kept")


def _title(row: dict[str, Any]) -> str:
    status = row.get("status") or "idle"
    tags = "".join(f" #{tag}" for tag in row.get("tags") or ())
    return f"{row.get('title') or '-'}{tags}{'' if status == 'idle' else f' ({status})'}"


def show(common: Common, session_id: _ID, db: _DB = None) -> None:
    """Print a session: what is known of it, what it cost, and what was said."""

    async def read(store: MemoryStore) -> tuple[dict[str, Any], Any, str, list[dict[str, Any]]]:
        row = await known_session(store, session_id)
        found = row["session_id"]
        entries = await store.load(found) if common.json else []
        return row, await store.spent(found), await store.export(found, "markdown"), entries

    row, spent, text, entries = in_store(db, read)
    if common.json:
        told = {"session": row, "usage": asdict(spent), "entries": entries}
        say_json(told)
        return
    _write(text)
    paid = cost(spent.cost_usd, spent.unpriced_calls, spent.calls)
    tell(f"  {spent.calls} model calls · {spent.input_tokens:,} in / {spent.output_tokens:,} out · {paid}", style="dim")


def export(
    common: Common,
    session_id: _ID,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="md, html or jsonl.")] = ExportFormat.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File; none: standard output.", metavar="FILE")
    ] = None,
    db: _DB = None,
) -> None:
    """Write a session as Markdown, HTML or JSON lines (all its entries)."""
    name: Any = "markdown" if format is ExportFormat.MARKDOWN else format.value

    async def read(store: MemoryStore) -> str:
        return await store.export((await known_session(store, session_id))["session_id"], name)

    text = in_store(db, read)
    if out is None:
        _write(text)
        return
    try:
        out.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        from ..errors import InvalidInputError

        raise InvalidInputError(f"{out} cannot be written: {error.strerror}", field="out") from error
    if not common.quiet:
        tell(f"wrote {out}")


def delete(
    common: Common,
    session_ids: Annotated[
        list[str] | None, typer.Argument(help="Their ids, or how they begin.", metavar="ID…", show_default=False)
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="All sessions with this tag.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_ledger: Annotated[bool, typer.Option("--keep-ledger", help="Keep the figures of its model calls.")] = False,
    db: _DB = None,
) -> None:
    """Delete sessions and those of their subagents, from the bytes of the file too. On a terminal it asks first."""
    if bool(session_ids) == (tag is not None):
        raise typer.BadParameter("name the sessions, or a --tag")

    async def find(store: MemoryStore) -> list[dict[str, Any]]:
        if tag is not None:
            return await store.list_sessions(limit=-1, tag=tag)
        return [await known_session(store, one) for one in session_ids or ()]

    rows = in_store(db, find)
    if rows and not yes and is_terminal():
        for row in rows:
            tell(one_line(f"{row['session_id']}  {row.get('title') or '-'}  {row['message_count']} messages"))
        typer.confirm(f"delete {len(rows)}?", abort=True, err=True)

    async def remove(store: MemoryStore) -> int:
        if tag is not None:
            return await store.delete_tag(tag, keep_ledger=keep_ledger)
        return sum([await store.delete(row["session_id"], keep_ledger=keep_ledger) for row in rows])

    deleted = in_store(db, remove)
    if common.json:
        say_json({"deleted": deleted})
    elif not common.quiet:
        tell(f"deleted {deleted}")


def search(common: Common, query: str, limit: _LIMIT = 10, db: _DB = None) -> None:
    """Find what was said, in all kept sessions. Exit code 1 when nothing is found."""

    async def read(store: MemoryStore) -> list[Hit]:
        return await store.search(query, limit)

    hits = in_store(db, read)
    if common.json:
        say_json([asdict(hit) for hit in hits])
    for hit in () if common.json else hits:
        where = hit.citation if hit.path else hit.session_id
        say(one_line(f"{where}  {when(hit.created_at)}  {hit.role or hit.source}"))
        say(printable(f"  {' '.join(hit.snippet.split())}"))
    if not hits:
        tell("nothing was found")
        raise typer.Exit(1)


def _write(text: str) -> None:
    """A file gets what was said as it is; a terminal must not be steered by it."""
    put(printable(text) if sys.stdout.isatty() else text)
