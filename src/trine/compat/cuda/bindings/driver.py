"""CUDA's driver interface over host memory. Calls answer ``(CUresult, results...)``; ``cuInit`` comes first."""
# ruff: noqa: N802, N803, N816  # CUDA's names

from __future__ import annotations

import enum
import functools
import itertools
import threading
from typing import Any

import numpy as np

from trine.compat.cuda import host_device
from trine.compat.cuda.answers import Refused, answering, missing
from trine.compat.cuda.host_device import Handle, copy, events, fill, memory_info, require_device, streams
from trine.runtime.cpu.features import cpu_model, usable_cores


class CUresult(enum.IntEnum):
    """Error codes, with CUDA's numbers."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_NOT_SUPPORTED = 801
    CUDA_ERROR_UNKNOWN = 999


class CUdevice_attribute(enum.IntEnum):  # noqa: N801
    """The attributes that a CPU has, with CUDA's numbers; others are refused."""

    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
    CU_DEVICE_ATTRIBUTE_INTEGRATED = 18
    CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76


class CUdevice(Handle):
    """A device's number."""


class CUcontext(Handle):
    """A context's handle."""


class CUdeviceptr(Handle):
    """An address."""


class CUstream(Handle):
    """A stream's handle."""


class CUevent(Handle):
    """An event's handle."""


_call = functools.partial(answering, CUresult)
_initialized = threading.Event()
_current = threading.local()
_context_numbers = itertools.count(0x5000, 0x10)
_PRIMARY = 0x4000
_contexts: set[int] = set()


def _stack() -> list[int]:
    if not hasattr(_current, "stack"):
        _current.stack = []
    stack: list[int] = _current.stack
    return stack


def _require_init() -> None:
    if not _initialized.is_set():
        raise Refused(Refused.NOT_INITIALIZED, "call cuInit(0) first")


def _require_context() -> None:
    _require_init()
    if not _stack():
        raise Refused(Refused.INVALID_CONTEXT, "this thread has no current context; call cuCtxCreate first")


def _known(ctx: Any) -> int:
    number = int(ctx)
    if number not in _contexts:
        raise Refused(Refused.INVALID_CONTEXT, f"the context {number:#x} was destroyed, or never created")
    return number


# Errors, start and devices.


def cuGetErrorName(error: int) -> tuple[CUresult, bytes]:
    """The name of an error."""
    return CUresult.CUDA_SUCCESS, CUresult(error).name.encode()


def cuGetErrorString(error: int) -> tuple[CUresult, bytes]:
    """An error in words; the reason itself was logged by the call that answered it."""
    words = CUresult(error).name.removeprefix("CUDA_ERROR_").removeprefix("CUDA_")
    return CUresult.CUDA_SUCCESS, words.replace("_", " ").lower().encode()


@_call(0)
def cuInit(Flags: int) -> None:
    """Must come first."""
    if Flags:
        raise Refused(Refused.INVALID_VALUE, f"flags must be 0, got {Flags}")
    _initialized.set()


@_call(1)
def cuDriverGetVersion() -> int:
    """0: there is no driver."""
    return 0


@_call(1)
def cuDeviceGetCount() -> int:
    """1: the CPU."""
    _require_init()
    return 1


@_call(1)
def cuDeviceGet(ordinal: int) -> CUdevice:
    """The device number 0."""
    _require_init()
    require_device(ordinal)
    return CUdevice(0)


@_call(1)
def cuDeviceGetName(length: int, dev: Any) -> bytes:
    """The CPU's name, at most ``length`` bytes with the ending zero."""
    require_device(dev)
    return cpu_model().encode()[: max(length - 1, 0)] + b"\0"


@_call(1)
def cuDeviceTotalMem(dev: Any) -> int:
    """This machine's memory in bytes."""
    require_device(dev)
    return memory_info()[1]


@_call(1)
def cuDeviceGetAttribute(attrib: int, dev: Any) -> int:
    """One of the attributes that a CPU has."""
    require_device(dev)
    known = {16: usable_cores(), 18: 1, 41: 1, 75: 0, 76: 0}
    if int(attrib) not in known:
        raise Refused(Refused.INVALID_VALUE, f"the CPU has no attribute {attrib!r}")
    return known[int(attrib)]


# Contexts: for each thread a stack, the current one last.


@_call(1)
def cuCtxCreate(*arguments: Any) -> CUcontext:
    """A new context, made current: ``(flags, dev)``, or ``(params, flags, dev)`` as since CUDA 13."""
    if len(arguments) not in (2, 3):
        raise TypeError(f"cuCtxCreate takes (flags, dev) or (params, flags, dev), got {len(arguments)} arguments")
    _require_init()
    require_device(arguments[-1])
    number = next(_context_numbers)
    _contexts.add(number)
    _stack().append(number)
    return CUcontext(number)


@_call(0)
def cuCtxDestroy(ctx: Any) -> None:
    """End it. Memory stays until it is freed."""
    number = _known(ctx)
    _contexts.discard(number)
    if _stack() and _stack()[-1] == number:
        _stack().pop()


@_call(1)
def cuDevicePrimaryCtxRetain(dev: Any) -> CUcontext:
    """The context that a process shares."""
    _require_init()
    require_device(dev)
    _contexts.add(_PRIMARY)
    return CUcontext(_PRIMARY)


@_call(0)
def cuDevicePrimaryCtxRelease(dev: Any) -> None:
    """Nothing: it stays until the process ends."""
    require_device(dev)


