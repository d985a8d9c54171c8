"""Operators that move elements, or only say differently where they are: views wherever strides can say it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Expr, Pointwise, View
from trine.backends.cuda.lowering.factored import Factored, plain, transposed
from trine.backends.cuda.lowering.state import SAME, CannotLowerError, Lowering
from trine.backends.cuda.lowering.views import broadcast, memory_order, permuted, sliced

__all__ = [
    "lower_depth_to_space",
    "lower_expand",
    "lower_flatten",
    "lower_gather",
    "lower_identity",
    "lower_pad",
    "lower_reshape",
    "lower_slice",
    "lower_space_to_depth",
    "lower_split",
    "lower_squeeze",
    "lower_tile",
    "lower_transpose",
    "lower_unsqueeze",
]

_MOST_COPIES = 64  # launches that one Gather may become


def lower_identity(lowering: Lowering, node: ir.Node) -> list[View]:
    """Identity, and Dropout outside of training."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise CannotLowerError("only the first output is supported")
    training = lowering.given(node, 2)
    if isinstance(training, View) or (training is not None and training.any()):
        raise CannotLowerError("dropout while training is not supported")
    return [lowering.view(node, 0)]


def lower_reshape(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """Reshape to a constant target."""
    x = lowering.tensor(node, 0)
    elements = math.prod(x.shape)
    target = lowering.ints(node, 1, "shape")
    if target is None:
        raise CannotLowerError("the target is missing")
    if not node.attributes.get_int("allowzero", 0):
        target = [x.shape[axis] if length == 0 else length for axis, length in enumerate(target)]
    if -1 in target:
        known = math.prod(length for length in target if length != -1)
        target[target.index(-1)] = elements // known if known else 0
    if math.prod(target) != elements:
        raise CannotLowerError(f"shape {x.shape} does not reshape to {tuple(target)}")
    return [lowering.refactored(x, target)]


def lower_flatten(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """Flatten to two axes."""
    x = lowering.tensor(node, 0)
    axis = node.attributes.get_int("axis", 1)
    axis = axis if axis >= 0 else axis + len(x.shape)
    return [lowering.refactored(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))]


def lower_transpose(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """Transpose."""
    x = lowering.tensor(node, 0)
    attribute = node.attributes.get("perm")
    order = list(attribute.as_ints()) if attribute is not None else list(range(len(x.shape)))[::-1]
    turned = transposed(x, order)
    view = plain(turned)
    return [turned if view is None else view]


def lower_squeeze(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """Squeeze."""
    x = lowering.tensor(node, 0)
    axes = lowering.ints(node, 1, "axes")
    gone = (
        {axis % len(x.shape) for axis in axes}
        if axes is not None
        else {axis for axis, length in enumerate(x.shape) if length == 1}
    )
    return [lowering.refactored(x, [length for axis, length in enumerate(x.shape) if axis not in gone])]


def lower_unsqueeze(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """Unsqueeze."""
    x = lowering.tensor(node, 0)
    axes = lowering.ints(node, 1, "axes") or []
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    lengths = iter(x.shape)
    return [lowering.refactored(x, [1 if axis in new else next(lengths) for axis in range(rank)])]


def lower_slice(lowering: Lowering, node: ir.Node) -> list[View]:
    """Slice with constant bounds and positive steps."""
    x = lowering.view(node, 0)
    starts, ends = lowering.ints(node, 1, "starts"), lowering.ints(node, 2, "ends")
    if starts is None or ends is None:
        raise CannotLowerError("starts or ends are missing")
    axes = lowering.ints(node, 3, "axes") or list(range(len(starts)))
    steps = lowering.ints(node, 4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(x.shape)
        chosen = range(x.shape[axis])[slice(start, end, step)]
        if step < 0:
            raise CannotLowerError(f"step {step} is negative")
        x = sliced(x, axis, chosen.start if len(chosen) else 0, len(chosen), step)
    return [x]


def lower_split(lowering: Lowering, node: ir.Node) -> list[View]:
    """Split into given or equal parts."""
    x = lowering.view(node, 0)
    axis = node.attributes.get_int("axis", 0) % len(x.shape)
    sizes = lowering.ints(node, 1, "split")
    if sizes is None:
        count = node.attributes.get_int("num_outputs", len(node.outputs))
        part = -(-x.shape[axis] // count)
        sizes = [min(part, x.shape[axis] - start) for start in range(0, x.shape[axis], part)]
    starts = np.cumsum([0, *sizes])
    return [sliced(x, axis, int(start), size) for start, size in zip(starts, sizes, strict=False)]


def lower_expand(lowering: Lowering, node: ir.Node) -> list[View]:
    """Expand: strides of 0."""
    x = lowering.view(node, 0)
    target = lowering.ints(node, 1, "shape") or []
    return [broadcast(x, np.broadcast_shapes(x.shape, tuple(target)))]


def lower_tile(lowering: Lowering, node: ir.Node) -> list[View]:
    """Tile: repeated by strides of 0, and copied."""
    x = lowering.view(node, 0)
    repeats = lowering.ints(node, 1, "repeats") or []
    doubled = [part for length in x.shape for part in (1, length)]
    strides = [part for length, stride in zip(x.shape, x.strides, strict=True) for part in (length * stride, stride)]
    wide = replace(x, shape=tuple(doubled), strides=tuple(strides))
    spread = broadcast(wide, [part for pair in zip(repeats, x.shape, strict=True) for part in pair])
    return [lowering.reshaped(spread, [length * times for length, times in zip(x.shape, repeats, strict=True)])]


def lower_gather(lowering: Lowering, node: ir.Node) -> list[View]:
    """Gather by constant indices: a view where they are evenly spaced, or else a copy for each run of them."""
    x = lowering.view(node, 0)
    indices = lowering.constant(node, 1)
    if indices is None:
        raise CannotLowerError("indices are missing")
    axis = node.attributes.get_int("axis", 0) % len(x.shape)
    flat = [int(index) % x.shape[axis] for index in indices.reshape(-1)]
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if len(flat) == 1:
        return [lowering.reshaped(sliced(x, axis, flat[0], 1), shape)]
    steps = set(np.diff(flat).tolist())
    if len(steps) == 1 and (step := steps.pop()) >= 0:
        view = sliced(x, axis, flat[0], len(flat), step)
        return [lowering.reshaped(view, shape)]
    runs: list[list[int]] = []
    for index in flat:
        if runs and runs[-1][-1] + 1 == index:
            runs[-1].append(index)
        else:
            runs.append([index])
    if len(runs) > _MOST_COPIES:
        raise CannotLowerError(f"{len(runs)} runs of indices; up to {_MOST_COPIES} are supported")
    y = lowering.new((*x.shape[:axis], len(flat), *x.shape[axis + 1 :]), x.dtype, memory_order(x))
    done = 0
    for run in runs:
        part = sliced(y, axis, done, len(run))
        source = sliced(x, axis, run[0], len(run))
        lowering.emit(Pointwise(name=lowering.name, y=part, inputs=(source,), expr=SAME))
        done += len(run)
    return [lowering.reshaped(y, shape)]


def lower_pad(lowering: Lowering, node: ir.Node) -> list[View]:
    """Pad with a constant: a buffer is filled, and x copied into it. Negative pads are slices."""
    x = lowering.view(node, 0)
    pads = lowering.ints(node, 1, "pads") or []
    axes = [axis % len(x.shape) for axis in lowering.ints(node, 3, "axes") or range(len(x.shape))]
    mode = node.attributes.get_string("mode", "constant") or "constant"
    before, after = dict(zip(axes, pads[: len(axes)], strict=True)), dict(zip(axes, pads[len(axes) :], strict=True))
    for axis in axes:
        low, high = min(0, before[axis]), min(0, after[axis])
        x = sliced(x, axis, -low, x.shape[axis] + low + high)
        before[axis], after[axis] = max(0, before[axis]), max(0, after[axis])
    if not any((*before.values(), *after.values())):
        return [x]
    shape = [length + before.get(axis, 0) + after.get(axis, 0) for axis, length in enumerate(x.shape)]
    y = lowering.new(shape, x.dtype, memory_order(x))
    inner = y
    for axis in axes:
        inner = sliced(inner, axis, before[axis], x.shape[axis])
    if mode == "constant":
        filling = lowering.constant(node, 2)
        value = 0.0 if filling is None else filling.reshape(-1)[0].item()
        lowering.emit(Pointwise(name=f"{lowering.name} fill", y=y, inputs=(), expr=Expr("constant", value=value)))
        lowering.emit(Pointwise(name=lowering.name, y=inner, inputs=(x,), expr=SAME))
        return [y]
    if mode not in ("reflect", "edge", "wrap"):
        raise CannotLowerError(f"mode {mode!r} is not supported")
    for axis in axes:  # one axis after another, in the way that NumPy pads
        if before[axis] or after[axis]:
            index = np.pad(np.arange(x.shape[axis]), (before[axis], after[axis]), mode=mode)  # type: ignore[call-overload]
            x = _gathered(lowering, x, axis, [int(each) for each in index])
    return [x]


def _gathered(lowering: Lowering, x: View, axis: int, index: list[int]) -> View:
    y = lowering.new((*x.shape[:axis], len(index), *x.shape[axis + 1 :]), x.dtype, memory_order(x))
    start = 0
    while start < len(index):
        end = start + 1
        while end < len(index) and index[end] == index[end - 1] + 1:
            end += 1
        part, source = sliced(y, axis, start, end - start), sliced(x, axis, index[start], end - start)
        lowering.emit(Pointwise(name=lowering.name, y=part, inputs=(source,), expr=SAME))
        start = end
    return y


def lower_depth_to_space(lowering: Lowering, node: ir.Node) -> list[View]:
    """DepthToSpace: a reshape, a transpose, a reshape."""
    x = lowering.view(node, 0)
    size = node.attributes.get_int("blocksize")
    n, c, h, w = x.shape
    if node.attributes.get_string("mode", "DCR") == "DCR":
        split = lowering.reshaped(x, (n, size, size, c // size**2, h, w))
        turned = permuted(split, (0, 3, 4, 1, 5, 2))
    else:
        split = lowering.reshaped(x, (n, c // size**2, size, size, h, w))
        turned = permuted(split, (0, 1, 4, 2, 5, 3))
    return [_images(lowering, turned, (n, c // size**2, h * size, w * size))]


def lower_space_to_depth(lowering: Lowering, node: ir.Node) -> list[View]:
    """SpaceToDepth: a reshape, a transpose, a reshape."""
    x = lowering.view(node, 0)
    mode = node.attributes.get_string("mode", "DCR")
    size = node.attributes.get_int("blocksize")
    n, c, h, w = x.shape
    split = lowering.reshaped(x, (n, c, h // size, size, w // size, size))
    turned = permuted(split, (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return [lowering.reshaped(turned, (n, c * size**2, h // size, w // size))]


def _images(lowering: Lowering, blocks: View, shape: tuple[int, ...]) -> View:
    """(N, C, H, s, W, t) as channels-last images of ``shape``."""
    copied = lowering.copied(permuted(blocks, (0, 2, 3, 4, 5, 1)))
    flat = lowering.reshaped(copied, (shape[0], shape[2], shape[3], shape[1]))
    return permuted(flat, (0, 3, 1, 2))
