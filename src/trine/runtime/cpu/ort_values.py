"""NumPy arrays to and from ONNX Runtime's values, also for element types that NumPy itself lacks.

bfloat16, fp8 and the 4- and 2-bit types are ml_dtypes arrays on our side. ONNX Runtime's Python interface knows none
of them: going in, their bytes are handed over with the ONNX type's number; coming out, they are read from memory.
4- and 2-bit elements are packed there, one to a byte here.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from trine.dtypes import DataType

__all__ = ["from_ort_value", "needs_ort_value", "pack", "to_ort_value", "unpack"]

Array = np.ndarray[Any, Any]


def needs_ort_value(dtype: DataType) -> bool:
    """Whether arrays of this type cannot be given to ``InferenceSession.run`` as they are."""
    return dtype is DataType.BFLOAT16 or dtype.value.startswith("float8") or 0 < dtype.bits < 8


def to_ort_value(ort: Any, array: Array, dtype: DataType) -> Any:
    """An OrtValue with the elements of ``array``; over the same memory for whole-byte types."""
    if not needs_ort_value(dtype):
        return ort.OrtValue.ortvalue_from_numpy(array)
    array = np.asarray(array, order="C")  # np.ascontiguousarray would make a scalar one-dimensional
    if dtype.bits == 16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), dtype.onnx)
    if dtype.bits == 8:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint8), dtype.onnx)
    # The value's shape is the array's, and its packed bytes are read from the start of the array's memory.
    carrier = np.zeros(array.shape, np.uint8)
    packed = pack(array, dtype)
    carrier.reshape(-1)[: packed.size] = packed
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(carrier, dtype.onnx)


def from_ort_value(value: Any, dtype: DataType) -> Array:
    """The elements of an OrtValue as an array of ``dtype.numpy``, which the caller may keep."""
    if not needs_ort_value(dtype):
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    nbytes = (math.prod(shape) * dtype.bits + 7) // 8
    raw = np.frombuffer(bytearray(ctypes.string_at(value.data_ptr(), nbytes)) if nbytes else bytearray(), np.uint8)
    return unpack(raw, dtype, shape) if dtype.bits < 8 else raw.view(dtype.numpy).reshape(shape)


def pack(array: Array, dtype: DataType) -> Array:
    """4- or 2-bit elements, one to a byte, as uint8 with several to a byte, the first in the lowest bits."""
    per_byte = 8 // dtype.bits
    bits = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & ((1 << dtype.bits) - 1)
    padded = np.zeros(-(-bits.size // per_byte) * per_byte, np.uint8)
    padded[: bits.size] = bits
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
    packed: Array = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8)
    return packed


def unpack(raw: Array, dtype: DataType, shape: tuple[int, ...]) -> Array:
    """The reverse of ``pack``: packed uint8 to an array of ``dtype.numpy`` and ``shape``."""
    per_byte = 8 // dtype.bits
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
    mask = np.uint8((1 << dtype.bits) - 1)
    bits = ((raw[:, None] >> shifts) & mask).reshape(-1)[: math.prod(shape)]
    return np.ascontiguousarray(bits).view(dtype.numpy).reshape(shape)
