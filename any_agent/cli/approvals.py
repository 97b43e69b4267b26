"""`any-agent approvals`: tool calls that wait for somebody's word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .kept import in_store, quoted, when
from .terminal import one_line, say, say_json, table, tell

if TYPE_CHECKING:
    from ..memory import MemoryStore

_DB = Annotated[str | None, typer.Option("--db", help="Another store than the user's.", metavar="FILE")]
_ID = Annotated[str, typer.Argument(help="The approval's id.", metavar="ID")]


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
        say_json(rows)
        return
    shown = [(row["approval_id"], when(row["created_at"]), _call(row)) for row in rows]
    say(table([("approval", "asked", "call"), *shown], indent="") if rows else "nothing waits for an approval")


def allow(
    common: Common,
    approval_id: _ID,
    arguments: Annotated[
        str | None, typer.Option("--input", help="Other arguments for the call, as a JSON object.", metavar="JSON")
    ] = None,
    db: _DB = None,
) -> None:
    """Let a call run. The session then goes on in the program that has the tool: `await agent.resume(ID)`."""
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
    async def write(store: MemoryStore) -> tuple[dict[str, Any], str]:
        answered = await store.answer_approval(approval_id, state, {"reason": "", **told}, answered_by=_who())
        return answered, "" if common.json or common.quiet else await _next(store, answered["session_id"], approval_id)

    row, then = in_store(db, write)
    if common.json:
        say_json(row)
    elif not common.quiet:
        tell(one_line(f"{state}: {_call(row)}"))
        tell(f"  next:  {then}", style="dim")


async def _next(store: MemoryStore, session_id: str, approval_id: str) -> str:
    """How the session goes on. This program has no tools of others; that a call was denied it can tell the model."""
    from .open_calls import in_program, open_calls

    calls = await open_calls(store, session_id)
    if all(f"{session_id}:{call.call_id}" != approval_id for call in calls):
        return f"nothing: session {one_line(session_id)} has gone on without this call"
    left = [call for call in calls if call.state != "denied"]
    while parent := ((await store.session(session_id)) or {}).get("parent_session_id"):  # a subagent's goes on with it
        session_id, left = parent, left or await open_calls(store, parent)
    return in_program(session_id) if left else f"any-agent run --session {quoted(session_id)} --resume"


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


def _call(row: dict[str, Any]) -> str:
    from .open_calls import shown_arguments

    return f"{row['tool_name']}({shown_arguments(row.get('arguments'))})"
