"""Strided convolutions of images: blocks of pixels become channels, and the stride is gone.

A convolution of stride s over (H, W, 3) is one of stride 1 over (H/s, W/s, s*s*4), with the weights moved to where
their pixel went. Its products are as many (a few weights are zero), but a pixel of it is 32 bytes and more of
contiguous memory where it was 8. A patch embedding, whose window is its stride, becomes a matrix product.

The pixels under one row of the filter lie side by side too. Of many images, rows get zeros between them, which is the
padding of both their ends, and the convolution is one of windows that overlap, with a filter of one column.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Buffer, Conv, Expr, Gemm, Pointwise, View, contiguous_strides
from trine.backends.cuda.lowering.views import covers_buffer, permuted

__all__ = ["move_stride_into_channels"]

_MOST_CHANNELS = 4  # of the images; more of them are contiguous enough
_MOST_STRIDE = 32
_FEWEST_IMAGES = 8  # for windows: writing the zeros is a launch more
_WINDOW_UNIT = 32  # numbers of a window are a multiple of what kernels take at a time


def move_stride_into_channels(program: Program) -> None:
    """Before: Pointwise -> x (N, H, W, 3); Conv(x, w (K, R, S, 3), stride s).
    After: Pointwise -> x (N, H/s, W/s, s*s*4); Conv(x, w (K, R', S', s*s*4)), or Gemm where R' = S' = 1.

    Stays: strides that differ or do not divide H and W; dilated, grouped convolutions; images that others read.
    """
    for index, group in program.positions():
        if not isinstance(group, Conv):
            continue
        stride = group.stride[0]
        images = group.x
        found = program.only_writer(images)
        if (
            found is None
            or not isinstance(found[1], Pointwise)
            or not program.only_reader(images.buffer, index)
            or not 2 <= stride <= _MOST_STRIDE
            or group.stride != (stride, stride)
            or group.dilation != (1, 1)
            or group.groups != 1
            or group.prologue is not None
            or images.shape[3] > _MOST_CHANNELS
            or images.shape[1] % stride
            or images.shape[2] % stride
            or not images.contiguous
            or not covers_buffer(images)
        ):
            continue
        writer, producer = found
        assert isinstance(producer, Pointwise)
        order = _order_of(producer.y, images)
        if order is not None:
            _move(program, writer, producer, order, index, group)


def _order_of(y: View, images: View) -> list[int] | None:
    """The order of the producer's axes in which its output is (N, H, W, C)."""
    if len(y.shape) != 4 or not covers_buffer(y):
        return None
    order = sorted(range(4), key=lambda axis: (-y.strides[axis], y.shape[axis] != images.shape[0]))
    turned = permuted(y, order)
    return order if turned.shape == images.shape and turned.contiguous else None


