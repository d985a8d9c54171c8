"""What PyTorch and CuPy have that a plain array on a GPU has not: a current stream, and an allocator."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Mapping
from typing import Any

from trine.engine.manifest import TensorInfo
from trine.errors import DeviceMemoryError, InputError
from trine.runtime.arrays import is_torch

__all__ = ["allocator_hint", "current_stream", "interface_stream", "library_stream", "new_like"]

# What gives back the memory that an allocator keeps for later.
_EMPTY = {
    "torch": "torch.cuda.empty_cache()",
    "cupy": "cupy.get_default_memory_pool().free_all_blocks()",
}
# How streams of PyTorch, CuPy, pycuda, cuda-core and Numba give their handle. Numba's is in ctypes, which has a value.
_HANDLES = ("cuda_stream", "ptr", "handle", "value")


def library_stream(value: Any) -> int | None:
    """The handle of the current stream of the library that ``value``, on a GPU, is of. None: it has none."""
    if is_torch(value):
        if not value.is_cuda:
            return None
        return _plain(int(sys.modules["torch"].cuda.current_stream(value.device).cuda_stream))
    if _is_cupy(value):
        with value.device:  # the current stream is the current GPU's
            return _plain(int(sys.modules["cupy"].cuda.get_current_stream().ptr))
    return None


def _is_cupy(value: object) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def interface_stream(described: Mapping[str, Any]) -> int | None:
    """The handle of the stream on which an array with this CUDA array interface is made; None: of no stream, or it is
    ready."""
    stream = described.get("stream")
    return None if stream is None else _plain(int(stream))


def current_stream(inputs: Mapping[str, Any], stream: Any) -> int | None:
    """The handle of ``stream``, or of the library's current stream that the inputs come from, or of the one that their
    CUDA array interface names; None: the context's own.

    ``stream``: a handle, or a stream of PyTorch, CuPy, pycuda, cuda-core or Numba. Raises InputError for anything else.
    """
    if stream is not None:
        for attribute in _HANDLES:
            stream = getattr(stream, attribute, stream)
        try:
            return _plain(0 if stream is None else int(stream))  # ctypes has None for 0
        except (TypeError, ValueError) as err:
            raise InputError(
                f"stream: expected a handle or a stream of PyTorch, CuPy or pycuda, got {type(stream).__name__}"
            ) from err
    # Libraries first: what their callers do next is ordered by that stream, where others wait for the answers.
    found = itertools.chain(
        (library_stream(value) for value in inputs.values()),
        (interface_stream(getattr(value, "__cuda_array_interface__", {})) for value in inputs.values()),
    )
    return next((handle for handle in found if handle is not None), None)


def _plain(handle: int) -> int:
    """The default stream has two handles, 0 and 1."""
    return 0 if handle == 1 else handle


def new_like(example: Any, info: TensorInfo, shape: tuple[int, ...], stream: int) -> Any:
    """A new array of the example's kind, on its device, for an output that is written on ``stream``, a handle.

    Raises InputError for unknown kinds, DeviceMemoryError when the library has no memory for it.
    """
    # Allocators hand out memory in the order of the current stream, whose earlier work may still use it.
    ours = stream == library_stream(example)
    if is_torch(example):
        torch = sys.modules["torch"]
        device = example.device
        try:
            with contextlib.nullcontext() if ours else torch.cuda.stream(_torch_stream(torch, stream, device)):
                return torch.empty(shape, dtype=getattr(torch, info.dtype.value), device=device)
        except torch.cuda.OutOfMemoryError as err:
            raise _no_memory("PyTorch", "torch", info, shape, err) from err
    if _is_cupy(example):
        cupy = sys.modules["cupy"]
        try:
            with example.device, contextlib.nullcontext() if ours else cupy.cuda.ExternalStream(stream):
                return cupy.empty(shape, info.dtype.numpy)
        except MemoryError as err:  # CuPy's own is one
            raise _no_memory("CuPy", "cupy", info, shape, err) from err
    raise InputError(
        f"output {info.name!r}: a {type(example).__name__} cannot be made here; give memory for it with out=, "
        "which an execution context's execute and execute_async take"
    )


def _torch_stream(torch: Any, handle: int, device: Any) -> Any:
    # For an external handle of 0 PyTorch would make a new stream.
    return torch.cuda.ExternalStream(handle, device) if handle else torch.cuda.default_stream(device)


def _no_memory(
    name: str, module: str, info: TensorInfo, shape: tuple[int, ...], err: BaseException
) -> DeviceMemoryError:
    reason = str(err).partition("\n")[0].rstrip(".")
    return DeviceMemoryError(
        f"output {info.name!r}: {name} has no memory for {shape} of {info.dtype.value}: {reason}; free arrays and "
        f"close engines that are no longer needed, then {_EMPTY[module]}, or give memory with out="
    )


def allocator_hint() -> str:
    """What may free memory on a GPU, by the libraries that are loaded here; empty without any."""
    return " and ".join(call for module, call in _EMPTY.items() if module in sys.modules)
