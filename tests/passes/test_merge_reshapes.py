from __future__ import annotations

import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.merge_reshapes import MergeReshapes
from trine.passes.remove_dead_nodes import RemoveDeadNodes

PASSES = (LiftConstants(), MergeReshapes(), RemoveDeadNodes())
X = "float[n, 6, 4] x"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Flatten(x)", "Reshape(a, s)"),
        ("Reshape(x, t)", "Reshape(a, s)"),
        ("Unsqueeze(x, one)", "Reshape(a, s)"),
        ("Unsqueeze(x, one)", "Flatten<axis = 2>(a)"),
    ],
)
def test_two_become_one(first: str, second: str) -> None:
    lines = "s = Constant<value_ints = [-1, 3, 8]>()\n t = Constant<value_ints = [0, 24, 1]>()\n"
    body = f"{lines} one = Constant<value_ints = [1]>()\n a = {first}\n b = {second}\n y = Relu(b)"
    out = "float[n, 24] y" if "Flatten" in second else "float[n, 3, 8] y"
    if "axis = 2" in second:
        out = "float[n, 24] y"
    assert op_types(optimised(build(X, out, body), *PASSES)) == ["Reshape", "Relu"]


def test_inverse_ones_vanish() -> None:
    body = "one = Constant<value_ints = [1]>()\n a = Unsqueeze(x, one)\n b = Squeeze(a, one)\n y = Relu(b)"
    assert op_types(optimised(build(X, "float[n, 6, 4] y", body), *PASSES)) == ["Relu"]


def test_the_first_stays_for_its_other_users() -> None:
    body = "s = Constant<value_ints = [-1, 3, 8]>()\n z = Flatten(x)\n y = Reshape(z, s)"
    model = optimised(build(X, "float[n, 3, 8] y, float[n, 24] z", body), *PASSES)
    assert op_types(model) == ["Flatten", "Reshape"]


def test_refuses_two_dynamic_dimensions_that_moved() -> None:
    body = "s = Shape(v)\n a = Flatten(x)\n y = Reshape(a, s)"
    proto = build("float[n, m, 4] x, float[m, 4, n] v", "float[m, 4, n] y", body)
    assert unchanged(proto, MergeReshapes())


def test_refuses_an_empty_dimension() -> None:
    body = "s = Constant<value_ints = [0, 0, 8]>()\n a = Flatten(x)\n y = Reshape<allowzero = 1>(a, s)"
    assert unchanged(build("float[2, 0] x", "float[0, 0, 8] y", body), LiftConstants(), MergeReshapes())
