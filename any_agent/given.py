"""What users hand in, checked before anything is sent: a refusal names the thing, its value and what to do instead."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import isawaitable, iscoroutine
from types import GenericAlias, UnionType
from typing import Any, NamedTuple, TypeVar, cast, get_origin

from .errors import ConfigurationError, InvalidInputError
from .memory.entries import checked_id
from .models.wire import SAMPLING_PARAMS, collected, from_wire
from .options import AgentOptions, given_fields
from .types import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage

REFUSED = "That answer was checked and refused. Read the instructions again and answer better."
R = TypeVar("R")
_MESSAGES = (SystemMessage, UserMessage, AssistantMessage, ToolMessage)
_TEXT_PARTS = ("text", "input_text", "output_text")
_PART_TYPES = (*_TEXT_PARTS, "image_url")
# What has no meaning for one session of an agent.
_WHOLE_AGENT = ("enable_logging", "log_level", "log_format", "enable_metrics", "metrics_endpoint", "stream_by_default")


def shown(session_id: str) -> str:
    """An id as messages show it: one with control characters is escaped."""
    return session_id if session_id.isprintable() else repr(session_id)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"the class {value.__name__}" if isinstance(value, type) else f"a{'n' * (name[0] in 'AEIOUaeiou')} {name}"


# ------------------------------------------------------------------ agents and options


def is_model(value: Any) -> bool:
    """It can stand for a model's name: an object with `stream(request)` and a `name`."""
    return not isinstance(value, type) and callable(getattr(value, "stream", None)) and hasattr(value, "name")


