"""Runs one tool once it may run: cache, context, tries, time limit, cancellation, and what the model reads of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence, Set, ValuesView
from copy import deepcopy
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any

from ..errors import ToolError, ToolExecutionError, ToolInputError, ToolTimeoutError, ToolUnavailableError
from ..models.canonical import canonical
from ..models.halves import whole
from ..types import Json
from .context import ToolContext
from .refusals import Waiting
from .registry import ResultCache
from .threads import uptime_s
from .tool import Tool, ToolResult, tool

GRACE_S = 2.0  # what a cancelled tool may take to tidy up; then it is left behind
NOTHING = "(done; no output)"
_log = logging.getLogger("any_agent")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call that ran. `data` is whole, `content` is what the model reads."""

    content: str
    is_error: bool = False
    data: Json = None
    ends_run: bool = False
    new_tools: tuple[Tool, ...] = ()


async def run_tool(
    one: Tool,
    arguments: Mapping[str, Json],
    context: Callable[[], ToolContext] = ToolContext,
    timeout_s: float | None = None,
    max_result_tokens: int | None = None,
    cache: ResultCache | None = None,
) -> Outcome:
    """Run a tool on arguments that passed its schema. Whatever the tool does, this answers.

    Args:
        context: makes the tool's context, if it wants one.
        timeout_s, max_result_tokens: where the tool sets none; None: no limit.

    Raises:
        ToolInputError: a value does not become what the function wants; nothing ran.
        asyncio.CancelledError: the run was interrupted; the tool and its processes have ended, or are left behind.
    """
    limit_s = one.timeout if one.timeout is not None else timeout_s
    tokens = one.max_result_tokens if one.max_result_tokens is not None else max_result_tokens
    made = context() if one.takes_context else None
    key = None
    if one.cache_ttl is not None and cache is not None:
        key = (one.name, canonical(dict(arguments)), (made.session_id, str(made.cwd)) if made else None)
        kept: ToolResult | None = cache.get(key)
        if kept is not None:
            return _told(one, deepcopy(kept), tokens)
    tries = 0
    try:
        if not one.retries:
            result = await _try(one, arguments, made, limit_s)
        else:
            async for attempt in _retrying(one):
                with attempt:
                    tries += 1
                    result = await _try(one, arguments, made, limit_s)
    except (ToolInputError, Waiting):
        raise
    except Exception as error:  # told to the model, which may do better
        said = str(error) if isinstance(error, ToolError) else _named(error)
        return Outcome(shortened(f"Error: {said}{f' (tried {tries} times)' if tries > 1 else ''}", tokens), True)
    if key is not None and cache is not None and one.cache_ttl is not None:
        try:
            cache.put(key, deepcopy(result), one.cache_ttl)
        except Exception:  # what cannot be copied is not kept
            _log.debug("the result of %s cannot be kept", one.name)
    return _told(one, result, tokens)


def _told(one: Tool, result: ToolResult, tokens: int | None) -> Outcome:
    try:
        return _outcome(one, result, tokens)
    except Exception as error:  # a repr that fails, a further tool that is none
        said = f"Error: {one.name} has run, but its result cannot be told: {_named(error)}"
        return Outcome(shortened(said, tokens), True)


