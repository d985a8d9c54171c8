"""Element types, and what they are called in NumPy, ONNX and PyTorch."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from trine.errors import ConfigError, MissingDependencyError

__all__ = ["DataType"]


class DataType(enum.Enum):
    """An element type. ``value`` is its name, as NumPy and PyTorch spell it."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    BOOL = "bool"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    STRING = "string"
    FLOAT8E4M3FN = "float8_e4m3fn"
    FLOAT8E4M3FNUZ = "float8_e4m3fnuz"
    FLOAT8E5M2 = "float8_e5m2"
    FLOAT8E5M2FNUZ = "float8_e5m2fnuz"
    FLOAT8E8M0 = "float8_e8m0fnu"
    INT4 = "int4"
    UINT4 = "uint4"
    FLOAT4E2M1 = "float4_e2m1fn"
    INT2 = "int2"
    UINT2 = "uint2"

    @property
    def is_floating(self) -> bool:
        """True for real floating-point types (not complex)."""
        return self.value.startswith(("float", "bfloat"))

    @property
    def bits(self) -> int:
        """Bits an element takes in a packed tensor; 0 for strings."""
        return _BITS[self]

    @property
    def onnx(self) -> int:
        """The number of this type in ONNX's ``TensorProto.DataType``."""
        return _ONNX[self]

    @classmethod
    def from_onnx(cls, number: int) -> DataType:
        """The type with this number in ``TensorProto.DataType``. Raises ConfigError for others."""
        for dtype, code in _ONNX.items():
            if code == number:
                return dtype
        raise ConfigError(f"ONNX element type {number} is unknown to trine; known: {sorted(_ONNX.values())}")

    @classmethod
    def from_name(cls, name: str) -> DataType:
        """The type called ``name`` ("float32", "torch.float32"). Raises ConfigError for others."""
        try:
            return cls(name.removeprefix("torch.").removeprefix("numpy."))
        except ValueError:
            known = ", ".join(member.value for member in cls)
            raise ConfigError(f"dtype {name!r} is unknown; known: {known}") from None

    @classmethod
    def from_numpy(cls, dtype: Any) -> DataType:
        """The type of a NumPy dtype (ml_dtypes' bfloat16 and fp8 included)."""
        dtype = np.dtype(dtype)
        return cls.STRING if dtype.kind in "OSU" else cls.from_name(dtype.name)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype; narrow floats come from ml_dtypes, imported only when asked for."""
        if self is DataType.STRING:
            return np.dtype(object)
        try:
            known: np.dtype[Any] = np.dtype(self.value)
        except TypeError:
            pass
        else:
            return known
        try:
            import ml_dtypes
        except ImportError as err:
            raise MissingDependencyError(
                f"dtype {self.value} needs the package ml_dtypes: pip install ml_dtypes"
            ) from err
        narrow: np.dtype[Any] = np.dtype(getattr(ml_dtypes, self.value))
        return narrow


# https://github.com/onnx/onnx/blob/main/onnx/onnx.in.proto, message TensorProto, enum DataType.
_ONNX = {
    DataType.FLOAT32: 1,
    DataType.UINT8: 2,
    DataType.INT8: 3,
    DataType.UINT16: 4,
    DataType.INT16: 5,
    DataType.INT32: 6,
    DataType.INT64: 7,
    DataType.STRING: 8,
    DataType.BOOL: 9,
    DataType.FLOAT16: 10,
    DataType.FLOAT64: 11,
    DataType.UINT32: 12,
    DataType.UINT64: 13,
    DataType.COMPLEX64: 14,
    DataType.COMPLEX128: 15,
    DataType.BFLOAT16: 16,
    DataType.FLOAT8E4M3FN: 17,
    DataType.FLOAT8E4M3FNUZ: 18,
    DataType.FLOAT8E5M2: 19,
    DataType.FLOAT8E5M2FNUZ: 20,
    DataType.UINT4: 21,
    DataType.INT4: 22,
    DataType.FLOAT4E2M1: 23,
    DataType.FLOAT8E8M0: 24,
    DataType.UINT2: 25,
    DataType.INT2: 26,
}

_WIDTHS = {
    64: "float64 int64 uint64 complex64",
    32: "float32 int32 uint32",
    16: "float16 bfloat16 int16 uint16",
    8: "int8 uint8 bool float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu",
    4: "int4 uint4 float4_e2m1fn",
    2: "int2 uint2",
    0: "string",
    128: "complex128",
}
_BITS = {DataType(name): bits for bits, names in _WIDTHS.items() for name in names.split()}
