"""Layers between floating-point numbers and short ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.network.layer import Layer
from trine.network.operations import LayerType
from trine.network.settings import Setting, dtype, optional, sizes, whole
from trine.network.writer import Writer

__all__ = ["DequantizeLayer", "DynamicQuantizeLayer", "QuantizeLayer"]

QUANTIZED = (DataType.INT8, DataType.UINT8, DataType.INT4, DataType.UINT4, DataType.FLOAT8E4M3FN)
_LARGEST = {DataType.INT8: 127.0, DataType.FLOAT8E4M3FN: 448.0}


class _QuantizeBase(Layer):
    """What quantise and dequantise share: a scale for the tensor, for each index of an axis, or for each block."""

    max_inputs: ClassVar[int] = 3

    axis = Setting(optional(whole()))
    block_shape = Setting(optional(sizes(1)))

    def attributes(self, w: Writer, x: ir.Value, scale: ir.Value) -> tuple[ir.Value, dict[str, Any]]:
        """The scale as ONNX takes it, and the attributes that say what it is for."""
        if w.rank(x) == 0:
            raise w.error("the input must have dimensions, got a scalar")
        rank = w.rank(scale)
        if rank == 1 and w.dims(scale) == (1,) and self.axis is None:
            return w.op("Squeeze", scale, w.ints([0])), {}  # one scale for the tensor
        if rank == 0:
            return scale, {}
        if rank == 1:
            if self.axis is None:
                raise w.unfinished(f"the scale has shape {w.dims(scale)}; set the axis that it is for")
            axis = w.axis(self.axis, w.rank(x))
            size, wanted = w.dims(scale)[0], w.dims(x)[axis]
            if isinstance(size, int) and isinstance(wanted, int) and size != wanted:
                raise w.unfinished(f"the scale has {size} numbers, axis {axis} of the input has {wanted}")
            return scale, {"axis": axis}
        if rank != w.rank(x):
            raise w.error(
                f"the scale {w.dims(scale)} is for the tensor (0-D), an axis (1-D), or blocks (as many dimensions as "
                f"the input {w.dims(x)})"
            )
        return scale, self._blocks(w, x, scale)

    def _blocks(self, w: Writer, x: ir.Value, scale: ir.Value) -> dict[str, Any]:
        found = []
        for axis, (size, count) in enumerate(zip(w.dims(x), w.dims(scale), strict=True)):
            if size == count:
                continue
            if not isinstance(size, int) or not isinstance(count, int) or count == 0 or size % count:
                raise w.error(f"axis {axis}: {count} scales do not cut {size} elements into equal blocks")
            found.append((axis, size // count))
        if len(found) > 1:
            raise w.error(f"blocks lie along one axis, got scales {w.dims(scale)} for an input {w.dims(x)}")
        axis, block = found[0] if found else (w.rank(x) - 1, 1)
        return {"axis": axis, "block_size": block}


class QuantizeLayer(_QuantizeBase):
    """round(x / scale) + zero point, cut to what ``to_type`` holds. Inputs: x, scale, and a zero point (else 0)."""

    kind = LayerType.QUANTIZE

    to_type = Setting(dtype, DataType.INT8)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """QuantizeLinear."""
        x, scale, zero = inputs + [None] * (3 - len(inputs))
        if self.to_type not in QUANTIZED:
            raise w.error(f"to_type is one of {', '.join(t.value for t in QUANTIZED)}, got {self.to_type.value}")
        if w.dtype(scale) is not w.dtype(x):
            raise w.error(
                f"the scale is {w.dtype(scale).value}, wanted {w.dtype(x).value} as the input is; use add_cast"
            )
        scale, attributes = self.attributes(w, x, scale)
        if zero is None:
            return [w.op("QuantizeLinear", x, scale, output_dtype=self.to_type.onnx, **attributes)]
        if w.rank(zero) != w.rank(scale):
            zero = w.op("Reshape", zero, w.op("Shape", scale))
        return [w.op("QuantizeLinear", x, scale, w.cast(zero, self.to_type), **attributes)]


class DequantizeLayer(_QuantizeBase):
    """(x - zero point) * scale, as ``to_type``. Inputs: x, scale, and a zero point (else 0)."""

    kind = LayerType.DEQUANTIZE

    to_type = Setting(dtype, DataType.FLOAT32)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """DequantizeLinear, whose output has the scale's dtype."""
        x, scale, zero = inputs + [None] * (3 - len(inputs))
        if not self.to_type.is_floating:
            raise w.error(f"to_type is a floating-point dtype, got {self.to_type.value}")
        scale, attributes = self.attributes(w, x, scale)
        if zero is not None and w.rank(zero) != w.rank(scale):
            zero = w.op("Reshape", zero, w.op("Shape", scale))
        return [w.op("DequantizeLinear", x, w.cast(scale, self.to_type), zero, **attributes)]


