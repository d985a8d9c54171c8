# ruff: noqa: N803 - a kernel's constants are capitals
"""Attention that never writes its scores: FlashAttention-2's forward pass (Dao, 2023), keys block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Attention, Group, View
from trine.backends.cuda.kernels.operands import launch_of, power_of_two, with_precision
from trine.backends.cuda.tactic import Launch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "FlashAttention"]

_WIDEST = 256
_SHARED_SHARE = 0.9


@triton.jit
def _exp2(x):
    """One instruction; below 2**-126 it is 0 (PTX ISA, ex2.approx.ftz.f32), and nobody's weight."""
    return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _attend(
    queries,
    k,
    v,
    bias,
    rows,
    start,
    top,
    total,
    sums,
    S: tl.constexpr,
    T: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    SCALE: tl.constexpr,
    K_T: tl.constexpr,
    V_T: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BIAS_S: tl.constexpr,
    BIAS_T: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    ALL: tl.constexpr,
):
    """The largest score, and sums of weights and of weighted values, with BLOCK_N keys more. ALL: none is beyond T."""
    columns = start + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_D)
    width = tl.arange(0, BLOCK_E)
    if ALL and D == BLOCK_D:
        keys = tl.load(k + columns[None, :] * K_T + depth[:, None])
    else:
        keys = tl.load(
            k + columns[None, :] * K_T + depth[:, None], mask=(columns[None, :] < T) & (depth[:, None] < D), other=0.0
        )
    scores = tl.dot(queries, keys, input_precision=PRECISION)
    # Scaled together with the subtraction of the largest score, where nothing comes between and the order stays.
    scaled: tl.constexpr = HAS_BIAS or SCALE <= 0.0
    unit: tl.constexpr = 1.0 if scaled else SCALE * 1.4426950408889634
    if scaled:
        scores *= SCALE * 1.4426950408889634
    if HAS_BIAS:
        mask = (rows[:, None] < S) & (columns[None, :] < T)
        more = tl.load(bias + rows[:, None] * BIAS_S + columns[None, :] * BIAS_T, mask=mask, other=0.0)
        scores += more.to(tl.float32) * 1.4426950408889634
    if not ALL:
        scores = tl.where(columns[None, :] < T, scores, float("-inf"))
    if CAUSAL:
        scores = tl.where(columns[None, :] <= rows[:, None], scores, float("-inf"))
    highest = tl.maximum(top, tl.max(scores, axis=1))
    # Where every score so far is -inf there is nothing to keep, and -inf - -inf must not make NaN of later ones.
    shift = tl.where(highest == float("-inf"), 0.0, highest * unit)
    weights = _exp2(scores * unit - shift[:, None])
    keep = _exp2(top * unit - shift)
    total = total * keep + tl.sum(weights, axis=1)
    if ALL and E == BLOCK_E:
        values = tl.load(v + columns[:, None] * V_T + width[None, :])
    else:
        values = tl.load(
            v + columns[:, None] * V_T + width[None, :], mask=(columns[:, None] < T) & (width[None, :] < E), other=0.0
        )
    sums = tl.dot(weights.to(values.dtype), values, sums * keep[:, None], input_precision=PRECISION)
    return highest, total, sums


