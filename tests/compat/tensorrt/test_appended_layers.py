"""Layers added to a network that the ONNX parser filled: behind it, before it, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt

LOGGER = Messages()
WEIGHTS = np.array([[1, -1, 2, 0], [0, 3, -2, 1], [2, 2, 1, -1]], np.float32)


def parsed(opset: int = 17) -> tuple[trt.Builder, trt.INetworkDefinition]:
    """A network of y = relu(x @ w), x of (batch, 3)."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node("Relu", ["h"], ["y"], name="last"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    LOGGER.errors.clear()
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, LOGGER).parse(model.SerializeToString())
    return builder, network


def answers(builder: trt.Builder, network: trt.INetworkDefinition, x: np.ndarray) -> dict[str, np.ndarray]:
    """What the network gives for ``x``, by its outputs' names."""
    network.get_input(0).shape = x.shape
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    assert plan is not None, LOGGER.errors
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    arrays = {
        name: np.zeros(engine.get_tensor_shape(name), trt.nptype(engine.get_tensor_dtype(name))) for name in engine
    }
    arrays["x"][...] = x
    assert context.execute_v2([array.ctypes.data for array in arrays.values()])
    del arrays["x"]
    return arrays


X = np.array([[1, 2, 3], [-1, 0, 2]], np.float32)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_layers_behind_the_model(opset: int) -> None:
    builder, network = parsed(opset)
    y = network.get_output(0)
    network.unmark_output(y)
    softmax = network.add_softmax(y)
    softmax.axes = 2
    best = network.add_topk(softmax.get_output(0), trt.TopKOperation.MAX, 2, 2)
    mean = network.add_reduce(y, trt.ReduceOperation.AVG, 2, keep_dims=True)
    assert softmax.get_input(0) is y
    assert [layer.type.name for layer in network] == ["MATRIX_MULTIPLY", "ACTIVATION", "SOFTMAX", "TOPK", "REDUCE"]
    for tensor, name in ((best.get_output(0), "p"), (best.get_output(1), "which"), (mean.get_output(0), "mean")):
        tensor.name = name
        network.mark_output(tensor)
    found = answers(builder, network, X)
    expected = np.maximum(X @ WEIGHTS, 0)
    softened = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    assert list(found) == ["p", "which", "mean"]
    np.testing.assert_allclose(found["p"], -np.sort(-softened, 1)[:, :2], rtol=1e-5)
    np.testing.assert_array_equal(found["which"][:, 0], softened.argmax(1))
    np.testing.assert_allclose(found["mean"], expected.mean(1, keepdims=True), rtol=1e-6)


def test_layers_before_and_between() -> None:
    builder, network = parsed()
    x = network.get_input(0)
    two = network.add_constant((1, 1), np.full((1, 1), 2, np.float32)).get_output(0)
    doubled = network.add_elementwise(x, two, trt.ElementWiseOperation.PROD).get_output(0)
    network[0].set_input(0, doubled)
    assert network[0].get_input(0) is doubled
    negative = network.add_unary(network[0].get_output(0), trt.UnaryOperation.NEG).get_output(0)
    network.get_layer(1).set_input(0, negative)
    found = answers(builder, network, X)
    np.testing.assert_allclose(found["y"], np.maximum(-(2 * X) @ WEIGHTS, 0), rtol=1e-6)


def test_an_input_beside_the_model_s() -> None:
    builder, network = parsed()
    scale = network.add_input("scale", trt.float32, (1, 4))
    assert [network.get_input(index).name for index in range(network.num_inputs)] == ["x", "scale"]
    product = network.add_elementwise(network.get_output(0), scale, trt.ElementWiseOperation.PROD).get_output(0)
    product.name = "scaled"
    network.mark_output(product)
    assert network.add_input("h", trt.float32, (1,)) is None
    assert "has a tensor of that name" in LOGGER.errors[-1]
    network.get_input(0).shape = (2, 3)
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    factors, y, scaled = (
        np.array([[1, 2, 3, 4]], np.float32),
        np.zeros((2, 4), np.float32),
        np.zeros((2, 4), np.float32),
    )
    memory = {"x": X, "scale": factors, "y": y, "scaled": scaled}
    assert engine.create_execution_context().execute_v2([memory[name].ctypes.data for name in engine])
    np.testing.assert_allclose(scaled, np.maximum(X @ WEIGHTS, 0) * factors, rtol=1e-6)


def test_mistakes_are_logged() -> None:
    builder, network = parsed()
    y = network.get_output(0)
    five = network.add_constant((1, 5), np.ones((1, 5), np.float32)).get_output(0)
    assert network.add_elementwise(y, five, trt.ElementWiseOperation.SUM) is None
    assert LOGGER.errors
    network[0].set_input(3, y)
    assert "has 1 inputs" in LOGGER.errors[-1]
    circle = network.add_unary(y, trt.UnaryOperation.EXP).get_output(0)
    network[1].set_input(0, circle)
    network.get_input(0).shape = X.shape
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "depends on its own output" in LOGGER.errors[-1]


def test_outputs_can_be_taken_back() -> None:
    builder, network = parsed()
    y = network.get_output(0)
    added = network.add_unary(y, trt.UnaryOperation.NEG).get_output(0)
    network.mark_output(added)
    network.unmark_output(added)
    network.unmark_output(y)
    assert network.num_outputs == 0
    network.mark_output(network[0].get_output(0))
    np.testing.assert_allclose(answers(builder, network, X)["h"], X @ WEIGHTS, rtol=1e-6)


def test_an_operator_that_meant_something_else_is_refused() -> None:
    _, network = parsed(opset=11)
    softmax = network.add_softmax(network.get_output(0))
    softmax.axes = 1
    assert network.add_unary(softmax.get_output(0), trt.UnaryOperation.EXP) is None
    assert "is another operator in opset 11" in LOGGER.errors[-1]


def test_a_parsed_layer_as_its_own_class() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Pow", ["x", "two"], ["squares"]),
            helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[1]),
            helper.make_node("Sqrt", ["mean"], ["y"], name="root"),
        ],
        "norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 1])],
        [onnx.numpy_helper.from_array(np.float32(2), "two")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    network = trt.Builder(LOGGER).create_network(0)
    assert trt.OnnxParser(network, LOGGER).parse(model.SerializeToString())
    power, mean, root = network
    power.__class__, mean.__class__, root.__class__ = trt.IElementWiseLayer, trt.IReduceLayer, trt.IUnaryLayer
    assert power.op == trt.ElementWiseOperation.POW
    assert mean.op == trt.ReduceOperation.AVG
    assert root.op == trt.UnaryOperation.SQRT
    with pytest.raises(AttributeError, match="came from the ONNX model"):
        _ = mean.keep_dims
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mean.nothing
