from __future__ import annotations

import numpy as np
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.merge_common_subexpressions import MergeCommonSubexpressions

X, Y = "float[n, 4] x", "float[n, 4] y"


def test_merges_chains() -> None:
    body = "a = Sigmoid(x)\n b = Neg(a)\n c = Sigmoid(x)\n d = Neg(c)\n y = Add(b, d)"
    assert op_types(optimised(build(X, Y, body), MergeCommonSubexpressions())) == ["Sigmoid", "Neg", "Add"]


def test_merges_nodes_with_several_outputs() -> None:
    split = "Split<num_outputs = 2, axis = 1>(x)"
    body = f"a, b = {split}\n c, d = {split}\n y = Concat<axis = 1>(a, d)"
    assert op_types(optimised(build(X, Y, body), MergeCommonSubexpressions())) == ["Split", "Concat"]


def test_an_output_keeps_its_name() -> None:
    body = "a = Sigmoid(x)\n z = Neg(a)\n y = Sigmoid(x)"
    model = optimised(build(X, f"{Y}, float[n, 4] z", body), MergeCommonSubexpressions())
    assert op_types(model) == ["Sigmoid", "Neg"]


def test_refuses_two_outputs() -> None:
    proto = build(X, f"{Y}, float[n, 4] z", "z = Sigmoid(x)\n y = Sigmoid(x)")
    assert unchanged(proto, MergeCommonSubexpressions())


def test_refuses_other_attributes_inputs_and_random_operators() -> None:
    body = "a = LeakyRelu<alpha = 0.1>(x)\n b = LeakyRelu<alpha = 0.2>(x)\n y = Sub(a, b)"
    assert unchanged(build(X, Y, body), MergeCommonSubexpressions())
    assert unchanged(
        build(X, Y, "a = Sub(x, z)\n b = Sub(z, x)\n y = Add(a, b)", z=np.float32(1)), MergeCommonSubexpressions()
    )
    body = "a = RandomNormalLike(x)\n b = RandomNormalLike(x)\n y = Sub(a, b)"
    assert unchanged(build(X, Y, body), MergeCommonSubexpressions())
    body = "a = custom.Any(x)\n b = custom.Any(x)\n y = Sub(a, b)"
    function = '<domain: "custom", opset_import: ["" : 23]>\n Any (u) => (v) { v = RandomNormalLike(u) }'
    assert unchanged(build(X, Y, body, functions=function), MergeCommonSubexpressions())


def test_merges_within_a_branch_but_not_across() -> None:
    body = """
        s = Sigmoid(x)
        c = ReduceSum<keepdims = 0>(s)
        t = Greater(c, z)
        y = If(t) <
            then_branch = yes () => (float[n, 4] a) { a1 = Sigmoid(x) a2 = Sigmoid(x) a = Add(a1, a2) },
            else_branch = no () => (float[n, 4] b) { b = Neg(s) }
        >
    """
    model = optimised(build(X, Y, body, z=np.float32(0)), LiftConstants(), MergeCommonSubexpressions())
    branch = list(model.graph)[-1].attributes["then_branch"].as_graph()
    assert [node.op_type for node in branch] == ["Sigmoid", "Add"]
