"""The ONNX parser: what it fills, what it says of models that it cannot take, and other weights for an engine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt

LOGGER = Messages()


def model(weight: float = 2.0, operator: str = "Relu", domain: str = "") -> bytes:
    """y = operator(x @ w), x of (batch, 3), all weights ``weight``."""
    w = np.full((3, 4), weight, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node(operator, ["h"], ["y"], name="last", domain=domain),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def parsed(data: bytes) -> tuple[trt.Builder, trt.INetworkDefinition, trt.OnnxParser, bool]:
    """A network that the parser was given ``data`` for."""
    LOGGER.errors.clear()
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, LOGGER)
    return builder, network, parser, parser.parse(data)


def test_the_network_shows_the_model() -> None:
    _, network, parser, good = parsed(model())
    assert good
    assert parser.num_errors == 0
    assert [network.get_input(0).name, network.get_output(0).name] == ["x", "y"]
    assert network.get_input(0).shape == (-1, 3)
    assert [layer.type.name for layer in network] == ["MATRIX_MULTIPLY", "ACTIVATION"]
    assert network.get_layer(0).get_output(0).shape == (-1, 4)


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(1000)])
def test_garbage_is_no_model(garbage: bytes) -> None:
    _, network, parser, good = parsed(garbage)
    assert not good
    assert parser.num_errors == 1
    assert parser.get_error(0).code() in (trt.ErrorCode.MODEL_DESERIALIZE_FAILED, trt.ErrorCode.INVALID_GRAPH)
    assert network.num_layers == 0


def test_errors_name_the_node() -> None:
    _, _, parser, good = parsed(model(operator="Mystery", domain="some.where"))
    assert not good
    error = parser.get_error(0)
    assert (error.node(), error.node_name(), error.node_operator()) == (1, "last", "Mystery")
    assert error.code() == trt.ErrorCode.UNSUPPORTED_NODE
    assert "some.where" in error.desc()
    parser.clear_errors()
    assert parser.num_errors == 0


def build(data: bytes) -> trt.ICudaEngine:
    """An engine of the model, with REFIT and an inner output."""
    builder, network, _, good = parsed(data)
    assert good
    network.mark_output(network.get_layer(0).get_output(0))
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.REFIT)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 3), (2, 3), (2, 3))
    config.add_optimization_profile(profile)
    cache = config.create_timing_cache(b"")
    assert config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, LOGGER.errors
    assert config.create_timing_cache(cache.serialize()).queryKeys() == cache.queryKeys() != []
    engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
    assert engine is not None, LOGGER.errors
    return engine


def run(context: trt.IExecutionContext, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y and h."""
    y, h = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)
    assert context.set_input_shape("x", x.shape)
    assert context.execute_v2([x.ctypes.data, y.ctypes.data, h.ctypes.data]), LOGGER.errors
    return y, h


def test_refit_changes_the_answers() -> None:
    engine = build(model(2.0))
    assert engine.refittable
    context = engine.create_execution_context()
    x = np.array([[1, 2, 3], [-1, 0, 0]], np.float32)
    np.testing.assert_allclose(run(context, x)[1], np.repeat(x.sum(1, keepdims=True) * 2, 4, 1), rtol=1e-6)
    refitter = trt.Refitter(engine, LOGGER)
    assert refitter.get_all_weights() == ["w"]
    assert not refitter.set_named_weights("w", np.ones(5, np.float32))
    refitter.max_threads = 0
    assert "IRefitter::setMaxThreads" in LOGGER.errors[-1]
    assert trt.OnnxParserRefitter(refitter, LOGGER).refit_from_bytes(model(5.0))
    assert refitter.refit_cuda_engine(), LOGGER.errors
    y, h = run(context, x)
    np.testing.assert_allclose(h, np.repeat(x.sum(1, keepdims=True) * 5, 4, 1), rtol=1e-6)
    np.testing.assert_array_equal(y, np.maximum(h, 0))
