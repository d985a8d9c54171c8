# ruff: noqa: N803, SIM108 - a kernel's constants are capitals; its branches are Triton's
"""Softmax of rows that fit in registers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Group, Softmax
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.kernels.row_tiles import row_tiles
from trine.backends.cuda.tactic import Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "SoftmaxRows"]

_LONGEST = 32768


@triton.jit
def softmax(
    x,
    y,
    rows,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_ONE: tl.constexpr,
    SCALE: tl.constexpr,
    LOG: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK_ROWS rows of N numbers times SCALE, in fp32."""
    row = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < N)
    row = row.to(tl.int64)
    value = tl.load(x + row * X_ROW + column * X_ONE, mask=mask, other=0.0).to(tl.float32) * SCALE
    value = tl.where(column < N, value, float("-inf"))
    value = value - tl.max(value, axis=1)[:, None]
    weight = tl.exp(value)
    total = tl.sum(weight, axis=1)[:, None]
    if LOG:
        result = value - tl.log(total)
    else:
        result = weight / total
    tl.store(y + row * Y_ROW + column * Y_ONE, result, mask=mask)


class SoftmaxRows:
    """Whole rows in registers, one program for a few of them."""

    name = "triton softmax"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Softmax):
            return Support((f"{type(group).__name__} is no softmax",))
        reasons = []
        if group.x.shape[-1] > _LONGEST:
            reasons.append(f"rows of {group.x.shape[-1]}; at most {_LONGEST} fit in registers")
        for name, view in (("x", group.x), ("y", group.y)):
            if view.dtype not in ("fp16", "bf16", "fp32"):
                reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic."""
        assert isinstance(group, Softmax)
        rows, n = group.y.shape
        return row_tiles(rows, n, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Softmax)
        rows, n = group.x.shape
        constants = {
            "N": n,
            **dict(zip(("X_ROW", "X_ONE"), group.x.strides, strict=True)),
            **dict(zip(("Y_ROW", "Y_ONE"), group.y.strides, strict=True)),
            "SCALE": float(group.scale),
            "LOG": group.log,
            "BLOCK_ROWS": configuration["rows"],
            "BLOCK": power_of_two(n),
        }
        grid = (math.ceil(rows / configuration["rows"]), 1, 1)
        operands: dict[str, Any] = {"x": group.x, "y": group.y, "rows": Scalar("i32", rows)}
        return [launch_of(softmax, grid, operands, constants, configuration["num_warps"])]


TACTICS = (SoftmaxRows(),)
