from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.recognise_layer_norm import RecogniseLayerNorm
from trine.passes.recognise_rms_norm import RecogniseRmsNorm

PASSES = (LiftConstants(), RecogniseRmsNorm())
X, Y = "float[n, 5, 8] x", "float[n, 5, 8] y"


def _constants(dtype: type = np.float32) -> dict[str, np.ndarray]:
    return {
        "w": np.linspace(0.5, 2, 8).astype(dtype),
        "e": np.array(1e-3, dtype),
        "two": np.array(2, dtype),
        "one": np.array(1, dtype),
        "minus": np.array(-0.5, dtype),
        "axis": np.array([2], np.int64),
    }


MEAN = "q = Pow(x, two)\n v = ReduceMean(q, axis)\n u = Add(v, e)\n"
DIVIDED = MEAN + "s = Sqrt(u)\n n0 = Div(x, s)\n y = Mul(n0, w)"


def _model(body: str, inputs: str = X, outputs: str = Y, opset: int = 23, **constants: np.ndarray):
    return build(inputs, outputs, body, opset, **(constants or _constants()))


@pytest.mark.parametrize(
    "body",
    [
        DIVIDED,
        MEAN + "s = Sqrt(u)\n r = Reciprocal(s)\n n0 = Mul(x, r)\n y = Mul(w, n0)",
        MEAN + "s = Sqrt(u)\n r = Div(one, s)\n n0 = Mul(x, r)\n y = Mul(w, n0)",
        MEAN + "r = Pow(u, minus)\n n0 = Mul(r, x)\n y = Mul(w, n0)",
        DIVIDED.replace("Pow(x, two)", "Mul(x, x)"),
        DIVIDED.replace("n0 =", "y =").replace("\n y = Mul(n0, w)", ""),
    ],
)
def test_recognises(body: str) -> None:
    model = optimised(_model(body), *PASSES)
    assert op_types(model) == ["RMSNormalization"]


def test_half_precision() -> None:
    proto = _model(DIVIDED, X.replace("float", "float16"), Y.replace("float", "float16"), **_constants(np.float16))
    assert op_types(optimised(proto, *PASSES, tolerance=3e-3)) == ["RMSNormalization"]


def test_the_default_list_prefers_layer_normalisation() -> None:
    body = "m = ReduceMean(x, axis)\n c = Sub(x, m)\n" + DIVIDED.replace("(x,", "(c,")
    model = optimised(_model(body), LiftConstants(), RecogniseLayerNorm(), RecogniseRmsNorm())
    assert op_types(model) == ["LayerNormalization"]


@pytest.mark.parametrize("name", ["v", "s"])
def test_refuses_a_part_that_is_an_output(name: str) -> None:
    assert unchanged(_model(DIVIDED, outputs=f"{Y}, float[n, 5, 1] {name}"), *PASSES)


def test_refuses_a_part_that_others_use() -> None:
    assert unchanged(_model(DIVIDED + "\n z = Exp(q)", outputs=f"{Y}, float[n, 5, 8] z"), *PASSES)


def test_refuses_a_dynamic_axis() -> None:
    body = DIVIDED.replace("n0 =", "y =").replace("\n y = Mul(n0, w)", "")
    assert unchanged(_model(body, "float[n, 5, m] x", "float[n, 5, m] y"), *PASSES)


def test_refuses_another_axis_another_tensor_and_another_power() -> None:
    assert unchanged(_model(DIVIDED, **(_constants() | {"axis": np.array([1], np.int64)})), *PASSES)
    assert unchanged(_model(DIVIDED.replace("Div(x, s)", "Div(q, s)")), *PASSES)
    assert unchanged(_model(DIVIDED, **(_constants() | {"two": np.float32(4)})), *PASSES)


def test_refuses_doubles_and_older_opsets() -> None:
    doubles = (X.replace("float", "double"), Y.replace("float", "double"))
    assert unchanged(_model(DIVIDED, *doubles, **_constants(np.float64)), *PASSES)
    assert unchanged(_model(DIVIDED, opset=22), *PASSES)
