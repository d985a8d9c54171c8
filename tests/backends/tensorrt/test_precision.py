"""Graphs cast for strongly typed networks, computed by ONNX Runtime beside the graphs that they come from."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from trine.backends.tensorrt.precision import cast_model


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], outputs: dict[str, list[int | str]]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def answers(data: bytes, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it would drop pairs of casts
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def network() -> bytes:
    """Convolutions with a normalisation between them that stays in fp32, a branch, and two outputs."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("InstanceNormalization", ["c1", "scale", "shift"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w1", "b1"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "x"], ["sum"]),
        helper.make_node("ReduceMean", ["sum", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"]),
    ]
    weights = {
        "w1": rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.2, 4).astype(np.float32),
        "scale": np.ones(4, np.float32),
        "shift": np.zeros(4, np.float32),
        "axes": np.array([2, 3], np.int64),
        "w2": rng.normal(0, 1, (4, 6)).astype(np.float32),
    }
    return model(nodes, weights, {"sum": ["n", 4, 8, 8], "shares": ["n", 6]})


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_fp32_is_left_as_it_is(precision: str) -> None:
    assert cast_model(network(), precision) == network()


def test_fp16_answers_differ_by_rounding() -> None:
    x = np.random.default_rng(1).normal(size=(3, 4, 8, 8)).astype(np.float32)
    for ours, theirs in zip(answers(cast_model(network(), "fp16"), x), answers(network(), x), strict=True):
        assert ours.dtype == np.float32
        difference = np.abs(ours - theirs).max()
        assert 0 < difference <= 8 * 2**-11 * np.abs(theirs).max()  # fp16 rounds to 11 bits, a few times over


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_types_are_what_a_strongly_typed_network_takes(precision: str) -> None:
    """Each operator has operands of one type: the narrow one, or fp32 where that matters."""
    cast = onnx.load_from_string(cast_model(network(), precision))
    onnx.checker.check_model(cast, full_check=True)  # infers all types, and refuses operators that mix them
    inferred = onnx.shape_inference.infer_shapes(cast, strict_mode=True)
    found = {info.name: info.type.tensor_type.elem_type for info in inferred.graph.value_info}
    narrow = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    kinds = {node.op_type: found.get(node.output[0]) for node in cast.graph.node if node.op_type != "Cast"}
    assert kinds["Conv"] == kinds["Relu"] == kinds["MatMul"] == narrow
    assert kinds["InstanceNormalization"] == TensorProto.FLOAT
    assert {value.type.tensor_type.elem_type for value in cast.graph.output} == {TensorProto.FLOAT}
    weights = {weight.data_type for weight in cast.graph.initializer if weight.name.startswith(("w1", "w2"))}
    assert weights == {narrow}


def test_a_graph_inside_of_an_operator_reads_fp32() -> None:
    branch = helper.make_graph(
        [helper.make_node("Exp", ["double"], ["then"])],
        "b",
        [],
        [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["double"], ["else"])],
        "b",
        [],
        [helper.make_tensor_value_info("else", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch, else_branch=other),
    ]
    data = model(nodes, {"zero": np.array(0, np.float32)}, {"y": ["n", 4, 8, 8]})
    x = np.random.default_rng(2).normal(size=(1, 4, 8, 8)).astype(np.float32)
    cast = cast_model(data, "fp16")
    assert ["double"] in [
        list(node.output) for node in onnx.load_from_string(cast).graph.node if node.op_type == "Cast"
    ]
    (ours,), (theirs,) = answers(cast, x), answers(data, x)
    np.testing.assert_allclose(ours, theirs, rtol=2e-2)
