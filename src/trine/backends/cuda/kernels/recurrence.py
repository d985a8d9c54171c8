# ruff: noqa: N803 - a kernel's constants are capitals; its branches are Triton's
"""LSTM, GRU and RNN: one program walks over all steps with a few rows of one direction, whose state it keeps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import ITEM_BYTES, Group, Recurrence, View
from trine.backends.cuda.kernels.activations import sigmoid, tanh
from trine.backends.cuda.kernels.operands import launch_of, power_of_two, with_precision
from trine.backends.cuda.tactic import Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "RecurrenceRows"]

_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_SHARED_SHARE = 0.9
_VIEWS = ("gates", "r", "bias", "h0", "c0", "y", "last_h", "last_c")


@triton.jit
def _matrix(r, GATE: tl.constexpr, R_G: tl.constexpr, R_ROW: tl.constexpr, H: tl.constexpr, BLOCK: tl.constexpr):
    """One gate's matrix, turned: (from, to). Beyond H it is 0."""
    before = tl.arange(0, BLOCK)[:, None]
    after = tl.arange(0, BLOCK)[None, :]
    return tl.load(r + GATE * R_G + after * R_ROW + before, mask=(before < H) & (after < H), other=0.0)


@triton.jit
def _product(h, matrix, PRECISION: tl.constexpr):
    return tl.dot(h.to(matrix.dtype), matrix, input_precision=PRECISION)


@triton.jit
def _state(start, place, mask):
    if start is None:
        value = tl.zeros(place.shape, tl.float32)
    else:
        value = tl.load(start + place, mask=mask, other=0.0).to(tl.float32)
    return value


