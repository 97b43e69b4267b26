"""The offline proofreader: its figures on the demo manuscript, its spans, and each of its rules."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from any_agent.copy_editor.proofread import Finding, engine_name, proofread, read_known_words
from any_agent.copy_editor.score import MANUSCRIPT, PlantedError, corrected, load_key, score
from any_agent.copy_editor.words import confusables, misspellings

needs_harper = pytest.mark.skipif(importlib.util.find_spec("harper") is None, reason="needs the extra `proof`")
both_engines = pytest.mark.parametrize("use_extra", [pytest.param(True, marks=needs_harper), False])

KEY = load_key(MANUSCRIPT / "answer_key.json")
KNOWN = read_known_words(MANUSCRIPT / "known_words.txt")
CHAPTERS = {path.name: path.read_text(encoding="utf-8") for path in sorted(MANUSCRIPT.glob("Chapter*.md"))}


def sound(name: str) -> str:
    return corrected(CHAPTERS[name], [planted for planted in KEY if planted.chapter == name])


def check_spans(text: str, findings: list[Finding]) -> None:
    lines = text.split("\n")
    for finding in findings:
        assert finding.current_text
        assert lines[finding.line_number - 1][finding.column - 1 :].startswith(finding.current_text)
        assert finding.suggestion != finding.current_text
    assert findings == sorted(findings, key=lambda finding: (finding.line_number, finding.column))


def applied(text: str, findings: list[Finding]) -> str:
    lines = text.split("\n")
    for finding in reversed(findings):
        line, start = lines[finding.line_number - 1], finding.column - 1
        lines[finding.line_number - 1] = line[:start] + finding.suggestion + line[start + len(finding.current_text) :]
    return "\n".join(lines)


# The manuscript


def test_the_key_names_text_that_stands_in_the_manuscript() -> None:
    assert set(CHAPTERS) == {planted.chapter for planted in KEY}
    assert len(KEY) >= 40
    for planted in KEY:
        line = CHAPTERS[planted.chapter].split("\n")[planted.line_number - 1]
        assert line.count(planted.current_text) == 1
        assert planted.correction != planted.current_text
    for name, text in CHAPTERS.items():
        assert text.startswith("# Chapter ")
        assert 500 < len(text.split()) < 950
        assert len(sound(name).split("\n")) == len(text.split("\n"))


@pytest.mark.parametrize(
    ("use_extra", "recall", "precision"),
    [pytest.param(True, 0.82, 0.94, marks=needs_harper), (False, 0.71, 0.97)],
    ids=["extra", "builtin"],
)
def test_recall_and_precision_on_the_manuscript(use_extra: bool, recall: float, precision: float) -> None:
    findings = {name: proofread(text, known_words=KNOWN, use_extra=use_extra) for name, text in CHAPTERS.items()}
    result = score(findings, KEY)
    assert result.recall >= recall, result.misses
    assert result.precision >= precision, result.false_alarms
    assert result.right_fixes >= 0.95 * len(result.hits)
    for name, found in findings.items():
        check_spans(CHAPTERS[name], found)
    kinds = {planted.kind for planted in result.hits}
    assert kinds == {planted.kind for planted in KEY}, "a kind of error is never found"


@both_engines
def test_sound_chapters_have_hardly_a_finding(use_extra: bool) -> None:
    alarms = [f for name in CHAPTERS for f in proofread(sound(name), known_words=KNOWN, use_extra=use_extra)]
    assert len(alarms) <= (2 if use_extra else 1), alarms


@both_engines
def test_a_second_run_and_other_threads_find_the_same(use_extra: bool) -> None:
    text = CHAPTERS["Chapter02.md"]
    first = proofread(text, known_words=KNOWN, use_extra=use_extra)
    others: list[list[Finding]] = []
    threads = [
        threading.Thread(target=lambda: others.append(proofread(text, known_words=KNOWN, use_extra=use_extra)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert others == [first] * 3
    assert first


# The engine


def test_the_engine_names_what_ran() -> None:
    assert engine_name(use_extra=False) == "built-in rules"
    if importlib.util.find_spec("harper"):
        assert engine_name().startswith("harper-py ")
    assert engine_name().endswith("built-in rules")


@needs_harper
def test_the_extra_is_imported_at_its_first_use_only() -> None:
    code = """if True:
        import sys
        from any_agent.copy_editor.proofread import engine_name, proofread
        engine_name()
        assert proofread("A teh.", use_extra=False)
        assert not {"harper", "quire_grammar"} & sys.modules.keys()
        assert proofread("A teh.")
        assert "harper" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_the_builtin_rules_run() -> None:
    # `-S` and an explicit path: an interpreter that sees our sources and no installed package.
    root = str(MANUSCRIPT.parents[2])
    code = f"""if True:
        import sys
        sys.path.insert(0, {root!r})
        from any_agent.copy_editor.proofread import engine_name, proofread
        assert engine_name() == "built-in rules", engine_name()
        print([f.suggestion for f in proofread("She could of gone to the the end of a alley.")])
    """
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['have gone', 'the', 'an alley']"


