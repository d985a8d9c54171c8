"""Pointwise kernels: random views and expressions in Triton's interpreter against NumPy, and that they compile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import NUMPY, Memory, run_launches
from hypothesis import given, settings
from hypothesis import strategies as st

from trine.backends.cuda.groups import Activation, Buffer, Expr, Pointwise, View, contiguous_strides
from trine.backends.cuda.kernels.collapse import collapse
from trine.backends.cuda.kernels.pointwise import GeneratedPointwise
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = GeneratedPointwise()
X0, X1, X2 = Expr("input", index=0), Expr("input", index=1), Expr("input", index=2)


def number(value: Any) -> Expr:
    return Expr("constant", value=value)


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def random_values(rng: np.random.Generator, dtype: str, n: int) -> np.ndarray[Any, Any]:
    if dtype == "bool":
        return rng.integers(0, 2, n).astype(bool)
    if dtype in ("int64", "int32", "int8"):
        return rng.integers(-9, 10, n).astype(NUMPY[dtype])
    if dtype == "uint8":
        return rng.integers(0, 20, n).astype(np.uint8)
    return (np.round(rng.normal(size=n) * 4) / 2).astype(NUMPY[dtype])


def run(group: Pointwise, configuration: Any, values: dict[Buffer, Any], rows: int = 1) -> Memory:
    memory = Memory()
    for buffer, array in values.items():
        memory.put(View(buffer, (buffer.elements,), (1,)), array)
    run_launches(TACTIC.launches(group, configuration, SM90), memory, rows)
    return memory


def shown(view: View, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.lib.stride_tricks.as_strided(
        values[view.offset :], view.shape, tuple(s * values.itemsize for s in view.strides)
    )


def check(expr: Expr, inputs: list[tuple[str, np.ndarray[Any, Any]]], wanted: np.ndarray[Any, Any], dtype: str) -> None:
    """``expr`` of 1-D arrays, with the default configuration; floating point to a few units of the last place."""
    n = wanted.size
    views = tuple(dense(f"x{i}", kind, (n,)) for i, (kind, _) in enumerate(inputs))
    group = Pointwise(name="p", y=dense("y", dtype, (n,)), inputs=views, expr=expr)
    assert TACTIC.supports(group, SM90)
    values = {view.buffer: array for view, (_, array) in zip(views, inputs, strict=True)}
    memory = run(group, TACTIC.configurations(group, SM90)[0], values)
    got = memory.get(group.y)
    if dtype in ("fp32", "fp16", "bf16"):
        rtol = {"fp32": 3e-6, "fp16": 1e-3, "bf16": 8e-3}[dtype]
        np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=1e-6)
    else:
        np.testing.assert_array_equal(got, wanted)


FLOATS = np.array([-3.5, -2.5, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 7.25, np.nan], np.float32)
OTHERS = np.array([2.0, 3.0, -1.0, 0.5, 4.0, 2.0, 2.5, -3.0, 0.0, 1.0, 2.0, -0.5, 1.0], np.float32)
erf = np.vectorize(math.erf)
UNARY = {
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": np.exp,
    "log": np.log,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "sign": np.sign,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "mod": np.mod,
}
COMPARED = {"eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_number(op: str) -> None:
    with np.errstate(all="ignore"):
        check(Expr(op, (X0,)), [("fp32", FLOATS)], UNARY[op](FLOATS.astype(np.float64)), "fp32")


@pytest.mark.parametrize("op", BINARY)
def test_functions_of_two_numbers(op: str) -> None:
    with np.errstate(all="ignore"):
        wanted = BINARY[op](FLOATS.astype(np.float64), OTHERS.astype(np.float64))
    check(Expr(op, (X0, X1)), [("fp32", FLOATS), ("fp32", OTHERS)], wanted, "fp32")


@pytest.mark.parametrize("power", [2.0, 3.0, 0.5, -1.0, -0.5, -2.0, 4.0, 1.7])
def test_constant_powers(power: float) -> None:
    with np.errstate(all="ignore"):
        wanted = np.power(FLOATS.astype(np.float64), power)
    check(Expr("pow", (X0, number(power))), [("fp32", FLOATS)], wanted, "fp32")


@pytest.mark.parametrize("op", COMPARED)
def test_comparisons(op: str) -> None:
    wanted = COMPARED[op](FLOATS, np.float32(0.5))
    check(Expr(op, (X0, number(0.5))), [("fp32", FLOATS)], wanted, "bool")


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8"])
def test_whole_numbers_stay_whole(dtype: str) -> None:
    a = np.array([-7, -6, -1, 0, 1, 5, 7, 9], NUMPY[dtype])
    b = np.array([2, -4, 3, 5, -2, 3, -3, 4], NUMPY[dtype])
    for op, wanted in {
        "add": a + b,
        "sub": a - b,
        "mul": a * b,
        "div": np.trunc(a / b).astype(a.dtype),
        "mod": np.mod(a, b),
        "min": np.minimum(a, b),
        "max": np.maximum(a, b),
    }.items():
        check(Expr(op, (X0, X1)), [(dtype, a), (dtype, b)], wanted, dtype)
    for op, wanted in {"neg": -a, "abs": np.abs(a), "sign": np.sign(a), "floor": a}.items():
        check(Expr(op, (X0,)), [(dtype, a)], wanted, dtype)
    check(Expr("pow", (X0, number(2))), [(dtype, a)], a * a, dtype)
    large = a.astype(np.int64) + (1 << 40)
    check(Expr("add", (X0, number(3))), [("int64", large)], large + 3, "int64")


def test_casts_bools_and_choices() -> None:
    f, b = FLOATS[:-1], FLOATS[:-1] > 0
    check(Expr("cast", (X0,), dtype="int32"), [("fp32", f)], f.astype(np.int32), "int32")
    check(Expr("cast", (X0,), dtype="bool"), [("fp32", f)], f != 0, "bool")
    check(Expr("cast", (X0,), dtype="fp32"), [("bool", b)], b.astype(np.float32), "fp32")
    check(Expr("cast", (X0,), dtype="fp16"), [("int64", np.arange(5))], np.arange(5.0), "fp16")
    check(Expr("not", (X0,)), [("bool", b)], ~b, "bool")
    check(Expr("and", (X0, Expr("gt", (X1, number(1))))), [("bool", b), ("fp32", f)], b & (f > 1), "bool")
    check(Expr("or", (X0, Expr("isnan", (X1,)))), [("bool", b), ("fp32", f)], b, "bool")
    wanted = np.where(b, f, 2.0)
    check(Expr("where", (X0, X1, number(2))), [("bool", b), ("fp32", f)], wanted, "fp32")
    check(Expr("where", (X0, number(1.0), number(0.0))), [("bool", b)], b.astype(np.float32), "fp32")
    check(Expr("where", (X0, number(True), X0)), [("bool", b)], b, "bool")
    check(number(1.5), [], np.full(5, 1.5), "fp16")
    check(number(3), [], np.full(5, 3), "int64")
    check(number(float("-inf")), [], np.full(5, -np.inf), "fp32")


def test_rounded_once() -> None:
    x = np.array([1.0, 2049.0 / 2048], np.float16)
    expr = Expr("sub", (Expr("add", (Expr("mul", (X0, number(1 / 3))), number(100.0))), number(100.0)))
    third = np.float32(np.float32(x.astype(np.float32) * np.float32(1 / 3)) + np.float32(100)) - np.float32(100)
    check(expr, [("fp16", x)], third.astype(np.float16), "fp16")
    act = Expr("act", (X0,), activation=Activation("hardswish"))
    check(act, [("bf16", x.astype(NUMPY["bf16"]))], x.astype(NUMPY["bf16"]).astype(float) * 4 / 6, "bf16")


@st.composite
def views(draw: Any, shape: tuple[int, ...], dtype: str, written: bool) -> View:
    """Axes in any order in memory, with gaps, an offset, and, if it is only read, axes that repeat."""
    order = draw(st.permutations(range(len(shape))))
    strides = [0] * len(shape)
    step = draw(st.sampled_from([1, 1, 1, 2]))
    for axis in order:
        if not written and draw(st.sampled_from([False, False, False, True])):
            continue
        strides[axis] = step
        step *= shape[axis] + draw(st.sampled_from([0, 0, 0, 1]))
    offset = draw(st.sampled_from([0, 0, 5, 16]))
    return View(Buffer("v", "arena", dtype, offset + max(1, step)), shape, tuple(strides), offset)


@st.composite
def groups(draw: Any) -> Pointwise:
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 7, 16]), min_size=1, max_size=4)))
    kinds = draw(st.lists(st.sampled_from(["fp32", "fp16", "bf16", "int32"]), min_size=1, max_size=3))
    inputs = tuple(draw(views(shape, kind, False)) for kind in kinds)
    expr = Expr("add", (X0, number(1)))
    for i in range(1, len(kinds)):
        expr = Expr("sub", (expr, Expr("input", index=i)))
    y = draw(views(shape, draw(st.sampled_from(["fp32", "fp16"])), True))
    return Pointwise(name="p", y=y, inputs=inputs, expr=expr, by_rows=draw(st.booleans()))


@given(group=groups(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_views(group: Pointwise, data: Any) -> None:
    rng = np.random.default_rng(0)
    values = {view.buffer: random_values(rng, view.dtype, view.buffer.elements) for view in group.inputs}
    arrays = [shown(view, values[view.buffer]).astype(np.float32) for view in group.inputs]
    wanted = arrays[0] + 1
    for each in arrays[1:]:
        wanted = wanted - each
    rows = data.draw(st.integers(1, group.y.shape[0])) if group.by_rows else group.y.shape[0]
    configuration = data.draw(st.sampled_from(TACTIC.configurations(group, SM90)))
    memory = run(group, configuration, values, rows)
    got = memory.get(group.y).astype(np.float32)
    np.testing.assert_array_equal(got[:rows], wanted.astype(NUMPY[group.y.dtype]).astype(np.float32)[:rows])
    # Nothing between the view's elements and nothing beyond the call's rows was touched.
    whole = memory.get(View(group.y.buffer, (group.y.buffer.elements,), (1,))).astype(np.float32)
    assert np.count_nonzero(~np.isnan(whole)) == group.y.elements // group.y.shape[0] * rows


def stem(batch: int, channels: int, side: int, padding: int, kind: str = "fp16") -> Pointwise:
    area, wide = side * side, channels + padding
    x, y = Buffer("x", "input", "fp32", batch * channels * area), Buffer("y", "arena", kind, batch * wide * area)
    shape = (batch, side, side, channels)
    return Pointwise(
        name="stem",
        y=View(y, shape, (area * wide, side * wide, wide, 1)),
        inputs=(View(x, shape, (channels * area, side, 1, area)),),
        expr=X0,
        by_rows=True,
        zero_after=padding,
    )


@pytest.mark.parametrize(("channels", "padding"), [(3, 1), (1, 3), (5, 3), (40, 0)])
def test_input_copy_with_padded_channels(channels: int, padding: int) -> None:
    batch, side, rows = 3, 5, 2
    group = stem(batch, channels, side, padding)
    x = np.random.default_rng(1).normal(size=(batch, channels, side, side)).astype(np.float32)
    for configuration in TACTIC.configurations(group, SM90):
        memory = run(group, configuration, {group.inputs[0].buffer: x.reshape(-1)}, rows)
        y = memory.tensor(group.y.buffer).numpy().reshape(batch, side, side, -1)
        np.testing.assert_array_equal(y[:rows, ..., :channels], x.transpose(0, 2, 3, 1)[:rows].astype(np.float16))
        assert (y[:rows, ..., channels:] == 0).all()
        assert np.isnan(y[rows:]).all()


def test_axes_merge_where_all_operands_allow() -> None:
    nhwc, channel = contiguous_strides((8, 7, 7, 16)), (0, 0, 0, 1)
    assert [a.size for a in collapse((8, 7, 7, 16), [nhwc, nhwc])] == [8 * 7 * 7 * 16]
    assert [a.size for a in collapse((8, 7, 7, 16), [nhwc, nhwc, channel])] == [8 * 7 * 7, 16]
    nchw = (16 * 49, 7, 1, 49)
    assert [a.size for a in collapse((8, 7, 7, 16), [nhwc, nchw])] == [8, 49, 16]
    assert [a.size for a in collapse((8, 7, 7, 16), [nchw, nhwc])] == [8, 16, 49]
    assert [a.size for a in collapse((1, 1), [(1, 1)])] == [1]


def test_refusals_carry_reasons() -> None:
    y = dense("y", "fp32", (4,))
    group = Pointwise(name="p", y=y, inputs=(dense("x", "fp32", (5,)),), expr=Expr("bessel", (X0,)))
    reasons = TACTIC.supports(group, SM90).reasons
    assert len(reasons) == 2
    assert "'bessel' has no Triton form" in reasons[0]
    assert "(5,)" in reasons[1]


REPRESENTATIVES = {
    "stem": stem(8, 3, 32, 1),
    "to_nchw": Pointwise(
        name="p",
        y=View(Buffer("y", "output", "fp32", 8 * 64 * 49), (8, 7, 7, 64), (64 * 49, 7, 1, 49)),
        inputs=(dense("x", "fp16", (8, 7, 7, 64)),),
        expr=X0,
        by_rows=True,
    ),
    "many": Pointwise(
        name="p",
        y=dense("y", "fp16", (8, 49, 64)),
        inputs=(
            dense("a", "fp16", (8, 49, 64)),
            View(Buffer("b", "arena", "fp16", 8 * 64), (8, 49, 64), (64, 0, 1)),
            dense("c", "bool", (8, 49, 64)),
        ),
        expr=Expr(
            "where",
            (X2, Expr("pow", (X0, X1)), Expr("act", (Expr("erf", (X0,)),), activation=Activation("gelu_tanh"))),
        ),
    ),
}


@pytest.mark.parametrize("name", REPRESENTATIVES)
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_compiles(name: str, target: Any) -> None:
    (kernel,) = compile_group(TACTIC, REPRESENTATIVES[name], target)
    assert kernel.cubin


@pytest.mark.exhaustive
def test_every_operation_compiles() -> None:
    for dtype in ("fp16", "bf16", "int64", "int32", "int8", "uint8", "bool"):
        for op in [*UNARY, *BINARY, *COMPARED, "isnan", "not", "and", "or"]:
            group = Pointwise(
                name="p", y=dense("y", dtype, (64,)), inputs=(dense("a", dtype, (64,)),) * 2, expr=Expr(op, (X0, X1))
            )
            assert compile_group(TACTIC, group, SM90)
