"""The tables of the PostgreSQL store, by version. A new version is a new entry in MIGRATIONS; old ones never change.

What is JSON is kept as `json`, not `jsonb`: that would change the order of keys, which a prompt cache sees, and refuses
NUL characters. `content::jsonb` makes one of the other in a query.
"""

from __future__ import annotations

from ..trouble import store_error
from .link import Transaction


def _journal(table: str, columns: str) -> str:
    """A table of entries: the kind's own columns, then what every kind has."""
    return f"""
CREATE TABLE {table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq bigint NOT NULL,
    {columns},
    run_id text, turn bigint, created_at double precision NOT NULL, extra json
);
CREATE UNIQUE INDEX {table}_by_seq ON {table} (session_id, seq);
"""


_SESSIONS = """
CREATE TABLE sessions (
    session_id text PRIMARY KEY,
    last_seq bigint NOT NULL DEFAULT 0,
    last_append text,  -- tells later whether it was committed
    updated_at double precision NOT NULL,
    title text, summary text, model text, status text, options_digest text,
    parent_session_id text, forked_from text, metadata json,
    created_at double precision NOT NULL, extra json
) WITH (fillfactor = 70);
-- Entries without a session belong to this row, which no list shows.
INSERT INTO sessions (session_id, updated_at, created_at) VALUES ('', 0, 0);
CREATE INDEX sessions_by_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE TABLE session_tags (
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    tag text NOT NULL,
    PRIMARY KEY (session_id, tag)
);
CREATE INDEX session_tags_by_tag ON session_tags (tag);
-- No reference to sessions: a lease may be there before the first entry. A fence below 0: never leased.
CREATE TABLE leases (
    session_id text PRIMARY KEY, owner text NOT NULL, fence bigint NOT NULL,
    host text NOT NULL, pid bigint NOT NULL, process_start text NOT NULL,
    ttl_s double precision NOT NULL, acquired_at double precision NOT NULL, expires_at double precision NOT NULL
) WITH (fillfactor = 70);
"""
_JOURNALS = "".join(
    _journal(table, columns)
    for table, columns in (
        ("messages", "role text NOT NULL, content json NOT NULL, pinned boolean NOT NULL, state text NOT NULL"),
        (
            "tool_calls",
            "call_id text NOT NULL, state text NOT NULL, name text, arguments json, effect text, idempotency_key text, "
            "result json, error_type text, duration_s double precision, message_seq bigint, attempts bigint NOT NULL",
        ),
        (
            "model_calls",
            "purpose text NOT NULL, server text, model text, input_tokens bigint, output_tokens bigint, "
            "cached_tokens bigint, reasoning_tokens bigint, cost_usd double precision, queue_s double precision, "
            "first_token_s double precision, tokens_per_s double precision, duration_s double precision, "
            "outcome text NOT NULL, error_type text, parent_session_id text",
        ),
        ("audits", "who text, decision text NOT NULL, rule text, reason text, tool_name text, call_id text"),
        (
            "approvals",
            "approval_id text NOT NULL, call_id text, tool_name text, arguments json, reason text, "
            "state text NOT NULL, answer json, answered_by text, answered_at double precision",
        ),
        ("interactions", "prompt text NOT NULL, response text NOT NULL, metadata json"),
        ("checkpoints", "summary json NOT NULL, covers_seq bigint NOT NULL"),
        ("events", "name text NOT NULL, body json"),
        ("rewinds", "after_seq bigint NOT NULL, state text NOT NULL"),
    )
)
_INDEXES = """
CREATE INDEX tool_calls_open ON tool_calls (session_id) WHERE state IN ('started', 'unknown');
CREATE UNIQUE INDEX approvals_by_id ON approvals (approval_id);
CREATE INDEX approvals_pending ON approvals (created_at) WHERE state = 'pending';
CREATE INDEX model_calls_by_time ON model_calls (created_at);
CREATE INDEX model_calls_by_parent ON model_calls (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE INDEX interactions_by_time ON interactions (created_at);
"""
# `words` is made by postgres_words.py, in which all stores fold and cut words alike.
_SEARCH = """
CREATE TABLE documents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, path text NOT NULL, title text NOT NULL, digest text NOT NULL,
    size_bytes bigint NOT NULL, indexed_at double precision NOT NULL
);
CREATE UNIQUE INDEX documents_by_path ON documents (path);
CREATE TABLE texts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    session_id text NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq bigint,
    document_id bigint REFERENCES documents ON DELETE CASCADE,
    role text, heading text, start_line bigint, end_line bigint,
    created_at double precision NOT NULL,
    text text NOT NULL,
    words tsvector NOT NULL
);
CREATE INDEX texts_by_seq ON texts (session_id, seq);
CREATE INDEX texts_by_document ON texts (document_id) WHERE document_id IS NOT NULL;
CREATE INDEX texts_by_words ON texts USING gin (words);
CREATE TABLE vectors (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    text_id bigint REFERENCES texts ON DELETE CASCADE,
    model text NOT NULL, vector bytea NOT NULL,
    PRIMARY KEY (text_id, model)
);
CREATE TABLE responses (
    key text PRIMARY KEY, value json NOT NULL, session_id text NOT NULL,
    created_at double precision NOT NULL, expires_at double precision NOT NULL
);
CREATE INDEX responses_by_session ON responses (session_id);
"""
_VIEWS = """
CREATE VIEW ledger AS SELECT
    CASE WHEN abs(created_at) < 2.5e11 THEN (to_timestamp(created_at) AT TIME ZONE 'UTC')::date END AS day,
    session_id, parent_session_id, run_id, turn, purpose, server, model,
    coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens,
    coalesce(cached_tokens, 0) AS cached_tokens, coalesce(reasoning_tokens, 0) AS reasoning_tokens,
    cost_usd, queue_s, first_token_s, tokens_per_s, duration_s, outcome, error_type, created_at
FROM model_calls;
CREATE VIEW ledger_by_day AS SELECT
    day, count(*) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd, sum(duration_s) AS duration_s, count(*) FILTER (WHERE outcome <> 'ok') AS failed_calls
FROM ledger GROUP BY day;
CREATE VIEW ledger_by_model AS SELECT
    model, server, count(*) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd, sum(duration_s) AS duration_s, count(*) FILTER (WHERE outcome <> 'ok') AS failed_calls
FROM ledger GROUP BY model, server;
CREATE VIEW tools_by_name AS SELECT
    name, count(*) AS calls, count(*) FILTER (WHERE state = 'failed') AS failed_calls,
    count(*) FILTER (WHERE state = 'unknown') AS unknown_calls, sum(duration_s) AS duration_s
FROM tool_calls GROUP BY name;
"""

