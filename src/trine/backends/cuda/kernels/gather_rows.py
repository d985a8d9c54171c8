# ruff: noqa: N803 - a kernel's constants are capitals
"""Rows by index: images rolled, padded and cut into windows in one pass over memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import GatherRows, Group
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.tactic import Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "GatherWholeRows"]

_FLOATS = ("fp16", "bf16", "fp32")


@triton.jit
def gather_rows(
    x,
    index,
    residual,
    y,
    rows,
    COUNT: tl.constexpr,
    N: tl.constexpr,
    X_IMAGE: tl.constexpr,
    X_ROW: tl.constexpr,
    R_IMAGE: tl.constexpr,
    R_ROW: tl.constexpr,
    Y_IMAGE: tl.constexpr,
    Y_ROW: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK_ROWS rows of N numbers, in pieces of BLOCK. ``rows``: of all images, COUNT in each."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = row < rows
    image = (row // COUNT).to(tl.int64)
    place = row % COUNT
    source = tl.load(index + place, mask=inside, other=-1)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = inside[:, None] & (column < N)
    start = image * X_IMAGE + source * X_ROW
    value = tl.load(x + start[:, None] + column, mask=mask & (source >= 0)[:, None], other=0.0)
    if residual is not None:
        beside = image * R_IMAGE + place * R_ROW
        added = tl.load(residual + beside[:, None] + column, mask=mask, other=0.0).to(tl.float32)
        value = (value.to(tl.float32) + added).to(y.dtype.element_ty)
    target = image * Y_IMAGE + place * Y_ROW
    tl.store(y + target[:, None] + column, value, mask=mask)


class GatherWholeRows:
    """A few rows a program, or a piece of one where they are long."""

    name = "triton gather rows"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, GatherRows):
            return Support((f"{type(group).__name__} is no gather of rows",))
        reasons = []
        views = {"x": group.x, "y": group.y} | ({} if group.residual is None else {"residual": group.residual})
        for name, view in views.items():
            if view.dtype not in _FLOATS or view.dtype != group.y.dtype:
                reasons.append(f"{name}: {view.dtype}; wanted y's type, one of {', '.join(_FLOATS)}")
            if view.strides[2] != 1:
                reasons.append(f"{name}: rows with stride {view.strides[2]}; wanted 1")
        if group.y.elements >= 1 << 31:
            reasons.append(f"{group.y.elements} elements; fewer than 2**31 can be counted")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block: numbers of a row that a program takes; rows: how many rows."""
        assert isinstance(group, GatherRows)
        block = min(1024, power_of_two(group.y.shape[2]))
        sizes = (1024, 2048, 4096, 512)
        return [{"rows": max(1, size // block), "block": block, "num_warps": max(1, size // 512)} for size in sizes]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, GatherRows)
        images, count, length = group.y.shape
        rows = images * count
        residual = group.residual
        constants = {
            "COUNT": count,
            "N": length,
            "X_IMAGE": group.x.strides[0],
            "X_ROW": group.x.strides[1],
            "R_IMAGE": 0 if residual is None else residual.strides[0],
            "R_ROW": 0 if residual is None else residual.strides[1],
            "Y_IMAGE": group.y.strides[0],
            "Y_ROW": group.y.strides[1],
            "BLOCK_ROWS": configuration["rows"],
            "BLOCK": configuration["block"],
        }
        grid = (-(-rows // configuration["rows"]), -(-length // configuration["block"]), 1)
        arguments = {
            "x": group.x,
            "index": group.index,
            "residual": residual,
            "y": group.y,
            "rows": Scalar("i32", rows),
        }
        return [launch_of(gather_rows, grid, arguments, constants, configuration["num_warps"])]


TACTICS = (GatherWholeRows(),)
