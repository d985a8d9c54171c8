# ruff: noqa: N803 - a kernel's constants are capitals; its branches are Triton's
"""Layer and RMS normalisation of rows that fit in registers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Group, LayerNorm
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.kernels.row_tiles import row_tiles
from trine.backends.cuda.tactic import Launch, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "LayerNormRows", "norm_constants", "norm_operands", "norm_refusals"]

_LONGEST = 32768
_STAGES = 3  # rows under way in a program that walks
_WALKERS = 32  # warps of them on a multiprocessor


@triton.jit
def _normalise(
    x,
    residual,
    scales,
    biases,
    y,
    total,
    tile,
    rows,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    RESIDUAL_ROW: tl.constexpr,
    RESIDUAL_ONE: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_ONE: tl.constexpr,
    TOTAL_ROW: tl.constexpr,
    TOTAL_ONE: tl.constexpr,
    EPSILON: tl.constexpr,
    RMS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK_ROWS rows of N numbers, in fp32: the mean first, then the variance of the differences from it."""
    row = (tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < N)
    row = row.to(tl.int64)
    value = tl.load(x + row * X_ROW + column * X_ONE, mask=mask, other=0.0).to(tl.float32)
    if residual is not None:
        value += tl.load(residual + row * RESIDUAL_ROW + column * RESIDUAL_ONE, mask=mask, other=0.0).to(tl.float32)
    if total is not None:
        tl.store(total + row * TOTAL_ROW + column * TOTAL_ONE, value, mask=mask)
    if not RMS:
        mean = tl.sum(value, axis=1)[:, None] / N
        value = tl.where(column < N, value - mean, 0.0)
    variance = tl.sum(value * value, axis=1)[:, None] / N
    value = value * (1.0 / tl.sqrt_rn(variance + EPSILON))
    if scales is not None:
        value *= scales
    if biases is not None:
        value += biases
    tl.store(y + row * Y_ROW + column * Y_ONE, value, mask=mask)


@triton.jit
def layer_norm(
    x,
    residual,
    scale,
    bias,
    y,
    total,
    rows,
    N: tl.constexpr,
    X_ROW: tl.constexpr,
    X_ONE: tl.constexpr,
    RESIDUAL_ROW: tl.constexpr,
    RESIDUAL_ONE: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_ONE: tl.constexpr,
    TOTAL_ROW: tl.constexpr,
    TOTAL_ONE: tl.constexpr,
    EPSILON: tl.constexpr,
    RMS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """BLOCK_ROWS rows; where STAGES is not 0, then every num_programs-th such tile, the next ones' loads under way."""
    column = tl.arange(0, BLOCK)[None, :]
    scales = None if scale is None else tl.load(scale + column, mask=column < N, other=0.0).to(tl.float32)
    biases = None if bias is None else tl.load(bias + column, mask=column < N, other=0.0).to(tl.float32)
    if STAGES == 0:
        _normalise(
            x,
            residual,
            scales,
            biases,
            y,
            total,
            tl.program_id(0),
            rows,
            N,
            X_ROW,
            X_ONE,
            RESIDUAL_ROW,
            RESIDUAL_ONE,
            Y_ROW,
            Y_ONE,
            TOTAL_ROW,
            TOTAL_ONE,
            EPSILON,
            RMS,
            BLOCK_ROWS,
            BLOCK,
        )
    else:
        tiles = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), num_stages=STAGES):
            _normalise(
                x,
                residual,
                scales,
                biases,
                y,
                total,
                tile,
                rows,
                N,
                X_ROW,
                X_ONE,
                RESIDUAL_ROW,
                RESIDUAL_ONE,
                Y_ROW,
                Y_ONE,
                TOTAL_ROW,
                TOTAL_ONE,
                EPSILON,
                RMS,
                BLOCK_ROWS,
                BLOCK,
            )


class LayerNormRows:
    """Whole rows in registers, one program for a few of them."""

    name = "triton layer norm"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, LayerNorm):
            return Support((f"{type(group).__name__} is no layer normalisation",))
        reasons = norm_refusals(group)
        if group.x.shape[-1] > _LONGEST:
            reasons.append(f"rows of {group.x.shape[-1]}; at most {_LONGEST} fit in registers")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. walk: a few programs take all rows in turn, rather than each its own."""
        assert isinstance(group, LayerNorm)
        rows, n = group.y.shape
        tiles = row_tiles(rows, n, target)
        walks = [{**each, "walk": True} for each in tiles[:2] if rows // each["rows"] >= 2 * _walkers(each, target)]
        return [*tiles[:1], *walks, *tiles[1:]]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, LayerNorm)
        rows, n = group.x.shape
        constants = norm_constants(group) | {"BLOCK_ROWS": configuration["rows"], "BLOCK": power_of_two(n), "STAGES": 0}
        programs = math.ceil(rows / configuration["rows"])
        if "walk" in configuration:
            constants["STAGES"] = _STAGES
            programs = min(programs, _walkers(configuration, target))
        operands = norm_operands(group) | {"rows": Scalar("i32", rows)}
        return [launch_of(layer_norm, (programs, 1, 1), operands, constants, configuration["num_warps"])]


def norm_refusals(group: LayerNorm) -> list[str]:
    """What of a group no kernel for normalisation takes."""
    reasons = []
    for name, view in (("scale", group.scale), ("bias", group.bias)):
        if view is not None and view.strides[-1] != 1 and view.shape[-1] != 1:
            reasons.append(f"{name}: stride {view.strides[-1]}; wanted 1")
    for name, view in (("x", group.x), ("residual", group.residual), ("y", group.y), ("total", group.total)):
        if view is not None and view.dtype not in ("fp16", "bf16", "fp32"):
            reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
    return reasons


def norm_operands(group: LayerNorm) -> dict[str, Any]:
    """By the names of the kernels' parameters."""
    return {name: getattr(group, name) for name in ("x", "residual", "scale", "bias", "y", "total")}


def norm_constants(group: LayerNorm) -> dict[str, Any]:
    """What the kernels are compiled with."""
    constants: dict[str, Any] = {"N": group.x.shape[-1], "EPSILON": float(group.epsilon), "RMS": group.rms}
    for name in ("x", "residual", "y", "total"):
        view = getattr(group, name)
        strides = (0, 0) if view is None else view.strides
        constants |= {f"{name.upper()}_ROW": strides[0], f"{name.upper()}_ONE": strides[1]}
    return constants


def _walkers(configuration: Mapping[str, Any], target: Target) -> int:
    return int(target.multiprocessors * max(1, _WALKERS // configuration["num_warps"]))


TACTICS = (LayerNormRows(),)
