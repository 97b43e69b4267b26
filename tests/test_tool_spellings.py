"""Every way to write a tool that was promised, as it was promised, and the schemas that come of it."""

from __future__ import annotations

import asyncio
import enum
import functools
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional, TypedDict

import pytest
from pydantic import BaseModel, Field, field_validator
from typing_extensions import NotRequired

from any_agent import Agent, ToolChoice
from any_agent.errors import ConfigurationError, ToolInputError
from any_agent.testing import ScriptedModel
from any_agent.tools import Tool, ToolContext, ToolParameter, ToolResult, normalise_schema, tool

if TYPE_CHECKING:
    from decimal import Decimal

# ------------------------------------------------------------------ seed 000


async def test_seed_000_the_decorator_with_parameters(tmp_path: Path) -> None:
    @tool("read_file", "Read contents of a file", {"path": {"type": "string", "description": "File path"}})
    def read_file(path: str) -> str:
        return Path(path).read_text()

    (tmp_path / "a.txt").write_text("hello")
    assert await read_file.execute(path=str(tmp_path / "a.txt")) == ToolResult(success=True, data="hello")
    failed = await read_file.execute(path=str(tmp_path / "none"))
    assert (failed.success, failed.data) == (False, None) and "No such file" in (failed.error or "")
    assert read_file.parameters["properties"]["path"] == {"type": "string", "description": "File path"}


async def test_seed_000_a_subclass_like_the_seeds_own() -> None:
    def decorator(func: Any) -> Tool:
        class CustomTool(Tool):
            async def execute(self, **kwargs):  # type: ignore[no-untyped-def, override]
                try:
                    result = await func(**kwargs) if asyncio.iscoroutinefunction(func) else func(**kwargs)
                    return ToolResult(success=True, data=result)
                except Exception as e:
                    return ToolResult(success=False, error=str(e))

        return CustomTool("shout", "Shouts", {"text": str})

    shout = decorator(lambda text: text.upper())
    assert await shout.execute(text="hi") == ToolResult(True, "HI")
    assert (await shout.execute(wrong=1)).success is False
    assert await shout.run({"text": "hi"}) == "HI"


async def test_seed_000_web_search_is_registered() -> None:
    @tool("web_search", "Search the web for information")
    async def web_search(query: str, num_results: int = 5) -> list:  # type: ignore[type-arg]
        # Implementation
        results = [f"{query} {n}" for n in range(num_results)]
        return results

    model = ScriptedModel([{"name": "web_search", "input": {"query": "cats", "num_results": 2}}, "two"])
    agent = Agent(model)
    agent.register_tool(web_search)
    assert await agent.query("search cats") == "two"
    (spec,) = model.requests[0].tools
    assert spec.parameters == {
        "type": "object",
        "properties": {"query": {"type": "string"}, "num_results": {"type": "integer", "default": 5}},
        "required": ["query"],
    }
    assert model.requests[1].messages[-1].content[0].content == '["cats 0", "cats 1"]'  # type: ignore[union-attr]


# ------------------------------------------------------------------ seed 001


async def test_seed_001_introspection_openai_format_and_registry() -> None:
    from any_agent.tools import ToolRegistry

    def lookup(city: str, units: Literal["C", "F"] = "C") -> str:
        """Look up the weather.

        Args:
            city: The city's name
            units: Celsius or Fahrenheit
        """
        return f"{city} {units}"

    registry = ToolRegistry()
    one = registry.register(lookup)
    assert one.to_openai_format() == {
        "type": "function",
        "function": {
            "name": "lookup",
            "description": "Look up the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city's name"},
                    "units": {
                        "type": "string",
                        "enum": ["C", "F"],
                        "default": "C",
                        "description": "Celsius or Fahrenheit",
                    },
                },
                "required": ["city"],
            },
        },
    }
    assert ToolChoice("required") is ToolChoice.REQUIRED
    by_hand = Tool("t", "d", [ToolParameter("kind", str, enum=["a", "b"])], lambda kind: kind)
    assert by_hand.parameters["properties"]["kind"] == {"type": "string", "enum": ["a", "b"]}
    with pytest.raises(ToolInputError, match="kind"):
        await by_hand.execute({"kind": "c"})


