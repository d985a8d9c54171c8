"""Arrays of any library on a GPU, by DLPack: what a capsule says of the memory, which is neither copied nor imported.

The structures are those of dlpack.h, version 1; a capsule has the one with a version, or the one from before.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

__all__ = ["DlpackArray", "dlpack_ordinal", "take_dlpack"]

_CUDA = 2  # kDLCUDA; managed and pinned memory have others, and are read as memory of the host
_MAJOR = 1
_READ_ONLY, _COPIED = 1, 2  # flags
_DEFAULT_STREAM = 1  # 0 is no stream in DLPack

# By type code; where the number of bits is part of the name, it follows.
_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex"}
_NAMES = {
    6: "bool",
    10: "float8_e4m3fn",
    11: "float8_e4m3fnuz",
    12: "float8_e5m2",
    13: "float8_e5m2fnuz",
    14: "float8_e8m0fnu",
    17: "float4_e2m1fn",
}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


# Prototypes of our own: those in ctypes.pythonapi are everyone's.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@dataclass(frozen=True)
class DlpackArray:
    """``strides`` in elements; None: contiguous. ``dtype`` as in a manifest, if that has it. ``capsule``: the memory is
    there as long as this is. Its name stays: when it goes, it tells its library by itself."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str
    read_only: bool
    capsule: Any


def dlpack_ordinal(value: Any) -> int | None:
    """Which GPU has the array ``value``, 0 for cuda:0. None: no GPU, or no DLPack."""
    ask = getattr(value, "__dlpack_device__", None)
    if ask is None:
        return None
    try:
        kind, ordinal = ask()
    except (BufferError, RuntimeError, TypeError, ValueError):  # found again, and told, when its capsule is asked for
        return None
    return int(ordinal) if int(kind) == _CUDA else None


def take_dlpack(value: Any, stream: int) -> DlpackArray:
    """``value``, which its library makes ready for what is put on ``stream``, a handle, from now on.

    Raises BufferError for what is no capsule that is understood here, and what the library raises.
    """
    handle = stream or _DEFAULT_STREAM
    try:
        capsule = value.__dlpack__(stream=handle, max_version=(_MAJOR, 0))
    except TypeError:  # from before versions
        capsule = value.__dlpack__(stream=handle)
    read_only = False
    if _is_valid(capsule, b"dltensor_versioned"):
        versioned = _Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        if versioned.major > _MAJOR:  # what follows may be anything
            raise BufferError(f"it has version {versioned.major} of DLPack, and {_MAJOR} was asked for")
        tensor, read_only = versioned.tensor, bool(versioned.flags & (_READ_ONLY | _COPIED))
    elif _is_valid(capsule, b"dltensor"):  # cannot say so: its library refuses to lend what is read-only
        tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
    else:
        raise BufferError(f"its __dlpack__ gives a {type(capsule).__name__}, and no capsule of DLPack's")
    return DlpackArray(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[: tensor.ndim]),
        tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None,
        _dtype(tensor.code, tensor.bits, tensor.lanes),
        read_only,
        capsule,
    )


def _dtype(code: int, bits: int, lanes: int) -> str:
    name = f"{_KINDS[code]}{bits}" if code in _KINDS else _NAMES.get(code, f"DLPack's type {code} of {bits} bits")
    return name if lanes == 1 else f"{name} x {lanes}"
