"""@tool in every spelling, schemas, the check of arguments, the registry."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from any_agent.errors import ConfigurationError, ToolExecutionError, ToolInputError, ToolNotFoundError
from any_agent.tools import Tool, ToolParameter, ToolRegistry, ToolResult, normalise_schema, tool


@tool
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    The result is exact.

    Args:
        a: the first
        b: the second
    """
    return a + b


def test_a_plain_function_tells_everything() -> None:
    assert (add.name, add.description) == ("add", "Add two numbers.\n\nThe result is exact.")
    properties = add.parameters["properties"]
    assert properties["a"] == {"type": "integer", "description": "the first"}
    assert properties["b"]["default"] == 2 and add.parameters["required"] == ["a"]
    assert add.to_openai_format()["function"]["name"] == "add"
    assert add(1) == 3


@tool("get_weather", "Get current weather", {"location": str, "units": str})
async def get_weather(args):
    return {"units": args["units"]}


@tool("calculate", "Calculate", {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]})
def calculate(a: float) -> float:
    return a * 2


@tool(
    "find",
    "Find",
    parameters={"query": {"type": "string", "description": "what"}, "limit": {"type": int, "default": 5}},
)
def find(query: str, limit: int = 5) -> str:
    return query * limit


@tool("hand", "By hand", [ToolParameter("x", int, "a number"), ToolParameter("y", str, required=False, default="z")])
def hand(x: int, y: str = "z") -> str:
    return f"{x}{y}"


@tool("no_schema", "From the signature")
async def no_schema(query: str, num_results: int = 5) -> list:
    return [query] * num_results


@pytest.mark.parametrize(
    ("one", "arguments", "result"),
    [
        (add, {"a": 1}, 3),
        (get_weather, {"location": "x", "units": "c"}, {"units": "c"}),
        (calculate, {"a": 1.5}, 3.0),
        (find, {"query": "ab", "limit": 2}, "abab"),
        (hand, {"x": 1}, "1z"),
        (no_schema, {"query": "q", "num_results": 2}, ["q", "q"]),
    ],
    ids=lambda x: x.name if isinstance(x, Tool) else None,
)
async def test_every_spelling_runs(one: Tool, arguments: dict[str, Any], result: object) -> None:
    assert await one.execute(arguments) == result
    assert await one.execute(**arguments) == ToolResult(True, result)
    assert one.parameters["type"] == "object"


def test_per_parameter_dicts_and_optional() -> None:
    schema = normalise_schema(
        {"a": str, "b": {"type": "integer", "optional": True}, "c": Optional[int], "d": list[str]}
    )
    assert schema["required"] == ["a", "d"]
    assert schema["properties"]["b"] == {"type": "integer"} and schema["properties"]["d"]["items"] == {"type": "string"}
    assert normalise_schema({"properties": {}})["type"] == "object"
    assert normalise_schema({}) == {"type": "object", "properties": {}, "required": []}
    named_type = normalise_schema({"type": {"type": "string"}, "name": str})
    assert set(named_type["properties"]) == {"type", "name"}
    with pytest.raises(ConfigurationError, match="no type"):
        normalise_schema({"x": object()})


class Place(BaseModel):
    city: str
    zip: int = Field(ge=0)


@dataclass
class Box:
    width: int


@tool
def rich(
    place: Place,
    box: Box,
    kind: Literal["a", "b"],
    tag: Annotated[str, Field(max_length=3)] = "x",
    maybe: Optional[Place] = None,
) -> str:
    assert isinstance(place, Place) and isinstance(box, Box)
    return f"{place.city}{box.width}{kind}{tag}{maybe}"


async def test_rich_types_arrive_as_objects() -> None:
    assert await rich.execute({"place": {"city": "P", "zip": 1}, "box": {"width": 2}, "kind": "a"}) == "P2axNone"
    with pytest.raises(ToolInputError, match=r"place.zip"):
        await rich.execute({"place": {"city": "P", "zip": -1}, "box": {"width": 2}, "kind": "a"})
    with pytest.raises(ToolInputError, match="kind"):
        await rich.execute({"place": {"city": "P", "zip": 1}, "box": {"width": 2}, "kind": "c"})


@pytest.mark.parametrize("arguments", [{}, {"a": "1"}, {"a": None}, {"a": 1.5}])
async def test_wrong_arguments_run_nothing(arguments: dict[str, Any]) -> None:
    ran = []

    @tool
    def guarded(a: int) -> None:
        ran.append(a)

    with pytest.raises(ToolInputError, match="guarded: "):
        await guarded.execute(arguments)
    assert ran == []


async def test_sync_tools_run_beside_the_loop() -> None:
    @tool
    def where() -> bool:
        """Where am I."""
        return threading.current_thread() is threading.main_thread()

    assert await where.execute({}) is False


async def test_failures() -> None:
    @tool
    async def fails() -> None:
        raise KeyError("lost")

    @tool
    def says_no() -> ToolResult:
        return ToolResult(success=False, error="closed")

    assert await fails.execute() == ToolResult(False, error="KeyError: 'lost'")
    with pytest.raises(KeyError):
        await fails.execute({})
    with pytest.raises(ToolExecutionError, match="closed"):
        await says_no.run({})


async def test_a_subclass_may_override_execute() -> None:
    class Shout(Tool):
        async def execute(self, **kwargs: Any) -> ToolResult:  # type: ignore[override]
            return ToolResult(success=True, data=kwargs["text"].upper())

    shout = Shout("shout", "Shouts", {"text": str})
    assert await shout.run({"text": "hi"}) == "HI"
    with pytest.raises(ToolInputError):
        await shout.run({})
    with pytest.raises(ToolExecutionError, match="no handler"):
        await Tool("empty", "x").run({})


async def test_methods_are_tools_too() -> None:
    class Counter:
        def __init__(self) -> None:
            self.total = 0

        async def count(self, by: int) -> int:
            """Count."""
            self.total += by
            return self.total

    counter = Counter()
    counted = tool(counter.count)
    assert await counted.execute({"by": 3}) == 3 and counter.total == 3
    assert counted.parameters["required"] == ["by"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "né!"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="tool name"):
        Tool(name)


def test_registry() -> None:
    registry = ToolRegistry([add, get_weather])
    assert registry.names() == ["add", "get_weather"] and len(registry) == 2 and "add" in registry
    assert [s.name for s in registry.specs()] == ["add", "get_weather"] and [
        t.name for t in registry
    ] == registry.names()
    with pytest.raises(ConfigurationError, match="registered already"):
        registry.register(add)
    registry.register(add, replace=True)

    def plain(x: int) -> int:
        return x

    assert registry.register(plain).name == "plain"
    with pytest.raises(ToolNotFoundError, match="Did you mean 'get_weather'"):
        registry.get("get_wether")
    with pytest.raises(ConfigurationError, match="neither"):
        registry.register(7)  # type: ignore[arg-type]


def test_importing_tools_needs_no_loop() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
