"""Recall: past conversations and indexed documents as a tool of the model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from ..memory import Hit, Store
from ..tools import Tool, tool

_MOST_CHARS = 1_500  # of one hit
_DESCRIPTION = (
    "Search what was said in earlier conversations, and in the documents that were indexed. Give the words that the "
    "text will contain. Each result says where it stands; cite that."
)


def recall_tool(
    store: Store,
    *,
    name: str = "recall",
    limit: int = 5,
    session_id: str | None = None,
    tag: str | None = None,
    sources: Sequence[str] | None = None,
) -> Tool:
    """A tool that searches a store. What it may find is fixed here; the model only gives the words.

    Args:
        limit: results of one call.
        session_id: only this session.
        tag: only sessions of this tag, for example one person's.
        sources: only these: message, interaction, document.
    """

    @tool(name, _DESCRIPTION, effect="pure")
    async def recall(query: str) -> list[dict[str, Any]] | str:
        hits = await store.search(query, limit, session_id=session_id, tag=tag, sources=sources)
        return [_shown(hit) for hit in hits] or "nothing found; try other words"

    return recall


def _shown(hit: Hit) -> dict[str, Any]:
    text = hit.text if len(hit.text) <= _MOST_CHARS else hit.snippet
    said: dict[str, Any] = {"where": hit.citation, "text": text}
    if hit.heading:
        said["heading"] = hit.heading
    if hit.role:
        said["who"] = hit.role
    if hit.source != "document":
        said["when"] = datetime.fromtimestamp(hit.created_at, timezone.utc).strftime("%Y-%m-%d")
    return said
