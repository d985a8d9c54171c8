"""Every kind of layer by TensorRT's names: it is added, its properties are read and set, and nothing is logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt

Network = Any


LOGGER = Messages()


@pytest.fixture
def network() -> Network:
    """With a float input x (2, 3, 8, 8), m (4, 4), ids (2, 3) of int32 and flag of bool."""
    LOGGER.errors.clear()
    made = trt.Builder(LOGGER).create_network(0)
    made.add_input("x", trt.float32, (2, 3, 8, 8))
    made.add_input("m", trt.float32, (4, 4))
    made.add_input("ids", trt.int32, (2, 3))
    made.add_input("flag", trt.bool, ())
    return made


def constant(network: Network, values: Any, dtype: Any = np.float32) -> Any:
    """A constant tensor."""
    array = np.asarray(values, dtype)
    return network.add_constant(array.shape, array).get_output(0)


def x(network: Network) -> Any:
    """The picture."""
    return network.get_input(0)


def m(network: Network) -> Any:
    """The matrix."""
    return network.get_input(1)


def ids(network: Network) -> Any:
    """The indices."""
    return network.get_input(2)


NAMES_OF_EIGHT = ("stride", "padding", "dilation", "kernel_size", "window_size", "windnow_size_nd")
RETIRED = (("PADDING", "pre_padding"), ("PADDING", "post_padding"))
ONES = np.ones(3, np.float32)
MAKERS: dict[str, tuple[Callable[[Network], Any], tuple[int, ...]]] = {
    "ACTIVATION": (lambda n: n.add_activation(x(n), trt.ActivationType.ELU), (2, 3, 8, 8)),
    "CAST": (lambda n: n.add_cast(x(n), trt.int32), (2, 3, 8, 8)),
    "CONCATENATION": (lambda n: n.add_concatenation([x(n), x(n)]), (2, 6, 8, 8)),
    "CONSTANT": (lambda n: n.add_constant((2, 2), np.ones((2, 2), np.float32)), (2, 2)),
    "CONVOLUTION": (lambda n: n.add_convolution_nd(x(n), 2, (3, 3), np.ones((2, 3, 3, 3), np.float32)), (2, 2, 6, 6)),
    "DECONVOLUTION": (
        lambda n: n.add_deconvolution_nd(x(n), 2, (2, 2), np.ones((3, 2, 2, 2), np.float32)),
        (2, 2, 9, 9),
    ),
    "CUMULATIVE": (
        lambda n: n.add_cumulative(m(n), constant(n, 0, np.int32), trt.CumulativeOperation.SUM, False, True),
        (4, 4),
    ),
    "EINSUM": (lambda n: n.add_einsum([m(n), m(n)], "ij,jk->ik"), (4, 4)),
    "ELEMENTWISE": (lambda n: n.add_elementwise(x(n), x(n), trt.ElementWiseOperation.FLOOR_DIV), (2, 3, 8, 8)),
    "FILL": (lambda n: n.add_fill((5,), trt.FillOperation.LINSPACE), (5,)),
    "GATHER": (lambda n: n.add_gather(m(n), ids(n), 0), (2, 3, 4)),
    "GRID_SAMPLE": (lambda n: n.add_grid_sample(x(n), constant(n, np.zeros((2, 4, 4, 2)))), (2, 3, 4, 4)),
    "IDENTITY": (lambda n: n.add_identity(x(n)), (2, 3, 8, 8)),
    "LRN": (lambda n: n.add_lrn(x(n), 3, 1e-4, 0.75, 1.0), (2, 3, 8, 8)),
    "MATRIX_MULTIPLY": (
        lambda n: n.add_matrix_multiply(m(n), trt.MatrixOperation.NONE, m(n), trt.MatrixOperation.TRANSPOSE),
        (4, 4),
    ),
    "NON_ZERO": (lambda n: n.add_non_zero(m(n)), (2, -1)),
    "NORMALIZATION": (
        lambda n: n.add_normalization(x(n), constant(n, np.ones((1, 3, 1, 1))), constant(n, np.ones((1, 3, 1, 1))), 12),
        (2, 3, 8, 8),
    ),
    "ONE_HOT": (
        lambda n: n.add_one_hot(ids(n), constant(n, [0, 1]), constant(n, 5, np.int32), -1),
        (2, 3, 5),
    ),
    "PADDING": (lambda n: n.add_padding_nd(x(n), (1, 1), (0, 2)), (2, 3, 9, 11)),
    "PARAMETRIC_RELU": (lambda n: n.add_parametric_relu(x(n), constant(n, np.ones((1, 3, 1, 1)))), (2, 3, 8, 8)),
    "POOLING": (lambda n: n.add_pooling_nd(x(n), trt.PoolingType.MAX, (2, 2)), (2, 3, 7, 7)),
    "QUANTIZE": (lambda n: n.add_quantize(x(n), constant(n, 0.1)), (2, 3, 8, 8)),
    "REDUCE": (lambda n: n.add_reduce(x(n), trt.ReduceOperation.MAX, 12, False), (2, 3)),
    "REVERSE_SEQUENCE": (lambda n: n.add_reverse_sequence(m(n), constant(n, [1, 2, 3, 4], np.int32)), (4, 4)),
    "SCALE": (lambda n: n.add_scale(x(n), trt.ScaleMode.CHANNEL, ONES, ONES, ONES), (2, 3, 8, 8)),
    "SCATTER": (
        lambda n: n.add_scatter(m(n), constant(n, [[0, 1]], np.int32), constant(n, [[1, 2]]), trt.ScatterMode.ELEMENT),
        (4, 4),
    ),
    "SELECT": (lambda n: n.add_select(constant(n, [True, False] * 2, np.bool_), m(n), m(n)), (4, 4)),
    "SHAPE": (lambda n: n.add_shape(x(n)), (4,)),
    "SHUFFLE": (lambda n: n.add_shuffle(x(n)), (2, 3, 8, 8)),
    "SLICE": (lambda n: n.add_slice(m(n), (0, 1), (2, 2), (1, 1)), (2, 2)),
    "SOFTMAX": (lambda n: n.add_softmax(x(n)), (2, 3, 8, 8)),
    "SQUEEZE": (
        lambda n: n.add_squeeze(
            n.add_reduce(m(n), trt.ReduceOperation.SUM, 2, True).get_output(0), constant(n, [1], np.int64)
        ),
        (4,),
    ),
    "TOPK": (lambda n: n.add_topk(m(n), trt.TopKOperation.MAX, 2, 2), (4, 2)),
    "UNARY": (lambda n: n.add_unary(x(n), trt.UnaryOperation.EXP), (2, 3, 8, 8)),
    "UNSQUEEZE": (lambda n: n.add_unsqueeze(m(n), constant(n, [0], np.int64)), (1, 4, 4)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_added_read_and_set(network: Network, kind: str) -> None:
    make, shape = MAKERS[kind]
    layer = make(network)
    assert layer is not None, LOGGER.errors
    assert layer.get_output(0).shape == shape
    own = [name for name in dir(type(layer)) if isinstance(getattr(type(layer), name, None), property)]
    for name in own:
        if name.startswith("_") or (kind, name) in RETIRED or (name in NAMES_OF_EIGHT and kind not in ("SLICE", "LRN")):
            continue
        value = getattr(layer, name)
        attribute = getattr(type(layer), name)
        unset = value is None or (isinstance(value, trt.Dims | trt.Permutation | list | np.ndarray) and not len(value))
        if attribute.fset is not None and not unset and name not in ("precision", "shape"):
            setattr(layer, name, value)
            again = getattr(layer, name)
            assert np.array_equal(again, value) if isinstance(value, np.ndarray) else again == value, name
    assert not LOGGER.errors
    assert layer.get_output(0).shape == shape


def test_attention_loop_and_conditional_compute(network: Network) -> None:
    query = network.add_input("q", trt.float32, (1, 2, 4, 8))
    attention = network.add_attention(query, query, query, trt.AttentionNormalizationOp.SOFTMAX, False)
    assert attention.get_output(0).shape == (1, 2, 4, 8)
    assert (attention.num_inputs, attention.causal, attention.mask) == (3, False, None)

    loop = network.add_loop()
    loop.add_trip_limit(constant(network, 3, np.int32), trt.TripLimit.COUNT)
    state = loop.add_recurrence(m(network))
    doubled = network.add_elementwise(state.get_output(0), state.get_output(0), trt.ElementWiseOperation.SUM)
    state.set_input(1, doubled.get_output(0))
    last = loop.add_loop_output(state.get_output(0), trt.LoopOutput.LAST_VALUE)
    assert last.loop is loop
    assert last.kind == trt.LoopOutput.LAST_VALUE

    branch = network.add_if_conditional()
    condition = branch.set_condition(network.get_input(3))
    inside = branch.add_input(m(network)).get_output(0)
    negated = network.add_unary(inside, trt.UnaryOperation.NEG).get_output(0)
    chosen = branch.add_output(inside, negated)
    assert condition.conditional is branch
    assert not LOGGER.errors

    outputs = {"loop": last.get_output(0), "if": chosen.get_output(0)}
    for name, tensor in outputs.items():
        tensor.name = name
        network.mark_output(tensor)
    for index in reversed(range(network.num_inputs)):
        if network.get_input(index).name in ("x", "ids"):
            network.remove_tensor(network.get_input(index))
    builder = network.builder
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    assert plan is not None, LOGGER.errors
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    given = np.arange(16, dtype=np.float32).reshape(4, 4)
    for flag in (True, False):
        arrays = {
            "m": given,
            "flag": np.array(flag),
            "q": np.ones((1, 2, 4, 8), np.float32),
            "loop": np.zeros((4, 4), np.float32),
            "if": np.zeros((4, 4), np.float32),
        }
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            assert context.set_tensor_address(name, arrays[name].ctypes.data)
        assert context.execute_async_v3(0), LOGGER.errors
        np.testing.assert_array_equal(arrays["loop"], given * 8)
        np.testing.assert_array_equal(arrays["if"], given if flag else -given)
