# ruff: noqa: N803 - a kernel's constants are capitals
"""Convolution as an implicit matrix product: rows are output pixels, columns output channels, and the products run over
(filter row, filter column, channel), the order in which a filter lies in memory, so that weights load as a matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Buffer, Conv, Group, Prologue, View
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.conv_tiles import conv_tiles
from trine.backends.cuda.kernels.operands import activation_constants, launch_of, with_precision
from trine.backends.cuda.tactic import Argument, Launch, Scalar, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "ImplicitGemmConv"]

_FLOATS = ("fp16", "bf16", "fp32")


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


class ImplicitGemmConv:
    """Any 2-D convolution of channels-last images, with groups too."""

    name = "triton implicit gemm"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Conv):
            return Support((f"{type(group).__name__} is no convolution",))
        reasons = []
        for name, view in {"x": group.x, "y": group.y, "w": group.w, "residual": group.epilogue.residual}.items():
            if view is None:
                continue
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: channels {view.strides[-1]} elements apart; wanted 1")
            if view.dtype not in _FLOATS:
                reasons.append(f"{name}: {view.dtype}; wanted {', '.join(_FLOATS)}")
        if group.x.dtype != group.w.dtype:
            reasons.append(f"x is {group.x.dtype}, w is {group.w.dtype}; wanted the same")
        if not group.w.contiguous:
            reasons.append(f"w: strides {group.w.strides}; wanted contiguous (K, R, S, C / groups)")
        if group.w.elements >= 1 << 31:
            reasons.append(f"w: {group.w.elements} elements; wanted fewer than 2**31")
        if math.prod(group.y.shape[:3]) >= 1 << 31:
            reasons.append(f"y: {group.y.shape[:3]} are 2**31 pixels or more")
        prologue = group.prologue
        if prologue is not None and group.groups != 1:
            reasons.append(f"a prologue with {group.groups} groups; wanted one group")
        if prologue is not None and any(v is not None and v.strides[-1] != 1 for v in (prologue.scale, prologue.shift)):
            reasons.append("prologue: channels are not next to each other")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_m: pixels; block_n: channels; block_k: products of a step; group_m: see the kernel;
        precision: of products of fp32."""
        assert isinstance(group, Conv)
        return with_precision(conv_tiles(group, target), group.x.dtype, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Conv)
        images, p, q, channels = group.y.shape
        rows = images * p * q
        outputs, r, s, c = group.w.shape
        k = outputs // group.groups
        split = configuration["split_k"]
        prologue, epilogue = group.prologue or Prologue(), group.epilogue
        partial = Scratch(Buffer(f"{group.name} partial sums", "arena", "fp32", split * rows * channels))
        operands: dict[str, Argument | View | None] = {
            "x": group.x,
            "w": group.w,
            "scale": prologue.scale,
            "shift": prologue.shift,
            "bias": epilogue.bias,
            "residual": epilogue.residual,
            "y": group.y,
            "partial": None,
            "rows": Scalar("i32", rows),
        }
        finish = {"P": p, "Q": q, "CHANNELS": channels, "SPLIT": split, **_finish_constants(group)}
        constants = {
            **finish,
            "H": group.x.shape[1],
            "W": group.x.shape[2],
            "C": c,
            "K": k,
            "R": r,
            "S": s,
            **dict(zip(("STRIDE_H", "STRIDE_W"), group.stride, strict=True)),
            "PAD_H": group.pads[0],
            "PAD_W": group.pads[1],
            **dict(zip(("DILATION_H", "DILATION_W"), group.dilation, strict=True)),
            "PADDED": any(group.pads),
            "PROLOGUE": group.prologue is not None,
            "SCALE_N": prologue.scale.strides[0] if prologue.scale and len(prologue.scale.shape) == 2 else 0,
            **dict(zip(("X_N", "X_H", "X_W"), group.x.strides[:3], strict=True)),
            **activation_constants("BEFORE", prologue.act),
            "PRECISION": configuration.get("precision", "ieee"),
            "FLAT": c % configuration["block_k"] != 0,
            "BLOCK_M": configuration["block_m"],
            "BLOCK_N": configuration["block_n"],
            "BLOCK_K": configuration["block_k"],
            "GROUP_M": configuration["group_m"],
        }
        tiles = -(-rows // configuration["block_m"]) * -(-k // configuration["block_n"])
        first = operands | ({} if split == 1 else {"bias": None, "residual": None, "y": None, "partial": partial})
        grid = (tiles, group.groups, split)
        products = launch_of(conv, grid, first, constants, configuration["num_warps"], configuration["num_stages"])
        if split == 1:
            return [products]
        high, wide = (16, 64) if channels >= 64 else (32, 32)
        tiles = -(-rows // high) * -(-channels // wide)
        sums = finish | {"BLOCK_M": high, "BLOCK_N": wide}
        return [products, launch_of(conv_sum, (tiles, 1, 1), operands | {"partial": partial}, sums, 4)]


def _finish_constants(group: Conv) -> dict[str, Any]:
    """The constants of the epilogue."""
    residual = group.epilogue.residual
    views = [group.x, group.y] + ([residual] if residual else [])
    return {
        **dict(zip(("Y_N", "Y_H", "Y_W"), group.y.strides[:3], strict=True)),
        **dict(zip(("RES_N", "RES_H", "RES_W"), residual.strides[:3] if residual else (0, 0, 0), strict=True)),
        "WIDE": any(sum(n * s for n, s in zip(v.shape, v.strides, strict=True)) >= 1 << 31 for v in views),
        **activation_constants("ACT", group.epilogue.act),
        **activation_constants("AFTER", group.epilogue.act_after),
    }


TACTICS = (ImplicitGemmConv(),)
