"""The refitter's names for weights: of a parsed model's layers, and of constant layers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt

LOGGER = Messages()
X = np.array([[1, 2, 3, 4]], np.float32)


def refittable(builder: trt.Builder, network: trt.INetworkDefinition) -> trt.ICudaEngine:
    """The engine, built with REFIT."""
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.REFIT)
    return trt.Runtime(LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))


def answer(engine: trt.ICudaEngine) -> np.ndarray:
    """What it gives for X."""
    y = np.zeros((1, 2), np.float32)
    assert engine.create_execution_context().execute_v2([X.ctypes.data, y.ctypes.data])
    return y


def test_a_constant_layer_s_weights() -> None:
    builder = trt.Builder(LOGGER)
    network = builder.create_network(1)
    x = network.add_input("x", trt.float32, (1, 4))
    constant = network.add_constant((4, 2), np.ones((4, 2), np.float32))
    constant.name = "weights of it"
    none = trt.MatrixOperation.NONE
    network.mark_output(network.add_matrix_multiply(x, none, constant.get_output(0), none).get_output(0))
    engine = refittable(builder, network)
    refitter = trt.Refitter(engine, LOGGER)
    assert refitter.get_all() == (["weights of it"], [trt.WeightsRole.CONSTANT])
    new = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert refitter.set_weights("weights of it", trt.WeightsRole.CONSTANT, new)
    assert not refitter.set_weights("matrix_multiply_1", trt.WeightsRole.CONSTANT, new)
    assert refitter.refit_cuda_engine()
    np.testing.assert_allclose(answer(engine), X @ new)


def test_names_that_exporters_give() -> None:
    weights = np.ones((4, 2), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="/head/linear/Gemm")],
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(weights[0], "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    builder = trt.Builder(LOGGER)
    network = builder.create_network(1)
    assert trt.OnnxParser(network, LOGGER).parse(model.SerializeToString())
    engine = refittable(builder, network)
    refitter = trt.Refitter(engine, LOGGER)
    names, roles = refitter.get_all()
    assert names == ["/head/linear/Gemm"] * 2
    assert roles == [trt.WeightsRole.KERNEL, trt.WeightsRole.BIAS]
    for name, role, array in zip(names, roles, (2 * weights, np.array([5, 6], np.float32)), strict=True):
        assert refitter.set_weights(name, role, array)
    assert refitter.refit_cuda_engine()
    np.testing.assert_allclose(answer(engine), X @ (2 * weights) + [5, 6])
