"""Which exchanges stay: one function each. A user's own strategy is one more function of (exchanges, budget)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable

from ..errors import ConfigurationError
from ..types import AssistantMessage, ContextStrategy, Message, ToolMessage, ToolResultBlock, UserMessage


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user message and all that follows it until the next one; the first may lack the user message."""

    messages: tuple[Message, ...]
    tokens: int
    is_kept: bool
    importance: float


Strategy = Callable[[Sequence[Exchange], int], "Sequence[Exchange] | Awaitable[Sequence[Exchange]]"]


def sliding(exchanges: Sequence[Exchange], budget_tokens: int) -> list[Exchange]:
    """The newest exchanges that fit, without gaps; kept ones stay wherever they are."""
    left = budget_tokens - sum(e.tokens for e in exchanges if e.is_kept)
    out: list[Exchange] = []
    is_open = True
    for exchange in reversed(exchanges):
        if exchange.is_kept:
            out.append(exchange)
        elif is_open and exchange.tokens <= left:
            left -= exchange.tokens
            out.append(exchange)
        else:
            is_open = False
    return out[::-1]


def truncate(exchanges: Sequence[Exchange], budget_tokens: int) -> list[Exchange]:
    """The oldest exchanges lose their tool rounds first, then go one by one, until the rest fits."""
    out = list(exchanges)
    excess = sum(e.tokens for e in out) - budget_tokens
    for place, exchange in enumerate(out):
        if excess <= 0:
            return out
        if exchange.is_kept or not any(isinstance(m, ToolMessage) for m in exchange.messages):
            continue
        bare = tuple([m for m in exchange.messages if not _is_tool_part(m)])
        slim = replace(exchange, messages=bare, tokens=round(exchange.tokens * len(bare) / len(exchange.messages)))
        excess -= exchange.tokens - slim.tokens
        out[place] = slim
    for exchange in list(out):
        if excess <= 0:
            break
        if not exchange.is_kept:
            out.remove(exchange)
            excess -= exchange.tokens
    return out


def adaptive(exchanges: Sequence[Exchange], budget_tokens: int) -> list[Exchange]:
    """The least important exchanges go first, whatever their place."""
    excess = sum(e.tokens for e in exchanges) - budget_tokens
    gone: set[int] = set()
    for place in sorted(range(len(exchanges)), key=lambda i: exchanges[i].importance):
        if excess <= 0:
            break
        if not exchanges[place].is_kept:
            gone.add(place)
            excess -= exchanges[place].tokens
    return [e for place, e in enumerate(exchanges) if place not in gone]


STRATEGIES: Mapping[ContextStrategy, Strategy] = {
    ContextStrategy.SLIDING_WINDOW: sliding,
    ContextStrategy.TRUNCATE_OLDEST: truncate,
    ContextStrategy.ADAPTIVE: adaptive,
    ContextStrategy.SUMMARIZE: sliding,  # and what slides out is summarized
}


async def chosen_by(strategy: Strategy, exchanges: Sequence[Exchange], budget_tokens: int) -> list[Exchange]:
    """What a strategy, perhaps a user's own, lets stay.

    Raises:
        ConfigurationError: it gave something else than exchanges.
    """
    choice: object = strategy(exchanges, budget_tokens)
    if isawaitable(choice):
        choice = await choice
    given: list[object] = list(choice) if isinstance(choice, Iterable) else [choice]
    chosen = [one for one in given if isinstance(one, Exchange)]
    if len(chosen) < len(given):
        raise ConfigurationError(
            f"the context strategy {getattr(strategy, '__name__', strategy)} gave {choice!r:.80}; "
            "it must give those of the exchanges that stay",
            field="context_strategy",
        )
    return chosen


def grouped(messages: Sequence[Message]) -> list[list[Message]]:
    """The exchanges of a conversation without its system prompts."""
    groups: list[list[Message]] = []
    for message in messages:
        if isinstance(message, UserMessage) or not groups:
            groups.append([])
        groups[-1].append(message)
    return groups


def importance(messages: Sequence[Message], place: int, count: int) -> float:
    """How much an exchange is worth: the highest `importance` its messages were given.

    Without one it lies between 0 and 2: recent exchanges more, what users say more than what tools return.
    """
    own = [m.importance for m in messages if m.importance is not None]
    if own:
        return max(own)
    said = sum(len(b.as_text()) if isinstance(b, ToolResultBlock) else 0 for m in messages for b in m.content)
    text = sum(len(getattr(b, "text", "")) for m in messages for b in m.content)
    return (place + 1) / count + text / (text + said + 1)


def find_strategy(strategy: ContextStrategy | str | Strategy) -> Strategy:
    if callable(strategy):
        return strategy
    try:
        return STRATEGIES[ContextStrategy(strategy)]
    except ValueError:
        allowed = ", ".join(s.value for s in ContextStrategy)
        raise ConfigurationError(
            f"there is no context strategy {strategy!r}; allowed: {allowed}, or a function",
            field="context_strategy",
            value=strategy,
            allowed=allowed,
        ) from None


def _is_tool_part(message: Message) -> bool:
    return isinstance(message, ToolMessage) or (isinstance(message, AssistantMessage) and bool(message.tool_calls))
