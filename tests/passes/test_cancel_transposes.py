from __future__ import annotations

from pass_checks import build, op_types, optimised, unchanged

from trine.passes.cancel_transposes import CancelTransposes
from trine.passes.remove_dead_nodes import RemoveDeadNodes

PASSES = (CancelTransposes(), RemoveDeadNodes())
X = "float[n, 2, 3, 4] x"


def test_inverse_ones_vanish() -> None:
    body = "a = Transpose<perm = [0, 2, 3, 1]>(x)\n b = Transpose<perm = [0, 3, 1, 2]>(a)\n y = Relu(b)"
    assert op_types(optimised(build(X, "float[n, 2, 3, 4] y", body), *PASSES)) == ["Relu"]


def test_others_merge() -> None:
    body = "a = Transpose<perm = [0, 2, 3, 1]>(x)\n y = Transpose<perm = [1, 0, 3, 2]>(a)"
    model = optimised(build(X, "float[3, n, 2, 4] y", body), *PASSES)
    assert [list(node.attributes["perm"].as_ints()) for node in model.graph] == [[2, 0, 1, 3]]


def test_three_in_a_row_merge() -> None:
    lines = "a = Transpose<perm = [0, 2, 3, 1]>(x)\n b = Transpose<perm = [0, 2, 3, 1]>(a)\n"
    body = f"{lines} c = Transpose<perm = [0, 2, 3, 1]>(b)\n y = Relu(c)"
    assert op_types(optimised(build(X, "float[n, 2, 3, 4] y", body), *PASSES)) == ["Relu"]


def test_without_perm_reverses() -> None:
    body = "a = Transpose(x)\n b = Transpose<perm = [3, 2, 1, 0]>(a)\n y = Relu(b)"
    assert op_types(optimised(build(X, "float[n, 2, 3, 4] y", body), *PASSES)) == ["Relu"]


def test_the_first_stays_for_its_other_users() -> None:
    lines = "a = Transpose<perm = [0, 2, 3, 1]>(x)\n b = Transpose<perm = [0, 3, 1, 2]>(a)\n"
    body = f"{lines} y = Relu(b)\n z = Neg(a)"
    model = optimised(build(X, "float[n, 2, 3, 4] y, float[n, 3, 4, 2] z", body), *PASSES)
    assert op_types(model) == ["Transpose", "Relu", "Neg"]


def test_the_first_stays_as_an_output() -> None:
    lines = "z = Transpose<perm = [0, 2, 3, 1]>(x)\n"
    body = f"{lines} b = Transpose<perm = [0, 3, 1, 2]>(z)\n y = Relu(b)"
    model = optimised(build(X, "float[n, 2, 3, 4] y, float[n, 3, 4, 2] z", body), *PASSES)
    assert op_types(model) == ["Transpose", "Relu"]


def test_refuses_where_an_input_would_become_an_output() -> None:
    body = "a = Transpose<perm = [0, 2, 3, 1]>(x)\n y = Transpose<perm = [0, 3, 1, 2]>(a)"
    assert unchanged(build(X, "float[n, 2, 3, 4] y", body), CancelTransposes())


def test_refuses_what_stands_between() -> None:
    body = "a = Transpose<perm = [0, 2, 3, 1]>(x)\n s = Softmax(a)\n y = Transpose<perm = [0, 3, 1, 2]>(s)"
    assert unchanged(build(X, "float[n, 2, 3, 4] y", body), CancelTransposes())
