"""Which tiles are worth timing for a product on Hopper: a rough model of time, the best guess first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trine.backends.cuda.target import Target

__all__ = ["Product", "hopper_tiles"]


@dataclass(frozen=True)
class Product:
    """(rows, products) times (products, columns), in 16 bits. channels: how many products of a filter element lie side
    by side in x; 0 for a matrix."""

    rows: int
    columns: int
    products: int
    channels: int
    residual: bool


_MOST = 14  # configurations
# rows and channels of a warp group, and whether two of them work together
_TILES = (
    (128, 128, True),
    (64, 256, True),
    (128, 128, False),
    (64, 256, False),
    (128, 64, True),
    (128, 64, False),
    (64, 128, True),
    (64, 128, False),
    (64, 64, True),
    (64, 64, False),
    (128, 32, False),
    (64, 32, True),
)


def hopper_tiles(product: Product, target: Target) -> list[dict[str, Any]]:
    """At most fourteen; none where nothing fits into shared memory."""
    return sorted(_candidates(product, target), key=lambda each: _cost(product, each, target))[:_MOST]


def _candidates(product: Product, target: Target) -> Iterator[dict[str, Any]]:
    k, products = product.columns, product.products
    deep = 64 if product.channels % 64 == 0 else 32
    steps = -(-products // deep)
    for high, wide, together in _TILES:
        if wide >= 2 * max(32, k):
            continue
        for resident in (False, True):
            fixed = 2 * high * wide * 2 + (wide * steps * deep * 2 if resident else 0) + 2048
            stage = (high * (2 if together else 1) + (0 if resident else wide)) * deep * 2
            stages = min(8, (target.shared_bytes - fixed) // stage)
            if stages < min(3, steps) or stages < 2 or (resident and wide * steps * deep * 2 >= 1 << 20):
                continue
            yield {
                "block_m": high,
                "block_n": wide,
                "block_k": deep,
                "together": together,
                "resident": resident,
                "stages": stages,
            }


def _cost(product: Product, configuration: Mapping[str, Any], target: Target) -> float:
    """Microseconds, roughly: what one program's tiles take of the tensor cores, of the way from the second-level cache
    and of memory, whichever is longest."""
    high, wide = configuration["block_m"], configuration["block_n"]
    high *= 2 if configuration["together"] else 1
    k, rows, products = product.columns, product.rows, product.products
    tiles = -(-rows // high) * -(-k // wide)
    programs = min(tiles, target.multiprocessors)
    rate = target.tflops * 1e6 / 2 / target.multiprocessors * (1.0 if wide >= 128 else 0.9)
    multiply = high * wide * products / rate
    read = (high + (0 if configuration["resident"] else wide)) * products * 2 / 75e3
    read += high * wide * 2 / 75e3 if product.residual else 0.0
    write = high * wide * 2 * (2 if product.residual else 1) * programs / (target.bandwidth_gbps * 1e3)
    end = 0.4 + high * wide / 25e3  # one warp group's epilogue
    tile: float = max(multiply, read, write) + (0.7 * end if configuration["together"] else 0.0)
    if not configuration["together"]:
        tile = max(tile, (multiply + end) / 2)
    first = products * wide * 2 / 75e3 if configuration["resident"] else 0.0
    cost: float = math.ceil(tiles / programs) * tile + end + first
    return cost
