"""What tests of an agent need without a model: scripted models, and a loopback server with exact wire bytes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.tape import RecordingModel, ReplayModel, Tape
    from .loopback import LoopbackServer, WireRequest
    from .scripted import ChaosModel, EchoModel, ScriptedModel
    from .wire_bytes import (
        WireCall,
        WireReply,
        chat_chunks,
        chat_completion,
        error,
        error_body,
        recut,
        sse,
        sse_event,
        token_usage,
    )

__all__ = [
    "ChaosModel",
    "EchoModel",
    "LoopbackServer",
    "RecordingModel",
    "ReplayModel",
    "ScriptedModel",
    "Tape",
    "WireCall",
    "WireReply",
    "WireRequest",
    "chat_chunks",
    "chat_completion",
    "error",
    "error_body",
    "recut",
    "sse",
    "sse_event",
    "token_usage",
]

_ROOM_OF = dict.fromkeys(__all__, ".wire_bytes")
_ROOM_OF |= dict.fromkeys(["LoopbackServer", "WireRequest"], ".loopback")
_ROOM_OF |= dict.fromkeys(["ChaosModel", "EchoModel", "ScriptedModel"], ".scripted")
_ROOM_OF |= dict.fromkeys(["RecordingModel", "ReplayModel", "Tape"], "..models.tape")


# Lazy, so that `python -m any_agent.testing.loopback` does not meet a half-made second copy of itself.
def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOM_OF[name], __name__), name)
