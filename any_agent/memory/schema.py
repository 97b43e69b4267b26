"""The tables of the SQLite store, by version. A new version is a new entry in MIGRATIONS; old ones never change."""

from __future__ import annotations

APPLICATION_ID = 0x616E7961  # "anya": tells our files from others


def _journal(table: str, columns: str) -> str:
    """A table of entries: the kind's own columns, then what every kind has."""
    return f"""
CREATE TABLE {table} (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    {columns},
    run_id TEXT, turn INTEGER, created_at REAL NOT NULL, extra TEXT
);
CREATE UNIQUE INDEX {table}_by_seq ON {table} (session_id, seq);
"""


_SESSIONS = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- The highest fence of deleted sessions.
INSERT INTO meta VALUES ('fence', 0);

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    last_seq INTEGER NOT NULL DEFAULT 0,
    updated_at REAL NOT NULL,
    title TEXT, summary TEXT, model TEXT, status TEXT, options_digest TEXT,
    parent_session_id TEXT, forked_from TEXT, metadata TEXT,
    created_at REAL NOT NULL, extra TEXT
) WITHOUT ROWID;
-- Entries without a session belong to this row, which no list shows.
INSERT INTO sessions (session_id, updated_at, created_at) VALUES ('', 0, 0);
CREATE INDEX sessions_by_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;

CREATE TABLE session_tags (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (session_id, tag)
) WITHOUT ROWID;
CREATE INDEX session_tags_by_tag ON session_tags (tag);

-- No reference to sessions: a lease may be there before the first entry.
CREATE TABLE leases (
    session_id TEXT PRIMARY KEY, owner TEXT NOT NULL, fence INTEGER NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, process_start TEXT NOT NULL,
    ttl_s REAL NOT NULL, acquired_at REAL NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
"""

_LEDGER = (
    "purpose TEXT NOT NULL, server TEXT, model TEXT, input_tokens INTEGER, output_tokens INTEGER, "
    "cached_tokens INTEGER, reasoning_tokens INTEGER, cost_usd REAL, queue_s REAL, first_token_s REAL, "
    "tokens_per_s REAL, duration_s REAL, outcome TEXT NOT NULL, error_type TEXT, parent_session_id TEXT"
)
_JOURNALS = "".join(
    _journal(table, columns)
    for table, columns in (
        ("messages", "role TEXT NOT NULL, content TEXT NOT NULL, pinned INTEGER NOT NULL, state TEXT NOT NULL"),
        (
            "tool_calls",
            "call_id TEXT NOT NULL, state TEXT NOT NULL, name TEXT, arguments TEXT, effect TEXT, idempotency_key TEXT, "
            "result TEXT, error_type TEXT, duration_s REAL, message_seq INTEGER, attempts INTEGER NOT NULL",
        ),
        ("model_calls", _LEDGER),
        (
            "audits",
            "who TEXT, decision TEXT NOT NULL, rule TEXT, reason TEXT, tool_name TEXT, call_id TEXT",
        ),
        (
            "approvals",
            "approval_id TEXT NOT NULL UNIQUE, call_id TEXT, tool_name TEXT, arguments TEXT, reason TEXT, "
            "state TEXT NOT NULL, answer TEXT, answered_by TEXT, answered_at REAL",
        ),
        ("interactions", "prompt TEXT NOT NULL, response TEXT NOT NULL, metadata TEXT"),
        ("checkpoints", "summary TEXT NOT NULL, covers_seq INTEGER NOT NULL"),
        ("events", "name TEXT NOT NULL, body TEXT"),
        ("rewinds", "after_seq INTEGER NOT NULL, state TEXT NOT NULL"),
    )
)
_INDEXES = """
CREATE INDEX tool_calls_open ON tool_calls (session_id, call_id) WHERE state IN ('started', 'unknown');
CREATE INDEX approvals_pending ON approvals (created_at) WHERE state = 'pending';
CREATE INDEX model_calls_by_time ON model_calls (created_at);
CREATE INDEX interactions_by_time ON interactions (created_at);
"""

# Few indexes: each is a page more to write in every commit.
# Words to search lie in `texts` (see indexing.py), with zero-width spaces in scripts that have none (see words.py).
_SEARCH = """
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, title TEXT NOT NULL, digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, indexed_at REAL NOT NULL
);
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq INTEGER,
    document_id INTEGER REFERENCES documents ON DELETE CASCADE,
    role TEXT, heading TEXT, start_line INTEGER, end_line INTEGER,
    created_at REAL NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX texts_by_seq ON texts (session_id, seq);
CREATE INDEX texts_by_document ON texts (document_id) WHERE document_id IS NOT NULL;
CREATE VIRTUAL TABLE texts_fts USING fts5 (
    text, content = 'texts', content_rowid = 'id', tokenize = "unicode61 remove_diacritics 2"
);
CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN
    INSERT INTO texts_fts (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN
    INSERT INTO texts_fts (texts_fts, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TABLE vectors (
    text_id INTEGER PRIMARY KEY REFERENCES texts ON DELETE CASCADE,
    model TEXT NOT NULL, vector BLOB NOT NULL
);
CREATE TABLE responses (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, session_id TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
"""

_VIEWS = """
CREATE VIEW ledger AS SELECT
    date(created_at, 'unixepoch') AS day, session_id, parent_session_id, run_id, turn, purpose, server, model,
    coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens,
    coalesce(cached_tokens, 0) AS cached_tokens, coalesce(reasoning_tokens, 0) AS reasoning_tokens,
    cost_usd, queue_s, first_token_s, tokens_per_s, duration_s, outcome, error_type, created_at
FROM model_calls;
CREATE VIEW ledger_by_day AS SELECT
    day, count(*) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd, sum(duration_s) AS duration_s, sum(outcome <> 'ok') AS failed_calls
FROM ledger GROUP BY day;
CREATE VIEW ledger_by_model AS SELECT
    model, server, count(*) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd, sum(duration_s) AS duration_s, sum(outcome <> 'ok') AS failed_calls
FROM ledger GROUP BY model, server;
CREATE VIEW tools_by_name AS SELECT
    name, count(*) AS calls, sum(state = 'failed') AS failed_calls, sum(state = 'unknown') AS unknown_calls,
    sum(duration_s) AS duration_s
FROM tool_calls GROUP BY name;
"""

# Place n leads from version n to n + 1.
MIGRATIONS: tuple[str, ...] = (_SESSIONS + _JOURNALS + _INDEXES + _SEARCH + _VIEWS,)
VERSION = len(MIGRATIONS)
