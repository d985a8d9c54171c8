"""Convolution, deconvolution, pooling and fully connected, against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_runs import answer, start
from torch.nn import functional as F  # noqa: N812

from trine.errors import ConfigError
from trine.network import Network, PaddingMode

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 9, 8)).astype(np.float32)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def close(got: Any, want: torch.Tensor) -> None:
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_with_every_property(groups: int) -> None:
    network, (x,) = start(x=X)
    kernel, bias = weights(8, 4 // groups, 3, 2), weights(8)
    layer = network.add_convolution_nd(x, 8, (3, 2), kernel, bias)
    layer.stride_nd, layer.padding_nd, layer.dilation_nd, layer.num_groups = (2, 1), (1, 2), (2, 1), groups
    want = F.conv2d(
        torch.from_numpy(X), torch.from_numpy(kernel), torch.from_numpy(bias), (2, 1), (1, 2), (2, 1), groups
    )
    assert layer.get_output(0).shape == tuple(want.shape)
    close(answer(network, layer, x=X), want)


@pytest.mark.parametrize("rank", [1, 3])
def test_convolution_of_other_ranks_and_flat_weights(rank: int) -> None:
    array = weights(1, 2, *[5] * rank)
    network, (x,) = start(x=array)
    kernel = weights(3, 2, *[2] * rank)
    layer = network.add_convolution_nd(x, 3, (2,) * rank, kernel.reshape(-1))
    convolve = F.conv1d if rank == 1 else F.conv3d
    close(answer(network, layer, x=array), convolve(torch.from_numpy(array), torch.from_numpy(kernel)))


def test_weights_may_be_a_tensor() -> None:
    kernel = weights(3, 4, 3, 3)
    network, (x, k) = start(x=X, kernel=kernel)
    layer = network.add_convolution_nd(x, 3, (3, 3))
    with pytest.raises(ConfigError, match="it has no weights"):
        _ = layer.get_output(0).shape
    layer.set_input(1, k)
    close(answer(network, layer, x=X, kernel=kernel), F.conv2d(torch.from_numpy(X), torch.from_numpy(kernel)))


def test_wrong_weights_are_refused() -> None:
    network, (x,) = start(x=X)
    with pytest.raises(ConfigError, match=r"layer 'c' \(CONVOLUTION\): kernel has 71 weights .*wanted 72: \(2, 4"):
        network.add_convolution_nd(x, 2, (3, 3), weights(71), name="c")
    with pytest.raises(ConfigError, match="bias has 3 weights"):
        network.add_convolution_nd(x, 2, (3, 3), weights(72), weights(3))
    with pytest.raises(ConfigError, match=r"expected 5 dimensions \(batch, channels and 3 spatial\), got 4"):
        network.add_convolution_nd(x, 2, (3, 3, 3), weights(2 * 4 * 27))
    with pytest.raises(ConfigError, match="kernel is int64, wanted float32"):
        network.add_convolution_nd(x, 2, (3, 3), np.ones(72, np.int64))
    grouped = network.add_convolution_nd(x, 4, (3, 3), weights(36))
    with pytest.raises(ConfigError, match=r"wanted 144.*it would fit num_groups=4"):
        network.mark_output(grouped.get_output(0))
    grouped.num_groups = 4
    assert grouped.get_output(0).shape == (2, 4, 7, 6)
    with pytest.raises(ConfigError, match="stride_nd must each be at least 1, got"):
        grouped.stride_nd = (0, 1)
    with pytest.raises(ConfigError, match="padding_nd takes 2 numbers"):
        grouped.padding_nd = (1, 1, 1)


def test_deconvolution() -> None:
    network, (x,) = start(x=X)
    kernel, bias = weights(4, 3, 3, 3), weights(6)
    layer = network.add_deconvolution_nd(x, 6, (3, 3), kernel, bias)
    layer.num_groups, layer.stride_nd, layer.pre_padding, layer.post_padding = 2, (2, 3), (1, 1), (0, 0)
    want = F.conv_transpose2d(
        torch.from_numpy(X), torch.from_numpy(kernel), torch.from_numpy(bias), (2, 3), (1, 1), (1, 1), 2
    )
    close(answer(network, layer, x=X), want)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_is_the_formula(mode: str) -> None:
    network, (x,) = start(x=X)
    kernel = weights(2, 4, 4, 3)
    layer = network.add_convolution_nd(x, 2, (4, 3), kernel)
    layer.stride_nd, layer.padding_mode = (2, 2), mode
    pads = []
    for size, window in ((8, 3), (9, 4)):  # PyTorch pads the last dimension first
        total = max((size - 1) // 2 * 2 + window - size, 0)
        pads += [total // 2, total - total // 2] if mode == "SAME_UPPER" else [total - total // 2, total // 2]
    want = F.conv2d(F.pad(torch.from_numpy(X), pads), torch.from_numpy(kernel), stride=2)
    assert layer.get_output(0).shape == (2, 2, 5, 4)
    close(answer(network, layer, x=X), want)


def test_same_deconvolution_multiplies_the_size() -> None:
    network, (x,) = start(x=X)
    layer = network.add_deconvolution_nd(x, 2, (3, 3), weights(4, 2, 3, 3))
    layer.stride_nd, layer.padding_mode = (2, 2), PaddingMode.SAME_UPPER
    assert layer.get_output(0).shape == (2, 2, 18, 16)


@pytest.mark.parametrize("excludes", [True, False])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("kind", ["MAX", "AVERAGE", "MAX_AVERAGE_BLEND"])
def test_pooling(kind: str, up: bool, excludes: bool) -> None:
    network, (x,) = start(x=X)
    layer = network.add_pooling_nd(x, kind, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.average_count_excludes_padding = excludes
    layer.padding_mode = "EXPLICIT_ROUND_UP" if up else "EXPLICIT_ROUND_DOWN"
    layer.blend_factor = 0.25
    source = torch.from_numpy(X)
    largest = F.max_pool2d(source, 3, 2, 1, ceil_mode=up)
    average = F.avg_pool2d(source, 3, 2, 1, ceil_mode=up, count_include_pad=not excludes)
    want = {"MAX": largest, "AVERAGE": average}.get(kind, 0.75 * largest + 0.25 * average)
    close(answer(network, layer, x=X), want)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_shapes_are_pytorch_s(data: st.DataObject) -> None:
    """Whatever the sizes; where PyTorch refuses them, so does the layer."""
    draw = data.draw
    size, window, stride, dilation = (draw(st.integers(1, high)) for high in (12, 5, 3, 3))
    padding, up = draw(st.integers(0, 3)), draw(st.booleans())
    array = np.zeros((1, 2, size, size), np.float32)
    network = Network()
    x = network.add_input("x", "float32", array.shape)
    convolution = network.add_convolution_nd(x, 3, window, np.zeros((3, 2, window, window), np.float32))
    convolution.dilation_nd, convolution.stride_nd, convolution.padding_nd = dilation, stride, padding
    extent = 1 + dilation * (window - 1)
    if size + 2 * padding < extent:
        with pytest.raises(ConfigError, match="the window covers"):
            _ = convolution.get_output(0).shape
    else:
        want = F.conv2d(torch.from_numpy(array), torch.zeros(3, 2, window, window), None, stride, padding, dilation)
        assert convolution.get_output(0).shape == tuple(want.shape)
        convolution.padding_mode = "EXPLICIT_ROUND_UP"
        rounded = math.ceil((size + 2 * padding - extent) / stride) + 1
        assert convolution.get_output(0).shape == (1, 3, rounded, rounded)
    pooling = network.add_pooling_nd(x, "AVERAGE", window)
    pooling.padding_mode = "EXPLICIT_ROUND_UP" if up else "EXPLICIT_ROUND_DOWN"
    pooling.stride_nd, pooling.padding_nd = stride, padding
    if size + 2 * padding < window or padding >= window:
        with pytest.raises(ConfigError, match="window"):
            _ = pooling.get_output(0).shape
    elif 2 * padding <= window:  # PyTorch takes no more
        want = F.avg_pool2d(torch.from_numpy(array), window, stride, padding, ceil_mode=up)
        assert pooling.get_output(0).shape == tuple(want.shape)


@pytest.mark.parametrize("lead", [(3,), (2, 3), ()])
def test_fully_connected_flattens_three_dimensions(lead: tuple[int, ...]) -> None:
    array = weights(*lead, 2, 3, 4)
    network, (x,) = start(x=array)
    kernel, bias = weights(5, 24), weights(5)
    layer = network.add_fully_connected(x, 5, kernel, bias)
    want = F.linear(torch.from_numpy(array).flatten(-3), torch.from_numpy(kernel), torch.from_numpy(bias))
    close(answer(network, layer, x=array), want[..., None, None])


def test_fully_connected_of_a_matrix_with_a_dynamic_batch() -> None:
    network = Network()
    x = network.add_input("x", "float32", (-1, 6))
    layer = network.add_fully_connected(x, 2, weights(2, 6))
    assert layer.get_output(0).shape == ("batch", 2)
    with pytest.raises(ConfigError, match="kernel has 10 weights"):
        network.add_fully_connected(x, 2, weights(10))
