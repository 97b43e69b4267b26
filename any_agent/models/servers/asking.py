"""Which model servers run here, what they have loaded, the window they really serve, and how they count tokens.

Everything is judged by the shape of the JSON, never by the status alone: LM Studio answers unknown paths with 200.
A server that does not answer, or answers something else, is None; nothing raises for that.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...config.providers import proxy_for
from ..halves import mended
from ..loading import load
from .looks import identified
from .places import Address, Sighting, addresses_here, nothing_to_take, with_v1
from .shapes import (
    ServedModel,
    Server,
    ServerCache,
    State,
    Window,
    as_object,
    best_model,
    find_model,
    is_text_only,
)

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER_BYTES = 8_000_000
# A llama.cpp router would load the model to answer, were it not told otherwise.
LOOK_S = 1.0  # an absent server refuses at once; a busy machine answers late
TOKENIZE = "/tokenize?autoload=false"
APPLY_TEMPLATE = "/apply-template?autoload=false"
INPUT_TOKENS = "/v1/chat/completions/input_tokens?autoload=false"


async def probe(
    base_url: str,
    *,
    api_key: str | None = None,
    provider: str | None = None,
    only: str | None = None,
    timeout_s: float = 2.0,
    client: aiohttp.ClientSession | None = None,
) -> Server | None:
    """What runs at one address: kind, version, models with their served windows and abilities.

    Args:
        base_url: with or without /v1.
        provider, only: whose shape to look for first, and the one model that is wanted; they save requests.
        timeout_s: seconds for each request; the first that stays silent ends the probe.
        client: from `open_client`, to keep connections.

    Returns:
        None when no model server answers there.
    """
    async with _session(client) as session:
        line = _Line(session, Address(with_v1(base_url), api_key=api_key), timeout_s)
        return await identified(line, provider=provider, only=only)


async def served_window(
    base_url: str,
    model: str,
    *,
    api_key: str | None = None,
    provider: str | None = None,
    timeout_s: float = 2.0,
    client: aiohttp.ClientSession | None = None,
    cache: ServerCache | None = None,
) -> Window | None:
    """The window `model` is served with; None when nothing tells (most clouds, a model that is not loaded).

    Args:
        provider: whose shape to look for first; it saves requests.
        cache: certain windows are taken from it and kept in it.
    """
    address = Address(with_v1(base_url), api_key=api_key)
    if cache is not None and (known := cache.windows.get((address.base_url, model))):
        return known
    async with _session(client) as session:
        server = await identified(_Line(session, address, timeout_s), provider=provider, only=model)
    found = find_model(server, model) if server else None
    if found is None or found.window_tokens is None:
        return None
    window = Window(found.window_tokens, found.source, found.is_window_certain)
    if cache is not None and window.is_certain:
        cache.windows[address.base_url, model] = window
    return window


async def discover(candidates: Sequence[str | Address] | None = None, *, timeout_s: float = LOOK_S) -> list[Server]:
    """The servers that answer, in the order of the candidates; all are asked at once and past any proxy.

    Args:
        candidates: base URLs with or without /v1 (a plain URL is sent no key); None: `addresses_here()`.
        timeout_s: seconds for everything together.
    """
    return [found.server for found in await _sightings(candidates, timeout_s) if found.server]


async def resolve_auto(
    candidates: Sequence[str | Address] | None = None, *, timeout_s: float = LOOK_S
) -> tuple[Server, ServedModel]:
    """The model `Agent("auto")` takes, see `best_model`.

    Raises:
        ServerUnreachableError: no server answered; the text says what was tried and how to go on.
        AuthenticationError: every server that answered wants a key.
        ModelNotFoundError: servers answered, but have no model to talk to.
    """
    started = time.perf_counter()
    sightings = await _sightings(candidates, timeout_s)
    best = best_model([found.server for found in sightings if found.server])
    if best is None:
        raise nothing_to_take(sightings, time.perf_counter() - started)
    return best


async def _sightings(candidates: Sequence[str | Address] | None, timeout_s: float) -> list[Sighting]:
    given = addresses_here() if candidates is None else candidates
    named = [Address(one) if isinstance(one, str) else one for one in given]
    addresses = [replace(one, base_url=with_v1(one.base_url)) for one in named]
    async with _session(None) as session:
        deadline = time.monotonic() + timeout_s  # after the import of aiohttp, which takes as long

        async def look(address: Address) -> Sighting:
            line = _Line(session, address, timeout_s, deadline=deadline, may_use_proxy=False)
            server = await identified(line)
            return Sighting(address, server, line.trouble or "no model server")

        return list(await asyncio.gather(*map(look, addresses)))


# ------------------------------------------------------------------ how it counts


async def tokenize(
    base_url: str,
    text: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    timeout_s: float = 2.0,
    client: aiohttp.ClientSession | None = None,
    cache: ServerCache | None = None,
) -> int | None:
    """How many tokens the server makes of a text inside a message (no BOS; special tokens count as in a chat).

    Args:
        model: a server with several models needs it.

    Returns:
        None when the server does not count (LM Studio, Ollama, clouds), or did not answer.
    """
    more = {"model": model} if model else {}
    ways: dict[str, _Way] = {  # vLLM first: it refuses llama.cpp's question, llama.cpp answers its with no count
        "vllm": lambda line: line.count(TOKENIZE, {"prompt": text, "add_special_tokens": False, **more}, "count"),
        "llamacpp": lambda line: line.count(TOKENIZE, {"content": text, **more}, "tokens"),
    }
    async with _session(client) as session:
        line = _Line(session, Address(with_v1(base_url), api_key=api_key), timeout_s)
        return await _first_count(line, "text", ways, cache)


async def count_prompt(
    base_url: str,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    timeout_s: float = 2.0,
    client: aiohttp.ClientSession | None = None,
    cache: ServerCache | None = None,
) -> int | None:
    """The `usage.prompt_tokens` that a chat request will report, exactly; None when the server does not tell.

    Args:
        messages, tools: as they go on the wire.
        params: further fields of the request; some change the prompt (tool_choice, chat_template_kwargs, …).
    """
    body = {**(params or {}), "model": model, "messages": list(messages), **({"tools": list(tools)} if tools else {})}

    async def by_template(line: _Line) -> _Count:
        if not is_text_only(messages):  # in the template's text an image is a mere marker
            return _Count(None)
        answer = await line.ask(APPLY_TEMPLATE, body)
        prompt = as_object(answer.data).get("prompt")
        if not isinstance(prompt, str):
            return _Count(None, answer.is_unknown_path)
        # add_special: the chat puts a BOS before it too, where the vocabulary wants one
        asked = {"content": prompt, "add_special": True, "parse_special": True, "model": model}
        return await line.count(TOKENIZE, asked, "tokens")

    ways: dict[str, _Way] = {
        "llamacpp": lambda line: line.count(INPUT_TOKENS, body, "input_tokens"),
        "vllm": lambda line: line.count(TOKENIZE, body, "count"),
        "llamacpp, older": by_template,
    }
    async with _session(client) as session:
        line = _Line(session, Address(with_v1(base_url), api_key=api_key), timeout_s)
        return await _first_count(line, "prompt", ways, cache)


async def _first_count(line: _Line, what: str, ways: Mapping[str, _Way], cache: ServerCache | None) -> int | None:
    """Try the ways of counting, the known one first, until one is this server's."""
    known = cache.counting if cache is not None else {}
    place = (line.base_url, what)
    if place in known and known[place] is None:
        return None
    for name, way in sorted(ways.items(), key=lambda item: item[0] != known.get(place)):
        count = await way(line)
        if count.tokens is not None:
            known[place] = name
        if not count.is_unknown_path:
            return count.tokens
    known[place] = None
    return None


