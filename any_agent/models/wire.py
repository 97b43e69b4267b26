"""Own messages to OpenAI wire dicts and back: the one place where they are made, shared by both doors.

History is always valid for the server that reads it next: arguments are a JSON object string, ids are unique, each call
has exactly one result, in order, no result is an orphan, no two messages of one role stand in a row, the system message
stands first; `to_server` also sees that neither the first nor the last word is the assistant's.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..errors import ConfigurationError, InvalidInputError
from ..types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    ToolUseError,
    UserMessage,
)
from .halves import mended

Wire = dict[str, Any]
SAMPLING_PARAMS: frozenset[str] = frozenset(
    """temperature max_tokens max_completion_tokens top_p top_k min_p frequency_penalty presence_penalty repeat_penalty
    seed stop logprobs top_logprobs logit_bias response_format parallel_tool_calls reasoning_effort user
    service_tier store metadata modalities prediction verbosity""".split()  # noqa: SIM905
)
NO_RESULT = "(no result: the call was interrupted)"
GO_ON = "Go on."
START = "(Here the conversation begins.)"


def to_wire(messages: Sequence[Message], provider: str | None = None) -> list[Wire]:
    """Messages as OpenAI dicts. Provider fields (signatures, …) go back only to the provider they came from."""
    out: list[Wire] = []
    unanswered: dict[str, Wire] = {}  # calls of the last assistant message
    renamed: dict[str, list[str]] = {}  # ids that an earlier call had used already
    seen: set[str] = set()
    for message in messages:
        wire = message.wire
        if wire is None:
            wire = mended(_encode(message))
            object.__setattr__(message, "wire", wire)
        if message.__class__ is ToolMessage:
            if renamed:
                wire = [{**one, "tool_call_id": _own_id(one["tool_call_id"], renamed)} for one in wire]
            out.extend(_pair(wire, unanswered))
            unanswered, renamed = {}, {}
            continue
        if unanswered:
            out.extend(_pair([], unanswered))
            unanswered, renamed = {}, {}
        if message.__class__ is AssistantMessage:
            if message.provider_fields and message.provider == provider:
                wire = {**wire, **message.provider_fields}
            if "tool_calls" in wire:
                wire, renamed = _with_own_ids(wire, seen)
                unanswered = {call["id"]: call for call in wire["tool_calls"]}
        if out and out[-1]["role"] == wire["role"]:
            joined = _merged(out[-1], wire)  # strict templates refuse two messages of one role in a row
            if joined is not None:
                out[-1] = joined
                continue
        elif out and wire["role"] == "system":  # and a system message anywhere but first
            wire = {"role": "user", "content": wire["content"]}
            if out[-1]["role"] == "user" and (joined := _merged(out[-1], wire)):
                out[-1] = joined
                continue
        out.append(wire)
    if unanswered:
        out.extend(_pair([], unanswered))
    return out


def to_server(messages: Sequence[Message], provider: str | None = None) -> list[Wire]:
    """`to_wire`, fit to be answered: never with the assistant's word last, which llama.cpp would say once more.

    Nor with its word first, which strict templates refuse.
    """
    out = to_wire(messages, provider)
    first = 1 if out and out[0]["role"] == "system" else 0
    if len(out) > first and out[first]["role"] == "assistant":
        out.insert(first, {"role": "user", "content": START})
    if out and out[-1]["role"] == "assistant":
        out.append({"role": "user", "content": GO_ON})
    return out


def _own_id(call_id: str, renamed: Mapping[str, list[str]]) -> str:
    """The call's id now; results of calls that shared one come in the order of the calls."""
    ids = renamed.get(call_id) or [call_id]
    return ids.pop(0) if len(ids) > 1 else ids[0]


