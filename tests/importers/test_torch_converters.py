"""User converters: layers in place of a call, wherever the call's function lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import user_models as user
from torch import nn

import trine
from trine.errors import ConfigError, ModelImportError, UnsupportedError
from trine.importers import ImportedModel, import_model
from trine.importers.converters import converters_scope, unregister
from trine.network import ActivationType, ElementWiseOperation


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with converters_scope():
        yield


def convert(function: Callable[[Any], None], name: str, model: nn.Module, x: torch.Tensor) -> ImportedModel:
    return import_model(model, x, converters={name: function})


def operators(imported: ImportedModel) -> list[str]:
    return [node.op_type for node in imported.model.graph if node.op_type not in ("Constant", "Identity")]


def test_the_seed_s_converter() -> None:
    seen = []

    @trine.converter("torch.nn.ReLU.forward")
    def convert_relu(ctx: Any) -> None:
        seen.append((type(ctx.method_args[0]), tuple(ctx.method_args[1].shape), ctx.method_str))
        layer = ctx.network.add_activation(input=ctx.method_args[1]._trt, type=ActivationType.RELU)
        layer.name = "my relu"
        ctx.method_return._trt = layer.get_output(0)

    imported = import_model(user.Small(), torch.rand(2, 3, 4, 4))
    assert seen == [(nn.ReLU, (2, 4, 4, 4), "torch.nn.ReLU.forward")]
    assert [node.op_type for node in imported.model.graph if node.name == "my relu"] == ["Relu"]
    assert "trine.converter" not in imported.model.opset_imports
    unregister("torch.nn.ReLU.forward")
    imported = import_model(user.Small(), torch.rand(2, 3, 4, 4))
    assert len(seen) == 1


def silu(ctx: Any) -> None:
    x = ctx.tensor(ctx.method_args[0])
    gate = ctx.network.add_activation(x, "SIGMOID").get_output(0)
    product = ctx.network.add_elementwise(x, gate, ElementWiseOperation.PROD)
    ctx.set_output(ctx.method_return, product.get_output(0))


def own(ctx: Any) -> None:
    positive = ctx.network.add_node("Abs", [ctx.tensor(ctx.method_args[0])]).get_output(0)
    shift = ctx.tensor(ctx.method_kwargs["shift"])
    ctx.set_output(ctx.method_return, ctx.network.add_elementwise(positive, shift, "SUM").get_output(0))


def linear_module(ctx: Any) -> None:
    module, x = ctx.method_args
    inputs = [ctx.tensor(x), ctx.tensor(module.weight), ctx.tensor(module.bias)]
    ctx.set_output(ctx.method_return, ctx.network.add_node("Gemm", inputs, {"transB": 1}).get_output(0))


def linear_function(ctx: Any) -> None:
    x, weight, bias = ctx.method_args
    assert x.is_meta
    assert not weight.is_meta  # weights are the real ones
    weight = ctx.network.add_constant(weight.numpy().T.copy()).get_output(0)
    product = ctx.network.add_node("MatMul", [ctx.tensor(x), weight]).get_output(0)
    ctx.set_output(ctx.method_return, ctx.network.add_elementwise(product, bias._trt, "SUM").get_output(0))


def tanh(ctx: Any) -> None:
    layer = ctx.network.add_activation(ctx.tensor(ctx.method_args[0]), "TANH")
    ctx.set_output(ctx.method_return, layer.get_output(0))


def sigmoid(ctx: Any) -> None:
    layer = ctx.network.add_activation(ctx.tensor(ctx.method_args[0]), "SIGMOID")
    ctx.set_output(ctx.method_return, layer.get_output(0))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("torch.nn.functional.silu", silu),
        ("user_models.own_function", own),
        ("torch.nn.Linear.forward", linear_module),
        ("torch.nn.functional.linear", linear_function),
        ("torch.tanh", tanh),
        ("torch.Tensor.sigmoid", sigmoid),
    ],
)
def test_functions_methods_and_operators(name: str, function: Callable[[Any], None]) -> None:
    called = []

    def counting(ctx: Any) -> None:
        called.append(ctx.method_str)
        function(ctx)

    imported = convert(counting, name, user.Converted(), torch.rand(1, 4))
    assert called == [name]
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert imported.reference({"x": x})["output_0"].shape == (3, 4)


def test_a_converter_stands_in_for_an_unsupported_operator() -> None:
    x = torch.rand(2, 3, 4)
    with pytest.raises(UnsupportedError, match=r"aten\._linalg_svd"):
        import_model(user.HoldsUnsupported(), x)

    def energy(ctx: Any) -> None:
        value = ctx.tensor(ctx.method_args[1])
        squares = ctx.network.add_elementwise(value, value, "PROD").get_output(0)
        layer = ctx.network.add_node("ReduceSum", [squares, ctx.tensor(np.array([1, 2]))], {"keepdims": 0})
        ctx.set_output(ctx.method_return, layer.get_output(0))

    imported = convert(energy, "user_models.Energy.forward", user.HoldsUnsupported(), x)
    assert "ReduceSum" in operators(imported)
    array = np.random.default_rng(0).random((5, 3, 4), np.float32)
    assert imported.reference({"x": array})["output"].shape == (5,)


def test_only_the_outermost_of_nested_calls_is_converted() -> None:
    called = []

    def outer(ctx: Any) -> None:
        called.append("module")
        linear_module(ctx)

    def inner(ctx: Any) -> None:
        called.append("function")
        linear_function(ctx)

    names = {"torch.nn.Linear.forward": outer, "torch.nn.functional.linear": inner}
    import_model(user.Converted(), torch.rand(1, 4), converters=names)
    assert called == ["module"]


def test_a_function_that_returns_several_tensors() -> None:
    def halves(ctx: Any) -> None:
        layer = ctx.network.add_node(
            "Split", [ctx.tensor(ctx.method_args[0])], {"axis": 1, "num_outputs": 2}, outputs=2
        )
        low, high = ctx.method_return
        ctx.set_output(low, layer.get_output(0))
        ctx.set_output(high, layer.get_output(1))

    imported = convert(halves, "user_models.halves", user.SplitOutput(), torch.rand(2, 6))
    assert operators(imported) == ["Split", "Sub"]


def raises(ctx: Any) -> None:
    raise ValueError("not today")


def forgets(ctx: Any) -> None:
    pass


def freezes(ctx: Any) -> None:
    shape = tuple(ctx.method_return.shape)
    ctx.set_output(ctx.method_return, ctx.network.add_constant(np.zeros(shape, np.float32)).get_output(0))


def wrong_shape(ctx: Any) -> None:
    layer = ctx.network.add_node("ReduceMax", [ctx.tensor(ctx.method_args[1])], {"keepdims": 0})
    ctx.set_output(ctx.method_return, layer.get_output(0))


def wrong_dtype(ctx: Any) -> None:
    layer = ctx.network.add_node("IsNaN", [ctx.tensor(ctx.method_args[1])])
    ctx.set_output(ctx.method_return, layer.get_output(0))


def wrong_values(ctx: Any) -> None:
    layer = ctx.network.add_activation(ctx.tensor(ctx.method_args[1]), "SIGMOID")
    ctx.set_output(ctx.method_return, layer.get_output(0))


def gives_a_layer(ctx: Any) -> None:
    ctx.set_output(ctx.method_return, ctx.network.add_activation(ctx.tensor(ctx.method_args[1]), "RELU"))


def unknown_operator(ctx: Any) -> None:
    ctx.network.add_node("Relux", [ctx.tensor(ctx.method_args[1])])


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (raises, "converter 'torch.nn.ReLU.forward' raised ValueError: not today"),
        (forgets, "converter 'torch.nn.ReLU.forward' set no tensor for output 0"),
        (freezes, r"output 'output' on input 'input'.*converters were used: torch.nn.ReLU.forward"),
        (wrong_shape, r"'torch.nn.ReLU.forward': output 0 of the call is float32\[\]; the function returned float32"),
        (wrong_dtype, "'torch.nn.ReLU.forward': output 0 of the call is bool"),
        (wrong_values, "differs from eager.*converters were used: torch.nn.ReLU.forward"),
        (gives_a_layer, "for a layer, pass layer.get_output"),
        (unknown_operator, "ONNX opset .* has no operator 'Relux'"),
    ],
)
def test_a_faulty_converter_is_named(function: Callable[[Any], None], text: str) -> None:
    error = ConfigError if function is unknown_operator else ModelImportError
    with pytest.raises(error, match=text):
        convert(function, "torch.nn.ReLU.forward", nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torch.nn.NoSuch.forward", "nothing has that name"),
        ("no_such_package.function", "nothing has that name"),
        ("relu", "nothing has that name"),
        ("torch.nn.ReLU", "expected a function or method, got type"),
    ],
)
def test_unknown_names_are_refused_at_once(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        trine.converter(name)
    with pytest.raises(ConfigError, match="no converter is registered"):
        unregister(name)


def test_functions_are_themselves_again_afterwards() -> None:
    before = (nn.Linear.forward, user.own_function, nn.ReLU.__dict__["forward"])
    names = {"torch.nn.Linear.forward": linear_module, "user_models.own_function": own}
    import_model(user.Converted(), torch.rand(1, 4), converters=names)
    assert (nn.Linear.forward, user.own_function, nn.ReLU.__dict__["forward"]) == before
