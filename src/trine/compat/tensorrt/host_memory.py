"""NumPy arrays over integer addresses, refused where the memory is known to be wrong."""

from __future__ import annotations

import math

import numpy as np

from trine.compat.memory import view
from trine.dtypes import DataType
from trine.errors import InputError

__all__ = ["array_at", "nbytes_of"]


def nbytes_of(dtype: DataType, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor takes; sub-byte types are one element a byte, as their arrays are."""
    return math.prod(shape) * int(dtype.numpy.itemsize)


def array_at(address: int, dtype: DataType, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The tensor at ``address``, without a copy.

    Raises InputError for an address that is no memory, was freed, or whose block is too small.
    """
    nbytes = nbytes_of(dtype, shape)
    if nbytes == 0:
        return np.empty(shape, dtype.numpy)
    try:
        found = view(address, nbytes)
    except InputError as err:
        raise InputError(f"{what}, {dtype.value} {shape}: {err}") from err
    if found.ctypes.data % dtype.numpy.alignment:
        raise InputError(f"{what}: the address {address:#x} is not aligned for {dtype.value}")
    return found.view(dtype.numpy).reshape(shape)
