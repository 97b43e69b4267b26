"""Subagents as the user names them, and the tool by which the model gives one of them a task."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from ..errors import ConfigurationError
from ..permissions import PermissionMode, Rule
from .context import ToolContext
from .registry import ToolRegistry
from .tool import Tool

TASK = "task"
SPELLINGS = ("subagents", "agents")
WEEK_S = 604_800.0  # a subagent has limits of its own: turns, budget, its tools' and its model's time
STOP_S = 10.0  # to stop its tools, which have a grace of their own, and to keep what was said
_NAMES = (TASK, "ask_subagent", "give_task")
_THEIRS = {
    "disallowedTools": "disallowed_tools",
    "allowedTools": "allowed_tools",
    "maxTurns": "max_turns",
    "permissionMode": "permission_mode",
}
Ask = Callable[["Subagent", str, ToolContext], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Subagent:
    """An agent that the model may give a task to. It knows only that task; only its answer comes back.

    Args:
        name: what the model calls it; letters, digits, `_` and `-`, at most 64.
        description: what it is for; the model chooses by it.
        prompt: its system prompt; '': none.
        tools: names of the agent's tools, Tools, or functions; None: all tools of the agent. With "task" among them it
            may ask subagents, too.
        model: a name, a dict as in `fallback_models`, or a Model; None or "inherit": the agent's.
        max_turns: model calls one task may take; None: as the agent.
        permission_mode: its mode, where it is narrower than the agent's; None: the agent's.
        allowed_tools: rules of calls that run without asking, in place of the agent's; they allow nothing that the
            agent's do not.
        disallowed_tools: rules of calls that never run, beside the agent's.

    Raises:
        ConfigurationError: a field has a wrong value.
    """

    name: str = ""
    description: str = ""
    prompt: str = ""
    tools: Sequence[Any] | None = None
    model: Any = None
    max_turns: int | None = None
    permission_mode: PermissionMode | str | None = None
    allowed_tools: Sequence[str] = ()
    disallowed_tools: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.description, str) or not self.description.strip():
            raise self._wrong("description", "is missing: the model chooses by it", "a sentence")
        if not isinstance(self.prompt, str):
            raise self._wrong("prompt", "is no text", "a text")
        if self.tools is not None and (isinstance(self.tools, (str, Mapping)) or not isinstance(self.tools, Iterable)):
            raise self._wrong("tools", "is no list", "a list of names, Tools, functions; None")
        turns = self.max_turns
        if turns is not None and (not isinstance(turns, int) or isinstance(turns, bool) or turns < 1):
            raise self._wrong("max_turns", "is out of range", "a whole number from 1; None")
        put = object.__setattr__
        put(self, "tools", None if self.tools is None else tuple(self.tools))
        put(self, "model", None if self.model == "inherit" else self.model)
        if not (self.model is None or isinstance(self.model, (str, Mapping)) or hasattr(self.model, "stream")):
            raise self._wrong("model", "is no model", "a name, a dict, a Model; None")
        if self.permission_mode is not None:
            try:
                put(self, "permission_mode", PermissionMode(self.permission_mode))
            except ValueError:
                raise self._wrong("permission_mode", "is none", ", ".join(m.value for m in PermissionMode)) from None
        for name in ("allowed_tools", "disallowed_tools"):
            given = getattr(self, name) or ()
            put(self, name, tuple([Rule.parse(one).text for one in ([given] if isinstance(given, str) else given)]))

    def _wrong(self, field: str, problem: str, allowed: str) -> ConfigurationError:
        value = getattr(self, field)
        text = f"subagent {self.name}: {field}={value!r} {problem}; allowed: {allowed}"
        return ConfigurationError(text, field=field, value=value, allowed=allowed)

    def own_tools(self, registry: ToolRegistry) -> list[Tool]:
        """The tools that it gets of an agent with these.

        Raises:
            ConfigurationError: the agent has no tool of that name.
        """
        if self.tools is None:
            return list(registry)
        wanted = [one for one in self.tools if one != TASK]
        for one in wanted:
            if isinstance(one, str) and one not in registry:
                there = ", ".join(registry.names()) or "none"
                raise self._wrong("tools", f"names no tool of the agent: {one!r}", f"{there}, {TASK}")
        return list(ToolRegistry(wanted, find=registry.get))


def read_subagents(given: Any) -> tuple[Subagent, ...]:
    """Subagents in any spelling: a list of them or of dicts, or a mapping of their names.

    Values may be objects with the fields of Claude's AgentDefinition.

    Raises:
        ConfigurationError: one is no subagent, or two have one name.
    """
    if isinstance(given, Mapping):
        named = [_read(one, str(name)) for name, one in given.items()]
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        named = [_read(one) for one in given]
    else:
        named = [] if given is None else [_read(given)]
    names = [one.name for one in named]
    for one in named:
        if not isinstance(one.name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one.name):
            raise one._wrong("name", "is no name", "1–64 letters, digits, _ or -")
        if names.count(one.name) > 1:
            raise one._wrong("name", "is given twice", "a new name")
    return tuple(named)


def _read(one: Any, name: str | None = None) -> Subagent:
    if isinstance(one, Subagent):
        return one if name in (None, one.name) else replace(one, name=name)
    if isinstance(one, Mapping):
        told = dict(one)
    elif is_dataclass(one) and not isinstance(one, type):
        told = {field.name: getattr(one, field.name) for field in fields(one)}
    else:
        told = dict(vars(one)) if hasattr(one, "prompt") and hasattr(one, "__dict__") else {}
        if not told:
            allowed = "Subagent, a dict of its fields"
            raise ConfigurationError(f"{one!r} is no subagent", field=SPELLINGS[0], value=one, allowed=allowed)
    words = {_THEIRS.get(str(key), str(key)): value for key, value in told.items() if value is not None}
    known = [field.name for field in fields(Subagent)]
    unknown = sorted(words.keys() - set(known))
    if unknown:
        allowed, who = ", ".join(known), name or words.get("name", "")
        text = f"subagent {who}: there is no field {unknown[0]!r}; allowed: {allowed}"
        raise ConfigurationError(text, field=unknown[0], value=words[unknown[0]], allowed=allowed)
    return Subagent(**{**words, "name": name if name is not None else words.get("name", "")})


class SubagentOptions(BaseModel):
    """The part of AgentOptions that is about subagents."""

    # AgentOptions inherits it: pydantic's part is made with the first options, not by importing.
    model_config = ConfigDict(
        frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True, defer_build=True
    )

    # -- subagents
    subagents: Any = ()
    """Agents that the model may give tasks to, by the tool `task`: Subagents, dicts of their fields, or a mapping of
    names to them; (): none."""
    agents: Any = ()
    """Another spelling of `subagents`, Claude's; (): not given."""

    @field_validator(*SPELLINGS, mode="before")
    @classmethod
    def _as_subagents(cls, given: Any) -> tuple[Subagent, ...]:
        return read_subagents(given)

    @property
    def team(self) -> tuple[Subagent, ...]:
        """The subagents, whatever spelling they were given in."""
        return self.subagents or self.agents or ()


