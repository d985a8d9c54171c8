"""Timing candidates against each other: interleaved, so that what disturbs one disturbs all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["SETTLE_S", "take_turn", "time_interleaved"]

# ONNX Runtime's threads spin for up to 60 ms after a call, waiting for the next. On a machine whose cores are all in
# use, whoever runs within that time gets fewer of them: without a pause, OpenVINO looks slower than it is.
SETTLE_S = 0.08
TURN_S = 0.04  # a turn repeats calls shorter than this
SHORT_MS = 100.0
MIN_ROUNDS = 3
MAX_ROUNDS = 40


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 3.0,
    seconds_if_close: float = 12.0,
) -> dict[str, float]:
    """The median milliseconds of each call, over rounds in which every one has a turn.

    Rounds go on for about ``seconds`` altogether, at least 3 and at most 40, and for ``seconds_if_close`` while the
    two fastest are within a tenth of one another; the order turns round each time, so that none always runs behind the
    same other one.
    """
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    for round_number in range(MAX_ROUNDS):
        elapsed = time.perf_counter() - started
        if round_number >= MIN_ROUNDS and elapsed > seconds and (elapsed > seconds_if_close or not _close(samples)):
            break
        for name in names if round_number % 2 == 0 else reversed(names):
            if len(names) > 1:
                time.sleep(SETTLE_S)
            take_turn(calls[name], samples[name])
    return {name: statistics.median(values) for name, values in samples.items()}


def take_turn(call: Callable[[], object], samples: list[float]) -> None:
    """Add the milliseconds of each call of one turn to ``samples``.

    A turn of short calls has several, and starts with one that is not counted: whoever ran before took the caches.
    """
    if not samples or samples[-1] < SHORT_MS:
        call()
    turn_ends = time.perf_counter() + TURN_S
    while True:
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        samples.append((end - start) * 1e3)
        if end > turn_ends:
            return


def _close(samples: Mapping[str, Sequence[float]]) -> bool:
    medians = sorted(statistics.median(values) for values in samples.values())
    return len(medians) > 1 and medians[1] < 1.1 * medians[0]
