"""What every store must do with the ledger, search, deleting and cleaning up. Part of `store_suite`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import time
from typing import Any
from uuid import uuid4

from ..errors import InvalidInputError, SessionFencedError
from ..memory.seam import GROUPS
from .store_journal import call, refused, said

STRANGE_QUERIES = (
    "", " ", '"', '"unclosed', "a AND", "NOT", "NEAR(", "(", "*", "^a", "a:b", "-x", "{}", "col : x", "'; DROP TABLE t",
    "\x00", "\ud800", "🦊", "…", "%", "_", "\\", "a" * 5000, "or and the", "NEAR/3", "x*y", "+a +b", "東京", "ไทย", "ß",
)  # fmt: skip


class FindingSuite:
    """Tests of all but the journal."""

    has_another = True

    # -------------------------------------------------------------- the ledger

    async def test_sums_of_the_ledger(self, store: Any) -> None:
        parent, child, run, tag = (uuid4().hex for _ in range(4))
        await store.append(
            parent, [{"kind": "session", "tags": [tag]}, call(input_tokens=10, output_tokens=2, cost_usd=0.5)]
        )
        await store.append(parent, [call(model="big", input_tokens=1, run_id=run, outcome="error", purpose="retry")])
        await store.append(child, [{"kind": "session", "parent_session_id": parent}])
        timed = call(
            input_tokens=7, output_tokens=3, cached_tokens=4, reasoning_tokens=1, duration_s=2.0, first_token_s=0.5
        )
        await store.append(child, [timed, call(created_at=86400.0 * 365, cost_usd=0.25)])
        (row,) = await store.usage(parent)
        assert (row.calls, row.failed_calls, row.input_tokens, row.output_tokens) == (4, 1, 18, 5)
        assert (row.cost_usd, row.unpriced_calls, row.duration_s, row.first_token_s) == (0.75, 2, 2.0, 0.5)
        assert (row.cached_tokens, row.reasoning_tokens, row.total_tokens) == (4, 1, 23)
        assert [(r.key, r.calls) for r in await store.usage(parent, group_by="model")] == [("big", 1), ("tiny", 3)]
        assert [r.cost_usd for r in await store.usage(parent, group_by="model")] == [None, 0.75]
        assert {r.key: r.calls for r in await store.usage(parent, group_by="session")} == {parent: 2, child: 2}
        days = await store.usage(child, group_by="day")
        assert len(days) == 2 and days[0].key == "1971-01-01"
        assert (await store.usage(child, since=86400.0 * 366))[0].calls == 1
        assert (await store.usage(child, until=86400.0 * 366))[0].calls == 1
        assert (await store.spent(run_id=run)).input_tokens == 1
        assert (await store.spent(tag=tag)).calls == 2 and (await store.spent(parent)).calls == 4
        nothing = await store.spent(uuid4().hex)
        assert (nothing.calls, nothing.cost_usd) == (0, None)
        for group in GROUPS:
            assert await store.usage(parent, group_by=group) or group == "tool"
        for state in ("started", "failed"):
            await store.append(
                child, [{"kind": "tool", "call_id": "c", "state": state, "name": "pay", "duration_s": 0.5}]
            )
        (tool,) = await store.usage(parent, group_by="tool")
        assert (tool.key, tool.calls, tool.failed_calls, tool.duration_s) == ("pay", 1, 1, 0.5)
        await refused(InvalidInputError, store.usage(group_by="colour"))

    async def test_kept_responses_expire(self, store: Any) -> None:
        key = uuid4().hex
        assert await store.cached(key) is None
        await store.cache(key, {"text": "a"}, ttl_s=60)
        assert await store.cached(key) == {"text": "a"}
        await store.cache(key, ["b"], ttl_s=0)
        assert await store.cached(key) is None

    # -------------------------------------------------------------- finding

    async def test_what_was_said_is_found(self, store: Any) -> None:
        s, a, b = uuid4().hex, f"a{uuid4().hex}", f"b{uuid4().hex}"
        long = f"{'padding ' * 60}then {a} stands here {'padding ' * 60}"
        await store.append(
            s,
            [
                said("user", f"{a} and {b} together"),
                said("assistant", [{"type": "text", "text": f"only {b}"}, {"type": "tool_use", "name": "hidden"}]),
                said("user", long, created_at=1000.0),
                said("user", "naïve café 東京タワーの夜景"),
            ],
        )
        hits = await store.search(f"{a} {b}", 3)
        assert [hit.seq for hit in hits] == [1, *sorted(hit.seq for hit in hits[1:])] or {2, 3} == {
            h.seq for h in hits[1:]
        }
        assert hits[0].session_id == s and hits[0].role == "user" and hits[0].source == "message"
        assert hits[0].score > hits[1].score and s in hits[0].citation
        assert [hit.seq for hit in await store.search(a, role="assistant")] == []
        assert {hit.seq for hit in await store.search(a, since=2000.0)} == {1}
        (cut,) = [hit for hit in await store.search(a) if hit.seq == 3]
        assert a in cut.snippet and len(cut.snippet) < 200 and cut.text == long
        assert [hit.seq for hit in await store.search(a[:-3], 1)] == [1]  # the last word may be unfinished
        for query in ("東京", "夜景", "NAIVE Cafe", "タワー"):
            assert [hit.seq for hit in await store.search(query, session_id=s)] == [4], query
        assert "東京タワー" in (await store.search("夜景", session_id=s))[0].text
        assert await store.search("京東", session_id=s) == []
        assert await store.search(a, 0) == [] and await store.search(a, session_id=uuid4().hex) == []

    async def test_any_text_is_a_query(self, store: Any) -> None:
        s = uuid4().hex
        await store.append(s, [said("user", query) for query in STRANGE_QUERIES])
        for query in STRANGE_QUERIES:
            await store.search(query, session_id=s)
            await store.get_relevant_context(query)
            await store.list_sessions(search=query)
        await refused(InvalidInputError, store.search(None))

    async def test_what_was_said_is_found_once(self, store: Any) -> None:
        s, word = uuid4().hex, f"w{uuid4().hex}"
        await store.append(s, [said("user", f"what is {word}?")])
        await store.save_interaction(s, f"what is {word}?", "a word")
        assert [hit.source for hit in await store.search(word)] == ["message"]
        assert [hit.source for hit in await store.search(word, sources=("interaction",))] == ["interaction"]
        await store.save_interaction(uuid4().hex, f"{word} again", "a word")
        assert sorted(hit.source for hit in await store.search(word)) == ["interaction", "message"]

    async def test_relevant_interactions(self, store: Any) -> None:
        s, word = uuid4().hex, f"w{uuid4().hex}"
        await store.save_interaction(s, f"what is {word}?", "a word", {"mood": "good"})
        await store.save_interaction(s, "something else", "yes")
        (found,) = await store.get_relevant_context(f"tell me of {word}", limit=1)
        assert (found["prompt"], found["response"], found["metadata"]) == (
            f"what is {word}?",
            "a word",
            {"mood": "good"},
        )
        assert found["session_id"] == s and found["score"] > 0 and abs(found["timestamp"] - time()) < 60
        newest = await store.get_relevant_context(uuid4().hex, limit=1)
        assert newest[0]["prompt"] == "something else" and newest[0]["metadata"] == {}

    async def test_rewound_interactions_are_not_told(self, store: Any) -> None:
        s, kept, gone, later = uuid4().hex, *(f"w{uuid4().hex}" for _ in range(3))
        for word, seq in (kept, 1), (gone, 6):  # as sessions write a turn
            turn = [said("user", word), said("assistant", "yes")]
            done = {"kind": "interaction", "prompt": word, "response": "yes"}
            await store.append(s, [*turn, call(), done, {"kind": "checkpoint", "summary": word, "covers_seq": seq}])
        assert [one["prompt"] for one in await store.get_relevant_context(gone, 1)] == [gone]  # it is in the index
        await store.append(s, [{"kind": "rewind", "after_seq": 2}])
        assert await store.search(gone, sources=("interaction",)) == []
        assert gone not in [one["prompt"] for one in await store.get_relevant_context(gone, 3)]
        assert [one["prompt"] for one in await store.get_relevant_context(kept, 1)] == [kept]
        assert [one["prompt"] for one in await store.load(s, kinds=("interaction",))] == [kept]
        assert gone not in await store.export(s) and gone in await store.export(s, "jsonl")
        await store.save_interaction(s, later, "yes")
        assert [one["prompt"] for one in await store.get_relevant_context(later, 1)] == [later]
        await store.append(s, [{"kind": "rewind", "after_seq": 0, "state": "replaced"}])
        for word in kept, gone, later:
            assert await store.search(word, sources=("interaction",)) == []
            found = [one["prompt"] for one in await store.get_relevant_context(word, 5)]
            assert not {kept, gone, later} & {*found}
            assert word not in await store.export(s)
        assert len(await store.load(s, kinds=("interaction",), include_rewound=True)) == 3
        copy = uuid4().hex
        await store.fork(s, copy)
        assert await store.load(copy) == []

    async def test_what_was_rewound_before_search_knew_it_stays_unknown(self, store: Any) -> None:
        s, word = uuid4().hex, f"w{uuid4().hex}"
        done = {"kind": "interaction", "prompt": word, "response": "yes"}
        await store.append(s, [said("user", word), done, {"kind": "rewind", "after_seq": 0}])
        assert await store.search(word) == [] and await store.search(word, sources=("interaction",)) == []
        assert word not in [one["prompt"] for one in await store.get_relevant_context(word)]

    # -------------------------------------------------------------- deleting

    async def test_deleting_leaves_nothing(self, store: Any) -> None:
        s, child, word, tag = uuid4().hex, uuid4().hex, f"w{uuid4().hex}", uuid4().hex
        model = uuid4().hex
        await store.append(
            s, [{"kind": "session", "tags": [tag]}, said("user", word), call(model=model, input_tokens=3)]
        )
        await store.append(s, [{"kind": "approval", "approval_id": uuid4().hex, "reason": word}])
        await store.append(child, [{"kind": "session", "parent_session_id": s}, said("user", word)])
        await store.save_interaction(s, word, word)
        await store.cache(word, word, 60, session_id=s)
        unowned, others = uuid4().hex, uuid4().hex
        await store.append(others, [said("user", "stays")])
        await store.cache(unowned, word, 60)  # as agents do: several sessions may have asked for it
        await store.cache(others, "stays", 60, session_id=others)
        fence = await store.lease(s, "me")
        assert await store.delete(uuid4().hex) == 0 and await store.cached(unowned) == word
        assert await store.delete(s, keep_ledger=True) == 2
        assert await store.cached(unowned) is None and await store.cached(others) == "stays"
        assert await store.load(s) == [] and await store.load(child) == [] and await store.search(word) == []
        assert await store.session(s) is None and await store.cached(word) is None
        assert await store.pending_approvals(s) == [] and await store.list_sessions(tag=tag) == []
        rows = {row.key: row for row in await store.usage(group_by="model")}
        assert rows[model].input_tokens == 3 and (await store.usage(s))[0].calls == 0
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=fence))
        assert await store.delete(s) == 0 and await store.lease(s, "you") > fence

    async def test_deleting_by_tag(self, store: Any) -> None:
        tag, ids, model = uuid4().hex, [uuid4().hex for _ in range(3)], uuid4().hex
        for s in ids[:2]:
            await store.append(s, [{"kind": "session", "tags": [tag]}, call(model=model)])
        await store.append(ids[2], [said("user", "stays")])
        assert await store.delete_tag(tag) == 2
        assert [bool(await store.session(s)) for s in ids] == [False, False, True]
        assert model not in [row.key for row in await store.usage(group_by="model")]

    async def test_cleanup(self, store: Any) -> None:
        ids, far = [uuid4().hex for _ in range(4)], 3600 * 24 * 365 * 40
        for s in ids:
            await store.append(s, [said("user", s)])
        await store.append(ids[0], [{"kind": "approval", "approval_id": uuid4().hex}])
        fence = await store.lease(ids[1], "me")
        assert await store.cleanup() == 0 and await store.cleanup(older_than=timedelta(days=1), keep_last=0) == 0
        assert await store.cleanup(older_than=far) == 0
        await refused(InvalidInputError, store.cleanup(older_than="yesterday"))
        await refused(InvalidInputError, store.cleanup(keep_last=-1))
        assert await store.cleanup(keep_last=1) >= 1
        left = [s for s in ids if await store.session(s)]
        assert left == [ids[0], ids[1]] or left == [ids[0], ids[1], ids[3]]
        await store.release(ids[1], fence)
        await asyncio.sleep(0.01)
        assert await store.cleanup(older_than=0) >= 1
        assert [s for s in ids if await store.session(s)] == [ids[0]]  # its approval still waits

    async def test_figures_about_the_store(self, store: Any) -> None:
        before = await store.stats()
        await store.append(uuid4().hex, [said("user", "x"), call(input_tokens=2, output_tokens=3, cost_usd=0.5)])
        after = await store.stats()
        grown = {
            name: after[name] - (before[name] or 0)
            for name in ("sessions", "messages", "model_calls", "total_tokens", "cost_usd")
        }
        assert grown == {"sessions": 1, "messages": 1, "model_calls": 1, "total_tokens": 5, "cost_usd": 0.5}
        assert after["size_bytes"] > 0 and after["first_at"] <= after["last_at"]

    async def test_a_closed_store_opens_again(self, store: Any) -> None:
        s = uuid4().hex
        await store.append(s, [said("user", "x")])
        await store.close()
        await store.aclose()
        assert len(await store.load(s)) == (1 if self.has_another else 0)
        await store.close()
        await store.open()
        assert await store.append(s, [said("user", "y")]) == (2 if self.has_another else 1)
