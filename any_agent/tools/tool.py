"""Tool and `@tool`: a function the model may call."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, overload

from ..errors import ConfigurationError, ToolExecutionError, ToolInputError
from ..types import Json, Message, ToolSpec
from .context import ToolContext
from .schema import ToolParameter, checker, normalise_schema
from .signature import Signature, summary
from .threads import in_thread
from .traits import Effect, ToolTraits, check_argument, declare

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool may return, and what `Tool.execute(x=1)` gives.

    `tools`: further tools that the model may call from the next turn on, in this run. `ends_run`: the data is the run's
    answer; None: as the tool declared.
    """

    success: bool
    data: Json = None
    error: str | None = None
    tools: tuple[Tool | Callable[..., Any], ...] = ()
    ends_run: bool | None = None


class Tool:
    """A function the model may call.

    Args:
        name: what the model calls it; letters, digits, `_` and `-`, at most 64.
        description: what the model reads; default: the docstring's summary.
        input_schema: `{"x": str}`, a dict per parameter, ToolParameters, a TypedDict, dataclass or pydantic model, or
            JSON Schema of type object; None: from the function's type hints and docstring.
        handler: sync (run in a thread) or async; takes the named arguments, or one dict called `args`; a parameter
            annotated `ToolContext` gets one. None: a subclass overrides `execute`.
        parameters: another spelling of input_schema.
        traits: what else it declares; see ToolTraits.

    Raises:
        ConfigurationError: the name, the schema or a trait is wrong, or the function does not fit its schema.
    """

    timeout: float | None = None
    retries: int = 0
    retry_delay_s: float = 0.2
    effect: Effect = "once"
    parallel: bool = True
    max_result_tokens: int | None = None
    cache_ttl: float | None = None
    enabled: bool | Callable[..., bool] = True
    needs_permission: bool = False
    permission_argument: str | Sequence[str] | None = None
    is_read_only: bool = False
    edits_files: bool = False
    verify: Callable[..., Any] | None = None
    ends_run: bool = False
    may_repeat: bool = False

    def __init__(
        self,
        name: str,
        description: str = "",
        input_schema: Any = None,
        handler: Callable[..., Any] | None = None,
        *,
        parameters: Mapping[str, Any] | Iterable[ToolParameter] | None = None,
        **traits: Unpack[ToolTraits],
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            text, allowed = f"tool name {name!r} must be 1–64 letters, digits, _ or -", "[A-Za-z0-9_-]{1,64}"
            raise ConfigurationError(text, field="name", value=name, allowed=allowed)
        self.name = name
        self.handler = handler or self._not_given
        declare(self, traits, Tool)
        self._given = parameters if input_schema is None else input_schema
        self._is_overridden = type(self).execute is not Tool.execute
        self.description = description or summary(handler or (type(self) if self._is_overridden else None))
        self._has_handler = handler is not None
        self._settle()

    def _settle(self) -> None:
        """Make the schema, and see how it fits the function."""
        schema, handler = self._given, self.handler if self._has_handler else None
        if schema is None and handler and self._is_overridden:
            schema = Signature(handler).schema()
        function = self.execute if self._is_overridden else handler
        self._signature = Signature(function, schema) if function else None
        if schema is None:
            schema = self._signature.schema() if self._signature else {}
        self.input_schema = schema
        self.parameters = normalise_schema(schema)
        if self._signature is not None:
            self._signature.fit(self.parameters)
        check_argument(self)
        self._check: Callable[[Any], list[tuple[str, str]]] | None = None
        self.spec = ToolSpec(self.name, self.description, self.parameters)

    def look_again(self) -> None:
        """Types that were defined after the function can be known by now."""
        if self._signature is not None and self._signature.lacks_types:
            self._settle()

    async def _not_given(self, **_: Any) -> Any:
        raise ToolExecutionError(f"tool {self.name} has no handler; override execute()", tool_name=self.name)

    @property
    def takes_context(self) -> bool:
        """It asks for a ToolContext."""
        return self._signature is not None and self._signature.context_name is not None

    @property
    def lacks_self(self) -> bool:
        """It is made of a method, and belongs to no instance yet."""
        signature = self._signature
        return signature is not None and signature.is_method and not isinstance(self.handler, MethodType)

    def to_openai_format(self) -> dict[str, Json]:
        """The tool as OpenAI's `tools=` takes it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def is_enabled(self, messages: Sequence[Message] = ()) -> bool:
        """Whether it may be called now, after these messages."""
        if isinstance(self.enabled, bool):
            return self.enabled
        takes = [p for p in inspect.signature(self.enabled).parameters.values() if p.default is p.empty]
        return bool(self.enabled(messages) if takes else self.enabled())

    def validate(self, arguments: Mapping[str, Json]) -> dict[str, Json]:
        """Check arguments against the schema.

        Raises:
            ToolInputError: says what is wrong and what the schema wants.
        """
        if self._check is None:
            self.look_again()
            self._check = checker(self.parameters, f"input_schema of the tool {self.name}")
        problems = self._check(dict(arguments))
        if problems:
            said = "; ".join([f"{place or 'arguments'}: {problem}" for place, problem in problems])
            raise ToolInputError(f"{self.name}: {said}", tool_name=self.name)
        return dict(arguments)

    async def execute(self, arguments: Mapping[str, Json] | None = None, **named: Json) -> Any:
        """Check the arguments and run the handler.

        `execute({"x": 1})` gives what the handler gives and raises what it raises; `execute(x=1)` gives a ToolResult.
        A subclass may override it as `async def execute(self, **kwargs) -> ToolResult`.
        """
        if arguments is None:
            try:
                data = await self._invoke(self.validate(named), None)
            except Exception as error:
                return ToolResult(False, error=f"{type(error).__name__}: {error}")
            return data if isinstance(data, ToolResult) else ToolResult(True, data)
        return await self._invoke(self.validate({**arguments, **named}), None)

    async def run(self, arguments: Mapping[str, Json], context: ToolContext | None = None) -> Any:
        """The data of one call; an overridden `execute` is honoured.

        Raises:
            ToolInputError: the arguments do not fit; nothing has run.
            ToolExecutionError: the tool said `ToolResult(success=False)`.
        """
        return (await self.call(self.validate(arguments), context)).data

    async def call(self, arguments: Mapping[str, Json], context: ToolContext | None = None) -> ToolResult:
        """What dispatch does: the result of a call whose arguments have passed `validate`; raises like `run`."""
        data = await self._invoke(arguments, context)
        if not isinstance(data, ToolResult):
            return ToolResult(True, data)
        if not data.success:
            raise ToolExecutionError(data.error or "the tool failed", tool_name=self.name)
        return data

    async def _invoke(self, arguments: Mapping[str, Json], context: ToolContext | None) -> Any:
        signature = self._signature
        if signature is None:
            return await self._not_given()
        given = copy.deepcopy(dict(arguments))  # what a tool does to them must not rewrite the history
        places, named = signature.bind(given, context, self.name)
        function = self.execute if self._is_overridden else self.handler
        if signature.is_async:
            return await function(*places, **named)
        result = await in_thread(function, *places, **named)
        return await result if inspect.isawaitable(result) else result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The plain function stays callable."""
        return self.handler(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Tool:
        """`@tool` on a method: the instance's own Tool."""
        if instance is None or self._signature is None or not self._signature.is_method or self._is_overridden:
            return self
        bound = copy.copy(self)
        bound.handler = MethodType(self.handler, instance)
        return bound

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


@overload
def tool(name: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    name: str | None = None,
    description: str = "",
    input_schema: Any = None,
    *,
    parameters: Mapping[str, Any] | Iterable[ToolParameter] | None = None,
    **traits: Unpack[ToolTraits],
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    name: Any = None, description: str = "", input_schema: Any = None, *, parameters: Any = None, **traits: Any
) -> Any:
    """Make a function a Tool: `@tool`, `@tool("name", "description")`, `@tool("name", "description", {"x": str})`.

    Without a schema it comes from the type hints and the docstring. Keywords: see ToolTraits.
    """
    if callable(name):
        return Tool(_name_of(name), handler=name)

    def wrap(function: Callable[..., Any]) -> Tool:
        schema = input_schema if input_schema is not None else parameters
        return Tool(name or _name_of(function), description, schema, function, **traits)

    return wrap


def _name_of(function: Callable[..., Any]) -> str:
    inner = getattr(function, "func", function)  # of a partial
    return str(getattr(inner, "__name__", type(inner).__name__))
