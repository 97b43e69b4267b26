"""`any-agent stats`: what was used, from the ledger of kept sessions."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common
from .kept import cost, in_store, known_session, since
from .terminal import one_line, say, say_json, table

if TYPE_CHECKING:
    from ..memory import MemoryStore, UsageRow

BAR_CHARS = 30
MOST_ROWS = 20


class Group(str, Enum):
    """What the sums are grouped by."""

    DAY = "day"
    HOUR = "hour"
    MODEL = "model"
    SERVER = "server"
    SESSION = "session"
    TOOL = "tool"
    PURPOSE = "purpose"
    OUTCOME = "outcome"
    RUN = "run"
    TAG = "tag"


SHOWN = (Group.DAY, Group.MODEL, Group.TOOL, Group.PURPOSE)


def stats(
    common: Common,
    by: Annotated[list[Group] | None, typer.Option("--by", help="One table by this; may be given again.")] = None,
    begin: Annotated[
        str | None, typer.Option("--since", help="Only since then: 24h, 7d, 2w, or 2026-11-01.", metavar="WHEN")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="Only this session and its subagents.", metavar="ID")
    ] = None,
    db: Annotated[str | None, typer.Option("--db", help="Another store than the user's.", metavar="FILE")] = None,
) -> None:
    """Model calls, tokens, cost and tool calls of kept sessions, with a small chart."""
    start = since(begin, time.time())
    groups = tuple(by) if by else SHOWN

    async def read(store: MemoryStore) -> tuple[UsageRow, dict[Group, list[UsageRow]]]:
        chosen = (await known_session(store, session))["session_id"] if session else None
        (total,) = await store.usage(chosen, since=start)
        return total, {one: await store.usage(chosen, since=start, group_by=one.value) for one in groups}

    total, found = in_store(db, read)
    if common.json:
        told: dict[str, Any] = {"since": start, "session_id": session, "total": _plain(total)}
        told["groups"] = {one.value: [_plain(row) for row in rows] for one, rows in found.items()}
        say_json(told)
        return
    say(_total(total))
    for one, rows in found.items():
        if rows:
            say(f"\n{_table(one, rows)}")


def _plain(row: UsageRow) -> dict[str, Any]:
    return {**asdict(row), "total_tokens": row.total_tokens}


def _total(row: UsageRow) -> str:
    failed = f" ({row.failed_calls} failed)" if row.failed_calls else ""
    said = [f"{row.calls:,} model calls{failed}", f"{row.input_tokens:,} tokens in, {row.output_tokens:,} out"]
    if row.calls:
        said.append(f"cost {cost(row.cost_usd, row.unpriced_calls, row.calls)}")
        said.append(f"{row.duration_s:,.1f} s")
    return " · ".join(said)


def _table(group: Group, rows: list[UsageRow]) -> str:
    """One table: by time the latest rows, else the largest; the bar shows tokens, of tools the calls."""
    is_tools, is_time = group is Group.TOOL, group in (Group.DAY, Group.HOUR)
    size = _calls if is_tools else _tokens
    shown = rows[-MOST_ROWS:] if is_time else sorted(rows, key=size, reverse=True)[:MOST_ROWS]
    most = max(map(size, shown)) or 1
    head = (
        ("calls", "failed", "seconds") if is_tools else ("calls", "failed", "in", "out", "cost", "first token", "tok/s")
    )
    lines: list[tuple[str, ...]] = [(group.value, *head, "")]
    for row in shown:
        figures: tuple[str, ...] = (str(row.calls), str(row.failed_calls or ""))
        if is_tools:
            figures = (*figures, f"{row.duration_s:,.2f}")
        else:
            first = "" if row.first_token_s is None else f"{row.first_token_s:.2f} s"
            speed = "" if row.tokens_per_s is None else f"{row.tokens_per_s:,.0f}"
            paid = cost(row.cost_usd, row.unpriced_calls, row.calls)
            figures = (*figures, f"{row.input_tokens:,}", f"{row.output_tokens:,}", paid, first, speed)
        lines.append((one_line(row.key) or "-", *figures, _bar(size(row) / most)))
    left_out = len(rows) - len(shown)
    return table(_right(lines), indent="") + (f"\n… and {left_out} more; --json has all" if left_out else "")


def _calls(row: UsageRow) -> int:
    return row.calls


def _tokens(row: UsageRow) -> int:
    return row.total_tokens


def _right(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Figures stand at the right of their column."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    last = len(widths) - 1
    return [
        tuple(cell if place in (0, last) else cell.rjust(widths[place]) for place, cell in enumerate(line))
        for line in lines
    ]


def _bar(part: float) -> str:
    sign = "█" if (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf") else "#"
    return sign * max(round(part * BAR_CHARS), 1 if part else 0)
