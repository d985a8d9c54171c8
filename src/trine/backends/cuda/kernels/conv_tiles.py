"""Which tiles are worth timing for a convolution: a rough model of time, the best guess first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES, Conv
from trine.backends.cuda.kernels.operands import power_of_two
from trine.backends.cuda.target import Target

__all__ = ["conv_tiles"]

_MOST = 20  # configurations
# pixels, channels, warps, and the share of the tensor cores' rate that such a tile reaches
_TILES = (
    (128, 256, 8, 1.0),
    (256, 128, 8, 1.0),
    (128, 128, 8, 0.95),
    (128, 128, 4, 0.9),
    (256, 64, 8, 0.85),
    (128, 64, 4, 0.8),
    (64, 128, 4, 0.75),
    (256, 32, 8, 0.6),
    (64, 256, 8, 0.75),
    (64, 64, 4, 0.65),
    (128, 32, 4, 0.55),
    (64, 32, 4, 0.45),
    (32, 64, 4, 0.4),
    (128, 16, 4, 0.35),
    (256, 16, 8, 0.35),
    (64, 16, 4, 0.3),
    (32, 32, 2, 0.3),
    (16, 64, 2, 0.25),
    (16, 128, 4, 0.25),
    (16, 32, 2, 0.2),
    (32, 16, 2, 0.2),
    (16, 16, 1, 0.1),
)


def conv_tiles(group: Conv, target: Target) -> list[dict[str, Any]]:
    """At most twenty; no tile's shape more than three times, and none that is expected to take thrice as long."""
    ranked = sorted(_candidates(group, target), key=lambda each: _cost(group, each, target))
    seen = Counter[tuple[int, int, int]]()
    found: list[dict[str, Any]] = []
    for each in ranked:
        shape = (each["block_m"], each["block_n"], each["num_warps"])
        seen[shape] += 1
        if seen[shape] <= 3 and (len(found) < 6 or _cost(group, each, target) < 3 * _cost(group, ranked[0], target)):
            found.append(each)
    return found[:_MOST]


def _candidates(group: Conv, target: Target) -> Iterator[dict[str, Any]]:
    size = ITEM_BYTES[group.x.dtype]
    channels, filters = group.w.shape[3], group.w.shape[0] // group.groups
    products = math.prod(group.w.shape[1:])
    rows = math.prod(group.y.shape[:3])
    blocks_k = [each for each in (32, 64, 128) if each * size <= 256 and each <= max(32, power_of_two(products))]
    whole = [each for each in blocks_k if channels % each == 0 and each * size >= 64]
    for high, wide, warps, _ in _TILES:
        if high >= 2 * max(16, power_of_two(rows)) or wide >= 2 * max(16, power_of_two(filters)):
            continue
        if size == 4 and high * wide > 128 * 128:
            continue
        for block_k in whole or blocks_k:
            steps = -(-products // block_k)
            tiles = -(-rows // high) * -(-filters // wide) * group.groups
            # Enough stages to have 200 KiB under way at most, and no more than there are steps.
            stages = min(5 if high * wide <= 64 * 64 else 4 if high * wide <= 128 * 128 else 3, max(2, steps))
            while stages > 2 and stages * (high + wide) * block_k * size > 0.95 * target.shared_bytes:
                stages -= 1
            if stages * (high + wide) * block_k * size > 0.95 * target.shared_bytes or (steps > 4 and stages < 3):
                continue
            for split in (1, 2, 4, 8):
                if split > 1 and (tiles * split > 4 * target.multiprocessors or steps < 4 * split):
                    continue
                yield {
                    "block_m": high,
                    "block_n": wide,
                    "block_k": block_k,
                    "num_warps": warps,
                    "num_stages": stages,
                    "group_m": 8 if -(-filters // wide) > 4 else 1,
                    "split_k": split,
                }


def _cost(group: Conv, configuration: dict[str, Any], target: Target) -> float:
    """Microseconds, roughly: waves of tiles by the steps of each, and what a launch costs."""
    high, wide, deep = (configuration[name] for name in ("block_m", "block_n", "block_k"))
    split = configuration["split_k"]
    filters = group.w.shape[0] // group.groups
    products = math.prod(group.w.shape[1:])
    rows = math.prod(group.y.shape[:3])
    size = ITEM_BYTES[group.x.dtype]
    steps = math.ceil(math.ceil(products / deep) / split)
    programs = -(-rows // high) * -(-filters // wide) * group.groups * split
    reached = next(rate for m, n, warps, rate in _TILES if (m, n, warps) == (high, wide, configuration["num_warps"]))
    # One multiprocessor's rates for each microsecond: products, and bytes from the second-level cache.
    rate = target.tflops * 1e6 / 2 / target.multiprocessors * reached * (0.5 if size == 4 else 1.0)
    read = 1.6 * target.bandwidth_gbps * 1e3 / target.multiprocessors
    resident = max(1, min(4, int(target.shared_bytes / (configuration["num_stages"] * (high + wide) * deep * size))))
    step = max(high * wide * deep / rate, (high + wide) * deep * size / read)
    # Microseconds of waiting that one tile alone does not hide, and of barriers in each step.
    idle = 0.25
    step += 0.02
    waves = programs / target.multiprocessors
    tail = math.ceil(waves) if waves < 4 else waves + 0.5
    alone = max(step, idle / min(resident, max(1.0, waves)))
    end = high * wide * size * 2 / read
    cost: float = tail * (steps * alone + end + 0.5 / resident)
    if split > 1:
        cost += 2.0 + rows * group.w.shape[0] * 4 * (split + 1) / (target.bandwidth_gbps * 1e3)
    return cost
