from __future__ import annotations

from pass_checks import build, op_types, optimised, unchanged

from trine.passes.fix_reshape_targets import FixReshapeTargets
from trine.passes.fold_constants import FoldConstants
from trine.passes.lift_constants import LiftConstants
from trine.passes.remove_dead_nodes import RemoveDeadNodes

PASSES = (LiftConstants(), FoldConstants(), FixReshapeTargets(), RemoveDeadNodes())


def _targets(body: str, inputs: str, output: str) -> list[int]:
    model = optimised(build(inputs, output, body), *PASSES)
    assert op_types(model) == ["Reshape"]
    (reshape,) = model.graph
    return [int(dim) for dim in reshape.inputs[1].const_value.numpy()]


def test_the_batch_stays_where_it_was() -> None:
    body = (
        "b = Shape<end = 1>(x)\n r = Constant<value_ints = [12, 64]>()\n s = Concat<axis = 0>(b, r)\n y = Reshape(x, s)"
    )
    assert _targets(body, "float[n, 768] x", "float[n, 12, 64] y") == [0, 12, 64]


def test_a_dynamic_dimension_that_moved_is_inferred() -> None:
    body = "b = Shape<end = 1>(x)\n r = Constant<value_ints = [6]>()\n s = Concat<axis = 0>(r, b)\n y = Reshape(x, s)"
    assert _targets(body, "float[n, 6] x", "float[6, n] y") == [6, -1]


def test_two_dynamic_dimensions_of_which_one_stays() -> None:
    inputs, body = "float[n, m, 6] x", "b = Shape<end = 2>(x)\n r = Constant<value_ints = [2, 3]>()\n"
    body += "s = Concat<axis = 0>(b, r)\n y = Reshape(x, s)"
    assert _targets(body, inputs, "float[n, m, 2, 3] y") == [0, 0, 2, 3]


def test_refuses_two_dynamic_dimensions_that_moved() -> None:
    proto = build("float[n, m, 6] x, float[m, n, 6] v", "float[m, n, 6] y", "s = Shape(v)\n y = Reshape(x, s)")
    assert unchanged(proto, LiftConstants(), FoldConstants(), FixReshapeTargets())


def test_refuses_an_unknown_shape() -> None:
    proto = build("float[n, 6] x, int64[k] s", "float[a, b, c] y", "y = Reshape(x, s)")
    assert unchanged(proto, FixReshapeTargets())


def test_refuses_an_empty_dimension() -> None:
    proto = build("float[n, 0] x, float[0, n] v", "float[0, n] y", "s = Shape(v)\n y = Reshape<allowzero = 1>(x, s)")
    assert unchanged(proto, FixReshapeTargets())