def _with_own_ids(wire: Wire, seen: set[str]) -> tuple[Wire, dict[str, list[str]]]:
    """The message with ids no earlier call has used, and what became of the old ones."""
    calls = wire["tool_calls"]
    ids = {call["id"] for call in calls}
    if len(ids) == len(calls) and "" not in ids and ids.isdisjoint(seen):
        seen |= ids
        return wire, {}
    renamed: dict[str, list[str]] = {}
    own = []
    for call in calls:
        call_id = call["id"] or "call"
        number = 1
        while call_id in seen:
            number += 1
            call_id = f"{call['id'] or 'call'}_{number}"
        seen.add(call_id)
        renamed.setdefault(call["id"], []).append(call_id)
        own.append({**call, "id": call_id})
    return {**wire, "tool_calls": own}, renamed


def check_params(params: Mapping[str, Any]) -> None:
    """Refuse names that are no sampling parameter, before anything is sent.

    Raises:
        ConfigurationError: names the parameter and the nearest known one.
    """
    for name in params:
        if name not in SAMPLING_PARAMS:
            near = get_close_matches(name, SAMPLING_PARAMS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; other fields go into extra_body"
            raise ConfigurationError(
                f"there is no parameter {name!r}{hint}",
                field=name,
                value=params[name],
                allowed="OpenAI chat parameters",
            )


def _pair(results: list[Wire], calls: dict[str, Wire]) -> list[Wire]:
    """One result per call in the order of the calls; orphans are left out."""
    by_id = {result["tool_call_id"]: result for result in results}
    return [by_id.get(i) or {"role": "tool", "tool_call_id": i, "content": NO_RESULT} for i in calls]


def _merged(first: Wire, second: Wire) -> Wire | None:
    """Two messages of one role as one; None: they have to stay apart."""
    if first.keys() | second.keys() <= {"role", "content"} or (
        first.keys() <= {"role", "content"} and second.keys() <= {"role", "content", "tool_calls"}
    ):
        a, b = first["content"] or "", second["content"] or ""
        both = f"{a}\n\n{b}" if a and b else a or b
        content = both if isinstance(a, str) and isinstance(b, str) else _as_parts(a) + _as_parts(b)
        return {**second, "content": content or None if "tool_calls" in second else content}
    return None


def _as_parts(content: Any) -> list[Wire]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


def _encode(message: Message) -> Any:
    if isinstance(message, ToolMessage):
        return [
            {"role": "tool", "tool_call_id": b.tool_use_id, "content": b.as_text()}
            for b in message.content
            if isinstance(b, ToolResultBlock)
        ]
    if isinstance(message, AssistantMessage):
        text = "".join([b.text for b in message.content if isinstance(b, TextBlock)])
        wire: Wire = {"role": "assistant", "content": text}
        calls = [_encode_call(b) for b in message.content if isinstance(b, (ToolUseBlock, ToolUseError))]
        if calls:
            wire["tool_calls"] = calls
            wire["content"] = text or None
        return wire
    if any(isinstance(b, ImageBlock) for b in message.content):
        return {"role": message.role, "content": [_encode_part(b) for b in message.content]}
    return {"role": message.role, "content": "".join([b.text for b in message.content if isinstance(b, TextBlock)])}


def _encode_part(block: Block) -> Wire:
    if isinstance(block, ImageBlock):
        image: Wire = {"url": block.url}
        if block.detail:
            image["detail"] = block.detail
        return {"type": "image_url", "image_url": image}
    return {"type": "text", "text": getattr(block, "text", "")}


def _encode_call(block: ToolUseBlock | ToolUseError) -> Wire:
    if isinstance(block, ToolUseBlock):
        arguments = json.dumps(block.input, ensure_ascii=False, default=str)
    else:  # broken text in the history makes servers fail for ever (llama.cpp: HTTP 500)
        arguments = json.dumps({"invalid_arguments": block.raw_data or ""}, ensure_ascii=False)
    name = block.name or "unknown_tool"
    return {"id": block.id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tools_to_wire(tools: Sequence[ToolSpec]) -> list[Wire]:
    """Tool specs as OpenAI function tools."""
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
        for t in tools
    ]


# ------------------------------------------------------------------ wire dicts in


def from_wire(items: Sequence[Message | Mapping[str, Any]]) -> list[Message]:
    """OpenAI dicts (or own messages) as own messages. Neighbouring tool messages become one ToolMessage.

    Raises:
        InvalidInputError: an item is no message; names its place and what is wrong.
    """
    out: list[Message] = []
    for place, item in enumerate(items):
        if isinstance(item, (SystemMessage, UserMessage, AssistantMessage, ToolMessage)):
            out.append(item)
            continue
        if not isinstance(item, Mapping):
            raise InvalidInputError(
                f"message {place} is a {type(item).__name__}; give dicts like {{'role': 'user', 'content': '…'}}",
                field=f"messages[{place}]",
                value=item,
            )
        message = _decode(item, place)
        if isinstance(message, ToolMessage) and out and isinstance(out[-1], ToolMessage):
            message = ToolMessage(out.pop().content + message.content)
        out.append(message)
    return out


def _decode(item: Mapping[str, Any], place: int) -> Message:
    role = item.get("role")
    content = _decode_content(item.get("content"), place)
    if role in ("system", "developer"):
        return SystemMessage(content)
    if role == "user":
        return UserMessage(content)
    if role == "tool":
        text = "".join([b.text for b in content if isinstance(b, TextBlock)])
        return ToolMessage((ToolResultBlock(str(item.get("tool_call_id") or ""), text),))
    if role == "assistant":
        reasoning = item.get("reasoning_content") or item.get("reasoning")
        thinking: tuple[Block, ...] = (ThinkingBlock(reasoning),) if isinstance(reasoning, str) else ()
        calls = tuple(_decode_call(call) for call in item.get("tool_calls") or ())
        refusal = item.get("refusal")
        if isinstance(refusal, str) and not content:
            content = (TextBlock(refusal),)
        return AssistantMessage(thinking + content + calls)
    raise InvalidInputError(
        f"message {place} has role {role!r}; use system, user, assistant or tool",
        field=f"messages[{place}].role",
        value=role,
    )


def _decode_content(content: Any, place: int) -> tuple[Block, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextBlock(str(content)),) if content else ()
    blocks: list[Block] = []
    for part in content if isinstance(content, Sequence) else [content]:
        if isinstance(part, (TextBlock, ImageBlock, ThinkingBlock, ToolUseBlock, ToolResultBlock)):
            blocks.append(part)
        elif isinstance(part, Mapping) and part.get("type") == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            blocks.append(ImageBlock(str(url), image.get("detail") if isinstance(image, Mapping) else None))
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            blocks.append(TextBlock(part["text"]))
        else:
            raise InvalidInputError(
                f"message {place} holds a content part that is neither text nor image_url: {part!r:.80}",
                field=f"messages[{place}].content",
                value=part,
            )
    return tuple(blocks)


def _decode_call(call: Mapping[str, Any]) -> ToolUseBlock | ToolUseError:
    function = call.get("function") or {}
    name, raw, call_id = str(function.get("name") or ""), function.get("arguments"), str(call.get("id") or "")
    if isinstance(raw, Mapping):
        return ToolUseBlock(call_id, name, dict(raw))
    try:
        value = json.loads(raw or "{}")
    except (TypeError, ValueError) as error:
        return ToolUseError(f"not valid JSON: {error}", str(raw), call_id, name)
    if not isinstance(value, dict):
        return ToolUseError("arguments are JSON but not an object", str(raw), call_id, name)
    return ToolUseBlock(call_id, name, value)


async def collected(prompts: AsyncIterable[Any]) -> list[Any]:
    """Messages of an async iterable: texts, wire dicts, or `{"type": "user", "message": {…}}`."""
    out: list[Any] = []
    async for item in prompts:
        if isinstance(item, str):
            out.append({"role": "user", "content": item})
        else:
            out.append(item.get("message", item) if isinstance(item, Mapping) else item)
    return out