def subagent_tool(team: Sequence[Subagent], ask: Ask, registry: ToolRegistry) -> Tool:
    """The tool that gives a task to a subagent: `task`, or another name where the agent has a tool of that name.

    A call of it that was killed is made again, and the subagent goes on where it stopped.
    """
    known = {one.name: one for one in team}
    names = "\n".join([f"- {one.name}: {' '.join(one.description.split())}" for one in team])
    text = (
        "Give a task to a subagent and get its answer. It does not know this conversation, so say everything that it "
        f"needs. Several calls in one turn run side by side.\nSubagents:\n{names}"
    )
    schema = {
        "type": "object",
        "properties": {
            "subagent": {"type": "string", "enum": list(known), "description": "Who shall do it."},
            "prompt": {"type": "string", "description": "The whole task."},
        },
        "required": ["subagent", "prompt"],
        "additionalProperties": False,
    }

    async def task(subagent: str, prompt: str, context: ToolContext) -> str:
        return await ask(known[subagent], prompt, context)

    name = next((one for one in _NAMES if one not in registry), TASK)
    # The argument is for rules like task(reviewer).
    traits: dict[str, Any] = {"permission_argument": "subagent", "is_read_only": True, "effect": "idempotent"}
    made = Tool(name, text, schema, task, timeout=WEEK_S, **traits)
    made.grace_s = STOP_S  # type: ignore[attr-defined]
    return made
