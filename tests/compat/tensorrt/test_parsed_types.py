"""Models with 64-bit integers, as TensorRT's parser took them before there was such a type, and other input shapes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt
from trine.compat.tensorrt import eras

LOGGER = Messages()


def lookup() -> bytes:
    """rows = table[ids], and next = ids + 1, ids of (batch, 3) int64."""
    table = np.arange(20, dtype=np.float32).reshape(5, 4)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Add", ["ids", "one"], ["next"]),
        ],
        "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 3])],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3, 4]),
            helper.make_tensor_value_info("next", TensorProto.INT64, ["batch", 3]),
        ],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.int64(1), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(("era", "kind"), [("8", np.int32), ("10", np.int64)])
def test_integers_are_as_wide_as_the_version_had_them(era: str, kind: type) -> None:
    with eras.override(era):
        builder = trt.Builder(LOGGER)
        network = builder.create_network(1)
        assert trt.OnnxParser(network, LOGGER).parse(lookup())
        network.get_input(0).shape = [2, 3]
        assert network.get_output(0).shape == (2, 3, 4)
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        engine = trt.Runtime(LOGGER).deserialize_cuda_engine(plan)
        assert [trt.nptype(engine.get_tensor_dtype(name)) for name in engine] == [kind, np.float32, kind]
        ids = np.array([[0, 2, 4], [1, 1, 3]], kind)
        rows, following = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), kind)
        context = engine.create_execution_context()
        assert context.execute_v2([ids.ctypes.data, rows.ctypes.data, following.ctypes.data])
    expected = ReferenceEvaluator(onnx.load_from_string(lookup())).run(None, {"ids": ids.astype(np.int64)})
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(following, expected[1])


def test_an_input_of_another_rank_is_refused() -> None:
    LOGGER.errors.clear()
    network = trt.Builder(LOGGER).create_network(0)
    assert trt.OnnxParser(network, LOGGER).parse(lookup())
    network.get_input(0).shape = [6]
    assert "has 2 dimensions" in LOGGER.errors[-1]
    assert network.get_input(0).shape == (-1, 3)


def test_every_layer_has_a_kind_that_the_era_knows() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["x", "axes"], ["u"]),
            helper.make_node("Cast", ["u"], ["c"], to=TensorProto.INT32),
            helper.make_node("CumSum", ["x", "axis"], ["s"]),
        ],
        "kinds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [
            helper.make_tensor_value_info("c", TensorProto.INT32, [1, 3]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [3]),
        ],
        [
            onnx.numpy_helper.from_array(np.array([0], np.int64), "axes"),
            onnx.numpy_helper.from_array(np.int64(0), "axis"),
        ],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    kinds = {}
    for era in ("8.2", "8.6", "10"):
        with eras.override(era):
            network = trt.Builder(LOGGER).create_network(1)
            assert trt.OnnxParser(network, LOGGER).parse(data)
            kinds[era] = [layer.type.name for layer in network]
    assert kinds == {
        "8.2": ["SHUFFLE", "IDENTITY", "PLUGIN_V2"],
        "8.6": ["SHUFFLE", "CAST", "PLUGIN_V2"],
        "10": ["UNSQUEEZE", "CAST", "CUMULATIVE"],
    }
