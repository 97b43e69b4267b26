"""A child process with everything it starts: one group, which ends as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

KILL_AFTER_S = 1.0  # from the polite signal to the one that cannot be refused
_HAS_GROUPS = hasattr(os, "killpg")


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a child process ended.

    `exit_code` is negative when a signal ended it; `is_cut`: it wrote more than was kept, the middle is left out.
    """

    exit_code: int
    stdout: str
    stderr: str
    is_timed_out: bool = False
    is_stopped: bool = False
    is_cut: bool = False


class ProcessGroup:
    """A running command in a process group of its own.

    Args:
        command: program and arguments; a string is given to the shell.
        input: written to its standard input; None: it has none.
        max_output_bytes: of each stream; the beginning and the end are kept.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str] | str,
        *,
        input: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 1_000_000,
    ) -> None:
        self._process = subprocess.Popen(
            command if isinstance(command, str) else list(command),
            shell=isinstance(command, str),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=_HAS_GROUPS,
        )
        self._lock = threading.Lock()
        self._has_ended = self._is_stopped = self._is_timed_out = False
        self._timers: list[threading.Timer] = []
        self._outputs = (_Output(max_output_bytes), _Output(max_output_bytes))
        pipes = zip(self._outputs, (self._process.stdout, self._process.stderr), strict=True)
        self._readers = [_thread(output.read, pipe) for output, pipe in pipes]
        if input is not None:
            _thread(_write, self._process.stdin, input)

    def stop(self) -> None:
        """End the whole group: asked at once, killed after a second. From any thread, any number of times."""
        with self._lock:
            if self._has_ended or self._is_stopped:
                return
            self._is_stopped = True
            self._signal(signal.SIGTERM)
            self._after(KILL_AFTER_S, lambda: self._signal(signal.SIGKILL if _HAS_GROUPS else signal.SIGTERM))

    def wait(self, timeout_s: float | None = None) -> ProcessResult:
        """Wait in this thread until the command has ended; what it left running is killed."""
        if timeout_s is not None:
            self._after(timeout_s, self._time_out)
        exit_code = self._process.wait()
        with self._lock:
            self._has_ended = True
            for timer in self._timers:
                timer.cancel()
            if _HAS_GROUPS:
                self._signal(signal.SIGKILL)
        for reader in self._readers:
            reader.join(KILL_AFTER_S)  # a process that left the group may hold the pipe open
        out, error = self._outputs
        return ProcessResult(
            exit_code,
            out.text(),
            error.text(),
            is_timed_out=self._is_timed_out,
            is_stopped=self._is_stopped and not self._is_timed_out,
            is_cut=out.is_cut or error.is_cut,
        )

    def _time_out(self) -> None:
        self._is_timed_out = not self._is_stopped
        self.stop()

    def _after(self, delay_s: float, what: Callable[[], None]) -> None:
        timer = threading.Timer(delay_s, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            if _HAS_GROUPS:
                os.killpg(self._process.pid, number)
            else:
                self._process.terminate()


class _Output:
    """The first and the last half of what was written."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max(max_bytes // 2, 1)
        self._head, self._tail = bytearray(), bytearray()
        self._left_out = 0

    def read(self, pipe: IO[bytes]) -> None:
        with pipe, suppress(OSError, ValueError):
            while chunk := os.read(pipe.fileno(), 65_536):
                room = self._half - len(self._head)
                self._head += chunk[:room]
                self._tail += chunk[room:] if room > 0 else chunk
                if len(self._tail) > 2 * self._half:
                    self._trim()
            self._trim()

    def _trim(self) -> None:
        surplus = len(self._tail) - self._half
        if surplus > 0:
            self._left_out += surplus
            del self._tail[:surplus]

    @property
    def is_cut(self) -> bool:
        return self._left_out > 0

    def text(self) -> str:
        mark = f"\n[… {self._left_out} bytes left out …]\n".encode() if self._left_out else b""
        return (bytes(self._head) + mark + bytes(self._tail)).decode("utf-8", "replace")


def _write(pipe: IO[bytes], text: str) -> None:
    with suppress(OSError), pipe:  # it may end without reading
        pipe.write(text.encode("utf-8", "surrogateescape"))


def _thread(work: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, name="any_agent process", daemon=True)
    thread.start()
    return thread
