from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.merge_common_subexpressions import MergeCommonSubexpressions
from trine.passes.recognise_layer_norm import RecogniseLayerNorm

PASSES = (LiftConstants(), MergeCommonSubexpressions(), RecogniseLayerNorm())
X, Y = "float[n, 5, 8] x", "float[n, 5, 8] y"
RNG = np.random.default_rng(5)


def _constants(dtype: type = np.float32, *shape: int) -> dict[str, np.ndarray]:
    shape = shape or (8,)
    return {
        "w": RNG.uniform(0.5, 2, shape).astype(dtype),
        "b": RNG.standard_normal(shape).astype(dtype),
        "e": np.array(1e-3, dtype),
        "two": np.array(2, dtype),
        "minus": np.array(-0.5, dtype),
        "axis": np.array([-1], np.int64),
        "axes": np.array([1, 2], np.int64),
    }


CORE = """m = ReduceMean(x, axis)
 d = Sub(x, m)
 q = Mul(d, d)
 v = ReduceMean(q, axis)
 u = Add(v, e)
 s = Sqrt(u)
 n0 = Div(d, s)
"""
TAIL = "n1 = Mul(n0, w)\n y = Add(n1, b)"


def _model(body: str, inputs: str = X, outputs: str = Y, opset: int = 23, **constants: np.ndarray):
    return build(inputs, outputs, body, opset, **(constants or _constants()))


@pytest.mark.parametrize(
    "body",
    [
        CORE + TAIL,
        CORE + "n1 = Mul(w, n0)\n y = Add(b, n1)",
        CORE.replace("Mul(d, d)", "Pow(d, two)") + TAIL,
        CORE.replace("n0 = Div(d, s)", "r = Reciprocal(s)\n n0 = Mul(r, d)") + TAIL,
        CORE.replace("s = Sqrt(u)\n n0 = Div(d, s)", "s = Pow(u, minus)\n n0 = Mul(d, s)") + TAIL,
        CORE.replace("Add(v, e)", "Add(e, v)") + TAIL,
        CORE.replace("q = Mul(d, d)", "d2 = Sub(x, m)\n q = Mul(d2, d2)") + TAIL,  # merged first
        CORE + "y = Mul(n0, w)",
        CORE.replace("n0 =", "y ="),
        CORE.replace("axis", "axes").replace("n0 =", "y ="),
    ],
)
def test_recognises(body: str) -> None:
    model = optimised(_model(body), *PASSES)
    assert op_types(model) == ["LayerNormalization"]
    (node,) = model.graph
    assert node.attributes["axis"].as_int() == (-2 if "axes" in body else -1)
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-3)
    assert len(node.inputs) == (3 if "Add(n1" in body or "Add(b" in body else 2)


def test_half_precision() -> None:
    proto = _model(CORE + TAIL, X.replace("float", "float16"), Y.replace("float", "float16"), **_constants(np.float16))
    assert op_types(optimised(proto, *PASSES, tolerance=3e-3)) == ["LayerNormalization"]


def test_leaves_a_scale_of_another_shape_outside() -> None:
    constants = _constants() | {"w": np.ones((5, 1), np.float32)}
    assert op_types(optimised(_model(CORE + TAIL, **constants), *PASSES)) == ["LayerNormalization", "Mul", "Add"]


def test_leaves_a_shared_result_outside() -> None:
    proto = _model(CORE + TAIL + "\n z = Relu(n0)", outputs=f"{Y}, float[n, 5, 8] z")
    assert op_types(optimised(proto, *PASSES)) == ["LayerNormalization", "Mul", "Add", "Relu"]


@pytest.mark.parametrize("name", ["d", "v", "s"])
def test_refuses_a_part_that_is_an_output(name: str) -> None:
    shape = "5, 8" if name == "d" else "5, 1"
    assert unchanged(_model(CORE + TAIL, outputs=f"{Y}, float[n, {shape}] {name}"), *PASSES)


def test_refuses_a_part_that_others_use() -> None:
    proto = _model(CORE + TAIL + "\n z = Relu(d)", outputs=f"{Y}, float[n, 5, 8] z")
    assert unchanged(proto, *PASSES)


def test_refuses_another_axis() -> None:
    constants = _constants() | {"axis": np.array([1], np.int64)}
    assert unchanged(_model(CORE + TAIL, **constants), *PASSES)


def test_refuses_different_axes() -> None:
    body = CORE.replace("ReduceMean(x, axis)", "ReduceMean(x, axes)") + TAIL
    assert unchanged(_model(body), *PASSES)


def test_refuses_a_dynamic_axis() -> None:
    proto = _model(CORE.replace("n0 =", "y ="), "float[n, 5, m] x", "float[n, 5, m] y")
    assert unchanged(proto, *PASSES)


def test_refuses_another_mean() -> None:
    body = CORE.replace("m = ReduceMean(x, axis)", "o = Relu(x)\n m = ReduceMean(o, axis)") + TAIL
    assert unchanged(_model(body), *PASSES)


def test_refuses_doubles() -> None:
    proto = _model(CORE + TAIL, X.replace("float", "double"), Y.replace("float", "double"), **_constants(np.float64))
    assert unchanged(proto, *PASSES)
