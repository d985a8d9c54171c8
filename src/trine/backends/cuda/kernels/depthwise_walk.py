"""The text of a depthwise convolution kernel whose programs walk down the rows of their tile in a loop.

What is carried from row to row are the sums of the output rows that the last input rows belong to: moving them along
takes a few instructions, but the code is short, so that a thread can have many pixels of a row and a tile many rows.
(Triton's time to compile straight-line code grows with more than the square of its length.)
"""

from __future__ import annotations

from trine.backends.cuda.groups import DepthwiseConv
from trine.backends.cuda.kernels.depthwise_source import Tile, finish_lines, head_lines, row_lines, sum_lines

__all__ = ["walking_text"]

_ZERO = "(at * 0).to(tl.float32)"


def walking_text(name: str, group: DepthwiseConv, tile: Tile) -> str:
    """The source of the Triton function ``name(x, w, bias, residual, y, sums)``; rows are not dilated.

    Where a turn of the loop begins, a{d}_{k} has what output row p0 + d, pixel k, gets of the input rows so far. A turn
    adds as many rows as the stride, which complete a0, and begin the last of these sums; it reads those of the next.
    """
    high, step = group.w.shape[0], group.stride[0]
    live = (high - 1) // step + 1
    carried = [(d, k) for d in range(live - 1) for k in range(tile.span)]
    started: set[tuple[int, int]] = set()
    lines = [*head_lines(group, tile), "top = p0", f"h0 = top * {step} - {group.pads[0]}"]
    for j in range(high - step):
        loads, sums = row_lines(group, tile, j, _meets(j, high, step, live - 1), started)
        lines += [*loads, *sums]
    lines += [f"a{d}_{k} = {_ZERO}" for d, k in carried if (d, k) not in started]
    if tile.band:
        lines.append(f"total = {_ZERO}")
    lines += _loads(group, tile)
    lines.append(f"for i in tl.range(0, {tile.rows}, num_stages=1):")
    lines += [f"    {line}" for line in _turn(group, tile, live, set(carried))]
    if tile.band == tile.rows:
        lines += sum_lines(group, tile, 0)
    head = ["@triton.jit", f"def {name}(x, w, bias, residual, y, sums):"]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


def _loads(group: DepthwiseConv, tile: Tile) -> list[str]:
    """The input rows of the turn that h0 stands for, which may be the one after the last."""
    high, step = group.w.shape[0], group.stride[0]
    return [
        line
        for j in range(high - step, high)
        for line in row_lines(group, tile, j, _meets(j, high, step, high), set(), tile.rows)[0]
    ]


def _meets(j: int, high: int, step: int, live: int) -> list[tuple[int, int]]:
    """Filter rows and output rows that input row j belongs to."""
    return [(j - d * step, d) for d in range(live) if 0 <= j - d * step < high]


def _turn(group: DepthwiseConv, tile: Tile, live: int, started: set[tuple[int, int]]) -> list[str]:
    """One output row, p0; ``started``: the sums that have begun before."""
    high, step = group.w.shape[0], group.stride[0]
    lines = ["p0 = top + i", f"h0 = (p0 + 1) * {step} - {group.pads[0]}"]
    loads = _loads(group, tile)
    lines += ["next_" + line if line.startswith("t") else line for line in loads]
    for j in range(high - step, high):
        lines += row_lines(group, tile, j, _meets(j, high, step, live), started, tile.rows)[1]
    lines += [f"a{live - 1}_{k} = {_ZERO}" for k in range(tile.span) if (live - 1, k) not in started]
    started |= {(live - 1, k) for k in range(tile.span)}
    lines += finish_lines(group, tile, 0, started, fresh=False)
    if tile.band not in (0, tile.rows):
        lines.append(f"if i % {tile.band} == {tile.band - 1}:")
        lines += [f"    {line}" for line in (*sum_lines(group, tile, 0), f"total = {_ZERO}")]
    lines += [f"a{d}_{k} = a{d + 1}_{k}" for d in range(live - 1) for k in range(tile.span)]
    names = [line.split(" = ")[0] for line in loads if line.startswith("t")]
    return lines + [f"{each} = next_{each}" for each in names]
