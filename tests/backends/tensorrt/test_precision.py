"""Graphs cast for strongly typed networks, computed by ONNX Runtime beside the graphs that they come from."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backends.tensorrt.networks import NETWORKS, cpu_engine
from hypothesis import given, settings
from hypothesis import strategies as st
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


def answers(data: bytes, x: np.ndarray, name: str = "x") -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it would drop pairs of casts
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {name: x})


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


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_answer_as_pytorch_does(name: str) -> None:
    engine, x, answer = cpu_engine(name)
    cast = cast_model(engine.graph.inline(), "fp16")
    onnx.checker.check_model(onnx.load_from_string(cast), full_check=True)
    (ours,) = answers(cast, x.numpy(), engine.inputs[0].name)
    theirs = answer.numpy()
    # fp16 rounds to 11 bits, in networks of up to twenty layers one after the other.
    assert 0 < np.abs(ours - theirs).max() <= 20 * 2**-11 * np.abs(theirs).max()


OPS = ("Relu", "Sigmoid", "Tanh", "HardSwish", "Neg", "Identity", "Conv", "Add", "Concat", "Transpose", "Softmax",
       "ReduceMean", "Split", "Where", "InstanceNormalization")  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_graph_keeps_its_meaning(steps: list[tuple[str, int, int]]) -> None:
    """Operators that are narrow, that are not, and that only move, read each other in any order, and twice over."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "w": rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32),
        "scale": np.ones(4, np.float32),
        "shift": np.zeros(4, np.float32),
        "axes": np.array([1], np.int64),
        "zero": np.zeros(1, np.float32),
    }
    made, nodes = ["x"], []
    for number, (op, first, second) in enumerate(steps):
        a, b, y = made[first % len(made)], made[second % len(made)], f"t{number}"
        if op == "Conv":
            nodes.append(helper.make_node(op, [a, "w"], [y], pads=[1, 1, 1, 1]))
        elif op == "Add":
            nodes.append(helper.make_node(op, [a, b], [y]))
        elif op == "Concat":
            nodes.append(helper.make_node(op, [a, b], [f"{y}_both"], axis=1))
            nodes.append(helper.make_node("Split", [f"{y}_both"], [y, f"{y}_rest"], axis=1, num_outputs=2))
        elif op == "Transpose":
            nodes.append(helper.make_node(op, [a], [y], perm=[0, 1, 3, 2]))
        elif op == "ReduceMean":
            nodes.append(helper.make_node(op, [a, "axes"], [f"{y}_mean"]))
            nodes.append(helper.make_node("Add", [f"{y}_mean", b], [y]))
        elif op == "Split":
            nodes.append(helper.make_node(op, [a], [f"{y}_1", f"{y}_2"], axis=2, num_outputs=2))
            nodes.append(helper.make_node("Concat", [f"{y}_2", f"{y}_1"], [y], axis=2))
        elif op == "Where":
            nodes.append(helper.make_node("Greater", ["x", "zero"], [f"{y}_choice"]))
            nodes.append(helper.make_node(op, [f"{y}_choice", a, b], [y]))
        elif op == "InstanceNormalization":
            nodes.append(helper.make_node(op, [a, "scale", "shift"], [y], epsilon=1.0))
        else:
            nodes.append(helper.make_node(op, [a], [y]))
        made.append(y)
    outputs: dict[str, list[int | str]] = {name: ["n", 4, 8, 8] for name in {made[-1], made[-1 - len(made) // 3], "t0"}}
    data = model(nodes, weights, {name: shape for name, shape in outputs.items() if name != "x"})
    x = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    cast = cast_model(data, "fp16")
    onnx.checker.check_model(onnx.load_from_string(cast), full_check=True)
    for ours, theirs in zip(answers(cast, x), answers(data, x), strict=True):
        assert np.abs(ours - theirs).max() <= 0.02 * (1 + np.abs(theirs).max())  # a wrong wire shows as more


def test_a_lowest_number_in_a_mask_stays_in_fp32() -> None:
    """In fp16 it would be infinite, and 0 * inf is NaN."""
    nodes = [helper.make_node("Mul", ["x", "lowest"], ["masked"]), helper.make_node("Relu", ["masked"], ["y"])]
    data = model(nodes, {"lowest": np.array(np.finfo(np.float32).min)}, {"y": ["n", 4, 8, 8]})
    x = np.zeros((1, 4, 8, 8), np.float32)
    for precision in ("fp16", "bf16"):
        cast = cast_model(data, precision)
        kept = onnx.load_from_string(cast).graph.initializer[0]
        assert (kept.name, kept.data_type) == ("lowest", TensorProto.FLOAT)
    np.testing.assert_array_equal(answers(cast_model(data, "fp16"), x)[0], 0)


def test_what_only_moves_follows_its_operands() -> None:
    """No casts around a Transpose between two operators of fp32; none between two narrow ones either."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"]),
        helper.make_node("Transpose", ["s"], ["wide"], perm=[0, 1, 3, 2]),
        helper.make_node("Exp", ["wide"], ["e"]),
        helper.make_node("Mul", ["e", "e"], ["m"]),
        helper.make_node("Transpose", ["m"], ["narrow"], perm=[0, 1, 3, 2]),
        helper.make_node("Add", ["narrow", "narrow"], ["y"]),
    ]
    cast = onnx.load_from_string(cast_model(model(nodes, {}, {"y": ["n", 4, 8, 8]}), "fp16"))
    assert [node.op_type for node in cast.graph.node] == [
        "Softmax", "Transpose", "Exp", "Cast", "Mul", "Transpose", "Add", "Cast"
    ]  # fmt: skip
