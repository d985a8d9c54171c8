"""Timing contenders fairly in one process: they take turns, in an order that rotates, with a pause between.

The pause lets a backend's spinning threads go to sleep (ONNX Runtime's spin for up to 60 ms after a
call), so that nobody pays for the one before. A turn of short calls begins with one that is not counted,
which warms the caches again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trine.builder.timing import SETTLE_S

__all__ = ["Spread", "interleave", "spread"]

TURN_S = 0.03  # a turn repeats calls shorter than this
SHORT_S = 0.1  # calls shorter than this are warmed up at every turn


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
    names = list(contenders)
    last_s: dict[str, float] = {}
    for name, call in contenders.items():
        for index in range(3):
            started = time.perf_counter()
            call(inputs[index % len(inputs)])
            last_s[name] = time.perf_counter() - started
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < min_rounds or time.perf_counter() < deadline:
        for position in range(len(names)):
            name = names[(position + rounds) % len(names)]
            time.sleep(SETTLE_S)
            _turn(contenders[name], inputs, rounds, samples[name], warm=last_s[name] < SHORT_S)
            last_s[name] = samples[name][-1] / 1e3
        rounds += 1
    return {name: spread(samples[name]) for name in names}


def _turn(
    call: Callable[[Any], object], inputs: Sequence[Any], first: int, samples: list[float], *, warm: bool
) -> None:
    if warm:
        call(inputs[first % len(inputs)])
    turn_started = time.perf_counter()
    index = first
    while True:
        index += 1
        array = inputs[index % len(inputs)]
        started = time.perf_counter()
        call(array)
        ended = time.perf_counter()
        samples.append((ended - started) * 1e3)
        if ended - turn_started >= TURN_S:
            return
