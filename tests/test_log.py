"""The logger `any_agent`: text or JSON, never prompts, never secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from any_agent import Agent, tool
from any_agent.errors import ConfigurationError, ServerError
from any_agent.log import JsonFormatter, JsonLogObserver
from any_agent.testing import ScriptedModel
from any_agent.types import ModelLoading, ResultMessage

KEY = "sk-0123456789abcdef"
log = logging.getLogger("any_agent")


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What a handler with our formatter writes."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield stream
    log.removeHandler(handler)
    log.setLevel(level)


def written(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@tool
async def look() -> str:
    """Look."""
    return "a private thing"


async def run(**fields: Any) -> None:
    model = ScriptedModel(
        [ServerError("down"), [{"name": "look", "input": {}, "id": "c1"}], "a private answer"], name=f"m-{KEY}"
    )
    async with Agent(model, tools=[look], retry_delay=0, log_level="DEBUG", **fields) as agent:
        await agent.query("a private question")


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_a_handler_with_the_formatter_gets_objects(lines: StringIO, log_format: str) -> None:
    await run(log_format=log_format)
    told = [one for one in written(lines) if "event" in one]
    assert [one["event"] for one in told] == ["attempt_failed", "tool_completed", "run"]
    assert {(one["logger"], one["time"][-6:]) for one in told} == {("any_agent", "+00:00")}
    failed, ran, result = told
    assert (failed["level"], failed["model"], failed["error_type"]) == ("WARNING", "m-[secret]", "ServerError")
    assert (ran["tool"], ran["is_error"]) == ("look", False)
    assert (result["subtype"], result["turns"], result["tokens"], result["error_type"]) == ("success", 2, 9, None)
    assert "private" not in lines.getvalue() and KEY not in lines.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_lines_are_text_or_objects_whatever_the_handler(
    caplog: pytest.LogCaptureFixture, log_format: str
) -> None:
    caplog.set_level(logging.DEBUG, "any_agent")
    await run(log_format=log_format)
    said = [record.getMessage() for record in caplog.records if hasattr(record, "fields")]
    if log_format == "json":
        assert [json.loads(line)["event"] for line in said] == ["attempt_failed", "tool_completed", "run"]
    else:
        assert said[0].startswith("m-[secret] failed after 0.0 s (ServerError): retried after 0.0 s")
        assert said[1].startswith("tool look: 0.0") and said[2].startswith("run: success, 2 turns, 9 tokens, ")
    assert KEY not in caplog.text


def test_every_record_of_the_logger_is_masked(
    lines: StringIO, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "shapeless value")
    try:
        raise RuntimeError(f"with {KEY}")
    except RuntimeError:
        log.exception(
            "header %s, %s of %d",
            f"Authorization: Bearer {KEY}",
            "shapeless value",
            3,
            extra={"fields": {"api_key": "x", "n": 1}},
        )
    log.warning("no arguments: 100%")
    told = written(lines)
    assert (
        told[0]["api_key"] == "[secret]" and told[0]["n"] == 1 and "RuntimeError: with [secret]" in told[0]["exception"]
    )
    assert told[1]["message"] == "no arguments: 100%"
    assert caplog.records[0].getMessage() == "header Authorization: Bearer [secret], [secret] of 3"


def test_loading_and_failed_runs(lines: StringIO) -> None:
    observer = JsonLogObserver("INFO", has_metrics=True)
    observer.on_event(ModelLoading("m", None, 0.0))
    observer.on_event(ModelLoading("m", None, 3.0))
    observer.on_event(ResultMessage("error", error=ServerError("a private text")))
    told = written(lines)
    assert [(one["event"], one.get("error_type")) for one in told] == [("model_loading", None), ("run", "ServerError")]
    JsonLogObserver(None).on_event(ResultMessage("success"))
    assert len(written(lines)) == 2 and "private" not in lines.getvalue()


def test_formats_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="log_format"):
        Agent(ScriptedModel(), log_format="xml")
