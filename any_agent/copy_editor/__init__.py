"""The copy editor: an offline proofreader, a manuscript to try it on, and the agent that drives them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .editor import CopyEditorAgent, Step
    from .issues import ISSUE_FORMAT, Issue, Rejected
    from .offline_model import OfflineProofreader
    from .records import ChapterRecord, RunRecord

__all__ = [
    "ISSUE_FORMAT",
    "ChapterRecord",
    "CopyEditorAgent",
    "Issue",
    "OfflineProofreader",
    "Rejected",
    "RunRecord",
    "Step",
]

_ROOM_OF = dict.fromkeys(["CopyEditorAgent", "Step"], "editor") | dict.fromkeys(
    ["ISSUE_FORMAT", "Issue", "Rejected"], "issues"
)
_ROOM_OF |= dict.fromkeys(["ChapterRecord", "RunRecord"], "records") | {"OfflineProofreader": "offline_model"}


# Lazy, so that the rules can be used without the agent.
def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
