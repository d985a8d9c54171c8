# ruff: noqa: N803 - a kernel's constants are capitals; its branches are Triton's
"""Reductions of the middle of three axes, with two launches where one would leave most of the GPU idle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import NO_ACTIVATION, Activation, Buffer, Group, Reduce
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.operands import activation_constants, launch_of, power_of_two
from trine.backends.cuda.tactic import Argument, Launch, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "ReduceTiles"]

# kind: (what is combined, how, what becomes of the result)
_KINDS = {
    "sum": ("value", "sum", "none"),
    "mean": ("value", "sum", "mean"),
    "sumsq": ("square", "sum", "none"),
    "l2": ("square", "sum", "root"),
    "max": ("value", "max", "none"),
    "min": ("value", "min", "none"),
    "prod": ("value", "prod", "none"),
}


@triton.jit
def _maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _product(a, b):
    return a * b


@triton.jit
def reduce_tile(
    x,
    y,
    LENGTH: tl.constexpr,
    INNER: tl.constexpr,
    PARTS: tl.constexpr,
    XO: tl.constexpr,
    XL: tl.constexpr,
    XI: tl.constexpr,
    YO: tl.constexpr,
    YP: tl.constexpr,
    YI: tl.constexpr,
    SQUARE: tl.constexpr,
    HOW: tl.constexpr,
    AFTER: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """BLOCK_I results, over one of PARTS pieces of the axis of LENGTH that is reduced; y is (outer, PARTS, inner)."""
    pid = tl.program_id(0)
    blocks = (INNER + BLOCK_I - 1) // BLOCK_I
    i = (pid % blocks * BLOCK_I + tl.arange(0, BLOCK_I)).to(tl.int64)
    part = pid // blocks % PARTS
    outer = (pid // (blocks * PARTS)).to(tl.int64)
    piece = (LENGTH + PARTS - 1) // PARTS
    first = part * piece
    end = tl.minimum(first + piece, LENGTH)
    nothing = 0.0
    if HOW == "max":
        nothing = float("-inf")
    if HOW == "min":
        nothing = float("inf")
    if HOW == "prod":
        nothing = 1.0
    total = tl.full((BLOCK_L, BLOCK_I), nothing, tl.float32)
    x += outer * XO
    for start in range(0, piece, BLOCK_L):
        place = first + start + tl.arange(0, BLOCK_L)
        mask = (place < end)[:, None] & (i < INNER)[None, :]
        value = tl.load(x + (place.to(tl.int64)[:, None] * XL + i[None, :] * XI), mask=mask, other=nothing)
        value = value.to(tl.float32)
        if SQUARE:
            value = value * value
        if HOW == "sum":
            total += value
        elif HOW == "max":
            total = _maximum(total, value)
        elif HOW == "min":
            total = _minimum(total, value)
        else:
            total = total * value
    if HOW == "sum":
        result = tl.sum(total, axis=0)
    elif HOW == "max":
        result = tl.reduce(total, 0, _maximum)
    elif HOW == "min":
        result = tl.reduce(total, 0, _minimum)
    else:
        result = tl.reduce(total, 0, _product)
    if AFTER > 0:
        result = result / AFTER
    if AFTER < 0:
        result = tl.sqrt_rn(result)
    result = activate(result, ACT, ACT_A, ACT_B)
    tl.store(y + outer * YO + part * YP + i * YI, result, mask=i < INNER)


class ReduceTiles:
    """Tiles of the reduced axis times results; totals are kept apart until the end, always in the same order."""

    name = "triton reduce"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Reduce):
            return Support((f"{type(group).__name__} is no reduction",))
        reasons = [] if group.kind in _KINDS else [f"{group.kind!r}; known: {', '.join(_KINDS)}"]
        for name, view in (("x", group.x), ("y", group.y)):
            if view.dtype not in ("fp16", "bf16", "fp32"):
                reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block: length x results of a tile; parts: pieces that are reduced apart."""
        assert isinstance(group, Reduce)
        outer, length, inner, strides = _folded(group)
        # The axis along which x is contiguous is the long one of the tile.
        if strides[1] <= strides[2]:
            shapes = [(1024, 1, 4), (512, 2, 4), (256, 4, 4), (2048, 1, 8), (128, 4, 2), (32, 16, 4)]
        else:
            shapes = [(64, 64, 4), (32, 64, 4), (16, 64, 4), (64, 32, 4), (16, 128, 4), (32, 32, 4), (64, 16, 4)]
        tiles: dict[tuple[int, int, int], None] = {}
        for high, wide, warps in shapes:
            tiles[min(high, power_of_two(length)), min(wide, power_of_two(inner)), warps] = None
        found = []
        work = group.x.elements / (1 << 18)
        for tile in tiles:
            programs = outer * math.ceil(inner / tile[1])
            for parts in (1, 4, 16, 64):
                if parts > 1 and (length < 8 * parts or programs >= target.multiprocessors):
                    continue
                idle = max(1.0, 2 * target.multiprocessors / (programs * parts))
                # A second launch takes about as long as reducing 2**18 numbers.
                found.append((idle * max(work, 0.1) + (parts > 1) * (1 + work / 2), parts, tile))
        found.sort(key=lambda each: each[0])
        return [
            {"block": [high, wide], "parts": parts, "num_warps": warps} for _, parts, (high, wide, warps) in found[:8]
        ]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Reduce)
        outer, length, inner, x = _folded(group)
        what, how, after = _KINDS[group.kind]
        divisor = float(length) if after == "mean" else -1.0 if after == "root" else 0.0
        y = (0, 0, group.y.strides[0]) if inner != group.y.shape[1] else (group.y.strides[0], 0, group.y.strides[1])
        parts, warps = configuration["parts"], configuration["num_warps"]
        block = tuple(configuration["block"])
        source, result = group.x, group.y
        if parts == 1:
            last = _constants(length, inner, 1, x, y, what == "square", how, divisor, group.act, block)
            return [_launch(outer, source, result, last, warps)]
        scratch = Scratch(Buffer(f"{group.name} parts", "arena", "fp32", outer * parts * inner))
        between = (parts * inner, inner, 1)
        first = _constants(length, inner, parts, x, between, what == "square", how, 0.0, NO_ACTIVATION, block)
        then = (power_of_two(parts), min(64, power_of_two(inner)))
        last = _constants(parts, inner, 1, between, y, False, how, divisor, group.act, then)
        return [_launch(outer, source, scratch, first, warps), _launch(outer, scratch, result, last, 1)]


