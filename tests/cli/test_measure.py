from __future__ import annotations

import itertools
import time

import pytest

from trine.cli.measure import Runner, Series, measure_in_turns, measure_streams

ONCE = {"warm_up_s": 0.0, "duration_s": 0.0}


def test_percentiles_are_by_nearest_rank() -> None:
    series = Series("x", 1, [float(number) for number in range(1, 101)], 1.0)
    assert [series.percentile(percent) for percent in (1, 50, 99, 99.5, 100)] == [1, 50, 99, 100, 100]
    assert Series("x", 1, [7.0], 1.0).percentile(1) == 7.0


def test_figures() -> None:
    figures = Series("x", 8, [1.0, 2.0, 6.0], 0.009).to_json([90])
    assert figures["latency_ms"] == {"min": 1.0, "max": 6.0, "mean": 3.0, "median": 2.0, "p90": 6.0}
    assert figures["throughput_qps"] == pytest.approx(1000 / 3)
    assert figures["rows_per_s"] == pytest.approx(8000 / 3)


def test_everyone_gets_enough_calls_and_takes_turns() -> None:
    order: list[str] = []
    runners = [Runner(name, lambda name=name: (order.append(name), time.sleep(0.001))) for name in "ab"]
    first, second = measure_in_turns(runners, 1, warm_up_s=0.0, duration_s=0.3, iterations=7)
    assert len(first.latencies_ms) >= 7
    assert len(second.latencies_ms) >= 7
    assert sum(a != b for a, b in itertools.pairwise(order)) >= 3
    assert min(first.latencies_ms) >= 1.0


def test_streams_run_at_once() -> None:
    calls = [lambda: time.sleep(0.05)] * 4
    series = measure_streams(calls, "x", 1, **ONCE, iterations=4)
    assert len(series.latencies_ms) == 4
    assert series.seconds < 0.15


def test_a_stream_that_fails_is_heard_of() -> None:
    def fail() -> None:
        raise ValueError("broken stream")

    with pytest.raises(ValueError, match="broken stream"):
        measure_streams([fail, lambda: None], "x", 1, **ONCE, iterations=2)
