"""`query()` and `Client`: the Claude-style skin over a session. Blocks arrive while the model speaks."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from .agent import Agent
from .context import cut_error
from .errors import ConfigurationError, InvalidInputError, LimitError
from .given import agent_parts, apart, changed, messages_of, words_of
from .options import AgentOptions
from .protocols import Model
from .session import AgentSession
from .tally import too_many_turns
from .types import (
    AssistantMessage,
    ContextTruncated,
    Message,
    ResultMessage,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolMessage,
    ToolUseBlock,
    ToolUseError,
)

Given = AgentOptions | Mapping[str, Any] | str | Model | None


def _agent(given: Given, fields: Mapping[str, Any]) -> Agent:
    model, options = agent_parts(given, None)
    if model is not None and fields.get("model") is not None:
        text = f"the model is given twice: {model!r} and {fields['model']!r}"
        raise ConfigurationError(text, field="model", value=fields["model"], allowed="one of them")
    # Users of this skin run tools themselves unless they ask otherwise.
    options = options.replace(auto_execute_tools=options.given("auto_execute_tools", False))
    return Agent(**{**fields, "model": fields.get("model") if model is None else model}, options=options)


async def query(
    prompt: str | Sequence[Any] | AsyncIterable[Any],
    options: AgentOptions | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> AsyncIterator[AssistantMessage | ToolMessage | ResultMessage]:
    """One prompt, streamed: AssistantMessages with the blocks that just arrived, a ResultMessage last.

    Options may be named, too: `query("…", model="ollama/qwen3")`; they win over `options`.
    Calls that hooks or permissions refuse come as a ToolMessage with the reasons, not as calls.

    Raises:
        AnyAgentError: after the ResultMessage that tells of it; a reached limit is told by the ResultMessage alone.
    """
    named, sampling, model = apart(overrides)
    # Its connections are shared with other calls and close with the event loop.
    agent = _agent(words_of(options), named if model is None else {**named, "model": model})
    name = agent.model
    session = AgentSession(agent)
    async with aclosing(session.stream(prompt, **sampling)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, TextDelta):
                yield AssistantMessage((TextBlock(event.text),), model=name, is_partial=True)
            elif isinstance(event, ThinkingDelta):
                yield AssistantMessage((ThinkingBlock(event.thinking, event.signature),), model=name, is_partial=True)
            elif isinstance(event, AssistantMessage) and event.tool_calls:
                is_run_here = agent.options.auto_execute_tools
                calls, refused = (event.tool_calls, None) if is_run_here else await session.offered(event.tool_calls)
                if calls:
                    yield AssistantMessage(calls, model=event.model or name, is_partial=True)
                if refused is not None:
                    yield refused
            elif isinstance(event, ContextTruncated):
                raise cut_error(event)
            elif isinstance(event, (ToolMessage, ResultMessage)):
                yield event
                error = event.error if isinstance(event, ResultMessage) else None
                if error is not None and not isinstance(error, LimitError):
                    raise error


class Client:
    """A conversation: `await client.query(…)`, then `async for block in client.receive_messages()`.

    Attributes: session (the AgentSession), result (ResultMessage of the last run).

    Args:
        options: AgentOptions, a mapping of its fields, or only a model: `Client("ollama/qwen3")`.
        agent: an agent that is there already, instead.
        fields: any field of AgentOptions; these win over `options`.
    """

    def __init__(self, options: Given = None, *, agent: Agent | None = None, **fields: Any) -> None:
        if agent is not None and (options is not None or fields or not isinstance(agent, Agent)):
            text = f"Client(agent=…) takes an Agent alone, not {agent!r:.80} with {options!r:.80} and {fields}"
            raise ConfigurationError(text, field="agent", value=agent, allowed="an Agent, or options, not both")
        self._owns_agent = agent is None
        self.agent = _agent(options, fields) if agent is None else agent
        self.options = self.agent.options
        self.session = self.agent.create_session()
        self.result: ResultMessage | None = None
        self._prompts: list[Any] = []
        self._words: dict[str, Any] = {}  # options of the prompt that is being answered
        self._next_words: dict[str, Any] = {}  # and of those that wait
        self._unreported: list[_ToolAnswer] = []
        self._asked = self.options
        self._turns = self._rounds = 0  # of the prompt that is being answered

    async def query(self, prompt: str | Sequence[Any] | AsyncIterable[Any] = "", **overrides: Any) -> None:
        """Say something; `receive_messages()` gets the answer. `""` goes on after tool results.

        Args:
            overrides: options for this prompt only.
        """
        changed(self.agent.options, overrides)
        said = await messages_of(prompt, may_be_empty=True)
        if said:
            await self.session.send(said)
            self._prompts.append(said)
        self._next_words |= overrides

    async def receive_messages(self) -> AsyncIterator[TextBlock | ToolUseBlock | ToolUseError]:
        """Blocks while they arrive: pieces of text, whole tool calls.

        When every call of a turn has been answered by `add_tool_result`, the conversation goes on by itself, and so it
        does with a prompt that was queried meanwhile.

        Raises:
            InvalidInputError: nothing was asked.
            AnyAgentError: the run failed; MaxTurnsError: `max_turns` or `max_tool_iterations` was reached.
        """
        if not self._prompts and not self.session.can_continue:
            raise InvalidInputError("nothing was asked: await client.query(…) first", field="prompt")
        while self._prompts or self.session.can_continue:
            if self._prompts:
                self._turns = self._rounds = 0
                self._words.clear()
            self._prompts.clear()
            self._words, self._next_words = {**self._words, **self._next_words}, {}
            self._asked = changed(self.options, self._words)
            await self._report()
            left = self._left(self._turns, self._rounds)
            self._rounds += 1
            limit = {} if left is None or left == self._asked.max_turns else {"max_turns": left}
            overrides = {**self._words, **limit}
            async with aclosing(self.session.stream("", **overrides)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, TextDelta):
                        yield TextBlock(event.text)
                    elif isinstance(event, AssistantMessage):
                        self._turns += 1
                        for call in event.tool_calls:
                            shown = await self._shown(call)
                            if shown is not None:
                                yield shown
                    elif isinstance(event, ContextTruncated):
                        raise cut_error(event)
                    elif isinstance(event, ResultMessage):
                        self.result = event
            result = self.result
            if result is None or result.subtype == "interrupted":
                return
            if result.error is not None:
                raise result.error

    receive_response = receive_messages

    def _left(self, turns: int, rounds: int) -> int | None:
        """Model calls that are left for this prompt; None: no limit."""
        most, most_rounds = self._asked.max_turns, self._asked.max_tool_iterations
        if most is not None and turns >= most:
            raise too_many_turns("max_turns", most)
        if rounds > most_rounds:
            raise too_many_turns("max_tool_iterations", most_rounds)
        return None if most is None else most - turns

    async def _shown(self, call: ToolUseBlock | ToolUseError) -> ToolUseBlock | ToolUseError | None:
        if self._asked.auto_execute_tools:
            return call
        if isinstance(call, ToolUseBlock):
            return await self.session.offer(call)
        # Nobody can run it: the model is told, and asked again.
        self.session.put_tool_result(call.id, f"Error: {call.error}. Nothing was run.", is_error=True)
        return call

    def add_tool_result(
        self, tool_call_id: str, content: Any, *, name: str | None = None, is_error: bool = False
    ) -> _ToolAnswer:
        """Answer a tool call you ran. Takes effect at once; awaiting it also runs the PostToolUse hooks.

        Raises:
            InvalidInputError: no open call has this id.
        """
        self.session.put_tool_result(tool_call_id, content, is_error=is_error)
        answer = _ToolAnswer(self, tool_call_id, content)
        self._unreported.append(answer)
        return answer

    async def _report(self) -> None:
        for answer in list(self._unreported):
            await answer

    async def interrupt(self) -> None:
        """Stop what runs; from any task, any number of times. The client stays usable."""
        self._prompts.clear()
        await self.session.interrupt()

    async def connect(self, prompt: Any = None) -> None:
        """Nothing has to be connected; a prompt given here is queried."""
        if prompt is not None:
            await self.query(prompt)

    async def close(self) -> None:
        """End the conversation. Connections are shared with other clients and close with the event loop."""
        try:
            await self.session.close()
        finally:
            if self._owns_agent:
                await self.agent._keeper.close()  # its store; it opens again for the next prompt

    disconnect = close

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation as OpenAI dicts (a copy)."""
        return self.session.history

    @property
    def message_history(self) -> list[dict[str, Any]]:
        """Like `history`; may be assigned."""
        return self.session.history

    @message_history.setter
    def message_history(self, messages: Sequence[Message | Mapping[str, Any]]) -> None:
        self.session.replace_history(messages)

    @property
    def turn_count(self) -> int:
        return self.session.turn_count

    @property
    def turn_metadata(self) -> dict[str, int | None]:
        return {"turn_count": self.turn_count, "max_turns": self.options.max_turns}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class _ToolAnswer:
    """A tool result that is already in place; awaiting it tells the hooks. Leaving it unawaited is no mistake."""

    def __init__(self, client: Client, tool_call_id: str, content: Any) -> None:
        self._client, self._tool_call_id, self._content = client, tool_call_id, content

    def __await__(self) -> Generator[Any, None, None]:
        if self in self._client._unreported:
            self._client._unreported.remove(self)
            yield from self._client.session.report_tool_result(self._tool_call_id, self._content).__await__()
