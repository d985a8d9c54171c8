"""Device memory: objects that own a block, and pointers to one."""

from __future__ import annotations

import builtins
import weakref
from pathlib import Path

import numpy as np

from trine.compat import memory
from trine.compat.pycuda import errors
from trine.compat.pycuda.contexts import current_context
from trine.compat.pycuda.errors import LogicError, failed
from trine.errors import InputError

__all__ = [
    "DeviceAllocation",
    "Owner",
    "PointerHolderBase",
    "allocate_block",
    "mem_alloc",
    "mem_alloc_like",
    "mem_alloc_pitch",
    "mem_get_info",
]

_PITCH = 512  # what rows are padded to, as on GPUs of the last decade


def allocate_block(call: str, nbytes: int) -> int:
    """The address of ``nbytes`` bytes. Raises LogicError below 1, MemoryError where there is not that much."""
    if nbytes < 1:
        raise failed(call, "invalid argument", f"cannot allocate {nbytes} bytes; ask for at least 1")
    try:
        return memory.allocate(nbytes)
    except builtins.MemoryError as err:
        raise errors.MemoryError(f"{call} failed: out of memory - {err}") from err


class Owner:
    """Owns one block: freed by ``free``, or when the object is collected."""

    _call = "cuMemFree"

    def __init__(self, address: int, nbytes: int) -> None:
        self._address = address
        self._nbytes = nbytes
        self._bytes = memory.view(address, nbytes)  # keeps the pages mapped for arrays that outlive free()
        self._finalizer = weakref.finalize(self, memory.release_soon, address)
        self._finalizer.atexit = False

    def free(self) -> None:
        """Frees the memory now. Raises LogicError the second time."""
        if not self._finalizer.alive:
            raise LogicError(f"{self._name}::free failed: invalid resource handle - it was freed before")
        self._finalizer.detach()
        try:
            memory.release(self._address)
        except InputError as err:
            raise failed(self._call, "invalid argument", str(err)) from err

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _require_alive(self) -> int:
        if not self._finalizer.alive:
            raise LogicError(
                f"{self._name} failed: invalid resource handle - its {self._nbytes} bytes at {self._address:#x} were "
                "freed; keep it alive for as long as its address is in use"
            )
        return self._address

    def __repr__(self) -> str:
        freed = "" if self._finalizer.alive else ", freed"
        return f"<trine.compat.pycuda.{self._name}: {self._nbytes} bytes at {self._address:#x}{freed}>"


class PointerHolderBase:
    """Base for objects of other libraries that stand for device memory: they define ``get_pointer``."""

    def get_pointer(self) -> int:
        """The address."""
        raise NotImplementedError(f"{type(self).__name__} must define get_pointer()")

    def __int__(self) -> int:
        return int(self.get_pointer())

    __index__ = __int__

    def as_buffer(self, size: int, offset: int = 0) -> memoryview:
        """``size`` bytes from ``offset`` on, writeable. Raises LogicError where the memory is not usable."""
        return _as_buffer(int(self), size, offset)


class DeviceAllocation(Owner):
    """A piece of device memory. ``int()`` of it is the address. Freed when collected, or with its context."""

    def __init__(self, nbytes: int) -> None:
        context = current_context("cuMemAlloc")
        super().__init__(allocate_block("cuMemAlloc", nbytes), nbytes)
        context.own(self)

    def __int__(self) -> int:
        return self._require_alive()

    __index__ = __int__

    def as_buffer(self, size: int, offset: int = 0) -> memoryview:
        """``size`` bytes from ``offset`` on, writeable. Raises LogicError when that is past the end, or freed."""
        return _as_buffer(self._require_alive(), size, offset)

    def end(self) -> None:
        """Frees it if it is not: its context ends."""
        if self._finalizer.alive:
            self.free()


def _as_buffer(address: int, size: int, offset: int) -> memoryview:
    try:
        return memory.view(address + offset, size).data
    except InputError as err:
        raise failed("as_buffer", "invalid argument", str(err)) from err


def mem_alloc(bytes: int) -> DeviceAllocation:  # noqa: A002  # pycuda's name
    """``bytes`` of device memory. Raises LogicError below 1, MemoryError where there is not that much."""
    return DeviceAllocation(int(bytes))


def mem_alloc_like(array: np.ndarray) -> DeviceAllocation:
    """As much device memory as ``array`` has."""
    return mem_alloc(array.nbytes)


def mem_alloc_pitch(width: int, height: int, access_size: int) -> tuple[DeviceAllocation, int]:
    """Memory for ``height`` rows of ``width`` bytes, and how many bytes lie between the starts of two rows."""
    if access_size not in (4, 8, 16):
        raise failed("cuMemAllocPitch", "invalid argument", f"access_size must be 4, 8 or 16, got {access_size}")
    pitch = -(-int(width) // _PITCH) * _PITCH
    return mem_alloc(pitch * int(height)), pitch


def mem_get_info() -> tuple[int, int]:
    """(free, total) bytes of this machine's memory."""
    current_context("cuMemGetInfo")
    total = memory.total_bytes() or 0
    return _free_bytes(total), total


def _free_bytes(total: int) -> int:
    """What Linux says is available; elsewhere what is not allocated here."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        text = ""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return min(total, int(line.split()[1]) * 1024)
    return max(0, total - memory.live_bytes())
