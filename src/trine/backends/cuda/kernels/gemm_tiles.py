"""Which tiles are worth timing for a matrix product: a rough model of time, the best guess first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES, Gemm
from trine.backends.cuda.kernels.operands import power_of_two
from trine.backends.cuda.target import Target

__all__ = ["gemm_tiles", "gemv_tiles"]

_MOST = 20  # configurations
# rows, columns, warps, and the share of the tensor cores' rate that such a tile reaches
_TILES = (
    (128, 256, 8, 1.0),
    (256, 128, 8, 1.0),
    (128, 128, 8, 0.95),
    (128, 128, 4, 0.9),
    (256, 64, 8, 0.85),
    (64, 256, 4, 0.8),
    (128, 64, 4, 0.8),
    (128, 64, 8, 0.75),
    (64, 128, 4, 0.75),
    (64, 64, 4, 0.65),
    (256, 32, 8, 0.6),
    (128, 32, 4, 0.55),
    (64, 32, 4, 0.45),
    (32, 128, 4, 0.4),
    (32, 64, 4, 0.4),
    (16, 128, 4, 0.25),
    (128, 16, 4, 0.35),
    (32, 32, 2, 0.3),
    (16, 64, 4, 0.2),
    (64, 16, 4, 0.3),
    (16, 32, 2, 0.2),
    (16, 16, 1, 0.1),
)
# The same where products of fp32 run outside of the tensor cores: a tile has to fit into registers.
_PLAIN_TILES = (
    (128, 128, 8, 0.06),
    (128, 64, 8, 0.06),
    (64, 64, 4, 0.05),
    (64, 128, 8, 0.06),
    (64, 32, 4, 0.04),
    (32, 64, 4, 0.04),
    (32, 32, 4, 0.03),
    (64, 16, 4, 0.03),
    (16, 64, 4, 0.02),
    (16, 32, 2, 0.02),
    (32, 16, 2, 0.02),
    (16, 16, 1, 0.01),
)
_BESIDE_SCALES = 16 << 10  # bytes of shared memory that Triton takes for other things then, whatever the tile


def gemm_tiles(group: Gemm, target: Target, tf32: bool = False) -> list[dict[str, Any]]:
    """At most twenty; no tile's shape more than three times, and none that is expected to take thrice as long.

    tf32: whether products of fp32 operands run on tensor cores.
    """
    plain = group.a.dtype == "fp32" and not tf32
    costs = [(_cost(group, each, target, plain), each) for each in _candidates(group, target, plain)]
    costs.sort(key=lambda pair: pair[0])
    seen = Counter[tuple[int, int, int]]()
    found: list[dict[str, Any]] = []
    for cost, each in costs:
        shape = (each["block_m"], each["block_n"], each["num_warps"])
        seen[shape] += 1
        if seen[shape] <= 3 and (len(found) < 6 or cost < 3 * costs[0][0]):
            found.append(each)
    found = found[:_MOST]
    # What a second launch costs differs: where sums may be split, a few are always timed.
    split = [each for _, each in costs if each["split_k"] > 1 and each not in found]
    missing = max(0, 4 - sum(each["split_k"] > 1 for each in found))
    return found[: _MOST - min(missing, len(split))] + split[:missing]


def _sizes(group: Gemm) -> tuple[int, int, int, int]:
    """Batch entries, rows, columns, products."""
    return math.prod(group.y.shape[:-2]), group.y.shape[-2], group.y.shape[-1], group.a.shape[-1]


def _candidates(group: Gemm, target: Target, plain: bool) -> Iterator[dict[str, Any]]:
    size = ITEM_BYTES[group.a.dtype]
    batches, rows, columns, products = _sizes(group)
    depths = (16, 32) if plain else (32, 64, 128) if size == 2 else (32, 64)
    blocks_k = [each for each in depths if each <= power_of_two(products)] or [16]
    # Rows that begin at odd elements come through registers, which a large tile has not left.
    unaligned = group.a.strides[-2] * size % 4 != 0
    for high, wide, warps, _ in _PLAIN_TILES if plain else _TILES:
        if high >= 2 * max(16, power_of_two(rows)) or wide >= 2 * max(16, power_of_two(columns)):
            continue
        if size == 4 and high * wide > 128 * 128:
            continue
        for block_k in blocks_k:
            if unaligned and high * block_k > 64 * warps * 32:
                continue
            steps = -(-products // block_k)
            tiles = -(-rows // high) * -(-columns // wide) * batches
            deepest = 6 if high * wide <= 32 * 128 else 5 if high * wide <= 64 * 64 else 4
            stages = min(deepest if high * wide <= 128 * 128 else 3, max(2, steps))
            needed = (high + wide) * block_k * size
            while stages > 2 and stages * needed > 0.95 * target.shared_bytes:
                stages -= 1
            if stages * needed > 0.95 * target.shared_bytes or (steps > 4 and stages < 3):
                continue
            scales = (stages - 1) * high * block_k * _scale_bytes(group, high)
            if scales and stages * needed + scales + _BESIDE_SCALES > target.shared_bytes:
                continue
            for split in (1, 2, 4, 8, 16):
                if split > 1 and (batches > 1 or tiles * split > 4 * target.multiprocessors or steps < 3 * split):
                    continue
                yield {
                    "block_m": high,
                    "block_n": wide,
                    "block_k": block_k,
                    "num_warps": warps,
                    "num_stages": stages,
                    "group_m": 8 if -(-columns // wide) > 2 and -(-rows // high) > 2 else 1,
                    "split_k": split,
                }


def _scale_bytes(group: Gemm, high: int) -> int:
    """Of a scale that is fetched for each element of a tile's left operand, as the tile has rows of many images."""
    scale = None if group.prologue is None else group.prologue.scale
    if scale is None or len(scale.shape) < 2 or group.rows_per_image >= high:
        return 0
    return ITEM_BYTES[scale.dtype]


