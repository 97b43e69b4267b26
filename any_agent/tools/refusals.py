"""Whether a call can be run at all; if not, what the model reads: what was wrong, the schema, the nearest tool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ..errors import AnyAgentError, HookAbortedError, ToolExecutionError, ToolInputError, ToolNotFoundError
from ..types import Message, ToolUseBlock, ToolUseError
from .registry import ToolRegistry
from .repeats import told_of_repetition
from .tool import Tool


class Waiting(Exception):
    """A call waits for approvals: of these ids (none: its own)."""

    def __init__(self, *approval_ids: str) -> None:
        super().__init__(*approval_ids)
        self.approval_ids = approval_ids


def found(
    registry: ToolRegistry, call: ToolUseBlock | ToolUseError, history: Sequence[Message], repeats: Mapping[str, int]
) -> tuple[Tool, ToolUseBlock]:
    """The tool that is called, and the call, whose arguments fit its schema.

    Raises:
        ToolError: it cannot be run; see `explained`.
    """
    if call.id in repeats:
        raise ToolExecutionError(told_of_repetition(call, repeats[call.id]))
    if isinstance(call, ToolUseError):
        raise ToolInputError(call.error)
    tool = registry.get(call.name)
    if not tool.is_enabled(history):
        names = ", ".join([spec.name for spec in registry.specs(history)]) or "none"
        raise ToolExecutionError(f"Not run: {call.name} cannot be used now. Tools that can: {names}.")
    tool.validate(call.input)
    return tool, call


def explained(registry: ToolRegistry, name: str, problem: AnyAgentError) -> str:
    """The refusal of one call, so that the model can do better."""
    if isinstance(problem, HookAbortedError):
        return f"Not run: {problem}"
    if isinstance(problem, ToolNotFoundError):
        near = registry.nearest(name)
        more = f" {near.name} takes this JSON Schema: {_json(near.parameters)}" if near else ""
        return f"Error: {problem}. Nothing was run.{more}"
    if isinstance(problem, ToolInputError):
        takes = ""
        if name in registry:
            takes = f" {name} takes this JSON Schema: {_json(registry.get(name).parameters)}"
        elif registry.names():
            takes = f" Tools: {', '.join(registry.names())}."
        return f"Error: {problem}. Nothing was run.{takes} Call it again with valid arguments."
    return str(problem)


def _json(schema: object) -> str:
    return json.dumps(schema, ensure_ascii=False, default=str)
