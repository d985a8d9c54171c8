"""Convolutions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Conv, DepthwiseConv, Epilogue, Gemm, View
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import merged, permuted

__all__ = ["channels_first", "channels_last", "emit_conv", "lower_conv", "window_of"]


def lower_conv(lowering: Lowering, node: ir.Node) -> list[View]:
    """Conv over one or two spatial axes. 1x1 without stride or padding is a product of pixels by channels."""
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
    out, _, kernel_h, kernel_w = weight.shape
    stride, dilation, pads = window_of(node, (kernel_h, kernel_w), x.shape[1:3], spatial)
    images, height, width, channels = x.shape
    high = (height + pads[0] + pads[2] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    wide = (width + pads[1] + pads[3] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    name = value_name(node, 1)
    y = lowering.new((images, high, wide, out))
    epilogue = Epilogue(None if bias is None else lowering.weight(bias.reshape(-1), value_name(node, 2), "fp32"))
    pointwise = (kernel_h, kernel_w, *stride) == (1, 1, 1, 1) and not any(pads) and groups == 1
    pixels = merged(x, [(0, 1, 2), (3,)]) if pointwise else None
    if pixels is not None:
        rows = View(y.buffer, (images * high * wide, out), (out, 1))
        w = lowering.weight(weight.reshape(out, channels), name)
        lowering.emit(Gemm(name=lowering.name, y=rows, a=pixels, b=w, epilogue=epilogue))
    else:
        emit_conv(lowering, y, x, weight, name, stride, pads, dilation, groups, epilogue)
    return [channels_first(y, spatial)]


def emit_conv(
    lowering: Lowering,
    y: View,
    x: View,
    weight: np.ndarray,
    name: str,
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
    epilogue: Epilogue,
) -> None:
    """A convolution of channels-last images; ``weight``: (K, C / groups, R, S), called ``name``."""
    if groups == x.shape[3] == y.shape[3] and groups > 1:
        w = lowering.weight(weight[:, 0].transpose(1, 2, 0), name)
        lowering.emit(
            DepthwiseConv(
                name=lowering.name, y=y, x=x, w=w, stride=stride, pads=pads, dilation=dilation, epilogue=epilogue
            )
        )
        return
    w = lowering.weight(weight.transpose(0, 2, 3, 1), name)
    lowering.emit(
        Conv(
            name=lowering.name,
            y=y,
            x=x,
            w=w,
            stride=stride,
            pads=pads,
            dilation=dilation,
            groups=groups,
            epilogue=epilogue,
        )
    )


def channels_last(lowering: Lowering, x: View) -> View:
    """(N, C, H, W) or (N, C, L) as (N, H, W, C) with contiguous channels; a copy where they are not."""
    if len(x.shape) == 3:
        x = replace(
            x, shape=(x.shape[0], x.shape[1], 1, x.shape[2]), strides=(*x.strides[:2], x.strides[0], x.strides[2])
        )
    turned = permuted(x, (0, 2, 3, 1))
    return lowering.innermost_contiguous(turned)


def channels_first(y: View, spatial: int) -> View:
    """The reverse."""
    turned = permuted(y, (0, 3, 1, 2))
    if spatial == 1:
        turned = replace(
            turned, shape=(*turned.shape[:2], turned.shape[3]), strides=(*turned.strides[:2], turned.strides[3])
        )
    return turned


def window_of(
    node: ir.Node, window: tuple[int, int], size: tuple[int, ...], spatial: int
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Stride, dilation and pads (top, left, bottom, right); one spatial axis is the width of images of height 1."""

    def pair(name: str) -> tuple[int, int]:
        attribute = node.attributes.get(name)
        given = [1] * spatial if attribute is None else [int(each) for each in attribute.as_ints()]
        return (1, given[0]) if spatial == 1 else (given[0], given[1])

    stride, dilation = pair("strides"), pair("dilations")
    attribute = node.attributes.get("pads")
    given = [0] * (2 * spatial) if attribute is None else [int(each) for each in attribute.as_ints()]
    pads = (0, given[0], 0, given[1]) if spatial == 1 else (given[0], given[1], given[2], given[3])
    auto = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for axis in (0, 1):
            wanted = (math.ceil(size[axis] / stride[axis]) - 1) * stride[axis] + dilation[axis] * (window[axis] - 1) + 1
            total = max(0, wanted - size[axis])
            small, large = total // 2, total - total // 2
            begins.append(small if auto == "SAME_UPPER" else large)
            ends.append(large if auto == "SAME_UPPER" else small)
        pads = (begins[0], begins[1], ends[0], ends[1])
    elif auto == "VALID":
        pads = (0, 0, 0, 0)
    if min(pads) < 0:
        raise CannotLowerError(f"negative pads {pads}")
    return stride, dilation, pads


def as_float(array: np.ndarray) -> np.ndarray:
    """fp32, whatever the source stores."""
    return array.astype(np.float32)
