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

__all__ = [
    "TACTICS",
    "FlashAttention",
    "attention_constants",
    "load_keys",
    "load_values",
    "power_of_2",
    "refusals",
    "scores_of",
    "shift_of",
]

_WIDEST = 256
_SHARED_SHARE = 0.9
_LOG2_E = 1.4426950408889634


@triton.jit
def power_of_2(x):
    """One instruction; below 2**-126 it is 0 (PTX ISA, ex2.approx.ftz.f32), and nobody's weight."""
    return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def load_keys(k, start, T: tl.constexpr, D: tl.constexpr, K_T: tl.constexpr, N: tl.constexpr, BLOCK_D: tl.constexpr):
    """(BLOCK_D, N) of the keys from ``start`` on. T: how many there are; None if none of these is beyond."""
    columns = start + tl.arange(0, N)
    depth = tl.arange(0, BLOCK_D)
    if T is None and D == BLOCK_D:
        return tl.load(k + columns[None, :] * K_T + depth[:, None])
    mask = depth[:, None] < D
    if T is not None:
        mask = mask & (columns[None, :] < T)
    return tl.load(k + columns[None, :] * K_T + depth[:, None], mask=mask, other=0.0)


@triton.jit
def load_values(v, start, T: tl.constexpr, E: tl.constexpr, V_T: tl.constexpr, N: tl.constexpr, BLOCK_E: tl.constexpr):
    """(N, BLOCK_E) of the values from ``start`` on, as load_keys."""
    columns = start + tl.arange(0, N)
    width = tl.arange(0, BLOCK_E)
    if T is None and E == BLOCK_E:
        return tl.load(v + columns[:, None] * V_T + width[None, :])
    mask = width[None, :] < E
    if T is not None:
        mask = mask & (columns[:, None] < T)
    return tl.load(v + columns[:, None] * V_T + width[None, :], mask=mask, other=0.0)


@triton.jit
def scores_of(
    queries,
    keys,
    bias,
    rows,
    start,
    S: tl.constexpr,
    T: tl.constexpr,
    SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BIAS_S: tl.constexpr,
    BIAS_T: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    N: tl.constexpr,
):
    """(rows, N) scores for the keys from ``start`` on; times UNIT, they are in units of log 2. T as above."""
    columns = start + tl.arange(0, N)
    scores = tl.dot(queries, keys, input_precision=PRECISION)
    if SCALE != 1.0:
        scores *= SCALE
    if HAS_BIAS:
        mask = rows[:, None] < S
        if T is not None:
            mask = mask & (columns[None, :] < T)
        more = tl.load(bias + rows[:, None] * BIAS_S + columns[None, :] * BIAS_T, mask=mask, other=0.0)
        scores += more.to(tl.float32) * 1.4426950408889634
    if T is not None:
        scores = tl.where(columns[None, :] < T, scores, float("-inf"))
    if CAUSAL:
        scores = tl.where(columns[None, :] <= rows[:, None], scores, float("-inf"))
    return scores


