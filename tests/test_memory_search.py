"""Search: safe queries from any text, ranking, vectors, documents in citable pieces."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from any_agent.errors import InvalidInputError
from any_agent.memory import IndexReport, MemoryStore, finding, vectors
from any_agent.memory.chunks import MOST_CHARS, chunks
from any_agent.memory.finding import Filters
from any_agent.memory.words import match_all, match_beginning, readable, searchable, snippet, telling_terms


def said(content: str, **more: object) -> dict[str, object]:
    return {"kind": "message", "role": "user", "content": content, **more}


# ------------------------------------------------------------------ words

_fts = sqlite3.connect(":memory:")
_fts.execute("CREATE VIRTUAL TABLE t USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")


@given(st.text())
def test_no_text_breaks_a_query(text: str) -> None:
    for match in (match_all(text), match_all(text, is_finished=True), match_beginning(text)):
        if match:
            _fts.execute("SELECT * FROM t WHERE t MATCH ?", (match,)).fetchall()


def finds(text: str, query: str) -> bool:
    _fts.execute("DELETE FROM t")
    _fts.execute("INSERT INTO t VALUES (?)", (searchable(text),))
    return bool(_fts.execute("SELECT 1 FROM t WHERE t MATCH ?", (match_all(query),)).fetchall())


def is_letter_to_sqlite(sign: str, asked: str = "") -> bool:
    """Also whether it knows the sign's small form: its tables are of Unicode 6.1."""
    _fts.execute("DELETE FROM t")
    _fts.execute("INSERT INTO t VALUES (?)", (sign,))
    return bool(_fts.execute("SELECT 1 FROM t WHERE t MATCH ?", (f'"{asked or sign}"',)).fetchall())


_SIGNS = st.characters(categories=["L", "N", "P", "S", "M", "Zs"])


@given(st.text(alphabet=_SIGNS, max_size=60))
def test_a_text_is_found_by_its_own_words(text: str) -> None:
    assert readable(searchable(text)) == text
    is_known = all(is_letter_to_sqlite(sign) for term in telling_terms(text) for sign in term)
    if match_all(text) and is_known and all(is_letter_to_sqlite(sign, sign.lower()) for sign in text if sign.isupper()):
        assert finds(text, text)


@pytest.mark.parametrize(
    "text", ["fox🦊", "🦊fox🦊", "₿fox", "(fox)", "“fox”…", "l'fox", "fox—hound", "fox東", "東fox"]
)
def test_a_word_is_found_beside_any_sign(text: str) -> None:
    assert finds(text, "fox")


def test_letters_of_two_spellings_are_one() -> None:
    assert finds("cafe\u0301s", "cafés") and finds("cafés", "cafe\u0301s") and finds("CAFÉS", "cafes")


def test_frequent_words_are_left_out_unless_they_are_all() -> None:
    assert telling_terms("What is the name of my dog?") == ["name", "dog"]
    assert telling_terms("was ist das") == ["was", "ist", "das"]
    assert match_all("to be") == '"to" AND "be"*'
    assert match_all("the dog's name", is_finished=True) == '"name" AND "dog" AND "s"'
    assert match_all('東京 NEAR("a b"') == '"near" AND "東 京" AND "b"'
    assert match_all("--- ??? \x00") == ""


def test_snippets() -> None:
    assert snippet("short\n text", "x") == "short text"
    cut = snippet("a " * 200 + "needle" + " b" * 200, "the needle")
    assert "needle" in cut and cut.startswith("…") and cut.endswith("…") and len(cut) <= 162


# ------------------------------------------------------------------ ranking


async def test_what_holds_all_words_comes_first_and_news_before_old() -> None:
    async with MemoryStore(":memory:") as store:
        year = 365 * 86_400
        await store.append("s", [said("red fox in the snow", created_at=time() - year), said("red red red red")])
        await store.append("s", [said("red fox in the snow")])
        await store.append("s", [said(f"filler {n}") for n in range(20)])
        assert [hit.seq for hit in await store.search("red fox")] == [3, 1, 2]
        assert [hit.seq for hit in await store.search("red fox", 1)] == [3]


async def test_filters_do_not_lose_hits_behind_better_ones() -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("loud", [said("needle needle needle") for _ in range(100)])
        await store.append(
            "quiet", [said("a needle, somewhere in many other words"), {"kind": "session", "tags": ["t"]}]
        )
        assert [hit.session_id for hit in await store.search("needle", 1, session_id="quiet")] == ["quiet"]
        assert [hit.session_id for hit in await store.search("needle", 1, tag="t")] == ["quiet"]


