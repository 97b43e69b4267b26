"""An answer while it streams: plain data that grows, the validated value last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..types import AttemptFailed, ContextTruncated, Event, ResultMessage, TextDelta, ToolMessage, UserMessage

if TYPE_CHECKING:
    from .shape import Output

NOTHING: Any = object()  # there is nothing new to show; None may be a value
_UNSURE = "0123456789+-.eE"  # the end of a number that may go on
_GROWTH = 1.02  # a long text is read again when it has grown by so much: reading every piece would be quadratic


class Partial:
    """Reads the beginning of an answer. What it shows is not validated: fields are missing, texts are cut."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.restart()

    def restart(self) -> None:
        """Another answer begins."""
        self._text, self._next_chars, self._shown = "", 0.0, NOTHING

    def feed(self, piece: str) -> Any:
        """What can be shown now; NOTHING: nothing new."""
        self._text += piece
        if len(self._text) < self._next_chars:
            return NOTHING
        self._next_chars = len(self._text) * _GROWTH
        said = self._read()
        if said is NOTHING or (self._shown is not NOTHING and said == self._shown):
            return NOTHING
        self._shown = said
        return said

    def _read(self) -> Any:
        from pydantic_core import from_json

        starts = [place for mark in "{[" if (place := self._text.find(mark)) >= 0]
        if not starts:
            return NOTHING
        try:
            said = from_json(self._text[min(starts) :].rstrip(_UNSURE), allow_partial="trailing-strings")
        except ValueError:
            return NOTHING
        if not self._output.is_wrapped:
            return said if isinstance(said, dict) else NOTHING
        if isinstance(said, dict):
            return said["value"] if said.keys() == {"value"} else NOTHING
        return said


class StreamsOutput:
    """`stream_output`, of agents and sessions."""

    async def stream_output(self, prompt: Any, output_type: Any = None, **overrides: Any) -> AsyncIterator[Any]:
        """The answer as it grows: plain dicts, lists and texts, not validated yet; the validated value last.

        After a refused answer it begins anew. Overrides are option names; of an agent also `session_id`.

        Raises:
            ConfigurationError: no output type is given, here or in the options.
            AnyAgentError: the run failed; OutputError: no answer fitted.
        """
        from .shape import output_of

        if output_type is not None:
            overrides["output_type"] = output_type
        owner: Any = self
        named = [overrides[name] for name in ("output_type", "output_format") if overrides.get(name) is not None]
        known = getattr(self, "_host", owner).options.wanted
        if not named and known is None:
            raise ConfigurationError("stream_output needs an output_type", field="output_type", allowed="a type")
        partial = Partial(output_of(named[0] if named else known.shape))
        async with aclosing(owner.stream(prompt, **overrides)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    said = partial.feed(event.text)
                    if said is not NOTHING:
                        yield said
                elif isinstance(event, ResultMessage):
                    if event.error is not None:
                        raise event.error
                    yield event.structured_output
                elif _begins_anew(event):
                    partial.restart()


class AsksForData(StreamsOutput):
    """What an agent can do with structured output, beside `query(…, output_type=…)`."""

    def parse_output(self, text: str, output: Output) -> Any:
        """The value that the model's text says; override it to read texts that are not JSON. May be async.

        Raises:
            ValueError: there is none; the model is told the message and asked again (`output_retries` times).
        """
        return output.parse(text)

    @property
    def schema_refusals(self) -> set[str]:
        """The places whose servers refused a schema; they are not sent one again."""
        known: set[str] = self.__dict__.setdefault("_schema_refusals", set())
        return known


def _begins_anew(event: Event) -> bool:
    if isinstance(event, AttemptFailed):
        return not event.keeps_text
    return isinstance(event, (UserMessage, ToolMessage, ContextTruncated))
