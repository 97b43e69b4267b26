"""MemoryStore when things go wrong: kill -9, full disk, locks, damage, forgotten closes, forks, many processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from any_agent.errors import MemoryStoreError, SessionBusyError, SessionFencedError
from any_agent.memory import MemoryStore

USER = {"kind": "message", "role": "user", "content": "hello"}
PRELUDE = """
import asyncio, os, sys
from any_agent.memory import MemoryStore
USER = {"kind": "message", "role": "user", "content": "hello"}
path = sys.argv[1]
"""
needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes")


def start(path: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    code = PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-W", "error", "-c", code, str(path), *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def run(path: Path, script: str, *arguments: str) -> str:
    """What the script printed; fails when it fails or says anything on stderr."""
    child = start(path, script, *arguments)
    out, err = child.communicate(timeout=50)
    assert err == "" and child.returncode == 0, err
    return out.strip()


# ------------------------------------------------------------------ dying


@needs_posix
@pytest.mark.parametrize("durability", ["power", "process"])
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, durability: str) -> None:
    path = tmp_path / "m.db"
    child = start(
        path,
        """
        async def main():
            store = MemoryStore(path, durability=sys.argv[2])
            async def one(session_id):
                while True:
                    seq = await store.append(session_id, [USER, {"kind": "model_call", "input_tokens": 1}])
                    os.write(1, f"{session_id} {seq}\\n".encode())
            await asyncio.gather(*[one(f"s{place}") for place in range(5)])
        asyncio.run(main())
        """,
        durability,
    )
    assert child.stdout and child.stderr and child.stdin
    lines = [child.stdout.readline() for _ in range(60)]
    child.send_signal(signal.SIGKILL)
    lines += child.communicate(timeout=10)[0].splitlines()
    acknowledged: dict[str, int] = {}
    for line in lines:
        if line.count(" ") == 1 and line.split()[1:]:
            acknowledged[line.split()[0]] = int(line.split()[1])
    async with MemoryStore(path) as store:
        assert len(acknowledged) == 5
        for session_id, seq in acknowledged.items():
            entries = await store.load(session_id)
            assert [one["seq"] for one in entries] == list(range(1, len(entries) + 1))  # no gap, no half append
            assert len(entries) >= seq and len(entries) % 2 == 0
        assert await store.integrity_check() == []


@needs_posix
async def test_the_lease_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    child = start(
        path,
        """
        async def main():
            store = MemoryStore(path)
            print(await store.lease("s", "the other", ttl_s=3600), flush=True)
            sys.stdin.readline()
        asyncio.run(main())
        """,
    )
    assert child.stdout and child.stdin and child.stderr
    fence = int(child.stdout.readline())
    async with MemoryStore(path) as store:
        with pytest.raises(SessionBusyError, match=f"the other .process {child.pid} on "):
            await store.lease("s", "me")
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
        assert await store.holder("s") is None
        assert await store.lease("s", "me") == fence + 1
        with pytest.raises(SessionFencedError, match="nothing was written"):
            await store.append("s", [USER], fence=fence)


def test_a_program_that_forgets_to_close_ends_in_silence(tmp_path: Path) -> None:
    script = """
        store = MemoryStore(path)
        kept = []
        async def main():
            await store.append("s", [USER])
            await store.load("s")
            other = MemoryStore(path)
            await other.append("s", [USER])
            kept.append(asyncio.ensure_future(store.append("s", [USER])))
            await asyncio.sleep(0)
            print("done")
        asyncio.run(main())
    """
    began = time.perf_counter()
    assert run(tmp_path / "m.db", script) == "done"
    assert time.perf_counter() - began < 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.db", "m.db-lock"]  # closed, nothing left to recover


def test_a_program_that_exits_at_once_ends(tmp_path: Path) -> None:
    script = """
        async def main():
            await MemoryStore(path).append("s", [USER])
            sys.exit(0)
        asyncio.run(main())
    """
    run(tmp_path / "m.db", script)


@needs_posix
def test_a_fork_gets_connections_of_its_own(tmp_path: Path) -> None:
    script = """
        store = MemoryStore(path)
        asyncio.run(store.append("s", [USER]))
        asyncio.run(store.load("s"))
        pid = os.fork()
        if pid == 0:
            seq = asyncio.run(store.append("s", [USER]))
            entries = asyncio.run(store.load("s"))
            asyncio.run(store.close())
            os._exit(0 if (seq, len(entries)) == (2, 2) else 1)
        _, status = os.waitpid(pid, 0)
        print(status, asyncio.run(store.append("s", [USER])), asyncio.run(store.integrity_check()))
    """
    if sys.version_info >= (3, 12):  # it warns of every fork beside a thread
        script = "\n        import warnings; warnings.simplefilter('ignore', DeprecationWarning)" + script
    assert run(tmp_path / "m.db", script) == "0 3 []"


# ------------------------------------------------------------------ many


async def test_eight_processes_write_at_once(tmp_path: Path) -> None:
    path, count = tmp_path / "m.db", 40
    async with MemoryStore(path) as store:
        await store.append("all", [USER])
    script = """
        async def main():
            async with MemoryStore(path) as store:
                print("ready", flush=True)
                sys.stdin.readline()
                seqs = [await store.append("all", [USER]) for _ in range(int(sys.argv[2]))]
            print(*seqs)
        asyncio.run(main())
    """
    children = [start(path, script, str(count)) for _ in range(8)]
    for child in children:
        assert child.stdout and child.stdout.readline() == "ready\n"
    seqs: list[int] = []
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        out, err = child.communicate(timeout=50)
        assert err == "" and child.returncode == 0, err
        seqs += map(int, out.split())
    assert sorted(seqs) == list(range(2, 8 * count + 2))
    async with MemoryStore(path) as store:
        assert len(await store.load("all")) == 8 * count + 1
        assert await store.integrity_check() == []


def test_two_processes_make_the_file_at_once(tmp_path: Path) -> None:
    script = """
        async def main():
            async with MemoryStore(path) as store:
                print(await store.append(str(os.getpid()), [USER]))
        asyncio.run(main())
    """
    children = [start(tmp_path / "m.db", script) for _ in range(4)]
    for child in children:
        out, err = child.communicate(timeout=50)
        assert (out.strip(), err) == ("1", "")


# ------------------------------------------------------------------ the file


async def test_another_program_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path, busy_timeout_s=0.2) as store:
        await store.append("s", [USER])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MemoryStoreError, match="wait and try again") as caught:
            await store.append("s", [USER])
        assert caught.value.reason == "locked" and str(path) in str(caught.value)
        assert len(await store.load("s")) == 1  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert await store.append("s", [USER]) == 2


async def test_a_writer_of_ours_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path) as first, MemoryStore(path, busy_timeout_s=0.1) as second:
        done = asyncio.Event()
        loop, released = asyncio.get_running_loop(), threading.Event()
        await second.append("s", [USER])
        holds = asyncio.create_task(
            first._db.write(lambda db: (loop.call_soon_threadsafe(done.set), released.wait(30)))
        )
        await done.wait()
        with pytest.raises(MemoryStoreError) as caught:
            await second.append("s", [USER])
        assert caught.value.reason == "locked"
        released.set()
        await holds
        assert await second.append("s", [USER]) == 2


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 8000])
async def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(MemoryStoreError) as caught:
            await MemoryStore(path).append("s", [USER])
        assert caught.value.reason == "corrupt" and "backup" in str(caught.value)
        assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


async def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path) as store:
        await store.append("s", [{**USER, "content": "word " * 200} for _ in range(300)])
    data = bytearray(path.read_bytes())
    for page in range(len(data) // 4096 // 2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(data)
    async with MemoryStore(path) as store:
        assert await store.integrity_check() != []
        with pytest.raises(MemoryStoreError, match="damaged") as caught:
            await store.load("s")
        assert caught.value.reason == "corrupt"


async def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(MemoryStoreError, match="another program's database") as caught:
        await MemoryStore(path).open()
    assert caught.value.reason == "foreign_file" and path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]  # nothing was laid beside it


async def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = MemoryStore(tmp_path / "file" / "m.db")
    with pytest.raises(MemoryStoreError) as caught:
        await store.open()
    assert caught.value.reason == "io"
    (tmp_path / "file").unlink()
    assert await store.append("s", [USER]) == 1  # it tries again
    await store.close()


@needs_posix
async def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    async with MemoryStore(path) as store:
        await store.append("s", [USER])
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" or os.geteuid() == folder.stat().st_uid:
            folder.chmod(0o755) if folder != Path("/tmp") and folder != Path("/") else None
    path.chmod(0o444)
    script = """
        import aiosqlite, sqlite3, any_agent.memory.trouble
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write everything
        async def main():
            try:
                await MemoryStore(path).append("s", [USER])
            except Exception as error:
                print(type(error).__name__, error.reason)
        asyncio.run(main())
    """
    try:
        tmp_path.chmod(0o555)
        assert run(path, script) == "MemoryStoreError read_only"
    finally:
        tmp_path.chmod(0o755)
        path.chmod(0o600)
    async with MemoryStore(path) as store:
        assert len(await store.load("s")) == 1


@needs_posix
async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    script = """
        import resource
        async def main():
            store = MemoryStore(path)
            await store.append("s", [USER])
            used = os.path.getsize(path + "-wal")
            resource.setrlimit(resource.RLIMIT_FSIZE, (used + 1_500_000, resource.RLIM_INFINITY))
            kept, reasons = 1, set()
            for place in range(40):
                big = {**USER, "content": "x" * 40_000}
                answers = await asyncio.gather(
                    store.append("s", [big]), store.append("s", [big, big]), return_exceptions=True
                )
                for count, answer in zip((1, 2), answers):
                    if isinstance(answer, int):
                        kept += count
                    else:
                        reasons.add((type(answer).__name__, answer.reason))
            print(kept, len(await store.load("s")), *reasons)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(await store.append("s", [USER]) == kept + 1, await store.integrity_check())
            await store.close()
        asyncio.run(main())
    """
    first, second = run(path, script).splitlines()
    kept, found, *reasons = first.split(maxsplit=2)
    assert kept == found and 1 < int(kept) < 120
    assert "MemoryStoreError" in reasons[0] and ("io" in reasons[0] or "disk_full" in reasons[0])
    assert second == "True []"
    async with MemoryStore(path) as store:
        assert len(await store.load("s")) == int(kept) + 1


async def test_a_full_database_undoes_only_what_did_not_fit(tmp_path: Path) -> None:
    """SQLite answers a full disk by undoing the whole transaction; those who shared it must not lose theirs."""
    async with MemoryStore(tmp_path / "m.db") as store:
        await store.append("s", [USER])
        await store._db.alone(
            lambda db: db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 40}")
        )
        big = {**USER, "content": "y" * 400_000}
        answers = await asyncio.gather(
            store.append("a", [USER]), store.append("b", [big]), store.append("c", [USER]), return_exceptions=True
        )
        assert answers[0] == 1 and answers[2] == 1
        assert isinstance(answers[1], MemoryStoreError) and answers[1].reason == "disk_full"
        assert [len(await store.load(s)) for s in "abc"] == [1, 0, 1]
        await store._db.alone(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
        assert await store.append("b", [big]) == 1
