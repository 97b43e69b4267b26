"""The measured figures as a table for people."""

from __future__ import annotations

from typing import Any

from ways_to_ask import WAYS


def report(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    parts = [
        f"Python {found['python']}; {versions}",
        _calls(found["calls"]),
        _cpu(found["cpu"]),
        _start(found),
        _crowd(found),
        _gates(found["gates"]),
    ]
    return "\n\n".join(parts)


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _calls(calls: dict[str, dict[str, float]]) -> str:
    heads = {
        "query": "query",
        "streamed query": "streamed",
        "chunk": "chunk",
        "paced chunk": "paced",
        "tool trip": "tool trip",
        "message": "message",
        "message as dict": "dict",
    }
    rows = [["function calls", *heads.values()]]
    for way, counts in calls.items():
        rows.append([WAYS[way].name, *[_number(counts[name]) if name in counts else "" for name in heads]])
    return _table(rows)


def _cpu(cpu: dict[str, dict[str, dict[str, float]]]) -> str:
    heads = {"query": "query", "chunk": "chunk", "tool trip": "tool trip", "turn at 1000": "turn, 1000 msg"}
    rows = [["CPU ms (x aiohttp, x openai)", *heads.values()]]
    for way, figures in cpu.items():
        cells = []
        for name in heads:
            one = figures[name]
            cells.append(f"{one['ms']:.3g} ({one['x aiohttp']:.1f}, {one['x openai']:.2f})")
        rows.append([WAYS[way].name, *cells])
    return _table(rows)


def _start(found: dict[str, Any]) -> str:
    rows = [["import", "modules", "MB", "CPU s"]]
    for name, one in found["imports"].items():
        rows.append([name, str(one["modules"]), f"{one['mb']:.1f}", f"{one['cpu_s']:.2f}"])
    first = found["first_answer"]
    anchor = first["aiohttp"]["cpu_s"]
    more = [["process start to first answer", "modules", "CPU s", "x aiohttp"]]
    for way, one in first.items():
        more.append([WAYS[way].name, str(one["modules"]), f"{one['cpu_s']:.2f}", f"{one['cpu_s'] / anchor:.1f}"])
    return f"{_table(rows)}\n\n{_table(more)}"


def _crowd(found: dict[str, Any]) -> str:
    rows = [["1000 sessions x 3 turns, 200 ms model", "lost", "queries/s", "p99 s", "CPU ms a query"]]
    for way, one in found["crowd"].items():
        p99 = "-" if one["p99_s"] is None else f"{one['p99_s']:.2f}"
        rows.append([WAYS[way].name, str(one["lost"]), f"{one['queries_per_s']:.0f}", p99, f"{one['cpu_ms']:.2f}"])
    idle, pool = found["idle"], found["pool"]
    return (
        f"{_table(rows)}\n\n"
        f"idle session: {idle['new_kb']:.1f} KB new, {idle['after_3_turns_kb']:.1f} KB after 3 turns\n"
        f"{pool['agents']} agents, {pool['queries']} queries, {pool['at_once']} at once: "
        f"{pool['connections']} connections"
    )


def _gates(gates: list[dict[str, Any]]) -> str:
    rows = [["gate", "found", "most", ""]]
    for gate in gates:
        rows.append([gate["what"], _number(gate["found"]), _number(gate["most"]), "ok" if gate["holds"] else "BROKEN"])
    return _table(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
