"""TensorRT's small types: element types and what NumPy calls them, Weights, host memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from trine.compat.memory import view
from trine.compat.tensorrt.enums import DataType
from trine.dtypes import DataType as TrineType
from trine.errors import ConfigError

__all__ = ["DTYPES", "IHostMemory", "Weights", "as_array", "from_trine", "nptype", "to_trine"]

# What programs call as trt.float32 and so on.
DTYPES: dict[str, DataType] = {
    "float32": DataType.FLOAT,
    "float16": DataType.HALF,
    "bfloat16": DataType.BF16,
    "int8": DataType.INT8,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
    "bool": DataType.BOOL,
    "uint8": DataType.UINT8,
    "fp8": DataType.FP8,
    "int4": DataType.INT4,
    "fp4": DataType.FP4,
    "e8m0": DataType.E8M0,
}

_TRINE: dict[DataType, TrineType] = {
    DataType.FLOAT: TrineType.FLOAT32,
    DataType.HALF: TrineType.FLOAT16,
    DataType.BF16: TrineType.BFLOAT16,
    DataType.INT8: TrineType.INT8,
    DataType.INT32: TrineType.INT32,
    DataType.INT64: TrineType.INT64,
    DataType.BOOL: TrineType.BOOL,
    DataType.UINT8: TrineType.UINT8,
    DataType.FP8: TrineType.FLOAT8E4M3FN,
    DataType.INT4: TrineType.INT4,
    DataType.FP4: TrineType.FLOAT4E2M1,
    DataType.E8M0: TrineType.FLOAT8E8M0,
}
_TENSORRT = {ours: theirs for theirs, ours in _TRINE.items()}
_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
}


def nptype(trt_type: DataType) -> type:
    """The NumPy type of an element type. Raises TypeError where NumPy has none (bfloat16, fp8, ...)."""
    if trt_type in _NUMPY:
        found: type = _NUMPY[trt_type]
        return found
    raise TypeError(f"Could not resolve TensorRT datatype {trt_type} to an equivalent numpy datatype.")


def to_trine(dtype: Any) -> TrineType:
    """trine's element type for one of TensorRT's, or for a NumPy dtype. Raises TypeError for others."""
    if isinstance(dtype, DataType):
        return _TRINE[dtype]
    if isinstance(dtype, TrineType):
        return dtype
    try:
        return TrineType.from_numpy(dtype)
    except (TypeError, ConfigError) as err:
        raise TypeError(f"expected a tensorrt.DataType, got {dtype!r}") from err


def from_trine(dtype: TrineType | None) -> DataType:
    """TensorRT's element type for trine's. Raises TypeError for those that TensorRT has not (float64, ...)."""
    if dtype is None:
        return DataType.FLOAT  # TensorRT's own answer before it has inferred a type
    try:
        return _TENSORRT[dtype]
    except KeyError:
        raise TypeError(f"TensorRT has no element type for {dtype.value}") from None


class Weights:
    """The values of a kernel, bias or constant: over a NumPy array, over memory at an address, or none at all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """``Weights(array)``, ``Weights(type=float32)`` for none, or ``Weights(type, ptr, count)``."""
        array = kwargs.get("a", args[0] if args and not isinstance(args[0], DataType) else None)
        if array is not None:
            array = np.asarray(array)
            if not array.flags.c_contiguous:
                raise ValueError(
                    "Could not convert non-contiguous NumPy array to Weights. Please use numpy.ascontiguousarray() "
                    "to fix this."
                )
            self._array = array
            self._dtype = from_trine(to_trine(array.dtype))
            return
        names = ("type", "ptr", "count")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        unknown = set(given) - set(names)
        if unknown or len(args) > len(names):
            raise TypeError(f"Weights: expected an array, a type, or (type, ptr, count); got {args} {kwargs}")
        self._dtype = given.get("type", DataType.FLOAT)
        if not isinstance(self._dtype, DataType):
            raise TypeError(f"Weights: expected a tensorrt.DataType, got {self._dtype!r}")
        numpy_type = to_trine(self._dtype).numpy
        count = int(given.get("count", 0))
        if count:
            memory = view(int(given["ptr"]), count * numpy_type.itemsize)
            self._array = memory.view(numpy_type)
        else:
            self._array = np.empty(0, numpy_type)

    @property
    def dtype(self) -> DataType:
        """The element type."""
        return self._dtype

    @property
    def size(self) -> int:
        """How many elements."""
        return self._array.size

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        return self._array.nbytes

    def numpy(self) -> np.ndarray:
        """The values, without a copy."""
        return self._array

    def __len__(self) -> int:
        return self.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype=dtype, copy=copy)


def as_array(weights: Any) -> np.ndarray | None:
    """A copy of what was given as weights; None where there are none.

    TensorRT reads weights when it builds and asks that they be kept until then. Copied when the call is made, they
    may be changed at once.
    """
    if weights is None:
        return None
    if not isinstance(weights, Weights):
        weights = Weights(np.ascontiguousarray(weights))
    return None if weights.size == 0 else weights.numpy().copy()


class IHostMemory(bytes):
    """Bytes that a build or a serialisation gives: a buffer, to be written to a file or deserialised."""

    @property
    def dtype(self) -> DataType:
        """Always int8."""
        return DataType.INT8

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        return len(self)

    def __enter__(self) -> IHostMemory:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the memory goes with the last reference."""
