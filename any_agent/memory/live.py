"""Which entries still hold, as SQL of every database: what was rewound or replaced stays in the journal, untold."""

from __future__ import annotations

_REWOUND = "SELECT 1 FROM rewinds r WHERE r.session_id = {table}.session_id AND r.seq > {table}.seq"
# An interaction follows all messages of its turn: it is gone when one of the messages before it is.
_SOME_BEFORE = (
    "SELECT 1 FROM messages m WHERE m.session_id = r.session_id AND m.seq > r.after_seq AND m.seq < interactions.seq"
)

# Conditions on the table of a kind, under its own name; kinds that are not here always hold.
LIVE = {
    "message": "state = 'live'",
    "interaction": (
        f"NOT EXISTS ({_REWOUND.format(table='interactions')} AND (r.after_seq = 0 OR EXISTS ({_SOME_BEFORE})))"
    ),
    "checkpoint": f"NOT EXISTS ({_REWOUND.format(table='checkpoints')} AND r.after_seq < checkpoints.covers_seq)",
}
