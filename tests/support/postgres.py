"""A real PostgreSQL server for the tests: a fresh cluster in a folder of its own, reached by a Unix socket only.

Debian keeps the server's programs out of PATH, in /usr/lib/postgresql/*/bin. PostgreSQL refuses to run as root: then it
runs as the user that its package made, or as nobody. Without `fsync`: the tests kill the server, not the machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ABSENT = "PostgreSQL's server is not installed (Debian: apt install postgresql): its store is not tested"
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
_STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def server_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, of the newest version; None: it is not installed."""

    def version(folder: Path) -> float:
        return float(folder.parent.name) if folder.parent.name.replace(".", "", 1).isdigit() else 0.0

    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    in_path = shutil.which("initdb")
    folders += [Path(in_path).resolve().parent] if in_path else []
    return next((one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()), None)


def _other_user() -> dict[str, Any]:
    """For subprocess: who runs the server when we are root."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user to run it as")


@dataclass
class PostgresServer:
    """A running server with the database `test` of the role `app`, which is no superuser.

    A context manager: leaving it ends the server and removes its files, and so does the end of this process.
    """

    folder: Path
    programs: Path
    user: dict[str, Any] = field(default_factory=_other_user)
    _server: subprocess.Popen[bytes] | None = None
    _guard: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"host={self.folder} dbname=test user=app"

    def start(self) -> None:
        """Start it, again if need be, and wait until it answers.

        Raises:
            RuntimeError: it did not start; the message ends with its log.
        """
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self.user
            )
        limit = time.monotonic() + 30
        while self._run("psql", "-qtAX", "-c", "SELECT 1", "postgres", must_work=False) != "1":
            if self._server.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; "immediate" is as if it had crashed."""
        if self._server is not None:
            self._server.send_signal(_STOPS[mode])
            self._server.wait(30)
            self._server = None

    def sql(self, statement: str, database: str = "test") -> str:
        """What psql, as the superuser, prints for a statement."""
        return self._run("psql", "-qtAX", "-v", "ON_ERROR_STOP=1", "-c", statement, database)

    def _run(self, program: str, *arguments: str, must_work: bool = True) -> str:
        environ = {**os.environ, "PGHOST": str(self.folder), "PGUSER": "admin"}
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, env=environ, cwd=self.folder, capture_output=True, text=True, **self.user)
        if must_work and done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}{done.stdout}")
        return done.stdout.strip()

    def __enter__(self) -> PostgresServer:
        if self.user:
            os.chown(self.folder, self.user["user"], self.user["group"])
        # The shell outlives a killed test run, and cleans up after it.
        script = 'read _; kill -QUIT "$(head -n 1 data/postmaster.pid 2>/dev/null)" 2>/dev/null; cd / && rm -rf "$0"'
        self._guard = subprocess.Popen(["sh", "-c", script, str(self.folder)], cwd=self.folder, stdin=subprocess.PIPE)
        try:
            data = str(self.folder / "data")
            # The locale as most servers have it: what is a letter, and what comes first, depends on it.
            locale = ("--locale=C.UTF-8", "--encoding=UTF8")
            self._run("initdb", "-D", data, "-U", "admin", "-A", "trust", "--no-sync", *locale)
            self.start()
            self.sql("CREATE ROLE app LOGIN", "postgres")
            self.sql("CREATE DATABASE test OWNER app", "postgres")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop("immediate")
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait(30)


def start_postgres(programs: Path) -> PostgresServer:
    """A fresh server, to be used as a context manager. Its folder's path is short: a socket's may have 107 bytes."""
    return PostgresServer(Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), programs)
