"""Products that normalise their sums: which layer norms they take the place of, and how exact they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda.lowered import agrees, error, kinds
from pass_checks import build

from trine.backends.cuda import reference
from trine.backends.cuda.fusion import normal
from trine.backends.cuda.fusion.normal import fuse_normal
from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import (
    Buffer,
    Epilogue,
    Gemm,
    Group,
    LayerNorm,
    Normal,
    Reduce,
    RowStatistics,
    View,
    contiguous_strides,
)
from trine.backends.cuda.memory_plan import plan_memory
from trine.verify.tolerances import budget_for

RANDOM = np.random.default_rng(5)
ROWS, N, COLUMNS = 48, 64, 40


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normal, "LEAST_BYTES", 0)
    monkeypatch.setattr(normal, "LEAST_PRODUCTS", 0)


def made(name: str, shape: tuple[int, ...], dtype: str = "fp16", data: np.ndarray | None = None) -> View:
    kind = "arena" if data is None else "weight"
    flat = None if data is None else np.ascontiguousarray(data, np.float32).reshape(-1)
    return View(Buffer(name, kind, dtype, math.prod(shape), flat), shape, contiguous_strides(shape))


def norm(dtype: str = "fp16", **given: Any) -> LayerNorm:
    return LayerNorm(
        name="norm",
        x=made("x", (ROWS, N), dtype),
        scale=made("scale", (N,), "fp32", np.ones(N)),
        bias=made("bias", (N,), "fp32", np.zeros(N)),
        epsilon=1e-5,
        y=made("t", (ROWS, N), dtype),
        **given,
    )


def product(a: View, name: str = "g", **given: Any) -> Gemm:
    weights = RANDOM.standard_normal((COLUMNS, N)) / 8
    return Gemm(name=name, a=a, b=made("w", weights.shape, a.dtype, weights), y=made("y", (ROWS, COLUMNS)), **given)


def fused(*groups: Group) -> list[Group]:
    program = Program(groups)
    fuse_normal(program)
    return program.groups


def test_all_products_take_their_own_sums() -> None:
    first = norm()
    statistics, one, other = fused(first, product(first.y), product(first.y, "h"))
    assert isinstance(statistics, RowStatistics)
    assert (statistics.x, statistics.y.dtype, statistics.y.shape) == (first.x, "fp32", (ROWS, 2))
    for group in (one, other):
        assert isinstance(group, Gemm)
        assert isinstance(group.normal, Normal)
        assert group.a == first.x
        assert group.normal.statistics == statistics.y
        assert group.epilogue == Epilogue()
        stored = group.b.buffer.data.astype(np.float16).astype(np.float64).reshape(COLUMNS, N)
        assert (group.normal.sums.buffer.data == stored.sum(axis=1).astype(np.float32)).all()


def test_a_bias_goes_through_the_weights() -> None:
    shift, bias = RANDOM.standard_normal(N), RANDOM.standard_normal(COLUMNS)
    first = replace(norm(), bias=made("shift", (N,), "fp32", shift))
    for epilogue in (Epilogue(), Epilogue(made("b", (COLUMNS,), "fp32", bias))):
        _, group = fused(first, product(first.y, epilogue=epilogue))
        assert isinstance(group, Gemm)
        assert group.epilogue.bias is not None
        wanted = group.b.buffer.data.reshape(COLUMNS, N) @ shift + (bias if epilogue.bias else 0)
        np.testing.assert_allclose(group.epilogue.bias.buffer.data, wanted, rtol=1e-5, atol=1e-6)


def stays(*groups: Group) -> None:
    assert fused(*groups) == list(groups)


def test_what_stays() -> None:
    first = norm()
    plain = product(first.y)
    stays(replace(first, rms=True), plain)
    stays(replace(first, residual=made("r", (ROWS, N))), plain)
    stays(replace(first, scale=made("scale", (N,), "fp32", np.linspace(0, 1, N))), plain)
    stays(replace(first, scale=made("scale", (N,), "fp32")), plain)
    stays(replace(first, bias=made("bias", (N,), "fp32")), plain)
    stays(replace(first, x=made("x", (ROWS, N), "fp32")), plain)
    stays(replace(first, x=replace(made("x", (ROWS, N + 4)), shape=(ROWS, N))), plain)
    stays(first)
    stays(first, replace(plain, a=replace(first.y, shape=(ROWS // 2, N)), y=made("y", (ROWS // 2, COLUMNS))))
    stays(first, plain, Reduce(name="mean", x=first.y, y=made("m", (ROWS,)), kind="mean"))
    stays(first, replace(plain, b=made("w", (COLUMNS, N))))
    stays(first, replace(plain, b=made("w", (COLUMNS, N), "fp16", np.full((COLUMNS, N), 1e5))))
    square = made("w", (N, N), "fp16", RANDOM.standard_normal((N, N)))
    stays(first, replace(plain, b=square, y=made("y", (ROWS, N)), epilogue=Epilogue(residual=first.y)))
    shifted = replace(first, bias=made("bias", (N,), "fp32", np.ones(N)))
    stays(shifted, replace(plain, epilogue=Epilogue(made("computed", (COLUMNS,), "fp32"))))
    exact = norm("fp32")
    stays(exact, product(exact.y))


def test_small_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    first = norm()
    monkeypatch.setattr(normal, "LEAST_BYTES", 2 * ROWS * N + 1)
    stays(first, product(first.y))


def test_short_products_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    first = norm()
    wide = made("w", (2 * N, N), "fp16", RANDOM.standard_normal((2 * N, N)))
    second = replace(product(first.y), b=wide, y=made("y", (ROWS, 2 * N)))
    assert [type(group) for group in fused(first, second)] == [RowStatistics, Gemm]
    monkeypatch.setattr(normal, "LEAST_PRODUCTS", N + 1)
    stays(first, second)
    monkeypatch.setattr(normal, "LEAST_PRODUCTS", N)
    assert [type(group) for group in fused(first, second)] == [RowStatistics, Gemm]


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("mean", [0.0, 8.0, 64.0])
def test_rows_whose_mean_is_large(dtype: str, mean: float) -> None:
    """Beside float64, from what x and the weights are in 16 bits."""
    first = norm(dtype)
    groups: list[Group] = [first, product(first.y)]
    x = (mean + RANDOM.standard_normal((ROWS, N))).astype(reference.NUMPY_TYPES[dtype])
    weights = groups[1].b  # type: ignore[attr-defined]
    stored = weights.buffer.data.astype(x.dtype)
    exact = x.astype(np.float64) - x.astype(np.float64).mean(axis=1, keepdims=True)
    exact /= np.sqrt(np.square(exact).mean(axis=1, keepdims=True) + 1e-5)
    exact = exact @ stored.astype(np.float64).reshape(COLUMNS, N).T
    given = replace(weights, buffer=replace(weights.buffer, data=stored))
    errors = []
    for each in (groups, fused(*groups)):
        placed = [replace(group, b=given) if isinstance(group, Gemm) else group for group in each]
        placement = plan_memory(placed)
        memory = reference.Memory(placement.offsets, np.zeros(placement.arena_bytes, np.uint8))
        memory.write(first.x, x.astype(np.float32))
        for group in placed:
            reference.run_group(group, memory)
        errors.append(error(memory.read(placed[-1].y), exact))
    assert errors[1] <= budget_for(dtype)
    assert errors[1] <= 1.1 * errors[0], "no worse than with rows that are rounded in between"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_layer_with_a_bias(precision: str) -> None:
    body = "t = LayerNormalization<axis=-1>(x, s, b)\nm = MatMul(t, w)\na = Add(m, c)\nn = MatMul(t, v)\ny = Add(a, n)"
    arrays = {
        "s": np.ones(16),
        "b": RANDOM.standard_normal(16),
        "c": RANDOM.standard_normal(24),
        "w": RANDOM.standard_normal((16, 24)) / 4,
        "v": RANDOM.standard_normal((16, 24)) / 4,
    }
    proto = build(
        "float[n,5,16] x", "float y", body, **{name: each.astype(np.float32) for name, each in arrays.items()}
    )
    found = agrees(proto, precision=precision, tolerance=budget_for(precision))
    assert kinds(found) == {"RowStatistics": 1, "Gemm": 2}


def test_a_scale_that_a_pass_has_moved_into_the_weights() -> None:
    body = "t = LayerNormalization<axis=-1>(x, s, b)\nm = MatMul(t, w)\ny = Add(m, c)"
    arrays = {"s": RANDOM.uniform(0.2, 2, 24), "b": RANDOM.standard_normal(24), "c": RANDOM.standard_normal(32)}
    arrays["w"] = RANDOM.standard_normal((24, 32)) / 5
    proto = build(
        "float[n,5,24] x", "float y", body, **{name: each.astype(np.float32) for name, each in arrays.items()}
    )
    for passes, wanted in ((False, "LayerNorm"), (True, "RowStatistics")):
        found = agrees(proto, precision="fp16", passes=passes, tolerance=budget_for("fp16"))
        assert kinds(found) == {wanted: 1, "Gemm": 1}
