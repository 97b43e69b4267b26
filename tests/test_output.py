"""Structured output: what is read and what is refused, the way it is asked for, repairs, and the bytes on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from any_agent import Agent, AgentOptions, Client, query, tool
from any_agent.errors import ConfigurationError, MaxTurnsError, OutputError, RequestRejectedError
from any_agent.models.capabilities.verdicts import Finding, Verdict, Verdicts, identity
from any_agent.output import NOTHING, Output, Partial, Way, output_of, way_to, why
from any_agent.permissions import PermissionMode
from any_agent.testing import LoopbackServer, ScriptedModel, chat_chunks, error, sse, token_usage
from any_agent.types import AgentResponse, ResultMessage, StreamEnd, ToolUseBlock, UserMessage, text_of

CHAT = "/v1/chat/completions"


class City(BaseModel):
    """A city."""

    name: str
    people: int = Field(0, ge=0)
    tags: list[str] = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name == "Atlantis":
            raise ValueError("Atlantis has sunk, take another city")
        return name


@dataclass
class Point:
    x: int
    y: Annotated[int, "how far up"]


class Row(TypedDict):
    day: date
    amount: Decimal


class Tree(BaseModel):
    name: str
    under: list[Tree] = []


class Stay(BaseModel):
    nights: int
    rooms: list[int] = []
    begins: date | None = None
    next: Stay | None = None


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
ROME = '{"name": "Rome", "people": 3, "tags": ["old"]}'


@tool
def look(city: str) -> str:
    """Look at a city."""
    return f"{city} is old"


# ------------------------------------------------------------------ reading


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (City, ROME, City(name="Rome", people=3, tags=["old"])),
        (City, '{"name": "Rome"}', City(name="Rome")),
        (City, f"Sure!\n```json\n{ROME}\n```\nAnything else?", City(name="Rome", people=3, tags=["old"])),
        (City, f"```\n{ROME}\n```", City(name="Rome", people=3, tags=["old"])),
        (City, "It is {'name': 'Rome', 'people': 3,} I think.", City(name="Rome", people=3)),
        (City, f"{ROME} and once more: {ROME}", City(name="Rome", people=3, tags=["old"])),
        (City, 'From {x | x > 0} take {"name": "Rome"}', City(name="Rome")),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (Row, '{"day": "2026-01-02", "amount": "0.10"}', {"day": date(2026, 1, 2), "amount": Decimal("0.10")}),
        (Tree, '{"name": "a", "under": [{"name": "b"}]}', Tree(name="a", under=[Tree(name="b")])),
        (list[Point], '{"value": [{"x": 1, "y": 2}]}', [Point(1, 2)]),
        (list[Point], '[{"x": 1, "y": 2}]', [Point(1, 2)]),
        (list[int], "They are:\n[1, 2]\n", [1, 2]),
        (Point | City, '{"value": {"name": "Rome"}}', City(name="Rome")),
        (dict[str, int], '{"value": 3}', {"value": 3}),
        (Literal["yes", "no"], "yes", "yes"),
        (Literal["yes", "no"], '{"value": "no"}', "no"),
        (Colour, "red", Colour.RED),
        (int, "42", 42),
        (int, '{"value": 42}', 42),
        (bool, "false", False),
        (str, "plain words", "plain words"),
        (str, "42", "42"),
        (date, "2026-01-02", date(2026, 1, 2)),
        (int | None, "null", None),
        (SCHEMA, '{"n": 3}', {"n": 3}),
        ({"type": "json_schema", "schema": SCHEMA}, '{"n": 3}', {"n": 3}),
        ({"type": "json_schema", "json_schema": {"name": "count", "schema": SCHEMA}}, '{"n": 3}', {"n": 3}),
        ({"type": "array", "items": {"type": "integer"}}, '{"value": [1]}', [1]),
        ({"type": "array", "items": {"type": "integer"}}, "[1]", [1]),
        ({"enum": ["a", "b"]}, "a", "a"),
    ],
)
def test_what_is_read(wanted: Any, text: str, value: Any) -> None:
    found = output_of(wanted).parse(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("wanted", "text", "reason"),
    [
        (City, "", "empty"),
        (City, "I do not know.", "no JSON"),
        (City, '{"people": 1}', "name: Field required"),
        (City, '{"name": "Atlantis"}', "Atlantis has sunk, take another city"),
        (City, '{"name": "Rome"} or {"name": "Oslo"}', "2 different JSON values"),
        (City, '```json\n{"name": "Rome"}\n```\n```json\n{"name": "Oslo"}\n```', "2 different"),
        (City, '{"cities": [{"name": "Rome"}, {"name": "Oslo"', "not valid JSON"),
        (City, '{"inner": {"name": "Rome"}}', "name: Field required"),
        (City, 'Here: {"inner": {"name": "Rome"}}', "name: Field required"),
        (City, 'Here: [{"name": "Rome"}', "not valid JSON"),
        (City, '{"name": "Rome", "name": "Oslo"}', "twice"),
        (City, '{"name": "Ro', "not valid JSON"),
        (City, '{"name": "Rome", "people": NaN}', "NaN is no number"),
        (Stay, '{"nights": true}', "nights: true is no number"),
        (Stay, '{"nights": 1, "rooms": [2, false]}', "rooms.1: false is no number"),
        (Stay, '{"nights": 1, "next": {"nights": true}}', "next.nights: true is no number"),
        (Stay, '{"nights": 1, "begins": 1700000000}', "begins: 1700000000 is no text that tells a date"),
        (Stay, '{"nights": 1, "begins": "20240131"}', "is no text that tells a date"),
        (float, "true", "true is no number"),
        (list[int], "as shown in [1]", "not valid JSON"),
        (list[int], "[1, 2", "not valid JSON"),
        (int, "about 42", "no JSON"),
        (bool, "perhaps", "no JSON"),
        (Literal["yes", "no"], "yes and no", "no JSON"),
        (str, '{"value": "cut', "not valid JSON"),
        (SCHEMA, '{"n": 0}', "n: 0 is less than the minimum"),
        (SCHEMA, "[]", "is not of type 'object'"),
        (City, "[" * 5000, "not valid JSON|nested"),
        (City, "x " + "{" * 5000, "not valid JSON"),
    ],
)
def test_what_is_refused(wanted: Any, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        output_of(wanted).parse(text)
    assert re.search(reason, why(refused.value)), why(refused.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_whatever_json_says_is_read_as_it_is(value: Any) -> None:
    output = output_of(dict[str, Any])
    text = json.dumps({"it": value})
    for said in (text, f"Here you are:\n```json\n{text}\n```", f"So: {text}"):
        assert output.parse(said) == {"it": value}


@given(st.integers(1, len(ROME) - 1))
def test_a_cut_answer_is_never_completed(size: int) -> None:
    with pytest.raises(ValueError, match="not valid JSON"):
        output_of(City).parse(ROME[:size])


@pytest.mark.parametrize(
    "wanted", [{"type": "nonsense"}, {"type": "json_schema"}, {"type": "json_object"}, object(), lambda: 1]
)
async def test_what_is_no_type_is_refused_before_anything_is_sent(wanted: Any) -> None:
    model = ScriptedModel()
    with pytest.raises(ConfigurationError, match="output_type|checked against"):
        await Agent(model).query("Hi", output_type=wanted)
    assert model.requests == []


def test_servers_are_told_closed_objects_with_all_fields() -> None:
    city, points, row, tree = (output_of(one) for one in (City, list[Point], Row, Tree))
    assert city.is_strict and city.schema["required"] == ["name", "people", "tags"]
    assert city.schema["additionalProperties"] is False and "default" not in json.dumps(city.schema)
    assert points.is_strict and points.is_wrapped and points.schema["required"] == ["value"]
    assert output_of(Point).schema["properties"]["y"]["description"] == "how far up"
    assert tree.is_strict and tree.schema["type"] == "object" and tree.schema["properties"].keys() == {"name", "under"}
    assert row.schema["required"] == ["day", "amount"]
    assert not output_of(dict[str, int]).is_strict and not output_of(SCHEMA).is_strict
    assert output_of(SCHEMA).schema == SCHEMA, "the user's own schema goes out as it is"
    assert output_of(City) is output_of(City)


# ------------------------------------------------------------------ the way


YES, NO = Finding(True), Finding(False)


@pytest.mark.parametrize(
    ("verdict", "provider", "may_try", "runs_tools", "way"),
    [
        (Verdict(json_schema=YES), None, False, True, Way("schema")),
        (Verdict(json_schema=YES, schema_beside_tools=YES), None, True, True, Way("schema", beside_tools=True)),
        (Verdict(json_schema=YES, schema_beside_tools=NO), None, True, True, Way("schema")),
        (Verdict(json_schema=NO, native_tools=YES), "llamacpp", True, True, Way("tool")),
        (
            Verdict(json_schema=NO, native_tools=YES, required_choice=YES),
            None,
            True,
            True,
            Way("tool", requires_call=True),
        ),
        (Verdict(json_schema=NO, native_tools=YES), None, True, False, Way("prompt")),
        (Verdict(json_schema=NO, native_tools=NO), None, True, True, Way("prompt")),
        (Verdict(json_schema=NO), None, True, True, Way("prompt")),
        (Verdict(), None, True, True, Way("schema")),
        (None, None, True, True, Way("schema")),
        (None, None, False, True, Way("prompt")),
        (None, "vllm", False, True, Way("schema")),
        (None, "perplexity", False, True, Way("prompt")),
    ],
)
def test_the_way(verdict: Verdict | None, provider: str | None, may_try: bool, runs_tools: bool, way: Way) -> None:
    assert way_to("auto", verdict, provider, may_try=may_try, runs_tools=runs_tools) == way


def test_a_way_can_be_named() -> None:
    enforced = Verdict(json_schema=YES, native_tools=YES)
    assert way_to("prompt", enforced) == Way("prompt") and way_to("tool", enforced) == Way("tool")
    assert way_to("schema", Verdict(json_schema=NO)) == Way("schema")
    assert way_to("tool", runs_tools=False) == Way("prompt")


# ------------------------------------------------------------------ runs


async def test_the_value_and_how_it_was_asked_for() -> None:
    model = ScriptedModel([ROME])
    answer = await Agent(model, system_prompt="Be brief.").query("A city", output_type=City)
    assert answer.data == City(name="Rome", people=3, tags=["old"]) and isinstance(answer, AgentResponse)
    assert answer == ROME and answer.num_turns == 1
    (asked,) = model.requests
    system = text_of(asked.messages[0])
    assert system.startswith("Be brief.\n\nAnswer with one JSON value") and '"people"' in system
    assert "response_format" not in asked.params, "who is no door of ours may not know it"


async def test_it_holds_for_one_prompt_only() -> None:
    model = ScriptedModel([ROME, "Hello"])
    async with Agent(model).create_session() as session:
        assert (await session.query("A city", output_type=City)).data.name == "Rome"
        assert (await session.query("Hi")).data is None
        assert [m["role"] for m in session.history] == ["user", "assistant"] * 2
    assert [type(m).__name__ for m in model.requests[1].messages] == ["UserMessage", "AssistantMessage", "UserMessage"]


def test_without_an_event_loop() -> None:
    assert Agent(ScriptedModel(["7"])).query_sync("How many?", output_type=int).data == 7


@pytest.mark.parametrize("options", [{"output_type": City}, AgentOptions(output_type=City)])
async def test_as_an_option_of_the_agent(options: Any) -> None:
    agent = Agent(ScriptedModel([ROME, "words"]), options=options)
    assert (await agent.query("A city")).data == City(name="Rome", people=3, tags=["old"])
    assert (await agent.query("Hi", output_type=None)).data is None


async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason() -> None:
    model = ScriptedModel(["I think Rome.", '{"name": "Atlantis"}', ROME])
    async with Agent(model).create_session() as session:
        answer = await session.query("A city", output_type=City)
        assert answer.data.name == "Rome" and answer.num_turns == 3
        told = [text_of(one) for one in session.messages if isinstance(one, UserMessage)]
    assert "no JSON" in told[1] and "Atlantis has sunk" in told[2] and '"people"' in told[2]


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_repairs_are_bounded(retries: int) -> None:
    model = ScriptedModel(["no"] * 9)
    with pytest.raises(OutputError) as failed:
        await Agent(model).query("A city", output_type=City, output_retries=retries)
    assert len(model.requests) == retries + 1
    assert failed.value.text == "no" and len(failed.value.reasons) == retries + 1
    assert "no JSON" in str(failed.value)


async def test_a_stream_ends_in_the_value_or_the_error() -> None:
    events = [event async for event in Agent(ScriptedModel(["no", ROME])).stream("A city", output_type=City)]
    assert events[-1].subtype == "success" and events[-1].structured_output.name == "Rome"
    assert sum(isinstance(event, ResultMessage) for event in events) == 1
    events = [e async for e in Agent(ScriptedModel(["no"])).stream("A city", output_type=City, output_retries=0)]
    assert events[-1].subtype == "error" and isinstance(events[-1].error, OutputError)
    assert events[-1].structured_output is None and events[-1].result == "no"


async def test_no_turn_is_taken_that_is_not_allowed() -> None:
    model = ScriptedModel(["no", ROME])
    with pytest.raises(OutputError, match="no turn is left"):
        await Agent(model, max_turns=1).query("A city", output_type=City)
    assert len(model.requests) == 1
    assert (await Agent(ScriptedModel([ROME]), max_turns=1).query("A city", output_type=City)).data.name == "Rome"


async def test_a_cut_answer_is_told_so_even_if_a_part_of_it_fits() -> None:
    cut = [f'{{"cities": [{ROME}', StreamEnd("m", "length")]
    model = ScriptedModel([cut, ROME])
    answer = await Agent(model).query("A city", output_type=City)
    assert answer.data.name == "Rome" and "cut off" in text_of(model.requests[1].messages[-1])
    whole = [ROME, StreamEnd("m", "length")]
    assert (await Agent(ScriptedModel([whole])).query("A city", output_type=City)).data.name == "Rome"


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_validator_refuses_with_a_message_or_changes_the_value(is_async: bool) -> None:
    def checked(city: City) -> City | None:
        if city.people < 5:
            raise ValueError("too small, take one with 5 people at least")
        return city.model_copy(update={"tags": ["checked"]}) if city.people == 7 else None

    async def checked_later(city: City) -> City | None:
        return checked(city)

    model = ScriptedModel([ROME, '{"name": "Oslo", "people": 7}', '{"name": "Bonn", "people": 8}'])
    agent = Agent(model, output_type=City, output_validator=checked_later if is_async else checked)
    assert (await agent.query("A city")).data == City(name="Oslo", people=7, tags=["checked"])
    assert "too small, take one with 5" in text_of(model.requests[1].messages[-1])
    assert (await agent.query("A city")).data == City(name="Bonn", people=8)


async def test_check_response_sees_the_value_and_its_reason_is_the_next_prompt() -> None:
    seen = []

    class Picky(Agent):
        async def check_response(self, response: AgentResponse) -> str | None:
            seen.append(response.data)
            return None if response.data.name == "Oslo" else "Say Oslo."

    model = ScriptedModel([ROME, "no", '{"name": "Oslo"}'])
    assert (await Picky(model).query("A city", output_type=City)).data.name == "Oslo"
    assert [one.name for one in seen] == ["Rome", "Oslo"] and "Say Oslo." in text_of(model.requests[1].messages[-1])


async def test_an_agent_may_read_answers_in_its_own_way() -> None:
    class Lines(Agent):
        def parse_output(self, text: str, output: Output) -> Any:
            if text.startswith("City:"):
                return City(name=text.removeprefix("City:").strip())
            return super().parse_output(text, output)

    assert (await Lines(ScriptedModel(["City: Rome"])).query("A city", output_type=City)).data == City(name="Rome")
    assert (await Lines(ScriptedModel([ROME])).query("A city", output_type=City)).data.people == 3


async def test_after_tools() -> None:
    model = ScriptedModel([ToolUseBlock("a", "look", {"city": "Rome"}), ROME])
    answer = await Agent(model, tools=[look]).query("A city", output_type=City)
    assert answer.data.name == "Rome" and [call.name for call in answer.tool_calls] == ["look"]
    assert "When you need no tool any more, answer" in text_of(model.requests[0].messages[0])
    assert all(request.tools for request in model.requests)


async def test_the_model_may_call_tools_again_after_a_refused_value() -> None:
    def named_rome(city: City) -> None:
        if city.name != "Rome":
            raise ValueError("look again")

    model = ScriptedModel(['{"name": "Oslo"}', ToolUseBlock("a", "look", {"city": "Rome"}), ROME])
    answer = await Agent(model, tools=[look], output_validator=named_rome).query("A city", output_type=City)
    assert answer.data.name == "Rome" and answer.num_turns == 3


# ------------------------------------------------------------------ a final tool


def by_tool(*replies: Any, **options: Any) -> tuple[Agent, ScriptedModel]:
    model = ScriptedModel(replies)
    return Agent(model, output_type=City, output_mode="tool", **options), model


@pytest.mark.parametrize("mode", list(PermissionMode))
async def test_the_final_tool_ends_the_run(mode: PermissionMode) -> None:
    rome = ToolUseBlock("a", "final_answer", json.loads(ROME))
    agent, model = by_tool(ToolUseBlock("b", "look", {"city": "Rome"}), rome, tools=[look], permission_mode=mode)
    answer = await agent.query("A city")
    assert answer.data == City(name="Rome", people=3, tags=["old"]) and answer.num_turns == 2
    assert json.loads(answer) == json.loads(ROME)
    spec = model.requests[0].tools[-1]
    assert (spec.name, spec.parameters) == ("final_answer", output_of(City).schema)
    assert "calling the tool final_answer" in text_of(model.requests[0].messages[0])


async def test_nobody_is_asked_whether_the_model_may_answer() -> None:
    def never(*_: Any) -> bool:
        raise AssertionError("asked")

    agent, _ = by_tool(ToolUseBlock("a", "final_answer", json.loads(ROME)), can_use_tool=never)
    assert (await agent.query("A city")).data.name == "Rome"


async def test_refused_calls_of_the_final_tool_count() -> None:
    bad = ToolUseBlock("a", "final_answer", {"people": -1})
    agent, model = by_tool(bad, ToolUseBlock("b", "final_answer", json.loads(ROME)))
    answer = await agent.query("A city")
    assert answer.data.name == "Rome"
    (refused,) = model.requests[1].messages[-1].content
    assert "name: Field required" in refused.as_text() and refused.is_error
    agent, model = by_tool(*[bad] * 5, output_retries=1)
    with pytest.raises(OutputError, match="2 answers") as failed:
        await agent.query("A city")
    assert len(model.requests) == 2 and json.loads(failed.value.text) == {"people": -1}


async def test_an_answer_in_text_is_taken_too() -> None:
    agent, _ = by_tool(ROME)
    assert (await agent.query("A city")).data.name == "Rome"


async def test_a_tool_of_that_name_keeps_it() -> None:
    @tool
    def final_answer(x: int) -> int:
        """Mine."""
        return x

    agent, model = by_tool(ToolUseBlock("a", "give_final_answer", json.loads(ROME)), tools=[final_answer])
    assert (await agent.query("A city")).data.name == "Rome"
    assert [spec.name for spec in model.requests[0].tools] == ["final_answer", "give_final_answer"]


async def test_callers_who_run_tools_get_no_final_tool() -> None:
    agent, model = by_tool(ROME, auto_execute_tools=False)
    assert (await agent.query("A city")).data.name == "Rome" and model.requests[0].tools == ()


@pytest.mark.parametrize("mode", ["auto", "tool"])
async def test_what_a_tool_says_that_ends_the_run_is_checked_too(mode: Any) -> None:
    said = [ROME, "nothing", ROME]

    @tool(ends_run=True, may_repeat=True)
    def decide() -> str:
        """Decide."""
        return said.pop()

    calls = [ToolUseBlock(str(n), "decide", {}) for n in range(3)]
    agent = Agent(ScriptedModel(calls), tools=[decide], output_type=City, output_mode=mode)
    first, second = await agent.query("A city"), await agent.query("Another")
    assert first.data == second.data == City(name="Rome", people=3, tags=["old"])
    assert (first.num_turns, second.num_turns) == (1, 2)


# ------------------------------------------------------------------ Claude's spelling


FORMAT = {"type": "json_schema", "schema": SCHEMA}


async def test_client_and_query_take_output_format() -> None:
    with LoopbackServer() as server:
        server.reply(CHAT, sse(chat_chunks('{"n": 3}')))
        options = AgentOptions(model="m", base_url=server.base_url, output_format=FORMAT)
        async with Client(options) as client:
            await client.query("Count")
            text = "".join([block.text async for block in client.receive_messages()])
            assert client.result is not None and client.result.structured_output == {"n": 3} == json.loads(text)
        results = [m async for m in query("Count", options) if isinstance(m, ResultMessage)]
        assert results[0].structured_output == {"n": 3}


def test_the_newer_spelling_of_two_holds() -> None:
    options = AgentOptions(output_format=FORMAT)
    assert options.wanted is not None and options.wanted.shape == FORMAT
    changed = options.replace(output_type=int)
    assert changed.wanted is not None and changed.wanted.shape is int and changed.output_format is None
    assert options.replace(output_type=None).wanted is None


# ------------------------------------------------------------------ partial


async def test_an_answer_grows() -> None:
    agent = Agent(ScriptedModel(["no", f"```json\n{ROME}\n```"]))
    shown = [one async for one in agent.stream_output("A city", City)]
    assert shown[-1] == City(name="Rome", people=3, tags=["old"])
    assert shown[-2] == {"name": "Rome", "people": 3, "tags": ["old"]}
    assert {"name": "Ro"} in shown or {"name": "Rom"} in shown


async def test_lists_and_texts_grow_in_sessions_too() -> None:
    async with Agent(ScriptedModel(['{"value": [1, 23, 456]}'], chunk_chars=1)).create_session() as session:
        assert [one async for one in session.stream_output("Numbers", list[int])] == [
            [], [1], [1, 23], [1, 23, 456], [1, 23, 456],
        ]  # fmt: skip
        assert session.turn_count == 1
    shown = [one async for one in Agent(ScriptedModel(['{"value": "abcdef"}']), output_type=str).stream_output("Hi")]
    assert shown[-1] == "abcdef" and all("abcdef".startswith(one) for one in shown)


async def test_what_never_fits_is_raised() -> None:
    shown = []
    with pytest.raises(OutputError):
        async for one in Agent(ScriptedModel(['{"people": 1}'])).stream_output("A city", City, output_retries=0):
            shown.append(one)
    assert shown[-1] == {"people": 1}
    with pytest.raises(ConfigurationError, match="output_type"):
        await anext(Agent(ScriptedModel()).stream_output("A city"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=8,
    )
)
def test_a_number_or_key_is_never_shown_before_it_is_whole(value: Any) -> None:
    text, partial = json.dumps({"it": value}), Partial(output_of(dict[str, Any]))
    for char in text:
        shown = partial.feed(char)
        assert shown is NOTHING or is_beginning(shown, {"it": value}), (shown, value)


def is_beginning(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and is_beginning(v, whole[k]) for k, v in part.items())
    if isinstance(part, list):
        pairs = zip(part, whole, strict=False)
        return isinstance(whole, list) and len(part) <= len(whole) and all(is_beginning(a, b) for a, b in pairs)
    return bool(whole.startswith(part)) if isinstance(part, str) and isinstance(whole, str) else part == whole


def test_a_long_answer_is_not_read_at_every_piece() -> None:
    partial, shown = Partial(output_of(dict[str, str])), 0
    for piece in ['{"a": "', *["word "] * 20_000, '"}']:
        shown += partial.feed(piece) is not NOTHING
    assert 100 < shown < 1000


# ------------------------------------------------------------------ the wire


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


def chats(server: LoopbackServer) -> list[Any]:
    return [request.json for request in server.requests if request.path == CHAT]


async def test_the_schema_goes_out_as_response_format(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(ROME, usage=token_usage(7, 2))))
    async with Agent("m", base_url=server.base_url) as agent:
        assert (await agent.query("A city", output_type=City, temperature=0)).data.name == "Rome"
    (sent,) = chats(server)
    shape = {"name": "City", "schema": output_of(City).schema, "strict": True}
    assert sent["response_format"] == {"type": "json_schema", "json_schema": shape} and "tools" not in sent
    assert [request.path for request in server.requests] == [CHAT], "nobody is asked who he is for nothing"


async def test_a_server_that_refuses_schemas_is_asked_without_and_not_sent_one_again(server: LoopbackServer) -> None:
    server.reply(CHAT, error(400, "This response_format type is unavailable now"), sse(chat_chunks(ROME)))
    async with Agent("m", base_url=server.base_url, max_turns=1) as agent:
        answer = await agent.query("A city", output_type=City)
        assert answer.data.name == "Rome" and answer.num_turns == 1
        assert [one.error_type for one in answer.attempts] == ["RequestRejectedError", None]
        await agent.query("A city", output_type=City)
    assert ["response_format" in sent for sent in chats(server)] == [True, False, False]
    assert '"people"' in chats(server)[1]["messages"][0]["content"]


async def test_another_refusal_is_told_as_it_is(server: LoopbackServer) -> None:
    server.reply(CHAT, error(400, "bad request"))
    async with Agent("m", base_url=server.base_url) as agent:
        with pytest.raises(RequestRejectedError, match="bad request"):
            await agent.query("A city", output_type=City)
        assert len(chats(server)) == 2 and not agent.schema_refusals
        with pytest.raises(RequestRejectedError):
            await agent.query("Hi")


async def test_a_chain_of_models_is_not_left_for_a_schema(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(ROME)))
    async with Agent("m", base_url=server.base_url, fallback_models=["other"]) as agent:
        assert (await agent.query("A city", output_type=City)).data.name == "Rome"
    assert "response_format" not in chats(server)[0]


async def test_beside_tools_the_schema_waits_for_the_last_turn(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks("It is Rome.")), sse(chat_chunks(ROME)))
    options: dict[str, Any] = {"tools": [look], "output_retries": 0, "parallel_tool_calls": True}
    async with Agent("m", base_url=server.base_url, **options) as agent:
        answer = await agent.query("A city", output_type=City)
    assert answer.data.name == "Rome" and answer.num_turns == 2
    first, last = chats(server)
    assert "tools" in first and "response_format" not in first
    assert (
        "tools" not in last and "parallel_tool_calls" not in last and last["response_format"]["type"] == "json_schema"
    )
    assert "no JSON" in last["messages"][-1]["content"]


async def test_beside_tools_an_answer_that_fits_needs_no_further_turn(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(ROME)))
    async with Agent("m", base_url=server.base_url, tools=[look]) as agent:
        assert (await agent.query("A city", output_type=City)).num_turns == 1


async def test_ones_own_response_format_goes_out_as_it_is(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(ROME)))
    own = {"type": "json_object"}
    async with Agent("m", base_url=server.base_url) as agent:
        plain = await agent.query("A city", response_format=own)
        typed = await agent.query("A city", response_format=own, output_type=City)
    assert plain == ROME and plain.data is None and typed.data.name == "Rome"
    assert [sent["response_format"] for sent in chats(server)] == [own, own]
    assert "messages" in chats(server)[0] and len(chats(server)[0]["messages"]) == 1


@pytest.mark.parametrize(
    ("verdict", "with_tools", "keys"),
    [
        (Verdict(json_schema=YES, schema_beside_tools=YES), True, {"tools", "response_format"}),
        (Verdict(json_schema=YES, schema_beside_tools=NO), True, {"tools"}),
        (Verdict(json_schema=NO, native_tools=YES, required_choice=YES), False, {"tools", "tool_choice"}),
        (Verdict(json_schema=NO, native_tools=YES, required_choice=YES), True, {"tools"}),
        (Verdict(json_schema=NO, native_tools=NO), False, set()),
    ],
)
async def test_a_kept_verdict_decides(
    server: LoopbackServer, verdict: Verdict, with_tools: bool, keys: set[str]
) -> None:
    from any_agent.models.servers import probe

    server.reply("/v1/models", {"object": "list", "data": [{"id": "m", "object": "model"}]})
    server.reply(CHAT, sse(chat_chunks(ROME)))
    found = await probe(server.base_url, only="m")
    assert found is not None
    assert Verdicts.load().put(identity(found, found.models[0]), verdict)
    async with Agent("m", base_url=server.base_url, tools=[look] if with_tools else []) as agent:
        assert (await agent.query("A city", output_type=City)).data.name == "Rome"
    (sent,) = chats(server)
    assert sent.keys() & {"tools", "response_format", "tool_choice"} == keys
    assert sent.get("tool_choice") in (None, "required")


async def test_the_litellm_door_sends_it_too(server: LoopbackServer) -> None:
    server.reply(CHAT, sse(chat_chunks(ROME)))
    async with Agent("m", provider="llamacpp", base_url=server.base_url, door="litellm") as agent:
        assert (await agent.query("A city", output_type=City)).data.name == "Rome"
    assert chats(server)[0]["response_format"]["json_schema"]["schema"] == output_of(City).schema


async def test_the_limit_of_tool_rounds_still_ends_a_run() -> None:
    calls = [ToolUseBlock(str(n), "look", {"city": str(n)}) for n in range(9)]
    with pytest.raises(MaxTurnsError):
        await Agent(ScriptedModel(calls), tools=[look], max_turns=3).query("A city", output_type=City)


# ------------------------------------------------------------------ validators that say yes or no, refusals, spellings


async def test_a_validator_may_answer_yes_or_no() -> None:
    model = ScriptedModel(['{"name": "Rome", "people": 1}', '{"name": "Rome", "people": 3}'])

    def is_big(city: City) -> bool:
        return city.people > 2

    answer = await Agent(model).query("A city", output_type=City, output_validator=is_big)
    assert answer.data == City(name="Rome", people=3)
    assert "it was checked and refused" in text_of(model.requests[1].messages[-1])
    yes = await Agent(ScriptedModel(["true"])).query("?", output_type=bool, output_validator=lambda said: not said)
    assert yes.data is False  # a validator of truth values gives the value


async def test_types_by_name_as_tools_are_told() -> None:
    model = ScriptedModel(['{"name": "Rome", "people": "many"}', '{"name": "Rome", "people": 3}'])
    answer = await Agent(model).query("A city", output_type={"name": str, "people": int})
    assert answer.data == {"name": "Rome", "people": 3}
    assert "people: 'many' is not of type 'integer'" in text_of(model.requests[1].messages[-1])


async def test_what_a_server_says_in_place_of_an_answer_is_in_the_error() -> None:
    pieces = [{"role": "assistant", "content": None, "refusal": "I cannot "}, {"refusal": "help with that."}]
    chunks = [*chat_chunks()[:1], *[{"choices": [{"index": 0, "delta": one}]} for one in pieces], *chat_chunks()[-1:]]
    with LoopbackServer() as server:
        server.reply(CHAT, sse(chunks))
        async with Agent("m", base_url=server.base_url, output_retries=0) as agent:
            assert await agent.query("q") == "I cannot help with that."
            with pytest.raises(OutputError) as caught:
                await agent.query("q", output_type=City)
    assert caught.value.text == "I cannot help with that." and caught.value.reasons == ("there is no JSON in it",)
