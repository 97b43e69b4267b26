"""Tools and schemas that are not quite what one expects: told when they are made, and nothing is dropped silently."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from any_agent import Agent, Tool, ToolContext, ToolParameter, ToolRegistry, ToolResult, tool
from any_agent.errors import ConfigurationError, ToolInputError
from any_agent.output import output_of
from any_agent.testing import LoopbackServer, ScriptedModel
from any_agent.tools.running import Outcome, run_tool
from any_agent.types import PermissionDecided, ToolCompleted


@dataclass
class Point:
    x: int


@dataclass
class Shape:
    corner: Point
    more: list[Point] = field(default_factory=list)


class Sparse(TypedDict, total=False):
    a: int


class Filled(BaseModel):
    n: int
    inner: Point | None = None


def take(args: dict[str, Any]) -> dict[str, Any]:
    return args


# ------------------------------------------------------------------ schemas


@pytest.mark.parametrize(
    "spelling", [{"shape": Shape, "end": Point}, [ToolParameter("shape", Shape), ToolParameter("end", Point)]]
)
async def test_types_within_types_of_parameters(spelling: Any) -> None:
    made = tool("draw", "Draw", spelling)(take)
    assert set(made.parameters["$defs"]) == {"Point"}  # a $ref counts from the root
    fine = {"shape": {"corner": {"x": 1}, "more": [{"x": 2}]}, "end": {"x": 3}}
    assert await made.execute(fine) == fine
    with pytest.raises(ToolInputError, match=r"shape\.corner\.x: 'one' is not of type 'integer'"):
        await made.execute({"shape": {"corner": {"x": "one"}}, "end": {"x": 3}})


def test_two_types_of_one_name() -> None:
    def other() -> type:
        @dataclass
        class Point:
            y: str

        return Point

    point = other()
    second: Any = dataclass(type("Second", (), {"__annotations__": {"corner": point}}))
    with pytest.raises(ConfigurationError, match="two types of the parameters are called Point"):
        tool("draw", "Draw", {"a": Shape, "b": list[second]})(take)


async def test_what_a_type_does_not_know_is_not_dropped() -> None:
    ran: list[Any] = []

    @tool
    def nested(sparse: Sparse, filled: Filled) -> None:
        ran.append((sparse, filled))

    @tool("whole", "W", Filled)
    def whole(filled: Filled) -> None:
        ran.append(filled)

    for one, given in (
        (nested, {"sparse": {"b": 1}, "filled": {"n": 1}}),
        (nested, {"sparse": {}, "filled": {"n": 1, "inner": {"x": 1, "y": 2}}}),
        (whole, {"n": 1, "m": 2}),
    ):
        with pytest.raises(ToolInputError, match="were unexpected|was unexpected"):
            await one.execute(given)
    assert ran == []
    await nested.execute({"sparse": {}, "filled": {"n": 1}})
    assert ran == [({}, Filled(n=1))]


async def test_defaults_that_json_cannot_say_are_left_out() -> None:
    missing = object()

    def odd(a: Any = missing, b: float = float("nan"), c: float = float("inf"), d: int = 5, e: Any = len) -> list[Any]:
        return [a is missing, b != b, c, d, e]

    made = tool(odd)
    assert made.parameters["properties"] == {
        "a": {}, "b": {"type": "number"}, "c": {"type": "number"}, "d": {"type": "integer", "default": 5}, "e": {},
    }  # fmt: skip
    json.dumps(made.to_openai_format(), allow_nan=False)
    assert await made.execute({}) == [True, True, float("inf"), 5, len]


async def test_further_keywords_have_the_type_they_say() -> None:
    def many(**numbers: int) -> int:
        return sum(numbers.values())

    assert await tool(many).execute({"a": 1, "b": 2}) == 3
    with pytest.raises(ToolInputError, match="b: 'two' is not of type 'integer'"):
        await tool(many).execute({"a": 1, "b": "two"})


@pytest.mark.parametrize(
    "schema", ["str", {"a": "the city"}, {"a": {"type": "str"}}, {"type": "object", "properties": {"a": {"type": ["string", "text"]}}}, ["a"]]
)  # fmt: skip
def test_a_type_that_there_is_not_is_told_when_the_tool_is_made(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no type a tool parameter can have|does not say what a tool takes"):
        tool("t", "d", schema)(take)


@pytest.mark.parametrize("make", ["tool", "output"])
async def test_a_schema_fetches_nothing(make: str) -> None:
    with LoopbackServer() as server:
        server.reply("*", {"type": "integer"})
        schema = {"type": "object", "properties": {"a": {"$ref": f"{server.root_url}/a.json"}}}
        with pytest.raises(ConfigurationError, match=r"\$ref .*a\.json leads nowhere; put what it means into \$defs"):
            if make == "tool":
                await tool("t", "d", schema)(take).execute({"a": 1})
            else:
                output_of(schema).parse('{"a": 1}')
        assert server.requests == []


async def test_a_reference_that_leads_nowhere_ends_the_run_with_its_name() -> None:
    broken = tool("t", "d", {"type": "object", "properties": {"a": {"$ref": "#/$defs/No"}}})(take)
    async with Agent(ScriptedModel([{"name": "t", "input": {"a": 1}, "id": "c"}]), tools=[broken]) as agent:
        with pytest.raises(ConfigurationError, match="defs/No leads nowhere") as caught:
            await agent.query("q")
    assert caught.value.field == "input_schema of the tool t"


# ------------------------------------------------------------------ functions


async def test_types_that_stand_beside_the_function_are_found() -> None:
    class Trip(BaseModel):
        start: str

    @dataclass
    class Stop:
        name: str

    @tool
    def plan(trip: Trip, stops: list[Stop], last: Stop | None = None) -> list[Any]:
        """Plan."""
        return [trip, stops, last]

    class Planner:
        @tool
        async def plan(self, trip: Trip) -> Trip:
            """Plan."""
            return trip

    given: dict[str, Any] = {"trip": {"start": "a"}, "stops": [{"name": "b"}]}
    assert await plan.execute(given) == [Trip(start="a"), [Stop("b")], None]
    with pytest.raises(ToolInputError, match="trip: 'start' is a required property"):
        await plan.execute({**given, "trip": {}})
    assert await Planner().plan.execute({"trip": {"start": "a"}}) == Trip(start="a")


def gaps(a: int = 1, b: int = 2, /, c: int = 3) -> list[Any]:
    return [a, b, c]


def context_first(context: ToolContext, a: int, /) -> list[Any]:
    return [type(context).__name__, a]


def context_and_all(context: ToolContext, args: dict[str, Any]) -> list[Any]:
    return [type(context).__name__, args]


def all_by_name(*, args: dict[str, Any], context: ToolContext) -> list[Any]:
    return [type(context).__name__, args]


@pytest.mark.parametrize(
    ("function", "given", "taken"),
    [
        (gaps, {"b": 5}, [1, 5, 3]),
        (gaps, {"c": 5}, [1, 2, 5]),
        (gaps, {"a": 7, "c": 8}, [7, 2, 8]),
        (context_first, {"a": 1}, ["ToolContext", 1]),
        (context_and_all, {"x": 1}, ["ToolContext", {"x": 1}]),
        (all_by_name, {"x": 1}, ["ToolContext", {"x": 1}]),
    ],
)
async def test_every_value_reaches_its_own_parameter(function: Any, given: Any, taken: Any) -> None:
    assert await tool(function).execute(given) == taken


@tool
def later(what: Later, more: list[Later] | None = None) -> Any:
    """Take what is defined below."""
    return what


@tool
def never(what: NotDefined) -> Any:  # type: ignore[name-defined]  # noqa: F821
    """Take anything."""
    return what


class Later(BaseModel):
    n: int


async def test_a_type_may_be_defined_later() -> None:
    registry = ToolRegistry([later])
    assert registry.get("later").parameters["properties"]["what"] == {"$ref": "#/$defs/Later"}
    assert await later.execute({"what": {"n": 1}}) == Later(n=1)
    assert await never.execute({"what": {"n": 1}}) == {"n": 1}


class Machine:
    def run(self, x: int) -> int:
        """Run."""
        return x

    @tool
    def walk(self, x: int) -> int:
        """Walk."""
        return x

    def __call__(self, x: int) -> int:
        """Do it.

        Args:
            x: how often
        """
        return x


@pytest.mark.parametrize("method", [Machine.run, Machine.walk])
def test_a_method_without_its_object_is_told(method: Any) -> None:
    with pytest.raises(ConfigurationError, match="is a method without its object; give the one of an instance"):
        ToolRegistry([method])
    ToolRegistry([Machine().run, Machine().walk])


def test_an_object_that_can_be_called_is_described_by_its_call() -> None:
    made = tool(Machine())
    assert made.description == "Do it."
    assert made.parameters["properties"]["x"]["description"] == "how often"


def test_one_tool_makes_a_registry() -> None:
    made = tool("t", "d")(lambda x: x)
    assert ToolRegistry(made).names() == ["t"]  # type: ignore[arg-type]
    assert ToolRegistry([made]).to_openai_format() == [made.to_openai_format()]
    with pytest.raises(ConfigurationError, match="no built-in tool 'shell'"):
        ToolRegistry("shell")


async def not_plain() -> bool:
    return True


@pytest.mark.parametrize(
    ("traits", "told"),
    [
        ({"parallel": "no"}, "says neither yes nor no"),
        ({"needs_permission": None}, "says neither yes nor no"),
        ({"enabled": not_plain}, "a function that is not async"),
        ({"permission_argument": "comand"}, "is none of its parameters; allowed: command"),
    ],
)
def test_traits_that_would_not_do_what_they_say(traits: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        tool("t", "d", **traits)(lambda command: command)


async def test_rules_are_held_against_the_declared_argument() -> None:
    @tool(permission_argument="target")
    async def send(target: str, text: str) -> str:
        """Send."""
        return f"sent to {target}"

    calls = [{"name": "send", "input": {"target": to, "text": "bob"}, "id": to} for to in ("bob", "ann")]
    async with Agent(ScriptedModel([calls, "done"]), tools=[send], disallowed_tools=["send(bob)"]) as agent:
        events = [event async for event in agent.stream("q")]
    decided = {one.tool_use_id: one.decision for one in events if isinstance(one, PermissionDecided)}
    assert decided == {"bob": "deny", "ann": "allow"}
    (ran,) = [one for one in events if isinstance(one, ToolCompleted) and not one.result.is_error]
    assert ran.result.content == "sent to ann"


# ------------------------------------------------------------------ results


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unseen:
    def __repr__(self) -> str:
        raise RuntimeError("no picture")


async def outcome(function: Any) -> Outcome:
    return await run_tool(Tool("odd", handler=function), {})


async def test_whatever_a_tool_gives_is_told() -> None:
    def mute() -> None:
        raise Mute

    assert await outcome(mute) == Outcome("Error: Mute", is_error=True)
    said = "Error: odd has run, but its result cannot be told: "
    assert (await outcome(lambda: Unseen())).content == f"{said}RuntimeError: no picture"
    assert (await outcome(lambda: ToolResult(True, "x", tools=(5,)))).content.startswith(said)  # type: ignore[arg-type]


async def test_an_answer_is_not_shortened() -> None:
    @tool(return_direct=True)
    def report() -> str:
        """Report."""
        return "word " * 500

    model = ScriptedModel([{"name": "report", "input": {}, "id": "c"}])
    async with Agent(model, tools=[report], max_result_tokens=20) as agent:
        assert await agent.query("q") == "word " * 500


async def test_collections_are_lists_for_the_model() -> None:
    for made, told in (
        ({"a": 1}.keys(), '["a"]'),
        (deque([1]), "[1]"),
        (range(2), "[0, 1]"),
        ({"a": 1}.values(), "[1]"),
    ):
        assert (await outcome(lambda made=made: made)).content == told


async def test_a_context_is_no_argument(tmp_path: Any) -> None:
    async def where(context: ToolContext, **more: str) -> str:
        await asyncio.sleep(0)
        return f"{context.tool_use_id}{more}"

    assert await tool(where).execute({"a": "b"}) == "{'a': 'b'}"


async def test_a_whole_number_that_was_said_as_a_fraction_is_one_also_where_null_may_be() -> None:
    def show(n: int | None = None) -> str:
        return repr(n)

    assert await tool(show).execute({"n": 3.0}) == "3"
    assert await tool(show).execute({"n": None}) == "None"
