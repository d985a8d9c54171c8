# ruff: noqa: N803 - a kernel's constants are capitals
"""The kernel of matrix products ``y = epilogue(normal(prologue(a) @ b.T))``, in tiles; gemm_launch launches it.

Sizes and strides are arguments, so that a network's layers share kernels. Triton has to know which powers of two divide
them before it copies 16 bytes at a time; an argument can only be marked as a multiple of 16, and 24 or 40 channels are
none. So they are given in units, a constant each: 40 as 5 units of 8.
"""

from __future__ import annotations

import triton
import triton.language as tl

from trine.backends.cuda.kernels.activations import activate

__all__ = ["gemm", "gemm_sum"]


@triton.jit
def _finish(
    total,
    m,
    n,
    rows,
    columns,
    statistics,
    sums,
    bias,
    residual,
    y,
    y_row,
    residual_row,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
):
    """The normalisation and the epilogue of a tile of fp32 sums for rows ``m`` and columns ``n``, and its store."""
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    if statistics is not None:
        mean = tl.load(statistics + 2 * m, mask=m < rows, other=0.0)
        rstd = tl.load(statistics + 2 * m + 1, mask=m < rows, other=0.0)
        total -= mean[:, None] * tl.load(sums + n, mask=n < columns, other=0.0)[None, :]
        total *= rstd[:, None]
    if bias is not None:
        total += tl.load(bias + n, mask=n < columns, other=0.0).to(tl.float32)[None, :]
    total = activate(total, ACT, ACT_A, ACT_B)
    place = m.to(tl.int64) if WIDE else m
    if residual is not None:
        there = (place * residual_row)[:, None] + n[None, :]
        total += tl.load(residual + there, mask=inside, other=0.0).to(tl.float32)
    total = activate(total, AFTER, AFTER_A, AFTER_B)
    tl.store(y + ((place * y_row)[:, None] + n[None, :]), total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def gemm(
    a,
    b,
    scale,
    shift,
    statistics,
    sums,
    bias,
    residual,
    y,
    partial,
    rows,
    columns,
    products,
    a_row,
    b_row,
    y_row,
    residual_row,
    scale_row,
    rows_per_image,
    batches,
    a_outer,
    a_inner,
    b_outer,
    b_inner,
    y_outer,
    y_inner,
    residual_outer,
    residual_inner,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_PRODUCTS: tl.constexpr,
    UNIT_A: tl.constexpr,
    UNIT_B: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    EVEN_K: tl.constexpr,
    TURNED: tl.constexpr,
    WIDE: tl.constexpr,
    PROLOGUE: tl.constexpr,
    IMAGES: tl.constexpr,
    BEFORE: tl.constexpr,
    BEFORE_A: tl.constexpr,
    BEFORE_B: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    PRECISION: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """A tile of BLOCK_M rows and BLOCK_N columns of one batch entry. Programs: (tiles of all entries, SPLIT).

    columns, products and strides come in units. With SPLIT > 1 each program takes a part of the products and leaves
    fp32 sums in partial (SPLIT, rows, columns). ``batches``: entries of the inner batch axis; None without batch axes.
    TURNED: b's columns are contiguous, not its products. IMAGES: how many rows of a scale (images, K) a tile may need,
    1 or 2; 0 for any number, -1 for a scale (K,).
    """
    pid = tl.program_id(0)
    columns = columns * UNIT_COLUMNS
    products = products * UNIT_PRODUCTS
    a_row = a_row * UNIT_A
    b_row = b_row * UNIT_B
    y_row = y_row * UNIT_Y
    blocks_m = (rows + BLOCK_M - 1) // BLOCK_M
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    if batches is not None:
        outer = pid // (blocks_m * blocks_n) // batches
        inner = pid // (blocks_m * blocks_n) % batches
        pid = pid % (blocks_m * blocks_n)
        if WIDE:
            outer = outer.to(tl.int64)
            inner = inner.to(tl.int64)
        a += (outer * a_outer + inner * a_inner) * UNIT_A
        b += (outer * b_outer + inner * b_inner) * UNIT_B
        y += (outer * y_outer + inner * y_inner) * UNIT_Y
        if residual is not None:
            residual += (outer * residual_outer + inner * residual_inner) * UNIT_RESIDUAL
    if GROUP_M == 1:
        block_m = pid // blocks_n
        block_n = pid % blocks_n
    else:
        # Columns of GROUP_M tiles: programs that run together share operands in the second-level cache.
        first = pid // (GROUP_M * blocks_n) * GROUP_M
        high = tl.minimum(blocks_m - first, GROUP_M)
        block_m = first + pid % (GROUP_M * blocks_n) % high
        block_n = pid % (GROUP_M * blocks_n) // high
    m = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, BLOCK_K)
    # Rows (and columns) beyond the end repeat the last one; they are not stored.
    row = tl.minimum(m, rows - 1)
    last = tl.minimum(n, columns - 1)
    if WIDE:
        row = row.to(tl.int64)
        last = last.to(tl.int64)
    from_a = (row * a_row)[:, None] + j[None, :]
    if TURNED:
        from_b = (j.to(tl.int64) * b_row if WIDE else j * b_row)[:, None] + n[None, :]
    else:
        from_b = (last * b_row)[None, :] + j[:, None]
    steps = (products + BLOCK_K - 1) // BLOCK_K
    if SPLIT == 1:
        start = 0
        end = steps
    else:
        part = (steps + SPLIT - 1) // SPLIT
        start = tl.program_id(1) * part
        end = tl.minimum(start + part, steps)
    if IMAGES > 0:
        image = block_m * BLOCK_M // rows_per_image
        next_image = tl.minimum(image + 1, (rows - 1) // rows_per_image)
        in_first = (m < (image + 1) * rows_per_image)[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(start, end):
        at = step * BLOCK_K
        k = at + j
        if EVEN_K:  # noqa: SIM108 - Triton's own branch, without the mask
            left = tl.load(a + at + from_a)
        else:
            left = tl.load(a + at + from_a, mask=(k < products)[None, :], other=0.0)
        if TURNED:
            b_at = at.to(tl.int64) * b_row if WIDE else at * b_row
            inside = (n < columns)[None, :] if EVEN_K else (n < columns)[None, :] & (k < products)[:, None]
            right = tl.load(b + b_at + from_b, mask=inside, other=0.0)
        elif EVEN_K:
            right = tl.load(b + at + from_b)
        else:
            right = tl.load(b + at + from_b, mask=(k < products)[:, None], other=0.0)
        if PROLOGUE:
            value = left.to(tl.float32)
            known = k < products
            if scale is not None:
                if IMAGES == -1:
                    value *= tl.load(scale + k, mask=known, other=0.0).to(tl.float32)[None, :]
                elif IMAGES == 0:
                    there = (row // rows_per_image * scale_row)[:, None] + k[None, :]
                    value *= tl.load(scale + there, mask=known[None, :], other=0.0).to(tl.float32)
                else:
                    factor = tl.load(scale + image * scale_row + k, mask=known, other=0.0).to(tl.float32)[None, :]
                    if IMAGES == 2:
                        other = tl.load(scale + next_image * scale_row + k, mask=known, other=0.0).to(tl.float32)
                        factor = tl.where(in_first, factor, other[None, :])
                    value *= factor
            if shift is not None:
                value += tl.load(shift + k, mask=known, other=0.0).to(tl.float32)[None, :]
            value = activate(value, BEFORE, BEFORE_A, BEFORE_B)
            if not EVEN_K:
                value = tl.where(known[None, :], value, 0.0)
            left = value.to(a.dtype.element_ty)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    if SPLIT > 1:
        place = (tl.program_id(1).to(tl.int64) * rows + m) * columns
        inside = (m < rows)[:, None] & (n < columns)[None, :]
        tl.store(partial + place[:, None] + n[None, :], total, mask=inside)
    else:
        _finish(
            total,
            m,
            n,
            rows,
            columns,
            statistics,
            sums,
            bias,
            residual,
            y,
            y_row,
            residual_row,
            WIDE,
            ACT,
            ACT_A,
            ACT_B,
            AFTER,
            AFTER_A,
            AFTER_B,
        )


@triton.jit
def gemm_sum(
    partial,
    statistics,
    sums,
    bias,
    residual,
    y,
    rows,
    columns,
    y_row,
    residual_row,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The sums of partial (SPLIT, rows, columns), added in order, with the epilogue."""
    columns = columns * UNIT_COLUMNS
    y_row = y_row * UNIT_Y
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    m = tl.program_id(0) // blocks_n * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for part in tl.static_range(SPLIT):
        place = (m.to(tl.int64) + part * rows) * columns
        total += tl.load(partial + place[:, None] + n[None, :], mask=inside, other=0.0)
    _finish(
        total,
        m,
        n,
        rows,
        columns,
        statistics,
        sums,
        bias,
        residual,
        y,
        y_row,
        residual_row,
        WIDE,
        ACT,
        ACT_A,
        ACT_B,
        AFTER,
        AFTER_A,
        AFTER_B,
    )
