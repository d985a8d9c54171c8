"""INT8 by calibrators and by dynamic ranges, as TensorRT 10 and older build it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt
from trine.compat import memory

LOGGER = Messages()
RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((4, 3, 3, 3), np.float32)
BATCHES = RNG.standard_normal((3, 2, 3, 8, 8), np.float32)


class Calibrator(trt.IInt8EntropyCalibrator2):
    """Gives ``batches`` by address, and keeps the cache."""

    def __init__(self, batches: list[Any], cache: bytes | None = None) -> None:
        trt.IInt8EntropyCalibrator2.__init__(self)
        self.batches = batches
        self.cache = cache
        self.asked: list[list[str]] = []

    def get_batch_size(self) -> int:
        """Two rows."""
        return 2

    def get_batch(self, names: list[str]) -> list[int] | None:
        """The next."""
        self.asked.append(list(names))
        return [self.batches.pop(0)] if self.batches else None

    def read_calibration_cache(self) -> bytes | None:
        """What was written."""
        return self.cache

    def write_calibration_cache(self, cache: Any) -> None:
        """Keep it."""
        self.cache = bytes(cache)


def network() -> tuple[trt.Builder, trt.INetworkDefinition, trt.IBuilderConfig]:
    """A convolution and a ReLU of (2, 3, 8, 8), with the INT8 flag."""
    LOGGER.errors.clear()
    builder = trt.Builder(LOGGER)
    made = builder.create_network(0)
    x = made.add_input("x", trt.float32, (2, 3, 8, 8))
    y = made.add_activation(
        made.add_convolution_nd(x, 4, (3, 3), KERNEL).get_output(0), trt.ActivationType.RELU
    ).get_output(0)
    y.name = "y"
    made.mark_output(y)
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    return builder, made, config


def answers(plan: trt.IHostMemory, x: np.ndarray) -> np.ndarray:
    """What the plan gives for x."""
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    assert "QuantizeLinear" in engine._inspection()["operators"]
    y = np.zeros((2, 4, 6, 6), np.float32)
    assert engine.create_execution_context().execute_v2([x.ctypes.data, y.ctypes.data]), LOGGER.errors
    return y


def expected(x: np.ndarray) -> np.ndarray:
    """The convolution and the ReLU, in NumPy."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,ocij->nohw", windows, KERNEL), 0)


def test_a_calibrators_batches_and_cache() -> None:
    builder, made, config = network()
    config.int8_calibrator = calibrator = Calibrator([int(batch.ctypes.data) for batch in BATCHES])
    plan = builder.build_serialized_network(made, config)
    assert plan is not None, LOGGER.errors
    assert calibrator.asked[0] == ["x"]
    want = expected(BATCHES[0])
    got = answers(plan, BATCHES[0])
    error = np.abs(got - want).max() / want.max()
    assert 0 < error < 0.1
    builder, made, config = network()
    config.int8_calibrator = again = Calibrator([], calibrator.cache)
    second = builder.build_serialized_network(made, config)
    assert second is not None, LOGGER.errors
    assert again.asked == []


def test_dynamic_ranges_need_no_calibrator() -> None:
    builder, made, config = network()
    made.get_input(0).dynamic_range = (-4, 4)
    plan = builder.build_serialized_network(made, config)
    assert plan is not None, LOGGER.errors
    want = expected(BATCHES[1])
    assert np.abs(answers(plan, BATCHES[1]) - want).max() / want.max() < 0.1


def test_neither_is_refused() -> None:
    builder, made, config = network()
    assert builder.build_serialized_network(made, config) is None
    assert "no calibrator" in LOGGER.errors[-1]


@pytest.mark.parametrize("batches", [[], ["freed"], ["null"]])
def test_batches_that_cannot_be_read(batches: list[str]) -> None:
    builder, made, config = network()
    freed = memory.allocate(BATCHES[0].nbytes)
    memory.release(freed)
    config.int8_calibrator = Calibrator([{"freed": freed, "null": 0}[name] for name in batches])
    assert builder.build_serialized_network(made, config) is None
    assert any(word in LOGGER.errors[-1] for word in ("no batches", "freed", "null"))
