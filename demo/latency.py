"""Measures PyTorch eager and an engine side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def interleaved_ms(runs: dict[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, float]:
    """Median milliseconds of each run. They take turns, so that a busy moment falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(-warmup, rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            elapsed = (time.perf_counter() - started) * 1e3
            if round_number >= 0:
                times[name].append(elapsed)
    return {name: median(measured) for name, measured in times.items()}
