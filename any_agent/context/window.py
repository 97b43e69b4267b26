"""When a server is asked for its window: before the first long prompt, and again whenever it may have changed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from ..errors import ContextOverflowError
from ..types import ContextTruncated, Message, ToolSpec

AskWindow = Callable[[], Awaitable["int | None"]]
IDLE_S = 300.0  # Ollama and LM Studio unload a model after some minutes; it may come back with another window
_TEMPLATE_TOKENS = 8  # by which one prompt may differ from call to call, as templates tell the date
ASSUMED_TOKENS = 4096  # of a server nearby that does not tell: the smallest window servers start with today
LARGEST_UNTOLD_TOKENS = 32_768  # what a server nearby that never tells nor refuses is sent, unless the name says more


class CalibratedCounter(Protocol):
    """What is needed of a TokenCounter: bounds that hold, and learning from what the server reports.

    `floor` is the least that any tokenizer makes of messages; `unlearn` forgets the last reports.
    """

    def upper(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int: ...

    def lower(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int: ...

    def floor(self, messages: Sequence[Message]) -> int: ...

    def learn(self, messages: Sequence[Message], tools: Sequence[ToolSpec], reported_prompt_tokens: int) -> object: ...

    def unlearn(self, reports: int) -> None: ...


class WindowWatch:
    """What one server told of its window.

    Args:
        ask: asks it; None: it cannot tell.
        ask_again_s: how old an answer may be when history is about to be dropped.
    """

    def __init__(self, ask: AskWindow | None, ask_again_s: float = 5.0) -> None:
        self._ask = ask
        self.ask_again_s = ask_again_s
        self._told: int | None = None
        self._asked_at: float | None = None
        self._answered_at = 0.0
        self._is_doubtful = False
        self._swaps = 0
        self._model = ""
        self._answers = 0
        self._ask_after_answers = 1

    def is_due(self, *, is_known: bool) -> bool:
        """Whether to ask before the next prompt. A window that is not known is asked for after 1, 2, 4, 8 … answers."""
        if self._ask is None:
            return False
        if self._asked_at is None or (self._is_doubtful and (self._swaps <= 3 or self.is_stale)):
            return True
        if is_known:
            return self._answers > 0 and time.monotonic() - self._answered_at > IDLE_S
        return self._answers >= self._ask_after_answers

    @property
    def is_stale(self) -> bool:
        """The last answer is too old to drop history for it."""
        if self._ask is None:
            return False
        return self._asked_at is None or time.monotonic() - self._asked_at >= self.ask_again_s

    async def news(self) -> int | None:
        """Ask: the window in tokens if it is not what the server told before.

        What it repeats is no news: an overflow or a cut may have shown better since.
        """
        told = await self.ask()
        if not told or told == self._told:
            return None
        self._told = told
        return told

    async def ask(self) -> int | None:
        """What the server tells now."""
        if self._ask is None:
            return None
        told = await self._ask()
        self._asked_at = time.monotonic()
        self._is_doubtful = False
        self._ask_after_answers = max(1, 2 * self._answers)
        return told

    def note_answer(self, model: str) -> None:
        """A call was answered, by the model of this name: another name than before is another model."""
        self._answers += 1
        self._answered_at = time.monotonic()
        if model and self._model and model != self._model:
            self._swaps += 1
            self._is_doubtful = True
        self._model = model or self._model

    def note_loss(self) -> None:
        """The connection was lost: what comes back may be started with another window."""
        self._is_doubtful = True


class GrowthWatch:
    """Reports of prompts that each begin like the one before: where a server cuts, they grow by less than was added.

    A cut of a message or two lies within the doubt about a tokenizer, each time anew; over some calls it does not.
    """

    def __init__(self) -> None:
        self._sent: tuple[Message, ...] = ()
        self._about: tuple[Any, ...] = ()
        self._added = 0  # the fewest tokens of what was appended so far
        self._marks: list[tuple[int, int]] = []  # reported, and `_added` then

    def least(
        self, messages: Sequence[Message], about: tuple[Any, ...], floor: Callable[[Sequence[Message]], int]
    ) -> int:
        """Fewer reported tokens than these mean a cut; 0: nothing is known. To be asked once for each answer.

        Args:
            about: model and tools; others start anew.
            floor: the fewest tokens of some messages.
        """
        size = len(self._sent)
        is_longer = about == self._about and list(map(id, messages[:size])) == list(map(id, self._sent))
        if not is_longer:
            self._marks, self._added, size = [], 0, len(messages)
        elif len(messages) > size:
            self._added += floor(messages[size:])
        self._sent, self._about = tuple(messages), about
        return max([reported + self._added - added - _TEMPLATE_TOKENS for reported, added in self._marks], default=0)

    def note(self, reported_tokens: int) -> None:
        """What the server reported for the messages that `least` was asked of."""
        self._marks = [*self._marks[-15:], (reported_tokens, self._added)]

    def forget(self) -> int:
        """A cut was noticed: how many reports before it may have been of cut prompts too."""
        count, self._marks = len(self._marks), []
        return count


def window_of_cut(reported_tokens: int) -> int:
    """The window that Ollama cuts to so many tokens: half of it, and the 2 or 3 it keeps of the start; 0: none."""
    windows = [2 * (reported_tokens - kept) for kept in (2, 3)]
    return next((window for window in windows if window > 0 and window % 256 == 0), 0)


def cut_error(cut: ContextTruncated) -> ContextOverflowError:
    """A silent cut as an error, also for streams of text that cannot take back what they said."""
    return ContextOverflowError(
        f"the server silently cut the prompt: it counted {cut.reported_tokens} tokens, at least {cut.expected_tokens} "
        f"were sent. The window is now taken as {cut.window_tokens}; ask again.",
        cut.expected_tokens,
        cut.window_tokens,
    )
