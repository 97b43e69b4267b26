"""Record and replay: model calls are written on a tape, and played back without a model.

A tape is a file of JSON lines: one head, then one line per call with its request, its deltas with their times, and how
it ended. Secrets do not get onto it.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, suppress
from hashlib import sha256
from time import perf_counter
from typing import Any

from ..errors import ConfigurationError, ProviderError, TapeMismatchError
from ..masking import known_secrets
from ..protocols import Model
from ..types import Delta, ModelRequest, StreamEnd
from .on_tape import Json, delta_json, delta_of, difference, error_json, error_of, masked_deltas, request_json

VERSION = 1
TOLD = ("served_window", "count_prompt")  # what a model may be asked beside its calls
MOST_HEAD_BYTES = 4_096
_BINARY = getattr(os, "O_BINARY", 0)  # on Windows, where lines would end otherwise
LEAVE_S = 5.0  # a stream that its consumer left is left again, sooner or later


class Tape:
    """A file of model calls. What is recorded replaces what was on it; no file is touched before the first call, and
    none that is something else than a tape.

    Args:
        secrets: texts that never get onto it, beside everything that has the shape of a key and the values of
            environment variables like `OPENAI_API_KEY`.
    """

    def __init__(self, path: str | os.PathLike[str], *, secrets: Iterable[str] = ()) -> None:
        self.path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self.secrets = known_secrets(secrets)
        self._calls: list[Json] | None = None
        self._told: dict[tuple[str, str, str], list[Any]] = {}
        self._first_place: dict[str, Any] = {}
        self._is_begun = False
        self._played = 0

    def hide(self, secret: str | None) -> None:
        """One more text that must not get onto the tape."""
        self.secrets = known_secrets([*self.secrets, secret], {})

    # -------------------------------------------------------------- recording

    def write(self, entry: Json) -> None:
        """Append one line; the first one begins the tape anew, for the user's eyes only.

        Raises:
            ConfigurationError: it cannot be written, or something else than a tape is there.
        """
        lines = [entry] if self._is_begun else [{"kind": "tape", "version": VERSION}, entry]
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            # Not emptied as it is opened: what is there is looked at first, and nothing can come between.
            how = os.O_WRONLY | os.O_APPEND if self._is_begun else os.O_RDWR
            with os.fdopen(os.open(self.path, how | os.O_CREAT | _BINARY, 0o600), "wb") as file:
                if not self._is_begun and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    self._check_head(os.read(file.fileno(), MOST_HEAD_BYTES))
                    os.lseek(file.fileno(), 0, os.SEEK_SET)
                    os.ftruncate(file.fileno(), 0)
                file.write(b"".join(map(_line, lines)))
        except OSError as error:
            text = f"the tape {self.path} cannot be written: {error.strerror or error}"
            raise ConfigurationError(text, field="record", value=self.path) from None
        self._is_begun = True

    def check_place(self) -> None:
        """Before the first call, which costs something: whether a tape may begin here.

        Raises:
            ConfigurationError: something else than a tape is there.
        """
        if not self._is_begun and os.path.isfile(self.path):
            with suppress(OSError), open(self.path, "rb") as file:  # `write` tells of it
                self._check_head(file.read(MOST_HEAD_BYTES))

    def _check_head(self, start: bytes) -> None:
        """Raises if a file that starts so is no tape: it would be lost."""
        try:
            is_tape = not start or json.loads(start.partition(b"\n")[0])["kind"] == "tape"
        except (ValueError, KeyError, TypeError, RecursionError):
            is_tape = False
        if not is_tape:
            text = f"{self.path} is there and is no tape; it stays as it is. Record to another file, or remove this one"
            raise ConfigurationError(text, field="record", value=self.path)

    # -------------------------------------------------------------- playing

    @property
    def unplayed_calls(self) -> int:
        """Recorded calls that nobody has asked for yet."""
        self._load()
        return len(self._calls or ())

    def take(self, model: str, base_url: str | None, request: Json) -> Json:
        """The first unplayed call with this request.

        Raises:
            TapeMismatchError: there is none; tells the first difference to the call that was expected.
        """
        self._load()
        assert self._calls is not None
        for place, call in enumerate(self._calls):
            if call["model"] == model and call["request"] == request:
                self._played += 1
                return self._calls.pop(place)
        call_number = self._played + 1
        if not self._calls:
            text = f"the tape {self.path} ends after {self._played} calls, and {model} is asked once more"
            raise TapeMismatchError(text, path=self.path, call_number=call_number)
        expected = next((call for call in self._calls if call["model"] == model), self._calls[0])
        said = (
            f"call {call_number}, to {model}, is not on the tape {self.path}; next on it is call {expected['number']}"
        )
        if expected["model"] != model:
            raise TapeMismatchError(
                f"{said}, to {expected['model']}", path=self.path, call_number=call_number, difference="model"
            )
        where = difference(expected["request"], request)
        raise TapeMismatchError(f"{said}:\n{where}", path=self.path, call_number=call_number, difference=where)

    @property
    def first_model(self) -> str:
        """The name of the model that was asked first; '': none was."""
        return str(self.first_place["model"])

    @property
    def first_place(self) -> dict[str, Any]:
        """Model and base URL of the first call, as options name them."""
        self._load()
        return self._first_place

    def tells(self, kind: str, model: str) -> bool:
        self._load()
        return any(place[:2] == (kind, model) for place in self._told)

    def told(self, kind: str, model: str, about: str = "") -> Any:
        """What the model told beside its calls, in that order; the last word holds. None: nothing was told."""
        self._load()
        said = self._told.get((kind, model, about)) or [None]
        return said.pop(0) if len(said) > 1 else said[0]

    def _load(self) -> None:
        if self._calls is not None:
            return
        try:
            with open(self.path, encoding="utf-8") as file:
                head, *entries = [json.loads(line) for line in file if line.strip()]
            if head["kind"] != "tape" or head["version"] > VERSION:
                raise ValueError(f"its head is {head}")
            calls = [{**one, "number": n} for n, one in enumerate([e for e in entries if e["kind"] == "call"], 1)]
            if any(not call.keys() >= {"model", "request", "deltas", "ended"} for call in calls):
                raise ValueError("a call is not whole")
            first = calls[0] if calls else {}
            self._first_place = {"model": first.get("model", ""), "base_url": first.get("base_url")}
            for one in entries:
                if one["kind"] != "call":
                    self._told.setdefault((one["kind"], one["model"], one["about"]), []).append(one["value"])
        except FileNotFoundError:
            text = f"there is no tape {self.path}: make one with Agent(…, record={self.path!r})"
            raise ConfigurationError(text, field="replay", value=self.path) from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            text = f"{self.path} is no tape of this version: {error}"
            raise ConfigurationError(text, field="replay", value=self.path) from None
        self._calls = calls

    def __repr__(self) -> str:
        return f"Tape({self.path!r})"


class RecordingModel:
    """A model whose calls are written on a tape."""

    def __init__(self, model: Model, tape: Tape | str) -> None:
        self.inner = model
        self.tape = tape if isinstance(tape, Tape) else Tape(tape)
        self.tape.hide(getattr(model, "api_key", None))

    @property
    def name(self) -> str:
        return self.inner.name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["inner"], name)
        return self._noted(name, found) if name in TOLD else found

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        self.tape.check_place()
        said: list[Json] = []
        entry: Json = {"kind": "call", "model": self.name, "base_url": getattr(self.inner, "base_url", None)}
        entry |= {"request": request_json(request, self.tape.secrets), "ended": "left"}
        started = perf_counter()
        try:
            async with aclosing(self.inner.stream(request)) as deltas:  # type: ignore[type-var]
                async for delta in deltas:
                    said.append({**delta_json(delta), "at_ms": round((perf_counter() - started) * 1000, 1)})
                    if isinstance(delta, StreamEnd):
                        entry["ended"] = "end"
                    yield delta
        except ProviderError as error:
            entry |= {"ended": "error", "error": error_json(error, self.tape.secrets)}
            raise
        finally:
            self.tape.write({**entry, "deltas": masked_deltas(said, self.tape.secrets)})

    def _noted(self, kind: str, asked: Any) -> Any:
        async def ask(*given: Any) -> Any:
            self.tape.check_place()
            value = await asked(*given)
            about = _digest(given, self.tape.secrets)
            self.tape.write({"kind": kind, "model": self.name, "about": about, "value": value})
            return value

        return ask

    async def aclose(self) -> None:
        await self.inner.aclose()


class ReplayModel:
    """Answers from a tape what was recorded for the same request; nothing is sent anywhere.

    Args:
        model: the model that was recorded, for its name and address; or its name.
        keeps_pace: wait between deltas as the recorded model did.
    """

    def __init__(self, tape: Tape | str, model: Model | str | None = None, *, keeps_pace: bool = False) -> None:
        self.tape = tape if isinstance(tape, Tape) else Tape(tape)
        self.keeps_pace = keeps_pace
        self._model = model
        self.base_url = getattr(model, "base_url", None)
        self.provider = getattr(model, "provider", None)

    @property
    def name(self) -> str:
        if self._model is None:
            return self.tape.first_model
        return self._model if isinstance(self._model, str) else self._model.name

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """Raises:
        TapeMismatchError: the request is not the recorded one.
        """
        call = self.tape.take(self.name, self.base_url, request_json(request, self.tape.secrets))
        past_ms = 0.0
        for said in call["deltas"]:
            if self.keeps_pace and said["at_ms"] > past_ms:
                await asyncio.sleep((said["at_ms"] - past_ms) / 1000)
                past_ms = said["at_ms"]
            yield delta_of(said)
        if call["ended"] == "error":
            raise error_of(call["error"])
        if call["ended"] == "left":
            await asyncio.sleep(LEAVE_S)
            text = f"call {call['number']} of the tape {self.tape.path} ends where its consumer left; this one stayed"
            raise TapeMismatchError(text, path=self.tape.path, call_number=call["number"], difference="ended")

    def __getattr__(self, kind: str) -> Any:
        if kind not in TOLD or not self.tape.tells(kind, self.name):
            raise AttributeError(kind)

        async def ask(*given: Any) -> Any:
            return self.tape.told(kind, self.name, _digest(given, self.tape.secrets))

        return ask

    async def aclose(self) -> None:
        return None


def _line(entry: Json) -> bytes:
    """An entry as a line of JSON; half surrogates, which no file takes, are escaped."""
    try:
        text = json.dumps(entry, ensure_ascii=False, default=str, separators=(",", ":"))
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(entry, default=str, separators=(",", ":")).encode() + b"\n"


def _digest(given: tuple[Any, ...], secrets: tuple[str, ...]) -> str:
    """Stands for the request that was asked about."""
    said = [request_json(one, secrets) for one in given]
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16] if said else ""
