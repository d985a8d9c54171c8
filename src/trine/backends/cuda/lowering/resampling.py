"""Resize and Upsample: repetition by strides of 0, rows picked by an index, or products with interpolation weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import GatherRows, Gemm, View, contiguous_strides
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering
from trine.backends.cuda.lowering.views import broadcast, memory_order, permuted

__all__ = ["lower_resize"]

_OPSET_WITH_COORDINATES = 11  # before it, and in Upsample, attributes do not say how places are found


@dataclass(frozen=True)
class _Resampling:
    """How Resize finds, for each place of an axis, where in its input that is; the names are ONNX's."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude_outside: bool

    def places(self, before: int, after: int, scale: float) -> np.ndarray:
        """For each place of the output the place in the input, (after,) fp64."""
        i = np.arange(after, dtype=np.float64)
        match self.coordinates:
            case "asymmetric":
                return i / scale
            case "align_corners":
                return i * (before - 1) / (before * scale - 1) if after > 1 else i * 0
            case "pytorch_half_pixel" if after == 1:
                return i * 0
            case "half_pixel" | "pytorch_half_pixel":
                return (i + 0.5) / scale - 0.5
            case "half_pixel_symmetric":
                return before / 2 * (1 - after / (before * scale)) + (i + 0.5) / scale - 0.5
        raise CannotLowerError(f"coordinates {self.coordinates!r} are not supported")

    def nearest(self, places: np.ndarray, before: int) -> np.ndarray:
        """Indices into the input, (after,)."""
        match self.rounding:
            case "round_prefer_floor":
                index = np.ceil(places - 0.5)
            case "round_prefer_ceil":
                index = np.floor(places + 0.5)
            case "floor":
                index = np.floor(places)
            case "ceil":
                index = np.ceil(places)
            case _:
                raise CannotLowerError(f"nearest_mode {self.rounding!r} is unknown")
        return np.clip(index, 0, before - 1).astype(np.int32)

    def weights(self, places: np.ndarray, before: int) -> np.ndarray:
        """What each place of the output takes of each of the input, (after, before) fp32. Beyond its ends, the input
        goes on with its last element, or counts as nothing with ``exclude_outside``."""
        first = np.floor(places)
        t = places - first
        if self.mode == "linear":
            taps = {0: 1 - t, 1: t}
        else:
            a = self.cubic
            taps = {
                -1: ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
                0: ((a + 2) * t - (a + 3)) * t * t + 1,
                1: ((a + 2) * (1 - t) - (a + 3)) * (1 - t) ** 2 + 1,
                2: ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a,
            }
        matrix = np.zeros((len(places), before))
        rows = np.arange(len(places))
        for offset, weight in taps.items():
            column = first + offset
            inside = (column >= 0) & (column < before)
            kept = np.where(inside, weight, 0.0) if self.exclude_outside else weight
            np.add.at(matrix, (rows, np.clip(column, 0, before - 1).astype(int)), kept)
        if self.exclude_outside:
            matrix /= matrix.sum(axis=1, keepdims=True)
        return matrix.astype(np.float32)


def lower_resize(lowering: Lowering, node: ir.Node) -> list[View]:
    """Axis by axis. Linear and cubic interpolation are products with a matrix: dense ones, which the tensor cores do
    faster than memory gives the operands; NaN and infinities spread along the axis."""
    x = lowering.view(node, 0)
    how = _how(lowering, node)
    target, scales = _target(lowering, node, x)
    if how.mode == "nearest" and _repeats(how, x.shape, target, scales):
        return [_repeated(lowering, x, target)]
    if x.dtype not in ("fp32", "fp16", "bf16"):
        raise CannotLowerError(f"mode {how.mode!r} of {x.dtype}; only floats are resampled")
    for axis, (after, scale) in enumerate(zip(target, scales, strict=True)):
        before = x.shape[axis]
        if after == before and scale == 1.0:
            continue
        places = how.places(before, after, scale)
        if how.mode == "nearest":
            x = _picked(lowering, x, axis, how.nearest(places, before))
        else:
            x = _weighted(lowering, x, axis, how.weights(places, before))
    return [x]


def _how(lowering: Lowering, node: ir.Node) -> _Resampling:
    attributes = node.attributes
    mode = attributes.get_string("mode", "nearest") or "nearest"
    if mode not in ("nearest", "linear", "cubic"):
        raise CannotLowerError(f"mode {mode!r} is not supported")
    if attributes.get_int("antialias", 0):
        raise CannotLowerError("antialias is not supported")
    if (attributes.get_string("keep_aspect_ratio_policy", "stretch") or "stretch") != "stretch":
        raise CannotLowerError("keep_aspect_ratio_policy other than 'stretch' is not supported")
    if "axes" in attributes:
        raise CannotLowerError("axes are not supported; give a scale or size for every axis")
    old = lowering.opset < _OPSET_WITH_COORDINATES
    return _Resampling(
        mode,
        "asymmetric" if old else attributes.get_string("coordinate_transformation_mode", "half_pixel") or "half_pixel",
        "floor" if old else attributes.get_string("nearest_mode", "round_prefer_floor") or "round_prefer_floor",
        attributes.get_float("cubic_coeff_a", -0.75),
        bool(attributes.get_int("exclude_outside", 0)),
    )


