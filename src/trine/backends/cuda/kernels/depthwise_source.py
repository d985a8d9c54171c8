"""The text of a depthwise convolution kernel for one shape.

A program computes a tile of pixels and channels over a few output rows, of one image. It is straight-line code: each
input row that the tile needs is read once, shifted by each column of the filter (the shifts hit the first-level cache),
and goes into the sums of every output row that it belongs to, which live in registers as the weights do. A row's sums
become output as soon as they are complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from trine.backends.cuda.groups import Activation, DepthwiseConv
from trine.backends.cuda.kernels.activations import short_name

__all__ = ["Tile", "kernel_text"]


@dataclass(frozen=True)
class Tile:
    """What one program computes: ``rows`` output rows of ``pixels`` x ``channels``.

    flat: the tile is a run of ``pixels * channels`` numbers, which is a power of two; ``channels`` divides C, and a
    tile need not start or end at a pixel. Otherwise both are powers of two, and where ``band`` is not 0, each ``band``
    rows have their sum.
    """

    flat: bool
    rows: int
    pixels: int  # not flat only
    channels: int
    block: int
    band: int = 0

    def columns(self, group: DepthwiseConv) -> int:
        """Tiles side by side."""
        width = group.y.shape[2]
        return -(-width * self.channels // self.block) if self.flat else -(-width // self.pixels)

    def depth(self, group: DepthwiseConv) -> int:
        """Tiles behind each other."""
        return -(-group.y.shape[3] // self.channels)

    def bands(self, group: DepthwiseConv) -> int:
        """Tiles below each other."""
        return -(-group.y.shape[1] // self.rows)


def kernel_text(name: str, group: DepthwiseConv, tile: Tile) -> str:
    """The source of the Triton function ``name(x, w, bias, residual, y, sums)``."""
    lines = [*_place(group, tile), *_columns(group), *_weights(group, tile), *_rows(group, tile)]
    head = ["@triton.jit", f"def {name}(x, w, bias, residual, y, sums):"]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


def _place(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Which tile: image n, first output row p0, column q and channel c of each number. Channels vary fastest between
    programs: those that share cache lines run at the same time."""
    _, _, width, channels = group.y.shape
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
            f"q = place // {tile.channels}",
            f"c = part * {tile.channels} + place % {tile.channels}",
            f"inside = place < {width * tile.channels}",
        ]
    else:
        lines += [
            f"q = (column * {tile.pixels} + tl.arange(0, {tile.pixels}))[:, None]",
            f"c = (part * {tile.channels} + tl.arange(0, {tile.channels}))[None, :]",
            f"inside = (q < {width}) & (c < {channels})",
        ]
    lines.append(f"x += n * {group.x.strides[0]}")
    lines.append(f"y += n * {group.y.strides[0]}")
    if group.epilogue.residual is not None:
        lines.append(f"residual += n * {group.epilogue.residual.strides[0]}")
    if tile.band:
        assert group.sums is not None
        lines.append(f"sums += n * {group.sums.strides[0]} + column * {group.sums.strides[1]}")
    return lines


def _columns(group: DepthwiseConv) -> list[str]:
    """Offsets and masks of the tile in x, for each column of the filter."""
    width, length = group.x.shape[2], group.y.shape[2]
    step, left, apart = group.stride[1], group.pads[1], group.dilation[1]
    lines = [f"u = q * {step} - {left}", f"at = u * {group.x.strides[2]} + c"]
    for s in range(group.w.shape[1]):
        tests = ["inside"]
        if s * apart < left:
            tests.append(f"(u >= {-s * apart})")
        if (length - 1) * step - left + s * apart >= width:
            tests.append(f"(u < {width - s * apart})")
        lines.append(f"m{s} = {' & '.join(tests)}")
    return lines


def _weights(group: DepthwiseConv, tile: Tile) -> list[str]:
    # In a flat tile, c is a channel even where the tile ends beyond the row.
    mask = "" if tile.flat else f", mask=c < {group.y.shape[3]}, other=0.0"
    high, wide, _ = group.w.shape
    lines = [
        f"w{r}_{s} = tl.load(w + {r * group.w.strides[0] + s * group.w.strides[1]} + c{mask}).to(tl.float32)"
        for r in range(high)
        for s in range(wide)
    ]
    if group.epilogue.bias is not None:
        lines.append(f"b = tl.load(bias + c{mask}).to(tl.float32)")
    return lines


def _rows(group: DepthwiseConv, tile: Tile) -> list[str]:
    """Input rows from the top; input row j of the tile meets filter row r in output row (j - r * dilation) / stride."""
    high, wide, _ = group.w.shape
    step, apart = group.stride[0], group.dilation[0]
    height = group.x.shape[1]
    lines = [f"h0 = p0 * {step} - {group.pads[0]}"]
    started: set[int] = set()
    for j in range((tile.rows - 1) * step + (high - 1) * apart + 1):
        meets = [(r, (j - r * apart) // step) for r in range(high) if (j - r * apart) % step == 0]
        meets = [(r, i) for r, i in meets if 0 <= i < tile.rows]
        if not meets:
            continue
        lines += [f"h = h0 + {j}", f"real = (h >= 0) & (h < {height})", f"row = x + h * {group.x.strides[1]}"]
        for s in range(wide):
            shift = s * group.dilation[1] * group.x.strides[2]
            lines.append(f"t = tl.load(row + (at + {shift}), mask=m{s} & real, other=0.0).to(tl.float32)")
            for r, i in meets:
                lines.append(f"a{i} += t * w{r}_{s}" if i in started else f"a{i} = t * w{r}_{s}")
                started.add(i)
        for r, i in meets:
            if r == high - 1:
                lines += _finish(group, tile, i)
    return lines


def _finish(group: DepthwiseConv, tile: Tile, i: int) -> list[str]:
    """The epilogue of output row p0 + i, storing, and the sum of a band."""
    epilogue = group.epilogue
    lines = [f"p = p0 + {i}", f"v = a{i}", f"keep = inside & (p < {group.y.shape[1]})"]
    if epilogue.bias is not None:
        lines.append("v = v + b")
    lines += _activate(epilogue.act, group.y.dtype)
    if epilogue.residual is not None:
        strides = epilogue.residual.strides
        lines.append(
            f"v += tl.load(residual + p * {strides[1]} + (q * {strides[2]} + c), mask=keep, other=0.0).to(tl.float32)"
        )
    lines += _activate(epilogue.act_after, group.y.dtype)
    lines.append(f"tl.store(y + p * {group.y.strides[1]} + (q * {group.y.strides[2]} + c), v, mask=keep)")
    if tile.band:
        assert group.sums is not None
        first, last = i % tile.band == 0, i % tile.band == tile.band - 1
        lines.append(("total = " if first else "total += ") + "tl.where(keep, v, 0.0)")
        if last:
            lines += [
                f"base = p0 + {i - tile.band + 1}",
                f"slot = sums + base // {tile.band} * {tile.columns(group) * group.sums.strides[1]} + c",
                f"mine = (c < {group.y.shape[3]}) & (base < {group.y.shape[1]})",
                "tl.store(slot, tl.sum(total, axis=0)[None, :], mask=mine)",
            ]
    return lines


def _activate(act: Activation, dtype: str) -> list[str]:
    if act.name == "none":
        return []
    return [f'v = activate(v, "{short_name(act.name, dtype)}", {_literal(act.a)}, {_literal(act.b)})']


def _literal(number: float) -> str:
    text = repr(float(number))
    return text if text not in ("inf", "-inf", "nan") else f'float("{text}")'
