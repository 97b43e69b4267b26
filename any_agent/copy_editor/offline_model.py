"""`offline/proofreader`: a Model like any other from outside, rules inside; it is no language model and says so."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator

from ..errors import RequestRejectedError
from ..types import (
    Delta,
    Message,
    ModelRequest,
    StreamEnd,
    SystemMessage,
    TextDelta,
    ToolCallDelta,
    ToolMessage,
    ToolResultBlock,
    Usage,
    UserMessage,
    text_of,
)
from .chapters import read_numbered
from .prompts import known_words_in, named_chapter
from .proofread import Finding, engine_name, proofread

NAME = "offline/proofreader"
NOTE = "rule-based, no language model"
REFUSAL = (
    f"I am {NAME}, {NOTE}: I can only proofread numbered lines of a chapter, so ask a real model instead, for example "
    'any-agent run --model ollama/qwen3 "your question".'
)
_PIECE_CHARS = 48
_TOKEN = re.compile(r"\w+|[^\w\s]")


class OfflineProofreader:
    """Finds copy-editing errors by rules, behind the Model seam; it needs no server, no key and no network.

    A prompt that names a chapter is answered by a call of `read_file` where that tool is offered; numbered lines, in
    the prompt or from the tool, by the issues as JSON; anything else by a refusal. Tokens are words and marks.

    Args:
        use_extra: False uses the built-in rules alone, also where the extra `proof` is installed.
    """

    def __init__(self, *, use_extra: bool = True) -> None:
        self._use_extra = use_extra

    @property
    def name(self) -> str:
        return NAME

    @property
    def note(self) -> str:
        """What kind of model this is, for reports."""
        return f"{NOTE}; {engine_name(use_extra=self._use_extra)}"

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        asked: Message = request.messages[-1] if request.messages else UserMessage("")
        said, finish_reason = "", "stop"
        numbered = read_numbered(_material(asked))
        chapter = named_chapter(text_of(asked)) if isinstance(asked, UserMessage) else None
        if numbered is not None:
            said = "".join(_as_json(await self._findings(request, *numbered)))
        elif chapter is not None and any(tool.name == "read_file" for tool in request.tools):
            path, part = chapter
            arguments = {"path": path, "first_line": part.first_line, "last_line": part.last_line}
            finish_reason = "tool_calls"
            yield ToolCallDelta(0, f"call_{len(request.messages)}", "read_file", json.dumps(arguments))
        else:
            said = (
                REFUSAL if not isinstance(asked, ToolMessage) else f"I could not read the chapter: {_material(asked)}"
            )
        for start in range(0, len(said), _PIECE_CHARS):
            yield TextDelta(said[start : start + _PIECE_CHARS])
            await asyncio.sleep(0)  # whoever wants to interrupt gets a turn
        read = sum(_count(_material(message)) for message in request.messages)
        yield StreamEnd(NAME, finish_reason, Usage(read, _count(said), is_estimated=True), 0.0, "offline")

    async def aclose(self) -> None:
        return None

    async def _findings(self, request: ModelRequest, first_line: int, lines: list[str]) -> list[tuple[int, Finding]]:
        """Findings and their line numbers in the chapter."""
        system = "\n".join(text_of(message) for message in request.messages if isinstance(message, SystemMessage))
        words, text = known_words_in(system), "\n".join(lines)
        try:
            found = await asyncio.to_thread(proofread, text, known_words=words, use_extra=self._use_extra)
        except Exception as error:  # a Model raises nothing but our errors
            raise RequestRejectedError(
                f"the rules of {NAME} failed: {type(error).__name__}: {error}", model=NAME, provider="offline"
            ) from error
        return [
            (finding.line_number + first_line - 1, finding)
            for finding in found
            if first_line == 1 or not _is_capital_at_start(finding)
        ]


def _is_capital_at_start(finding: Finding) -> bool:
    """Whether it wants a capital where a part begins: what stands before, and so what begins there, is unseen."""
    return (finding.line_number, finding.column) == (1, 1) and (
        finding.suggestion.lower() == finding.current_text.lower()
    )


def _as_json(findings: list[tuple[int, Finding]]) -> Iterator[str]:
    """The answer, an issue a line, as models write it."""
    yield '{"issues": ['
    for place, (line_number, finding) in enumerate(findings):
        issue = {
            "line_number": line_number,
            "category": finding.category,
            "severity": finding.severity,
            "current_text": finding.current_text,
            "issue_text": finding.issue_text,
            "suggestion": finding.suggestion,
        }
        yield ("," if place else "") + "\n  " + json.dumps(issue, ensure_ascii=False)
    yield "\n]}" if findings else "]}"


def _material(message: Message) -> str:
    """The text of a message, or of a tool's results."""
    if isinstance(message, ToolMessage):
        results = [block for block in message.content if isinstance(block, ToolResultBlock)]
        return "\n".join(block.as_text() for block in results)
    return text_of(message)


def _count(text: str) -> int:
    return len(_TOKEN.findall(text))
