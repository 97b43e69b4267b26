"""The copy editor with a real llama.cpp server whose tiny model babbles: nothing of that becomes an issue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.llama import LlamaServer, start_llama

from any_agent.copy_editor import CopyEditorAgent
from any_agent.copy_editor.command import run_copy_edit, run_demo
from any_agent.copy_editor.score import MANUSCRIPT
from any_agent.types import ToolCompleted

TEXT = "# One\n\nIt was teh best of times.\n"


@pytest.fixture(scope="module")
def llama_roomy(write_model: Callable[..., Path]) -> Iterator[LlamaServer]:
    """Like `llama`, with a window that holds instructions, a chapter of 100 lines and the answer."""
    with start_llama(write_model(ctx=16384), slot_ctx=8192) as server:
        yield server


def novel(folder: Path, text: str = TEXT) -> dict[str, object]:
    (folder / "Chapter1.md").write_text(text, encoding="utf-8")
    return {"title": "A Tale", "chapters_path": folder, "research_output": folder / "out"}


async def test_babble_gives_no_issue(llama: LlamaServer, tmp_path: Path) -> None:
    """Neither the first answer nor the second is JSON; the report says so."""
    agent = CopyEditorAgent("tiny", base_url=llama.base_url, novel_metadata=novel(tmp_path))
    async with agent:
        told = await agent.analyze_novel()
        page = await agent.generate_index_report(told["run_id"])
    (chapter,) = agent.db.load_run().chapters
    assert (told["total_issues"], told["stats"]["rejected"], told["stats"]["failed"]) == (0, 0, [])
    assert (chapter.model, chapter.status) == ("tiny", "done") and chapter.output_tokens > 10
    assert chapter.notes == (
        "lines 1-3: the answer held no JSON list of issues, nor did the answer when asked again; read as plain text it has "
        "no issues",
    )
    assert "read as plain text it has no issues" in page.read_text(encoding="utf-8")


async def test_a_schema_makes_even_babble_json(llama_roomy: LlamaServer, tmp_path: Path) -> None:
    """Held to the schema of issues by the server; what it then says is refused, and listed."""
    from any_agent.copy_editor import ISSUE_FORMAT

    agent = CopyEditorAgent(
        "tiny",
        base_url=llama_roomy.base_url,
        novel_metadata=novel(tmp_path),
        response_format=ISSUE_FORMAT,
        max_tokens=600,
    )
    async with agent:
        told = await agent.analyze_novel()
    (chapter,) = agent.db.load_run().chapters
    assert chapter.status == "done"
    assert not chapter.notes or "max_tokens" in chapter.notes[0]
    for issue in chapter.issues:  # whatever holds stands in the text
        assert TEXT.split("\n")[issue.line_number - 1][issue.column - 1 :].startswith(issue.current_text)
    assert told["total_issues"] == len(chapter.issues)


async def test_a_window_that_holds_nothing_is_told(llama_small: LlamaServer, tmp_path: Path) -> None:
    agent = CopyEditorAgent("tiny", base_url=llama_small.base_url, novel_metadata=novel(tmp_path, "A line.\n" * 40))
    async with agent:
        told = await agent.analyze_novel()
    (chapter,) = agent.db.load_run().chapters
    assert told["stats"]["failed"] == ["Chapter1.md"] and chapter.error.startswith("ContextOverflowError")


async def test_the_model_calls_the_tool(llama_tools: LlamaServer, tmp_path: Path) -> None:
    events: list[object] = []
    agent = CopyEditorAgent(
        "tiny",
        base_url=llama_tools.base_url,
        novel_metadata=novel(tmp_path),
        tools=["read_file"],
        system_prompt="Proofread.",
        observers=[events.append],
    )
    async with agent:
        told = await agent.analyze_novel()
    assert [event.name for event in events if isinstance(event, ToolCompleted)][:1] == ["read_file"]
    assert told["total_issues"] == 0 and told["stats"]["failed"] == []


def test_the_demo_goes_on_without_the_babbler(
    llama_roomy: LlamaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(out=tmp_path, servers=[llama_roomy.base_url]) == 0
    told = capsys.readouterr()
    assert f"Found llamacpp at {llama_roomy.base_url}: tiny" in told.err
    assert "tiny gave no issue that stands in the text. Going on without a model." in told.err
    assert "read by       offline/proofreader" in told.out and "recall 0." in told.out


def test_parts_follow_the_window_and_the_count_of_the_server(
    llama: LlamaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2,048 tokens, and every byte is one: the instructions leave a few lines, and no question is too long."""
    code = run_copy_edit(
        paths=[MANUSCRIPT / "Chapter04.md"], out=tmp_path, provider="llamacpp", model="tiny", base_url=llama.base_url
    )
    told = capsys.readouterr()
    assert code == 0 and "part 9 of " in told.err
    assert "ContextOverflowError" not in told.err and "did not fit" not in told.err
