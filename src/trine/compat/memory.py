"""Host memory with an identity: integer addresses that can be checked before anything is read or written there.

TensorRT programs pass memory around as integers. A wrong one is an error of the driver on a GPU; on the CPU it would be
a crash. So the memory that ``trine.compat`` hands out is known here by its address, and ``refusal`` says why a buffer
must not be used. Memory of others (a PyTorch tensor's ``data_ptr()``, a NumPy array's ``ctypes.data``) is taken on
trust as long as the operating system has it mapped.

A freed block's address stays reserved until ``QUARANTINED`` more have been freed, its pages given back at once: so a
use after free is recognised, and cannot meet somebody else's data at the same place.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.errors import InputError

__all__ = ["QUARANTINED", "allocate", "live_bytes", "refusal", "release", "release_soon", "total_bytes", "view"]

QUARANTINED = 256  # freed blocks whose addresses are still known; each costs address space and one kernel record

_ADDRESS_LIMIT = 1 << 64


@dataclass(frozen=True, eq=False)
class _Block:
    """``nbytes`` of memory at ``address``. ``array`` keeps it mapped for as long as anything looks at it."""

    address: int
    nbytes: int
    pages: mmap.mmap
    array: np.ndarray


_lock = threading.Lock()  # not re-entrant: see release_soon
_live: dict[int, _Block] = {}
_freed: dict[int, _Block] = {}  # in quarantine, the oldest first
_starts: list[int] = []  # addresses of both, sorted
_pending: deque[int] = deque()


def allocate(nbytes: int) -> int:
    """The address of ``nbytes`` zeroed bytes, aligned to a page.

    Raises InputError for a size below 1, and the built-in MemoryError where there is not that much.
    """
    if nbytes < 1:
        raise InputError(f"cannot allocate {nbytes} bytes; ask for at least 1")
    total = total_bytes()
    if total is not None and nbytes > total:
        raise MemoryError(f"cannot allocate {nbytes} bytes: this machine has {total}")
    try:
        pages = _map(nbytes)
    except (OSError, OverflowError) as err:
        raise MemoryError(f"cannot allocate {nbytes} bytes: {err}") from err
    array = np.frombuffer(pages, np.uint8, nbytes)
    block = _Block(array.ctypes.data, nbytes, pages, array)
    with _locked():
        _live[block.address] = block
        bisect.insort(_starts, block.address)
    return block.address


def release(address: int) -> None:
    """Frees the block that starts at ``address``.

    Raises InputError when it was freed before, is not the start of a block, or is not memory of ``allocate``.
    """
    with _locked():
        _free(address)


def release_soon(address: int) -> None:
    """``release`` for finalizers, which Python may run in the middle of anything, of this module too.

    The block is freed now, or as soon as the call that is using this module's tables is done with them.
    """
    _pending.append(address)
    _free_pending()


def refusal(address: int, nbytes: int) -> str | None:
    """Why ``nbytes`` at ``address`` must not be read or written; None when nothing speaks against it.

    For a block of ``allocate``: it was freed, or the bytes go past its end. For other addresses: no memory is mapped
    there; whether mapped memory of others is long enough, only its owner knows.
    """
    with _locked():
        return _refusal(address, nbytes)


def view(address: int, nbytes: int) -> np.ndarray:
    """The bytes at ``address`` as a writeable uint8 array of shape (nbytes,).

    Of memory from ``allocate`` it keeps the pages mapped, though not from being freed. Raises InputError with the
    ``refusal``.
    """
    with _locked():
        reason = _refusal(address, nbytes)
        block = None if reason is not None else _block_around(address)
    if reason is not None:
        raise InputError(f"the buffer at {address:#x} cannot be used: {reason}")
    if not nbytes:
        return np.empty(0, np.uint8)
    if block is not None:
        offset = address - block.address
        return block.array[offset : offset + nbytes]
    return np.frombuffer(memoryview((ctypes.c_uint8 * nbytes).from_address(address)), np.uint8)


def live_bytes() -> int:
    """How many bytes are allocated and not freed."""
    with _locked():
        return sum(block.nbytes for block in _live.values())


def total_bytes() -> int | None:
    """This machine's memory; None where the system does not say."""
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Holds the tables; afterwards frees what finalizers asked for meanwhile."""
    with _lock:
        yield
    _free_pending()


def _free_pending() -> None:
    while _pending and _lock.acquire(blocking=False):
        try:
            while _pending:
                _free(_pending.popleft())
        finally:
            _lock.release()


def _map(nbytes: int) -> mmap.mmap:
    """Fresh zeroed pages of this process alone: after a fork, writes of one side are not seen by the other."""
    if sys.platform == "win32":
        return mmap.mmap(-1, nbytes)
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _free(address: int) -> None:
    """``release``; the lock is held."""
    block = _live.pop(address, None)
    if block is None:
        raise InputError(f"cannot free the address {address:#x}: {_why_not_live(address)}")
    _freed[address] = block
    if hasattr(block.pages, "madvise"):  # not on Windows: there the pages stay until the quarantine ends
        block.pages.madvise(mmap.MADV_DONTNEED)
    if len(_freed) > QUARANTINED:
        oldest = next(iter(_freed))
        del _freed[oldest]
        del _starts[bisect.bisect_left(_starts, oldest)]


def _refusal(address: int, nbytes: int) -> str | None:
    """``refusal``; the lock is held."""
    if not 0 <= address < _ADDRESS_LIMIT:
        return f"{address} is no address"
    if nbytes < 0:
        return f"{nbytes} is no number of bytes"
    if address < mmap.PAGESIZE:  # no system maps the first page: this is a forgotten address
        return "it is a null pointer" if address == 0 else "it lies in the first page, where no memory is"
    block = _block_around(address)
    if block is None:
        mapped = not nbytes or _is_mapped(address, nbytes)
        return None if mapped else f"no memory is mapped there for {nbytes} bytes"
    if block.address in _freed:
        return f"its memory ({block.nbytes} bytes at {block.address:#x}) was freed"
    offset = address - block.address
    if offset + nbytes > block.nbytes:
        start = f" from byte {offset} on" if offset else ""
        return f"{nbytes} bytes{start} do not fit the {block.nbytes} bytes at {block.address:#x}"
    return None


def _block_around(address: int) -> _Block | None:
    """The live or quarantined block that ``address`` lies in, or in whose last page; the lock is held."""
    index = bisect.bisect_right(_starts, address) - 1
    if index < 0:
        return None
    start = _starts[index]
    block = _live.get(start) or _freed[start]
    # The rest of the last page is nobody's: an address there has run past the block's end.
    end = start + -(-block.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    return block if address < end else None


def _why_not_live(address: int) -> str:
    block = _block_around(address)
    if block is None:
        return "no memory was allocated there, or it was freed long ago"
    if block.address in _freed:
        return f"its memory ({block.nbytes} bytes at {block.address:#x}) was freed before"
    return f"it lies inside the {block.nbytes} bytes at {block.address:#x}; free that address"


def _load_mincore() -> Any:
    """The system call that says whether pages are mapped; None where there is none."""
    if sys.platform == "win32":
        return None
    function = getattr(ctypes.CDLL(None), "mincore", None)
    if function is not None:
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
        function.restype = ctypes.c_int
    return function


_mincore = _load_mincore()


def _is_mapped(address: int, nbytes: int) -> bool:
    """Whether every page from ``address`` on, for ``nbytes``, is mapped; True where the system cannot say."""
    if _mincore is None:
        return True
    first = address // mmap.PAGESIZE * mmap.PAGESIZE
    pages = -(-(address + nbytes - first) // mmap.PAGESIZE)
    total = total_bytes()
    if first + pages * mmap.PAGESIZE > _ADDRESS_LIMIT or (total is not None and nbytes > 16 * total):
        return False  # absurd; and it bounds the answer's buffer
    return int(_mincore(first, pages * mmap.PAGESIZE, ctypes.create_string_buffer(pages))) == 0
