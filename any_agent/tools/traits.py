"""What a tool may declare beside its name, description and schema, and the check that it makes sense."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .tool import Tool

Effect: TypeAlias = Literal["pure", "idempotent", "once"]
EFFECTS = ("pure", "idempotent", "once")


class ToolTraits(TypedDict, total=False):
    """Keyword arguments of `Tool` and `@tool`; a subclass of Tool may also set them as class attributes.

    timeout: seconds one try may take; None: the option `tool_timeout`.
    retries: further tries after a failure; a tool whose effect is "once" is tried again only after
        ToolUnavailableError, which says that nothing was done.
    retry_delay_s: seconds before the first further try; doubled each time, with jitter.
    effect: "pure" changes nothing, so it may run again at any time; "idempotent" may run again with the same
        `idempotency_key`; "once" (the default) never runs twice for one call. `retries` without `effect` means
        idempotent, `cache_ttl` or `is_read_only` without it means pure.
    parallel: False: never at the same time as other calls of the same turn.
    max_result_tokens: estimated tokens of the result that the model is shown; None: the option `max_result_tokens`.
    cache_ttl: seconds a result is kept and given again for the same arguments (pure tools only); None: never.
    enabled: False, or a predicate `() -> bool` or `(messages) -> bool` asked before each turn; while it says no, the
        tool is not offered and not run.
    needs_permission: somebody must allow each call, whatever the mode.
    is_read_only: it only looks (permissions let it run in plan mode); default: whether its effect is pure.
    permission_argument: name of the argument that permission rules are held against, or several; None: told by the
        arguments' names, see `permissions.rules.subjects`.
    edits_files: it changes files (permissions let it run in mode accept-edits); calls made before may be repeated.
    verify: function of (idempotency_key, arguments), sync or async, that says after a crash what an interrupted "once"
        call did: its result or True, False when it took no effect, None when it cannot tell.
    ends_run: its result is the run's answer; the model is not asked again. `return_direct` is the same.
    may_repeat: the same call with the same arguments is no sign of a loop (polling).
    """

    timeout: float | None
    retries: int
    retry_delay_s: float
    effect: Effect
    parallel: bool
    max_result_tokens: int | None
    cache_ttl: float | None
    enabled: bool | Callable[..., bool]
    needs_permission: bool
    permission_argument: str | Sequence[str] | None
    is_read_only: bool
    edits_files: bool
    verify: Callable[..., Any] | None
    ends_run: bool
    return_direct: bool
    may_repeat: bool


def declare(tool: Tool, given: Mapping[str, Any], defaults: type[Tool]) -> None:
    """Set what was declared on the tool, and settle what follows from it.

    Args:
        defaults: the class whose attributes are no declaration; those of its subclasses are.

    Raises:
        ConfigurationError: no such word, a value out of range, or two words that contradict each other.
    """
    words = dict(given)
    if "return_direct" in words:
        words["ends_run"] = words.pop("return_direct")
    for name, value in words.items():
        if name not in ToolTraits.__annotations__:
            near = get_close_matches(name, ToolTraits.__annotations__, 1, 0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise _wrong(
                tool, name, value, f"is nothing a tool can declare{hint}", ", ".join(ToolTraits.__annotations__)
            )
        setattr(tool, name, value)
    _check_numbers(tool)
    classes = type(tool).__mro__[: type(tool).__mro__.index(defaults)]
    declared = {*words, *[name for one in classes for name in vars(one)]}
    if "effect" not in declared:
        is_pure = tool.cache_ttl is not None or tool.is_read_only
        tool.effect = "pure" if is_pure else "idempotent" if tool.retries else "once"
    if tool.effect not in EFFECTS:
        raise _wrong(tool, "effect", tool.effect, "is no effect", ", ".join(EFFECTS))
    if tool.cache_ttl is not None and tool.effect != "pure":
        raise _wrong(tool, "cache_ttl", tool.cache_ttl, "is for tools that change nothing", "effect='pure'")
    if "is_read_only" not in declared:
        tool.is_read_only = tool.effect == "pure"
    if tool.edits_files and tool.is_read_only:
        raise _wrong(tool, "edits_files", True, "contradicts is_read_only or effect='pure'", "one of them")
    for name in ("parallel", "needs_permission", "is_read_only", "edits_files", "ends_run", "may_repeat"):
        if not isinstance(getattr(tool, name), bool):
            raise _wrong(tool, name, getattr(tool, name), "says neither yes nor no", "True, False")
    if not (isinstance(tool.enabled, bool) or callable(tool.enabled)) or inspect.iscoroutinefunction(tool.enabled):
        allowed = "True, False, a function that is not async"
        raise _wrong(tool, "enabled", tool.enabled, "is no function of the plain kind", allowed)
    if not (tool.verify is None or callable(tool.verify)):
        raise _wrong(tool, "verify", tool.verify, "is no function", "a function")


def check_argument(tool: Tool) -> None:
    """Look whether the arguments that rules shall be held against are there.

    Raises:
        ConfigurationError: one is not; a rule on it would never hold.
    """
    named, known = tool.permission_argument, tool.parameters.get("properties", {})
    for name in [named] if isinstance(named, str) else named or ():
        if name not in known:
            raise _wrong(tool, "permission_argument", name, "is none of its parameters", ", ".join(known) or "none")


def _check_numbers(tool: Tool) -> None:
    limits: tuple[tuple[str, Any, float, bool], ...] = (
        ("timeout", tool.timeout, 0, True),
        ("cache_ttl", tool.cache_ttl, 0, True),
        ("max_result_tokens", tool.max_result_tokens, 0, True),
        ("retries", tool.retries, -1, False),
        ("retry_delay_s", tool.retry_delay_s, -1e-9, False),
    )
    for name, value, above, may_be_none in limits:
        if value is None and may_be_none:
            continue
        whole = name in ("retries", "max_result_tokens")
        is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not is_number or not value > above:
            least = "0 or more" if above < 0 else "more than 0"
            raise _wrong(tool, name, value, "is out of range", f"{'a whole number, ' if whole else ''}{least}")


def _wrong(tool: Tool, field: str, value: Any, problem: str, allowed: str) -> ConfigurationError:
    text = f"tool {tool.name}: {field}={value!r} {problem}; allowed: {allowed}"
    return ConfigurationError(text, field=field, value=value, allowed=allowed)
