from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.remove_dead_nodes import RemoveDeadNodes
from trine.passes.remove_identities import RemoveIdentities

X, Y = "float[n, 4] x", "float[n, 4] y"
PASSES = (LiftConstants(), RemoveIdentities())


@pytest.mark.parametrize(
    "line",
    [
        "a = Identity(x)",
        "a = Dropout(x)",
        "a, mask = Dropout(x)",
        "r = Constant<value_float = 0.5>()\n t = Constant<value = bool {0}>()\n a = Dropout(x, r, t)",
        "z = Constant<value_float = 0.0>()\n a = Add(z, x)",
        "z = Constant<value_floats = [0.0]>()\n a = Sub(x, z)",
        "o = Constant<value_float = 1.0>()\n a = Mul(o, x)",
        "o = Constant<value_float = 1.0>()\n a = Div(x, o)",
        "o = Constant<value_float = 1.0>()\n a = Pow(x, o)",
        "a = Cast<to = 1>(x)",
        "a = Transpose<perm = [0, 1]>(x)",
        "a = Concat<axis = 0>(x)",
        "a = Max(x)",
        "p = Constant<value_ints = [0, 0, 0, 0]>()\n a = Pad(x, p)",
        "p = Constant<value_ints = [1, 1]>()\n a = Tile(x, p)",
        "s = Constant<value_ints = [0, 4]>()\n a = Reshape(x, s)",
    ],
)
def test_removes(line: str) -> None:
    model = optimised(build(X, Y, f"{line}\n y = Relu(a)"), *PASSES)
    assert op_types(model) == ["Relu"]


def test_removes_before_an_output_and_keeps_its_name() -> None:
    model = optimised(build(X, Y, "a = Relu(x)\n y = Identity(a)"), *PASSES)
    assert op_types(model) == ["Relu"]


@pytest.mark.parametrize(
    "line",
    [
        "r = Constant<value_float = 0.5>()\n t = Constant<value = bool {1}>()\n a = Dropout(x, r, t)",
        "z = Constant<value_float = 0.0>()\n a = Sub(z, x)",
        "o = Constant<value_float = 1.0>()\n a = Div(o, x)",
        "o = Constant<value_float = 1.0>()\n a = Add(o, x)",
        "a = Cast<to = 10>(x)",
        "a = Transpose<perm = [1, 0]>(x)",
        "p = Constant<value_ints = [0, 1, 0, 0]>()\n a = Pad(x, p)",
        "p = Constant<value_ints = [1, 2]>()\n a = Tile(x, p)",
        "s = Constant<value_ints = [4, -1]>()\n a = Reshape(x, s)",
    ],
)
def test_leaves_what_computes_something(line: str) -> None:
    out = "float16[n, m] y" if "to = 10" in line else "float[n, m] y"
    assert unchanged(build(X, out, f"{line}\n y = Neg(a)"), *PASSES)


def test_refuses_a_neutral_element_that_broadcasts() -> None:
    zeros = np.zeros((1, 1, 1), np.float32)
    assert unchanged(build(X, "float[1, n, 4] y", "a = Add(x, z)\n y = Relu(a)", z=zeros), *PASSES)


def test_refuses_a_mask_that_is_used() -> None:
    proto = build(X, f"{Y}, bool[n, 4] m", "a, m = Dropout(x)\n y = Relu(a)")
    assert unchanged(proto, *PASSES)


def test_refuses_between_an_input_and_an_output() -> None:
    assert unchanged(build(X, Y, "y = Identity(x)"), *PASSES)


def test_refuses_an_output_that_another_output_equals() -> None:
    assert unchanged(build(X, f"{Y}, float[n, 4] z", "y = Relu(x)\n z = Identity(y)"), *PASSES)


def test_refuses_a_slice_of_an_unknown_size() -> None:
    proto = build("float[n, m] x, int64[1] e", "float[k, m] y", "s = Constant<value_ints=[0]>()\n y = Slice(x, s, e)")
    assert unchanged(proto, *PASSES)


def test_keeps_the_identity_of_an_outer_value_in_a_branch() -> None:
    body = """
        c = ReduceSum<keepdims = 0>(x)
        z = Constant<value_float = 0.0>()
        t = Greater(c, z)
        y = If(t) <
            then_branch = yes () => (float[n, 4] a) { a = Identity(x) },
            else_branch = no () => (float[n, 4] b) { i = Identity(x)  b = Neg(i) }
        >
    """
    model = optimised(build(X, Y, body), *PASSES, RemoveDeadNodes())
    branches = next(node for node in model.graph if node.op_type == "If").attributes
    assert [node.op_type for node in branches["then_branch"].as_graph()] == ["Identity"]
    assert [node.op_type for node in branches["else_branch"].as_graph()] == ["Neg"]
