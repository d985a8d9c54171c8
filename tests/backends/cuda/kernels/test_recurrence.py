"""LSTM, GRU and RNN in Triton's interpreter against reference.py, and that they compile."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group, run_group

from trine.backends.cuda.groups import Buffer, Recurrence, View, contiguous_strides
from trine.backends.cuda.kernels.recurrence import RecurrenceRows
from trine.backends.cuda.lowering.views import permuted
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = RecurrenceRows()
# h is rounded before each product, and a last bit's difference in it goes through the steps that follow.
UNITS = {"fp16": 2e-3, "fp32": 1e-5}


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def group(
    kind: str = "lstm",
    steps: int = 4,
    rows: int = 5,
    directions: int = 1,
    size: int = 12,
    dtype: str = "fp16",
    starts: bool = False,
    every: bool = True,
    lasts: bool = False,
    rows_first: bool = False,
    high: int = 1,
    **settings: Any,
) -> Recurrence:
    count = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    state = (directions, rows, size)
    wide = rows // high
    gates = dense("gates", dtype, (steps, high, wide, directions, count, size))
    y = dense("y", dtype, (steps if every else 1, directions, high, wide, size))
    if rows_first:
        gates = permuted(dense("gates", dtype, (high, steps, wide, directions, count, size)), (1, 0, 2, 3, 4, 5))
        y = permuted(dense("y", dtype, (high, steps, wide, directions, size)), (1, 3, 0, 2, 4))
    return Recurrence(
        name=kind,
        kind=kind,
        gates=gates,
        r=dense("r", dtype, (directions, count, size, size), "weight"),
        y=y,
        bias=dense("bias", "fp32", (directions, size), "weight") if settings.get("reset_after") else None,
        h0=dense("h0", dtype, state) if starts else None,
        c0=dense("c0", dtype, state) if starts and kind == "lstm" else None,
        last_h=dense("last_h", dtype, state) if lasts else None,
        last_c=dense("last_c", dtype, state) if lasts and kind == "lstm" else None,
        **settings,
    )


GROUPS: dict[str, Recurrence] = {  # the interpreter's tl.dot has no bf16
    "lstm": group(),
    "lstm, as wide as its block": group(size=16, rows=16),
    "lstm, of one": group(size=1, rows=1),
    "lstm, backward": group(backward=True, lasts=True),
    "lstm, both ways, with all that there is": group(
        directions=2, backward=True, starts=True, lasts=True, rows=19, size=20
    ),
    "lstm, one step": group(steps=1, directions=2, backward=True, starts=True, lasts=True),
    "lstm, its last step only": group(every=False, directions=2, backward=True),
    "lstm, its ends only": group(every=False, lasts=True, starts=True),
    "lstm, rows before steps": group(rows_first=True, high=5, directions=2, backward=True, dtype="fp32"),
    "lstm, steps between rows": group(rows_first=True, high=3, rows=21, starts=True, lasts=True),
    "lstm, fp32": group(dtype="fp32", starts=True, rows=17, size=33),
    "gru": group("gru", directions=2, backward=True),
    "gru, reset after": group("gru", reset_after=True, starts=True, lasts=True, rows=18, size=17),
    "gru, reset after, without a bias": replace(group("gru", reset_after=True, dtype="fp32"), bias=None),
    "gru, backward, its last step only": group("gru", backward=True, every=False, dtype="fp32"),
    "rnn": group("rnn", directions=2, backward=True, starts=True, lasts=True),
}


def check(given: Recurrence, configuration: Any) -> None:
    unit = UNITS[given.y.dtype]
    check_group(TACTIC, given, SM90, configuration, unit, unit)


@pytest.mark.parametrize("name", GROUPS)
def test_group(name: str) -> None:
    given = GROUPS[name]
    configuration = TACTIC.configurations(given, SM90)[0]
    assert configuration["kept"]
    check(given, configuration)
    check(given, {**configuration, "kept": False, "num_stages": 1})


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GROUPS)
def test_every_configuration(name: str) -> None:
    for configuration in TACTIC.configurations(GROUPS[name], SM90):
        check(GROUPS[name], configuration)


def test_a_row_s_answer_is_its_own() -> None:
    """Bit for bit the same alone, among others, and beside rows of NaN."""
    many, one = group(rows=19, lasts=True), group(rows=1, lasts=True)
    rng = np.random.default_rng(0)
    gates = rng.standard_normal(many.gates.shape).astype(np.float16)
    r = rng.standard_normal(many.r.elements).astype(np.float16)
    configuration = TACTIC.configurations(many, SM90)[0]

    def answers(given: Recurrence, of: np.ndarray) -> list[np.ndarray]:
        memory = run_group(TACTIC, given, SM90, configuration, {given.gates.buffer: of, given.r.buffer: r})
        return [memory.get(view) for view in given.written()]

    whole = answers(many, gates)
    for row in (0, 18):
        for found, wanted in zip(answers(one, gates[:, :, row : row + 1]), whole, strict=True):
            np.testing.assert_array_equal(found, wanted[..., row : row + 1, :])
    gates[:, :, 3] = np.nan
    for found, wanted in zip(answers(many, gates), whole, strict=True):
        assert np.isnan(found[..., 3, :]).all()
        np.testing.assert_array_equal(np.delete(found, 3, -2), np.delete(wanted, 3, -2))


def test_refusals_carry_reasons() -> None:
    unknown = replace(group(), kind="qrnn")
    assert TACTIC.supports(unknown, SM90).reasons == ("'qrnn' recurrence; wanted one of lstm, gru, rnn",)
    turned = group(size=4)
    turned = replace(turned, h0=permuted(dense("h0", "int32", (1, 4, 5)), (0, 2, 1)))
    wanted = ("h0: int32; wanted fp16, bf16 or fp32", "h0: its last axis is not contiguous")
    assert TACTIC.supports(turned, SM90).reasons == wanted
    for dtype, name, most in (("fp16", "sm_90", 256), ("fp16", "sm_86", 128), ("fp32", "sm_90", 128)):
        target = TARGETS[name]
        assert TACTIC.supports(group(size=most, dtype=dtype), target)
        assert TACTIC.supports(group(size=most + 1, dtype=dtype), target).reasons == (
            f"{most + 1} hidden units of {dtype}; at most {most} fit in {name}'s shared memory",
        )


def test_configurations_fit_and_fill_the_gpu() -> None:
    """Few rows are spread over many programs; matrices stay where they are if there is room for all of them."""
    first = TACTIC.configurations(group(rows=32, size=96, directions=2), SM90)[0]
    assert (first["rows"], first["kept"], first["num_stages"]) == (16, True, 2)
    many = TACTIC.configurations(group(rows=32 * 128, size=96, directions=2), SM90)[0]
    assert many["rows"] > 16
    assert not any(each["kept"] for each in TACTIC.configurations(group(size=256), SM90))
    assert all(each["precision"] == "ieee" for each in TACTIC.configurations(group(dtype="fp32"), SM90))
    for name in GROUPS:
        assert TACTIC.configurations(GROUPS[name], TARGETS["sm_86"])


LARGE: dict[str, Recurrence] = {
    "lstm": group(steps=32, rows=32, directions=2, size=96, backward=True, dtype="bf16", lasts=True, starts=True),
    "gru": group("gru", steps=10, rows=100, size=32, dtype="fp32", reset_after=True),
}
MORE: dict[str, Recurrence] = {
    **LARGE,
    "wide lstm": group(steps=64, rows=8, size=128),
    "gru, reset before": group("gru", steps=10, rows=100, size=64),
    "rnn": group("rnn", steps=10, rows=100, size=64),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_compiles(name: str, target: Any) -> None:
    (kernel,) = compile_group(TACTIC, LARGE[name], target)
    assert kernel.shared_bytes <= target.shared_bytes
