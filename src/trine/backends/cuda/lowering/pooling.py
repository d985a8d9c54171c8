"""Pooling over windows, and reductions over axes."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from trine.backends.cuda.groups import Expr, Pointwise, Pool, Reduce, View
from trine.backends.cuda.lowering.convolutions import channels_last, window_of
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering
from trine.backends.cuda.lowering.views import memory_order, merged, permuted, reshaped

__all__ = ["lower_global_pool", "lower_pool", "lower_reduce", "reduced"]

_KINDS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceL2": "l2",
    "ReduceSumSquare": "sumsq",
    "GlobalAveragePool": "mean",
    "GlobalMaxPool": "max",
}


def lower_pool(lowering: Lowering, node: ir.Node) -> list[View]:
    """MaxPool and AveragePool over one or two axes. A window as large as the image is a reduction."""
    x = lowering.view(node, 0)
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise CannotLowerError(f"{spatial} spatial axes; 1 and 2 are supported")
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise CannotLowerError("indices of the maxima are not supported")
    given = [int(each) for each in node.attributes["kernel_shape"].as_ints()]
    window = (1, given[0]) if spatial == 1 else (given[0], given[1])
    size = (1, x.shape[2]) if spatial == 1 else (x.shape[2], x.shape[3])
    stride, dilation, pads = window_of(node, window, size, spatial)
    kind = "max" if node.op_type == "MaxPool" else "avg"
    if window == size and not any(pads):
        return [reduced(lowering, x, tuple(range(2, len(x.shape))), "max" if kind == "max" else "mean", keep=True)]
    ceil = bool(node.attributes.get_int("ceil_mode", 0))
    count_pads = bool(node.attributes.get_int("count_include_pad", 0))
    counts, extra = [], []
    for axis in (0, 1):
        room = size[axis] + pads[axis] + pads[axis + 2] - dilation[axis] * (window[axis] - 1) - 1
        count = (-(-room // stride[axis]) if ceil else room // stride[axis]) + 1
        if ceil and (count - 1) * stride[axis] >= size[axis] + pads[axis]:
            count -= 1  # a window that starts in the padding on the right does not count
        counts.append(count)
        extra.append(max(0, (count - 1) * stride[axis] - room))
    if count_pads and any(extra):
        raise CannotLowerError("ceil_mode with count_include_pad, where a window reaches beyond the padding")
    pads = (pads[0], pads[1], pads[2] + extra[0], pads[3] + extra[1])
    pixels = channels_last(lowering, x)
    y = lowering.new((x.shape[0], *counts, x.shape[1]))
    lowering.emit(
        Pool(
            name=lowering.name,
            y=y,
            x=pixels,
            kind=kind,
            window=window,
            stride=stride,
            pads=pads,
            dilation=dilation,
            count_pads=count_pads,
        )
    )
    turned = permuted(y, (0, 3, 1, 2))
    if spatial == 1:
        turned = replace(
            turned, shape=(*turned.shape[:2], turned.shape[3]), strides=(*turned.strides[:2], turned.strides[3])
        )
    return [turned]


def lower_global_pool(lowering: Lowering, node: ir.Node) -> list[View]:
    """The mean or maximum of each channel."""
    x = lowering.view(node, 0)
    return [reduced(lowering, x, tuple(range(2, len(x.shape))), _KINDS[node.op_type], keep=True)]


def lower_reduce(lowering: Lowering, node: ir.Node) -> list[View]:
    """The Reduce operators with constant axes."""
    x = lowering.view(node, 0)
    axes = lowering.ints(node, 1, "axes")
    keep = bool(node.attributes.get_int("keepdims", 1))
    if not axes:
        if axes is not None and node.attributes.get_int("noop_with_empty_axes", 0) == 1:
            return [x]
        axes = list(range(len(x.shape)))
    if x.dtype not in ("fp32", "fp16", "bf16"):
        raise CannotLowerError(f"reductions of {x.dtype} are not supported")
    if node.op_type in ("ReduceL1", "ReduceLogSumExp", "ReduceLogSum"):
        return [_composed(lowering, node, x, tuple(axis % len(x.shape) for axis in axes), keep)]
    return [reduced(lowering, x, tuple(axis % len(x.shape) for axis in axes), _KINDS[node.op_type], keep)]


def _composed(lowering: Lowering, node: ir.Node, x: View, axes: tuple[int, ...], keep: bool) -> View:
    if node.op_type == "ReduceL1":
        y = lowering.emit(
            Pointwise(name=lowering.name, y=lowering.new_like(x), inputs=(x,), expr=Expr("abs", (Expr("input"),)))
        )
        return reduced(lowering, y, axes, "sum", keep)
    raise CannotLowerError(f"{node.op_type} has no kernels")


def reduced(lowering: Lowering, x: View, axes: tuple[int, ...], kind: str, keep: bool) -> View:
    """Reduce some axes. The kept ones may lie outside of the reduced ones in memory, or inside, or both."""
    rank = len(x.shape)
    order = memory_order(x)
    gone = [axis for axis in order if axis in axes]
    kept = [axis for axis in order if axis not in axes]
    first = min((order.index(axis) for axis in gone if x.shape[axis] != 1), default=0)
    outer = [axis for axis in kept if order.index(axis) < first]
    inner = [axis for axis in kept if order.index(axis) >= first]
    three = merged(x, [outer, gone, inner])
    if three is None:
        outer, inner = kept, []
        three = lowering.merged(x, [outer, gone, inner])
    shape = (three.shape[0], three.shape[2])
    y = lowering.new(shape)
    lowering.emit(Reduce(name=lowering.name, y=y, x=three, kind=kind))
    packed = reshaped(y, [x.shape[axis] for axis in (*outer, *inner)])
    assert packed is not None
    kept_order = [*outer, *inner]
    result = permuted(packed, [kept_order.index(axis) for axis in range(rank) if axis not in axes])
    if not keep:
        return result
    shape_kept, strides, position = [], [], 0
    for axis in range(rank):
        if axis in axes:
            shape_kept.append(1)
            strides.append(math.prod(shape[1:]) if axis == 0 else 1)
        else:
            shape_kept.append(result.shape[position])
            strides.append(result.strides[position])
            position += 1
    return replace(result, shape=tuple(shape_kept), strides=tuple(strides))
