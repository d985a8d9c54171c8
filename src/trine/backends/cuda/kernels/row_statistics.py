# ruff: noqa: N803 - a kernel's constants are capitals; its branches are Triton's
"""Mean and scale of rows, for products that normalise their sums, see groups.Normal: every row is read once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Group, RowStatistics, View
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.kernels.row_tiles import row_tiles
from trine.backends.cuda.tactic import Argument, Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "StatisticsOfRows"]

_LONGEST = 32768
_STAGES = 3  # tiles under way in a program that walks
_WALKERS = 32  # warps of them on a multiprocessor


@triton.jit
def _statistics(
    x,
    y,
    tile,
    rows,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_ONE: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK_ROWS rows of N numbers, in fp32: the mean first, then the variance of the differences from it."""
    row = tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    wide = row.to(tl.int64)
    mask = (row < rows)[:, None] & (column < N)
    value = tl.load(x + wide[:, None] * X_ROW + column * X_ONE, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(value, axis=1) / N
    value = tl.where(column < N, value - mean[:, None], 0.0)
    variance = tl.sum(value * value, axis=1) / N
    tl.store(y + wide * Y_ROW, mean, mask=row < rows)
    tl.store(y + wide * Y_ROW + Y_ONE, 1.0 / tl.sqrt_rn(variance + EPSILON), mask=row < rows)


@triton.jit
def row_statistics(
    x,
    y,
    rows,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_ONE: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """BLOCK_ROWS rows; where STAGES is not 0, then every num_programs-th such tile, the next ones' loads under way."""
    if STAGES == 0:
        _statistics(x, y, tl.program_id(0), rows, N, X_ROW, X_ONE, Y_ROW, Y_ONE, EPSILON, BLOCK_ROWS, BLOCK)
    else:
        tiles = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), num_stages=STAGES):
            _statistics(x, y, tile, rows, N, X_ROW, X_ONE, Y_ROW, Y_ONE, EPSILON, BLOCK_ROWS, BLOCK)


class StatisticsOfRows:
    """Whole rows in registers, one program for a few of them."""

    name = "triton row statistics"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, RowStatistics):
            return Support((f"{type(group).__name__} is no statistics of rows",))
        reasons = []
        if group.x.dtype not in ("fp16", "bf16", "fp32"):
            reasons.append(f"x: {group.x.dtype}; wanted fp16, bf16 or fp32")
        if group.y.dtype != "fp32":
            reasons.append(f"y: {group.y.dtype}; wanted fp32")
        if group.x.shape[1] > _LONGEST:
            reasons.append(f"rows of {group.x.shape[1]}; at most {_LONGEST} fit in registers")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. walk: a few programs take all rows in turn, rather than each its own."""
        assert isinstance(group, RowStatistics)
        rows, n = group.x.shape
        tiles = row_tiles(rows, n, target)
        # A warp for a few rows sums without an exchange through shared memory.
        alone = [{"rows": together, "num_warps": 1} for together in (1, 2, 4) if together * power_of_two(n) <= 4096]
        alone = [each for each in alone if each not in tiles and each["rows"] <= rows]
        walks = [
            {**each, "walk": True}
            for each in (*tiles[:2], *alone[:2])
            if rows // each["rows"] >= 2 * _walkers(each, target)
        ]
        return [*tiles[:1], *alone[:1], *walks, *alone[1:], *tiles[1:]]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, RowStatistics)
        rows, n = group.x.shape
        constants = {
            "N": n,
            **dict(zip(("X_ROW", "X_ONE"), group.x.strides, strict=True)),
            **dict(zip(("Y_ROW", "Y_ONE"), group.y.strides, strict=True)),
            "EPSILON": float(group.epsilon),
            "BLOCK_ROWS": configuration["rows"],
            "BLOCK": power_of_two(n),
            "STAGES": 0,
        }
        programs = math.ceil(rows / configuration["rows"])
        if "walk" in configuration:
            constants["STAGES"] = _STAGES
            programs = min(programs, _walkers(configuration, target))
        operands: dict[str, Argument | View | None] = {"x": group.x, "y": group.y, "rows": Scalar("i32", rows)}
        return [launch_of(row_statistics, (programs, 1, 1), operands, constants, configuration["num_warps"])]


def _walkers(configuration: Mapping[str, Any], target: Target) -> int:
    return int(target.multiprocessors * max(1, _WALKERS // configuration["num_warps"]))


TACTICS = (StatisticsOfRows(),)
