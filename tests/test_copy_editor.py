"""The copy editor over the whole spine: the real manuscript with the offline model, and HTTP with a scripted server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.replay_servers import vllm
from support.seeds import CHAT, asked, calls, roles, says

from any_agent.copy_editor import ISSUE_FORMAT, CopyEditorAgent, Issue, Step
from any_agent.copy_editor.offline_model import NAME, OfflineProofreader
from any_agent.copy_editor.score import MANUSCRIPT, load_key, score
from any_agent.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidInputError,
    MemoryStoreError,
    ServerError,
    ToolExecutionError,
)
from any_agent.testing import (
    LoopbackServer,
    ScriptedModel,
    WireReply,
    WireRequest,
    chat_chunks,
    error,
    sse,
    token_usage,
)
from any_agent.types import ModelRequest, ToolCompleted

TEXT = "# One\n\nIt was teh best\nof times, it was\nthe worst of times.\n"


def chats(server: LoopbackServer) -> list[WireRequest]:
    """The questions to the model; the agent also asks servers about their window."""
    return [request for request in server.requests if request.path == CHAT]


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


def said(**changes: Any) -> dict[str, Any]:
    issue = {"line_number": 3, "category": "mechanical", "severity": "high", "current_text": "teh"}
    return {**issue, "issue_text": "misspelt", "suggestion": "the", **changes}


def answer(*issues: Any) -> list[bytes]:
    return says(*json.dumps({"issues": issues}, indent=1).splitlines(keepends=True))


def novel(folder: Path, *texts: str) -> dict[str, Any]:
    """A novel with these chapters."""
    (folder / "text").mkdir(exist_ok=True)
    for number, text in enumerate(texts, 1):
        (folder / "text" / f"Chapter{number}.md").write_text(text, encoding="utf-8")
    return {"title": "A Tale", "chapters_path": str(folder / "text"), "research_output": folder / "out"}


def editor(server: LoopbackServer, metadata: dict[str, Any], **fields: Any) -> CopyEditorAgent:
    return CopyEditorAgent(
        provider="lm_studio",
        model="m",
        novel_metadata=metadata,
        api_base=server.base_url,
        **{"max_retries": 0, **fields},
    )


async def run(agent: CopyEditorAgent, **how: Any) -> dict[str, Any]:
    async with agent:
        return await agent.analyze_novel(**how)


# ------------------------------------------------------------------ the offline model, the real manuscript


async def test_the_manuscript_through_the_whole_spine(tmp_path: Path) -> None:
    events: list[Any] = []
    steps: list[Step] = []
    agent = CopyEditorAgent(
        OfflineProofreader(),
        novel_metadata={"title": "Four", "chapters_path": MANUSCRIPT, "research_output": tmp_path},
        tools=["read_file"],
        observers=[events.append],
        on_step=steps.append,
    )
    told = await run(agent)
    page = await agent.generate_index_report(told["run_id"])
    reads = [event for event in events if isinstance(event, ToolCompleted)]
    assert [event.name for event in reads] == ["read_file"] * 4 and not any(event.result.is_error for event in reads)
    assert "   1 | # Chapter 1" in str(reads[0].result.content)
    record = agent.db.load_run()
    assert record.status == "finished" and record.models == [NAME] and told["total_issues"] == len(record.issues)
    assert told["stats"]["cost_usd"] == 0.0 and told["stats"]["output_tokens"] > 1000
    assert (told["stats"]["rejected"], told["stats"]["failed"]) == (0, [])
    result = score({one.chapter_id: one.issues for one in record.chapters}, load_key(MANUSCRIPT / "answer_key.json"))
    assert result.recall >= 0.71 and result.precision >= 0.94
    assert [step.kind for step in steps] == ["part", "done"] * 4
    assert sorted(path.name for path in (tmp_path / "copy-edit").iterdir()) == [
        f"chapter-Chapter0{n}.md" for n in range(1, 5)
    ]
    assert "rule-based, no language model" in page.read_text(encoding="utf-8")
    report = (tmp_path / "copy-edit" / "chapter-Chapter01.md").read_text(encoding="utf-8")
    assert "such a **comotion** up and down" in report and "Suggestion: **commotion**" in report
    assert "rule-based, no language model" in report


async def test_a_tool_or_none_and_parts_or_none_find_the_same(tmp_path: Path) -> None:
    """The chapter in the prompt, read by tool, whole or in parts."""
    found = []
    for fields in ({}, {"tools": ["read_file"]}, {"part_lines": 40}, {"part_chars": 2000, "tools": ["read_file"]}):
        agent = CopyEditorAgent(
            NAME, novel_metadata={"chapters_path": MANUSCRIPT, "research_output": tmp_path}, **fields
        )
        found.append(
            [(one.line_number, one.column) for one in await agent.analyze_chapter(MANUSCRIPT / "Chapter02.md")]
        )
    assert found[0] == found[1] and len(found[0]) >= 8
    assert all(set(one) >= set(found[0]) - {found[0][0]} for one in found[2:])
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ what a model answers


async def test_every_issue_is_checked_and_none_vanishes(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(
        CHAT,
        calls("read_file", '{"path": "Chapter1.md", "first_line": 1, "last_line": 5}'),
        answer(
            said(),
            said(line_number=2, current_text="worst", suggestion="first"),
            said(line_number=3, current_text="never there"),
            said(line_number=77, current_text="nowhere"),
            said(category="spelling"),
            "not an object",
        ),
    )
    agent = editor(server, novel(tmp_path, TEXT), tools=["read_file"])
    told = await run(agent)
    page = await agent.generate_index_report(told["run_id"])
    assert (told["total_issues"], told["stats"]["rejected"]) == (2, 4)
    assert [m["role"] for m in asked(server)["messages"]] == ["system", "user", "assistant", "tool"]
    assert asked(server)["messages"][3]["content"].split("\n")[2] == "   3 | It was teh best"
    assert "teh best" not in asked(server, 0)["messages"][1]["content"]
    (chapter,) = agent.db.load_run().chapters
    assert [(one.line_number, one.said_line) for one in chapter.issues] == [(3, None), (5, 2)]
    report = (tmp_path / "out/copy-edit/chapter-Chapter1.md").read_text()
    for reason in (
        "its text is not on line 3, and on no other",
        "there is no line 77 (the chapter has 5), and on no other",
        "category 'spelling' is not one of",
        "it is no JSON object",
    ):
        assert reason in report.replace("\\", "") and reason.replace("'", "&#x27;") in page.read_text()
    assert "(the model said line 2)" in report


async def test_what_is_sent(server: LoopbackServer, tmp_path: Path) -> None:
    """Only what every server takes, unless more is asked for."""
    server.reply(CHAT, answer())
    metadata = novel(tmp_path, TEXT)
    (tmp_path / "text" / "style_guide.md").write_text("Numbers in words.")
    (tmp_path / "text" / "known_words.txt").write_text("# names\nBobbie\nJabez Wilson\n")
    await run(editor(server, metadata))
    assert asked(server).keys() == {"model", "messages", "stream", "stream_options", "temperature"}
    system, user = (message["content"] for message in asked(server)["messages"])
    assert system.startswith("You are a professional copy editor") and "Numbers in words." in system
    assert "right as they stand: Bobbie; Jabez Wilson" in system
    assert "   3 | It was teh best\n   4 | of times, it was" in user and "Chapter: Chapter1.md" in user
    await run(editor(server, metadata, response_format=ISSUE_FORMAT, temperature=None, max_tokens=900))
    assert asked(server)["response_format"] == ISSUE_FORMAT and asked(server)["max_tokens"] == 900
    assert "temperature" not in asked(server)


async def test_broken_json_is_asked_for_again(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(CHAT, says('{"issues": [{"line_number": 3, "categ'), answer(said()))
    agent = editor(server, novel(tmp_path, TEXT))
    assert (await run(agent))["total_issues"] == 1
    assert roles(server) == ["system", "user", "assistant", "user"]
    assert "That is not the JSON I asked for" in asked(server)["messages"][-1]["content"]
    assert agent.db.load_run().chapters[0].notes == ("lines 1-5: the answer was JSON only when asked for again",)


async def test_an_answer_without_json_is_read_as_text(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(CHAT, says("Well."), says('Line 3 (high): "teh" should be "the". Line 9: "x".'))
    agent = editor(server, novel(tmp_path, TEXT))
    told = await run(agent)
    (chapter,) = agent.db.load_run().chapters
    assert (told["total_issues"], told["stats"]["rejected"], len(chats(server))) == (1, 1, 2)
    assert chapter.issues[0].suggestion == "the" and chapter.issues[0].severity == "high"
    assert "read as plain text it has 2 issues" in chapter.notes[0]
    assert "read as plain text it has 2 issues" in (tmp_path / "out/copy-edit/chapter-Chapter1.md").read_text()


async def test_a_cut_answer_is_not_asked_for_again(server: LoopbackServer, tmp_path: Path) -> None:
    text = json.dumps({"issues": [said(), said(line_number=4, current_text="it was", suggestion="it is")]})[:-30]
    server.reply(CHAT, sse(chat_chunks(text, finish_reason="length", usage=token_usage(50, 900))))
    agent = editor(server, novel(tmp_path, TEXT))
    told = await run(agent)
    assert (told["total_issues"], len(chats(server)), told["stats"]["output_tokens"]) == (1, 1, 900)
    assert "was cut off at max_tokens; read as plain text it has 1 issue" in agent.db.load_run().chapters[0].notes[0]


async def test_a_part_that_does_not_fit_is_asked_in_halves(server: LoopbackServer, tmp_path: Path) -> None:
    def reply(request: Any) -> Any:
        text = request.json["messages"][1]["content"]
        if text.count(" | ") > 20:
            return error(400, "too long", type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=2048)
        return answer(said(line_number=30)) if "  30 | " in text else answer()

    server.reply(CHAT, reply)
    agent = editor(server, novel(tmp_path, "plain\n" * 29 + "teh\n" + "plain\n" * 10))
    assert (await run(agent))["total_issues"] == 1
    assert len(chats(server)) == 3
    assert "lines 1-40 did not fit the model's window and were asked in halves" in agent.db.load_run().chapters[0].notes


async def test_parts_are_cut_smaller_until_they_fit_and_each_line_is_asked_once(
    server: LoopbackServer, tmp_path: Path
) -> None:
    """A server that tells no window and does not count; its refusals have figures."""
    most, taken, refused = 700, [], []

    def reply(request: Any) -> Any:
        lines = re.findall(r"^ *(\d+) \| (.*)$", request.json["messages"][1]["content"], re.MULTILINE)
        tokens = sum(len(line) for _, line in lines)
        if tokens > most:
            refused.append(lines)
            return error(400, "too long", type="exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=most)
        taken.extend(int(number) for number, line in lines if line)
        return answer(said(line_number=91)) if any(number == "91" for number, _ in lines) else answer()

    server.reply(CHAT, reply)
    text = "\n".join(f"teh {'word ' * 18}" if n in (90, 91) else "word " * 19 if n % 3 else "" for n in range(1, 120))
    agent = editor(server, novel(tmp_path, text))
    assert (await run(agent))["total_issues"] == 1
    assert taken == [n for n in range(1, 120) if n % 3 or n == 90]
    assert len({repr(one) for one in refused}) <= 5, "what is as long as a refused part is not tried"
    (chapter,) = agent.db.load_run().chapters
    assert chapter.status == "done" and any("asked in halves" in note for note in chapter.notes)


async def test_a_window_that_holds_nothing_is_found_out_soon(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(CHAT, error(400, "too long", type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=2048))
    agent = editor(server, novel(tmp_path, "plain\n" * 120))
    assert (await run(agent))["stats"]["failed"] == ["Chapter1.md"]
    assert len({one.body for one in chats(server)}) <= 8


async def test_a_stream_that_breaks_is_asked_for_again(server: LoopbackServer, tmp_path: Path) -> None:
    broken = WireReply(answer(said())[:3], headers={"Content-Type": "text/event-stream"}, close_abruptly="cut")
    server.reply(CHAT, broken, answer(said()), broken)
    agent = editor(server, novel(tmp_path, TEXT, TEXT))
    told = await run(agent)
    first, second = agent.db.load_run().chapters
    assert len(first.issues) == 1 and "broke off" in first.notes[0]
    assert told["stats"]["failed"] == ["Chapter2.md"] and second.error.startswith("StreamInterruptedError")


# ------------------------------------------------------------------ stopping and going on


async def test_a_run_that_failed_goes_on_where_it_was(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(CHAT, answer(said()), error(500, "out of memory"), answer(said()))
    metadata = novel(tmp_path, TEXT, TEXT, TEXT)
    agent = editor(server, metadata)
    with pytest.raises(ServerError, match="out of memory"):
        await run(agent)
    stopped = agent.db.load_run()
    assert [one.status for one in stopped.chapters] == ["done", "waiting", "waiting"]
    assert stopped.status == "incomplete" and agent.run_id == stopped.run_id
    page = await agent.generate_index_report()
    assert "0 chapters failed, 2 were not read yet" in page.read_text()

    (tmp_path / "out/copy-edit/chapter-Chapter1.md").unlink()
    steps: list[Step] = []
    told = await run(editor(server, metadata, on_step=steps.append))
    assert told["run_id"] == stopped.run_id and told["total_issues"] == 3 and len(chats(server)) == 4
    assert [step.kind for step in steps] == ["kept", "part", "done", "part", "done"]
    assert (tmp_path / "out/copy-edit/chapter-Chapter1.md").exists()
    assert (await run(editor(server, metadata)))["run_id"] == told["run_id"] + 1  # that one was finished


@pytest.mark.parametrize(
    ("change", "asked_again"),
    [("nothing", 1), ("the chapter", 2), ("the style guide", 2), ("begin anew", 2)],
)
async def test_only_an_unchanged_chapter_is_kept(
    server: LoopbackServer, tmp_path: Path, change: str, asked_again: int
) -> None:
    refusal = error(401, "no")
    server.reply(CHAT, answer(said()), refusal, answer())
    metadata = novel(tmp_path, TEXT, TEXT)
    with pytest.raises(AuthenticationError):
        await run(editor(server, metadata))
    if change == "the chapter":
        (tmp_path / "text/Chapter1.md").write_text(TEXT + "More.\n")
    if change == "the style guide":
        (tmp_path / "text/style_guide.md").write_text("Be brief.")
    await run(editor(server, metadata), resume=change != "begin anew")
    assert len(chats(server)) - 2 == asked_again


def fitted(server: LoopbackServer, metadata: dict[str, Any], **fields: Any) -> CopyEditorAgent:
    """On a server with a window of 2,048 tokens that counts one for each character."""
    url = server.base_url
    return CopyEditorAgent("tiny", "vllm", metadata, base_url=url, max_retries=0, keep_calibration=False, **fields)


def asked_chapters(server: LoopbackServer) -> list[str]:
    return [re.findall(r"Chapter\d\.md", one.json["messages"][1]["content"])[0] for one in chats(server)]


@pytest.mark.parametrize("change", ["the text", "the server counts no more", "the server tells no window"])
async def test_what_the_server_tells_of_its_window_does_not_discard_a_run(
    server: LoopbackServer, tmp_path: Path, change: str
) -> None:
    vllm(server)
    server.reply(CHAT, lambda asked: error(401, "no") if "Chapter3.md" in str(asked.json["messages"]) else answer())
    text = "One line of the chapter.\n" * 20
    metadata = novel(tmp_path, text, text, text)
    before = fitted(server, metadata)
    with pytest.raises(AuthenticationError):
        await run(before)
    first_run = before.run_id
    if change == "the text":
        (tmp_path / "text/Chapter1.md").write_text(text + "A\n\nB\n\nC\n" * 4)
    elif change == "the server counts no more":
        server.reply("/tokenize", error(500, "busy"))
    else:
        server.reply("/v1/models", error(500, "busy"))
    server.reply(CHAT, answer())
    asked_before = len(chats(server))
    again = fitted(server, metadata)
    told = await run(again)
    assert again.part_chars != before.part_chars and told["run_id"] == first_run
    changed = {"Chapter1.md"} if change == "the text" else set()
    assert set(asked_chapters(server)[asked_before:]) == {"Chapter3.md", *changed}


async def test_parts_of_another_given_length_are_another_run(server: LoopbackServer, tmp_path: Path) -> None:
    server.reply(CHAT, answer(), error(401, "no"), answer())
    metadata = novel(tmp_path, TEXT, TEXT)
    with pytest.raises(AuthenticationError):
        await run(editor(server, metadata, part_chars=500))
    await run(editor(server, metadata, part_chars=400))
    assert len(chats(server)) == 4


@pytest.mark.parametrize("window_tokens", [None, 2048])
def test_parts_are_fitted_as_soon_as_the_server_answers(
    server: LoopbackServer, tmp_path: Path, window_tokens: int | None
) -> None:
    """Also in another event loop, and for chapters that are read at the same time."""
    server.reply(CHAT, error(500, "starting"))
    text = "One line of the chapter.\n" * 60
    agent = fitted(server, novel(tmp_path, text, text), context_window_size=window_tokens)

    async def both() -> list[Any]:
        names = [tmp_path / "text" / f"Chapter{number}.md" for number in (1, 2)]
        return await asyncio.gather(*map(agent.analyze_chapter, names), return_exceptions=True)

    assert [type(one) for one in asyncio.run(both())] == [ServerError, ServerError]
    assert agent.part_chars == (1_965 if window_tokens else 12_000), "guessed, as nobody counts"
    vllm(server)
    server.reply(CHAT, answer())
    before = len(server.requests)
    assert asyncio.run(both()) == [[], []]
    asked_now = [one for one in server.requests[before:] if one.path == CHAT]
    assert agent.part_chars < 800 and len(asked_now) >= 6
    assert all(one.json["messages"][1]["content"].count("One line") <= 30 for one in asked_now), "none was unfitted"
    looks = [one for one in server.requests[before:] if one.path == "/v1/models"]
    before = len(server.requests)
    asyncio.run(both())
    later = [one for one in server.requests[before:] if one.path == "/v1/models"]
    assert len(later) < len(looks), "what was answered is not asked again"


async def test_a_cancelled_run_can_go_on(server: LoopbackServer, tmp_path: Path) -> None:
    stalled = WireReply(answer()[:2], headers={"Content-Type": "text/event-stream"}, stall=True)
    server.reply(CHAT, answer(said()), stalled, answer())
    agent = editor(server, novel(tmp_path, TEXT, TEXT))
    task = asyncio.ensure_future(run(agent))
    while len(chats(server)) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.client_left()
    assert agent.db.load_run().status == "incomplete"
    assert (await run(agent))["total_issues"] == 1 and len(chats(server)) == 3


async def test_trouble_of_one_chapter_does_not_stop_the_others(server: LoopbackServer, tmp_path: Path) -> None:
    overflow = error(400, "too long", type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=2048)
    server.reply(CHAT, lambda asked: overflow if "Chapter1.md" in str(asked.json["messages"]) else answer(said()))
    metadata = novel(tmp_path, TEXT, TEXT, TEXT, "\n\n")
    (tmp_path / "text/Chapter2.md").write_bytes(b"caf\xe9")
    agent = editor(server, metadata)
    told = await run(agent)
    page = await agent.generate_index_report(told["run_id"])
    assert told["stats"]["failed"] == ["Chapter1.md", "Chapter2.md"] and told["total_issues"] == 1
    first, second, _, fourth = agent.db.load_run().chapters
    assert first.error.startswith("ContextOverflowError") and "no UTF-8 text" in second.error
    assert fourth.notes == ("the chapter is empty; nothing was asked",)
    assert len([one for one in chats(server) if "Chapter1.md" not in str(one.json["messages"])]) == 1
    assert "no UTF-8 text" in page.read_text()
    assert "Not read: " in (tmp_path / "out/copy-edit/chapter-Chapter2.md").read_text()


class Slow(ScriptedModel):
    """Counts how many streams are open at once."""

    open_now = most = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Any]:
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        try:
            while self.open_now < 3 and self.most < 3:  # the third one lets all of them go on
                await asyncio.sleep(0)
            async for delta in super().stream(request):
                yield delta
        finally:
            self.open_now -= 1


async def test_jobs_are_read_at_the_same_time(tmp_path: Path) -> None:
    model = Slow([json.dumps([said()])] * 7)
    metadata = novel(tmp_path, *[TEXT] * 7)
    told = await run(CopyEditorAgent(model, novel_metadata=metadata, jobs=3))
    assert model.most == 3 and told["total_issues"] == 7


# ------------------------------------------------------------------ one's own editor


class Own(CopyEditorAgent):
    """Has a taste of its own."""

    def build_system_prompt(self) -> str:
        return super().build_system_prompt() + "\n\nLeave dialect alone."

    def _validate_issues(self, issues: list[Any], lines: list[str]) -> list[Issue]:
        return [issue for issue in super()._validate_issues(issues, lines) if issue.severity != "low"]

    def _parse_text_issues(self, text: str, lines: list[str]) -> list[Any]:
        return [said(current_text=text)]

    async def analyze_chapter(self, chapter_path: str | Path) -> list[Issue]:
        return [issue for issue in await super().analyze_chapter(chapter_path) if issue.category != "style"]


async def test_a_subclass_decides_and_what_it_drops_is_listed(tmp_path: Path) -> None:
    issues = [said(), said(severity="low", current_text="best"), said(category="style", current_text="It was")]
    model = ScriptedModel([json.dumps(issues), "teh", "teh"])
    agent = Own(model, novel_metadata=novel(tmp_path, TEXT, TEXT))
    told = await run(agent)
    first, second = agent.db.load_run().chapters
    assert [one.current_text for one in (*first.issues, *second.issues)] == ["teh", "teh"]
    assert [one.reason for one in first.rejected] == ["Own left it out", "analyze_chapter left it out"]
    assert told["stats"]["rejected"] == 2
    assert "Leave dialect alone." in str(model.requests[0].messages[0])


@pytest.mark.parametrize(
    "path", ["../secret.md", "/etc/hostname", "Chapter1.md/../../secret.md", "link.md", "a.db", "\0"]
)
async def test_only_the_manuscript_can_be_read(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("secret")
    metadata = novel(tmp_path, TEXT)
    (tmp_path / "text" / "link.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "text" / "a.db").write_text("secret")
    (tmp_path / "text" / "notes.txt").write_text("a note")
    agent = CopyEditorAgent(NAME, novel_metadata=metadata, tools=["read_file"], part_lines=2)
    agent.chapters()
    read = agent.tools.get("read_file")
    assert await read.run({"path": "Chapter1.md"}) == (
        "   1 | # One\n   2 | \n   3 | It was teh best\n   4 | of times, it was\n(more follows from line 5)"
    )
    assert await read.run({"path": "notes.txt"}) == "   1 | a note"
    with pytest.raises(ToolExecutionError, match="Chapter1.md has 5 lines"):
        await read.run({"path": "Chapter1.md", "first_line": 8, "last_line": 9})
    with pytest.raises(ToolExecutionError, match="is no file of the manuscript; its chapters: Chapter1.md"):
        await read.run({"path": path})


async def test_wrong_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="part_lines=0"):
        CopyEditorAgent(NAME, part_lines=0)
    with pytest.raises(ConfigurationError, match="no 'chapters_path'"):
        await CopyEditorAgent(NAME, novel_metadata={"research_output": tmp_path}).analyze_novel()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        await CopyEditorAgent(NAME).analyze_chapter(tmp_path / "Chapter1.md")
    metadata = {**novel(tmp_path, TEXT), "style_guide": tmp_path / "none.md"}
    with pytest.raises(ConfigurationError, match="style_guide: there is no file"):
        await CopyEditorAgent(NAME, novel_metadata=metadata).analyze_novel()
    (tmp_path / "out").write_text("a file in the way")
    with pytest.raises(MemoryStoreError, match="cannot be used"):
        await CopyEditorAgent(NAME, novel_metadata=novel(tmp_path, TEXT)).analyze_novel()


def test_making_an_editor_does_nothing_yet(tmp_path: Path) -> None:
    agent = CopyEditorAgent("m", "lm_studio", {"chapters_path": tmp_path / "none"}, context_window_size=2048)
    assert agent.part_chars < 12_000 and agent.db.path.name == "copy_edit_tracking.db"
    assert not agent.db.path.exists()
