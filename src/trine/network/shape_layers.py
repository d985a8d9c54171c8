"""Layers that change a tensor's shape, or tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from trine.dtypes import DataType
from trine.network.layer import Layer
from trine.network.operations import LayerType
from trine.network.settings import Setting, flag, optional, permutation, sizes, whole
from trine.network.writer import Writer

__all__ = [
    "ConcatenationLayer",
    "PaddingLayer",
    "ShapeLayer",
    "ShuffleLayer",
    "SqueezeLayer",
    "UnsqueezeLayer",
    "shape_tensor",
]


def shape_tensor(w: Writer, value: ir.Value, what: str) -> ir.Value:
    """``value`` as a 1-D tensor of int64, which is how ONNX takes shapes."""
    if w.dtype(value) not in (DataType.INT64, DataType.INT32):
        raise w.error(f"{what} must be int64 or int32, got {w.dtype(value).value}")
    if w.rank(value) != 1:
        raise w.error(f"{what} must have one dimension, got {w.dims(value)}")
    return w.cast(value, DataType.INT64)


class ShuffleLayer(Layer):
    """Transposes, reshapes, transposes again; each only where it is set.

    In ``reshape_dims``, 0 copies the dimension of the input (after the first transpose), -1 is what is left. Input 1,
    if set, gives them while running.
    """

    kind = LayerType.SHUFFLE
    max_inputs: ClassVar[int] = 2

    first_transpose = Setting(optional(permutation))
    reshape_dims = Setting(optional(sizes(-1)))
    second_transpose = Setting(optional(permutation))
    zero_is_placeholder = Setting(flag, True)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Transpose, Reshape, Transpose."""
        x = inputs[0]
        made = self._transposed(w, x, self.first_transpose, "first_transpose")
        if len(inputs) > 1 and inputs[1] is not None:
            target = shape_tensor(w, inputs[1], "input 1, the dimensions to reshape to,")
            made = w.op("Reshape", made, target, allowzero=None if self.zero_is_placeholder else 1)
        elif self.reshape_dims is not None:
            made = self._reshaped(w, made, self.reshape_dims)
        made = self._transposed(w, made, self.second_transpose, "second_transpose")
        return [w.op("Identity", x) if made is x else made]

    def _transposed(self, w: Writer, x: ir.Value, order: tuple[int, ...] | None, what: str) -> ir.Value:
        if order is None:
            return x
        if len(order) != w.rank(x):
            raise w.unfinished(f"{what} {order} is an order of {len(order)} axes, but the tensor there has {w.rank(x)}")
        return w.op("Transpose", x, perm=list(order))

    def _reshaped(self, w: Writer, x: ir.Value, target: tuple[int, ...]) -> ir.Value:
        dims = w.dims(x)
        if target.count(-1) > 1:
            raise w.error(f"reshape_dims {target}: only one dimension can be -1")
        if self.zero_is_placeholder and any(size == 0 and axis >= len(dims) for axis, size in enumerate(target)):
            raise w.unfinished(f"reshape_dims {target}: a 0 copies a dimension that the input {dims} does not have")
        allow = None if self.zero_is_placeholder or 0 not in target else 1
        made = w.op("Reshape", x, w.ints(target), allowzero=allow)
        self._check_volume(w, dims, w.dims(made), target)
        return made

    def _check_volume(self, w: Writer, before: Sequence[Any], after: Sequence[Any], target: Sequence[int]) -> None:
        """Where both shapes are known, they must hold the same number of elements."""
        volumes = []
        for dims in (before, after):
            volume = 1
            for dim in dims:
                if not isinstance(dim, int):
                    return
                volume *= dim
            volumes.append(volume)
        if volumes[0] != volumes[1]:
            raise w.unfinished(
                f"reshape_dims {tuple(target)} has {volumes[1]} elements, the input {tuple(before)} has {volumes[0]}"
            )


class ConcatenationLayer(Layer):
    """Its inputs one behind the other along ``axis``: by default the third from last, or 0 where there are fewer."""

    kind = LayerType.CONCATENATION
    max_inputs: ClassVar[int] = 1 << 16

    axis = Setting(whole(), lambda layer: max(layer.input_rank - 3, 0))

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Concat."""
        axis = w.axis(self.axis, w.rank(inputs[0]))
        for index, value in enumerate(inputs):
            if value is None:
                raise w.error(f"input {index} is missing")
            self._check_dims(w, index, w.dims(inputs[0]), w.dims(value), axis)
        return [w.op("Concat", *inputs, axis=axis)]

    def _check_dims(self, w: Writer, index: int, first: Sequence[Any], dims: Sequence[Any], axis: int) -> None:
        if len(dims) != len(first):
            raise w.error(f"inputs must have the same rank; input 0 is {tuple(first)}, input {index} is {tuple(dims)}")
        for at, (a, b) in enumerate(zip(first, dims, strict=True)):
            if at != axis and isinstance(a, int) and isinstance(b, int) and a != b:
                raise w.unfinished(  # another axis may be set
                    f"inputs differ along axis {at}, and are joined along {axis}: input 0 is {tuple(first)}, input "
                    f"{index} is {tuple(dims)}"
                )


class PaddingLayer(Layer):
    """Zeros around the last two dimensions; negative padding cuts."""

    kind = LayerType.PADDING

    pre_padding_nd = Setting(sizes(), (0, 0))
    post_padding_nd = Setting(sizes(), (0, 0))

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Pad."""
        x = inputs[0]
        count = len(self.pre_padding_nd)
        if len(self.post_padding_nd) != count:
            raise w.unfinished(
                f"pre_padding_nd {self.pre_padding_nd} and post_padding_nd {self.post_padding_nd} must be equally long"
            )
        if w.rank(x) < count:
            raise w.error(f"the padding is for the last {count} dimensions, the input has {w.rank(x)}: {w.dims(x)}")
        rest = [0] * (w.rank(x) - count)
        pads = w.ints([*rest, *self.pre_padding_nd, *rest, *self.post_padding_nd])
        made = w.op("Pad", x, pads, w.scalar(0, x))
        if any(isinstance(dim, int) and dim < 0 for dim in w.dims(made)):
            raise w.unfinished(f"it cuts more than there is: the input is {w.dims(x)}, the output {w.dims(made)}")
        return [made]


class ShapeLayer(Layer):
    """The dims of the input, as a 1-D tensor of int64."""

    kind = LayerType.SHAPE

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Shape."""
        return [w.op("Shape", inputs[0])]


class _AxesLayer(Layer):
    """What squeeze and unsqueeze share: axes, as numbers or in input 1."""

    max_inputs: ClassVar[int] = 2

    axes = Setting(optional(sizes()))
    operator: ClassVar[str]

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Squeeze or Unsqueeze."""
        if len(inputs) > 1 and inputs[1] is not None:
            axes = inputs[1]
            if w.rank(axes) == 0:
                axes = w.op("Unsqueeze", axes, w.ints([0]))
            return [w.op(self.operator, inputs[0], shape_tensor(w, axes, "input 1, the axes,"))]
        if self.axes is None:
            raise w.unfinished("it needs axes")
        return [w.op(self.operator, inputs[0], w.ints(self.axes))]


class SqueezeLayer(_AxesLayer):
    """Without the dimensions ``axes``, each of which must be 1."""

    kind = LayerType.SQUEEZE
    operator = "Squeeze"


class UnsqueezeLayer(_AxesLayer):
    """With new dimensions of size 1, so that they are the output's ``axes``."""

    kind = LayerType.UNSQUEEZE
    operator = "Unsqueeze"
