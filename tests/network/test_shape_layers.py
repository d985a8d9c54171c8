"""Shuffle, concatenation, padding, slices, squeeze and unsqueeze, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from network_runs import answer, start

from trine.errors import ConfigError
from trine.network import Network, SampleMode

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_shuffle_transposes_reshapes_and_transposes() -> None:
    network, (x,) = start(x=X)
    layer = network.add_shuffle(x)
    layer.second_transpose = (1, 0)  # of two axes: only after the reshape
    layer.first_transpose = (2, 0, 1)
    layer.reshape_dims = (0, -1)
    assert layer.get_output(0).shape == (6, 4)
    np.testing.assert_array_equal(answer(network, layer, x=X), X.transpose(2, 0, 1).reshape(4, -1).T)


def test_reshape_to_what_another_input_says() -> None:
    target = np.array([4, 0, -1], np.int64)
    network, (x, shape) = start(x=X, shape=target)
    layer = network.add_shuffle(x)
    layer.set_input(1, shape)
    assert len(layer.get_output(0).shape or ()) == 3
    np.testing.assert_array_equal(answer(network, layer, x=X, shape=target), X.reshape(4, 3, 2))


def test_symbols_survive_a_reshape() -> None:
    network = Network()
    x = network.add_input("x", "float32", ("n", 3, 4))
    layer = network.add_shuffle(x)
    layer.reshape_dims = (-1, 12)
    assert layer.get_output(0).shape == ("n", 12)
    layer.reshape_dims = (0, 2, -1)
    assert layer.get_output(0).shape == ("n", 2, 6)


def test_shuffle_s_refusals() -> None:
    network, (x,) = start(x=X)
    layer = network.add_shuffle(x, name="s")
    with pytest.raises(
        ConfigError, match=r"layer 's' \(SHUFFLE\): first_transpose names each axis once, got \(0, 0, 1\)"
    ):
        layer.first_transpose = (0, 0, 1)
    with pytest.raises(ConfigError, match="only one dimension can be -1"):
        layer.reshape_dims = (-1, -1)
    layer.reshape_dims = (5, 5)
    with pytest.raises(ConfigError, match=r"has 25 elements, the input \(2, 3, 4\) has 24"):
        network.mark_output(layer.get_output(0))


def test_concatenation_is_along_the_third_from_last_axis_until_set() -> None:
    network, (x, y) = start(x=X, y=X)
    layer = network.add_concatenation([x, y])
    assert layer.get_output(0).shape == (4, 3, 4)
    layer.axis = -1
    np.testing.assert_array_equal(answer(network, layer, x=X, y=X), np.concatenate([X, X], -1))
    other = network.add_constant(np.zeros((2, 3, 5), np.float32)).get_output(0)
    mixed = network.add_concatenation([x, other])
    with pytest.raises(ConfigError, match="inputs differ along axis 2"):
        _ = mixed.get_output(0).shape
    mixed.axis = 2
    assert mixed.get_output(0).shape == (2, 3, 9)
    with pytest.raises(ConfigError, match="out of range for a tensor of 3"):
        mixed.axis = 3


def test_padding_adds_and_cuts() -> None:
    network, (x,) = start(x=X)
    layer = network.add_padding_nd(x, (1, -1), (0, 2))
    want = np.pad(X[:, :, 1:], ((0, 0), (1, 0), (0, 2)))
    np.testing.assert_array_equal(answer(network, layer, x=X), want)


@pytest.mark.parametrize("as_tensor", [True, False])
def test_squeeze_and_unsqueeze(as_tensor: bool) -> None:
    network, (x,) = start(x=X)
    axes = network.add_constant(np.array([0, -1])).get_output(0) if as_tensor else (0, -1)
    made = network.add_unsqueeze(x, axes)
    assert made.get_output(0).shape == (1, 2, 3, 4, 1)
    back = network.add_squeeze(made.get_output(0), axes)
    np.testing.assert_array_equal(answer(network, back, x=X), X)
    with pytest.raises(ConfigError, match="squeeze_2"):
        network.add_squeeze(x, (1,))


CASES = [((0, 1, 3), (2, 2, 4), (1, 1, -1)), ((1, 0, 0), (1, 3, 2), (1, 1, 2)), ((1, 2, 3), (2, 3, 4), (-1, -1, -1))]
CASES += [((1, 0, 3), (5, 3, 2), (0, 1, 0))]  # a stride of 0 repeats


@pytest.mark.parametrize("which", ["", "start", "shape", "start shape", "start shape stride"])
@pytest.mark.parametrize(("start_", "shape", "stride"), CASES)
def test_slices_by_properties_and_by_tensors(
    start_: tuple[int, ...], shape: tuple[int, ...], stride: tuple[int, ...], which: str
) -> None:
    given = {"start": start_, "shape": shape, "stride": stride}
    feeds = {label: np.array(given[label], np.int64) for label in which.split()}
    network, (x, *tensors) = start(x=X, **feeds)
    layer = network.add_slice(x, start_, shape, stride)
    for label, tensor in zip(feeds, tensors, strict=True):
        layer.set_input(1 + list(given).index(label), tensor)
    places = [first + step * np.arange(size) for first, size, step in zip(start_, shape, stride, strict=True)]
    np.testing.assert_array_equal(answer(network, layer, x=X, **feeds), X[np.ix_(*places)])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("mode", ["WRAP", "CLAMP", "REFLECT", "FILL"])
def test_slices_of_what_lies_outside(mode: str, dynamic: bool) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    network = Network()
    x = network.add_input("x", "float32", (-1, -1) if dynamic else (3, 4))
    layer = network.add_slice(x, (-2, -1), (8, 9), (1, 1))
    if not dynamic:
        with pytest.raises(ConfigError, match="outside of the input"):
            _ = layer.get_output(0).shape
    layer.mode = mode
    assert layer.get_output(0).shape == (8, 9)
    pads = ((2, 3), (1, 4))
    kinds = {"WRAP": "wrap", "CLAMP": "edge", "REFLECT": "reflect", "FILL": "constant"}
    np.testing.assert_array_equal(answer(network, layer, x=array), np.pad(array, pads, kinds[mode]))


def test_fill_takes_its_value_from_input_4_and_axes_may_be_few() -> None:
    network, (x,) = start(x=X)
    layer = network.add_slice(x, (2,), (3,), (1,))
    with pytest.raises(ConfigError, match="start has 1 numbers, wanted 3"):
        _ = layer.get_output(0).shape
    layer.axes = (2,)
    layer.mode = SampleMode.FILL
    layer.set_input(4, network.add_constant(7.0).get_output(0))
    want = np.concatenate([X[:, :, 2:], np.full((2, 3, 1), 7, np.float32)], 2)
    np.testing.assert_array_equal(answer(network, layer, x=X), want)


def test_shape_arithmetic_is_followed() -> None:
    network = Network()
    x = network.add_input("x", "float32", ("n", 3, "h"))
    shape = network.add_shape(x).get_output(0)
    first = network.add_gather(shape, network.add_constant(np.array([0])).get_output(0), 0).get_output(0)
    last = network.add_slice(shape, [2], [1], [1]).get_output(0)
    one = network.add_constant(np.array([1])).get_output(0)
    last = network.add_elementwise(last, one, "PROD").get_output(0)
    three = network.add_constant(np.array([3])).get_output(0)
    target = network.add_concatenation([last, three, first]).get_output(0)
    layer = network.add_shuffle(x)
    layer.set_input(1, target)
    assert layer.get_output(0).shape == ("h", 3, "n")
    array = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    np.testing.assert_array_equal(answer(network, layer, x=array), array.reshape(5, 3, 2))