@triton.jit
def _input(x, GATE: tl.constexpr, GATES_G: tl.constexpr, mask):
    return tl.load(x + GATE * GATES_G, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def recurrence(
    gates,
    r,
    bias,
    h0,
    c0,
    y,
    last_h,
    last_c,
    rows,
    T: tl.constexpr,
    Q: tl.constexpr,
    H: tl.constexpr,
    KIND: tl.constexpr,
    RESET_AFTER: tl.constexpr,
    BACKWARD: tl.constexpr,
    EVERY: tl.constexpr,
    GATES_T: tl.constexpr,
    GATES_P: tl.constexpr,
    GATES_Q: tl.constexpr,
    GATES_D: tl.constexpr,
    GATES_G: tl.constexpr,
    R_D: tl.constexpr,
    R_G: tl.constexpr,
    R_ROW: tl.constexpr,
    BIAS_D: tl.constexpr,
    H0_D: tl.constexpr,
    H0_ROW: tl.constexpr,
    C0_D: tl.constexpr,
    C0_ROW: tl.constexpr,
    Y_T: tl.constexpr,
    Y_D: tl.constexpr,
    Y_P: tl.constexpr,
    Y_Q: tl.constexpr,
    LAST_H_D: tl.constexpr,
    LAST_H_ROW: tl.constexpr,
    LAST_C_D: tl.constexpr,
    LAST_C_ROW: tl.constexpr,
    PRECISION: tl.constexpr,
    KEPT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """BLOCK_ROWS rows of one direction through T steps; h and c in registers, in fp32.

    KEPT: the matrices of r are loaded once, else in every step. EVERY: y has every step's h, else the last one's.
    BACKWARD: the last direction starts at T - 1.
    """
    row = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))[:, None]
    unit = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (unit < H)
    row = row.to(tl.int64)
    direction = tl.program_id(1)
    r += direction * R_D
    gates += direction * GATES_D + row // Q * GATES_P + row % Q * GATES_Q + unit
    y += direction * Y_D + row // Q * Y_P + row % Q * Y_Q + unit
    h = _state(h0, direction * H0_D + row * H0_ROW + unit, mask)
    c = h
    if KIND == "lstm":
        c = _state(c0, direction * C0_D + row * C0_ROW + unit, mask)
    if bias is not None:
        added = tl.load(bias + direction * BIAS_D + unit, mask=unit < H, other=0.0)
    if KEPT:
        r0 = _matrix(r, 0, R_G, R_ROW, H, BLOCK)
        if KIND != "rnn":
            r1 = _matrix(r, 1, R_G, R_ROW, H, BLOCK)
            r2 = _matrix(r, 2, R_G, R_ROW, H, BLOCK)
        if KIND == "lstm":
            r3 = _matrix(r, 3, R_G, R_ROW, H, BLOCK)
    start = tl.full((), 0, tl.int64)
    ahead = tl.full((), 1, tl.int64)
    if BACKWARD:
        back = direction == tl.num_programs(1) - 1
        start = tl.where(back, T - 1, start)
        ahead = tl.where(back, -1, ahead)
    for step in tl.range(0, T, num_stages=STAGES):
        t = start + ahead * step
        x = gates + t * GATES_T
        if KIND == "lstm":
            i = _input(x, 0, GATES_G, mask)
            o = _input(x, 1, GATES_G, mask)
            f = _input(x, 2, GATES_G, mask)
            n = _input(x, 3, GATES_G, mask)
            i += _product(h, r0 if KEPT else _matrix(r, 0, R_G, R_ROW, H, BLOCK), PRECISION)
            n += _product(h, r3 if KEPT else _matrix(r, 3, R_G, R_ROW, H, BLOCK), PRECISION)
            f += _product(h, r2 if KEPT else _matrix(r, 2, R_G, R_ROW, H, BLOCK), PRECISION)
            o += _product(h, r1 if KEPT else _matrix(r, 1, R_G, R_ROW, H, BLOCK), PRECISION)
            c = sigmoid(f) * c + sigmoid(i) * tanh(n)
            h = sigmoid(o) * tanh(c)
        elif KIND == "gru":
            z = _input(x, 0, GATES_G, mask)
            s = _input(x, 1, GATES_G, mask)
            n = _input(x, 2, GATES_G, mask)
            s += _product(h, r1 if KEPT else _matrix(r, 1, R_G, R_ROW, H, BLOCK), PRECISION)
            z += _product(h, r0 if KEPT else _matrix(r, 0, R_G, R_ROW, H, BLOCK), PRECISION)
            s = sigmoid(s)
            z = sigmoid(z)
            if RESET_AFTER:
                inner = _product(h, r2 if KEPT else _matrix(r, 2, R_G, R_ROW, H, BLOCK), PRECISION)
                if bias is not None:
                    inner += added
                n += s * inner
            else:
                n += _product(s * h, r2 if KEPT else _matrix(r, 2, R_G, R_ROW, H, BLOCK), PRECISION)
            h = (1.0 - z) * tanh(n) + z * h
        else:
            n = _input(x, 0, GATES_G, mask)
            h = tanh(n + _product(h, r0 if KEPT else _matrix(r, 0, R_G, R_ROW, H, BLOCK), PRECISION))
        if EVERY:
            tl.store(y + t * Y_T, h.to(y.dtype.element_ty), mask=mask)
    if not EVERY:
        tl.store(y, h.to(y.dtype.element_ty), mask=mask)
    if last_h is not None:
        place = direction * LAST_H_D + row * LAST_H_ROW + unit
        tl.store(last_h + place, h.to(last_h.dtype.element_ty), mask=mask)
    if last_c is not None:
        place = direction * LAST_C_D + row * LAST_C_ROW + unit
        tl.store(last_c + place, c.to(last_c.dtype.element_ty), mask=mask)


