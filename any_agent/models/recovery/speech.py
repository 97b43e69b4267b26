"""What a model says in its text: reasoning, words for the user, and calls. Both doors read through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...types import Delta, ModelRequest, TextDelta, ThinkingDelta, ToolCallDelta
from ..thinking import ThinkSplitter
from .lossless import DOUBT

if TYPE_CHECKING:
    from .dialects import Found
    from .finder import CallFinder

BESIDE = f"it stood in the text, beside tool calls that the server told, so it is {DOUBT}; call it again by itself"
FIRST_INDEX = 10_000  # of calls found in text: never one that a server uses


class Speech:
    """Splits the text of one answer, piece by piece; calls come at its end.

    Args:
        request: what was asked; calls are looked for only if it offers tools and allows their use.
    """

    __slots__ = ("calls", "is_plain", "think")

    def __init__(self, request: ModelRequest | None = None) -> None:
        self.think = ThinkSplitter()
        self.calls: CallFinder | None = None
        if request is not None and request.tools and request.tool_choice != "none":
            from .finder import CallFinder

            reads_bare = request.params.get("response_format") is None
            self.calls = CallFinder(request.tools, reads_bare=reads_bare)
        self.is_plain = False  # text without `<` and backtick is shown as it is: the doors' short way

    def feed(self, text: str) -> list[Delta]:
        """What can be told now."""
        said = self.think.feed(text)
        if self.calls is None:
            self.is_plain = self.think.is_text and not self.think.is_holding
            return said  # type: ignore[return-value]
        return self._found(said)

    def _found(self, said: list[TextDelta | ThinkingDelta]) -> list[Delta]:
        calls = self.calls
        assert calls is not None
        out: list[Delta] = []
        for delta in said:
            if isinstance(delta, TextDelta):
                out += self._text(calls, delta.text)
            elif delta.takes_text:
                out.append(ThinkingDelta(calls.take_all() + delta.thinking, takes_text=True))
            else:
                out.append(delta)
        return out

    def _text(self, calls: CallFinder, text: str) -> Sequence[Delta]:
        if (channels := calls.channels()) is not None:
            return channels.feed(text)
        shown = calls.feed(text)
        out: list[Delta] = [TextDelta(shown)] if shown else []
        if (channels := calls.channels()) is not None:
            out += channels.feed(calls.take_held())
        return out

    def flush(self, finish_reason: str | None = None, *, has_calls: bool = False) -> list[Delta]:
        """What was held back, and the calls.

        Args:
            has_calls: the server itself told calls; what the text repeats of them is not made again, and what it says
                beside them is told to the model.
        """
        said = self.think.flush()
        calls, is_cut = self.calls, finish_reason == "length"
        if calls is None:
            unheard = self.think.harmony.calls if self.think.harmony else []
            return [*said, *[TextDelta(raw) for _, raw, _ in unheard]]
        out = self._found(said)
        if calls.channels() is None and (shown := calls.flush(is_cut=is_cut)):
            out.append(TextDelta(shown))
        if (channels := calls.channels()) is not None:
            out += [*channels.feed(calls.take_held()), *channels.flush()]
        for one in (self.think.harmony, channels):
            for name, raw, is_ended in one.calls if one else ():
                calls.found += _of_channel(name, raw, calls, is_ended=is_ended, is_cut=is_cut)
                calls.dialect = "harmony"
        if has_calls:
            clear = [replace(one, error=BESIDE) for one in calls.found if one.error is None]
            return out + [_delta(one, place) for place, one in enumerate(clear, FIRST_INDEX)]
        return out + [_delta(one, place) for place, one in enumerate(calls.found, FIRST_INDEX)]

    @property
    def dialect(self) -> str:
        """How the last call found was written; '': none was found."""
        return self.calls.dialect if self.calls else ""


def _of_channel(name: str, raw: str, calls: CallFinder, *, is_ended: bool, is_cut: bool) -> list[Found]:
    from .dialects import Found, read_block

    if is_cut and not is_ended:
        return [Found("", None, raw, "the answer was cut off by the token limit inside the tool call")]
    if not raw.strip().startswith("{"):
        return [Found("", None, raw, "the tool call cannot be read: its arguments are no JSON object")]
    return read_block("<tool_call>", f"<tool_call>{name}{raw.strip()}", calls.tools, is_closed=is_ended)


def _delta(found: Found, index: int) -> ToolCallDelta:
    if found.error is not None:
        said = found.raw if found.arguments is None else found.arguments
        return ToolCallDelta(index, None, found.name or None, said, found.error)
    return ToolCallDelta(index, None, found.name, found.arguments)
