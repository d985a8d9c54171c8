# ruff: noqa: N803 - a kernel's constants are capitals
"""The two small fully connected layers between a depthwise convolution's sums and the scale of its channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Buffer, Group, SqueezeExcite
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.operands import activation_constants, launch_of, power_of_two
from trine.backends.cuda.tactic import Launch, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "SqueezeExciteImages"]

_CHANNELS, _HIDDEN = 8192, 1024


@triton.jit
def squeeze_excite(
    sums,
    w1,
    b1,
    w2,
    b2,
    y,
    means,
    hidden,
    FACTOR: tl.constexpr,
    T: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    SUMS_N: tl.constexpr,
    SUMS_T: tl.constexpr,
    W1_ROW: tl.constexpr,
    W2_ROW: tl.constexpr,
    Y_ROW: tl.constexpr,
    ACT1: tl.constexpr,
    ACT1_A: tl.constexpr,
    ACT1_B: tl.constexpr,
    ACT2: tl.constexpr,
    ACT2_A: tl.constexpr,
    ACT2_B: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    SPLIT: tl.constexpr,
    STAGES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    WHOLE_C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """One image in SPLIT programs. FIRST: means and the first layer, which every program computes for itself unless
    there is no SECOND, when each has BLOCK_S of its outputs; SECOND: C / SPLIT outputs of the second layer.

    means: (programs, C) fp32, the program's own memory; hidden: (images, S) fp32, between two launches.
    """
    pid = tl.program_id(0)
    n = pid // SPLIT
    part = pid % SPLIT
    s = tl.arange(0, BLOCK_S)
    if FIRST and not SECOND:
        s += part * BLOCK_S
    if FIRST:
        # All means at once, and through memory to the layout in which the weights come: a step for each block of
        # channels with a barrier in it would wait for memory each time.
        c = tl.arange(0, WHOLE_C)
        t = tl.arange(0, BLOCK_T)
        total = tl.zeros((BLOCK_T, WHOLE_C), tl.float32)
        for start in range(0, T, BLOCK_T):
            tile = start + t
            mask = (tile < T)[:, None] & (c < C)[None, :]
            total += tl.load(sums + n.to(tl.int64) * SUMS_N + tile[:, None] * SUMS_T + c[None, :], mask=mask, other=0.0)
        own = means + pid.to(tl.int64) * C
        tl.store(own + c, tl.sum(total, axis=0) * FACTOR, mask=c < C)
        tl.debug_barrier()
        product = tl.zeros((BLOCK_S, BLOCK_C), tl.float32)
        for start in tl.range(0, C, BLOCK_C, num_stages=STAGES):
            d = start + tl.arange(0, BLOCK_C)
            mask = (s < S)[:, None] & (d < C)[None, :]
            weight = tl.load(w1 + s[:, None] * W1_ROW + d[None, :], mask=mask, other=0.0).to(tl.float32)
            product += weight * tl.load(own + d[None, :], mask=(d < C)[None, :], other=0.0)
        h = tl.sum(product, axis=1)
        if b1 is not None:
            h += tl.load(b1 + s, mask=s < S, other=0.0).to(tl.float32)
        h = activate(h, ACT1, ACT1_A, ACT1_B)
        if not SECOND:
            tl.store(hidden + n.to(tl.int64) * S + s, h, mask=s < S)
    else:
        h = tl.load(hidden + n.to(tl.int64) * S + s, mask=s < S, other=0.0)
    if SECOND:
        share: tl.constexpr = (C + SPLIT - 1) // SPLIT
        for start in tl.range(0, share, BLOCK_O, num_stages=STAGES):
            place = start + tl.arange(0, BLOCK_O)
            o = part * share + place
            inside = (place < share) & (o < C)
            mask = inside[:, None] & (s < S)[None, :]
            weight = tl.load(w2 + o[:, None] * W2_ROW + s[None, :], mask=mask, other=0.0).to(tl.float32)
            # The 0 rounds each product: a lane with one would else add it unrounded to the other lanes' rounded ones,
            # and lanes that hold the same sum would differ in its last bit.
            value = tl.sum(weight * h[None, :] + 0.0, axis=1)
            if b2 is not None:
                value += tl.load(b2 + o, mask=inside, other=0.0).to(tl.float32)
            value = activate(value, ACT2, ACT2_A, ACT2_B)
            tl.store(y + n.to(tl.int64) * Y_ROW + o, value, mask=inside)


class SqueezeExciteImages:
    """Each image in a few programs, in one launch or one for each layer."""

    name = "triton squeeze-excite"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, SqueezeExcite):
            return Support((f"{type(group).__name__} is no squeeze-and-excite",))
        hidden, channels = group.w1.shape
        reasons = []
        if channels > _CHANNELS or hidden > _HIDDEN:
            reasons.append(f"{channels} channels and {hidden} between; at most {_CHANNELS} and {_HIDDEN}")
        if group.sums.dtype != "fp32":
            reasons.append(f"sums of {group.sums.dtype}; wanted fp32")
        for name, view in (("sums", group.sums), ("w1", group.w1), ("w2", group.w2), ("y", group.y)):
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: last axis of stride {view.strides[-1]}; wanted 1")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. split: programs of an image; launches: 1, or 2 with one for each layer."""
        assert isinstance(group, SqueezeExcite)
        images, channels = group.y.shape
        splits = [each for each in (1, 2, 4, 8, 16, 32) if channels >= 16 * each or each == 1]
        wanted = max(1, target.multiprocessors // images)
        splits.sort(key=lambda each: abs(math.log2(each / wanted)))
        found = [
            {"launches": 1, "split": each, "num_warps": warps, "stages": stages}
            for each in splits[:2]
            for warps, stages in ((8, 3), (4, 3), (8, 1))
        ]
        return [*found, *({"launches": 2, "split": splits[0], "num_warps": w, "stages": 3} for w in (8, 4))]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, SqueezeExcite)
        images, channels = group.y.shape
        hidden = group.w1.shape[0]
        warps, split = configuration["num_warps"], configuration["split"]
        one = configuration["launches"] == 1
        first_split = split if one else max(1, math.ceil(hidden / 16))
        block_s = power_of_two(hidden) if one else min(16, power_of_two(hidden))
        means = Scratch(Buffer(f"{group.name} means", "arena", "fp32", images * first_split * channels))
        between = None if one else Scratch(Buffer(f"{group.name} hidden", "arena", "fp32", images * hidden))
        operands = {
            "sums": group.sums,
            "w1": group.w1,
            "b1": group.b1,
            "w2": group.w2,
            "b2": group.b2,
            "y": group.y,
            "means": means,
            "hidden": between,
        }
        whole = power_of_two(channels)
        numbers = 32 * 32 * warps  # 32 of each thread
        constants = {
            "FACTOR": float(group.factor),
            "T": group.sums.shape[1],
            "C": channels,
            "S": hidden,
            "SUMS_N": group.sums.strides[0],
            "SUMS_T": group.sums.strides[1],
            "W1_ROW": group.w1.strides[0],
            "W2_ROW": group.w2.strides[0],
            "Y_ROW": group.y.strides[0],
            **activation_constants("ACT1", group.act1, "fp32"),
            **activation_constants("ACT2", group.act2, group.y.dtype),
            "STAGES": configuration["stages"],
            "BLOCK_T": max(1, min(power_of_two(group.sums.shape[1]), numbers // 2 // whole)),
            "WHOLE_C": whole,
        }

        def launch(first: bool, second: bool, programs: int, block_s: int) -> Launch:
            parts = {
                "FIRST": first,
                "SECOND": second,
                "SPLIT": programs,
                "BLOCK_S": block_s,
                "BLOCK_C": max(16, min(whole, numbers // block_s)),
                "BLOCK_O": max(1, min(power_of_two(math.ceil(channels / programs)), numbers // block_s)),
            }
            given = dict(operands)
            if not first:
                given |= {"sums": None, "w1": None, "b1": None, "means": None}
            if not second:
                given |= {"w2": None, "b2": None, "y": None}
            return launch_of(squeeze_excite, (images * programs, 1, 1), given, constants | parts, warps)

        if one:
            return [launch(True, True, split, block_s)]
        return [launch(True, False, first_split, block_s), launch(False, True, split, power_of_two(hidden))]


TACTICS = (SqueezeExciteImages(),)
