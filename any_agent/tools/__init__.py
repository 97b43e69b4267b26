"""Tool, `@tool`, ToolRegistry: schemas from signatures, dicts or JSON Schema; arguments checked before they run."""

from .context import CancelSignal, ToolContext
from .registry import ToolRegistry, class_tools
from .schema import ToolParameter, normalise_schema
from .subagents import Subagent
from .tool import Tool, ToolResult, tool
from .traits import ToolTraits

__all__ = [
    "CancelSignal", "Subagent", "Tool", "ToolContext", "ToolParameter", "ToolRegistry", "ToolResult", "ToolTraits",
    "class_tools", "normalise_schema", "tool",
]  # fmt: skip
