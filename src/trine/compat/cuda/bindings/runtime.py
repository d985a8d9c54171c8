"""CUDA's runtime interface over host memory. Calls answer ``(cudaError_t, results...)``."""
# ruff: noqa: N802, N803, N815, N816  # CUDA's names

from __future__ import annotations

import enum
import functools
from typing import Any

from trine.compat.cuda.answers import Refused, answering, missing
from trine.compat.cuda.host_device import (
    Handle,
    allocate,
    copy,
    events,
    fill,
    free,
    memory_info,
    require_device,
    streams,
)
from trine.runtime.cpu.features import cpu_model, usable_cores


class cudaError_t(enum.IntEnum):  # noqa: N801
    """Error codes, with CUDA's numbers."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInitializationError = 3
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorDeviceUninitialized = 201
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorNotSupported = 801
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorUnknown = 999


class cudaMemcpyKind(enum.IntEnum):  # noqa: N801
    """Directions of copies, with CUDA's numbers. On the host all are the same."""

    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStream_t(Handle):  # noqa: N801
    """A stream's handle."""


class cudaEvent_t(Handle):  # noqa: N801
    """An event's handle."""


cudaStreamDefault, cudaStreamNonBlocking, cudaStreamLegacy, cudaStreamPerThread = 0, 1, 1, 2
cudaEventDefault, cudaEventBlockingSync, cudaEventDisableTiming = 0, 1, 2
cudaHostAllocDefault, cudaHostAllocPortable, cudaHostAllocMapped, cudaHostAllocWriteCombined = 0, 1, 2, 4
cudaMemAttachGlobal = 1

_call = functools.partial(answering, cudaError_t)


class cudaDeviceProp:  # noqa: N801
    """What is known about the device."""

    def __init__(self) -> None:
        self.name = cpu_model().encode()
        self.major = self.minor = 0  # the CPU has no compute capability
        self.totalGlobalMem = memory_info()[1]
        self.multiProcessorCount = usable_cores()
        self.integrated = self.canMapHostMemory = self.unifiedAddressing = self.managedMemory = 1


# Errors.


def cudaGetErrorName(error: int) -> tuple[cudaError_t, bytes]:
    """The name of an error."""
    return cudaError_t.cudaSuccess, cudaError_t(error).name.encode()


def cudaGetErrorString(error: int) -> tuple[cudaError_t, bytes]:
    """An error in words; the reason itself was logged by the call that answered it."""
    words = cudaError_t(error).name.removeprefix("cudaError").removeprefix("cuda")
    return cudaError_t.cudaSuccess, "".join(f" {c.lower()}" if c.isupper() else c for c in words).strip().encode()


def cudaGetLastError() -> tuple[cudaError_t]:
    """Success: every call answers its own errors, and none comes later."""
    return (cudaError_t.cudaSuccess,)


cudaPeekAtLastError = cudaGetLastError


# Devices.


@_call(1)
def cudaGetDeviceCount() -> int:
    """1: the CPU."""
    return 1


@_call(0)
def cudaSetDevice(device: int) -> None:
    """Use the device 0."""
    require_device(device)


@_call(1)
def cudaGetDevice() -> int:
    """0."""
    return 0


@_call(1)
def cudaGetDeviceProperties(device: int) -> cudaDeviceProp:
    """What is known about the device 0."""
    require_device(device)
    return cudaDeviceProp()


@_call(0)
def cudaDeviceSynchronize() -> None:
    """Return at once: all work is done."""


@_call(0)
def cudaDeviceReset() -> None:
    """Nothing: memory goes when it is freed."""


@_call(1)
def cudaRuntimeGetVersion() -> int:
    """The version whose interface this is."""
    return 12090


@_call(1)
def cudaDriverGetVersion() -> int:
    """0: there is no driver."""
    return 0


# Memory.


@_call(1)
def cudaMalloc(size: int) -> int:
    """The address of ``size`` bytes."""
    return allocate(size)


@_call(1)
def cudaMallocHost(size: int) -> int:
    """The address of ``size`` bytes."""
    return allocate(size)


@_call(1)
def cudaHostAlloc(size: int, flags: int) -> int:
    """The address of ``size`` bytes."""
    return allocate(size)


@_call(1)
def cudaMallocManaged(size: int, flags: int) -> int:
    """The address of ``size`` bytes."""
    return allocate(size)


