"""The seam of stores: what a store does, and the plain data it answers with.

Every store passes the suite of `any_agent.testing.store_suite`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .entries import Entry


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found: a message, an interaction, or a piece of an indexed document.

    Attributes: source ("message", "interaction", "document"), score (higher is better; comparable within one search
    only), created_at (seconds since 1970), path, heading, start_line, end_line (documents only).
    """

    source: str
    text: str
    snippet: str
    score: float
    created_at: float
    session_id: str = ""
    seq: int | None = None
    role: str | None = None
    path: str | None = None
    heading: str | None = None
    start_line: int | None = None
    end_line: int | None = None

    @property
    def citation(self) -> str:
        """Where it stands: `notes.md:12-20`, or `session 4f…, entry 7`."""
        if self.path is not None:
            return f"{self.path}:{self.start_line}-{self.end_line}"
        return f"session {self.session_id}, entry {self.seq}"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums over ledger rows. `cost_usd` counts the calls with a known price, None when there is none; `unpriced_calls`
    is how many had no price.

    Attributes: key (what was grouped by; "" for all), failed_calls (outcome not "ok"), first_token_s and tokens_per_s
    (means over the calls that told it).
    """

    key: str = ""
    calls: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    unpriced_calls: int = 0
    duration_s: float = 0.0
    first_token_s: float | None = None
    tokens_per_s: float | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Holder:
    """Who may write to a session, until when (seconds since 1970, the database's clock)."""

    session_id: str
    owner: str
    fence: int
    host: str
    pid: int
    acquired_at: float
    expires_at: float

    def __str__(self) -> str:
        return f"{self.owner} (process {self.pid} on {self.host.split('/')[0]})"


Spent = UsageRow  # what was used, all in one row

GROUPS = ("day", "hour", "model", "server", "session", "purpose", "outcome", "run", "tag", "tool")


@runtime_checkable
class Store(Protocol):
    """Keeps what must not be lost. What a call acknowledged survives the death of the process.

    Entries are dicts with a `kind` (see `entries.KINDS`). All entries of a session share one counter, `seq`, from 1.
    Raises MemoryStoreError when the database fails, InvalidInputError for what is no entry; then nothing was written.
    """

    async def open(self) -> None:
        """Make it ready. Other calls do it themselves, also after `aclose`."""

    async def aclose(self) -> None:
        """Give everything back. Safe to call twice."""

    # -- the journal

    async def append(
        self,
        session_id: str,
        entries: Sequence[Mapping[str, Any]],
        *,
        fence: int | None = None,
        is_last: bool = False,
    ) -> int:
        """Keep all entries or none; returns the seq of the last one. A right fence prolongs its lease.

        Args:
            is_last: give the session back in the same transaction, as `release` does.

        Raises:
            SessionFencedError: `fence` is not the session's current one; nothing was written.
        """

    async def load(
        self,
        session_id: str,
        after: int = 0,
        *,
        kinds: Sequence[str] | None = None,
        limit: int | None = None,
        include_rewound: bool = False,
    ) -> list[Entry]:
        """Entries with a seq above `after`, by seq; what was rewound or replaced only when asked for."""

    async def session(self, session_id: str) -> Entry | None:
        """What is known of a session: title, tags, message_count, last_seq, updated_at, …"""

    async def list_sessions(
        self,
        limit: int = 50,
        offset: int = 0,
        tag: str | None = None,
        search: str | None = None,
        parent_session_id: str | None = None,
    ) -> list[Entry]:
        """Sessions, the last changed first; those of subagents where a tag, a search or their parent is given.

        Args:
            search: words of the title, the summary or what was said.
        """

    async def fork(self, session_id: str, new_session_id: str, up_to: int | None = None) -> int:
        """Copy a session's history up to a seq (None: all); returns the last seq of the copy."""

    async def delete(self, session_id: str, *, keep_ledger: bool = False) -> int:
        """Delete a session, its subagents', and every word of them, from the file too; returns how many sessions.

        Args:
            keep_ledger: leave the figures of their model calls, without a session.
        """

    async def delete_tag(self, tag: str, *, keep_ledger: bool = False) -> int:
        """Delete all sessions of a tag."""

    # -- one writer per session

    async def lease(self, session_id: str, owner: str, ttl_s: float = 30.0) -> int:
        """Become the session's only writer for `ttl_s` seconds; returns the fence for `append`.

        Each fence of a session is one above the last: who gets its own plus one knows that nobody held it in between.

        Raises:
            SessionBusyError: somebody else is; names them.
        """

    async def renew(self, session_id: str, fence: int, ttl_s: float = 30.0) -> None:
        """Prolong the lease from now.

        Raises:
            SessionFencedError: it was lost.
        """

    async def release(self, session_id: str, fence: int) -> None:
        """Give the session back; quiet when it was lost already."""

    async def holder(self, session_id: str) -> Holder | None:
        """Who may write to it now."""

    # -- approvals

    async def pending_approvals(self, session_id: str | None = None) -> list[Entry]:
        """Approvals nobody has answered, the oldest first, each with its session_id."""

    async def approval(self, approval_id: str) -> Entry | None: ...

    async def answer_approval(self, approval_id: str, state: str, answer: Any = None, answered_by: str = "") -> Entry:
        """Answer "allowed" or "denied", from any process; the first answer holds.

        Raises:
            InvalidInputError: there is none, or it has another answer.
        """

    # -- the ledger

    async def usage(
        self,
        session_id: str | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        group_by: str | None = None,
    ) -> list[UsageRow]:
        """Sums by one of GROUPS (None: one row for all), by key. A session counts its subagents. Times: see Hit."""

    async def spent(
        self,
        session_id: str | None = None,
        *,
        run_id: str | None = None,
        tag: str | None = None,
        since: float | None = None,
    ) -> UsageRow:
        """What was used so far, by all processes: for budgets."""

    async def cached(self, key: str) -> Any:
        """A kept response that has not expired; None: none."""

    async def cache(self, key: str, value: Any, ttl_s: float, session_id: str = "") -> None:
        """Keep a response (JSON) for `ttl_s` seconds; it goes with its session, without one with any."""

    # -- finding and keeping house

    async def search(
        self,
        query: str,
        limit: int = 5,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        role: str | None = None,
        sources: Sequence[str] | None = None,
        since: float | None = None,
    ) -> list[Hit]:
        """The best hits, whatever the query's text is; [] when nothing fits."""

    async def stats(self) -> dict[str, Any]: ...

    async def cleanup(self, older_than: Any = None, keep_last: int | None = None) -> int:
        """Delete old sessions; returns how many."""
