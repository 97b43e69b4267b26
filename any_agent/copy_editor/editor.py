"""CopyEditorAgent: an Agent that proofreads a manuscript chapter by chapter and checks every issue line by line."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from ..agent import Agent
from ..errors import (
    AnyAgentError,
    ConfigurationError,
    ContentPolicyError,
    ContextOverflowError,
    EmptyResponseError,
    InvalidInputError,
    LimitError,
    OutputError,
    StreamInterruptedError,
    ToolExecutionError,
)
from ..options import AgentOptions
from ..protocols import Model
from ..tools import Tool
from .answers import read_text_issues
from .chapters import (
    PART_CHARS,
    PART_LINES,
    Chapter,
    chars_for_window,
    content_hash,
    find_chapters,
    numbered,
    read_lines,
)
from .fitting import fitting_of
from .issues import Issue, Rejected, as_said, check_issue, clean
from .offline_model import NAME as OFFLINE
from .offline_model import OfflineProofreader
from .prompts import system_prompt
from .proofread import read_known_words
from .reading import ChapterReading
from .records import ChapterRecord, RunRecord
from .report import report_path, write_chapter_report, write_index
from .tracking import FILE_NAME, CopyEditDatabase

DEFAULT_OUT = Path("copy-edit-report")
DEFAULT_TEMPERATURE = 0.3
_READABLE = (".md", ".txt")
# Errors that say something about one chapter and nothing about the next.
_OF_ONE_CHAPTER = (
    ContextOverflowError, ContentPolicyError, EmptyResponseError, StreamInterruptedError, OutputError, LimitError,
    InvalidInputError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """What `on_step` is told: `part` of `parts` begins; a chapter is done, failed, or kept from the run before."""

    kind: Literal["part", "done", "failed", "kept"]
    chapter_id: str
    position: int
    chapters: int
    part: int = 0
    parts: int = 0
    record: ChapterRecord | None = None


class CopyEditorAgent(Agent):
    """Proofreads the chapters of a novel: `await CopyEditorAgent("ollama/qwen3", novel_metadata={…}).analyze_novel()`.

    A subclass may override `build_system_prompt`, `analyze_chapter`, `_validate_issues`, `_parse_text_issues`, and
    whatever an Agent offers. With `tools=["read_file"]` the model reads the chapters by that tool; otherwise they stand
    in the prompt.

    Args:
        model, provider, options, fields: as for Agent; "offline/proofreader" is the rule-based model.
        novel_metadata: `title`; `chapters_path` (folder), or `chapters` (files and folders); `research_output` (folder
            of the reports); `style_guide` and `known_words` (files; default: style_guide.md and known_words.txt beside
            the chapters).
        part_lines, part_chars: a longer chapter is asked about in parts of at most so much. Without part_chars it
            follows from the option `context_window_size` or what a local server tells of its window and tokens.
        jobs: chapters read at the same time.
        on_step: called with each Step.
    """

    def __init__(
        self,
        model: str | Model | None = None,
        provider: str | None = None,
        novel_metadata: Mapping[str, Any] | None = None,
        options: AgentOptions | Mapping[str, Any] | None = None,
        *,
        part_lines: int = PART_LINES,
        part_chars: int | None = None,
        jobs: int = 1,
        on_step: Callable[[Step], None] | None = None,
        **fields: Any,
    ) -> None:
        for name, value in (("part_lines", part_lines), ("part_chars", part_chars), ("jobs", jobs)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name}={value} must be at least 1", field=name, value=value)
        super().__init__(OfflineProofreader() if model == OFFLINE else model, provider, options, **fields)
        self.novel: dict[str, Any] = dict(novel_metadata or {})
        self.output_folder = Path(self.novel.get("research_output") or DEFAULT_OUT)
        self.db = CopyEditDatabase(self.output_folder / FILE_NAME)
        window_tokens = self.options.window_tokens
        self.part_lines, self.jobs = part_lines, jobs
        self.part_chars = part_chars or (chars_for_window(window_tokens) if window_tokens else PART_CHARS)
        self._given_part_chars = part_chars
        self._is_fitted = part_chars is not None  # to the window that the server really gives
        self._fitting: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self.run_id: int | None = None  # of the run that analyze_novel began last
        self._on_step = on_step
        self._known: dict[str, Chapter] = {}
        self._places: dict[str, tuple[int, int]] = {}  # position and number of chapters, while they are read
        self._records: dict[str, ChapterRecord] = {}  # what analyze_chapter found besides the issues

    # -------------------------------------------------------------- points to override

    def build_system_prompt(self) -> str:
        """The instructions, with style guide and word list; the option `system_prompt` replaces them."""
        return self.options.system_prompt or system_prompt(self._style_guide(), self._known_words())

    def build_tools(self) -> list[Any]:
        """The tools of the options, where "read_file" names the one that reads chapters."""
        return [self._read_file_tool() if one == "read_file" else one for one in self.options.tools]

    def _validate_issues(self, issues: list[Any], lines: list[str]) -> list[Any]:
        """Those of the model's issues that hold: line, quoted text, enums. What is left out is reported as refused."""
        return [issue for said in issues if isinstance(issue := check_issue(said, lines), Issue)]

    def _parse_text_issues(self, text: str, lines: list[str]) -> list[Any]:
        """Issues from an answer that held no JSON list, even when asked again; they are validated like all others."""
        return read_text_issues(text)

    # -------------------------------------------------------------- the work

    async def analyze_novel(self, *, resume: bool = True) -> dict[str, Any]:
        """Proofread all chapters and write a report for each.

        Args:
            resume: go on with the last run if it was not finished; False: begin anew.

        Returns:
            `total_issues`, `stats` (RunRecord.stats) and `run_id`.

        Raises:
            AnyAgentError: the model cannot be reached, or nothing can be read or written; what was done is kept. A
                chapter that fails for reasons of its own is named in `stats["failed"]` instead.
        """
        chapters = await asyncio.to_thread(self.chapters)
        await self._fit_parts()
        run = await asyncio.to_thread(self._begin, chapters, resume)
        self.run_id = run.run_id
        todo = iter(list(enumerate(chapters, 1)))
        done = {record.chapter_id: record for record in run.chapters if record.status == "done"}
        workers = [asyncio.ensure_future(self._work(run.run_id, todo, len(chapters), done)) for _ in range(self.jobs)]
        is_whole = False
        try:
            is_whole = all(await asyncio.gather(*workers))
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self.db.finish_run(run.run_id, is_whole=is_whole)  # in this thread: the task may be being cancelled
        run = await asyncio.to_thread(self.db.load_run, run.run_id)
        return {"total_issues": len(run.issues), "stats": run.stats(), "run_id": run.run_id}

    async def analyze_chapter(self, chapter_path: str | Path) -> list[Issue]:
        """The issues of one chapter, each checked against its line; nothing is written.

        Raises:
            AnyAgentError: the file cannot be read, or the model failed.
        """
        chapter = self._chapter(Path(chapter_path))
        lines = await asyncio.to_thread(read_lines, chapter.path)
        await self._fit_parts()
        record = await ChapterReading(self, chapter, lines).run(
            lambda part, parts: self._tell("part", chapter, part=part, parts=parts)
        )
        self._records[chapter.chapter_id] = record
        return list(record.issues)

    async def generate_index_report(self, run_id: int | None = None) -> Path:
        """Write index.html and index.md of a run (None: the last one); returns the page's path."""
        run = await asyncio.to_thread(self.db.load_run, run_id)
        return await asyncio.to_thread(write_index, run, self.output_folder)

    def chapters(self) -> list[Chapter]:
        """The chapters of the novel in their order.

        Raises:
            ConfigurationError: there are none, or a path does not exist.
        """
        given = self.novel.get("chapters") or self.novel.get("chapters_path")
        if not given:
            raise ConfigurationError("which chapters? novel_metadata has no 'chapters_path'", field="chapters_path")
        found = find_chapters(Path(path) for path in ([given] if isinstance(given, (str, Path)) else given))
        self._known = {chapter.chapter_id: chapter for chapter in found}
        return found

    @property
    def model_note(self) -> str:
        """What kind of model it is, where the model itself says so; '' otherwise."""
        return str(getattr(self._own_model, "note", ""))

    def sampling_defaults(self) -> dict[str, Any]:
        """A low temperature for servers of one's own, unless the options say one; many cloud models refuse any."""
        options = self.options
        if self._own_model or "temperature" in options.model_fields_set or options.fallback_models:
            return {}
        return {"temperature": DEFAULT_TEMPERATURE} if self.route.door == "direct" else {}

    # -------------------------------------------------------------- one chapter after another

    async def _fit_parts(self) -> None:
        """Parts as small as the window of a local server asks for, unless `part_chars` was given; once it answered."""
        async with self._fitting.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._is_fitted:
                return
            if self._own_model is None and self.options.replay is None:
                self.options = await self.options.settled()
                fitting = await fitting_of(self)
                self.part_chars = fitting.part_chars or self.part_chars
                self._is_fitted = fitting.is_answered
            else:
                self._is_fitted = True

    @property
    def known_chapters(self) -> list[Chapter]:
        """The chapters that were named or found so far."""
        return list(self._known.values())

    def _begin(self, chapters: list[Chapter], resume: bool) -> RunRecord:
        # Not the fitted length of parts: it changes with the text and with what the server tells just now.
        shaping = (self.model, self.model_note, self.build_system_prompt(), self.part_lines, self._given_part_chars)
        run_id = self.db.begin_run(
            str(self.novel.get("title") or "Manuscript"),
            self.model,
            self.model_note,
            hashlib.sha256(repr(shaping).encode("utf-8", "replace")).hexdigest(),
            [chapter.chapter_id for chapter in chapters],
            resume=resume,
        )
        return self.db.load_run(run_id)

    async def _work(
        self, run_id: int, todo: Iterator[tuple[int, Chapter]], count: int, done: Mapping[str, ChapterRecord]
    ) -> bool:
        """Take chapters until none is left; whether all of them are done."""
        is_whole = True
        for position, chapter in todo:
            self._places[chapter.chapter_id] = (position, count)
            record, kind = await self._record(chapter, done.get(chapter.chapter_id))
            await asyncio.to_thread(self._keep, run_id, position, record, kind)
            self._tell(kind, chapter, record=record)
            is_whole = is_whole and record.status == "done"
        return is_whole

    async def _record(
        self, chapter: Chapter, before: ChapterRecord | None
    ) -> tuple[ChapterRecord, Literal["done", "failed", "kept"]]:
        """What is known of a chapter after reading it; one that was read before and is unchanged is not read again."""
        lines: list[str] = []
        try:
            lines = await asyncio.to_thread(read_lines, chapter.path)
            if before and before.content_hash == content_hash(lines):
                return before, "kept"
            issues = await self.analyze_chapter(chapter.path)
        except _OF_ONE_CHAPTER as error:
            told = f"{type(error).__name__}: {clean(str(error))}"
            known = ChapterRecord(chapter.chapter_id, len(lines), content_hash(lines), status="failed", error=told)
            return known, "failed"
        known = ChapterRecord(chapter.chapter_id, len(lines), content_hash(lines), issues=tuple(issues))
        record = self._records.pop(chapter.chapter_id, known)
        left_out = [Rejected.of("analyze_chapter left it out", as_said(i)) for i in record.issues if i not in issues]
        return replace(record, issues=tuple(issues), rejected=(*record.rejected, *left_out)), "done"

    def _keep(self, run_id: int, position: int, record: ChapterRecord, kind: str) -> None:
        self.db.save_chapter(run_id, position, record)
        if kind != "kept" or not report_path(self.output_folder, record.chapter_id).exists():
            write_chapter_report(record, self.output_folder, self.model_note)

    def _tell(self, kind: Literal["part", "done", "failed", "kept"], chapter: Chapter, **more: Any) -> None:
        if self._on_step is not None:
            self._on_step(Step(kind, chapter.chapter_id, *self._places.get(chapter.chapter_id, (1, 1)), **more))

    # -------------------------------------------------------------- the files of the novel

    def _chapter(self, path: Path) -> Chapter:
        """The chapter at a path; one that is not of the novel is known from now on."""
        for chapter in self._known.values():
            if chapter.path == path or chapter.path.resolve() == path.resolve():
                return chapter
        return self._known.setdefault(path.name, Chapter(path.name, path))

    def _folders(self) -> list[Path]:
        """Where style guide and word list are looked for."""
        given = self.novel.get("chapters_path")
        folders = [Path(given)] if isinstance(given, (str, Path)) and Path(given).is_dir() else []
        return list(dict.fromkeys([*folders, *(chapter.path.parent for chapter in self._known.values())]))

    def _beside(self, name: str, file_name: str) -> list[Path]:
        """The file that the novel names, or those beside the chapters."""
        given = self.novel.get(name)
        if given is None:
            return [folder / file_name for folder in self._folders() if (folder / file_name).is_file()]
        if not Path(given).is_file():
            raise ConfigurationError(f"{name}: there is no file {given}", field=name, value=str(given))
        return [Path(given)]

    def _style_guide(self) -> str:
        return "\n\n".join("\n".join(read_lines(path)) for path in self._beside("style_guide", "style_guide.md"))

    def _known_words(self) -> list[str]:
        words = [word for path in self._beside("known_words", "known_words.txt") for word in read_known_words(path)]
        return list(dict.fromkeys(words))

    def _read_file_tool(self) -> Tool:
        def read_file(path: str, first_line: int = 1, last_line: int = 0) -> str:
            """Read lines of a chapter, each with its number.

            Args:
                path: the chapter's name, as it was given to you.
                first_line: the first line to read, from 1.
                last_line: the last line to read; 0: the chapter's last.
            """
            lines = self._read_for_model(path)
            first, most = max(first_line, 1), 2 * self.part_lines
            wanted = lines[first - 1 : last_line or None]
            if not wanted:
                raise ToolExecutionError(f"{path} has {len(lines)} lines", tool_name="read_file")
            more = f"\n(more follows from line {first + most})" if len(wanted) > most else ""
            return numbered(wanted[:most], first) + more

        return Tool("read_file", handler=read_file)

    def _read_for_model(self, path: str) -> list[str]:
        """Lines of a chapter, or of a text beside the chapters; nothing else is opened."""
        known = self._known.get(path)
        file = known.path if known else self._inside(path)
        if file is None:
            names = ", ".join(list(self._known)[:20])
            raise ToolExecutionError(
                f"{clean(path)!r} is no file of the manuscript; its chapters: {names}", tool_name="read_file"
            )
        try:
            return read_lines(file)
        except AnyAgentError as error:
            raise ToolExecutionError(str(error), tool_name="read_file") from error

    def _inside(self, path: str) -> Path | None:
        given = self.novel.get("chapters_path")
        if not isinstance(given, (str, Path)) or "\0" in path:
            return None
        root = Path(given).resolve()
        file = (root / path).resolve()
        is_text = file.suffix in _READABLE and file.is_relative_to(root)
        return file if is_text and file.is_file() else None
