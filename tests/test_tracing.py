"""Spans and metrics by OpenTelemetry's conventions, read with the SDK's own in-memory exporters."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from any_agent import Agent, tool
from any_agent.errors import ServerError
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import ChaosModel, EchoModel, LoopbackServer, ScriptedModel, chat_chunks, error, sse, token_usage
from any_agent.tracing import OtelObserver, names
from any_agent.types import Attempt, StreamEnd, TextDelta, Usage

CALL = {"name": "look", "input": {"at": "sk-0123456789abc"}, "id": "c1"}


class Traces:
    """Observer with exporters that keep everything in this process."""

    def __init__(self, **fields: Any) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OtelObserver(self.provider, MeterProvider([self._reader]), **fields)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, operation: str) -> list[ReadableSpan]:
        return [span for span in self.spans if said(span)[names.OPERATION] == operation]

    def tree(self) -> dict[str, list[str]]:
        """Names of the spans below each root, in the order they began."""
        roots = {span.context.span_id: span for span in self.spans if span.parent is None and span.context}
        found: dict[str, list[str]] = {str(said(span)[names.CONVERSATION_ID]): [] for span in roots.values()}
        for span in self.spans:
            if span.parent is not None:
                found[str(said(roots[span.parent.span_id])[names.CONVERSATION_ID])].append(span.name)
        return found

    def metrics(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        found = data.resource_metrics if data else ()
        return {m.name: list(m.data.data_points) for r in found for s in r.scope_metrics for m in s.metrics}


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@tool
async def look(at: str) -> str:
    """Look."""
    await asyncio.sleep(0.01)
    return "seen"


async def test_a_run_is_a_tree_of_spans() -> None:
    traces = Traces(agent_name="watcher")
    end = StreamEnd("scripted-1", "stop", Usage(20, 5, 10, 2), 0.25, "mistral")
    async with Agent(ScriptedModel([[CALL], ["done", end]]), tools=[look], observers=[traces.observer]) as agent:
        await agent.create_session("s").query("x")
    run, first, ran, second = traces.spans
    assert [span.name for span in traces.spans] == [
        "invoke_agent watcher",
        "chat scripted",
        "execute_tool look",
        "chat scripted",
    ]
    assert run.context and {span.parent.span_id for span in (first, ran, second) if span.parent} == {
        run.context.span_id
    }
    assert [span.kind for span in traces.spans] == [
        SpanKind.INTERNAL,
        SpanKind.CLIENT,
        SpanKind.INTERNAL,
        SpanKind.CLIENT,
    ]
    assert said(run) == {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "watcher", "gen_ai.conversation.id": "s",
        "any_agent.turns": 2, "gen_ai.usage.input_tokens": 21, "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 10, "gen_ai.usage.reasoning.output_tokens": 2,
    }  # fmt: skip
    told = said(second)
    assert 0 <= told.pop("gen_ai.response.time_to_first_chunk") < 1
    assert told == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mistral_ai", "gen_ai.request.model": "scripted",
        "gen_ai.response.model": "scripted-1", "gen_ai.response.finish_reasons": ("stop",), "gen_ai.conversation.id": "s",
        "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 2, "any_agent.cost_usd": 0.25, "any_agent.attempt": 1,
    }  # fmt: skip
    assert said(ran) == {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "c1", "gen_ai.conversation.id": "s",
    }  # fmt: skip
    for span in traces.spans:
        assert span.start_time and span.end_time and run.start_time and run.end_time
        assert (
            run.start_time <= span.start_time <= span.end_time <= run.end_time
            and span.status.status_code is StatusCode.UNSET
        )
    assert (ran.end_time or 0) - (ran.start_time or 0) >= 9_000_000


async def test_each_try_is_a_span() -> None:
    traces = Traces()
    with LoopbackServer() as server:
        server.reply(
            "/v1/chat/completions",
            error(503, "busy, key sk-0123456789abc"),
            error(404, "no such model", type="not_found_error"),
            sse(chat_chunks(["ok"], usage=token_usage(7, 3), model="tiny")),
        )
        async with Agent(
            "first", base_url=server.base_url, fallback_models=["second"], retry_delay=0, observers=[traces.observer]
        ) as agent:
            await agent.query("x")
        port = int(server.base_url.split(":")[2].split("/")[0])
    chats = traces.named("chat")
    told = [(said(c).get("error.type"), said(c)["gen_ai.request.model"], said(c)["any_agent.attempt"]) for c in chats]
    assert told == [("ServerError", "first", 1), ("ModelNotFoundError", "first", 2), (None, "second", 3)]
    assert [c.status.status_code for c in chats] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert {(said(c)["server.address"], said(c)["server.port"]) for c in chats} == {("127.0.0.1", port)}
    assert said(chats[0])["any_agent.attempt.then"] == "retried after 0.0 s"
    assert "sk-0123456789abc" not in str(chats[0].status.description) and "busy" in str(chats[0].status.description)
    assert "error.type" not in said(traces.named("invoke_agent")[0])


async def test_metrics() -> None:
    traces = Traces(agent_name="a")
    flaky = ScriptedModel([ServerError("down"), [CALL], "done"])
    chain = FallbackModel([flaky], RetryPolicy(1, 0.0))
    async with Agent(chain, tools=[look], observers=[traces.observer]) as agent:
        await agent.query("x")
    found = traces.metrics()
    assert set(found) == {
        "gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration",
    }  # fmt: skip
    tokens = {
        point.attributes["gen_ai.token.type"]: (point.count, point.sum) for point in found["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": (2, 4), "output": (2, 2)}
    durations = {p.attributes.get("error.type"): p.count for p in found["gen_ai.client.operation.duration"]}
    assert durations == {None: 2, "ServerError": 1}
    (ran,) = found["gen_ai.execute_tool.duration"]
    assert ran.attributes["gen_ai.tool.name"] == "look" and ran.sum >= 0.009 and max(ran.explicit_bounds) == 81.92
    (run,) = found["gen_ai.invoke_agent.duration"]
    assert run.attributes == {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    assert not any("conversation" in key for points in found.values() for p in points for key in p.attributes), "no ids"


async def test_sessions_at_the_same_time_do_not_mix() -> None:
    traces = Traces()
    async with Agent(EchoModel(delay_s=0.001), observers=[traces.observer]) as agent:
        await asyncio.gather(*(agent.query("word " * 5, session_id=f"s{n}") for n in range(10)))
        one, two = agent.stream("a", session_id="left"), agent.stream("b", session_id="right")
        async for _ in one:  # two streams in one task, step by step
            await anext(two, None)
        async for _ in two:
            pass
    tree = traces.tree()
    assert tree.keys() == {*(f"s{n}" for n in range(10)), "left", "right"}
    assert set(map(tuple, tree.values())) == {("chat echo",)}


async def test_a_run_stands_below_the_callers_span() -> None:
    traces = Traces()
    with traces.provider.get_tracer("mine").start_as_current_span(
        "request", attributes={names.OPERATION: "mine"}
    ) as mine:
        await Agent(EchoModel(), observers=[traces.observer]).query("x")
    (run,) = traces.named("invoke_agent")
    assert run.parent is not None and run.parent.span_id == mine.get_span_context().span_id


async def test_errors_interrupts_and_streams_that_are_left() -> None:
    traces = Traces()
    async with Agent(ScriptedModel([ServerError("down")]), retry_on_error=False, observers=[traces.observer]) as agent:
        with pytest.raises(ServerError):
            await agent.query("x", session_id="fails")
    async with Agent(EchoModel(), observers=[traces.observer]) as agent:
        session = agent.create_session("interrupted")
        async for event in session.stream("a long text"):
            if isinstance(event, TextDelta):
                await session.interrupt()
        stream = agent.stream("a long text", session_id="left")
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        del stream, session
    runs = {said(span)["gen_ai.conversation.id"]: span for span in traces.named("invoke_agent")}
    kinds = {key: (said(span)["error.type"], span.status.status_code) for key, span in runs.items()}
    assert kinds == {
        "fails": ("ServerError", StatusCode.ERROR),
        "interrupted": ("InterruptedRunError", StatusCode.ERROR),
        "left": ("unfinished", StatusCode.ERROR),
    }
    chats = {said(span)["gen_ai.conversation.id"]: said(span)["error.type"] for span in traces.named("chat")}
    assert chats == {"fails": "ServerError", "interrupted": "InterruptedRunError"}


async def test_tools_that_fail_or_are_refused() -> None:
    @tool
    async def fail() -> str:
        """Fail."""
        raise RuntimeError("no")

    traces = Traces()
    calls = [{"name": "fail", "input": {}, "id": "c1"}, {"name": "look", "input": {"at": "x"}, "id": "c2"}]
    how: dict[str, Any] = {"tools": [fail, look], "disallowed_tools": ["look"], "observers": [traces.observer]}
    async with Agent(ScriptedModel([calls, "ok"]), **how) as agent:
        await agent.query("x")
    told = {said(span)["gen_ai.tool.name"]: said(span) for span in traces.named("execute_tool")}
    assert told["fail"]["error.type"] == told["look"]["error.type"] == "tool_error"
    assert told["look"]["any_agent.permission"] == "deny"


async def test_cached_answers_take_no_tokens() -> None:
    traces = Traces()
    async with Agent(EchoModel(), response_cache_ttl_s=60, observers=[traces.observer]) as agent:
        await agent.query("x")
        await agent.query("x")
    assert [said(span).get("any_agent.cached") for span in traces.named("chat")] == [None, True]
    assert {point.count for point in traces.metrics()["gen_ai.client.token.usage"]} == {1}


# ------------------------------------------------------------------ content


async def test_content_is_left_out_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def texts(traces: Traces) -> list[dict[str, Any]]:
        async with Agent(ScriptedModel([[CALL], "the answer"]), tools=[look], observers=[traces.observer]) as agent:
            await agent.query("the question")
        return [said(span) for span in traces.spans]

    monkeypatch.delenv(names.CAPTURE_CONTENT_VARIABLE, raising=False)
    silent = str(await texts(Traces()))
    assert not any(word in silent for word in ("the question", "the answer", "seen", "sk-0123456789abc"))
    monkeypatch.setenv(names.CAPTURE_CONTENT_VARIABLE, "true")
    _, _, ran, second = await texts(Traces())
    assert json.loads(second["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "the question"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "[secret]"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "seen"}]},
    ]
    parts = [{"type": "text", "content": "the answer"}]
    assert json.loads(second["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": parts, "finish_reason": "stop"}
    ]
    assert (
        json.loads(ran["gen_ai.tool.call.arguments"]) == {"at": "[secret]"}
        and json.loads(ran["gen_ai.tool.call.result"]) == "seen"
    )
    assert "the question" not in str(await texts(Traces(captures_content=False)))


# ------------------------------------------------------------------ harmless


async def test_an_observer_that_fails_harms_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def for_run(self, session: Any) -> Any:
            raise RuntimeError("no")

        def on_event(self, event: Any) -> None:
            return None

    traces = Traces()
    watch = traces.observer.for_run(Agent(EchoModel()).create_session())
    watch._span = None  # type: ignore[assignment]
    watch.on_event(StreamEnd())  # type: ignore[arg-type]
    watch.on_event(Attempt("m", None, 1.0))  # type: ignore[arg-type]
    assert await Agent(EchoModel(), observers=[Broken()]).query("x") == "x"
    assert "observer" in caplog.text


async def test_without_a_provider_nothing_is_sent() -> None:
    async with Agent(ChaosModel(ServerError("x")), retry_delay=0, observers=[OtelObserver()]) as agent:
        assert await agent.query("x") == "x"


def test_names_are_those_of_the_conventions() -> None:
    known = {value for name, value in vars(gen_ai_attributes).items() if name.isupper() and isinstance(value, str)}
    known |= {value for name, value in vars(gen_ai_metrics).items() if name.isupper() and isinstance(value, str)}
    drafts = {"gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration"}  # not in the package yet
    ours = {value for name, value in vars(names).items() if name.isupper() and str(value).startswith("gen_ai.")}
    assert ours - known == drafts
    enum = gen_ai_attributes.GenAiProviderNameValues
    assert set(names.PROVIDERS.values()) <= {one.value for one in enum}


def test_names_stand_in_one_file() -> None:
    room = Path(sys.modules[OtelObserver.__module__].__file__ or "").parent
    found = [path.name for path in room.glob("*.py") if re.search(r"[\"'](gen_ai|any_agent)\.", path.read_text())]
    assert found == ["names.py"]


def test_without_the_extra_one_line_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('not here')")
    program = "from any_agent.tracing import OtelObserver\ntry: OtelObserver()\nexcept ImportError as e: print(type(e).__name__, e)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
    assert done.stdout == "MissingExtraError traces need the extra `otel`: pip install 'any-agent-harness[otel]'\n"
