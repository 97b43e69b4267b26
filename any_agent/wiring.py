"""Options become the Run that the loop needs."""

from __future__ import annotations

from .dispatch import Dispatch
from .loop import Run
from .options import AgentOptions
from .protocols import Model
from .tools import ToolRegistry
from .types import SystemMessage


def wired(options: AgentOptions, model: Model, registry: ToolRegistry, prompt: str) -> Run:
    """The parts of a run from options: what is not in them is handed in."""
    registry = registry if options.enable_tools else ToolRegistry()
    has_tools = len(registry) > 0
    params = options.sampling()
    if has_tools and "parallel_tool_calls" in options.model_fields_set:
        params["parallel_tool_calls"] = options.parallel_tool_calls
    return Run(
        model=model,
        dispatch=Dispatch(
            registry if options.enable_tools else ToolRegistry(),
            options.hooks,
            options.tool_timeout,
            options.parallel_tool_calls,
        ),
        system=SystemMessage(prompt) if prompt else None,
        tools=registry.specs() if has_tools else (),
        tool_choice=options.wire_tool_choice() if has_tools else None,
        params=params,
        extra_body=options.extra_body,
        timeout_s=options.timeout,
        max_turns=options.max_turns,
        max_tool_iterations=options.max_tool_iterations,
        executes_tools=options.auto_execute_tools,
    )