class RecurrenceRows:
    """A row's answer depends on its own steps only; the matrices stay on the multiprocessor where they fit."""

    name = "triton recurrence"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Recurrence):
            return Support((f"{type(group).__name__} is no recurrence",))
        reasons = []
        if group.kind not in _GATES:
            reasons.append(f"{group.kind!r} recurrence; wanted one of {', '.join(_GATES)}")
        for name in _VIEWS:
            view: View | None = getattr(group, name)
            if view is None:
                continue
            if view.dtype not in ("fp16", "bf16", "fp32"):
                reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: its last axis is not contiguous")
        size = group.r.shape[-1]
        most = _largest(group, target)
        if size > most:
            reasons.append(
                f"{size} hidden units of {group.r.dtype}; at most {most} fit in {target.name}'s shared memory"
            )
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. rows: of a program; kept: see the kernel; num_stages: steps whose gates are under way."""
        assert isinstance(group, Recurrence)
        rows = _rows(group)
        wide = group.r.dtype == "fp32" or _block(group) > 128
        found: list[dict[str, Any]] = []
        for together, kept, warps in itertools.product((16, 32, 64), (True, False), (8, 16) if wide else (4, 8)):
            if together > max(16, power_of_two(rows)):
                continue
            # Loads of gates are known beforehand only; with matrices among them, all of those would be under way too.
            for stages in (2, 1) if kept and group.gates.shape[0] > 1 else (1,):
                found.append({"rows": together, "kept": kept, "num_warps": warps, "num_stages": stages})
        fitting = [each for each in found if _shared_bytes(group, **each) <= target.shared_bytes * _SHARED_SHARE]
        found = sorted(fitting, key=lambda each: _cost(group, each, target))[:8]
        return with_precision(found, group.r.dtype, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Recurrence)
        steps, _, row_length, directions, _, size = group.gates.shape
        rows = _rows(group)
        constants = {
            "T": steps,
            "Q": row_length,
            "H": size,
            "KIND": group.kind,
            "RESET_AFTER": group.reset_after,
            "BACKWARD": group.backward,
            "EVERY": group.y.shape[0] == steps,
            **_strides("gates", group.gates, ("T", "P", "Q", "D", "G")),
            **_strides("r", group.r, ("D", "G", "ROW")),
            **_strides("bias", group.bias, ("D",)),
            **_strides("y", group.y, ("T", "D", "P", "Q")),
            "PRECISION": configuration.get("precision", "ieee"),
            "KEPT": configuration["kept"],
            "BLOCK_ROWS": configuration["rows"],
            "BLOCK": _block(group),
            "STAGES": configuration["num_stages"],
        }
        for name in ("h0", "c0", "last_h", "last_c"):
            constants |= _strides(name, getattr(group, name), ("D", "ROW"))
        operands: dict[str, Any] = {name: getattr(group, name) for name in _VIEWS} | {"rows": Scalar("i32", rows)}
        grid = (math.ceil(rows / configuration["rows"]), directions, 1)
        return [
            launch_of(recurrence, grid, operands, constants, configuration["num_warps"], configuration["num_stages"])
        ]


def _rows(group: Recurrence) -> int:
    return group.gates.shape[1] * group.gates.shape[2]


def _block(group: Recurrence) -> int:
    return max(16, power_of_two(group.r.shape[-1]))


def _largest(group: Recurrence, target: Target) -> int:
    """Hidden units, at most: one gate's matrix passes through shared memory whole."""
    size, item = 16, ITEM_BYTES[group.r.dtype]
    while _bytes(2 * size, item, 16, 1) <= target.shared_bytes * _SHARED_SHARE:
        size *= 2
    return size


def _bytes(block: int, item: int, rows: int, matrices: int) -> int:
    return (block * matrices + rows) * block * item


def _shared_bytes(group: Recurrence, rows: int, kept: bool, num_stages: int, num_warps: int) -> int:
    """The matrices, h on its way into the products, and the gates of the steps ahead."""
    block, gates = _block(group), _GATES[group.kind]
    ahead = (num_stages - 1) * gates * rows * block * ITEM_BYTES[group.gates.dtype]
    return _bytes(block, ITEM_BYTES[group.r.dtype], rows, gates if kept else 1) + ahead


def _cost(group: Recurrence, configuration: Mapping[str, Any], target: Target) -> float:
    """A step takes a while however few its rows are; and programs that do not fit wait for others' last steps."""
    rows, warps = int(configuration["rows"]), int(configuration["num_warps"])
    programs = math.ceil(_rows(group) / rows) * group.gates.shape[3]
    beside = max(1, min(target.shared_bytes // _shared_bytes(group, **configuration), 32 // warps))
    waves = math.ceil(programs / (target.multiprocessors * beside))
    step = 1.0 + rows / 32 * math.sqrt(4 / warps) * _block(group) / 64
    if not configuration["kept"]:
        step += _block(group) / 32
    return waves * step * (1.0 if configuration["num_stages"] > 1 else 1.2)


def _strides(name: str, view: View | None, axes: Sequence[str]) -> dict[str, int]:
    strides = (0,) * len(axes) if view is None else view.strides
    return {f"{name.upper()}_{axis}": stride for axis, stride in zip(axes, strides, strict=False)}


TACTICS = (RecurrenceRows(),)
