"""Recall: past conversations and indexed documents as a tool of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, field_validator

from .context import ToolContext
from .tool import Tool, tool

if TYPE_CHECKING:
    from ..memory import Hit, Store

RECALL = "recall"
NARROWED_BY = ("limit", "session_id", "tag", "sources", "name")
_MOST_CHARS = 1_500  # of one hit
_OF_THIS_RUN = 50  # messages after the prompt that are looked through for a later prompt
_DESCRIPTION = (
    "Search what was said in earlier conversations, and in the documents that were indexed. Give the words that the "
    "text will contain. Each result says where it stands; cite that."
)


class RecallOptions(BaseModel):
    """The part of AgentOptions that is about recall."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    # -- recall
    recall: Any = False
    """True: the model gets the tool `recall`, which finds what was said in all kept sessions and what stands in indexed
    documents; a dict narrows it: `tag`, `session_id`, `sources`, `limit`, `name`. Not with enable_memory=False."""

    @field_validator("recall")
    @classmethod
    def _known_recall(cls, given: Any) -> Any:
        if isinstance(given, bool):
            return given
        if not isinstance(given, Mapping) or not given.keys() <= set(NARROWED_BY):
            raise ValueError(f"allowed: True, False, a dict of {', '.join(NARROWED_BY)}")
        sources = given.get("sources")
        if sources is not None and (
            isinstance(sources, str) or not set(sources) <= {"message", "interaction", "document"}
        ):
            raise ValueError("allowed in sources: message, interaction, document")
        limit = given.get("limit", 5)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError("limit is a number, 1 or more")
        return dict(given)


def recall_tool(
    store: Store,
    *,
    name: str = RECALL,
    limit: int = 5,
    session_id: str | None = None,
    tag: str | None = None,
    sources: Sequence[str] | None = None,
) -> Tool:
    """A tool that searches a store. What it may find is fixed here; the model only gives the words.

    What was said since the prompt that is being answered is left out: the model sees it anyway.

    Args:
        limit: results of one call.
        session_id: only this session.
        tag: only sessions of this tag, for example one person's.
        sources: only these: message, interaction, document.
    """

    @tool(name, _DESCRIPTION, effect="pure")
    async def recall(query: str, context: ToolContext) -> list[dict[str, Any]] | str:
        found: list[dict[str, Any]] = []
        hits = await store.search(query, limit + 5, session_id=session_id, tag=tag, sources=sources)
        for hit in hits:
            if len(found) < limit and not await _is_of_this_run(store, hit, context.session_id):
                found.append(_shown(hit))
        return found or "nothing found; try other words"

    return recall


async def _is_of_this_run(store: Store, hit: Hit, session_id: str) -> bool:
    """No prompt was said after it in the running session."""
    if not session_id or hit.session_id != session_id or hit.source == "document" or hit.seq is None:
        return False
    later = await store.load(session_id, hit.seq, kinds=("message",), limit=_OF_THIS_RUN)
    return not any(entry["role"] == "user" for entry in later)


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
