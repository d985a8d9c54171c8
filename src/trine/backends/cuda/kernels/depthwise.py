"""Depthwise convolution over channels-last images; with sums of its output for a squeeze-and-excite after it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES, DepthwiseConv, Group
from trine.backends.cuda.kernels.depthwise_source import Tile, kernel_text
from trine.backends.cuda.kernels.depthwise_spans import is_large, spanned, spanned_cost, sum_tile
from trine.backends.cuda.kernels.depthwise_walk import walking_text
from trine.backends.cuda.kernels.generated import function_from_source
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.tactic import Launch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "DepthwiseRows", "sum_tiles"]

_LONGEST = 800  # products in the straight-line code of a thread: compiling takes two seconds or so
_MOST = 10  # configurations


def sum_tiles(shape: tuple[int, ...]) -> int:
    """How many partial sums each image and channel has, for an output of ``shape`` (N, P, Q, C); the T of
    DepthwiseConv.sums. It does not depend on the GPU or the configuration."""
    rows, pixels = sum_tile(shape)
    return -(-shape[1] // rows) * -(-shape[2] // pixels)


class DepthwiseRows:
    """Tiles of pixels and channels that walk down a few output rows."""

    name = "triton depthwise"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, DepthwiseConv):
            return Support((f"{type(group).__name__} is no depthwise convolution",))
        reasons = []
        views = {"x": group.x, "y": group.y, "w": group.w, "bias": group.epilogue.bias, "sums": group.sums}
        views["residual"] = group.epilogue.residual
        for name, view in views.items():
            if view is None:
                continue
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: channels {view.strides[-1]} elements apart; wanted 1")
            if view.buffer.dtype not in ("fp16", "bf16", "fp32"):
                reasons.append(f"{name}: {view.dtype}; wanted fp16, bf16 or fp32")
            if (
                len(view.shape) == 4
                and sum(n * abs(s) for n, s in zip(view.shape[1:], view.strides[1:], strict=True)) >= 1 << 31
            ):
                reasons.append(f"{name}: an image of {view.shape[1:]} has 2**31 elements or more")
        high, wide, _ = group.w.shape
        if high * wide > 121:
            reasons.append(f"a filter of {high} x {wide}; at most 121 weights stay in registers")
        if group.sums is not None and group.sums.shape[1] != (wanted := sum_tiles(group.y.shape)):
            reasons.append(f"sums over {group.sums.shape[1]} tiles; wanted {wanted}")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. rows: output rows of a program; block: places of a row times channels; channels, span,
        walk: see Tile."""
        assert isinstance(group, DepthwiseConv)
        candidates = _summed(group) if group.sums is not None else _flat(group)
        if not is_large(group.y.shape):
            return _varied(candidates, lambda each: _cost(group, each, target), _MOST)
        found = _varied(
            spanned(group), lambda each: spanned_cost(group, each, target), _MOST - (4 if group.sums is None else 0)
        )
        if group.sums is not None:
            return found  # the others have smaller tiles than those that are summed
        return found + _varied(candidates, lambda each: _cost(group, each, target), _MOST - len(found))

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, DepthwiseConv)
        tile = _tile(group, configuration)
        high, wide, _ = group.w.shape
        name = f"depthwise_{high}x{wide}" + (f"_stride{group.stride[0]}" if group.stride != (1, 1) else "")
        text = walking_text(name, group, tile) if tile.walk else kernel_text(name, group, tile)
        function = function_from_source(text, name)
        programs = group.y.shape[0] * tile.bands(group) * tile.columns(group) * tile.depth(group)
        epilogue = group.epilogue
        operands = {
            "x": group.x,
            "w": group.w,
            "bias": epilogue.bias,
            "residual": epilogue.residual,
            "y": group.y,
            "sums": group.sums,
        }
        return [launch_of(function, (programs, 1, 1), operands, {}, configuration["num_warps"])]


def _varied(
    candidates: Iterable[dict[str, Any]], cost: Callable[[dict[str, Any]], float], most: int
) -> list[dict[str, Any]]:
    """The cheapest. The cost is a guess: no single height of tiles, or numbers of a thread, takes all the places."""
    alike = Counter[tuple[int, ...]]()
    found = []
    for configuration in sorted(candidates, key=cost):
        each = configuration["block"] // configuration["num_warps"]
        kind = (configuration["rows"], each, configuration.get("span", 1), configuration.get("walk", False))
        alike[kind] += 1
        if alike[kind] <= 2:
            found.append(configuration)
    return found[:most]


