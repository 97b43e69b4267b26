"""What every store must do, as tests for pytest. Subclass `StoreSuite` and give it a fixture `store`:

    class TestMyStore(StoreSuite):
        @pytest.fixture
        async def store(self):
            async with MyStore(...) as store:
                yield store

For what needs two stores on the same data, override `another`. The tests are coroutines: pytest-asyncio runs them, in
its auto mode.
"""

from __future__ import annotations

from .store_finding import FindingSuite
from .store_journal import JournalSuite


class StoreSuite(JournalSuite, FindingSuite):
    """All tests. A store may hold other sessions: every test makes ids and words of its own.

    Attributes: has_another (False: the data cannot be opened twice, as with ":memory:").
    """
