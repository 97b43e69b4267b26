"""What every store must do with entries, leases and approvals. Part of `store_suite`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from json import dumps
from time import time
from typing import Any
from uuid import uuid4

from ..errors import InvalidInputError, SessionBusyError, SessionFencedError
from ..memory.seam import Store


async def refused(kind: type[Exception], call: Awaitable[Any]) -> Exception:
    """The error that the call raised; fails when it raised none of this kind."""
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "message", "role": role, "content": content, **more}


def call(**figures: Any) -> dict[str, Any]:
    return {"kind": "model_call", "model": "tiny", **figures}


class JournalSuite:
    """Tests of the journal."""

    has_another = True

    async def another(self, store: Any) -> Any:
        """A second store on the data of the first, as another process would open it. The test closes it."""
        return type(store)(store.path)

    # -------------------------------------------------------------- the journal

    async def test_fits_the_seam(self, store: Any) -> None:
        assert isinstance(store, Store)

    async def test_entries_come_back_in_order(self, store: Any) -> None:
        s = uuid4().hex
        assert await store.load(s) == [] and await store.session(s) is None
        entries = [
            said("user", "hello", run_id="r", turn=1, colour="red"),
            {
                "kind": "tool",
                "call_id": "c",
                "state": "started",
                "name": "add",
                "arguments": {"a": [1]},
                "effect": "once",
            },
            call(input_tokens=3, cost_usd=None),
            {"kind": "audit", "who": "me", "decision": "deny", "rule": "r", "reason": "no"},
            {"kind": "approval", "approval_id": uuid4().hex, "tool_name": "rm", "arguments": {"path": "/"}},
            {"kind": "checkpoint", "summary": {"text": "so far"}, "covers_seq": 1},
            {"kind": "event", "name": "text", "body": ["a"]},
            {"kind": "interaction", "prompt": "p", "response": "r", "metadata": {"x": 1}},
        ]
        assert await store.append(s, entries[:1]) == 1
        assert await store.append(s, entries[1:]) == len(entries)
        found = await store.load(s)
        assert [one["seq"] for one in found] == list(range(1, len(entries) + 1))
        for one, entry in zip(found, entries, strict=True):
            assert {name: one[name] for name in entry} == entry
            assert abs(one["created_at"] - time()) < 60
        assert found[0]["pinned"] is False and found[0]["state"] == "live"
        assert found[4]["state"] == "pending" and found[1]["attempts"] == 1
        assert [one["seq"] for one in await store.load(s, 3, limit=2)] == [4, 5]
        assert [one["kind"] for one in await store.load(s, kinds=("event", "message"))] == ["message", "event"]

    async def test_all_or_nothing(self, store: Any) -> None:
        s, good = uuid4().hex, said("user", "x")
        await store.append(s, [good])
        taken = uuid4().hex
        await store.append(uuid4().hex, [{"kind": "approval", "approval_id": taken}])
        for bad in (
            {"kind": "no such kind"},
            {},
            said("robot", "x"),
            said("user", object()),
            {"kind": "message", "role": "user"},
            {"kind": "tool", "call_id": "c", "state": "asleep"},
            {"kind": "approval", "approval_id": taken},  # found only while writing: it is another session's
            call(input_tokens=2**70),
        ):
            await refused(InvalidInputError, store.append(s, [good, bad]))
        await refused(InvalidInputError, store.append("", [good]))
        await refused(InvalidInputError, store.append("a\x00b", [good]))
        await refused(InvalidInputError, store.load(s, kinds=("nonsense",)))
        assert len(await store.load(s)) == 1
        assert await store.append(s, [good]) == 2

    async def test_strange_values_survive(self, store: Any) -> None:
        s = uuid4().hex
        contents: list[Any] = [
            "",
            "\x00",
            "\ud800",
            "🦊\u200b",
            {"a": {"b": [None, True, 1.5, "\x00\udfff"]}},
            [],
            None,
            "a\r\nb",
        ]
        await store.append(s, [said("user", content) for content in contents])
        await store.append(s, [said("user", float("nan")), said("user", [float("inf"), 1])])
        assert [one["content"] for one in await store.load(s)] == [*contents, None, [None, 1]]
        await store.save_interaction(s, "nul \x00", "half \ud800", {"\x00": 1})
        found = (await store.load(s, kinds=("interaction",)))[0]
        assert found["prompt"] == "nul \ufffd" and found["metadata"] == {"\x00": 1}
        await store.save_interaction(s, "two halves \ud83e\udd8a", "x")
        assert (await store.load(s, kinds=("interaction",)))[1]["prompt"] == "two halves 🦊"

    async def test_entries_without_a_session(self, store: Any) -> None:
        model = uuid4().hex
        await store.append("", [call(model=model, input_tokens=5), {"kind": "audit", "decision": "allow"}])
        rows = {row.key: row for row in await store.usage(group_by="model")}
        assert rows[model].input_tokens == 5
        assert "" not in [one["session_id"] for one in await store.list_sessions(1000)]
        assert await store.session("") is None

    async def test_the_order_of_keys_is_kept(self, store: Any) -> None:
        """A prompt that is written anew must have the same bytes, or the server's prompt cache misses it."""
        s, value = uuid4().hex, {"z": 1, "a": {"y": [1.0, 10**18, 1e300], "b": None, "é": ""}, "B": 2, "10": 0, "9": 0}
        await store.append(
            s, [said("user", value), {"kind": "tool", "call_id": "c", "state": "started", "arguments": value}]
        )
        message, tool = await store.load(s)
        assert dumps(message["content"]) == dumps(tool["arguments"]) == dumps(value)

    async def test_a_session_is_one_row(self, store: Any) -> None:
        s = uuid4().hex
        await store.append(
            s, [{"kind": "session", "title": "One", "tags": ["a", "b", "a"], "metadata": {"x": 1}, "own": 1}]
        )
        await store.append(s, [said("user", "x"), {"kind": "session", "summary": "S", "other": 2}])
        found = await store.session(s)
        wanted = {"title": "One", "summary": "S", "metadata": {"x": 1}, "own": 1, "other": 2, "message_count": 1}
        assert {name: found[name] for name in wanted} == wanted and sorted(found["tags"]) == ["a", "b"]
        assert found["last_seq"] == 3 and found["session_id"] == s
        await store.append(s, [{"kind": "session", "tags": ["c"]}])
        assert (await store.session(s))["tags"] == ["c"]

    async def test_sessions_are_listed(self, store: Any) -> None:
        tag, word = uuid4().hex, uuid4().hex
        ids = [uuid4().hex for _ in range(4)]
        for place, s in enumerate(ids):
            await store.append(s, [{"kind": "session", "tags": [tag], "title": f"t{place}"}, said("user", "something")])
        await store.append(ids[1], [said("user", f"about {word} things")])
        await store.append(ids[2], [{"kind": "session", "parent_session_id": ids[0], "title": f"100%_{word}"}])

        async def listed(**how: Any) -> list[str]:
            return [one["session_id"] for one in await store.list_sessions(**how)]

        assert await listed(tag=tag) == [ids[2], ids[1], ids[3], ids[0]]
        assert await listed(tag=tag, limit=2, offset=1) == [ids[1], ids[3]]
        assert await listed(search=word) == [ids[2], ids[1]]
        assert await listed(search=f"100%_{word[:20]}") == [ids[2]]
        assert await listed(search=ids[3]) == [ids[3]]
        assert await listed(parent_session_id=ids[0]) == [ids[2]]
        assert [s for s in await listed(limit=50) if s in ids] == [ids[1], ids[3], ids[0]]
        assert await listed(search=uuid4().hex) == []

    async def test_rewound_messages_leave_the_history(self, store: Any) -> None:
        s, word = uuid4().hex, f"w{uuid4().hex}"
        await store.append(s, [said("user", "one"), said("assistant", f"two {word}"), said("user", "three")])
        await store.append(s, [{"kind": "rewind", "after_seq": 1}, said("user", "two again")])
        assert [one["content"] for one in await store.load(s, kinds=("message",))] == ["one", "two again"]
        every = await store.load(s, kinds=("message",), include_rewound=True)
        assert [one["state"] for one in every] == ["live", "rewound", "rewound", "live"]
        assert await store.search(word) == []
        await store.append(s, [{"kind": "rewind", "after_seq": 0, "state": "replaced"}, said("user", "new")])
        assert [one["content"] for one in await store.load(s, kinds=("message",))] == ["new"]
        assert (await store.session(s))["message_count"] == 1

    async def test_the_state_of_a_tool_call(self, store: Any) -> None:
        s = uuid4().hex

        async def tools(state: str, call_id: str = "c", **more: Any) -> list[tuple[Any, ...]]:
            await store.append(s, [{"kind": "tool", "call_id": call_id, "state": state, **more}])
            found = await store.load(s, kinds=("tool",))
            return [(one["call_id"], one["state"], one["attempts"], one["name"]) for one in found]

        assert await tools("started", name="pay", own=1) == [("c", "started", 1, "pay")]
        assert await tools("started") == [("c", "started", 2, "pay")]
        assert await tools("unknown", other=2) == [("c", "unknown", 2, "pay")]
        assert await tools("finished", result={"ok": True}) == [("c", "finished", 2, "pay")]
        found = (await store.load(s, kinds=("tool",)))[0]
        assert found["result"] == {"ok": True} and (found["own"], found["other"]) == (1, 2) and found["seq"] == 4
        # the next turn of a local server has the same id
        assert await tools("denied") == [("c", "finished", 2, "pay"), ("c", "denied", 1, None)]
        assert (await tools("started"))[2:] == [("c", "started", 1, None)]

    async def test_forks(self, store: Any) -> None:
        s, f, word = uuid4().hex, uuid4().hex, f"w{uuid4().hex}"
        entries = [
            {"kind": "session", "title": "T", "tags": ["x"]},
            said("user", f"one {word}"),
            said("assistant", "two"),
        ]
        await store.append(s, [*entries, call(input_tokens=1), said("user", "three")])
        assert await store.fork(s, f, up_to=3) == 3
        assert [one["content"] for one in await store.load(f)] == [f"one {word}", "two"]
        found = await store.session(f)
        assert (found["title"], found["tags"], found["forked_from"]) == ("T", ["x"], s)
        assert {hit.session_id for hit in await store.search(word)} == {s, f}
        assert await store.append(f, [said("user", "other")]) == 4
        assert len(await store.load(s)) == 4 and (await store.usage(f))[0].calls == 0
        await refused(InvalidInputError, store.fork(s, f))
        await refused(InvalidInputError, store.fork(uuid4().hex, uuid4().hex))
        assert await store.fork(s, uuid4().hex) == 5

    # -------------------------------------------------------------- one writer per session

    async def test_one_writer_at_a_time(self, store: Any) -> None:
        s = uuid4().hex
        assert await store.holder(s) is None
        fence = await store.lease(s, "first")
        error = await refused(SessionBusyError, store.lease(s, "second"))
        assert "first" in str(error) and "first" in str(getattr(error, "holder", ""))
        holder = await store.holder(s)
        assert (holder.owner, holder.fence) == ("first", fence) and 0 < holder.expires_at - holder.acquired_at <= 30.1
        assert await store.append(s, [said("user", "x")], fence=fence) == 1
        await store.lease(uuid4().hex, "first")
        newer = await store.lease(s, "first")
        assert newer == fence + 1
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=fence))
        await refused(SessionFencedError, store.renew(s, fence))
        await store.release(s, fence)
        assert (await store.holder(s)).fence == newer
        await store.release(s, newer)
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=newer))
        assert await store.lease(s, "second") == newer + 1
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=newer))
        assert [one["content"] for one in await store.load(s)] == ["x"]

    async def test_the_last_entries_give_the_session_back(self, store: Any) -> None:
        s = uuid4().hex
        fence = await store.lease(s, "first")
        await refused(InvalidInputError, store.append(s, [{"kind": "nothing"}], fence=fence, is_last=True))
        assert (await store.holder(s)).fence == fence
        assert await store.append(s, [said("user", "x")], fence=fence, is_last=True) == 1
        assert await store.holder(s) is None
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=fence))
        newer = await store.lease(s, "second")
        assert newer == fence + 1
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=fence, is_last=True))
        assert (await store.holder(s)).fence == newer and len(await store.load(s)) == 1

    async def test_one_of_many_gets_the_lease(self, store: Any) -> None:
        s = uuid4().hex
        answers = await asyncio.gather(*[store.lease(s, f"w{place}") for place in range(8)], return_exceptions=True)
        assert sorted(type(one).__name__ for one in answers) == ["SessionBusyError"] * 7 + ["int"]
        holder = await store.holder(s)
        assert answers[int(holder.owner[1:])] == holder.fence

    async def test_a_lease_runs_out(self, store: Any) -> None:
        try:
            await self._lease_runs_out(store, 1)
        except AssertionError:  # the machine may have stood still for a moment: once more, with more time
            await self._lease_runs_out(store, 8)

    async def _lease_runs_out(self, store: Any, pace: float) -> None:
        s = uuid4().hex
        fence = await store.lease(s, "first", ttl_s=0.15 * pace)
        await store.renew(s, fence, ttl_s=0.3 * pace)
        await asyncio.sleep(0.2 * pace)
        await store.append(s, [said("user", "x")], fence=fence)  # prolongs it
        await asyncio.sleep(0.2 * pace)
        await refused(SessionBusyError, store.lease(s, "second"))
        await asyncio.sleep(0.15 * pace)
        assert await store.holder(s) is None
        await store.append(s, [said("user", "nobody took it")], fence=fence)
        await asyncio.sleep(0.31 * pace)
        assert await store.lease(s, "second") > fence
        await refused(SessionFencedError, store.append(s, [said("user", "late")], fence=fence))

    async def test_two_stores_on_the_same_data(self, store: Any) -> None:
        if not self.has_another:
            return
        s, approval_id = uuid4().hex, uuid4().hex
        other = await self.another(store)
        try:
            fence = await store.lease(s, "first")
            await refused(SessionBusyError, other.lease(s, "second"))
            await store.append(s, [said("user", "x"), {"kind": "approval", "approval_id": approval_id}], fence=fence)
            assert len(await other.load(s)) == 2
            await other.answer_approval(approval_id, "allowed", {"by": "phone"}, answered_by="anna")
            found = await store.approval(approval_id)
            assert (found["state"], found["answer"], found["answered_by"]) == ("allowed", {"by": "phone"}, "anna")
            runs = [one.append(s, [said("user", place)]) for place in range(20) for one in (store, other)]
            assert sorted(await asyncio.gather(*runs)) == list(range(4, 44))
            await store.release(s, fence)
            assert await other.lease(s, "second") > fence
        finally:
            await other.close()

    async def test_many_tasks_at_once(self, store: Any) -> None:
        s = uuid4().hex
        runs: list[Awaitable[Any]] = [store.append(s, [said("user", place), call()]) for place in range(60)]
        runs += [store.append(s, [said("user", 1)], fence=12345), store.append(s, [said("robot", 1)])]
        answers = await asyncio.gather(*runs, return_exceptions=True)
        assert [type(one) for one in answers[60:]] == [SessionFencedError, InvalidInputError]
        seqs = [one for one in answers if isinstance(one, int)]
        assert sorted(seqs) == list(range(2, 121, 2))
        found = await store.load(s, kinds=("message",))
        assert sorted(one["content"] for one in found) == list(range(60))
        assert {one["content"]: one["seq"] + 1 for one in found} == dict(enumerate(answers[:60]))

    # -------------------------------------------------------------- approvals

    async def test_the_first_answer_holds(self, store: Any) -> None:
        s, one, two = uuid4().hex, uuid4().hex, uuid4().hex
        asked = [{"kind": "approval", "approval_id": i, "tool_name": "rm", "reason": "r"} for i in (one, two)]
        await store.append(s, asked)
        pending = await store.pending_approvals(s)
        assert [(a["approval_id"], a["session_id"], a["tool_name"]) for a in pending] == [
            (one, s, "rm"),
            (two, s, "rm"),
        ]
        assert {one, two} <= {a["approval_id"] for a in await store.pending_approvals()}
        answered = await store.answer_approval(one, "denied", "not that one", answered_by="anna")
        assert answered["state"] == "denied" and abs(answered["answered_at"] - time()) < 60
        assert (await store.answer_approval(one, "denied", "not that one"))["answered_by"] == "anna"
        error = await refused(InvalidInputError, store.answer_approval(one, "allowed"))
        assert "denied by anna" in str(error)
        await refused(InvalidInputError, store.answer_approval(uuid4().hex, "allowed"))
        await refused(InvalidInputError, store.answer_approval(two, "perhaps"))
        assert [a["approval_id"] for a in await store.pending_approvals(s)] == [two]
        assert [a["approval_id"] for a in await store.load(s, after=2)] == [one]  # the answer is news
        assert await store.approval(uuid4().hex) is None
        await store.append(s, [{"kind": "approval", "approval_id": two, "state": "allowed", "answered_by": "rules"}])
        changed = await store.approval(two)
        assert (changed["state"], changed["answered_by"], changed["tool_name"]) == ("allowed", "rules", "rm")
        assert await store.pending_approvals(s) == []

    async def test_of_two_answers_at_once_one_holds(self, store: Any) -> None:
        s, approval_id = uuid4().hex, uuid4().hex
        await store.append(s, [{"kind": "approval", "approval_id": approval_id}])
        states = ["allowed", "denied"] * 3
        answers = await asyncio.gather(
            *[store.answer_approval(approval_id, state) for state in states], return_exceptions=True
        )
        held = (await store.approval(approval_id))["state"]
        assert [isinstance(one, InvalidInputError) for one in answers] == [state != held for state in states]
        assert (await store.session(s))["last_seq"] == 2  # only the first answer is news
