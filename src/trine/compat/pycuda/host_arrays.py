"""Host arrays for copies to and from the device: page-locked, aligned and managed ones."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from trine.compat.pycuda.allocations import Owner, allocate_block
from trine.compat.pycuda.contexts import current_context
from trine.compat.pycuda.errors import failed

__all__ = [
    "AlignedHostAllocation",
    "HostAllocation",
    "ManagedAllocation",
    "PagelockedHostAllocation",
    "aligned_empty",
    "aligned_empty_like",
    "aligned_zeros",
    "aligned_zeros_like",
    "managed_empty",
    "managed_zeros",
    "pagelocked_empty",
    "pagelocked_empty_like",
    "pagelocked_zeros",
    "pagelocked_zeros_like",
]


class _HostAllocation(Owner):
    """Host memory that one NumPy array lies in; the array's ``base``."""

    _call = "cuMemFreeHost"

    def __init__(self, call: str, nbytes: int, flags: int = 0) -> None:
        super().__init__(allocate_block(call, nbytes), nbytes)
        self._flags = int(flags)

    def get_device_pointer(self) -> int:
        """The address at which the device sees it: the same one."""
        return self._require_alive()

    def get_flags(self) -> int:
        """The ``mem_flags`` that it was made with."""
        return self._flags

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> np.ndarray:
        """An array over the whole block, which keeps this object alive as its ``base``."""
        step, steps = dtype.itemsize, []
        for dim in reversed(shape) if order == "C" else shape:
            steps.append(step)
            step *= dim
        self.__array_interface__ = {
            "version": 3,
            "data": (self._address, False),
            "shape": shape,
            "strides": tuple(reversed(steps)) if order == "C" else tuple(steps),
            "typestr": dtype.str,
        }
        array = np.asarray(self)
        return array if array.dtype == dtype else array.view(dtype)  # bfloat16 comes back as two plain bytes


class PagelockedHostAllocation(_HostAllocation):
    """The ``base`` of the arrays of ``pagelocked_empty``."""


HostAllocation = PagelockedHostAllocation  # its older name


class AlignedHostAllocation(_HostAllocation):
    """The ``base`` of the arrays of ``aligned_empty``."""


class ManagedAllocation(_HostAllocation):
    """The ``base`` of the arrays of ``managed_empty``."""

    def __int__(self) -> int:
        return self._require_alive()

    __index__ = __int__

    def attach(self, mem_flags: int, stream: Any = None) -> None:
        """Nothing to do: the memory is visible to everything in this process."""
        self._require_alive()


def _array(kind: type[_HostAllocation], call: str, shape: Any, dtype: Any, order: str, flags: int) -> np.ndarray:
    """A zeroed array whose memory a new ``kind`` owns. An array without elements owns none."""
    if order not in ("C", "F"):
        raise failed(call, "invalid argument", f"order must be 'C' or 'F', got {order!r}")
    dims = tuple(int(dim) for dim in shape) if np.iterable(shape) else (int(shape),)
    if min(dims, default=0) < 0:
        raise failed(call, "invalid argument", f"a shape has no negative dimension, got {dims}; give the real size")
    model = np.dtype(dtype)
    if model.hasobject:
        raise TypeError(f"{call}: expected a dtype of plain numbers, got {model}")
    nbytes = int(np.prod(dims, dtype=object)) * model.itemsize
    if not nbytes:
        return np.empty(dims, model, order=order)  # type: ignore[call-overload,no-any-return]
    return kind(call, nbytes, flags).array(dims, model, order)


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    """A host array for fast copies; page-locked where there is a GPU. Its ``base`` has ``free()``."""
    current_context("cuMemHostAlloc")
    return _array(PagelockedHostAllocation, "cuMemHostAlloc", shape, dtype, order, mem_flags)


def pagelocked_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    """``pagelocked_empty``, filled with zeros."""
    return pagelocked_empty(shape, dtype, order, mem_flags)  # fresh pages are zeros


def pagelocked_empty_like(array: np.ndarray, mem_flags: int = 0) -> np.ndarray:
    """``pagelocked_empty`` of the shape, dtype and order of ``array``."""
    return pagelocked_empty(array.shape, array.dtype, _order(array), mem_flags)


def pagelocked_zeros_like(array: np.ndarray, mem_flags: int = 0) -> np.ndarray:
    """``pagelocked_zeros`` of the shape, dtype and order of ``array``."""
    return pagelocked_zeros(array.shape, array.dtype, _order(array), mem_flags)


def aligned_empty(shape: Any, dtype: Any, order: str = "C", alignment: int = 4096) -> np.ndarray:
    """A host array whose memory starts at a multiple of ``alignment``, which may be up to a page."""
    if not 0 < alignment <= mmap.PAGESIZE or alignment & (alignment - 1):
        raise failed(
            "aligned_empty",
            "invalid argument",
            f"alignment must be a power of two up to {mmap.PAGESIZE}, got {alignment}",
        )
    return _array(AlignedHostAllocation, "aligned_empty", shape, dtype, order, 0)


def aligned_zeros(shape: Any, dtype: Any, order: str = "C", alignment: int = 4096) -> np.ndarray:
    """``aligned_empty``, filled with zeros."""
    return aligned_empty(shape, dtype, order, alignment)


def aligned_empty_like(array: np.ndarray, alignment: int = 4096) -> np.ndarray:
    """``aligned_empty`` of the shape, dtype and order of ``array``."""
    return aligned_empty(array.shape, array.dtype, _order(array), alignment)


def aligned_zeros_like(array: np.ndarray, alignment: int = 4096) -> np.ndarray:
    """``aligned_zeros`` of the shape, dtype and order of ``array``."""
    return aligned_zeros(array.shape, array.dtype, _order(array), alignment)


def managed_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    """An array that host and device both see, which on the CPU is any; ``mem_flags`` as ``mem_attach_flags``."""
    current_context("cuMemAllocManaged")
    return _array(ManagedAllocation, "cuMemAllocManaged", shape, dtype, order, mem_flags)


def managed_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    """``managed_empty``, filled with zeros."""
    return managed_empty(shape, dtype, order, mem_flags)


def _order(array: np.ndarray) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
