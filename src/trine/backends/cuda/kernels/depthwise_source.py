"""The text of a depthwise convolution kernel for one shape.

A program computes a tile of pixels and channels over a few output rows, of one image. It is straight-line code: each
input row that the tile needs is read once, shifted by each column of the filter (the shifts hit the first-level cache),
and goes into the sums of every output row that it belongs to, which live in registers as the weights do. A row's sums
become output as soon as they are complete. With a span of pixels, a thread has neighbouring pixels of a row: what it
reads and converts serves all of them. Masks are left out where nothing can be outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from trine.backends.cuda.groups import Activation, DepthwiseConv
from trine.backends.cuda.kernels.activations import short_name

__all__ = ["Tile", "kernel_text"]


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
    lines = [*_place(group, tile), *_columns(group, tile), *_weights(group, tile), *_rows(group, tile)]
    head = ["@triton.jit", f"def {name}(x, w, bias, residual, y, sums):"]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


def _place(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Which tile: image n, first output row p0, first column q and channel c of each number. Channels vary fastest
    between programs: those that share cache lines run at the same time."""
    _, _, _, channels = group.y.shape
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
    lines.append(f"x += n * {group.x.strides[0]}")
    lines.append(f"y += n * {group.y.strides[0]}")
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


def _columns(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Where each number's first product lies in x, and the masks: in{k} for a place's output pixel k, m{e} for input
    column e. Those that no tile needs are not there."""
    width, length = group.x.shape[2], group.y.shape[2]
    step, left = group.stride[1], group.pads[1]
    last = _last_column(group, tile)
    lines = [f"u = q * {step} - {left}", f"at = u * {group.x.strides[2]} + c"]
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
    for r in range(high):
        for s in range(wide):
            offset = r * group.w.strides[0] + s * group.w.strides[1]
            load = f"tl.load(w + {offset} + c{mask}).to(tl.float32)"
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
        loads, sums = _row(group, tile, j, meets, started)
        for r, i in meets:
            if r == high - 1:
                sums += _finish(group, tile, i, started)
        steps.append((loads, sums))
    lines = [f"h0 = p0 * {step} - {group.pads[0]}"]
    if tile.span == 1:
        return lines + [line for loads, sums in steps for line in (*loads, *sums)]
    for index, (loads, sums) in enumerate(steps):
        if index == 0:
            lines += loads
        lines += steps[index + 1][0] if index + 1 < len(steps) else []
        lines += sums
    return lines


def _row(
    group: DepthwiseConv, tile: Tile, j: int, meets: list[tuple[int, int]], started: set[tuple[int, int]]
) -> tuple[list[str], list[str]]:
    """The loads of input row j, and what they add to the sums of the output rows that it meets."""
    height, wide = group.x.shape[1], group.w.shape[1]
    step, apart = group.stride[1], group.dilation[1]
    first = j - group.pads[0]
    last = (tile.bands(group) - 1) * tile.rows * group.stride[0] + first
    if last < 0 or first >= height:
        return [], []
    loads = [f"h = h0 + {j}", f"row{j} = x + h * {group.x.strides[1]}"]
    row_tests = []
    if first < 0 or last >= height:
        loads.append(f"real{j} = (h >= 0) & (h < {height})")
        row_tests.append(f"real{j}")
    edges = {line.split(" = ")[0] for line in _columns(group, tile)}
    sums = []
    for e in _input_columns(group, tile):
        tests = [*([f"m{e}"] if f"m{e}" in edges else []), *_real_channels(group, tile), *row_tests]
        loads.append(f"t{j}_{e} = tl.load(row{j} + (at + {e * group.x.strides[2]}){_masked(tests)})")
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


def _finish(group: DepthwiseConv, tile: Tile, i: int, started: set[tuple[int, int]]) -> list[str]:
    """The epilogue of output row p0 + i, storing, and the sum of a band."""
    epilogue = group.epilogue
    height, width = group.y.shape[1], group.y.shape[2]
    lines = [f"p = p0 + {i}"]
    shared = _real_channels(group, tile)
    if (tile.bands(group) - 1) * tile.rows + i >= height:
        lines.append(f"low = p < {height}")
        shared = [*shared, "low"]
    for k in range(tile.span):
        if _last_column(group, tile) == 0 and k >= width:
            continue  # the only tile has more pixels than the image
        keep = [*([f"in{k}"] if _last_column(group, tile) + k >= width else []), *shared]
        lines.append(f"v = a{i}_{k}" if (i, k) in started else "v = (at * 0).to(tl.float32)")
        if epilogue.bias is not None:
            lines.append("v = v + b")
        lines += _activate(epilogue.act, group.y.dtype)
        if epilogue.residual is not None:
            _, down, right, _ = epilogue.residual.strides
            place = f"residual + p * {down} + (q * {right} + c + {k * right})"
            lines.append(f"v += tl.load({place}{_masked(keep)}).to(tl.float32)")
        lines += _activate(epilogue.act_after, group.y.dtype)
        _, down, right, _ = group.y.strides
        lines.append(f"tl.store(y + p * {down} + (q * {right} + c + {k * right}), v{_masked(keep, other=False)})")
        if tile.band:
            first = i % tile.band == 0 and k == 0
            lines.append(
                ("total = " if first else "total += ") + (f"tl.where({' & '.join(keep)}, v, 0.0)" if keep else "v")
            )
    if tile.band and i % tile.band == tile.band - 1:
        lines += _store_sum(group, tile, i)
    return lines


def _store_sum(group: DepthwiseConv, tile: Tile, i: int) -> list[str]:
    """The sum of the band that ends with row i."""
    assert group.sums is not None
    mine = _real_channels(group, tile)
    lines = [f"base = p0 + {i - tile.band + 1}"]
    if (tile.bands(group) - 1) * tile.rows + i - tile.band + 1 >= group.y.shape[1]:
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
