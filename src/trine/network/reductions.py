"""Layers that combine the elements along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.network.layer import Layer
from trine.network.operations import CumulativeOperation, LayerType, ReduceOperation
from trine.network.settings import Setting, choice, flag, optional, reduction_axes, whole
from trine.network.writer import Writer

__all__ = ["CumulativeLayer", "RaggedSoftMaxLayer", "ReduceLayer", "SoftMaxLayer", "axes_of"]

REDUCTIONS: dict[ReduceOperation, str] = {
    ReduceOperation.SUM: "ReduceSum",
    ReduceOperation.PROD: "ReduceProd",
    ReduceOperation.MAX: "ReduceMax",
    ReduceOperation.MIN: "ReduceMin",
    ReduceOperation.AVG: "ReduceMean",
}


def axes_of(w: Writer, mask: int, rank: int, what: str = "axes") -> list[int]:
    """The axes whose bits are set in ``mask``."""
    axes = [axis for axis in range(mask.bit_length()) if mask >> axis & 1]
    if axes and axes[-1] >= rank:
        raise w.error(f"{what} {axes} are out of range for a tensor of {rank} dimensions")
    return axes


class ReduceLayer(Layer):
    """The sum, product, largest, smallest or mean element along ``axes``, a bit mask."""

    kind = LayerType.REDUCE

    op = Setting(choice(ReduceOperation), ReduceOperation.SUM)
    axes = Setting(reduction_axes)
    keep_dims = Setting(flag, False)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """ReduceSum, ReduceMean..."""
        if self.op is ReduceOperation.NONE:
            raise w.error(f"ReduceOperation NONE reduces nothing; allowed: {', '.join(k.name for k in REDUCTIONS)}")
        axes = axes_of(w, self.axes, w.rank(inputs[0]))
        return [w.op(REDUCTIONS[self.op], inputs[0], w.ints(axes), keepdims=int(self.keep_dims))]


class SoftMaxLayer(Layer):
    """Softmax along the one axis whose bit is set in ``axes``.

    By default the third from last, as in TensorRT; axis 0 where there are fewer.
    """

    kind = LayerType.SOFTMAX

    axes = Setting(reduction_axes, lambda layer: 1 << max(layer.input_rank - 3, 0))

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Softmax."""
        axes = axes_of(w, self.axes, w.rank(inputs[0]))
        if len(axes) != 1:
            raise w.error(f"softmax is along one axis, got {axes}")
        return [w.op("Softmax", inputs[0], axis=axes[0])]


class RaggedSoftMaxLayer(Layer):
    """Softmax over the first elements of each row, and 0 behind them; input 1 says how many, for each row."""

    kind = LayerType.RAGGED_SOFTMAX
    max_inputs: ClassVar[int] = 2

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Softmax with minus infinity behind the bounds."""
        x, bounds = inputs
        if w.rank(bounds) != w.rank(x) or w.dims(bounds)[-1] not in (1, None):
            raise w.error(
                f"the bounds are one number for each row: wanted {(*w.dims(x)[:-1], 1)}, got {w.dims(bounds)}"
            )
        if w.dtype(bounds) not in (DataType.INT32, DataType.INT64):
            raise w.error(f"the bounds must be int32 or int64, got {w.dtype(bounds).value}")
        length = w.op("Squeeze", w.op("Shape", x, start=-1), w.ints([0]))
        places = w.op("Range", w.constant(np.int64(0), "zero"), length, w.constant(np.int64(1), "one"))
        inside = w.op("Less", places, w.cast(bounds, DataType.INT64))
        masked = w.op("Where", inside, x, w.scalar(-math.inf, x))
        return [w.op("Where", inside, w.op("Softmax", masked, axis=-1), w.scalar(0, x))]


class CumulativeLayer(Layer):
    """Sums of all elements up to each along ``axis``, or a constant in input 1; without itself if ``exclusive``."""

    kind = LayerType.CUMULATIVE
    max_inputs: ClassVar[int] = 2

    axis = Setting(optional(whole()))
    op = Setting(choice(CumulativeOperation), CumulativeOperation.SUM)
    exclusive = Setting(flag, False)
    reverse = Setting(flag, False)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """CumSum."""
        x = inputs[0]
        axis = inputs[1] if len(inputs) > 1 else None
        if axis is None:
            if self.axis is None:
                raise w.unfinished("it needs an axis")
            axis = w.constant(np.int64(w.axis(self.axis, w.rank(x))), "axis")
        return [w.op("CumSum", x, axis, exclusive=int(self.exclusive), reverse=int(self.reverse))]
