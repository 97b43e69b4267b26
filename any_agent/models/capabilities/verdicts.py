"""What one model on one server can do, found out by asking it, and the file that keeps it. The asking: capabilities.py.

A verdict holds for one (server kind and build, address, model, chat template, door); a change of any asks anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...config.kept_file import KeptFile, age_s, kept_path
from ..servers.shapes import ServedModel, Server

MAX_ENTRIES, MAX_NOTE_CHARS = 200, 160
UNTOLD_BUILD_AGE_S = 14 * 86_400.0  # a server that tells no build may have been updated meanwhile
REFUSAL_AGE_S = 86_400.0  # one without tools or schemas may have been restarted with the flag for them


@dataclass(frozen=True, slots=True)
class Finding:
    """True, False or None (unknown), and why in a few words."""

    value: bool | None = None
    note: str = ""


UNKNOWN = Finding()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model can do. Each field says what was seen; the properties say what to count on.

    Attributes:
        native_tools: `tools` bring tool calls, not text that looks like them.
        text_calls: calls that come as text are read from it; unknown where they are native.
        required_choice, named_choice: `tool_choice` "required", or the name of a tool, is obeyed.
        parallel_calls: several calls come in one answer.
        streamed_arguments: arguments arrive in fragments; False: each call whole.
        json_schema: `response_format` with a schema is enforced; False: ignored or refused, the note says which.
        schema_beside_tools: with tools and a schema in one request, calls still come and the answer obeys the schema.
        late_system: a system message after the first is accepted.
        images: images are accepted and seen.
        reasoning_field: reasoning came apart from the answer.
        calls: how many model calls it took.
        trouble: why the asking ended early; '': it did not.
    """

    native_tools: Finding = UNKNOWN
    text_calls: Finding = UNKNOWN
    required_choice: Finding = UNKNOWN
    named_choice: Finding = UNKNOWN
    parallel_calls: Finding = UNKNOWN
    streamed_arguments: Finding = UNKNOWN
    json_schema: Finding = UNKNOWN
    schema_beside_tools: Finding = UNKNOWN
    late_system: Finding = UNKNOWN
    images: Finding = UNKNOWN
    reasoning_field: Finding = UNKNOWN
    calls: int = 0
    trouble: str = ""

    @property
    def is_complete(self) -> bool:
        """Everything was asked; only then it is kept."""
        return not self.trouble

    @property
    def can_call_tools(self) -> bool | None:
        """Whether tools may stand in a request: True unless it was seen that no call comes of it, native or as text.

        None: the asking ended (`trouble`) before anything of it was seen.
        """
        if self.trouble and self.native_tools.value is None and self.text_calls.value is None:
            return None
        return self.native_tools.value is not False or self.text_calls.value is True

    @property
    def enforces_schema(self) -> bool:
        """True only when it was seen: a server that ignores the schema does so without a word."""
        return self.json_schema.value is True

    @property
    def schema_with_tools(self) -> bool:
        """True only when it was seen; else the schema must wait for a request without tools."""
        return self.schema_beside_tools.value is True

    @property
    def merges_system(self) -> bool:
        """Whether a late system message must be merged into the first one, or sent as the user's."""
        return self.late_system.value is False

    @property
    def can_take_images(self) -> bool | None:
        """True unless it was seen that it cannot; None: the asking ended (`trouble`) before that."""
        return None if self.trouble and self.images.value is None else self.images.value is not False

    def findings(self) -> dict[str, Finding]:
        """All findings by field name, in order."""
        return {name: getattr(self, name) for name in FINDINGS}


FINDINGS = tuple(f.name for f in fields(Verdict) if f.name not in ("calls", "trouble"))


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a verdict is about. `place` is the base URL without credentials; `build` holds kind and version."""

    place: str
    model_id: str
    build: str = ""
    template_id: str = ""
    door: str = "direct"
    tells_build: bool = False

    @property
    def key(self) -> str:
        return f"{self.subject} {self.build} {self.template_id}".rstrip()

    @property
    def subject(self) -> str:
        """Without what changes with an update."""
        return f"{self.place} {self.model_id} {self.door}"


def identity(server: Server, model: ServedModel, door: str = "direct") -> Identity:
    """Who is asked there, from what the server told of itself."""
    parts = [part for part in (server.version, server.build) if part]
    tells_build = bool(parts) and "unknown" not in parts[-1]
    build = "-".join([server.kind, *parts])
    return Identity(place_of(server.base_url), model.id, build, model.template_id or "", door, tells_build)


def place_of(base_url: str) -> str:
    """A base URL without credentials and query."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def verdicts_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where verdicts are kept: `$ANY_AGENT_HOME/capabilities.json`, else in the user's cache folder."""
    return kept_path("capabilities.json", environ)


class Verdicts:
    """The verdicts that are known. Making one does no I/O.

    Args:
        path: read at the first use, written by `put`; a broken or oversized file counts as empty. None: only memory.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._file = KeptFile(self.path, "verdicts", MAX_ENTRIES)
        self._entries: dict[str, Any] | None = None
        self._tried: dict[str, Verdict] = {}  # incomplete ones, in memory only

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Verdicts:
        """The verdicts kept at `path` (None: the user's own file)."""
        return cls(verdicts_path() if path is None else path)

    def get(self, whom: Identity) -> Verdict | None:
        """The verdict on exactly this build, model and template; None: not asked yet, or too long ago."""
        if self._entries is None:
            self._entries = self._file.read()
        entry = self._entries.get(whom.key)
        verdict = _verdict(entry) if entry else None
        if entry is None or verdict is None:
            return self._tried.get(whom.key)
        lacks = False in (verdict.native_tools.value, verdict.json_schema.value)
        most_s = REFUSAL_AGE_S if lacks else float("inf") if whom.tells_build else UNTOLD_BUILD_AGE_S
        return verdict if age_s(entry) <= most_s else self._tried.get(whom.key)

    def put(self, whom: Identity, verdict: Verdict) -> bool:
        """Keep a complete verdict in place of those on other builds and templates of the same model.

        Returns:
            False when it is not complete (then it is remembered, not written), or the file cannot be written.
        """
        if not verdict.is_complete:
            self._tried[whom.key] = verdict
            return False
        entries = {**(self._entries or {}), **self._file.read()}
        for key in [key for key in entries if entries[key].get("of") == whom.subject]:
            del entries[key]
        found = {name: [one.value, one.note] for name, one in verdict.findings().items()}
        entries[whom.key] = {"of": whom.subject, "at": round(time.time()), "calls": verdict.calls, "found": found}
        self._entries = entries
        try:
            self._entries = self._file.write(entries)
        except OSError:
            return False
        return True


def _verdict(entry: Mapping[str, Any]) -> Verdict | None:
    """The verdict an entry holds; None when it is none."""
    found, calls = entry.get("found"), entry.get("calls")
    if not isinstance(found, Mapping) or not isinstance(calls, int):
        return None
    findings: dict[str, Finding] = {}
    for name in FINDINGS:
        match found.get(name):
            case [(True | False | None) as value, str() as note]:
                findings[name] = Finding(value, note[:MAX_NOTE_CHARS])
            case _:
                return None
    return Verdict(**findings, calls=calls, trouble="")
