"""Options become the Run that the loop needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .dispatch import Dispatch
from .hooks import hooks_of
from .loop import Run
from .options import AgentOptions
from .permissions import permissions_of
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
            registry,
            hooks_of(options),
            options.tool_timeout,
            options.parallel_tool_calls,
            options.max_parallel_tools,
            options.max_result_tokens,
            options.cwd,
            permissions=permissions_of(options),
        ),
        system=SystemMessage(prompt) if prompt else None,
        tools=registry.specs() if has_tools else (),
        has_moving_tools=any(tool.enabled is not True for tool in registry),
        tool_choice=options.wire_tool_choice() if has_tools else None,
        params=params,
        extra_body=options.extra_body,
        limits=options.time_limits(),
        max_turns=options.max_turns,
        max_tool_iterations=options.max_tool_iterations,
        executes_tools=options.auto_execute_tools,
        reasks=options.reask_tool_calls,
        budget=options.budget(),
        logs_interactions=options.log_interactions,
        waits_for_approvals=options.approvals == "wait",
        wanted=options.wanted and replace(options.wanted, may_probe=options.probe_model),
        recalls_results=options.recall_results,
    )


def with_team(run: Run, agent: Any, session: Any, options: AgentOptions, overrides: Mapping[str, Any]) -> Run:
    """The run with the tool that asks the options' subagents, if there are any."""
    if not options.team:
        return run
    from .subagents import with_subagents

    return with_subagents(run, agent, session, options, overrides)


def voted(model: Model, n: int) -> Model:
    """The model, asked `n` times where tools may be called (the option `vote`)."""
    if n < 2:
        return model
    from .models.voting import VotingModel

    return VotingModel(model, n)


async def told_abilities(model: Model, *, may_probe: bool = False) -> None:
    """What a probe found out decides how models are told of tools.

    Args:
        model: a chain of doors.
        may_probe: its first model may be asked where nothing is kept (the option `probe_model`); else nobody is.
    """
    from .models.capabilities.verdicts import verdicts_path

    for place, one in enumerate(getattr(model, "models", ())):
        ways, asks = getattr(one, "ways", None), may_probe and place == 0
        if ways is None or ways.can_call_tools is not None or not (asks or verdicts_path().exists()):
            continue
        from .models.capabilities import known_verdict

        verdict = await known_verdict(one, may_probe=asks)
        if verdict is not None:
            ways.can_call_tools, ways.enforces_schema = verdict.can_call_tools, verdict.enforces_schema
