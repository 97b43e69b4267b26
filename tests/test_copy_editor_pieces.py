"""The pieces of the copy editor: chapters and parts, answers, the check of each issue, the offline model, the tracking."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from any_agent import Agent
from any_agent.copy_editor.answers import find_issue_list, read_text_issues
from any_agent.copy_editor.chapters import (
    Part,
    chars_for_window,
    chars_that_fit,
    find_chapters,
    halves,
    numbered,
    read_lines,
    read_numbered,
    split_parts,
)
from any_agent.copy_editor.issues import Issue, Rejected, check_issue, without_repeats
from any_agent.copy_editor.offline_model import NAME, REFUSAL, OfflineProofreader
from any_agent.copy_editor.prompts import known_words_in, system_prompt
from any_agent.copy_editor.records import ChapterRecord
from any_agent.copy_editor.tracking import CopyEditDatabase
from any_agent.errors import ConfigurationError, InvalidInputError, MemoryStoreError
from any_agent.types import StreamEnd, TextDelta, Usage

LINES = ["# One", "", "It was teh best", "of times, it was", "the worst of “times”", "said the cat."]


def said(**changes: Any) -> dict[str, Any]:
    """What a model says of line 3."""
    issue = {"line_number": 3, "category": "mechanical", "severity": "high", "current_text": "teh"}
    return {**issue, "issue_text": "misspelt", "suggestion": "the", **changes}


def issue(**changes: Any) -> Issue:
    found = check_issue(said(**changes), LINES)
    assert isinstance(found, Issue), found
    return found


# ------------------------------------------------------------------ chapters and parts


def test_chapters_come_in_the_order_people_count(tmp_path: Path) -> None:
    for name in ("Chapter10.md", "Chapter2.md", "Chapter1.md", "notes.md", "chapter-Chapter1.md.bak"):
        (tmp_path / name).write_text("x")
    found = find_chapters([tmp_path, tmp_path / "Chapter2.md"])
    assert [chapter.chapter_id for chapter in found] == ["Chapter1.md", "Chapter2.md", "Chapter10.md"]


def test_chapters_of_two_folders_have_two_names(tmp_path: Path) -> None:
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "Chapter1.md").write_text("x")
    found = find_chapters([tmp_path / "one", tmp_path / "two"])
    assert [chapter.chapter_id for chapter in found] == ["one/Chapter1.md", "two/Chapter1.md"]


def test_a_path_without_chapters_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("x")
    with pytest.raises(ConfigurationError, match=r"holds no Chapter\*\.md; it has other files"):
        find_chapters([tmp_path])
    with pytest.raises(ConfigurationError, match="there is no"):
        find_chapters([tmp_path / "missing.md"])


def test_lines_are_read_as_editors_count_them(tmp_path: Path) -> None:
    path = tmp_path / "Chapter1.md"
    path.write_bytes("\ufeffone\r\ntwo\u2028still two\r\n".encode())
    assert read_lines(path) == ["one", "two\u2028still two"]
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InvalidInputError, match=r"no UTF-8 text \(byte 3\)"):
        read_lines(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_lines(tmp_path / "missing.md")


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12), min_size=1),
    st.integers(1, 3000),
)
def test_numbered_lines_are_read_back(lines: list[str], first: int) -> None:
    assert read_numbered(f"Chapter: x\n\n{numbered(lines, first)}\n\nReturn JSON") == (first, lines)


def test_text_without_numbers_is_no_chapter() -> None:
    assert read_numbered("What is the time?\n| a | b |\n") is None


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["", "short", "a longer line of prose", "x" * 90]), min_size=1, max_size=120),
    st.integers(1, 40),
    st.integers(1, 400),
)
def test_parts_cover_every_line_and_keep_their_size(lines: list[str], part_lines: int, part_chars: int) -> None:
    parts = split_parts(lines, part_lines, part_chars)
    covered = {number for part in parts for number in range(part.first_line, part.last_line + 1)}
    assert covered == set(range(1, len(lines) + 1))
    for before, part in zip([None, *parts], parts, strict=False):
        size = part.last_line - part.first_line + 1
        new = part.last_line - (before.last_line if before else 0)
        chars = sum(len(line) + 1 for line in lines[part.first_line - 1 : part.last_line])
        assert new >= 1
        assert size <= part_lines + 1  # one new line beside the overlap, at least
        assert chars <= part_chars + part_chars // 4 + 92 * 2 or new == 1
        assert before is None or part.first_line <= before.last_line + 1


def test_parts_end_between_paragraphs_and_overlap() -> None:
    lines = ["line one of it", "line two of it", ""] * 40
    parts = split_parts(lines, 50, 12_000)
    assert len(parts) == 3
    for before, part in zip(parts, parts[1:], strict=False):
        assert lines[before.last_line - 1] == "" and lines[part.first_line - 2] == ""
        assert before.last_line - 8 <= part.first_line <= before.last_line
    assert split_parts(lines, 120, 12_000) == [parts[0].__class__(1, 120)]


def test_a_small_window_makes_small_parts() -> None:
    assert chars_for_window(2_000) < chars_for_window(4_096) < chars_for_window(8_192) <= 12_000
    assert chars_for_window(128_000) == 12_000
    assert chars_for_window(100) == 800


def test_what_a_server_counted_is_believed() -> None:
    assert chars_that_fit(2_048, 1_700, 1.0) == 261, "less than the least that is guessed"
    assert chars_that_fit(2_048, 600, 0.3) == 2_172 and chars_that_fit(128_000, 600, 0.3) == 12_000
    assert chars_that_fit(512, 1_700, 1.0) == 1


def test_halves_part_between_paragraphs() -> None:
    lines = ["a", "b", "", "c", "d", "e", "f", "g"]
    assert halves(lines, Part(1, 8)) == (Part(1, 3), Part(4, 8))
    assert halves(["x"] * 5, Part(1, 5)) == (Part(1, 2), Part(3, 5))
    assert halves(lines, Part(4, 5)) == (Part(4, 4), Part(5, 5)) and halves(lines, Part(4, 4)) is None


# ------------------------------------------------------------------ the check of each issue


def test_a_sound_issue() -> None:
    found = check_issue(said(category=" Mechanical ", severity="HIGH", line_number="3"), LINES)
    assert found == Issue(
        3, 8, "teh", "mechanical", "high", "misspelt", "the", "\nIt was teh best\nof times, it was", None
    )
    assert isinstance(found, Issue)
    assert (found.line_text, found.corrected_line) == ("It was teh best", "It was the best")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"current_text": "the best"}, "its text is not on line 3, and on no other"),
        ({"line_number": 99, "current_text": "nowhere"}, "there is no line 99 (the chapter has 6), and on no other"),
        ({"line_number": 99, "current_text": "was"}, "there is no line 99 (the chapter has 6), and on 2 others"),
        ({"line_number": 1, "current_text": "the"}, "its text is not on line 1, and on 2 others"),
        ({"line_number": 0, "current_text": "wor"}, "there is no line 0"),
        ({"line_number": 2.5}, "line_number 2.5 is no whole number"),
        ({"line_number": True}, "line_number True is no whole number"),
        ({"line_number": "3-4"}, "line_number '3-4' is no whole number"),
        ({"category": "spelling"}, "category 'spelling' is not one of mechanical, grammar, consistency, style"),
        ({"severity": "urgent"}, "severity 'urgent' is not one of critical, high, medium, low"),
        ({"issue_text": ""}, "it has no issue_text"),
        ({"current_text": None, "severity": ""}, "it has no severity, current_text"),
        ({"current_text": "  "}, "it quotes no text"),
        ({"suggestion": "teh"}, "its suggestion changes nothing"),
    ],
)
def test_what_does_not_hold_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    verdict = check_issue(said(**changes), LINES)
    assert isinstance(verdict, str) and (verdict == reason or verdict.startswith(reason)), verdict


def test_no_object_is_refused() -> None:
    assert check_issue("line 3", LINES) == "it is no JSON object"


def test_a_wrong_number_is_mended_only_where_the_text_stands_on_one_other_line() -> None:
    moved = issue(line_number=1)
    assert (moved.line_number, moved.column, moved.said_line) == (3, 8, 1)
    assert issue(line_number=99).said_line == 99
    assert isinstance(check_issue(said(line_number=3, current_text="was the"), LINES), str)


def test_plain_quotes_stand_for_typographic_ones() -> None:
    found = issue(line_number=5, current_text='"times"', suggestion="“time”")
    assert (found.current_text, found.column) == ("“times”", 14)


def test_what_a_file_cannot_hold_is_left_out() -> None:
    found = issue(issue_text="a\ud800b\x1b[31mc", suggestion="th\x00e")
    assert (found.issue_text, found.suggestion) == ("a?b[31mc", "the")
    assert Rejected.of("why", {"x": "\ud800" + "y" * 900}).raw.endswith("…")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9), st.lists, max_leaves=5), st.text())
def test_strange_values_are_refused_or_hold(value: Any, text: str) -> None:
    for name in said():
        verdict = check_issue(said(**{name: value}), [*LINES, text])
        if isinstance(verdict, Issue):
            line = [*LINES, text][verdict.line_number - 1]
            assert line[verdict.column - 1 :].startswith(verdict.current_text)


def test_repeats_of_overlapping_parts_are_listed_once() -> None:
    again = issue(current_text="teh best", suggestion="the best", issue_text="a typo")
    other = issue(line_number=4, current_text="it was", suggestion="it is")
    quoted = issue(suggestion="", issue_text="what is this?")
    second = issue(suggestion="ten", issue_text="or ten?")
    kept, repeats = without_repeats([[issue(), other, second, issue()], [again, quoted]])
    assert kept == [issue(), second, other] and repeats == 3


# ------------------------------------------------------------------ answers

ONE, TWO = said(), said(line_number=4)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ONE, TWO]),
        json.dumps({"issues": [ONE, TWO]}, indent=2),
        f"Here they are:\n```json\n{json.dumps([ONE, TWO])}\n```\nI hope this helps [as asked].",
        f"<think>[{{'draft']</think>{json.dumps({'issues': [ONE, TWO]})}",
        json.dumps({"mechanical": [ONE], "grammar": [TWO], "note": "two"}),
        f"{json.dumps(ONE)}\n{json.dumps(TWO)}\n",
        json.dumps([ONE, TWO])[:-1] + ",]",
        f"[see below] {json.dumps([ONE])} and {json.dumps([TWO])}",
    ],
    ids=["array", "object", "fenced", "thinking", "by kind", "lines", "trailing comma", "two arrays"],
)
def test_the_list_is_found_wherever_it_stands(text: str) -> None:
    assert find_issue_list(text) == [ONE, TWO]


@pytest.mark.parametrize("text", ["[]", '{"issues": []}', "There is nothing to say: []", "```json\n[]\n```"])
def test_an_empty_list_is_an_answer(text: str) -> None:
    assert find_issue_list(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No issues found.",
        "{}",
        "[1, 2]",
        json.dumps([ONE, TWO])[:-20],
        json.dumps({"issues": [ONE, {**TWO, "tags": []}]})[:-20],
        json.dumps({"a": [ONE], "b": [TWO]})[:-20],
        "{'issues': [{'line_number': 3}]}",
        "[" * 100_000,
        '{"a":' * 5_000,
    ],
    ids=["empty", "prose", "no list", "numbers", "cut", "cut with lists", "cut by kind", "python", "deep", "deeper"],
)
def test_what_is_no_whole_list_is_none(text: str) -> None:
    assert find_issue_list(text) is None


def test_whole_objects_of_a_cut_answer_are_read() -> None:
    assert read_text_issues(json.dumps({"issues": [ONE, TWO, ONE]})[:-30]) == [ONE, TWO]


def test_sentences_are_read() -> None:
    text = """Here is what I found:
    1. **Line 3** (mechanical, high): "teh" should be "the". A typo.
    - line 4: `it was` → `it is` (grammar)
    Line 5 is fine."""
    first, second, third = read_text_issues(text)
    assert check_issue(first, LINES) == issue(issue_text=first["issue_text"])
    assert (second["current_text"], second["suggestion"], second["category"]) == ("it was", "it is", "grammar")
    assert check_issue(third, LINES) == "it has no current_text"
    assert read_text_issues("hello, I am a model and I like headlines") == []


@given(st.text(alphabet='line 0123"`“”→[]{}:,\n'))
def test_no_text_breaks_the_reading(text: str) -> None:
    find_issue_list(text)
    for one in read_text_issues(text):
        check_issue(one, LINES)


# ------------------------------------------------------------------ the offline model


async def test_the_offline_model_says_what_it_is() -> None:
    agent = Agent(OfflineProofreader(use_extra=False))
    answer = await agent.query("What is the capital of Norway?")
    assert answer == REFUSAL and answer.count(".") == 1 and answer.endswith(".")
    assert "no language model" in answer and "--model" in answer
    assert (answer.model, answer.cost_usd, answer.finish_reason) == (NAME, 0.0, "stop")
    assert answer.usage is not None and answer.usage.is_estimated
    assert answer.usage.output_tokens > 20 > answer.usage.input_tokens > 0


async def test_the_offline_model_streams_issues_of_numbered_lines() -> None:
    model = OfflineProofreader(use_extra=False)
    agent = Agent(model, system_prompt=system_prompt(known_words=["Teh", "Ab Cd"]))
    chunks = [chunk async for chunk in agent.stream_query(numbered(["It was was so.", "He could of gone."], 7))]
    assert len(chunks) > 4 and max(map(len, chunks)) < 60
    found = json.loads("".join(chunks))["issues"]
    assert [(one["line_number"], one["current_text"], one["suggestion"]) for one in found] == [
        (7, "was was", "was"),
        (8, "of", "have"),
    ]
    assert all(
        isinstance(check_issue(one, ["x"] * 6 + ["It was was so.", "He could of gone."]), Issue) for one in found
    )


async def test_where_a_part_begins_no_capital_is_missed() -> None:
    agent = Agent(OfflineProofreader(use_extra=False))
    text = ["and so it went on.", "", "and then it ended."]
    whole = json.loads(await agent.query(numbered(text)))["issues"]
    part = json.loads(await agent.query(numbered(text, 40)))["issues"]
    assert [one["line_number"] for one in whole] == [1, 3]
    assert [one["line_number"] for one in part] == [42]


async def test_the_offline_model_ends_in_one_end() -> None:
    from any_agent.types import ModelRequest, UserMessage

    deltas = [d async for d in OfflineProofreader().stream(ModelRequest([UserMessage("hi")]))]
    assert [type(d) for d in deltas if not isinstance(d, TextDelta)] == [StreamEnd]
    end = deltas[-1]
    assert isinstance(end, StreamEnd) and isinstance(end.usage, Usage)


def test_known_words_reach_the_model() -> None:
    assert known_words_in(system_prompt("Use \nshort words.", ["Bobbie", "Jabez Wilson"])) == ["Bobbie", "Jabez Wilson"]
    assert known_words_in(system_prompt("No words.")) == []


# ------------------------------------------------------------------ tracking

RECORD = ChapterRecord(
    "Chapter1.md", 6, "hash", "done", (issue(), issue(line_number=1)), (Rejected("why", "{}"),), 1, ("a note",), "m",
    10, 20, 0.5, 1.5,
)  # fmt: skip


def begun(db: CopyEditDatabase, *, mark: str = "f", chapters: str = "12", resume: bool = True) -> int:
    return db.begin_run("T", "m", "", mark, [f"Chapter{number}.md" for number in chapters], resume=resume)


def test_a_run_is_kept_as_it_was(tmp_path: Path) -> None:
    db = CopyEditDatabase(tmp_path / "deep" / "copy.db")
    run_id = begun(db)
    db.save_chapter(run_id, 1, replace(RECORD, issues=()))
    db.save_chapter(run_id, 1, RECORD)
    run = db.load_run(run_id)
    assert run == db.load_run() and run.chapters[0] == RECORD
    assert run.chapters[1].status == "waiting" and run.status == "running"
    stats = run.stats()
    assert (stats["unread"], stats["cost_usd"], stats["by_severity"]["high"]) == (["Chapter2.md"], 0.5, 2)
    with closing_connection(db.path) as raw:
        assert raw.execute("SELECT count(*) FROM issues").fetchone() == (2,)


def closing_connection(path: Path) -> Any:
    from contextlib import closing

    return closing(sqlite3.connect(path))


def test_only_an_unfinished_run_that_asked_the_same_goes_on(tmp_path: Path) -> None:
    db = CopyEditDatabase(tmp_path / "copy.db")
    first = begun(db)
    assert begun(db) == first
    assert begun(db, chapters="123") == first
    assert [c.chapter_id for c in db.load_run(first).chapters] == ["Chapter1.md", "Chapter2.md", "Chapter3.md"]
    fewer = begun(db, chapters="1")
    assert fewer != first
    other = begun(db, chapters="1", mark="g")
    assert other != fewer
    db.finish_run(other, is_whole=False)
    assert begun(db, chapters="1", mark="g") == other
    assert begun(db, chapters="1", mark="g", resume=False) != other
    db.finish_run(other + 1, is_whole=True)
    assert begun(db, chapters="1", mark="g") == other + 2


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database, " * 100)
    with pytest.raises(MemoryStoreError, match="cannot be used: file is not a database"):
        begun(CopyEditDatabase(broken))
    with pytest.raises(MemoryStoreError, match="cannot be used"):
        begun(CopyEditDatabase(broken / "inside.db"))
    db = CopyEditDatabase(tmp_path / "new.db")
    begun(db)
    with closing_connection(db.path) as raw:
        raw.execute("PRAGMA user_version = 9")
    with pytest.raises(MemoryStoreError, match="is of version 9"):
        begun(db)
    with pytest.raises(MemoryStoreError, match="knows no run 7"):
        CopyEditDatabase(tmp_path / "empty.db").load_run(7)
