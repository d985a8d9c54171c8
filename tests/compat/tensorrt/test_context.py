"""Building, loading and running by TensorRT's names; what is wrong is logged, and nothing crashes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt
from trine.compat import memory

LOGGER = Messages()


def double(x: Any, network: trt.INetworkDefinition) -> Any:
    """x + x."""
    return network.add_elementwise(x, x, trt.ElementWiseOperation.SUM).get_output(0)


@pytest.fixture(scope="module")
def plan() -> trt.IHostMemory:
    """y = 2x for x of (1 to 4, 3), and n: where x is not zero."""
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    x = network.add_input("x", trt.float32, (-1, 3))
    y = double(x, network)
    y.name = "y"
    network.mark_output(y)
    where = network.add_non_zero(x).get_output(0)
    where.name = "n"
    network.mark_output(where)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 3), (2, 3), (4, 3))
    assert config.add_optimization_profile(profile) == 0
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, LOGGER.errors
    return plan


@pytest.fixture
def engine(plan: trt.IHostMemory) -> trt.ICudaEngine:
    """The plan, loaded."""
    LOGGER.errors.clear()
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    assert engine is not None, LOGGER.errors
    return engine


class Allocator(trt.IOutputAllocator):
    """Gives memory of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.address = 0
        self.shape: tuple[int, ...] = ()

    def reallocate_output(self, tensor_name: str, memory_: int, size: int, alignment: int) -> int:
        """New memory."""
        self.address = memory.allocate(size)
        return self.address

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        """Keep it."""
        self.shape = tuple(shape)


def test_host_memory_is_a_buffer(plan: trt.IHostMemory) -> None:
    assert isinstance(plan, trt.IHostMemory)
    assert plan.nbytes == len(bytes(plan)) == len(memoryview(plan)) == len(bytearray(plan))


def test_what_an_engine_says_of_itself(engine: trt.ICudaEngine) -> None:
    assert [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)] == ["x", "y", "n"]
    assert engine.get_tensor_mode("x") == trt.TensorIOMode.INPUT
    assert engine.get_tensor_mode("y") == trt.TensorIOMode.OUTPUT
    assert engine.get_tensor_shape("x") == (-1, 3)
    assert engine.get_tensor_dtype("x") == trt.float32
    assert [tuple(d) for d in engine.get_tensor_profile_shape("x", 0)] == [(1, 3), (2, 3), (4, 3)]
    assert engine.get_tensor_mode("z") == trt.TensorIOMode.NONE
    assert "'z'" in LOGGER.errors[-1]
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    assert '"Bindings"' in text
    assert '"LayerType"' in text


def test_named_tensors_with_an_allocator(engine: trt.ICudaEngine) -> None:
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["x"]
    assert context.set_input_shape("x", (2, 3))
    assert context.infer_shapes() == []
    assert context.get_tensor_shape("y") == (2, 3)
    assert -1 in context.get_tensor_shape("n")
    x = np.array([[1, 0, 2], [0, 3, 0]], np.float32)
    y = np.zeros((2, 3), np.float32)
    allocator = Allocator()
    context.set_tensor_address("x", x.ctypes.data)
    context.set_tensor_address("y", y.ctypes.data)
    assert context.set_output_allocator("n", allocator)
    assert context.execute_async_v3(0), LOGGER.errors
    np.testing.assert_array_equal(y, 2 * x)
    found = memory.view(allocator.address, 6 * engine.get_tensor_dtype("n").itemsize)
    found = found.view(trt.nptype(engine.get_tensor_dtype("n"))).reshape(allocator.shape)
    np.testing.assert_array_equal(found, np.stack(np.nonzero(x)))


@pytest.mark.parametrize("shape", [(5, 3), (2, 4), (2, 3, 1)])
def test_shapes_outside_the_profile_are_refused(engine: trt.ICudaEngine, shape: tuple[int, ...]) -> None:
    assert not engine.create_execution_context().set_input_shape("x", shape)
    assert LOGGER.errors


def test_wrong_memory_is_refused(engine: trt.ICudaEngine) -> None:
    context = engine.create_execution_context()
    y = np.zeros((2, 3), np.float32)
    where = np.zeros((2, 6), np.int64)
    assert not context.execute_v2([1, 2, 3])  # the shape is not set
    context.set_input_shape("x", (2, 3))
    freed = memory.allocate(24)
    memory.release(freed)
    small = memory.allocate(20)
    for address, why in ((0, "no memory"), (freed, "freed"), (small, "do not fit"), (64, "first page")):
        assert not context.execute_v2([address, y.ctypes.data, where.ctypes.data])
        assert why in LOGGER.errors[-1]
    assert not context.execute_v2([y.ctypes.data, y.ctypes.data, where.ctypes.data])
    assert "overlaps" in LOGGER.errors[-1]
    assert not context.execute_v2([1, 2])
    assert "3 bindings" in LOGGER.errors[-1]
    memory.release(small)


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\x89TRINE\r\n" + bytes(100), bytes(10_000)])
def test_garbage_is_no_engine(garbage: bytes) -> None:
    LOGGER.errors.clear()
    assert trt.Runtime(LOGGER).deserialize_cuda_engine(garbage) is None
    assert LOGGER.errors


def test_a_damaged_plan_is_no_engine(plan: trt.IHostMemory) -> None:
    damaged = bytearray(plan)
    damaged[len(damaged) // 2] ^= 0xFF
    assert trt.Runtime(LOGGER).deserialize_cuda_engine(damaged) is None
    assert trt.Runtime(LOGGER).deserialize_cuda_engine(bytes(plan)[:-100]) is None


def test_contexts_outlive_their_engines_name(plan: trt.IHostMemory) -> None:
    with trt.Runtime(LOGGER).deserialize_cuda_engine(plan) as engine:
        context = engine.create_execution_context()
    del engine
    assert context.set_input_shape("x", (1, 3))


def test_networks_that_cannot_be_built_give_none() -> None:
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    x = network.add_input("x", trt.float32, (-1, 3))
    config = builder.create_builder_config()
    LOGGER.errors.clear()
    assert builder.build_serialized_network(network, config) is None
    assert "at least one output" in LOGGER.errors[-1]
    network.mark_output(double(x, network))
    assert builder.build_serialized_network(network, config) is None
    assert "no optimization profile" in LOGGER.errors[-1]
    config.add_optimization_profile(builder.create_optimization_profile())
    assert builder.build_serialized_network(network, config) is None
    assert "missing the dynamic input 'x'" in LOGGER.errors[-1]
    config.set_flag(trt.BuilderFlag.FP8)
    assert builder.build_serialized_network(network, config) is None
    assert "FP8" in LOGGER.errors[-1]
