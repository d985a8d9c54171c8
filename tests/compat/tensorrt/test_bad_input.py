"""What is wrong is logged, and answered with None or False; a wrong type is a TypeError. Nothing crashes.

Each mistake is made in a process that goes on afterwards: a crash would end the tests.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt
from trine.compat import memory


@pytest.fixture
def logger() -> Messages:
    """A logger of its own for each test."""
    return Messages()


def started(logger: Messages, shape: tuple[int, ...] = (1, 3, 8, 8)) -> tuple[Any, Any, Any]:
    """A builder, and a network with the input x."""
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    return builder, network, network.add_input("x", trt.float32, shape)


def build(builder: Any, network: Any, **shapes: Any) -> Any:
    """The plan, with one profile where shapes of x are given."""
    config = builder.create_builder_config()
    if shapes:
        profile = builder.create_optimization_profile()
        profile.set_shape("x", **shapes)
        config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def small_engine(logger: Messages) -> Any:
    """y = relu(x) for x (2, 3)."""
    builder, network, x = started(logger, (2, 3))
    y = network.add_activation(x, trt.ActivationType.RELU).get_output(0)
    y.name = "y"
    network.mark_output(y)
    return trt.Runtime(logger).deserialize_cuda_engine(build(builder, network))


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (4, 2, 3, 3), (3,)])
def test_kernels_of_a_wrong_size(logger: Messages, shape: tuple[int, ...]) -> None:
    _, network, x = started(logger)
    layer = network.add_convolution_nd(x, 4, (3, 3), np.zeros(shape, np.float32), np.zeros(4, np.float32))
    assert layer is None
    assert logger.errors


def test_a_kernel_that_never_comes(logger: Messages) -> None:
    builder, network, x = started(logger)
    layer = network.add_convolution_nd(x, 4, (3, 3), np.zeros(0, np.float32))  # layer.set_input(1, ...) may give it
    network.mark_output(layer.get_output(0))
    assert build(builder, network) is None
    assert "no weights" in "".join(logger.errors)


def test_a_bias_and_other_weights_of_a_wrong_size(logger: Messages) -> None:
    builder, network, x = started(logger)
    kernel = np.zeros((4, 3, 3, 3), np.float32)
    assert network.add_convolution_nd(x, 4, (3, 3), kernel, np.zeros(5, np.float32)) is None
    assert network.add_constant((2, 3), np.zeros(5, np.float32)) is None
    assert network.add_scale(x, trt.ScaleMode.CHANNEL, np.zeros(2, np.float32), np.ones(3, np.float32)) is None
    assert len(logger.errors) >= 3
    network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
    assert build(builder, network) is not None, logger.errors  # what was refused is not in the network


def test_tensors_that_do_not_fit_and_tensors_of_another_network(logger: Messages) -> None:
    _, network, x = started(logger)
    other = trt.Builder(logger).create_network(0)
    y = other.add_input("y", trt.float32, (1, 4, 8, 8))
    assert network.add_elementwise(x, y, trt.ElementWiseOperation.SUM) is None
    assert network.add_activation(y, trt.ActivationType.RELU) is None
    assert "from one network into another" in "".join(logger.errors)
    with pytest.raises(TypeError, match=r"expected a tensorrt\.ITensor, got NoneType"):
        network.add_activation(None, trt.ActivationType.RELU)
    z = network.add_input("z", trt.float32, (1, 4, 8, 8))
    assert network.add_elementwise(x, z, trt.ElementWiseOperation.SUM) is None
    assert network.add_concatenation([x, network.add_input("w", trt.float32, (3,))]) is None
    assert len(logger.errors) >= 2


def test_no_output_was_marked(logger: Messages) -> None:
    builder, network, x = started(logger)
    network.add_activation(x, trt.ActivationType.RELU)
    assert build(builder, network) is None
    assert "output" in logger.errors[-1]
    assert builder.build_engine_with_config(network, builder.create_builder_config()) is None


def test_a_profile_is_missing_or_is_wrong(logger: Messages) -> None:
    builder, network, x = started(logger, (-1, 3, 8, 8))
    network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
    assert build(builder, network) is None
    assert "profile" in logger.errors[-1]
    config = builder.create_builder_config()
    config.add_optimization_profile(builder.create_optimization_profile())  # it says nothing of x
    assert builder.build_serialized_network(network, config) is None
    assert "missing the dynamic input 'x'" in logger.errors[-1]
    with pytest.raises(ValueError, match=r"."):  # as NVIDIA's bindings do
        builder.create_optimization_profile().set_shape("x", (4, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8))
    small = (1, 3, 8, 8)
    assert build(builder, network, min=small, opt=small, max=(2, 3, 9, 8)) is None  # 9 is not 8


def test_bindings_that_do_not_match(logger: Messages) -> None:
    context = small_engine(logger).create_execution_context()
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    for bindings in ([], [x.ctypes.data], [x.ctypes.data] * 3, [0, 0], [x.ctypes.data, 12345]):
        logger.errors.clear()
        assert not context.execute_v2(bindings), bindings
        assert logger.errors
    with pytest.raises((TypeError, ValueError)):
        context.execute_v2(["x", "y"])
    assert not context.set_tensor_address("z", x.ctypes.data)
    assert not context.execute_async_v3(0)  # no address was set
    assert not context.set_input_shape("x", (2, 4))
    assert context.execute_v2([x.ctypes.data, y.ctypes.data]), logger.errors
    np.testing.assert_array_equal(y, x)


def test_a_context_keeps_what_it_needs_when_its_engine_is_gone(logger: Messages) -> None:
    engine = small_engine(logger)
    context = engine.create_execution_context()
    del engine
    gc.collect()
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    assert context.execute_v2([x.ctypes.data, y.ctypes.data]), logger.errors
    np.testing.assert_array_equal(y, x)
    with small_engine(logger) as engine:
        inside = engine.create_execution_context()
    assert inside.execute_v2([x.ctypes.data, y.ctypes.data]), logger.errors  # ``with`` lets a reference go, no more


def test_a_damaged_plan(logger: Messages) -> None:
    builder, network, x = started(logger, (2, 3))
    network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
    plan = bytes(build(builder, network))
    runtime = trt.Runtime(logger)
    rng = np.random.default_rng(0)
    for cut in (0, 1, 16, len(plan) // 2, len(plan) - 1):
        logger.errors.clear()
        assert runtime.deserialize_cuda_engine(plan[:cut]) is None
        assert logger.errors
    for _ in range(10):
        damaged = bytearray(plan)
        damaged[int(rng.integers(len(plan)))] ^= 0xFF
        runtime.deserialize_cuda_engine(bytes(damaged))  # None, or an engine where no checksum covers the byte
    assert runtime.deserialize_cuda_engine(None) is None


def test_memory_freed_between_two_calls(logger: Messages) -> None:
    context = small_engine(logger).create_execution_context()
    addresses = [memory.allocate(24), memory.allocate(24)]
    assert context.execute_v2(addresses), logger.errors
    memory.release(addresses[1])
    assert not context.execute_v2(addresses)
    assert "freed" in logger.errors[-1]
    memory.release(addresses[0])
