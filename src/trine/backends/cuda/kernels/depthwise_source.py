"""The text of a depthwise convolution kernel for one shape.

A program computes a tile of pixels and channels over a few output rows, of one image. It is straight-line code: each
input row that the tile needs is read once, shifted by each column of the filter (the shifts hit the first-level cache),
and goes into the sums of every output row that it belongs to, which live in registers as the weights do. A row's sums
become output as soon as they are complete. With a span of pixels, a thread has neighbouring pixels of a row: what it
reads and converts serves all of them. Masks are left out where nothing can be outside.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from trine.backends.cuda.groups import Activation, DepthwiseConv
from trine.backends.cuda.kernels.activations import short_name

__all__ = ["Tile", "column_lines", "finish_lines", "head_lines", "kernel_text", "row_lines", "sum_lines"]


@dataclass(frozen=True)
class Tile:
    """What one program computes: ``rows`` output rows of ``places`` x ``channels``, a place being ``span`` pixels.

    flat: the tile is a run of ``block = places * channels`` numbers, which is a power of two; ``channels`` divides C,
    and a tile need not start or end at a place. Otherwise both are powers of two, and where ``band`` is not 0, each
    ``band`` rows have their sum.
    """

    flat: bool
    rows: int
    places: int  # not flat only
    channels: int
    block: int
    band: int = 0
    span: int = 1
    walk: bool = False  # a loop over the rows, instead of straight-line code

    def in_row(self, group: DepthwiseConv) -> int:
        """Places of an output row."""
        return -(-group.y.shape[2] // self.span)

    def columns(self, group: DepthwiseConv) -> int:
        """Tiles side by side."""
        row = self.in_row(group)
        return -(-row * self.channels // self.block) if self.flat else -(-row // self.places)

    def depth(self, group: DepthwiseConv) -> int:
        """Tiles behind each other."""
        return -(-group.y.shape[3] // self.channels)

    def bands(self, group: DepthwiseConv) -> int:
        """Tiles below each other."""
        return -(-group.y.shape[1] // self.rows)


def kernel_text(name: str, group: DepthwiseConv, tile: Tile) -> str:
    """The source of the Triton function ``name(x, w, bias, residual, y, sums)``."""
    lines = [*head_lines(group, tile), *_rows(group, tile)]
    head = ["@triton.jit", f"def {name}(x, w, bias, residual, y, sums):"]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


def head_lines(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Everything before the first row: places, masks and weights."""
    return [*_place(group, tile), *column_lines(group, tile), *_weights(group, tile)]