def _cost(group: Gemm, configuration: dict[str, Any], target: Target, plain: bool) -> float:
    """Microseconds, roughly: waves of tiles by the steps of each, and what a launch costs."""
    high, wide, deep = (configuration[name] for name in ("block_m", "block_n", "block_k"))
    split = configuration["split_k"]
    batches, rows, columns, products = _sizes(group)
    size = ITEM_BYTES[group.a.dtype]
    steps = math.ceil(math.ceil(products / deep) / split)
    programs = -(-rows // high) * -(-columns // wide) * batches * split
    table = _PLAIN_TILES if plain else _TILES
    reached = next(rate for m, n, warps, rate in table if (m, n, warps) == (high, wide, configuration["num_warps"]))
    # One multiprocessor's rates for each microsecond: products, and bytes from the second-level cache.
    rate = target.tflops * 1e6 / 2 / target.multiprocessors * reached * (0.5 if size == 4 and not plain else 1.0)
    read = 1.6 * target.bandwidth_gbps * 1e3 / target.multiprocessors
    needed = (high + wide) * deep * size
    resident = max(1, min(4, int(target.shared_bytes / (configuration["num_stages"] * needed))))
    # Microseconds of waiting for memory: what stages and neighbours do not hide; and of barriers in each step.
    idle = 0.7 / (configuration["num_stages"] - 1)
    step = max(high * wide * deep / rate, needed / read) + 0.05
    waves = programs / target.multiprocessors
    tail = math.ceil(waves) if waves < 4 else waves + 0.5
    alone = max(step, idle / min(resident, max(1.0, waves)))
    end = high * wide * size * 2 / read
    cost: float = tail * (steps * alone + end + 0.5 / resident)
    if configuration["num_stages"] == 2 and steps > 2:
        cost *= 1.1
    if deep * size < 128:  # half lines of the caches
        cost *= 1.15
    # All operands come from memory once, at its bandwidth.
    results = rows * columns * (2 if group.epilogue.residual is not None else 1)
    moved = ((rows + columns) * products + results) * batches * size
    cost = max(cost, moved / (target.bandwidth_gbps * 1e3)) + 0.1 * cost
    if split > 1:
        cost += 2.0 + rows * columns * 4 * (split + 1) / (target.bandwidth_gbps * 1e3)
    return cost


def gemv_tiles(group: Gemm, target: Target) -> list[dict[str, Any]]:
    """Best guess first: enough programs to fill the GPU, and enough loads under way in each."""
    _, rows, columns, products = _sizes(group)
    vector = 16 // ITEM_BYTES[group.b.dtype]
    found: list[tuple[float, dict[str, Any]]] = []
    for warps in (4, 8, 2, 1):
        # Each thread loads so many vectors of b in a step.
        for loads in (4, 8, 2):
            for block_n in (1, 2, 4, 8, 16):
                block_k = warps * 32 * vector * loads // block_n
                least = power_of_two(products)
                if block_k < 32 * vector and block_k < least:
                    continue
                if block_k > least and (block_n, loads) != (1, 2):
                    continue
                together = min(4, power_of_two(rows))
                if together * loads * vector > 128:
                    continue
                configuration = {
                    "rows": together,
                    "block_n": block_n,
                    "block_k": min(block_k, max(least, 32 * vector)),
                    "num_warps": warps,
                }
                programs = -(-columns // block_n)
                waste = math.ceil(products / configuration["block_k"]) * configuration["block_k"] / products
                busy = min(1.0, programs * warps * loads / (target.multiprocessors * 24))
                waves = programs * warps / (target.multiprocessors * 32)
                cost = waste / busy * (1 + 0.1 * math.ceil(waves) / max(waves, 0.1)) * (1 + 0.02 * abs(loads - 4))
                if configuration not in [each for _, each in found]:
                    found.append((cost, configuration))
    found.sort(key=lambda pair: pair[0])
    return [each for _, each in found[:10]]
