"""Where the time of one run went (`any-agent run --profile-run`)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from ..types import AssistantMessage, AttemptFailed, Event, ModelLoading, ResultMessage, ToolMessage, ToolStarted


@dataclass(slots=True)
class RunProfile:
    """Watches one run by its own clock. Wall seconds, apart from `cpu_s`: processor seconds of this process.

    `first_token_s` is what passed before the first token of each answer: network, the server's queue, loading the model
    (of that: `loading_s`) and reading the prompt. `tools_s` counts tools that ran at the same time once.
    """

    total_s: float = 0.0
    startup_s: float = 0.0  # before the first request: settings, imports, the store
    first_token_s: float = 0.0
    loading_s: float = 0.0
    generation_s: float = 0.0
    failed_s: float = 0.0  # tries that failed, and the waits after them
    tools_s: float = 0.0
    cpu_s: float = 0.0
    _began: float = 0.0
    _cpu_began: float = 0.0
    _tools_began: float | None = None

    def __post_init__(self) -> None:
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def take(self, event: Event) -> None:
        match event:
            case AssistantMessage(attempt=attempt) if attempt is not None:
                first_s = min(attempt.first_token_s or 0.0, attempt.duration_s)
                self.first_token_s += first_s
                self.generation_s += attempt.duration_s - first_s
            case AttemptFailed(attempt):
                self.failed_s += attempt.duration_s
            case ModelLoading(waited_s=waited_s):
                self.loading_s = max(self.loading_s, waited_s)
            case ToolStarted() if self._tools_began is None:
                self._tools_began = time.perf_counter()
            case ToolMessage():
                self._end_tools()
            case ResultMessage():
                self._end(event)
            case _:
                pass

    def _end_tools(self) -> None:
        if self._tools_began is not None:
            self.tools_s += time.perf_counter() - self._tools_began
            self._tools_began = None

    def _end(self, result: ResultMessage) -> None:
        self._end_tools()
        self.total_s = time.perf_counter() - self._began
        self.cpu_s = time.process_time() - self._cpu_began
        self.startup_s = max(self.total_s - result.timings.total_s, 0.0)
        if result.error is not None:
            last = getattr(result.error, "attempts", ())[-1:]
            self.failed_s += sum(attempt.duration_s for attempt in last)

    @property
    def rest_s(self) -> float:
        """What is in no part: our own work between the steps, waits between tries."""
        parts = self.startup_s + self.first_token_s + self.generation_s + self.failed_s + self.tools_s
        return max(self.total_s - parts, 0.0)

    def as_dict(self) -> dict[str, float]:
        told = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        return {name: round(value, 6) for name, value in {**told, "rest_s": self.rest_s}.items()}

    def rows(self) -> list[tuple[str, ...]]:
        """(part, seconds, percent, note) for people."""
        loading = f"of that {self.loading_s:.2f} s loading the model" if self.loading_s else ""
        parts = [
            ("start", self.startup_s, "settings, imports, the store"),
            ("until the first token", self.first_token_s, loading or "queue, prompt"),
            ("generation", self.generation_s, ""),
            ("failed tries", self.failed_s, ""),
            ("tools", self.tools_s, ""),
            ("rest", self.rest_s, "waits between tries, our own work"),
            ("all", self.total_s, f"of that {self.cpu_s:.3f} s of our own processor time"),
        ]
        whole = self.total_s or 1.0
        return [
            (name, f"{seconds:9.3f} s", f"{seconds / whole:4.0%}", note)
            for name, seconds, note in parts
            if seconds or name != "failed tries"
        ]
