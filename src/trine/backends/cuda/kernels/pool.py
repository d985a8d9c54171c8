# ruff: noqa: N803, SIM108 - a kernel's constants are capitals; its branches are Triton's
"""Max and average pooling of channels-last images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Group, Pool, View
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.tactic import Launch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "PoolRows"]

_UNROLLED = 49  # taps of a window that is straight-line code


@triton.jit
def _window_row(
    total,
    count,
    row,
    real,
    u,
    c,
    W: tl.constexpr,
    XW: tl.constexpr,
    S: tl.constexpr,
    DW: tl.constexpr,
    MAX: tl.constexpr,
):
    """One row of every window of a tile. ``real``: which numbers have this row; u: their windows' first column."""
    for s in tl.static_range(S):
        column = u + s * DW
        mask = real & (column >= 0) & (column < W)
        if MAX:
            value = tl.load(row + (column * XW + c), mask=mask, other=float("-inf")).to(tl.float32)
            total = tl.maximum(total, value, propagate_nan=tl.PropagateNan.ALL)
        else:
            total += tl.load(row + (column * XW + c), mask=mask, other=0.0).to(tl.float32)
            count += mask.to(tl.float32)
    return total, count


@triton.jit
def pool(
    x,
    y,
    H: tl.constexpr,
    W: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    C: tl.constexpr,
    XN: tl.constexpr,
    XH: tl.constexpr,
    XW: tl.constexpr,
    YN: tl.constexpr,
    YH: tl.constexpr,
    YW: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    MAX: tl.constexpr,
    DIVISOR: tl.constexpr,
    UNROLL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A run of BLOCK numbers of one output row. DIVISOR: of an average, 0 for the number of pixels in the window."""
    pid = tl.program_id(0)
    parts = (Q * C + BLOCK - 1) // BLOCK
    place = pid % parts * BLOCK + tl.arange(0, BLOCK)
    p = pid // parts % P
    n = (pid // (parts * P)).to(tl.int64)
    c = place % C
    q = place // C
    inside = place < Q * C
    u = q * SW - LEFT
    total = tl.full((BLOCK,), float("-inf") if MAX else 0.0, tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    x += n * XN
    if UNROLL:
        for r in tl.static_range(R):
            h = p * SH - TOP + r * DH
            real = inside & (h >= 0) & (h < H)
            total, count = _window_row(total, count, x + h * XH, real, u, c, W, XW, S, DW, MAX)
    else:
        for r in range(R):
            h = p * SH - TOP + r * DH
            real = inside & (h >= 0) & (h < H)
            total, count = _window_row(total, count, x + h * XH, real, u, c, W, XW, S, DW, MAX)
    if not MAX:
        if DIVISOR == 0:
            total = total / count
        else:
            total = total / DIVISOR
    tl.store(y + n * YN + p * YH + (q * YW + c), total, mask=inside)


class PoolRows:
    """Runs of an output row; windows that overlap meet in the caches."""

    name = "triton pool"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Pool):
            return Support((f"{type(group).__name__} is no pooling",))
        reasons = [] if group.kind in ("max", "avg") else [f"{group.kind!r} pooling; wanted max or avg"]
        for name, view in (("x", group.x), ("y", group.y)):
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: channels {view.strides[-1]} elements apart; wanted 1")
            if view.dtype not in ("fp16", "bf16", "fp32"):
                reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
            if _image_extent(view) >= 1 << 31:
                reasons.append(f"{name}: an image of {view.shape[1:]} has 2**31 elements or more")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block: numbers of a program."""
        assert isinstance(group, Pool)
        row = group.y.shape[2] * group.y.shape[3]
        wide = [(1024, 4), (512, 4), (512, 2), (2048, 8), (256, 2)]
        narrow = [(256, 4), (128, 4), (128, 2), (512, 4)]
        few = group.y.elements < 512 * 2 * target.multiprocessors
        found = [each for each in (narrow if few else wide) if each[0] < 2 * power_of_two(row)]
        return [{"block": block, "num_warps": warps} for block, warps in found or [(128, 4)]]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Pool)
        n, high, wide, channels = group.y.shape
        (rows, columns), block = group.window, configuration["block"]
        constants = {
            "H": group.x.shape[1],
            "W": group.x.shape[2],
            "P": high,
            "Q": wide,
            "C": channels,
            **dict(zip(("XN", "XH", "XW"), group.x.strides, strict=False)),
            **dict(zip(("YN", "YH", "YW"), group.y.strides, strict=False)),
            "R": rows,
            "S": columns,
            **dict(zip(("SH", "SW"), group.stride, strict=True)),
            "TOP": group.pads[0],
            "LEFT": group.pads[1],
            **dict(zip(("DH", "DW"), group.dilation, strict=True)),
            "MAX": group.kind == "max",
            "DIVISOR": rows * columns if group.count_pads or _never_outside(group) else 0,
            "UNROLL": rows * columns <= _UNROLLED,
            "BLOCK": block,
        }
        programs = n * high * math.ceil(wide * channels / block)
        return [launch_of(pool, (programs, 1, 1), {"x": group.x, "y": group.y}, constants, configuration["num_warps"])]


def _image_extent(view: View) -> int:
    return sum(n * abs(s) for n, s in zip(view.shape[1:], view.strides[1:], strict=True))


def _never_outside(group: Pool) -> bool:
    """Whether every window lies in the image."""
    for axis in (0, 1):
        last = (group.y.shape[1 + axis] - 1) * group.stride[axis] - group.pads[axis]
        if group.pads[axis] or last + (group.window[axis] - 1) * group.dilation[axis] >= group.x.shape[1 + axis]:
            return False
    return True


TACTICS = (PoolRows(),)
