"""The fields of AgentOptions, each with its unit and its off-value; docs/options.md is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from ..hooks import normalised
from ..output import OutputOptions
from ..permissions import PermissionMode, Rule
from ..tools.recall import RecallOptions
from ..tools.subagents import SubagentOptions
from ..types import ContextStrategy, ToolChoice


class OptionFields(OutputOptions, SubagentOptions, RecallOptions):
    """What may be given to an agent, and how each value is checked."""

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
    probe_model: bool = False
    """True: what a local model can do is asked, at most eight tiny calls, before its first prompt, when nothing is kept
    of it (see `any-agent doctor`). Clouds, gateways and fallback models are not asked."""

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
    """Further tries of the same model after an error that may pass; 0: none. A server that cannot be reached is tried
    once more by default, and as often as you say here."""
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
    """File of the store (in `ANY_AGENT_HOME` if that is set); ':memory:': not on disk. It says where, not whether."""
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
        from ..models.tape import Tape

        return Tape(given) if isinstance(given, (str, PathLike)) else given

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ValueError("allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return level.upper()
