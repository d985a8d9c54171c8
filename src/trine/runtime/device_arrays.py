"""Arrays in a GPU's memory at the border: PyTorch, the CUDA array interface (CuPy, Numba), DLPack; never copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError, InputError
from trine.runtime.array_libraries import interface_stream
from trine.runtime.arrays import check_plain_tensor, is_torch
from trine.runtime.dlpack import dlpack_ordinal, take_dlpack

__all__ = ["DeviceArray", "as_device_array", "is_on_gpu"]


class Gpu(Protocol):
    """What is asked of a CudaSession here."""

    @property
    def ordinal(self) -> int:
        """0 for cuda:0."""
        ...

    def device_of(self, address: int) -> int | None:
        """See GpuDriver."""
        ...


@dataclass(frozen=True)
class DeviceArray:
    """Where an array lies. ``dtype`` as in a manifest; ``stream``: the handle of the one that makes it, if it names
    one; ``held``: what is to be kept until it is no longer used, if anything."""

    address: int
    shape: tuple[int, ...]
    dtype: str
    contiguous: bool
    read_only: bool = False
    stream: int | None = None
    held: Any = None


def is_on_gpu(value: object) -> bool:
    """Whether ``value`` is an array in a GPU's memory."""
    if is_torch(value):
        return bool(value.is_cuda)  # type: ignore[attr-defined]
    return hasattr(value, "__cuda_array_interface__") or dlpack_ordinal(value) is not None


def as_device_array(name: str, value: Any, info: TensorInfo, gpu: Gpu, stream: int, role: str = "input") -> DeviceArray:
    """A contiguous array of the engine's dtype on its GPU; that can be written where ``role``, what errors call it, is
    "out". ``stream``: the handle of the one that will use it, which DLPack asks for.

    Raises InputError for anything else; shapes are checked by the context.
    """
    what, wanted = f"{role} {name!r}", f"expected an array on cuda:{gpu.ordinal}"
    if is_torch(value):
        check_plain_tensor(name, value, role)
    if not is_on_gpu(value):
        where = f"on {value.device}" if is_torch(value) and value.device.type != "cpu" else "in host memory"
        raise InputError(
            f"{what}: {wanted}, got one {where}; move it there ({name}.to('cuda:{gpu.ordinal}'), "
            f"cupy.asarray({name})), or pass all arrays in host memory, to execute"
        )
    if is_torch(value):
        _check_device(what, gpu, value.device.index)
        array = _of_torch(name, value, role)
    elif hasattr(value, "__cuda_array_interface__"):
        array = _of_interface(value)
        if array.address:
            _check_device(what, gpu, gpu.device_of(array.address))
    else:
        _check_device(what, gpu, dlpack_ordinal(value))  # before its library is told of a stream of this GPU
        array = _of_dlpack(what, value, stream)
    if array.address == 0 and 0 not in array.shape:
        raise InputError(
            f"{what}: {wanted}, got one of shape {array.shape} without memory; pass one that holds numbers"
        )
    if array.read_only and role == "out":
        raise InputError(f"{what}: expected an array that can be written, got a read-only one; pass one of your own")
    if array.dtype != info.dtype.value:
        raise InputError(f"{what}: expected {info.dtype.value}, got {array.dtype}; convert it on the GPU")
    if not array.contiguous:
        raise InputError(f"{what}: expected a contiguous array, got one with gaps or other strides; make a copy")
    return array


def _check_device(what: str, gpu: Gpu, device: int | None) -> None:
    if device is None:
        raise InputError(
            f"{what}: expected an array on cuda:{gpu.ordinal}, got one at an address where no GPU has memory; pass one "
            "that was not freed, and not one in host memory"
        )
    if device != gpu.ordinal:
        raise InputError(
            f"{what}: expected an array on cuda:{gpu.ordinal}, got one on cuda:{device}; move it there, or load the "
            f'engine with device="cuda:{device}"'
        )


def _of_torch(name: str, tensor: Any, role: str) -> DeviceArray:
    if tensor.is_conj() or tensor.is_neg():  # what is in memory has yet to be turned
        raise InputError(
            f"{role} {name!r}: expected numbers as they are in memory, got a conjugate or negative view; pass "
            f"{name}.resolve_conj().resolve_neg()"
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    return DeviceArray(tensor.data_ptr(), tuple(tensor.shape), dtype, tensor.is_contiguous())


def _of_interface(value: Any) -> DeviceArray:
    described = value.__cuda_array_interface__
    shape, typestr = tuple(described["shape"]), described["typestr"]
    address, read_only = described["data"]
    contiguous = _is_contiguous(shape, described.get("strides"), np.dtype(typestr).itemsize)
    stream = interface_stream(described)
    return DeviceArray(int(address or 0), shape, _interface_dtype(typestr), contiguous, bool(read_only), stream)


def _of_dlpack(what: str, value: Any, stream: int) -> DeviceArray:
    try:
        taken = take_dlpack(value, stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as err:
        raise InputError(
            f"{what}: a {type(value).__name__} cannot be used where it is: {err}; pass an array of PyTorch, CuPy, or "
            "another with the CUDA array interface"
        ) from err
    contiguous = _is_contiguous(taken.shape, taken.strides, 1)
    return DeviceArray(taken.address, taken.shape, taken.dtype, contiguous, taken.read_only, held=taken.capsule)


def _interface_dtype(text: str) -> str:
    try:
        return DataType.from_numpy(np.dtype(text)).value
    except (ConfigError, TypeError):
        return text


def _is_contiguous(shape: Sequence[int], strides: Sequence[int] | None, item: int) -> bool:
    """``item``: the stride of neighbours. Where an axis has one element, its stride says nothing."""
    if strides is None or 0 in shape:
        return True
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != item:
            return False
        item *= size
    return True
