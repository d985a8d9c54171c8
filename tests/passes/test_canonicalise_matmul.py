from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.canonicalise_matmul import CanonicaliseMatMul

X, Y = "float[n, 5] x", "float[n, 6] y"
W = np.random.default_rng(4).standard_normal((5, 6)).astype(np.float32)


def _ones(*shape: int) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1,), (), (1, 1)])
@pytest.mark.parametrize("line", ["Add(a, b)", "Add(b, a)"])
def test_makes_a_gemm(line: str, shape: tuple[int, ...]) -> None:
    proto = build(X, Y, f"a = MatMul(x, w)\n y = {line}", w=W, b=_ones(*shape))
    assert op_types(optimised(proto, CanonicaliseMatMul())) == ["Gemm"]


def test_takes_activations_as_weights_and_bias() -> None:
    proto = build(f"{X}, float[5, 6] w, float[6] b", Y, "a = MatMul(x, w)\n y = Add(a, b)")
    assert op_types(optimised(proto, CanonicaliseMatMul())) == ["Gemm"]


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ("float[1, 5] x, float[3, 6] b", "float[3, 6] y"),  # the bias broadcasts the product
        ("float[n, 5] x, float[m, 6] b", "float[k, 6] y"),  # it might
        ("float[n, 5] x, float[2, n, 6] b", "float[2, n, 6] y"),
        ("float[n, 4, 5] x, float[6] b", "float[n, 4, 6] y"),
        ("float[5] x, float[6] b", "float[6] y"),
    ],
    ids=["broadcasts", "dynamic", "higher rank", "three dimensions", "vector"],
)
def test_refuses(inputs: str, output: str) -> None:
    assert unchanged(build(inputs, output, "a = MatMul(x, w)\n y = Add(a, b)", w=W), CanonicaliseMatMul())


def test_refuses_integers() -> None:
    constants = {"w": W.astype(np.int32), "b": np.ones(6, np.int32)}
    proto = build("int32[n, 5] x", "int32[n, 6] y", "a = MatMul(x, w)\n y = Add(a, b)", **constants)
    assert unchanged(proto, CanonicaliseMatMul())


def test_refuses_a_product_that_others_use_or_that_is_an_output() -> None:
    body = "a = MatMul(x, w)\n y = Add(a, b)"
    assert unchanged(build(X, f"{Y}, float[n, 6] a", body, w=W, b=_ones(6)), CanonicaliseMatMul())
    body += "\n z = Relu(a)"
    assert unchanged(build(X, f"{Y}, float[n, 6] z", body, w=W, b=_ones(6)), CanonicaliseMatMul())
