"""What a session is called: by the user, or by what was said in it; that goes when its words do."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Message, UserMessage, text_of
from .ledger_rows import Entry

_LONGEST_TITLE = 60  # characters


def title_of(prompt: str) -> str:
    """The title of a session that got no other one."""
    return " ".join(prompt.split())[:_LONGEST_TITLE]


def title_left(title: str, gone: Sequence[Message], kept: Sequence[Message]) -> str:
    """The title; "" when it is the beginning of a prompt that is gone."""

    def is_of(messages: Sequence[Message]) -> bool:
        return any(isinstance(m, UserMessage) and title_of(text_of(m)) == title for m in messages)

    return "" if is_of(gone) and not is_of(kept) else title


def empty_labels(
    meta: Entry, checkpoint: Entry | None, gone: Sequence[Message], kept: Sequence[Message]
) -> list[Entry]:
    """Empty the labels of a session that tell of messages that are gone; gives the entries that tell the store.

    Args:
        meta: what the store knows of the session.
        checkpoint: the last summary that was made of the messages.
    """
    labels = {"title": title_left(meta.get("title") or "", gone, kept), "summary": meta.get("summary") or ""}
    if checkpoint is not None and labels["summary"] == checkpoint["summary"]:
        labels["summary"] = ""
    changed = {name: value for name, value in labels.items() if value != (meta.get(name) or "")}
    meta.update(changed)
    return [{"kind": "session", **changed}] if changed else []
