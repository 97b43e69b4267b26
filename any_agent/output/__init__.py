"""Structured output: a type or JSON Schema out, a checked value in; what does not fit goes back to the model.

Only the options and what agents inherit load at once; the rest when the first typed answer is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .options import OutputMode, OutputOptions, Wanted
from .partial import NOTHING, AsksForData, Partial, StreamsOutput

if TYPE_CHECKING:
    from .asked import FINAL_TOOL, Asked, Way
    from .shape import Output, output_of, why
    from .ways import way_at, way_to

__all__ = [
    "FINAL_TOOL", "NOTHING", "Asked", "AsksForData", "Output", "OutputMode", "OutputOptions", "Partial",
    "StreamsOutput", "Wanted", "Way", "output_of", "way_at", "way_to", "why",
]  # fmt: skip
_ROOM_OF = {
    **dict.fromkeys(["FINAL_TOOL", "Asked", "Way"], "asked"),
    **dict.fromkeys(["Output", "output_of", "why"], "shape"),
    **dict.fromkeys(["way_at", "way_to"], "ways"),
}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