def agent_parts(model: Any, options: Any) -> tuple[Any, AgentOptions]:
    """The model (a name, a Model, None) and the options of an agent; options may stand in the model's place.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(model, (AgentOptions, Mapping)):
        if options is not None:
            text = "options are given twice: Agent(options), or Agent(model, options=options)"
            raise ConfigurationError(text, field="options", value=options, allowed="one of them")
        model, options = None, model
    if model is not None and not isinstance(model, str) and not is_model(model):
        text = f"the model is {_kind(model)}, {model!r:.80}: give a name like 'ollama/qwen3', or an object of a Model"
        raise ConfigurationError(text, field="model", value=model, allowed="a name, a Model, AgentOptions")
    made = options if isinstance(options, AgentOptions) else AgentOptions(**words_of(options))
    _check_store(made.store)
    return model, made


def words_of(options: Any) -> dict[str, Any]:
    """The fields that were given, of AgentOptions or a mapping; None: none.

    Raises:
        ConfigurationError: it is neither.
    """
    if options is None or isinstance(options, AgentOptions):
        return given_fields(options)
    if isinstance(options, Mapping) and all(isinstance(name, str) for name in options):
        return dict(options)
    is_type = isinstance(options, (type, GenericAlias, UnionType)) or get_origin(options) is not None
    name = getattr(options, "__name__", None) or options
    hint = f": for structured output say output_type={name}" if is_type else ", or name them: query(…, temperature=0)"
    text = f"options are {_kind(options)}, {options!r:.80}; give AgentOptions or a dict of them{hint}"
    raise ConfigurationError(text, field="options", value=options, allowed="AgentOptions, a dict, None")


class Words(NamedTuple):
    """What was said beside a prompt: options, sampling parameters that are none, and a Model in place of a name."""

    options: dict[str, Any]
    sampling: dict[str, Any]
    model: Any


def apart(words: Mapping[str, Any]) -> Words:
    fields = AgentOptions.model_fields
    sampling = {name: value for name, value in words.items() if name in SAMPLING_PARAMS and name not in fields}
    own = words["model"] if is_model(words.get("model")) else None
    options = {k: v for k, v in words.items() if k not in sampling and (own is None or k != "model")}
    return Words(options, sampling, own)


def changed(options: AgentOptions, words: Mapping[str, Any]) -> AgentOptions:
    """The options with those of one prompt or session.

    Raises:
        ConfigurationError: a name is unknown, or a value is not allowed.
    """
    made = options.replace(**apart(words).options) if words else options
    _check_store(made.store)
    return made


def own_options(options: AgentOptions, words: Mapping[str, Any]) -> dict[str, Any]:
    """The words of a session, checked, as its prompts take them.

    Raises:
        ConfigurationError: a name is unknown, a value is not allowed, or it is one for the whole agent.
    """
    if not words:
        return {}
    made, (named, sampling, model) = changed(options, words), apart(words)
    for name in named.keys() & set(_WHOLE_AGENT):
        text = f"{name} holds for the whole agent: say Agent(…, {name}={words[name]!r}), not create_session"
        raise ConfigurationError(text, field=name, value=words[name], allowed="not for one session")
    kept = {name: getattr(made, name) for name in named}
    return {**kept, **sampling, **({} if model is None else {"model": model})}


def together(own: Mapping[str, Any], words: Mapping[str, Any]) -> Mapping[str, Any]:
    """The words of a session and those of one prompt, which win, whichever spelling they have."""
    if not own or not words:
        return own or words
    first, then = apart(own), apart(words)
    both = given_fields(AgentOptions(**first.options).replace(**then.options))
    model = then.model if "model" in words else first.model
    return {**both, **first.sampling, **then.sampling, **({} if model is None else {"model": model})}


def _check_store(store: Any) -> None:
    if isinstance(store, type) or not (store is None or (hasattr(store, "append") and hasattr(store, "load"))):
        hint = f"; for a file say memory_db_path={store!r}" if isinstance(store, str) else ""
        text = f"store is {_kind(store)}, {store!r:.80}, not a store{hint}"
        raise ConfigurationError(text, field="store", value=store, allowed="MemoryStore, PostgresStore, None")


def check_choice(run: R, options: AgentOptions, words: Mapping[str, Any]) -> R:
    """The run, when the tool that `tool_choice` names is one of its tools.

    Raises:
        ConfigurationError: it is not.
    """
    choice = options.wire_tool_choice()
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    registry, recalls = run.dispatch.registry, run.recalls_results  # type: ignore[attr-defined]  # of a Run
    is_moot = not options.enable_tools or ("tool_choice" not in words and "tools" in words and not len(registry))
    if name is None or is_moot or name in registry or (name == "read_result" and recalls):
        return run
    known = registry.names()
    near = get_close_matches(str(name), known, 1, 0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    there = f"tools: {', '.join(known)}" if known else "the agent has no tools"
    text = f"tool_choice names {name!r}, which is no tool of the agent{hint} ({there})"
    raise ConfigurationError(text, field="tool_choice", value=name, allowed="auto, none, required, or a tool's name")


# ------------------------------------------------------------------ prompts and messages


async def messages_of(prompt: Any, *, may_be_empty: bool = False) -> list[Message]:
    """A prompt as messages: text, a list of messages, or an async iterable of either; [] for an empty one.

    Raises:
        InvalidInputError: it is none of these, or holds nothing.
    """
    if isinstance(prompt, AsyncIterable):
        prompt = await collected(prompt)
    if isinstance(prompt, str):
        out: list[Message] = [UserMessage(prompt)] if prompt else []
    else:
        out = history_of(prompt, field="prompt")
    if out and isinstance(out[-1], (UserMessage, SystemMessage)) and not out[-1].content:  # what was before, was
        place = len(out) - 1
        raise InvalidInputError(f"message {place} is empty: say something", field=f"messages[{place}].content")
    if not out and not may_be_empty:
        raise InvalidInputError("the prompt is empty: say something", field="prompt", value=prompt)
    return out


def history_of(messages: Any, *, field: str = "messages") -> list[Message]:
    """Messages and OpenAI dicts as messages.

    Raises:
        InvalidInputError: it is no list, or an item is no message; names its place and what is wrong.
    """
    if isinstance(messages, (str, bytes, bytearray, memoryview)) or not isinstance(messages, Sequence):
        one = isinstance(messages, (*_MESSAGES, Mapping))
        is_bytes = isinstance(messages, (bytes, bytearray, memoryview))
        hint = "put it into a list: [message]" if one else "decode it: data.decode()" if is_bytes else ""
        wanted = "text or a list of messages" if field == "prompt" else "a list of messages"
        text = f"the {field} is {_kind(messages)}, {messages!r:.80}; give {wanted}{f' ({hint})' if hint else ''}"
        raise InvalidInputError(text, field=field, value=messages)
    for place, item in enumerate(messages):
        if isinstance(item, Mapping):
            _check_item(item, place)
    return from_wire(messages)


def _check_item(item: Mapping[str, Any], place: int) -> None:
    role, content, calls = item.get("role"), item.get("content"), item.get("tool_calls") or ()
    if content.__class__ is str and not calls:
        return
    if not isinstance(calls, (list, tuple)) or not all(isinstance(call, Mapping) for call in calls):
        text = f"message {place}: tool_calls is {_kind(calls)}, {calls!r:.80}, not a list of dicts"
        raise InvalidInputError(text, field=f"messages[{place}].tool_calls", value=calls)
    may_be_null = role in ("assistant", "tool") and "content" in item  # as the SDKs write calls and refusals
    is_answer = role == "assistant" and (calls or item.get("reasoning_content") or item.get("reasoning"))
    if content is None and role is not None and not may_be_null and not is_answer:
        text = f"message {place} ({role}) has no content: {dict(item)!r:.80}; give {{'role': {role!r}, 'content': '…'}}"
        raise InvalidInputError(text, field=f"messages[{place}].content", value=content)
    for part in content if isinstance(content, (list, tuple)) else ():
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind not in _PART_TYPES:
            near = get_close_matches(str(kind).replace("input_image", "image_url"), _PART_TYPES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; use {', '.join(_PART_TYPES)}"
            text = f"message {place} holds a part of type {kind!r}{hint}"
            raise InvalidInputError(text, field=f"messages[{place}].content", value=part)


# ------------------------------------------------------------------ sessions


def session_id_of(value: Any) -> str:
    """The id of a session.

    Raises:
        InvalidInputError: it is not text of 1 to 500 characters.
    """
    return checked_id("session_id", value)


def count_of(value: Any, field: str) -> int:
    """A number of messages.

    Raises:
        InvalidInputError: it is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        text = f"{field} is {_kind(value)}, {value!r:.80}; give how many messages stay, as a whole number"
        raise InvalidInputError(text, field=field, value=value)
    return value


