"""Reductions, softmax, products, normalisation, resizing, quantisation and attention, against PyTorch and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from network_runs import answer, answers, finish, start
from torch.nn import functional as F  # noqa: N812

from trine.errors import ConfigError
from trine.network import Network

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 3, 5)).astype(np.float32)


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, np.asarray(want), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("op", ["SUM", "PROD", "MAX", "MIN", "AVG"])
def test_reduce(op: str, keep: bool) -> None:
    network, (x,) = start(x=X)
    layer = network.add_reduce(x, op, (1 << 1) | (1 << 3), keep)
    function = {"SUM": np.sum, "PROD": np.prod, "MAX": np.max, "MIN": np.min, "AVG": np.mean}[op]
    close(answer(network, layer, x=X), function(X, (1, 3), keepdims=keep))
    layer.axes = (-1,)
    assert layer.axes == 1 << 3
    for axes, text in [(1 << 4, "out of range"), (0, "is a bit mask"), ((4,), "out of range")]:
        with pytest.raises(ConfigError, match=text):
            layer.axes = axes
    with pytest.raises(ConfigError, match="NONE reduces nothing"):
        layer.op = "NONE"


def test_softmax_is_along_channels_until_set() -> None:
    network, (x,) = start(x=X)
    layer = network.add_softmax(x)
    assert layer.axes == 1 << 1
    finish(network, layer)
    other = network.add_softmax(x)
    other.axes = 1 << 3
    finish(network, other)
    first, second = answers(network, {"x": X})
    close(first, torch.from_numpy(X).softmax(1))
    close(second, torch.from_numpy(X).softmax(3))


def test_ragged_softmax() -> None:
    rows, bounds = X.reshape(8, 15), np.array([[1], [15], [3], [7], [2], [9], [4], [0]], np.int32)
    network, (x, b) = start(x=rows, b=bounds)
    got = answer(network, network.add_ragged_softmax(x, b), x=rows, b=bounds)
    for row, count, values in zip(got, bounds[:, 0], rows, strict=True):
        close(row[:count], torch.from_numpy(values[:count]).softmax(0))
        assert (row[count:] == 0).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_cumulative(exclusive: bool, reverse: bool) -> None:
    network, (x,) = start(x=X)
    layer = network.add_cumulative(x, 2, "SUM", exclusive, reverse)
    array = X[:, :, ::-1] if reverse else X
    want = np.cumsum(array, 2) - (array if exclusive else 0)
    close(answer(network, layer, x=X), want[:, :, ::-1] if reverse else want)


@pytest.mark.parametrize(
    ("a", "op0", "b", "op1"),
    [
        ((2, 3, 4), "NONE", (2, 4, 5), "NONE"),
        ((2, 4, 3), "TRANSPOSE", (1, 5, 4), "TRANSPOSE"),
        ((4,), "VECTOR", (4, 5), "NONE"),
        ((3, 4), "NONE", (4,), "VECTOR"),
        ((6, 4), "VECTOR", (6, 4), "VECTOR"),
    ],
)
def test_matrix_multiply(a: tuple[int, ...], op0: str, b: tuple[int, ...], op1: str) -> None:
    left, right = RNG.random(a).astype(np.float32), RNG.random(b).astype(np.float32)
    network, (x, y) = start(x=left, y=right)
    got = answer(network, network.add_matrix_multiply(x, op0, y, op1), x=left, y=right)
    if op0 == op1 == "VECTOR":
        want = (left * right).sum(-1)
    else:
        want = (left.swapaxes(-1, -2) if op0 == "TRANSPOSE" else left) @ (
            right.swapaxes(-1, -2) if op1 == "TRANSPOSE" else right
        )
    close(got, want)


def test_matrix_multiply_s_refusals_and_einsum() -> None:
    a, b = RNG.random((3, 4)).astype(np.float32), RNG.random((5, 4)).astype(np.float32)
    network, (x, y) = start(x=a, y=b)
    layer = network.add_matrix_multiply(x, "NONE", y, "NONE", name="product")
    with pytest.raises(ConfigError, match=r"layer 'product' .* the inner dimensions differ: 4 of input 0"):
        _ = layer.get_output(0).shape
    layer.op1 = "TRANSPOSE"
    finish(network, layer)
    finish(network, network.add_einsum([x, y], "ij,kj->ki"))
    first, second = answers(network, {"x": a, "y": b})
    close(first, a @ b.T)
    close(second, b @ a.T)
    with pytest.raises(ConfigError, match="has 2 terms, there are 1 inputs"):
        network.add_einsum([x], "ij,jk")
    with pytest.raises(ConfigError, match="'ijk' names 3 dimensions, input 0 has 2"):
        network.add_einsum([x], "ijk->i")


def test_normalization_over_axes_and_over_groups() -> None:
    scale, bias = RNG.random((1, 4, 1, 1)).astype(np.float32), RNG.random((1, 4, 1, 1)).astype(np.float32)
    network, (x, s, b) = start(x=X, s=scale, b=bias)
    finish(network, network.add_normalization_v2(x, s, b, (2, 3)))
    grouped = network.add_normalization_v2(x, s, b, (2, 3))
    grouped.num_groups, grouped.epsilon = 2, 0.1
    finish(network, grouped)
    one_each = network.add_constant(scale[:, :2]).get_output(0)
    old = network.add_normalization(x, one_each, one_each, (1 << 2) | (1 << 3))
    old.num_groups = 2
    finish(network, old)
    source, flat_scale, flat_bias = (torch.from_numpy(each) for each in (X, scale.reshape(4), bias.reshape(4)))
    first, second, third = answers(network, {"x": X, "s": scale, "b": bias})
    close(first, F.instance_norm(source, weight=flat_scale, bias=flat_bias))
    close(second, F.group_norm(source, 2, flat_scale, flat_bias, 0.1))
    doubled = flat_scale[:2].repeat_interleave(2)
    close(third, F.group_norm(source, 2, doubled, doubled))
    grouped.num_groups = 3
    with pytest.raises(ConfigError, match="num_groups=3 does not divide the number of channels, 4"):
        _ = grouped.get_output(0).shape


def test_layer_normalization_and_lrn() -> None:
    scale, bias = RNG.random((3, 5)).astype(np.float32), RNG.random((3, 5)).astype(np.float32)
    network, (x, s, b) = start(x=X, s=scale, b=bias)
    finish(network, network.add_normalization_v2(x, s, b, (2, 3)))
    finish(network, network.add_lrn(x, 3, 0.2, 0.75, 1.5))
    first, second = answers(network, {"x": X, "s": scale, "b": bias})
    close(first, F.layer_norm(torch.from_numpy(X), (3, 5), torch.from_numpy(scale), torch.from_numpy(bias)))
    close(second, F.local_response_norm(torch.from_numpy(X), 3, 0.2, 0.75, 1.5))
    with pytest.raises(ConfigError, match="window_size must be odd, got 4"):
        network.add_lrn(x, 4, 1, 1, 1)


@pytest.mark.parametrize(
    ("mode", "coordinates", "options"),
    [
        ("NEAREST", "ASYMMETRIC", {"mode": "nearest"}),
        ("LINEAR", "HALF_PIXEL", {"mode": "bilinear", "align_corners": False}),
        ("LINEAR", "ALIGN_CORNERS", {"mode": "bilinear", "align_corners": True}),
        ("CUBIC", "HALF_PIXEL", {"mode": "bicubic", "align_corners": False}),
    ],
)
@pytest.mark.parametrize("how", ["shape", "scales", "tensor"])
def test_resize(mode: str, coordinates: str, options: dict[str, Any], how: str) -> None:
    target = np.array([2, 4, 6, 10], np.int64)
    feeds = {"x": X} | ({"t": target} if how == "tensor" else {})
    network, (x, *rest) = start(**feeds)
    layer = network.add_resize(x)
    assert layer.get_output(0).shape == X.shape
    layer.resize_mode, layer.coordinate_transformation = mode, coordinates
    if how == "shape":
        layer.shape = tuple(target)
    elif how == "scales":
        layer.scales = (1, 1, 2, 2)
    else:
        layer.set_input(1, rest[0])
    close(answer(network, layer, **feeds), F.interpolate(torch.from_numpy(X), (6, 10), **options))
    if how == "scales":
        with pytest.raises(ConfigError, match="scales takes 4 numbers"):
            layer.scales = (2, 2)


@pytest.mark.parametrize("outside", ["FILL", "CLAMP", "REFLECT"])
@pytest.mark.parametrize("mode", ["LINEAR", "NEAREST"])
def test_grid_sample(mode: str, outside: str) -> None:
    grid = (RNG.random((2, 6, 7, 2)) * 3 - 1.5).astype(np.float32)
    network, (x, g) = start(x=X, g=grid)
    layer = network.add_grid_sample(x, g)
    layer.interpolation_mode, layer.sample_mode, layer.align_corners = mode, outside, True
    names = {"FILL": "zeros", "CLAMP": "border", "REFLECT": "reflection", "LINEAR": "bilinear", "NEAREST": "nearest"}
    want = F.grid_sample(torch.from_numpy(X), torch.from_numpy(grid), names[mode], names[outside], True)
    close(answer(network, layer, x=X, g=grid), want)
    with pytest.raises(ConfigError, match="sample_mode is one of FILL, CLAMP, REFLECT, got WRAP"):
        layer.sample_mode = "WRAP"


@pytest.mark.parametrize("axis", [None, 1])
def test_quantize_and_back(axis: int | None) -> None:
    scale = np.array(0.05, np.float32) if axis is None else np.array([0.01, 0.02, 0.05, 0.1], np.float32)
    network, (x, s) = start(x=X, s=scale)
    short = network.add_quantize(x, s)
    if axis is not None:
        with pytest.raises(ConfigError, match="set the axis that it is for"):
            _ = short.get_output(0).shape
        short.axis = axis
    back = network.add_dequantize(short.get_output(0), network.add_identity(s).get_output(0))
    back.axis = axis
    finish(network, short)
    finish(network, back)
    got, again = answers(network, {"x": X, "s": scale})
    fit = scale if axis is None else scale.reshape(4, 1, 1)
    want = np.clip(np.rint(X / fit), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(got, want)
    close(again, want * fit)


@pytest.mark.parametrize("to_type", ["int8", "float8_e4m3fn"])
def test_dynamic_quantize(to_type: str) -> None:
    array = RNG.standard_normal((3, 8)).astype(np.float32)
    array[0, :4] = 0
    network, (x,) = start(x=array)
    layer = network.add_dynamic_quantize(x, 1, 4, to_type, "float32")
    finish(network, network.add_cast(layer.get_output(0), "float32"))
    finish(network, layer.get_output(1))
    elements, scales = answers(network, {"x": array})
    assert scales.shape == (3, 2)
    want = np.abs(array).reshape(3, 2, 4).max(2) / (127 if to_type == "int8" else 448)
    np.testing.assert_allclose(scales, np.where(want == 0, 1, want), rtol=1e-6)
    close_enough = np.repeat(scales, 4, 1) * (0.5 if to_type == "int8" else 16.01)
    assert (np.abs(elements * np.repeat(scales, 4, 1) - array) <= close_enough + 1e-6).all()
    with pytest.raises(ConfigError, match="which blocks of 3 do not divide"):
        layer.block_size = 3


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("kind", ["NONE", "UPPER_LEFT", "LOWER_RIGHT"])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention(heads: int, kind: str, mask: str | None) -> None:
    query, key, value = (
        RNG.standard_normal((2, h, n, 8)).astype(np.float32) for h, n in ((4, 5), (heads, 7), (heads, 7))
    )
    feeds = {"q": query, "k": key, "v": value}
    if mask is not None:
        feeds["m"] = RNG.random((1, 1, 5, 7)) > -1 if mask == "bool" else RNG.random((1, 1, 5, 7)).astype(np.float32)
        if mask == "bool":
            feeds["m"][..., 2, 1:3] = False
    network, tensors = start(**feeds)
    layer = network.add_attention_v2(*tensors[:3], "SOFTMAX", kind)
    if mask is not None:
        layer.mask = tensors[3]
    bias = torch.zeros(5, 7)
    if kind != "NONE":
        offset = 0 if kind == "UPPER_LEFT" else 2
        bias.masked_fill_(torch.ones(5, 7).tril(offset) == 0, -torch.inf)
    if mask is not None:
        given = torch.from_numpy(feeds["m"])
        bias = bias + (torch.where(given, 0.0, -torch.inf) if mask == "bool" else given)
    q, k, v = (torch.from_numpy(each) for each in (query, key, value))
    want = F.scaled_dot_product_attention(
        q, k.repeat_interleave(4 // heads, 1), v.repeat_interleave(4 // heads, 1), bias, scale=1.0
    )
    close(answer(network, layer, **feeds), want)


def test_attention_s_refusals() -> None:
    network = Network()
    q = network.add_input("q", "float32", (1, 4, 5, 8))
    k = network.add_input("k", "float32", (1, 3, 5, 8))
    with pytest.raises(ConfigError, match="heads must be a multiple of the key's, got 4 and 3"):
        network.add_attention(q, k, k)