# ------------------------------------------------------------------ seed 004 (and open_agent)


@tool("get_weather", "Get current weather", {"location": str, "units": str})
async def get_weather(args):  # type: ignore[no-untyped-def]
    return {
        "temperature": 72,
        "conditions": "sunny",
        "units": args["units"],
    }


@tool("calculate", "Perform calculation", {"a": float, "b": float, "op": str})
async def calculate(args):  # type: ignore[no-untyped-def]
    ops = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}
    result = ops[args["op"]](args["a"], args["b"])
    return {"result": result}


async def test_seed_004_handlers_with_one_dict() -> None:
    assert await get_weather.execute({"location": "Paris", "units": "C"}) == {
        "temperature": 72,
        "conditions": "sunny",
        "units": "C",
    }
    by_name = {"calculate": calculate, "get_weather": get_weather}
    assert await by_name["calculate"].execute({"a": 25, "b": 17, "op": "+"}) == {"result": 42}
    assert calculate.parameters["required"] == ["a", "b", "op"]
    with pytest.raises(ToolInputError):
        await calculate.execute({"a": 25, "op": "+"})


async def test_open_agents_tool_class_and_per_parameter_words() -> None:
    async def search(arguments: dict[str, Any]) -> Any:
        return arguments

    one = Tool(
        name="search",
        description="Search",
        input_schema={
            "query": {"type": "string"},
            "limit": {"type": "integer", "default": 10},
            "lang": {"type": "string", "optional": True},
            "safe": {"type": "boolean", "required": False},
        },
        handler=search,
    )
    assert one.parameters["required"] == ["query"]
    assert await one.execute({"query": "x"}) == {"query": "x", "limit": 10}


# ------------------------------------------------------------------ the Claude SDK


class Point(TypedDict):
    x: Annotated[int, "how far right"]
    y: NotRequired[int]


class Place(BaseModel):
    city: str = Field(description="in English")
    zip: int = Field(0, ge=0)

    @field_validator("city")
    @classmethod
    def no_paris(cls, city: str) -> str:
        if city == "Paris":
            raise ValueError("Paris is closed")
        return city


@dataclass
class Box:
    width: int
    label: Optional[str] = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


async def test_a_typeddict_a_model_or_a_dataclass_is_the_schema() -> None:
    @tool("move", "Move", Point)
    async def move(args: dict[str, Any]) -> Any:
        return args

    assert move.parameters["properties"]["x"] == {"type": "integer", "description": "how far right"}
    assert move.parameters["required"] == ["x"]
    assert await move.execute({"x": 1}) == {"x": 1}

    @tool("go", "Go", Place)
    async def go(place: Place) -> str:
        return f"{type(place).__name__} {place.city} {place.zip}"

    assert await go.execute({"city": "Oslo"}) == "Place Oslo 0"
    with pytest.raises(ToolInputError, match="go: city: Paris is closed"):
        await go.execute({"city": "Paris"})

    @tool("pack", "Pack", Box)
    def pack(width: int, label: str | None = None) -> str:
        return f"{width}{label}"

    assert await pack.execute({"width": 3}) == "3None"

    @tool
    def whole(args: Box) -> str:
        """All in one."""
        return f"{args.width}{args.label}"

    assert whole.parameters["required"] == ["width"] and await whole.execute({"width": 2, "label": "a"}) == "2a"


def test_annotated_text_describes() -> None:
    @tool
    def find(
        name: Annotated[str, "what to look for"], depth: Annotated[int, Field(ge=1, description="levels")] = 1
    ) -> None:
        """Find.

        Args:
            depth: told twice; the annotation is nearer
        """

    assert find.parameters["properties"] == {
        "name": {"type": "string", "description": "what to look for"},
        "depth": {"type": "integer", "minimum": 1, "description": "levels", "default": 1},
    }
    assert normalise_schema({"x": Annotated[str, "the x"]})["properties"]["x"] == {
        "type": "string",
        "description": "the x",
    }


