"""Configurations of kernels that keep whole rows in registers."""

from __future__ import annotations

from typing import Any

from trine.backends.cuda.kernels.operands import power_of_two
from trine.backends.cuda.target import Target

__all__ = ["row_tiles"]

_NUMBERS = 64  # of a thread, in registers, at most


def row_tiles(rows: int, length: int, target: Target) -> list[dict[str, Any]]:
    """Rows of a program and its warps, the best guess first: 8 to 16 numbers a thread, short rows together, and enough
    programs for every multiprocessor."""
    block = power_of_two(length)
    found = []
    for together in (1, 2, 4, 8, 16, 32):
        for warps in (1, 2, 4, 8, 16):
            numbers = together * block / (32 * warps)
            if (
                numbers > _NUMBERS
                or (numbers < 1 and (together, warps) != (1, 1))
                or together >= 2 * power_of_two(rows)
            ):
                continue
            programs = -(-rows // together)
            idle = max(1.0, 2 * target.multiprocessors / programs)
            uneven = max(numbers / 16, 8 / numbers, 1.0)
            # Reducing across warps goes through shared memory and a barrier.
            across = 1.0 if block <= 256 * warps or warps == 1 else 1.1
            found.append((idle * uneven * across * (1 + 0.05 * warps), together, warps))
    found.sort()
    return [{"rows": together, "num_warps": warps} for _, together, warps in found[:6]]
