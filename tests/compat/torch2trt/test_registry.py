"""User converters by torch2trt's names: the context, the helpers, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import user_models as user
from torch import nn

import trine.compat.tensorrt as trt
from trine.compat import torch2trt as package
from trine.compat.torch2trt import (
    CONVERTERS,
    add_missing_trt_tensors,
    add_trt_constant,
    broadcast_trt_tensors,
    check_torch_dtype,
    get_arg,
    tensorrt_converter,
    torch2trt,
    torch_dim_resolve_negative,
    torch_dim_to_trt_axes,
    trt_,
)
from trine.errors import ConfigError, ModelImportError, UnsupportedError
from trine.importers.converters import active


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    torch.manual_seed(0)
    saved = dict(CONVERTERS)
    yield
    CONVERTERS.clear()
    CONVERTERS.update(saved)


def assert_same(model: nn.Module, x: torch.Tensor, **options: Any) -> None:
    model.eval()
    converted = torch2trt(model, [x], **options)
    for other in (x, torch.randn_like(x)):
        torch.testing.assert_close(converted(other), model(other), rtol=1e-4, atol=1e-5)


def test_the_seed_s_converter() -> None:
    seen: list[Any] = []

    @tensorrt_converter("torch.nn.ReLU.forward")
    def convert_relu(ctx: Any) -> None:
        input = ctx.method_args[1]  # noqa: A001  # the seed's own lines
        output = ctx.method_return
        seen.append((type(ctx.method_args[0]), tuple(input.shape), ctx.method_str, ctx.torch2trt_kwargs["my_option"]))
        layer = ctx.network.add_activation(input=input._trt, type=trt.ActivationType.RELU)
        assert isinstance(layer, trt.ILayer)
        assert isinstance(ctx.network, trt.INetworkDefinition)
        layer.name = "my relu"
        output._trt = layer.get_output(0)

    assert_same(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4), my_option=3)
    assert seen == [(nn.ReLU, (2, 4), "torch.nn.ReLU.forward", 3)]
    assert "torch.nn.ReLU.forward" not in active()  # trine's own conversions are not touched


def test_functions_keywords_and_constants() -> None:
    called = []

    @tensorrt_converter("user_models.own_function")
    def convert_own(ctx: Any) -> None:
        x = ctx.method_args[0]
        shift = get_arg(ctx, "shift", 1, 0.0)
        assert get_arg(ctx, "no such", 7, "default") == "default"
        positive = ctx.network.add_unary(x._trt, trt.UnaryOperation.ABS).get_output(0)
        constant = add_missing_trt_tensors(ctx.network, [x, shift])[1]
        (constant,) = broadcast_trt_tensors(ctx.network, [constant], 2)
        called.append(ctx.method_str)
        layer = ctx.network.add_elementwise(positive, constant, trt.ElementWiseOperation.SUM)
        ctx.method_return._trt = layer.get_output(0)

    assert_same(user.Converted(), torch.rand(1, 4))
    assert called == ["user_models.own_function"]


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mul(x, self.weight) + 1


@pytest.mark.parametrize("helper", ["add_missing_trt_tensors", "trt_"])
def test_helpers_make_constants_and_ranks_alike(helper: str) -> None:
    @tensorrt_converter("torch.mul")
    def convert_mul(ctx: Any) -> None:
        a, b = ctx.method_args[:2]
        first, second = getattr(package, helper)(ctx.network, *([(a, b)] if helper != "trt_" else [a, b]))
        ctx.method_return._trt = ctx.network.add_elementwise(first, second, trt.ElementWiseOperation.PROD).get_output(0)

    model = Weighted()
    assert_same(model, torch.randn(2, 3, 4, 4))
    assert not hasattr(model.weight, "_trt")
    assert_same(model, torch.randn(1, 3, 4, 4))


def test_helpers_on_real_weights_and_numbers() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale * 2

    @tensorrt_converter("torch.nn.Linear.forward")
    def convert_linear(ctx: Any) -> None:
        module, x = ctx.method_args
        weight = add_trt_constant(ctx.network, module.weight.t())
        bias, half = trt_(ctx.network, module.bias, 0.5)
        two = add_missing_trt_tensors(ctx.network, [x, 2])[1]
        none = trt.MatrixOperation.NONE
        product = ctx.network.add_matrix_multiply(x._trt, none, weight, none).get_output(0)
        (bias, half, two) = broadcast_trt_tensors(ctx.network, [bias, half, two], 2)
        total = ctx.network.add_elementwise(product, bias, trt.ElementWiseOperation.SUM).get_output(0)
        halved = ctx.network.add_elementwise(total, half, trt.ElementWiseOperation.PROD).get_output(0)
        layer = ctx.network.add_elementwise(halved, two, trt.ElementWiseOperation.PROD)
        ctx.method_return._trt = layer.get_output(0)

    assert_same(nn.Sequential(nn.Linear(4, 4), Scaled()), torch.randn(2, 4))


def test_only_the_outermost_of_nested_calls_is_converted() -> None:
    called = []

    @tensorrt_converter("torch.nn.functional.relu")
    def inner(ctx: Any) -> None:
        called.append("function")
        layer = ctx.network.add_activation(ctx.method_args[0]._trt, trt.ActivationType.RELU)
        ctx.method_return._trt = layer.get_output(0)

    @tensorrt_converter("torch.nn.ReLU.forward")
    def outer(ctx: Any) -> None:
        called.append("module")
        layer = ctx.network.add_activation(ctx.method_args[1]._trt, trt.ActivationType.RELU)
        ctx.method_return._trt = layer.get_output(0)

    assert_same(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))
    assert called == ["module"]


def test_converters_that_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def fail(ctx: Any) -> None:
        raise AssertionError("not to be called")

    assert tensorrt_converter("torch.nn.ReLU.forward", is_real=False)(fail) is fail
    assert tensorrt_converter("torch.nn.Linear.forward", enabled=False, imports=["torch"])(fail) is fail
    with caplog.at_level(logging.WARNING, "trine"):
        tensorrt_converter("torch.nn.NoSuchLayer.forward")(fail)
    assert "'torch.nn.NoSuchLayer.forward' is not used" in caplog.text
    assert "torch.nn.ReLU.forward" in CONVERTERS
    assert "torch.nn.NoSuchLayer.forward" not in CONVERTERS
    with pytest.raises(ConfigError, match="nothing has that name"):
        tensorrt_converter("no_such_package.function")
    tensorrt_converter(torch.relu)(fail)
    tensorrt_converter(nn.Linear.forward)(fail)
    assert {"torch.relu", "torch.nn.modules.linear.Linear.forward"} <= set(CONVERTERS)
    for name in ("torch.relu", "torch.nn.modules.linear.Linear.forward"):
        del CONVERTERS[name]
    with pytest.raises(ConfigError, match="give its path as text"):
        tensorrt_converter(lambda x: x)
    assert_same(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))


def test_faulty_converters_are_named() -> None:
    def wrong_values(ctx: Any) -> None:
        layer = ctx.network.add_activation(ctx.method_args[1]._trt, trt.ActivationType.SIGMOID)
        ctx.method_return._trt = layer.get_output(0)

    def nothing(ctx: Any) -> None:
        pass

    def a_layer(ctx: Any) -> None:
        ctx.method_return._trt = ctx.network.add_activation(ctx.method_args[1]._trt, trt.ActivationType.RELU)

    def replaces(ctx: Any) -> None:
        ctx.method_return = torch.zeros(1)

    def raises(ctx: Any) -> None:
        raise ValueError("not today")

    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    for function, error, text in [
        (wrong_values, ModelImportError, "differs from eager.*torch.nn.ReLU.forward"),
        (nothing, ModelImportError, "'torch.nn.ReLU.forward' set no tensor"),
        (a_layer, ModelImportError, r"'torch.nn.ReLU.forward': _trt must be a tensor.*layer\.get_output\(0\)"),
        (replaces, UnsupportedError, "replaced ctx.method_return"),
        (raises, ModelImportError, "raised ValueError: not today"),
    ]:
        tensorrt_converter("torch.nn.ReLU.forward")(function)
        with pytest.raises(error, match=text):
            torch2trt(model, [torch.randn(2, 4)])


def test_small_helpers() -> None:
    assert torch_dim_resolve_negative(-1, 4) == (3,)
    assert torch_dim_resolve_negative((0, -2), 4) == (0, 2)
    assert torch_dim_to_trt_axes((1, 3)) == 0b1010
    assert check_torch_dtype(1, torch.zeros(1), torch.ones(2)) is torch.float32
    for wrong in ((1, 2), (torch.zeros(1), torch.zeros(1, dtype=torch.int32))):
        with pytest.raises(ConfigError, match="expected tensors of one dtype"):
            check_torch_dtype(*wrong)
