"""OtelObserver: each run becomes a tree of OpenTelemetry spans, and metrics. The only file that knows OpenTelemetry."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..masking import known_secrets
from ..types import (
    AssistantMessage,
    Attempt,
    AttemptFailed,
    Event,
    PermissionDecided,
    ResultMessage,
    TextDelta,
    ThinkingDelta,
    ToolCompleted,
    ToolMessage,
    ToolStarted,
)
from . import metrics, names, spans

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_log = logging.getLogger("any_agent")
_NS = 1_000_000_000


class OtelObserver:
    """Give it to an agent: `Agent(observers=[OtelObserver()])`. One may serve any number of agents and sessions.

    A run is a span `invoke_agent`; in it each try of a model is a span `chat`, each tool call a span `execute_tool`.
    Where spans and metrics go is set up with OpenTelemetry's SDK; without that they go nowhere.

    Args:
        tracer_provider, meter_provider: None: OpenTelemetry's global ones.
        agent_name: goes onto the spans of runs.
        captures_content: put prompts, answers, arguments and results on spans, secrets masked; None: only if
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is true.

    Raises:
        MissingExtraError: opentelemetry is not installed.
    """

    def __init__(
        self,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        *,
        agent_name: str | None = None,
        captures_content: bool | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics as otel_metrics
            from opentelemetry import trace
        except ImportError:
            text = "traces need the extra `otel`: pip install 'any-agent-harness[otel]'"
            raise MissingExtraError(text, extra="otel") from None
        from .. import __version__

        about = ("any_agent", __version__)
        self.tracer = trace.get_tracer(*about, tracer_provider, schema_url=names.SCHEMA_URL)
        meter = otel_metrics.get_meter(*about, meter_provider, schema_url=names.SCHEMA_URL)
        self.histograms: Mapping[str, Any] = {
            name: meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=list(bounds))
            for name, (unit, text, bounds) in metrics.HISTOGRAMS.items()
        }
        self.agent_name = agent_name
        if captures_content is None:
            said = os.environ.get(names.CAPTURE_CONTENT_VARIABLE, "").strip().lower()
            captures_content = said in ("true", "1", "span_only", "span_and_event")
        self.captures_content = captures_content
        self.secrets = known_secrets()

    def for_run(self, session: Any) -> RunSpans:
        """What watches one run of a session; its span begins now, as a child of the current one."""
        return RunSpans(self, session)

    def on_event(self, event: Event) -> None:
        """Nothing: an event alone does not tell which run it belongs to; see `for_run`."""

    def record(self, measured: metrics.Measured) -> None:
        self.histograms[measured.name].record(measured.value, measured.attributes)


class RunSpans:
    """The spans of one run. Model calls are drawn when they have ended, from what is known of their duration."""

    def __init__(self, observer: OtelObserver, session: Any) -> None:
        from opentelemetry import trace

        self._observer = observer
        self._session = session
        self._began = self._last = time_ns()
        self._call_began: int | None = None  # of a call that streams now
        self._provider: str | None = None
        self._model = ""
        self._tries = 1
        self._tools: dict[str, tuple[Span, int]] = {}
        self._decisions: dict[str, str] = {}
        self._base: dict[str, Any] = {names.CONVERSATION_ID: session.session_id}
        self._attributes = {names.OPERATION: names.INVOKE_AGENT, **self._base}
        if observer.agent_name:
            self._attributes[names.AGENT_NAME] = observer.agent_name
        name = f"{names.INVOKE_AGENT} {observer.agent_name}" if observer.agent_name else names.INVOKE_AGENT
        self._span = observer.tracer.start_span(name, attributes=self._attributes, start_time=self._began)
        self._context = trace.set_span_in_context(self._span)

    def on_event(self, event: Event) -> None:
        try:
            self._last = time_ns()
            self._take(event)
        except Exception as error:  # tracing may never harm a run
            _log.debug("a span is lost: %r", error)

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta() | ThinkingDelta():
                self._call_began = self._call_began or self._last
            case AssistantMessage():
                self._answered(event)
            case AttemptFailed(attempt):
                self._failed(attempt)
                self._tries += 1
            case PermissionDecided():
                self._decisions[event.tool_use_id] = event.decision
            case ToolStarted(call):
                self._tool_span(call.name, call.id, self._last)
                if self._observer.captures_content:
                    self._tools[call.id][0].set_attributes(spans.tool_arguments(call, self._observer.secrets))
            case ToolCompleted():
                self._tool_ended(event)
            case ToolMessage():
                self._end_tools("never answered")
            case ResultMessage():
                self._ended(event)
            case _:
                pass

    # -------------------------------------------------------------- model calls

    def _answered(self, message: AssistantMessage) -> None:
        self._provider = message.provider or self._provider
        attempt = message.attempt or Attempt(message.model, None, 0.0)
        self._model = attempt.model
        attributes = {**spans.call(attempt, message.provider, self._tries), **spans.answer(message)}
        content: dict[str, Any] = {}
        if self._observer.captures_content:
            before = [one for one in self._session.messages if one is not message]
            content = spans.input_messages(before, self._observer.secrets)
            content |= spans.output_messages(message, self._observer.secrets)
        self._chat(attributes, attempt.duration_s, content)
        self._tries, self._call_began = 1, None

    def _failed(self, attempt: Attempt) -> None:
        self._chat(spans.call(attempt, self._provider, self._tries), attempt.duration_s, error=attempt.error)
        self._call_began = None

    def _chat(
        self,
        attributes: dict[str, Any],
        duration_s: float,
        content: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        from opentelemetry.trace import SpanKind

        span = self._observer.tracer.start_span(
            f"{names.CHAT} {attributes.get(names.REQUEST_MODEL, '')}".strip(),
            self._context,
            SpanKind.CLIENT,
            {**attributes, **self._base, **(content or {})},
            start_time=max(self._last - round(duration_s * _NS), self._began),
        )
        self._close(span, attributes.get(names.ERROR_TYPE), error)
        for measured in metrics.of_call(attributes, duration_s):
            self._observer.record(measured)

    # -------------------------------------------------------------- tools

    def _tool_span(self, name: str, call_id: str, start: int) -> None:
        span = self._observer.tracer.start_span(
            f"{names.EXECUTE_TOOL} {name}",
            self._context,
            attributes={**spans.tool(name, call_id), **self._base},
            start_time=start,
        )
        self._tools[call_id] = (span, start)

    def _tool_ended(self, done: ToolCompleted) -> None:
        call_id = done.result.tool_use_id
        if call_id not in self._tools:  # refused: it never started
            self._tool_span(done.name, call_id, self._last - round(done.duration_s * _NS))
        span, _ = self._tools.pop(call_id)
        decision = self._decisions.pop(call_id, None)
        if decision is not None:
            span.set_attribute(names.PERMISSION, decision)
        if self._observer.captures_content:
            span.set_attributes(spans.tool_result(done, self._observer.secrets))
        error = "tool_error" if done.result.is_error else None
        if error:
            span.set_attribute(names.ERROR_TYPE, error)
        self._close(span, error)
        attributes = {**spans.tool(done.name, call_id), **({names.ERROR_TYPE: error} if error else {})}
        self._observer.record(metrics.of_tool(attributes, done.duration_s))

    def _end_tools(self, why: str) -> None:
        left, self._tools = self._tools, {}
        for span, _ in left.values():
            span.set_attribute(names.ERROR_TYPE, why)
            self._close(span, why)

    # -------------------------------------------------------------- the end

    def _ended(self, result: ResultMessage) -> None:
        error = type(result.error).__name__ if result.error else None
        attempts: Sequence[Attempt] = getattr(result.error, "attempts", ())[-1:]
        for attempt in attempts:
            if attempt.error_type:
                self._failed(attempt)
        if self._call_began is not None:  # it was interrupted in mid-answer
            attempt = Attempt(self._model, None, (self._last - self._call_began) / _NS, error or "unfinished")
            self._chat(spans.call(attempt, self._provider, self._tries), attempt.duration_s)
            self._call_began = None
        self._end_tools(error or "unfinished")
        said = spans.result(result)
        self._span.set_attributes(said)
        self._close(self._span, error, str(result.error or ""))
        self._observer.record(metrics.of_run({**self._attributes, **said}, (self._last - self._began) / _NS))

    def _close(self, span: Span, error_type: str | None, text: str | None = None) -> None:
        from opentelemetry.trace import Status, StatusCode

        if error_type:
            from ..masking import masked

            first = (text or error_type).splitlines()[0][:300]
            span.set_status(Status(StatusCode.ERROR, masked(first, self._observer.secrets)))
        span.end(self._last)

    def __del__(self) -> None:
        """A stream that was left has no result: its spans end with what was seen last."""
        span = getattr(self, "_span", None)
        if span is not None and span.is_recording():
            self._end_tools("unfinished")
            span.set_attribute(names.ERROR_TYPE, "unfinished")
            self._close(span, "unfinished")