def _target(lowering: Lowering, node: ir.Node, x: View) -> tuple[list[int], list[float]]:
    """The output's shape, and each axis' scale."""
    scales = lowering.constant(node, 1 if lowering.opset < _OPSET_WITH_COORDINATES else 2)
    sizes = lowering.constant(node, 3)
    if sizes is not None and sizes.size == len(x.shape):
        target = [int(each) for each in sizes]
        return target, [wanted / length for wanted, length in zip(target, x.shape, strict=True)]
    if scales is not None and scales.size == len(x.shape):
        target = [math.floor(length * float(scale)) for length, scale in zip(x.shape, scales, strict=True)]
        return target, [float(scale) for scale in scales]
    raise CannotLowerError("neither constant scales nor sizes")


def _repeats(how: _Resampling, before: Sequence[int], after: Sequence[int], scales: Sequence[float]) -> bool:
    """Whether every element is repeated equally often, one after another."""
    for length, wanted, scale in zip(before, after, scales, strict=True):
        if wanted % length:
            return False
        found = how.nearest(how.places(length, wanted, scale), length)
        if not np.array_equal(found, np.repeat(np.arange(length), wanted // length)):
            return False
    return True


def _repeated(lowering: Lowering, x: View, target: Sequence[int]) -> View:
    order = memory_order(x)
    turned = permuted(x, order)
    doubled = [part for length in turned.shape for part in (length, 1)]
    strides = [part for stride in turned.strides for part in (stride, 0)]
    wide = replace(turned, shape=tuple(doubled), strides=tuple(strides))
    spread = broadcast(wide, [part for axis in order for part in (x.shape[axis], target[axis] // x.shape[axis])])
    made = lowering.reshaped(spread, [target[axis] for axis in order])
    return permuted(made, [order.index(axis) for axis in range(len(order))])


def _in_three(lowering: Lowering, x: View, axis: int) -> tuple[View, list[int]]:
    """(all outside of the axis, the axis, all inside), in the order of memory; and that order."""
    order = memory_order(x)
    at = order.index(axis)
    return lowering.merged(x, [order[:at], [axis], order[at + 1 :]]), order


def _of_three(x: View, y: View, axis: int, order: Sequence[int]) -> View:
    """The reverse, for a result with another length of the axis."""
    shape = [y.shape[1] if each == axis else x.shape[each] for each in order]
    apart = View(y.buffer, tuple(shape), contiguous_strides(tuple(shape)))
    return permuted(apart, [list(order).index(each) for each in range(len(order))])


def _picked(lowering: Lowering, x: View, axis: int, index: np.ndarray) -> View:
    rows, order = _in_three(lowering, x, axis)
    y = lowering.new((rows.shape[0], len(index), rows.shape[2]), x.dtype)
    if rows.strides[2] != 1:
        rows = replace(rows, strides=(*rows.strides[:2], 1)) if rows.shape[2] == 1 else lowering.copied(rows)
    where = lowering.weight(index, f"{lowering.name} index", "int32")
    lowering.emit(GatherRows(name=lowering.name, y=y, x=rows, index=where))
    return _of_three(x, y, axis, order)


def _weighted(lowering: Lowering, x: View, axis: int, matrix: np.ndarray) -> View:
    rows, order = _in_three(lowering, x, axis)
    outside, _, inside = rows.shape
    after = len(matrix)
    weights = lowering.weight(matrix, f"{lowering.name} weights", x.dtype)
    y = lowering.new((outside, after, inside), x.dtype)
    if inside == 1:  # the rows themselves are the left operand
        a = lowering.innermost_contiguous(View(rows.buffer, rows.shape[:2], rows.strides[:2], rows.offset))
        flat = View(y.buffer, (outside, after), (after, 1))
        lowering.emit(Gemm(name=lowering.name, y=flat, a=a, b=weights))
    else:
        if rows.strides[2] != 1:
            rows = lowering.copied(rows)
        b = permuted(rows, (0, 2, 1))
        spread = replace(weights, shape=(outside, *weights.shape), strides=(0, *weights.strides))
        lowering.emit(Gemm(name=lowering.name, y=y, a=spread, b=b))
    return _of_three(x, y, axis, order)
