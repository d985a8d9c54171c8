"""Arrays in a GPU's memory at the border: PyTorch, CuPy, anything with the CUDA array interface; never copied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError, InputError
from trine.runtime.array_libraries import interface_stream
from trine.runtime.arrays import is_torch

__all__ = ["DeviceArray", "as_device_array", "is_on_gpu"]


@dataclass(frozen=True)
class DeviceArray:
    """Where a contiguous array lies. ``dtype`` as in a manifest; ``stream``: the handle of the one that makes it, if it
    names one."""

    address: int
    shape: tuple[int, ...]
    dtype: str
    stream: int | None = None


def is_on_gpu(value: object) -> bool:
    """Whether ``value`` is an array in a GPU's memory."""
    if is_torch(value):
        return bool(value.is_cuda)  # type: ignore[attr-defined]
    return hasattr(value, "__cuda_array_interface__")


def as_device_array(name: str, value: Any, info: TensorInfo, ordinal: int, *, to_write: bool = False) -> DeviceArray:
    """Raises InputError for another device, dtype or layout than the engine's; shapes are checked by the context."""
    if not is_on_gpu(value):
        raise InputError(f"{name!r}: expected an array on cuda:{ordinal}, got one in host memory")
    stream = None
    if is_torch(value):
        if value.device.index not in (None, ordinal):
            raise InputError(f"{name!r}: expected an array on cuda:{ordinal}, got one on {value.device}; move it there")
        dtype = str(value.dtype).removeprefix("torch.")
        contiguous, address, shape = value.is_contiguous(), value.data_ptr(), tuple(value.shape)
    else:
        where = getattr(getattr(value, "device", None), "id", ordinal)  # CuPy's
        if where != ordinal:
            raise InputError(f"{name!r}: expected an array on cuda:{ordinal}, got one on cuda:{where}; move it there")
        described = value.__cuda_array_interface__
        shape = tuple(described["shape"])
        dtype = _interface_dtype(described["typestr"])
        address, read_only = described["data"]
        if to_write and read_only:
            raise InputError(f"{name!r}: expected an array that can be written, got a read-only one")
        stream = interface_stream(described)
        contiguous = described.get("strides") in (None, _contiguous_strides(shape, described["typestr"]))
    if dtype != info.dtype.value:
        raise InputError(f"{name!r}: expected {info.dtype.value}, got {dtype}; convert it on the GPU")
    if not contiguous:
        raise InputError(f"{name!r}: expected a contiguous array, got one with gaps or other strides; make a copy")
    return DeviceArray(int(address), shape, dtype, stream)


def _interface_dtype(text: str) -> str:
    try:
        return DataType.from_numpy(np.dtype(text)).value
    except (ConfigError, TypeError):
        return text


def _contiguous_strides(shape: tuple[int, ...], typestr: str) -> tuple[int, ...]:
    """In bytes."""
    item = np.dtype(typestr).itemsize
    return tuple(item * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