# Place n leads from version n to n + 1.
MIGRATIONS: tuple[str, ...] = (_SESSIONS + _JOURNALS + _INDEXES + _SEARCH + _VIEWS,)


async def migrate(tx: Transaction, path: str, schema: str, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Make the tables, or lead them to this version, while no other process does.

    Raises:
        MemoryStoreError: they are of a newer any_agent, or no tables of ours.
    """
    if await _version(tx, path, schema, len(migrations)) == len(migrations):
        return
    await tx.send("SELECT pg_advisory_xact_lock(hashtextextended('any_agent ' || %s::text, 0))", (schema,))
    version = await _version(tx, path, schema, len(migrations))
    if version == len(migrations):
        return
    if version == 0:
        if await tx.one("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)) is None:
            await tx.send('CREATE SCHEMA "' + schema.replace('"', '""') + '"')
        await tx.send("CREATE TABLE meta (name text PRIMARY KEY, value bigint NOT NULL)")
        # The highest fence of deleted sessions.
        await tx.send("INSERT INTO meta VALUES ('version', 0), ('fence', 0)")
    for step in migrations[version:]:
        for statement in step.split(";\n"):
            if statement.strip():
                await tx.send(statement)
    await tx.send("UPDATE meta SET value = %s WHERE name = 'version'", (len(migrations),))


async def _version(tx: Transaction, path: str, schema: str, newest: int) -> int:
    found = await tx.one(
        "SELECT count(*) FILTER (WHERE relname = 'meta'), count(*) FROM pg_class "
        "WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) AND relkind IN ('r', 'p', 'v')",
        (schema,),
    )
    if found is None or not found[0]:
        if found and found[1]:
            raise store_error(path, "foreign_file", f"the schema {schema} has tables of another program: name another")
        return 0
    row = await tx.one("SELECT value FROM meta WHERE name = 'version'")
    version = int(row[0]) if row else 0
    if version > newest:
        raise store_error(
            path,
            "newer_schema",
            f"a newer any_agent made it (tables of version {version}, this one knows {newest}): upgrade any_agent, "
            "or name another schema",
        )
    return version
