"""Constants that kernels read: arranged and rounded once for all numbers of rows that a graph is lowered for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trine.backends.cuda.groups import Buffer
from trine.backends.cuda.lowering.static_graph import Array
from trine.dtypes import DataType

__all__ = ["Weights"]

_FLOATS = {"fp32": DataType.FLOAT32, "fp16": DataType.FLOAT16, "bf16": DataType.BFLOAT16}
_MOST_FP16 = float(np.finfo(np.float16).max)


class Weights:
    """Buffers of constants. Floats are kept in fp32 until the fusion is done, which may change them, and rounded after
    that."""

    def __init__(self) -> None:
        # Arrays stay referenced beside their buffers: an address is an identity only while its array lives.
        self._made: dict[tuple[Any, ...], tuple[Buffer, Array]] = {}
        self._rounded: dict[Buffer, Buffer] = {}
        self._own: set[Buffer] = set()

    def buffer(self, array: Array, name: str, dtype: str) -> Buffer:
        """The array's elements, contiguous. Equal requests for one array share a buffer."""
        key = (array.__array_interface__["data"][0], array.shape, array.strides, dtype)
        if key not in self._made:
            floating = array.dtype.kind not in "iub"
            data = np.ascontiguousarray(array, np.float32) if floating else np.ascontiguousarray(array)
            self._made[key] = (Buffer(name, "weight", dtype, array.size, data.reshape(-1)), array)
            self._own.add(self._made[key][0])
        return self._made[key][0]

    def rounded(self, buffer: Buffer) -> Buffer:
        """With the elements of a weight in the type that they are stored in. Kept for those that ``buffer`` made; what
        fusion makes of them is another for each number of rows."""
        if buffer.kind != "weight" or buffer.dtype not in _FLOATS:
            return buffer
        if buffer in self._rounded:
            return self._rounded[buffer]
        assert buffer.data is not None
        made = replace(buffer, data=_rounded(buffer.data, _FLOATS[buffer.dtype].numpy))
        if buffer in self._own:
            self._rounded[buffer] = made
        return made


def _rounded(data: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """fp32 in another type. Large numbers that stand for infinity in a mask stay finite; infinity stays."""
    if data.dtype == dtype:
        return data
    with np.errstate(over="ignore"):
        rounded = data.astype(dtype)
    if dtype == np.float16 and not max(data.max(initial=0.0), -data.min(initial=0.0)) <= _MOST_FP16:  # or a NaN
        overflowed = np.isinf(rounded) & np.isfinite(data)
        rounded[overflowed] = np.copysign(_MOST_FP16, data[overflowed])
    return rounded
