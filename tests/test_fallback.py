"""Retry and fallback: what is tried again, how long it waits, when it goes on, and what it never does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from any_agent.errors import (
    AllModelsFailedError,
    AuthenticationError,
    ContextOverflowError,
    EmptyResponseError,
    ModelLoadingError,
    ProviderError,
    RateLimitError,
    ServerError,
    ServerUnreachableError,
)
from any_agent.models.fallback import FallbackModel, RetryPolicy
from any_agent.testing import ScriptedModel
from any_agent.types import AttemptFailed, Delta, ModelRequest, StreamEnd, TextDelta, ThinkingDelta, UserMessage

FAST = RetryPolicy(max_retries=3, delay_s=0.001)
ASK = ModelRequest([UserMessage("hi")])


async def collect(model: FallbackModel) -> tuple[str, list[Delta]]:
    deltas = [delta async for delta in model.stream(ASK)]
    return "".join(d.text for d in deltas if isinstance(d, TextDelta)), deltas


def chain(*scripts: Sequence[object], policy: RetryPolicy = FAST) -> tuple[FallbackModel, list[ScriptedModel]]:
    models = [ScriptedModel(script, name=f"m{i}") for i, script in enumerate(scripts)]
    return FallbackModel(models, policy), models


async def test_a_passing_error_is_tried_again() -> None:
    model, (first,) = chain([ServerError("a"), RateLimitError("b"), "fine"])
    text, deltas = await collect(model)
    assert text == "fine" and len(first.requests) == 3
    end = deltas[-1]
    assert isinstance(end, StreamEnd)
    assert [a.error_type for a in end.attempts] == ["ServerError", "RateLimitError", None]
    assert end.attempts[0].then.startswith("retried after") and end.attempts[2].is_ok
    assert [d.attempt for d in deltas if isinstance(d, AttemptFailed)] == list(end.attempts[:2])


@pytest.mark.parametrize("kind", [AuthenticationError, ContextOverflowError, ProviderError])
async def test_permanent_errors_are_never_tried_again(kind: type[ProviderError]) -> None:
    model, (first,) = chain([kind("no"), "never"])
    with pytest.raises(kind) as caught:
        await collect(model)
    assert len(first.requests) == 1 and len(caught.value.attempts) == 1


@pytest.mark.parametrize("kind", [ServerUnreachableError, EmptyResponseError])
async def test_some_errors_are_tried_again_once(kind: type[ProviderError]) -> None:
    model, (first,) = chain([kind("no")] * 5)
    with pytest.raises(kind):
        await collect(model)
    assert len(first.requests) == 2


async def test_max_retries_is_exact() -> None:
    model, (first,) = chain([ServerError("x")] * 9, policy=RetryPolicy(2, 0.001))
    with pytest.raises(ServerError) as caught:
        await collect(model)
    assert len(first.requests) == 3 and len(caught.value.attempts) == 3


async def test_the_next_model_follows() -> None:
    model, (first, second) = chain([AuthenticationError("no")], ["from two"])
    text, deltas = await collect(model)
    assert text == "from two" and len(first.requests) == len(second.requests) == 1
    end = deltas[-1]
    assert isinstance(end, StreamEnd) and end.attempts[0].then == "next model: m1"


async def test_all_failed_lists_each() -> None:
    model, _ = chain([AuthenticationError("no key")], [ServerError("down")] * 4, policy=RetryPolicy(1, 0.001))
    with pytest.raises(AllModelsFailedError) as caught:
        await collect(model)
    assert [a.model for a in caught.value.attempts] == ["m0", "m1", "m1"]
    assert "no key" in str(caught.value) and "down" in str(caught.value) and not caught.value.retryable


@pytest.mark.parametrize("delta", [TextDelta("half"), ThinkingDelta("hm")])
async def test_without_resuming_a_broken_answer_is_an_error(delta: Delta) -> None:
    policy = RetryPolicy(3, 0.001, resumes=False)
    model, (first, second) = chain([[delta, ServerError("cut")], "again"], ["other"], policy=policy)
    got: list[Delta] = []
    with pytest.raises(ServerError) as caught:
        async for one in model.stream(ASK):
            got.append(one)
    assert got == [delta] and len(first.requests) == 1 and second.requests == []
    assert caught.value.delivered_chars > 0 and not caught.value.retryable


def test_waits_grow_with_jitter_and_stay_below_the_cap() -> None:
    policy = RetryPolicy(max_retries=20, delay_s=1.0, max_delay_s=8.0, total_wait_s=1000)
    waits = [[policy.wait_s(ServerError("x"), n, 0.0) or 0 for _ in range(20)] for n in range(6)]
    assert all(1.0 <= w <= 1.5 for w in waits[0]) and all(w <= 8.0 for w in waits[5]) and min(waits[5]) > max(waits[0])
    assert len(set(waits[0])) > 1


def test_retry_after_wins_and_the_budget_holds() -> None:
    policy = RetryPolicy(delay_s=1.0, total_wait_s=10)
    assert policy.wait_s(RateLimitError("x", retry_after_s=7.0), 0, 0.0) == 7.0
    assert policy.wait_s(RateLimitError("x", retry_after_s=7.0), 1, 7.0) is None
    assert policy.wait_s(RateLimitError("x", retry_after_s=0.0), 0, 0.0) == 0.0
    assert policy.wait_s(ModelLoadingError("x"), 3, 0.0) is None


async def test_a_caller_that_leaves_closes_the_model() -> None:
    model, (first,) = chain(["a long text that goes on and on"])
    stream = model.stream(ASK)
    await stream.__anext__()
    await stream.aclose()  # type: ignore[attr-defined]
    assert first.closed_streams == 1


async def test_cancelling_ends_the_wait_at_once() -> None:
    model, (first,) = chain([RateLimitError("x", retry_after_s=60.0), "late"])
    task = asyncio.create_task(collect(model))
    while not first.requests:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(first.requests) == 1
