from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.fold_matmul_scale import FoldMatMulScale

RNG = np.random.default_rng(3)
X, Y = "float[n, 5, 4] x", "float[n, 5, 6] y"


def _array(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


CONSTANTS = {"w": _array(4, 6), "b": _array(6), "k": _array(6)}


@pytest.mark.parametrize("line", ["Mul(d, k)", "Mul(k, d)", "Div(d, k)"])
@pytest.mark.parametrize("bias", ["Add(a, b)", "Add(b, a)", None])
def test_folds_into_weights_and_bias(bias: str | None, line: str) -> None:
    body = f"a = MatMul(x, w)\n d = {bias}\n y = {line}" if bias else f"d = MatMul(x, w)\n y = {line}"
    model = optimised(build(X, Y, body, **CONSTANTS), FoldMatMulScale())
    assert op_types(model) == (["MatMul", "Add"] if bias else ["MatMul"])


def test_looks_through_a_transpose() -> None:
    body = "a = MatMul(x, w)\n d = Add(a, b)\n t = Transpose<perm = [0, 2, 1]>(d)\n e = Mul(t, k)\n y = Relu(e)"
    proto = build(X, "float[n, 6, 5] y", body, **{**CONSTANTS, "k": _array(6, 1)})
    assert op_types(optimised(proto, FoldMatMulScale())) == ["MatMul", "Add", "Transpose", "Relu"]


def test_refuses_a_factor_along_another_axis() -> None:
    assert unchanged(build(X, Y, "a = MatMul(x, w)\n y = Mul(a, k)", w=_array(4, 6), k=_array(5, 1)), FoldMatMulScale())


@pytest.mark.parametrize("output", ["a", "d"])
def test_refuses_a_product_that_is_an_output(output: str) -> None:
    body = "a = MatMul(x, w)\n d = Add(a, b)\n y = Mul(d, k)"
    assert unchanged(build(X, f"{Y}, float[n, 5, 6] {output}", body, **CONSTANTS), FoldMatMulScale())


def test_refuses_shared_weights_and_a_shared_product() -> None:
    body = "a = MatMul(x, w)\n c = Mul(a, k)\n e = MatMul(x, w)\n y = Add(c, e)"
    assert unchanged(build(X, Y, body, **CONSTANTS), FoldMatMulScale())
    body = "a = MatMul(x, w)\n c = Mul(a, k)\n y = Add(c, a)"
    assert unchanged(build(X, Y, body, **CONSTANTS), FoldMatMulScale())


def test_refuses_weights_that_are_an_input() -> None:
    assert unchanged(
        build(f"{X}, float[4, 6] w", Y, "a = MatMul(x, w)\n y = Mul(a, k)", k=_array(6)), FoldMatMulScale()
    )


def test_refuses_two_activations() -> None:
    proto = build(f"{X}, float[n, 4, 6] v", Y, "a = MatMul(x, v)\n y = Mul(a, k)", k=_array(6))
    assert unchanged(proto, FoldMatMulScale())