class Label:
    """An attribute of a session that is kept with it: a text, or a list of texts. Another type is refused.

    Args:
        is_list: a list of texts.
    """

    def __init__(self, *, is_list: bool = False) -> None:
        self._is_list = is_list

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._place = name, f"_{name}"

    def __get__(self, session: Any, owner: type | None = None) -> Any:
        return self if session is None else getattr(session, self._place)

    def __set__(self, session: Any, value: Any) -> None:
        fits = isinstance(value, str)
        if self._is_list:
            fits = isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(tag, str) for tag in value)
        if not fits:
            wanted, example = ("a list of texts", "['work']") if self._is_list else ("text", "'A talk'")
            text = f"session.{self._name} is {wanted}, not {value!r:.80}; say session.{self._name} = {example}"
            raise InvalidInputError(text, field=self._name, value=value)
        setattr(session, self._place, list(value) if self._is_list else value)


def label(*, is_list: bool = False) -> Any:
    """A Label, for a class that says what type it has."""
    return Label(is_list=is_list)


# ------------------------------------------------------------------ points to override


def _wrong_answer(owner: Any, method: str, said: Any, allowed: str) -> ConfigurationError:
    hint = " (is a `return` missing?)" if said is None else ""
    text = f"{type(owner).__name__}.{method} returned {said!r:.80}{hint}; it gives {allowed}"
    return ConfigurationError(text, field=method, value=None if isawaitable(said) else said, allowed=allowed)


async def instructions_of(agent: Any) -> str:
    """What `build_system_prompt` says; it may be async.

    Raises:
        ConfigurationError: that is no text.
    """
    said = agent.build_system_prompt()
    said = await said if isawaitable(said) else said
    if not isinstance(said, str):
        raise _wrong_answer(agent, "build_system_prompt", said, "text; '' for none")
    return said


def tools_of(agent: Any) -> Iterable[Any]:
    """What `build_tools` gives.

    Raises:
        ConfigurationError: these are no tools.
    """
    said = agent.build_tools()
    if isawaitable(said) or isinstance(said, (bytes, Mapping)) or not (isinstance(said, Iterable) or callable(said)):
        if iscoroutine(said):
            said.close()  # else Python warns that nobody awaited it
        raise _wrong_answer(agent, "build_tools", said, "a list of tools, [] for none; it is not async")
    return cast("Iterable[Any]", said)


async def judged(host: Any, response: Any) -> str | None:
    """What `check_response` says is wrong with an answer; None: nothing. It need not be async.

    Raises:
        ConfigurationError: it said something else.
    """
    said = host.check_response(response)
    said = await said if isawaitable(said) else said
    if said is None or isinstance(said, bool):
        return None if said is None or said else REFUSED
    if not isinstance(said, str):
        raise _wrong_answer(host, "check_response", said, "None or True if the answer is fine, else what is wrong")
    return said or None
