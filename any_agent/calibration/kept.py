"""The file that keeps what was learned: one entry per server, model and vocabulary; numbers only, no text."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.kept_file import KeptFile, kept_path
from .features import SIZE
from .fit import Fit, Observation, Trust

_MAX_ENTRIES = 64
_LARGEST = 1e9
SAVE_EVERY_S, _SAVED_AT_ONCE = 30.0, 3


def calibration_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where learned figures are kept: `$ANY_AGENT_HOME/calibration.json`, else in the user's cache folder."""
    return kept_path("calibration.json", environ)


class Calibration:
    """What was learned of each tokenizer. Making one does no I/O; without a path it is never written.

    Args:
        path: Read at the first use, written by `save`; a broken or oversized file counts as empty.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._file = KeptFile(self.path, "fits", _MAX_ENTRIES)
        self._fits: dict[str, Fit] = {}
        self._saved: dict[str, int] = {}  # how much each fit had learned when it was read or written
        self._entries: dict[str, Any] | None = None
        self._writing = threading.Lock()
        self._writes, self._next_write_at = 0, 0.0

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Calibration:
        """The calibration kept at `path` (None: the user's own file); it is read when it is first needed."""
        return cls(calibration_path() if path is None else path)

    def fit(self, server: str | None, model: str, vocabulary: str, trust: Trust = "near") -> Fit:
        """The fit of one tokenizer, the same object each time. Credentials and queries in a URL are left out."""
        place = (server or "").rsplit("@", 1)[-1].split("?", 1)[0].rstrip("/")
        key = f"{place} {model} {vocabulary}"
        found = self._fits.get(key)
        if found is None:
            if self._entries is None:
                self._entries = self._file.read()
            entry = self._entries.get(key) or {}
            if entry.get("trust") == "near" and trust == "exact":  # the name has lied before
                trust = "near"
            found = self._fits[key] = Fit(trust, _observations(entry))
            self._saved[key] = found.learned
        return found

    @property
    def has_news(self) -> bool:
        """Something was learned that is not in the file."""
        return self.path is not None and any(fit.learned != self._saved[key] for key, fit in list(self._fits.items()))

    async def keep(self) -> None:
        """Save in a thread when it is worth it: the first three reports at once, then every half a minute at most."""
        if self.has_news and time.monotonic() >= self._next_write_at:
            self._writes += 1
            self._next_write_at = time.monotonic() + SAVE_EVERY_S if self._writes >= _SAVED_AT_ONCE else 0.0
            await asyncio.to_thread(self.save)

    def save(self) -> bool:
        """Write what was learned since; False: nothing was, there is no path, or the file cannot be written.

        Other entries of the file are kept as they are now, the oldest dropped at 64 entries or 500 kB.
        """
        with self._writing:
            return self._save()

    def _save(self) -> bool:
        known = [(key, fit, fit.learned) for key, fit in list(self._fits.items())]
        changed = {key: (fit, learned) for key, fit, learned in known if learned != self._saved[key]}
        if self.path is None or not changed:
            return False
        entries = self._file.read()
        for key, (fit, _) in changed.items():
            entries[key] = {
                "at": round(time.time()),
                "trust": fit.trust,
                "seen": [_written(o) for o in list(fit.observations)],
            }
        try:
            self._file.write(entries)
        except OSError:
            return False
        self._saved.update({key: learned for key, (_, learned) in changed.items()})
        return True


def _written(observation: Observation) -> list[Any]:
    numbers = [observation.tokens, list(observation.features)]
    return numbers if observation.is_whole else [*numbers, list(observation.touched)]


def _observations(entry: Mapping[str, Any]) -> list[Observation]:
    found: list[Observation] = []
    seen = entry.get("seen")
    for item in seen if isinstance(seen, list) else ():
        match item:
            case [tokens, [*features]]:
                touched = features
            case [tokens, [*features], [*touched]]:
                pass
            case _:
                continue
        numbers = [tokens, *features, *touched]
        if len(numbers) == 2 * SIZE + 1 and len(features) == SIZE and all(map(_is_number, numbers)):
            found.append(Observation(features, tokens, touched))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < _LARGEST
