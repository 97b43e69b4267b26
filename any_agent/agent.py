"""Agent: wires options into a Run. Domain agents subclass it; it is the only room that knows the concrete parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, cast
from weakref import WeakSet

from . import config, given
from .asking import AsksBlocking
from .config import Route
from .context import fitted_chain, keep_learned
from .durability.keeper import Keeper, close_all, resumed
from .errors import SessionBusyError
from .hooks import Hooks
from .log import JsonLogObserver, LogObserver
from .loop import Run
from .models.fallback import FallbackModel, RetryPolicy
from .models.openai_wire import DirectModel
from .options import ROUTE_FIELDS, AgentOptions
from .output import AsksForData
from .protocols import Model
from .session import AgentSession, Prompt
from .sync import has_loop
from .tools import Tool, ToolRegistry, class_tools
from .types import AgentResponse, Event, text_of
from .wiring import told_abilities, voted, wired, with_team

_MODEL_FIELDS = ROUTE_FIELDS | {
    "door", "fallback_models", "litellm_kwargs", "retry_on_error", "max_retries", "retry_delay", "max_retry_wait",
    "resume_broken_answers",
    "context_window_size", "context_window", "tool_mode", "record", "replay", "response_cache_ttl_s",
}  # fmt: skip


class Agent(AsksForData, AsksBlocking):
    """An agent on any model: `Agent("ollama/qwen3")`, `Agent("my-model", base_url="…/v1")`, `Agent("auto")`.

    A domain agent is a subclass. Points to override, all without I/O in `__init__`:
        build_system_prompt()      the instructions
        build_tools()              the tools
        check_response(response)   accept an answer, or say what is wrong with it
        parse_output(text, output) read structured output that is not JSON
        make_model(route, options) another way to the model

    Args:
        model: name, `provider/name`, or an object with `stream(request)` (a Model). None: environment, config file.
            Options may stand here, too: `Agent(AgentOptions(…))`.
        provider: lm_studio, ollama, llamacpp, vllm, or any provider LiteLLM knows.
        options: AgentOptions, or a mapping of its fields; the arguments here win over it.
        api_base: address of an OpenAI-compatible server; `base_url` is the same.
        fields: any field of AgentOptions.

    Raises:
        ConfigurationError: an option is unknown or not allowed. Which server is meant is settled at the first call.
    """

    max_corrections: ClassVar[int] = 1
    """How often an answer that `check_response` refuses is asked for again."""

    def __init__(
        self,
        model: str | Model | AgentOptions | Mapping[str, Any] | None = None,
        provider: str | None = None,
        options: AgentOptions | Mapping[str, Any] | None = None,
        api_key: str | None = None,
        api_base: str | None = None,
        api_version: str | None = None,
        organization: str | None = None,
        **fields: Any,
    ) -> None:
        named_model, settings = given.agent_parts(model, options)
        named = {
            "model": named_model if isinstance(named_model, str) else None,
            "provider": provider,
            "api_key": api_key,
            "base_url": fields.pop("base_url", None) or api_base,
            "api_version": api_version,
            "organization": organization,
        }
        changes = {**fields, **{name: value for name, value in named.items() if value is not None}}
        self.options: AgentOptions = given.changed(settings, changes)
        self._own_model: Model | None = None if isinstance(named_model, str) else named_model
        self._registry: ToolRegistry | None = None
        self._base: Run | None = None
        self._made: WeakSet[Any] = WeakSet()  # every model this agent has made
        self._learned: dict[str, Any] = {}  # of tokenizers, by all conversations
        self._sessions: dict[str, AgentSession] = {}
        self._keeper = Keeper()
        self._summary_models: dict[str, Model] = {}
        level = self.options.log_level if self.options.enable_logging else None
        observer = JsonLogObserver if self.options.log_format == "json" else LogObserver
        self._log = observer(level, has_metrics=self.options.enable_metrics)

    # -------------------------------------------------------------- points to override

    def build_system_prompt(self) -> str:
        """The instructions before every conversation; '': none. Asked once, at the first call. May be async."""
        return self.options.system_prompt

    def build_tools(self) -> Iterable[Tool | Any]:
        """The tools: Tool objects or plain functions. Asked once, at the first call or `register_tool`."""
        return self.options.tools

    async def check_response(self, response: AgentResponse) -> str | None:
        """None (or True) accepts it; a text tells the model what to do better (`max_corrections` times)."""
        return None

    def make_model(self, route: Route, options: AgentOptions) -> Model:
        """The way to one model. Override to bring another transport; retry and fallback stay around it."""
        if route.door == "direct":
            assert route.base_url is not None
            headers = {"OpenAI-Organization": route.organization} if route.organization else {}
            return DirectModel(
                route.model,
                route.base_url,
                provider=route.provider,
                api_key=route.api_key,
                headers=headers,
                tool_mode=options.tool_mode,
            )
        from .models.litellm_wrapper import LiteLLMModel

        return LiteLLMModel(
            route.model,
            provider=route.provider,
            api_key=route.api_key,
            base_url=route.base_url,
            api_version=route.api_version,
            organization=route.organization,
            extra_params=options.litellm_kwargs,
            context_window=options.window_tokens,
            tool_mode=options.tool_mode,
        )

    # -------------------------------------------------------------- asking

    _whole: ClassVar = {"stream": False}

    def query(
        self,
        prompt: Prompt,
        options: AgentOptions | Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        stream: bool | None = None,
        **overrides: Any,
    ) -> Any:
        """Ask; `await` it for the AgentResponse (a `str`). With `stream=True` it is an async iterator of text chunks.

        Args:
            prompt: text, a list of messages, or an async iterable of either.
            session_id: go on with this conversation (made when new); None: a fresh one each time.
            options, overrides: options for this prompt only.

        Raises:
            AnyAgentError: the run failed; ConfigurationError before anything is sent.
        """
        if stream or (stream is None and self.options.stream_by_default):
            return self._session(session_id).stream_query(prompt, **{**given.words_of(options), **overrides})
        answer: Any = self._answer(prompt, options, session_id, overrides)
        answer.__qualname__ = "Agent.query"  # so Python calls it when nobody awaits it
        return answer

    async def _answer(self, prompt: Any, options: Any, session_id: str | None, overrides: dict[str, Any]) -> Any:
        return await self._session(session_id).query(prompt, **{**given.words_of(options), **overrides})

    async def stream_query(self, prompt: Prompt, **overrides: Any) -> AsyncIterator[str]:
        """Text chunks of the answer while they arrive; raises what `query` raises."""
        chunks = await self.query(prompt, stream=True, **overrides)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def stream(self, prompt: Prompt, *, session_id: str | None = None, **overrides: Any) -> AsyncIterator[Event]:
        """Every event of the run while it happens; a ResultMessage last, which also tells of errors."""
        return self._session(session_id).stream(prompt, **overrides)

    def create_session(self, session_id: str | None = None, **options: Any) -> AgentSession:
        """A conversation that remembers, also after a restart (`resume`). Works with and without `await`.

        With the id of a session that the store knows, the first prompt goes on with it.

        Args:
            options: options for all prompts of this session.

        Raises:
            SessionBusyError: an open session of this agent has this id.
        """
        session = AgentSession(self, session_id)
        if session.session_id in self._sessions:
            text = f"session {given.shown(session.session_id)} is open already: use it, or close() it first"
            raise SessionBusyError(text, session_id=session_id)
        session.own_options, session.is_conversation = given.own_options(self.options, options), True
        self._sessions[session.session_id] = session
        return session

    @property
    def memory(self) -> Any:
        """The store of this agent's sessions (a MemoryStore unless the option `store` gives another)."""
        return self._keeper.store_of(self.options)

    async def resume(self, session_id: str) -> AgentSession:
        """The session as the store has it, whatever process wrote it; `is_unfinished` tells whether a run was killed.

        Raises:
            SessionNotFoundError: the store does not know it.
        """
        known = self._sessions.get(given.session_id_of(session_id))
        session: AgentSession = await resumed(known, lambda: self.create_session(session_id), self)
        return session

    async def store_of(self, session: AgentSession) -> Any:
        """The opened store that keeps this session; None: it is not kept."""
        options = given.changed(self.options, session.own_options)
        return await self._keeper.for_run(options, is_conversation=session.is_conversation)

    async def list_sessions(self, **filters: Any) -> list[dict[str, Any]]:
        """Kept sessions, newest first; filters: limit, offset, tag, search (see MemoryStore.list_sessions)."""
        return cast("list[dict[str, Any]]", await self.memory.list_sessions(**filters))

    async def stats(self, session_id: str | None = None, group_by: str | None = None) -> Any:
        """The ledger: model calls, tokens, cost of all kept sessions or of one (see MemoryStore.usage)."""
        return await self.memory.usage(session_id, group_by=group_by)

    def register_tool(self, tool: Tool | Any, *, replace: bool = False) -> Tool:
        """Give the agent one more tool (a Tool or a plain function); returns the Tool.

        Raises:
            ConfigurationError: the name is taken, or it is no tool.
        """
        added = self.tools.register(tool, replace=replace)
        self._base = None
        return added

    @property
    def tools(self) -> ToolRegistry:
        if self._registry is None:
            self._registry = ToolRegistry(given.tools_of(self), find=class_tools(self))
        return self._registry

    def forget(self, session: AgentSession) -> None:
        """A closed session's id is free again."""
        if self._sessions.get(session.session_id) is session:
            del self._sessions[session.session_id]

    async def aclose(self) -> None:
        """Close sessions and connections. Safe to call twice; the agent can be used again."""
        sessions, self._sessions = list(self._sessions.values()), {}
        try:
            await close_all([*sessions, *self._made])
            await keep_learned(self._learned, is_last=True)
        finally:
            await self._keeper.close()

    async def __aenter__(self) -> Agent:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if has_loop():
            await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options.model or (self._own_model and self._own_model.name) or 'auto'!r})"

    # -------------------------------------------------------------- wiring

    @property
    def route(self) -> Route:
        """Where the model is reached: provider, model, base_url, door. Reads environment and config files."""
        return self.options.route()

    @property
    def model(self) -> str:
        """The model's name."""
        return self._own_model.name if self._own_model else self.options.model or self.route.model

    @property
    def provider(self) -> str | None:
        return None if self._own_model else self.route.provider

    @property
    def hooks(self) -> Hooks:
        return self.options.hooks

    @property
    def observers(self) -> Sequence[Any]:
        return [*self.options.observers, self._log]

    async def open_run(self, session: AgentSession, overrides: Mapping[str, Any]) -> Run:
        """The parts of one run (part of the SessionHost seam)."""
        base = self._base
        if base is None:
            self.options = await self.options.settled()
            chain = self._chain(self.options, self._own_model or self._keeper.taped(self.options))
            tools = self._keeper.recalling(self.tools, self.options)
            base = self._base = wired(self.options, chain, tools, await given.instructions_of(self))
            if base.tools or self.options.team:
                await told_abilities(chain)
        run, options = (base, self.options) if not overrides else self._changed(base, overrides)
        if options.probe_model:
            await told_abilities(run.model, may_probe=True)
        model = self._for_session(run.model, options, session)
        store = await self._keeper.for_run(options, is_conversation=session.is_conversation)
        run = replace(run, session_id=session.session_id, model=model, store=store)
        return given.check_choice(with_team(run, self, session, options, overrides), options, overrides)

    def _changed(self, base: Run, overrides: Mapping[str, Any]) -> tuple[Run, AgentOptions]:
        """The run with options of one prompt; sampling parameters that are no options go to the model as given."""
        options, (_, extra, own) = given.changed(self.options, overrides), given.apart(overrides)
        model = base.model
        if overrides.keys() & _MODEL_FIELDS:
            moved = {name: value for name, value in overrides.items() if name in ROUTE_FIELDS}
            model = self._chain(options, own if "model" in overrides else self._own_model, moved)
        tools = ToolRegistry(options.tools, find=class_tools(self)) if "tools" in overrides else self.tools
        prompt = options.system_prompt if "system_prompt" in overrides else text_of(base.system) if base.system else ""
        run = wired(options, model, self._keeper.recalling(tools, options), prompt)
        return replace(run, params={**run.params, **extra}), options

    def _for_session(self, chain: Model, options: AgentOptions, session: AgentSession) -> Model:
        """The chain, each model fitted to its window for this conversation."""
        summary = session.context_summary
        how, writer = options.fitting(), self._summary_model(options)
        model = fitted_chain(
            chain, session.fitted, how, self._learned, summary_model=writer, summary=summary,
            hooks=options.hooks, session_id=session.session_id,
        )  # fmt: skip
        return voted(model, options.vote)

    def _summary_model(self, options: AgentOptions) -> Model | None:
        if options.summary_model is None:
            return None
        known = self._summary_models.get(str(options.summary_model))
        if known is None:
            main = options.route()
            (route,) = config.fallback_routes([options.summary_model], main, door=options.door)
            known = self.make_model(route, options)
            self._made.add(known)
            known = self._summary_models[str(options.summary_model)] = self._keeper.around([known], options)[0]
        return known

    def _chain(self, options: AgentOptions, own: Model | None, moved: Mapping[str, Any] | None = None) -> FallbackModel:
        """The model and its fallbacks, with retry. A model `moved` to another place never gets the agent's own key."""
        policy = RetryPolicy(
            options.max_retries if options.retry_on_error else 0,
            options.retry_delay,
            30.0,
            options.max_retry_wait,
            options.resume_broken_answers,
            "max_retries" in options.model_fields_set,
        )
        if own is not None:
            named = [entry if isinstance(entry, dict) else {"model": entry} for entry in options.fallback_models]
            others = [self.make_model(config.route(door=options.door, **one), options) for one in named]
            self._made.update([own, *others])
            return FallbackModel(self._keeper.around([own, *others], options), policy)
        main = options.route()
        if moved and self._own_model is None:
            (main,) = config.fallback_routes(
                [{"model": options.model, **moved}], self.options.route(), door=options.door
            )
        routes = [main, *config.fallback_routes(options.fallback_models, main, door=options.door)]
        models = [self.make_model(route, options) for route in routes]
        self._made.update(models)
        return FallbackModel(self._keeper.around(models, options), policy)

    def _session(self, session_id: str | None) -> AgentSession:
        if session_id is None:
            return AgentSession(self)
        return self._sessions.get(given.session_id_of(session_id)) or self.create_session(session_id)
