"""Slices, also of what lies outside of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.network.layer import Layer
from trine.network.operations import LayerType, SampleMode
from trine.network.settings import Setting, choice, optional, sizes
from trine.network.shape_layers import shape_tensor
from trine.network.writer import Dim, Writer

__all__ = ["SliceLayer"]

_FIRST = -(2**62)  # an end before the first element, for slices that run backward


class SliceLayer(Layer):
    """``shape`` elements from ``start`` on, ``stride`` apart, along each axis (or each of ``axes``).
    A stride of 0 repeats one element.

    Inputs 1 to 3, if set, give start, shape and stride while running; 4 the value for FILL; 5 the axes, which must be
    known. ``mode`` says what elements outside of the input are: refused (STRICT_BOUNDS), the value of input 4 or 0
    (FILL), those of the nearest (CLAMP), of the repeated (WRAP) or of the mirrored input (REFLECT).
    """

    kind = LayerType.SLICE
    max_inputs: ClassVar[int] = 6

    start = Setting(sizes())
    shape = Setting(sizes(0))
    stride = Setting(sizes())
    axes = Setting(optional(sizes()))
    mode = Setting(choice(SampleMode), SampleMode.STRICT_BOUNDS)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Slice; or Gather for each axis where elements outside of the input are wanted."""
        x, start, shape, stride, fill, axes_input = inputs + [None] * (6 - len(inputs))
        axes = self._axes(w, x, axes_input)
        parts = {
            "start": start and shape_tensor(w, start, "input 1, the start,"),
            "shape": shape and shape_tensor(w, shape, "input 2, the shape,"),
            "stride": stride and shape_tensor(w, stride, "input 3, the stride,"),
        }
        known = {label: self._known(w, label, value, len(axes)) for label, value in parts.items()}
        for label, value in parts.items():
            if value is None:
                parts[label] = w.ints(getattr(self, label))
        dims = list(w.dims(x))
        for axis, size in zip(axes, known["shape"], strict=True):
            dims[axis] = size
        if self.mode is SampleMode.STRICT_BOUNDS and None not in known["stride"]:
            self._check_bounds(w, x, axes, known)
            if 0 not in known["stride"]:
                return [w.set_dims(self._slice(w, x, axes, parts, known["stride"]), dims)]
        made = self._sampled(w, x, axes, parts, known, fill)
        return [w.set_dims(made, dims)]

    def _axes(self, w: Writer, x: ir.Value, given: ir.Value | None) -> list[int]:
        rank = w.rank(x)
        if given is not None:
            known = w.contents(given)
            if known is None or not all(isinstance(axis, int) for axis in known):
                raise w.error("the axes in input 5 must be a constant")
            chosen = [axis for axis in known if isinstance(axis, int)]
        else:
            chosen = list(range(rank) if self.axes is None else self.axes)
        return [w.axis(axis, rank, "axes:") for axis in chosen]

    def _known(self, w: Writer, label: str, value: ir.Value | None, count: int) -> list[Dim]:
        """What can be told of start, shape or stride before running."""
        known: list[Dim]
        if value is None:
            known = list(getattr(self, label))
        else:
            contents = w.contents(value)
            known = [None] * count if contents is None else list(contents)
        if len(known) != count:
            raise w.unfinished(f"{label} has {len(known)} numbers, wanted {count}, one for each axis that is sliced")
        return known

    def _check_bounds(self, w: Writer, x: ir.Value, axes: list[int], known: dict[str, list[Dim]]) -> None:
        dims = w.dims(x)
        for axis, start, size, stride in zip(axes, known["start"], known["shape"], known["stride"], strict=True):
            dim = dims[axis]
            if not (isinstance(start, int) and isinstance(size, int) and isinstance(stride, int)) or not size:
                continue
            last = start + (size - 1) * stride
            low, high = min(start, last), max(start, last)
            if low < 0 or (isinstance(dim, int) and high >= dim):
                raise w.unfinished(
                    f"elements {low} to {high} of axis {axis} are outside of the input {dims}; take fewer, or set "
                    "mode to CLAMP, WRAP, REFLECT or FILL"
                )

    def _slice(
        self, w: Writer, x: ir.Value, axes: list[int], parts: dict[str, ir.Value], strides: list[Dim]
    ) -> ir.Value:
        numbers = [stride for stride in strides if isinstance(stride, int)]
        start, shape = w.contents(parts["start"]), w.contents(parts["shape"])
        whole = _whole(start) and _whole(shape)
        if start is not None and shape is not None and whole:
            ends = []
            for first, size, stride in zip(start, shape, numbers, strict=True):
                assert isinstance(first, int)
                assert isinstance(size, int)
                end = first + size * stride
                ends.append(end if stride > 0 or end >= 0 else _FIRST)
            end_value = w.ints(ends)
        else:
            steps = w.ints(numbers)
            end_value = w.op("Add", parts["start"], w.op("Mul", parts["shape"], steps))
            if min(numbers, default=1) < 0:
                before = w.op("Less", end_value, w.ints([0]))
                end_value = w.op("Where", before, w.ints([_FIRST]), end_value)
        return w.op("Slice", x, parts["start"], end_value, w.ints(axes), w.ints(numbers))

    def _sampled(
        self,
        w: Writer,
        x: ir.Value,
        axes: list[int],
        parts: dict[str, ir.Value],
        known: dict[str, list[Dim]],
        fill: ir.Value | None,
    ) -> ir.Value:
        """Axis by axis: which elements, then Gather. Indices are constants where the sizes are known."""
        made = x
        inside: ir.Value | None = None
        for at, axis in enumerate(axes):
            dim = w.dims(x)[axis]
            start, size, stride = (known[label][at] for label in ("start", "shape", "stride"))
            if isinstance(dim, int) and isinstance(start, int) and isinstance(size, int) and isinstance(stride, int):
                if start == 0 and stride == 1 and size == dim:
                    continue
                places = start + stride * np.arange(size, dtype=np.int64)
                index: ir.Value = w.constant(_inside(self.mode, places, dim), "places")
                within: ir.Value = w.constant((places >= 0) & (places < dim), "inside")
            else:
                index, within = self._computed(w, x, axis, parts, at)
            made = w.op("Gather", made, index, axis=axis)
            if self.mode is SampleMode.FILL:
                column = w.op("Reshape", within, w.ints([-1] + [1] * (w.rank(x) - 1 - axis)))
                inside = column if inside is None else w.op("And", inside, column)
        if inside is None:
            return w.op("Identity", made) if made is x else made
        if fill is not None and w.rank(fill) > 0:
            fill = w.op("Reshape", fill, w.constant(np.array([], np.int64), "scalar"))
        return w.op("Where", inside, made, w.scalar(0, x) if fill is None else fill)

    def _computed(
        self, w: Writer, x: ir.Value, axis: int, parts: dict[str, ir.Value], at: int
    ) -> tuple[ir.Value, ir.Value]:
        """The indices along ``axis``, and which of them are inside, computed while running."""
        zero, one = w.constant(np.int64(0), "zero"), w.constant(np.int64(1), "one")
        place = w.constant(np.int64(at), "at")
        start, size, stride = (w.op("Gather", parts[label], place) for label in ("start", "shape", "stride"))
        dim = w.op("Squeeze", w.op("Shape", x, start=axis, end=axis + 1), w.ints([0]))
        places = w.op("Add", start, w.op("Mul", stride, w.op("Range", zero, size, one)))
        within = w.op("And", w.op("GreaterOrEqual", places, zero), w.op("Less", places, dim))
        last = w.op("Sub", dim, one)
        if self.mode is SampleMode.STRICT_BOUNDS:
            return places, within
        if self.mode is SampleMode.WRAP:
            return w.op("Mod", places, dim), within
        if self.mode is SampleMode.REFLECT:
            period = w.op("Max", w.op("Mul", last, w.constant(np.int64(2), "two")), one)
            turned = w.op("Mod", places, period)
            return w.op("Min", w.op("Min", turned, w.op("Sub", period, turned)), last), within
        return w.op("Max", w.op("Min", places, last), zero), within


def _whole(contents: Sequence[Any] | None) -> bool:
    return contents is not None and all(isinstance(item, int) for item in contents)


def _inside(mode: SampleMode, places: np.ndarray[Any, Any], dim: int) -> np.ndarray[Any, Any]:
    """Places outside of an axis of ``dim`` elements, moved to the elements that stand for them."""
    if mode is SampleMode.WRAP:
        return np.asarray(np.mod(places, dim))
    if mode is SampleMode.REFLECT:
        period = max(2 * (dim - 1), 1)
        turned = places % period
        return np.asarray(np.minimum(np.minimum(turned, period - turned), dim - 1))
    return np.asarray(np.clip(places, 0, dim - 1))
