"""Tiles for depthwise convolutions of many images: how outputs are summed, and threads with neighbouring pixels.

A thread that has a span of pixels of a row converts each number that it reads once, for all of them; reading is a third
of the instructions otherwise. That takes registers, and so fewer threads: for outputs that fill a GPU all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES, DepthwiseConv
from trine.backends.cuda.kernels.depthwise_source import Tile
from trine.backends.cuda.kernels.operands import power_of_two
from trine.backends.cuda.target import Target

__all__ = ["is_large", "spanned", "spanned_cost", "sum_tile"]

_LARGE = 4_000_000  # numbers of an output
_TALL, _BROAD = 7, 112  # rows and columns that are summed together in a large output
_SPANS = (7, 4, 8, 5, 2)  # neighbouring pixels of a thread
_REGISTERS = 208  # of a thread, as estimated
_STRAIGHT = 360  # products in the straight-line code, of one channel: compiling takes ten seconds or so


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether an output of ``shape`` fills a GPU with threads that compute a hundred numbers each."""
    return math.prod(shape) >= _LARGE


def sum_tile(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns that are summed together, for an output of ``shape`` (N, P, Q, C): few enough rows that one
    image still fills a GPU; with many images as much as a program can hold, since every sum costs a reduction across
    threads."""
    _, height, width, _ = shape
    if is_large(shape):
        return math.ceil(height / math.ceil(height / _TALL)), math.ceil(width / math.ceil(width / _BROAD))
    pixels = min(16, power_of_two(width))
    if pixels == 16 and -(-width // 16) * 16 > 1.2 * -(-width // 8) * 8:
        pixels = 8
    return (2 if height <= 28 else 4), pixels


def spanned(group: DepthwiseConv) -> Iterator[dict[str, Any]]:
    """Configurations whose threads have several pixels; with sums also of one, as the sums' tiles are large."""
    width = group.y.shape[2]
    for span in (*_SPANS, *((1,) if group.sums is not None else ())):
        if span > width or -(-width // span) * span > 1.2 * width:
            continue
        for each in (1, 2, 4, 8):
            if _registers(group, span, each) > _REGISTERS:
                continue
            for walk, rows in (*_walks(group, span), *((False, rows) for rows in _row_counts(group, span))):
                for channels, block in _blocks(group, span):
                    warps, rest = divmod(block, 32 * each)
                    if rest or not 1 <= warps <= 8:
                        continue
                    found = {"rows": rows, "channels": channels, "block": block, "span": span, "num_warps": warps}
                    yield found | ({"walk": True} if walk else {})


def _walks(group: DepthwiseConv, span: int) -> list[tuple[bool, int]]:
    """Heights of tiles whose rows are a loop."""
    if group.dilation[0] != 1 or span == 1 or span * math.prod(group.w.shape[:2]) > _STRAIGHT:
        return []
    return [(True, rows) for rows in _heights(group, 28)[:3]]


def _blocks(group: DepthwiseConv, span: int) -> Iterator[tuple[int, int]]:
    """Channels of a tile, and places times channels."""
    _, _, width, channels = group.y.shape
    places = -(-width // span)
    if group.sums is None:
        vector = 16 // ITEM_BYTES[group.x.dtype]
        parts = [each for each in range(vector, channels, vector) if channels % each == 0 and each <= 256]
        for part in [*parts, channels]:
            for block in (64, 128, 256, 512):
                if block < 2 * power_of_two(places * part):
                    yield part, block
        return
    _, pixels = sum_tile(group.y.shape)
    held = power_of_two(math.ceil(pixels / span))
    if -(-places // held) != -(-width // pixels):
        return  # other tiles than those that are summed
    for part in (8, 16, 32, 64, 128, 256):
        if part < 2 * power_of_two(channels) or part == 8:
            yield part, held * part


def _row_counts(group: DepthwiseConv, span: int) -> list[int]:
    """The two greatest heights of tiles with little left over, where a thread has ``span`` pixels of a row."""
    most = _STRAIGHT // (span * math.prod(group.w.shape[:2]))
    return _heights(group, min(most, 16))[:2]


def _heights(group: DepthwiseConv, most: int) -> list[int]:
    """Rows of tiles that divide the height with little left over, up to ``most``, the greatest first."""
    height = group.y.shape[1]
    band = 1 if group.sums is None else sum_tile(group.y.shape)[0]
    found = {math.ceil(math.ceil(height / parts) / band) * band for parts in range(1, -(-height // band) + 1)}
    return sorted((rows for rows in found if rows <= most), reverse=True)


def _input_columns(group: DepthwiseConv, span: int) -> int:
    return (span - 1) * group.stride[1] + (group.w.shape[1] - 1) * group.dilation[1] + 1


def _registers(group: DepthwiseConv, span: int, each: int) -> float:
    """Weights and unfinished sums in fp32, two input rows as they are in memory, and addresses."""
    high, wide, _ = group.w.shape
    unfinished = ((high - 1) * group.dilation[0]) // group.stride[0] + 1
    size = ITEM_BYTES[group.x.dtype] / 4
    return each * (high * wide + unfinished * span + 2 * size * _input_columns(group, span)) + 24


def spanned_cost(group: DepthwiseConv, configuration: Mapping[str, Any], target: Target) -> float:
    """Relative time: instructions for each output, more where lanes idle or few threads hide latency."""
    images, height, width, channels = group.y.shape
    high, wide, _ = group.w.shape
    rows, span, warps = configuration["rows"], configuration["span"], configuration["num_warps"]
    part, block = configuration["channels"], configuration["block"]
    each = block // (32 * warps)
    tile = Tile(group.sums is None, rows, block // part, part, block, span=span)
    read_rows = (rows - 1) * group.stride[0] + (high - 1) * group.dilation[0] + 1
    read = read_rows * _input_columns(group, span) / (rows * span)
    weights = high * wide / (rows * span)
    read_cost = (read + weights) * (1 + 1.5 / each) + (1.5 * read if each == 1 else 0)
    moved = (high - 1) // group.stride[0] if configuration.get("walk") else 0
    instructions = high * wide + read_cost + moved + 6 + (10 / rows / span if group.sums else 0)
    programs = images * tile.bands(group) * tile.columns(group) * tile.depth(group)
    lanes = programs * rows * span * block / (images * height * width * channels)
    resident = min(48, 65536 // (32 * _registers(group, span, each)))
    idle: float = max(1.0, 16 / resident, 16 * target.multiprocessors / (programs * warps)) ** 0.5
    size = part * ITEM_BYTES[group.x.dtype]
    lines = 1.0 if size % 64 == 0 or part == channels else 1.05 if size >= 64 else 1.25
    return float(instructions * lanes * idle * lines)
