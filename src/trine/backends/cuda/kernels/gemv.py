# ruff: noqa: N803 - a kernel's constants are capitals
"""Matrix products of a few rows, by plain dot products: as fast as the matrix can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Gemm, Group, View
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.gemm_operands import epilogue_constants, in_units, refusals
from trine.backends.cuda.kernels.gemm_tiles import gemv_tiles
from trine.backends.cuda.kernels.operands import launch_of
from trine.backends.cuda.tactic import Argument, Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "FewRows"]

_FEW = 8  # rows


@triton.jit
def _dot_row(a, a_row, row, rows, weight, k, products):
    """Products of one row of a with weights (BLOCK_N, BLOCK_K); a is loaded in their layout, without an exchange."""
    there = a + tl.minimum(row, rows - 1).to(tl.int64) * a_row
    left = tl.load(there + k[None, :], mask=(k < products)[None, :], other=0.0).to(tl.float32)
    return left * weight


@triton.jit
def _finish_row(
    product,
    row,
    rows,
    n,
    columns,
    bias,
    residual,
    y,
    y_row,
    residual_row,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
):
    """The epilogue of one row's BLOCK_N outputs."""
    inside = (n < columns) & (row < rows)
    total = tl.sum(product, axis=1)
    if bias is not None:
        total += tl.load(bias + n, mask=inside, other=0.0).to(tl.float32)
    total = activate(total, ACT, ACT_A, ACT_B)
    if residual is not None:
        total += tl.load(residual + row * residual_row + n, mask=inside, other=0.0).to(tl.float32)
    total = activate(total, AFTER, AFTER_A, AFTER_B)
    tl.store(y + row * y_row + n, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def gemv(
    a,
    b,
    bias,
    residual,
    y,
    rows,
    columns,
    products,
    a_row,
    b_row,
    y_row,
    residual_row,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_PRODUCTS: tl.constexpr,
    UNIT_A: tl.constexpr,
    UNIT_B: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """BLOCK_N columns of ROWS rows, 1, 2 or 4: as fast as b can be read. Programs: (columns, rows)."""
    columns = columns * UNIT_COLUMNS
    products = products * UNIT_PRODUCTS
    a_row = a_row * UNIT_A
    b_row = b_row * UNIT_B
    y_row = y_row * UNIT_Y
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1) * ROWS
    from_b = b + tl.minimum(n, columns - 1).to(tl.int64)[:, None] * b_row
    j = tl.arange(0, BLOCK_K)
    sum0 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    if ROWS > 1:
        sum1 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    if ROWS > 2:
        sum2 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
        sum3 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for at in tl.range(0, products, BLOCK_K):
        k = at + j
        weight = tl.load(from_b + k[None, :], mask=(k < products)[None, :], other=0.0).to(tl.float32)
        sum0 += _dot_row(a, a_row, row, rows, weight, k, products)
        if ROWS > 1:
            sum1 += _dot_row(a, a_row, row + 1, rows, weight, k, products)
        if ROWS > 2:
            sum2 += _dot_row(a, a_row, row + 2, rows, weight, k, products)
            sum3 += _dot_row(a, a_row, row + 3, rows, weight, k, products)
    for each in tl.static_range(ROWS):
        if each == 0:
            product = sum0
        elif each == 1:
            product = sum1
        elif each == 2:
            product = sum2
        else:
            product = sum3
        _finish_row(
            product,
            row + each,
            rows,
            n,
            columns,
            bias,
            residual,
            y,
            y_row,
            residual_row,
            ACT,
            ACT_A,
            ACT_B,
            AFTER,
            AFTER_A,
            AFTER_B,
        )


class FewRows:
    """Up to eight rows: no tensor cores, all the memory's bandwidth."""

    name = "triton gemv"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        reasons = refusals(group)
        if not reasons and isinstance(group, Gemm):
            if len(group.y.shape) != 2:
                reasons.append(f"batch axes {group.y.shape[:-2]}; wanted none")
            if group.y.shape[-2] > _FEW:
                reasons.append(f"{group.y.shape[-2]} rows; at most {_FEW}")
            if group.b.strides[-1] != 1 and group.b.shape[-1] != 1:
                reasons.append("b: products are not next to each other")
            if group.prologue is not None:
                reasons.append("a prologue; wanted none")
            if group.normal is not None:
                reasons.append("a normalisation of the sums; wanted none")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_n: outputs of a program; block_k: products of a step; rows: of a program."""
        assert isinstance(group, Gemm)
        return gemv_tiles(group, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Gemm)
        rows, columns = group.y.shape
        sizes, units = in_units(group, False)
        operands: dict[str, Argument | View | None] = {
            "a": group.a,
            "b": group.b,
            "bias": group.epilogue.bias,
            "residual": group.epilogue.residual,
            "y": group.y,
            "rows": Scalar("i32", rows),
            **sizes,
        }
        constants = {
            name: value for name, value in {**units, **epilogue_constants(group)}.items() if name in gemv.arg_names
        }
        constants |= {
            "ROWS": configuration["rows"],
            "BLOCK_N": configuration["block_n"],
            "BLOCK_K": configuration["block_k"],
        }
        grid = (-(-columns // configuration["block_n"]), -(-rows // configuration["rows"]), 1)
        return [launch_of(gemv, grid, operands, constants, configuration["num_warps"])]


TACTICS = (FewRows(),)
