"""Tools by name, and votes, in whole runs."""

from __future__ import annotations

from typing import Any

import pytest

from any_agent import Agent
from any_agent.errors import ConfigurationError
from any_agent.testing import ScriptedModel
from any_agent.tools import tool


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "input": arguments}


@tool(effect="pure")
def double(x: int) -> int:
    """Double."""
    return 2 * x


async def test_votes() -> None:
    model = ScriptedModel([call("double", x=1), call("double", x=2), call("double", x=2), "four", "4", "vier"])
    answer = await Agent(model, tools=[double], vote=3).query("double two")
    assert answer == "four" and answer.tool_calls[0].input == {"x": 2}
    assert len(model.requests) == 6 and answer.usage is not None
    alone = ScriptedModel([call("double", x=2), "four"])
    usage = (await Agent(alone, tools=[double]).query("double two")).usage
    assert usage is not None and answer.usage.input_tokens == 3 * usage.input_tokens


class Calculator(Agent):
    factor = 3

    @tool(effect="pure")
    def times(self, x: int) -> int:
        """Multiply."""
        return self.factor * x

    @tool
    def reset(self) -> None:
        """Reset."""


async def test_names_are_tools_of_the_class() -> None:
    model = ScriptedModel([call("times", x=2), "six"])
    agent = Calculator(model, tools=["times", double])
    assert await agent.query("go") == "six" and agent.tools.names() == ["times", "double"]
    assert model.requests[1].messages[-1].content[0].content == "6"  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError, match="registered already"):
        await Calculator(ScriptedModel(["x"]), tools=["times", "times"]).query("go")
    with pytest.raises(ConfigurationError, match="no built-in tool 'query'"):
        await Calculator(ScriptedModel(["x"]), tools=["query"]).query("go")
