"""Reading one chapter: asking about its parts, finding the issues in the answers, checking each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..errors import ContextOverflowError, OutputError, StreamInterruptedError
from ..session import AgentSession
from ..types import AgentResponse
from .answers import find_issue_list
from .chapters import Chapter, Part, content_hash, halves, split_parts
from .issues import Issue, Rejected, as_said, check_issue, without_repeats
from .prompts import CORRECTION, chapter_prompt
from .records import ChapterRecord

if TYPE_CHECKING:
    from .editor import CopyEditorAgent

_MOST_OVERFLOWS = 32  # of one chapter; parts that are cut smaller fit long before, or never
_LIKE_IT = 0.8  # a part of so much of one that did not fit is not tried


class ChapterReading:
    """One chapter while `agent` reads it."""

    def __init__(self, agent: CopyEditorAgent, chapter: Chapter, lines: list[str]) -> None:
        self._agent = agent
        self._chapter = chapter
        self._lines = lines
        self._answers: list[list[Issue]] = []
        self._rejected: list[Rejected] = []
        self._notes: list[str] = []
        self._responses: list[AgentResponse] = []
        self._overflows = 0
        self._too_long = inf  # characters of the shortest part that did not fit

    async def run(self, on_part: Callable[[int, int], None]) -> ChapterRecord:
        """Ask about every part, one after another.

        Args:
            on_part: is told the part's number and how many there are, before each.

        Raises:
            AnyAgentError: the model failed.
        """
        started = perf_counter()
        parts = split_parts(self._lines, self._agent.part_lines, self._agent.part_chars)
        if not any(line.strip() for line in self._lines):
            self._notes.append("the chapter is empty; nothing was asked")
            parts = []
        for number, part in enumerate(parts, 1):
            on_part(number, len(parts))
            await self._ask(part)
        issues, repeats = without_repeats(self._answers)
        usages = [response.usage for response in self._responses if response.usage]
        costs = [response.cost_usd for response in self._responses]
        known = [cost for cost in costs if cost is not None]
        return ChapterRecord(
            chapter_id=self._chapter.chapter_id,
            line_count=len(self._lines),
            content_hash=content_hash(self._lines),
            issues=tuple(issues),
            rejected=tuple(self._rejected),
            repeats=repeats,
            notes=tuple(self._notes),
            model=", ".join(dict.fromkeys(response.model for response in self._responses if response.model)),
            input_tokens=sum(usage.input_tokens for usage in usages),
            output_tokens=sum(usage.output_tokens for usage in usages),
            cost_usd=sum(known) if len(known) == len(costs) else None,
            duration_s=perf_counter() - started,
        )

    async def _ask(self, part: Part) -> None:
        pieces = halves(self._lines, part)
        if pieces is None or self._chars(part) < _LIKE_IT * self._too_long:
            try:
                self._check(await self._said_whole(part))
                return
            except ContextOverflowError:
                self._overflows += 1
                if pieces is None or self._overflows > _MOST_OVERFLOWS:
                    raise
                self._too_long = min(self._too_long, self._chars(part))
                self._notes.append(f"{part} did not fit the model's window and were asked in halves")
        for half in pieces:
            if any(line.strip() for line in self._lines[half.first_line - 1 : half.last_line]):
                await self._ask(half)

    def _chars(self, part: Part) -> int:
        return sum(len(line) + 1 for line in self._lines[part.first_line - 1 : part.last_line])

    async def _said_whole(self, part: Part) -> list[Any]:
        try:
            return await self._said(part)
        except StreamInterruptedError:  # nothing of it was used yet, so it can be asked again
            self._notes.append(f"{part}: the answer broke off and was asked for again")
            return await self._said(part)

    async def _said(self, part: Part) -> list[Any]:
        """The model's issues, unchecked; an answer that is no JSON list is asked for again, then read as text."""
        session = AgentSession(self._agent)
        prompt = chapter_prompt(
            self._chapter.chapter_id, self._lines, part, is_read_by_tool="read_file" in self._agent.tools
        )
        response = await self._query(session, prompt)
        said, corrections = find_issue_list(response.content), 0
        while said is None and corrections < self._agent.max_corrections and response.finish_reason != "length":
            corrections += 1
            try:
                response = await self._query(session, CORRECTION)
            except ContextOverflowError:  # the first answer fills the window
                break
            said = find_issue_list(response.content)
        if said is not None:
            if corrections:
                self._notes.append(f"{part}: the answer was JSON only when asked for again")
            return said
        read = self._agent._parse_text_issues(response.content, self._lines)
        why = "was cut off at max_tokens" if response.finish_reason == "length" else "held no JSON list of issues"
        again = ", nor did the answer when asked again" if corrections else ""
        self._notes.append(f"{part}: the answer {why}{again}; read as plain text it has {_count(read)}")
        return read

    async def _query(self, session: AgentSession, prompt: str) -> AgentResponse:
        try:
            response = await session.query(prompt, **self._agent.sampling_defaults())
        except OutputError as error:  # check_response of a subclass is not content; the check of each issue decides
            response = AgentResponse(str(getattr(error, "text", "") or ""))
        self._responses.append(response)
        return response

    def _check(self, said: Sequence[Any]) -> None:
        """Keep what holds; what does not is listed with the reason, whoever refused it."""
        given = [as_said(one) if isinstance(one, Issue) else one for one in said]
        checked = [
            one if isinstance(one, Issue) else check_issue(one, self._lines)
            for one in self._agent._validate_issues(list(given), self._lines)
        ]
        kept = [one for one in checked if isinstance(one, Issue)]
        self._answers.append(kept)
        self._rejected += _refused(given, kept, self._lines, type(self._agent).__name__)


def _refused(given: Sequence[Any], kept: Sequence[Issue], lines: Sequence[str], who: str) -> list[Rejected]:
    """Everything that was said and not kept, with the reason; each issue that was kept stands for one that was said."""
    verdicts = [check_issue(one, lines) for one in given]
    open_places = Counter((str(one.line_number), one.current_text) for one in kept)
    reasons: dict[int, str] = {}
    # The sound ones first: a subclass may also keep what the check would refuse.
    for number in sorted(range(len(given)), key=lambda n: isinstance(verdicts[n], str)):
        verdict, one = verdicts[number], given[number]
        if isinstance(verdict, Issue):
            place, reason = (str(verdict.line_number), verdict.current_text), f"{who} left it out"
        else:
            said = one if isinstance(one, dict) else {}
            place, reason = (str(said.get("line_number")), str(said.get("current_text"))), verdict
        if open_places[place]:
            open_places[place] -= 1
        else:
            reasons[number] = reason
    return [Rejected.of(reasons[number], given[number]) for number in sorted(reasons)]


def _count(issues: Sequence[Any]) -> str:
    return f"{len(issues) or 'no'} issue{'' if len(issues) == 1 else 's'}"