def _move(program: Program, writer: int, producer: Pointwise, order: list[int], index: int, conv: Conv) -> None:
    n, height, width, channels = conv.x.shape
    s = conv.stride[0]
    # Four channels where that makes a pixel 32 bytes; three where s * s of them are a multiple of 16 already.
    wide = channels if s * s * channels % 16 == 0 else _MOST_CHANNELS
    shape = (n, height // s, width // s, s * s * wide)
    buffer = Buffer(conv.x.buffer.name, "arena", conv.x.dtype, n * height * width * wide)
    blocks = View(buffer, shape, contiguous_strides(shape))

    def in_blocks(view: View) -> View:
        turned = permuted(view, order)
        a, b, c, d = turned.strides
        return View(
            turned.buffer, (n, height // s, s, width // s, s, channels), (a, b * s, b, c * s, c, d), turned.offset
        )

    w, pads = _moved_weights(conv, s, wide)
    windows = w.shape[2] > 1 and n >= _FEWEST_IMAGES and w.shape[2] * w.shape[3] % _WINDOW_UNIT == 0
    if windows:
        blocks = _with_gaps(blocks, max(pads[1], pads[3]))
    image, row, column, _ = blocks.strides
    y = View(
        blocks.buffer,
        (n, height // s, s, width // s, s, channels),
        (image, row, s * wide, column, wide, 1),
        blocks.offset,
    )
    inputs = tuple(in_blocks(view) for view in producer.inputs)
    program.put(writer, replace(producer, y=y, inputs=inputs, zero_after=wide - channels))
    if windows:
        program.put_ahead(index, _zeros_between(blocks, conv.name))
        program.put(index, _of_windows(conv, blocks, w, pads))
        return
    if w.shape[1:3] == (1, 1) and pads == (0, 0, 0, 0):
        program.put(index, _as_gemm(conv, blocks, w))
    else:
        program.put(index, replace(conv, x=blocks, w=w, stride=(1, 1), pads=pads))


def _with_gaps(blocks: View, gap: int) -> View:
    """Images of the same shape with ``gap`` pixels before the first row and after each."""
    n, height, width, channels = blocks.shape
    row = (width + gap) * channels
    buffer = Buffer(blocks.buffer.name, "arena", blocks.dtype, gap * channels + n * height * row)
    return View(buffer, blocks.shape, (height * row, row, channels, 1), gap * channels)


def _zeros_between(blocks: View, name: str) -> Pointwise:
    n, height, _, _ = blocks.shape
    shape = (n * height + 1, blocks.offset)
    zero = Buffer(f"{name} zero", "weight", blocks.dtype, 1, np.zeros(1, np.float32))
    y = View(blocks.buffer, shape, (blocks.strides[1], 1))
    return Pointwise(name=f"{name} padding", y=y, inputs=(View(zero, shape, (0, 0)),), expr=Expr("input"))


def _of_windows(conv: Conv, blocks: View, w: View, pads: tuple[int, int, int, int]) -> Conv:
    """The filter's columns become channels: pixel q of a row has those from q - left on."""
    k, high, wide, channels = w.shape
    x = View(
        blocks.buffer,
        (*blocks.shape[:2], conv.y.shape[2], wide * channels),
        blocks.strides,
        blocks.offset - pads[1] * channels,
    )
    shape = (k, high, 1, wide * channels)
    filters = View(w.buffer, shape, contiguous_strides(shape))
    return replace(conv, x=x, w=filters, stride=(1, 1), pads=(pads[0], 0, pads[2], 0))


def _moved_weights(conv: Conv, s: int, wide: int) -> tuple[View, tuple[int, int, int, int]]:
    """Pixel i of the window is pixel (shift + i) % s of block (shift + i) // s."""
    data = conv.w.buffer.data
    assert data is not None
    k, r, q, channels = conv.w.shape
    old = data.reshape(conv.w.shape)
    top, left = conv.pads[0], conv.pads[1]
    before = (-(-top // s), -(-left // s))
    shift = (s * before[0] - top, s * before[1] - left)
    size = (-(-(shift[0] + r) // s), -(-(shift[1] + q) // s))
    new = np.zeros((k, size[0], s, size[1], s, wide), old.dtype)
    flat = new.transpose(0, 1, 2, 3, 4, 5).reshape(k, size[0] * s, size[1] * s, wide)
    flat[:, shift[0] : shift[0] + r, shift[1] : shift[1] + q, :channels] = old
    moved = flat.reshape(k, size[0], s, size[1], s, wide).transpose(0, 1, 3, 2, 4, 5).reshape(k, *size, s * s * wide)
    moved = np.ascontiguousarray(moved)
    buffer = Buffer(f"{conv.w.buffer.name} in blocks", "weight", conv.w.dtype, moved.size, moved.reshape(-1))
    rows, columns = conv.x.shape[1] // s, conv.x.shape[2] // s
    after = (
        max(0, conv.y.shape[1] - 1 + size[0] - rows - before[0]),
        max(0, conv.y.shape[2] - 1 + size[1] - columns - before[1]),
    )
    return View(buffer, moved.shape, contiguous_strides(moved.shape)), (*before, *after)


def _as_gemm(conv: Conv, blocks: View, w: View) -> Conv | Gemm:
    n, p, q, k = conv.y.shape
    if (p, q) != blocks.shape[1:3]:
        return replace(conv, x=blocks, w=w, stride=(1, 1), pads=(0, 0, 0, 0))
    rows = n * p * q

    def flat(view: View) -> View | None:
        steps = (view.strides[2] * p * q, view.strides[2] * q, view.strides[2])
        if tuple(s for d, s in zip((n, p, q), view.strides[:3], strict=True) if d != 1) != tuple(
            s for d, s in zip((n, p, q), steps, strict=True) if d != 1
        ):
            return None
        return View(view.buffer, (rows, k), (view.strides[2], view.strides[3]), view.offset)

    y = flat(conv.y)
    residual = conv.epilogue.residual
    flat_residual = None if residual is None else flat(residual)
    if y is None or (residual is not None and flat_residual is None):
        return replace(conv, x=blocks, w=w, stride=(1, 1), pads=(0, 0, 0, 0))
    channels = blocks.shape[3]
    return Gemm(
        name=conv.name,
        y=y,
        a=View(blocks.buffer, (rows, channels), (channels, 1)),
        b=View(w.buffer, (k, channels), (channels, 1)),
        rows_per_image=p * q,
        epilogue=replace(conv.epilogue, residual=flat_residual),
    )
