"""The page of a run: one self-contained file, inline CSS and SVG, no script, dark where the reader's system is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import quote

from .issues import CATEGORIES, SEVERITIES, Issue, around, clean

if TYPE_CHECKING:
    from .records import ChapterRecord, RunRecord

_HEIGHTS = {"critical": 40, "high": 34, "medium": 26, "low": 18}

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --dim: #5c6470; --paper: #fbfaf7; --card: #fff; --rule: #dcd8cf;
  --mark: #ffe9a8; --ins: #17663a; --critical: #a3123a; --high: #d9480f; --medium: #d99a00; --low: #3b7dd8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e4df; --dim: #9aa1ac; --paper: #16181c; --card: #1e2126;
  --rule: #363b43; --mark: #5c4a10; --ins: #7fd6a2; --critical: #ff5d84; --high: #ff8a4c; --medium: #f0bd3a;
  --low: #7ab0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font: 600 2rem/1.2 Georgia, serif; margin: 0 0 .25rem; }
h2 { font: 600 1.35rem/1.3 Georgia, serif; margin: 2.5rem 0 .75rem; }
h3 { font: 600 1.1rem/1.3 Georgia, serif; margin: 2rem 0 .5rem; }
.dim, footer, .axis, th { color: var(--dim); }
.banner { border: 1px solid var(--rule); border-left: .3rem solid var(--medium); background: var(--card);
  padding: .6rem .9rem; margin: 1rem 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--rule); border-radius: .4rem; padding: .6rem 1rem;
  min-width: 7rem; }
.tiles b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
.issues table { width: 100%; }
th { font-weight: 500; text-align: left; font-size: .85rem; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.counts td, .counts th { min-width: 5.5rem; }
.text { font-family: Georgia, serif; min-width: 22rem; width: 46%; overflow-wrap: anywhere; }
.why { min-width: 14rem; font-size: .92rem; }
mark { background: var(--mark); color: inherit; border-radius: .15rem; padding: 0 .1rem; }
ins { color: var(--ins); text-decoration: none; font-weight: 600; font-family: Georgia, serif; }
.kind { white-space: nowrap; font-size: .88rem; }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; margin-right: .4rem; }
.critical { background: var(--critical); fill: var(--critical); } .high { background: var(--high); fill: var(--high); }
.medium { background: var(--medium); fill: var(--medium); } .low { background: var(--low); fill: var(--low); }
.strips { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr max-content; gap: .6rem 1rem;
  align-items: center; }
.strip { display: block; width: 100%; height: 40px; background: var(--card); border: 1px solid var(--rule);
  border-radius: .2rem; }
.axis { display: flex; justify-content: space-between; font-size: .75rem; font-variant-numeric: tabular-nums; }
.legend span { margin-right: 1.2rem; white-space: nowrap; font-size: .88rem; }
details { margin: .75rem 0; } summary { cursor: pointer; }
a { color: inherit; } code { overflow-wrap: anywhere; font-size: .85rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: .75rem; font-size: .88rem; }
@media print { body { background: none; } .strip, .dot, mark { print-color-adjust: exact; } }
"""


