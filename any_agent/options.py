"""AgentOptions: every option, with its unit and its off-value. Checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from os import PathLike
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from . import config
from .config.wrong_options import option_error
from .hooks import normalised
from .output import OutputOptions
from .permissions import PermissionMode, Rule
from .tools.recall import RecallOptions
from .tools.subagents import SPELLINGS, SubagentOptions
from .types import ContextStrategy, ToolChoice

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


class AgentOptions(OutputOptions, SubagentOptions, RecallOptions):
    """How an agent behaves. Takes the fields of every spelling the project promises; unknown names are refused.

    Raises:
        ConfigurationError: names the field, the value and what is allowed.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    # -- which model
    model: str | None = None
    """Model name; None: taken from the agent, the environment or the config file."""
    provider: str | None = None
    """`lm_studio`, `ollama`, `llamacpp`, `vllm` or a LiteLLM provider; None: told by the model's prefix."""
    base_url: str | None = None
    """Address of an OpenAI-compatible server, with `/v1`; None: the provider's own. `api_base` is the same."""
    api_base: str | None = None
    """Another spelling of `base_url`; None: not given."""
    api_key: str | None = Field(None, repr=False)
    """Key of the server; None: the provider's own environment variable, for that provider only."""
    api_version: str | None = None
    """API version (Azure); None: the provider's default."""
    organization: str | None = None
    """Organization id (OpenAI); None: not sent."""
    door: Literal["auto", "direct", "litellm"] = "auto"
    """Way to the model: `auto` takes the direct door for local servers and explicit base URLs, LiteLLM otherwise."""

    # -- what is asked
    system_prompt: str = ""
    """Instructions put before every conversation; '': none."""
    temperature: float | None = Field(None, ge=0, le=2)
    """Sampling temperature, 0–2; None: the server's default (some models refuse any)."""
    max_tokens: int | None = Field(None, ge=1)
    """Tokens the model may generate per call; None: the server's default."""
    top_p: float | None = Field(None, ge=0, le=1)
    """Nucleus sampling, 0–1; None: the server's default."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """−2–2; None: not sent."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    """−2–2; None: not sent."""
    seed: int | None = None
    """Sampling seed; None: not sent."""
    stop: str | list[str] | None = None
    """Text that ends the answer; None: none."""
    response_format: dict[str, Any] | None = None
    """OpenAI's `response_format`, sent as it is; None: free text."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More fields for the request's JSON body, sent as they are; {}: none."""
    litellm_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More keyword arguments for LiteLLM (LiteLLM door only); {}: none."""

    # -- turns and tools
    max_turns: int | None = Field(None, ge=1)
    """Model calls one prompt may take; None: only `max_tool_iterations` limits."""
    tools: list[Any] = Field(default_factory=list)
    """Tools, plain functions, or names of tools the agent's class knows; []: none."""
    enable_tools: bool = True
    """False: tools are not shown to the model."""
    tool_choice: ToolChoice | str | dict[str, Any] = ToolChoice.AUTO
    """auto, none, required, or the name of the one tool to call first."""
    parallel_tool_calls: bool = True
    """False: the calls of one turn run one after another, and the server is asked for one at a time."""
    auto_execute_tools: bool = True
    """False: the caller runs the tools and answers with `add_tool_result` (as `Client` and `query()` do)."""
    tool_mode: Literal["auto", "native", "prompt"] = "auto"
    """How tools are told: natively; as text in the `prompt`; `auto`: as text where the server takes no tools."""
    reask_tool_calls: bool | None = None
    """Unreadable arguments are asked for once more, held to the schema. None: where a probe saw that schemas bind."""
    max_tool_iterations: int = Field(10, ge=0)
    """Rounds of tool calls one prompt may take; 0: no tool runs."""
    tool_timeout: float | None = Field(300.0, gt=0)
    """Seconds one tool call may take, where the tool sets no timeout of its own; None: no limit."""
    max_parallel_tools: int = Field(8, ge=1)
    """Tools of one turn that run at the same time; 1: one after another (the server may still ask for several)."""
    max_result_tokens: int | None = Field(None, ge=1)
    """Estimated tokens of a tool's result that the model is shown, where the tool sets none; None: all of it."""
    vote: int = Field(1, ge=1)
    """Answers asked for where tools may be called; the calls of the majority count, usage is of all. 1: off."""
    hooks: Mapping[str, list[Any]] = Field(default_factory=dict)
    """Hook functions, or HookMatchers, by event name (`pre_tool_use` or `PreToolUse`); {}: none."""
    observers: list[Any] = Field(default_factory=list)
    """Objects with `on_event(event)`, or functions, that watch; []: none."""

    # -- permissions
    permission_mode: PermissionMode = PermissionMode.DEFAULT
    """What holds where no rule speaks: default, accept-edits, plan, bypass, dont-ask; Claude's spellings too."""
    allowed_tools: list[str] = Field(default_factory=list)
    """Rules of calls that run without asking: `read_file`, `shell(git status:*)`, `write_file(./src/**)`; []: none."""
    disallowed_tools: list[str] = Field(default_factory=list)
    """Rules of calls that never run; they win over everything. []: none."""
    ask_tools: list[str] = Field(default_factory=list)
    """Rules of calls that somebody must allow each time; []: none."""
    can_use_tool: Callable[..., Any] | None = None
    """Function `(tool_name, input, context)` that is asked where no rule or mode allows a call; None: nobody is."""
    pre_tool_hook: Callable[..., Any] | None = None
    """Function `(tool_name, input)` asked before each call: says allow, deny or ask (ToolPermission). None: none."""
    post_tool_hook: Callable[..., Any] | None = None
    """Function `(tool_name, result)` told after every call; None: none."""

    # -- time and trouble
    timeout: float | None = Field(300.0, gt=0)
    """Seconds the server may stay silent (a keep-alive comment counts as life); None: for ever. Refined by the next."""
    connect_timeout_s: float | None = Field(None, gt=0)
    """Seconds to reach the server (name, connection, TLS); None: 10, or `timeout` if that is shorter."""
    first_token_timeout_s: float | None = Field(None, gt=0)
    """Seconds of silence before the first token, while the model loads, the request is queued and the prompt is read;
    also how long a server may say that it is loading. None: `timeout` if you set it, else 600."""
    gap_timeout_s: float | None = Field(None, gt=0)
    """Seconds of silence within an answer; None: `timeout`."""
    retry_on_error: bool = True
    """False: no try is repeated; fallback models are still tried."""
    max_retries: int = Field(3, ge=0)
    """Further tries of the same model after an error that may pass; 0: none."""
    retry_delay: float = Field(1.0, ge=0)
    """Seconds before the first further try; doubled each time, with jitter; Retry-After wins. 0: at once."""
    max_retry_wait: float = Field(120.0, ge=0)
    """Seconds that all waits of one call may take together; 0: never wait."""
    resume_broken_answers: bool = True
    """An answer whose stream breaks is gone on with by the next try or model, nothing twice. False: it is an error."""
    fallback_models: list[str | dict[str, Any]] = Field(default_factory=list)
    """Models tried next: names, or dicts with model, provider, base_url, api_key; []: none."""

    # -- streaming
    stream_by_default: bool = False
    """True: `agent.query()` returns an iterator of text chunks unless told `stream=False`."""
    stream_chunk_size: int = Field(1, ge=1)
    """Fewest characters of a text chunk from `query(stream=True)`; 1: as they arrive."""

    # -- context
    context_strategy: ContextStrategy | Callable[..., Any] = ContextStrategy.SLIDING_WINDOW
    """How history is fitted to the window: sliding, truncate, summarize, adaptive, or a function of your own."""
    context_window_size: int | None = Field(None, ge=256)
    """Tokens of the window; None: what the server says."""
    context_window: int | None = Field(None, ge=256)
    """Another spelling of `context_window_size`; None: not given."""
    reserve_tokens: int | None = Field(None, ge=0)
    """Tokens of the window kept free for the answer; None: `max_tokens`, or a quarter of the window, at most 1,000."""
    on_truncation: Literal["repeat", "raise", "ignore"] = "repeat"
    """What to do when a server silently cut the prompt: fit again and repeat the turn, raise, or go on."""
    preserve_system_prompt: bool = True
    """False: the system prompt may be dropped when history is fitted."""
    max_history_messages: int | None = Field(None, ge=1)
    """Messages of history sent at most; None: as many as fit."""
    summary_model: str | dict[str, Any] | None = None
    """Model that writes the summaries of strategy summarize: a name, or a dict as in `fallback_models`; None: the
    agent's own."""
    recall_results: bool = False
    """True: the model gets the tool `read_result`, which reads what was left out of a shortened tool result."""
    keep_calibration: bool = True
    """False: what is learned of a server's tokenizer (figures, its address and the model's name; no text) is not kept
    on disk for the next run."""

    # -- record and replay
    record: Any = None
    """File that all model calls are written to, secrets masked, for `replay` (or a Tape); None: not recorded."""
    replay: Any = None
    """File of recorded calls that answer instead of the models; nothing is sent anywhere. None: the models answer."""
    response_cache_ttl_s: float | None = Field(None, gt=0)
    """Seconds for which exactly the same request is answered from the store, at no cost; None: never."""

    # -- memory, budgets, logging, metrics
    enable_memory: bool = True
    """Conversations are kept in the store; one-off queries only where this is given. False: nothing is written."""
    memory_db_path: str | PathLike[str] = "~/.any_agent/memory.db"
    """File of the store (in `ANY_AGENT_HOME` if that is set); ':memory:': not on disk."""
    store: Any = None
    """Another store than a file, e.g. a PostgresStore; None: the file `memory_db_path`."""
    log_interactions: bool = True
    """False: the store keeps no pairs of prompt and answer for search (the session's messages are kept)."""
    approvals: Literal["deny", "wait"] = "deny"
    """A call that needs a permission nobody here can give: `deny` it, or `wait`: the run ends with
    ApprovalPendingError, the call stays in the store until somebody answers it, in any process."""
    max_budget_usd: float | None = Field(None, gt=0)
    """US dollars a session may cost; checked before each model call. None: no limit."""
    max_budget_tokens: int | None = Field(None, gt=0)
    """Tokens in and out that a session may take; checked before each model call. None: no limit."""
    max_budget_seconds: float | None = Field(None, gt=0)
    """Seconds of model calls that a session may take; checked before each model call. None: no limit."""
    enable_logging: bool = True
    """False: the logger `any_agent` stays silent."""
    log_level: str = "INFO"
    """Level of the logger `any_agent`: DEBUG, INFO, WARNING, ERROR."""
    log_format: Literal["text", "json"] = "text"
    """How the logger `any_agent` says what happens: `text` for people, or each line one `json` object."""
    enable_metrics: bool = False
    """True: numbers of each run are logged; False: none."""
    metrics_endpoint: str | None = None
    """Where metrics are sent; None: nowhere."""
    cwd: str | None = None
    """Working folder of tools (`ToolContext.cwd`, permission rules); None: the process's."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise option_error(error, values, AgentOptions.model_fields) from None

    @field_validator("hooks", mode="before")
    @classmethod
    def _known_hooks(cls, hooks: Any) -> Any:
        return normalised(hooks) if hooks is None or isinstance(hooks, Mapping) else hooks

    @field_validator("permission_mode", mode="before")
    @classmethod
    def _known_mode(cls, mode: Any) -> PermissionMode:
        try:
            return PermissionMode("default" if mode is None else mode)
        except ValueError:
            raise ValueError(f"allowed: {', '.join(one.value for one in PermissionMode)}") from None

    @field_validator("allowed_tools", "disallowed_tools", "ask_tools")
    @classmethod
    def _known_rules(cls, rules: list[str]) -> list[str]:
        return [Rule.parse(one).text for one in rules]

    @field_validator(
        *("tools", "fallback_models", "litellm_kwargs", "extra_body", "allowed_tools", "disallowed_tools", "ask_tools"),
        mode="before",
    )
    @classmethod
    def _none_is_empty(cls, value: Any, info: Any) -> Any:
        return ({} if info.field_name in ("litellm_kwargs", "extra_body") else []) if value is None else value

    @field_validator("record", "replay")
    @classmethod
    def _as_tape(cls, given: Any) -> Any:
        from .models.tape import Tape

        return Tape(given) if isinstance(given, (str, PathLike)) else given

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ValueError("allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return level.upper()

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
        changes = {name: setting.value for name, setting in found.items() if name in free}
        return self.replace(**changes) if changes else self

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
        from .models.servers import Address, addresses_here, resolve_auto

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
