"""ToolRegistry: the tools of one agent by name, and where names are looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from time import monotonic
from typing import Any, TypeAlias

from ..errors import ConfigurationError, ToolNotFoundError
from ..types import Json, Message, ToolSpec
from .tool import Tool, tool

PLUGINS = "any_agent.tools"  # the group of entry points
Found: TypeAlias = "Tool | Callable[..., Any] | Iterable[Any]"


class ToolRegistry:
    """The tools of one agent, by name. A name is given once.

    Args:
        tools: Tool objects, plain functions, or names.
        find: looks a name up (None: not known there); then the plugins are asked, see `plugin`.

    Raises:
        ConfigurationError: two tools of one name, an unknown name, or no tool at all.
    """

    def __init__(
        self,
        tools: Iterable[Tool | Callable[..., Any] | str] = (),
        *,
        find: Callable[[str], Tool | Callable[..., Any] | None] | None = None,
    ) -> None:
        self._tools: dict[str, Tool] = {}
        self._find = find
        self._specs: tuple[ToolSpec, ...] | None = None
        self.kept = ResultCache()
        for one in [tools] if callable(tools) or isinstance(tools, str) else tools:
            self.register(one)

    def register(self, new: Any, *, replace: bool = False) -> Tool:
        """Add a Tool, a plain function (which becomes one), or a name (which is looked up).

        Raises:
            ConfigurationError: the name is taken (pass replace=True), not known, or it is no tool.
        """
        if isinstance(new, str):
            return self._register_named(new, replace=replace)
        if not callable(new):  # a Tool can be called, too
            text = f"{new!r} is neither a Tool nor a function"
            raise ConfigurationError(text, field="tools", value=new, allowed="Tool, function, name")
        added: Tool = new if isinstance(new, Tool) else tool(new)
        if added.lacks_self:
            text = f"{added.name} is a method without its object; give the one of an instance"
            raise ConfigurationError(text, field="tools", value=added.name, allowed="instance.method")
        added.look_again()
        if added.name in self._tools and not replace:
            text = f"a tool named {added.name!r} is registered already; pass replace=True"
            raise ConfigurationError(text, field="tools", value=added.name, allowed="a new name")
        self._tools[added.name] = added
        self._specs = None
        return added

    def _register_named(self, name: str, *, replace: bool) -> Tool:
        found: Any = self._find(name) if self._find else None
        if found is None:
            found = plugin(name)
        several = [found] if isinstance(found, Tool) or callable(found) else list(found)
        if not several:
            text = f"the plugin {name!r} holds no tool"
            raise ConfigurationError(text, field="tools", value=name, allowed="a Tool, a function, a list of them")
        first, *_ = [self.register(one, replace=replace) for one in several]
        return first

    def extended(self, more: Iterable[Tool | Callable[..., Any]]) -> ToolRegistry:
        """A copy with further tools; one of a known name takes its place."""
        new = ToolRegistry(self._tools.values(), find=self._find)
        new.kept = self.kept
        for one in more:
            new.register(one, replace=True)
        return new

    def get(self, name: str) -> Tool:
        """The tool of that name.

        Raises:
            ToolNotFoundError: names the nearest ones.
        """
        found = self._tools.get(name)
        if found is None:
            near = self.nearest(name)
            hint = f" Did you mean {near.name!r}?" if near else ""
            told = f"there is no tool {name!r}.{hint} Tools: {', '.join(self._tools) or 'none'}"
            raise ToolNotFoundError(told, tool_name=name)
        return found

    def nearest(self, name: str) -> Tool | None:
        """The tool whose name looks most like this one."""
        lowered = {one.lower(): one for one in self._tools}
        last = name.lower().replace(".", "/").replace(":", "/").rpartition("/")[2]  # "functions.get_weather"
        near = get_close_matches(name.lower(), lowered, 1, 0.6) or get_close_matches(last, lowered, 1, 0.6)
        return self._tools[lowered[near[0]]] if near else None

    def specs(self, messages: Sequence[Message] | None = None) -> tuple[ToolSpec, ...]:
        """What the model is told of them; with the conversation's messages: of those that are enabled now."""
        if self._specs is None:
            self._specs = tuple([t.spec for t in self._tools.values()])
        if messages is None or all(t.enabled is True for t in self._tools.values()):
            return self._specs
        return tuple([t.spec for t in self._tools.values() if t.is_enabled(messages)])

    def names(self) -> list[str]:
        return list(self._tools)

    def to_openai_format(self) -> list[dict[str, Json]]:
        """All of them, as OpenAI's `tools=` takes them."""
        return [one.to_openai_format() for one in self._tools.values()]

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools


def class_tools(owner: object) -> Callable[[str], Tool | None]:
    """Looks a name up among the `@tool`s of an object's class: `find` of a registry."""

    def find(name: str) -> Tool | None:
        is_tool = isinstance(getattr(type(owner), name, None), Tool)
        return getattr(owner, name) if is_tool else None

    return find


def plugin(name: str) -> Found:
    """What the entry point `name` of the group `any_agent.tools` gives: a Tool, a function, or several.

    Raises:
        ConfigurationError: no installed package has it, or it cannot be loaded.
    """
    from importlib.metadata import entry_points

    known = {one.name: one for one in entry_points(group=PLUGINS)}
    if name not in known:
        near = get_close_matches(name, known, 1, 0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = f" Plugins: {', '.join(sorted(known))}." if known else ""
        text = f"there is no built-in tool {name!r}{hint}; pass the function or Tool itself.{there}"
        allowed = "Tool, function, a name that the agent's class or a plugin knows"
        raise ConfigurationError(text, field="tools", value=name, allowed=allowed)
    try:
        found = known[name].load()
    except Exception as error:
        text = f"the plugin {name!r} cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigurationError(text, field="tools", value=name, allowed="a plugin that can be imported") from error
    if not (isinstance(found, (Tool, list, tuple)) or callable(found)):
        text = f"the plugin {name!r} is {found!r}, no tool"
        raise ConfigurationError(text, field="tools", value=name, allowed="a Tool, a function, a list of them")
    return found  # type: ignore[no-any-return]


class ResultCache:
    """Results of pure tools, each for its tool's `cache_ttl` seconds; the oldest go when there are too many."""

    MOST = 512

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[float, Json]] = {}

    def get(self, key: Any) -> Json:
        """The result; None: there is none (any more)."""
        expires, result = self._kept.get(key, (0.0, None))
        return result if monotonic() < expires else None

    def put(self, key: Any, result: Json, ttl_s: float) -> None:
        self._kept.pop(key, None)
        self._kept[key] = (monotonic() + ttl_s, result)
        if len(self._kept) > self.MOST:
            del self._kept[next(iter(self._kept))]
