from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.recognise_activations import RecogniseActivations

PASSES = (LiftConstants(), RecogniseActivations())
X, Y = "float[n, 64] x", "float[n, 64] y"
NUMBERS = {"half": 0.5, "one": 1.0, "zero": 0.0, "three": 3.0, "six": 6.0, "two": 2.0, "sixth": 1 / 6}
GELU_NUMBERS = {"root": 2**0.5, "inverse": 2**-0.5, "k": 0.044715, "s": (2 / np.pi) ** 0.5}


def _model(lines: str, inputs: str = X, outputs: str = Y, opset: int = 23, dtype: type = np.float32):
    constants = {
        name: np.array(number, dtype) for name, number in (NUMBERS | GELU_NUMBERS).items() if f"{name}" in lines
    }
    return build(inputs, outputs, lines.replace(";", "\n"), opset, **constants)


GELU = "a = Div(x, root); b = Erf(a); c = Add(b, one); d = Mul(x, c); y = Mul(d, half)"
GELU_TANH = """a = Pow(x, three); b = Mul(k, a); c = Add(x, b); d = Mul(c, s); e = Tanh(d); f = Add(one, e);
    g = Mul(half, x); y = Mul(g, f)"""
HARD_SWISH = "a = Add(x, three); b = Clip(a, zero, six); c = Mul(x, b); y = Div(c, six)"
SILU = "a = Neg(x); b = Exp(a); c = Add(b, one); y = Div(x, c)"


@pytest.mark.parametrize(
    "lines",
    [
        GELU,
        "a = Mul(inverse, x); b = Erf(a); c = Add(one, b); d = Mul(c, half); y = Mul(d, x)",
        "a = Mul(x, inverse); b = Erf(a); c = Mul(b, half); d = Add(c, half); y = Mul(x, d)",
    ],
)
def test_gelu(lines: str) -> None:
    model = optimised(_model(lines), *PASSES)
    assert op_types(model) == ["Gelu"]
    assert "approximate" not in next(iter(model.graph)).attributes


@pytest.mark.parametrize(
    "lines",
    [
        GELU_TANH,
        "t = Mul(x, x); u = Mul(t, k); v = Add(u, one); w = Mul(x, s); z = Mul(w, v); e = Tanh(z);"
        "f = Add(e, one); g = Mul(x, half); y = Mul(g, f)",
    ],
)
def test_gelu_tanh(lines: str) -> None:
    model = optimised(_model(lines), *PASSES)
    assert op_types(model) == ["Gelu"]
    assert next(iter(model.graph)).attributes["approximate"].as_string() == "tanh"


@pytest.mark.parametrize(
    "lines",
    [
        HARD_SWISH,
        "a = Add(x, three); b = Clip(a, zero, six); c = Div(b, six); y = Mul(x, c)",
        "a = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x); y = Mul(a, x)",
        "a = Add(three, x); b = Max(a, zero); c = Min(b, six); d = Mul(c, sixth); y = Mul(x, d)",
    ],
)
def test_hard_swish(lines: str) -> None:
    assert op_types(optimised(_model(lines), *PASSES)) == ["HardSwish"]


@pytest.mark.parametrize("lines", [SILU, "a = Neg(x); b = Exp(a); c = Add(one, b); d = Div(one, c); y = Mul(d, x)"])
def test_silu(lines: str) -> None:
    assert op_types(optimised(_model(lines), *PASSES)) == ["Sigmoid", "Mul"]


def test_silu_in_the_wanted_form_stays() -> None:
    assert unchanged(_model("a = Sigmoid(x); y = Mul(a, x)"), *PASSES)


def test_follows_what_is_before_and_after() -> None:
    lines = (
        "v = Mul(x, two); a = Div(v, root); b = Erf(a); c = Add(b, one); d = Mul(v, c); e = Mul(d, half); y = Neg(e)"
    )
    assert op_types(optimised(_model(lines), *PASSES)) == ["Mul", "Gelu", "Neg"]


def test_half_precision() -> None:
    lines, inputs, outputs = GELU, "float16[n, 64] x", "float16[n, 64] y"
    model = optimised(_model(lines, inputs, outputs, dtype=np.float16), *PASSES, tolerance=2e-3)
    assert op_types(model) == ["Gelu"]
    assert "approximate" not in next(iter(model.graph)).attributes


@pytest.mark.parametrize(
    "lines",
    [
        GELU.replace("half)", "one)"),  # twice GELU
        GELU.replace("root", "two"),
        GELU_TANH.replace("k, a", "half, a"),
        HARD_SWISH.replace("three", "two"),
        "a = HardSigmoid(x); y = Mul(a, x)",  # alpha is 0.2
        "a = Mul(x, two); b = Sigmoid(a); y = Mul(b, x)",
    ],
)
def test_refuses_other_functions(lines: str) -> None:
    assert unchanged(_model(lines), *PASSES)


@pytest.mark.parametrize("name", ["b", "d"])
def test_refuses_a_part_that_is_an_output(name: str) -> None:
    assert unchanged(_model(GELU, outputs=f"{Y}, float[n, 64] {name}"), *PASSES)


def test_refuses_a_part_that_others_use() -> None:
    assert unchanged(_model(GELU + "; z = Exp(c)", outputs=f"{Y}, float[n, 64] z"), *PASSES)


def test_refuses_two_tensors() -> None:
    lines = "a = Div(x, root); b = Erf(a); c = Add(b, one); d = Mul(v, c); y = Mul(d, half)"
    assert unchanged(_model(lines, f"{X}, float[n, 64] v"), *PASSES)


def test_refuses_doubles() -> None:
    assert unchanged(_model(SILU, "double[n, 64] x", "double[n, 64] y", dtype=np.float64), *PASSES)


def test_refuses_a_number_of_higher_rank() -> None:
    proto = build("float[4] x", "float[1, 4] y", SILU.replace(";", "\n"), one=np.ones((1, 1), np.float32))
    assert unchanged(proto, *PASSES)


def test_refuses_an_opset_without_the_operator() -> None:
    assert unchanged(_model(GELU, opset=19), *PASSES)


def test_takes_dynamic_dimensions_and_numbers_of_rank_one() -> None:
    proto = build("float[n, m] x", "float[n, m] y", SILU.replace(";", "\n"), one=np.ones(1, np.float32))
    assert op_types(optimised(proto, *PASSES)) == ["Sigmoid", "Mul"]