def _folded(group: Reduce) -> tuple[int, int, int, tuple[int, int, int]]:
    """Outer, reduced and inner length, and x's strides; rows that are reduced whole count as inner ones."""
    outer, length, inner = group.x.shape
    a, b, c = group.x.strides
    return (1, length, outer, (0, b, a)) if inner == 1 else (outer, length, inner, (a, b, c))


def _constants(
    length: int,
    inner: int,
    parts: int,
    x: tuple[int, int, int],
    y: tuple[int, int, int],
    square: bool,
    how: str,
    after: float,
    act: Activation,
    block: tuple[int, ...],
) -> dict[str, Any]:
    """``after``: what a mean divides by, -1 for a square root, 0 for neither."""
    return {
        "LENGTH": length,
        "INNER": inner,
        "PARTS": parts,
        **dict(zip(("XO", "XL", "XI"), x, strict=True)),
        **dict(zip(("YO", "YP", "YI"), y, strict=True)),
        "SQUARE": square,
        "HOW": how,
        "AFTER": after,
        **activation_constants("ACT", act, "fp32"),
        "BLOCK_L": block[0],
        "BLOCK_I": block[1],
    }


def _launch(outer: int, x: Any, y: Any, constants: Mapping[str, Any], warps: int) -> Launch:
    programs = outer * constants["PARTS"] * math.ceil(constants["INNER"] / constants["BLOCK_I"])
    operands: dict[str, Argument] = {"x": x, "y": y}
    return launch_of(reduce_tile, (programs, 1, 1), operands, constants, warps)


TACTICS = (ReduceTiles(),)
