from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.fold_batch_norm import FoldBatchNorm

RNG = np.random.default_rng(1)


def _parameters(channels: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    return {
        "s": RNG.uniform(0.5, 2, channels).astype(dtype),
        "c": RNG.standard_normal(channels).astype(dtype),
        "m": RNG.standard_normal(channels).astype(dtype),
        "v": RNG.uniform(0.1, 3, channels).astype(dtype),
    }


def _weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X, Y = "float[n, 4, 6, 6] x", "float[n, 6, h, k] y"
NORM = "y = BatchNormalization<epsilon = 0.001>(a, s, c, m, v)"


@pytest.mark.parametrize(
    ("line", "shape", "bias"),
    [
        ("Conv(x, w)", (6, 4, 3, 3), False),
        ("Conv<group = 2, pads = [1, 1, 1, 1]>(x, w, b)", (6, 2, 3, 3), True),
        ("ConvTranspose<strides = [2, 2]>(x, w, b)", (4, 6, 2, 2), True),
        ("ConvTranspose<group = 2>(x, w)", (4, 3, 3, 3), False),
    ],
)
def test_folds_into_convolutions(line: str, shape: tuple[int, ...], bias: bool) -> None:
    constants = {"w": _weights(*shape), **_parameters(6)} | ({"b": _weights(6)} if bias else {})
    model = optimised(build(X, Y, f"a = {line}\n {NORM}", **constants), FoldBatchNorm())
    assert op_types(model) == [line.split("(")[0].split("<")[0]]
    assert len(model.graph.initializers) == 6 if bias else 5  # the parameters are dead, not yet gone


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("Gemm(x, w)", (5, 6)),
        ("Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b)", (6, 5)),
        ("MatMul(x, w)", (5, 6)),
    ],
)
def test_folds_into_matrix_products(line: str, shape: tuple[int, ...]) -> None:
    constants = {"w": _weights(*shape), "b": _weights(6), **_parameters(6)}
    model = optimised(build("float[n, 5] x", "float[n, 6] y", f"a = {line}\n {NORM}", **constants), FoldBatchNorm())
    assert op_types(model) == ["Gemm"]


def test_folds_in_half_precision() -> None:
    constants = {"w": _weights(6, 4, 3, 3).astype(np.float16), **_parameters(6, np.float16)}
    proto = build(X.replace("float", "float16"), Y.replace("float", "float16"), f"a = Conv(x, w)\n {NORM}", **constants)
    assert op_types(optimised(proto, FoldBatchNorm(), tolerance=3e-3)) == ["Conv"]


CONV = {"w": _weights(6, 4, 3, 3), **_parameters(6)}


def test_refuses_a_result_that_others_use() -> None:
    proto = build(X, f"{Y}, float[n, 6, h, k] z", f"a = Conv(x, w)\n {NORM}\n z = Relu(a)", **CONV)
    assert unchanged(proto, FoldBatchNorm())


def test_refuses_a_result_that_is_an_output() -> None:
    proto = build(X, f"{Y}, float[n, 6, h, k] a", f"a = Conv(x, w)\n {NORM}", **CONV)
    assert unchanged(proto, FoldBatchNorm())


def test_refuses_shared_weights() -> None:
    proto = build(X, Y, f"a = Conv(x, w)\n {NORM.replace('y', 'd', 1)}\n e = Conv(x, w)\n y = Add(d, e)", **CONV)
    assert unchanged(proto, FoldBatchNorm())


def test_refuses_weights_that_are_an_input() -> None:
    rest = {name: array for name, array in CONV.items() if name != "w"}
    assert unchanged(build(f"{X}, float[6, 4, 3, 3] w", Y, f"a = Conv(x, w)\n {NORM}", **rest), FoldBatchNorm())


def test_refuses_weights_that_a_caller_may_override() -> None:
    proto = build(f"{X}, float[6, 4, 3, 3] w", Y, f"a = Conv(x, w)\n {NORM}", **CONV)
    assert unchanged(proto, FoldBatchNorm())


def test_refuses_parameters_that_are_inputs() -> None:
    rest = {name: array for name, array in CONV.items() if name != "m"}
    assert unchanged(build(f"{X}, float[6] m", Y, f"a = Conv(x, w)\n {NORM}", **rest), FoldBatchNorm())


def test_refuses_training_mode() -> None:
    body = "a = Conv(x, w)\n y, rm, rv = BatchNormalization<training_mode = 1>(a, s, c, m, v)"
    assert unchanged(build(X, f"{Y}, float[6] rm, float[6] rv", body, **CONV), FoldBatchNorm())


def test_refuses_a_variance_that_gives_no_finite_factor() -> None:
    bad = {**CONV, "v": np.full(6, -1.0, np.float32)}
    assert unchanged(build(X, Y, f"a = Conv(x, w)\n {NORM}", **bad), FoldBatchNorm())


def test_refuses_products_of_more_dimensions() -> None:
    # BatchNormalization's channels are axis 1, a MatMul's columns the last axis.
    proto = build("float[n, 6, 5] x", "float[n, 6, 6] y", f"a = MatMul(x, w)\n {NORM}", **{**CONV, "w": _weights(5, 6)})
    assert unchanged(proto, FoldBatchNorm())


def test_standalone_normalisation_stays() -> None:
    proto = build("float[n, 6, 4, 4] x", "float[n, 6, 4, 4] y", f"a = Relu(x)\n {NORM}", **_parameters(6))
    assert unchanged(proto, FoldBatchNorm())
