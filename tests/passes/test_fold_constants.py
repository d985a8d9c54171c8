from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_checks import build, op_types, optimise, optimised, unchanged

from trine.passes import fold_constants
from trine.passes.fold_constants import FoldConstants
from trine.passes.lift_constants import LiftConstants
from trine.passes.pipeline import run_passes
from trine.passes.remove_dead_nodes import RemoveDeadNodes

PASSES = (LiftConstants(), FoldConstants(), LiftConstants(), RemoveDeadNodes())
ONLY = PASSES[:2]
X, Y = "float[4, 4] x", "float[4, 4] y"
W = np.arange(16, dtype=np.float32).reshape(4, 4)


@pytest.mark.parametrize(
    "line",
    [
        "a = Mul(w, w)\n b = Transpose(a)",
        "s = Shape(w)\n f = Cast<to = 1>(s)\n b = ReduceSum<keepdims = 0>(f)",
        "b = MatMul(w, w)",
        "s = Shape<start = 1>(x)\n o = ConstantOfShape<value = float[1] {2.0}>(s)\n b = Exp(o)",
        "i = Constant<value_ints = [0, 2, 1, 3]>()\n b = Gather(w, i)",
    ],
)
def test_folds(line: str) -> None:
    assert op_types(optimised(build(X, Y, f"{line}\n y = Add(x, b)", w=W), *PASSES)) == ["Add"]


def test_a_constant_condition_leaves_one_branch() -> None:
    body = """
        t = Constant<value = bool {1}>()
        a = If(t) <
            then_branch = yes () => (float[n, 4] p) { p = Relu(x) },
            else_branch = no () => (float[n, 4] q) { q = Neg(x) }
        >
        y = Exp(a)
    """
    assert op_types(optimised(build(X, Y, body), *PASSES)) == ["Relu", "Exp"]


def test_refuses_to_grow_the_model() -> None:
    shape = np.array([4096, 4], np.int64)  # 64 KiB, as much as one result may add
    body, out = "b = Expand(one, s)\n y = Add(b, x)", "float[4096, 4] y"
    assert op_types(optimised(build("float[1, 4] x", out, body, s=shape, one=W[0, :1]), *PASSES)) == ["Add"]
    larger = shape + np.array([256, 0])
    assert unchanged(build("float[1, 4] x", "float[4352, 4] y", body, s=larger, one=W[0, :1]), *ONLY)


def test_refuses_to_grow_the_model_many_times() -> None:
    shape = np.array([4096, 4], np.int64)
    lines = [f"b{i} = Expand(one, s)\n e{i} = Add({'x' if i == 0 else f'e{i - 1}'}, b{i})" for i in range(40)]
    body = "\n".join(lines) + "\n y = Relu(e39)"
    model, _ = optimise(build("float[1, 4] x", "float[4096, 4] y", body, s=shape, one=W[0, :1]), *PASSES)
    assert sum(value.const_value.nbytes for value in model.graph.initializers.values()) <= 1.1 * 2**20
    assert op_types(model).count("Expand") > 20


def test_a_result_that_replaces_its_inputs_may_be_large() -> None:
    large = np.ones((512, 256), np.float32)
    proto = build("float[n, 512] x", "float[n, 256] y", "t = Transpose(w)\n y = MatMul(x, t)", w=large.T.copy())
    assert op_types(optimised(proto, *PASSES)) == ["MatMul"]
    body = "t = Transpose(w)\n a = MatMul(x, t)\n b = MatMul(a, w)\n y = Relu(b)"
    proto = build("float[n, 512] x", "float[n, 512] y", body, w=large.T.copy())
    assert unchanged(proto, *ONLY)  # both layouts of the weights would be kept


def test_refuses_costly_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_constants, "WORK_ELEMENTS", 63)
    assert unchanged(build(X, Y, "b = MatMul(w, w)\n y = Add(x, b)", w=W), *ONLY)
    monkeypatch.setattr(fold_constants, "WORK_ELEMENTS", 64)
    assert not unchanged(build(X, Y, "b = MatMul(w, w)\n y = Add(x, b)", w=W), *ONLY)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("b = QuantizeLinear(w, s, z)", "uint8[4, 4] b"),
        ("b = RandomNormalLike(w)", "float[4, 4] b"),
        ("b = Bernoulli(u)", "float[4, 4] b"),
        ("b = Conv(k, k)", "float[1, 1, 1, 1] b"),
    ],
)
def test_refuses_quantised_random_and_costly_operators(line: str, kind: str) -> None:
    constants = {"w": W, "s": np.float32(0.5), "z": np.uint8(3), "u": W / 16, "k": np.ones((1, 1, 2, 2), np.float32)}
    used = {name: array for name, array in constants.items() if name in line.split("= ", 1)[1].split("(")[1]}
    assert unchanged(build(X, f"{Y}, {kind}", f"{line}\n y = Relu(x)", **used), *ONLY)


def test_refuses_what_a_caller_may_override() -> None:
    proto = build(f"{X}, float[4, 4] w", Y, "b = Exp(w)\n y = Add(x, b)", w=W)
    model, _ = optimise(proto, *PASSES)
    assert op_types(model) == ["Exp", "Add"]
    assert model.graph.initializers["w"].is_graph_input()
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), W)


def test_functions_of_another_opset_stay() -> None:
    function = '<domain: "custom", opset_import: ["" : 12]>\n Half (u) => (v) { v = Dropout(u) }'
    proto = build(X, Y, "a = custom.Half(x)\n y = Relu(a)", functions=function)
    model = ir.from_proto(proto)
    run_passes(model, PASSES)
    assert op_types(model) == ["Half", "Relu"]
    (kept,) = model.functions.values()
    assert [node.op_type for node in kept] == ["Dropout"]


def test_a_computed_split_of_a_sequence_stays() -> None:
    body = "q = SplitToSequence<axis = 0>(x, s)\n i = Constant<value_int = 0>()\n y = SequenceAt(q, i)"
    proto = build("float[4, 4] x, int64[2] s", "float[m, 4] y", body)
    model, _ = optimise(proto, *PASSES)
    assert op_types(model) == ["SplitToSequence", "SequenceAt"]
    assert model.graph.outputs[0].dtype == onnx.TensorProto.FLOAT
