"""Going on with an answer whose stream broke: what the next try is asked, and what of its answer is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..types import (
    AssistantMessage,
    Delta,
    ModelRequest,
    StreamEnd,
    TextBlock,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UserMessage,
)

GO_ON = (
    "The connection broke in the middle of your answer. Go on exactly where it stopped, in the middle of the word if "
    "need be. Do not repeat anything you said, and do not comment on this."
)
SURE_CHARS = 12  # so many equal characters are a repetition, not chance
MOST_CHARS = 200  # the longest repetition of an end that is looked for


def continued(request: ModelRequest, said: str) -> ModelRequest:
    """The request that goes on after `said`; without text it is the same request."""
    if not said.strip():
        return request
    return replace(request, messages=[*request.messages, AssistantMessage((TextBlock(said),)), UserMessage(GO_ON)])


class Continuation:
    """Lets through what a continued answer adds to `said`; what it repeats of it is left out.

    A model may go on, repeat the last words, or begin anew; text is held back only while that is open.
    """

    def __init__(self, said: str, *, shows_thinking: bool) -> None:
        self._said = said
        self._shows_thinking = shows_thinking
        self._held = ""
        self._is_settled = not said.strip()

    def take(self, delta: Delta) -> Sequence[Delta]:
        """The deltas to pass on."""
        if isinstance(delta, ThinkingDelta):
            return (delta,) if self._shows_thinking else ()
        if isinstance(delta, TextDelta):
            if self._is_settled:
                return (delta,)
            self._held += delta.text
            return self._told(self._new_part(is_end=False))
        if isinstance(delta, (StreamEnd, ToolCallDelta)):
            return (*self._told(self._new_part(is_end=True)), delta)
        return (delta,)  # news of the way, not of the answer

    def _told(self, text: str | None) -> tuple[TextDelta, ...]:
        if text is None:
            return ()
        self._is_settled, self._held = True, ""
        return (TextDelta(text),) if text else ()

    def _new_part(self, *, is_end: bool) -> str | None:
        """What is new of the held text; None: it is too early to say."""
        said, held = self._said, self._held
        if self._is_settled:
            return ""
        if held.startswith(said):
            return held[len(said) :]
        if said.startswith(held) and not is_end:
            return None  # it may be beginning anew
        if not is_end and len(held) < min(MOST_CHARS, len(said)) and self._may_repeat_end():
            return None
        return held[self._overlap() :]

    def _may_repeat_end(self) -> bool:
        start = self._held[:SURE_CHARS]
        end = self._said[-MOST_CHARS:]
        return start in end or any(end.endswith(start[:size]) for size in range(1, len(start) + 1))

    def _overlap(self) -> int:
        """How many of the held characters repeat the end of what was said."""
        said, held = self._said, self._held
        for size in range(min(len(said), len(held), MOST_CHARS), 1, -1):
            if said.endswith(held[:size]):
                before = said[-size - 1 : -size] or " "
                in_word = held[:size].isalnum() and held[size : size + 1].isalnum() and before.isspace()
                return size if size >= SURE_CHARS or in_word else 0
        return 0
