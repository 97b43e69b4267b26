"""The direct door: OpenAI-compatible servers by base URL, over aiohttp, with our own SSE reader.

It reads the wire itself, so it knows how a stream really ended; one connection pool serves each (loop, base URL, key).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from ..config.providers import proxy_for
from ..errors import ModelNotFoundError, ProviderError, StreamInterruptedError
from ..types import Delta, ModelRequest
from . import failures
from .emulation import ToolMode, Ways
from .failures import Where
from .halves import whole
from .openai_answer import Answer
from .sse import SseReader
from .time_limits import LOADING_PAUSES_S, LoadingWait, first_token_limit_s, is_loading, not_connected, too_silent
from .wire import check_params, to_server, tools_to_wire

if TYPE_CHECKING:
    import aiohttp

DRAIN_S = 0.25  # how long to wait for the end of the body after [DONE], so that the connection can be used again


class DirectModel:
    """One model on one OpenAI-compatible server.

    Args:
        model: the id as the server lists it.
        base_url: with `/v1`, e.g. `http://127.0.0.1:1234/v1`; the prompt goes there and nowhere else.
        api_key: sent as Bearer; None sends no Authorization at all.
        loading_pauses_s: seconds between two tries while the server says that it is loading the model.
        tool_mode: how tools are told; `auto`: natively, and in the prompt once the server refused that.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        provider: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        loading_pauses_s: Sequence[float] = LOADING_PAUSES_S,
        tool_mode: ToolMode = "auto",
    ) -> None:
        self.model = model
        self.base_url = base_url.rstrip("/")
        self.provider = provider
        self.api_key = api_key
        self._loading_pauses_s = loading_pauses_s
        self.ways = Ways(tool_mode)
        self._headers = dict(headers or {})
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self.where = Where(model, provider, self.base_url, (api_key,) if api_key else ())
        self._pool_key = (self.base_url, *(f"{k}:{v}" for k, v in sorted(self._headers.items())))

    @property
    def name(self) -> str:
        return self.model

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """Ask the server; yields deltas as they arrive. Raises ProviderErrors only."""
        if "aiohttp" not in sys.modules:
            await _load()
        import aiohttp

        answer = Answer(self.where, request)
        response: aiohttp.ClientResponse | None = None
        loading: LoadingWait | None = None
        has_token = False
        limit_s = first_token_limit_s(request)
        timeout = aiohttp.ClientTimeout(total=None, connect=request.connect_timeout_s, sock_read=limit_s)
        try:
            body = self._body(self.ways.asked(request))
            response = await self._post(body, timeout)
            while response.status != 200:
                refusal = await self._refusal(response)
                response.close()
                response = None
                if is_loading(refusal):
                    loading = loading or LoadingWait(self.where, limit_s, self._loading_pauses_s)
                    yield loading.news(refusal)
                    await loading.pause()
                elif (again := self.ways.after_refusal(refusal, request)) is not None:
                    body = self._body(again)
                else:
                    raise refusal
                response = await self._post(body, timeout)
            reader = SseReader()
            while data := await response.content.readany():
                for event in reader.feed(data):
                    for delta in answer.take(event):
                        yield delta
                if answer.is_done:
                    break
                if not has_token and (answer.delivered_chars or answer.has_calls):  # also one that is held back
                    has_token = True
                    _expect_within(response, request.timeout_s)
            else:
                for event in reader.end():
                    for delta in answer.take(event):
                        yield delta
            for delta in answer.end(reader.whole_body()):
                yield delta
            self.ways.note(answer.speech.dialect, has_native_calls=answer.has_calls)
            await _drain(response)
        except ModelNotFoundError as error:  # some servers say so in the stream
            from .servers.nearest import with_nearest

            raise await with_nearest(error, self.base_url, self.model, self.api_key) from None
        except aiohttp.ConnectionTimeoutError:
            raise await self._unreachable(not_connected(self.where, request)) from None
        except asyncio.TimeoutError:
            delivered = answer.delivered_chars
            raise too_silent(self.where, request, has_token=has_token, delivered_chars=delivered) from None
        except (aiohttp.ClientError, OSError) as error:
            raise await self._broken(error, answer.delivered_chars, had_answer=response is not None) from None
        finally:
            if response is not None and not response.closed:
                response.close()

    async def served_window(self) -> int | None:
        """Tokens of the window the server really serves; None: it does not tell."""
        from .servers import served_window

        window = await served_window(self.base_url, self.model, api_key=self.api_key, provider=self.provider)
        return window.tokens if window else None

    async def count_prompt(self, request: ModelRequest) -> int | None:
        """The server's own count of what would be sent; None: it has none (llama.cpp and vLLM do)."""
        from .servers import count_prompt

        request = self.ways.asked(request)
        messages, tools = to_server(request.messages, self.provider), tools_to_wire(request.tools)
        return await count_prompt(self.base_url, self.model, messages, tools, api_key=self.api_key)

    async def aclose(self) -> None:
        """Close this loop's pool when no other model uses it."""
        pools = _POOLS.get(asyncio.get_running_loop(), {})
        pool = pools.get(self._pool_key)
        if pool is not None:
            pool.users.discard(self)
            if not pool.users:
                del pools[self._pool_key]
                await pool.aclose()

    # -------------------------------------------------------------- out

    def _body(self, request: ModelRequest) -> bytes:
        check_params(request.params)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": to_server(request.messages, self.provider),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for name, value in request.params.items():
            if value is not None:
                body[name] = value
        if request.tools:
            body["tools"] = tools_to_wire(request.tools)
            if request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
        else:
            body.pop("parallel_tool_calls", None)
        body.update(request.extra_body)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        try:
            return text.encode()
        except UnicodeEncodeError:  # half of a character, in an option or a tool: messages are whole already
            return whole(text).encode()

    def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        pools = _POOLS.get(loop)
        if pools is None:
            for dead in [known for known in _POOLS if known.is_closed()]:
                del _POOLS[dead]
            pools = _POOLS[loop] = {}
        pool = pools.get(self._pool_key)
        if pool is None or pool.session.closed:
            pool = pools[self._pool_key] = _Pool(self.base_url, self._headers)
        pool.users.add(self)
        return pool

    async def _post(self, body: bytes, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        import aiohttp

        pool = self._pool()
        await pool.guard_start()
        url = f"{self.base_url}/chat/completions"
        for resends_left in (2, 1, 0):
            try:
                # A redirect would carry the prompt to a place the user did not name.
                response = await pool.session.post(
                    url, data=body, timeout=timeout, allow_redirects=False, proxy=pool.proxy
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A kept-alive connection that the server had closed (llama.cpp does so after every stream): once more.
                if isinstance(error, aiohttp.ClientConnectorError) or not pool.has_answered or not resends_left:
                    raise
                await asyncio.sleep(0)  # the loop now hears of the other closed ones
                continue
            pool.has_answered = True
            return response
        raise AssertionError("unreachable")

    # -------------------------------------------------------------- trouble

    async def _refusal(self, response: aiohttp.ClientResponse) -> ProviderError:
        body = (await response.content.read(65_536)).decode("utf-8", "replace")
        if 300 <= response.status < 400:
            target = response.headers.get("Location", "?")
            body = f"redirects to {target}; nothing is sent there."
        return failures.from_answer(self.where, response.status, body, response.headers)

    async def _unreachable(self, error: ProviderError) -> Exception:
        """The error, or the one that knows more: no TLS is spoken there."""
        from .servers.scheme import with_scheme

        return await with_scheme(error, self.where)

    async def _broken(self, error: BaseException, delivered_chars: int, *, had_answer: bool) -> Exception:
        import aiohttp

        cause = str(getattr(error, "os_error", None) or error) or type(error).__name__
        if had_answer or isinstance(error, aiohttp.ServerDisconnectedError):
            return self.where.error(
                StreamInterruptedError,
                f"the connection broke {delivered_chars} characters into the answer ({type(error).__name__}: {cause})",
                delivered_chars=delivered_chars,
            )
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            cause = f"{self.base_url!r} is no http:// or https:// address"
        return await self._unreachable(failures.unreachable(self.where, cause))


async def _load() -> None:
    from .loading import load

    await load("aiohttp")


# ------------------------------------------------------------------ connections


class _Pool:
    """A ClientSession that closes with its loop, even when nobody closes it."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        import aiohttp

        self.users: WeakSet[DirectModel] = WeakSet()
        self.proxy = proxy_for(base_url)  # once: reading the environment costs more calls than a whole request
        self.has_answered = False
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json", "Accept": "text/event-stream, application/json", **headers},
        )
        self._guard: AsyncIterator[None] | None = None

    async def guard_start(self) -> None:
        # asyncio.run() closes every started async generator at the end of its loop: ours takes the session along.
        if self._guard is None:
            self._guard = self._close_with_loop()
            await self._guard.__anext__()

    async def _close_with_loop(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.session.close()

    async def aclose(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.aclose()  # type: ignore[attr-defined]


_POOLS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], _Pool]] = WeakKeyDictionary()


def _expect_within(response: aiohttp.ClientResponse, gap_s: float | None) -> None:
    """From now on silence may last `gap_s`; None: for ever."""
    protocol = response.connection.protocol if response.connection else None
    if protocol is not None and protocol.read_timeout != gap_s:
        protocol.read_timeout = gap_s
        if not protocol._reading_paused:  # paused: the server is not the one who is slow, and resuming starts the clock
            protocol.start_timeout()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read to the end of the body, so that the connection can be used again; give up soon."""
    if response.content.at_eof():
        return
    give_up = asyncio.get_running_loop().call_later(DRAIN_S, response.close)
    try:
        while await response.content.readany():
            pass
    except Exception:  # the answer is complete; how the connection ends does not matter
        pass
    finally:
        give_up.cancel()
