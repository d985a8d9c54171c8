from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.fold_affine import FoldAffine

RNG = np.random.default_rng(2)
X, Y = "float[n, 4, 6, 6] x", "float[n, 6, h, k] y"


def _array(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize(
    "line", ["Mul(a, k)", "Mul(k, a)", "Div(a, k)", "Add(a, k)", "Add(k, a)", "Sub(a, k)", "Sub(k, a)"]
)
def test_folds_into_a_convolution(line: str, shape: tuple[int, ...]) -> None:
    proto = build(X, Y, f"a = Conv(x, w, b)\n y = {line}", w=_array(6, 4, 3, 3), b=_array(6), k=_array(*shape))
    assert op_types(optimised(proto, FoldAffine())) == ["Conv"]


def test_folds_one_after_another() -> None:
    body = "a = Conv<group = 2>(x, w)\n d = Mul(a, k)\n e = Add(d, s)\n f = Div(e, t)\n y = Sub(o, f)"
    constants = {"w": _array(6, 2, 3, 3), "k": _array(6, 1, 1), "s": _array(1, 6, 1, 1), "t": _array(), "o": _array(1)}
    assert op_types(optimised(build(X, Y, body, **constants), FoldAffine())) == ["Conv"]


def test_folds_into_transposed_convolutions_and_gemm() -> None:
    body = "a = ConvTranspose<group = 2>(x, w, b)\n y = Mul(a, k)"
    proto = build(X, Y, body, w=_array(4, 3, 2, 2), b=_array(6), k=_array(6, 1, 1))
    assert op_types(optimised(proto, FoldAffine())) == ["ConvTranspose"]
    body = "a = Gemm<transB = 1, beta = 0.5>(x, w, b)\n d = Mul(a, k)\n y = Add(d, s)"
    constants = {"w": _array(6, 5), "b": _array(6), "k": _array(6), "s": _array(1, 6)}
    assert op_types(optimised(build("float[n, 5] x", "float[n, 6] y", body, **constants), FoldAffine())) == ["Gemm"]


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("Div(k, a)", ()),
        ("Mul(a, k)", (4,)),  # differs along the width
        ("Mul(a, k)", (4, 1)),
        ("Mul(a, k)", (2, 1, 1, 1)),
        ("Mul(a, k)", (1, 1, 1, 1, 1)),  # gives the result a fifth dimension
        ("Pow(a, k)", ()),
    ],
)
def test_refuses(line: str, shape: tuple[int, ...]) -> None:
    out = "float[m, n, 6, h, k] y" if len(shape) == 5 else Y
    proto = build(X.replace("n", "2"), out, f"a = Conv(x, w)\n y = {line}", w=_array(6, 4, 3, 3), k=_array(*shape))
    assert unchanged(proto, FoldAffine())


def test_refuses_a_factor_that_makes_one_channel_many() -> None:
    proto = build(X, Y, "a = Conv(x, w)\n y = Mul(a, k)", w=_array(1, 4, 3, 3), k=_array(6, 1, 1))
    assert unchanged(proto, FoldAffine())


def test_refuses_division_by_zero_and_overflow() -> None:
    for line, factor in (("Div(a, k)", 0.0), ("Mul(a, k)", 1e38)):
        constants = {"w": _array(6, 4, 3, 3) * 100, "k": np.float32(factor)}
        assert unchanged(build(X, Y, f"a = Conv(x, w)\n y = {line}", **constants), FoldAffine())


def test_refuses_a_result_that_others_use() -> None:
    body = "a = Conv(x, w)\n y = Mul(a, k)\n z = Relu(a)"
    assert unchanged(build(X, f"{Y}, float[n, 6, h, k] z", body, w=_array(6, 4, 3, 3), k=_array()), FoldAffine())


def test_refuses_a_result_that_is_an_output() -> None:
    body = "a = Conv(x, w)\n y = Mul(a, k)"
    assert unchanged(build(X, f"{Y}, float[n, 6, h, k] a", body, w=_array(6, 4, 3, 3), k=_array()), FoldAffine())


def test_refuses_a_factor_that_is_an_input() -> None:
    proto = build(f"{X}, float[6, 1, 1] k", Y, "a = Conv(x, w)\n y = Mul(a, k)", w=_array(6, 4, 3, 3))
    assert unchanged(proto, FoldAffine())


def test_refuses_integers() -> None:
    body = "a = ConvInteger(x, w)\n y = Mul(a, k)"
    constants = {"w": np.ones((6, 4, 3, 3), np.uint8), "k": np.int32(2)}
    assert unchanged(build("uint8[n, 4, 6, 6] x", "int32[n, 6, h, k] y", body, **constants), FoldAffine())


def test_refuses_a_bias_that_differs_by_row() -> None:
    constants = {"w": _array(5, 6), "b": _array(3, 1), "k": _array()}
    proto = build("float[3, 5] x", "float[3, 6] y", "a = Gemm(x, w, b)\n y = Mul(a, k)", **constants)
    assert unchanged(proto, FoldAffine())
