"""The second door: every provider LiteLLM knows. The only file that imports LiteLLM, and only when it is asked.

LiteLLM is a translator here: it streams, and everything it could decide, retry, remember or guess is kept from it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import (
    ConfigurationError,
    MissingExtraError,
    ModelLoadingError,
    ModelNotFoundError,
    ProviderError,
)
from ..types import Delta, ModelRequest
from .emulation import ToolMode, Ways
from .failures import Where
from .halves import mended
from .litellm.clients import leave_loop, use_loop
from .litellm.errors import explained, is_end_without_reason
from .litellm.routes import NO_KEY, Address, address
from .litellm.stream import Reading
from .litellm.tap import Patience, Tap
from .time_limits import LOADING_PAUSES_S, LoadingWait, first_token_limit_s, is_loading, too_silent
from .wire import check_params, to_server, tools_to_wire

# LiteLLM makes a client per value, so it is always the same; how long a server may stay silent is watched here.
_NEVER_S = 86_400.0
_WITH_CONNECT_LIMIT = ("azure", "bedrock", "openai")  # for others LiteLLM makes one number of all limits
_ENVIRONMENT = {  # no price list fetched, no .env file read
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
}
_OWN = (  # what this door says itself, or never says
    *("model", "messages", "stream", "stream_options", "tools", "tool_choice", "mock_response", "acompletion"),
    *("api_key", "api_base", "base_url", "custom_llm_provider", "timeout", "num_retries", "max_retries", "fallbacks"),
    *("input_cost_per_token", "output_cost_per_token", "input_cost_per_second", "output_cost_per_second"),
)


class LiteLLMModel:
    """One model of any provider that LiteLLM knows.

    Args:
        model: LiteLLM's name (`anthropic/claude-…`), or the id alone when `provider` or `base_url` says where.
        base_url: required for local servers; the prompt goes there and nowhere else.
        api_key: sent with every call. None: the provider's own environment variable, which goes to the provider's own
            hosts only.
        extra_params: more keyword arguments for LiteLLM, per call (`{"drop_params": True}`).
        context_window: tokens; Ollama is told (`num_ctx`), it would cut the prompt silently otherwise.
        loading_pauses_s: seconds between two tries while the server says that it is loading the model.
        tool_mode: how tools are told; `auto`: natively, and in the prompt once the server refused that.

    Raises:
        ConfigurationError: a local provider without base_url, or an extra parameter that this door decides.
    """

    def __init__(
        self,
        model: str,
        *,
        provider: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        api_version: str | None = None,
        organization: str | None = None,
        extra_params: Mapping[str, Any] | None = None,
        context_window: int | None = None,
        loading_pauses_s: Sequence[float] = LOADING_PAUSES_S,
        tool_mode: ToolMode = "auto",
    ) -> None:
        for name in extra_params or {}:
            if name in _OWN:
                raise ConfigurationError(
                    f"litellm_kwargs may not hold {name!r}: the LiteLLM door decides it",
                    field="litellm_kwargs",
                    value=name,
                )
        self._given = (model, provider, base_url, api_key)
        self._model = model
        self._versions = {"api_version": api_version, "organization": organization}
        self._extra = dict(extra_params or {})
        self._context_window = context_window
        self._loading_pauses_s = loading_pauses_s
        self.ways = Ways(tool_mode)
        self._is_checked = False
        self._settle(address(*self._given))

    @property
    def name(self) -> str:
        return self._model

    @property
    def base_url(self) -> str | None:
        return self._address.base_url

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta]:
        """Ask the model; yields deltas as they arrive.

        Raises:
            ProviderError: asking failed, before or during the stream.
            ConfigurationError: a parameter that is none; nothing was sent.
        """
        check_params(request.params)
        litellm = _litellm or await asyncio.to_thread(_load)
        if not self._is_checked:
            await asyncio.to_thread(self._check, litellm)
        await use_loop(self, litellm)
        limit_s = first_token_limit_s(request)
        patience = Patience(limit_s)
        tap = Tap(self.where, patience)
        reading = Reading(self.where, tap, request)
        wrapper: Any = None
        loading: LoadingWait | None = None
        try:
            while True:
                wrapper, refusal = await self._ask(litellm, request, reading)
                if refusal is None:
                    break
                loading = loading or LoadingWait(self.where, limit_s, self._loading_pauses_s)
                yield loading.news(refusal)
                await loading.pause()
            tap.attach(wrapper)
            while (chunk := await self._wait(wrapper.__anext__(), reading, request)) is not None:
                deltas = reading.take(chunk)
                if not patience.has_token and (reading.delivered_chars or reading.has_calls):
                    patience.expect_within(request.timeout_s)
                for delta in deltas:
                    yield delta
            for delta in reading.end(_cost_usd(litellm, self._address, reading)):
                yield delta
            self.ways.note(reading.speech.dialect, has_native_calls=reading.has_calls)
        finally:
            patience.close()
            if wrapper is not None:
                with suppress(Exception):
                    await wrapper.aclose()

    async def served_window(self) -> int | None:
        """Tokens of the window: a local server's own word, else LiteLLM's table; None: neither knows."""
        place = self._address
        if place.is_local_kind and place.base_url:
            from .servers import served_window

            key = None if place.api_key == NO_KEY else place.api_key
            told = await served_window(place.base_url, place.model_id, api_key=key)
            return told.tokens if told else self._context_window
        litellm = _litellm or await asyncio.to_thread(_load)
        entries = [litellm.model_cost.get(name) or {} for name in (place.model, place.model_id)]
        return next((int(e["max_input_tokens"]) for e in entries if e.get("max_input_tokens")), None)

    async def aclose(self) -> None:
        """Close LiteLLM's connections of this loop when no other model uses them."""
        await leave_loop(self)

    # -------------------------------------------------------------- out

    def _settle(self, place: Address) -> None:
        self._address = place
        secrets = (place.api_key,) if place.api_key and place.api_key != NO_KEY else ()
        self.where = Where(place.model_id, place.owner or place.prefix or None, place.base_url, secrets)

    def _check(self, litellm: Any) -> None:
        """Settle the address with what LiteLLM knows. Blocking: some providers are looked up."""
        known = {str(getattr(name, "value", name)) for name in litellm.provider_list}
        self._settle(address(*self._given, litellm_providers=known))
        place = self._address
        if place.base_url is None:
            self._settle(_guessed(litellm, place))
        if place.is_local_kind:
            # LiteLLM searches its price list 70 times a call for a model that is not in it, and asks Ollama meanwhile,
            # blocking the loop. One entry, of exactly this name, ends both.
            window = {"max_tokens": self._context_window, "max_input_tokens": self._context_window}
            entry = {"litellm_provider": place.prefix, "mode": "chat", "supports_function_calling": True}
            prices = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
            litellm.model_cost.setdefault(place.model, {**entry, **prices, **(window if self._context_window else {})})
        self._is_checked = True

    def _arguments(self, request: ModelRequest) -> dict[str, Any]:
        place = self._address
        params = {name: mended(value) for name, value in request.params.items() if value is not None}
        if not request.tools or place.prefix == "ollama_chat":  # Ollama's protocol has no such word
            params.pop("parallel_tool_calls", None)
        arguments: dict[str, Any] = {
            "model": place.model,
            "messages": _fresh(to_server(request.messages, self.where.provider)),
            "stream": True,
            "stream_options": {"include_usage": True},
            "api_key": place.api_key,
            "api_base": place.base_url,
            "timeout": _never(place.prefix, request.connect_timeout_s),
            "num_retries": 0,
            "max_retries": 0,
            "_skip_mcp_handler": True,  # 1.106 fails on tools without it, others load 250 modules
            **params,
            **{name: value for name, value in self._versions.items() if value is not None},
        }
        if request.tools:
            arguments["tools"] = mended(tools_to_wire(request.tools))
            if request.tool_choice is not None:
                arguments["tool_choice"] = request.tool_choice
        if place.prefix == "ollama_chat" and self._context_window:
            arguments["num_ctx"] = self._context_window
        if request.extra_body:
            more = mended(dict(request.extra_body))
            if place.prefix == "anthropic":  # nests extra_body literally
                arguments.update((name, value) for name, value in more.items() if name not in arguments)
            else:
                arguments["extra_body"] = more
        arguments.update(self._extra)
        return arguments

    # -------------------------------------------------------------- waiting, trouble

    async def _ask(self, litellm: Any, request: ModelRequest, reading: Reading) -> tuple[Any, ProviderError | None]:
        """LiteLLM's stream, or the server's word that it is still loading the model."""
        asked = self.ways.asked(request)
        while True:
            try:
                return await self._wait(litellm.acompletion(**self._arguments(asked)), reading, request), None
            except ModelLoadingError as error:
                if not is_loading(error):
                    raise
                return None, error
            except ProviderError as error:
                again = self.ways.after_refusal(error, request)
                if again is None:
                    raise
                asked = again

    async def _wait(self, thing: Awaitable[Any], reading: Reading, request: ModelRequest) -> Any:
        """Await under the clock; None at the end of a stream. What LiteLLM raises becomes ours."""
        patience = reading.tap.patience
        patience.start()
        try:
            return await thing
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError:
            if not patience.is_own():
                raise
            if reading.tap.is_done:
                return None
            failure = self._too_slow(reading, request)
        except Exception as error:
            is_late = patience.is_own()
            if reading.tap.is_done or (reading.tap.fault is None and is_end_without_reason(error)):
                return None  # the reading knows better what it means
            if is_late:
                failure = self._too_slow(reading, request)
            else:
                failure = reading.tap.fault or explained(error, self.where, has_begun=reading.tap.has_begun)
        finally:
            patience.stop()
        if not failure.delivered_chars:
            failure.delivered_chars = reading.delivered_chars
        if isinstance(failure, ModelNotFoundError) and self._address.is_local_kind:
            from .servers.nearest import with_nearest

            key = None if self._address.api_key == NO_KEY else self._address.api_key
            failure = await with_nearest(failure, self._address.base_url, self._address.model_id, key)
        from .servers.scheme import with_scheme

        raise await with_scheme(failure, self.where)

    def _too_slow(self, reading: Reading, request: ModelRequest) -> ProviderError:
        has_token, delivered = reading.tap.patience.has_token, reading.delivered_chars
        return too_silent(self.where, request, has_token=has_token, delivered_chars=delivered)


