"""The seed of the layer-by-layer network, as converters use it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.importers.graph_runner import GraphRunner
from trine.network import ActivationType, ElementWiseOperation, Layer, Network, Tensor
from trine.network.operations import ACTIVATIONS, ELEMENTWISE


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 23]>\ng (float[batch, 4] x) => (float[batch, 4] x) { }'
    )


def finish(model: ir.Model, tensor: Tensor) -> Any:
    """The network's answer to the numbers -2 to 1.5, with ``tensor`` as its output."""
    tensor.name = "out"
    model.graph.outputs[:] = [tensor.value]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return GraphRunner(model)({"x": X})["out"]


X = np.linspace(-2, 1.5, 8, dtype=np.float32).reshape(2, 4)


def start(model: ir.Model) -> tuple[Network, Tensor]:
    network = Network(model)
    return network, network.wrap(model.graph.inputs[0])


@pytest.mark.parametrize("kind", list(ActivationType), ids=lambda kind: kind.name)
def test_activations_are_what_pytorch_computes(model: ir.Model, kind: ActivationType) -> None:
    network, x = start(model)
    alpha = 0.3 if "alpha" in ACTIVATIONS[kind][1] and kind is not ActivationType.SELU else None
    layer = network.add_activation(x, kind.name, alpha=alpha)
    reference = {
        "LEAKY_RELU": lambda t: torch.nn.functional.leaky_relu(t, 0.3),
        "ELU": lambda t: torch.nn.functional.elu(t, 0.3),
        "HARD_SIGMOID": lambda t: (0.3 * t + 0.5).clamp(0, 1),
    }.get(kind.name, getattr(torch.nn.functional, kind.name.lower(), None))
    assert reference is not None
    output = layer.get_output(0)
    assert output.shape == ("batch", 4)
    assert output.dtype is DataType.FLOAT32
    np.testing.assert_allclose(finish(model, output), reference(torch.from_numpy(X)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", list(ElementWiseOperation), ids=lambda kind: kind.name)
def test_elementwise_operations_broadcast(model: ir.Model, kind: ElementWiseOperation) -> None:
    network, x = start(model)
    other = network.add_constant(np.full(4, 2.0, np.float32)).get_output(0)
    output = network.add_elementwise(x, other, kind).get_output(0)
    numpy_names = {"SUM": "add", "PROD": "multiply", "MAX": "maximum", "MIN": "minimum", "SUB": "subtract",
                   "DIV": "divide", "POW": "power"}  # fmt: skip
    want = getattr(np, numpy_names.get(kind.name, kind.name.lower()))(X, np.float32(2))
    assert output.shape == ("batch", 4)
    got = finish(model, output)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert set(ELEMENTWISE) == set(ElementWiseOperation)


def test_names_objects_and_outputs(model: ir.Model) -> None:
    network, x = start(model)
    layer = network.add_node("Split", [x], {"axis": 1, "num_outputs": 2}, outputs=2, name="halves")
    assert (layer.name, layer.num_outputs) == ("halves", 2)
    assert layer.get_output(1) is layer.get_output(1)
    assert layer.get_output(1).shape == ("batch", 2)
    assert "('batch', 2)" in repr(layer.get_output(1))
    layer.name = "split"
    assert layer.node.name == "split"
    with pytest.raises(ConfigError, match=r"layer 'split' \(Split\) has 2 output\(s\), so no 2"):
        layer.get_output(2)


def test_constants_come_from_anything(model: ir.Model) -> None:
    network, _ = start(model)
    for given, dtype, shape in [
        (np.ones((2, 3), np.float16), DataType.FLOAT16, (2, 3)),
        (torch.ones(3, dtype=torch.bfloat16), DataType.BFLOAT16, (3,)),
        (torch.nn.Parameter(torch.ones(3)), DataType.FLOAT32, (3,)),
        (2.0, DataType.FLOAT32, ()),
        (2, DataType.INT64, ()),
        ([1, 2], DataType.INT64, (2,)),
    ]:
        tensor = network.add_constant(given).get_output(0)
        assert (tensor.dtype, tensor.shape) == (dtype, shape)


def test_unknown_things_say_what_is_allowed(model: ir.Model) -> None:
    network, x = start(model)
    with pytest.raises(ConfigError, match="ActivationType 'RELUX' is unknown; allowed: RELU, SIGMOID"):
        network.add_activation(x, "RELUX")
    with pytest.raises(ConfigError, match="Relu: expected a Tensor of the network, got Layer; for a layer use"):
        network.add_node("Relu", [network.add_identity(x)])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="ONNX opset 23 has no operator 'Relux'"):
        network.add_node("Relux", [x])


def test_optional_inputs_and_other_domains(model: ir.Model) -> None:
    network, x = start(model)
    limit = network.add_constant(1.0).get_output(0)
    clipped = network.add_node("Clip", [x, None, limit]).get_output(0)
    other = network.add_node("Mystery", [x], domain="com.example")
    assert isinstance(other, Layer)
    assert other.get_output(0).shape is None
    assert other.get_output(0).dtype is None
    assert model.opset_imports["com.example"] == 1
    model.graph.remove(other.node, safe=True)
    del model.opset_imports["com.example"]
    np.testing.assert_array_equal(finish(model, clipped), np.minimum(X, 1))
