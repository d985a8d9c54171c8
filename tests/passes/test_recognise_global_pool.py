from __future__ import annotations

import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.recognise_global_pool import RecogniseGlobalPool

PASSES = (LiftConstants(), RecogniseGlobalPool())
X = "float[n, 3, 8, 9] x"


def _mean(axes: str, attributes: str = "") -> str:
    return f"a = Constant<value_ints = [{axes}]>()\n y = ReduceMean{attributes}(x, a)"


@pytest.mark.parametrize("axes", ["2, 3", "3, 2", "-1, -2", "2, -1"])
def test_a_mean_over_the_spatial_axes(axes: str) -> None:
    model = optimised(build(X, "float[n, 3, 1, 1] y", _mean(axes)), *PASSES)
    assert op_types(model) == ["GlobalAveragePool"]


@pytest.mark.parametrize(
    ("inputs", "output", "axes"),
    [("float[n, 3, l] x", "float[n, 3, 1] y", "2"), ("float[n, 3, d, h, w] x", "float[n, 3, 1, 1, 1] y", "2, 3, 4")],
)
def test_of_any_number_of_spatial_axes(inputs: str, output: str, axes: str) -> None:
    assert op_types(optimised(build(inputs, output, _mean(axes)), *PASSES)) == ["GlobalAveragePool"]


@pytest.mark.parametrize(
    ("inputs", "output", "body"),
    [
        (X, "float[n, 3] y", _mean("2, 3", "<keepdims = 0>")),
        (X, "float[n, 3, 1, 9] y", _mean("2")),
        (X, "float[n, 1, 1, 1] y", _mean("1, 2, 3")),
        (X, "float[1, 3, 1, 1] y", _mean("0, 2, 3")),
        ("float[n, 3] x", "float[n, 1] y", _mean("1")),
        (X, "float[1, 1, 1, 1] y", "y = ReduceMean(x)"),
        (X, "float[n, 3, 1, 1] y", "a = Constant<value_ints = [2, 3]>()\n y = ReduceSum(x, a)"),
        ("int32[n, 3, 8, 9] x", "int32[n, 3, 1, 1] y", _mean("2, 3")),
        ("double[n, 3, 8, 9] x", "double[n, 3, 1, 1] y", _mean("2, 3")),
    ],
)
def test_anything_else_stays(inputs: str, output: str, body: str) -> None:
    unchanged(build(inputs, output, body), *PASSES)
