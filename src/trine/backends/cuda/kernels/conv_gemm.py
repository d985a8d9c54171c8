# ruff: noqa: N803 - a kernel's constants are capitals
"""A convolution and the 1x1 convolution after it in one kernel: the tile between them stays in registers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import ConvGemm, Group
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.operands import activation_constants, launch_of
from trine.backends.cuda.tactic import Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "ConvThenGemm"]


@triton.jit
def conv_gemm(
    x,
    w,
    bias_between,
    b,
    bias,
    residual,
    y,
    rows,
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    X_N: tl.constexpr,
    X_H: tl.constexpr,
    X_W: tl.constexpr,
    Y_ROW: tl.constexpr,
    RES_ROW: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
    BETWEEN: tl.constexpr,
    BETWEEN_A: tl.constexpr,
    BETWEEN_B: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """BLOCK_M pixels (of ``rows`` = N * P * Q): their CHANNELS between, then CHUNK after CHUNK of y's COLUMNS."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    # Rows beyond the end repeat the last one; they are not stored.
    pixel = tl.minimum(m, rows - 1)
    n = pixel // (P * Q)
    h0 = pixel // Q % P * STRIDE_H - PAD_H
    w0 = pixel % Q * STRIDE_W - PAD_W
    image = n.to(tl.int64) * X_N if WIDE else n * X_N
    from_x = x + (image + h0 * X_H + w0 * X_W)
    j = tl.arange(0, BLOCK_K)
    k = tl.arange(0, CHANNELS)
    from_w = w + (k * (R * S * C))[None, :] + j[:, None]
    total = tl.zeros((BLOCK_M, CHANNELS), tl.float32)
    for step in tl.range(0, R * S * C // BLOCK_K):
        rs = step // (C // BLOCK_K)
        c = step % (C // BLOCK_K) * BLOCK_K + j
        h = h0 + rs // S * DILATION_H
        v = w0 + rs % S * DILATION_W
        jump = rs // S * (DILATION_H * X_H) + rs % S * (DILATION_W * X_W)
        inside = ((h >= 0) & (h < H) & (v >= 0) & (v < W))[:, None]
        left = tl.load(from_x[:, None] + (jump + c)[None, :], mask=inside, other=0.0)
        total = tl.dot(left, tl.load(from_w + step * BLOCK_K), total)
    if bias_between is not None:
        total += tl.load(bias_between + k).to(tl.float32)[None, :]
    between = activate(total, BETWEEN, BETWEEN_A, BETWEEN_B).to(x.dtype.element_ty)
    stored = (m < rows)[:, None]
    place = m.to(tl.int64) if WIDE else m
    # With stages of its own the loop asks for the next chunk's weights and residual before it needs them.
    for first in tl.range(0, COLUMNS, CHUNK, num_stages=2):
        column = first + tl.arange(0, CHUNK)
        right = tl.load(b + (column * CHANNELS)[None, :] + k[:, None])
        result = tl.dot(between, right)
        if bias is not None:
            result += tl.load(bias + column).to(tl.float32)[None, :]
        result = activate(result, ACT, ACT_A, ACT_B)
        if residual is not None:
            there = (place * RES_ROW)[:, None] + column[None, :]
            result += tl.load(residual + there, mask=stored, other=0.0).to(tl.float32)
        result = activate(result, AFTER, AFTER_A, AFTER_B)
        tl.store(y + (place * Y_ROW)[:, None] + column[None, :], result.to(y.dtype.element_ty), mask=stored)


class ConvThenGemm:
    """Ungrouped convolutions of 16-bit images, with all their channels in one tile."""

    name = "triton convolution and product"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, ConvGemm):
            return Support((f"{type(group).__name__} is no convolution with a product",))
        reasons = []
        views = {"x": group.x, "w": group.w, "b": group.b, "y": group.y, "residual": group.epilogue.residual}
        for name, view in views.items():
            if view is not None and view.strides[-1] != 1:
                reasons.append(f"{name}: last axis of stride {view.strides[-1]}; wanted 1")
        if group.x.dtype not in ("fp16", "bf16"):
            reasons.append(f"x: {group.x.dtype}; wanted fp16 or bf16")
        elif not self.configurations(group, target):
            reasons.append(f"tiles of {group.w.shape[0]} channels do not fit into {target.shared_bytes} bytes")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_m: pixels; block_k: products of a step; chunk: columns of y at a time."""
        assert isinstance(group, ConvGemm)
        size = 2
        channels, columns = group.w.shape[0], group.b.shape[0]
        deep = next(each for each in (64, 32) if group.x.shape[3] % each == 0)
        found = []
        for high, warps, chunk, stages in (
            (128, 4, 64, 4),
            (128, 8, 128, 4),
            (128, 8, 64, 4),
            (64, 4, 64, 4),
            (64, 4, 128, 4),
            (128, 4, 64, 3),
            (128, 8, 128, 3),
            (256, 8, 64, 3),
            (64, 4, 64, 3),
        ):
            loop = stages * (high + channels) * deep * size
            after = 2 * chunk * (channels + high) * size
            if columns % chunk == 0 and max(loop, after) < 0.95 * target.shared_bytes:
                sizes = {"block_m": high, "block_k": deep, "chunk": chunk}
                found.append({**sizes, "num_warps": warps, "num_stages": stages})
        return found

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, ConvGemm)
        rows, columns = group.y.shape
        residual = group.epilogue.residual
        views = [group.x, group.y] + ([residual] if residual else [])
        constants = {
            **dict(zip(("H", "W", "C"), group.x.shape[1:], strict=True)),
            **dict(zip(("P", "Q"), group.pixels, strict=True)),
            **dict(zip(("R", "S"), group.w.shape[1:3], strict=True)),
            **dict(zip(("STRIDE_H", "STRIDE_W"), group.stride, strict=True)),
            **dict(zip(("PAD_H", "PAD_W"), group.pads[:2], strict=True)),
            **dict(zip(("DILATION_H", "DILATION_W"), group.dilation, strict=True)),
            **dict(zip(("X_N", "X_H", "X_W"), group.x.strides[:3], strict=True)),
            "Y_ROW": group.y.strides[0],
            "RES_ROW": 0 if residual is None else residual.strides[0],
            "COLUMNS": columns,
            "WIDE": any(sum(n * s for n, s in zip(v.shape, v.strides, strict=True)) >= 1 << 31 for v in views),
            **activation_constants("BETWEEN", group.between.act, group.x.dtype),
            **activation_constants("ACT", group.epilogue.act, group.y.dtype),
            **activation_constants("AFTER", group.epilogue.act_after, group.y.dtype),
            "BLOCK_M": configuration["block_m"],
            "BLOCK_K": configuration["block_k"],
            "CHANNELS": group.w.shape[0],
            "CHUNK": configuration["chunk"],
        }
        operands = {
            "x": group.x,
            "w": group.w,
            "bias_between": group.between.bias,
            "b": group.b,
            "bias": group.epilogue.bias,
            "residual": residual,
            "y": group.y,
            "rows": Scalar("i32", rows),
        }
        grid = (math.ceil(rows / configuration["block_m"]), 1, 1)
        warps, stages = configuration["num_warps"], configuration["num_stages"]
        return [launch_of(conv_gemm, grid, operands, constants, warps, stages)]


TACTICS = (ConvThenGemm(),)
