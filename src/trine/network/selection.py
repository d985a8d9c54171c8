"""Layers that pick elements, or put them, by index or by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.network.layer import Layer
from trine.network.operations import GatherMode, LayerType, ScatterMode, TopKOperation
from trine.network.reductions import axes_of
from trine.network.settings import Setting, choice, dtype, reduction_axes, whole
from trine.network.writer import Writer

__all__ = [
    "GatherLayer",
    "NonZeroLayer",
    "OneHotLayer",
    "ReverseSequenceLayer",
    "ScatterLayer",
    "TopKLayer",
    "index_type",
]

_INDEX_TYPES = (DataType.INT32, DataType.INT64)


def index_type(layer: Layer, where: str, value: Any) -> DataType:
    """The dtype of indices that a layer gives: int32 or int64."""
    got = dtype(layer, where, value)
    if got not in _INDEX_TYPES:
        raise layer.error(f"indices_type is int32 or int64, got {got.value}")
    return got


class GatherLayer(Layer):
    """Elements of input 0 at the indices in input 1.

    DEFAULT takes slices along ``axis``; ELEMENT one element for each index, along ``axis``; ND whole index tuples.
    The first ``num_elementwise_dims`` dimensions of both inputs go together (DEFAULT: at most one).
    """

    kind = LayerType.GATHER
    max_inputs: ClassVar[int] = 2

    mode = Setting(choice(GatherMode), GatherMode.DEFAULT)
    axis = Setting(whole(), 0)
    num_elementwise_dims = Setting(whole(0), 0)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Gather, GatherElements or GatherND."""
        x, indices = inputs
        together = self.num_elementwise_dims
        if self.mode is GatherMode.ND:
            return [w.op("GatherND", x, w.cast(self._indices(w, indices), DataType.INT64), batch_dims=together)]
        axis = w.axis(self.axis, w.rank(x))
        self._indices(w, indices)
        if self.mode is GatherMode.ELEMENT:
            if together:
                raise w.unfinished(f"num_elementwise_dims must be 0 with GatherMode ELEMENT, got {together}")
            if w.rank(indices) != w.rank(x):
                raise w.unfinished(
                    f"with GatherMode ELEMENT both inputs have the same rank, got {w.dims(x)} and {w.dims(indices)}"
                )
            return [w.op("GatherElements", x, indices, axis=axis)]
        if not together:
            return [w.op("Gather", x, indices, axis=axis)]
        if together > 1 or axis < 1 or w.rank(indices) < 1:
            raise w.unfinished(
                "with GatherMode DEFAULT, num_elementwise_dims is 0 or 1; 1 needs an axis of at least 1 and indices of "
                f"at least one dimension, got num_elementwise_dims={together}, axis={axis}, indices {w.dims(indices)}"
            )
        return [self._batched(w, x, indices, axis)]

    def _indices(self, w: Writer, indices: ir.Value) -> ir.Value:
        if w.dtype(indices) not in _INDEX_TYPES:
            raise w.error(f"indices must be int32 or int64, got {w.dtype(indices).value}; use add_cast")
        return indices

    def _batched(self, w: Writer, x: ir.Value, indices: ir.Value, axis: int) -> ir.Value:
        """The gathered axis goes behind the batch, where GatherND finds it, and what it became goes back."""
        rank, count = w.rank(x), w.rank(indices) - 1
        if axis > 1:
            x = w.op("Transpose", x, perm=[0, axis, *(other for other in range(1, rank) if other != axis)])
        places = w.op("Unsqueeze", w.cast(indices, DataType.INT64), w.ints([-1]))
        made = w.op("GatherND", x, places, batch_dims=1)  # batch, indices..., before axis..., after axis...
        if axis == 1 or not count:
            return made
        before = range(1 + count, count + axis)
        after = range(count + axis, count + rank - 1)
        return w.op("Transpose", made, perm=[0, *before, *range(1, 1 + count), *after])