@_call(0)
def cuCtxSetCurrent(ctx: Any) -> None:
    """Put it in the place of the current one; a null context leaves none."""
    stack = _stack()
    if stack:
        stack.pop()
    if ctx is not None and int(ctx):
        stack.append(_known(ctx))


@_call(1)
def cuCtxGetCurrent() -> CUcontext:
    """The current one, or a null context."""
    _require_init()
    return CUcontext(_stack()[-1] if _stack() else 0)


@_call(0)
def cuCtxPushCurrent(ctx: Any) -> None:
    """Make it current."""
    _stack().append(_known(ctx))


@_call(1)
def cuCtxPopCurrent() -> CUcontext:
    """Make the one before current again."""
    _require_context()
    return CUcontext(_stack().pop())


@_call(1)
def cuCtxGetDevice() -> CUdevice:
    """The device 0."""
    _require_context()
    return CUdevice(0)


@_call(0)
def cuCtxSynchronize() -> None:
    """Return at once: all work is done."""
    _require_context()


# Memory.


@_call(1)
def cuMemAlloc(bytesize: int) -> CUdeviceptr:
    """The address of ``bytesize`` bytes."""
    _require_context()
    if bytesize < 1:
        raise Refused(Refused.INVALID_VALUE, f"cannot allocate {bytesize} bytes")
    return CUdeviceptr(host_device.allocate(bytesize))


@_call(1)
def cuMemAllocAsync(bytesize: int, hStream: Any) -> CUdeviceptr:
    """The address of ``bytesize`` bytes."""
    _require_context()
    streams.require(hStream)
    return CUdeviceptr(host_device.allocate(bytesize))


@_call(1)
def cuMemAllocHost(bytesize: int) -> int:
    """The address of ``bytesize`` bytes."""
    _require_context()
    return host_device.allocate(bytesize)


@_call(1)
def cuMemHostAlloc(bytesize: int, Flags: int) -> int:
    """The address of ``bytesize`` bytes."""
    _require_context()
    return host_device.allocate(bytesize)


@_call(0)
def cuMemFree(dptr: Any) -> None:
    """Free it."""
    _require_init()
    host_device.free(dptr)


@_call(0)
def cuMemFreeAsync(dptr: Any, hStream: Any) -> None:
    """Free it."""
    streams.require(hStream)
    host_device.free(dptr)


@_call(0)
def cuMemFreeHost(p: Any) -> None:
    """Free it."""
    _require_init()
    host_device.free(p)


@_call(2)
def cuMemGetInfo() -> tuple[int, int]:
    """Free and total bytes."""
    _require_context()
    return memory_info()


@_call(0)
def _copy(dst: Any, src: Any, ByteCount: int) -> None:
    """Copy ``ByteCount`` bytes."""
    _require_context()
    copy(dst, src, ByteCount)


@_call(0)
def _copy_async(dst: Any, src: Any, ByteCount: int, hStream: Any) -> None:
    """Copy ``ByteCount`` bytes, in a stream's order."""
    _require_context()
    streams.require(hStream)
    copy(dst, src, ByteCount)


cuMemcpy = cuMemcpyHtoD = cuMemcpyDtoH = cuMemcpyDtoD = _copy
cuMemcpyAsync = cuMemcpyHtoDAsync = cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = _copy_async


@_call(0)
def cuMemsetD8(dstDevice: Any, uc: int, N: int) -> None:
    """``N`` bytes become ``uc``."""
    _require_context()
    fill(dstDevice, uc, N)


@_call(0)
def cuMemsetD32(dstDevice: Any, ui: int, N: int) -> None:
    """``N`` 32-bit numbers become ``ui``."""
    _require_context()
    fill(dstDevice, ui, N, np.uint32)


@_call(0)
def cuMemsetD8Async(dstDevice: Any, uc: int, N: int, hStream: Any) -> None:
    """``N`` bytes become ``uc``, in a stream's order."""
    _require_context()
    streams.require(hStream)
    fill(dstDevice, uc, N)


# Streams and events.


@_call(1)
def cuStreamCreate(Flags: int) -> CUstream:
    """A new stream."""
    _require_context()
    return CUstream(streams.create())


@_call(0)
def cuStreamDestroy(hStream: Any) -> None:
    """It is used no more."""
    streams.destroy(hStream)


@_call(0)
def cuStreamSynchronize(hStream: Any) -> None:
    """Return at once: all work is done."""
    streams.require(hStream)


@_call(0)
def cuStreamQuery(hStream: Any) -> None:
    """Success: all work is done."""
    streams.require(hStream)


@_call(1)
def cuEventCreate(Flags: int) -> CUevent:
    """A new event."""
    _require_context()
    return CUevent(events.create())


@_call(0)
def cuEventDestroy(hEvent: Any) -> None:
    """It is used no more."""
    events.destroy(hEvent)


@_call(0)
def cuEventRecord(hEvent: Any, hStream: Any) -> None:
    """Mark now."""
    streams.require(hStream)
    events.record(hEvent)


@_call(0)
def cuEventSynchronize(hEvent: Any) -> None:
    """Return at once."""
    events.require(hEvent)


@_call(1)
def cuEventElapsedTime(hStart: Any, hEnd: Any) -> float:
    """Milliseconds between two events."""
    return events.elapsed_ms(hStart, hEnd)


__all__ = [name for name in globals() if name.startswith(("cu", "CU"))]


def __getattr__(name: str) -> Any:
    raise missing(__name__, name)
