"""Timing for ``trine bench``: warm-up, then calls one after another, several callers taking turns."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trine.builder.timing import SETTLE_S

__all__ = ["Runner", "Series", "measure_in_turns", "measure_streams"]

TURN_S = 0.1  # long enough to reach a steady state, short enough that a disturbance hits all alike
WARM_S = 0.01  # of calls that are not counted, at the start of a turn


@dataclass(frozen=True)
class Runner:
    """Something that answers the benchmark's input when called; returns its outputs in order."""

    name: str
    call: Callable[[], Any]
    note: str = ""


@dataclass
class Series:
    """The latencies of one runner's calls, in milliseconds, and the seconds in which they ran."""

    name: str
    rows: int
    latencies_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""

    def percentile(self, percent: float) -> float:
        """The latency that ``percent`` of the calls did not exceed (nearest rank)."""
        ordered = sorted(self.latencies_ms)
        return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]

    def to_json(self, percentiles: Sequence[float]) -> dict[str, Any]:
        """Throughput in calls and rows a second, and latency's figures."""
        calls = len(self.latencies_ms)
        qps = calls / self.seconds
        return {
            "name": self.name,
            "note": self.note,
            "calls": calls,
            "throughput_qps": qps,
            "rows_per_s": qps * self.rows,
            "latency_ms": {
                "min": min(self.latencies_ms),
                "max": max(self.latencies_ms),
                "mean": statistics.fmean(self.latencies_ms),
                "median": statistics.median(self.latencies_ms),
                **{f"p{percent:g}": self.percentile(percent) for percent in percentiles},
            },
        }


def _run_for(
    call: Callable[[], Any], seconds: float, least: int, into: Series | None, stop: threading.Event | None = None
) -> None:
    """Call for ``seconds``, at least ``least`` times, or until ``stop`` is set."""
    clock = time.perf_counter
    start = clock()
    before = start
    done = 0
    while done < least or before - start < seconds:
        call()
        after = clock()
        if into is not None:
            into.latencies_ms.append((after - before) * 1e3)
        before = after
        done += 1
        if stop is not None and stop.is_set():
            break
    if into is not None:
        into.seconds += before - start


def measure_in_turns(
    runners: Sequence[Runner], rows: int, *, warm_up_s: float, duration_s: float, iterations: int
) -> list[Series]:
    """Each runner for ``duration_s`` altogether, in turns, and at least ``iterations`` calls.

    The order reverses each round, so that none always follows the same other one; each turn starts with a pause, in
    which the threads of the one before fall asleep, and with calls that are not counted.
    """
    series = [Series(runner.name, rows, note=runner.note) for runner in runners]
    for runner in runners:
        _run_for(runner.call, warm_up_s, 1, None)
    rounds = max(math.ceil(duration_s / TURN_S), 1) if len(runners) > 1 else 1
    each = duration_s / rounds
    least = math.ceil(iterations / rounds)
    for number in range(rounds):
        pairs = list(zip(runners, series, strict=True))
        for runner, into in pairs if number % 2 == 0 else reversed(pairs):
            if len(runners) > 1:
                time.sleep(SETTLE_S)
                _run_for(runner.call, WARM_S, 1, None)
            _run_for(runner.call, each, least, into)
    return series


def measure_streams(
    calls: Sequence[Callable[[], Any]], name: str, rows: int, *, warm_up_s: float, duration_s: float, iterations: int
) -> Series:
    """All ``calls`` at once, each in a thread of its own; latencies of all together, seconds of the whole."""
    parts = [Series(name, rows) for _ in calls]
    failures: list[BaseException] = []
    # Everyone is warm before anyone is timed, so that the seconds hold nothing but calls at full load.
    gate = threading.Barrier(len(calls) + 1)
    stop = threading.Event()

    def work(call: Callable[[], Any], part: Series) -> None:
        try:
            _run_for(call, warm_up_s, 1, None, stop)
            gate.wait()
            _run_for(call, duration_s, math.ceil(iterations / len(calls)), part, stop)
        except threading.BrokenBarrierError:
            pass  # another stream failed and says why, or Ctrl-C
        except Exception as err:  # noqa: BLE001  raised again below, in the main thread
            failures.append(err)
            gate.abort()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in zip(calls, parts, strict=True)]
    try:
        for thread in threads:
            thread.start()
        try:
            gate.wait()
        except threading.BrokenBarrierError:
            raise failures[0] from None
        start = time.perf_counter()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        # A backend that still computes while the process ends brings it down with SIGABRT.
        stop.set()
        gate.abort()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        raise
    if failures:
        raise failures[0]
    merged = [latency for part in parts for latency in part.latencies_ms]
    return Series(name, rows, merged, time.perf_counter() - start)