# ------------------------------------------------------------------ types


@tool
def rich(
    points: list[Point],
    places: dict[str, Place],
    colour: Colour,
    day: date,
    where: Path,
    pair: tuple[int, str],
    either: int | Box,
    kind: Literal["a", "b"] = "a",
    maybe: Optional[Place] = None,
) -> list[Any]:
    """Everything."""
    return [points, places, colour, day, where, pair, either, kind, maybe]


async def test_values_arrive_as_their_types() -> None:
    given = {
        "points": [{"x": 1}],
        "places": {"home": {"city": "Oslo"}},
        "colour": "red",
        "day": "2026-01-02",
        "where": "/tmp",
        "pair": [1, "b"],
        "either": {"width": 4},
    }
    got = await rich.execute(given)
    assert got == [
        [{"x": 1}],
        {"home": Place(city="Oslo")},
        Colour.RED,
        date(2026, 1, 2),
        Path("/tmp"),
        (1, "b"),
        Box(4),
        "a",
        None,
    ]
    assert given["points"] == [{"x": 1}] and given["colour"] == "red", "the model's arguments were changed"
    with pytest.raises(ToolInputError, match="rich: day: "):
        await rich.execute({**given, "day": "yesterday"})
    assert '"title"' not in str(rich.parameters)


async def test_whole_floats_are_integers_and_nothing_else_is_bent() -> None:
    @tool
    def twice(n: int) -> list[int]:
        return [0] * n

    assert await twice.execute({"n": 2.0}) == [0, 0]
    for wrong in ("2", 2.5, True, None):
        with pytest.raises(ToolInputError):
            await twice.execute({"n": wrong})


async def test_an_argument_that_nobody_takes_is_refused() -> None:
    @tool
    def narrow(a: int) -> int:
        return a

    with pytest.raises(ToolInputError, match="there is no argument 'b'"):
        await narrow.execute({"a": 1, "b": 2})

    @tool
    def wide(a: int, **more: Any) -> dict[str, Any]:
        return more

    assert await wide.execute({"a": 1, "b": 2}) == {"b": 2}


Metres = NewType("Metres", int)


async def test_odd_functions() -> None:
    def power(base: int, exponent: int) -> int:
        """Raise.

        Args:
            base: the base
        """
        return base**exponent

    square = tool(functools.partial(power, exponent=2))
    assert square.name == "power" and await square.execute({"base": 3}) == 9
    assert square.parameters["properties"]["base"]["description"] == "the base"

    class Greeter:
        """Greets."""

        async def __call__(self, name: str) -> str:
            return f"hello {name}"

    greet = tool("greet")(Greeter())
    assert await greet.execute({"name": "Ada"}) == "hello Ada" and greet.description == "Greets."

    def by_place(a: int, /, b: int = 1) -> int:
        return a - b

    assert await tool(by_place).execute({"a": 5, "b": 2}) == 3

    @tool
    def reserved(schema: str, _private: int, model_config: Metres) -> str:
        return f"{schema}{_private}{model_config}"

    assert await reserved.execute({"schema": "s", "_private": 1, "model_config": 2}) == "s12"

    @tool
    def hidden(amount: Decimal, count: int) -> Any:  # Decimal is known to the type checker only
        return amount, count

    assert hidden.parameters["properties"]["count"] == {"type": "integer"}
    assert await hidden.execute({"amount": 1.5, "count": 2}) == (1.5, 2)

    none = tool("none", "Takes nothing", {})(lambda: "ok")
    assert await none.execute({}) == "ok"
    default = tool("default", "Takes nothing", {})(lambda n=5: n)
    assert await default.execute({}) == 5

    @tool
    def config(config: dict[str, int]) -> Any:
        return config

    assert config.parameters["required"] == ["config"] and await config.execute({"config": {"a": 1}}) == {"a": 1}