@_call(1)
def cudaMallocAsync(size: int, hStream: Any) -> int:
    """The address of ``size`` bytes."""
    streams.require(hStream)
    return allocate(size)


@_call(0)
def cudaFree(devPtr: Any) -> None:
    """Free it."""
    free(devPtr)


@_call(0)
def cudaFreeHost(ptr: Any) -> None:
    """Free it."""
    free(ptr)


@_call(0)
def cudaFreeAsync(devPtr: Any, hStream: Any) -> None:
    """Free it."""
    streams.require(hStream)
    free(devPtr)


@_call(2)
def cudaMemGetInfo() -> tuple[int, int]:
    """Free and total bytes."""
    return memory_info()


@_call(0)
def cudaHostRegister(ptr: Any, size: int, flags: int) -> None:
    """Nothing: host memory is used as it is."""


@_call(0)
def cudaHostUnregister(ptr: Any) -> None:
    """Nothing."""


@_call(0)
def cudaMemcpy(dst: Any, src: Any, count: int, kind: cudaMemcpyKind) -> None:
    """Copy ``count`` bytes."""
    copy(dst, src, count)


@_call(0)
def cudaMemcpyAsync(dst: Any, src: Any, count: int, kind: cudaMemcpyKind, stream: Any) -> None:
    """Copy ``count`` bytes, in a stream's order."""
    streams.require(stream)
    copy(dst, src, count)


@_call(0)
def cudaMemset(devPtr: Any, value: int, count: int) -> None:
    """``count`` bytes become ``value``."""
    fill(devPtr, value, count)


@_call(0)
def cudaMemsetAsync(devPtr: Any, value: int, count: int, stream: Any) -> None:
    """``count`` bytes become ``value``, in a stream's order."""
    streams.require(stream)
    fill(devPtr, value, count)


# Streams and events.


@_call(1)
def cudaStreamCreate() -> cudaStream_t:
    """A new stream."""
    return cudaStream_t(streams.create())


@_call(1)
def cudaStreamCreateWithFlags(flags: int) -> cudaStream_t:
    """A new stream."""
    return cudaStream_t(streams.create())


@_call(1)
def cudaStreamCreateWithPriority(flags: int, priority: int) -> cudaStream_t:
    """A new stream."""
    return cudaStream_t(streams.create())


@_call(0)
def cudaStreamDestroy(stream: Any) -> None:
    """It is used no more."""
    if streams.require(stream):
        streams.destroy(stream)


@_call(0)
def cudaStreamSynchronize(stream: Any) -> None:
    """Return at once: all work is done."""
    streams.require(stream)


@_call(0)
def cudaStreamQuery(stream: Any) -> None:
    """Success: all work is done."""
    streams.require(stream)


@_call(0)
def cudaStreamWaitEvent(stream: Any, event: Any, flags: int) -> None:
    """Nothing to wait for."""
    streams.require(stream)
    events.require(event)


@_call(0)
def cudaStreamBeginCapture(stream: Any, mode: Any) -> None:
    """Refused: a CPU has no graphs of kernels."""
    raise Refused(900, "calls on the CPU cannot be captured into a CUDA graph; run them without one")


@_call(1)
def cudaEventCreate() -> cudaEvent_t:
    """A new event."""
    return cudaEvent_t(events.create())


@_call(1)
def cudaEventCreateWithFlags(flags: int) -> cudaEvent_t:
    """A new event."""
    return cudaEvent_t(events.create())


@_call(0)
def cudaEventDestroy(event: Any) -> None:
    """It is used no more."""
    events.destroy(event)


@_call(0)
def cudaEventRecord(event: Any, stream: Any) -> None:
    """Mark now."""
    streams.require(stream)
    events.record(event)


@_call(0)
def cudaEventSynchronize(event: Any) -> None:
    """Return at once."""
    events.require(event)


@_call(0)
def cudaEventQuery(event: Any) -> None:
    """Success: it has happened."""
    events.require(event)


@_call(1)
def cudaEventElapsedTime(start: Any, end: Any) -> float:
    """Milliseconds between two events."""
    return events.elapsed_ms(start, end)


__all__ = [name for name in globals() if name.startswith("cuda")]


def __getattr__(name: str) -> Any:
    raise missing(__name__, name)
