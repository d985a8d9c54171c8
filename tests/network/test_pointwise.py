"""Layers that compute element by element, against PyTorch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_runs import answer, start
from torch.nn import functional as F  # noqa: N812

from trine.errors import ConfigError
from trine.network import ActivationType, ElementWiseOperation, UnaryOperation
from trine.network.pointwise import ACTIVATIONS, ELEMENTWISE, UNARY

X = np.linspace(-2, 1.5, 8, dtype=np.float32).reshape(2, 4)

REFERENCES = {
    "RELU": lambda t, a, b: F.relu(t),
    "SIGMOID": lambda t, a, b: torch.sigmoid(t),
    "TANH": lambda t, a, b: torch.tanh(t),
    "LEAKY_RELU": lambda t, a, b: F.leaky_relu(t, a),
    "ELU": lambda t, a, b: F.elu(t, a),
    "SELU": lambda t, a, b: torch.where(t > 0, b * t, b * (a * torch.exp(t) - a)),
    "SOFTSIGN": lambda t, a, b: F.softsign(t),
    "SOFTPLUS": lambda t, a, b: a * torch.log(torch.exp(b * t) + 1),
    "CLIP": lambda t, a, b: t.clamp(a, b),
    "HARD_SIGMOID": lambda t, a, b: (a * t + b).clamp(0, 1),
    "SCALED_TANH": lambda t, a, b: a * torch.tanh(b * t),
    "THRESHOLDED_RELU": lambda t, a, b: torch.where(t > a, t, 0),
    "GELU_ERF": lambda t, a, b: F.gelu(t),
    "GELU_TANH": lambda t, a, b: F.gelu(t, approximate="tanh"),
}


@pytest.mark.parametrize("kind", list(ActivationType), ids=lambda kind: kind.name)
def test_activations(kind: ActivationType) -> None:
    assert set(ACTIVATIONS) == set(ActivationType)
    network, (x,) = start(x=X)
    layer = network.add_activation(x, kind.name)
    layer.alpha, layer.beta = 0.3, 0.7
    got = answer(network, layer, x=X)
    np.testing.assert_allclose(got, REFERENCES[kind.name](torch.from_numpy(X), 0.3, 0.7).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LEAKY_RELU", "ELU", "SELU", "SOFTPLUS"])
def test_parameters_start_as_pytorch_s(kind: str) -> None:
    network, (x,) = start(x=X)
    got = answer(network, network.add_activation(x, kind), x=X)
    want = getattr(F, kind.lower())(torch.from_numpy(X))
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)


def test_an_activation_s_function_can_be_changed() -> None:
    network, (x,) = start(x=X)
    layer = network.add_activation(x, "RELU")
    layer.activation_type = ActivationType.TANH
    np.testing.assert_allclose(answer(network, layer, x=X), np.tanh(X), rtol=1e-5)
    with pytest.raises(ConfigError, match="ActivationType 'SWISH' is unknown"):
        layer.activation_type = "SWISH"
    with pytest.raises(ConfigError, match="alpha is a number, got 'much'"):
        layer.alpha = "much"


FUNCTIONS = {
    "SUM": np.add, "PROD": np.multiply, "MAX": np.maximum, "MIN": np.minimum, "SUB": np.subtract, "DIV": np.divide,
    "POW": np.power, "FLOOR_DIV": np.floor_divide, "AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor,
    "EQUAL": np.equal, "GREATER": np.greater, "LESS": np.less,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(ElementWiseOperation), ids=lambda kind: kind.name)
def test_elementwise_operations_broadcast(kind: ElementWiseOperation) -> None:
    assert set(ELEMENTWISE) == set(ElementWiseOperation)
    a = X > 0 if kind.name in ("AND", "OR", "XOR") else X
    b = np.array([True, False, True, False]) if a.dtype == bool else np.array([2, 2, -1, 2], np.float32)
    network, (x, y) = start(x=a, y=b)
    layer = network.add_elementwise(x, y, kind)
    assert layer.get_output(0).shape == (2, 4)
    with np.errstate(invalid="ignore"):
        want = FUNCTIONS[kind.name](a, b)
    got = answer(network, layer, x=a, y=b)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_floor_division_of_whole_numbers_rounds_down() -> None:
    a, b = np.array([7, -7, 7, -7, 6, -6], np.int64), np.array([2, 2, -2, -2, 3, 3], np.int64)
    network, (x, y) = start(x=a, y=b)
    np.testing.assert_array_equal(answer(network, network.add_elementwise(x, y, "FLOOR_DIV"), x=a, y=b), a // b)


@pytest.mark.parametrize("kind", list(UnaryOperation), ids=lambda kind: kind.name)
def test_unary_operations(kind: UnaryOperation) -> None:
    assert set(UNARY) == set(UnaryOperation)
    special = {"RECIP": np.reciprocal, "NEG": np.negative, "NOT": np.logical_not, "ISINF": np.isinf, "ISNAN": np.isnan,
               "ROUND": np.rint, "ERF": lambda a: torch.erf(torch.from_numpy(a)).numpy()}  # fmt: skip
    names = {name: f"arc{name[1:].lower()}" for name in ("ASIN", "ACOS", "ATAN", "ASINH", "ACOSH", "ATANH")}
    array = np.array([0.2, 0.5, 0.9, -0.3], np.float32)
    if kind.name in ("LOG", "SQRT", "ACOSH"):
        array = np.abs(array) + 1
    elif kind.name == "NOT":
        array = array > 0
    elif kind.name in ("ISINF", "ISNAN"):
        array = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    network, (x,) = start(x=array)
    function = special.get(kind.name) or getattr(np, names.get(kind.name, kind.name.lower()))
    np.testing.assert_allclose(
        answer(network, network.add_unary(x, kind), x=array), function(array), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("mode", ["UNIFORM", "CHANNEL", "ELEMENTWISE"])
def test_scale(mode: str) -> None:
    array = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    shape = {"UNIFORM": (), "CHANNEL": (3,), "ELEMENTWISE": (3, 4, 5)}[mode]
    shift, scale, power = (np.random.default_rng(i).random(shape).astype(np.float32) + 1 for i in range(3))
    network, (x,) = start(x=array)
    layer = network.add_scale(x, mode, shift, scale, power)
    fit = {"UNIFORM": (), "CHANNEL": (3, 1, 1), "ELEMENTWISE": (3, 4, 5)}[mode]
    want = (array * scale.reshape(fit) + shift.reshape(fit)) ** power.reshape(fit)
    np.testing.assert_allclose(answer(network, layer, x=array), want, rtol=1e-4)


def test_scale_along_another_axis_and_its_refusals() -> None:
    network, (x,) = start(x=X)
    layer = network.add_scale_nd(x, "CHANNEL", None, np.arange(4, dtype=np.float32), None, 1)
    np.testing.assert_array_equal(answer(network, layer, x=X), X * np.arange(4, dtype=np.float32))
    with pytest.raises(ConfigError, match="scale has 3 weights"):
        network.add_scale_nd(x, "CHANNEL", None, np.ones(3, np.float32), None, 1)


def test_select_cast_identity_and_parametric_relu() -> None:
    network, (x,) = start(x=X)
    zero = network.add_constant(0.0).get_output(0)
    positive = network.add_elementwise(x, zero, "GREATER").get_output(0)
    slopes = network.add_constant(np.array([0.1, 0.2, 0.3, 0.4], np.float32)).get_output(0)
    chosen = network.add_select(positive, x, zero).get_output(0)
    leaky = network.add_parametric_relu(x, slopes).get_output(0)
    rounded = network.add_cast(network.add_identity(x).get_output(0), "int32").get_output(0)
    for tensor in (chosen, leaky):
        network.mark_output(tensor)
    network.mark_output(rounded)
    from network_runs import answers

    a, b, c = answers(network, {"x": X})
    np.testing.assert_array_equal(a, np.maximum(X, 0))
    np.testing.assert_allclose(b, np.where(X > 0, X, X * [0.1, 0.2, 0.3, 0.4]), rtol=1e-6)
    np.testing.assert_array_equal(c, X.astype(np.int32))