def _named(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its own __str__ fails
        return type(error).__name__


def _outcome(one: Tool, result: ToolResult, tokens: int | None) -> Outcome:
    ends_run = one.ends_run if result.ends_run is None else result.ends_run
    new_tools = tuple([t if isinstance(t, Tool) else tool(t) for t in result.tools])
    content = render(result.data)
    if new_tools:
        content = f"{'' if content == NOTHING else content}\nNew tools: {', '.join(t.name for t in new_tools)}".strip()
    if not ends_run:  # else it is the answer: nothing is left out of that
        content = shortened(content, tokens)
    return Outcome(content, data=result.data, ends_run=ends_run, new_tools=new_tools)


def _retrying(one: Tool) -> Any:
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

    def may_pass(error: BaseException) -> bool:
        if isinstance(error, ToolInputError):
            return False
        return isinstance(error, ToolUnavailableError) or (one.effect != "once" and isinstance(error, Exception))

    wait = wait_exponential(multiplier=one.retry_delay_s, max=30) + wait_random(0, one.retry_delay_s / 2)
    return AsyncRetrying(
        retry=retry_if_exception(may_pass), stop=stop_after_attempt(one.retries + 1), wait=wait, reraise=True
    )


async def _try(
    one: Tool, arguments: Mapping[str, Json], context: ToolContext | None, limit_s: float | None
) -> ToolResult:
    """One try, in a task of its own: so a stop of ours is never mistaken for one of the tool's."""
    work, began_s = asyncio.ensure_future(_guarded(one, arguments, context)), uptime_s()
    try:
        done, _ = await asyncio.wait({work}, timeout=limit_s)
    except asyncio.CancelledError:
        await _stop(one, work, context, began_s)
        if not work.done() or work.cancelled() or work.exception() is not None:
            raise
        return work.result()  # it had finished, or did so when it was told to stop: it has run, and that is told
    if not done:
        await _stop(one, work, context, began_s)
        raise ToolTimeoutError(f"{one.name} took longer than {limit_s:g} s", tool_name=one.name)
    if work.cancelled():
        raise ToolExecutionError(f"{one.name} was cancelled from inside", tool_name=one.name)
    return work.result()


async def _guarded(one: Tool, arguments: Mapping[str, Json], context: ToolContext | None) -> ToolResult:
    try:
        result = await one.call(arguments, context)
        told = _told_failure(result.data)
        if told is not None:  # a failure like any other: tried again, never cached
            raise ToolExecutionError(told, tool_name=one.name)
        return result
    except (Exception, asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit ends the call, not the program
        raise ToolExecutionError(_named(error), tool_name=one.name) from None


def _told_failure(data: Any) -> str | None:
    try:
        blocks = claude_blocks(data)
    except Exception:  # an odd object: the tool has run, which is told later
        return None
    return (blocks.text or "the tool failed") if blocks is not None and blocks.is_error else None


async def _stop(one: Tool, work: asyncio.Future[ToolResult], context: ToolContext | None, began_s: float) -> None:
    from .children import children_of, end

    begun = [] if work.done() else children_of(work, began_s)
    if context is not None:
        context.cancelled.set()
    work.cancel()
    try:
        await asyncio.wait({work}, timeout=getattr(one, "grace_s", GRACE_S))
    finally:
        end(begun)
    if not work.done():
        _log.warning("tool %s does not end though it was cancelled; it is left behind", one.name)
        work.add_done_callback(_forget)
    else:
        _forget(work)


def _forget(work: asyncio.Future[ToolResult]) -> None:
    if not work.cancelled():
        work.exception()


# ------------------------------------------------------------------ what the model reads


def render(data: Any) -> str:
    """A tool's result as the model reads it: text as it is, the texts of Claude's and MCP's blocks, else JSON.

    What JSON has no words for: numbers that are none become "NaN", "Infinity", "-Infinity"; keys that are no text are
    written as text; bytes are UTF-8, and what is not becomes `\\xff`.
    """
    if isinstance(data, str):
        text = data
    elif data is None:
        return NOTHING
    elif isinstance(data, _BYTES):
        text = _plain(data)
    elif (blocks := claude_blocks(data)) is not None:
        text = blocks.text or NOTHING
    else:
        try:
            text = _json(_plain(data) if _is_object(data) else data)
        except (TypeError, ValueError, RecursionError):  # keys that are no text, infinity
            try:
                text = _json(_spelled(data))
            except (ValueError, RecursionError):  # circles
                text = str(data)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair: no server takes it
            text = whole(text)
    return text


@dataclass(frozen=True, slots=True)
class ClaudeBlocks:
    """A result as tools of the Claude Agent SDK and of MCP give it."""

    text: str
    is_error: bool


def claude_blocks(data: Any) -> ClaudeBlocks | None:
    """`{"content": [{"type": "text", …}], "is_error": …}`, read; None: it is something else."""
    if hasattr(data, "model_dump") and (hasattr(data, "isError") or hasattr(data, "is_error")):
        data = data.model_dump(mode="json", by_alias=True)
    if not isinstance(data, Mapping) or not data.keys() <= _CLAUDE_KEYS:
        return None
    content, structured = data.get("content"), data.get("structuredContent")
    if not isinstance(content, (list, tuple)) or not (content or len(data) > 1):  # {"content": []} may be anything
        return None
    told = [_block_text(block) for block in content]
    if None in told:
        return None
    if not told and structured is not None:
        told = [render(structured)]
    return ClaudeBlocks("\n".join([one for one in told if one]), bool(data.get("is_error") or data.get("isError")))


_CLAUDE_KEYS = {"content", "is_error", "isError", "structuredContent", "_meta"}


def _block_text(block: Any) -> str | None:
    """What the model reads of one block; None: it is no such block."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    inner = block.get({"image": "source", "resource": "resource"}.get(str(kind), ""), block) if kind else None
    if not isinstance(inner, Mapping):
        return None
    text, data = inner.get("text"), inner.get("blob", inner.get("data"))
    address = inner.get("uri", inner.get("url"))
    if kind in ("text", "resource") and isinstance(text, str):
        return text
    if kind in ("image", "audio", "resource") and isinstance(data, str):  # base64 would fill the window
        size_bytes = len(data) * 3 // 4
        size = f"{size_bytes / 1024:.0f} KB" if size_bytes >= 1024 else f"{size_bytes} bytes"
        named = [address, inner.get("mimeType", inner.get("media_type"))]
        return f"[{' '.join([str(kind), *[str(one) for one in named if one]])}, {size}]"
    if kind in ("image", "resource_link") and isinstance(address, str):
        return f"[{kind} {address}]"
    return None


_BYTES = (bytes, bytearray, memoryview)


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, default=_plain)


def _is_object(data: Any) -> bool:
    return hasattr(data, "model_dump") or (is_dataclass(data) and not isinstance(data, type))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, _BYTES):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, (Set, ValuesView, Sequence)) and not isinstance(value, str):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    return str(value)


def _spelled(value: Any) -> Any:
    """The value with text in place of what JSON has no words for."""
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping) and not _is_object(value):
        pairs = [(_key(key), _spelled(one)) for key, one in value.items()]
        named = dict(pairs)
        return named if len(named) == len(pairs) else [list(pair) for pair in pairs]  # two keys that read alike
    if isinstance(value, (list, tuple)):
        return [_spelled(one) for one in value]
    return _spelled(_plain(value))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int)):
        return json.dumps(key)
    return str(_spelled(key) if isinstance(key, (Enum, float, *_BYTES)) else key)


def shortened(text: str, most_tokens: int | None) -> str:
    """The text with its middle left out when it is longer than so many (estimated) tokens; None: as it is."""
    if most_tokens is None or len(text) <= most_tokens:  # a token is hardly ever less than a character
        return text
    from ..calibration import rough_tokens

    tokens = rough_tokens(text)
    if tokens <= most_tokens:
        return text
    keep = max(len(text) * most_tokens // tokens, 20)
    while True:
        head, tail = keep * 2 // 3, keep // 3
        left_out = len(text) - head - tail
        cut = f"{text[:head]}\n[… {left_out} of {len(text)} characters left out …]\n{text[len(text) - tail :]}"
        if keep <= 20 or rough_tokens(cut) <= most_tokens + 15:  # the mark itself takes about so many
            return cut
        keep = keep * 9 // 10
