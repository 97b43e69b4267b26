"""What may be put around the doors of one agent: a tape, a cache. Nothing, unless it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigurationError
from ..protocols import Model


def around(
    models: Sequence[Model],
    *,
    record: Any = None,
    replay: Any = None,
    cache_ttl_s: float | None = None,
    store: Any = None,
) -> list[Model]:
    """The models, each with what was asked for around it; retry and fallback stay outside.

    Args:
        record, replay: Tapes.
        cache_ttl_s: seconds that answers are good for; `store` keeps them.
    """
    out = list(models)
    if replay is not None and record is not None:
        text = "record and replay exclude each other: what is replayed is on a tape already"
        raise ConfigurationError(text, field="record", value=record)
    if replay is not None:
        from .tape import ReplayModel

        return [ReplayModel(replay, model) for model in out]
    if cache_ttl_s is not None:
        from .cached import CachedModel

        out = [CachedModel(model, store, cache_ttl_s) for model in out]
    if record is not None:  # outside, so that what the cache answered is on the tape too
        from .tape import RecordingModel

        out = [RecordingModel(model, record) for model in out]
    return out
