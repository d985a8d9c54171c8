"""ConvTranspose as one convolution for each remainder that a place of the output has, divided by the stride; Col2Im as
a ConvTranspose.

An output at ``o`` sums x[i] w[r] over all i * stride + r * dilation - pad = o. Those with the same remainder share the
taps r, and i is o // stride and an offset: a convolution without stride over few taps, whose results lie ``stride``
apart. Nothing is computed of zeros between pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Epilogue, Expr, Pointwise, View
from trine.backends.cuda.lowering.convolutions import channels_first, channels_last, emit_conv, window_of
from trine.backends.cuda.lowering.state import SAME, CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import broadcast, sliced

__all__ = ["lower_col2im", "lower_conv_transpose"]


@dataclass(frozen=True)
class _Axis:
    """One spatial axis."""

    size: int
    window: int
    stride: int
    dilation: int
    pad: int  # before
    out: int


@dataclass(frozen=True)
class _Phase:
    """What the places of the output with one remainder need along an axis. taps: of the window, in the order of the
    input; step: how far apart these are there; first, end: the part of the input that is read; pads: around that."""

    remainder: int
    count: int
    taps: tuple[int, ...]
    step: int
    first: int
    end: int
    pads: tuple[int, int]


def lower_conv_transpose(lowering: Lowering, node: ir.Node) -> list[View]:
    """Over one or two spatial axes, the weights constant."""
    x = lowering.view(node, 0)
    weight = lowering.constant(node, 1)
    bias = lowering.constant(node, 2)
    if weight is None:
        raise CannotLowerError("the weights are missing")
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise CannotLowerError(f"{spatial} spatial axes; 1 and 2 are supported")
    x = channels_last(lowering, x)
    if spatial == 1:
        weight = weight[:, :, None]
    groups = node.attributes.get_int("group", 1)
    axes = _axes(node, (x.shape[1], x.shape[2]), (weight.shape[2], weight.shape[3]), spatial)
    channels, each, *window = weight.shape
    turned = weight.reshape(groups, channels // groups, each, *window).swapaxes(1, 2)
    turned = turned.reshape(groups * each, channels // groups, *window)
    vector = None if bias is None else lowering.weight(bias.reshape(-1), value_name(node, 2), "fp32")
    y = _emit_phases(lowering, x, axes, turned, value_name(node, 1), groups, vector)
    return [channels_first(y, spatial)]


def lower_col2im(lowering: Lowering, node: ir.Node) -> list[View]:
    """Col2Im over two spatial axes: each channel's blocks, a channel for each of their places, are the images of a
    ConvTranspose whose weights put every place where it belongs."""
    x = lowering.view(node, 0)
    size, window = lowering.ints(node, 1, "image_shape"), lowering.ints(node, 2, "block_shape")
    if size is None or window is None or len(size) != 2:
        raise CannotLowerError(f"images of {size}; two spatial axes of known length are supported")
    stride, dilation, pads = window_of(node, (window[0], window[1]), tuple(size), 2)
    places = math.prod(window)
    out = [
        (size[axis] + pads[axis] + pads[axis + 2] - dilation[axis] * (window[axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    ]
    channels = x.shape[1] // places
    blocks = channels_last(lowering, lowering.reshaped(x, (x.shape[0] * channels, places, *out)))
    axes = [_Axis(out[axis], window[axis], stride[axis], dilation[axis], pads[axis], size[axis]) for axis in (0, 1)]
    weight = np.eye(places, dtype=np.float32).reshape(1, places, *window)
    y = _emit_phases(lowering, blocks, (axes[0], axes[1]), weight, f"{lowering.name} places", 1, None)
    return [lowering.reshaped(channels_first(y, 2), (x.shape[0], channels, *size))]


def _emit_phases(
    lowering: Lowering,
    x: View,
    axes: tuple[_Axis, _Axis],
    weight: np.ndarray,
    name: str,
    groups: int,
    vector: View | None,
) -> View:
    """The output, channels last, of ``x``, channels last. weight: (K, C / groups, R, S), called ``name``; vector: the
    bias."""
    y = lowering.new((x.shape[0], axes[0].out, axes[1].out, weight.shape[0]))
    for down in _phases(axes[0]):
        for right in _phases(axes[1]):
            part = sliced(y, 1, down.remainder, down.count, axes[0].stride)
            part = sliced(part, 2, right.remainder, right.count, axes[1].stride)
            if down.end <= down.first or right.end <= right.first:  # the window is smaller than the stride
                _fill(lowering, part, vector)
                continue
            read = sliced(sliced(x, 1, down.first, down.end - down.first), 2, right.first, right.end - right.first)
            taps = np.ascontiguousarray(weight[:, :, down.taps][:, :, :, right.taps])
            pads = (down.pads[0], right.pads[0], down.pads[1], right.pads[1])
            emit_conv(lowering, part, read, taps, name, (1, 1), pads, (down.step, right.step), groups, Epilogue(vector))
    return y


def _axes(node: ir.Node, size: tuple[int, int], window: tuple[int, int], spatial: int) -> tuple[_Axis, _Axis]:
    """Both spatial axes; with one, images of height 1. Raises CannotLowerError for an empty output."""

    def pair(name: str, default: int) -> tuple[int, int]:
        attribute = node.attributes.get(name)
        given = [default] * spatial if attribute is None else [int(each) for each in attribute.as_ints()]
        return (default, given[0]) if spatial == 1 else (given[0], given[1])

    strides, dilations, extra = pair("strides", 1), pair("dilations", 1), pair("output_padding", 0)
    attribute = node.attributes.get("pads")
    pads = [0] * (2 * spatial) if attribute is None else [int(each) for each in attribute.as_ints()]
    auto = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    said = node.attributes.get("output_shape")
    shape = None if said is None else [int(each) for each in said.as_ints()][-spatial:]
    if shape is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        shape = [length * stride for length, stride in zip(size[-spatial:], strides[-spatial:], strict=True)]
    made = []
    for axis in (0, 1):
        whole = strides[axis] * (size[axis] - 1) + extra[axis] + dilations[axis] * (window[axis] - 1) + 1
        index = axis + spatial - 2  # among the attributes' axes
        if index < 0:
            before, out = 0, whole
        elif shape is not None:
            total = whole - shape[index]
            before, out = (total // 2 if auto == "SAME_UPPER" else total - total // 2), shape[index]
        else:
            before, after = (0, 0) if auto == "VALID" else (pads[index], pads[index + spatial])
            out = whole - before - after
        if out < 1:
            raise CannotLowerError(f"an output of {out} elements along axis {axis}")
        made.append(_Axis(size[axis], window[axis], strides[axis], dilations[axis], before, out))
    return made[0], made[1]


def _phases(axis: _Axis) -> list[_Phase]:
    """One for each remainder that there is."""
    step = axis.dilation // math.gcd(axis.dilation, axis.stride)
    found = []
    for remainder in range(min(axis.stride, axis.out)):
        reach = remainder + axis.pad
        taps = [r for r in reversed(range(axis.window)) if (reach - r * axis.dilation) % axis.stride == 0]
        count = -(-(axis.out - remainder) // axis.stride)
        low = (reach - taps[0] * axis.dilation) // axis.stride if taps else 0
        high = low + count - 1 + (len(taps) - 1) * step  # the last of the input that would be read
        first, end = max(0, low), min(axis.size, high + 1) if taps else 0
        pads = (max(0, -low), max(0, high - axis.size + 1))
        found.append(_Phase(remainder, count, tuple(taps), step, first, end, pads))
    return found


def _fill(lowering: Lowering, part: View, vector: View | None) -> None:
    """Where nothing is summed there is the bias alone."""
    name = f"{lowering.name} fill"
    if vector is None:
        lowering.emit(Pointwise(name=name, y=part, inputs=(), expr=Expr("constant", value=0.0)))
    else:
        lowering.emit(Pointwise(name=name, y=part, inputs=(broadcast(vector, part.shape),), expr=SAME))
