from __future__ import annotations

from pass_checks import build, op_types, optimise, optimised, unchanged

from trine.passes.lift_constants import LiftConstants

X, Y = "float[n, 4] x", "float[n, 4] y"


def test_lifts_every_kind() -> None:
    body = """
        a = Constant<value_floats = [1.0, 2.0, 3.0, 4.0]>()
        b = Constant<value_float = 2.0>()
        c = Constant<value = float[1] {3.0}>()
        s = Constant<value_ints = [0, 4]>()
        p = Add(x, a)  q = Mul(p, b)  r = Sub(q, c)  y = Reshape(r, s)
    """
    model = optimised(build(X, Y, body), LiftConstants())
    assert op_types(model) == ["Add", "Mul", "Sub", "Reshape"]
    assert len(model.graph.initializers) == 4


def test_lifts_out_of_branches_that_use_the_same_names() -> None:
    body = """
        c = ReduceSum<keepdims = 0>(x)
        t = Cast<to = 9>(c)
        y = If(t) <
            then_branch = yes () => (float[n, 4] a) { k = Constant<value_float = 2.0>() a = Mul(x, k) },
            else_branch = no () => (float[n, 4] b) { k = Constant<value_float = 3.0>() b = Mul(x, k) }
        >
    """
    model = optimised(build(X, Y, body), LiftConstants())
    assert sorted(float(value.const_value.numpy()) for value in model.graph.initializers.values()) == [2.0, 3.0]


def test_a_constant_that_is_an_output_stays() -> None:
    assert unchanged(build(X, f"{Y}, float z", "y = Relu(x)\n z = Constant<value_float = 1.0>()"), LiftConstants())


def test_constants_stay_inside_a_subgraph_of_an_unknown_operator() -> None:
    body = """
        y = custom.Map(x) <
            step = each (float[4] row) => (float[4] out) { k = Constant<value_float = 2.0>() out = Mul(row, k) }
        >
    """
    model, _ = optimise(build(X, Y, body), LiftConstants())
    assert not model.graph.initializers
    (node,) = model.graph
    assert list(node.attributes["step"].as_graph().initializers) == ["k"]
