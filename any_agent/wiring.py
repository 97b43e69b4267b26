"""Options become the Run that the loop needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from .dispatch import Dispatch
from .hooks import hooks_of
from .loop import Run
from .models.fallback import FallbackModel
from .options import AgentOptions
from .permissions import permissions_of
from .protocols import Model
from .tools import ToolRegistry
from .types import SystemMessage, text_of


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
        wanted=options.wanted,
        recalls_results=options.recall_results,
    )


async def with_output(run: Run, host: Any) -> Run:
    """The run with what gets the structured output it wants.

    Args:
        host: reads answers (`parse_output`) and remembers who refused schemas (`schema_refusals`).

    Raises:
        ConfigurationError: what is wanted is no type and no JSON Schema.
    """
    wanted = run.wanted
    if wanted is None:
        return run
    from .output import FINAL_TOOL, Asked, output_of, way_at

    output = output_of(wanted.shape)
    has_tools = bool(run.tools) and run.tool_choice != "none"
    may_call = run.executes_tools and run.tool_choice != "none"
    way, place = await way_at(run.model, wanted.mode, host.schema_refusals, runs_tools=may_call)
    refused = partial(host.schema_refusals.add, place)
    asked = Asked(output, way, host.parse_output, wanted.validator, wanted.retries, refused)
    dispatch, tools, name = run.dispatch, run.tools, None
    if way.mode == "tool":
        name = next(n for n in (FINAL_TOOL, f"give_{FINAL_TOOL}", f"my_{FINAL_TOOL}") if n not in dispatch.registry)
        tool = asked.tool(name)
        dispatch, tools = dispatch.with_tools([tool]), (*tools, tool.spec)
        if (rights := dispatch.permissions) is not None:  # nobody need be asked whether the model may answer
            dispatch = replace(dispatch, permissions=replace(rights, allow=(*rights.allow, name)))
    told = asked.instruction(name, has_tools=has_tools)
    system = SystemMessage(f"{text_of(run.system)}\n\n{told}" if run.system else told, pinned=True)
    return replace(run, output=asked, dispatch=dispatch, tools=tools, system=system)


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


async def told_abilities(model: FallbackModel) -> None:
    """What a probe found out earlier decides how models are told of tools. Where nothing is kept, nobody is asked."""
    from .models.verdicts import verdicts_path

    if not verdicts_path().exists():
        return
    from .models.capabilities import known_verdict

    for one in model.models:
        ways = getattr(one, "ways", None)
        if ways is not None and ways.can_call_tools is None:
            verdict = await known_verdict(one, may_probe=False)
            if verdict is not None:
                ways.can_call_tools, ways.enforces_schema = verdict.can_call_tools, verdict.enforces_schema
