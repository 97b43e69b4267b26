"""A conversation's messages, always well formed: every tool call answered once, partial text marked, order kept."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import InvalidInputError
from .models.wire import NO_RESULT
from .types import (
    AssistantMessage,
    Message,
    TextBlock,
    ToolMessage,
    ToolResultBlock,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
)


class History:
    """The messages of one conversation, and the results that a caller hands in for open tool calls."""

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.messages: list[Message] = list(messages)
        self._results: dict[str, ToolResultBlock] = {}

    @property
    def call_ids(self) -> set[str]:
        """Ids of all calls."""
        return {
            call.id for message in self.messages if isinstance(message, AssistantMessage) for call in message.tool_calls
        }

    def open_calls(self) -> dict[str, ToolUseBlock | ToolUseError]:
        """Calls of the last message; they have no result in the history yet."""
        last = self.messages[-1] if self.messages else None
        return {call.id: call for call in last.tool_calls} if isinstance(last, AssistantMessage) else {}

    def put_result(self, result: ToolResultBlock) -> None:
        """Keep a result for an open call.

        Raises:
            InvalidInputError: no open call has this id.
        """
        calls = self.open_calls()
        if result.tool_use_id not in calls:
            raise InvalidInputError(
                f"no open tool call has id {result.tool_use_id!r}; open: {', '.join(calls) or 'none'}",
                field="tool_use_id",
                value=result.tool_use_id,
            )
        self._results[result.tool_use_id] = result

    @property
    def known_results(self) -> dict[str, ToolResultBlock]:
        """Results there are for open calls, by call id."""
        return dict(self._results)

    @property
    def is_unfinished(self) -> bool:
        """The last turn was cut: what the user said has no answer, or calls have no result."""
        return self.ends_in_prompt or bool(self.open_calls())

    @property
    def ends_in_prompt(self) -> bool:
        """What the user said last has no answer."""
        return bool(self.messages) and isinstance(self.messages[-1], UserMessage)

    @property
    def missing_results(self) -> list[str]:
        """Ids of open calls that nobody has answered."""
        return [call_id for call_id in self.open_calls() if call_id not in self._results]

    @property
    def can_continue(self) -> bool:
        """All open calls were answered by the caller: the model can be asked again."""
        return bool(self._results) and not self.missing_results

    @property
    def ends_in_results(self) -> bool:
        return bool(self.messages) and isinstance(self.messages[-1], ToolMessage)

    def keep_results(self, finished: Sequence[ToolResultBlock]) -> None:
        """Keep results for open calls while others still wait for theirs."""
        self._results.update({result.tool_use_id: result for result in finished})

    def close_calls(self, finished: Sequence[ToolResultBlock] = ()) -> None:
        """Answer the open calls with the results there are; the others are told that there is none."""
        calls = self.open_calls()
        if calls:
            known = {**self._results, **{result.tool_use_id: result for result in finished}}
            results = [known.get(i) or ToolResultBlock(i, NO_RESULT, True) for i in calls]
            self.messages.append(ToolMessage(tuple(results)))
        self._results = {}

    def keep_partial(self, text: str) -> None:
        """Keep what an interrupted answer had said."""
        if text:
            self.messages.append(AssistantMessage((TextBlock(text),), is_interrupted=True))