def _place(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Which tile: image n, first output row p0, first column q and channel c of each number. Channels vary fastest
    between programs: those that share cache lines run at the same time."""
    channels = group.y.shape[3]
    lines = [
        "pid = tl.program_id(0)",
        f"part = pid % {tile.depth(group)}",
        f"pid = pid // {tile.depth(group)}",
        f"column = pid % {tile.columns(group)}",
        f"pid = pid // {tile.columns(group)}",
        f"p0 = pid % {tile.bands(group)} * {tile.rows}",
        f"n = (pid // {tile.bands(group)}).to(tl.int64)",
    ]
    if tile.flat:
        lines += [
            f"place = column * {tile.block} + tl.arange(0, {tile.block})",
            f"q = place // {tile.channels} * {tile.span}",
            f"c = part * {tile.channels} + place % {tile.channels}",
        ]
    else:
        lines += [
            f"q = ((column * {tile.places} + tl.arange(0, {tile.places})) * {tile.span})[:, None]",
            f"c = (part * {tile.channels} + tl.arange(0, {tile.channels}))[None, :]",
        ]
        if channels % tile.channels:
            lines.append(f"real_c = c < {channels}")
    lines += [f"x += n * {group.x.strides[0]}", f"y += n * {group.y.strides[0]}"]
    if group.epilogue.residual is not None:
        lines.append(f"residual += n * {group.epilogue.residual.strides[0]}")
    if tile.band:
        assert group.sums is not None
        lines.append(f"sums += n * {group.sums.strides[0]} + column * {group.sums.strides[1]}")
    return lines


def _real_channels(group: DepthwiseConv, tile: Tile) -> list[str]:
    # In a flat tile, c is a channel even where the tile ends beyond the row.
    return ["real_c"] if not tile.flat and group.y.shape[3] % tile.channels else []


def _masked(tests: list[str], other: bool = True) -> str:
    """What follows the address in a load or store."""
    return f", mask={' & '.join(tests)}{', other=0.0' if other else ''}" if tests else ""


def _last_column(group: DepthwiseConv, tile: Tile) -> int:
    """The largest value of q in any tile."""
    if tile.flat:
        return (-(-tile.columns(group) * tile.block // tile.channels) - 1) * tile.span
    return (tile.columns(group) * tile.places - 1) * tile.span


def column_lines(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Where each number's first product lies in x, and the masks: in{k} for a place's output pixel k, m{e} for input
    column e. Those that no tile needs are not there."""
    width, length = group.x.shape[2], group.y.shape[2]
    step, left = group.stride[1], group.pads[1]
    last = _last_column(group, tile)
    # Pointers of every number, once: what is added to them later is the same for all, and constants cost nothing.
    lines = [f"u = q * {step} - {left}", f"at = u * {group.x.strides[2]} + c", "x_at = x + at"]
    lines.append(f"y_at = y + (q * {group.y.strides[2]} + c)")
    if group.epilogue.residual is not None:
        lines.append(f"residual_at = residual + (q * {group.epilogue.residual.strides[2]} + c)")
    for k in range(tile.span):
        if last + k >= length:
            lines.append(f"in{k} = q < {length - k}")
    for e in _input_columns(group, tile):
        tests = []
        if e < left:
            tests.append(f"(u >= {-e})")
        # Beyond the last column that an output needs, in a tile that is wider than the image, is beyond x too, or
        # inside it and then harmless.
        if last * step - left + e >= width:
            tests.append(f"(u < {width - e})")
        if tests:
            lines.append(f"m{e} = {' & '.join(tests)}")
    return lines


def _input_columns(group: DepthwiseConv, tile: Tile) -> list[int]:
    """Input columns of a place, counted from the first product of its first pixel; without those that are padding."""
    wide, step, apart = group.w.shape[1], group.stride[1], group.dilation[1]
    found = {k * step + s * apart for k in range(tile.span) for s in range(wide)}
    if _last_column(group, tile) == 0:
        left = group.pads[1]
        found = {e for e in found if 0 <= e - left < group.x.shape[2]}
    return sorted(found)


def _weights(group: DepthwiseConv, tile: Tile) -> list[str]:
    """In fp32, of the tile's shape: Triton's time to compile grows with more than the square of the operations, so
    that a product is one, a fused multiplication and addition without a broadcast."""
    mask = _masked(_real_channels(group, tile))
    high, wide, _ = group.w.shape
    lines = []
    for r, s in itertools.product(range(high), range(wide)):
        load = f"tl.load(w + {r * group.w.strides[0] + s * group.w.strides[1]} + c{mask}).to(tl.float32)"
        if not tile.flat:
            load = f"tl.broadcast_to({load}, ({tile.places}, {tile.channels}))"
        lines.append(f"w{r}_{s} = {load}")
    if group.epilogue.bias is not None:
        lines.append(f"b = tl.load(bias + c{mask}).to(tl.float32)")
    return lines


def _rows(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Input rows from the top; input row j of the tile meets filter row r in output row (j - r * dilation) / stride.

    With a span, the loads of the next row stand before the products of a row: there is time for them to arrive.
    """
    high = group.w.shape[0]
    step, apart = group.stride[0], group.dilation[0]
    steps: list[tuple[list[str], list[str]]] = []
    started: set[tuple[int, int]] = set()
    for j in range((tile.rows - 1) * step + (high - 1) * apart + 1):
        meets = [(r, (j - r * apart) // step) for r in range(high) if (j - r * apart) % step == 0]
        meets = [(r, i) for r, i in meets if 0 <= i < tile.rows]
        if not meets:
            continue
        loads, sums = row_lines(group, tile, j, meets, started)
        for r, i in meets:
            if r == high - 1:
                sums += finish_lines(group, tile, i, started, i % max(1, tile.band) == 0)
                if tile.band and i % tile.band == tile.band - 1:
                    sums += sum_lines(group, tile, i)
        steps.append((loads, sums))
    lines = [f"h0 = p0 * {step} - {group.pads[0]}"]
    if tile.span == 1:
        return lines + [line for loads, sums in steps for line in (*loads, *sums)]
    lines += steps[0][0]
    for (_, sums), (loads, _) in zip(steps, [*steps[1:], ([], [])], strict=True):
        lines += [*loads, *sums]
    return lines


def row_lines(
    group: DepthwiseConv,
    tile: Tile,
    j: int,
    meets: list[tuple[int, int]],
    started: set[tuple[int, int]],
    further: int = 0,
) -> tuple[list[str], list[str]]:
    """The loads of input row h0 + j, and what they add to the sums a{i}_{k} of the output rows that it meets.

    further: how many output rows further down h0 may be than where the tile begins.
    """
    height, wide = group.x.shape[1], group.w.shape[1]
    step, apart = group.stride[1], group.dilation[1]
    first = j - group.pads[0]
    last = ((tile.bands(group) - 1) * tile.rows + further) * group.stride[0] + first
    if last < 0 or first >= height:
        return [], []
    loads = [f"h = h0 + {j}", f"row{j} = x_at + h * {group.x.strides[1]}"]
    row_tests = []
    if first < 0 or last >= height:
        loads.append(f"real{j} = (h >= 0) & (h < {height})")
        row_tests.append(f"real{j}")
    edges = {line.split(" = ")[0] for line in column_lines(group, tile)}
    sums = []
    for e in _input_columns(group, tile):
        tests = [*([f"m{e}"] if f"m{e}" in edges else []), *_real_channels(group, tile), *row_tests]
        loads.append(f"t{j}_{e} = tl.load(row{j} + {e * group.x.strides[2]}{_masked(tests)})")
        sums.append(f"t = t{j}_{e}.to(tl.float32)")
        for k in range(tile.span):
            s, rest = divmod(e - k * step, apart)
            if rest or not 0 <= s < wide:
                continue
            for r, i in meets:
                old = f"a{i}_{k}"
                sums.append(f"{old} = tl.fma(t, w{r}_{s}, {old})" if (i, k) in started else f"{old} = t * w{r}_{s}")
                started.add((i, k))
    return loads, sums


def finish_lines(group: DepthwiseConv, tile: Tile, i: int, started: set[tuple[int, int]], fresh: bool) -> list[str]:
    """The epilogue of output row p0 + i, storing, and adding to the band's total; ``fresh``: which begins here."""
    epilogue = group.epilogue
    height, width = group.y.shape[1], group.y.shape[2]
    lines = [f"p = p0 + {i}", f"y_row = y_at + p * {group.y.strides[1]}"]
    if epilogue.residual is not None:
        lines.append(f"residual_row = residual_at + p * {epilogue.residual.strides[1]}")
    low = []
    if (tile.bands(group) - 1) * tile.rows + (tile.rows - 1 if tile.walk else i) >= height:
        lines.append(f"low = p < {height}")
        low = ["low"]
    for k in range(tile.span):
        if _last_column(group, tile) == 0 and k >= width:
            continue  # the only tile has more pixels than the image
        pixel = [*([f"in{k}"] if _last_column(group, tile) + k >= width else []), *low]
        keep = [*pixel, *_real_channels(group, tile)]
        lines.append(f"v = a{i}_{k}" if (i, k) in started else "v = (at * 0).to(tl.float32)")
        if epilogue.bias is not None:
            lines.append("v = v + b")
        lines += _activate(epilogue.act, group.y.dtype)
        if epilogue.residual is not None:
            right = epilogue.residual.strides[2]
            lines.append(f"v += tl.load(residual_row + {k * right}{_masked(keep)}).to(tl.float32)")
        lines += _activate(epilogue.act_after, group.y.dtype)
        lines.append(f"tl.store(y_row + {k * group.y.strides[2]}, v{_masked(keep, other=False)})")
        if tile.band:
            first = fresh and k == 0
            # Channels that are none have a sum too, which is not stored.
            value = f"tl.where({' & '.join(pixel)}, v, 0.0)" if pixel else "v"
            lines.append(("total = " if first else "total += ") + value)
    return lines


def sum_lines(group: DepthwiseConv, tile: Tile, i: int) -> list[str]:
    """The sum of the band that ends with row p0 + i."""
    assert group.sums is not None
    mine = _real_channels(group, tile)
    lines = [f"base = p0 + {i - tile.band + 1}"]
    if tile.bands(group) * tile.rows - tile.band >= group.y.shape[1]:
        lines.append(f"some = base < {group.y.shape[1]}")
        mine = [*mine, "some"]
    return [
        *lines,
        f"slot = sums + base // {tile.band} * {tile.columns(group) * group.sums.strides[1]} + c",
        f"tl.store(slot, tl.sum(total, axis=0)[None, :]{_masked(mine, other=False)})",
    ]


def _activate(act: Activation, dtype: str) -> list[str]:
    if act.name == "none":
        return []
    return [f'v = activate(v, "{short_name(act.name, dtype)}", {_literal(act.a)}, {_literal(act.b)})']


def _literal(number: float) -> str:
    text = repr(float(number))
    return text if text not in ("inf", "-inf", "nan") else f'float("{text}")'