@needs_harper
def test_known_words_and_repeated_coinages_are_right() -> None:
    text = "She went to the zorbel. He saw a florp there."
    assert [finding.current_text for finding in proofread(text)] == ["zorbel", "florp"]
    assert [finding.current_text for finding in proofread(text, known_words=["the Zorbel"])] == ["florp"]
    assert proofread("A florp came. The florp ate. We liked the florp's song.") == []


@needs_harper
def test_spelling_is_right_if_british_or_american_english_has_it() -> None:
    text = "The grey harbour and the gray harbor. They realised and realized the colour or color of the centre."
    assert proofread(text) == []


@needs_harper
def test_unknown_names_compounds_and_dialect_are_no_errors() -> None:
    text = (
        "They walked to Brambleholt with Mrs. Quiverley. “I saw 'im by the 'ouse,” said Wexcombe. It was a "
        "fleshless face by the mousehole, in the upper-worlders' *gemeinschaft*."
    )
    assert proofread(text) == []


@needs_harper
def test_a_word_of_any_length_is_safe() -> None:
    assert [finding.current_text for finding in proofread("a" * 200_000 + " teh")] == ["teh"]


# Spans


@both_engines
def test_line_numbers_hold_in_markdown_with_any_line_ends(use_extra: bool) -> None:
    text = (
        "---\ntitle: teh\n---\n# One\r\n\r\nShe gave it to\r\nto him. He could of\r\n"
        "gone.\r\n\n```\nteh teh\n```\n\nSee `teh` and https://example.org/teh now,, 😀 teh end.\n"
    )
    found = proofread(text, use_extra=use_extra)
    check_spans(text, found)
    assert [(f.line_number, f.current_text, f.suggestion) for f in found] == [
        (7, "to him", "him"),
        (7, "of", "have"),
        (14, "now,,", "now,"),
        (14, "teh end", "the end"),
    ]


def test_current_text_is_unique_on_its_line() -> None:
    text = "There was there a house; and there hands were there, near the the river and the the hill."
    found = proofread(text, use_extra=False)
    assert all(text.count(finding.current_text) == 1 for finding in found)
    assert applied(text, found) == ("There was there a house; and their hands were there, near the river and the hill.")


PIECES = (
    "the the,, a apple an it's its their there could of teh Watson Watsen “ ” \" ' * _ # ` | - — . .. ! \n \n\n \r\n "
    "😀 é i don't dont he gone seen <!-- --> ``` > 1. http://x.y"
)
prose_texts = st.lists(st.sampled_from(PIECES.split(" ")), max_size=60).map(" ".join)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(prose_texts)
def test_spans_are_exact_in_any_text(text: str) -> None:
    lines = text.split("\n")
    for finding in proofread(text, use_extra=False):
        assert finding.current_text
        assert lines[finding.line_number - 1][finding.column - 1 :].startswith(finding.current_text)


@pytest.mark.parametrize("unit", ["'a ", '"a ', "<!-- ", "the the ", "` ", "a,, ", "_a", "[", "A B "])
def test_long_lines_take_linear_time(unit: str) -> None:
    proofread(unit * 4000, use_extra=False)  # seconds instead of minutes; the suite's time limit is the check


# The built-in rules


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("He sat on on the wall.", "He sat on the wall."),
        ("It was a honest mistake by an European.", "It was an honest mistake by a European."),
        ("An unicorn met a owl.", "A unicorn met an owl."),
        ("We waited, , and left.", "We waited, and left."),
        ("We left;; it rained.. Then", "We left; it rained. Then"),
        ("It was cold. the wind blew.", "It was cold. The wind blew."),
        ("Then i said that i'm ill.", "Then I said that I'm ill."),
        ("On monday we recieved definately more.", "On Monday we received definitely more."),
        ("You should of said it wouldnt fit.", "You should have said it wouldn't fit."),
        ("Its a pity. The dog lost it's bone.", "It's a pity. The dog lost its bone."),
        ("Your not at home in you're house.", "You're not at home in your house."),
        ("Their is a light in there eyes.", "There is a light in their eyes."),
        ("She is older then me, and taller then ever.", "She is older than me, and taller than ever."),
        ("He was to late too the feast.", "He was too late to the feast."),
        ("Do not loose heart; take a deep breathe.", "Do not lose heart; take a deep breath."),
        ("I do not know weather he past away.", "I do not know whether he passed away."),
        ("The strange affects wore off.", "The strange effects wore off."),
        ("We was ready, and the boats was gone.", "We were ready, and the boats were gone."),
        ("One of the old doors are open.", "One of the old doors is open."),
        ("He did not moved, she had went, and I seen it.", "He did not move, she had gone, and I saw it."),
        (
            "They never stopped. She did not cried, moved or stopped.",
            "They never stopped. She did not cry, moved or stopped.",
        ),
    ],
)
def test_builtin_rules_put_it_right(wrong: str, right: str) -> None:
    found = proofread(wrong, use_extra=False)
    assert applied(wrong, found) == right
    assert proofread(right, use_extra=False) == []


