"""Copies between host and device memory, and fills. Sizes are checked; what does not fit is refused."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from trine.compat import memory
from trine.compat.pycuda.allocations import DeviceAllocation, mem_alloc
from trine.compat.pycuda.contexts import current_context
from trine.compat.pycuda.errors import failed
from trine.compat.pycuda.streams import Stream
from trine.errors import InputError

__all__ = [
    "from_device",
    "from_device_like",
    "memcpy_dtod",
    "memcpy_dtod_async",
    "memcpy_dtoh",
    "memcpy_dtoh_async",
    "memcpy_htod",
    "memcpy_htod_async",
    "memset_d2d8",
    "memset_d8",
    "memset_d16",
    "memset_d32",
    "to_device",
]


def memcpy_htod(dest: Any, src: Any) -> None:
    """All bytes of the buffer ``src`` to the device memory ``dest``, an address or a DeviceAllocation.

    Raises LogicError when ``dest`` is smaller, or was freed; ValueError when ``src`` is not contiguous.
    """
    _htod("cuMemcpyHtoD", dest, src)


def memcpy_htod_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    """``memcpy_htod`` in the order of ``stream``."""
    _on(stream, "cuMemcpyHtoDAsync")
    _htod("cuMemcpyHtoDAsync", dest, src)


def memcpy_dtoh(dest: Any, src: Any) -> None:
    """Fills the buffer ``dest`` from the device memory ``src``.

    Raises LogicError when ``src`` is smaller, or was freed; ValueError when ``dest`` is not contiguous or read-only.
    """
    _dtoh("cuMemcpyDtoH", dest, src)


def memcpy_dtoh_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    """``memcpy_dtoh`` in the order of ``stream``."""
    _on(stream, "cuMemcpyDtoHAsync")
    _dtoh("cuMemcpyDtoHAsync", dest, src)


def memcpy_dtod(dest: Any, src: Any, size: int) -> None:
    """``size`` bytes from the device memory ``src`` to ``dest``."""
    _dtod("cuMemcpyDtoD", dest, src, size)


def memcpy_dtod_async(dest: Any, src: Any, size: int, stream: Stream | None = None) -> None:
    """``memcpy_dtod`` in the order of ``stream``."""
    _on(stream, "cuMemcpyDtoDAsync")
    _dtod("cuMemcpyDtoDAsync", dest, src, size)


def memset_d8(dest: Any, data: int, count: int) -> None:
    """``count`` bytes at ``dest`` become ``data``."""
    _memset("cuMemsetD8", dest, data, count, np.uint8)


def memset_d16(dest: Any, data: int, count: int) -> None:
    """``count`` 16-bit numbers at ``dest`` become ``data``."""
    _memset("cuMemsetD16", dest, data, count, np.uint16)


def memset_d32(dest: Any, data: int, count: int) -> None:
    """``count`` 32-bit numbers at ``dest`` become ``data``."""
    _memset("cuMemsetD32", dest, data, count, np.uint32)


def memset_d2d8(dest: Any, pitch: int, data: int, width: int, height: int) -> None:
    """The first ``width`` bytes of each of ``height`` rows, ``pitch`` bytes apart, become ``data``."""
    call = "cuMemsetD2D8"
    if not 0 <= width <= pitch:
        raise failed(call, "invalid argument", f"a row of {width} bytes does not fit a pitch of {pitch}")
    if width and height:
        rows = _device(call, dest, pitch * (int(height) - 1) + width)
        for row in range(int(height)):
            rows[row * pitch : row * pitch + width] = _in_range(call, data, np.uint8)


def to_device(buffer: Any) -> DeviceAllocation:
    """New device memory with the bytes of ``buffer``."""
    source = _host("cuMemcpyHtoD", buffer, writeable=False)
    allocation = mem_alloc(source.nbytes)
    memcpy_htod(allocation, buffer)
    return allocation


def from_device(devptr: Any, shape: Sequence[int] | int, dtype: Any, order: str = "C") -> np.ndarray:
    """A new array of ``shape`` and ``dtype`` with the bytes at ``devptr``."""
    array = np.empty(shape, dtype, order=order)  # type: ignore[call-overload]
    memcpy_dtoh(array, devptr)
    return array  # type: ignore[no-any-return]


def from_device_like(devptr: Any, other_ary: np.ndarray) -> np.ndarray:
    """``from_device`` with the shape, dtype and order of ``other_ary``."""
    array = np.empty_like(other_ary)
    memcpy_dtoh(array, devptr)
    return array


def _htod(call: str, dest: Any, src: Any) -> None:
    source = _host(call, src, writeable=False)
    _device(call, dest, source.nbytes)[:] = source


def _dtoh(call: str, dest: Any, src: Any) -> None:
    target = _host(call, dest, writeable=True)
    target[:] = _device(call, src, target.nbytes)


def _dtod(call: str, dest: Any, src: Any, size: int) -> None:
    if size < 0:
        raise failed(call, "invalid argument", f"cannot copy {size} bytes")
    _device(call, dest, size)[:] = _device(call, src, size)


def _memset(call: str, dest: Any, data: int, count: int, kind: type[np.unsignedinteger[Any]]) -> None:
    if count < 0:
        raise failed(call, "invalid argument", f"cannot fill {count} elements")
    target = _device(call, dest, int(count) * np.dtype(kind).itemsize)
    if _address(call, dest) % np.dtype(kind).itemsize:
        raise failed(call, "invalid argument", f"the address is no multiple of {np.dtype(kind).itemsize}")
    target.view(kind)[:] = _in_range(call, data, kind)


def _in_range(call: str, data: int, kind: type[np.unsignedinteger[Any]]) -> int:
    if not 0 <= data <= np.iinfo(kind).max:
        raise failed(call, "invalid argument", f"{data} is no {np.dtype(kind).name}")
    return int(data)


def _on(stream: Stream | None, call: str) -> None:
    if stream is None:
        return
    if not isinstance(stream, Stream):
        raise TypeError(f"{call}: expected a Stream of trine.compat.pycuda or None, got {type(stream).__name__}")
    stream.require_alive(call)


def _address(call: str, pointer: Any) -> int:
    """The address that a DeviceAllocation, an int or anything with ``get_pointer`` stands for."""
    is_array = hasattr(pointer, "shape") and not isinstance(pointer, np.generic)
    if is_array or not hasattr(pointer, "__index__"):
        raise TypeError(
            f"{call}: expected device memory, as DeviceAllocation or int, got {type(pointer).__name__}; "
            "a copy's destination comes first"
        )
    return operator.index(pointer)


def _device(call: str, pointer: Any, nbytes: int) -> np.ndarray:
    """``nbytes`` of device memory as bytes. Raises LogicError where that is not usable memory."""
    current_context(call)
    address = _address(call, pointer)
    try:
        return memory.view(address, nbytes)
    except InputError as err:
        raise failed(call, "invalid argument", str(err)) from err


def _host(call: str, buffer: Any, *, writeable: bool) -> np.ndarray:
    """The bytes of a host buffer, in the order of its memory; over the same memory."""
    if isinstance(buffer, np.ndarray):
        buffer = np.asarray(buffer)  # a matrix, for one, would stay two-dimensional
        if not (buffer.flags.c_contiguous or buffer.flags.f_contiguous):
            raise ValueError(
                f"{call}: the array of shape {buffer.shape} is not contiguous; copy it "
                "with numpy.ascontiguousarray first"
            )
        if writeable and not buffer.flags.writeable:
            raise ValueError(f"{call}: the array is read-only; give one that can be written")
        if buffer.dtype.hasobject:
            raise TypeError(f"{call}: an array of Python objects has no bytes to copy; convert it with astype")
        flat = buffer if buffer.flags.c_contiguous else buffer.T
        found: np.ndarray = flat.reshape(-1).view(np.uint8)
    else:
        found = _buffer_bytes(call, buffer, writeable)
    reason = memory.refusal(found.ctypes.data, found.nbytes) if found.nbytes else None
    if reason is not None:
        raise failed(call, "invalid argument", f"the host array cannot be used: {reason}")
    return found


def _buffer_bytes(call: str, buffer: Any, writeable: bool) -> np.ndarray:
    try:
        seen = memoryview(buffer)
    except TypeError as err:
        raise TypeError(
            f"{call}: expected a NumPy array or another buffer on the host, got {type(buffer).__name__}; "
            "pass numpy.asarray of it"
        ) from err
    if not seen.contiguous:
        raise ValueError(f"{call}: the buffer is not contiguous; copy it first")
    if writeable and seen.readonly:
        raise ValueError(f"{call}: the {type(buffer).__name__} is read-only; give one that can be written")
    return np.frombuffer(seen, np.uint8) if seen.nbytes else np.empty(0, np.uint8)
