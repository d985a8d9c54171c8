"""Timing candidates against each other: interleaved, so that what disturbs one disturbs all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["time_interleaved"]

WARM_UPS = 1
MIN_ROUNDS = 3
MAX_ROUNDS = 100


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], *, seconds: float = 2.0, order: Sequence[str] | None = None
) -> dict[str, float]:
    """The median milliseconds of each call, over rounds that run every call once.

    Rounds go on for about ``seconds`` altogether, at least 3 and at most 100; the order turns round each time,
    so that none always runs behind the same other one.
    """
    names = list(order or calls)
    for name in names:
        for _ in range(WARM_UPS):
            calls[name]()
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.perf_counter() + seconds
    for round_number in range(MAX_ROUNDS):
        if round_number >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name in names if round_number % 2 == 0 else reversed(names):
            start = time.perf_counter()
            calls[name]()
            samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in samples.items()}
