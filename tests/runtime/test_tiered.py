"""Two tiers: the first answers at once, the tuned one takes over, and nothing is lost when it cannot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import trine
from trine.errors import BuildError
from trine.runtime.executor import Executor, Session
from trine.runtime.tiered import TieredExecutor
from trine.runtime.tiered import log as tiered_log

X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine_bytes(request: pytest.FixtureRequest) -> Iterator[tuple[bytes, np.ndarray]]:
    """An engine tuned for each backend, and its answer to X. Its first weight is large enough to be fed."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Linear(64, 4)).eval()
    with trine.build(network, (torch.from_numpy(X),), batch=(1, 3, 8), tactics=(request.param,)) as engine:
        yield engine.serialize(), engine(X)


def executor_of(engine: trine.Engine) -> TieredExecutor:
    assert isinstance(engine._executor, TieredExecutor)
    return engine._executor


def test_the_first_call_runs_before_tuning_and_a_later_one_after_it(engine_bytes: tuple[bytes, np.ndarray]) -> None:
    data, want = engine_bytes
    with trine.load(data, tiered=True) as engine:
        tiers = executor_of(engine)
        first = tiers.current
        np.testing.assert_allclose(engine(X), want, rtol=1e-5, atol=1e-6)
        assert tiers.current is first
        assert not any(thread.name == "trine-tuning" for thread in threading.enumerate())
        np.testing.assert_allclose(engine(X), want, rtol=1e-5, atol=1e-6)
        assert tiers.wait(60)
        assert tiers.current is not first
        np.testing.assert_array_equal(engine(X), want)  # the plan itself, to the last bit


def test_contexts_in_use_move_to_the_tuned_plan(engine_bytes: tuple[bytes, np.ndarray]) -> None:
    data, want = engine_bytes
    with trine.load(data, tiered=True) as engine, engine.create_execution_context() as context:
        name, out = engine.inputs[0].name, engine.outputs[0].name
        answers = [context.execute({name: X})[out]]
        assert executor_of(engine).wait(60)
        answers.append(context.execute({name: X})[out])
        mine = np.empty_like(want)
        context.execute({name: X}, out={out: mine})
    np.testing.assert_allclose(answers[0], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(answers[1], want)
    np.testing.assert_array_equal(mine, want)


def test_many_threads_call_while_it_tunes(engine_bytes: tuple[bytes, np.ndarray]) -> None:
    data, want = engine_bytes
    wrong: list[float] = []
    with trine.load(data, tiered=True) as engine:

        def work() -> None:
            for _ in range(50):
                difference = float(np.abs(engine(X) - want).max())
                if difference > 1e-5:
                    wrong.append(difference)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert executor_of(engine).wait(60)
    assert not wrong


def test_closing_early_leaves_no_thread(engine_bytes: tuple[bytes, np.ndarray]) -> None:
    engine = trine.load(engine_bytes[0], tiered=True)
    engine(X)
    engine(X)
    engine.close()
    assert not any(thread.name == "trine-tuning" for thread in threading.enumerate())


class _Constant:
    """An executor whose only session answers one number."""

    writes_in_place = False

    def __init__(self, value: float) -> None:
        self.value, self.closed = value, False

    def open_session(self) -> Session:
        return self

    def run(self, inputs: object, outputs: object) -> list[np.ndarray]:
        return [np.array(self.value)]

    def close(self) -> None:
        self.closed = True


def test_failed_tuning_keeps_the_first_tier_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Executor:
        raise BuildError("no backend can run this engine here")

    first = _Constant(1.0)
    tiers = TieredExecutor(first, fail)
    session = tiers.open_session()
    with caplog.at_level(logging.WARNING, tiered_log.name):
        assert session.run([], [])[0] == 1.0
        assert not tiers.wait(60)
    assert "no backend can run this engine here" in caplog.text
    assert session.run([], [])[0] == 1.0
    tiers.close()
    assert first.closed


class _Broken(_Constant):
    def run(self, inputs: object, outputs: object) -> list[np.ndarray]:
        raise RuntimeError("not implemented")


def test_what_the_first_tier_cannot_run_waits_for_the_plan() -> None:
    session = TieredExecutor(_Broken(1.0), lambda: _Constant(2.0)).open_session()
    assert session.run([], [])[0] == 2.0


def test_what_neither_tier_can_run_raises() -> None:
    session = TieredExecutor(_Broken(1.0), lambda: _Broken(2.0)).open_session()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not implemented"):
            session.run([], [])


def test_both_tiers_are_closed() -> None:
    first, tuned = _Constant(1.0), _Constant(2.0)
    tiers = TieredExecutor(first, lambda: tuned)
    session = tiers.open_session()
    assert tiers.wait(60)
    assert session.run([], [])[0] == 2.0
    tiers.close()
    assert first.closed
    assert tuned.closed
