"""Sessions on streams that run when they will: answers are right because of what waits for what."""

from __future__ import annotations

import random

import numpy as np
import pytest
from runtime.cuda.queueing_driver import QueueingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, X, Y, answer, plan, rows_of

from trine.runtime.cuda.executor import CudaExecutor

CALLS = 12
ROW = WIDTH * 4  # bytes


def wrong_answers(seed: int, deaf: bool, sessions: int = 1) -> int:
    """Of calls with arrays on the GPU, each on a stream drawn among the session's own and two of the caller's."""
    driver = QueueingDriver(STAND_INS, seed, deaf)
    draw = random.Random(seed)
    executor = CudaExecutor(plan(1, 4), (X,), (Y,), driver=driver)
    opened = [executor.open_session() for _ in range(sessions)]
    wrong = 0
    with driver:
        streams = [driver.stream() for _ in range(2)]
        calls = []
        for number in range(CALLS):
            session, rows = draw.choice(opened), draw.randint(1, 6)
            stream = draw.choice([None, *streams])
            x, y = rows_of(rows, number), np.full((rows, WIDTH), np.nan, np.float32)
            places = driver.allocate(x.nbytes, "x"), driver.allocate(y.nbytes, "y")
            # The caller makes x, and reads y, on the stream that the call is given.
            on = session.stream if stream is None else stream
            driver.upload(places[0], x.ctypes.data, x.nbytes, on)
            session.run_device(places[:1], places[1:], rows, stream)
            driver.download(y.ctypes.data, places[1], y.nbytes, on)
            calls.append((x, y, places))
            if draw.random() < 0.2:
                session.synchronize()
        for stream in [*streams, *(session.stream for session in opened)]:
            driver.synchronize(stream)
        wrong += sum(not np.array_equal(y, answer(x)) for x, y, _ in calls)
        # NumPy's calls come between others, through memory that the session keeps.
        for number in range(3):
            x = rows_of(1 + number, 100 + number)
            (y,) = opened[0].run([x], [None])
            wrong += not np.array_equal(y, answer(x))
        for *_, places in calls:
            for place in places:
                driver.free(place)
        for stream in streams:
            driver.destroy_stream(stream)
    executor.close()
    assert driver.nothing_is_held()
    return wrong


@pytest.mark.parametrize("sessions", [1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_calls_on_several_streams(seed: int, sessions: int) -> None:
    assert wrong_answers(seed, deaf=False, sessions=sessions) == 0


def test_without_waits_it_shows() -> None:
    """The streams of the tests above do get into each other's way."""
    assert sum(wrong_answers(seed, deaf=True) > 0 for seed in range(20)) >= 15
