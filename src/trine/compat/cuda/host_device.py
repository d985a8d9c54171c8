"""What both of CUDA's interfaces do, on the host: memory by address, copies, streams and events with handles.

Everything raises ``Refused`` where CUDA would answer with an error code.
"""

from __future__ import annotations

import builtins
import itertools
import operator
import time
from typing import Any

import numpy as np

from trine.compat import memory
from trine.compat.cuda.answers import Refused
from trine.errors import InputError

__all__ = ["Handle", "allocate", "copy", "events", "fill", "free", "memory_info", "require_device", "streams"]


class Handle:
    """An opaque pointer: ``int()`` of it is what TensorRT takes. 0 is none, or the default stream."""

    def __init__(self, init_value: int = 0, void_ptr: int = 0) -> None:
        self._value = int(init_value)

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def getPtr(self) -> int:  # noqa: N802  # cuda-python's name
        """The handle as a number: nothing is kept behind a pointer to it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle | int) and int(other) == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return self._value != 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._value:#x}>"


def require_device(device: Any) -> None:
    """There is one device, number 0."""
    if int(device) != 0:
        raise Refused(Refused.INVALID_DEVICE, f"device {int(device)}: the only device is 0, the CPU")


def memory_info() -> tuple[int, int]:
    """Free and total bytes; 0 where the system does not say."""
    total = memory.total_bytes() or 0
    return max(total - memory.live_bytes(), 0), total


def allocate(nbytes: int) -> int:
    """The address of ``nbytes`` bytes; 0 for none of them."""
    if nbytes < 0:
        raise Refused(Refused.INVALID_VALUE, f"cannot allocate {nbytes} bytes")
    if nbytes == 0:
        return 0
    try:
        return memory.allocate(int(nbytes))
    except builtins.MemoryError as err:
        raise Refused(Refused.OUT_OF_MEMORY, str(err)) from err


def free(pointer: Any) -> None:
    """Free what ``allocate`` gave. A null pointer is no error, as in C."""
    address = _address(pointer)
    if not address:
        return
    try:
        memory.release(address)
    except InputError as err:
        raise Refused(Refused.INVALID_VALUE, str(err)) from err


def copy(target: Any, source: Any, nbytes: int) -> None:
    """``nbytes`` from ``source`` to ``target``: addresses, or buffers as NumPy's arrays are."""
    if nbytes < 0:
        raise Refused(Refused.INVALID_VALUE, f"cannot copy {nbytes} bytes")
    if nbytes:
        _bytes_at(target, int(nbytes), "the destination")[:] = _bytes_at(source, int(nbytes), "the source")


def fill(pointer: Any, value: int, count: int, kind: Any = np.uint8) -> None:
    """``count`` elements at ``pointer`` become ``value``, of which the lowest bits of that type count."""
    itemsize = np.dtype(kind).itemsize
    if count:
        target = _bytes_at(pointer, int(count) * itemsize, "the memory")
        target.view(kind)[:] = int(value) & ((1 << 8 * itemsize) - 1)


def _address(pointer: Any) -> int:
    if pointer is None:
        return 0
    try:
        return operator.index(pointer)
    except TypeError:
        return int(pointer)


def _bytes_at(place: Any, nbytes: int, what: str) -> np.ndarray:
    if isinstance(place, bytes | bytearray | memoryview | np.ndarray):
        found = memoryview(place).cast("B") if not isinstance(place, np.ndarray) else place
        if isinstance(found, np.ndarray) and not found.flags.c_contiguous:
            raise Refused(Refused.INVALID_VALUE, f"{what} is an array that is not contiguous")
        if found.nbytes < nbytes:
            raise Refused(Refused.INVALID_VALUE, f"{what} has {found.nbytes} bytes, and {nbytes} were to be copied")
        flat = found.reshape(-1).view(np.uint8) if isinstance(found, np.ndarray) else np.frombuffer(found, np.uint8)
        return flat[:nbytes]
    try:
        return memory.view(_address(place), nbytes)
    except InputError as err:
        raise Refused(Refused.INVALID_VALUE, f"{what}: {err}") from err


class _Handles:
    """Handles in use: numbers that look like pointers, and are never given twice."""

    what = "handle"

    def __init__(self, first: int) -> None:
        self._numbers = itertools.count(first, 0x100)
        self._live: dict[int, int | None] = {}

    def create(self) -> int:
        """A new one."""
        number = next(self._numbers)
        self._live[number] = None
        return number

    def destroy(self, handle: Any) -> None:
        """It is used no more."""
        self.require(handle)
        self._live.pop(int(handle), None)

    def require(self, handle: Any) -> int:
        """The number, if it is in use."""
        number = 0 if handle is None else int(handle)
        if number not in self._live:
            raise Refused(Refused.INVALID_HANDLE, f"the {self.what} {number:#x} was destroyed, or never created")
        return number


class Streams(_Handles):
    """Queues of work, always empty: each call does its work before it returns."""

    what = "stream"

    def require(self, handle: Any) -> int:
        """The number. 0, 1 and 2 are CUDA's default streams; others' streams, such as pycuda's, are theirs to check."""
        number = 0 if handle is None else int(handle)
        ours = 0x6_0000_0000 <= number < 0x7_0000_0000
        return super().require(number) if ours else number


class Events(_Handles):
    """Moments: the time between two of them is how long the work between them took."""

    what = "event"

    def record(self, handle: Any) -> None:
        """Now, when all work before is done."""
        self._live[self.require(handle)] = time.perf_counter_ns()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two that were recorded."""
        begin, finish = self._live[self.require(start)], self._live[self.require(end)]
        if begin is None or finish is None:
            raise Refused(Refused.INVALID_HANDLE, "an event was never recorded")
        return (finish - begin) / 1e6


streams = Streams(0x6_0000_0000)
events = Events(0x7_0000_0000)
