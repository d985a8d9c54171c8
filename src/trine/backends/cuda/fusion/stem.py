"""Images of one to three channels get four, so that a pixel is one aligned load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Buffer, Conv, Pointwise, View, contiguous_strides
from trine.backends.cuda.lowering.views import covers_buffer, permuted, sliced

__all__ = ["PADDED_CHANNELS", "pad_stem"]

PADDED_CHANNELS = 4


def pad_stem(program: Program) -> None:
    """Before: Pointwise -> x (N, H, W, 3); Conv(x, w (K, R, S, 3)). After: x (N, H, W, 4) with zeros, w likewise.

    Stays: what anything else than ungrouped convolutions reads.
    """
    for index, group in program.positions():
        if not isinstance(group, Pointwise) or group.y.buffer.kind != "arena":
            continue
        readers = [program.at(position) for position in program.readers(group.y.buffer)]
        convs = [each for each in readers if isinstance(each, Conv) and each.groups == 1 and each.prologue is None]
        if not convs or len(convs) != len(readers) or program.writers(group.y.buffer) != [index]:
            continue
        images = convs[0].x
        channels = images.shape[3]
        if channels >= PADDED_CHANNELS or any(each.x != images for each in convs) or not covers_buffer(images):
            continue
        if not images.contiguous or not covers_buffer(group.y) or any(_reads(each, images) for each in convs):
            continue
        _pad(program, index, group, images)


def _reads(conv: Conv, images: View) -> bool:
    """Whether the convolution reads the images as something else too."""
    residual = conv.epilogue.residual
    return residual is not None and residual.buffer is images.buffer


def _pad(program: Program, index: int, group: Pointwise, images: View) -> None:
    axes = len(group.y.shape)
    axis = next(
        (a for a in range(axes) if group.y.strides[a] == 1 and group.y.shape[a] == images.shape[3] and a > 0), None
    )
    if axes != 4 or axis is None:
        return
    order = [a for a in (0, 1, 2, 3) if a != axis] + [axis]
    if permuted(group.y, order).shape != images.shape:
        return
    channels = images.shape[3]
    shape = (*images.shape[:3], PADDED_CHANNELS)
    buffer = Buffer(group.y.buffer.name, "arena", group.y.dtype, images.elements // channels * PADDED_CHANNELS)
    padded = View(buffer, shape, contiguous_strides(shape))
    inputs = tuple(permuted(view, order) for view in group.inputs)
    y = sliced(padded, 3, 0, channels)
    program.put(index, replace(group, y=y, inputs=inputs, zero_after=PADDED_CHANNELS - channels))
    for position in program.readers(images.buffer):
        conv = program.at(position)
        assert isinstance(conv, Conv)
        program.put(position, replace(conv, x=padded, w=_padded_weights(conv.w)))


def _padded_weights(w: View) -> View:
    assert w.buffer.data is not None
    data = w.buffer.data.reshape(w.shape)
    wide = np.pad(data, ((0, 0), (0, 0), (0, 0), (0, PADDED_CHANNELS - w.shape[3])))
    buffer = Buffer(f"{w.buffer.name} padded", "weight", w.dtype, wide.size, wide.reshape(-1))
    return View(buffer, wide.shape, contiguous_strides(wide.shape))
