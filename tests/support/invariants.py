"""What must hold for every request of a long conversation, whatever was left out of it.

`violations` looks at recorded calls only: at what a server really received and reported.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from support.recording_proxy import Chat

Wire = dict[str, Any]
SUMMARY = "(Summary of what was said before: "


@dataclass(frozen=True, slots=True)
class Spoken:
    """One conversation as the user saw it.

    Attributes:
        prompts: What the user said, all different, oldest first.
        history: The whole conversation as wire dicts, without the system prompt.
        fitted_turns: Turns in which the user was told that history was left out or cut (ContextFitted, ContextTruncated).
    """

    prompts: Sequence[str]
    history: Sequence[Wire]
    fitted_turns: frozenset[int] = frozenset()


def violations(chats: Sequence[Chat], spoken: Spoken, window_tokens: int, *, has_summaries: bool = False) -> list[str]:
    """What does not hold, as `call 17: …`; empty when all does.

    Args:
        chats: Every call of one conversation.
        window_tokens: No reported prompt may have more.
        has_summaries: Calls that ask for a summary are let pass (they must fit and alternate all the same).
    """
    out = []
    talk = [chat for chat in chats if not (has_summaries and is_summary(chat))]
    for place, chat in enumerate(chats):
        if chat.prompt_tokens > window_tokens:
            out.append(f"call {place}: {chat.prompt_tokens} prompt tokens in a window of {window_tokens}")
        found = [*_pairs(chat.messages), *_roles(chat.messages)]
        if chat in talk:
            found += _same(chat, talk[0])
            found += _in_order(chat.messages, spoken.history)
        out += [f"call {place}: {what}" for what in found]
    return out + list(_turns(talk, spoken))


def is_summary(chat: Chat) -> bool:
    return "tools" not in chat.parts and chat.messages[0].get("content", "").startswith("Summarize the conversation")


def _same(chat: Chat, first: Chat) -> Iterator[str]:
    """System prompt and tools, byte for byte."""
    if chat.messages[0]["role"] != "system":
        yield f"the first message is of role {chat.messages[0]['role']}"
    elif chat.raw_messages[0] != first.raw_messages[0]:
        yield "the system prompt has changed"
    if chat.parts.get("tools") != first.parts.get("tools"):
        yield "the tools have changed"


def _pairs(messages: Sequence[Wire]) -> Iterator[str]:
    """Each call followed by its result, in order; ids never twice."""
    open_ids: list[str] = []
    seen: Counter[str] = Counter()
    for message in messages:
        if message["role"] == "tool":
            answered = message["tool_call_id"]
            if not open_ids or open_ids[0] != answered:
                yield f"the result of {answered} where {open_ids[:1] or 'no call'} is open"
            open_ids = [one for one in open_ids if one != answered]
            continue
        if open_ids:
            yield f"no result for {open_ids}"
        open_ids = [call["id"] for call in message.get("tool_calls") or ()]
        seen.update(open_ids)
    if open_ids:
        yield f"no result for {open_ids}"
    if twice := [one for one, count in seen.items() if count > 1]:
        yield f"ids used twice: {twice}"


_AFTER = {  # who may speak after whom
    "system": {"user"},
    "user": {"assistant", "calls"},
    "calls": {"tool"},
    "tool": {"tool", "assistant", "calls"},
    "assistant": {"user"},
}


def _roles(messages: Sequence[Wire]) -> Iterator[str]:
    roles = ["calls" if m.get("tool_calls") else str(m["role"]) for m in messages]
    for place, (one, following) in enumerate(zip(roles, roles[1:], strict=False), 1):
        if following not in _AFTER[one]:
            yield f"message {place} is of role {following} after {one}"
    if roles[-1] not in ("user", "tool"):
        yield f"the last message is of role {roles[-1]}"


def _in_order(messages: Sequence[Wire], history: Sequence[Wire]) -> Iterator[str]:
    """Everything sent was said, in this order; results may be shortened, but only with a note."""
    rest = iter(history)
    for message in messages[1:]:
        if message["role"] == "user" and str(message["content"]).startswith(SUMMARY):
            continue
        if not any(_is_same(message, said) for said in rest):
            yield f"this was not said at this place: {json.dumps(message)[:120]}"
            return


def _is_same(sent: Wire, said: Wire) -> bool:
    if sent == said:
        return True
    if sent["role"] != "tool" or sent.get("tool_call_id") != said.get("tool_call_id"):
        return False
    head, _, tail = sent["content"].partition("\n[… ")
    return bool(tail) and said["content"].startswith(head) and "characters left out …]" in tail


def _turns(talk: Sequence[Chat], spoken: Spoken) -> Iterator[str]:
    """Every call asks the prompt of its turn, every turn is asked, and no turn leaves something out without a word."""
    turn, previous = 0, None
    for place, chat in enumerate(talk):
        last = next((m["content"] for m in reversed(chat.messages) if m["role"] == "user"), None)
        if not _is_prompt(last, spoken.prompts[turn]):
            turn += 1
        if turn >= len(spoken.prompts) or not _is_prompt(last, spoken.prompts[turn]):
            yield f"call {place} of the talk: the last user turn is {str(last)[:80]!r}, not that of turn {turn}"
            return
        is_less = previous is not None and not set(previous.raw_messages) <= set(chat.raw_messages)
        if is_less and turn not in spoken.fitted_turns:
            yield f"call {place} of the talk: something was left out in turn {turn} without an event"
        previous = chat
    if turn != len(spoken.prompts) - 1:
        yield f"the last call belongs to turn {turn} of {len(spoken.prompts)}"


def _is_prompt(content: Any, prompt: str) -> bool:
    return content == prompt or (str(content).startswith(SUMMARY) and str(content).endswith(f"\n\n{prompt}"))


def is_appended(chat: Chat, previous: Chat) -> bool:
    """Nothing of the previous call is missing or changed: the server finds its cached prefix."""
    return chat.raw_messages[: len(previous.raw_messages)] == previous.raw_messages


@dataclass(frozen=True, slots=True)
class Figures:
    """What a conversation came to on the wire."""

    calls: int
    summaries: int
    refused: int
    trims: int
    most_prompt_tokens: int
    prompt_tokens: int
    prefilled_tokens: int
    cached_tokens: int


def figures(chats: Sequence[Chat]) -> Figures:
    talk = [chat for chat in chats if not is_summary(chat)]
    return Figures(
        calls=len(talk),
        summaries=len(chats) - len(talk),
        refused=sum(chat.error is not None for chat in chats),
        trims=sum(not is_appended(b, a) for a, b in zip(talk, talk[1:], strict=False)),
        most_prompt_tokens=max((chat.prompt_tokens for chat in chats), default=0),
        prompt_tokens=sum(chat.prompt_tokens for chat in chats),
        prefilled_tokens=sum(chat.prefilled_tokens for chat in chats),
        cached_tokens=sum(chat.cached_tokens for chat in chats),
    )
