"""Timing contenders fairly in one process: they take turns, in an order that rotates, with a pause between.

The pause lets a backend's spinning threads go to sleep (ONNX Runtime's spin for up to 60 ms after a
call), so that nobody pays for the one before.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trine.builder.timing import SETTLE_S, take_turn

__all__ = ["Spread", "interleave", "spread"]

WARM_UP = 3  # calls of each before the first turn


@dataclass(frozen=True)
class Spread:
    """A median, and how far single calls are from it."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    calls: int

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 5) if isinstance(value, float) else value for key, value in asdict(self).items()}


def spread(samples_ms: Sequence[float]) -> Spread:
    """Of at least one sample."""
    ordered = sorted(samples_ms)
    last = len(ordered) - 1
    return Spread(
        statistics.median(ordered),
        ordered[round(last * 0.1)],
        ordered[round(last * 0.9)],
        ordered[0],
        len(ordered),
    )


def interleave(
    contenders: Mapping[str, Callable[[Any], object]],
    inputs: Sequence[Any],
    *,
    seconds: float,
    min_rounds: int = 5,
) -> dict[str, Spread]:
    """Call every contender in turn for about ``seconds`` altogether, each call on the next of ``inputs``.

    At least ``min_rounds`` rounds are made, however long they take.
    """
    calls = {name: _on_each(call, inputs) for name, call in contenders.items()}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < min_rounds or time.perf_counter() < deadline:
        for position in range(len(names)):
            name = names[(position + rounds) % len(names)]
            time.sleep(SETTLE_S)
            take_turn(calls[name], samples[name])
        rounds += 1
    return {name: spread(samples[name]) for name in names}


def _on_each(call: Callable[[Any], object], inputs: Sequence[Any]) -> Callable[[], object]:
    """``call`` on the next of ``inputs``, each time."""
    rotation = itertools.cycle(inputs)
    return lambda: call(next(rotation))
