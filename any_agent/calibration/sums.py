"""What messages add up to. Each is measured once, and most prompts begin like one before: a turn costs what is new."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

_REMEMBERED = 4096  # messages, where no prompt is longer
_PROMPTS = 4


class Sum(NamedTuple):
    """The features of some messages, added up."""

    ids: list[int]
    total: int
    is_own: bool = True  # no dict is among them

    def begins_with(self, other: Sum) -> bool:
        size = len(other.ids)
        return 0 < size <= len(self.ids) and self.ids[size - 1] == other.ids[-1] and self.ids[:size] == other.ids


class Reported:
    """The last prompt whose tokens a server told."""

    def __init__(self, messages: tuple[Any, ...], said: Sum, schemas: float, tokens: int) -> None:
        self.messages = messages  # keeps the ids theirs
        self.said, self.schemas, self.tokens = said, schemas, tokens

    @cached_property
    def ids(self) -> frozenset[int]:
        """None of a prompt that holds a message twice: it cannot be told what of it is in another."""
        ids = frozenset(self.said.ids)
        return ids if len(ids) == len(self.said.ids) else frozenset()


class Sums:
    """Adds messages up; own ones are remembered by identity, dicts are not: they may change.

    Args:
        of_own, of_dict: measure one message.
    """

    def __init__(self, of_own: Callable[[Any], int], of_dict: Callable[[Mapping[str, Any]], int]) -> None:
        self.known: dict[int, int] = {}  # by id; `kept` keeps the ids theirs
        self.kept: list[Any] = []
        self._of_own, self._of_dict = of_own, of_dict
        self._last: list[Sum] = []  # the last prompts, the newest first
        self._same: tuple[tuple[Any, ...], Sum] = (), Sum([], 0)

    def of(self, messages: Sequence[Any]) -> Sum:
        """The sum of a prompt."""
        if messages is self._same[0]:  # a tuple: nobody can have changed it
            return self._same[1]
        if len(self.known) > max(_REMEMBERED, 2 * len(messages)):
            self.known.clear()
            self.kept.clear()
            self._last.clear()
            self._same = (), Sum([], 0)
        ids = list(map(id, messages))
        new = Sum(ids, 0)
        start = max(filter(new.begins_with, self._last), key=lambda one: len(one.ids), default=Sum([], 0))
        if len(ids) == len(start.ids):
            self._remember(messages, start)
            return start
        total, is_own = start.total, True
        place = len(start.ids)
        for message, found in zip(messages[place:], map(self.known.get, ids[place:]), strict=True):
            if found is None and (message.__class__ is dict or isinstance(message, Mapping)):
                found, is_own = self._of_dict(message), False
            total += self.one(message) if found is None else found
        new = Sum(ids, total, is_own)
        if is_own:
            self._last = [new, *[one for one in self._last if one is not start][: _PROMPTS - 1]]
            self._remember(messages, new)
        return new

    def _remember(self, messages: Sequence[Any], total: Sum) -> None:
        if isinstance(messages, tuple):
            self._same = messages, total

    def one(self, message: Any) -> int:
        """The features of one own message."""
        found = self.known.get(id(message))
        if found is None:
            found = self.known[id(message)] = self._of_own(message)
            self.kept.append(message)
        return found