def _tile(group: DepthwiseConv, configuration: Mapping[str, Any]) -> Tile:
    rows, channels, block = configuration["rows"], configuration["channels"], configuration["block"]
    span, walk = configuration.get("span", 1), configuration.get("walk", False)
    if group.sums is None:
        return Tile(True, rows, 0, channels, block, span=span, walk=walk)
    band, _ = sum_tile(group.y.shape)
    return Tile(False, rows, block // channels, channels, block, band, span, walk)


def _numbers_of_a_thread(group: DepthwiseConv) -> tuple[int, ...]:
    """All weights of a thread's numbers are in registers in fp32; a load takes 16 bytes at most."""
    weights = group.w.shape[0] * group.w.shape[1]
    return (4, 8, 2) if weights <= 9 else (4, 2) if weights <= 25 else (2, 1)


def _flat(group: DepthwiseConv) -> Iterator[dict[str, Any]]:
    _, _, width, channels = group.y.shape
    vector = 16 // ITEM_BYTES[group.x.dtype]
    parts = [each for each in range(vector, channels, vector) if channels % each == 0 and each <= 256]
    for part in [*parts, channels]:
        for block in (128, 256, 512, 1024):
            if block > 128 and block >= 2 * power_of_two(width * part):
                continue
            for each in _numbers_of_a_thread(group):
                warps = block // (32 * each)
                for rows in _row_counts(group, 1, each):
                    if 1 <= warps <= 8:
                        yield {"rows": rows, "channels": part, "block": block, "num_warps": warps}


def _summed(group: DepthwiseConv) -> Iterator[dict[str, Any]]:
    channels = group.y.shape[3]
    band, pixels = sum_tile(group.y.shape)
    for part in (8, 16, 32, 64, 128):
        if part >= 2 * power_of_two(channels) and part > 8:
            continue
        for each in _numbers_of_a_thread(group):
            warps = pixels * part // (32 * each)
            for rows in _row_counts(group, band, each):
                if 1 <= warps <= 8 or (warps == 0 and each == 1):
                    yield {"rows": rows, "channels": part, "block": pixels * part, "num_warps": max(1, warps)}
    if pixels * channels < 64:
        part = power_of_two(channels)
        yield {"rows": band, "channels": part, "block": pixels * part, "num_warps": 1}


def _row_counts(group: DepthwiseConv, band: int, each: int) -> list[int]:
    """Multiples of ``band`` that divide the height with little left over, short enough for straight-line code where
    a thread has ``each`` numbers of a row."""
    height = group.y.shape[1]
    most = max(band, _LONGEST // (each * math.prod(group.w.shape[:2])))
    found = set()
    for parts in range(1, -(-height // band) + 1):
        rows = math.ceil(math.ceil(height / parts) / band) * band
        if rows <= min(most, 16):
            found.add(rows)
    return sorted(found, reverse=True)


def _cost(group: DepthwiseConv, configuration: Mapping[str, Any], target: Target) -> float:
    """Relative time: what is read and written of the second-level cache, more where lanes or multiprocessors idle."""
    tile = _tile(group, configuration)
    images, height, width, channels = group.y.shape
    size = ITEM_BYTES[group.x.dtype]
    high, wide, _ = group.w.shape
    pixels = tile.block / tile.channels
    read_rows = ((tile.rows - 1) * group.stride[0] + (high - 1) * group.dilation[0] + 1) / tile.rows
    read_pixels = ((pixels - 1) * group.stride[1] + (wide - 1) * group.dilation[1] + 1) / pixels
    weights = high * wide / (tile.rows * pixels)
    # Reads that other programs repeat come from the second-level cache, at about two and a half times the bandwidth.
    once = group.stride[0] * group.stride[1]
    moved = 1.0 + once + 0.4 * (max(read_rows * read_pixels - once, 0.0) + weights)
    lanes = tile.columns(group) * tile.depth(group) * tile.block / (width * channels)
    lanes *= tile.bands(group) * tile.rows / height
    programs = images * tile.bands(group) * tile.columns(group) * tile.depth(group)
    warps = programs * configuration["num_warps"]
    idle: float = max(1.0, 8 * target.multiprocessors / warps, target.multiprocessors / programs) ** 0.8
    run = tile.channels * size
    lines = 1.0 if tile.channels == channels or run % 128 == 0 else 1.05 if run % 64 == 0 else 1.1 if run >= 64 else 1.3
    each = tile.block / (32 * configuration["num_warps"])
    narrow = 1.15 if each * size < 8 else 1.0
    crowded = 1.1 if each * high * wide > 100 else 1.0
    return moved * (0.5 + 0.5 * lanes) * idle * lines * narrow * crowded


TACTICS = (DepthwiseRows(),)
