# ruff: noqa: N803 - a kernel's constants are capitals
"""Squeeze-and-excite of many images: both layers on tensor cores, so that weights are read once for a block of images.

Means and what is between the layers are rounded to the weights' type, as a product of 16-bit tensors has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import ITEM_BYTES, Buffer, Group, SqueezeExcite
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.operands import activation_constants, launch_of, power_of_two
from trine.backends.cuda.tactic import Launch, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "SqueezeExciteBlocks"]

_LEAST = 16  # images: the rows of a tensor core's tile
_UNROLLED = 16  # tiles of sums that are added in straight-line code


@triton.jit
def squeeze_layer(
    sums,
    w,
    bias,
    y,
    FACTOR: tl.constexpr,
    IMAGES: tl.constexpr,
    T: tl.constexpr,
    K: tl.constexpr,
    OUT: tl.constexpr,
    SUMS_N: tl.constexpr,
    SUMS_T: tl.constexpr,
    W_ROW: tl.constexpr,
    Y_ROW: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    UNROLLED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """``y = act(sums.sum(1) * FACTOR @ w.T + bias)``: sums (images, T, K) of any floating type, w (OUT, K) of 16 bits.

    A program has BLOCK_N images and BLOCK_O outputs.
    """
    blocks: tl.constexpr = (OUT + BLOCK_O - 1) // BLOCK_O
    n = tl.program_id(0) // blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    o = tl.program_id(0) % blocks * BLOCK_O + tl.arange(0, BLOCK_O)
    place = sums + (n.to(tl.int64) * SUMS_N)[:, None]
    total = tl.zeros((BLOCK_N, BLOCK_O), tl.float32)
    for start in tl.range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = (n < IMAGES)[:, None] & (k < K)[None, :]
        weight = tl.load(w + (o * W_ROW)[None, :] + k[:, None], mask=(o < OUT)[None, :] & (k < K)[:, None], other=0.0)
        mean = tl.load(place + k[None, :], mask=inside, other=0.0).to(tl.float32)
        if UNROLLED:
            for t in tl.static_range(1, T):
                mean += tl.load(place + (t * SUMS_T + k)[None, :], mask=inside, other=0.0).to(tl.float32)
        else:
            for t in tl.range(1, T):
                mean += tl.load(place + (t * SUMS_T + k)[None, :], mask=inside, other=0.0).to(tl.float32)
        total = tl.dot((mean * FACTOR).to(weight.dtype), weight, total)
    if bias is not None:
        total += tl.load(bias + o, mask=o < OUT, other=0.0).to(tl.float32)[None, :]
    total = activate(total, ACT, ACT_A, ACT_B)
    there = y + (n.to(tl.int64) * Y_ROW)[:, None] + o[None, :]
    tl.store(there, total.to(y.dtype.element_ty), mask=(n < IMAGES)[:, None] & (o < OUT)[None, :])


class SqueezeExciteBlocks:
    """Blocks of images, in one launch for each layer."""

    name = "triton squeeze-excite blocks"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, SqueezeExcite):
            return Support((f"{type(group).__name__} is no squeeze-and-excite",))
        reasons = []
        if group.y.shape[0] < _LEAST:
            reasons.append(f"{group.y.shape[0]} images; at least {_LEAST} make a block")
        if group.w1.dtype not in ("fp16", "bf16") or group.w2.dtype != group.w1.dtype:
            reasons.append(f"weights of {group.w1.dtype} and {group.w2.dtype}; wanted fp16 or bf16 for both")
        for name, view in (("sums", group.sums), ("w1", group.w1), ("w2", group.w2), ("y", group.y)):
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: last axis of stride {view.strides[-1]}; wanted 1")
        if not reasons and not self.configurations(group, target):
            reasons.append(f"{group.sums.shape[1]} tiles of sums; no block of them fits into shared memory")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. images: rows of a block; first and second: outputs of a program in each layer; products:
        how many are added at a time."""
        assert isinstance(group, SqueezeExcite)
        images, channels = group.y.shape
        found: list[dict[str, Any]] = []
        for rows, first, second, products, warps in (
            (16, 16, 32, 256, 4),
            (16, 32, 64, 256, 4),
            (16, 32, 64, 128, 4),
            (32, 32, 64, 128, 4),
            (16, 16, 64, 256, 8),
        ):
            if rows > power_of_two(images) or (products > 128 and products >= 2 * channels):
                continue
            if _shared(group, rows, first, products) > target.shared_bytes:
                continue
            found.append({"images": rows, "first": first, "second": second, "products": products, "num_warps": warps})
        return found

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, SqueezeExcite)
        images, channels = group.y.shape
        hidden = group.w1.shape[0]
        row = -(-hidden // 16) * 16  # runs of 16 bytes in the rows between
        between = Scratch(Buffer(f"{group.name} hidden", "arena", group.w1.dtype, images * row))
        rows, products = configuration["images"], configuration["products"]

        def layer(operands: Mapping[str, Any], constants: Mapping[str, Any], block: int) -> Launch:
            reduced, outputs = constants["K"], constants["OUT"]
            tiles, deep = constants["T"], max(16, min(products, power_of_two(reduced)))
            wide = max(16, min(block, power_of_two(outputs)))
            # In straight-line code, two steps' tiles of sums, in fp32 at most, and of weights are in shared memory.
            fits = 2 * deep * (4 * tiles * rows + 2 * wide) <= target.shared_bytes
            sizes = {
                "IMAGES": images,
                "UNROLLED": tiles <= _UNROLLED and fits,
                "BLOCK_N": rows,
                "BLOCK_K": deep,
                "BLOCK_O": wide,
            }
            programs = math.ceil(images / rows) * math.ceil(outputs / wide)
            return launch_of(
                squeeze_layer, (programs, 1, 1), operands, {**constants, **sizes}, configuration["num_warps"]
            )

        return [
            layer(
                {"sums": group.sums, "w": group.w1, "bias": group.b1, "y": between},
                {
                    "FACTOR": float(group.factor),
                    "T": group.sums.shape[1],
                    "K": channels,
                    "OUT": hidden,
                    "SUMS_N": group.sums.strides[0],
                    "SUMS_T": group.sums.strides[1],
                    "W_ROW": group.w1.strides[0],
                    "Y_ROW": row,
                    **activation_constants("ACT", group.act1, group.w1.dtype),
                },
                configuration["first"],
            ),
            layer(
                {"sums": between, "w": group.w2, "bias": group.b2, "y": group.y},
                {
                    "FACTOR": 1.0,
                    "T": 1,
                    "K": hidden,
                    "OUT": channels,
                    "SUMS_N": row,
                    "SUMS_T": 0,
                    "W_ROW": group.w2.strides[0],
                    "Y_ROW": group.y.strides[0],
                    **activation_constants("ACT", group.act2, group.y.dtype),
                },
                configuration["second"],
            ),
        ]


def _shared(group: SqueezeExcite, rows: int, outputs: int, products: int) -> int:
    """Bytes of shared memory of the first layer: two steps are under way, each with all its tiles of sums."""
    _, tiles, channels = group.sums.shape
    if tiles > _UNROLLED or channels <= products:
        return 0  # one tile at a time, or one step
    return 2 * products * (tiles * rows * ITEM_BYTES[group.sums.dtype] + outputs * ITEM_BYTES[group.w1.dtype])


TACTICS = (SqueezeExciteBlocks(),)