async def test_methods() -> None:
    class Counter:
        def __init__(self) -> None:
            self.total = 0

        @tool
        async def count(self, by: int, context: ToolContext) -> int:
            """Count."""
            self.total += by
            return self.total

    one, other = Counter(), Counter()
    assert await one.count.execute({"by": 2}) == 2 and await one.count.execute({"by": 2}) == 4
    assert await other.count.execute({"by": 1}) == 1
    assert Counter.count.parameters["required"] == ["by"]


class Fetch(Tool):
    """Fetches a page."""

    effect = "pure"
    timeout = 5.0

    async def execute(self, url: str, context: ToolContext) -> str:  # type: ignore[override]
        return f"{url} for {context.session_id!r}"


async def test_a_subclass_declares_and_takes_a_context() -> None:
    fetch = Fetch("fetch")
    assert (fetch.description, fetch.effect, fetch.timeout, fetch.is_read_only) == (
        "Fetches a page.",
        "pure",
        5.0,
        True,
    )
    assert list(fetch.parameters["properties"]) == ["url"]
    assert await fetch.run({"url": "x"}, ToolContext("fetch", "s1")) == "x for 's1'"
    assert Fetch("fetch", timeout=1).timeout == 1


# ------------------------------------------------------------------ mistakes are told when the tool is made


def wrong_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tool("t", "d", {"x": str})(lambda y, z: 1), "needs 'y'"),
        (lambda: tool("t", "d", {"x": str})(lambda: 1), "no parameter 'x'"),
        (lambda: tool(wrong_generator), "yields"),
        (lambda: tool("t", "d", 7)(lambda x: x), "does not say what a tool takes"),
        (lambda: tool("né")(lambda x: x), "tool name"),
        (lambda: tool(lambda x: x), "tool name '<lambda>'"),
        (lambda: tool(efect="pure"), "did you mean 'effect'"),
        (lambda: tool(effect="twice"), "pure, idempotent, once"),
        (lambda: tool(timeout=0), "more than 0"),
        (lambda: tool(timeout=True), "more than 0"),
        (lambda: tool(retries=-1), "0 or more"),
        (lambda: tool(retries=1.5), "whole number"),
        (lambda: tool(cache_ttl=5, effect="once"), "effect='pure'"),
        (lambda: tool(edits_files=True, is_read_only=True), "contradicts"),
        (lambda: tool(max_result_tokens=0), "more than 0"),
        (lambda: tool(enabled="yes"), "is no function"),
        (lambda: tool(verify=1), "is no function"),
    ],
)  # fmt: skip
def test_mistakes(make: Any, told: str) -> None:
    def plain(x: str) -> str:
        return x

    with pytest.raises(ConfigurationError, match=told):
        made = make()
        if not isinstance(made, Tool):
            made(plain)


async def test_a_schema_that_is_none_is_told_at_its_first_use() -> None:
    broken = tool("t", "d", {"type": "object", "properties": {"x": {"minLength": "one"}}})(lambda x: x)
    with pytest.raises(ConfigurationError, match="no JSON Schema"):
        await broken.execute({"x": 1})


def test_what_follows_from_what() -> None:
    def plain() -> None:
        """Nothing."""

    def made(**traits: Any) -> Tool:
        return Tool("plain", handler=plain, **traits)

    assert (made().effect, made().is_read_only, made().parallel, made().needs_permission) == (
        "once",
        False,
        True,
        False,
    )
    assert made(retries=1).effect == "idempotent" and made(retries=1, effect="once").effect == "once"
    assert made(cache_ttl=1).effect == "pure" and made(is_read_only=True).effect == "pure"
    assert made(effect="pure").is_read_only and not made(effect="pure", is_read_only=False).is_read_only
    assert made(return_direct=True).ends_run
