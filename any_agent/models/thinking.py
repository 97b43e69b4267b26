"""Reasoning that a model writes into its text becomes ThinkingDeltas, at any chunk border."""

from __future__ import annotations

import re

from ..types import TextDelta, ThinkingDelta
from .harmony import Harmony

Said = TextDelta | ThinkingDelta

_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
}
_HARMONY = ("<|channel|>", "<|start|>assistant")
_OPENERS = (*_TAGS, *_HARMONY)
_UNOPENED = ("</think>", "</thinking>", "</thought>", "</reasoning>", "</seed:think>")
_TURN = re.compile(r"`+|" + "|".join(_UNOPENED) + "|<")


class ThinkSplitter:
    """Splits `<think>…</think>` at the start of an answer from its text, in every dialect.

    Only a tag that opens the answer counts: one in the middle is something the model talks about. A closing tag alone
    in its line, which nobody opened, says that all text so far was reasoning (`ThinkingDelta.takes_text`).
    """

    __slots__ = ("_close", "_fenced", "_has_thought", "_held", "harmony", "is_text", "last")

    def __init__(self) -> None:
        self.is_text = False  # from here on everything is text: the fast path, for pieces without `<` and backtick
        self.harmony: Harmony | None = None
        self._held = ""
        self._close = ""
        self._has_thought = False
        self._fenced = False
        self.last = ""  # the character before

    def feed(self, text: str) -> list[Said]:
        if not text:
            return []
        if self.harmony is not None:
            return self.harmony.feed(text)
        if self.is_text:
            if not self._held and "<" not in text and "`" not in text:
                self.last = text
                return [TextDelta(text)]
            return self._in_text(text)
        self._held += text
        return self._thinking() if self._close else self._opening()

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def _opening(self) -> list[Said]:
        start = self._held.lstrip()
        tag = next((t for t in _TAGS if start.startswith(t)), None)
        if tag:
            self._close, self._has_thought = _TAGS[tag], True
            self._held = start[len(tag) :]
            return self._thinking()
        if not start or any(t.startswith(start) for t in _OPENERS):
            return []  # could still become a tag
        held, self._held = (start if self._has_thought else self._held), ""
        if start.startswith(_HARMONY):
            self.is_text, self.harmony = False, Harmony()
            return self.harmony.feed(start)
        self.is_text = True
        return self._in_text(held)

    def _thinking(self) -> list[Said]:
        before, found, after = self._held.partition(self._close)
        if found:
            self._held, self._close = after, ""
            return ([ThinkingDelta(before)] if before else []) + self._opening()
        keep = next((n for n in range(len(self._close) - 1, 0, -1) if before.endswith(self._close[:n])), 0)
        said, self._held = before[: len(before) - keep], before[len(before) - keep :]
        return [ThinkingDelta(said)] if said else []

    # -------------------------------------------------------------- a closing tag that nobody opened

    def _in_text(self, text: str) -> list[Said]:
        if self._has_thought:
            return [TextDelta(text)] if text else []
        held, self._held = self._held + text, ""
        end = len(held)
        for found in _TURN.finditer(held):
            mark, start, stop = found.group(), found.start(), found.end()
            if mark[0] == "`":
                if stop == end:
                    end = start  # more of them may follow
                    break
                if len(mark) >= 3:
                    self._fenced = not self._fenced
            elif mark == "<":
                if any(tag.startswith(held[start:]) for tag in _UNOPENED):
                    end = start
                    break
            elif not self._fenced:
                before = held[start - 1] if start else self.last[-1:]
                if stop == end and before not in ("\n", "", "`", "'", '"'):
                    end = start
                    break
                if before in ("\n", "") or (held[stop : stop + 1] == "\n" and before not in ("`", "'", '"')):
                    return self._turned(held[:start], held[stop:])
        return self._say(held[:end], held[end:])

    def _say(self, text: str, held: str) -> list[Said]:
        self._held = held
        if not text:
            return []
        self.last = text
        return [TextDelta(text)]

    def _turned(self, before: str, after: str) -> list[Said]:
        self.is_text, self._has_thought, self._held = False, True, after
        turned: list[Said] = [TextDelta(before)] if before else []
        if before or self.last:
            turned.append(ThinkingDelta("", takes_text=True))
        return turned + self._opening()

    def flush(self) -> list[Said]:
        """What was held back when the stream ends."""
        if self.harmony is not None:
            return self.harmony.flush()
        held, self._held = self._held, ""
        if not held:
            return []
        if self.is_text:
            return [ThinkingDelta("", takes_text=True)] if held in _UNOPENED else [TextDelta(held)]
        if self._close:
            return [ThinkingDelta(held)]
        return [TextDelta(held)] if held.strip() or not self._has_thought else []
