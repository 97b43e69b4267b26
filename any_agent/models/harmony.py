"""The channels of gpt-oss, when a server hands them out as text: analysis, commentary, final, calls by recipient."""

from __future__ import annotations

import re

from ..types import TextDelta, ThinkingDelta

_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>")
_TOKEN = re.compile("|".join(map(re.escape, _ENDS)))
_HEADER_END = "<|message|>"
_RECIPIENT = re.compile(r"\bto=\s*([\w.:/-]+)")
_NO_TOOLS = ("assistant", "user", "all", "final")
_WORDS = re.compile(r"<\|\w+\|>|assistant|analysis|commentary|final|json|code|\s")


class Harmony:
    """Splits the channels; calls are kept in `calls` as (tool, arguments as text, whether it ended)."""

    __slots__ = ("_body", "_header", "_held", "_kind", "_recipient", "calls")

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, bool]] = []
        self._held = ""
        self._header = ""
        self._kind = "header"
        self._recipient = ""
        self._body = ""

    def feed(self, text: str) -> list[TextDelta | ThinkingDelta]:
        self._held += text
        out: list[TextDelta | ThinkingDelta] = []
        while self._held:
            if self._kind == "header":
                before, found, after = self._held.partition(_HEADER_END)
                if not found:
                    break
                self._held = after
                self._open(before)
                continue
            mark = _TOKEN.search(self._held)
            if mark is None:
                keep = self._partial()
                self._say(self._held[: len(self._held) - keep], out)
                self._held = self._held[len(self._held) - keep :]
                break
            self._say(self._held[: mark.start()], out)
            self._close(is_ended=True)
            again = mark.group() in ("<|start|>", "<|channel|>")
            self._held = self._held[mark.start() if again else mark.end() :]
        return out

    def flush(self) -> list[TextDelta | ThinkingDelta]:
        """What is left when the stream ends; a call without its end mark is kept as one that did not end."""
        out: list[TextDelta | ThinkingDelta] = []
        held, self._held = self._held, ""
        if self._kind != "header":
            self._say(held, out)
            self._close(is_ended=False)
        elif _WORDS.sub("", held):
            found = _RECIPIENT.search(held)
            if found:
                self.calls.append((found[1], held, False))
            else:
                out.append(TextDelta(held))
        return out

    def _open(self, header: str) -> None:
        found = _RECIPIENT.search(header)
        self._recipient = found[1] if found and found[1] not in _NO_TOOLS else ""
        channel = header.rpartition("<|channel|>")[2]
        self._kind = "call" if self._recipient else "analysis" if "analysis" in channel else "text"

    def _say(self, text: str, out: list[TextDelta | ThinkingDelta]) -> None:
        if not text:
            return
        if self._kind == "call":
            self._body += text
        else:
            out.append(ThinkingDelta(text) if self._kind == "analysis" else TextDelta(text))

    def _close(self, *, is_ended: bool) -> None:
        if self._kind == "call":
            self.calls.append((self._recipient, self._body, is_ended))
        self._kind, self._recipient, self._body = "header", "", ""

    def _partial(self) -> int:
        """How many characters at the end may begin a token."""
        start = self._held.rfind("<")
        tail = self._held[start:] if start >= 0 else ""
        return len(tail) if tail and any(token.startswith(tail) for token in _ENDS) else 0