async def test_the_whole_word_before_words_that_begin_so() -> None:
    async with MemoryStore(":memory:") as store:
        await store.append("s", [said("a cat"), said("category category category"), said("ox oxen"), said("b")])
        assert [hit.seq for hit in await store.search("cat")] == [1, 2]
        assert [hit.seq for hit in await store.search("categ")] == [2]
        assert [hit.seq for hit in await store.search("ca")] == [2, 1]  # nothing is called so: what begins so
        assert [hit.seq for hit in await store.search("a ca")] == [2, 1]
        assert [hit.seq for hit in await store.search("b")] == [4] and await store.search("o") == []


async def test_of_very_many_texts_the_newest_are_ranked_and_rare_words_are_found_in_all() -> None:
    count = finding._MOST_RANKED + 500
    async with MemoryStore(":memory:") as store:
        await store.append("old", [said("project apple"), said("project project project"), said("project pear plum")])
        await store.append("new", [said(f"project number{n}", role="assistant") for n in range(count)])
        assert {hit.session_id for hit in await store.search("project", 50)} == {"new"}
        assert [hit.seq for hit in await store.search("project apple", 1)] == [1]
        assert [hit.seq for hit in await store.search("project pear cherry", 1)] == [3]
        assert [hit.seq for hit in await store.search("plum number7 project", 3)] == [8, 3, count]
        for narrowed in ({"session_id": "old"}, {"role": "user"}):
            found = await store.search("project", 5, **narrowed)  # type: ignore[arg-type]
            assert [hit.seq for hit in found] == [2, 1, 3], narrowed
        assert await store.search("project", 5, sources=("document",)) == []
        assert await store.search("project", 5, session_id="nobody") == []


# ------------------------------------------------------------------ vectors

AXES = {"dog": 0, "puppy": 0, "car": 1, "wheels": 1, "sun": 2}


async def embed(texts: list[str]) -> list[list[float]]:
    """Each known word points along its axis; anything else, a little, along the last one."""
    found = []
    for text in texts:
        vector = [0.0, 0.0, 0.0, 0.1]
        for word, axis in AXES.items():
            vector[axis] += text.lower().count(word)
        found.append(vector)
    return found


async def test_meaning_finds_what_words_do_not() -> None:
    async with MemoryStore(":memory:", embed=embed) as store:
        await store.append("s", [said("my dog sleeps"), said("the car has wheels"), said("nothing of it")])
        assert [hit.seq for hit in await store.search("puppy", 1)] == [1]
        assert [hit.seq for hit in await store.search("wheels", 1)] == [2]
        assert (await store.stats())["vectors"] == 3
        assert [hit.seq for hit in await store.search("puppy", 3, session_id="other")] == []
        await store.append("s", [said("a puppy and another dog")])  # embedded by the next search
        hits = await store.search("puppy", 2)
        assert [hit.seq for hit in hits] == [4, 1] and hits[0].score > hits[1].score
        await store.delete("s")
        assert (await store.stats())["vectors"] == 0 and await store.search("puppy") == []
        assert await store.search("") == []


async def test_vectors_of_another_model_are_not_compared(tmp_path: Path) -> None:
    def tiny(texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]

    async with MemoryStore(tmp_path / "m.db", embed=embed, embedding_model="a") as store:
        await store.append("s", [said("my dog")])
        assert await store.embed_missing() == 1 and await store.embed_missing() == 0
    async with MemoryStore(tmp_path / "m.db", embed=tiny, embedding_model="b") as store:
        assert [hit.seq for hit in await store.search("anything")] == [1]  # made anew
        assert await store.embed_missing() == 0
    async with MemoryStore(tmp_path / "m.db") as store:
        assert await store.embed_missing() == 0 and await store.search("anything") == []