def _guessed(litellm: Any, place: Address) -> Address:
    """What LiteLLM reads from a name. Refuses one that it would send to api.openai.com for want of a URL."""
    try:
        model_id, prefix, _, api_base = litellm.get_llm_provider(model=place.model)
    except Exception as error:
        if "Provider NOT provided" in str(error):
            raise ConfigurationError(
                f"LiteLLM cannot tell who serves {place.model!r}: say provider=… or base_url=…",
                field="model",
                value=place.model,
            ) from None
        return place  # LiteLLM says so itself when it is asked
    if prefix in litellm.openai_compatible_providers and api_base is None:
        raise ConfigurationError(f"{prefix} needs a base_url; without one nothing is sent", field="base_url")
    return replace(place, owner=place.owner or prefix, prefix=prefix, model_id=model_id)


def _never(prefix: str, connect_timeout_s: float) -> Any:
    """LiteLLM's `timeout`: none but the one for connecting, where it can be told."""
    if prefix not in _WITH_CONNECT_LIMIT:
        return _NEVER_S
    from httpx import Timeout

    return Timeout(_NEVER_S, connect=connect_timeout_s)


def _fresh(value: Any) -> Any:
    """A copy of lists and dicts: LiteLLM writes into what it is given, and ours is kept for the next call."""
    if value.__class__ is dict:
        return {k: _fresh(v) if v.__class__ is dict or v.__class__ is list else v for k, v in value.items()}
    return [_fresh(v) if v.__class__ is dict or v.__class__ is list else v for v in value]


