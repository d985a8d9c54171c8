"""pycuda.driver: ``import trine.compat.pycuda.driver as cuda``. Everything that TensorRT programs take from it."""

from __future__ import annotations

import enum
from typing import NoReturn

from trine.compat.pycuda.allocations import (
    DeviceAllocation,
    PointerHolderBase,
    mem_alloc,
    mem_alloc_like,
    mem_alloc_pitch,
    mem_get_info,
)
from trine.compat.pycuda.contexts import (
    Context,
    Device,
    ctx_flags,
    device_attribute,
    get_driver_version,
    get_version,
    init,
)
from trine.compat.pycuda.copies import (
    from_device,
    from_device_like,
    memcpy_dtod,
    memcpy_dtod_async,
    memcpy_dtoh,
    memcpy_dtoh_async,
    memcpy_htod,
    memcpy_htod_async,
    memset_d2d8,
    memset_d8,
    memset_d16,
    memset_d32,
    to_device,
)
from trine.compat.pycuda.errors import (
    Error,
    LaunchError,
    LogicError,
    MemoryError,  # noqa: A004  # pycuda's name
    RuntimeError,  # noqa: A004  # pycuda's name
)
from trine.compat.pycuda.host_arrays import (
    AlignedHostAllocation,
    HostAllocation,
    ManagedAllocation,
    PagelockedHostAllocation,
    aligned_empty,
    aligned_empty_like,
    aligned_zeros,
    aligned_zeros_like,
    managed_empty,
    managed_zeros,
    pagelocked_empty,
    pagelocked_empty_like,
    pagelocked_zeros,
    pagelocked_zeros_like,
)
from trine.compat.pycuda.streams import Event, Stream, event_flags

__all__ = [
    "AlignedHostAllocation",
    "Context",
    "Device",
    "DeviceAllocation",
    "Error",
    "Event",
    "HostAllocation",
    "LaunchError",
    "LogicError",
    "ManagedAllocation",
    "MemoryError",
    "PagelockedHostAllocation",
    "PointerHolderBase",
    "RuntimeError",
    "Stream",
    "aligned_empty",
    "aligned_empty_like",
    "aligned_zeros",
    "aligned_zeros_like",
    "ctx_flags",
    "device_attribute",
    "event_flags",
    "from_device",
    "from_device_like",
    "get_driver_version",
    "get_version",
    "host_alloc_flags",
    "init",
    "managed_empty",
    "managed_zeros",
    "mem_alloc",
    "mem_alloc_like",
    "mem_alloc_pitch",
    "mem_attach_flags",
    "mem_get_info",
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
    "pagelocked_empty",
    "pagelocked_empty_like",
    "pagelocked_zeros",
    "pagelocked_zeros_like",
    "to_device",
]


class host_alloc_flags(enum.IntEnum):  # noqa: N801  # pycuda's name
    """Flags of ``pagelocked_empty``, with CUDA's numbers. None changes anything on the CPU."""

    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


class mem_attach_flags(enum.IntEnum):  # noqa: N801  # pycuda's name
    """Flags of ``managed_empty``, with CUDA's numbers. None changes anything on the CPU."""

    GLOBAL = 1
    HOST = 2
    SINGLE = 4


# What pycuda has for running CUDA code, and for textures: named so that the error can say so.
_NEEDS_A_GPU = [
    "Array",
    "ArrayDescriptor",
    "Function",
    "In",
    "InOut",
    "Memcpy2D",
    "Memcpy3D",
    "Module",
    "Out",
    "SourceModule",
    "SurfaceReference",
    "TextureReference",
    "mem_get_ipc_handle",
    "memcpy_atod",
    "memcpy_atoh",
    "memcpy_dtoa",
    "memcpy_htoa",
    "memcpy_peer",
    "module_from_buffer",
    "module_from_file",
    "register_host_memory",
    "start_profiler",
    "stop_profiler",
]


def __getattr__(name: str) -> NoReturn:
    if name in _NEEDS_A_GPU:
        raise AttributeError(
            f"trine.compat.pycuda.driver has no {name}: it is the memory, streams and events that TensorRT programs "
            "use, on the CPU, and runs no CUDA code. Use NVIDIA's pycuda for that part"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
