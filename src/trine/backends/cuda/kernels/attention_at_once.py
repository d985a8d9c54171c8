# ruff: noqa: N803 - a kernel's constants are capitals
"""Attention over so few keys that a row's scores are all in registers at once.

No sums are scaled anew as larger scores turn up, and a program reads keys and values once for several blocks of
queries. The number of keys is rounded up to a sum of at most three powers of two, 197 to 128 + 64 + 16, so that little
is wasted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Attention, Group
from trine.backends.cuda.kernels.attention import (
    attention_constants,
    load_keys,
    load_values,
    power_of_2,
    refusals,
    scores_of,
    shift_of,
)
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.tactic import Launch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "AttentionAtOnce", "parts_of"]

_LEAST, _MOST = 65, 256  # keys: fewer are one block of the other kernel; more scores do not fit into registers
_SHARED_SHARE = 0.9


@triton.jit
def attention_at_once(
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
    BLOCKS: tl.constexpr,
    N_0: tl.constexpr,
    N_1: tl.constexpr,
    N_2: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """BLOCKS times BLOCK_M queries of one head against all keys: N_0 of them, N_1 and N_2, which may be 0."""
    blocks: tl.constexpr = (S + BLOCK_M - 1) // BLOCK_M
    programs: tl.constexpr = (blocks + BLOCKS - 1) // BLOCKS
    head = tl.program_id(0) // programs
    batch = (head // HEADS).to(tl.int64)
    head = (head % HEADS).to(tl.int64)
    depth = tl.arange(0, BLOCK_D)
    width = tl.arange(0, BLOCK_E)
    q += batch * Q_B + head * Q_H
    k += batch * K_B + head * K_H
    v += batch * V_B + head * V_H
    y += batch * Y_B + head * Y_H
    if HAS_BIAS:
        bias += (batch % BIAS_BATCHES) * BIAS_B + head * BIAS_H
    # Only the last part can have places beyond the keys.
    last_0: tl.constexpr = T if N_0 > T else None
    last_1: tl.constexpr = T if N_0 + N_1 > T else None
    last_2: tl.constexpr = T if N_0 + N_1 + N_2 > T else None
    keys_0 = load_keys(k, 0, last_0, D, K_T, N_0, BLOCK_D)
    values_0 = load_values(v, 0, last_0, E, V_T, N_0, BLOCK_E)
    if N_1 > 0:
        keys_1 = load_keys(k, N_0, last_1, D, K_T, N_1, BLOCK_D)
        values_1 = load_values(v, N_0, last_1, E, V_T, N_1, BLOCK_E)
    if N_2 > 0:
        keys_2 = load_keys(k, N_0 + N_1, last_2, D, K_T, N_2, BLOCK_D)
        values_2 = load_values(v, N_0 + N_1, last_2, E, V_T, N_2, BLOCK_E)
    first = tl.program_id(0) % programs * BLOCKS
    for block in range(first, tl.minimum(first + BLOCKS, blocks)):
        rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
        q_mask = (rows[:, None] < S) & (depth[None, :] < D)
        queries = tl.load(q + rows[:, None] * Q_S + depth[None, :], mask=q_mask, other=0.0)
        scores_0 = scores_of(
            queries, keys_0, bias, rows, 0, S, last_0, SCALE, HAS_BIAS, BIAS_S, BIAS_T, CAUSAL, PRECISION, N_0
        )
        top = tl.max(scores_0, axis=1)
        if N_1 > 0:
            scores_1 = scores_of(
                queries, keys_1, bias, rows, N_0, S, last_1, SCALE, HAS_BIAS, BIAS_S, BIAS_T, CAUSAL, PRECISION, N_1
            )
            top = tl.maximum(top, tl.max(scores_1, axis=1))
        if N_2 > 0:
            start: tl.constexpr = N_0 + N_1
            scores_2 = scores_of(
                queries, keys_2, bias, rows, start, S, last_2, SCALE, HAS_BIAS, BIAS_S, BIAS_T, CAUSAL, PRECISION, N_2
            )
            top = tl.maximum(top, tl.max(scores_2, axis=1))
        shift = shift_of(top, UNIT)
        weights_0 = power_of_2(scores_0 * UNIT - shift[:, None])
        total = tl.sum(weights_0, axis=1)
        sums = tl.dot(weights_0.to(values_0.dtype), values_0, input_precision=PRECISION)
        if N_1 > 0:
            weights_1 = power_of_2(scores_1 * UNIT - shift[:, None])
            total += tl.sum(weights_1, axis=1)
            sums = tl.dot(weights_1.to(values_1.dtype), values_1, sums, input_precision=PRECISION)
        if N_2 > 0:
            weights_2 = power_of_2(scores_2 * UNIT - shift[:, None])
            total += tl.sum(weights_2, axis=1)
            sums = tl.dot(weights_2.to(values_2.dtype), values_2, sums, input_precision=PRECISION)
        result = (sums * (1.0 / total)[:, None]).to(y.dtype.element_ty)
        tl.store(y + rows[:, None] * Y_S + width[None, :], result, mask=(rows[:, None] < S) & (width[None, :] < E))


def parts_of(keys: int) -> tuple[int, int, int]:
    """Powers of two from 16 on, the largest first, that are together ``keys`` or as little more as can be; 0 for parts
    that are not needed."""
    left = -(-keys // 16) * 16
    first = 1 << left.bit_length() - 1
    left -= first
    second = 1 << left.bit_length() - 1 if left else 0
    left -= second
    return first, second, power_of_two(left) if left else 0


class AttentionAtOnce:
    """Keys, values and a row's scores stay on the multiprocessor; a row's answer depends on its own queries only."""

    name = "triton attention at once"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Attention):
            return Support((f"{type(group).__name__} is no attention",))
        reasons = refusals(group)
        keys = group.k.shape[2]
        if not _LEAST <= keys <= _MOST:
            reasons.append(f"{keys} keys; wanted {_LEAST} to {_MOST}")
        if group.q.dtype == "fp32":
            reasons.append("fp32 operands; scores and keys would fill the registers twice over")
        if not reasons and _shared_bytes(group) > _SHARED_SHARE * target.shared_bytes:
            reasons.append(f"{_shared_bytes(group)} bytes of keys and values; shared memory has {target.shared_bytes}")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. blocks: of block_m queries, for each program, which reads the keys once for all of them."""
        assert isinstance(group, Attention)
        batch, heads, s, _ = group.q.shape
        found = []
        for block_m, num_warps, most in ((64, 4, s), (128, 8, s), (32, 4, 2), (16, 4, 2), (16, 2, 2)):
            if block_m >= 2 * max(s, 16):
                continue
            whole = math.ceil(s / block_m)
            for blocks in {1, 2, 4, whole}:
                programs = math.ceil(whole / blocks) * batch * heads
                if blocks > min(whole, most) or (blocks > 1 and programs < target.multiprocessors):
                    continue
                for num_stages in (1, 2) if blocks > 1 else (1,):
                    found.append(
                        {"block_m": block_m, "num_warps": num_warps, "blocks": blocks, "num_stages": num_stages}
                    )
        return sorted(found, key=lambda each: _cost(each, batch * heads, s, target))[:8]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Attention)
        batch, heads, s, _ = group.q.shape
        parts = parts_of(group.k.shape[2])
        constants = attention_constants(group, configuration) | {
            "BLOCKS": configuration["blocks"],
            **{f"N_{index}": part for index, part in enumerate(parts)},
        }
        operands = {"q": group.q, "k": group.k, "v": group.v, "bias": group.bias, "y": group.y}
        programs = math.ceil(math.ceil(s / configuration["block_m"]) / configuration["blocks"])
        grid = (programs * batch * heads, 1, 1)
        warps, stages = configuration["num_warps"], configuration["num_stages"]
        return [launch_of(attention_at_once, grid, operands, constants, warps, stages)]


def _shared_bytes(group: Attention) -> int:
    depth, width = max(16, power_of_two(group.q.shape[3])), max(16, power_of_two(group.v.shape[3]))
    return sum(parts_of(group.k.shape[2])) * (depth + width) * 2 + 64 * depth * 2


def _cost(configuration: Mapping[str, Any], heads: int, s: int, target: Target) -> float:
    """Rows with what is wasted at the edges, and reading the keys, in waves of programs."""
    block_m, blocks = int(configuration["block_m"]), int(configuration["blocks"])
    programs = math.ceil(math.ceil(s / block_m) / blocks) * heads
    slower = 1.3 if block_m < 64 and target.hopper else 1.0  # too few rows for its own matrix instructions
    rows = block_m * min(blocks, math.ceil(s / block_m))
    slower += 0.01 if configuration["num_stages"] == 1 and blocks > 1 else 0.0
    slower += 0.02 if configuration["num_warps"] != 4 else 0.0
    return math.ceil(programs / (2 * target.multiprocessors)) * (rows + 40.0) * slower


TACTICS = (AttentionAtOnce(),)
