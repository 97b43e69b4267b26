"""Tool, `@tool`, ToolRegistry: schemas from signatures, dicts or JSON Schema; arguments checked before they run."""

from .schema import ToolParameter, normalise_schema
from .tool import Tool, ToolRegistry, ToolResult, tool

__all__ = ["Tool", "ToolParameter", "ToolRegistry", "ToolResult", "normalise_schema", "tool"]