# ------------------------------------------------------------------ HTTP


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    json: Any

    @property
    def data(self) -> Any:
        """The JSON of a success; None otherwise."""
        return self.json if self.status == 200 else None

    @property
    def is_unknown_path(self) -> bool:
        """Whether the server has no such path; a 404 can also mean the model."""
        return self.status in (200, 405, 501) or (self.status == 404 and "model" not in str(self.json).lower())


@dataclass(frozen=True, slots=True)
class _Count:
    tokens: int | None
    is_unknown_path: bool = False


_Way = Callable[["_Line"], Awaitable[_Count]]


class _Line:
    """Requests to one server. After the first one without an answer, all further ones are given up at once.

    Attributes: trouble (why there is no answer: refused, silent, no model server), refusal (the latest answer was that
    it is locked or loading).
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        timeout_s: float,
        *,
        deadline: float | None = None,
        may_use_proxy: bool = True,
    ) -> None:
        self.base_url = address.base_url
        self.trouble = ""
        self.refusal: State | None = None
        self._session = session
        self._timeout_s = timeout_s
        self._deadline = deadline
        self._proxy = proxy_for(address.base_url) if may_use_proxy else None
        self._headers = {"Accept": "application/json"}
        if address.api_key:
            self._headers["Authorization"] = f"Bearer {address.api_key}"

    async def get(self, path: str, body: Any = None) -> Any:
        """The JSON behind a path (a POST when there is a body); None when there is none."""
        return (await self.ask(path, body)).data

    async def props(self, model: str) -> Any:
        """llama.cpp's properties of one model; None when a router has not loaded it."""
        return await self.get(f"/props?model={quote(model, safe='')}&autoload=false")

    async def count(self, path: str, body: Mapping[str, Any], key: str) -> _Count:
        """A number, or the length of a list, in the answer."""
        answer = await self.ask(path, body)
        value = as_object(answer.data).get(key)
        tokens = len(value) if isinstance(value, list) else value if isinstance(value, int) else None
        return _Count(tokens, tokens is None and answer.is_unknown_path)

    async def ask(self, path: str, body: Any = None) -> _Answer:
        import aiohttp

        left_s = min(self._timeout_s, self._deadline - time.monotonic() if self._deadline else self._timeout_s)
        if left_s <= 0:
            self.trouble = self.trouble or "silent"
        if self.trouble:
            return _Answer(0, None)
        try:
            status, raw = await self._fetch(path, body, left_s)
        except asyncio.TimeoutError:
            self.trouble = "silent"
        except aiohttp.ClientConnectorError:
            self.trouble = "refused"
        except (aiohttp.ClientError, OSError):
            self.trouble = "no model server"
        else:
            return self._read(status, raw)
        return _Answer(0, None)

    async def _fetch(self, path: str, body: Any, limit_s: float) -> tuple[int, bytes]:
        import aiohttp

        root = self.base_url.removesuffix("/v1")
        url = self.base_url + path.removeprefix("/v1") if path.startswith("/v1/") else root + path
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else {**self._headers, "Content-Type": "application/json"}
        raw = bytearray()
        # A redirect would carry the key and the text to a place the user did not name.
        async with self._session.request(
            "GET" if data is None else "POST",
            url,
            data=data,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=limit_s),
            allow_redirects=False,
            proxy=self._proxy,
        ) as response:
            while piece := await response.content.readany():
                raw += piece
                if len(raw) > MAX_ANSWER_BYTES:
                    return 0, b""
            return response.status, bytes(raw)

    def _read(self, status: int, raw: bytes) -> _Answer:
        self.refusal = None
        try:
            data = mended(json.loads(raw)) if b"\\u" in raw else json.loads(raw)
        except (ValueError, RecursionError):
            return _Answer(status, None)
        if status != 200 and isinstance(data, dict) and data.keys() & {"error", "detail", "message"}:
            if status in (401, 403):
                self.refusal = "locked"
            elif status == 503 and "loading" in str(data).lower():
                self.refusal = "loading"
        return _Answer(status, data)


def open_client() -> aiohttp.ClientSession:
    """Connections to be kept between calls, for one event loop; the caller closes them."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


@asynccontextmanager
async def _session(client: aiohttp.ClientSession | None) -> AsyncIterator[aiohttp.ClientSession]:
    if client is not None:
        yield client
        return
    await load("aiohttp")
    async with open_client() as own:
        yield own