@pytest.mark.parametrize(
    "text",
    [
        "He had had enough; that that was so was very, very clear.",
        "It took an hour, a one-eyed man, an MP, a unit, a ewe and an heir.",
        "Mr. and Mrs. Hill met Dr. Low at approx. ten. “Wait!” he said. So... they waited.",
        "“We was lost, and he don't know,” said the guard.",
        "Could of course it be? Its colour, your own, their way, and there they were.",
        "The news was good; the class was full; one of the men who were there is here.",
        "He needed to proceed. She did not need or heed it.",
        "I'm off; it's a fine day. See p. 4, etc. and so on.",
    ],
)
def test_builtin_rules_leave_sound_prose_alone(text: str) -> None:
    assert proofread(text, use_extra=False) == []


def test_a_rare_variant_of_a_name_is_a_consistency_finding() -> None:
    text = (
        "Then Harriet came. We saw Harriet and, later, Harriet again. Then Hariet left with Peter.\n\n"
        "“Give it to Pete,” said Peter, and Peter smiled. They saw Peters face."
    )
    found = proofread(text, use_extra=False)
    assert [(f.current_text, f.suggestion, f.category) for f in found] == [
        ("Hariet", "Harriet", "consistency"),
        ("Peters", "Peter's", "mechanical"),
    ]
    assert proofread(text, known_words=["Hariet", "Peters"], use_extra=False) == []


def test_the_word_lists_are_sane() -> None:
    wrong = misspellings()
    assert len(wrong) > 500
    assert not set(wrong) & {word for right in wrong.values() for word in right.split()}
    assert len(confusables()) > 100
    for pattern in confusables():
        assert "x" in pattern.regex.groupindex
        assert not pattern.regex.search("")


# The score


@dataclass(frozen=True)
class Guess:
    line_number: int
    column: int
    current_text: str
    suggestion: str


def test_a_hit_overlaps_the_planted_text_on_its_line() -> None:
    key = [
        PlantedError("a.md", 2, 5, "teh", "the", "mechanical", "spelling"),
        PlantedError("a.md", 3, 1, "Its a", "It's a", "grammar", "apostrophe"),
        PlantedError("b.md", 2, 5, "and and", "and", "mechanical", "repeated word"),
    ]
    guesses = {
        "a.md": [
            Guess(2, 1, "see teh end", "see the end"),  # wider, the right fix
            Guess(3, 1, "Its", "It's"),  # narrower, the right fix
            Guess(3, 6, "fine", "fine day"),  # behind the planted text
            Guess(4, 5, "teh", "the"),  # another line
        ],
        "b.md": [Guess(2, 9, "and", "or")],  # overlaps, the wrong fix
        "c.md": [Guess(2, 5, "teh", "the")],  # another chapter
    }
    result = score(guesses, key)
    assert result.recall == 1
    assert result.precision == pytest.approx(3 / 6)
    assert result.hits == tuple(key)
    assert result.misses == ()
    assert result.right_fixes == 2
    assert [(alarm.chapter, alarm.finding.line_number) for alarm in result.false_alarms] == [
        ("a.md", 3),
        ("a.md", 4),
        ("c.md", 2),
    ]
    nothing = score({}, key)
    assert (nothing.recall, nothing.precision, nothing.misses) == (0, 1, tuple(key))


def test_a_key_that_does_not_fit_the_text_is_refused() -> None:
    with pytest.raises(ValueError, match="Chapter01.md:1 does not read 'x'"):
        corrected("# y\n", [PlantedError("Chapter01.md", 1, 3, "x", "y", "mechanical", "spelling")])
    with pytest.raises(ValueError, match="Chapter01.md:9"):
        corrected("# y\n", [PlantedError("Chapter01.md", 9, 3, "x", "y", "mechanical", "spelling")])