@triton.jit
def attention(
    q,
    k,
    v,
    bias,
    y,
    S: tl.constexpr,
    T: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    HEADS: tl.constexpr,
    SCALE: tl.constexpr,
    Q_B: tl.constexpr,
    Q_H: tl.constexpr,
    Q_S: tl.constexpr,
    K_B: tl.constexpr,
    K_H: tl.constexpr,
    K_T: tl.constexpr,
    V_B: tl.constexpr,
    V_H: tl.constexpr,
    V_T: tl.constexpr,
    Y_B: tl.constexpr,
    Y_H: tl.constexpr,
    Y_S: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BIAS_BATCHES: tl.constexpr,
    BIAS_B: tl.constexpr,
    BIAS_H: tl.constexpr,
    BIAS_S: tl.constexpr,
    BIAS_T: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    TAIL_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    STAGES: tl.constexpr,
):
    """BLOCK_M queries of one head against all keys, BLOCK_N at a time, and TAIL_N, which are not fewer than are left.
    Scores times ``unit`` are in units of log 2, for exp2."""
    blocks: tl.constexpr = (S + BLOCK_M - 1) // BLOCK_M
    head = tl.program_id(0) // blocks
    batch = (head // HEADS).to(tl.int64)
    head = (head % HEADS).to(tl.int64)
    rows = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    depth = tl.arange(0, BLOCK_D)
    width = tl.arange(0, BLOCK_E)
    q_mask = (rows[:, None] < S) & (depth[None, :] < D)
    queries = tl.load(q + batch * Q_B + head * Q_H + rows[:, None] * Q_S + depth[None, :], mask=q_mask, other=0.0)
    k += batch * K_B + head * K_H
    v += batch * V_B + head * V_H
    if HAS_BIAS:
        bias += (batch % BIAS_BATCHES) * BIAS_B + head * BIAS_H
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sums = tl.zeros([BLOCK_M, BLOCK_E], tl.float32)
    whole: tl.constexpr = T // BLOCK_N * BLOCK_N
    for start in tl.range(0, whole, BLOCK_N, num_stages=STAGES):
        top, total, sums = _attend(
            queries,
            k,
            v,
            bias,
            rows,
            start,
            top,
            total,
            sums,
            S,
            T,
            D,
            E,
            SCALE,
            K_T,
            V_T,
            HAS_BIAS,
            BIAS_S,
            BIAS_T,
            CAUSAL,
            PRECISION,
            BLOCK_N,
            BLOCK_D,
            BLOCK_E,
            True,
        )
    if whole < T:
        top, total, sums = _attend(
            queries,
            k,
            v,
            bias,
            rows,
            whole,
            top,
            total,
            sums,
            S,
            T,
            D,
            E,
            SCALE,
            K_T,
            V_T,
            HAS_BIAS,
            BIAS_S,
            BIAS_T,
            CAUSAL,
            PRECISION,
            TAIL_N,
            BLOCK_D,
            BLOCK_E,
            whole + TAIL_N == T,
        )
    result = sums * (1.0 / total)[:, None]
    y_mask = (rows[:, None] < S) & (width[None, :] < E)
    tl.store(
        y + batch * Y_B + head * Y_H + rows[:, None] * Y_S + width[None, :], result.to(y.dtype.element_ty), mask=y_mask
    )


class FlashAttention:
    """Scores and weights stay in registers; a row's answer depends on its own queries only."""

    name = "triton attention"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Attention):
            return Support((f"{type(group).__name__} is no attention",))
        reasons = []
        for name in ("q", "k", "v", "y"):
            view: View = getattr(group, name)
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: its last axis is not contiguous")
            if view.dtype not in ("fp16", "bf16", "fp32"):
                reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
        for name, size in (("queries", group.q.shape[3]), ("values", group.v.shape[3])):
            if size > _WIDEST:
                reasons.append(f"{name} of {size} numbers; at most {_WIDEST}")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic."""
        assert isinstance(group, Attention)
        batch, heads, s, _ = group.q.shape
        t = group.k.shape[2]
        rows = [m for m in (128, 64, 32, 16) if m < 2 * max(s, 16)] or [16]
        whole = max(16, power_of_two(t))
        columns = sorted({n for n in (32, 64, 128, whole) if n <= min(whole, 256)}, reverse=True)
        found = []
        for block_m in rows:
            for block_n in columns:
                for num_warps, num_stages in ((4, 2), (8, 2), (4, 3), (2, 2)):
                    if (num_warps == 8 and block_m < 128) or (num_warps == 2 and block_m > 32):
                        continue
                    if block_n == whole and num_stages > 2:
                        continue
                    found.append(
                        {"block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages}
                    )
        fitting = [each for each in found if _shared_bytes(group, each) <= target.shared_bytes * _SHARED_SHARE]
        best = sorted(fitting or found[-1:], key=lambda each: _cost(each, batch * heads, s, t, target))[:14]
        return with_precision(best, group.q.dtype, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Attention)
        batch, heads, s, d = group.q.shape
        bias = group.bias
        block_m = configuration["block_m"]
        constants = {
            "S": s,
            "T": group.k.shape[2],
            "D": d,
            "E": group.v.shape[3],
            "HEADS": heads,
            "SCALE": float(group.scale),
            **_strides("Q", group.q, "BHS"),
            **_strides("K", group.k, "BHT"),
            **_strides("V", group.v, "BHT"),
            **_strides("Y", group.y, "BHS"),
            "HAS_BIAS": bias is not None,
            "BIAS_BATCHES": 1 if bias is None else bias.shape[0],
            **({f"BIAS_{axis}": 0 for axis in "BHST"} if bias is None else _strides("BIAS", bias, "BHST")),
            "CAUSAL": group.causal,
            "PRECISION": configuration.get("precision", "ieee"),
            "BLOCK_M": block_m,
            "BLOCK_N": configuration["block_n"],
            "TAIL_N": max(16, power_of_two(group.k.shape[2] % configuration["block_n"])),
            "BLOCK_D": max(16, power_of_two(d)),
            "BLOCK_E": max(16, power_of_two(group.v.shape[3])),
            "STAGES": configuration["num_stages"],
        }
        operands = {"q": group.q, "k": group.k, "v": group.v, "bias": bias, "y": group.y}
        grid = (math.ceil(s / block_m) * batch * heads, 1, 1)
        return [
            launch_of(attention, grid, operands, constants, configuration["num_warps"], configuration["num_stages"])
        ]


def _strides(name: str, view: View, axes: str) -> dict[str, int]:
    return {f"{name}_{axis}": stride for axis, stride in zip(axes, view.strides, strict=False)}


def _shared_bytes(group: Attention, configuration: Mapping[str, Any]) -> int:
    size = 4 if group.q.dtype == "fp32" else 2
    depth, width = max(16, power_of_two(group.q.shape[3])), max(16, power_of_two(group.v.shape[3]))
    blocks = configuration["block_n"] * (depth + width) * configuration["num_stages"]
    return int((blocks + configuration["block_m"] * depth) * size)


def _cost(configuration: Mapping[str, Any], heads: int, s: int, t: int, target: Target) -> float:
    """Work with what is wasted at the edges, in waves of programs. Larger tiles read the keys less often."""
    m, n = int(configuration["block_m"]), int(configuration["block_n"])
    programs = math.ceil(s / m) * heads
    waves = math.ceil(programs / (2 * target.multiprocessors))
    work = m * math.ceil(t / n) * n
    return waves * (work + 24 * n * math.ceil(t / n) + 2000) * (1.1 if configuration["num_warps"] == 2 else 1.0)


TACTICS = (FlashAttention(),)
