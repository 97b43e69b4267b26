"""Vectors of texts, from an OpenAI-compatible server or by LiteLLM; hand one to `MemoryStore(embed=…)`."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from .. import config
from ..config.layers import NO_KEY
from ..config.providers import proxy_for
from ..errors import InvalidResponseError, ProviderTimeoutError, StreamInterruptedError
from . import failures
from .failures import Where
from .halves import whole

_MOST_ANSWER_BYTES = 200_000_000


class Embeddings:
    """An embedding model: `await embeddings(["a", "b"])` gives one vector per text.

    The texts go to the server that is named, and nowhere else.

    Args:
        model: as the server lists it, or LiteLLM's name (`voyage/voyage-3`).
        base_url: of an OpenAI-compatible server; None: what environment, config files and the model's name say.
        door: "auto" takes the direct one where a base_url is known, and LiteLLM otherwise.
        timeout_s: how long one call may take; None: for ever.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        provider: str | None = None,
        door: Literal["auto", "direct", "litellm"] = "auto",
        timeout_s: float | None = 60.0,
    ) -> None:
        self.model = model
        self._door = door
        self._named = {"model": model, "base_url": base_url, "api_key": api_key, "provider": provider}
        self._timeout_s = timeout_s
        self._route: config.Route | None = None

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        """The vectors, in the order of the texts.

        Raises:
            ProviderError: the server failed, or its answer is no list of vectors.
            ConfigurationError: it is not clear which server is meant.
        """
        if not texts:
            return []
        route = self._route = self._route or config.route(config.resolve(self._named), door=self._door)
        where = Where(
            route.model,
            route.provider,
            route.base_url,
            (route.api_key,) if route.api_key not in (None, *NO_KEY) else (),
        )
        ask = self._ask_litellm if route.door == "litellm" else self._ask_server
        try:
            data = await asyncio.wait_for(ask(route, where, [whole(text) for text in texts]), self._timeout_s)
        except asyncio.TimeoutError:
            raise where.error(ProviderTimeoutError, f"no vectors within {self._timeout_s:g} s (timeout_s)") from None
        return _vectors(data, len(texts), where)

    async def _ask_server(self, route: config.Route, where: Where, texts: list[str]) -> Any:
        from .servers import open_client

        url = f"{route.base_url}/embeddings"
        body = json.dumps({"model": route.model, "input": texts, "encoding_format": "float"}).encode()
        headers = {"Content-Type": "application/json"}
        if route.api_key:
            headers["Authorization"] = f"Bearer {route.api_key}"
        proxy = proxy_for(route.base_url or "")
        # A redirect would carry the texts to a place the user did not name.
        options: dict[str, Any] = {"headers": headers, "allow_redirects": False, "proxy": proxy, "timeout": None}
        has_answered = False
        async with open_client() as client:
            try:
                async with client.post(url, data=body, **options) as response:
                    has_answered = True
                    raw = await response.content.read(_MOST_ANSWER_BYTES if response.status == 200 else 65_536)
                    while response.status == 200 and (more := await response.content.readany()):
                        raw += more
            except Exception as error:
                if isinstance(error, asyncio.TimeoutError) or not _is_network(error):
                    raise
                if has_answered:
                    raise where.error(StreamInterruptedError, f"the connection broke ({error})") from None
                raise failures.unreachable(where, str(error) or type(error).__name__) from None
        if response.status != 200:
            raise failures.from_answer(where, response.status, raw.decode("utf-8", "replace"), response.headers)
        try:
            answer = json.loads(raw)
        except ValueError:
            raise where.error(InvalidResponseError, f"the answer is no JSON: {raw[:200]!r}") from None
        if isinstance(answer, dict) and "data" not in answer and "error" in answer:
            raise failures.from_answer(where, 200, answer)
        return answer

    async def _ask_litellm(self, route: config.Route, where: Where, texts: list[str]) -> Any:
        from .litellm.clients import leave_loop, use_loop
        from .litellm.errors import explained
        from .litellm.routes import address
        from .litellm_wrapper import _load

        litellm = await asyncio.to_thread(_load)
        place = address(route.model, route.provider, route.base_url, route.api_key)
        await use_loop(self, litellm)
        try:
            answer = await litellm.aembedding(
                model=place.model,
                input=texts,
                api_key=place.api_key,
                api_base=place.base_url,
                timeout=self._timeout_s,
                max_retries=0,
                caching=False,
            )
        except Exception as error:
            raise explained(error, where, has_begun=False) from None
        finally:
            await leave_loop(self)
        return answer.model_dump() if hasattr(answer, "model_dump") else answer


def _is_network(error: Exception) -> bool:
    """The error came from the socket or from aiohttp, which is imported elsewhere."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "aiohttp"


def _vectors(answer: Any, count: int, where: Where) -> list[list[float]]:
    try:
        items = sorted(answer["data"], key=lambda item: int(item["index"]))
        vectors = [[float(number) for number in item["embedding"]] for item in items]
        places = [int(item["index"]) for item in items]
    except (KeyError, TypeError, ValueError) as error:
        raise where.error(InvalidResponseError, f"the answer holds no vectors: {error!r}") from None
    if places != list(range(count)) or len({len(vector) for vector in vectors}) != 1:
        raise where.error(InvalidResponseError, f"{len(vectors)} vectors came for {count} texts")
    return vectors
