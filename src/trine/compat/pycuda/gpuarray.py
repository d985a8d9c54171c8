"""``pycuda.gpuarray``: arrays that own device memory, as buffers of a TensorRT program. No arithmetic: it raises."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from trine.compat.pycuda.allocations import DeviceAllocation, mem_alloc
from trine.compat.pycuda.copies import memcpy_dtoh, memcpy_htod
from trine.errors import UnsupportedError

__all__ = ["GPUArray", "empty", "empty_like", "to_gpu", "zeros", "zeros_like"]


class GPUArray:
    """A C-ordered array in device memory, of ``shape`` (a number or a tuple of them) and ``dtype``."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape: tuple[int, ...] = (int(shape),) if np.ndim(shape) == 0 else tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize
        self.gpudata: DeviceAllocation = mem_alloc(max(self.nbytes, 1))  # an empty array has an address too

    @property
    def ptr(self) -> int:
        """The address. Raises LogicError once the memory was freed."""
        return int(self.gpudata)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    def set(self, ary: np.ndarray) -> None:
        """Copies ``ary`` into it. Raises ValueError unless size and dtype are the same."""
        self._require_like(ary)
        if self.size:
            memcpy_htod(self.gpudata, np.ascontiguousarray(ary))

    def get(self, ary: np.ndarray | None = None) -> np.ndarray:
        """A copy in host memory, or ``ary`` with the values copied into it.

        Raises:
            ValueError: ``ary`` has another size or dtype, or is not C-contiguous.
        """
        out = np.empty(self.shape, self.dtype) if ary is None else ary
        self._require_like(out)
        if not out.flags.c_contiguous:
            raise ValueError("GPUArray.get: the array to fill is not C-contiguous; give it np.ascontiguousarray's")
        if self.size:
            memcpy_dtoh(out, self.gpudata)
        return out

    def _require_like(self, ary: np.ndarray) -> None:
        if ary.size != self.size or ary.dtype != self.dtype:
            raise ValueError(
                f"GPUArray: got {ary.dtype} {ary.shape}, wanted {self.dtype} {self.shape}; cast or reshape it"
            )

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def _no_arithmetic(self, *_: object) -> NoReturn:
        raise UnsupportedError("GPUArray: trine computes nothing on these arrays; get() the values and use NumPy")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_arithmetic
    __getitem__ = __setitem__ = __neg__ = _no_arithmetic


def empty(shape: Any, dtype: Any = np.float64) -> GPUArray:
    """An array whose values are not set."""
    return GPUArray(shape, dtype)


def zeros(shape: Any, dtype: Any = np.float64) -> GPUArray:
    """An array of zeros."""
    array = GPUArray(shape, dtype)
    array.set(np.zeros(array.shape, array.dtype))
    return array


def to_gpu(ary: np.ndarray) -> GPUArray:
    """An array with the values of ``ary``."""
    array = GPUArray(ary.shape, ary.dtype)
    array.set(ary)
    return array


def empty_like(other: Any) -> GPUArray:
    """An array of another's shape and dtype, values not set."""
    return GPUArray(other.shape, other.dtype)


def zeros_like(other: Any) -> GPUArray:
    """An array of zeros of another's shape and dtype."""
    return zeros(other.shape, other.dtype)
