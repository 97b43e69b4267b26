"""Finds calls in streamed text. It holds text back only while a call may be standing there, and loses none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...types import ToolSpec
from ..harmony import Harmony
from .bare import read_bare
from .dialects import Found, Tools, block_end, read_block
from .labels import BEGINNINGS, CUT, fenced_call_at, read_labelled
from .lossless import DOUBT
from .marks import FAMILIES, NOISE, OPENERS
from .quoting import (
    PAST_CHARS,
    is_announced,
    is_at_line_start,
    is_in_inline_code,
    is_indented,
    is_open,
    is_quoted,
    is_shown,
    is_shown_behind,
)

_MARKS = re.compile(rf"[<\[{{`~]|{BEGINNINGS}")
_HARMONY = ("<|channel|>", "<|start|>assistant")
_ALL = (*OPENERS, *_HARMONY, "<think")
_TALKS = "<|tool_call_start|>"  # LFM2 says in words, in the same line, what its call does
_INFO = re.compile(r"[ \t]*([\w+#.-]*)[ \t]*")  # the language, behind the marks of a fence
_NEED_MORE, _GOES_ON = False, True


class CallFinder:
    """What a model says, as text to show and calls to make.

    Args:
        tools: what the request offers; only these names make JSON without marks a call.
        reads_bare: False: JSON without marks is what was asked for (structured output), never a call.
    """

    def __init__(self, tools: Sequence[ToolSpec], *, reads_bare: bool = True) -> None:
        self.tools: Tools = {tool.name: tool.parameters for tool in tools}
        self.found: list[Found] = []
        self.dialect = ""  # of the last call found
        self.harmony: Harmony | None = None  # from here on the text is in channels
        self.taken: list[str] = []  # the blocks that were taken out of the text, as they stood there
        self._reads_bare = reads_bare
        self._held = ""
        self._space = ""  # white space that belongs to the next text, if one comes
        self._past = ""
        self._is_blank = True  # nothing was said yet, or since the last call
        self._fence = ""  # the marks that opened the code fence we are in
        self._fences_inside = 0
        self._is_thinking = False
        self._said: list[str] = []
        self._behind = ""  # the words behind the last call
        self._tried_chars = 0
        self._closers: tuple[str, ...] = ()

    def feed(self, text: str) -> str:
        """The text that can be shown now."""
        if not self._held and not self._is_blank and _MARKS.search(text) is None:
            self._past = (self._past + text)[-PAST_CHARS:]
            if self.found and len(self._behind) < PAST_CHARS:
                self._behind = (self._behind + text)[:PAST_CHARS]
            return text
        self._held += text
        if self._tried_chars and self._can_wait(text):
            return ""
        return self._run(is_last=False)

    def _can_wait(self, text: str) -> bool:
        """A long block that is not closed yet need not be looked at again for every piece: that would be quadratic."""
        held = self._held
        if self._has_rest or len(held) < 400:
            return False
        if len(held) > 1.25 * self._tried_chars:
            return False
        tail = held[-len(text) - 40 :]
        return not any(closer in tail for closer in self._closers)

    def flush(self, *, is_cut: bool = False) -> str:
        """What was held back when the stream ends.

        Args:
            is_cut: the token limit ended the answer: a call that is still open is none.
        """
        self._is_cut = is_cut
        said = self._run(is_last=True)
        if self._is_blank and not self.found:
            said, self._space = said + self._space, ""
        if self.found and is_shown_behind(self._behind, talks=self.dialect == FAMILIES[_TALKS]):
            told = f"the words behind the tool call show it, so it is {DOUBT}; call it again with nothing behind it"
            self.found = [replace(one, arguments=None, error=one.error or told) for one in self.found]
        return said

    def take_all(self) -> str:
        """Everything found and held so far, as text; it turned out to be reasoning."""
        said = self._run(is_last=False)
        raw = said + "".join(self.taken) + self._space + self._held
        self.found, self.taken, self._held, self._space = [], [], "", ""
        self._past, self._is_blank, self._fence, self._fences_inside = "", True, "", 0
        return raw

    def channels(self) -> Harmony | None:
        """The reader of the rest of the answer, once it turned out to be in channels."""
        return self.harmony

    def take_held(self) -> str:
        """What is held back, for the one who reads on from here."""
        held, self._held = self._held, ""
        return held

    # -------------------------------------------------------------- the walk through the text

    _is_cut = False
    _has_rest = False

    def _run(self, *, is_last: bool) -> str:
        self._tried_chars, self._has_rest = 0, False
        while self._held and self.harmony is None:
            if not self._step(is_last):
                break
        said, self._said = "".join(self._said), []
        return said

    def _step(self, is_last: bool) -> bool:
        """Do one thing at the start of what is held; False: more text is needed to decide."""
        if self._is_blank:
            start = self._held.lstrip()
            self._space += self._held[: len(self._held) - len(start)]
            self._held = start
            if not start:
                return _NEED_MORE
            if self.found and (noise := self._noise(is_last)) is not None:
                return noise
            if self._held[0] == "f" and self._reads_bare and not self.found and not self._past:
                return self._bare(is_last, 1)
        mark = _MARKS.search(self._held)
        if mark is None:
            return self._say(len(self._held))
        if mark.start():
            return self._say(mark.start())
        return self._at_mark(self._held[0], is_last)

    def _at_mark(self, char: str, is_last: bool) -> bool:
        held, past = self._held, self._past
        if self._is_thinking:  # in the middle of a text it stays where it is, and what it talks of is no call
            if not is_last and "</think".startswith(held):
                return _NEED_MORE
            self._is_thinking = not held.startswith("</think")
            return self._say(1)
        if char == "`" or char == "~":
            return self._fence_mark(char, is_last)
        if self._fence or is_in_inline_code(past):
            return self._say(1)
        if char in "TA":
            return self._labelled(is_last)
        if char == "<" or char == "[":
            opener = next((one for one in _ALL if held.startswith(one)), None)
            if opener in _HARMONY:
                return self._to_harmony()
            if opener == "<think":
                self._is_thinking = True
            elif opener is not None:
                return self._say(len(opener)) if is_quoted(past) else self._block(opener, is_last)
            if not is_last and any(one.startswith(held) for one in _ALL):
                return _NEED_MORE
        if char in "{[" and self._may_be_bare():
            return self._bare(is_last, 1)
        return self._say(1)

    def _say(self, chars: int) -> bool:
        said = self._space + self._held[:chars]
        self._said.append(said)
        self._past = (self._past + said)[-PAST_CHARS:]
        if self.found and len(self._behind) < PAST_CHARS:
            self._behind = (self._behind + said)[:PAST_CHARS]
        self._held, self._space, self._is_blank = self._held[chars:], "", False
        return _GOES_ON

    def _drop(self, chars: int) -> bool:
        self.taken.append(self._space + self._held[:chars])
        self._held, self._space, self._is_blank, self._behind = self._held[chars:], "", True, ""
        return _GOES_ON

    def _noise(self, is_last: bool) -> bool | None:
        token = next((one for one in NOISE if self._held.startswith(one)), None)
        if token is not None:
            return self._drop(len(token))
        if not is_last and self._held[0] == "<" and any(one.startswith(self._held) for one in NOISE):
            return _NEED_MORE
        return None

    def _fence_mark(self, char: str, is_last: bool) -> bool:
        """Backticks or tildes: they may open or close a code fence, or a fence within it."""
        held = self._held
        run = len(held) - len(held.lstrip(char))
        if run == len(held) and not is_last:
            return _NEED_MORE
        starts_line = is_at_line_start(self._past)
        if run < 3 or not (starts_line or (char == "`" and not self._fence)):
            return self._say(run)
        if starts_line and not self._fence and char == "`" and self._may_be_bare():
            return self._bare(is_last, run)
        behind = _INFO.match(held, run)
        assert behind is not None
        if behind.end() == len(held) and not is_last:
            return _NEED_MORE
        ends_line = behind.end() == len(held) or held[behind.end()] in "\r\n"
        if not self._fence:
            if starts_line or (ends_line and not is_in_inline_code(self._past)):
                self._fence = held[:run]
        elif char == self._fence[0] and run >= len(self._fence):
            if behind[1] and ends_line:
                self._fences_inside += 1
            elif self._fences_inside:
                self._fences_inside -= 1
            else:
                self._fence = ""
        return self._say(run)

    def _to_harmony(self) -> bool:
        self.harmony = Harmony()
        return _NEED_MORE

    # -------------------------------------------------------------- blocks between marks

    def _block(self, opener: str, is_last: bool) -> bool:
        held, past = self._held, self._past
        starts_line, shown = is_at_line_start(past), is_shown(past)
        looks = _looks_like_call(held[len(opener) :], opener)
        if looks is None and not is_last:
            return _NEED_MORE
        if not looks and (not starts_line or shown):
            return self._say(len(opener))
        end = block_end(opener, held, is_last=is_last)
        if end is None:
            if not is_last:
                self._tried_chars, self._closers = len(held), OPENERS[opener]
                return _NEED_MORE
            return self._say(len(held)) if shown else self._unclosed(opener)
        follows = held[end:].lstrip(" \t")[:1]
        self._has_rest = True
        if not follows and not is_last:
            self._tried_chars = len(held)
            return _NEED_MORE
        is_inside = bool(follows) and follows not in "\r\n<[`{;," and opener != _TALKS
        if shown or (is_inside and not starts_line):
            return self._say(end)
        block = held[:end]
        if is_inside:
            error = f"text follows the tool call in its line, so it is {DOUBT}"
            self._keep(opener, [Found("", None, block, error)])
        elif is_open(past) or is_indented(past + self._space):
            error = f"the words before the tool call may only show it, so it is {DOUBT}; call it again without them"
            self._keep(opener, [Found("", None, block, error)])
        else:
            self._keep(opener, read_block(opener, block, self.tools, is_closed=True))
        return self._drop(end)

    def _unclosed(self, opener: str) -> bool:
        block = self._held
        if self._is_cut:
            self._keep(opener, [Found("", None, block, CUT)])
        else:
            self._keep(opener, read_block(opener, _without_end(block, opener), self.tools, is_closed=False))
        return self._drop(len(block))

    def _keep(self, opener: str, found: list[Found]) -> None:
        self.found += found
        self.dialect = FAMILIES.get(opener, opener.strip("<>[]|｜").replace("｜", ""))

    def _labelled(self, is_last: bool) -> bool:
        held = self._held
        if not is_at_line_start(self._past) or is_shown(self._past) or is_open(self._past):
            return self._say(1)
        if (fence := fenced_call_at(held)) and self._reads_bare:
            return self._bare(is_last, 1, fence)
        read = read_labelled(held, self.tools, is_last=is_last, is_cut=self._is_cut)
        if read is None:
            return _NEED_MORE
        found, chars = read
        if found is None:
            return self._say(chars)
        self.found.append(found)
        self.dialect = "labelled"
        return self._drop(chars)

    # -------------------------------------------------------------- JSON without marks

    def _may_be_bare(self) -> bool:
        if not self._reads_bare:
            return False
        if self._is_blank and (not self._past or self.dialect == "bare"):
            return True
        return is_at_line_start(self._past) and is_announced(self._past)

    def _bare(self, is_last: bool, chars: int, start: int = 0) -> bool:
        """JSON or code that is all the rest of the answer, from `start`; `chars`: said when it is no call."""
        verdict: Any = read_bare(self._held[start:], self.tools, is_last=is_last, is_cut=self._is_cut)
        if verdict is None:
            self._tried_chars, self._closers = len(self._held), ()
            return _NEED_MORE
        if not verdict:
            if self._held[0] == "`":
                self._fence = self._held[:chars]
            return self._say(chars)
        self.found += verdict
        self.dialect = "bare"
        return self._drop(len(self._held))


_NAME = re.compile(r"\s*[\w.:/-]+\s*")
_BODY = re.compile(r"[A-Za-z_][\w.:/-]*")


def _without_end(block: str, opener: str) -> str:
    """Without what stands for the closing mark: end tokens, or the opening mark once more."""
    ends = [opener, *NOISE]
    if "<|tool_call_begin|>" in block:
        ends.remove("<|tool_call_end|>")  # the end of a call, not of the block
    while True:
        block = block.rstrip()
        end = next((one for one in ends if block.endswith(one) and len(block) > len(opener)), None)
        if end is None:
            return block
        block = block[: -len(end)]


def _begins(text: str, marks: tuple[str, ...]) -> bool | None:
    if text.startswith(marks):
        return True
    return None if any(one.startswith(text) for one in marks) else False


def _looks_like_call(body: str, opener: str) -> bool | None:
    """Whether what follows the opening mark begins like a call; None: not to be told yet."""
    if opener in ("<function=", "<invoke name="):
        head, end, inside = body.partition(">")
        if not end:
            return False if "\n" in body else None
        insides = ("<parameter=", "</function>", "{") if opener == "<function=" else ("<parameter name=", "</invoke>")
        return _begins(inside.lstrip(), insides) and bool(_NAME.fullmatch(head.strip("\"'")))
    start = body.lstrip()
    if not start:
        return None
    if start[0] in "[{":
        return True
    if start[0] == "<":
        inner = ("<function=", "<invoke", "<|plugin|>", "<|tool_call_begin|>", "<｜DSML｜invoke", "<｜tool", "<|tool")
        return _begins(start, inner)
    word = _BODY.match(start)
    if word is None:
        return False
    rest = start[word.end() :]
    return None if not rest else rest[0] in "\r\n<{(["