def page(run: RunRecord, links: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        links: address of each chapter's own report, by chapter_id.
    """
    body = [
        f"<h1>{_text(run.title)}</h1>",
        f'<p class="dim">Copy editing report, run {run.run_id}, {_text(run.started_at[:16].replace("T", " "))} UTC</p>',
        *_banners(run),
        _tiles(run),
        "<h2>Where they are</h2>",
        _legend(),
        f'<div class="strips">{"".join(map(_strip, run.chapters))}</div>',
        "<h2>What they are</h2>",
        _counts(run.issues),
        "<h2>Chapter by chapter</h2>",
        *(_chapter(record, place, links) for place, record in enumerate(run.chapters, 1)),
        _footer(run),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(run.title)}: copy editing</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _banners(run: RunRecord) -> Iterable[str]:
    stats = run.stats()
    if run.model_note:
        yield f'<p class="banner">Read by {_text(run.model)}: {_text(run.model_note)}.</p>'
    if run.status != "finished":
        yield (
            f'<p class="banner">This run is not finished: {len(stats["failed"])} chapters failed, '
            f"{len(stats['unread'])} were not read yet.</p>"
        )


def _tiles(run: RunRecord) -> str:
    stats = run.stats()
    severe = stats["by_severity"]
    tiles = [
        (len(run.issues), "issues"),
        *((number, name) for name, number in severe.items() if number),
        (stats["chapters"], "chapters"),
        (sum(record.line_count for record in run.chapters), "lines"),
        (stats["rejected"], "refused answers"),
    ]
    return '<ul class="tiles">' + "".join(f"<li><b>{n:,}</b>{_text(what)}</li>" for n, what in tiles) + "</ul>"


def _legend() -> str:
    dots = "".join(f'<span><i class="dot {name}"></i>{name}</span>' for name in SEVERITIES)
    return f'<p class="legend">{dots}<span class="dim">first line on the left, last on the right</span></p>'


def _strip(record: ChapterRecord) -> str:
    """One chapter's heat strip: a bar for each line with issues, as high and as coloured as the worst of them."""
    lines, bars = max(record.line_count, 1), []
    width = max(1000 / lines - 1, 4)
    for number, group in groupby(record.issues, key=lambda issue: issue.line_number):
        found = list(group)
        worst = min((issue.severity for issue in found), key=SEVERITIES.index)
        height = _HEIGHTS[worst]
        told = "\n".join(_in_words(issue) for issue in found)
        left = min((number - 1) / lines * 1000, 1000 - width)
        bars.append(
            f'<rect class="{worst}" x="{left:.1f}" y="{40 - height}" width="{width:.1f}" height="{height}">'
            f"<title>{_text(told)}</title></rect>"
        )
    label = f"{record.chapter_id}: {len(record.issues)} issues in {record.line_count} lines"
    svg = (
        f'<svg class="strip" viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="{_text(label)}">'
        f"<title>{_text(label)}</title>{''.join(bars)}</svg>"
    )
    axis = f'<div class="axis" aria-hidden="true"><span>1</span><span>{record.line_count}</span></div>'
    count = f"{len(record.issues)} issues" if record.status == "done" else record.status
    return f'<div>{_text(record.chapter_id)}</div><div>{svg}{axis}</div><div class="dim">{_text(count)}</div>'


def _in_words(issue: Issue) -> str:
    change = f"“{issue.current_text}” → “{issue.suggestion}”" if issue.suggestion else f"“{issue.current_text}”"
    return f"line {issue.line_number}: {change} ({issue.category}, {issue.severity})"


def _counts(issues: list[Issue]) -> str:
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in [*SEVERITIES, "all"])
    rows = []
    for category in CATEGORIES:
        numbers = [sum(i.category == category and i.severity == s for i in issues) for s in SEVERITIES]
        cells = "".join(f'<td class="number">{n or "·"}</td>' for n in [*numbers, sum(numbers)])
        rows.append(f'<tr><th scope="row">{category}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table class="counts"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def _chapter(record: ChapterRecord, place: int, links: Mapping[str, str]) -> str:
    parts = [f'<section class="issues"><h3 id="chapter-{place}">{_text(record.chapter_id)}</h3>']
    if record.status != "done":
        parts.append(f"<p>Not read{': ' + _text(record.error) if record.error else ' yet'}.</p>")
    elif record.issues:
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Line", "Text", "Suggestion", "Kind", "Why"))
        rows = "".join(map(_row, record.issues))
        parts.append(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>')
    else:
        parts.append("<p>No issues.</p>")
    parts += [f'<p class="banner">{_text(note)}</p>' for note in record.notes]
    if record.repeats:
        parts.append(f'<p class="dim">Said twice and listed once: {record.repeats}.</p>')
    if record.rejected:
        refused = "".join(f"<li>{_text(one.reason)}: <code>{_text(one.raw)}</code></li>" for one in record.rejected)
        parts.append(
            f"<details><summary>Refused answers: {len(record.rejected)}</summary><p>The model said these, and the "
            f"check refused them.</p><ul>{refused}</ul></details>"
        )
    if record.status == "done":
        address = quote(links[record.chapter_id])
        parts.append(f'<p class="dim"><a href="{address}">this chapter as Markdown</a></p>')
    return "".join([*parts, "</section>"])


def _row(issue: Issue) -> str:
    before, marked, after = around(issue)
    moved = f'<br><span class="dim">(the model said {issue.said_line})</span>' if issue.said_line else ""
    change = f"<ins>{_text(issue.suggestion)}</ins>" if issue.suggestion else '<span class="dim">none</span>'
    return (
        f'<tr><td class="number">{issue.line_number}{moved}</td>'
        f'<td class="text">{_text(before)}<mark>{_text(marked)}</mark>{_text(after)}</td><td>{change}</td>'
        f'<td class="kind"><i class="dot {issue.severity}"></i>{issue.severity}<br>{issue.category}</td>'
        f'<td class="why">{_text(issue.issue_text)}</td></tr>'
    )


def _footer(run: RunRecord) -> str:
    stats = run.stats()
    note = f" ({_text(run.model_note)})" if run.model_note else ""
    cost = "" if not stats["cost_usd"] else f", {stats['cost_usd']:.4f} USD"
    tokens = f"{stats['input_tokens']:,} tokens in, {stats['output_tokens']:,} out{cost}"
    return (
        f"<footer><p>Read by {_text(', '.join(run.models))}{note}. {tokens}; {stats['duration_s']:.1f} s of reading. "
        "Every issue was checked: its line exists, and the quoted text stands on it. Whether it is an error is for you "
        "to judge.</p></footer>"
    )


def _text(text: object) -> str:
    return escape(clean(str(text)))