async def test_vectors_of_another_size_are_made_anew(tmp_path: Path) -> None:
    """The model was changed, and `embedding_model` was not: nothing may vanish from search in silence."""
    path, sizes = tmp_path / "m.db", []

    async def wider(texts: list[str]) -> list[list[float]]:
        sizes.append(len(texts))
        return [[*vector, 0.0, 0.0] for vector in await embed(texts)]

    async with MemoryStore(path, embed=embed) as store:
        await store.append("s", [said("a dog"), said("a car"), said("the sun")])
        assert [hit.seq for hit in await store.search("puppy", 1)] == [1]
    async with MemoryStore(path, embed=wider) as store:
        assert [hit.seq for hit in await store.search("puppy", 1)] == [1]
        assert [hit.seq for hit in await store.search("wheels", 1)] == [2]
    assert sizes == [1, 3, 1]


async def test_without_the_server_of_embeddings_words_must_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    is_away = True

    async def away(texts: list[str]) -> list[list[float]]:
        if is_away:
            raise OSError("nobody is there")
        return await embed(texts)

    (tmp_path / "a.md").write_text("# Dogs\n\nA dog barks.\n")
    async with MemoryStore(":memory:", embed=away) as store:
        await store.append("s", [said("a dog"), said("a car")])
        assert (await store.index(tmp_path)).added == 1
        assert {hit.text for hit in await store.search("dog", 5)} == {"a dog", "# Dogs\n\nA dog barks."}
        assert await store.search("puppy", 1) == [] and "words alone: embed failed: OSError: nobody" in caplog.text
        is_away = False
        assert "dog" in (await store.search("puppy", 1))[0].text


@pytest.mark.parametrize(
    "answer", [[], [[0.0, 0.0]], [[float("nan")]], [[1.0], [2.0]]], ids=["none", "no direction", "nan", "too many"]
)
async def test_vectors_that_are_none_are_refused(answer: Sequence[Sequence[float]]) -> None:
    async with MemoryStore(":memory:", embed=lambda texts: answer) as store:
        await store.append("s", [said("my dog")])
        with pytest.raises(InvalidInputError, match="embed gave"):
            await store.search("dog")


async def test_every_way_of_ranking_agrees() -> None:
    async with MemoryStore(":memory:", embed=embed) as store:
        words = ["dog", "car", "sun", "dog car", "dog dog car", "sun sun dog"]
        await store.append("s", [said(word) for word in words])
        await store.append("other", [said("dog")])
        await store.embed_missing()
        wanted = (await vectors.embedded(embed, ["dog"]))[0]
        where, values = Filters(session_id="s").conditions()
        by_python = await store._db.read(lambda db: vectors._by_python(db, "default", wanted, 4, where, values))
        ranking = vectors.Ranking()
        by_numpy = await store._db.read(lambda db: ranking.nearest(db, "default", wanted, 4, Filters(session_id="s")))
        assert [one for one, _ in by_numpy] == [one for one, _ in by_python]
        assert [score for _, score in by_numpy] == pytest.approx([score for _, score in by_python], abs=1e-6)
        if await store._db.read(ranking._loads_sqlite_vec):
            by_extension = await store._db.read(
                lambda db: vectors._by_sqlite_vec(db, "default", wanted, 4, where, values)
            )
            assert [one for one, _ in by_extension] == [one for one, _ in by_python]


# ------------------------------------------------------------------ documents

NOTES = """# Garden

Roses need water.

## Roses

Cut them in March.

```sh
# not a heading
```

## Apples

Pick them in autumn.
"""


def test_markdown_is_cut_at_its_headings() -> None:
    found = chunks(NOTES, ".md")
    assert [(one.heading, one.start_line, one.end_line) for one in found] == [
        ("Garden", 1, 3),
        ("Garden › Roses", 5, 11),
        ("Garden › Apples", 13, 15),
    ]
    assert "# not a heading" in found[1].text


def test_code_is_cut_at_its_definitions() -> None:
    code = "import os\n\n# adds\n@cache\ndef add(a, b):\n    return a + b\n\n\nclass Big:\n    def inner(self):\n        pass\n"
    found = chunks(code, ".py")
    assert [(one.heading, one.start_line, one.end_line) for one in found] == [
        ("", 1, 1),
        ("@cache", 3, 3),
        ("def add(a, b)", 4, 6),
        ("class Big", 9, 11),
    ] or [one.start_line for one in found] == [1, 3, 9]


