"""The suite that every store must pass, on the SQLite store: in a file, with less durability, and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from any_agent.memory import MemoryStore
from any_agent.testing.store_suite import StoreSuite


class TestFile(StoreSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[MemoryStore]:
        async with MemoryStore(tmp_path / "memory.db") as store:
            yield store
            await store.open()
            assert await store.integrity_check() == []


class TestFileOfLessDurability(StoreSuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[MemoryStore]:
        async with MemoryStore(tmp_path / "memory.db", durability="process") as store:
            yield store


class TestInMemory(StoreSuite):
    has_another = False

    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryStore]:
        async with MemoryStore(":memory:") as store:
            yield store
