"""A fallback chain with each of its models fitted to its own window, for one conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from ..hooks import HOOK_PRE_COMPACT, HookContext, Hooks, PreCompactEvent, decide
from ..models.fallback import FallbackModel
from ..models.wire import to_wire
from ..protocols import Model
from ..types import ContextStrategy, ContextSummarized, Message
from .fitted_model import FittedModel
from .manager import ContextManager
from .strategies import Strategy
from .summary import Summarize, Summary, summarizer
from .window import CalibratedCounter

if TYPE_CHECKING:
    from ..calibration import Calibration
    from ..tokens import TokenCounter


def fitted(
    model: Model,
    *,
    window_tokens: int | None = None,
    reserve_tokens: int | None = None,
    strategy: ContextStrategy | str | Strategy = ContextStrategy.SLIDING_WINDOW,
    preserve_system: bool = True,
    max_history_messages: int | None = None,
    on_truncation: str = "repeat",
    recall_results: bool = False,
    keep_calibration: bool = False,
    shared: dict[str, Any] | None = None,
    summary_model: Model | None = None,
    summary: ContextSummarized | None = None,
) -> FittedModel:
    """A model fitted for one conversation, with a counter for its server and a summarizer.

    Args:
        recall_results: the model has the tool `read_result`.
        keep_calibration: what is learned of a tokenizer is read from and written to the user's file.
        shared: keeps what one conversation learned of a tokenizer for the next ones of the same agent.
        summary_model: makes summaries; None: the model itself.
        summary: of an earlier run of this conversation.
    """
    known = {} if shared is None else shared

    def parts() -> tuple[ContextManager, CalibratedCounter]:
        counter = _counter(model, known, keeps=keep_calibration)
        manager = ContextManager(
            model.name,
            strategy,
            window_tokens or 0,
            reserve_tokens,
            counter=counter,
            preserve_system=preserve_system,
            max_history_messages=max_history_messages,
            can_read_results=recall_results,
        )
        summarize = summarizer(lambda: one.summary_model or one.inner, manager, limits=lambda: one.limits)
        manager.summarize = announced(summarize, one)
        if summary is not None:
            manager.restore(summary)
        return manager, counter

    one = FittedModel(
        model,
        parts,
        getattr(model, "served_window", None),
        on_truncation=on_truncation,
        is_eager=window_tokens is not None or max_history_messages is not None,
        is_window_named=window_tokens is not None,
        keep=partial(keep_learned, known) if keep_calibration else None,
        warned=known.setdefault("warned", set()),
    )
    one.summary_model = summary_model
    return one


def _counter(model: Model, shared: dict[str, Any], *, keeps: bool) -> TokenCounter:
    """Blocking: reads the vocabulary, and what was learned in earlier runs."""
    from ..calibration import Calibration
    from ..tokens import TokenCounter

    if "calibration" not in shared:
        shared.setdefault("calibration", Calibration.load() if keeps else Calibration())
    counter = TokenCounter(model.name, server=getattr(model, "base_url", None), calibration=shared["calibration"])
    counter.prepare()
    return counter


async def keep_learned(shared: Mapping[str, Any], *, is_last: bool = False) -> None:
    """Write what was learned of tokenizers, where it is kept; nothing when there is nothing new. Never raises.

    Args:
        is_last: the agent is closed: whatever is new; else only when it is due.
    """
    calibration: Calibration | None = shared.get("calibration")
    if calibration is not None and is_last and calibration.has_news:
        await asyncio.to_thread(calibration.save)
    elif calibration is not None and not is_last:
        await calibration.keep()


def fitted_chain(
    chain: Model,
    known: dict[Any, FittedModel],
    how: Mapping[str, Any],
    shared: dict[str, Any] | None = None,
    *,
    summary_model: Model | None = None,
    summary: ContextSummarized | None = None,
    hooks: Hooks | None = None,
    session_id: str = "",
) -> Model:
    """A fallback chain with each model fitted to its own window.

    Args:
        known: what the models of this conversation have learned so far; new ones are added.
        how, shared, summary_model, summary: arguments of `fitted`.
        hooks: of this run; PreCompact is told before each summary.
    """
    if not isinstance(chain, FallbackModel):
        return chain
    models: list[Model] = []
    for model in chain.models:
        key = (len(models), model.name, getattr(model, "base_url", None), *map(str, how.values()))
        one = known.get(key)
        if one is None:
            one = known[key] = fitted(model, **how, shared=shared, summary=summary)
        one.inner = model
        one.summary_model = summary_model
        one.before_summary = partial(_tell_hooks, hooks, session_id) if hooks else None
        models.append(one)
    return FallbackModel(models, chain.policy)


def announced(summarize: Summarize, one: FittedModel) -> Summarize:
    """The same, after `before_summary` was told."""

    async def summarize_now(messages: Sequence[Message]) -> Summary | str:
        if one.before_summary is not None:
            await one.before_summary(messages)
        return await summarize(messages)

    return summarize_now


async def _tell_hooks(hooks: Hooks, session_id: str, messages: Sequence[Message]) -> None:
    if not hooks.get(HOOK_PRE_COMPACT):
        return
    try:
        event = PreCompactEvent("auto", deepcopy(to_wire(messages)))
        await decide(hooks, HOOK_PRE_COMPACT, event, HookContext(session_id))
    except Exception as error:
        error.aborts_run = True  # type: ignore[attr-defined]  # no other trouble with a summary does
        raise
