"""How long the parts of a chapter may be, so that a local server's window holds them, by its own count of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import AnyAgentError
from .chapters import Part, chars_for_window, chars_that_fit, read_lines
from .prompts import chapter_prompt

if TYPE_CHECKING:
    from .editor import CopyEditorAgent

_SAMPLE_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Fitting:
    """The most characters of a part; None: nothing tells. `is_answered` is False where asking again may tell more."""

    part_chars: int | None = None
    is_answered: bool = True


async def fitting_of(agent: CopyEditorAgent) -> Fitting:
    """What the agent's server says of its window and tokens; clouds say nothing.

    Some servers cut longer prompts silently, so what they really give is asked for.
    """
    route = agent.route
    if route.door != "direct":
        return Fitting()
    from ..models.servers import find_model, probe

    base_url, window_tokens = str(route.base_url), agent.options.window_tokens
    server = await probe(base_url, api_key=route.api_key, provider=route.provider, only=route.model)
    found = find_model(server, route.model) if server and server.state == "ready" else None
    if window_tokens is None:
        window_tokens = found.window_tokens if found else None
    if found is None or window_tokens is None:  # one that is not loaded has a window later
        guessed = chars_for_window(window_tokens) if window_tokens else None
        return Fitting(guessed, is_answered=found is not None and found.is_loaded)
    counted = await _counted(agent, base_url, route.model, route.api_key)
    return Fitting(chars_for_window(window_tokens) if counted is None else chars_that_fit(window_tokens, *counted))


async def _counted(agent: CopyEditorAgent, base_url: str, model: str, api_key: str | None) -> tuple[int, float] | None:
    """Tokens of the question without its text, and of one character, as the server counts; None: it does not."""
    from ..models.servers import count_prompt

    sample = _sample(agent)
    if not any(sample):
        return None
    counts = []
    for lines in ([], sample):
        asked = chapter_prompt("Chapter01.md", lines, Part(1, max(len(lines), 1)), is_read_by_tool=False)
        messages = [{"role": "system", "content": agent.build_system_prompt()}, {"role": "user", "content": asked}]
        counts.append(await count_prompt(base_url, model, messages, api_key=api_key))
    without, whole = counts
    if without is None or whole is None or whole <= without:
        return None
    return without, (whole - without) / sum(len(line) + 1 for line in sample)


def _sample(agent: CopyEditorAgent) -> Sequence[str]:
    """The first lines of the first chapter that has any."""
    for chapter in agent.known_chapters:
        try:
            lines, chars = read_lines(chapter.path), 0
        except AnyAgentError:  # it is told where the chapter is read
            continue
        for count, line in enumerate(lines, 1):
            chars += len(line) + 1
            if chars >= _SAMPLE_CHARS:
                return lines[:count]
        if any(line.strip() for line in lines):
            return lines
    return []
