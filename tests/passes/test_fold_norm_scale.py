from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.fold_norm_scale import FoldNormScale

RNG = np.random.default_rng(4)
X, Y = "float[n, 5, 4] x", "float[n, 5, 6] y"
NORM = "m = LayerNormalization<axis = -1>(x, s, t)\n"


def _array(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


CONSTANTS = {"s": _array(4), "t": _array(4), "w": _array(4, 6), "b": _array(6)}


def _plain(model: ir.Model) -> bool:
    """Whether what is left of the normalisation has no scale and no bias."""
    (node,) = (node for node in model.graph if node.op_type == "LayerNormalization")
    scale, *shift = (value.const_value.numpy() for value in node.inputs[1:])
    return bool((scale == 1).all()) and not any(each.any() for each in shift)


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in CONSTANTS.items() if key != name}


@pytest.mark.parametrize("line", ["y = Add(p, b)", "y = Add(b, p)"])
def test_folds_into_weights_and_bias(line: str) -> None:
    model = optimised(build(X, Y, f"{NORM}p = MatMul(m, w)\n{line}", **CONSTANTS), FoldNormScale())
    assert op_types(model) == ["LayerNormalization", "MatMul", "Add"]
    assert _plain(model)
    assert len(model.graph.initializers) == 4, "what was replaced is gone"


def test_a_product_without_a_bias_gets_one() -> None:
    model = optimised(build(X, Y, f"{NORM}y = MatMul(m, w)", **_without("b")), FoldNormScale())
    assert op_types(model) == ["LayerNormalization", "MatMul", "Add"]
    assert _plain(model)
    body = f"{NORM}p = MatMul(m, w)\nq = Relu(p)\ny = Add(p, q)"
    assert op_types(optimised(build(X, Y, body, **_without("b")), FoldNormScale()))[:3] == [
        "LayerNormalization", "MatMul", "Add",
    ]  # fmt: skip


def test_a_normalisation_without_a_bias() -> None:
    body = "m = LayerNormalization<axis = 2>(x, s)\ny = MatMul(m, w)"
    model = optimised(build(X, Y, body, s=_array(4), w=_array(4, 6)), FoldNormScale())
    assert op_types(model) == ["LayerNormalization", "MatMul"]
    assert _plain(model)
    body = f"{NORM}y = MatMul(m, w)"
    model = optimised(build(X, Y, body, **{**_without("b"), "t": np.zeros(4, np.float32)}), FoldNormScale())
    assert op_types(model) == ["LayerNormalization", "MatMul"]


@pytest.mark.parametrize("bias", [None, (6,), (1, 6), (1,)])
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm(bias: tuple[int, ...] | None, turned: int) -> None:
    given = "" if bias is None else ", b"
    body = f"{NORM}y = Gemm<transB = {turned}>(m, w{given})"
    arrays = {**CONSTANTS, "w": _array(6, 4) if turned else _array(4, 6), "b": _array(*(bias or (6,)))}
    if bias is None:
        del arrays["b"]
    model = optimised(build("float[n, 4] x", "float[n, 6] y", body, **arrays), FoldNormScale())
    assert op_types(model) == ["LayerNormalization", "Gemm"]
    assert _plain(model)


def test_several_products_and_a_transpose() -> None:
    body = (
        f"{NORM}p = MatMul(m, w)\nr = Transpose<perm = [1, 0, 2]>(m)\nq = MatMul(r, v)\nd = Add(q, b)\n"
        "e = Transpose<perm = [1, 0, 2]>(d)\ny = Add(p, e)"
    )
    model = optimised(build(X, Y, body, v=_array(4, 6), **CONSTANTS), FoldNormScale())
    assert _plain(model)
    assert op_types(model).count("Add") == 3


def test_a_second_time_nothing_is_left_to_do() -> None:
    proto = build(X, Y, f"{NORM}p = MatMul(m, w)\ny = Add(p, b)", **CONSTANTS)
    assert unchanged(proto, FoldNormScale(), FoldNormScale())


@pytest.mark.parametrize(
    "body",
    [
        "p = MatMul(m, w)\nz = Neg(m)\ny = Add(p, b)",
        "p = MatMul(m, w)\nq = MatMul(x, w)\ny = Add(p, q)",
        "r = Transpose<perm = [0, 2, 1]>(m)\nz = Transpose<perm = [0, 2, 1]>(r)\np = MatMul(z, w)\ny = Add(p, b)",
        "p = MatMul(m, w)\nq = MatMul(u, m)\ny = Add(p, b)",
        "z = Relu(m)\np = MatMul(z, w)\ny = Add(p, b)",
    ],
    ids=["another reader", "shared weights", "turned columns", "on the right", "no product"],
)
def test_refuses(body: str) -> None:
    assert unchanged(build(X, Y, NORM + body, u=_array(3, 5), **CONSTANTS), FoldNormScale())


def test_refuses_an_output_and_weights_that_are_given() -> None:
    body = f"{NORM}p = MatMul(m, w)\ny = Add(p, b)"
    assert unchanged(build(X, f"{Y}, float[n, 5, 4] m", body, **CONSTANTS), FoldNormScale())
    assert unchanged(build(f"{X}, float[4, 6] w", Y, body, **_without("w")), FoldNormScale())
    assert unchanged(build(f"{X}, float[4] s", Y, body, **_without("s")), FoldNormScale())
    assert unchanged(build(f"{X}, float[4] t", Y, body, **_without("t")), FoldNormScale())


def test_refuses_scales_that_16_bit_weights_have_no_room_for() -> None:
    body = f"{NORM}p = MatMul(m, w)\ny = Add(p, b)"
    for scale in (np.ones(4), np.full(4, 1e-3), np.full(4, 100.0)):
        assert unchanged(build(X, Y, body, **{**CONSTANTS, "s": scale.astype(np.float32)}), FoldNormScale())


def test_refuses_more_axes_than_the_last() -> None:
    body = "m = LayerNormalization<axis = 1>(x, s, t)\ny = MatMul(m, w)"
    assert unchanged(build(X, Y, body, s=_array(5, 4), t=_array(5, 4), w=_array(4, 6)), FoldNormScale())


@pytest.mark.parametrize("gemm", ["Gemm<alpha = 0.5>(m, w, b)", "Gemm(m, w, c)"])
def test_refuses_gemms_of_other_forms(gemm: str) -> None:
    body = f"{NORM}y = {gemm}"
    proto = build("float[3, 4] x", "float[3, 6] y", body, c=_array(3, 6), **CONSTANTS)
    assert unchanged(proto, FoldNormScale())


def test_a_sum_of_biases_that_would_be_infinite() -> None:
    given = {"s": _array(4), "t": np.full(4, 1e38), "w": np.full((4, 6), 0.5), "b": np.full(6, 2e38)}
    narrow = {name: array.astype(np.float32) for name, array in given.items()}
    assert unchanged(build(X, Y, f"{NORM}p = MatMul(m, w)\ny = Add(p, b)", **narrow), FoldNormScale())