class ScatterLayer(Layer):
    """Input 0 with the elements of input 2 at the indices in input 1: one by one along ``axis``, or by index tuples."""

    kind = LayerType.SCATTER
    max_inputs: ClassVar[int] = 3

    mode = Setting(choice(ScatterMode), ScatterMode.ELEMENT)
    axis = Setting(whole(), 0)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """ScatterElements or ScatterND."""
        data, indices, updates = inputs
        if w.dtype(indices) not in _INDEX_TYPES:
            raise w.error(f"indices must be int32 or int64, got {w.dtype(indices).value}; use add_cast")
        if self.mode is ScatterMode.ND:
            return [w.op("ScatterND", data, w.cast(indices, DataType.INT64), updates)]
        if not w.rank(data) == w.rank(indices) == w.rank(updates):
            raise w.unfinished(
                "with ScatterMode ELEMENT data, indices and updates have the same rank, got "
                f"{w.dims(data)}, {w.dims(indices)} and {w.dims(updates)}"
            )
        return [w.op("ScatterElements", data, indices, updates, axis=w.axis(self.axis, w.rank(data)))]


class TopKLayer(Layer):
    """The ``k`` largest or smallest elements along the axis of ``axes``, in order; output 1 has their indices.

    Input 1, if set, gives k while running: a whole number, 0-D or of one element.
    """

    kind = LayerType.TOPK
    max_inputs: ClassVar[int] = 2

    op = Setting(choice(TopKOperation), TopKOperation.MAX)
    k = Setting(whole(1))
    axes = Setting(reduction_axes)
    indices_type = Setting(index_type, DataType.INT32)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """TopK."""
        x = inputs[0]
        axes = axes_of(w, self.axes, w.rank(x))
        if len(axes) != 1:
            raise w.error(f"top-k is along one axis, got {axes}")
        dim = w.dims(x)[axes[0]]
        if len(inputs) > 1 and inputs[1] is not None:
            k = w.op("Reshape", w.cast(inputs[1], DataType.INT64), w.ints([1]))
        else:
            if isinstance(dim, int) and self.k > dim:
                raise w.unfinished(f"k={self.k} is more than the {dim} elements along axis {axes[0]}")
            k = w.ints([self.k])
        largest = int(self.op is TopKOperation.MAX)
        values, indices = w.ops("TopK", [x, k], {"axis": axes[0], "largest": largest, "sorted": 1}, outputs=2)
        return [values, w.cast(indices, self.indices_type)]


class NonZeroLayer(Layer):
    """Where the elements that are not zero are: a column of indices for each, one row for each dimension."""

    kind = LayerType.NON_ZERO

    indices_type = Setting(index_type, DataType.INT32)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """NonZero."""
        return [w.cast(w.op("NonZero", inputs[0]), self.indices_type)]


class OneHotLayer(Layer):
    """For each index in input 0 a vector along ``axis``: the second value of input 1 there, the first elsewhere.

    Input 2 is the length of the vectors.
    """

    kind = LayerType.ONE_HOT
    max_inputs: ClassVar[int] = 3

    axis = Setting(whole(), -1)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """OneHot."""
        indices, values, depth = inputs
        if w.dims(values) != (2,):
            raise w.error(f"the values are two, off and on: wanted shape (2,), got {w.dims(values)}")
        w.axis(self.axis, w.rank(indices) + 1)
        # Backends have this for indices of int64 only.
        places, length = w.cast(indices, DataType.INT64), w.cast(depth, DataType.INT64)
        return [w.op("OneHot", places, length, values, axis=self.axis)]


class ReverseSequenceLayer(Layer):
    """For each place along ``batch_axis``, as many elements along ``sequence_axis`` reversed as input 1 says."""

    kind = LayerType.REVERSE_SEQUENCE
    max_inputs: ClassVar[int] = 2

    batch_axis = Setting(whole(0), 1)
    sequence_axis = Setting(whole(0), 0)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """ReverseSequence, which has its two axes in front."""
        x, lengths = inputs
        rank = w.rank(x)
        batch, sequence = self.batch_axis, self.sequence_axis
        if batch == sequence or max(batch, sequence) >= rank:
            raise w.unfinished(
                f"batch_axis {batch} and sequence_axis {sequence} must be two axes of the input, which has {rank}"
            )
        order = [sequence, batch, *(axis for axis in range(rank) if axis not in (batch, sequence))]
        moved = order != sorted(order)
        made = w.op("Transpose", x, perm=order) if moved else x
        made = w.op("ReverseSequence", made, w.cast(lengths, DataType.INT64), batch_axis=1, time_axis=0)
        return [w.op("Transpose", made, perm=[int(axis) for axis in np.argsort(order)]) if moved else made]
