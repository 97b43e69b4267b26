"""AgentOptions: the options of an agent, checked when they are made, and what the agent reads from them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .. import config
from ..config.wrong_options import option_error
from ..errors import ConfigurationError
from ..tools.subagents import SPELLINGS
from ..types import ToolChoice
from .fields import OptionFields

ROUTE_FIELDS = frozenset({"model", "provider", "base_url", "api_base", "api_key", "api_version", "organization"})
# Three lost packets and a slow name server take less; an address where nobody answers is told soon.
CONNECT_TIMEOUT_S = 10.0
# Ollama gives a model five minutes to load, then a long prompt is read; clouds' own clients wait as long.
FIRST_TOKEN_TIMEOUT_S = 600.0
# Options that are sampling parameters on the wire, under the same name.
SAMPLING = (
    "temperature",
    "max_tokens",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "response_format",
)
_TWO_SPELLINGS = (("base_url", "api_base"), ("context_window_size", "context_window"), ("output_type", "output_format"))


class AgentOptions(OptionFields):
    """How an agent behaves. Takes the fields of every spelling the project promises; unknown names are refused.

    Raises:
        ConfigurationError: names the field, the value and what is allowed.
    """

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise option_error(error, values, AgentOptions.model_fields) from None

    if not TYPE_CHECKING:  # for mypy they stay as pydantic has them: frozen

        def __setattr__(self, name: str, value: Any) -> None:
            text = f"options do not change; use options.replace({name}=…)"
            raise ConfigurationError(text, field=name, value=value)

        def __delattr__(self, name: str) -> None:
            raise ConfigurationError(f"options do not change; {name} stays", field=name)

    def validate(self) -> None:  # type: ignore[override]
        """Options are checked when they are made; this is the promised spelling and does nothing more."""

    def replace(self, **changes: Any) -> AgentOptions:
        """A copy with some fields changed, checked again.

        Raises:
            ConfigurationError: a field is unknown or its value is not allowed.
        """
        given = given_fields(self)
        for one, other in (*_TWO_SPELLINGS, SPELLINGS):
            if one in changes or other in changes:  # two spellings of one thing: the new one holds
                given.pop(one, None)
                given.pop(other, None)
        return type(self)(**{**given, **changes})

    def with_files(self) -> AgentOptions:
        """These options, and those of config files for fields that were not given. Reads files.

        Raises:
            ConfigurationError: a file names an unknown option or a value that is not allowed.
        """
        known = type(self).model_fields
        found = config.resolve({}, known_options=known)
        free = known.keys() - ROUTE_FIELDS - self.model_fields_set
        said = {name: one for name, one in found.items() if name in free and not one.is_only_a_kind}
        if not said:
            return self
        try:
            return self.replace(**{name: one.value for name, one in said.items()})
        except ConfigurationError:
            for name, one in said.items():
                self._check(name, one)
            raise

    def _check(self, name: str, setting: config.Setting) -> None:
        """Raises where the value alone is wrong, and tells where it stands."""
        try:
            type(self)(**{name: setting.value})
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{setting.found_at}{error.message}", field=error.field, value=error.value, allowed=error.allowed
            ) from None

    async def settled(self) -> AgentOptions:
        """With the options of config files; "auto" becomes the best loaded model of `base_url` or of this machine.

        Raises:
            ConfigurationError: see `with_files`.
            ServerUnreachableError: "auto", and no server answers.
        """
        options = self.with_files()
        if options.replay is not None and options.model in (None, "auto"):
            return options.replace(**options.replay.first_place)
        if options.model != "auto":
            return options
        from ..models.servers import Address, addresses_here, resolve_auto

        places = [Address(self.address, api_key=self.api_key)] if self.address else addresses_here()
        server, model = await resolve_auto(places)
        key = next((place.api_key for place in places if place.base_url == server.base_url), self.api_key)
        provider = None if server.kind == "openai_compatible" else server.kind
        return options.replace(model=model.id, provider=provider, base_url=server.base_url, api_key=key)

    def route(self) -> config.Route:
        """Where the model is reached: provider, model, base_url, door. Reads environment and config files.

        Raises:
            ConfigurationError: no model is named, or it is not clear which server is meant.
        """
        named = {name: getattr(self, name) for name in ROUTE_FIELDS - {"base_url", "api_base"}}
        return config.route(config.resolve({**named, "base_url": self.address}), door=self.door)

    def given(self, name: str, default: Any) -> Any:
        """The field's value if the user set it, else `default`."""
        return getattr(self, name) if name in self.model_fields_set else default

    @property
    def address(self) -> str | None:
        return self.base_url or self.api_base

    @property
    def window_tokens(self) -> int | None:
        return self.context_window_size or self.context_window

    def wire_tool_choice(self) -> Any:
        """`tool_choice` as the wire takes it; None for auto, which is every server's default (some refuse the word)."""
        choice = self.tool_choice.value if isinstance(self.tool_choice, ToolChoice) else self.tool_choice
        if choice == "auto":
            return None
        if isinstance(choice, str) and choice not in ("none", "required"):
            return {"type": "function", "function": {"name": choice}}
        return choice

    def time_limits(self) -> dict[str, Any]:
        """The limits of a server's silence in seconds, under their names in ModelRequest."""
        silence_s = inf if self.timeout is None else self.timeout
        generous_s = silence_s if "timeout" in self.model_fields_set else max(silence_s, FIRST_TOKEN_TIMEOUT_S)
        return {
            "timeout_s": self.gap_timeout_s or self.timeout,
            "first_token_timeout_s": self.first_token_timeout_s or generous_s,
            "connect_timeout_s": self.connect_timeout_s or min(CONNECT_TIMEOUT_S, silence_s),
        }

    def fitting(self) -> dict[str, Any]:
        """How history is fitted to the window (arguments of `context.fitted`)."""
        return {
            "window_tokens": self.window_tokens,
            "reserve_tokens": self.max_tokens if self.reserve_tokens is None else self.reserve_tokens,
            "strategy": self.context_strategy,
            "preserve_system": self.preserve_system_prompt,
            "max_history_messages": self.max_history_messages,
            "on_truncation": self.on_truncation,
            "recall_results": self.recall_results,
            "keep_calibration": self.keep_calibration,
        }

    def budget(self) -> dict[str, float]:
        """The limits that were set: cost_usd, tokens, seconds."""
        usd, tokens, seconds = self.max_budget_usd, self.max_budget_tokens, self.max_budget_seconds
        limits = {"cost_usd": usd, "tokens": tokens, "seconds": seconds}
        return {name: float(most) for name, most in limits.items() if most is not None}

    def sampling(self) -> dict[str, Any]:
        """The sampling parameters the user set, by their wire name."""
        return {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}


def given_fields(options: AgentOptions | Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that were set, whatever spelling the options have."""
    if isinstance(options, AgentOptions):
        return {name: getattr(options, name) for name in options.model_fields_set}
    return dict(options or {})
