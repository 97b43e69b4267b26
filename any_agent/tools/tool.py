"""Tool, `@tool`, ToolRegistry: schemas from signatures, dicts or JSON Schema; arguments checked before they run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from ..errors import ConfigurationError, ToolExecutionError, ToolInputError, ToolNotFoundError
from ..types import Json, ToolSpec
from .schema import Signature, ToolParameter, checker, normalise_schema, summary


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool may return, and what `Tool.execute(x=1)` gives."""

    success: bool
    data: Json = None
    error: str | None = None


class Tool:
    """A function the model may call.

    Args:
        name: what the model calls it; letters, digits, `_` and `-`, at most 64.
        description: what the model reads; default: the docstring's summary.
        input_schema: `{"x": str}`, a dict per parameter, or a full JSON Schema of type object.
        handler: sync (run in a thread) or async; takes the named arguments, or one dict called `args`.
        parameters: another spelling of input_schema.
        timeout: seconds one call may take; None: no limit of its own.
        parallel: False: never at the same time as other calls of the same turn.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        input_schema: Mapping[str, Any] | Iterable[ToolParameter] | None = None,
        handler: Callable[..., Any] | None = None,
        *,
        parameters: Mapping[str, Any] | Iterable[ToolParameter] | None = None,
        timeout: float | None = None,
        parallel: bool = True,
    ) -> None:
        if not name or len(name) > 64 or not name.replace("_", "").replace("-", "").isalnum():
            raise ConfigurationError(
                f"tool name {name!r} must be 1–64 letters, digits, _ or -",
                field="name",
                value=name,
                allowed="[A-Za-z0-9_-]{1,64}",
            )
        self.name = name
        self.handler = handler or self._not_given
        self.description = description or summary(self.handler)
        self.timeout = timeout
        self.parallel = parallel
        self._signature = Signature(self.handler) if handler else None
        if input_schema is None:
            input_schema = parameters
        if input_schema is None:
            input_schema = self._signature.schema() if self._signature else {}
        self.input_schema = input_schema
        self.parameters = normalise_schema(input_schema)
        self._check: Callable[[Any], Any] | None = None
        self.spec = ToolSpec(self.name, self.description, self.parameters)

    async def _not_given(self, **_: Any) -> Any:
        raise ToolExecutionError(f"tool {self.name} has no handler; override execute()", tool_name=self.name)

    def to_openai_format(self) -> dict[str, Json]:
        """The tool as OpenAI's `tools=` takes it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def validate(self, arguments: Mapping[str, Json]) -> dict[str, Json]:
        """Check arguments against the schema.

        Raises:
            ToolInputError: says what is wrong and what the schema wants.
        """
        if self._check is None:
            self._check = checker(self.parameters)
        problem = self._check(dict(arguments))
        if problem:
            raise ToolInputError(f"{self.name}: {problem}", tool_name=self.name)
        return dict(arguments)

    async def execute(self, arguments: Mapping[str, Json] | None = None, **named: Json) -> Any:
        """Check the arguments and run the handler.

        `execute({"x": 1})` gives what the handler gives and raises what it raises; `execute(x=1)` gives a ToolResult.
        A subclass may override it as `async def execute(self, **kwargs) -> ToolResult`.
        """
        if arguments is None:
            try:
                data = await self._invoke(named)
            except Exception as error:
                return ToolResult(False, error=f"{type(error).__name__}: {error}")
            return data if isinstance(data, ToolResult) else ToolResult(True, data)
        return await self._invoke({**arguments, **named})

    async def run(self, arguments: Mapping[str, Json]) -> Any:
        """What dispatch calls: the result, or the exception, of one call; an overridden `execute` is honoured.

        Raises:
            ToolInputError: the arguments do not fit; nothing has run.
            ToolExecutionError: the tool said `ToolResult(success=False)`.
        """
        if type(self).execute is Tool.execute:
            data = await self._invoke(arguments)
        else:
            data = await self.execute(**self.validate(arguments))
        if isinstance(data, ToolResult):
            if not data.success:
                raise ToolExecutionError(data.error or "the tool failed", tool_name=self.name)
            return data.data
        return data

    async def _invoke(self, arguments: Mapping[str, Json]) -> Any:
        given = deepcopy(self.validate(arguments))  # what a tool does to them must not rewrite the history
        if self._signature is None:
            return await self._not_given()
        call_args, call_kwargs = self._signature.bind(given)
        if self._signature.is_async:
            return await self.handler(*call_args, **call_kwargs)
        result = await asyncio.to_thread(self.handler, *call_args, **call_kwargs)
        return await result if inspect.isawaitable(result) else result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The plain function stays callable."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


F = TypeVar("F", bound=Callable[..., Any])


@overload
def tool(name: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    name: str | None = None,
    description: str = "",
    input_schema: Mapping[str, Any] | Iterable[ToolParameter] | None = None,
    *,
    parameters: Mapping[str, Any] | Iterable[ToolParameter] | None = None,
    timeout: float | None = None,
    parallel: bool = True,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    name: Any = None,
    description: str = "",
    input_schema: Any = None,
    *,
    parameters: Any = None,
    timeout: float | None = None,
    parallel: bool = True,
) -> Any:
    """Make a function a Tool: `@tool`, `@tool("name", "description")`, `@tool("name", "description", {"x": str})`.

    Without a schema it comes from the type hints and the docstring.
    """
    if callable(name):
        return Tool(name.__name__, handler=name)

    def wrap(function: Callable[..., Any]) -> Tool:
        schema = input_schema if input_schema is not None else parameters
        return Tool(name or function.__name__, description, schema, function, timeout=timeout, parallel=parallel)

    return wrap


class ToolRegistry:
    """The tools of one agent, by name. A name is given once."""

    def __init__(self, tools: Iterable[Tool | Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for one in tools:
            self.register(one)

    def register(self, new: Tool | Callable[..., Any] | str, *, replace: bool = False) -> Tool:
        """Add a tool (a plain function becomes one).

        Raises:
            ConfigurationError: the name is taken (pass replace=True), or it is no tool.
        """
        if not isinstance(new, Tool):
            if isinstance(new, str):
                text = f"there is no built-in tool {new!r}; pass the function or Tool itself"
                raise ConfigurationError(text, field="tools", value=new, allowed="Tool, function")
            if not callable(new):
                raise ConfigurationError(
                    f"{new!r} is neither a Tool nor a function", field="tools", value=new, allowed="Tool, function"
                )
            new = tool(new)
        if new.name in self._tools and not replace:
            raise ConfigurationError(
                f"a tool named {new.name!r} is registered already; pass replace=True",
                field="tools",
                value=new.name,
                allowed="a new name",
            )
        self._tools[new.name] = new
        return new

    def get(self, name: str) -> Tool:
        """The tool of that name.

        Raises:
            ToolNotFoundError: names the nearest ones.
        """
        found = self._tools.get(name)
        if found is None:
            from difflib import get_close_matches

            near = get_close_matches(name, self._tools, 1, 0.6)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ToolNotFoundError(
                f"there is no tool {name!r}.{hint} Tools: {', '.join(self._tools) or 'none'}", tool_name=name
            )
        return found

    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple([t.spec for t in self._tools.values()])

    def names(self) -> list[str]:
        return list(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools
