"""A session as a document: Markdown, HTML or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

from ..errors import InvalidInputError
from .entries import Entry, clean

FORMATS = ("markdown", "html", "jsonl")
_NO_TEXT = re.compile("[\x85\u2028\u2029\ud800-\udfff]")  # ends of lines to some readers; half surrogates
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
    "section{border-left:3px solid #ccc;padding:.1rem 1rem;margin:1rem 0}.user{border-color:#36c}"
    ".tool{border-color:#999;color:#555}pre{white-space:pre-wrap;overflow-wrap:anywhere}time{color:#777;font-size:.8rem}"
)


def export(session: Mapping[str, Any], entries: Sequence[Entry], format: str) -> str:
    """The session as text.

    Raises:
        InvalidInputError: the format is none of FORMATS.
    """
    if format == "jsonl":
        return "".join(_line(one) + "\n" for one in (dict(session, kind="session"), *entries))
    parts = list(_parts(entries))
    title = clean(" ".join(str(session.get("title") or f"Session {session['session_id']}").split()))
    if format == "markdown":
        body = "\n\n".join(f"## {who} · {_when(at)}\n\n{_markdown(pieces)}" for who, at, pieces in parts)
        return clean(f"# {title}\n\n{_about(session)}\n\n{body}\n")
    if format == "html":
        body = "\n".join(
            f'<section class="{escape(who.lower())}"><h2>{escape(who)}</h2><time>{_when(at)}</time>\n'
            f"{_html(pieces)}</section>"
            for who, at, pieces in parts
        )
        return clean(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n<p>{escape(_about(session))}</p>\n"
            f"{body}\n</body></html>\n"
        )
    raise InvalidInputError(
        f"there is no export format {format!r}; allowed: {', '.join(FORMATS)}", field="format", value=format
    )


def _line(entry: Mapping[str, Any]) -> str:
    """An entry as JSON that is one line to every reader, and that every file takes."""
    text = json.dumps(entry, ensure_ascii=False)
    return text if text.isascii() else _NO_TEXT.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


def _about(session: Mapping[str, Any]) -> str:
    said = [f"Session {session['session_id']}", f"begun {_when(session['created_at'])}"]
    if session.get("model"):
        said.append(f"model {session['model']}")
    if session.get("tags"):
        said.append(f"tags {', '.join(session['tags'])}")
    return " · ".join(said)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _parts(entries: Sequence[Entry]) -> Iterator[tuple[str, float, list[tuple[str, str]]]]:
    """(who, when, [(what it is, text)]) of each entry that people read."""
    has_messages = any(entry["kind"] == "message" for entry in entries)
    for entry in entries:
        match entry["kind"]:
            case "message":
                yield entry["role"].capitalize(), entry["created_at"], list(_pieces(entry["content"]))
            case "interaction" if not has_messages:  # else the same words would stand there twice
                yield "User", entry["created_at"], [("text", entry["prompt"])]
                yield "Assistant", entry["created_at"], [("text", entry["response"])]
            case "checkpoint":
                summary = entry["summary"]
                told = summary.get("summary") if isinstance(summary, dict) else summary  # sessions keep more with it
                text = told if isinstance(told, str) else json.dumps(summary, ensure_ascii=False)
                yield "Summary", entry["created_at"], [("text", text)]


def _pieces(content: Any) -> Iterator[tuple[str, str]]:
    for block in [content] if isinstance(content, str) else content or ():
        match block:
            case str():
                yield "text", block
            case {"type": "text", "text": text}:
                yield "text", text
            case {"type": "thinking", "thinking": text}:
                yield "thinking", text
            case {"type": "tool_use", "name": name, "input": given}:
                yield f"calls {name}", json.dumps(given, ensure_ascii=False, indent=2)
            case {"type": "tool_result", "content": result}:
                yield "result", result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, indent=2)
            case {"type": "image", "url": url}:
                yield "image", url if not url.startswith("data:") else "(image)"
            case _:
                yield "data", json.dumps(block, ensure_ascii=False)


def _markdown(pieces: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(_closed(text) if what == "text" else f"*{what}*\n\n{_fenced(text)}" for what, text in pieces)


def _closed(text: str) -> str:
    """Markdown that was said, with the end of a code block that it lacks: else all that follows would be code."""
    fence = ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark is None:
            continue
        if not fence:
            fence = "" if "`" in mark[2] and mark[1][0] == "`" else mark[1]
        elif mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def _html(pieces: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        f"<pre>{escape(text)}</pre>" if what == "text" else
        f"<details><summary>{escape(what)}</summary><pre>{escape(text)}</pre></details>"
        for what, text in pieces
    )  # fmt: skip