@given(st.text(alphabet="ab \n#`xyz", max_size=300).map(lambda text: text * 9), st.sampled_from(["", ".md", ".py"]))
def test_no_word_of_a_document_is_lost(text: str, suffix: str) -> None:
    found = chunks(text, suffix)
    lines = text.splitlines()
    assert all(0 < len(one.text) <= MOST_CHARS for one in found)
    assert "".join("".join(one.text.split()) for one in found) == "".join(text.split())
    for one in found:
        assert 1 <= one.start_line <= one.end_line <= len(lines)
        assert one.text.split()[0] in "\n".join(lines[one.start_line - 1 : one.end_line])


def test_long_lines_are_cut() -> None:
    found = chunks("x" * 4000 + "\nshort\n" + "word " * 700, "")
    assert [len(one.text) <= MOST_CHARS for one in found] == [True] * len(found)
    assert (found[0].start_line, found[0].end_line) == (1, 1) and found[-1].end_line == 3


async def test_documents_are_indexed_and_cited(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "deep" / ".git").mkdir(parents=True)
    (docs / "garden.md").write_text(NOTES, encoding="utf-8")
    (docs / "deep" / "code.py").write_text("def plant(tree):\n    return tree\n", encoding="utf-8")
    (docs / "binary.bin").write_bytes(b"\0\1\2")
    (docs / ".hidden.md").write_text("roses")
    (docs / "deep" / ".git" / "x.md").write_text("roses")
    (docs / "link.md").symlink_to(docs / "garden.md")
    async with MemoryStore(tmp_path / "m.db", embed=embed) as store:
        assert await store.index(docs) == IndexReport(added=2, skipped=1, chunks=4)
        assert await store.index(docs) == IndexReport(unchanged=2, skipped=1)
        (hit,) = await store.search("when are apples picked", 1)
        assert hit.source == "document" and hit.heading == "Garden › Apples" and "autumn" in hit.text
        assert hit.citation == f"{docs / 'garden.md'}:13-15"
        await store.append("s", [said("apples")])
        assert {hit.source for hit in await store.search("apples", sources=("document",))} == {"document"}
        assert {hit.source for hit in await store.search("apples", session_id="s")} == {"message"}
        (docs / "garden.md").write_text("# New\n\nTulips only.\n", encoding="utf-8")
        (docs / "deep" / "code.py").unlink()
        assert await store.index(docs) == IndexReport(updated=1, removed=1, skipped=1, chunks=1)
        assert [
            hit for hit in await store.search("apples", sources=("document",)) if "Apples" in (hit.heading or "")
        ] == []
        assert (await store.search("tulips", 1))[0].path == str(docs / "garden.md")
        assert (await store.stats())["documents"] == 1
        assert await store.index(docs / "garden.md") == IndexReport(unchanged=1)
        assert await store.forget(docs) == 1 and await store.search("tulips", sources=("document",)) == []
        with pytest.raises(InvalidInputError, match="nothing at"):
            await store.index(tmp_path / "nowhere")
        assert await store.integrity_check() == []


async def test_a_sister_folder_keeps_its_documents(tmp_path: Path) -> None:
    for name in ("notes", "notes-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"{name} text", encoding="utf-8")
    async with MemoryStore(":memory:") as store:
        await store.index(tmp_path)
        assert await store.forget(tmp_path / "notes") == 1
        assert [Path(hit.path or "").parent.name for hit in await store.search("text")] == ["notes-old"]


# ------------------------------------------------------------------ without NumPy


def test_vectors_without_numpy(tmp_path: Path) -> None:
    """NumPy is no dependency: a Python that cannot import it ranks by itself."""
    (tmp_path / "numpy.py").write_text("raise ImportError('no numpy here')")
    script = """
import asyncio
from any_agent.memory import MemoryStore

async def main():
    async with MemoryStore(":memory:", embed=lambda texts: [[float("dog" in t), 1.0] for t in texts]) as store:
        await store.append("s", [{"kind": "message", "role": "user", "content": c} for c in ("car", "dog")])
        print([hit.seq for hit in await store.search("my dog", 2)])

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=50)
    assert (done.stdout.strip(), done.stderr) == ("[2, 1]", "")


async def test_searching_while_much_is_written(tmp_path: Path) -> None:
    async with MemoryStore(tmp_path / "m.db", durability="process") as store:
        await store.append("s", [said("needle")])
        writes = [store.append("s", [said(f"hay {n}")]) for n in range(200)]
        searches = [store.search("needle") for _ in range(20)]
        found = await asyncio.gather(*writes, *searches)
        assert all(hits[0].text == "needle" for hits in found[200:])
