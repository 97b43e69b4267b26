"""Does the model go round in circles? Told from the messages alone, since the last one of the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..errors import LoopDetectedError
from ..models.canonical import canonical
from ..types import AssistantMessage, Message, ToolUseBlock, ToolUseError, UserMessage
from .registry import ToolRegistry

MOST_SAME_CALLS = 2  # the next one is not run, and the model is told; one more ends the run

Call = ToolUseBlock | ToolUseError


def repeated(calls: Sequence[Call], history: Sequence[Message], registry: ToolRegistry) -> dict[str, int]:
    """By tool_use_id: how often the model has made this very call, this time included; only of those made too often."""
    before = _earlier(history)
    if len(before) + len(calls) <= MOST_SAME_CALLS:
        return {}
    counts = _counts(before, registry)
    found = {}
    for call in calls:
        key = _key(call)
        counts[key] += 1
        if counts[key] > MOST_SAME_CALLS and not _may_repeat(call.name, registry):
            found[call.id] = counts[key]
    return found


def loop_detected(
    calls: Sequence[Call], history: Sequence[Message], registry: ToolRegistry
) -> LoopDetectedError | None:
    """The error that ends the run: the model was told that it repeats a call, and makes it again. None: go on."""
    before = _earlier(history)
    if len(before) <= MOST_SAME_CALLS:
        return None
    counts = _counts(before, registry)
    for call in calls:
        count = counts[_key(call)]
        if count > MOST_SAME_CALLS and not _may_repeat(call.name, registry):
            arguments = call.input if isinstance(call, ToolUseBlock) else {}
            told = f"the model called {call.name} {count + 1} times with the same arguments, though it was told"
            told += f"\n  fix: {LoopDetectedError.next_step}"
            return LoopDetectedError(
                told,
                limit="same_calls",
                value=MOST_SAME_CALLS,
                tool_name=call.name,
                arguments=arguments,
                count=count + 1,
            )
    return None


def told_of_repetition(call: Call, count: int) -> str:
    """What the model reads instead of a result."""
    times = {3: "third", 4: "fourth", 5: "fifth"}.get(count, f"{count}th")
    return (
        f"Not run: this is the {times} call of {call.name} with the same arguments since the user spoke. You are "
        f"repeating yourself. The results of the earlier calls stand above: use them, change the arguments, call "
        f"another tool, or answer without this call. If you make it once more, the run ends."
    )


def _earlier(history: Sequence[Message]) -> list[Call]:
    """The calls since the user spoke, in order, without the ones that are to be answered now."""
    found: list[Sequence[Call]] = []
    for message in reversed(history):
        if isinstance(message, UserMessage):
            break
        if isinstance(message, AssistantMessage):
            found.append(message.tool_calls)
    if history and isinstance(history[-1], AssistantMessage):
        del found[0]
    return [call for made in reversed(found) for call in made]


def _counts(calls: Sequence[Call], registry: ToolRegistry) -> Counter[tuple[str, str]]:
    """How often each call was made. Files that were edited may be looked at, and tested, again."""
    counts: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, str]] = set()
    for call in calls:
        key = _key(call)
        if key not in seen and call.name in registry and registry.get(call.name).edits_files:
            counts = Counter({one: count for one, count in counts.items() if _edits(one[0], registry)})
        seen.add(key)
        counts[key] += 1
    return counts


def _edits(name: str, registry: ToolRegistry) -> bool:
    return name in registry and registry.get(name).edits_files


def _may_repeat(name: str, registry: ToolRegistry) -> bool:
    return name in registry and registry.get(name).may_repeat


def _key(call: Call) -> tuple[str, str]:
    said = canonical(call.input) if isinstance(call, ToolUseBlock) else f"broken: {call.raw_data}"
    return call.name, said
