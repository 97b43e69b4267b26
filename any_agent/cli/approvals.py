"""`any-agent approvals`: tool calls that wait for somebody's word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .kept import in_store, when
from .terminal import printable, table, tell

if TYPE_CHECKING:
    from ..memory import MemoryStore

_DB = Annotated[str | None, typer.Option("--db", help="Another store than the user's.", metavar="FILE")]
_ID = Annotated[str, typer.Argument(help="The approval's id.", metavar="ID")]
MOST_CHARS = 100  # of arguments shown


def list_approvals(
    common: Common,
    session: Annotated[str | None, typer.Option("--session", help="Only this session's.", metavar="ID")] = None,
    db: _DB = None,
) -> None:
    """List the tool calls that wait for an approval, the oldest first."""

    async def read(store: MemoryStore) -> list[dict[str, Any]]:
        return await store.pending_approvals(session)

    rows = in_store(db, read)
    if common.json:
        print(json.dumps(rows, ensure_ascii=False, default=str))
        return
    shown = [(row["approval_id"], when(row["created_at"]), f"{row['tool_name']}({_said(row)})") for row in rows]
    print(
        printable(table([("approval", "asked", "call"), *shown], indent=""))
        if rows
        else "nothing waits for an approval"
    )


def allow(
    common: Common,
    approval_id: _ID,
    arguments: Annotated[
        str | None, typer.Option("--input", help="Other arguments for the call, as a JSON object.", metavar="JSON")
    ] = None,
    db: _DB = None,
) -> None:
    """Let a call run. The session goes on with `any-agent run --session ID --resume`, or in its own program."""
    told: dict[str, Any] = {} if arguments is None else {"updated_input": _object(arguments)}
    _answer(common, approval_id, "allowed", told, db)


def deny(
    common: Common,
    approval_id: _ID,
    reason: Annotated[str, typer.Option("--reason", help="Why; the model is told.")] = "",
    db: _DB = None,
) -> None:
    """Refuse a call; the model is told the reason when the session goes on."""
    _answer(common, approval_id, "denied", {"reason": reason}, db)


def _answer(common: Common, approval_id: str, state: str, told: dict[str, Any], db: str | None) -> None:
    async def write(store: MemoryStore) -> dict[str, Any]:
        return await store.answer_approval(approval_id, state, {"reason": "", **told}, answered_by=_who())

    row = in_store(db, write)
    if common.json:
        print(json.dumps(row, ensure_ascii=False, default=str))
    elif not common.quiet:
        tell(f"{state}: {row['tool_name']}({_said(row)})")
        tell(f"  next:  any-agent run --session {row['session_id']} --resume", style="dim")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--input is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("--input is not a JSON object")
    return value


def _who() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "somebody"


def _said(row: dict[str, Any]) -> str:
    text = json.dumps(row.get("arguments") or {}, ensure_ascii=False)
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"
