# ruff: noqa: N803 - a kernel's constants are capitals; its branches are Triton's
"""Layer and RMS normalisation of rows that no program holds in its registers: images under a GroupNorm of one group.

Two launches: each part's mean and its sum of squared differences from that, then the row's, from all parts', and the
results. Parts are put together as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances" (1979), which loses nothing where the mean is large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Buffer, Group, LayerNorm
from trine.backends.cuda.kernels.layer_norm import norm_constants, norm_operands, norm_refusals
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.tactic import Launch, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "LayerNormLong"]

_LEAST = 4096  # numbers of a row


@triton.jit
def _load(
    x, residual, row, column, mask, X_ROW: tl.constexpr, X_ONE: tl.constexpr, R_ROW: tl.constexpr, R_ONE: tl.constexpr
):
    value = tl.load(x + row * X_ROW + column * X_ONE, mask=mask, other=0.0).to(tl.float32)
    if residual is not None:
        value += tl.load(residual + row * R_ROW + column * R_ONE, mask=mask, other=0.0).to(tl.float32)
    return value


@triton.jit
def norm_moments(
    x,
    residual,
    total,
    moments,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    RESIDUAL_ROW: tl.constexpr,
    RESIDUAL_ONE: tl.constexpr,
    TOTAL_ROW: tl.constexpr,
    TOTAL_ONE: tl.constexpr,
    RMS: tl.constexpr,
    PARTS: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One part, LENGTH numbers of a row: its mean and the sum of squared differences from it, for ``moments`` (rows,
    PARTS, 2). RMS: 0 and the sum of squares."""
    row = (tl.program_id(0) // PARTS).to(tl.int64)
    first = tl.program_id(0) % PARTS * LENGTH
    end = tl.minimum(first + LENGTH, N)
    count = 0.0
    mean = 0.0
    squares = 0.0
    for start in range(first, end, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = column < end
        value = _load(x, residual, row, column, mask, X_ROW, X_ONE, RESIDUAL_ROW, RESIDUAL_ONE)
        if total is not None:
            tl.store(total + row * TOTAL_ROW + column * TOTAL_ONE, value, mask=mask)
        if RMS:
            squares += tl.sum(value * value)
        else:
            new = tl.minimum(end - start, BLOCK).to(tl.float32)
            its_mean = tl.sum(value) / new
            apart = tl.where(mask, value - its_mean, 0.0)
            away = its_mean - mean
            mean += away * new / (count + new)
            squares += tl.sum(apart * apart) + away * away * count * new / (count + new)
            count += new
    place = moments + tl.program_id(0).to(tl.int64) * 2
    tl.store(place, mean)
    tl.store(place + 1, squares)


@triton.jit
def norm_results(
    x,
    residual,
    scale,
    bias,
    y,
    moments,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    RESIDUAL_ROW: tl.constexpr,
    RESIDUAL_ONE: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_ONE: tl.constexpr,
    EPSILON: tl.constexpr,
    PARTS: tl.constexpr,
    ALL_PARTS: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One part normalised by the moments of its row."""
    row = (tl.program_id(0) // PARTS).to(tl.int64)
    first = tl.program_id(0) % PARTS * LENGTH
    end = tl.minimum(first + LENGTH, N)
    part = tl.arange(0, ALL_PARTS)
    here = part < PARTS
    counts = tl.where(here, tl.minimum(N - part * LENGTH, LENGTH), 0).to(tl.float32)
    means = tl.load(moments + (row * PARTS + part) * 2, mask=here, other=0.0)
    squares = tl.load(moments + (row * PARTS + part) * 2 + 1, mask=here, other=0.0)
    mean = tl.sum(means * counts) / N
    variance = tl.sum(squares + counts * (means - mean) * (means - mean)) / N
    factor = 1.0 / tl.sqrt_rn(variance + EPSILON)
    for start in range(first, end, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = column < end
        value = (_load(x, residual, row, column, mask, X_ROW, X_ONE, RESIDUAL_ROW, RESIDUAL_ONE) - mean) * factor
        if scale is not None:
            value *= tl.load(scale + column, mask=mask, other=0.0).to(tl.float32)
        if bias is not None:
            value += tl.load(bias + column, mask=mask, other=0.0).to(tl.float32)
        tl.store(y + row * Y_ROW + column * Y_ONE, value, mask=mask)


class LayerNormLong:
    """Rows in parts, each of which a program reads twice."""

    name = "triton layer norm in parts"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, LayerNorm):
            return Support((f"{type(group).__name__} is no layer normalisation",))
        reasons = norm_refusals(group)
        if group.x.shape[-1] < _LEAST:
            reasons.append(f"rows of {group.x.shape[-1]}; wanted at least {_LEAST}")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. parts: of a row, as far as they are needed for several programs on every multiprocessor."""
        assert isinstance(group, LayerNorm)
        rows, n = group.x.shape
        found = []
        for programs in (4, 8, 2):
            for block, warps in ((2048, 8), (1024, 4)):
                parts = max(1, min(programs * target.multiprocessors // rows, n // block, 1024))
                configuration = {"block": block, "parts": parts, "num_warps": warps}
                if configuration not in found:
                    found.append(configuration)
        return found

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, LayerNorm)
        rows, n = group.x.shape
        parts, block, warps = (configuration[name] for name in ("parts", "block", "num_warps"))
        length = -(-math.ceil(n / parts) // block) * block
        parts = math.ceil(n / length)
        moments = Scratch(Buffer(f"{group.name} moments", "arena", "fp32", rows * parts * 2))
        operands = norm_operands(group) | {"moments": moments}
        constants = norm_constants(group) | {
            "PARTS": parts,
            "ALL_PARTS": power_of_two(parts),
            "LENGTH": length,
            "BLOCK": block,
        }
        return [
            launch_of(
                kernel,
                (rows * parts, 1, 1),
                operands,
                {name: value for name, value in constants.items() if name in kernel.arg_names},
                warps,
            )
            for kernel in (norm_moments, norm_results)
        ]


TACTICS = (LayerNormLong(),)
