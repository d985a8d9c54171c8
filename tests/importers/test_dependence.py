"""An output that lost an input is an error; an input that nothing reads is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from trine.errors import ModelImportError
from trine.importers.dependence import check_dependence, influences

Arrays = dict[str, np.ndarray]
INPUTS = {"x": np.arange(4, dtype=np.float32), "y": np.ones(4, dtype=np.float32)}


def graph(text: str) -> ir.Model:
    return ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 20]>\n{text}')


FROZEN = """g (float[N] x, float[N] y) => (float[N] out) {
    zero = Sub(y, y)
    n = Shape(x)
    out = Expand(zero, n)
}"""


def test_paths_through_shapes_do_not_count() -> None:
    assert influences(graph(FROZEN)) == {"out": {"y"}}


def test_subgraphs_are_looked_into() -> None:
    model = graph(
        "g (bool c, float[2] x, float[2] y) => (float[2] out) {"
        " out = If (c) <then_branch = a () => (float[2] p) { p = Neg(x) },"
        " else_branch = b () => (float[2] q) { q = Identity(y) }> }"
    )
    assert influences(model) == {"out": {"c", "x", "y"}}


def test_a_lost_dependence_is_an_error() -> None:
    def eager(inputs: Mapping[str, np.ndarray]) -> Arrays:
        return {"out": inputs["x"] - inputs["y"]}

    with pytest.raises(ModelImportError, match=r"output 'out' on input 'x'.*freezes.*: by my converter"):
        check_dependence(graph(FROZEN), eager, INPUTS, ": by my converter")


def test_an_input_that_eager_ignores_too_is_legal() -> None:
    calls = []

    def eager(inputs: Mapping[str, np.ndarray]) -> Arrays:
        calls.append(inputs)
        return {"out": inputs["y"] - inputs["y"] + 0 * np.zeros_like(inputs["x"])}

    check_dependence(graph(FROZEN), eager, INPUTS)
    assert len(calls) > 1


def test_nothing_is_run_when_every_path_is_there() -> None:
    def eager(inputs: Mapping[str, np.ndarray]) -> Arrays:
        raise AssertionError("not needed")

    check_dependence(graph("g (float[N] x, float[N] y) => (float[N] out) { out = Add(x, y) }"), eager, INPUTS)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 1, 1], np.int64),
        np.array([0, 3, 5], np.int32),
        np.array([True, True]),
        np.zeros(3, np.float32),
        np.array([], np.float32),
    ],
)
def test_perturbations_stay_inside_integer_ranges(values: np.ndarray) -> None:
    def eager(inputs: Mapping[str, np.ndarray]) -> Arrays:
        if values.dtype.kind in "iu":
            assert inputs["x"].min() >= values.min()
            assert inputs["x"].max() <= values.max()
        return {"out": inputs["y"]}

    check_dependence(graph(FROZEN), eager, {**INPUTS, "x": values})
