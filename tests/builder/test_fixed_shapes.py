"""A profile of one size makes a graph of fixed shapes; anything else stays open."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

import trine
from trine.builder.fixed_shapes import fix_shapes
from trine.errors import InputError
from trine.profile import ShapeRange


class Mixed(torch.nn.Module):
    """Its reshape asks for the batch size while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.head = torch.nn.Linear(6, 5)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = y.reshape(x.shape[0], 2, 3, -1).transpose(1, 2).reshape(x.shape[0], 6, -1)
        return self.head(y.mean(2)) * scale


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8), torch.rand(4, 1)


def operators(engine: trine.Engine) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(engine.graph.model).graph.node]


@pytest.mark.parametrize("tactic", ["openvino", "onnxruntime"])
def test_a_fixed_batch_is_in_the_graph(tactic: str, example: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = Mixed().eval()
    with trine.build(module, example, batch=4, tactics=(tactic,)) as engine:
        assert engine.inputs[0].shape == (4, 3, 8, 8)
        assert engine.outputs[0].shape == (4, 5)
        assert "Shape" not in operators(engine)
        assert engine.manifest.evidence is not None
        assert engine.manifest.evidence["row_independence"] is not None  # rows are still told apart
        with torch.no_grad():
            np.testing.assert_allclose(engine(*example), module(*example), rtol=1e-4, atol=1e-5)
        with pytest.raises(InputError, match="axis 0 is 3, expected 4"):
            engine(example[0][:3], example[1][:3])
        again = trine.load(engine.serialize())
        np.testing.assert_array_equal(again(*example), engine(*example))
        again.close()


def test_an_open_batch_stays_open(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    with trine.build(Mixed().eval(), example, batch=(1, 4, 8)) as engine:
        assert engine.inputs[0].shape == ("batch", 3, 8, 8)
        assert engine(example[0][:3], example[1][:3]).shape == (3, 5)


def test_only_what_has_one_size_is_fixed() -> None:
    x = ir.Value(name="x", shape=ir.Shape(["n", "m", 3]), type=ir.TensorType(ir.DataType.FLOAT))
    y = ir.Value(name="y", shape=ir.Shape(["n", "k"]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes = [ir.node("Relu", [x]), ir.node("Abs", [y])]
    for node, shape in zip(nodes, (["n", "m", 3], ["n + k", "k"]), strict=True):
        node.outputs[0].shape = ir.Shape(shape)
    graph = ir.Graph([x, y], [node.outputs[0] for node in nodes], nodes=nodes, opset_imports={"": 20})
    model = ir.Model(graph, ir_version=10)
    ranges = {
        "x": ShapeRange((2, 1, 3), (2, 5, 3), (2, 9, 3)),
        "y": ShapeRange((2, 7), (2, 7), (2, 7)),
    }
    assert fix_shapes(model, ranges) == {"n": 2, "k": 7}
    assert [str(dim) for dim in x.shape or ()] == ["2", "m", "3"]
    assert [str(dim) for dim in y.shape or ()] == ["2", "7"]
    assert [str(dim) for dim in nodes[0].outputs[0].shape or ()] == ["2", "m", "3"]
    unknown, known = nodes[1].outputs[0].shape or (None, None)
    assert isinstance(unknown, ir.SymbolicDim)
    assert unknown.value is None
    assert known == 7