@triton.jit
def shift_of(top, UNIT: tl.constexpr):
    """Where every score is -inf there is nothing to keep, and -inf - -inf must not make NaN of later ones."""
    return tl.where(top == float("-inf"), 0.0, top * UNIT)


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
    UNIT: tl.constexpr,
    K_T: tl.constexpr,
    V_T: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BIAS_S: tl.constexpr,
    BIAS_T: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """The largest score, and sums of weights and of weighted values, with N keys more. T as above."""
    keys = load_keys(k, start, T, D, K_T, N, BLOCK_D)
    scores = scores_of(queries, keys, bias, rows, start, S, T, SCALE, HAS_BIAS, BIAS_S, BIAS_T, CAUSAL, PRECISION, N)
    highest = tl.maximum(top, tl.max(scores, axis=1))
    shift = shift_of(highest, UNIT)
    weights = power_of_2(scores * UNIT - shift[:, None])
    keep = power_of_2(top * UNIT - shift)
    total = total * keep + tl.sum(weights, axis=1)
    values = load_values(v, start, T, E, V_T, N, BLOCK_E)
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
    UNIT: tl.constexpr,
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
    """BLOCK_M queries of one head against all keys: BLOCK_N at a time, then TAIL_N, no fewer than are left."""
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
            None,
            D,
            E,
            SCALE,
            UNIT,
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
            None if whole + TAIL_N == T else T,
            D,
            E,
            SCALE,
            UNIT,
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
        return Support(tuple(refusals(group)))

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
                for num_warps, num_stages in ((4, 4), (4, 3), (8, 3), (4, 2), (2, 2)):
                    if (num_warps == 8 and block_m < 128) or (num_warps == 2 and block_m > 32):
                        continue
                    if num_stages > max(2, t // block_n) or (num_stages == 2 and num_warps == 4 and t >= 3 * block_n):
                        continue  # more than there are steps, or fewer than hide the loads
                    found.append(
                        {"block_m": block_m, "block_n": block_n, "num_warps": num_warps, "num_stages": num_stages}
                    )
        fitting = [each for each in found if _shared_bytes(group, each) <= target.shared_bytes * _SHARED_SHARE]
        best = sorted(fitting or found[-1:], key=lambda each: _cost(each, batch * heads, s, t, target))[:14]
        return with_precision(best, group.q.dtype, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Attention)
        batch, heads, s, _ = group.q.shape
        block_n = configuration["block_n"]
        constants = attention_constants(group, configuration) | {
            "BLOCK_N": block_n,
            "TAIL_N": max(16, power_of_two(group.k.shape[2] % block_n)),
            "STAGES": configuration["num_stages"],
        }
        operands = {"q": group.q, "k": group.k, "v": group.v, "bias": group.bias, "y": group.y}
        grid = (math.ceil(s / configuration["block_m"]) * batch * heads, 1, 1)
        return [
            launch_of(attention, grid, operands, constants, configuration["num_warps"], configuration["num_stages"])
        ]


def refusals(group: Attention) -> list[str]:
    """What of a group no kernel for attention takes."""
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
    return reasons


def attention_constants(group: Attention, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What every kernel for attention is compiled with. Scores are scaled together with the subtraction of the largest
    (UNIT), or before, where something comes between or the order would change (SCALE)."""
    bias = group.bias
    scale = float(group.scale) * _LOG2_E
    before = bias is not None or scale <= 0.0
    return {
        "S": group.q.shape[2],
        "T": group.k.shape[2],
        "D": group.q.shape[3],
        "E": group.v.shape[3],
        "HEADS": group.q.shape[1],
        "SCALE": scale if before else 1.0,
        "UNIT": 1.0 if before else scale,
        **_strides("Q", group.q, "BHS"),
        **_strides("K", group.k, "BHT"),
        **_strides("V", group.v, "BHT"),
        **_strides("Y", group.y, "BHS"),
        "HAS_BIAS": bias is not None,
        "BIAS_BATCHES": 1 if bias is None else bias.shape[0],
        **({f"BIAS_{axis}": 0 for axis in "BHST"} if bias is None else _strides("BIAS", bias, "BHST")),
        "CAUSAL": group.causal,
        "PRECISION": configuration.get("precision", "ieee"),
        "BLOCK_M": configuration["block_m"],
        "BLOCK_D": max(16, power_of_two(group.q.shape[3])),
        "BLOCK_E": max(16, power_of_two(group.v.shape[3])),
    }


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
    left = t % n
    keys = t - left + (max(16, power_of_two(left)) if left else 0)
    slower = 1.0 + 0.2 * max(0, 4 - int(configuration["num_stages"]))
    slower *= 1.1 if configuration["num_warps"] == 2 else 1.0
    if target.hopper and m < 64:  # too few rows for its own matrix instructions
        slower *= 1.3
    return waves * (m * keys + 24 * keys + 2000) * slower


TACTICS = (FlashAttention(),)