def _cost_usd(litellm: Any, place: Address, reading: Reading) -> float | None:
    """What the call cost, as told or by the price of the requested model. None: unknown; never a wrong 0."""
    if place.is_local or reading.reported_usage is None:
        return None
    told = getattr(reading.usage, "cost", None)
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        return float(told)
    with suppress(Exception):
        cost = sum(
            litellm.cost_per_token(
                model=place.model_id, custom_llm_provider=place.prefix or None, usage_object=reading.usage
            )
        )
        if cost > 0 or place.model_id.endswith(":free"):
            return float(cost)
    return None


# ------------------------------------------------------------------ LiteLLM itself

_litellm: Any = None
_loading = threading.Lock()


def _load() -> Any:
    """Import LiteLLM, once and quietly. Blocks for seconds: never on an event loop.

    Raises:
        MissingExtraError: it is not installed.
        ConfigurationError: it does not start, mostly for an environment variable of everyday name (JITTER=off).
    """
    global _litellm
    with _loading:
        if _litellm is not None:
            return _litellm
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        _keep_proxies_off_loopback()
        is_first = "litellm" not in sys.modules
        was_collecting = gc.isenabled()
        gc.disable()  # a fifth of the import goes into collecting what it makes
        try:
            import litellm
        except ImportError as error:
            raise MissingExtraError(f"LiteLLM cannot be imported ({error}): pip install 'litellm>=1.99.4,<2'") from None
        except Exception as error:
            raise ConfigurationError(
                f"LiteLLM does not start: {type(error).__name__}: {error} (is an environment variable such as JITTER, "
                "REQUEST_TIMEOUT or DEFAULT_MAX_TOKENS set?)"
            ) from None
        finally:
            if was_collecting:
                gc.enable()
        litellm.suppress_debug_info = True  # it prints a banner to stdout for each error
        litellm.disable_hf_tokenizer_download = True
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logger = logging.getLogger(name)
            if "LITELLM_LOG" not in os.environ and logger.level == logging.NOTSET:
                logger.setLevel(logging.ERROR)  # at DEBUG it logs whole prompts
        if is_first:
            _warm_up(litellm)
        _litellm = litellm
        return litellm


def _warm_up(litellm: Any) -> None:
    """Have it import its other half, away from the event loop. Nothing is sent."""
    place = {"model": "hosted_vllm/warm-up", "api_base": "http://127.0.0.1:9/v1", "api_key": NO_KEY}
    with suppress(Exception):
        asked = [{"role": "user", "content": "."}]
        for _ in litellm.completion(**place, messages=asked, stream=True, mock_response=".", max_retries=0):
            pass


def _keep_proxies_off_loopback() -> None:
    """Where a proxy is set without exceptions, LiteLLM would send even loopback through it."""
    from urllib.request import getproxies_environment

    if not getproxies_environment():
        return
    name = "no_proxy" if "no_proxy" in os.environ else "NO_PROXY"
    known = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
    if "*" not in known:
        os.environ[name] = ",".join(known + [host for host in ("localhost", "127.0.0.1", "::1") if host not in known])
