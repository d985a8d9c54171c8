"""Networks by TensorRT's names: properties, identity, errors told by the logger and by None."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt


@pytest.fixture
def logger() -> Messages:
    """A logger that remembers."""
    return Messages()


@pytest.fixture
def network(logger: Messages) -> trt.INetworkDefinition:
    """With one input x of (-1, 3, 8, 8)."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    network.add_input("x", trt.float32, (-1, 3, 8, 8))
    return network


def test_shapes_are_known_at_once_and_dynamic_ones_are_minus_one(network: trt.INetworkDefinition) -> None:
    kernel = np.ones((4, 3, 3, 3), np.float32)
    conv = network.add_convolution_nd(network.get_input(0), 4, trt.DimsHW(3, 3), kernel, trt.Weights())
    assert conv.get_output(0).shape == (-1, 4, 6, 6)
    conv.padding_nd = (1, 1)
    conv.stride_nd = trt.DimsHW(2, 2)
    assert conv.get_output(0).shape == (-1, 4, 4, 4)
    assert (tuple(conv.padding_nd), tuple(conv.stride_nd), conv.num_groups) == ((1, 1), (2, 2), 1)
    assert conv.type == trt.LayerType.CONVOLUTION
    assert conv.padding_mode == trt.PaddingMode.EXPLICIT_ROUND_DOWN
    np.testing.assert_array_equal(conv.kernel, kernel)
    assert conv.bias.size == 0


def test_the_same_objects_each_time(network: trt.INetworkDefinition) -> None:
    layer = network.add_activation(network.get_input(0), trt.ActivationType.LEAKY_RELU)
    assert isinstance(layer, trt.IActivationLayer)
    assert network.get_layer(0) is layer is network[0] is network[-1]
    assert layer.get_output(0) is layer.get_output(0)
    assert len({network.get_input(0), layer.get_input(0)}) == 1
    assert network.get_layer(5) is None
    with pytest.raises(IndexError):
        network[5]


def test_wrong_weights_are_logged_and_give_none(network: trt.INetworkDefinition, logger: Messages) -> None:
    assert network.add_convolution_nd(network.get_input(0), 4, (3, 3), np.ones(5, np.float32)) is None
    assert "5 weights" in logger.errors[-1]
    assert network.num_layers == 0


def test_a_refused_property_keeps_its_value(network: trt.INetworkDefinition, logger: Messages) -> None:
    pool = network.add_pooling_nd(network.get_input(0), trt.PoolingType.AVERAGE, (2, 2))
    pool.stride_nd = (0, 0)
    assert logger.errors
    assert pool.stride_nd == (1, 1)
    assert pool.type == trt.PoolingType.AVERAGE


def test_what_is_no_tensor_is_a_type_error(network: trt.INetworkDefinition) -> None:
    with pytest.raises(TypeError, match="ITensor"):
        network.add_activation("x", trt.ActivationType.RELU)
    with pytest.raises(TypeError, match="ActivationType"):
        network.add_activation(network.get_input(0), trt.PoolingType.AVERAGE)


def test_misspelt_attributes_are_refused(network: trt.INetworkDefinition) -> None:
    layer = network.add_shuffle(network.get_input(0))
    with pytest.raises(AttributeError, match="reshape_dimensions"):
        layer.reshape_dimensions = (1, 2)


def test_reshape_copies_and_infers(network: trt.INetworkDefinition) -> None:
    shuffle = network.add_shuffle(network.get_input(0))
    shuffle.reshape_dims = (0, -1)
    assert shuffle.get_output(0).shape == (-1, 192)
    shuffle.second_transpose = trt.Permutation([1, 0])
    assert shuffle.get_output(0).shape == (192, -1)


def test_weights_are_copied_when_the_call_is_made(network: trt.INetworkDefinition) -> None:
    values = np.ones((1, 3, 8, 8), np.float32)
    constant = network.add_constant(values.shape, values)
    values[:] = 7
    assert constant.weights.max() == 1


def test_numbers_and_names_of_enums() -> None:
    assert int(trt.BuilderFlag.REFIT) == 4
    assert trt.DataType.HALF.itemsize == 2
    assert trt.nptype(trt.int8) is np.int8
    assert str(trt.ActivationType.TANH) == "ActivationType.TANH"
    assert trt.volume(trt.Dims([2, 3, 4])) == np.prod(trt.Dims3(2, 3, 4)) == 24
    assert np.zeros(trt.Dims2(2, 3)).shape == (2, 3)
    assert trt.Logger.Severity.ERROR < trt.Logger.WARNING
    assert trt.SliceMode is trt.SampleMode


def test_layers_in_an_implicit_batch_count_axes_without_it(logger: Messages) -> None:
    with trt_era("8"):
        network = trt.Builder(logger).create_network()
        x = network.add_input("x", trt.float32, (3, 4, 5))
        assert network.add_softmax(x).axes == 1
        reduced = network.add_reduce(x, trt.ReduceOperation.AVG, 0b110, True)
        assert reduced.axes == 0b110
        assert reduced.get_output(0).shape == (3, 1, 1)
        joined = network.add_concatenation([x, x])
        assert joined.axis == 0
        assert joined.get_output(0).shape == (6, 4, 5)
        shuffle = network.add_shuffle(x)
        shuffle.first_transpose = (1, 2, 0)
        shuffle.reshape_dims = (20, 3)
        assert tuple(shuffle.first_transpose) == (1, 2, 0)
        assert shuffle.get_output(0).shape == (20, 3)
        part = network.add_slice(x, (0, 1, 0), (3, 2, 5), (1, 1, 1))
        assert part.get_output(0).shape == (3, 2, 5)
    assert not logger.errors


def trt_era(era: str) -> Any:
    """TensorRT of that version for the length of a with."""
    from trine.compat.tensorrt import eras

    return eras.override(era)
