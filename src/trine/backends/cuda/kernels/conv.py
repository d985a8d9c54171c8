# ruff: noqa: N803 - a kernel's constants are capitals
"""Convolution as an implicit matrix product: rows are output pixels, columns output channels, and the products run over
(filter row, filter column, channel), the order in which a filter lies in memory, so that weights load as a matrix.

The kernel; conv_launch.py launches it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from trine.backends.cuda.kernels.activations import activate

__all__ = ["conv", "conv_sum"]


@triton.jit
def _finish(
    total,
    m,
    k,
    rows,
    bias,
    residual,
    y,
    CHANNELS: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    Y_N: tl.constexpr,
    Y_H: tl.constexpr,
    Y_W: tl.constexpr,
    RES_N: tl.constexpr,
    RES_H: tl.constexpr,
    RES_W: tl.constexpr,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    k_end,
):
    """The epilogue of a tile of fp32 sums for output pixels ``m`` and channels ``k`` below ``k_end``, and its store."""
    inside = (m < rows)[:, None] & (k < k_end)[None, :]
    if bias is not None:
        total += tl.load(bias + k, mask=k < k_end, other=0.0).to(tl.float32)[None, :]
    total = activate(total, ACT, ACT_A, ACT_B)
    place = m.to(tl.int64) if WIDE else m
    if residual is not None:
        if RES_H == Q * RES_W and RES_N == P * RES_H:
            there = place * RES_W
        else:
            there = place // (P * Q) * RES_N + place // Q % P * RES_H + place % Q * RES_W
        total += tl.load(residual + there[:, None] + k[None, :], mask=inside, other=0.0).to(tl.float32)
    total = activate(total, AFTER, AFTER_A, AFTER_B)
    if Y_H == Q * Y_W and Y_N == P * Y_H:
        there = place * Y_W
    else:
        there = place // (P * Q) * Y_N + place // Q % P * Y_H + place % Q * Y_W
    tl.store(y + there[:, None] + k[None, :], total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def conv(
    x,
    w,
    scale,
    shift,
    bias,
    residual,
    y,
    partial,
    rows,
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    CHANNELS: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    PADDED: tl.constexpr,
    PROLOGUE: tl.constexpr,
    SCALE_N: tl.constexpr,
    X_N: tl.constexpr,
    X_H: tl.constexpr,
    X_W: tl.constexpr,
    Y_N: tl.constexpr,
    Y_H: tl.constexpr,
    Y_W: tl.constexpr,
    RES_N: tl.constexpr,
    RES_H: tl.constexpr,
    RES_W: tl.constexpr,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    BEFORE: tl.constexpr,
    BEFORE_A: tl.constexpr,
    BEFORE_B: tl.constexpr,
    PRECISION: tl.constexpr,
    FLAT: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """A tile of BLOCK_M output pixels (of ``rows`` = N * P * Q) and BLOCK_N of a group's K output channels.

    C and K are of one group; CHANNELS are the outputs of all. Programs: (tiles, groups, SPLIT). With SPLIT > 1 each
    takes a part of the products and leaves fp32 sums in partial (SPLIT, rows, CHANNELS). A step of the loop takes
    BLOCK_K channels below one filter element, or where FLAT, BLOCK_K products in a row, whatever filter elements they
    belong to: C may then be anything.
    """
    pid = tl.program_id(0)
    g = tl.program_id(1)
    blocks_n: tl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    if GROUP_M == 1 or blocks_n == 1:
        block_m = pid // blocks_n
        block_n = pid % blocks_n
    else:
        # Columns of GROUP_M tiles: programs that run together share weights and pixels in the second-level cache.
        blocks_m = (rows + BLOCK_M - 1) // BLOCK_M
        first = pid // (GROUP_M * blocks_n) * GROUP_M
        high = tl.minimum(blocks_m - first, GROUP_M)
        block_m = first + pid % (GROUP_M * blocks_n) % high
        block_n = pid % (GROUP_M * blocks_n) // high
    m = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    k = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    # Rows and columns beyond the end repeat the last one; they are not stored.
    pixel = tl.minimum(m, rows - 1)
    n = pixel // (P * Q)
    h0 = pixel // Q % P * STRIDE_H - PAD_H
    w0 = pixel % Q * STRIDE_W - PAD_W
    image = n.to(tl.int64) * X_N if WIDE else n * X_N
    from_x = x + (image + h0 * X_H + w0 * X_W + g * C)
    filters = tl.minimum(k, K - 1) if K % BLOCK_N != 0 else k
    products: tl.constexpr = R * S * C
    from_w = w + (g * K + filters) * products
    j = tl.arange(0, BLOCK_K)
    steps: tl.constexpr = (products + BLOCK_K - 1) // BLOCK_K
    part: tl.constexpr = (steps + SPLIT - 1) // SPLIT
    if SPLIT == 1:
        start = 0
        end = steps
    else:
        start = tl.program_id(2) * part
        end = tl.minimum(start + part, steps)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(start, end):
        at = step * BLOCK_K + j
        if FLAT:
            c = at % C
            rs = at // C
            r = rs // S
            s = rs % S
            jump = r * (DILATION_H * X_H) + s * (DILATION_W * X_W) + c
            if PADDED:
                h = h0[:, None] + (r * DILATION_H)[None, :]
                v = w0[:, None] + (s * DILATION_W)[None, :]
                inside = (h >= 0) & (h < H) & (v >= 0) & (v < W)
                if products % BLOCK_K != 0:
                    inside = inside & (at < products)[None, :]
                a = tl.load(from_x[:, None] + jump[None, :], mask=inside, other=0.0)
            elif products % BLOCK_K != 0:
                inside = (at < products)[None, :] & (m >= 0)[:, None]
                a = tl.load(from_x[:, None] + jump[None, :], mask=inside, other=0.0)
            else:
                inside = (at >= 0)[None, :]
                a = tl.load(from_x[:, None] + jump[None, :])
        else:
            rs = step // (C // BLOCK_K)
            r = rs // S
            s = rs % S
            c = step % (C // BLOCK_K) * BLOCK_K + j
            jump = r * (DILATION_H * X_H) + s * (DILATION_W * X_W)
            if PADDED:
                h = h0 + r * DILATION_H
                v = w0 + s * DILATION_W
                inside = ((h >= 0) & (h < H) & (v >= 0) & (v < W))[:, None]
                a = tl.load(from_x[:, None] + (jump + c)[None, :], mask=inside, other=0.0)
            else:
                inside = (m >= 0)[:, None]
                a = tl.load(from_x[:, None] + (jump + c)[None, :])
        if PROLOGUE:
            value = a.to(tl.float32)
            if scale is not None:
                if SCALE_N == 0:
                    value *= tl.load(scale + c).to(tl.float32)[None, :]
                else:
                    value *= tl.load(scale + (n * SCALE_N)[:, None] + c[None, :]).to(tl.float32)
            if shift is not None:
                value += tl.load(shift + c).to(tl.float32)[None, :]
            value = activate(value, BEFORE, BEFORE_A, BEFORE_B)
            a = tl.where(inside, value, 0.0).to(x.dtype.element_ty)  # padding comes after the prologue
        if FLAT and products % BLOCK_K != 0:
            b = tl.load(from_w[None, :] + at[:, None], mask=(at < products)[:, None], other=0.0)
        else:
            b = tl.load(from_w[None, :] + at[:, None])
        total = tl.dot(a, b, total, input_precision=PRECISION)
    if SPLIT > 1:
        place = (tl.program_id(2).to(tl.int64) * rows + m) * CHANNELS
        inside = (m < rows)[:, None] & (k < K)[None, :]
        tl.store(partial + place[:, None] + (g * K + k)[None, :], total, mask=inside)
    else:
        _finish(
            total,
            m,
            g * K + k,
            rows,
            bias,
            residual,
            y,
            CHANNELS,
            P,
            Q,
            Y_N,
            Y_H,
            Y_W,
            RES_N,
            RES_H,
            RES_W,
            WIDE,
            ACT,
            ACT_A,
            ACT_B,
            AFTER,
            AFTER_A,
            AFTER_B,
            (g + 1) * K,
        )


@triton.jit
def conv_sum(
    partial,
    bias,
    residual,
    y,
    rows,
    P: tl.constexpr,
    Q: tl.constexpr,
    CHANNELS: tl.constexpr,
    Y_N: tl.constexpr,
    Y_H: tl.constexpr,
    Y_W: tl.constexpr,
    RES_N: tl.constexpr,
    RES_H: tl.constexpr,
    RES_W: tl.constexpr,
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
    """The sums of partial (SPLIT, rows, CHANNELS), added in order, with the epilogue."""
    blocks_n: tl.constexpr = (CHANNELS + BLOCK_N - 1) // BLOCK_N
    m = tl.program_id(0) // blocks_n * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.program_id(0) % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < rows)[:, None] & (k < CHANNELS)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for part in tl.static_range(SPLIT):
        place = (m.to(tl.int64) + part * rows) * CHANNELS
        total += tl.load(partial + place[:, None] + k[None, :], mask=inside, other=0.0)
    _finish(
        total,
        m,
        k,
        rows,
        bias,
        residual,
        y,
        CHANNELS,
        P,
        Q,
        Y_N,
        Y_H,
        Y_W,
        RES_N,
        RES_H,
        RES_W,
        WIDE,
        ACT,
        ACT_A,
        ACT_B,
        AFTER,
        AFTER_A,
        AFTER_B,
        CHANNELS,
    )