class DynamicQuantizeLayer(Layer):
    """Blocks of ``block_size`` elements along ``axis``, each quantised by its own largest element.

    Output 0 has the quantised elements, output 1 the scales that give them back. ``to_type`` is float8_e4m3fn or int8,
    ``scale_type`` a floating-point dtype in which the scales are stored: what is stored is what is divided by. The
    narrower types of TensorRT's layer (FP4 elements, FP8 and E8M0 scales) need a device that computes in them.
    """

    kind = LayerType.DYNAMIC_QUANTIZE

    axis = Setting(whole(), -1)
    block_size = Setting(whole(1), 32)
    to_type = Setting(dtype, DataType.FLOAT8E4M3FN)
    scale_type = Setting(dtype, DataType.FLOAT32)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """The scales by ReduceMax, the elements by QuantizeLinear in blocks."""
        x = inputs[0]
        if self.to_type not in _LARGEST:
            raise w.error(f"to_type is one of {', '.join(t.value for t in _LARGEST)}, got {self.to_type.value}")
        if self.scale_type not in (DataType.FLOAT32, DataType.FLOAT16, DataType.BFLOAT16):
            raise w.error(f"scale_type is float32, float16 or bfloat16, got {self.scale_type.value}")
        axis = w.axis(self.axis, w.rank(x))
        dims = w.dims(x)
        size = dims[axis]
        if not isinstance(size, int) or size % self.block_size:
            raise w.error(f"axis {axis} has {size} elements, which blocks of {self.block_size} do not divide")
        count = size // self.block_size
        target = [0] * axis + [count, self.block_size]
        blocks = w.op("Reshape", x, w.ints([*target, *([-1] if axis + 1 < len(dims) else [])]))
        largest = w.op("ReduceMax", w.op("Abs", blocks), w.ints([axis + 1]), keepdims=1)
        limit = w.op("Div", largest, w.scalar(_LARGEST[self.to_type], x))
        # A block of zeros has no scale; any will do.
        positive = w.op("Greater", limit, w.scalar(0, x))
        scale = w.op("Where", positive, limit, w.scalar(1, x))
        stored = w.cast(scale, self.scale_type)
        quotient = w.op("Div", blocks, w.cast(stored, w.dtype(x)))
        if self.to_type is DataType.INT8:
            low, high = w.scalar(-127, x), w.scalar(127, x)
            quotient = w.op("Clip", w.op("Round", quotient), low, high)
        quantised = w.op("Cast", quotient, to=self.to_type.onnx)
        elements = w.set_dims(w.op("Reshape", quantised, w.op("Shape", x)), dims)
        scale_dims = [count if i == axis else dim for i, dim in enumerate(dims)]
        shape = w.op("Shape", x)
        factor = np.array([self.block_size if i == axis else 1 for i in range(len(dims))], np.int64)
        scales = w.op("Reshape", stored, w.op("Div", shape, w.constant(factor, "factor")))
        return [elements, w.set_dims(scales, scale_dims)]
