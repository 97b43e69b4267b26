"""A small JSON file of what was learned: entries by key, kept across runs, never in the way of a run."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 512_000
_VERSION, _NO_TIME = 1, 1e12


def kept_path(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a file of this name lies: in `$ANY_AGENT_HOME`, else in the user's cache folder."""
    if environ.get("ANY_AGENT_HOME"):
        return Path(environ["ANY_AGENT_HOME"]) / name
    import platformdirs

    return platformdirs.user_cache_path("any_agent") / name


@dataclass(frozen=True, slots=True)
class KeptFile:
    """Entries are dicts whose `at` (seconds since 1970) tells when they were made. Making one does no I/O.

    Attributes: path (None: nothing is read or written), field (what the entries stand under), most (entries).
    """

    path: Path | None
    field: str
    most: int

    def read(self) -> dict[str, Any]:
        """The entries by key; a broken, oversized or foreign file counts as empty."""
        if self.path is None:
            return {}
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            content = json.loads(data) if len(data) <= MAX_FILE_BYTES else None
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            return {}
        entries = content.get(self.field)
        return {k: e for k, e in entries.items() if isinstance(e, dict)} if isinstance(entries, dict) else {}

    def write(self, entries: dict[str, Any]) -> dict[str, Any]:
        """Keep the newest entries, all or nothing; returns those that have room.

        Raises:
            OSError: the file cannot be written.
        """
        newest = sorted(entries.items(), key=lambda item: _made_at(item[1]), reverse=True)[: self.most]
        while len(text := json.dumps({"version": _VERSION, self.field: dict(newest)})) > MAX_FILE_BYTES:
            del newest[len(newest) // 2 :]
        if self.path is not None:
            _replace(self.path, text)
        return dict(newest)


def age_s(entry: Mapping[str, Any]) -> float:
    """Seconds since the entry was made; since 1970 when it does not tell."""
    return max(time.time() - _made_at(entry), 0.0)


def _made_at(entry: Mapping[str, Any]) -> float:
    at: Any = entry.get("at")
    is_time = isinstance(at, (int, float)) and not isinstance(at, bool) and 0 <= at < _NO_TIME
    return float(at) if is_time else 0.0


def _replace(path: Path, text: str) -> None:
    """Write all or nothing, readable by the user only."""
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
